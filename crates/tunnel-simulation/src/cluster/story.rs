//! Stories of several relays, made up from a seed, and what must hold in each of them.
//!
//! * What arrives on a socket is, in order, what was sent: nothing lost, doubled or reordered, in either direction; and all of it
//!   arrives when the faults are over.
//! * No session ends because a relay dies, freezes, vanishes, is cut off or is replaced.
//! * No client hears that the server is nowhere while a relay that others know of has its link.
//! * A page that hosts loses its server for good only if another page proved the same key later, or nearly at the same time.
//! * At rest, the server is registered at one relay, if a page hosts it, and else at none.
//! * When all sockets have ended, no relay holds anything.
//!
//! Faults: relays are killed, vanish, freeze, drain and start again; the bus loses, delays, splits and goes away; a liar
//! without the secret repeats and changes what is on it; clocks are wrong; relays can't reach each other; pages lose their links; a
//! second tab hosts the same key.

mod watch;

use super::{End, Note, World};
use crate::{Random, payload};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Event, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::LinkId;
use tunnel_protocol::time::{Duration, Instant};
use tunnel_protocol::{CloseCode, Message, ServerId};

/// A summary of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Connections that opened.
    pub opened: u64,
    /// Connections that were resumed, counted at the clients.
    pub resumed: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Faults that were thrown in.
    pub faults: u64,
    /// Channels that went through two relays.
    pub spliced: u64,
    /// Registrations that another relay's ended.
    pub fenced: u64,
}

/// An invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// The time and the fault.
    pub what: String,
}

/// Something that the story does at a time of its own.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Traffic,
    Connect(usize),
    Twin,
    CutPage,
    Kill { vanishes: bool },
    Start(usize),
    Freeze,
    BusAway,
    BusBack(usize),
    BusSplit,
    NetSplit,
    Whole,
    Drain,
}

/// One connection: what each side sent, and how much of it the other got.
#[derive(Debug, Default)]
struct Pair {
    client: Option<(usize, SocketId)>,
    server: Option<(usize, SocketId)>,
    sent: [u64; 2],
    arrived: [u64; 2],
    is_open: bool,
    end: Option<(CloseCode, String)>,
}

/// A proof of the server's key.
#[derive(Clone, Copy, Debug)]
struct Proof {
    relay: usize,
    link: LinkId,
    at: Instant,
}

struct Story {
    world: World,
    random: Random,
    deeds: BTreeMap<(Instant, u64), Deed>,
    planned: u64,
    pairs: Vec<Pair>,
    by_client: BTreeMap<(usize, SocketId), usize>,
    by_server: BTreeMap<(usize, SocketId), usize>,
    server: ServerId,
    secret: [u8; 32],
    /// Pages that host, as far as they know.
    hosting: BTreeSet<usize>,
    twin: Option<usize>,
    proofs: Vec<Proof>,
    /// Since when a relay has the server's link.
    held: BTreeMap<(usize, LinkId), Instant>,
    /// The clocks of two relays differ by no more than that.
    spread: Duration,
    is_over: bool,
    report: Report,
}

const SERVER: usize = 0;
const PORT: u16 = 1337;
/// Pages that were closed in a hurry find what is left of them gone after this time.
const REST: Duration = Duration::from_secs(150);

/// Plays one story. The result depends on the seed alone.
///
/// # Errors
///
/// Returns the invariant that did not hold, with the seed that shows it again.
pub fn run(seed: u64) -> Result<Report, Failure> {
    tell(seed, false)
}

/// [`run`], printing what happens if `trace` is set.
///
/// # Errors
///
/// The invariant that did not hold.
pub fn tell(seed: u64, trace: bool) -> Result<Report, Failure> {
    let mut story = Story::new(seed);
    story.world.trace = trace;
    story.play().map_err(|what| {
        let mut text = format!("{what}\nat {} us of the story", story.world.now.as_micros());
        for (number, pair) in story.pairs.iter().enumerate() {
            let _ = write!(text, "\npair {number}: {pair:?}");
        }
        let _ =
            write!(text, "\nproofs {:?}\nheld {:?}, hosting {:?}", story.proofs, story.held, story.hosting);
        Failure { seed, what: text }
    })?;
    Ok(story.report)
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x00c1_0517_e500);
        let relays = random.choose(&[2, 3, 3, 5]);
        let mut world = World::new(random.next(), relays);
        let skew = random.choose(&[0, 50_000, 1_000_000, 5_000_000]);
        for relay in &mut world.relays {
            relay.skew = if skew == 0 { 0 } else { random.below(2 * skew) as i64 - skew as i64 };
        }
        world.bus.lies = random.one_in(4);
        let secret = random.bytes();
        let clients = random.choose(&[1, 1, 2, 3]);
        for _ in 0..=clients {
            world.add_page(Config::default());
        }
        let server = ServerId::Key(StaticKey::from_secret(secret).public());
        let mut story = Self {
            world,
            random,
            deeds: BTreeMap::new(),
            planned: 0,
            pairs: Vec::new(),
            by_client: BTreeMap::new(),
            by_server: BTreeMap::new(),
            server,
            secret,
            hosting: BTreeSet::new(),
            twin: None,
            proofs: Vec::new(),
            held: BTreeMap::new(),
            spread: Duration::from_micros(2 * skew),
            is_over: false,
            report: Report::default(),
        };
        story.plan_all(clients);
        story
    }

    fn plan(&mut self, at: u64, deed: Deed) {
        self.planned += 1;
        self.deeds.insert((Instant::from_micros(1_000_000 + at * 1_000), self.planned), deed);
    }

    fn plan_all(&mut self, clients: usize) {
        for client in 1..=clients {
            let at = 500 + self.random.below(12_000);
            self.plan(at, Deed::Connect(client));
        }
        self.plan(10_000, Deed::Traffic);
        let has_twin = self.random.one_in(4);
        for _ in 0..3 + self.random.below(11) {
            let at = 12_000 + self.random.below(25_000);
            let deed = match self.random.below(100) {
                0..25 => Deed::CutPage,
                25..40 => Deed::Kill { vanishes: self.random.one_in(2) },
                40..55 => Deed::Freeze,
                55..67 => Deed::BusAway,
                67..75 => Deed::BusSplit,
                75..82 => Deed::NetSplit,
                82..90 => Deed::Drain,
                _ if has_twin => Deed::Twin,
                _ => Deed::CutPage,
            };
            self.plan(at, deed);
        }
    }

    fn later(&mut self, from: u64, to: u64, deed: Deed) {
        let at = (self.world.now.as_micros() - 1_000_000) / 1_000 + from + self.random.below(to - from);
        self.plan(at, deed);
    }

    fn play(&mut self) -> Result<(), String> {
        self.host(SERVER);
        let faults_end = Instant::from_micros(90_000_000);
        while let Some((&(at, _), _)) = self.deeds.first_key_value()
            && at < faults_end
        {
            self.pass_until(at)?;
            let Some((_, deed)) = self.deeds.pop_first() else { break };
            self.act(deed);
        }
        self.pass_until(faults_end)?;
        self.heal();
        self.pass_until(self.world.now + REST)?;
        self.check_rest()?;
        self.finish()
    }

    fn pass_until(&mut self, at: Instant) -> Result<(), String> {
        loop {
            let more = self.world.step(at);
            self.watch()?;
            if !more {
                return Ok(());
            }
        }
    }

    fn host(&mut self, page: usize) {
        let key = StaticKey::from_secret(self.secret);
        let now = self.world.now;
        self.world.pages[page].endpoint.host(key, now);
        self.hosting.insert(page);
        self.world.pump();
    }

    fn connect(&mut self, page: usize) {
        let number = self.pairs.len();
        let options = ConnectOptions { path: format!("/{number}"), ..ConnectOptions::default() };
        let (now, server) = (self.world.now, self.server);
        let socket = self.world.pages[page].endpoint.connect(server, PORT, options, now);
        self.pairs.push(Pair { client: Some((page, socket)), ..Pair::default() });
        self.by_client.insert((page, socket), number);
        self.world.pump();
    }

    /// One of the relays whose process runs.
    fn any_relay(&mut self) -> Option<usize> {
        let up: Vec<_> = (0..self.world.relays.len())
            .filter(|number| self.world.relays[*number].machine.is_some())
            .collect();
        (!up.is_empty()).then(|| self.random.choose(&up))
    }

    fn act(&mut self, deed: Deed) {
        let is_fault = !matches!(deed, Deed::Traffic | Deed::Connect(_));
        self.report.faults += u64::from(is_fault);
        if self.world.trace && is_fault {
            eprintln!("{:>12} {deed:?}", self.world.now.as_micros());
        }
        match deed {
            Deed::Traffic => {
                self.talk();
                if !self.is_over {
                    self.later(100, 400, Deed::Traffic);
                }
            }
            Deed::Connect(page) => self.connect(page),
            Deed::Twin => self.host_twin(),
            Deed::CutPage => {
                let wires: Vec<_> = self
                    .world
                    .wires
                    .iter()
                    .filter(|(_, wire)| matches!(wire.near, End::Page(..)))
                    .map(|(id, _)| *id)
                    .collect();
                if !wires.is_empty() {
                    let id = self.random.choose(&wires);
                    self.world.cut(id);
                }
            }
            Deed::Kill { vanishes } => {
                if let Some(relay) = self.any_relay() {
                    self.kill(relay, vanishes);
                }
            }
            Deed::Start(relay) => {
                if !self.world.bus.is_reached(relay) {
                    // A relay that starts lets nobody in before it has reached the bus once: others have to know of it.
                    self.later(100, 500, Deed::Start(relay));
                } else if self.world.relays[relay].machine.is_none() {
                    self.world.start(relay);
                }
            }
            Deed::Freeze => {
                if let Some(relay) = self.any_relay() {
                    let until = self.world.now + Duration::from_millis(1_000 + self.random.below(39_000));
                    self.world.relays[relay].frozen_until = Some(until);
                }
            }
            Deed::BusAway => {
                let all = self.random.one_in(3);
                let one = self.random.below(self.world.relays.len() as u64) as usize;
                for relay in 0..self.world.relays.len() {
                    if all || relay == one {
                        self.world.set_bus(relay, false);
                        self.later(500, 30_000, Deed::BusBack(relay));
                    }
                }
            }
            Deed::BusBack(relay) => {
                if !self.world.bus.is_reached(relay) {
                    self.world.set_bus(relay, true);
                }
            }
            Deed::BusSplit => {
                for relay in 0..self.world.relays.len() {
                    let group = self.random.below(2) as u8;
                    self.world.bus.split(relay, group);
                }
                self.later(1_000, 30_000, Deed::Whole);
            }
            Deed::NetSplit => {
                for group in &mut self.world.groups {
                    *group = self.random.below(2) as u8;
                }
                self.later(1_000, 30_000, Deed::Whole);
            }
            Deed::Whole => {
                self.world.groups.fill(0);
                (0..self.world.relays.len()).for_each(|relay| self.world.bus.split(relay, 0));
            }
            Deed::Drain => {
                if let Some(relay) = self.any_relay() {
                    self.world.drain(relay);
                    self.later(11_000, 20_000, Deed::Start(relay));
                }
            }
        }
        self.world.pump();
    }

    fn kill(&mut self, relay: usize, vanishes: bool) {
        self.world.kill(relay, vanishes);
        self.held.retain(|(holder, _), _| *holder != relay);
        self.later(100, 40_000, Deed::Start(relay));
    }

    fn host_twin(&mut self) {
        let page = match self.twin {
            None => {
                let page = self.world.add_page(Config::default());
                self.twin = Some(page);
                page
            }
            Some(page) => self.random.choose(&[SERVER, page]),
        };
        if !self.hosting.contains(&page) {
            self.host(page);
        }
    }

    /// Each open socket sends something, both ways.
    fn talk(&mut self) {
        for number in 0..self.pairs.len() {
            for direction in [0, 1] {
                if self.pairs[number].is_open && self.random.one_in(2) {
                    self.send(number, direction);
                }
            }
        }
        self.world.pump();
    }

    fn send(&mut self, number: usize, direction: usize) {
        let pair = &mut self.pairs[number];
        let Some((page, socket)) = (if direction == 0 { pair.client } else { pair.server }) else { return };
        let mut message = pair.sent[direction].to_be_bytes().to_vec();
        message.resize(8 + self.random.below(4_000) as usize, 0);
        let message = Message::Binary(Bytes::from(message));
        if self.world.pages[page].endpoint.send(socket, message).is_ok() {
            self.pairs[number].sent[direction] += 1;
        }
    }

    /// The faults are over.
    fn heal(&mut self) {
        self.is_over = true;
        self.act(Deed::Whole);
        for relay in 0..self.world.relays.len() {
            self.world.relays[relay].frozen_until = None;
            self.act(Deed::BusBack(relay));
            self.act(Deed::Start(relay));
        }
        // The peer that waits for a swallowed message notices by its timeout.
        self.deeds.clear();
    }

    /// Everything is where it should be when nothing has happened for a while.
    fn check_rest(&mut self) -> Result<(), String> {
        let registered: usize = self.machines().map(|machine| machine.router.stats().registrations).sum();
        if registered != usize::from(!self.hosting.is_empty()) {
            return Err(format!(
                "{registered} relays have the server, which {} pages host",
                self.hosting.len()
            ));
        }
        for (number, pair) in self.pairs.iter().enumerate() {
            if pair.is_open && self.twin.is_none() && pair.arrived != pair.sent {
                return Err(format!("not everything arrived: pair {number}"));
            }
        }
        self.report.spliced = self.machines().map(|machine| machine.router.stats().spliced_out).sum();
        if self.hosting.is_empty() {
            return Ok(());
        }
        // A new client of each relay reaches the server.
        let page = self.world.add_page(Config::default());
        let number = self.pairs.len();
        self.connect(page);
        self.pass_until(self.world.now + Duration::from_secs(10))?;
        if !self.pairs[number].is_open {
            return Err("a new client does not reach the server".to_owned());
        }
        Ok(())
    }

    fn machines(&self) -> impl Iterator<Item = &super::Machine> {
        self.world.relays.iter().filter_map(|relay| relay.machine.as_ref())
    }

    /// All close; no relay holds anything after that.
    fn finish(&mut self) -> Result<(), String> {
        let now = self.world.now;
        for number in 0..self.pairs.len() {
            if let Some((page, socket)) = self.pairs[number].client {
                self.world.pages[page].endpoint.close(socket, None, "", now);
            }
        }
        self.pass_until(self.world.now + Duration::from_secs(60))?;
        let now = self.world.now;
        self.world.pages.iter_mut().for_each(|page| page.endpoint.unhost(now));
        self.pass_until(self.world.now + Duration::from_secs(400))?;
        for machine in self.machines() {
            let stats = machine.router.stats();
            let pages = stats.links - stats.node_links;
            if pages + stats.registrations + stats.channel_ends + stats.waiting + stats.buffered > 0 {
                return Err(format!("a relay still holds something: {stats:?}"));
            }
            if machine.presence.stats().wanted > 0 {
                return Err("a relay still looks for a server".to_owned());
            }
        }
        Ok(())
    }
}
