//! The messages that applications send each other.

use bytes::Bytes;

/// The cost of a message beside its payload, in bytes: what its place in the queues takes, so that empty messages are
/// not free. Both peers count it.
pub const MESSAGE_OVERHEAD: usize = 64;

/// One WebSocket message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// A text message: UTF-8.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// Length of the payload, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }

    /// Returns the bytes that the message costs of a session's credit: its payload and [`MESSAGE_OVERHEAD`].
    #[must_use]
    pub const fn cost(&self) -> usize {
        self.len() + MESSAGE_OVERHEAD
    }

    /// Returns whether the payload is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::Binary(data.into())
    }
}

impl From<Bytes> for Message {
    fn from(data: Bytes) -> Self {
        Self::Binary(data)
    }
}

impl From<&'static [u8]> for Message {
    fn from(data: &'static [u8]) -> Self {
        Self::Binary(Bytes::from_static(data))
    }
}
