//! Peers, a relay and the network between them on a simulated clock.
//!
//! The machines are the real ones of `tunnel-protocol`; only sockets and clocks are replaced. A [`World`] is made
//! from a seed, and the same seed gives the same run to the last byte.
//!
//! * [`World`] is for stories: open, send, cut, look at what the applications saw.
//! * [`chaos`] makes up a story from a seed and checks what must hold in every story.

pub mod chaos;
mod evil;
mod hostile;
mod network;
mod random;

pub use evil::Evil;
pub use hostile::{HOSTILE_PATH, Hostile};
pub use random::Random;

use bytes::{Bytes, BytesMut};
use network::{Connection, Parcel};
use std::collections::{BTreeMap, VecDeque};
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::livecode::LivecodeLink;
use tunnel_protocol::router::{self, Router};
use tunnel_protocol::time::{Duration, Instant};
use tunnel_protocol::{CloseCode, ServerId, early};

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

    /// Does all that is due now.
    fn pump(&mut self) {
        let now = self.now;
        for peer in &mut self.peers {
            if peer.frozen_until.is_some_and(|until| until <= now) {
                peer.frozen_until = None;
            }
            if peer.frozen_until.is_none() {
                peer.endpoint.handle_timeout(now);
            }
        }
        if let Relay::Up(router) = &mut self.relay {
            // A browser answers WebSocket pings though its page is frozen.
            for connection in self.connections.values().filter(|connection| !connection.is_black_hole()) {
                if let Some(link) = connection.relay_link
                    && self.peers[connection.peer].frozen_until.is_some()
                {
                    router.handle_alive(link, now);
                }
            }
            router.handle_timeout(now);
        }
        while self.deliver() | self.drain_peers() | self.drain_relay() {}
    }

    /// Brings what has arrived; whether there was anything.
    fn deliver(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for id in self.connections() {
            while let Some(parcel) =
                self.connections.get_mut(&id).and_then(|found| found.to_relay.pop_due(now))
            {
                self.arrive_at_relay(id, parcel);
                moved = true;
            }
            let frozen = |world: &Self, id| {
                world
                    .connections
                    .get(&id)
                    .is_some_and(|found: &Connection| world.peers[found.peer].frozen_until.is_some())
            };
            while !frozen(self, id)
                && let Some(parcel) =
                    self.connections.get_mut(&id).and_then(|found| found.to_peer.pop_due(now))
            {
                self.arrive_at_peer(id, parcel);
                moved = true;
            }
        }
        moved
    }

    fn arrive_at_relay(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        self.look_for_canary(&parcel);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // Some proxies refuse a handshake with headers as long as those that have frames in them.
        let refused =
            matches!(&parcel, Parcel::Open { early } if !early.is_empty() && self.random.below(6) == 0);
        let relay = if refused { None } else { Some(&mut self.relay) };
        let Some(Relay::Up(router)) = relay else {
            // Nobody listens.
            let (peer, link) = (connection.peer, connection.peer_link);
            self.connections.remove(&id);
            self.peers[peer].endpoint.handle_link_closed(
                link,
                CloseCode::ABNORMAL,
                "connection refused",
                now,
            );
            return;
        };
        match (parcel, connection.relay_link) {
            (Parcel::Open { mut early }, _) => {
                let peer = router::Peer {
                    dialect: self.dialect,
                    address: format!("192.0.2.{}", connection.peer),
                    url: ORIGIN.to_owned(),
                    challenge: StaticKey::from_secret(self.random.bytes()),
                };
                let link = router.open_link(peer, now);
                connection.relay_link = Some(link);
                // A relay need not take them, and one that speaks another dialect doesn't.
                if self.dialect == router::Dialect::Livecode
                    || self.random.choose(&[false, false, false, true])
                {
                    early.clear();
                }
                for frame in &early {
                    router.handle_message(link, frame[..].into(), now);
                }
                if let Some(evil) = &mut self.evil
                    && !evil.greets(!early.is_empty(), &mut self.random)
                {
                    early.clear();
                } else if self.evil.is_some() && early.is_empty() {
                    early.push(Bytes::new());
                }
                connection.to_peer.push(Parcel::Open { early }, connection.latency, connection.rate, now);
            }
            (Parcel::Message(LinkMessage::Binary(message)), Some(link)) => {
                router.handle_message(link, BytesMut::from(&message[..]), now);
            }
            (Parcel::Message(LinkMessage::Text(text)), Some(link)) => router.handle_text(link, &text, now),
            (Parcel::Close(..), Some(link)) => {
                router.handle_link_closed(link, now);
                self.connections.remove(&id);
            }
            (_, None) => {}
        }
    }

    fn arrive_at_peer(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        let Some(connection) = self.connections.get(&id) else { return };
        let (peer, link) = (connection.peer, connection.peer_link);
        let endpoint = &mut self.peers[peer].endpoint;
        match parcel {
            Parcel::Open { early } => endpoint.handle_link_opened(link, !early.is_empty(), now),
            Parcel::Message(message) => endpoint.handle_message(link, message, now),
            Parcel::Close(code, reason) => {
                self.connections.remove(&id);
                self.peers[peer].endpoint.handle_link_closed(link, CloseCode(code), &reason, now);
            }
        }
    }

    fn look_for_canary(&self, parcel: &Parcel) {
        let Some(canary) = &self.canary else { return };
        let seen = match parcel {
            Parcel::Open { early } => &early[..],
            Parcel::Message(LinkMessage::Binary(message)) => std::slice::from_ref(message),
            _ => return,
        };
        assert!(
            seen.iter().all(|frame| memchr::memmem::find(frame, canary).is_none()),
            "the relay saw what only the peers may see"
        );
    }

    /// Takes what the peers have to say; whether there was anything.
    fn drain_peers(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for number in 0..self.peers.len() {
            if self.peers[number].frozen_until.is_some() {
                continue;
            }
            self.peers[number].endpoint.prepare(now);
            while let Some(event) = self.peers[number].endpoint.poll_event() {
                moved = true;
                self.handle_event(number, event);
            }
        }
        for connection in self.connections.values_mut() {
            let peer = &mut self.peers[connection.peer];
            if peer.frozen_until.is_some() {
                continue;
            }
            while connection.to_relay.has_room()
                && let Some(message) = peer.endpoint.poll_transmit(connection.peer_link, now)
            {
                moved = true;
                connection.to_relay.push(Parcel::Message(message), connection.latency, connection.rate, now);
            }
        }
        moved
    }

    fn handle_event(&mut self, number: usize, event: Event) {
        let now = self.now;
        let peer = &mut self.peers[number];
        if self.trace {
            let text = format!("{event:?}");
            eprintln!("{:>12} peer {number} {}", now.as_micros(), text.get(..300).unwrap_or(&text));
        }
        match event {
            Event::Dial { link } => self.dial(number, link),
            Event::Livecode { link } => {
                peer.endpoint.speak_livecode(link, Box::<LivecodeLink>::default(), now)
            }
            Event::HangUp { link, code, reason } => {
                let found = self
                    .connections
                    .iter()
                    .find(|(_, found)| found.peer == number && found.peer_link == link);
                if let Some(id) = found.map(|(id, _)| *id)
                    && let Some(connection) = self.connections.get_mut(&id)
                {
                    let (latency, rate) = (connection.latency, connection.rate);
                    connection.to_relay.push(Parcel::Close(code.0, reason), latency, rate, now);
                    connection.to_peer = network::Lane::default();
                }
            }
            Event::Incoming { socket, ref incoming } if peer.obliging => {
                let protocol = incoming.protocols.first().cloned().unwrap_or_default();
                peer.endpoint.accept(socket, &protocol, now);
            }
            Event::Message { socket, ref message } if peer.obliging => {
                peer.endpoint.consume(socket, message.cost(), now);
                peer.events.push_back(event);
            }
            event => peer.events.push_back(event),
        }
    }

    fn dial(&mut self, peer: usize, peer_link: LinkId) {
        let mut connection = Connection {
            peer,
            peer_link,
            relay_link: None,
            latency: self.latency,
            rate: self.rate,
            to_relay: network::Lane::default(),
            to_peer: network::Lane::default(),
        };
        let early = self.peers[peer].endpoint.early_frames(peer_link, self.now);
        let early = early::decode(early.into()).unwrap_or_default();
        connection.to_relay.push(Parcel::Open { early }, connection.latency, connection.rate, self.now);
        self.connections.insert(self.next_connection, connection);
        self.next_connection += 1;
    }

    /// Takes what the relay has to say; whether there was anything.
    fn drain_relay(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        let Relay::Up(router) = &mut self.relay else { return false };
        let mut closing = Vec::new();
        while let Some(event) = router.poll_event() {
            moved = true;
            if let router::Event::Close { link, code, reason } = event {
                closing.push((link, code, reason));
            }
        }
        for connection in self.connections.values_mut() {
            let Some(link) = connection.relay_link else { continue };
            while connection.to_peer.has_room()
                && let Some(transmit) = router.poll_transmit(link)
            {
                moved = true;
                let message = match transmit {
                    router::Transmit::Binary(message) => LinkMessage::Binary(message),
                    router::Transmit::Text(text) => LinkMessage::Text(text),
                };
                let messages = match &mut self.evil {
                    Some(evil) => evil.forward(message, &mut self.random),
                    None => vec![message],
                };
                for message in messages {
                    connection.to_peer.push(
                        Parcel::Message(message),
                        connection.latency,
                        connection.rate,
                        now,
                    );
                }
            }
        }
        for (link, code, reason) in closing {
            if let Some(connection) =
                self.connections.values_mut().find(|found| found.relay_link == Some(link))
            {
                let parcel = Parcel::Close(code.0, reason);
                connection.relay_link = None;
                connection.to_peer.push(parcel, connection.latency, connection.rate, now);
            }
            for hostile in self.hostiles.iter_mut().filter(|hostile| hostile.link() == Some(link)) {
                hostile.lose_link();
            }
            router.handle_link_closed(link, now);
        }
        moved
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
