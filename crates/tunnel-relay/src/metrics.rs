//! Counters, and the page that Prometheus reads. `monitor` shows it.
//!
//! Events of each frame are counted where the router's lock is held anyway ([`Traffic`]), or read from the
//! router's own books when somebody asks. The counters here are for what is rarer: connections and requests.

mod cluster;
mod page;
mod process;
mod traffic;

pub(crate) use cluster::ClusterStats;
#[cfg(feature = "cluster")]
pub(crate) use traffic::Histogram;
pub(crate) use traffic::Traffic;

use page::{Kind, Page};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tunnel_protocol::router::{Load, Stats};

/// Declares an enum whose variants are the values of a label, and a counter for each.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            const LABELS: &[&str] = &[$($label),*];
        }

        impl Label for $name {
            fn index(self) -> usize {
                self as usize
            }

            fn labels() -> &'static [&'static str] {
                Self::LABELS
            }
        }
    };
}

labels! {
    /// The reason why a connection, or its request for a WebSocket, was refused.
    Refused {
        /// The handshake is not one of RFC 6455.
        Handshake = "handshake",
        /// The page's origin is not allowed.
        Origin = "origin",
        /// The request is for a host that is none of the relay's.
        Host = "host",
        /// There are as many connections as there may be.
        Connections = "connections",
        /// There are as many connections as there may be from one address.
        Address = "address",
        /// Too many came at once.
        Rate = "rate",
        /// Too many came from one address at once.
        AddressRate = "address-rate",
        /// So much is held for peers that no new ones are taken in.
        Buffers = "buffers",
        /// The PROXY header or the TLS handshake was wrong or did not come in time.
        Preparing = "preparing",
        /// None of the subprotocols is known.
        Subprotocol = "subprotocol",
        /// The livecode dialect is turned off.
        LivecodeIsOff = "livecode-is-off",
        /// The relay is about to end.
        Draining = "draining",
        /// The upgrade was not carried out in time, or the peer went away meanwhile.
        Opening = "opening",
        /// The system gave no random numbers.
        NoRandomness = "no-randomness",
    }
}

labels! {
    /// The cause of the end of a WebSocket.
    Ended {
        /// The relay's rules: see the codes.
        Relay = "relay",
        /// The peer closed it.
        Peer = "peer",
        /// The connection broke.
        Lost = "lost",
        /// The peer broke the WebSocket protocol.
        Fault = "fault",
        /// The peer took nothing or was silent.
        Dead = "dead",
        /// The relay ended without ado.
        Killed = "killed",
        /// Its task panicked: a fault of the relay.
        Panic = "panic",
    }
}

labels! {
    /// Class of an HTTP answer.
    Status {
        Switching = "1xx",
        Success = "2xx",
        Redirect = "3xx",
        Client = "4xx",
        Server = "5xx",
    }
}

/// A value of a label.
pub(crate) trait Label: Copy {
    fn index(self) -> usize;
    fn labels() -> &'static [&'static str];
}

/// A counter for each value of a label.
#[derive(Debug)]
pub(crate) struct Family<L> {
    counters: Vec<AtomicU64>,
    label: std::marker::PhantomData<L>,
}

/// Counters beside the router's own.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: SystemTime,
    /// TCP connections taken in.
    accepted: AtomicU64,
    /// Connections that could not be accepted.
    accept_errors: AtomicU64,
    /// TCP connections that speak HTTP now.
    http: AtomicUsize,
    /// WebSockets, those that are being closed included.
    web_sockets: AtomicUsize,
    /// Bytes of one WebSocket's task.
    task_size: AtomicUsize,
    pub(crate) refused: Family<Refused>,
    pub(crate) ended: Family<Ended>,
    answered: Family<Status>,
    livecode: Mutex<LivecodeStats>,
    /// `None`: the relay is no cluster's.
    cluster: Mutex<Option<ClusterStats>>,
}

/// Counts one thing as long as it lives.
#[derive(Debug)]
pub(crate) struct Present<'a>(&'a AtomicUsize);

/// State of the relay that is no counter.
pub(crate) struct State {
    pub(crate) is_ready: bool,
    /// In seconds since 1970.
    pub(crate) certificate_not_after: Option<u64>,
    pub(crate) total_buffer: usize,
}

/// Figures of the router at one moment.
pub(crate) struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) load: Load,
    pub(crate) traffic: Traffic,
    /// Bytes of the tables beside the router's.
    pub(crate) tasks_memory: usize,
}

/// Counters and sizes of the livecoding engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LivecodeStats {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) interrupted: u64,
    pub(crate) dropped: u64,
    /// Processor time.
    pub(crate) seconds: f64,
    pub(crate) memory: usize,
    pub(crate) links: usize,
    pub(crate) waiting: usize,
    pub(crate) restarts: u64,
    pub(crate) clients: usize,
}

impl<L: Label> Family<L> {
    pub(crate) fn count(&self, label: L) {
        self.counters[label.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        L::labels().iter().copied().zip(self.counters.iter().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

impl<L: Label> Default for Family<L> {
    fn default() -> Self {
        Self {
            counters: L::labels().iter().map(|_| AtomicU64::default()).collect(),
            label: std::marker::PhantomData,
        }
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn present(counter: &AtomicUsize) -> Present<'_> {
    counter.fetch_add(1, Ordering::Relaxed);
    Present(counter)
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: SystemTime::now(),
            accepted: AtomicU64::default(),
            accept_errors: AtomicU64::default(),
            http: AtomicUsize::default(),
            web_sockets: AtomicUsize::default(),
            task_size: AtomicUsize::default(),
            refused: Family::default(),
            ended: Family::default(),
            answered: Family::default(),
            livecode: Mutex::default(),
            cluster: Mutex::default(),
        }
    }

    /// The time at which the relay started.
    pub(crate) const fn started(&self) -> SystemTime {
        self.started
    }

    /// A TCP connection was taken in.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection could not be accepted.
    pub(crate) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection speaks HTTP as long as the result lives.
    pub(crate) fn http(&self) -> Present<'_> {
        present(&self.http)
    }

    /// A WebSocket's task runs as long as the result lives.
    pub(crate) fn web_socket(&self) -> Present<'_> {
        present(&self.web_sockets)
    }

    /// The size of a WebSocket's task, in bytes: the same for all.
    pub(crate) fn set_task_size(&self, size: usize) {
        self.task_size.store(size, Ordering::Relaxed);
    }

    /// A request was answered.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.answered.count(match status.as_u16() {
            ..200 => Status::Switching,
            200..300 => Status::Success,
            300..400 => Status::Redirect,
            400..500 => Status::Client,
            500.. => Status::Server,
        });
    }

    /// The livecoding engine's report of itself.
    #[cfg_attr(not(feature = "livecode"), allow(dead_code, reason = "there is no engine"))]
    pub(crate) fn set_livecode(&self, stats: LivecodeStats) {
        *self.livecode.lock().unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// The report of the task that knows of other relays.
    #[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "there are no other relays"))]
    pub(crate) fn set_cluster(&self, stats: ClusterStats) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    /// Counts of the cluster; `None` without one.
    pub(crate) fn cluster(&self) -> Option<ClusterStats> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write_livecode(&self, page: &mut Page) {
        let stats = *self.livecode.lock().unwrap_or_else(PoisonError::into_inner);
        page.counter("tunnel_relay_livecode_calls_total", "Calls of injected instructions.", stats.calls);
        page.counter(
            "tunnel_relay_livecode_errors_total",
            "Of these, the ones that ended with an error.",
            stats.errors,
        );
        page.labelled(
            "tunnel_relay_livecode_stopped_total",
            Kind::Counter,
            "Calls that were stopped at their limits, by what became of what they did.",
            "work",
            [("kept", stats.interrupted), ("undone", stats.dropped)],
        );
        page.counter("tunnel_relay_livecode_seconds_total", "Processor time of all calls.", stats.seconds);
        page.gauge("tunnel_relay_livecode_memory_bytes", "Memory of the sandbox.", stats.memory);
        page.gauge("tunnel_relay_livecode_links", "Links that instructions know.", stats.links);
        page.gauge(
            "tunnel_relay_livecode_commands_waiting",
            "Commands that wait for their turn.",
            stats.waiting,
        );
        page.gauge(
            "tunnel_relay_livecode_clients",
            "Clients of the servers that instructions have made of their namespaces.",
            stats.clients,
        );
        page.counter(
            "tunnel_relay_livecode_restarts_total",
            "How often the engine failed and was made anew from its last checkpoint.",
            stats.restarts,
        );
    }

    /// The page. Reads files of `/proc`, so it is not for a thread that others wait for.
    pub(crate) fn page(
        &self,
        snapshot: &Snapshot,
        state: &State,
        runtime: &tokio::runtime::RuntimeMetrics,
    ) -> String {
        let mut page = Page::default();
        page.family("tunnel_relay_info", Kind::Gauge, "1, with the version as a label.");
        page.sample("tunnel_relay_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.gauge(
            "tunnel_relay_ready",
            "1, or 0 while it lets nobody in: /readyz says why.",
            u8::from(state.is_ready),
        );
        if let Some(seconds) = state.certificate_not_after {
            page.gauge(
                "tunnel_relay_certificate_not_after_seconds",
                "Until when the certificate is good, in seconds since 1970; only with TLS.",
                seconds,
            );
        }
        page.gauge(
            "tunnel_relay_queue_limit_bytes",
            "How many bytes may wait for peers to take them: total-buffer.",
            state.total_buffer,
        );
        page.counter(
            "tunnel_relay_log_lines_lost_total",
            "Log lines that stderr did not take: its reader is gone or stuck, or its disk is full.",
            crate::log::lost(),
        );
        self.write_connections(&mut page);
        snapshot.write_router(&mut page);
        snapshot.write_traffic(&mut page);
        self.write_memory(&mut page, snapshot);
        self.write_livecode(&mut page);
        // A relay that is alone misses no bus.
        let alone = || ClusterStats { is_on: true, ..ClusterStats::default() };
        self.cluster().unwrap_or_else(alone).write(&mut page, &snapshot.stats);
        page.gauge("tunnel_relay_tasks", "Tasks of the runtime.", runtime.num_alive_tasks());
        page.gauge(
            "tunnel_relay_tasks_queued",
            "Tasks that wait for a thread in the runtime's common queue.",
            runtime.global_queue_depth(),
        );
        page.gauge(
            "process_start_time_seconds",
            "When the relay started, in seconds since 1970.",
            self.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        );
        process::write(&mut page);
        page.finish()
    }

    fn write_connections(&self, page: &mut Page) {
        let now = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        page.labelled(
            "tunnel_relay_connections",
            Kind::Gauge,
            "TCP connections, by what they speak.",
            "protocol",
            [("http", now(&self.http)), ("websocket", now(&self.web_sockets))],
        );
        page.counter(
            "tunnel_relay_connections_accepted_total",
            "TCP connections taken in.",
            self.accepted.load(Ordering::Relaxed),
        );
        page.counter(
            "tunnel_relay_accept_errors_total",
            "Connections that the system did not let in: mostly, there was no file descriptor left.",
            self.accept_errors.load(Ordering::Relaxed),
        );
        page.labelled(
            "tunnel_relay_refused_total",
            Kind::Counter,
            "Connections and WebSocket handshakes turned away, by reason.",
            "reason",
            self.refused.all(),
        );
        page.labelled(
            "tunnel_relay_http_answers_total",
            Kind::Counter,
            "HTTP answers, by class of status.",
            "status",
            self.answered.all(),
        );
        page.labelled(
            "tunnel_relay_websockets_ended_total",
            Kind::Counter,
            "WebSockets that ended, by what ended them.",
            "by",
            self.ended.all(),
        );
    }

    fn write_memory(&self, page: &mut Page, snapshot: &Snapshot) {
        let Snapshot { stats, load, tasks_memory, .. } = snapshot;
        let tasks = self.task_size.load(Ordering::Relaxed) * self.web_sockets.load(Ordering::Relaxed);
        page.labelled(
            "tunnel_relay_memory_bytes",
            Kind::Gauge,
            "Memory by what it is for, in bytes, as the relay's own books have it.",
            "part",
            [
                ("queues", stats.buffered),
                ("links", load.links_memory + tasks_memory),
                ("channels", load.channels_memory),
                ("registrations", load.registrations_memory),
                ("tasks", tasks),
            ],
        );
    }
}

impl Snapshot {
    fn write_router(&self, page: &mut Page) {
        let Self { stats, load, .. } = self;
        page.gauge("tunnel_relay_links", "Links: peers with a WebSocket.", stats.links);
        page.gauge("tunnel_relay_registrations", "Servers that can be reached.", stats.registrations);
        page.gauge(
            "tunnel_relay_channel_ends",
            "Ends of channels: two for each open channel, one for each that waits.",
            stats.channel_ends,
        );
        page.gauge(
            "tunnel_relay_channels_paused",
            "Channels, by direction, whose sender has to pause.",
            load.paused,
        );
        page.gauge("tunnel_relay_connects_waiting", "CONNECTs that wait for their server.", stats.waiting);
        page.gauge("tunnel_relay_queue_bytes", "Bytes that wait for peers to take them.", stats.buffered);
        page.gauge("tunnel_relay_queue_links", "Links that something waits for.", load.links_waiting);
        page.gauge(
            "tunnel_relay_queue_longest_bytes",
            "Bytes that wait for the link that has most.",
            load.longest_queue,
        );
        page.counter("tunnel_relay_registrations_total", "Registrations.", stats.registered);
        page.counter(
            "tunnel_relay_takeovers_total",
            "Registrations that took a server ID over from an older link.",
            stats.taken_over,
        );
        page.counter(
            "tunnel_relay_channels_opened_total",
            "Channels that a server accepted.",
            stats.channels_opened,
        );
        page.counter(
            "tunnel_relay_violations_total",
            "Links that broke the tunnel's protocol.",
            stats.violations,
        );
        page.counter("tunnel_relay_pauses_total", "How often a sender was told to pause.", stats.pauses);
        page.counter(
            "tunnel_relay_frames_total",
            "Frames forwarded from peer to peer: DATA and ACCEPT.",
            stats.frames,
        );
        page.counter("tunnel_relay_frame_bytes_total", "Their bytes, headers included.", stats.bytes);
        self.traffic.write_codes(page);
    }

    fn write_traffic(&self, page: &mut Page) {
        let Traffic { messages_in, bytes_in, messages_out, bytes_out, opened, proofs, waits, .. } =
            &self.traffic;
        page.counter("tunnel_relay_links_opened_total", "Links opened.", opened);
        page.counter(
            "tunnel_relay_proofs_checked_total",
            "Proofs of registration that were checked, right ones and wrong ones: a key agreement each.",
            proofs,
        );
        page.labelled(
            "tunnel_relay_messages_total",
            Kind::Counter,
            "WebSocket messages from (in) and to (out) peers, without pings and pongs.",
            "direction",
            [("in", messages_in), ("out", messages_out)],
        );
        page.labelled(
            "tunnel_relay_message_bytes_total",
            Kind::Counter,
            "Their bytes.",
            "direction",
            [("in", bytes_in), ("out", bytes_out)],
        );
        waits.write(
            page,
            "tunnel_relay_wait_seconds",
            "Longest wait of a measured frame in each batch that goes to a socket, from its arrival, in seconds.",
        );
    }
}
