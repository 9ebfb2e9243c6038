//! Livecode links send any texts, and an engine for injected instructions says anything, for links that are there and for links that have gone. The
//! router neither panics nor keeps more than it may, the engine is never handed two commands of one link nor more than its queue takes, and everything
//! is forgotten in the end.
//!
//! The input is a list of steps: what to do, with which link, and how many of the following bytes are its text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::{
    Config, Dialect, Event, InstructKind, LinkId, LivecodeConfig, Peer, ReadCommand, Router, Said,
};
use tunnel_protocol::{CloseCode, Instant};

const LINKS: usize = 6;
const QUEUE: usize = 2;

/// Bytes of answers that are kept for one link that reads nothing.
const MAX_UNREAD: usize = 4 << 20;

struct World {
    router: Router,
    now: Instant,
    /// Each with the commands that the relay has not read yet.
    links: Vec<(LinkId, VecDeque<ReadCommand>)>,
    gone: Vec<LinkId>,
    /// Links whose command the engine has.
    under_way: BTreeSet<LinkId>,
}

fuzz_target!(|input: &[u8]| {
    let config = Config {
        livecode: Some(LivecodeConfig::new("c", [1; 32])),
        livecode_programs: true,
        livecode_queue: QUEUE,
        ..Config::default()
    };
    let mut world = World {
        router: Router::new(config),
        now: Instant::ORIGIN,
        links: Vec::new(),
        gone: Vec::new(),
        under_way: BTreeSet::new(),
    };
    let mut input = input;
    while let [step, link, len, rest @ ..] = input {
        let (text, rest) = rest.split_at(rest.len().min((*len).into()));
        input = rest;
        world.run(*step, (*link).into(), &String::from_utf8_lossy(text));
    }
    world.end();
});

impl World {
    fn run(&mut self, step: u8, number: usize, text: &str) {
        let place = number % LINKS;
        let link = self.links.get(place).map(|(link, _)| *link);
        match (step % 16, link) {
            (0 | 1, _) if self.links.len() < LINKS => self.open(number),
            (2, Some(link)) => self.close(link),
            (3, Some(link)) => while self.router.poll_transmit(link).is_some() {},
            (4, _) => {
                self.now += Duration::from_millis(number as u64 * 10);
                self.router.handle_timeout(self.now);
            }
            (5, Some(link)) => self.say(Said::Done { link }),
            (6, Some(link)) => self.say(Said::Text { link, text: text.to_owned() }),
            (7, Some(link)) => self.say(Said::Text { link, text: text.repeat(number << 6) }),
            (8, Some(link)) => {
                let code = CloseCode(number as u16 * 20);
                self.say(Said::Close { link, code, reason: text.to_owned() });
            }
            (9, _) => {
                let is_injected = number.is_multiple_of(2);
                self.say(Said::Tunnel { namespace: String::new(), is_injected });
            }
            (10, _) if number == 255 => self.router.drain(Duration::from_secs(1), self.now),
            (10, _) => {
                for link in self.gone.clone() {
                    self.say(Said::Text { link, text: text.to_owned() });
                    self.say(Said::Close { link, code: CloseCode::NORMAL, reason: String::new() });
                    self.say(Said::Done { link });
                }
            }
            // A text as it is; one that is nearly a command; one that is a command.
            (11 | 12, Some(_)) => self.send(place, text.to_owned()),
            (13, Some(_)) => self.send(place, format!(r#"{{"instruction":"add instruction",{text}}}"#)),
            (14, Some(_)) => {
                let name = Instruction::ALL[number / LINKS % 6].name();
                self.send(place, format!(r#"{{"instruction":"{name}","answer":{number},"parameters":[{text}]}}"#));
            }
            (15, Some(_)) => {
                let names = ["add instruction", "eval", "hello", "roll back", "prove", "x", "require", "modules"];
                let name = names[number / LINKS % names.len()];
                let body: String = text.chars().filter(|it| !it.is_control() && !['"', '\\'].contains(it)).collect();
                self.send(
                    place,
                    format!(
                        r#"{{"instruction":"{name}","credential":"c","answer":{number},"parameters":{{"instructionToAdd":"{body}","body":"{body}","name":"{body}"}}}}"#
                    ),
                );
            }
            _ => {}
        }
        self.settle();
    }

    fn open(&mut self, number: usize) {
        let peer = Peer {
            dialect: Dialect::Livecode,
            address: format!("192.0.2.{}", number % 3),
            url: if number > 240 { "wss://relay.example/~no" } else { "wss://relay.example/" }.to_owned(),
            challenge: StaticKey::from_secret([number as u8; 32]),
        };
        let link = self.router.open_link(peer, self.now);
        self.links.push((link, VecDeque::new()));
    }

    fn close(&mut self, link: LinkId) {
        self.router.handle_link_closed(link, self.now);
        self.links.retain(|(other, _)| *other != link);
        self.gone.push(link);
    }

    fn send(&mut self, place: usize, text: String) {
        if let Some((_, unread)) = self.links.get_mut(place)
            && unread.len() < 16
        {
            unread.push_back(ReadCommand::read(text));
        }
        self.feed(place);
    }

    /// Reads a link's commands, until one has to wait: as a relay does.
    fn feed(&mut self, place: usize) {
        while let Some((link, unread)) = self.links.get_mut(place)
            && let Some(command) = unread.pop_front()
        {
            if self.router.must_wait(*link, &command) {
                return unread.push_front(command);
            }
            self.router.handle_read_command(*link, command, self.now);
        }
    }

    fn say(&mut self, said: Said) {
        if let Said::Done { link } = &said {
            self.under_way.remove(link);
        }
        self.router.handle_said(said);
    }

    fn settle(&mut self) {
        while let Some(event) = self.router.poll_event() {
            match event {
                Event::Instruct(instruct) => {
                    assert!(self.links.iter().any(|(link, _)| *link == instruct.link), "of a link that is there");
                    assert!(self.under_way.insert(instruct.link), "one command of a link at a time");
                    assert!(self.under_way.len() <= QUEUE);
                    let is_open = matches!(instruct.kind, InstructKind::Run | InstructKind::Prove);
                    assert!(is_open || instruct.text.contains("credential"));
                }
                Event::Answered(link) => {
                    if let Some(place) = self.links.iter().position(|(other, _)| *other == link) {
                        self.feed(place);
                    }
                }
                Event::Left(link) => {
                    self.under_way.remove(&link);
                }
                Event::Close { link, code, reason } => {
                    assert!(code != CloseCode::ABNORMAL && reason.len() <= 123);
                    self.close(link);
                }
                _ => {}
            }
        }
        assert!(self.router.stats().buffered <= LINKS * (MAX_UNREAD + 200_000));
    }

    /// No command waits once the engine has answered all, and nothing is kept once all links are gone.
    fn end(&mut self) {
        while let Some(link) = self.under_way.first().copied() {
            self.say(Said::Done { link });
            self.settle();
        }
        assert!(self.links.iter().all(|(_, unread)| unread.is_empty()), "a command waits for nothing");
        for link in self.links.iter().map(|(link, _)| *link).collect::<Vec<_>>() {
            self.close(link);
        }
        self.settle();
        let stats = self.router.stats();
        let held = (stats.links, stats.registrations, stats.channel_ends, stats.waiting, stats.buffered);
        assert_eq!(held, (0, 0, 0, 0, 0));
        assert_eq!(self.router.poll_timeout(), None);
    }
}
