//! The settings: what an operator can choose.
//!
//! [`Config`] is made from one table: it says of each setting its name, kind, bounds, default, whether it can be read
//! again while the relay runs, what it does and why its default is what it is. Flags, environment, file, messages and
//! the table in `docs/OPERATING.md` follow from it.

mod cluster;
mod kind;
mod load;
mod macros;
mod print;
mod values;

pub use crate::hosts::{Host, ParseHostError};
pub use crate::log::LogFormat;
pub use crate::origins::{Origin, ParseOriginError};
pub use cluster::{BusUrl, ClusterName, NodeAddress, ParseClusterError};
pub use load::{Loaded, Problems, Sources, load};
pub use print::{Setting, print, table};
#[cfg(feature = "livecode")]
pub(crate) use values::DEFAULT_NAMESPACE;
pub use values::{
    AccessMode, AddressSource, Mount, Namespace, ParseMountError, ParseNamespaceError, ParseSecretError,
    Secret, Switch,
};

use crate::access::{self, KnownToken, TokenSecret};
use crate::hosts::Names;
use ipnet::IpNet;
use kind::{
    Bytes, Choice, Count, Domain, File, Filter, Form, Https, List, Mail, Network, Optional, SecretText, Text,
    Time, TokenKey,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tunnel_protocol::frame::MIN_MAX_FRAME;
use tunnel_protocol::router;

/// Says that a relay was built without the feature `acme`, and what to do.
#[cfg(not(feature = "acme"))]
pub(crate) const WITHOUT_ACME: &str = "this relay was built without ACME: leave the `acme-` settings out and name a \
                                       certificate in files, or build the relay with its feature `acme`";

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const KIB: usize = 1 << 10;
const GIB: usize = 1 << 30;

macros::settings! {
    "Listening" {
        listen: SocketAddr as Form = (Ipv4Addr::LOCALHOST, 8087).into(), restart,
            "where to listen; port 0 takes any free one",
            "only this machine gets in until you say otherwise";
        metrics_listen: Option<SocketAddr> as Optional<Form> = None, restart,
            "where metrics (`/metrics`) and health are shown to those who watch the relay; port 0 takes any free one",
            "off: what it tells is nobody's business but yours";
        www: Vec<Mount> as List<Form> = Vec::new(), restart,
            "serves a folder's files under `/` or `/PATH/`; the longest path wins, then the first folder that has the file",
            "a relay needs no pages";
        hosts: Vec<Host> as List<Form> = Vec::new(), reload,
            "names under which pages reach the relay, `HOST` or `HOST:PORT`, or the URLs that pages dial, such as \
             `https://HOST/PATH/`, if a proxy does TLS or takes off the path and doesn't say so. Requests for other hosts get 421; \
             names in `acme-domains`, the address that the connection came to, and names of this machine (`localhost`) are always \
             known",
            "a server's registration holds for one URL, so that no other relay can carry it here; and no page whose name is pointed \
             here gets in";
        node: String as Text = core().node, reload,
            "the relay's name for itself, told to every peer",
            "a single relay needs no name";
    }
    "TLS" {
        tls_certificate: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the certificate and those up to the authority's; the relay then speaks `wss` and `https` only. \
             It is read again when it changes",
            "a reverse proxy often does it, and pages on this machine need none";
        tls_key: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the certificate's private key, which nobody else should be able to read",
            "goes with the certificate";
        tls_watch_interval: Duration as Time = 60 * SECOND, [MS, 24 * HOUR], restart,
            "how often the two files are looked at",
            "they change every some weeks; SIGHUP has them read at once";
        acme_domains: Vec<String> as List<Domain> = Vec::new(), restart,
            "the names that the relay orders a certificate for, and renews it, instead of reading one from files; it has to be \
             reached under them on port 443",
            "off: it needs a public name";
        acme_contacts: Vec<String> as List<Mail> = Vec::new(), restart,
            "mail addresses that the directory may write to",
            "it asks for none";
        acme_cache: Option<PathBuf> as Optional<File> = None, restart,
            "a folder that keeps account and certificate, which nobody else should be able to read",
            "the relay writes no files unless told to; without it, each restart orders a new certificate, which the directory \
             refuses after some";
        acme_directory: String as Https = "https://acme-v02.api.letsencrypt.org/directory".to_owned(), restart,
            "the ACME directory that certificates are ordered from",
            "Let's Encrypt, which costs nothing";
        acme_root: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the authority that the directory's own certificate is checked against, for a private one",
            "those that browsers trust";
    }
    "Reverse proxies" {
        trusted_proxies: Vec<IpNet> as List<Network> = Vec::new(), reload,
            "networks or addresses of reverse proxies, which are believed what they say about the addresses of their peers",
            "nobody: what strangers say about themselves is not believed";
        client_address: AddressSource as Choice = AddressSource::XForwardedFor, reload,
            "how trusted proxies say it: `x-forwarded-for`, `forwarded` or `proxy-protocol` (version 1 and 2, before anything else; \
             a trusted proxy then has to send it). Only the one named is looked at",
            "what most proxies write unless told otherwise";
    }
    "Access" {
        access: AccessMode as Choice = AccessMode::Open, reload,
            "who may use the relay: `open` is everybody who reaches it, `tokens` whoever shows an access token. If it is not \
             set, it is `tokens` as soon as `access-tokens` or `token-secret` is given, even if that is empty. What makes it \
             `open` waits for a restart",
            "the relay listens for this machine only until it is told otherwise, and reads nothing of what it forwards";
        allowed_origins: Vec<Origin> as List<Form> = vec![Origin::Any], reload,
            "origins of the pages whose scripts may open WebSockets, such as `https://example.org` or `https://*.example.org` (the \
             hosts below it); `null` is a page without one, `absent` a program that is no browser, `any` all of them. Others get 403. An \
             empty list lets nobody in; going back to `any` waits for a restart",
            "nothing here hangs on cookies, and server IDs prove themselves";
        access_tokens: Vec<KnownToken> as List<Form> = Vec::new(), reload,
            "random tokens that peers may show: the hash of each and what it allows, `sha256:HASH host connect server=ID \
             ports=FIRST-LAST` (the words left out: everything). `tunnel-relay token new` makes one",
            "none: it is for `access = \"tokens\"`";
        token_secret: Option<TokenSecret> as Optional<TokenKey> = None, reload,
            "the secret of signed tokens, which say themselves what they allow and until when. `tunnel-relay token secret` makes \
             one, `tunnel-relay token sign` uses it",
            "none, as for `access-tokens`";
        livecode_credential: Option<Secret> as Optional<SecretText> = None, restart,
            "speaks the livecode dialect with peers that offer no subprotocol; its privileged commands need the secret",
            "off: its servers have numbers for names, which prove nothing";
    }
    "Livecoding" {
        livecode_programs: Switch as Choice = Switch::Off, restart,
            "`on`: peers with `livecode-credential` add instructions in JavaScript and evaluate it, in a sandbox; `off`: the six of the \
             tunnel, built in, are all there are. The relay has to be built with the feature `livecode`",
            "a relay needs no programs, and nothing opens by itself";
        livecode_namespaces: Vec<Namespace> as List<Form> = Vec::new(), restart,
            "namespaces beside the one of `livecode-credential`, `NAME sha256:HASH` with the hash of its credential: peers that dial \
             `wss://HOST/~NAME` are in it. Each has a sandbox, limits and links of its own, and an equal part of `livecode-share`",
            "one is enough for one operator's programs";
        livecode_call_time: Duration as Time = 100 * MS, [MS, 10 * SECOND], restart,
            "processor time of one call; it is stopped then, and at 1.5 times as much it is dropped with what happened since the last \
             checkpoint, which is made every second",
            "nobody else's call waits for longer than that for one call";
        livecode_share: u32 as Count = 20, [1, 100], restart,
            "processor time of all calls together, in percent of one processor; one link may use a quarter of that. Commands wait meanwhile",
            "four fifths are left for tunnels on the smallest machine";
        livecode_memory: usize as Bytes = 8 << 20, [2 << 20, 512 << 20], restart,
            "memory for what instructions keep; the sandbox takes twice as much at most, and as much for each of six checkpoints",
            "what rooms and lobbies keep is small, and each checkpoint is a copy of it";
        livecode_sources: usize as Bytes = 1 << 20, [KIB, 64 << 20], restart,
            "characters of all sources of a namespace, older versions included",
            "the length of the longest command";
        livecode_instructions: usize as Count = 256, [1, 65_536], restart,
            "instructions of a namespace",
            "the article has six";
        livecode_versions: usize as Count = 16, [1, 1_024], restart,
            "versions of each instruction that are kept, the newest included: to these it can be rolled back",
            "an afternoon's work";
        livecode_timers: usize as Count = 64, [0, 65_536], restart,
            "timers of a namespace that run; an interval is 20 ms or longer",
            "a room needs one or two";
        livecode_output: usize as Bytes = 4 << 20, [KIB, 256 << 20], restart,
            "bytes that one call may send, log and answer; a call that wants more is dropped",
            "four of the longest commands, for a room";
        livecode_messages: usize as Count = 4_096, [16, 1 << 20], restart,
            "the number of things that one call may do: texts, lines, timers, closes",
            "a text for each of as many peers";
        livecode_queue: usize as Count = core().livecode_queue, [1, 65_536], restart,
            "commands of a namespace that wait for their turn, one of each peer; the peers of others are not read from until there is room",
            "they take 16 MiB at most";
        livecode_clients: usize as Count = 256, [1, 65_536], restart,
            "clients of the server that instructions make of a namespace by `serve`",
            "each takes a part of the sandbox's memory";
        livecode_eval: Switch as Choice = Switch::On, restart,
            "whether `eval` is allowed, apart from adding instructions",
            "whoever may add instructions can do the same by one";
        livecode_addresses: Switch as Choice = Switch::On, restart,
            "whether instructions see the addresses of peers; `off`: each link has one of 198.51.100.0/24 instead",
            "the article's instructions tell a server who its client is";
        livecode_state: Option<PathBuf> as Optional<File> = None, restart,
            "a folder that keeps instructions and all that they keep, every minute and when the relay ends; nobody else should be able to \
             read it",
            "the relay writes no files unless told to; without it, nothing outlives the relay, as in 2017";
    }
    "Cluster" {
        cluster: Vec<BusUrl> as List<Form> = Vec::new(), restart,
            "makes the relay one of several that have the same servers: the NATS servers by which they find each other, \
             `nats://HOST:PORT` or `tls://HOST:PORT`. The relay has to be built with the feature `cluster`, and `node` has to be set",
            "one relay needs no others";
        cluster_name: ClusterName as Form = ClusterName("tunnel".to_owned()), restart,
            "the name that begins the subjects of the cluster's messages, so that several clusters share NATS servers",
            "mostly there is one";
        cluster_secret: Option<Secret> as Optional<SecretText> = None, restart,
            "what the relays of the cluster prove to each other, the same at all of them: at least 32 bytes",
            "goes with `cluster`: who knows it can take over servers' IDs";
        cluster_listen: Option<SocketAddr> as Optional<Form> = None, restart,
            "where other relays bring their clients: on a private network, and not through a proxy. Port 0 takes any free one",
            "goes with `cluster`";
        cluster_address: Option<NodeAddress> as Optional<Form> = None, restart,
            "under which the other relays dial `cluster-listen`",
            "what it listens on, if that is one address";
        cluster_tls_certificate: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the certificate for links between relays, which have TLS then; it has to be good for the host of \
             `cluster-address`",
            "links on this machine need none; for others, this or `cluster-plain`";
        cluster_tls_key: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with its private key",
            "goes with the certificate";
        cluster_tls_ca: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the authorities that the certificates of other relays are checked against",
            "those that browsers trust";
        cluster_plain: Switch as Choice = Switch::Off, restart,
            "`on`: links between relays have no TLS though they leave this machine",
            "what clients say is sealed, but who talks to whom is not";
        cluster_bus_credentials: Option<PathBuf> as Optional<File> = None, restart,
            "a file with what the NATS servers ask for: `USER:PASSWORD`, or a token",
            "a bus on a private network may ask for nothing: its messages prove `cluster-secret`";
        cluster_bus_ca: Option<PathBuf> as Optional<File> = None, restart,
            "a PEM file with the authorities that the certificates of NATS servers are checked against",
            "those that browsers trust";
        cluster_start_wait: Duration as Time = 5 * SECOND, [Duration::ZERO, HOUR], restart,
            "how long a relay that starts waits for the bus before it lets anybody in, so that the others know of it",
            "NATS answers at once; if it is away, a relay alone is better than none";
        cluster_lost_after: Duration as Time = 6 * SECOND, [SECOND, HOUR], restart,
            "after which silence of another relay it counts as lost: clients of its servers wait (1013) instead of hearing that there \
             are none (3701)",
            "three signs of life";
        cluster_forget_after: Duration as Time = 75 * SECOND, [SECOND, 24 * HOUR], restart,
            "how long a relay that is lost counts as one that may have a server",
            "a page notices after 35 s that its relay is gone, and dials another one";
        cluster_audit: Duration as Time = 60 * SECOND, [SECOND, 24 * HOUR], restart,
            "how often all servers that are registered here are claimed again, for relays that missed it",
            "40 bytes for each server: 82 MB/s for 5 million at 24 relays, who want 10 min";
        cluster_finds_per_second: u32 as Count = 2_000, [0, 1_000_000], restart,
            "how many questions for servers a second go to the other relays. 0: no limit",
            "CONNECTs to made-up IDs are seven questions to each relay otherwise, 8 µs each";
        cluster_buffer: usize as Bytes = 128 << 20, [KIB, 1_024 * GIB], restart,
            "how many bytes are held for one link to another relay, before a channel that leads there is closed with 3706",
            "half of `total-buffer`: it stands for many peers";
    }
    "Logs" {
        log: String as Filter = "info".to_owned(), restart,
            "what is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, or levels by module; also as `RUST_LOG`. When stderr takes \
             nothing, lines are dropped, and counted in the metrics",
            "what an operator has to know, and a line for each server that comes and goes";
        log_format: LogFormat as Choice = LogFormat::Human, restart,
            "how an event looks: a line for people, or a JSON object a line",
            "people read it first";
    }
    "Connections" {
        max_connections: usize as Count = 20_000, [1, 10_000_000], reload,
            "how many connections there may be in all, and at most what file descriptors allow; further ones get 503",
            "some 200 MiB when they are idle";
        max_connections_per_address: usize as Count = 500, [1, 10_000_000], reload,
            "how many connections one IPv4 address or one /64 of IPv6 may have; further ones get 503. A /56 has twice, a /48 four times as \
             many, for a subscriber may have all of it; so it is with all limits by address",
            "a school behind one address gets in; forty such floods are needed to fill the relay";
        accept_rate: u64 as Count = 1_000, [0, 10_000_000], reload,
            "how many connections may come in a second, and four times as many at once; more get 503. 0: no limit",
            "they take less than a tenth of a core from those who are in, and 5,000 are back within seconds after a restart";
        accept_rate_per_address: u64 as Count = 100, [0, 10_000_000], reload,
            "the same for one IPv4 address or one /64 of IPv6",
            "a class of 30 opens a page at once; a tenth of all is left for others";
        descriptor_reserve: usize as Count = 128, [16, 1_000_000], reload,
            "how many file descriptors are kept free of connections",
            "files, certificates, metrics, and 64 newcomers who are told that the relay is full";
        handshake_timeout: Duration as Time = 10 * SECOND, [MS, HOUR], reload,
            "how long a request's headers may take",
            "a phone on a bad line takes some seconds; whoever takes longer holds a descriptor for nothing";
        keep_alive_timeout: Duration as Time = 90 * SECOND, [MS, HOUR], reload,
            "how long an HTTP connection may rest between two requests. Behind a proxy or load balancer: longer than that keeps \
             connections to the relay, or a request may meet one that is just being closed",
            "most of those wait for 60 or 75 s";
        max_header_bytes: usize as Bytes = 8 * KIB, [8 * KIB, 1_024 * KIB], reload,
            "longest request head; longer ones get 431",
            "what most servers take: large cookies fit";
        write_timeout: Duration as Time = 20 * SECOND, [MS, HOUR], reload,
            "how long a peer's socket may take nothing of what waits for it, before the connection is reset",
            "long enough for a radio handover, short enough that what is held for a dead peer is soon free";
        websocket_ping_interval: Duration as Time = 25 * SECOND, [MS, HOUR], reload,
            "after which silence a peer, which has left PING unanswered by then, is sent a WebSocket ping: browsers answer it even for \
             pages that are frozen",
            "longer than `ping-interval`, so that an idle link has one kind of keep-alive; two fit into `idle-timeout`";
        max_unsent_pongs: u32 as Count = 64, [1, 1_000_000], reload,
            "how many WebSocket pings are answered while the peer's socket takes nothing; more end the link",
            "a browser has one under way";
        close_timeout: Duration as Time = 2 * SECOND, [MS, HOUR], reload,
            "how long the closing handshake of a WebSocket may take",
            "one round trip on a bad line";
        drain_timeout: Duration as Time = 5 * SECOND, [Duration::ZERO, 24 * HOUR], reload,
            "how long links may go on after the relay was told to end",
            "pages dial again at once when they are told to";
    }
    "Links" {
        hello_timeout: Duration as Time = core().hello_timeout, [MS, HOUR], reload,
            "how long a peer may take to say HELLO after the upgrade",
            "as for the headers";
        idle_timeout: Duration as Time = core().idle_timeout, [MS, HOUR], reload,
            "how long a link may be silent, pongs included",
            "three lost pings; a peer that is gone is soon replaced by its next link anyway";
        ping_interval: Duration as Time = core().ping_interval, [MS, HOUR], reload,
            "after which silence of a peer it is sent PING, which the page's script answers",
            "many proxies and address translators forget a connection that is idle for 30 to 60 s";
        max_frame: u32 as Bytes = core().max_frame, [MIN_MAX_FRAME, 1 << 20], restart,
            "longest frame, header included; longer ones end the link with 1009 before memory is set aside",
            "what browsers send in one piece; above it, they cut messages into fragments";
        max_fragments: u32 as Count = 256, [1, 1_000_000], reload,
            "how many fragments a WebSocket message may come in; more end the link with 1008",
            "browsers send a frame of ours in one, and a proxy that cuts it every KiB in 59";
        link_frames_per_second: u64 as Count = 100_000, [0, 1_000_000_000], reload,
            "how many WebSocket frames, pings and fragments of messages included, are read from a link in a second, and twice as \
             many at once; it is read on when there is room again. 0: no limit; else at least 100",
            "three times what a browser sends; a flood takes a fifth of a core at most";
        link_bytes_per_second: u64 as Bytes = 256 << 20, [0, 1 << 40], reload,
            "how many bytes of messages are read from a link in a second, and twice as many at once, likewise. 0: no limit; \
             else at least 64 KiB",
            "twice what a line of 1 Gbit/s carries; a tab on the same machine reaches it hardly";
        max_channels: u32 as Count = core().max_channels, [1, 1_000_000], reload,
            "how many channels a link may have open as a client; a further one is closed with 1013",
            "a page talks to some dozens of servers";
        max_incoming: u32 as Count = core().max_incoming, [1, 1_000_000], reload,
            "how many channels a link may have open as a server; a further one is closed with 1013",
            "a page serves some thousands of clients at most";
        max_registrations: usize as Count = core().max_registrations, [1, 10_000_000], reload,
            "how many servers may be registered; a further one gets ERROR 1013",
            "half of all connections; one of a server that is registered already is never refused";
        max_registrations_per_address: usize as Count = core().max_registrations_per_address, [1, 10_000_000], reload,
            "how many of them may be registered from one IPv4 address or one /64 of IPv6 (twice as many from a /56, four times as \
             many from a /48); a further one gets ERROR 1013",
            "a tenth: twice what the connections of an address can be";
        connect_rate: u32 as Count = core().connect_rate, [0, 1_000_000], reload,
            "how many CONNECTs a link may send a second, and 32 times as many at once after a rest; a further one is closed with \
             1013. 0: no limit",
            "all sessions of a page come back at once; a flood of handshakes does not go on";
        server_connect_rate: u32 as Count = core().server_connect_rate, [0, 1_000_000], reload,
            "how many CONNECTs one server gets a second, and 16 times as many at once after a rest, from all links together. 0: no \
             limit",
            "a tab answers some thousand handshakes a second, and has other things to do";
        max_waiting_per_link: usize as Count = core().max_waiting_per_link, [0, 1_000_000], reload,
            "how many CONNECTs of one link may wait for their server; a further one is closed with 1013",
            "all sessions of a page that resumes after the relay's restart";
        max_waiting: usize as Count = core().max_waiting, [0, 1_000_000], reload,
            "how many CONNECTs may wait for their servers in all",
            "each holds a handshake message: a few MiB";
        max_waiting_per_address: usize as Count = core().max_waiting_per_address, [0, 1_000_000], reload,
            "how many CONNECTs from one IPv4 address or one /64 of IPv6 may wait (twice as many from a /56, four times as many from a \
             /48)",
            "a quarter: sixteen pages that resume with all their sessions";
        absent_wait: Duration as Time = core().absent_wait, [Duration::ZERO, 60 * SECOND], reload,
            "how long a CONNECT waits for its server to register, before it is closed with 3701; five times as long, then 1013, while other relays of a \
             cluster can't be asked",
            "after a restart clients are often faster than their server";
    }
    "Buffers" {
        channel_low: usize as Bytes = core().channel_low, [KIB, GIB], reload,
            "from how many bytes held for a channel, each way, on a paused sender gets RESUME",
            "the sender starts again before the receiver's socket runs dry";
        channel_high: usize as Bytes = core().channel_high, [KIB, GIB], reload,
            "above how many bytes held for a channel, each way, its sender gets PAUSE",
            "one round trip of 100 ms at 20 Mbit/s";
        channel_buffer: usize as Bytes = core().channel_buffer, [KIB, GIB], reload,
            "how many bytes are held for one channel, each way, before it is closed with 3706",
            "more than a session's window (1 MiB) with all its overhead: whoever keeps to it never gets there";
        link_buffer: usize as Bytes = core().link_buffer, [KIB, GIB], reload,
            "how many bytes are held for one link, before the channel that overfills it is closed with 3706",
            "eight full channels";
        half_sent_buffer: usize as Bytes = 128 << 20, [KIB, 1_024 * GIB], reload,
            "how many bytes are held in all for messages of which only a part has come; whoever needs more is closed with 1013",
            "half of `total-buffer`: two thousand of the longest frames";
        half_sent_buffer_per_address: usize as Bytes = 16 << 20, [KIB, 1_024 * GIB], reload,
            "the same for one IPv4 address or one /64 of IPv6 (twice as much for a /56, four times as much for a /48)",
            "an eighth: 256 of the longest frames, or 16 of the longest commands of the livecode dialect";
        total_buffer: usize as Bytes = core().total_buffer, [KIB, 1_024 * GIB], reload,
            "how many bytes are held in all, before the channel that overfills it is closed with 3706",
            "a quarter of the smallest machine that one rents";
    }
}

/// The router's defaults are its own.
fn core() -> router::Config {
    router::Config::default()
}

/// Reads a time as settings have it, such as `30d`.
///
/// # Errors
///
/// It is none.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    <Time as kind::One<Duration>>::parse_one(text)
}

impl Config {
    /// The defaults on any free port of 127.0.0.1: for tests, all of whose peers have one address and come at once.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            max_connections_per_address: usize::MAX,
            max_registrations_per_address: usize::MAX,
            max_waiting_per_address: usize::MAX,
            half_sent_buffer_per_address: usize::MAX,
            accept_rate: 0,
            accept_rate_per_address: 0,
            ..Self::default()
        }
    }

    /// The router's settings. The livecode dialect is for the owner to add: it needs a secret of its own.
    #[must_use]
    pub fn router(&self) -> router::Config {
        router::Config {
            node: self.node.clone(),
            max_frame: self.max_frame,
            max_channels: self.max_channels,
            max_incoming: self.max_incoming,
            channel_buffer: self.channel_buffer,
            channel_high: self.channel_high,
            channel_low: self.channel_low,
            link_buffer: self.link_buffer,
            total_buffer: self.total_buffer,
            idle_timeout: self.idle_timeout,
            ping_interval: self.ping_interval,
            hello_timeout: self.hello_timeout,
            absent_wait: self.absent_wait,
            connect_rate: self.connect_rate,
            server_connect_rate: self.server_connect_rate,
            max_waiting: self.max_waiting,
            max_waiting_per_link: self.max_waiting_per_link,
            max_registrations: self.max_registrations,
            max_registrations_per_address: self.max_registrations_per_address,
            max_waiting_per_address: self.max_waiting_per_address,
            access: self
                .wants_tokens()
                .then(|| access::by_tokens(self.access_tokens.clone(), self.token_secret.clone())),
            livecode: None,
            livecode_programs: self.livecode_programs == Switch::On,
            livecode_queue: self.livecode_queue,
            cluster: None,
        }
    }

    /// The names under which pages reach the relay.
    pub(crate) fn names(&self) -> Names<'_> {
        Names { hosts: &self.hosts, acme_domains: &self.acme_domains }
    }

    /// Returns whether only those get in who show an access token.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.access == AccessMode::Tokens || !self.access_tokens.is_empty() || self.token_secret.is_some()
    }

    /// Names the setting that keeps everybody out, and what to do about it.
    fn keeps_all_out(&self) -> Option<(&'static str, &'static str)> {
        if self.wants_tokens() && self.access_tokens.is_empty() && self.token_secret.is_none() {
            let why = "access is by tokens and there is none, so nobody gets in: `tunnel-relay token new` makes one, \
                       and access = \"open\" lets everybody in";
            return Some(("access_tokens", why));
        }
        let why = "no origin is allowed, so nobody gets in: \"any\" lets all in";
        self.allowed_origins.is_empty().then_some(("allowed_origins", why))
    }

    /// The reason why `new` would let in whom this configuration keeps out: the setting that was closed and would be open.
    #[must_use]
    pub(crate) fn opened_by(&self, new: &Self) -> Option<&'static str> {
        let any = |config: &Self| config.allowed_origins.contains(&Origin::Any);
        if self.wants_tokens() && !new.wants_tokens() {
            Some("access is by tokens, and would be open to everybody")
        } else if !any(self) && any(new) {
            Some("allowed-origins is a list, and would be any origin")
        } else {
            None
        }
    }

    /// The people who may use the relay, in words.
    #[must_use]
    pub fn describe_access(&self) -> String {
        let access = match (self.wants_tokens(), self.access_tokens.len(), self.token_secret.is_some()) {
            (false, ..) => "everybody who reaches it".to_owned(),
            (true, known, false) => format!("whoever shows one of {known} access tokens"),
            (true, known, true) => format!("whoever shows one of {known} access tokens or a signed one"),
        };
        if self.allowed_origins.contains(&Origin::Any) {
            return format!("{access}, from pages of any origin");
        }
        let origins: Vec<_> = self.allowed_origins.iter().map(Origin::to_string).collect();
        format!("{access}, from {}", origins.join(", "))
    }

    /// Settings that contradict each other: the one that is wrong, and what is allowed.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let at_most = |field, value, other, bound| {
            (value > bound).then(|| (field, format!("it may not be larger than {other}")))
        };
        let times = [
            ("websocket_ping_interval", self.websocket_ping_interval),
            ("ping_interval", self.ping_interval),
        ];
        if self.access == AccessMode::Open && self.wants_tokens() {
            let why = "it is open, and there are access tokens or a token-secret: leave one of them out";
            return Some(("access", why.to_owned()));
        }
        if self.livecode_credential.is_some() && self.wants_tokens() {
            let why = "the livecode dialect has no place for access tokens: leave one of them out";
            return Some(("livecode_credential", why.to_owned()));
        }
        if self.livecode_programs == Switch::On {
            if cfg!(not(feature = "livecode")) {
                let why = "this relay is built without livecoding: it takes the feature `livecode`";
                return Some(("livecode_programs", why.to_owned()));
            }
            if self.livecode_credential.is_none() {
                let why = "livecode-credential has to be set too: it says who may add instructions";
                return Some(("livecode_programs", why.to_owned()));
            }
        }
        if !self.livecode_namespaces.is_empty() && self.livecode_programs == Switch::Off {
            let why = "livecode-programs has to be on: without programs a namespace is nothing";
            return Some(("livecode_namespaces", why.to_owned()));
        }
        let mut names: Vec<_> = self.livecode_namespaces.iter().map(|it| it.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some(("livecode_namespaces", "two have the same name".to_owned()));
        }
        if self.listen.port() != 0 && self.metrics_listen == Some(self.listen) {
            return Some(("metrics_listen", "it has to be another address than listen".to_owned()));
        }
        if (1..100).contains(&self.link_frames_per_second) {
            return Some(("link_frames_per_second", "it has to be 0 or at least 100".to_owned()));
        }
        if (1..64 << 10).contains(&self.link_bytes_per_second) {
            return Some(("link_bytes_per_second", "it has to be 0 or at least 64KiB".to_owned()));
        }
        let together =
            [("tls_certificate", self.tls_certificate.is_some()), ("tls_key", self.tls_key.is_some())];
        if let [(_, true), (missing, false)] | [(missing, false), (_, true)] = together {
            return Some((missing, "it has to be set too: a certificate goes with its key".to_owned()));
        }
        if self.tls_key.is_some() && !self.acme_domains.is_empty() {
            return Some((
                "acme_domains",
                "there is a certificate in files already: leave one out".to_owned(),
            ));
        }
        #[cfg(not(feature = "acme"))]
        {
            let given = [
                ("acme_domains", !self.acme_domains.is_empty()),
                ("acme_contacts", !self.acme_contacts.is_empty()),
                ("acme_cache", self.acme_cache.is_some()),
                ("acme_directory", self.acme_directory != Self::default().acme_directory),
                ("acme_root", self.acme_root.is_some()),
            ];
            if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                return Some((field, WITHOUT_ACME.to_owned()));
            }
        }
        if let Some(contradiction) = self.cluster_contradiction() {
            return Some(contradiction);
        }
        at_most("channel_low", self.channel_low, "channel-high", self.channel_high)
            .or_else(|| at_most("channel_high", self.channel_high, "channel-buffer", self.channel_buffer))
            .or_else(|| at_most("channel_buffer", self.channel_buffer, "link-buffer", self.link_buffer))
            .or_else(|| at_most("link_buffer", self.link_buffer, "total-buffer", self.total_buffer))
            .or_else(|| {
                let (field, _) = times.into_iter().find(|(_, time)| *time >= self.idle_timeout)?;
                Some((field, "it has to be shorter than idle-timeout".to_owned()))
            })
            .or_else(|| {
                let comes_first = self.websocket_ping_interval <= self.ping_interval;
                comes_first
                    .then(|| ("websocket_ping_interval", "it has to be longer than ping-interval".to_owned()))
            })
            .or_else(|| (self.node.len() > 255).then(|| ("node", "a name has at most 255 bytes".to_owned())))
    }
}
