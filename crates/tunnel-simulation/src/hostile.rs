//! A client that has a key, and no manners.

use crate::Random;
use bytes::{Bytes, BytesMut};
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::handshake::{Initiator, Transport};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{self, Router, Transmit};
use tunnel_protocol::session::{Epoch, Open, Position, SessionId};
use tunnel_protocol::{ChannelId, Frame, Instant, ServerId};

/// The path that a hostile client asks for, so that it is known for one.
pub const HOSTILE_PATH: &str = "/hostile";

/// One link to the relay, and what is done over it to one server. It stands beside the relay: nothing it sends takes time.
#[derive(Debug)]
pub struct Hostile {
    server: ServerId,
    port: u16,
    address: String,
    link: Option<router::LinkId>,
    next_channel: u32,
    calls: Vec<Call>,
    sessions: Vec<Session>,
    /// First handshake messages, to be sent again.
    recorded: Vec<Bytes>,
    /// The number of times that it did something.
    pub deeds: u64,
}

#[derive(Debug)]
struct Call {
    channel: ChannelId,
    initiator: Initiator,
    key: StaticKey,
}

#[derive(Debug)]
struct Session {
    channel: ChannelId,
    transport: Transport,
    sent: u64,
}

impl Hostile {
    pub(crate) fn new(server: ServerId, port: u16, number: u64) -> Self {
        Self {
            server,
            port,
            address: format!("203.0.113.{}", number % 256),
            link: None,
            next_channel: 1,
            calls: Vec::new(),
            sessions: Vec::new(),
            recorded: Vec::new(),
            deeds: 0,
        }
    }

    /// Its link at the relay.
    pub(crate) const fn link(&self) -> Option<router::LinkId> {
        self.link
    }

    /// The relay has gone, and its links with it.
    pub(crate) fn lose_link(&mut self) {
        self.link = None;
        self.next_channel = 1;
        self.calls.clear();
        self.sessions.clear();
    }

    /// Reads what the relay has for it, and does something.
    pub(crate) fn act(&mut self, router: &mut Router, relay_url: &str, random: &mut Random, now: Instant) {
        let link = match self.link {
            Some(link) => link,
            None => self.connect(router, relay_url, random, now),
        };
        self.read(router, link);
        self.deeds += 1;
        match random.below(8) {
            0 | 1 => self.call(router, link, random, now),
            2 => {
                for message in self.recorded.clone() {
                    self.knock(router, link, message, now);
                }
            }
            3 => {
                let junk = random.bytes().repeat(1 + random.below(20) as usize);
                self.knock(router, link, junk.into(), now);
            }
            // A message of 100 MiB is announced, and nothing of it sent.
            4 => self.say(router, link, &[2, 0xc0, 0, 0, 0, 0x06, 0x3f, 0xff, 0xff], random, now),
            // It goes on, or is a message of its own.
            5 => self.say(router, link, &[2; 30_000], random, now),
            6 => self.say(router, link, &[2, 0].repeat(10_000), random, now),
            _ => {
                router.handle_link_closed(link, now);
                self.lose_link();
            }
        }
    }

    fn connect(
        &mut self,
        router: &mut Router,
        relay_url: &str,
        random: &mut Random,
        now: Instant,
    ) -> router::LinkId {
        let peer = router::Peer {
            dialect: router::Dialect::Tunnel,
            address: self.address.clone(),
            url: relay_url.to_owned(),
            challenge: StaticKey::from_secret(random.bytes()),
        };
        let link = router.open_link(peer, now);
        self.link = Some(link);
        let hello = Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
        send(router, link, &hello, now);
        link
    }

    /// Begins a handshake, which it may finish or not.
    fn call(&mut self, router: &mut Router, link: router::LinkId, random: &mut Random, now: Instant) {
        let ServerId::Key(server) = self.server else { return };
        let prologue = [tunnel_protocol::SUBPROTOCOL.as_bytes(), &self.port.to_be_bytes()].concat();
        let key = StaticKey::from_secret(random.bytes());
        let mut initiator = Initiator::new(&prologue, server, random.bytes());
        let mut session_id = [0; 16];
        session_id.copy_from_slice(&random.bytes()[..16]);
        let open = Open {
            session_id: SessionId(session_id),
            epoch: Epoch(random.next()),
            server_epoch: None,
            position: Position { received: 0, limit: random.choose(&[0, 1 << 20, u64::MAX]) },
            protocols: Vec::new(),
            path: HOSTILE_PATH.to_owned(),
            features: 0,
        };
        let Ok(message) = initiator.write_message(&key, &open.encode()) else { return };
        if self.recorded.len() < 32 {
            self.recorded.push(message.clone());
        }
        let channel = self.knock(router, link, message, now);
        if !random.one_in(3) {
            self.calls.push(Call { channel, initiator, key });
        }
    }

    fn knock(
        &mut self,
        router: &mut Router,
        link: router::LinkId,
        payload: Bytes,
        now: Instant,
    ) -> ChannelId {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 2;
        let (server_id, port, kind) = (self.server, self.port, ChannelKind::Session);
        send(router, link, &Frame::Connect { channel, server_id, port, kind, payload }, now);
        channel
    }

    fn read(&mut self, router: &mut Router, link: router::LinkId) {
        while let Some(Transmit::Binary(message)) = router.poll_transmit(link) {
            match Frame::decode(message) {
                Ok(Some(Frame::Accept { channel, payload })) => {
                    let Some(at) = self.calls.iter().position(|call| call.channel == channel) else {
                        continue;
                    };
                    let mut call = self.calls.remove(at);
                    if let Ok((_, transport)) = call.initiator.read_message(&call.key, &payload) {
                        self.sessions.push(Session { channel, transport, sent: 0 });
                    }
                }
                Ok(Some(Frame::Close { channel, .. })) => {
                    self.calls.retain(|call| call.channel != channel);
                    self.sessions.retain(|session| session.channel != channel);
                }
                _ => {}
            }
        }
    }

    /// Sends what the stream of one of its sessions goes on with, whether it may or not.
    fn say(
        &mut self,
        router: &mut Router,
        link: router::LinkId,
        stream: &[u8],
        random: &mut Random,
        now: Instant,
    ) {
        if self.sessions.is_empty() {
            return self.call(router, link, random, now);
        }
        let at = random.below(self.sessions.len() as u64) as usize;
        let session = &mut self.sessions[at];
        let mut record = BytesMut::from(&[1][..]);
        record.extend_from_slice(&session.sent.to_be_bytes());
        record.extend_from_slice(&(stream.len() as u16).to_be_bytes());
        record.extend_from_slice(stream);
        session.sent += stream.len() as u64;
        let Ok(payload) = session.transport.seal(&record[..]) else { return };
        send(router, link, &Frame::Data { channel: session.channel, payload }, now);
    }
}

fn send(router: &mut Router, link: router::LinkId, frame: &Frame, now: Instant) {
    router.handle_message(link, BytesMut::from(&frame.encode()[..]), now);
}
