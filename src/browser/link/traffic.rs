//! The traffic of one WebSocket to a relay, counted for `getLinks()`.

use std::cell::Cell;
use tunnel_protocol::endpoint::LinkMessage;

/// Messages of one direction, and their bytes.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    messages: Cell<u64>,
    bytes: Cell<u64>,
}

impl Counter {
    fn count(&self, message: &LinkMessage) {
        let len = match message {
            LinkMessage::Binary(data) => data.len(),
            LinkMessage::Text(text) => text.len(),
        };
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + len as u64);
    }

    /// Messages, then bytes.
    #[cfg(feature = "npm")]
    pub(crate) const fn get(&self) -> (u64, u64) {
        (self.messages.get(), self.bytes.get())
    }
}

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
}

impl Traffic {
    pub(crate) fn count_sent(&self, message: &LinkMessage) {
        self.sent.count(message);
    }

    pub(crate) fn count_received(&self, message: &LinkMessage) {
        self.received.count(message);
    }
}
