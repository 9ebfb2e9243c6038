//! One moment of a world: what is due is done, messages arrive, and machines say what they have to say, until nothing moves.

use crate::network::{self, Connection, Parcel};
use crate::{ORIGIN, Relay, World};
use bytes::{Bytes, BytesMut};
use tunnel_protocol::endpoint::{Event, LinkId, LinkMessage};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::livecode::LivecodeLink;
use tunnel_protocol::{CloseCode, early, router};

impl World {
    /// Does all that is due now.
    pub(crate) fn pump(&mut self) {
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
