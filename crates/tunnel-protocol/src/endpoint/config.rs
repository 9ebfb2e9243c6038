//! Settings of an endpoint.

use crate::session;
use crate::time::Duration;

/// Settings of an endpoint.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay's URL without its query, as [`registration`](crate::registration) binds it.
    pub relay_url: String,
    /// Access token for the relay, or empty.
    pub token: String,
    /// The time that a server keeps a session whose client is away.
    pub resume_timeout: Duration,
    /// Most clients that a server has: connected, away, or being let in.
    pub max_clients: usize,
    /// Bytes that a server keeps for clients that are away, 4 KiB for each beside what its session holds; of one key, a
    /// quarter at most. Whoever is away because the endpoint's own link broke does not count.
    pub away_buffer: u64,
    /// True if the relay may speak the livecode dialect, in which a server's ID proves nothing about who answers. This is
    /// the application's choice: without it, a relay that answers in the dialect is an error.
    pub livecode: bool,
    /// The time that a link that nothing needs is kept: the next socket to the same relay opens faster.
    pub link_grace: Duration,
    /// True if the server takes plain peers of the livecode dialect, who do not encrypt.
    pub allow_plain: bool,
    /// Bounds of each session.
    pub session: session::Config,
    /// Bytes that all sessions together may keep to be sent again, and as many that their peers may be ahead: each has
    /// its share, but never less than 64 KiB.
    pub total_buffer: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            relay_url: String::new(),
            token: String::new(),
            resume_timeout: Duration::from_secs(300),
            max_clients: 1_024,
            away_buffer: 64 * 1024 * 1024,
            livecode: false,
            link_grace: Duration::from_secs(5),
            allow_plain: false,
            session: session::Config::default(),
            total_buffer: 16 * 1024 * 1024,
        }
    }
}
