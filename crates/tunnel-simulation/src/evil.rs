//! A relay that does what it must not.

use crate::Random;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use tunnel_protocol::endpoint::LinkMessage;
use tunnel_protocol::frame::{HEADER_LEN, restamp};
use tunnel_protocol::{ChannelId, Frame};

/// Tampers with one message in so many, and remembers what went by to use it again elsewhere.
#[derive(Debug)]
pub struct Evil {
    /// One message in so many is tampered with.
    pub one_in: u64,
    /// How often it happened.
    pub deeds: u64,
    seen: VecDeque<Bytes>,
    held: Option<Bytes>,
}

/// How much is remembered.
const MEMORY: usize = 32;

impl Evil {
    /// Tampers with one message in `one_in`.
    #[must_use]
    pub const fn new(one_in: u64) -> Self {
        Self { one_in, deeds: 0, seen: VecDeque::new(), held: None }
    }

    /// What is sent instead of `message`.
    pub(crate) fn forward(&mut self, message: LinkMessage, random: &mut Random) -> Vec<LinkMessage> {
        let LinkMessage::Binary(message) = message else { return vec![message] };
        // Only what peers say to each other: what the relay itself says, it may say as it likes.
        let between_peers = matches!(
            Frame::decode(message.clone()),
            Ok(Some(
                Frame::Data { .. } | Frame::Accept { .. } | Frame::Incoming { .. } | Frame::Close { .. }
            ))
        );
        if !between_peers {
            return vec![LinkMessage::Binary(message)];
        }
        let mut out = self.held.take().map_or_else(Vec::new, |held| vec![held]);
        self.seen.push_back(message.clone());
        if self.seen.len() > MEMORY {
            self.seen.pop_front();
        }
        if !random.one_in(self.one_in) {
            out.insert(0, message);
            return out.into_iter().map(LinkMessage::Binary).collect();
        }
        self.deeds += 1;
        match random.below(7) {
            // Flip a bit behind the header.
            0 | 1 if message.len() > HEADER_LEN => {
                let mut flipped = BytesMut::from(&message[..]);
                let at = HEADER_LEN + random.below((message.len() - HEADER_LEN) as u64) as usize;
                flipped[at] ^= 1 << random.below(8);
                out.push(flipped.freeze());
            }
            // Drop.
            2 => {}
            // Say it twice.
            3 => out.extend([message.clone(), message]),
            // Let the next one overtake.
            4 => self.held = Some(message),
            // Say something old instead, on this channel: replayed, reflected or cross-wired.
            5 => {
                let channel = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
                let old = &self.seen[random.below(self.seen.len() as u64) as usize];
                let mut old = BytesMut::from(&old[..]);
                restamp(&mut old, ChannelId(channel));
                out.push(old.freeze());
            }
            // Make something up, or cut it short.
            _ => {
                let mut cut = BytesMut::from(&message[..]);
                cut.truncate(HEADER_LEN + random.below((message.len() - HEADER_LEN + 1) as u64) as usize);
                out.push(cut.freeze());
            }
        }
        out.into_iter().map(LinkMessage::Binary).collect()
    }
}
