//! The receiving half of a session's byte stream: messages are put together again.

use crate::codec::peek_varint;
use crate::ledger::{Account, Owner};
use crate::message::MESSAGE_OVERHEAD;
use bytes::{Buf, Bytes, BytesMut};

/// Kinds of messages in the stream.
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;

/// Least window, in bytes: a sender needs credit for a message's overhead and a byte of it before it can begin one, and
/// gets more when half of the window is used up.
pub(super) const MIN_WINDOW: u64 = 4 * MESSAGE_OVERHEAD as u64;

/// Longest header of a message: kind and an 8-byte length.
const MAX_HEADER: usize = 9;

/// The parts of the peer's stream.
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
    /// The page has no room for what has arrived of a message.
    NoRoom { len: u64 },
    /// A message of an unknown kind.
    UnknownKind(u8),
}

/// Bytes of the peer's stream, and the message that they are the beginning of.
#[derive(Debug)]
pub(super) struct ReceiveStream {
    received: u64,
    /// Messages of which the first byte has been received.
    begun: u64,
    /// The peer's credit: bytes of the stream, and [`MESSAGE_OVERHEAD`] for each message that begins.
    limit: u64,
    /// The cost of the messages that are handed out and that the application has not consumed.
    unconsumed: u64,
    window: u64,
    /// So much of what is unconsumed the page has memory for beside its reassembly budget.
    allowance: u64,
    max_message: u64,
    /// Headers that are not complete yet.
    header: BytesMut,
    partial: Option<Partial>,
    /// This stream's part of the page's reassembly budget.
    account: Account,
}

#[derive(Debug)]
struct Partial {
    kind: u8,
    len: usize,
    payload: Vec<u8>,
}

impl ReceiveStream {
    /// Takes messages of at most `max_message` bytes, and lets the peer be `window` bytes ahead of the application, later
    /// `max_window`. What else it holds is charged to `account`.
    pub(super) fn new(window: u64, max_window: u64, max_message: u64, account: Account) -> Self {
        let window = window.max(MIN_WINDOW);
        Self {
            received: 0,
            begun: 0,
            limit: window,
            unconsumed: 0,
            window,
            allowance: max_window.max(window),
            max_message,
            header: BytesMut::new(),
            partial: None,
            account,
        }
    }

    /// Takes in stream bytes; what was received before is left out. Whole messages are handed to `deliver`.
    ///
    /// `bytes` are a part of `memory` bytes, which are freed only when all parts are.
    pub(super) fn receive(
        &mut self,
        offset: u64,
        mut bytes: Bytes,
        memory: usize,
        mut deliver: impl FnMut(RawMessage),
    ) -> Result<(), ReceiveError> {
        let Some(known) = self.received.checked_sub(offset) else { return Err(ReceiveError::Gap) };
        let end = offset.checked_add(bytes.len() as u64).ok_or(ReceiveError::OverLimit)?;
        if end <= self.received {
            return Ok(());
        }
        if end > self.limit {
            return Err(ReceiveError::OverLimit);
        }
        bytes.advance(known as usize);
        self.received = end;
        while !bytes.is_empty() {
            if self.partial.is_none() && self.header.is_empty() {
                self.begun += 1;
            }
            if self.used() > self.limit {
                return Err(ReceiveError::OverLimit);
            }
            if let Some(mut message) = self.take_part(&mut bytes)? {
                if message.payload.len() * 2 < memory {
                    message.payload = Bytes::copy_from_slice(&message.payload);
                }
                self.unconsumed += (message.payload.len() + MESSAGE_OVERHEAD) as u64;
                deliver(message);
            }
        }
        self.charge(self.partial.as_ref().map_or(0, |partial| partial.payload.capacity()))
    }

    /// The credit that the peer has used.
    const fn used(&self) -> u64 {
        self.received + self.begun * MESSAGE_OVERHEAD as u64
    }

    /// Charges the page's budget for what is held beyond the window: for a message that is not complete, so many bytes.
    fn charge(&mut self, partial: usize) -> Result<(), ReceiveError> {
        let len = self.partial.as_ref().map_or(0, |partial| partial.len as u64);
        let partial = if partial == 0 { 0 } else { partial + MESSAGE_OVERHEAD };
        let bytes = partial as u64 + self.unconsumed.saturating_sub(self.allowance);
        self.account.hold(bytes).map_err(|_| ReceiveError::NoRoom { len })
    }

    /// Moves on to the end of the header or the message that `bytes` begins within.
    fn take_part(&mut self, bytes: &mut Bytes) -> Result<Option<RawMessage>, ReceiveError> {
        if self.partial.is_none() {
            let Some((kind, len)) = self.take_header(bytes)? else { return Ok(None) };
            if bytes.len() >= len {
                return Ok(Some(RawMessage { kind, payload: bytes.split_to(len) }));
            }
            self.partial = Some(Partial { kind, len, payload: Vec::new() });
        }
        let Some(partial) = &self.partial else { return Ok(None) };
        let part = bytes.split_to(bytes.len().min(partial.len - partial.payload.len()));
        // Memory grows with what has arrived, and never to more than was announced.
        let needed = partial.payload.len() + part.len();
        let grown = (needed > partial.payload.capacity()).then(|| (2 * needed).min(partial.len));
        if let Some(capacity) = grown {
            self.charge(capacity)?;
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        if let Some(capacity) = grown {
            partial.payload.reserve_exact(capacity - partial.payload.len());
        }
        partial.payload.extend_from_slice(&part);
        if needed < partial.len {
            return Ok(None);
        }
        let whole = self.partial.take();
        Ok(whole.map(|partial| RawMessage { kind: partial.kind, payload: partial.payload.into() }))
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

    /// Begins with messages of another session that are handed out and not consumed: they take of this one's window.
    pub(super) fn inherit(&mut self, other: &Self) {
        self.unconsumed = other.unconsumed;
        self.limit = self.window.saturating_sub(self.unconsumed);
        // A message that there was room for before has room again as soon as the other session is dropped.
        let _ = self.charge(0);
    }

    /// The application has taken in messages that cost so much.
    pub(super) fn consume(&mut self, cost: u64) {
        self.unconsumed = self.unconsumed.saturating_sub(cost);
        // Less is never refused.
        let _ = self.charge(self.partial.as_ref().map_or(0, |partial| partial.payload.capacity()));
    }

    /// Takes longer or shorter messages from now on.
    pub(super) const fn set_max_message(&mut self, max_message: u64) {
        self.max_message = max_message;
    }

    /// Charges what is held to somebody else.
    pub(super) fn belong_to(&mut self, owners: Vec<Owner>) {
        self.account.belong_to(owners);
    }

    /// The limit to tell the peer now; it never falls.
    pub(super) fn raise_limit(&mut self) -> u64 {
        self.limit = self.limit.max((self.used() + self.window).saturating_sub(self.unconsumed));
        self.limit
    }

    /// Returns whether the peer should hear of a new limit: half a window has been consumed since the last.
    pub(super) const fn limit_is_due(&self) -> bool {
        self.used() + self.window >= self.limit + self.window / 2 + self.unconsumed
    }

    /// Lets the peer be further ahead, from the next limit on.
    pub(super) fn set_window(&mut self, window: u64) {
        self.window = window.max(MIN_WINDOW);
    }

    /// Bytes that the peer may be ahead.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    /// Offset behind the last byte received.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes held here: memory for the beginning of a message, and what messages cost that are not consumed.
    pub(super) fn held(&self) -> u64 {
        self.unconsumed + self.partial.as_ref().map_or(0, |partial| partial.payload.capacity() as u64)
    }
}

/// The kind and the length of the message that begins with `bytes`, and where its payload starts.
pub(super) fn header(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let (len, size) = peek_varint(rest)?;
    Some((kind, len, 1 + size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::put_varint;
    use crate::ledger::Ledger;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn stream(window: u64, max_message: u64) -> ReceiveStream {
        ReceiveStream::new(window, window, max_message, Ledger::default().account(Vec::new()))
    }

    fn receive(
        stream: &mut ReceiveStream,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Vec<RawMessage>, ReceiveError> {
        let mut messages = Vec::new();
        let copy = Bytes::copy_from_slice(bytes);
        stream.receive(offset, copy, bytes.len(), |message| messages.push(message))?;
        Ok(messages)
    }

    #[test]
    fn what_was_received_before_is_left_out() {
        let mut stream = stream(1_000, 100);
        assert_eq!(receive(&mut stream, 0, &[TEXT, 1, b'a', TEXT]).unwrap().len(), 1);
        assert_eq!(receive(&mut stream, 0, &[TEXT, 1, b'a', TEXT]).unwrap().len(), 0);
        let again = receive(&mut stream, 2, &[b'a', TEXT, 1, b'b']).unwrap();
        assert_eq!(again, [RawMessage { kind: TEXT, payload: Bytes::from_static(b"b") }]);
        assert_eq!(stream.received(), 6);
    }

    #[test]
    fn a_gap_and_an_overrun_and_an_unknown_kind_end_the_stream() {
        let mut stream = stream(MIN_WINDOW, 1_000);
        assert_eq!(receive(&mut stream, 1, &[0]), Err(ReceiveError::Gap));
        let mut long = vec![0; MIN_WINDOW as usize];
        long[..3].copy_from_slice(&[BINARY, 0x40, 254]);
        assert_eq!(receive(&mut stream, 0, &long), Err(ReceiveError::OverLimit));
        assert_eq!(receive(&mut stream, u64::MAX, &[0]), Err(ReceiveError::Gap));
        let mut stream = self::stream(MIN_WINDOW, 1_000);
        assert_eq!(receive(&mut stream, 0, &[7, 0]), Err(ReceiveError::UnknownKind(7)));
    }

    #[test]
    fn empty_messages_use_up_credit_and_are_held_in_the_books() {
        let mut stream = stream(10 * 66, 100);
        for _ in 0..10 {
            let at = stream.received();
            assert_eq!(receive(&mut stream, at, &[BINARY, 0]).unwrap().len(), 1);
        }
        assert_eq!(stream.held(), 10 * MESSAGE_OVERHEAD as u64);
        let at = stream.received();
        assert_eq!(
            receive(&mut stream, at, &[BINARY]),
            Err(ReceiveError::OverLimit),
            "not even its beginning"
        );
        let mut stream = self::stream(10 * 66, 100);
        assert_eq!(receive(&mut stream, 0, &[BINARY, 0].repeat(11)), Err(ReceiveError::OverLimit));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_received() {
        let mut stream = stream(1_000, 99);
        assert_eq!(receive(&mut stream, 0, &[BINARY, 0x40, 100]), Err(ReceiveError::TooLong { len: 100 }));
        let mut stream = self::stream(1_000, u64::MAX);
        let header = [BINARY, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        // On a 64-bit machine the length is representable: nothing like it is allocated.
        assert_eq!(receive(&mut stream, 0, &header).map(|messages| messages.len()), Ok(0));
    }

    #[test]
    fn memory_grows_with_what_arrives_and_not_with_what_is_announced() {
        let mut stream = stream(1 << 20, 1 << 30);
        let mut wire = BytesMut::from(&[BINARY][..]);
        put_varint(&mut wire, 100 << 20);
        receive(&mut stream, 0, &wire).unwrap();
        assert_eq!((stream.held(), stream.account.held()), (0, 0), "it has only been announced");
        for _ in 0..100 {
            let at = stream.received();
            receive(&mut stream, at, &[7; 1_000]).unwrap();
            let arrived = stream.received() - wire.len() as u64;
            assert!(stream.held() <= 2 * arrived, "{} are held of {arrived}", stream.held());
            assert_eq!(stream.account.held(), stream.held() + MESSAGE_OVERHEAD as u64);
        }
    }

    #[test]
    fn a_small_message_does_not_keep_the_record_that_it_came_in() {
        let mut stream = stream(1 << 20, 1_000);
        let record = Bytes::from([&[BINARY, 3, 1, 2, 3][..], &[0; 60_000]].concat());
        let mut messages = Vec::new();
        stream.receive(0, record.slice(..5), record.len(), |message| messages.push(message)).unwrap();
        assert!(record.is_unique(), "the message has memory of its own");
        assert_eq!(messages[0].payload, Bytes::from_static(&[1, 2, 3]));
    }

    #[test]
    fn what_is_unfinished_and_what_is_longer_than_a_window_is_charged_to_the_budget() {
        let ledger = Ledger::new(10_000);
        let account = ledger.account(vec![Owner::Name("somebody".into())]);
        let mut stream = ReceiveStream::new(6_000, 6_000, 1 << 20, account);
        let mut wire = BytesMut::from(&[BINARY][..]);
        put_varint(&mut wire, 4_000);
        receive(&mut stream, 0, &wire).unwrap();
        let mut at = stream.received();
        receive(&mut stream, at, &[0; 1_500]).unwrap();
        assert_eq!(ledger.held(), 3_000 + MESSAGE_OVERHEAD as u64);
        at = stream.received();
        assert_eq!(receive(&mut stream, at, &[0; 2_500]).unwrap().len(), 1);
        assert_eq!(ledger.held(), 0, "the window has room for it");
        stream.consume(4_000 + MESSAGE_OVERHEAD as u64);

        stream.raise_limit();
        wire.clear();
        wire.put_u8(BINARY);
        put_varint(&mut wire, 100_000);
        at = stream.received();
        receive(&mut stream, at, &wire).unwrap();
        at = stream.received();
        receive(&mut stream, at, &[0; 2_000]).unwrap();
        at = stream.received();
        let refused = receive(&mut stream, at, &[0; 3_000]);
        assert_eq!(refused, Err(ReceiveError::NoRoom { len: 100_000 }));
        drop(stream);
        assert_eq!(ledger.held(), 0, "all is given back");
    }

    #[test]
    fn a_message_longer_than_the_window_still_arrives() {
        let mut stream = stream(300, 10_000);
        let mut wire = BytesMut::from(&[BINARY][..]);
        put_varint(&mut wire, 5_000);
        wire.put_bytes(7, 5_000);
        let mut arrived = Vec::new();
        while (stream.received() as usize) < wire.len() {
            let from = stream.received();
            let limit = stream.raise_limit() - MESSAGE_OVERHEAD as u64;
            assert!(limit > from, "the peer may go on");
            arrived.extend(
                receive(&mut stream, from, &wire[from as usize..(limit as usize).min(wire.len())]).unwrap(),
            );
        }
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].payload.len(), 5_000);
        let limit = stream.raise_limit();
        assert!(limit < stream.used() + 300, "the application has to consume it first");
        assert!(stream.account.held() > 4_000, "and until then it is in the books");
        stream.consume(5_000 + MESSAGE_OVERHEAD as u64);
        assert_eq!(stream.raise_limit(), stream.used() + 300);
        assert_eq!(stream.account.held(), 0);
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
            let mut stream = stream(1 << 20, 1 << 20);
            let (mut at, mut arrived) = (0, Vec::new());
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(wire.len());
                arrived.extend(receive(&mut stream, at as u64, &wire[at..end]).unwrap());
                at = end;
                if at == wire.len() { break; }
            }
            let cost = (wire.len() + messages.len() * MESSAGE_OVERHEAD) as u64;
            prop_assert_eq!(stream.used(), cost);
            let arrived: Vec<_> = arrived.iter().map(|m| (m.kind, m.payload.len())).collect();
            prop_assert_eq!(arrived, messages);
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut stream = stream(1 << 20, 1_000);
            for part in parts {
                let at = stream.received();
                let Ok(messages) = receive(&mut stream, at, &part) else { break };
                for message in messages {
                    stream.consume((message.payload.len() + MESSAGE_OVERHEAD) as u64);
                }
            }
            prop_assert!(stream.held() <= 1_000);
        }
    }
}
