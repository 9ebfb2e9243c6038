//! A handful of links send anything in any order: the router neither panics nor keeps more than it may, and
//! forgets them all.
//!
//! The input is a list of commands: what to do, with which link, and how many of the following bytes are its message.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use std::time::Duration;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Config, Dialect, Event, LinkId, LivecodeConfig, Peer, Router};
use tunnel_protocol::{Frame, Instant, registration};

/// More than this is held of nothing but frames that are queued in any case.
const LIMIT: usize = 40_000;
const LINKS: usize = 8;

struct World {
    router: Router,
    now: Instant,
    links: Vec<LinkId>,
}

fuzz_target!(|input: &[u8]| {
    let livecode = Some(LivecodeConfig::new("c", [1; 32]));
    let config = Config {
        max_channels: 4,
        max_incoming: 4,
        channel_buffer: 2_000,
        channel_high: 500,
        channel_low: 200,
        link_buffer: 8_000,
        total_buffer: LIMIT,
        max_waiting: 3,
        max_waiting_per_link: 2,
        livecode,
        ..Config::default()
    };
    let mut world = World { router: Router::new(config), now: Instant::ORIGIN, links: Vec::new() };
    let mut input = input;
    while let [command, link, len, rest @ ..] = input {
        let (message, rest) = rest.split_at(rest.len().min((*len).into()));
        input = rest;
        world.run(*command, (*link).into(), message);
    }
    for link in std::mem::take(&mut world.links) {
        world.router.handle_link_closed(link, world.now);
    }
    let stats = world.router.stats();
    assert_eq!(
        (stats.links, stats.registrations, stats.channel_ends, stats.waiting, stats.buffered),
        (0, 0, 0, 0, 0)
    );
    assert_eq!(world.router.poll_timeout(), None);
});

impl World {
    fn run(&mut self, command: u8, number: usize, message: &[u8]) {
        let link = self.links.get(number % LINKS).copied();
        match (command % 16, link) {
            (0, _) if self.links.len() < LINKS => self.open(Dialect::Tunnel, number as u8),
            (1, _) if self.links.len() < LINKS => self.open(Dialect::Livecode, number as u8),
            (2, Some(link)) => {
                self.router.handle_link_closed(link, self.now);
                self.links.retain(|other| *other != link);
            }
            (3, Some(link)) => while self.router.poll_transmit(link).is_some() {},
            (4, Some(link)) => drop(self.router.poll_transmit(link)),
            (5, _) => {
                self.now += Duration::from_millis(number as u64 * 100);
                self.router.handle_timeout(self.now);
            }
            (6, Some(link)) => self.router.handle_text(link, &String::from_utf8_lossy(message), self.now),
            (7, Some(link)) => self.register(link, number as u8, message),
            (8, Some(link)) => {
                let hello =
                    Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
                self.send(link, &hello.encode());
            }
            (9, _) if number == 255 => self.router.drain(Duration::from_secs(5), self.now),
            (10, Some(link)) => self.router.handle_alive(link, self.now),
            (_, Some(link)) => self.send(link, message),
            _ => {}
        }
        while let Some(event) = self.router.poll_event() {
            if let Event::Writable(link) = event {
                assert!(self.links.contains(&link) || self.router.poll_transmit(link).is_none());
            }
        }
        // WELCOME, CLOSE and the answers of the livecode dialect are queued in any case.
        assert!(self.router.stats().buffered <= LIMIT + LINKS * 4_300_000);
    }

    fn open(&mut self, dialect: Dialect, secret: u8) {
        let (address, url) = ("192.0.2.1".to_owned(), "wss://relay.example/".to_owned());
        let challenge = StaticKey::from_secret([secret; 32]);
        let link = self.router.open_link(Peer { dialect, address, url, challenge }, self.now);
        self.links.push(link);
    }

    /// Registers a key whose proof the fuzzer could not guess.
    fn register(&mut self, link: LinkId, secret: u8, message: &[u8]) {
        let challenge = StaticKey::from_secret([message.first().copied().unwrap_or(secret); 32]).public();
        let key = StaticKey::from_secret([1 + secret % 2; 32]);
        let Ok(proof) = registration::prove(&key, &challenge, "wss://relay.example/") else { return };
        // The URL that it dialled is the server's word.
        let url = String::from_utf8_lossy(message.get(1..).unwrap_or_default()).into_owned();
        self.send(link, &Frame::Register { key: key.public(), proof, url }.encode());
    }

    fn send(&mut self, link: LinkId, message: &[u8]) {
        self.router.handle_message(link, BytesMut::from(message), self.now);
    }
}
