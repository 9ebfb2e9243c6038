//! The relay's buffers: senders that are paused, and channels that are lost, when they are full.

use super::channel::{End, EndKey, EndStage, Queued};
use super::{LinkId, Router};
use crate::CloseCode;

/// The number of links and channels that are looked at to find one that fills the buffers: always finding the fullest would
/// let a peer that keeps many channels full make the router slow.
const SAMPLE: usize = 64;

/// The number of channels that may be lost to make room for one frame.
const MAX_LOST: usize = 4;

impl Router {
    /// Makes room for `cost` more bytes at an end, if need be at the cost of the channels that fill the buffers; if
    /// there is none, returns the reason.
    pub(super) fn make_room(&mut self, to: EndKey, cost: usize) -> Result<(), &'static str> {
        let Some(end) = self.ends.get(to) else { return Err("the channel is closed") };
        let (link, wanted) = (end.link, end.queued() + cost);
        if wanted > self.config.channel_buffer {
            return Err("the sender ignored PAUSE: the relay's buffer for it is full");
        }
        for _ in 0..=MAX_LOST {
            let Some(full) = self.full_link(link, cost) else { return Ok(()) };
            let Some(victim) = self.longest_queue(full, wanted) else { break };
            self.lose(victim);
            if self.ends.get(to).and_then(End::other).is_none() {
                return Err("the channel held too much the other way");
            }
        }
        Err("the receiver is too slow: the relay's buffer is full")
    }

    /// The number of bytes that may be held for a link.
    fn buffer_of(&self, link: LinkId) -> usize {
        match (self.links.get(link.0).and_then(|state| state.node.as_ref()), &self.config.cluster) {
            (Some(_), Some(cluster)) => cluster.node_buffer,
            _ => self.config.link_buffer,
        }
    }

    /// Returns whether a link can get `cost` bytes more without a channel being lost.
    pub(super) fn has_room(&self, link: LinkId, cost: usize) -> bool {
        let held = self.links.get(link.0).map_or(0, |state| state.outbox.account.held());
        held + cost <= self.buffer_of(link) && self.ledger.total() + cost <= self.config.total_buffer
    }

    /// Returns whether so much is held for a link, or in all, that senders are paused early.
    pub(super) fn is_crowded(&self, link: LinkId) -> bool {
        let held = self.links.get(link.0).map_or(0, |state| state.outbox.account.held());
        held > self.buffer_of(link) / 2 || self.ledger.total() > self.config.total_buffer / 2
    }

    /// A link that has to lose a channel before `link` gets `cost` bytes more.
    fn full_link(&mut self, link: LinkId, cost: usize) -> Option<LinkId> {
        let held = |router: &Self, link: LinkId| {
            router.links.get(link.0).map_or(0, |state| state.outbox.account.held())
        };
        if held(self, link) + cost > self.buffer_of(link) {
            return Some(link);
        }
        if self.ledger.total() + cost <= self.config.total_buffer {
            return None;
        }
        self.sampled += SAMPLE;
        let sample = self.links.keys_from(self.sampled).take(SAMPLE).map(LinkId);
        sample.chain([link]).max_by_key(|link| held(self, *link))
    }

    /// A channel for which a link holds more than `wanted` bytes.
    fn longest_queue(&self, link: LinkId, wanted: usize) -> Option<EndKey> {
        let outbox = &self.links.get(link.0)?.outbox;
        let queued = |key: &EndKey| self.ends.get(*key).map_or(0, End::queued);
        let stopped = outbox.stopped.values().copied().take(SAMPLE);
        let longest = outbox.round().take(SAMPLE).chain(stopped).max_by_key(queued)?;
        (queued(&longest) > wanted).then_some(longest)
    }

    /// Ends the channel that an end with a long queue belongs to.
    fn lose(&mut self, key: EndKey) {
        let Some(end) = self.ends.get(key) else { return };
        let reason = "the receiver is too slow, and others need the relay's buffer";
        match end.other() {
            Some(from) => self.lose_channel(from, key, CloseCode::OVERFLOW, reason),
            None if end.stage == EndStage::Closing => {
                self.close_end(key, CloseCode::OVERFLOW, reason, Queued::Drop);
            }
            None => {}
        }
    }
}
