//! Peers, a relay and the network between them on a simulated clock.
//!
//! The machines are the real ones of `tunnel-protocol`; only sockets and clocks are replaced. A [`World`] is made
//! from a seed, and the same seed gives the same run to the last byte.
//!
//! * [`World`] is for stories: open, send, cut, look at what the applications saw.
//! * [`livecode`] makes up stories of a router with a scripted engine for injected instructions.
//! * [`chaos`] makes up a story from a seed and checks what must hold in every story.

pub mod chaos;
pub mod cluster;
mod evil;
mod hostile;
pub mod livecode;
mod network;
mod random;
mod turns;

pub use evil::Evil;
pub use hostile::{HOSTILE_PATH, Hostile};
pub use random::Random;

use bytes::Bytes;
use network::Connection;
use std::collections::{BTreeMap, VecDeque};
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{self, Router};
use tunnel_protocol::time::{Duration, Instant};
use tunnel_protocol::{CloseCode, ServerId};

/// One page.
#[derive(Debug)]
pub struct Peer {
    /// Its machine.
    pub endpoint: Endpoint,
    /// The events for its application that it has not looked at.
    pub events: VecDeque<Event>,
    /// It runs nothing until then.
    pub frozen_until: Option<Instant>,
    /// True if every client is let in without asking, and every message consumed at once.
    pub obliging: bool,
}

/// The relay's state.
#[derive(Debug)]
enum Relay {
    Up(Box<Router>),
    /// Connections are refused.
    Down,
}

/// A network of peers around one relay.
#[derive(Debug)]
pub struct World {
    /// The time.
    pub now: Instant,
    /// One-way delay of connections made from now on.
    pub latency: Duration,
    /// Bytes a second of connections made from now on.
    pub rate: u64,
    /// The peers, by number.
    pub peers: Vec<Peer>,
    /// The protocol that the relay speaks, whatever is offered.
    pub dialect: router::Dialect,
    /// The changes that the relay makes to what it forwards.
    pub evil: Option<Evil>,
    /// True if events are printed as they happen.
    pub trace: bool,
    /// A text that must never be seen in what the relay handles.
    pub canary: Option<Vec<u8>>,
    hostiles: Vec<Hostile>,
    relay: Relay,
    relay_config: router::Config,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    random: Random,
}

/// The name under which peers dial the relay.
pub const ORIGIN: &str = "wss://relay.example:8087/";

impl World {
    /// A relay without peers.
    #[must_use]
    pub fn new(seed: u64, relay: router::Config) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            latency: Duration::from_millis(20),
            rate: 10_000_000,
            peers: Vec::new(),
            dialect: router::Dialect::Tunnel,
            evil: None,
            trace: false,
            canary: None,
            hostiles: Vec::new(),
            relay: Relay::Up(Box::new(Router::new(relay.clone()))),
            relay_config: relay,
            connections: BTreeMap::new(),
            next_connection: 0,
            random: Random::new(seed),
        }
    }

    /// Adds a page; returns its number.
    pub fn add_peer(&mut self, config: Config) -> usize {
        let endpoint = self.new_endpoint(config);
        self.peers.push(Peer { endpoint, events: VecDeque::new(), frozen_until: None, obliging: true });
        self.peers.len() - 1
    }

    fn new_endpoint(&mut self, config: Config) -> Endpoint {
        Endpoint::new(Config { relay_url: ORIGIN.to_owned(), ..config }, self.random.bytes())
    }

    /// The page is loaded anew: it knows nothing. Its connections end.
    pub fn reload(&mut self, peer: usize, config: Config) {
        for connection in self.connections_of(peer) {
            self.cut(connection);
        }
        self.peers[peer].endpoint = self.new_endpoint(config);
        self.peers[peer].events.clear();
    }

    /// Hosts a server; returns its ID.
    pub fn host(&mut self, peer: usize, secret: [u8; 32]) -> ServerId {
        let key = StaticKey::from_secret(secret);
        let server_id = ServerId::Key(key.public());
        let now = self.now;
        self.peers[peer].endpoint.host(key, now);
        self.pump();
        server_id
    }

    /// Opens a socket.
    pub fn connect(&mut self, peer: usize, server: ServerId, port: u16, options: ConnectOptions) -> SocketId {
        let now = self.now;
        let socket = self.peers[peer].endpoint.connect(server, port, options, now);
        self.pump();
        socket
    }

    /// Does something to a peer's endpoint, and what follows from it at this time.
    pub fn with<T>(&mut self, peer: usize, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.peers[peer].endpoint, now);
        self.pump();
        result
    }

    /// The peer's connections to the relay.
    #[must_use]
    pub fn connections_of(&self, peer: usize) -> Vec<u64> {
        self.connections.iter().filter(|(_, connection)| connection.peer == peer).map(|(id, _)| *id).collect()
    }

    /// All connections.
    #[must_use]
    pub fn connections(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    /// A connection is gone at once, with all that is on its way; both sides notice.
    pub fn cut(&mut self, connection: u64) {
        let Some(connection) = self.connections.remove(&connection) else { return };
        if self.trace {
            eprintln!("{:>12} peer {} is cut from the relay", self.now.as_micros(), connection.peer);
        }
        let now = self.now;
        if let (Relay::Up(router), Some(link)) = (&mut self.relay, connection.relay_link) {
            router.handle_link_closed(link, now);
        }
        let endpoint = &mut self.peers[connection.peer].endpoint;
        endpoint.handle_link_closed(connection.peer_link, CloseCode::ABNORMAL, "", now);
    }

    /// A connection swallows everything from now on, and nobody is told.
    pub fn black_hole(&mut self, connection: u64) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.latency = network::NEVER;
        }
    }

    /// Adds a client that attacks a server's port.
    pub fn add_hostile(&mut self, server: ServerId, port: u16) {
        let number = self.hostiles.len() as u64;
        self.hostiles.push(Hostile::new(server, port, number));
    }

    /// Has each of the hostile clients do something, if the relay is up; `random` says what.
    pub fn attack(&mut self, random: &mut Random) {
        let now = self.now;
        if let Relay::Up(router) = &mut self.relay {
            for hostile in &mut self.hostiles {
                hostile.act(router, ORIGIN, random, now);
            }
        }
        self.pump();
    }

    /// The hostile clients go.
    pub fn end_attacks(&mut self) {
        let now = self.now;
        for hostile in std::mem::take(&mut self.hostiles) {
            if let (Relay::Up(router), Some(link)) = (&mut self.relay, hostile.link()) {
                router.handle_link_closed(link, now);
            }
        }
        self.pump();
    }

    /// Returns the number of hostile clients, and how often they did something.
    #[must_use]
    pub fn attacks(&self) -> (usize, u64) {
        (self.hostiles.len(), self.hostiles.iter().map(|hostile| hostile.deeds).sum())
    }

    /// The relay's process is killed: connections end, new ones are refused.
    pub fn kill_relay(&mut self) {
        self.relay = Relay::Down;
        self.hostiles.iter_mut().for_each(Hostile::lose_link);
        for connection in self.connections() {
            self.cut(connection);
        }
    }

    /// The relay's process is started anew; it knows nothing.
    pub fn start_relay(&mut self) {
        self.relay = Relay::Up(Box::new(Router::new(self.relay_config.clone())));
    }

    /// Returns what the relay holds; `None` while it is down.
    #[must_use]
    pub fn relay_stats(&self) -> Option<router::Stats> {
        match &self.relay {
            Relay::Up(router) => Some(router.stats()),
            Relay::Down => None,
        }
    }

    /// Lets time pass until `end`, with all that happens.
    pub fn run_until(&mut self, end: Instant) {
        loop {
            self.pump();
            match self.next_at() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
        }
        self.now = end;
        self.pump();
    }

    /// Lets so much time pass.
    pub fn advance(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Takes one step to the next thing that happens; `false` if nothing would, before `end`.
    pub fn step(&mut self, end: Instant) -> bool {
        self.pump();
        match self.next_at() {
            Some(at) if at <= end => {
                self.now = self.now.max(at);
                self.pump();
                true
            }
            _ => false,
        }
    }

    /// The next event of a peer's application, with its time; steps until there is one or `limit` has passed.
    pub fn next_event(&mut self, peer: usize, limit: Duration) -> Option<Event> {
        let end = self.now + limit;
        loop {
            if let Some(event) = self.peers[peer].events.pop_front() {
                return Some(event);
            }
            if !self.step(end) {
                return None;
            }
        }
    }

    fn next_at(&self) -> Option<Instant> {
        let lanes = self.connections.values().flat_map(|connection| {
            let thawed = self.peers[connection.peer].frozen_until;
            let to_peer = connection.to_peer.next_at().map(|at| thawed.map_or(at, |until| at.max(until)));
            [connection.to_relay.next_at(), to_peer]
        });
        let peers = self.peers.iter().map(|peer| match peer.frozen_until {
            Some(until) => Some(until),
            None => peer.endpoint.poll_timeout(),
        });
        let relay = match &self.relay {
            Relay::Up(router) => router.poll_timeout(),
            Relay::Down => None,
        };
        lanes.chain(peers).chain([relay]).flatten().min()
    }

    /// Returns what waits for which time, for those who look for a fault.
    #[must_use]
    pub fn agenda(&self) -> String {
        let peers: Vec<_> =
            self.peers.iter().map(|peer| (peer.frozen_until, peer.endpoint.poll_timeout())).collect();
        let lanes: Vec<_> = self
            .connections
            .values()
            .map(|found| (found.peer, found.to_relay.next_at(), found.to_peer.next_at()))
            .collect();
        let relay = match &self.relay {
            Relay::Up(router) => router.poll_timeout(),
            Relay::Down => None,
        };
        format!("peers {peers:?}, connections {lanes:?}, relay {relay:?}")
    }
}

/// The bytes of a binary message, or of a text's UTF-8.
#[must_use]
pub fn payload(message: &tunnel_protocol::Message) -> Bytes {
    match message {
        tunnel_protocol::Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        tunnel_protocol::Message::Binary(data) => data.clone(),
    }
}
