//! One end of a channel: its queue, its turn to send, and how it closes. Called by all of the router.

use super::ledger::{Queue, cost};
use super::link::is_opened_by_peer;
use super::slab::Key;
use super::waiting::WaitKey;
use super::{Dialect, Event, LinkId, Router, Transmit};
use crate::frame::{ChannelId, Frame};
use crate::livecode::Packet;
use crate::{CloseCode, Instant};

/// The place of an [`End`] in the router.
pub(super) type EndKey = Key;

/// One end of a channel: what one of its two peers still has to get.
#[derive(Debug)]
pub(super) struct End {
    pub(super) link: LinkId,
    /// The channel's number on the link.
    pub(super) id: ChannelId,
    pub(super) stage: EndStage,
    /// The protocol of the peer at this end.
    pub(super) dialect: Dialect,
    queue: Queue,
    /// The number of bytes the channel may send in this turn.
    deficit: usize,
    /// True if the peer got anything on the channel, and so knows of it.
    known: bool,
    /// True if the queue is so long that the peer at the other end has to pause.
    behind: bool,
    /// True if the peer at this end was told to pause.
    paused: bool,
    /// True if the relay at this end's link asked for a pause.
    pub(super) is_stopped: bool,
    /// True if this end is at a relay to which this one is a client.
    pub(super) is_at_owner: bool,
    /// True if packets of an encrypted session went over a channel of the livecode dialect.
    pub(super) has_session: bool,
    /// The frame whose wait is measured: when it came in, and how many are before it.
    sample: Option<(Instant, usize)>,
}

/// The state of a channel, seen from one end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EndStage {
    /// The client's end, which waits: the server is not registered.
    Waiting(WaitKey),
    /// The server has not answered yet.
    Connecting { other: EndKey },
    /// The server has accepted the channel.
    Open { other: EndKey },
    /// The other end is gone; what is queued goes out, CLOSE at last.
    Closing,
}

/// The fate of the frames that are queued before a CLOSE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Queued {
    /// They are delivered first.
    Deliver,
    /// They are dropped.
    Drop,
}

impl End {
    /// Takes the first frame's length off what the channel may send in this turn, if that is enough.
    pub(super) fn spend(&mut self) -> bool {
        match self.queue.first() {
            Some(head) if head.len() <= self.deficit && !self.is_still() => {
                self.deficit -= head.len();
                true
            }
            _ => false,
        }
    }

    /// Starts the channel's turn: it may send `quantum` bytes more, and its first frame in any case.
    pub(super) fn start_turn(&mut self, quantum: usize) {
        self.deficit += quantum;
        if !self.spend() {
            // A text of the livecode dialect may be longer than the quantum.
            self.deficit = 0;
        }
    }

    /// Returns whether the server has to accept the channel before it gets what is queued: a client of the livecode dialect
    /// does not wait for that.
    pub(super) fn is_held(&self) -> bool {
        self.known && matches!(self.stage, EndStage::Connecting { .. })
    }

    /// Returns whether nothing of the queue may be sent now.
    pub(super) fn is_still(&self) -> bool {
        self.is_stopped || self.is_held()
    }

    /// The channel's number as the peer at this end has it: relays number the channels that they open at other relays with odd
    /// numbers, as all clients do, and here with even ones, like those that they offer to servers.
    pub(super) const fn wire_id(&self) -> ChannelId {
        if self.is_at_owner { ChannelId(self.id.0 - 1) } else { self.id }
    }

    /// Bytes in the queue, overhead included.
    pub(super) const fn queued(&self) -> usize {
        self.queue.cost()
    }

    /// Returns whether the peer at this end was told to pause.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// Memory of the queue's places, in bytes; what the frames themselves hold is not counted.
    pub(super) fn queue_memory(&self) -> usize {
        self.queue.memory()
    }

    /// Measures how long the last frame of the queue will have waited, unless another one is measured.
    fn start_sample(&mut self, now: Instant) {
        if self.sample.is_none() {
            self.sample = Some((now, self.queue.len().saturating_sub(1)));
        }
    }

    /// The time at which the frame that has just left the queue came in, if it was the one that is measured.
    fn step_sample(&mut self) -> Option<Instant> {
        let (_, before) = self.sample.as_mut()?;
        if *before > 0 {
            *before -= 1;
            return None;
        }
        self.sample.take().map(|(since, _)| since)
    }

    #[cfg(test)]
    pub(super) fn cost_of_queue(&self) -> usize {
        self.queue.added_up()
    }

    /// The end at the other peer, if it is still there.
    pub(super) const fn other(&self) -> Option<EndKey> {
        match self.stage {
            EndStage::Connecting { other } | EndStage::Open { other } => Some(other),
            EndStage::Waiting(_) | EndStage::Closing => None,
        }
    }
}

impl Router {
    /// Adds an end to a link, under a number that was not used on it.
    pub(super) fn add_end(&mut self, link: LinkId, id: ChannelId, stage: EndStage) -> EndKey {
        let state = self.links.get_mut(link.0).expect("ends are added to links that exist");
        let key = self.ends.insert(End {
            link,
            id,
            stage,
            dialect: state.peer.dialect,
            queue: Queue::default(),
            deficit: 0,
            known: is_opened_by_peer(id),
            behind: false,
            paused: false,
            is_stopped: false,
            is_at_owner: state.leads_to_owner(),
            has_session: false,
            sample: None,
        });
        state.channels.insert(id, key);
        if is_opened_by_peer(id) {
            state.opened += 1;
            state.last_opened = id;
        } else {
            state.incoming += 1;
            state.last_incoming = id;
        }
        key
    }

    /// Removes an end with what is queued; the other end is not told.
    fn remove_end(&mut self, key: EndKey) -> Option<End> {
        let mut end = self.ends.remove(key)?;
        if let Some(link) = self.links.get_mut(end.link.0) {
            link.channels.remove(&end.id);
            link.outbox.flow.remove(&end.id);
            link.outbox.ready.remove(&end.id.into());
            link.outbox.stopped.remove(&end.id.into());
            self.ledger.clear(&mut link.outbox.account, &mut end.queue);
            if let Some(livecode) = &mut link.livecode {
                livecode.forget(end.id, key);
            }
            if is_opened_by_peer(end.id) {
                link.opened -= 1;
            } else {
                link.incoming -= 1;
            }
        }
        self.end_retired(end.link);
        Some(end)
    }

    /// The peer at this end is done with the channel or gone: the other one gets what is queued, then CLOSE.
    pub(super) fn abandon(&mut self, key: EndKey, code: CloseCode, reason: &str) {
        let Some(end) = self.remove_end(key) else { return };
        match end.stage {
            EndStage::Waiting(wait) => self.stop_waiting(wait, end.link),
            EndStage::Connecting { other } | EndStage::Open { other } => {
                self.close_end(other, code, reason, Queued::Deliver);
            }
            EndStage::Closing => {}
        }
    }

    /// Sends CLOSE to the peer at this end; the other end is taken to be gone.
    pub(super) fn close_end(&mut self, key: EndKey, code: CloseCode, reason: &str, queued: Queued) {
        let Some(end) = self.ends.get_mut(key) else { return };
        if !end.known {
            // The peer has not heard of the channel, so there is nothing to close.
            self.remove_end(key);
            return;
        }
        let was_held = end.is_held();
        end.stage = EndStage::Closing;
        let (link, channel) = (end.link, end.id);
        if queued == Queued::Drop || was_held {
            self.clear_queue(key);
        }
        if let Some(link) = self.links.get_mut(link.0) {
            link.outbox.flow.remove(&channel);
        }
        // CLOSE waits for RESUME only behind what was sent before it.
        if self.ends.get(key).is_some_and(|end| end.is_stopped && end.queue.is_empty()) {
            self.stop(key, false);
        }
        match self.farewell(key, code, reason) {
            Some(farewell) => self.enqueue(key, farewell),
            None if self.ends.get(key).is_some_and(|end| end.queue.is_empty()) => drop(self.remove_end(key)),
            None => {}
        }
    }

    /// Returns the frame or text that tells the peer at an end that the channel ends, if there is one.
    fn farewell(&self, key: EndKey, code: CloseCode, reason: &str) -> Option<Transmit> {
        let (end, reason) = (self.ends.get(key)?, reason.to_owned());
        match end.dialect {
            Dialect::Tunnel => {
                let close = Frame::Close { channel: end.wire_id(), code, reason };
                Some(Transmit::Binary(close.encode()))
            }
            Dialect::Livecode if end.has_session => {
                let packet = Packet::End { code, reason };
                Some(Transmit::Text(self.text_for(key, &packet.encode())))
            }
            Dialect::Livecode => None,
        }
    }

    /// Ends a channel at both peers because of what one of them sent.
    pub(super) fn lose_channel(&mut self, from: EndKey, to: EndKey, code: CloseCode, reason: &str) {
        if let Some(end) = self.ends.get(from) {
            self.refused(end.link, code);
        }
        self.close_end(to, code, reason, Queued::Drop);
        self.close_end(from, code, reason, Queued::Drop);
    }

    /// Counts and reports a refusal.
    pub(super) fn refused(&mut self, link: LinkId, code: CloseCode) {
        self.totals.channels_refused += 1;
        self.events.push_back(Event::Refused { link, code });
    }

    fn clear_queue(&mut self, key: EndKey) {
        let Some(end) = self.ends.get_mut(key) else { return };
        end.sample = None;
        if let Some(link) = self.links.get_mut(end.link.0) {
            link.outbox.ready.remove(&end.id.into());
            self.ledger.clear(&mut link.outbox.account, &mut end.queue);
        }
    }

    /// Queues what one peer sent for the other, or ends the channel if there is no room.
    pub(super) fn forward(&mut self, from: EndKey, to: EndKey, transmit: Transmit) {
        if let Err(reason) = self.make_room(to, cost(transmit.len())) {
            return self.lose_channel(from, to, CloseCode::OVERFLOW, reason);
        }
        self.enqueue(to, transmit);
        let Some(end) = self.ends.get_mut(to) else { return };
        end.start_sample(self.clock);
        if end.behind {
            return;
        }
        let (link, queued) = (end.link, end.queued());
        let crowded = self.is_crowded(link);
        let high = if crowded { self.config.channel_low } else { self.config.channel_high };
        if queued > high {
            self.set_behind(to, true);
        }
    }

    /// Releases the frames that were held until the server accepted.
    pub(super) fn let_go(&mut self, key: EndKey) {
        let Some(end) = self.ends.get(key).filter(|end| !end.queue.is_empty() && !end.is_still()) else {
            return;
        };
        let link = end.link;
        if let Some(state) = self.links.get_mut(link.0) {
            state.outbox.ready.insert(end.id.into(), key);
        }
        self.announce(link);
    }

    /// Notes that an end is behind, or has caught up, and has the sender told by PAUSE or RESUME.
    fn set_behind(&mut self, key: EndKey, behind: bool) {
        let Some(end) = self.ends.get_mut(key) else { return };
        end.behind = behind;
        let Some(sender) = end.other().and_then(|other| self.ends.get(other)) else { return };
        if sender.dialect == Dialect::Livecode {
            return;
        }
        let (link, channel) = (sender.link, sender.id);
        if let Some(link) = self.links.get_mut(link.0) {
            link.outbox.flow.insert(channel);
        }
        self.announce(link);
    }

    /// Queues a frame for the peer at this end, whatever the limits are.
    pub(super) fn enqueue(&mut self, key: EndKey, transmit: Transmit) {
        let Some(end) = self.ends.get_mut(key) else { return };
        let (id, link_id) = (end.id, end.link);
        let Some(link) = self.links.get_mut(link_id.0) else { return };
        let was_empty = end.queue.is_empty();
        self.ledger.push(&mut link.outbox.account, &mut end.queue, transmit);
        if end.is_still() {
            return;
        }
        if was_empty {
            end.deficit = 0;
            link.outbox.ready.insert(id.into(), key);
        }
        self.announce(link_id);
    }

    /// The next frame of a channel for the link.
    pub(super) fn dequeue(&mut self, link_id: LinkId) -> Option<Transmit> {
        let link = self.links.get_mut(link_id.0)?;
        let key = link.outbox.next_channel(&mut self.ends, self.config.max_frame as usize)?;
        let end = self.ends.get_mut(key)?;
        let transmit = self.ledger.pop(&mut link.outbox.account, &mut end.queue)?;
        if let Some(since) = end.step_sample() {
            self.waited_since = Some(self.waited_since.map_or(since, |known| known.min(since)));
        }
        end.known = true;
        if end.queue.is_empty() {
            link.outbox.ready.remove(&end.id.into());
            if end.stage == EndStage::Closing {
                self.remove_end(key);
                return Some(transmit);
            }
            end.queue.shrink(16);
        } else if end.is_still() {
            link.outbox.ready.remove(&end.id.into());
        }
        if end.behind && end.queued() <= self.config.channel_low {
            self.set_behind(key, false);
        }
        Some(transmit)
    }

    /// Notes that the relay at an end's link wants a pause on its channel, or no longer.
    pub(super) fn stop(&mut self, key: EndKey, stop: bool) {
        let Some(end) = self.ends.get_mut(key) else { return };
        end.is_stopped = stop;
        if let Some(link) = self.links.get_mut(end.link.0) {
            if stop {
                link.outbox.ready.remove(&end.id.into());
                link.outbox.stopped.insert(end.id.into(), key);
            } else {
                link.outbox.stopped.remove(&end.id.into());
            }
        }
        self.let_go(key);
    }

    /// The next PAUSE or RESUME for the link.
    pub(super) fn next_flow(&mut self, link: LinkId) -> Option<Transmit> {
        let link = self.links.get_mut(link.0)?;
        while let Some(channel) = link.outbox.flow.pop_first() {
            let Some(&key) = link.channels.get(&channel) else { continue };
            let other = self.ends.get(key).and_then(End::other);
            let pause = other.and_then(|other| self.ends.get(other)).is_some_and(|other| other.behind);
            let Some(end) = self.ends.get_mut(key) else { continue };
            if end.paused == pause {
                continue;
            }
            end.paused = pause;
            self.totals.pauses += u64::from(pause);
            let channel = end.wire_id();
            let frame = if pause { Frame::Pause { channel } } else { Frame::Resume { channel } };
            return Some(Transmit::Binary(frame.encode()));
        }
        None
    }
}
