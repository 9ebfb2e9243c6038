//! Stories of livecode peers at a router whose engine is a script; all of it follows from a seed.
//!
//! The peers send commands, stop reading for a while, and leave. The engine answers late, in another order than it was asked, never, with more
//! than a link may leave unread, for links that are gone, and after an instruction has been replaced. The owner of the router does what the relay
//! does: it leaves a link's commands unread while [`Router::must_wait`] says so, and goes on at [`Event::Answered`].
//!
//! In every story must hold:
//!
//! * Each command has one answer at most; the answers of a link come in the order of its commands; no link gets a text for another one.
//! * No more commands of a namespace are with the engine than its queue takes, and no more bytes; nothing is kept for a link that reads nothing but
//!   [`MAX_UNREAD`].
//! * A namespace's engine hears of the commands of its links only, and of the tunnel's names only while they are injected.
//! * A link is closed for a reason: it reads too little, the engine closes it, or the router drains.
//! * No command waits while nothing of its namespace is with the engine. When all links are gone, the router holds nothing.

mod engine;
mod peers;

use crate::Random;
use engine::{Deed, Engine};
use peers::Peer;
use std::collections::{BTreeMap, BTreeSet};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{self, Dialect, Event, LinkId, LivecodeConfig, Router, Said, Transmit};
use tunnel_protocol::time::{Duration, Instant};

/// Bytes of answers that the router keeps for a link that does not read, overhead included.
const MAX_UNREAD: usize = 4 << 20;

/// Bytes of one namespace's commands that may be with the engine.
const MAX_INSTRUCTED: usize = 16 << 20;

/// The namespaces, and the credential of each.
const NAMESPACES: [(&str, &str); 2] = [("", "the credential"), ("tea", "the credential of tea")];

/// SHA-256 of the second credential.
const TEA: [u8; 32] = [
    0xdf, 0x37, 0x1e, 0x78, 0x34, 0xb8, 0xa0, 0x9a, 0x6f, 0x10, 0xc5, 0x9f, 0x45, 0xd4, 0x9a, 0x04, 0xae,
    0x4e, 0xaf, 0xbe, 0xc0, 0xf2, 0xcc, 0xc3, 0xed, 0x9b, 0x37, 0x35, 0x1d, 0xb5, 0x99, 0xf1,
];

/// The time for which peers and the engine do things.
const PLAY: Duration = Duration::from_secs(30);

/// The counts of a story in which all held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Commands that peers sent.
    pub commands: u64,
    /// Commands that the engine was handed.
    pub instructed: u64,
    /// Answers of the engine that arrived.
    pub answered: u64,
    /// Things that the engine said for links that were gone.
    pub in_vain: u64,
    /// Commands that waited for a place in the engine's queue.
    pub waited: u64,
    /// Commands that were refused because too many bytes were with the engine.
    pub refused: u64,
    /// Links that were closed since their peers read too little.
    pub overfilled: u64,
    /// Links that the engine closed.
    pub closed: u64,
    /// Answers of a version that had been replaced.
    pub outdated: u64,
}

/// Something that will happen.
#[derive(Clone, Debug)]
enum Plan {
    /// A peer joins.
    Join,
    /// A peer sends some commands.
    Speak(LinkId),
    /// A peer reads nothing, or again.
    Read(LinkId, bool),
    /// A peer leaves.
    Leave(LinkId),
    /// The engine does something.
    Engine(Deed),
}

/// One story.
struct Story {
    random: Random,
    now: Instant,
    router: Router,
    peers: BTreeMap<LinkId, Peer>,
    /// Links that have gone.
    gone: Vec<LinkId>,
    engine: Engine,
    plans: BTreeMap<(Instant, u64), Plan>,
    planned: u64,
    /// The number of links that were opened.
    opened: u64,
    /// Of the next command.
    number: u64,
    queue: usize,
    /// True if commands are long, so that their bytes come to the limit.
    is_heavy: bool,
    is_draining: bool,
    trace: bool,
    report: Report,
}

/// Plays the story of a seed.
///
/// # Errors
///
/// The rule that did not hold.
pub fn run(seed: u64) -> Result<Report, String> {
    tell(seed, false)
}

/// As [`run`]; with `trace`, prints what happens.
///
/// # Errors
///
/// The rule that did not hold.
pub fn tell(seed: u64, trace: bool) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let is_heavy = random.one_in(16);
    let queue = if is_heavy { 256 } else { random.choose(&[1, 2, 4, 256]) };
    let mut livecode = LivecodeConfig::new(NAMESPACES[0].1, [0x5e; 32]);
    livecode.namespaces.insert(NAMESPACES[1].0.to_owned(), TEA);
    let config = router::Config {
        livecode: Some(livecode),
        livecode_programs: true,
        livecode_queue: queue,
        idle_timeout: Duration::from_secs(3_600),
        ..router::Config::default()
    };
    let mut story = Story {
        random,
        now: Instant::from_micros(1_000_000),
        router: Router::new(config),
        peers: BTreeMap::new(),
        gone: Vec::new(),
        engine: Engine::default(),
        plans: BTreeMap::new(),
        planned: 0,
        opened: 0,
        number: 0,
        queue,
        is_heavy,
        is_draining: false,
        trace,
        report: Report::default(),
    };
    story.play().map_err(|what| format!("at {} µs: {what}", story.now.as_micros()))?;
    Ok(story.report)
}

impl Story {
    fn play(&mut self) -> Result<(), String> {
        let joining = if self.is_heavy { 40 } else { 3 + self.random.below(10) };
        for _ in 0..joining {
            let after = self.random.below(5_000);
            self.plan(after, Plan::Join);
        }
        let end = self.now + PLAY;
        let is_drained = self.random.one_in(6);
        self.pass_until(end)?;
        if is_drained {
            return self.drain();
        }
        self.rest()?;
        self.leave_all()
    }

    /// Has something happen after so many milliseconds.
    fn plan(&mut self, after: u64, plan: Plan) {
        self.planned += 1;
        self.plans.insert((self.now + Duration::from_millis(after), self.planned), plan);
    }

    fn pass_until(&mut self, end: Instant) -> Result<(), String> {
        while let Some((&(at, number), _)) = self.plans.first_key_value()
            && at <= end
        {
            self.now = self.now.max(at);
            let Some(plan) = self.plans.remove(&(at, number)) else { break };
            self.act(plan)?;
            self.settle()?;
        }
        self.now = end;
        self.router.handle_timeout(end);
        self.settle()
    }

    fn act(&mut self, plan: Plan) -> Result<(), String> {
        match plan {
            Plan::Join => self.join(),
            Plan::Speak(link) => self.speak(link)?,
            Plan::Read(link, reads) => {
                if let Some(peer) = self.peers.get_mut(&link) {
                    peer.reads = reads;
                    let after = if reads { 3_000 } else { 100 } + self.random.below(5_000);
                    self.plan(after, Plan::Read(link, !reads));
                }
            }
            Plan::Leave(link) => {
                self.leave(link);
                self.plan(1_000, Plan::Join);
            }
            Plan::Engine(deed) => self.perform(deed)?,
        }
        Ok(())
    }

    /// A peer joins, of whom nothing is known but what it will do.
    fn join(&mut self) {
        let namespace = if self.is_heavy { 0 } else { self.random.below(2) as usize };
        let link = self.open(namespace);
        for (most, plan) in
            [(1_000, Plan::Speak(link)), (20_000, Plan::Read(link, false)), (40_000, Plan::Leave(link))]
        {
            let after = self.random.below(most);
            self.plan(after, plan);
        }
    }

    /// Opens a link to a namespace.
    fn open(&mut self, namespace: usize) -> LinkId {
        self.opened += 1;
        let path = if namespace == 1 { "~tea" } else { "" };
        let peer = router::Peer {
            dialect: Dialect::Livecode,
            address: format!("192.0.2.{}", self.opened % 250),
            url: format!("wss://relay.example/{path}"),
            challenge: StaticKey::from_secret(self.random.bytes()),
        };
        let link = self.router.open_link(peer, self.now);
        self.peers.insert(link, Peer::new(namespace));
        link
    }

    /// The WebSocket of a link is gone.
    fn leave(&mut self, link: LinkId) {
        let Some(peer) = self.peers.remove(&link) else { return };
        if self.trace {
            eprintln!(
                "{:>12} {link} leaves with {} commands unanswered",
                self.now.as_micros(),
                peer.asked.len()
            );
        }
        self.router.handle_link_closed(link, self.now);
        self.gone.push(link);
    }

    /// Does what the router wants, and checks it, until it wants nothing.
    fn settle(&mut self) -> Result<(), String> {
        while let Some(event) = self.router.poll_event() {
            match event {
                Event::Writable(_) => {}
                Event::Instruct(instruct) => self.take_instruct(*instruct)?,
                Event::Answered(link) => self.feed(link)?,
                Event::Left(link) => self.forget(link)?,
                Event::Close { link, code, reason } => self.see_close(link, code, &reason)?,
                Event::Drained if self.is_draining && self.peers.is_empty() => {}
                event => return Err(format!("unexpected: {event:?}")),
            }
        }
        let links: Vec<_> = self.peers.iter().filter(|(_, peer)| peer.reads).map(|(link, _)| *link).collect();
        for link in links {
            self.read(link)?;
        }
        self.check_quotas()
    }

    /// A peer reads all that there is for it.
    fn read(&mut self, link: LinkId) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(&link) else { return Ok(()) };
        while let Some(transmit) = self.router.poll_transmit(link) {
            let Transmit::Text(text) = transmit else { return Err("a frame for a livecode link".to_owned()) };
            peer.unread = 0;
            peer.hear(link, &text, &mut self.report).map_err(|what| format!("{link}: {what}"))?;
        }
        Ok(())
    }

    fn check_quotas(&self) -> Result<(), String> {
        for namespace in 0..NAMESPACES.len() {
            let (commands, bytes) = self.engine.under_way(namespace);
            if commands > self.queue || bytes > MAX_INSTRUCTED {
                return Err(format!("{commands} commands of {bytes} bytes are with the engine"));
            }
            let mut peers = self.peers.iter().filter(|(_, peer)| peer.namespace == namespace);
            let waiting = peers.find(|(_, peer)| !peer.commands.is_empty());
            if let (0, Some((link, peer))) = (commands, waiting) {
                return Err(format!("{link} waits with {} commands, and for none", peer.commands.len()));
            }
        }
        let stats = self.router.stats();
        if stats.buffered > self.peers.len() * MAX_UNREAD {
            return Err(format!("{} bytes are kept for {} links", stats.buffered, self.peers.len()));
        }
        Ok(())
    }

    /// The engine answers all, the peers read all: then nothing waits.
    fn rest(&mut self) -> Result<(), String> {
        self.plans.clear();
        self.peers.values_mut().for_each(|peer| peer.reads = true);
        while let Some(link) = self.engine.any_under_way() {
            self.answer(link)?;
            self.settle()?;
        }
        self.settle()?;
        for (link, peer) in &self.peers {
            if !peer.commands.is_empty() || self.router.is_busy(*link) {
                return Err(format!("{link} has {} commands that nobody takes", peer.commands.len()));
            }
            if !peer.has_all_answers() {
                return Err(format!("{link} waits for {:?}", peer.asked.front()));
            }
        }
        Ok(())
    }

    /// All leave; then the queues are as long as before, and nothing is held.
    fn leave_all(&mut self) -> Result<(), String> {
        for link in self.peers.keys().copied().collect::<BTreeSet<_>>() {
            self.leave(link);
        }
        self.settle()?;
        self.speak_in_vain()?;
        let stats = self.router.stats();
        let held = stats.links + stats.registrations + stats.channel_ends + stats.waiting + stats.buffered;
        if held > 0 || self.router.poll_timeout().is_some() || self.engine.any_under_way().is_some() {
            return Err(format!("the router holds something: {stats:?}"));
        }
        self.is_heavy = false;
        for namespace in 0..NAMESPACES.len() {
            self.fill_queue(namespace)?;
        }
        Ok(())
    }

    /// An engine's words about links that are gone have no effect.
    fn speak_in_vain(&mut self) -> Result<(), String> {
        for link in std::mem::take(&mut self.gone) {
            let text = "for nobody".to_owned();
            for said in [Said::Text { link, text }, Said::Done { link }] {
                self.router.handle_said(said);
            }
        }
        match self.router.poll_event() {
            None => Ok(()),
            Some(event) => Err(format!("a link that is gone has an effect: {event:?}")),
        }
    }

    /// The router is drained while commands are with the engine.
    fn drain(&mut self) -> Result<(), String> {
        self.plans.clear();
        self.is_draining = true;
        self.router.drain(Duration::from_secs(1), self.now);
        self.pass_until(self.now + Duration::from_secs(2))?;
        if !self.peers.is_empty() || self.router.stats().links + self.router.stats().buffered > 0 {
            return Err(format!("after draining: {:?}", self.router.stats()));
        }
        self.speak_in_vain()
    }
}
