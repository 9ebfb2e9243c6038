//! Several relays with one address space: routers, the links between them, a bus, and pages around them, on a simulated clock.
//!
//! [`story`] makes up what happens from a seed and checks what must hold.

mod bus;
mod relays;
pub mod story;
mod wires;

use crate::Random;
use bus::SimulatedBus;
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use tunnel_protocol::CloseCode;
use tunnel_protocol::endpoint::{self, Endpoint};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::node::ClusterSecret;
use tunnel_protocol::presence::{self, Moment, Presence, Routes};
use tunnel_protocol::router::{self, ClusterConfig, LinkId, NodeSide, Router};
use tunnel_protocol::time::{Duration, Instant};
use wires::{End, Parcel, Wire};

/// One relay.
#[derive(Debug)]
struct Relay {
    /// `None`: its process does not run.
    machine: Option<Machine>,
    /// It runs nothing until then.
    frozen_until: Option<Instant>,
    /// The error of its time of day, in microseconds.
    skew: i64,
    /// True if its process listens: a relay whose machine vanished does not even refuse.
    is_vanished: bool,
}

/// The process of a relay.
#[derive(Debug)]
struct Machine {
    router: Router,
    presence: Presence,
    routes: Routes,
    incarnation: u64,
    /// True if a page's link was ended because the process ends.
    is_draining: bool,
}

/// One page.
#[derive(Debug)]
struct Page {
    endpoint: Endpoint,
    events: VecDeque<endpoint::Event>,
}

/// Something that the story has to look at.
#[derive(Clone, Debug)]
enum Note {
    /// A relay has a server's link, or has it no more.
    Registered(usize, LinkId),
    Unregistered(usize, LinkId),
    /// A relay ends a server's link, which that page still uses.
    Fenced(usize, LinkId, CloseCode, Option<usize>),
    /// A relay tells its clients that the server is nowhere.
    NotFound(usize),
}

/// Relays, pages and what is between them.
#[derive(Debug)]
struct World {
    now: Instant,
    relays: Vec<Relay>,
    pages: Vec<Page>,
    /// The network between pages and relays, and between relays.
    wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    bus: SimulatedBus,
    /// Relays of different groups can't reach each other's `cluster-listen`.
    groups: Vec<u8>,
    notes: Vec<(Instant, Note)>,
    random: Random,
    trace: bool,
}

const ORIGIN: &str = "wss://relay.example:8087/";
const SECRET: [u8; 32] = [0x5e; 32];
/// The simulated clocks' origin as a time of day.
const EPOCH: u64 = 1_700_000_000_000_000;

fn name(relay: usize) -> String {
    format!("relay-{relay}")
}

fn address(relay: usize) -> String {
    format!("10.0.0.{relay}:8089")
}

fn secret() -> ClusterSecret {
    ClusterSecret::new(&SECRET).expect("long enough")
}

impl World {
    fn new(seed: u64, relays: usize) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut world = Self {
            now,
            relays: Vec::new(),
            pages: Vec::new(),
            wires: BTreeMap::new(),
            next_wire: 0,
            bus: SimulatedBus::new(seed),
            groups: vec![0; relays],
            notes: Vec::new(),
            random: Random::new(seed),
            trace: false,
        };
        for number in 0..relays {
            world.bus.split(number, 0);
            world.relays.push(Relay { machine: None, frozen_until: None, skew: 0, is_vanished: false });
            world.start(number);
        }
        world
    }

    fn add_page(&mut self, config: endpoint::Config) -> usize {
        let config = endpoint::Config { relay_url: ORIGIN.to_owned(), ..config };
        let endpoint = Endpoint::new(config, self.random.bytes());
        self.pages.push(Page { endpoint, events: VecDeque::new() });
        self.pages.len() - 1
    }

    /// Starts a relay's process; it knows nothing.
    fn start(&mut self, number: usize) {
        let incarnation = self.random.next();
        let cluster = ClusterConfig::new(secret());
        let router =
            router::Config { node: name(number), cluster: Some(cluster), ..router::Config::default() };
        let config = presence::Config::new(name(number), address(number), incarnation, secret());
        self.bus.forget(number);
        self.relays[number].is_vanished = false;
        self.relays[number].frozen_until = None;
        self.relays[number].machine = Some(Machine {
            router: Router::new(router),
            presence: Presence::new(config, self.now),
            routes: Routes::default(),
            incarnation,
            is_draining: false,
        });
        if self.bus.is_reached(number) {
            self.with_presence(number, Presence::handle_bus_up);
        }
    }

    /// A relay's process ends without a word. Its machine refuses, or, if that has vanished, says nothing to anybody.
    fn kill(&mut self, number: usize, vanishes: bool) {
        self.relays[number].machine = None;
        self.relays[number].frozen_until = None;
        self.relays[number].is_vanished = vanishes;
        self.bus.forget(number);
        let wires: Vec<_> =
            self.wires.iter().filter(|(_, wire)| wire.touches_relay(number)).map(|(id, _)| *id).collect();
        for id in wires {
            if vanishes {
                self.wires.get_mut(&id).expect("listed").is_dead = true;
            } else {
                self.cut(id);
            }
        }
    }

    /// A relay is told to end: its pages leave.
    fn drain(&mut self, number: usize) {
        let now = self.now;
        if let Some(machine) = &mut self.relays[number].machine {
            machine.is_draining = true;
            machine.presence.handle_drain();
            machine.router.drain(Duration::from_secs(10), now);
        }
    }

    /// A wire breaks at once, with all that is on its way; both ends notice.
    fn cut(&mut self, id: u64) {
        let Some(wire) = self.wires.remove(&id) else { return };
        self.hang_up(wire.near);
        if let Some(far) = wire.far {
            self.hang_up(far);
        }
    }

    /// One end of a wire learns that it is gone.
    fn hang_up(&mut self, end: End) {
        let now = self.now;
        match end {
            End::Page(page, link) => {
                let endpoint = &mut self.pages[page].endpoint;
                endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", now);
            }
            End::Relay(number, incarnation, link) => {
                if let Some(machine) = self.machine(number, incarnation) {
                    machine.routes.closed(link);
                    machine.router.handle_link_closed(link, now);
                }
            }
        }
    }

    /// The process of a relay, if it still runs.
    fn machine(&mut self, number: usize, incarnation: u64) -> Option<&mut Machine> {
        self.relays[number].machine.as_mut().filter(|machine| machine.incarnation == incarnation)
    }

    fn moment(&self, number: usize) -> Moment {
        let wall = (EPOCH + self.now.as_micros()).saturating_add_signed(self.relays[number].skew);
        Moment { now: self.now, wall }
    }

    fn with_presence(&mut self, number: usize, act: impl FnOnce(&mut Presence, Moment)) {
        let moment = self.moment(number);
        if let Some(machine) = &mut self.relays[number].machine {
            act(&mut machine.presence, moment);
        }
    }

    /// A relay's connection to the bus breaks, or is there again.
    fn set_bus(&mut self, number: usize, is_reached: bool) {
        self.bus.set_reached(number, is_reached);
        if is_reached {
            self.with_presence(number, Presence::handle_bus_up);
        } else {
            self.with_presence(number, Presence::handle_bus_down);
        }
        if let Some(machine) = &mut self.relays[number].machine {
            machine.router.tell_of_bus(is_reached);
        }
    }

    fn is_awake(&self, number: usize) -> bool {
        self.relays[number].machine.is_some() && self.relays[number].frozen_until.is_none()
    }

    fn next_at(&self) -> Option<Instant> {
        let relays = self.relays.iter().map(|relay| match (&relay.machine, relay.frozen_until) {
            (_, Some(until)) => Some(until),
            (Some(machine), None) => {
                [machine.router.poll_timeout(), machine.presence.poll_timeout()].into_iter().flatten().min()
            }
            (None, None) => None,
        });
        let pages = self.pages.iter().map(|page| page.endpoint.poll_timeout());
        let wires = self.wires.values().flat_map(|wire| {
            let far = wire.far_relay().is_none_or(|relay| self.relays[relay].frozen_until.is_none());
            let near = wire.near_relay().is_none_or(|relay| self.relays[relay].frozen_until.is_none());
            [wire.to_far.next_at().filter(|_| far), wire.to_near.next_at().filter(|_| near)]
                .map(|at| at.filter(|_| !wire.is_dead))
        });
        let bus = self.bus.next_at(|relay| self.is_awake(relay));
        relays.chain(pages).chain(wires).chain([bus]).flatten().min()
    }

    /// Takes one step to the next thing that happens; `false` if nothing would, before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.pump();
        match self.next_at() {
            Some(at) if at <= end => {
                self.now = self.now.max(at);
                self.pump();
                true
            }
            _ => {
                self.now = end;
                self.pump();
                false
            }
        }
    }

    /// Does all that is due now.
    fn pump(&mut self) {
        let now = self.now;
        for number in 0..self.relays.len() {
            let moment = self.moment(number);
            let relay = &mut self.relays[number];
            if relay.frozen_until.is_some_and(|until| until <= now) {
                relay.frozen_until = None;
            }
            if let (Some(machine), None) = (&mut relay.machine, relay.frozen_until) {
                machine.router.handle_timeout(now);
                machine.presence.handle_timeout(moment);
            }
        }
        self.pages.iter_mut().for_each(|page| page.endpoint.handle_timeout(now));
        while self.deliver() | self.drain_pages() | self.drain_relays() | self.fill_wires() {}
    }

    fn drain_pages(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for number in 0..self.pages.len() {
            self.pages[number].endpoint.prepare(now);
            while let Some(event) = self.pages[number].endpoint.poll_event() {
                moved = true;
                self.handle_page_event(number, event);
            }
        }
        moved
    }

    fn handle_page_event(&mut self, number: usize, event: endpoint::Event) {
        use endpoint::Event;
        let now = self.now;
        if self.trace {
            let text = format!("{event:?}");
            eprintln!("{:>12} page {number} {}", now.as_micros(), text.get(..200).unwrap_or(&text));
        }
        let endpoint = &mut self.pages[number].endpoint;
        match event {
            Event::Dial { link } => {
                // The balancer does not know which of them live.
                let relay = self.random.below(self.relays.len() as u64) as usize;
                let mut wire =
                    Wire::new(End::Page(number, link), relay, self.random.choose(&[500, 5_000, 40_000]));
                wire.send_far(Parcel::Open(None), now);
                self.wires.insert(self.next_wire, wire);
                self.next_wire += 1;
            }
            Event::HangUp { link, .. } => {
                let is_of = |wire: &&mut Wire| wire.near == End::Page(number, link);
                if let Some(wire) = self.wires.values_mut().find(is_of) {
                    wire.send_far(Parcel::Close, now);
                    wire.to_near.clear();
                }
            }
            Event::Incoming { socket, .. } => {
                endpoint.accept(socket, "", now);
                self.pages[number].events.push_back(event);
            }
            Event::Message { socket, ref message } => {
                endpoint.consume(socket, message.cost(), now);
                self.pages[number].events.push_back(event);
            }
            event => self.pages[number].events.push_back(event),
        }
    }

    /// Brings what has arrived; whether there was anything.
    fn deliver(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        while let Some((to, subject, payload)) = self.bus.pop_due(now, |relay| {
            self.relays[relay].machine.is_some() && self.relays[relay].frozen_until.is_none()
        }) {
            moved = true;
            self.with_presence(to, |presence, moment| presence.handle_message(subject, &payload, moment));
        }
        for id in self.wires.keys().copied().collect::<Vec<_>>() {
            while let Some(parcel) = self.due(id, true) {
                self.arrive_far(id, parcel);
                moved = true;
            }
            while let Some(parcel) = self.due(id, false) {
                self.arrive_near(id, parcel);
                moved = true;
            }
        }
        moved
    }

    /// The next parcel of a wire that has arrived at its far or near end, if that end is awake.
    fn due(&mut self, id: u64, at_far: bool) -> Option<Parcel> {
        let wire = self.wires.get_mut(&id)?;
        let relay = if at_far { wire.far_relay() } else { wire.near_relay() };
        let (near, far) = (wire.near_relay(), wire.far_relay());
        if wire.is_dead || relay.is_some_and(|relay| self.relays[relay].frozen_until.is_some()) {
            return None;
        }
        if let (Some(near), Some(far)) = (near, far)
            && self.groups[near] != self.groups[far]
        {
            // A message sent over a split is lost, and so are all that follow it on the same wire.
            wire.is_dead = true;
            return None;
        }
        let lane = if at_far { &mut wire.to_far } else { &mut wire.to_near };
        lane.pop_due(self.now)
    }

    fn arrive_far(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let (number, far) = (wire.relay, wire.far);
        match (parcel, far) {
            (Parcel::Open(from), _) => {
                if self.relays[number].is_vanished {
                    wire.is_dead = true;
                    return;
                }
                let address = from.map_or_else(|| wire.near.page_address(), address);
                let challenge = StaticKey::from_secret(self.random.bytes());
                let Some(machine) = &mut self.relays[number].machine else {
                    let near = wire.near;
                    self.wires.remove(&id);
                    return self.hang_up(near);
                };
                let url = if from.is_some() { String::new() } else { ORIGIN.to_owned() };
                let peer = router::Peer { dialect: router::Dialect::Tunnel, address, url, challenge };
                let link = match from {
                    Some(_) => machine.router.open_node_link(peer, NodeSide::Accepted, now),
                    None => machine.router.open_link(peer, now),
                };
                wire.far = Some(End::Relay(number, machine.incarnation, link));
                wire.send_near(Parcel::Open(None), now);
            }
            (Parcel::Message(message), Some(End::Relay(number, incarnation, link))) => {
                if let Some(machine) = self.machine(number, incarnation) {
                    machine.router.handle_message(link, BytesMut::from(&message[..]), now);
                }
            }
            (Parcel::Close, far) => {
                self.wires.remove(&id);
                far.into_iter().for_each(|end| self.hang_up(end));
            }
            (Parcel::Message(_), _) => {}
        }
    }

    fn arrive_near(&mut self, id: u64, parcel: Parcel) {
        let now = self.now;
        let Some(wire) = self.wires.get(&id) else { return };
        let near = wire.near;
        match (parcel, near) {
            (Parcel::Open(_), End::Page(page, link)) => {
                self.pages[page].endpoint.handle_link_opened(link, false, now);
            }
            (Parcel::Open(_), End::Relay(..)) => {}
            (Parcel::Message(message), End::Page(page, link)) => {
                let message = endpoint::LinkMessage::Binary(message);
                self.pages[page].endpoint.handle_message(link, message, now);
            }
            (Parcel::Message(message), End::Relay(number, incarnation, link)) => {
                if let Some(machine) = self.machine(number, incarnation) {
                    machine.router.handle_message(link, BytesMut::from(&message[..]), now);
                }
            }
            (Parcel::Close, near) => {
                self.wires.remove(&id);
                self.hang_up(near);
            }
        }
    }

    /// Takes what routers and pages have to send, as far as the wires have room.
    fn fill_wires(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for wire in self.wires.values_mut() {
            while wire.to_far.has_room()
                && let Some(message) = take(&mut self.relays, &mut self.pages, wire.near, now)
            {
                moved = true;
                wire.send_far(Parcel::Message(message), now);
            }
            let Some(far) = wire.far else { continue };
            while wire.to_near.has_room()
                && let Some(message) = take(&mut self.relays, &mut self.pages, far, now)
            {
                moved = true;
                wire.send_near(Parcel::Message(message), now);
            }
        }
        moved
    }
}

/// The next message that one end of a wire has to send.
fn take(relays: &mut [Relay], pages: &mut [Page], end: End, now: Instant) -> Option<bytes::Bytes> {
    match end {
        End::Page(page, link) => match pages[page].endpoint.poll_transmit(link, now)? {
            endpoint::LinkMessage::Binary(message) => Some(message),
            endpoint::LinkMessage::Text(_) => None,
        },
        End::Relay(number, incarnation, link) => {
            let relay = &mut relays[number];
            let machine = relay.machine.as_mut().filter(|machine| machine.incarnation == incarnation)?;
            if relay.frozen_until.is_some() {
                return None;
            }
            match machine.router.poll_transmit(link)? {
                router::Transmit::Binary(message) => Some(message),
                router::Transmit::Text(_) => None,
            }
        }
    }
}
