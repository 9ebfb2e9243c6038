use crate::session;
use crate::time::Duration;

/// How an endpoint behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay's URL without its query, as [`registration`](crate::registration) binds it.
    pub relay_url: String,
    /// Access token for the relay, or empty.
    pub token: String,
    /// How long a server keeps a session whose client is away.
    pub resume_timeout: Duration,
    /// Most sessions that a server keeps for clients that are away; the oldest are dropped beyond that.
    pub max_suspended: usize,
    /// Most clients whose handshake is not finished.
    pub max_pending: usize,
    /// Whether the relay may speak the livecode dialect, in which a server's ID proves nothing about who answers. This is
    /// the application's choice: without it, a relay that answers in the dialect is an error.
    pub livecode: bool,
    /// How long a link that nothing needs is kept: the next socket to the same relay opens faster.
    pub link_grace: Duration,
    /// Whether the server takes plain peers of the livecode dialect, who do not encrypt.
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
            max_suspended: 256,
            max_pending: 1_024,
            livecode: false,
            link_grace: Duration::from_secs(5),
            allow_plain: false,
            session: session::Config::default(),
            total_buffer: 16 * 1024 * 1024,
        }
    }
}
