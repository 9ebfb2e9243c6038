//! Limits and times of a router.

use super::Access;
use crate::frame::{DEFAULT_MAX_FRAME, MIN_MAX_FRAME};
use crate::node::ClusterSecret;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Limits and times of a [`Router`](super::Router).
///
/// Buffer sizes count [`FRAME_OVERHEAD`] bytes for each queued frame beside its length, so that they bound the memory
/// that empty frames take, too.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay's name for itself, told to every peer; at most 255 bytes.
    pub node: String,
    /// Longest frame, header included, in bytes; at least [`MIN_MAX_FRAME`].
    pub max_frame: u32,
    /// The number of channels a link may have open as a client.
    pub max_channels: u32,
    /// The number of channels a link may have open as a server.
    pub max_incoming: u32,
    /// The number of bytes that are held for one channel in one direction before the channel is lost.
    ///
    /// More than a session's largest window (1 MiB) with all its overhead: a sender that keeps to the window never
    /// gets there, even if all of it was on its way when PAUSE was sent.
    pub channel_buffer: usize,
    /// The number of bytes held for one channel in one direction above which its sender is told to pause.
    pub channel_high: usize,
    /// The number of bytes at or below which a paused sender is told to go on.
    pub channel_low: usize,
    /// The number of bytes that are held for one link before a channel that leads there is lost.
    pub link_buffer: usize,
    /// The number of bytes that are held in all before a channel is lost.
    pub total_buffer: usize,
    /// The time that a link may be silent.
    pub idle_timeout: Duration,
    /// The silence after which a link is pinged.
    ///
    /// Many proxies and address translators forget a connection that is idle for 30 to 60 s.
    pub ping_interval: Duration,
    /// The time that a new link may take to say HELLO.
    pub hello_timeout: Duration,
    /// The time that a CONNECT to a server that is not registered waits for it: a server that registers again after the
    /// relay's restart finds the clients that were faster.
    pub absent_wait: Duration,
    /// The number of CONNECTs that may wait in all.
    pub max_waiting: usize,
    /// The number of CONNECTs from one IPv4 address or /64 of IPv6 that may wait; a /56 has two, a /48 four such shares.
    pub max_waiting_per_address: usize,
    /// The number of CONNECTs of one link that may wait.
    pub max_waiting_per_link: usize,
    /// The number of CONNECTs a link may send a second, and after a rest as many at once as in [`CONNECT_BURST`]; a further one
    /// is refused with 1013. 0: no limit.
    pub connect_rate: u32,
    /// The same for the CONNECTs to one server, from all links; as many at once as in [`SERVER_CONNECT_BURST`].
    pub server_connect_rate: u32,
    /// The number of servers that may be registered. A further one is refused with 1013; one that is registered already, never.
    pub max_registrations: usize,
    /// The number of servers that may be registered from one IPv4 address or /64 of IPv6; a /56 has two, a /48 four such shares.
    pub max_registrations_per_address: usize,
    /// The access rules; `None`: all may do everything. The livecode dialect has no place for access tokens: with this
    /// it is off.
    pub access: Option<Arc<dyn Access>>,
    /// Turns the livecode dialect on.
    pub livecode: Option<LivecodeConfig>,
    /// True if the owner has an engine for injected instructions: without one, only the tunnel's six are known.
    pub livecode_programs: bool,
    /// The number of commands of one namespace that may be with the engine: [`Router::must_wait`](super::Router::must_wait) tells
    /// of the others.
    pub livecode_queue: usize,
    /// Has other relays serve the same servers; `None`: this relay is alone.
    pub cluster: Option<ClusterConfig>,
}

/// Settings of a relay that is one of several with one address space.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The secret that the relays prove to each other.
    pub secret: ClusterSecret,
    /// The number of bytes that are held for one link to another relay before a channel that leads there is lost. It stands
    /// for many peers, so it is more than [`link_buffer`](Config::link_buffer).
    pub node_buffer: usize,
    /// The number of channels that a link between two relays may have open.
    pub max_node_channels: u32,
    /// A link between two relays is replaced when a channel of it has this number, so that the numbers never run out: with 350
    /// channels a second that is after 70 days.
    pub last_node_channel: u32,
    /// The silence after which such a link is pinged.
    pub ping_interval: Duration,
    /// The time that such a link may be silent: its channels are lost after it, and clients look for their servers anew.
    pub idle_timeout: Duration,
    /// The time that the relays have, beside [`absent_wait`](Config::absent_wait), to agree that a server is at none of them: see
    /// [`verdict_wait`].
    pub verdict_wait: Duration,
}

/// The time for which a client waits while nobody can tell whether its server is nowhere, as a multiple of
/// [`absent_wait`](Config::absent_wait). A relay was lost then, mostly, and the server's page is about to find another one: a client that
/// waits is taken there at once, one that tries again later pauses in between.
pub const UNCERTAIN_WAITS: u32 = 5;

/// Returns the time for [`ClusterConfig::verdict_wait`]: as long as [nobody can tell](UNCERTAIN_WAITS), and one more question to all.
#[must_use]
pub const fn verdict_wait(absent_wait: Duration) -> Duration {
    absent_wait.saturating_mul(UNCERTAIN_WAITS).saturating_add(Duration::from_secs(1))
}

impl ClusterConfig {
    /// The defaults with a secret.
    #[must_use]
    pub const fn new(secret: ClusterSecret) -> Self {
        Self {
            secret,
            node_buffer: 128 << 20,
            max_node_channels: 262_144,
            last_node_channel: u32::MAX / 2,
            ping_interval: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(5),
            verdict_wait: verdict_wait(Duration::from_secs(2)),
        }
    }
}

/// Settings of the livecode dialect.
///
/// `Debug` does not print it.
#[derive(Clone)]
pub struct LivecodeConfig {
    /// The credential that privileged commands have to show.
    pub credential: String,
    /// A fresh random secret, not used before: the servers' credentials are made of it.
    pub secret: [u8; 32],
    /// Namespaces beside the one without a name, each with the SHA-256 of its credential. A peer is in the one that the URL names under
    /// which it reached the relay: [`Peer::namespace`](super::Peer::namespace).
    pub namespaces: BTreeMap<String, [u8; 32]>,
}

impl LivecodeConfig {
    /// Without other namespaces.
    #[must_use]
    pub fn new(credential: impl Into<String>, secret: [u8; 32]) -> Self {
        Self { credential: credential.into(), secret, namespaces: BTreeMap::new() }
    }
}

/// The time for which a link may save up CONNECTs: 2,048 of them at 64 a second, twice what a page can have open.
pub const CONNECT_BURST: Duration = Duration::from_secs(32);

/// The same for a server: 8,192 of its clients come back at once at 512 a second.
pub const SERVER_CONNECT_BURST: Duration = Duration::from_secs(16);

/// The cost of a queued frame beside its bytes: its place in the queue and the header of its allocation.
pub const FRAME_OVERHEAD: usize = 64;

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            max_frame: DEFAULT_MAX_FRAME,
            max_channels: 1_024,
            max_incoming: 16_384,
            channel_buffer: 2 << 20,
            channel_high: 256 << 10,
            channel_low: 64 << 10,
            link_buffer: 16 << 20,
            total_buffer: 256 << 20,
            idle_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(20),
            hello_timeout: Duration::from_secs(10),
            absent_wait: Duration::from_secs(2),
            max_waiting: 4_096,
            max_waiting_per_address: 1_024,
            max_waiting_per_link: 64,
            connect_rate: 64,
            server_connect_rate: 512,
            max_registrations: 10_000,
            max_registrations_per_address: 1_000,
            access: None,
            livecode: None,
            livecode_programs: false,
            livecode_queue: 256,
            cluster: None,
        }
    }
}

impl Config {
    /// Returns the configuration with values that would not work corrected.
    pub(super) fn sane(mut self) -> Self {
        self.max_frame = self.max_frame.max(MIN_MAX_FRAME);
        self.channel_low = self.channel_low.min(self.channel_high);
        self
    }
}

/// Returns whether two texts are the same; takes the same time wherever the difference is.
pub(super) fn is_same_secret(expected: &str, presented: &str) -> bool {
    let difference = |sum, (a, b): (u8, u8)| sum | (a ^ b);
    expected.len() == presented.len() && expected.bytes().zip(presented.bytes()).fold(0, difference) == 0
}

impl fmt::Debug for LivecodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LivecodeConfig(..)")
    }
}
