//! Stories of links, told to a router whose clock and sockets are the test's.

mod access;
mod books;
mod channels;
mod instruct;
mod limits;
mod links;
mod livecode;
mod load;
mod model;
mod nodes;

use super::*;
use crate::frame::{ChannelKind, Welcome};
use crate::identity::StaticKey;
use crate::registration;
use crate::server_id::PublicKey;
use bytes::Bytes;

/// A router, a clock that stands still, and the peers' ends of the links.
struct Net {
    router: Router,
    now: Instant,
    opened: u8,
}

const ORIGIN: &str = "wss://relay.example:8087/";

fn config() -> Config {
    Config { node: "test".to_owned(), ..Config::default() }
}

fn server_key(secret: u8) -> StaticKey {
    StaticKey::from_secret([secret; 32])
}

fn server_id(secret: u8) -> ServerId {
    ServerId::Key(server_key(secret).public())
}

fn hello() -> Frame {
    Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() }
}

fn connect(channel: u32, server_id: ServerId) -> Frame {
    let (channel, payload) = (ChannelId(channel), Bytes::from_static(b"first"));
    Frame::Connect { channel, server_id, port: 1337, kind: ChannelKind::Session, payload }
}

fn accept(channel: u32) -> Frame {
    Frame::Accept { channel: ChannelId(channel), payload: Bytes::from_static(b"second") }
}

fn data(channel: u32, payload: impl Into<Bytes>) -> Frame {
    Frame::Data { channel: ChannelId(channel), payload: payload.into() }
}

fn close(channel: u32, code: CloseCode) -> Frame {
    Frame::Close { channel: ChannelId(channel), code, reason: "because".to_owned() }
}

/// Returns a frame without the words that explain it.
fn wordless(frame: Frame) -> Frame {
    match frame {
        Frame::Close { channel, code, .. } => Frame::Close { channel, code, reason: String::new() },
        Frame::Error { code, .. } => Frame::Error { code, text: String::new() },
        frame => frame,
    }
}

fn closed(channel: u32, code: CloseCode) -> Frame {
    wordless(close(channel, code))
}

fn error(code: CloseCode) -> Frame {
    Frame::Error { code, text: String::new() }
}

impl Net {
    fn new(config: Config) -> Self {
        Self { router: Router::new(config), now: Instant::ORIGIN, opened: 0 }
    }

    /// Opens a link that has not said anything yet.
    fn socket(&mut self) -> LinkId {
        self.open(Dialect::Tunnel)
    }

    fn open(&mut self, dialect: Dialect) -> LinkId {
        self.open_under(dialect, ORIGIN)
    }

    /// Opens a livecode link under a URL.
    fn open_at(&mut self, url: &str) -> LinkId {
        self.open_under(Dialect::Livecode, url)
    }

    fn open_under(&mut self, dialect: Dialect, url: &str) -> LinkId {
        self.opened += 1;
        let peer = Peer {
            dialect,
            address: format!("192.0.2.{}:1000", self.opened),
            url: url.to_owned(),
            challenge: StaticKey::from_secret([self.opened; 32]),
        };
        self.router.open_link(peer, self.now)
    }

    /// A link that has been welcomed.
    fn link(&mut self) -> LinkId {
        let (link, _) = self.welcomed();
        link
    }

    fn welcomed(&mut self) -> (LinkId, Welcome) {
        let link = self.socket();
        self.send(link, hello());
        match self.received(link).pop() {
            Some(Frame::Welcome(welcome)) => (link, *welcome),
            other => panic!("no WELCOME but {other:?}"),
        }
    }

    /// A link that is registered under the key of `secret`.
    fn server(&mut self, secret: u8) -> LinkId {
        let (link, welcome) = self.welcomed();
        self.send(link, register(secret, &welcome.challenge));
        assert_eq!(self.received(link), [Frame::Registered { server_id: server_id(secret) }]);
        link
    }

    /// A server, a client and an accepted channel between them: 1 at the client, 2 at the server.
    fn pair(&mut self) -> (LinkId, LinkId) {
        let server = self.server(1);
        let client = self.link();
        self.send(client, connect(1, server_id(1)));
        assert_eq!(self.received(server).len(), 1);
        self.send(server, accept(2));
        assert_eq!(self.received(client), [accept(1)]);
        self.events();
        (client, server)
    }

    fn send(&mut self, link: LinkId, frame: Frame) {
        self.send_bytes(link, &frame.encode());
    }

    fn send_bytes(&mut self, link: LinkId, message: &[u8]) {
        self.router.handle_message(link, BytesMut::from(message), self.now);
    }

    /// Takes one frame for a link.
    fn take(&mut self, link: LinkId) -> Option<Frame> {
        match self.router.poll_transmit(link)? {
            Transmit::Binary(message) => Some(Frame::decode(message).expect("well-formed").expect("known")),
            Transmit::Text(text) => panic!("a text for a tunnel link: {text}"),
        }
    }

    /// Takes all frames for a link, without the words that explain them.
    fn received(&mut self, link: LinkId) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.take(link) {
            frames.push(wordless(frame));
        }
        frames
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.router.poll_event()).collect()
    }

    /// The links that the router wants closed, and the codes.
    fn closes(&mut self) -> Vec<(LinkId, CloseCode)> {
        let close = |event| match event {
            Event::Close { link, code, .. } => Some((link, code)),
            _ => None,
        };
        self.events().into_iter().filter_map(close).collect()
    }

    fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.router.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.router.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn hang_up(&mut self, link: LinkId) {
        self.router.handle_link_closed(link, self.now);
    }

    /// Checks that nothing is kept of anybody.
    fn assert_empty(&self) {
        let stats = self.router.stats();
        let now = (stats.links, stats.registrations, stats.channel_ends, stats.waiting, stats.buffered);
        assert_eq!(now, (0, 0, 0, 0, 0));
        assert!(self.router.waiting.is_empty());
        assert!(self.router.registered_from.entries().is_empty());
        assert!(self.router.waiting_from.entries().is_empty());
        assert!(self.router.checks.is_empty());
        assert_eq!(self.router.poll_timeout(), None);
    }
}

fn register(secret: u8, challenge: &PublicKey) -> Frame {
    let key = server_key(secret);
    let proof = registration::prove(&key, challenge, ORIGIN).expect("the key is at hand");
    Frame::Register { key: key.public(), proof, url: String::new() }
}
