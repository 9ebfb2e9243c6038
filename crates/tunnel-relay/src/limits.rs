//! How much of everything a peer gets.

use std::time::Duration;

/// Bounds on what one peer can make the relay hold or wait for.
///
/// Those on frames, channels, buffers and silence are the router's: [`Config::router`](crate::Config::router).
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a request's headers may take from the moment that the connection is accepted, and how long the
    /// upgrade may take after that.
    pub handshake_timeout: Duration,
    /// Longest request head, in bytes; at least 8,192. Longer ones get 431.
    pub max_header_bytes: usize,
    /// How long a peer's socket may take nothing of what waits for it.
    ///
    /// Long enough for a radio handover, short enough that what is held for a dead peer is soon free.
    pub write_timeout: Duration,
    /// After which silence of a peer it is sent a WebSocket ping. Browsers answer those without script, so a hidden
    /// or frozen tab stays connected.
    ///
    /// At least three fit into the router's idle timeout, so that one lost on the way does not end a link.
    pub ping_interval: Duration,
    /// How many WebSocket pings of a peer are answered while its socket takes nothing. More end the link.
    pub max_unsent_pongs: u32,
    /// How long the closing handshake of a WebSocket may take.
    pub close_timeout: Duration,
    /// How long links may go on after the relay was told to end.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            max_header_bytes: 8_192,
            write_timeout: Duration::from_secs(20),
            ping_interval: Duration::from_secs(15),
            max_unsent_pongs: 64,
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(5),
        }
    }
}
