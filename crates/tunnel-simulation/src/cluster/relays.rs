//! The owner of each relay's machines: it does what they want, as the relay's process would.

use super::wires::{End, Parcel, Wire};
use super::{Note, World, address};
use tunnel_protocol::ServerId;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::presence;
use tunnel_protocol::router::{self, LinkId, NodeSide};

impl World {
    /// Does what routers and the machines beside them want.
    pub(super) fn drain_relays(&mut self) -> bool {
        let mut moved = false;
        for number in (0..self.relays.len()).filter(|number| self.is_awake(*number)).collect::<Vec<_>>() {
            let moment = self.moment(number);
            while let Some(machine) = &mut self.relays[number].machine {
                if let Some(event) = machine.router.poll_event() {
                    self.handle_router_event(number, event);
                } else if let Some(event) = machine.presence.poll_event() {
                    self.handle_presence_event(number, event);
                } else if let Some(publication) = machine.presence.poll_publish(moment) {
                    self.bus.publish(number, &publication, self.now);
                } else {
                    break;
                }
                moved = true;
            }
        }
        moved
    }

    fn handle_router_event(&mut self, number: usize, event: router::Event) {
        use router::Event;
        let moment = self.moment(number);
        let Some(machine) = &mut self.relays[number].machine else { return };
        if self.trace && !matches!(event, Event::Writable(_)) {
            eprintln!("{:>12} relay {number} {event:?}", moment.now.as_micros());
        }
        match event {
            Event::Registered { link, server_id } => {
                if let Some(key) = server_id.key() {
                    machine.presence.handle_registered(*key, link, moment);
                }
                self.notes.push((moment.now, Note::Registered(number, link)));
            }
            Event::Unregistered { link, server_id } => {
                if let Some(key) = server_id.key() {
                    machine.presence.handle_unregistered(key, link);
                }
                self.notes.push((moment.now, Note::Unregistered(number, link)));
            }
            Event::Wanted { server_id } => {
                if let Some(key) = server_id.key() {
                    machine.presence.handle_wanted(*key, moment);
                }
            }
            Event::NodeProven { link, .. } => {
                machine.router.tell_of_bus(machine.presence.is_bus_well());
                machine.routes.proven(&mut machine.router, link);
            }
            Event::Close { link, .. } => {
                let incarnation = machine.incarnation;
                machine.routes.closed(link);
                // Queued messages go out first.
                self.fill_wires();
                self.end_wire(number, incarnation, link);
            }
            Event::Drained => {
                machine.presence.handle_end(moment);
                while let Some(publication) = machine.presence.poll_publish(moment) {
                    self.bus.publish(number, &publication, moment.now);
                }
                self.kill(number, false);
            }
            _ => {}
        }
    }

    /// The page that uses a relay's link.
    fn page_of(&self, number: usize, link: LinkId) -> Option<usize> {
        let incarnation = self.relays[number].machine.as_ref()?.incarnation;
        let end = Some(End::Relay(number, incarnation, link));
        match self.wires.values().find(|wire| wire.far == end && !wire.is_dead)?.near {
            End::Page(page, _) => Some(page),
            End::Relay(..) => None,
        }
    }

    /// A relay closes one of its links.
    fn end_wire(&mut self, number: usize, incarnation: u64, link: LinkId) {
        let (now, end) = (self.now, End::Relay(number, incarnation, link));
        let found = self.wires.iter_mut().find(|(_, wire)| wire.near == end || wire.far == Some(end));
        if let Some((_, wire)) = found {
            if wire.near == end {
                wire.send_far(Parcel::Close, now);
            } else {
                wire.send_near(Parcel::Close, now);
                wire.far = None;
            }
        }
        if let Some(machine) = self.machine(number, incarnation) {
            machine.router.handle_link_closed(link, now);
        }
    }

    fn handle_presence_event(&mut self, number: usize, event: presence::Event) {
        use presence::Event;
        let now = self.now;
        if self.trace {
            eprintln!("{:>12} relay {number} {event:?}", now.as_micros());
        }
        let Some(machine) = &mut self.relays[number].machine else { return };
        match event {
            Event::Route { key, node, address } => {
                let server_id = ServerId::Key(key);
                if machine.routes.route(&mut machine.router, &node, &address, server_id) {
                    self.dial_node(number, &node, &address);
                }
            }
            Event::Fence { key, link, code } => {
                machine.router.handle_fence(&ServerId::Key(key), link, code);
                let page = self.page_of(number, link);
                self.notes.push((now, Note::Fenced(number, link, code, page)));
            }
            Event::Absent { key, is_certain } => {
                machine.router.handle_absent(&ServerId::Key(key), is_certain, now);
                if is_certain {
                    self.notes.push((now, Note::NotFound(number)));
                }
            }
            Event::CutOff if machine.router.is_bus_well_elsewhere() => self.drain(number),
            _ => {}
        }
    }

    fn dial_node(&mut self, from: usize, node: &str, at: &str) {
        let now = self.now;
        let Some(to) = (0..self.relays.len()).find(|number| address(*number) == at) else { return };
        let peer = router::Peer {
            dialect: router::Dialect::Tunnel,
            address: at.to_owned(),
            url: String::new(),
            challenge: StaticKey::from_secret(self.random.bytes()),
        };
        let Some(machine) = &mut self.relays[from].machine else { return };
        let link = machine.router.open_node_link(peer, NodeSide::Dialled { node: node.to_owned() }, now);
        machine.routes.dialled(node, at, link);
        let near = End::Relay(from, machine.incarnation, link);
        let mut wire = Wire::new(near, to, 300);
        wire.send_far(Parcel::Open(Some(from)), now);
        self.wires.insert(self.next_wire, wire);
        self.next_wire += 1;
    }
}
