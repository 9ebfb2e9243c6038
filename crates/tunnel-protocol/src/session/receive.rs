//! The receiving half of a session's byte stream: messages are put together again.

use crate::codec::peek_varint;
use bytes::{Buf, Bytes, BytesMut};

/// Kinds of messages in the stream.
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;

/// How much memory is set aside for a message before its bytes are there, in bytes.
const RESERVE: usize = 1024 * 1024;

/// Longest header of a message: kind and an 8-byte length.
const MAX_HEADER: usize = 9;

/// What the peer's stream holds at one place.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct RawMessage {
    pub(super) kind: u8,
    pub(super) payload: Bytes,
}

/// The peer's stream can't be read on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReceiveError {
    /// A record starts behind the end of what was received.
    Gap,
    /// The peer sent more than it was allowed.
    OverLimit,
    /// A message is longer than this side takes.
    TooLong { len: u64 },
    /// A message of an unknown kind.
    UnknownKind(u8),
}

/// Bytes of the peer's stream, and the message that they are the beginning of.
#[derive(Debug)]
pub(super) struct ReceiveStream {
    received: u64,
    limit: u64,
    /// Bytes that are handed out as messages and which the application has not consumed.
    unconsumed: u64,
    window: u64,
    max_message: u64,
    /// Headers that are not complete yet.
    header: BytesMut,
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    kind: u8,
    len: usize,
    payload: BytesMut,
}

impl ReceiveStream {
    /// Takes messages of at most `max_message` bytes, and lets the peer be `window` bytes ahead of the application.
    pub(super) fn new(window: u64, max_message: u64) -> Self {
        Self {
            received: 0,
            limit: window,
            unconsumed: 0,
            window,
            max_message,
            header: BytesMut::new(),
            partial: None,
        }
    }

    /// Takes in stream bytes; what was received before is left out. Whole messages are handed to `deliver`.
    pub(super) fn receive(
        &mut self,
        offset: u64,
        mut bytes: Bytes,
        mut deliver: impl FnMut(RawMessage),
    ) -> Result<(), ReceiveError> {
        let Some(known) = self.received.checked_sub(offset) else { return Err(ReceiveError::Gap) };
        let end = offset.checked_add(bytes.len() as u64).ok_or(ReceiveError::OverLimit)?;
        if end > self.limit {
            return Err(ReceiveError::OverLimit);
        }
        if end <= self.received {
            return Ok(());
        }
        bytes.advance(known as usize);
        self.received = end;
        while !bytes.is_empty() {
            if let Some(message) = self.take_part(&mut bytes)? {
                self.unconsumed += message.payload.len() as u64;
                deliver(message);
            }
        }
        Ok(())
    }

    /// Moves on to the end of the header or the message that `bytes` begins within.
    fn take_part(&mut self, bytes: &mut Bytes) -> Result<Option<RawMessage>, ReceiveError> {
        if let Some(partial) = &mut self.partial {
            let part = bytes.split_to(bytes.len().min(partial.len - partial.payload.len()));
            partial.payload.extend_from_slice(&part);
            if partial.payload.len() < partial.len {
                return Ok(None);
            }
            return Ok(self
                .partial
                .take()
                .map(|partial| RawMessage { kind: partial.kind, payload: partial.payload.freeze() }));
        }
        let Some((kind, len)) = self.take_header(bytes)? else { return Ok(None) };
        if bytes.len() >= len {
            return Ok(Some(RawMessage { kind, payload: bytes.split_to(len) }));
        }
        self.partial = Some(Partial { kind, len, payload: BytesMut::with_capacity(len.min(RESERVE)) });
        Ok(None)
    }

    /// Reads a header; `None` when `bytes` ended within it.
    fn take_header(&mut self, bytes: &mut Bytes) -> Result<Option<(u8, usize)>, ReceiveError> {
        let start = self.header.len();
        let found = if start == 0 {
            header(bytes)
        } else {
            self.header.extend_from_slice(&bytes[..bytes.len().min(MAX_HEADER - start)]);
            header(&self.header)
        };
        let Some((kind, len, end)) = found else {
            if start == 0 {
                self.header.extend_from_slice(bytes);
            }
            bytes.clear();
            return Ok(None);
        };
        bytes.advance(end - start);
        self.header.clear();
        if !matches!(kind, TEXT | BINARY | CLOSE) {
            return Err(ReceiveError::UnknownKind(kind));
        }
        match usize::try_from(len) {
            Ok(size) if len <= self.max_message => Ok(Some((kind, size))),
            _ => Err(ReceiveError::TooLong { len }),
        }
    }

    /// The application has taken in so many payload bytes.
    pub(super) const fn consume(&mut self, bytes: u64) {
        self.unconsumed = self.unconsumed.saturating_sub(bytes);
    }

    /// The limit to tell the peer now; it never falls.
    pub(super) fn raise_limit(&mut self) -> u64 {
        self.limit = self.limit.max(self.received - self.unconsumed + self.window);
        self.limit
    }

    /// Whether the peer should hear of a new limit: half a window has been consumed since the last.
    pub(super) const fn limit_is_due(&self) -> bool {
        self.received - self.unconsumed + self.window >= self.limit + self.window / 2
    }

    /// Lets the peer be further ahead, from the next limit on.
    pub(super) const fn set_window(&mut self, window: u64) {
        self.window = window;
    }

    /// How far the peer may be ahead, in bytes.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    /// Offset behind the last byte received.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes held here: the beginning of a message, and messages not consumed.
    pub(super) fn held(&self) -> u64 {
        self.unconsumed + self.partial.as_ref().map_or(0, |partial| partial.payload.len() as u64)
    }
}

/// The kind and the length of the message that begins with `bytes`, and where its payload starts.
fn header(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let (len, size) = peek_varint(rest)?;
    Some((kind, len, 1 + size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::put_varint;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn receive(
        stream: &mut ReceiveStream,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Vec<RawMessage>, ReceiveError> {
        let mut messages = Vec::new();
        stream.receive(offset, Bytes::copy_from_slice(bytes), |message| messages.push(message))?;
        Ok(messages)
    }

    #[test]
    fn what_was_received_before_is_left_out() {
        let mut stream = ReceiveStream::new(100, 100);
        assert_eq!(receive(&mut stream, 0, &[TEXT, 1, b'a', TEXT]).unwrap().len(), 1);
        assert_eq!(receive(&mut stream, 0, &[TEXT, 1, b'a', TEXT]).unwrap().len(), 0);
        let again = receive(&mut stream, 2, &[b'a', TEXT, 1, b'b']).unwrap();
        assert_eq!(again, [RawMessage { kind: TEXT, payload: Bytes::from_static(b"b") }]);
        assert_eq!(stream.received(), 6);
    }

    #[test]
    fn a_gap_and_an_overrun_and_an_unknown_kind_end_the_stream() {
        let mut stream = ReceiveStream::new(4, 100);
        assert_eq!(receive(&mut stream, 1, &[0]), Err(ReceiveError::Gap));
        assert_eq!(receive(&mut stream, 0, &[TEXT, 3, 0, 0, 0]), Err(ReceiveError::OverLimit));
        assert_eq!(receive(&mut stream, u64::MAX, &[0]), Err(ReceiveError::Gap));
        assert_eq!(receive(&mut stream, 0, &[7, 0]), Err(ReceiveError::UnknownKind(7)));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_received() {
        let mut stream = ReceiveStream::new(1_000, 99);
        assert_eq!(receive(&mut stream, 0, &[BINARY, 0x40, 100]), Err(ReceiveError::TooLong { len: 100 }));
        let mut stream = ReceiveStream::new(1_000, u64::MAX);
        let header = [BINARY, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        // On a 64-bit machine the length is representable: nothing like it is allocated.
        assert_eq!(receive(&mut stream, 0, &header).map(|messages| messages.len()), Ok(0));
    }

    #[test]
    fn a_message_longer_than_the_window_still_arrives() {
        let mut stream = ReceiveStream::new(100, 10_000);
        let mut wire = BytesMut::from(&[BINARY][..]);
        put_varint(&mut wire, 5_000);
        wire.put_bytes(7, 5_000);
        let mut arrived = Vec::new();
        while (stream.received() as usize) < wire.len() {
            let from = stream.received();
            let limit = stream.raise_limit();
            assert!(limit > from, "the peer may go on");
            arrived.extend(
                receive(&mut stream, from, &wire[from as usize..(limit as usize).min(wire.len())]).unwrap(),
            );
        }
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].payload.len(), 5_000);
        let limit = stream.raise_limit();
        assert!(limit < stream.received() + 100, "the application has to consume it first");
        stream.consume(5_000);
        assert_eq!(stream.raise_limit(), stream.received() + 100);
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_the_stream_is_cut(
            messages in prop::collection::vec((prop::sample::select(vec![TEXT, BINARY, CLOSE]), 0_usize..300), 0..20),
            cuts in prop::collection::vec(1_usize..400, 1..40),
        ) {
            let mut wire = BytesMut::new();
            for (kind, len) in &messages {
                wire.put_u8(*kind);
                put_varint(&mut wire, *len as u64);
                wire.put_bytes(*kind, *len);
            }
            let mut stream = ReceiveStream::new(1 << 20, 1 << 20);
            let (mut at, mut arrived) = (0, Vec::new());
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(wire.len());
                arrived.extend(receive(&mut stream, at as u64, &wire[at..end]).unwrap());
                at = end;
                if at == wire.len() { break; }
            }
            let arrived: Vec<_> = arrived.iter().map(|m| (m.kind, m.payload.len())).collect();
            prop_assert_eq!(arrived, messages);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut stream = ReceiveStream::new(1 << 20, 1_000);
            for part in parts {
                let at = stream.received();
                if receive(&mut stream, at, &part).is_err() { break; }
            }
            prop_assert!(stream.held() <= 1_000);
        }
    }
}
