//! Messages that are kept whole until they are acknowledged, so that the application can have them back.

use super::SendStream;
use crate::session::receive::header;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Goes through the messages that begin in some pieces of a stream.
struct Messages<'a> {
    pieces: &'a VecDeque<Bytes>,
    piece: usize,
    /// The offset in that piece at which the next message begins, or how far behind it.
    at: usize,
    /// The same place as an offset of the stream.
    offset: u64,
}

/// One message of a stream.
struct Found {
    kind: u8,
    len: usize,
    /// The place of its payload.
    piece: usize,
    at: usize,
    /// Offset behind it.
    end: u64,
}

impl Iterator for Messages<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        while self.at >= self.pieces.get(self.piece)?.len() {
            self.at -= self.pieces[self.piece].len();
            self.piece += 1;
        }
        // `push` never divides a header.
        let (kind, len, size) = header(&self.pieces[self.piece][self.at..])?;
        self.offset += size as u64 + len;
        let found =
            Found { kind, len: len as usize, piece: self.piece, at: self.at + size, end: self.offset };
        self.at = found.at + found.len;
        Some(found)
    }
}

impl SendStream {
    /// Keeps messages whole from now on. Nothing has been pushed.
    pub(in crate::session) const fn keep_whole(&mut self) {
        self.keeps_whole = true;
    }

    fn messages(&self) -> Messages<'_> {
        Messages { pieces: &self.pieces, piece: 0, at: 0, offset: self.kept }
    }

    /// Offset behind the last message that is acknowledged as a whole. This looks at the messages since the last call.
    pub(super) fn end_of_acknowledged(&self) -> u64 {
        let ends = self.messages().map(|message| message.end);
        ends.take_while(|end| *end <= self.acknowledged).last().unwrap_or(self.kept)
    }

    /// The messages that are not acknowledged: their kinds, their payloads, and whether all of each was sent.
    pub(in crate::session) fn unacknowledged_messages(&mut self) -> Vec<(u8, Bytes, bool)> {
        self.finish_tail();
        let furthest = self.furthest;
        let messages = self.messages();
        messages.map(|found| (found.kind, self.payload(&found), found.end <= furthest)).collect()
    }

    fn payload(&self, found: &Found) -> Bytes {
        let (mut piece, mut at, mut rest) = (found.piece, found.at, found.len);
        let first = &self.pieces[piece];
        if at + rest <= first.len() {
            return first.slice(at..at + rest);
        }
        let mut payload = BytesMut::new();
        while rest > 0 {
            let Some(bytes) = self.pieces.get(piece) else { break };
            if payload.is_empty() && at == bytes.len() {
                // A long message is a piece of its own, behind its header's.
                return self.payload(&Found { piece: piece + 1, at: 0, ..*found });
            }
            let part = &bytes[at..bytes.len().min(at + rest)];
            payload.extend_from_slice(part);
            rest -= part.len();
            (piece, at) = (piece + 1, 0);
        }
        payload.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(messages: &[&'static [u8]], len: usize) -> SendStream {
        let mut stream = SendStream::default();
        stream.keep_whole();
        for message in messages {
            stream.push(2, Bytes::from_static(message));
        }
        stream.acknowledge(0, 1 << 20);
        stream.take(len, &mut BytesMut::new());
        stream
    }

    #[test]
    fn a_message_of_which_a_part_is_acknowledged_comes_back_whole() {
        let mut stream = sent(&[b"abc", b"def", b"ghi"], 12);
        assert!(stream.acknowledge(7, 1 << 20));
        assert_eq!(stream.held(), 10, "the first message is let go");
        let expected = [(2, Bytes::from_static(b"def"), true), (2, Bytes::from_static(b"ghi"), false)];
        assert_eq!(stream.unacknowledged_messages(), expected);
    }

    #[test]
    fn what_is_acknowledged_never_comes_back() {
        let mut stream = sent(&[b"abc", b"def"], 10);
        assert!(stream.acknowledge(10, 1 << 20));
        assert_eq!(stream.unacknowledged_messages(), []);
    }

    #[test]
    fn a_long_message_comes_back_without_being_copied() {
        let long = Bytes::from(vec![7; 100_000]);
        let mut stream = SendStream::default();
        stream.keep_whole();
        stream.push(2, long.clone());
        let back = stream.unacknowledged_messages();
        assert_eq!(back[0].1.as_ptr(), long.as_ptr());
    }
}
