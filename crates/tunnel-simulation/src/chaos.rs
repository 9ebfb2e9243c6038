//! Stories made up from a seed, and what must hold in every one of them.
//!
//! * What arrives on a socket is, in order and to the byte, a beginning of what was sent: nothing lost, doubled,
//!   changed or reordered, in either direction.
//! * Memory is bounded at every step: at the peers by what their applications queued and the windows, at the relay by
//!   its configuration.
//! * When the network heals, everything that was sent on a socket that is still open arrives.
//! * Every end is explained by a code that fits what was done.
//! * In one story of four, clients attack the server: they announce, replay, flood and stall. All of the above holds for
//!   the others, and the server holds no more for the attackers than its budgets.
//! * When all sockets have ended, nobody holds anything.
//! * Whatever the relay says: a server's ID is its own, and a client's socket is open, and verified, with the server that was
//!   asked for and no other. No socket is said to be closed cleanly that neither side has closed, and each close has a
//!   code and, if it is not clean, a reason. Once the relay is honest, a new client reaches the server.
//!
//! Some peers say what no other knows, as those of a later version of the protocol would.

mod watch;

use crate::{Evil, HOSTILE_PATH, ORIGIN, Random, World, payload};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Event, SocketId};
use tunnel_protocol::ledger::Ledger;
use tunnel_protocol::time::{Duration, Instant};
use tunnel_protocol::{CloseCode, Message, ServerId, router, session};

/// A summary of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Connections that opened.
    pub opened: u64,
    /// Connections that were resumed, counted at the clients.
    pub resumed: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Faults that were thrown in.
    pub faults: u64,
    /// Times that the relay tampered with something.
    pub deeds: u64,
    /// Times that a hostile client did something.
    pub attacks: u64,
}

/// An invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// The time and the fault.
    pub what: String,
}

const PORT: u16 = 1337;
/// The tab that hosts the server at first; duplicates of it come later.
/// Bytes that each story's pages have for unfinished messages.
const BUDGET: u64 = 32 * 1024 * 1024;

const SERVER: usize = 0;
/// Most duplicates of the server's tab in a story.
const MAX_TWINS: usize = 2;
/// More than any story takes that ends.
const MAX_STEPS: u64 = 300_000;

const CANARY: &[u8] = b"canary: for the two peers only";

/// One connection as the test sees it: what each side sent, and how much of it the other got.
#[derive(Debug, Default)]
struct Pair {
    client: Option<(usize, SocketId)>,
    server: Option<(usize, SocketId)>,
    /// From client to server, and back.
    lanes: [Lane; 2],
    client_open: bool,
    client_end: Option<(CloseCode, bool)>,
    server_end: Option<(CloseCode, bool)>,
    /// The server's page that it belongs to was reloaded.
    orphaned: bool,
    /// One of its two applications closed it.
    asked: bool,
}

#[derive(Debug, Default)]
struct Lane {
    sent: Vec<Message>,
    arrived: usize,
}

struct Run {
    world: World,
    random: Random,
    pairs: Vec<Pair>,
    by_client: BTreeMap<(usize, SocketId), usize>,
    by_server: BTreeMap<(usize, SocketId), usize>,
    /// Tabs with the server's key: the first and its duplicates.
    hosts: Vec<usize>,
    /// Those that host the server, or ask to, as far as they know.
    hosting: BTreeSet<usize>,
    /// The number of other tabs there are, behind the first.
    clients: u64,
    server: ServerId,
    secret: [u8; 32],
    config: Config,
    evil: bool,
    /// The hostile clients, if there are some.
    attacks: Random,
    /// Their sockets at the server.
    attackers: BTreeSet<(usize, SocketId)>,
    relay_up: bool,
    /// Messages that an application has and has not taken in.
    unconsumed: Vec<(usize, SocketId, usize)>,
    steps: u64,
    report: Report,
}

/// Plays one story. The result depends on the seed alone.
///
/// # Errors
///
/// Returns the invariants that did not hold, with the seed that shows it again.
pub fn run(seed: u64) -> Result<Report, Failure> {
    tell(seed, false)
}

/// [`run`], printing what happens if `trace` is set.
///
/// # Errors
///
/// The invariants that did not hold.
pub fn tell(seed: u64, trace: bool) -> Result<Report, Failure> {
    let mut run = Run::new(seed);
    run.world.trace = trace;
    run.play().map_err(|what| {
        let mut text =
            format!("{what}\nat {} us of the story: {}", run.world.now.as_micros(), run.world.agenda());
        for (number, pair) in run.pairs.iter().enumerate() {
            let [up, down] = &pair.lanes;
            let _ = write!(
                text,
                "\npair {number}: client {:?} server {:?}, up {}/{}, down {}/{}, ends {:?} {:?}",
                pair.client,
                pair.server,
                up.arrived,
                up.sent.len(),
                down.arrived,
                down.sent.len(),
                pair.client_end,
                pair.server_end
            );
        }
        Failure { seed, what: text }
    })?;
    Ok(run.report)
}

/// The configuration of one peer: some say what no other knows, as a later version of the protocol would.
fn greased(config: &Config, random: &mut Random) -> Config {
    let mut config = config.clone();
    config.session.greases = random.one_in(3);
    config
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let window = random.choose(&[1, 64, 5_000, 256 * 1024]);
        let session = session::Config {
            window,
            max_window: window * random.choose(&[1, 4]),
            replay_buffer: random.choose(&[100, 10_000, 1024 * 1024]),
            max_message: 1024 * 1024,
            greases: false,
            ledger: Ledger::new(BUDGET),
        };
        let config = Config { relay_url: ORIGIN.to_owned(), session, ..Config::default() };
        let relay = router::Config {
            channel_high: random.choose(&[70_000, 256 * 1024]),
            channel_low: random.choose(&[1_000, 64 * 1024]),
            ..router::Config::default()
        };
        let mut world = World::new(random.next(), relay);
        world.latency = Duration::from_micros(random.choose(&[50, 2_000, 40_000, 300_000]));
        world.rate = random.choose(&[100_000, 2_000_000, 100_000_000]);
        world.canary = Some(CANARY.to_vec());
        let evil = random.one_in(4);
        if evil {
            world.evil = Some(Evil::new(random.choose(&[3, 20, 100])));
        }
        let secret = random.bytes();
        for _ in 0..=random.choose(&[1, 1, 2, 4]) {
            let peer = world.add_peer(greased(&config, &mut random));
            world.peers[peer].obliging = false;
        }
        let clients = world.peers.len() as u64 - 1;
        let server = world.host(SERVER, secret);
        // Dice of their own: the stories of others stay as they are.
        let mut attacks = Random::new(seed ^ 0x5eed_a77a);
        if attacks.one_in(4) {
            for _ in 0..=attacks.below(3) {
                world.add_hostile(server, PORT);
            }
        }
        Self {
            world,
            random,
            pairs: Vec::new(),
            by_client: BTreeMap::new(),
            by_server: BTreeMap::new(),
            hosts: vec![SERVER],
            hosting: BTreeSet::from([SERVER]),
            clients,
            server,
            secret,
            config,
            evil,
            attacks,
            attackers: BTreeSet::new(),
            relay_up: true,
            unconsumed: Vec::new(),
            steps: 0,
            report: Report::default(),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        self.pass(Duration::from_secs(2))?;
        self.connect();
        let most = if self.random.one_in(4) { 32 } else { 12 };
        let acts = 3 + self.random.below(most);
        for _ in 0..acts {
            self.act();
            if self.world.attacks().0 > 0 {
                for _ in 0..self.attacks.below(8) {
                    self.world.attack(&mut self.attacks);
                }
            }
            let pause = self.random.choose(&[0, 100, 3_000, 50_000, 400_000, 3_000_000]);
            let pause = self.random.below(pause + 1);
            self.pass(Duration::from_micros(pause))?;
        }
        self.heal()?;
        // Tabs that share a key take the server from each other, and their clients lose it.
        if self.evil && self.hosts.len() == 1 {
            self.meet_again()?;
        }
        self.close_all()?;
        self.report.deeds = self.world.evil.as_ref().map_or(0, |evil| evil.deeds);
        Ok(())
    }

    /// One thing that an application, or the world, does.
    fn act(&mut self) {
        match self.random.below(20) {
            0 | 1 => self.connect(),
            2..=9 => self.send(),
            10 | 11 => self.consume_some(),
            12 if self.random.one_in(3) => self.close_one(),
            13 | 14 => self.cut(),
            15 if self.relay_up => {
                self.report.faults += 1;
                self.world.kill_relay();
                self.relay_up = false;
            }
            15 | 16 if !self.relay_up => {
                self.world.start_relay();
                self.relay_up = true;
            }
            17 => {
                self.report.faults += 1;
                let peer = self.random.below(self.world.peers.len() as u64) as usize;
                let length = Duration::from_millis(self.random.choose(&[10, 900, 8_000, 40_000]));
                self.world.peers[peer].frozen_until = Some(self.world.now + length);
            }
            18 if self.random.one_in(8) => self.reload_server(),
            18 if self.random.one_in(8) && self.hosts.len() <= MAX_TWINS => self.duplicate_server(),
            19 => {
                let peer = self.random.below(self.world.peers.len() as u64) as usize;
                if self.world.peers[peer].frozen_until.is_none() {
                    self.world.with(peer, |endpoint, now| endpoint.probe(now));
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        let peer = 1 + self.random.below(self.clients) as usize;
        if self.world.peers[peer].frozen_until.is_some() || self.pairs.len() >= 12 {
            return;
        }
        self.dial(peer);
    }

    /// Opens the next pair's socket.
    fn dial(&mut self, peer: usize) -> SocketId {
        let number = self.pairs.len();
        let options = ConnectOptions {
            path: format!("/{number}"),
            resume_timeout: Duration::from_secs(100_000),
            absent_timeout: Duration::from_secs(100_000),
            ..ConnectOptions::default()
        };
        let socket = self.world.connect(peer, self.server, PORT, options);
        self.by_client.insert((peer, socket), number);
        self.pairs.push(Pair { client: Some((peer, socket)), ..Pair::default() });
        socket
    }

    fn send(&mut self) {
        if self.pairs.is_empty() {
            return;
        }
        let number = self.random.below(self.pairs.len() as u64) as usize;
        let direction = self.random.below(2) as usize;
        let Some((peer, socket)) = self.sender(number, direction) else { return };
        if self.world.peers[peer].frozen_until.is_some() {
            return;
        }
        for _ in 0..self.random.choose(&[1, 1, 5, 40]) {
            let len = self.random.choose(&[0, 1, 13, 300, 4_095, 4_096, 20_000, 70_000]);
            // A stream of single bytes tells no more after the first hundreds, and takes a step for each.
            let most = self.config.session.window.min(self.config.session.replay_buffer as u64) * 30;
            let len = len.min(most);
            let message = self.message(len as usize);
            if self.world.peers[peer].endpoint.send(socket, message.clone()).is_ok() {
                self.pairs[number].lanes[direction].sent.push(message);
            }
            if len > 50_000 {
                break;
            }
        }
        self.world.with(peer, |_, _| ());
    }

    fn message(&mut self, len: usize) -> Message {
        let filling = self.random.next();
        if len == 13 {
            return Message::Text(format!("{} {filling}", String::from_utf8_lossy(CANARY)));
        }
        let mut data = vec![filling as u8; len];
        for (byte, mark) in data.iter_mut().zip(filling.to_le_bytes()) {
            *byte = mark;
        }
        Message::Binary(Bytes::from(data))
    }

    fn sender(&self, pair: usize, direction: usize) -> Option<(usize, SocketId)> {
        let pair = &self.pairs[pair];
        if direction == 0 { pair.client } else { pair.server }
    }

    fn consume_some(&mut self) {
        let keep = if self.random.one_in(2) { 0 } else { self.unconsumed.len() / 2 };
        for (peer, socket, len) in self.unconsumed.split_off(keep) {
            if self.world.peers[peer].frozen_until.is_none() {
                self.world.with(peer, |endpoint, now| endpoint.consume(socket, len, now));
            } else {
                self.unconsumed.push((peer, socket, len));
            }
        }
    }

    fn close_one(&mut self) {
        if self.pairs.is_empty() {
            return;
        }
        let number = self.random.below(self.pairs.len() as u64) as usize;
        let direction = self.random.below(2) as usize;
        let Some((peer, socket)) = self.sender(number, direction) else { return };
        if self.world.peers[peer].frozen_until.is_none() {
            self.pairs[number].asked = true;
            self.world
                .with(peer, |endpoint, now| endpoint.close(socket, Some(CloseCode::NORMAL), "enough", now));
        }
    }

    fn cut(&mut self) {
        let connections = self.world.connections();
        if connections.is_empty() {
            return;
        }
        self.report.faults += 1;
        let connection = connections[self.random.below(connections.len() as u64) as usize];
        if self.random.one_in(5) {
            self.world.black_hole(connection);
        } else {
            self.world.cut(connection);
        }
    }

    fn reload_server(&mut self) {
        self.report.faults += 1;
        let host = self.hosts[self.random.below(self.hosts.len() as u64) as usize];
        self.world.peers[host].frozen_until = None;
        let config = greased(&self.config, &mut self.random);
        self.world.reload(host, config);
        self.by_server.retain(|(peer, _), _| *peer != host);
        self.attackers.retain(|(peer, _)| *peer != host);
        self.unconsumed.retain(|(peer, ..)| *peer != host);
        for pair in &mut self.pairs {
            // A client may have its answer while the server's page still waits for the first record.
            pair.orphaned = true;
            if pair.server.is_some_and(|(peer, _)| peer == host) {
                pair.server = None;
            }
        }
        self.host(host);
    }

    /// One more tab has the server's key: the relay takes the newest proof, whoever of them it comes from.
    fn duplicate_server(&mut self) {
        self.report.faults += 1;
        let config = greased(&self.config, &mut self.random);
        let twin = self.world.add_peer(config);
        self.world.peers[twin].obliging = false;
        self.hosts.push(twin);
        self.host(twin);
    }

    fn host(&mut self, peer: usize) {
        let secret = self.secret;
        self.hosting.insert(peer);
        self.world.host(peer, secret);
    }

    fn is_host(&self, peer: usize) -> bool {
        self.hosts.contains(&peer)
    }

    /// Lets time pass, watching.
    fn pass(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.world.now + duration;
        loop {
            self.watch()?;
            if !self.step(end)? {
                break;
            }
        }
        self.world.run_until(end);
        self.watch()
    }

    /// To the next thing that happens before `end`; whether there was one.
    fn step(&mut self, end: Instant) -> Result<bool, String> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err("the story does not end: something goes round in circles".to_owned());
        }
        Ok(self.world.step(end))
    }

    /// The network works again: everything arrives.
    fn heal(&mut self) -> Result<(), String> {
        if !self.relay_up {
            self.world.start_relay();
            self.relay_up = true;
        }
        if let Some(evil) = &mut self.world.evil {
            evil.repent();
        }
        for peer in &mut self.world.peers {
            peer.frozen_until = None;
        }
        self.world.latency = Duration::from_millis(5);
        self.world.rate = 100_000_000;
        for connection in self.world.connections() {
            self.world.cut(connection);
        }
        let end = self.world.now + Duration::from_secs(3_600 * 10);
        loop {
            self.watch()?;
            for (peer, socket, len) in std::mem::take(&mut self.unconsumed) {
                self.world.with(peer, |endpoint, now| endpoint.consume(socket, len, now));
            }
            if self.all_arrived() {
                return Ok(());
            }
            if !self.step(end)? {
                self.watch()?;
                let arrived = self.all_arrived();
                return if arrived {
                    Ok(())
                } else {
                    Err("not everything arrived after the network had healed".to_owned())
                };
            }
        }
    }

    /// Nothing that an evil relay has said keeps a new client from the server when the relay is honest again.
    fn meet_again(&mut self) -> Result<(), String> {
        // The server may wait before it dials again.
        self.pass(Duration::from_secs(60))?;
        let number = self.pairs.len();
        let socket = self.dial(1);
        for direction in [0, 1] {
            self.pass(Duration::from_secs(60))?;
            let message = self.message(300);
            let Some((peer, socket)) = self.sender(number, direction) else {
                let pair = &self.pairs[number];
                return Err(format!("a new client does not reach the server on an honest path: {pair:?}"));
            };
            self.world
                .with(peer, |endpoint, _| endpoint.send(socket, message.clone()))
                .map_err(|error| format!("on an honest path: {error}"))?;
            self.pairs[number].lanes[direction].sent.push(message);
        }
        self.pass(Duration::from_secs(60))?;
        let pair = &self.pairs[number];
        let arrived = pair.lanes.iter().all(|lane| lane.arrived == 1);
        if pair.client == Some((1, socket)) && pair.server.is_some() && arrived {
            return Ok(());
        }
        Err(format!("a new client and the server do not understand each other on an honest path: {pair:?}"))
    }

    /// Everyone closes; nobody holds anything after that.
    fn close_all(&mut self) -> Result<(), String> {
        self.report.attacks = self.world.attacks().1;
        self.world.end_attacks();
        for number in 0..self.pairs.len() {
            self.pairs[number].asked = true;
            if let Some((peer, socket)) = self.pairs[number].client {
                self.world.with(peer, |endpoint, now| endpoint.close(socket, None, "", now));
            }
        }
        self.pass(Duration::from_secs(60))?;
        for host in self.hosts.clone() {
            self.world.with(host, |endpoint, now| endpoint.unhost(now));
        }
        self.world.run_until(self.world.now + Duration::from_secs(400));
        for peer in 0..self.world.peers.len() {
            let endpoint = &self.world.peers[peer].endpoint;
            if endpoint.held() > 0 || !endpoint.is_idle() {
                return Err(format!("peer {peer} still holds {} bytes: {endpoint:#?}", endpoint.held()));
            }
        }
        let stats = self.world.relay_stats().ok_or("the relay is up")?;
        if stats.links + stats.registrations + stats.channel_ends + stats.waiting + stats.buffered > 0 {
            return Err(format!("the relay still holds something: {stats:?}"));
        }
        Ok(())
    }
}

/// The time at which a run's world begins.
#[must_use]
pub fn beginning() -> Instant {
    Instant::from_micros(1_000_000)
}
