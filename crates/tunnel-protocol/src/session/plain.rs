//! The queue of texts for a plain peer of the livecode dialect.

use crate::Message;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Texts in the order in which they go out, one in each datagram.
#[derive(Debug, Default)]
pub(super) struct Plain {
    queue: VecDeque<Bytes>,
    len: usize,
}

impl Plain {
    pub(super) fn push(&mut self, message: Message) {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(data) => String::from_utf8_lossy(&data).into_owned(),
        };
        self.len += text.len();
        self.queue.push_back(text.into());
    }

    /// The next datagram: `header`, then the text.
    pub(super) fn pop(&mut self, header: &[u8]) -> Option<Bytes> {
        let text = self.queue.pop_front()?;
        self.len -= text.len();
        let mut datagram = BytesMut::with_capacity(header.len() + text.len());
        datagram.put_slice(header);
        datagram.put_slice(&text);
        Some(datagram.freeze())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes queued.
    pub(super) const fn buffered_amount(&self) -> usize {
        self.len
    }
}
