//! The sending half of a session's byte stream: what is queued, what is out, what may have to go out again.

mod whole;

use super::receive::CLOSE;
use crate::codec::{put_varint, varint_len};
use crate::message::MESSAGE_OVERHEAD;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Messages shorter than this are copied together; longer ones are kept as they came.
const COPY_BELOW: usize = 4 * 1024;

/// Size of the pieces that small messages are copied into, in bytes.
const PIECE: usize = 16 * 1024;

/// Reliable, ordered bytes on their way to the peer.
///
/// ```text
///   acknowledged          sent            furthest          end
///        |  kept for replay |  sent before,  |  never sent    |
///        |                  |  to go again   |                |
/// ```
#[derive(Debug, Default)]
pub(super) struct SendStream {
    /// The bytes from `kept` to the start of `tail`.
    pieces: VecDeque<Bytes>,
    /// The newest bytes: small messages are still being added.
    tail: BytesMut,
    /// Offset of the first byte that is held: `acknowledged`, or before it where messages are kept whole.
    kept: u64,
    /// True if each message is kept until all of it is acknowledged, so that it can be given back.
    keeps_whole: bool,
    acknowledged: u64,
    sent: u64,
    furthest: u64,
    end: u64,
    /// The credit that the peer has granted: in bytes, and [`MESSAGE_OVERHEAD`] for each message that begins.
    limit: u64,
    /// Messages that begin before `furthest`.
    begun: u64,
    /// The piece that holds the byte at `sent`, and where in it: kept because a search would be linear.
    cursor: Cursor,
    /// Messages of which something was never sent, oldest first.
    waiting: VecDeque<Waiting>,
    /// Payload bytes of the messages in `waiting`.
    waiting_payload: usize,
    /// Payload bytes that `furthest` has passed of the first message in `waiting`.
    passed_payload: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    piece: usize,
    at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    start: u64,
    payload_start: u64,
    end: u64,
}

impl SendStream {
    /// Appends one message: its kind, its length, its payload.
    pub(super) fn push(&mut self, kind: u8, payload: Bytes) {
        let len = payload.len() as u64;
        let header = 1 + varint_len(len);
        self.tail.put_u8(kind);
        put_varint(&mut self.tail, len);
        let start = self.end;
        self.end += header as u64 + len;
        // A close is not the application's data: `bufferedAmount` does not count it.
        let payload_start = if kind == CLOSE { self.end } else { self.end - len };
        if payload.len() < COPY_BELOW {
            self.tail.put_slice(&payload);
            if self.tail.len() >= PIECE {
                self.finish_tail();
            }
        } else {
            self.finish_tail();
            self.pieces.push_back(payload);
        }
        self.waiting.push_back(Waiting { start, payload_start, end: self.end });
        self.waiting_payload += (self.end - payload_start) as usize;
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Returns the bytes that may be sent now, counted to `at_most`: queued, within the peer's limit and the replay buffer's.
    pub(super) fn sendable(&self, replay_buffer: usize, at_most: usize) -> usize {
        let within = self.sent.saturating_add(at_most as u64);
        let bound = self.end.min(self.acknowledged + replay_buffer as u64).min(within);
        // All that was sent was within the limit, which never falls.
        let (mut at, mut begun) = (self.furthest, self.begun);
        for message in &self.waiting {
            if at >= bound {
                break;
            }
            begun += u64::from(message.start >= at);
            let limit = self.limit.saturating_sub(begun * MESSAGE_OVERHEAD as u64);
            at = at.max(limit.min(message.end));
            if at < message.end {
                break;
            }
        }
        usize::try_from(bound.min(at).saturating_sub(self.sent)).unwrap_or(usize::MAX)
    }

    /// Copies the next `len` bytes to `out` and counts them as sent. `len` is at most what is [`sendable`](Self::sendable).
    pub(super) fn take(&mut self, mut len: usize, out: &mut BytesMut) {
        debug_assert!(self.sent + len as u64 <= self.end, "takes only what was pushed");
        self.sent += len as u64;
        while len > 0 {
            let Some(piece) = self.pieces.get(self.cursor.piece) else {
                if self.tail.is_empty() {
                    break;
                }
                self.finish_tail();
                continue;
            };
            let part = &piece[self.cursor.at..];
            let part = &part[..part.len().min(len)];
            out.put_slice(part);
            len -= part.len();
            self.cursor.at += part.len();
            if self.cursor.at == piece.len() {
                self.cursor = Cursor { piece: self.cursor.piece + 1, at: 0 };
            }
        }
        let before = self.furthest;
        self.furthest = before.max(self.sent);
        while let Some(first) = self.waiting.front() {
            self.begun += u64::from((before..self.furthest).contains(&first.start));
            if self.furthest < first.end {
                self.passed_payload = self.furthest.saturating_sub(first.payload_start) as usize;
                break;
            }
            self.waiting_payload -= (first.end - first.payload_start) as usize;
            self.passed_payload = 0;
            self.waiting.pop_front();
        }
    }

    /// Takes in the peer's cumulative acknowledgement and its limit. `false` if it acknowledges what was never sent.
    ///
    /// Both only rise: an older acknowledgement, overtaken on another path, changes nothing.
    pub(super) fn acknowledge(&mut self, received: u64, limit: u64) -> bool {
        if received > self.furthest {
            return false;
        }
        self.limit = self.limit.max(limit);
        self.acknowledged = self.acknowledged.max(received);
        if self.sent < self.acknowledged {
            self.rewind(self.acknowledged);
        }
        self.release(if self.keeps_whole { self.end_of_acknowledged() } else { self.acknowledged });
        true
    }

    /// Lets go of the bytes before `offset`, which have been sent.
    fn release(&mut self, offset: u64) {
        let mut released = offset - self.kept;
        self.kept = offset;
        while released > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            if (piece.len() as u64) <= released {
                released -= piece.len() as u64;
                self.pieces.pop_front();
                self.cursor.piece = self.cursor.piece.saturating_sub(1);
            } else {
                let cut = released as usize;
                *piece = piece.slice(cut..);
                if self.cursor.piece == 0 {
                    self.cursor.at -= cut;
                }
                released = 0;
            }
        }
    }

    /// A new path is there: everything that the peer has not received goes out again. `false` if `received` was
    /// never sent or had been acknowledged beyond.
    pub(super) fn resume(&mut self, received: u64, limit: u64) -> bool {
        if received < self.acknowledged || !self.acknowledge(received, limit) {
            return false;
        }
        self.rewind(received);
        true
    }

    /// Puts the cursor at `offset`, a byte that is still held.
    fn rewind(&mut self, offset: u64) {
        self.sent = offset;
        let mut at = (offset - self.kept) as usize;
        let mut piece = 0;
        while let Some(bytes) = self.pieces.get(piece) {
            if at < bytes.len() {
                break;
            }
            at -= bytes.len();
            piece += 1;
        }
        // Bytes of the tail are never sent before the tail is finished, so `at` is zero if no piece holds it.
        self.cursor = Cursor { piece, at };
    }

    /// Offset of the next byte to be sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Offset of the first byte that the peer has not acknowledged.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Offset behind the last byte that was ever sent.
    pub(super) const fn furthest(&self) -> u64 {
        self.furthest
    }

    /// Offset behind the last byte that was pushed.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held: kept for replay or never sent.
    pub(super) const fn held(&self) -> u64 {
        self.end - self.kept
    }

    /// Bytes that were pushed and that the peer has not acknowledged.
    pub(super) const fn unacknowledged(&self) -> u64 {
        self.end - self.acknowledged
    }

    /// Returns whether everything that was pushed has been acknowledged.
    pub(super) const fn is_done(&self) -> bool {
        self.acknowledged == self.end
    }

    /// Payload bytes that were pushed and never sent.
    pub(super) const fn buffered_amount(&self) -> usize {
        self.waiting_payload - self.passed_payload
    }

    /// Bytes held until the peer acknowledges them.
    pub(super) const fn replay_len(&self) -> u64 {
        self.furthest - self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(stream: &mut SendStream, len: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        stream.take(len, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_close_is_not_counted_among_what_is_buffered() {
        let mut stream = SendStream::default();
        stream.push(CLOSE, Bytes::from_static(b"\x03\xe8enough"));
        assert_eq!(stream.buffered_amount(), 0);
        stream.acknowledge(0, 4);
        taken(&mut stream, 4);
        assert_eq!(stream.buffered_amount(), 0, "when a part of it is out");
    }

    #[test]
    fn small_messages_go_out_behind_each_other() {
        let mut stream = SendStream::default();
        stream.acknowledge(0, 1_000);
        stream.push(1, Bytes::from_static(b"ab"));
        stream.push(2, Bytes::from_static(b"c"));
        assert_eq!(stream.sendable(1_000, 100), 7);
        assert_eq!(stream.sendable(1_000, 5), 5);
        assert_eq!(stream.buffered_amount(), 3);
        assert_eq!(taken(&mut stream, 3), [1, 2, b'a']);
        assert_eq!(stream.buffered_amount(), 2, "one payload byte and a header went out");
        assert_eq!(taken(&mut stream, 4), [b'b', 2, 1, b'c']);
        assert_eq!(stream.buffered_amount(), 0);
        assert!(!stream.is_done());
        assert!(stream.acknowledge(7, 1_000));
        assert!(stream.is_done());
    }

    #[test]
    fn nothing_goes_beyond_the_peers_limit_or_the_replay_buffer() {
        let mut stream = SendStream::default();
        stream.push(2, vec![0; 10_000].into());
        assert_eq!(stream.sendable(1_000_000, 1_000_000), 0, "no limit yet");
        stream.acknowledge(0, 564);
        assert_eq!(stream.sendable(1_000_000, 1_000_000), 500);
        assert_eq!(stream.sendable(100, 1_000), 100);
        taken(&mut stream, 100);
        assert_eq!(stream.sendable(100, 1_000), 0, "the replay buffer is full");
        stream.acknowledge(60, 564);
        assert_eq!(stream.sendable(100, 1_000), 60);
    }

    #[test]
    fn each_message_costs_its_overhead_in_credit_once() {
        let mut stream = SendStream::default();
        for _ in 0..5 {
            stream.push(2, Bytes::from_static(b"a"));
        }
        stream.acknowledge(0, 64);
        assert_eq!(stream.sendable(1_000, 1_000), 0, "credit for the overhead, and for nothing behind it");
        stream.acknowledge(0, 65);
        assert_eq!(stream.sendable(1_000, 1_000), 1);
        taken(&mut stream, 1);
        stream.acknowledge(0, 67);
        assert_eq!(stream.sendable(1_000, 1_000), 2, "it has begun");
        stream.acknowledge(0, 3 * 67 - 1);
        assert_eq!(stream.sendable(1_000, 1_000), 7, "two more, without the last byte");
        taken(&mut stream, 7);
        assert!(stream.resume(0, 3 * 67 - 1));
        assert_eq!(stream.sendable(1_000, 1_000), 8, "what was sent may go out again");
        taken(&mut stream, 8);
        assert_eq!(stream.sendable(1_000, 1_000), 0);
        stream.acknowledge(3, 3 * 67);
        assert_eq!(stream.sendable(1_000, 1_000), 1);
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_refused() {
        let mut stream = SendStream::default();
        stream.push(1, Bytes::from_static(b"abc"));
        stream.acknowledge(0, 100);
        taken(&mut stream, 2);
        assert!(!stream.acknowledge(3, 100));
        assert!(!stream.resume(3, 100));
        assert!(stream.acknowledge(2, 100));
        assert!(!stream.resume(1, 100), "the peer can't have lost what it acknowledged");
    }

    proptest! {
        /// Random pushes, takes, acknowledgements and resumptions against a flat copy of the stream.
        #[test]
        fn what_is_taken_is_always_the_stream_at_the_cursor(
            steps in prop::collection::vec((0_u8..4, 0_usize..9_000), 1..60),
            keeps_whole: bool,
        ) {
            let mut stream = SendStream::default();
            if keeps_whole {
                stream.keep_whole();
            }
            let mut ends = Vec::new();
            let mut model = BytesMut::new();
            for (index, (step, size)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        let payload = Bytes::from(vec![index as u8; size]);
                        model.put_u8(2);
                        put_varint(&mut model, size as u64);
                        model.put_slice(&payload);
                        ends.push((model.len() as u64, payload.clone()));
                        stream.push(2, payload);
                    }
                    1 => {
                        let at = stream.sent() as usize;
                        let len = stream.sendable(20_000, size);
                        prop_assert_eq!(taken(&mut stream, len), &model[at..at + len]);
                    }
                    2 => {
                        let span = stream.furthest() - stream.acknowledged();
                        let received = stream.acknowledged() + (size as u64).min(span);
                        prop_assert!(stream.acknowledge(received, received + 30_000));
                    }
                    _ => {
                        let span = stream.furthest() - stream.acknowledged();
                        let received = stream.acknowledged() + (size as u64).min(span);
                        prop_assert!(stream.resume(received, received + 30_000));
                        prop_assert_eq!(stream.sent(), received);
                    }
                }
                prop_assert!(stream.replay_len() <= 20_000);
            }
            if keeps_whole {
                let (acknowledged, furthest) = (stream.acknowledged(), stream.furthest());
                let expected = ends.into_iter().filter(|(end, _)| *end > acknowledged);
                let expected: Vec<_> = expected.map(|(end, payload)| (2, payload, end <= furthest)).collect();
                prop_assert_eq!(stream.unacknowledged_messages(), expected);
                return Ok(());
            }
            let rest = model.len() - stream.sent() as usize;
            stream.acknowledge(stream.furthest(), u64::MAX);
            let at = model.len() - rest.min(model.len() - stream.sent() as usize);
            let len = stream.sendable(usize::MAX >> 1, usize::MAX);
            prop_assert_eq!(taken(&mut stream, len), &model[at..]);
            prop_assert_eq!(stream.buffered_amount(), 0);
        }
    }
}
