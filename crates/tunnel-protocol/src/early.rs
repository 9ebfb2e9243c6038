//! Early frames: the first frames of a peer, inside the WebSocket's handshake, a round trip earlier than in a message.
//!
//! Each frame stands behind its length, a `u16`. Base64url makes a subprotocol's name of it, whose prefix is
//! [`PREFIX`]; a relay that has taken the frames says so by choosing [`SUBPROTOCOL`].

use crate::codec::Reader;
use crate::frame::Frame;
use bytes::{BufMut, Bytes};
use std::collections::VecDeque;

/// The subprotocol that a relay chooses when it has taken the frames.
pub const SUBPROTOCOL: &str = "tunnel.v1.early";

/// The beginning of the subprotocol's name that holds the frames.
pub const PREFIX: &str = "early.";

/// The most that goes into a handshake, in bytes: in base64, with all else that browsers say there, cookies included, it
/// stays under the 8 KiB that servers and proxies take. HELLO with the longest access token and a usual CONNECT fit.
pub const MAX_LEN: usize = 1_500;

/// As many of the frames, from the first on, as go into a handshake, and how many they are.
pub fn encode<'a>(frames: impl IntoIterator<Item = &'a Bytes>) -> (Vec<u8>, usize) {
    let (mut out, mut count) = (Vec::new(), 0);
    for frame in frames {
        if out.len() + 2 + frame.len() > MAX_LEN {
            break;
        }
        out.put_u16(frame.len() as u16);
        out.put_slice(frame);
        count += 1;
    }
    (out, count)
}

/// The frames; `None` if there are none, or if it is not what [`encode`] makes: the peer then says them again.
#[must_use]
pub fn decode(bytes: Bytes) -> Option<Vec<Bytes>> {
    if bytes.len() > MAX_LEN {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let mut frames = Vec::new();
    while reader.remaining() > 0 {
        let len = reader.u16("length");
        frames.push(reader.bytes(len.into(), "frame"));
        reader.check().ok()?;
    }
    let first = frames.first()?.clone();
    matches!(Frame::decode(first), Ok(Some(Frame::Hello { .. }))).then_some(frames)
}

/// The early frames of a peer, kept in case that it says them again.
///
/// Pages wrap their WebSocket, to record it or to stand in for a server. Such a wrapper may report another subprotocol than the
/// relay chose, mostly the first one offered, and the page then says in messages what the relay has taken already.
#[derive(Debug, Default)]
pub struct Repetition(VecDeque<Bytes>);

impl Repetition {
    /// The frames that may come once more.
    #[must_use]
    pub fn of(frames: &[Bytes]) -> Self {
        Self(frames.iter().cloned().collect())
    }

    /// True if a message only repeats the next early frame. After the first that does not, none does.
    pub fn has_next(&mut self, message: &[u8]) -> bool {
        let is_next = self.0.pop_front().is_some_and(|frame| frame == message);
        if !is_next {
            self.0 = VecDeque::new();
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Bytes {
        let token = "key".to_owned();
        Frame::Hello { min_version: 1, max_version: 2, features: 5, token }.encode()
    }

    #[test]
    fn frames_go_into_a_handshake_as_far_as_there_is_room() {
        let long = Bytes::from(vec![7; 1_000]);
        let frames = [hello(), long.clone(), long];
        let (encoded, count) = encode(&frames);
        assert_eq!(count, 2);
        assert_eq!(encoded.len(), 2 + frames[0].len() + 2 + 1_000);
        assert_eq!(decode(encoded.into()).unwrap(), frames[..2]);
    }

    #[test]
    fn what_does_not_begin_with_hello_is_not_taken() {
        let ping = Frame::Ping { nonce: 1 }.encode();
        assert_eq!(decode(encode([&ping, &hello()]).0.into()), None);
        assert_eq!(decode(Bytes::new()), None);
        let (mut cut, _) = encode([&hello()]);
        cut.pop();
        assert_eq!(decode(cut.into()), None);
        assert_eq!(decode(vec![0; MAX_LEN + 1].into()), None);
    }

    #[test]
    fn what_repeats_the_frames_in_their_order_is_told_from_all_else() {
        let frames = [Bytes::from_static(b"one"), Bytes::from_static(b"two"), Bytes::from_static(b"three")];
        let told = |messages: &[&[u8]]| {
            let mut repetition = Repetition::of(&frames);
            messages.iter().map(|message| repetition.has_next(message)).collect::<Vec<_>>()
        };
        assert_eq!(told(&[b"one", b"two", b"three", b"one"]), [true, true, true, false]);
        assert_eq!(told(&[b"one", b"new", b"two"]), [true, false, false]);
        assert_eq!(told(&[b"new", b"one"]), [false, false]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_none(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let whole = [encode([&hello()]).0, bytes.clone()].concat();
            if let Some(frames) = decode(whole.clone().into()) {
                prop_assert_eq!(encode(&frames), (whole, frames.len()));
            }
            let _ = decode(bytes.into());
        }
    }
}
