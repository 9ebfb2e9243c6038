//! Times and limits of the machine.

use crate::node::ClusterSecret;
use std::time::Duration;

/// Times and limits of a [`Presence`](super::Presence).
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay's name, which no other relay of the cluster has; at most 255 bytes.
    pub node: String,
    /// The address under which other relays dial it, HOST:PORT; at most 255 bytes.
    pub address: String,
    /// A random number that was drawn when the process started.
    pub incarnation: u64,
    /// The secret of the cluster: every message of the bus is hashed with it.
    pub secret: ClusterSecret,
    /// The time that a client waits for a server that is nowhere; see [`router::Config`](crate::router::Config::absent_wait). Five times as
    /// long while nobody can tell, because a relay is lost or the bus is away.
    pub absent_wait: Duration,
    /// The time that all relays have to say that they don't have a server.
    pub roll_wait: Duration,
    /// The time between two signs of life.
    pub beat_interval: Duration,
    /// The silence after which a relay is lost. A relay that has been on the bus for less can't tell that a server is nowhere.
    pub lost_after: Duration,
    /// The time after which a lost relay is forgotten: the longest that a page takes to notice that its relay is gone (35 s), the time
    /// above, and what a relay takes to end.
    pub forget_after: Duration,
    /// The time after which all that is held is claimed again.
    pub audit_interval: Duration,
    /// The time without the bus after which the relay may be cut off.
    pub cut_off_after: Duration,
    /// The number of questions a second, so that clients that ask for made-up servers do not flood the bus. 0: no limit.
    pub finds_per_second: u32,
    /// The number of servers that are asked for at one time.
    pub max_wants: usize,
}

impl Config {
    /// The defaults for a relay.
    #[must_use]
    pub const fn new(node: String, address: String, incarnation: u64, secret: ClusterSecret) -> Self {
        Self {
            node,
            address,
            incarnation,
            secret,
            absent_wait: Duration::from_secs(2),
            roll_wait: Duration::from_millis(400),
            beat_interval: Duration::from_secs(2),
            lost_after: Duration::from_secs(6),
            forget_after: Duration::from_secs(75),
            audit_interval: Duration::from_secs(60),
            cut_off_after: Duration::from_secs(60),
            finds_per_second: 2_000,
            max_wants: 4_096,
        }
    }
}
