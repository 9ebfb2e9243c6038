//! A relay that does what it must not: it tampers with what peers say to each other, and lies in frames of its own.

use crate::Random;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use tunnel_protocol::endpoint::LinkMessage;
use tunnel_protocol::frame::{ChannelKind, HEADER_LEN, Welcome, restamp};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::time::Duration;
use tunnel_protocol::{ChannelId, CloseCode, Frame, ServerId};

/// Tampers with one message in so many, and remembers what went by to use it again elsewhere.
#[derive(Debug)]
pub struct Evil {
    /// One message in so many is tampered with.
    pub one_in: u64,
    /// The number of times that it happened.
    pub deeds: u64,
    seen: VecDeque<Bytes>,
    held: Option<Bytes>,
}

/// The number of messages that are remembered.
const MEMORY: usize = 32;

impl Evil {
    /// Tampers with one message in `one_in`.
    #[must_use]
    pub const fn new(one_in: u64) -> Self {
        Self { one_in, deeds: 0, seen: VecDeque::new(), held: None }
    }

    /// Is honest from now on, and lets go of what it held back.
    pub fn repent(&mut self) {
        self.one_in = u64::MAX;
        self.held = None;
    }

    /// Returns the messages that are sent instead of `message`.
    pub(crate) fn forward(&mut self, message: LinkMessage, random: &mut Random) -> Vec<LinkMessage> {
        let LinkMessage::Binary(message) = message else { return vec![message] };
        let between_peers = matches!(
            Frame::decode(message.clone()),
            Ok(Some(
                Frame::Data { .. } | Frame::Accept { .. } | Frame::Incoming { .. } | Frame::Close { .. }
            ))
        );
        if !between_peers {
            if !random.one_in(self.one_in) {
                return vec![LinkMessage::Binary(message)];
            }
            self.deeds += 1;
            let lie = self.lie_instead_of(&message, random);
            let message = LinkMessage::Binary(message);
            return match random.below(3) {
                0 => vec![lie],
                1 => vec![lie, message],
                _ => vec![message, lie],
            };
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
        if random.one_in(4) {
            let lie = self.lie(random);
            return vec![LinkMessage::Binary(message), lie];
        }
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

    /// Returns whether the WebSocket's handshake says that the relay has taken the frames in it, which it has if `taken`.
    pub(crate) fn greets(&mut self, taken: bool, random: &mut Random) -> bool {
        let lies = random.one_in(self.one_in);
        self.deeds += u64::from(lies);
        taken != lies
    }

    /// Returns a message in place of the relay's own, or beside it: most often the same with other fields.
    fn lie_instead_of(&self, message: &Bytes, random: &mut Random) -> LinkMessage {
        let lie = match Frame::decode(message.clone()) {
            Ok(Some(Frame::Welcome(welcome))) if !random.one_in(4) => welcome_of(&welcome, random),
            Ok(Some(Frame::Registered { .. })) if !random.one_in(4) => registered(random),
            _ => return self.lie(random),
        };
        LinkMessage::Binary(lie.encode())
    }

    /// A message of a relay's own, each of whose fields is what it likes.
    fn lie(&self, random: &mut Random) -> LinkMessage {
        let channel = ChannelId(random.below(16) as u32 + 1);
        let code = CloseCode(random.choose(&CODES));
        let text = random.choose(&["", "so says the relay"]).to_owned();
        let some_welcome = Welcome {
            version: 1,
            features: 0,
            max_frame: 65_536,
            max_channels: 1_024,
            channel_buffer: 1 << 20,
            idle_timeout: Duration::from_secs(60),
            challenge: StaticKey::from_secret(random.bytes()).public(),
            address: String::new(),
            node: String::new(),
        };
        let lie = match random.below(16) {
            0 => welcome_of(&some_welcome, random),
            1 => registered(random),
            2..=4 => self.incoming(random),
            // The answer to a handshake: one that has been seen, or nothing that anybody has said.
            5 => Frame::Accept { channel, payload: self.payload(random) },
            6 => Frame::Data { channel, payload: self.payload(random) },
            7 => Frame::Close { channel, code, reason: text },
            8 => Frame::Close { channel: ChannelId::LINK, code, reason: text },
            9 => {
                Frame::GoAway { deadline: Duration::from_millis(random.choose(&[0, 1, u64::from(u32::MAX)])) }
            }
            10 => Frame::Error { code, text },
            11 => Frame::Pause { channel },
            12 => Frame::Resume { channel },
            13 => Frame::Ping { nonce: random.next() },
            14 => Frame::Pong { nonce: random.next() },
            _ => return LinkMessage::Text(random.choose(&TEXTS).to_owned()),
        };
        LinkMessage::Binary(lie.encode())
    }

    /// A client that wants in: one that did before, or one that nobody has seen.
    fn incoming(&self, random: &mut Random) -> Frame {
        // Far ahead of what the relay numbers by itself, or what it might say next.
        let channel = ChannelId(random.choose(&[2, 4, 6, 8, 10, 20, 3, u32::MAX - 1]));
        let kind = random.choose(&[
            ChannelKind::Session,
            ChannelKind::Session,
            ChannelKind::Plain,
            ChannelKind::Unknown(2),
            ChannelKind::Unknown(255),
        ]);
        let address = random.choose(&["", "198.51.100.7", "not an address"]).to_owned();
        let replayed = self.seen.iter().filter_map(|seen| match Frame::decode(seen.clone()) {
            Ok(Some(Frame::Incoming { port, payload, .. })) => Some((port, payload)),
            _ => None,
        });
        let (port, payload) = match replayed.last() {
            Some(replayed) if !random.one_in(4) => replayed,
            _ => (random.choose(&[1337, 0, 65_535]), self.payload(random)),
        };
        Frame::Incoming { channel, port, kind, address, payload }
    }

    /// Returns something that one of the peers said, behind some header, or something that nobody said.
    fn payload(&self, random: &mut Random) -> Bytes {
        let seen = self.seen.get(random.below(MEMORY as u64) as usize);
        seen.map_or_else(|| Bytes::from_static(&[7; 100]), |seen| seen.slice(HEADER_LEN..))
    }
}

/// Codes that a relay says, some of which only a peer may say in its session.
const CODES: [u16; 16] =
    [0, 1000, 1001, 1002, 1005, 1006, 1009, 1011, 1013, 3700, 3701, 3703, 3707, 3708, 3711, 4000];

/// Texts that a livecoding server sends, and some that none does.
const TEXTS: [&str; 6] = [
    "server: rejected malformed command",
    "server: received command 'forward to client'",
    "server: 1",
    "1 wants to connect",
    "{\"from\":1,\"port\":1337}",
    "",
];

/// A WELCOME with one hostile field or several.
fn welcome_of(welcome: &Welcome, random: &mut Random) -> Frame {
    let mut welcome = Box::new(welcome.clone());
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0 => welcome.max_frame = random.choose(&[0, 1, 8_192, u32::MAX]),
            1 => welcome.max_channels = random.choose(&[0, 1, u32::MAX]),
            2 => welcome.channel_buffer = random.choose(&[0, 1, u32::MAX]),
            3 => {
                let timeouts = [0, 1, 1_000, u64::from(u32::MAX)];
                welcome.idle_timeout = Duration::from_millis(random.choose(&timeouts));
            }
            // Of low order.
            4 => welcome.challenge = PublicKey([0; 32]),
            5 => welcome.challenge = StaticKey::from_secret(random.bytes()).public(),
            6 => welcome.version = random.choose(&[0, 2, u16::MAX]),
            _ => {
                welcome.features = u32::MAX;
                welcome.address = "not an address".to_owned();
            }
        }
    }
    Frame::Welcome(welcome)
}

/// A registration under somebody else's ID.
fn registered(random: &mut Random) -> Frame {
    let server_id = if random.one_in(3) {
        ServerId::Number(random.below(9) as u32)
    } else {
        ServerId::Key(StaticKey::from_secret(random.bytes()).public())
    };
    Frame::Registered { server_id }
}
