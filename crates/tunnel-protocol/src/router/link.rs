//! The relay's half of a link: the state of one peer's WebSocket, and the frames that wait for it.

use super::channel::{End, EndKey};
use super::ledger::{Account, Ledger, Queue, cost};
use super::livecode::LivecodeLink;
use super::node::NodeLink;
use super::pace::Pace;
use super::slab::Slab;
use super::{Dialect, Grant, Peer, Transmit};
use crate::frame::{ChannelId, Frame};
use crate::{Instant, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The router's state of one peer's WebSocket.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) peer: Arc<Peer>,
    pub(super) stage: Stage,
    /// Its rights; `None`: all.
    pub(super) grant: Option<Box<Grant>>,
    /// The server that the link leads to, and the proof that it showed.
    pub(super) registered: Option<(ServerId, [u8; 32])>,
    pub(super) channels: BTreeMap<ChannelId, EndKey>,
    /// The number of channels that the peer opened.
    pub(super) opened: u32,
    /// The number of channels that the router opened.
    pub(super) incoming: u32,
    /// The rates of the peer's CONNECTs, and of those to it.
    pub(super) connects: Pace,
    pub(super) connected: Pace,
    /// The number of the peer's CONNECTs that wait for their server.
    pub(super) waiting: usize,
    /// The number of the channel that the peer opened last; none above it was ever used.
    pub(super) last_opened: ChannelId,
    /// The number of the channel that the router opened last.
    pub(super) last_incoming: ChannelId,
    pub(super) outbox: Outbox,
    /// The state that only the livecode dialect needs.
    pub(super) livecode: Option<Box<LivecodeLink>>,
    /// The state that only links between relays need.
    pub(super) node: Option<Box<NodeLink>>,
    pub(super) last_heard: Instant,
    /// True if a PING is unanswered.
    pub(super) pinged: bool,
    /// The time at which the link is looked at next: its entry in the router's timers.
    pub(super) check_at: Option<Instant>,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// HELLO has to come by this time.
    Hello { deadline: Instant },
    /// In use.
    Ready,
    /// Fenced: what the peer sends has no effect, and only what is queued is still sent.
    Ended,
}

/// The frames that wait to be sent to one peer, beside those in the ends of its channels.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    control: Queue,
    /// True if a REGISTERED is due; answers to repeated questions do not pile up.
    pub(super) registered: bool,
    /// The nonce of the PING that is due.
    pub(super) ping: Option<u64>,
    /// The nonce of the PONG that is due; a flood of PINGs gets the last one answered.
    pub(super) pong: Option<u64>,
    /// Channels whose sender, this peer, may have to be told to pause or to go on.
    pub(super) flow: BTreeSet<ChannelId>,
    /// Channels that hold something.
    pub(super) ready: BTreeMap<Turn, EndKey>,
    /// Channels on which the relay at the other end wants a pause.
    pub(super) stopped: BTreeMap<Turn, EndKey>,
    /// The channel whose turn it is, or was if it holds nothing any more.
    turn: Option<(Turn, EndKey)>,
    /// The bytes held for the link.
    pub(super) account: Account,
    /// True if the owner was told that there is something.
    pub(super) announced: bool,
}

/// A channel's place in the round: those that the router opened by number, then those that the peer opened.
///
/// INCOMING has to reach the peer in the order of its channels. A new channel is behind all others of its kind, so the
/// round does not pass it before it has passed the ones opened earlier.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Turn(u32);

impl From<ChannelId> for Turn {
    fn from(channel: ChannelId) -> Self {
        Self(channel.0.rotate_right(1))
    }
}

impl LinkState {
    pub(super) fn new(peer: Arc<Peer>, stage: Stage, now: Instant) -> Self {
        let livecode = (peer.dialect == Dialect::Livecode).then(Box::default);
        Self {
            peer,
            stage,
            livecode,
            node: None,
            grant: None,
            registered: None,
            channels: BTreeMap::new(),
            opened: 0,
            incoming: 0,
            connects: Pace::default(),
            connected: Pace::default(),
            waiting: 0,
            last_opened: ChannelId::LINK,
            last_incoming: ChannelId::LINK,
            outbox: Outbox::default(),
            last_heard: now,
            pinged: false,
            check_at: None,
        }
    }

    /// Returns whether the channel was used on this link: a frame for it, if it is closed, is a race and no violation.
    pub(super) const fn has_used(&self, channel: ChannelId) -> bool {
        let last = if is_opened_by_peer(channel) { self.last_opened } else { self.last_incoming };
        channel.0 <= last.0
    }

    /// About how many bytes of memory it has elsewhere, without what is queued.
    pub(super) fn memory(&self) -> usize {
        self.peer.address.capacity()
            + self.peer.url.capacity()
            + self.channels.len() * size_of::<(ChannelId, EndKey)>()
            + self.outbox.control.memory()
            + if self.livecode.is_some() { size_of::<LivecodeLink>() } else { 0 }
    }
}

/// Returns whether the number is one that a peer, not the router, gives a channel.
pub(super) const fn is_opened_by_peer(channel: ChannelId) -> bool {
    channel.0 % 2 == 1
}

impl Outbox {
    /// The cost of the frames that concern no open channel: as noted, and added up.
    #[cfg(test)]
    pub(super) fn control_cost(&self) -> (usize, usize) {
        (self.control.cost(), self.control.added_up())
    }

    /// Queues a frame if no more than `max` bytes wait with it; whether it did.
    pub(super) fn push_control(&mut self, ledger: &mut Ledger, transmit: Transmit, max: usize) -> bool {
        let has_room = self.control.cost() + cost(transmit.len()) <= max;
        if has_room {
            ledger.push(&mut self.account, &mut self.control, transmit);
        }
        has_room
    }

    /// The next frame that was queued.
    pub(super) fn pop_control(&mut self, ledger: &mut Ledger) -> Option<Transmit> {
        let transmit = ledger.pop(&mut self.account, &mut self.control)?;
        self.control.shrink(0);
        Some(transmit)
    }

    /// Forgets all that does not concern a channel.
    pub(super) fn clear_control(&mut self, ledger: &mut Ledger) {
        ledger.clear(&mut self.account, &mut self.control);
        self.registered = false;
        self.ping = None;
        self.pong = None;
    }

    /// The next answer that is due.
    pub(super) fn pop_due(&mut self, registered: Option<ServerId>) -> Option<Frame> {
        if std::mem::take(&mut self.registered)
            && let Some(server_id) = registered
        {
            return Some(Frame::Registered { server_id });
        }
        if let Some(nonce) = self.pong.take() {
            return Some(Frame::Pong { nonce });
        }
        Some(Frame::Ping { nonce: self.ping.take()? })
    }

    /// The channel that sends next: deficit round robin, by bytes.
    ///
    /// Each turn adds `quantum` bytes to what the channel may send; with a quantum of the longest frame, every turn
    /// sends something, so this takes the same time however many channels there are.
    pub(super) fn next_channel(&mut self, ends: &mut Slab<End>, quantum: usize) -> Option<EndKey> {
        if let Some((_, key)) = self.turn
            && let Some(end) = ends.get_mut(key)
            && end.spend()
        {
            return Some(key);
        }
        let after = self.after_turn();
        let next = self.ready.range(after).next().or_else(|| self.ready.first_key_value());
        let (&turn, &key) = next?;
        self.turn = Some((turn, key));
        ends.get_mut(key)?.start_turn(quantum);
        Some(key)
    }

    /// The channels that hold something, in the order of their turns.
    pub(super) fn round(&self) -> impl Iterator<Item = EndKey> {
        self.ready.range(self.after_turn()).chain(&self.ready).map(|(_, key)| *key).take(self.ready.len())
    }

    fn after_turn(&self) -> (Bound<Turn>, Bound<Turn>) {
        (self.turn.map_or(Bound::Unbounded, |(turn, _)| Bound::Excluded(turn)), Bound::Unbounded)
    }
}
