//! Links between relays: a client's channel is taken to the relay at which its server is registered. Called by the router's owner
//! and by `Router::handle_frame`.

use super::channel::EndStage;
use super::config::Config;
use super::link::{LinkState, Stage};
use super::waiting::Request;
use super::{Dialect, Drain, Event, LinkId, Peer, Router, Transmit, Violation};
use crate::codec::DecodeError;
use crate::frame::{ChannelId, Frame};
use crate::node::{NodeFrame, NodeLinkFacts, NodeRole};
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The relay that opened the WebSocket between two relays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeSide {
    /// This relay has dialled another one, whose name this has to be: it takes its clients there.
    Dialled {
        /// The other relay's name.
        node: String,
    },
    /// This relay was dialled: another one brings its clients.
    Accepted,
}

/// The state of a link between relays beside its channels.
#[derive(Debug)]
pub(super) struct NodeLink {
    side: NodeSide,
    /// The other relay's name and challenge, as far as they are known.
    name: String,
    challenge: [u8; 32],
    /// True if the other relay can reach the bus, as it says.
    is_bus_well: bool,
    /// True if no channels are opened on it any more: it ends with the last one.
    is_retired: bool,
}

impl NodeLink {
    pub(super) fn leads_to_owner(&self) -> bool {
        matches!(self.side, NodeSide::Dialled { .. })
    }
}

impl LinkState {
    /// Returns whether the peer is a relay to which this one takes its clients.
    pub(super) fn leads_to_owner(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.leads_to_owner())
    }

    /// The number that a channel of the peer has here; see [`End::wire_id`](super::channel::End::wire_id).
    pub(super) fn local_id(&self, channel: ChannelId) -> ChannelId {
        if self.leads_to_owner() { ChannelId(channel.0.saturating_add(1)) } else { channel }
    }
}

impl Config {
    /// The time that a link may be silent, and the silence after which it is pinged.
    pub(super) fn patience(&self, link: &LinkState) -> (Duration, Duration) {
        match (&link.node, &self.cluster) {
            (Some(_), Some(cluster)) => (cluster.idle_timeout, cluster.ping_interval),
            _ => (self.idle_timeout, self.ping_interval),
        }
    }
}

impl Router {
    /// Takes in a new WebSocket between this relay and another one. Each link opened is given back with
    /// [`handle_link_closed`](Self::handle_link_closed).
    ///
    /// It is of use when [`Event::NodeProven`] comes.
    pub fn open_node_link(&mut self, peer: impl Into<Arc<Peer>>, side: NodeSide, now: Instant) -> LinkId {
        let peer = Arc::new(Peer { dialect: Dialect::Tunnel, ..Peer::clone(&peer.into()) });
        let challenge = peer.challenge.public().0;
        let is_accepted = side == NodeSide::Accepted;
        let mut state = LinkState::new(peer, Stage::Hello { deadline: now + self.config.hello_timeout }, now);
        state.node = Some(Box::new(NodeLink {
            side,
            name: String::new(),
            challenge: [0; 32],
            is_bus_well: false,
            is_retired: false,
        }));
        let link = LinkId(self.links.insert(state));
        self.nodes.insert(link);
        if self.drain != Drain::No {
            self.end_draining(link);
        } else if self.config.cluster.is_none() {
            self.end_link(link, None, CloseCode::POLICY, "this relay is not of a cluster");
        } else {
            self.arm(link);
            if is_accepted {
                let (max_frame, node) = (self.config.max_frame, self.config.node.clone());
                self.say_to_node(link, &NodeFrame::Challenge { max_frame, challenge, node });
            }
        }
        link
    }

    /// Takes the clients that wait for a server to the relay at the other end of a link. Returns `false` if the link is not of use:
    /// then the owner has to dial another one.
    pub fn handle_route(&mut self, server_id: &ServerId, link: LinkId) -> bool {
        let (Some(cluster), Some(state)) = (&self.config.cluster, self.links.get_mut(link.0)) else {
            return false;
        };
        let is_worn = state.last_incoming.0 >= cluster.last_node_channel;
        let Some(node) = &mut state.node else { return false };
        node.is_retired |= is_worn;
        if state.stage != Stage::Ready || node.is_retired || !node.leads_to_owner() {
            self.end_retired(link);
            return false;
        }
        self.admit_waiting(server_id, link);
        true
    }

    /// Ends a server's link because another relay has a link whose proof of the same key counts more. Does nothing if the server is
    /// registered by another link by now.
    pub fn handle_fence(&mut self, server_id: &ServerId, link: LinkId, code: CloseCode) {
        if self.registrations.get(server_id) == Some(&link) {
            let reason = match code {
                CloseCode::ID_TAKEN_OVER => "another link registered the same key, at another relay",
                _ => "another relay has a registration of the same key: register again",
            };
            self.totals.taken_over += 1;
            let close = Frame::Close { channel: ChannelId::LINK, code, reason: reason.to_owned() };
            self.end_link(link, Some(close), code, reason);
        }
    }

    /// Tells the other relays whether this one can reach the bus.
    pub fn tell_of_bus(&mut self, is_well: bool) {
        for link in self.nodes.clone() {
            if self.stage(link) == Some(Stage::Ready) {
                self.say_to_node(link, &NodeFrame::Bus { is_well });
            }
        }
    }

    /// Returns whether another relay says that it can reach the bus.
    #[must_use]
    pub fn is_bus_well_elsewhere(&self) -> bool {
        self.nodes().any(|node| node.is_bus_well)
    }

    pub(super) fn is_node(&self, link: LinkId) -> bool {
        self.links.get(link.0).is_some_and(|state| state.node.is_some())
    }

    fn nodes(&self) -> impl Iterator<Item = &NodeLink> {
        let states = self.nodes.iter().filter_map(|link| self.links.get(link.0));
        states.filter(|state| state.stage == Stage::Ready).filter_map(|state| state.node.as_deref())
    }

    /// The number of links between relays that are in use.
    pub(super) fn count_nodes(&self) -> usize {
        self.nodes().count()
    }

    fn say_to_node(&mut self, link: LinkId, frame: &NodeFrame) {
        self.control(link, Transmit::Binary(frame.encode()), usize::MAX);
    }

    /// Opens no more channels on links between relays.
    pub(super) fn retire_nodes(&mut self) {
        for link in self.nodes.clone() {
            if let Some(node) = self.links.get_mut(link.0).and_then(|state| state.node.as_mut()) {
                node.is_retired = true;
                self.end_retired(link);
            }
        }
    }

    /// Ends a link between relays that is not used any more.
    pub(super) fn end_retired(&mut self, link: LinkId) {
        let Some(state) = self.links.get(link.0) else { return };
        if state.channels.is_empty() && state.node.as_ref().is_some_and(|node| node.is_retired) {
            let (code, reason) = (CloseCode::NORMAL, "this link is replaced, or its relay ends");
            let close = Frame::Close { channel: ChannelId::LINK, code, reason: reason.to_owned() };
            self.end_link(link, Some(close), code, reason);
        }
    }

    /// Takes in a message of another relay, which is neither DATA nor ACCEPT.
    pub(super) fn handle_node_message(
        &mut self,
        link: LinkId,
        message: Bytes,
        now: Instant,
    ) -> Result<(), Violation> {
        let kind = message.first().copied().unwrap_or_default();
        let malformed = |error: DecodeError| Violation::new(format!("a frame of type {kind:#04x}: {error}"));
        if let Some(frame) = NodeFrame::decode(&message).map_err(malformed)? {
            return self.handle_node_frame(link, frame, now);
        }
        let Some(frame) = Frame::decode(message).map_err(malformed)? else { return Ok(()) };
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        let (channel, is_ready) = (state.local_id(frame.channel()), state.stage == Stage::Ready);
        match frame {
            Frame::Close { channel: ChannelId::LINK, code, reason } | Frame::Error { code, text: reason } => {
                self.end_link(link, None, code, &reason);
                Ok(())
            }
            frame if !is_ready => Err(Violation::new(format!("{} before the proof", frame.name()))),
            Frame::Close { code, reason, .. } => {
                let code = if state.leads_to_owner() { as_told_to_clients(code) } else { code };
                self.close(link, channel, code, &reason)
            }
            Frame::Pause { .. } | Frame::Resume { .. } => {
                match state.channels.get(&channel) {
                    Some(&key) => self.stop(key, matches!(frame, Frame::Pause { .. })),
                    None => return self.ignore_if_used(link, channel, frame.name()),
                }
                Ok(())
            }
            Frame::Ping { nonce } => {
                state.outbox.pong = Some(nonce);
                self.announce(link);
                Ok(())
            }
            Frame::Pong { .. } => Ok(()),
            frame => Err(Violation::new(format!("{} is not for a link between relays", frame.name()))),
        }
    }

    fn handle_node_frame(&mut self, link: LinkId, frame: NodeFrame, now: Instant) -> Result<(), Violation> {
        let Some(state) = self.links.get(link.0) else { return Ok(()) };
        let is_ready = state.stage == Stage::Ready;
        match (frame, state.leads_to_owner(), is_ready) {
            (NodeFrame::Challenge { max_frame, challenge, node }, true, false) => {
                self.answer_challenge(link, max_frame, challenge, node)
            }
            (NodeFrame::Proof { challenge, proof, node }, false, false) => {
                self.check_entry(link, challenge, &proof, node)
            }
            (NodeFrame::Proven { proof }, true, false) => self.check_owner(link, &proof),
            (NodeFrame::Bus { is_well }, _, true) => {
                if let Some(node) = self.links.get_mut(link.0).and_then(|state| state.node.as_mut()) {
                    node.is_bus_well = is_well;
                }
                Ok(())
            }
            (NodeFrame::Forward { channel, server_id, port, kind, address, payload }, false, true) => {
                self.totals.spliced_in += 1;
                // Numbers are servers of the livecode dialect: one relay's own.
                if server_id.key().is_none() {
                    let end = self.add_forwarded(link, channel)?;
                    self.refuse(end, CloseCode::SERVER_NOT_FOUND, "a numbered server is one relay's own");
                    return Ok(());
                }
                let request = Request { server_id, port, kind, payload, address: Some(address) };
                self.connect(link, channel, request, now)
            }
            (frame, ..) => {
                Err(Violation::new(format!("{} is out of place on a link between relays", frame.name())))
            }
        }
    }

    fn add_forwarded(
        &mut self,
        link: LinkId,
        channel: ChannelId,
    ) -> Result<super::channel::EndKey, Violation> {
        let last = self.links.get(link.0).map_or(ChannelId::LINK, |state| state.last_opened);
        if channel.0.is_multiple_of(2) || channel <= last {
            return Err(Violation::new(format!(
                "FORWARD on {channel}: it has to be odd and greater than {}",
                last.0
            )));
        }
        Ok(self.add_end(link, channel, EndStage::Closing))
    }

    /// The entry's answer to the owner's first word.
    fn answer_challenge(
        &mut self,
        link: LinkId,
        max_frame: u32,
        challenge: [u8; 32],
        name: String,
    ) -> Result<(), Violation> {
        let ours = self.config.max_frame;
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        let own_challenge = state.peer.challenge.public().0;
        let Some(node) = &mut state.node else { return Ok(()) };
        if !matches!(&node.side, NodeSide::Dialled { node } if *node == name) {
            return Err(Violation::new(format!(
                "the relay at this address is {name:?}, which is not the one wanted"
            )));
        }
        if max_frame != ours {
            return Err(Violation::new(format!(
                "the longest frame of {name:?} has {max_frame} bytes, this relay's {ours}: all relays of a cluster need the same"
            )));
        }
        if !node.name.is_empty() {
            return Err(Violation::new("a second CHALLENGE"));
        }
        node.name = name;
        node.challenge = challenge;
        let Some(proof) = self.node_proof(link, NodeRole::Entry) else { return Ok(()) };
        let node = self.config.node.clone();
        self.say_to_node(link, &NodeFrame::Proof { challenge: own_challenge, proof, node });
        Ok(())
    }

    /// The owner's look at the entry's proof.
    fn check_entry(
        &mut self,
        link: LinkId,
        challenge: [u8; 32],
        proof: &[u8; 32],
        name: String,
    ) -> Result<(), Violation> {
        if let Some(node) = self.links.get_mut(link.0).and_then(|state| state.node.as_mut()) {
            node.name = name;
            node.challenge = challenge;
        }
        self.check_proof(link, NodeRole::Entry, proof)?;
        let Some(proof) = self.node_proof(link, NodeRole::Owner) else { return Ok(()) };
        self.say_to_node(link, &NodeFrame::Proven { proof });
        self.node_proven(link);
        Ok(())
    }

    /// The entry's look at the owner's proof.
    fn check_owner(&mut self, link: LinkId, proof: &[u8; 32]) -> Result<(), Violation> {
        let node = self.links.get(link.0).and_then(|state| state.node.as_ref());
        if node.is_none_or(|node| node.name.is_empty()) {
            return Err(Violation::new("PROVEN before CHALLENGE"));
        }
        self.check_proof(link, NodeRole::Owner, proof)?;
        self.node_proven(link);
        Ok(())
    }

    fn check_proof(&self, link: LinkId, role: NodeRole, proof: &[u8; 32]) -> Result<(), Violation> {
        let is_right = self.with_facts(link, |secret, facts| secret.verify(role, facts, proof));
        if is_right == Some(true) {
            return Ok(());
        }
        let text = "the proof does not fit: both relays need the same cluster-secret";
        Err(Violation { code: CloseCode::BAD_CREDENTIAL, text: text.to_owned() })
    }

    fn node_proof(&self, link: LinkId, role: NodeRole) -> Option<[u8; 32]> {
        self.with_facts(link, |secret, facts| secret.prove(role, facts))
    }

    fn with_facts<T>(
        &self,
        link: LinkId,
        call: impl FnOnce(&crate::node::ClusterSecret, &NodeLinkFacts<'_>) -> T,
    ) -> Option<T> {
        let secret = &self.config.cluster.as_ref()?.secret;
        let state = self.links.get(link.0)?;
        let node = state.node.as_ref()?;
        let own_challenge = state.peer.challenge.public().0;
        let (own, other) = ((&*self.config.node, &own_challenge), (&*node.name, &node.challenge));
        let (entry, owner) = if node.leads_to_owner() { (own, other) } else { (other, own) };
        let facts = NodeLinkFacts {
            entry: entry.0,
            entry_challenge: entry.1,
            owner: owner.0,
            owner_challenge: owner.1,
        };
        Some(call(secret, &facts))
    }

    fn node_proven(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(link.0) else { return };
        state.stage = Stage::Ready;
        let node = state.node.as_ref().map(|node| node.name.clone()).unwrap_or_default();
        self.arm(link);
        self.events.push_back(Event::NodeProven { link, node });
    }
}

/// The code that a client is told when another relay closed its channel: the server may be at a third one by now, so that the client
/// should ask again.
const fn as_told_to_clients(code: CloseCode) -> CloseCode {
    match code {
        CloseCode::SERVER_NOT_FOUND | CloseCode::DRAINING => CloseCode::PEER_GONE,
        code => code,
    }
}
