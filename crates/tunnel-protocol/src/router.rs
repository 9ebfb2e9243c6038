//! The relay's routing core: many links in one state machine.
//!
//! The owner brings the sockets, the clock and the randomness. It opens a link for each WebSocket, feeds what comes
//! in with `handle_*` and, after each call, drains [`Router::poll_event`] and arms one timer for
//! [`Router::poll_timeout`]. [`Router::poll_transmit`] is called for a link whenever its socket takes more: taking a
//! frame is what frees its place in the buffers, so a slow socket is felt by those who send to it, and by no other.
//!
//! The same calls give the same results: there is no randomness, and nothing depends on the order of a hash map.

mod access;
mod buffers;
mod channel;
mod config;
mod event;
mod guesses;
mod instruct;
mod ledger;
mod link;
mod livecode;
mod load;
mod network;
mod node;
pub(crate) mod pace;
mod peer;
mod proof;
mod slab;
mod timer;
mod waiting;

pub use access::{Access, Grant};
pub use config::{
    CONNECT_BURST, ClusterConfig, Config, FRAME_OVERHEAD, LivecodeConfig, SERVER_CONNECT_BURST,
    UNCERTAIN_WAITS, verdict_wait,
};
pub use event::{Dialect, Event, LinkId, Peer, Stats, Transmit};
pub use instruct::{Instruct, InstructKind, Said};
pub use livecode::ReadCommand;
pub use load::Load;
pub use network::Network;
pub use node::NodeSide;
pub use proof::Registration;

use crate::close::truncate_reason;
use crate::frame::{ChannelId, Frame};
use crate::{CloseCode, Instant, ServerId};
use bytes::BytesMut;
use channel::End;
use guesses::Guesses;
use instruct::Program;
use ledger::Ledger;
use link::{LinkState, Stage};
use network::Shares;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use waiting::WaitingRoom;

/// Forwards frames between the links of one relay.
///
/// See the [module](self) for how its owner drives it.
#[derive(Debug)]
pub struct Router {
    config: Config,
    links: Slab<LinkState>,
    ends: Slab<End>,
    /// Links between relays.
    nodes: BTreeSet<LinkId>,
    registrations: BTreeMap<ServerId, LinkId>,
    /// Counts by network: its servers, and its CONNECTs that wait.
    registered_from: Shares,
    waiting_from: Shares,
    /// Wrong credentials of configurers and of servers.
    guesses: Guesses,
    seat_guesses: Guesses,
    waiting: WaitingRoom,
    /// The time at which links are looked at next, one entry for each.
    checks: BTreeSet<(Instant, LinkId)>,
    events: VecDeque<Event>,
    drain: Drain,
    /// The bytes held for all links.
    ledger: Ledger,
    /// The links that were looked at for one that fills the buffers.
    sampled: usize,
    /// Nonces of the PINGs.
    pings: u64,
    /// The number of the server that was numbered last.
    last_livecode_server: u32,
    /// The engines of namespaces that have been given commands.
    programs: BTreeMap<String, Program>,
    /// The counters; the other fields stay zero here.
    totals: Stats,
    /// The time at which a peer was heard last.
    clock: Instant,
    /// The next result of [`poll_waited`](Self::poll_waited).
    waited_since: Option<Instant>,
}

/// The router's standing: at work, or about to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Drain {
    /// The relay is at work.
    No,
    /// The relay is about to end: links have until this time.
    Until(Instant),
    /// The time is over; the owner closes what is left.
    Over,
    /// The last link is gone.
    Done,
}

/// A peer's violation of the protocol: the peer is told, and its link ends.
#[derive(Debug)]
struct Violation {
    code: CloseCode,
    text: String,
}

impl Violation {
    fn new(text: impl Into<String>) -> Self {
        Self { code: CloseCode::PROTOCOL_ERROR, text: text.into() }
    }
}

impl Router {
    /// A router without links.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config: config.sane(),
            links: Slab::new(),
            ends: Slab::new(),
            nodes: BTreeSet::new(),
            registrations: BTreeMap::new(),
            registered_from: Shares::default(),
            waiting_from: Shares::default(),
            guesses: livecode::configurer_guesses(),
            seat_guesses: livecode::seat_guesses(),
            waiting: WaitingRoom::default(),
            checks: BTreeSet::new(),
            events: VecDeque::new(),
            drain: Drain::No,
            ledger: Ledger::default(),
            sampled: 0,
            pings: 0,
            last_livecode_server: 0,
            programs: BTreeMap::new(),
            totals: Stats::default(),
            clock: Instant::ORIGIN,
            waited_since: None,
        }
    }

    /// Changes the limits and the access rules for later requests: nobody loses what it has. The longest
    /// frame, the livecode dialect and the cluster stay what they are.
    pub fn configure(&mut self, config: Config) {
        let (livecode, cluster) = (self.config.livecode.take(), self.config.cluster.take());
        self.config = Config { max_frame: self.config.max_frame, livecode, cluster, ..config.sane() };
    }

    /// Returns whether so much is held for the links that no new ones should be taken in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ledger.total() > self.config.total_buffer / 4 * 3
    }

    /// Takes in a new WebSocket. Each link opened is given back with
    /// [`handle_link_closed`](Self::handle_link_closed).
    pub fn open_link(&mut self, peer: impl Into<Arc<Peer>>, now: Instant) -> LinkId {
        let peer = peer.into();
        let stage = match peer.dialect {
            Dialect::Tunnel => Stage::Hello { deadline: now + self.config.hello_timeout },
            Dialect::Livecode => Stage::Ready,
        };
        let link = LinkId(self.links.insert(LinkState::new(peer, stage, now)));
        if self.drain != Drain::No {
            self.end_draining(link);
        } else if stage == Stage::Ready && (self.config.livecode.is_none() || self.config.access.is_some()) {
            self.end_link(link, None, CloseCode::POLICY, "the livecode dialect is turned off on this relay");
        } else if stage == Stage::Ready && !self.has_namespace_of(link) {
            let reason = "this relay has no livecoding namespace of the name in its URL";
            self.end_link(link, None, CloseCode::POLICY, reason);
        } else {
            self.arm(link);
        }
        link
    }

    fn has_namespace_of(&self, link: LinkId) -> bool {
        let namespace = self.links.get(link.0).map_or("", |state| state.peer.namespace());
        let known = self.config.livecode.as_ref().is_some_and(|it| it.namespaces.contains_key(namespace));
        namespace.is_empty() || known
    }

    /// Takes in a binary message.
    ///
    /// A frame that is forwarded keeps its memory: only its channel is written over. So that is best the message's
    /// alone: a small message that waits would keep all of a large buffer in memory.
    pub fn handle_message(&mut self, link: LinkId, message: BytesMut, now: Instant) {
        if !self.heard(link, now) {
            return;
        }
        if self.speaks_livecode(link) {
            let text = String::from_utf8_lossy(&message).into_owned();
            return self.handle_command(link, ReadCommand::read(text));
        }
        if let Err(violation) = self.handle_frame(link, message, now) {
            self.fail(link, &violation);
        }
    }

    /// Takes in a REGISTER whose proof the owner has checked, as [`handle_message`](Self::handle_message) would.
    pub fn handle_registration(&mut self, link: LinkId, registration: &Registration, now: Instant) {
        if self.heard(link, now)
            && let Err(violation) = self.register_greeted(link, registration)
        {
            self.fail(link, &violation);
        }
    }

    /// Takes in a text message.
    pub fn handle_text(&mut self, link: LinkId, text: &str, now: Instant) {
        if !self.heard(link, now) {
            return;
        }
        if self.speaks_livecode(link) {
            return self.handle_command(link, ReadCommand::read(text.to_owned()));
        }
        self.fail(link, &Violation::new("a text message; frames are binary messages"));
    }

    /// Takes in a livecode peer's text that the owner has read, as [`handle_text`](Self::handle_text) would.
    pub fn handle_read_command(&mut self, link: LinkId, command: ReadCommand, now: Instant) {
        if self.heard(link, now) && self.speaks_livecode(link) {
            self.handle_command(link, command);
        }
    }

    /// Notes a sign of life that is no message, such as a WebSocket pong.
    pub fn handle_alive(&mut self, link: LinkId, now: Instant) {
        self.heard(link, now);
    }

    /// Forgets a link: its WebSocket is closed. Its channels are closed at their other peers.
    pub fn handle_link_closed(&mut self, link: LinkId, _now: Instant) {
        if let Some(state) = self.links.get_mut(link.0) {
            state.stage = Stage::Ended;
        }
        self.release(link);
        self.clear_control(link);
        let Some(closed) = self.links.remove(link.0) else { return };
        self.nodes.remove(&link);
        if let Some(at) = closed.check_at {
            self.checks.remove(&(at, link));
        }
        self.report_drained();
    }

    /// Acts on the clock; calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire_waiting(now);
        self.check_links(now);
        if let Drain::Until(deadline) = self.drain
            && deadline <= now
        {
            self.drain = Drain::Over;
            for key in self.links.keys().collect::<Vec<_>>() {
                self.end_draining(LinkId(key));
            }
        }
    }

    /// The next message for a link: control frames first, then its channels by turns.
    ///
    /// After `None`, [`Event::Writable`] tells when there is something again.
    pub fn poll_transmit(&mut self, link: LinkId) -> Option<Transmit> {
        let transmit =
            self.next_control(link).or_else(|| self.next_flow(link)).or_else(|| self.dequeue(link));
        if transmit.is_none()
            && let Some(state) = self.links.get_mut(link.0)
        {
            state.outbox.announced = false;
        }
        transmit
    }

    /// The next thing for the owner to do or to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time at which to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let drain = match self.drain {
            Drain::Until(deadline) => Some(deadline),
            Drain::No | Drain::Over | Drain::Done => None,
        };
        let check = self.checks.first().map(|(at, _)| *at);
        [check, self.waiting.next_timeout(), drain].into_iter().flatten().min()
    }

    /// Asks all peers to dial anew within `deadline`, and takes no new links, servers and channels. Links that are left
    /// by then are closed; [`Event::Drained`] follows the last one.
    pub fn drain(&mut self, deadline: Duration, now: Instant) {
        self.drain = Drain::Until(now + deadline);
        let frame = Frame::GoAway { deadline }.encode();
        for key in self.links.keys().collect::<Vec<_>>() {
            let Some(link) = self.links.get(key) else { continue };
            if link.stage == Stage::Ready && link.peer.dialect == Dialect::Tunnel && link.node.is_none() {
                self.control(LinkId(key), Transmit::Binary(frame.clone()), usize::MAX);
            }
        }
        self.retire_nodes();
        self.report_drained();
    }

    /// Returns what the router holds, and what it did since it was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            links: self.links.len(),
            registrations: self.registrations.len(),
            channel_ends: self.ends.len(),
            waiting: self.waiting.len(),
            buffered: self.ledger.total(),
            node_links: self.count_nodes(),
            ..self.totals
        }
    }

    /// Tells the owner, once, that there is something to send.
    fn announce(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link.0)
            && !std::mem::replace(&mut state.outbox.announced, true)
        {
            self.events.push_back(Event::Writable(link));
        }
    }

    fn speaks_livecode(&self, link: LinkId) -> bool {
        self.links.get(link.0).is_some_and(|state| state.peer.dialect == Dialect::Livecode)
    }

    /// Queues a frame that concerns no open channel, unless more than `max` bytes of such would wait.
    fn control(&mut self, link: LinkId, transmit: Transmit, max: usize) -> bool {
        let Some(state) = self.links.get_mut(link.0) else { return false };
        let queued = state.outbox.push_control(&mut self.ledger, transmit, max);
        if queued {
            self.announce(link);
        }
        queued
    }

    /// The next frame that concerns no open channel.
    fn next_control(&mut self, link: LinkId) -> Option<Transmit> {
        let state = self.links.get_mut(link.0)?;
        if let Some(transmit) = state.outbox.pop_control(&mut self.ledger) {
            return Some(transmit);
        }
        let registered = state.registered.as_ref().map(|(server_id, _)| *server_id);
        state.outbox.pop_due(registered).map(|frame| Transmit::Binary(frame.encode()))
    }

    fn clear_control(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(link.0) {
            state.outbox.clear_control(&mut self.ledger);
        }
    }

    /// Ends a link whose peer did something wrong.
    fn fail(&mut self, link: LinkId, violation: &Violation) {
        self.totals.violations += 1;
        let error = Frame::Error { code: violation.code, text: violation.text.clone() };
        self.end_link(link, Some(error), violation.code, &violation.text);
    }

    fn end_draining(&mut self, link: LinkId) {
        let (code, text) = (CloseCode::DRAINING, "the relay is being shut down or restarted; connect again");
        let close = Frame::Close { channel: ChannelId::LINK, code, reason: text.to_owned() };
        self.end_link(link, Some(close), code, text);
    }

    /// Fences a link and has the owner close it after a last frame.
    fn end_link(&mut self, link: LinkId, last: Option<Frame>, code: CloseCode, reason: &str) {
        let Some(state) = self.links.get_mut(link.0) else { return };
        if state.stage == Stage::Ended {
            return;
        }
        state.stage = Stage::Ended;
        let dialect = state.peer.dialect;
        self.clear_control(link);
        self.release(link);
        if let (Some(frame), Dialect::Tunnel) = (last, dialect) {
            self.control(link, Transmit::Binary(frame.encode()), usize::MAX);
        }
        self.events.push_back(Event::Close { link, code, reason: truncate_reason(reason).to_owned() });
    }

    /// Takes back all that a link holds: its server ID, its channels, its places in the waiting room.
    fn release(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(link.0) else { return };
        let registered = state.registered.take().map(|(server_id, _)| server_id);
        let seats = state.livecode.as_mut().map(|livecode| std::mem::take(&mut livecode.seats));
        let is_instructed =
            state.livecode.as_mut().map(|livecode| std::mem::take(&mut livecode.is_instructed));
        if is_instructed == Some(true) {
            self.events.push_back(Event::Left(link));
        }
        self.take_back_command(link);
        let Some(state) = self.links.get_mut(link.0) else { return };
        let ends: Vec<_> = state.channels.values().copied().collect();
        for server_id in registered.into_iter().chain(seats.into_iter().flatten().map(ServerId::Number)) {
            if self.registrations.get(&server_id) == Some(&link) {
                self.strike(&server_id);
                self.events.push_back(Event::Unregistered { link, server_id });
            }
        }
        for end in ends {
            self.abandon(end, CloseCode::PEER_GONE, "the other peer's link to the relay is gone");
        }
    }

    /// Notes which link leads to a server; returns the link that did before.
    fn enrol(&mut self, server_id: ServerId, link: LinkId) -> Option<LinkId> {
        let old = self.strike(&server_id);
        if let Some(state) = self.links.get(link.0) {
            self.registered_from.add(&state.peer.address);
            self.registrations.insert(server_id, link);
        }
        old
    }

    /// Forgets which link leads to a server.
    fn strike(&mut self, server_id: &ServerId) -> Option<LinkId> {
        let old = self.registrations.remove(server_id)?;
        if let Some(state) = self.links.get(old.0) {
            self.registered_from.remove(&state.peer.address);
        }
        Some(old)
    }

    fn report_drained(&mut self) {
        if matches!(self.drain, Drain::Until(_) | Drain::Over) && self.links.len() == 0 {
            self.drain = Drain::Done;
            self.events.push_back(Event::Drained);
        }
    }
}

#[cfg(test)]
mod tests;
