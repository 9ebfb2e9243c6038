//! A peer that holds the keys puts anything into its records, and the application does anything meanwhile: a session
//! neither panics nor keeps more than it may, and tells of one end at most.
//!
//! The input is a list of commands: what to do, and how many of the following bytes it is done with.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tunnel_protocol::handshake::{Initiator, Responder, Transport};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::{Config, SessionEvent, Open, Opened, Position, Session};
use tunnel_protocol::{CloseCode, Instant, Message};

const WINDOW: u64 = 300;
const MAX_WINDOW: u64 = 1_200;
const REPLAY: usize = 500;
/// Handshakes take most of the time.
const MAX_PATHS: usize = 2;

static CLIENT: LazyLock<StaticKey> = LazyLock::new(|| StaticKey::from_secret([1; 32]));
static SERVER: LazyLock<StaticKey> = LazyLock::new(|| StaticKey::from_secret([2; 32]));

struct World {
    session: Session,
    peer: Option<Transport>,
    now: Instant,
    paths: usize,
    /// The cost of the messages that the application was given and has not taken in.
    unconsumed: usize,
    queued: usize,
    closed: bool,
}

fuzz_target!(|input: &[u8]| {
    payloads(input);
    let config = Config {
        window: WINDOW,
        max_window: MAX_WINDOW,
        replay_buffer: REPLAY,
        max_message: 2_000,
        ..Config::default()
    };
    let mut world = World {
        session: Session::new(config),
        peer: None,
        now: Instant::ORIGIN,
        paths: 0,
        unconsumed: 0,
        queued: 0,
        closed: false,
    };
    let mut input = input;
    while let [command, len, rest @ ..] = input {
        let (bytes, rest) = rest.split_at(rest.len().min((*len).into()));
        input = rest;
        world.run(*command, bytes);
        world.check();
    }
});

/// The payload of the handshake.
fn payloads(input: &[u8]) {
    let payload = Bytes::copy_from_slice(input);
    if let Ok(open) = Open::decode(payload.clone()) {
        assert_eq!(Open::decode(open.encode()), Ok(open));
    }
    if let Ok(opened) = Opened::decode(payload) {
        assert_eq!(Opened::decode(opened.encode()), Ok(opened));
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl World {
    fn run(&mut self, command: u8, bytes: &[u8]) {
        match command % 12 {
            0 if self.paths < MAX_PATHS => self.attach(bytes),
            1 => self.session.detach(),
            2 => drop(self.session.poll_record(b"header", 8_192 + number(bytes) as usize % 50_000, self.now)),
            3 if self.session.is_open() => {
                self.queued += bytes.len();
                self.session.send(Message::Binary(Bytes::copy_from_slice(bytes)));
            }
            4 => self.session.close(Some(CloseCode(number(bytes) as u16)), "enough", self.now),
            5 => {
                let taken = self.unconsumed.min(1 + number(bytes) as usize % 1_000);
                self.unconsumed -= taken;
                self.session.consume(taken, self.now);
            }
            6 => {
                self.now += Duration::from_millis(number(bytes) % 60_000);
                self.session.handle_timeout(self.now);
            }
            7 if bytes.len() > 250 => self.session.abort(CloseCode::NORMAL, "at once", false),
            8 => {
                // Sealed as the peer would: the content is the fuzzer's.
                let Some(record) = self.peer.as_mut().and_then(|peer| peer.seal(bytes).ok()) else { return };
                let _ = self.session.handle_record(record, self.now);
            }
            9 => drop(self.session.handle_record(Bytes::copy_from_slice(bytes), self.now)),
            _ => drop(self.session.handle_plaintext(Bytes::copy_from_slice(bytes), self.now)),
        }
    }

    /// A new path; the peer says where it stands.
    fn attach(&mut self, bytes: &[u8]) {
        self.paths += 1;
        let mut initiator = Initiator::new(b"", SERVER.public(), [3; 32]);
        let message = initiator.write_message(&CLIENT, b"").unwrap();
        let (responder, ..) = Responder::read_message(b"", &SERVER, &message).unwrap();
        let (message, ours) = responder.write_message([4; 32], b"").unwrap();
        let (_, peer) = initiator.read_message(&CLIENT, &message).unwrap();
        let (received, limit) = bytes.split_at(bytes.len().min(2));
        let position = Position { received: number(received), limit: number(limit) };
        if self.session.attach(ours, position, self.now) {
            self.peer = Some(peer);
        } else {
            self.session.give_up(CloseCode::PROTOCOL_ERROR, "it can't stand there");
        }
    }

    fn check(&mut self) {
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "nothing follows the end: {event:?}");
            match event {
                SessionEvent::Message(message) => self.unconsumed += message.cost(),
                SessionEvent::Closed(_) => self.closed = true,
            }
        }
        let held = self.session.held();
        assert!(
            held <= MAX_WINDOW + 2 * WINDOW + (self.unconsumed + self.queued) as u64,
            "{held} bytes are held"
        );
        assert!(self.session.buffered_amount() <= self.queued, "what is buffered was sent");
        let _ =
            (self.session.poll_timeout(self.now), self.session.has_record(self.now), self.session.stats());
    }
}
