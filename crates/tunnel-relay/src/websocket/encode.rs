//! Encodes messages, and keeps the bytes that the peer has not taken yet. `socket` writes them.

use super::{FIN, MAX_CONTROL, may_be_sent, opcode, pool};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use tunnel_protocol::CloseCode;

/// Messages up to this length are copied together: a call with a hundred small pieces costs the system more.
const COPIED: usize = 4 << 10;

/// Most bytes that are copied together for one call.
const MAX_COPIED: usize = 64 << 10;

/// Number of frames for which a thread keeps memory.
const MAX_KEPT: usize = 1 << 10;

/// Most pieces of one call.
const MAX_SLICES: usize = 16;

/// The longest head, with a client's mask.
const MAX_HEAD: usize = 14;

/// The bit that says that there is a mask.
const MASKED: u8 = 0x80;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    frames: VecDeque<Outgoing>,
    /// Bytes of the first frame that are written.
    written: usize,
    /// After a close frame there is nothing to say.
    closed: bool,
    is_client: bool,
}

#[derive(Debug)]
struct Outgoing {
    head: [u8; MAX_HEAD],
    head_len: u8,
    payload: Bytes,
}

/// Memory in which bytes are put together for a write, shared by all connections of a thread.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    copied: Vec<u8>,
    /// Room for frames; keeps a queue that is emptied at once from asking for memory of its own.
    frames: VecDeque<Outgoing>,
}

/// A part of what is to be written next.
enum Piece {
    /// From here to there in what is copied.
    Copied(usize, usize),
    /// The payload of a frame, from here on.
    Payload(usize, usize),
}

impl SendQueue {
    /// A client's: its frames have a mask, which RFC 6455 asks of clients so that scripts can't make bytes that a proxy takes for a
    /// request. A relay writes to another relay, without a proxy and mostly in TLS, and what it writes is sealed by others: its mask
    /// is zero, and payloads stay what they are.
    pub(crate) fn of_client() -> Self {
        Self { is_client: true, ..Self::default() }
    }

    pub(crate) fn binary(&mut self, message: Bytes) {
        self.push(opcode::BINARY, message);
    }

    pub(crate) fn text(&mut self, message: String) {
        self.push(opcode::TEXT, message.into());
    }

    pub(crate) fn ping(&mut self) {
        self.push(opcode::PING, Bytes::new());
    }

    pub(crate) fn pong(&mut self, payload: Bytes) {
        self.push(opcode::PONG, payload);
    }

    /// A close frame, the last one. Without a code for [`CloseCode::NO_STATUS`]; codes that may not be sent become
    /// 1008.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        let payload = if code == CloseCode::NO_STATUS {
            Vec::new()
        } else {
            let code = if may_be_sent(code.0) { code } else { CloseCode::POLICY };
            let reason = tunnel_protocol::close::truncate_reason(reason);
            [&code.0.to_be_bytes(), reason.as_bytes()].concat()
        };
        debug_assert!(payload.len() <= MAX_CONTROL, "reasons are truncated");
        self.push(opcode::CLOSE, payload.into());
        self.closed = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn push(&mut self, opcode: u8, payload: Bytes) {
        if self.closed {
            return;
        }
        let mut head = [0; MAX_HEAD];
        head[0] = FIN | opcode;
        let mut head_len = match payload.len() {
            len @ 0..=125 => {
                head[1] = len as u8;
                2
            }
            len @ 126..=0xffff => {
                head[1] = 126;
                head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                4
            }
            len => {
                head[1] = 127;
                head[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        if self.is_client {
            head[1] |= MASKED;
            head_len += 4;
        }
        self.frames.push_back(Outgoing { head, head_len, payload });
    }

    /// Has `write` write as much as fits into one call; what it returns is how much it wrote.
    pub(crate) fn write<E>(
        &mut self,
        write_buffer: &mut WriteBuffer,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let pieces = self.stage(&mut write_buffer.copied);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut len = 0;
        for (slice, piece) in slices.iter_mut().zip(&pieces.list[..pieces.len]) {
            *slice = IoSlice::new(match *piece {
                Piece::Copied(from, to) => &write_buffer.copied[from..to],
                Piece::Payload(frame, from) => &self.frames[frame].payload[from..],
            });
            len += 1;
        }
        let written = write(&slices[..len])?;
        self.advance(written);
        Ok(())
    }

    /// Lays out what comes next: heads and short payloads side by side, long ones where they are.
    fn stage(&self, copied: &mut Vec<u8>) -> Pieces {
        copied.clear();
        let mut pieces = Pieces::default();
        let mut skip = self.written;
        for (index, frame) in self.frames.iter().enumerate() {
            // A head and a payload may each need a piece of their own.
            if pieces.len + 2 > MAX_SLICES || copied.len() + COPIED + MAX_HEAD > MAX_COPIED {
                break;
            }
            let head = &frame.head[..frame.head_len.into()];
            let start = copied.len();
            copied.extend_from_slice(&head[skip.min(head.len())..]);
            skip = skip.saturating_sub(head.len());
            if frame.payload.len() <= COPIED {
                copied.extend_from_slice(&frame.payload[skip..]);
            }
            pieces.copied(start, copied.len());
            if frame.payload.len() > COPIED {
                pieces.push(Piece::Payload(index, skip));
            }
            skip = 0;
        }
        pieces
    }

    fn advance(&mut self, written: usize) {
        self.written += written;
        while let Some(frame) = self.frames.front() {
            let len = usize::from(frame.head_len) + frame.payload.len();
            if self.written < len {
                break;
            }
            self.written -= len;
            if let Some(frame) = self.frames.pop_front() {
                pool::give_back(frame.payload);
            }
        }
    }

    /// Borrows memory for frames, if there are none.
    pub(crate) fn borrow(&mut self, write_buffer: &mut WriteBuffer) {
        if self.frames.capacity() == 0 {
            std::mem::swap(&mut self.frames, &mut write_buffer.frames);
        }
    }

    /// Gives it back, if there are none.
    pub(crate) fn give_back(&mut self, write_buffer: &mut WriteBuffer) {
        if self.frames.is_empty() {
            let frames = std::mem::take(&mut self.frames);
            if frames.capacity() <= MAX_KEPT {
                write_buffer.frames = frames;
            }
        }
    }
}

/// A list with room for as many pieces as one call gets.
struct Pieces {
    list: [Piece; MAX_SLICES],
    len: usize,
}

impl Default for Pieces {
    fn default() -> Self {
        Self { list: [const { Piece::Copied(0, 0) }; MAX_SLICES], len: 0 }
    }
}

impl Pieces {
    fn push(&mut self, piece: Piece) {
        self.list[self.len] = piece;
        self.len += 1;
    }

    fn copied(&mut self, from: usize, to: usize) {
        match self.len.checked_sub(1).map(|last| &mut self.list[last]) {
            Some(Piece::Copied(_, end)) if *end == from => *end = to,
            _ => self.push(Piece::Copied(from, to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that are written when each call takes at most `step` of them.
    fn written(mut queue: SendQueue, step: usize) -> Vec<u8> {
        let (mut write_buffer, mut bytes) = (WriteBuffer::default(), Vec::new());
        queue.borrow(&mut write_buffer);
        while !queue.is_empty() {
            let written = queue.write::<()>(&mut write_buffer, |slices| {
                let next: Vec<u8> =
                    slices.iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
                bytes.extend(&next);
                Ok(next.len())
            });
            written.unwrap();
        }
        bytes
    }

    #[test]
    fn frames_come_out_whole_however_little_is_taken_at_once() {
        let payload = |len: usize| Bytes::from((0..len).map(|number| number as u8).collect::<Vec<_>>());
        let queue = || {
            let mut queue = SendQueue::default();
            for len in [0, 1, 125, 126, 5_000, 1_000, COPIED, COPIED + 1, 65_535, 65_536, 3] {
                queue.binary(payload(len));
            }
            (0..40).for_each(|_| queue.binary(payload(5_000)));
            (0..40).for_each(|_| queue.text("short".to_owned()));
            queue.close(CloseCode::NORMAL, "because");
            queue.ping();
            queue
        };
        let mut expected = Vec::new();
        let lengths = [0, 1, 125, 126, 5_000, 1_000, COPIED, COPIED + 1, 65_535, 65_536, 3];
        for len in lengths.into_iter().chain([5_000; 40]) {
            expected.push(0x82);
            match len {
                0..=125 => expected.push(len as u8),
                126..=0xffff => expected.extend([126, (len >> 8) as u8, len as u8]),
                _ => expected.extend([127, 0, 0, 0, 0, 0, 1, 0, 0]),
            }
            expected.extend(payload(len));
        }
        (0..40).for_each(|_| expected.extend(b"\x81\x05short"));
        expected.extend(b"\x88\x09\x03\xe8because");
        for step in [7, 100, 4_097, 65_537, usize::MAX] {
            assert!(written(queue(), step) == expected, "{step} bytes at once");
        }
    }

    #[test]
    fn a_client_s_frames_have_a_mask_that_changes_nothing() {
        for len in [0, 125, 126, 70_000] {
            let payload = Bytes::from(vec![7; len]);
            let mut queue = SendQueue::of_client();
            queue.binary(payload.clone());
            let bytes = written(queue, 1_000);
            let mut decoder = crate::websocket::Decoder::new(100_000, 1);
            let received = decoder.next(&mut &*bytes).unwrap();
            assert_eq!(received, Some(crate::websocket::Received::Binary((&*payload).into())));
        }
    }

    #[test]
    fn a_code_that_may_not_be_sent_is_not() {
        for (code, expected) in [
            (CloseCode::NO_STATUS, &b"\x88\x00"[..]),
            (CloseCode::ABNORMAL, b"\x88\x02\x03\xf0"),
            (CloseCode::DRAINING, b"\x88\x02\x0e\x7c"),
        ] {
            let mut queue = SendQueue::default();
            queue.close(code, "");
            assert_eq!(written(queue, 100), expected);
        }
    }

    #[test]
    fn an_outbox_that_is_empty_holds_no_memory() {
        let (mut queue, mut write_buffer) = (SendQueue::default(), WriteBuffer::default());
        queue.borrow(&mut write_buffer);
        (0..10).for_each(|_| queue.ping());
        while !queue.is_empty() {
            let all = |slices: &[IoSlice<'_>]| Ok::<_, ()>(slices.iter().map(|slice| slice.len()).sum());
            queue.write(&mut write_buffer, all).unwrap();
        }
        queue.give_back(&mut write_buffer);
        assert_eq!(queue.frames.capacity(), 0);
        assert!(write_buffer.frames.capacity() > 0);
    }
}
