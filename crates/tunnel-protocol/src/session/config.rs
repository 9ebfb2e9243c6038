//! Bounds of a session.

use crate::ledger::Ledger;

/// Bounds of a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes that the peer may be ahead of the application at first.
    pub window: u64,
    /// Bytes that it may be ahead when the round trip is long.
    pub max_window: u64,
    /// Bytes that may be sent and not acknowledged: they are kept to be sent again on another path.
    pub replay_buffer: usize,
    /// Longest message taken, in bytes; a longer one ends the session with 1009.
    pub max_message: u64,
    /// Says what no peer knows, as a later version of the protocol may: feature bits, extensions and session frames, which
    /// peers have to skip. For tests; RFC 8701 calls it GREASE.
    pub greases: bool,
    /// The budget for messages of which only a part has arrived, and for those longer than a window: if it has no room,
    /// the session ends with 1013. All sessions of a page have one.
    pub ledger: Ledger,
}

/// Longest message taken unless an application says otherwise, in bytes.
pub const DEFAULT_MAX_MESSAGE: u64 = 100 * 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            window: 256 * 1024,
            max_window: 1024 * 1024,
            replay_buffer: 1024 * 1024,
            max_message: DEFAULT_MAX_MESSAGE,
            ledger: Ledger::default(),
            greases: false,
        }
    }
}
