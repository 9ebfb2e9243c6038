//! A bus that loses, delays, repeats and splits, and on which somebody lies who does not know the secret.

use crate::Random;
use bytes::Bytes;
use std::collections::BTreeMap;
use tunnel_protocol::presence::{Publication, Subject};
use tunnel_protocol::time::{Duration, Instant};

/// The messages on their way and the relays that they can reach.
#[derive(Debug)]
pub(super) struct SimulatedBus {
    queue: BTreeMap<(Instant, u64), (usize, Subject, Bytes)>,
    sent: u64,
    /// By relay: whether it is connected, and its part of a split bus.
    reached: BTreeMap<usize, bool>,
    groups: BTreeMap<usize, u8>,
    /// One message in so many is lost. 0: none.
    pub(super) loses: u64,
    /// Old messages, which a liar repeats or changes.
    heard: Vec<(Subject, Bytes)>,
    pub(super) lies: bool,
    random: Random,
}

impl SimulatedBus {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            queue: BTreeMap::new(),
            sent: 0,
            reached: BTreeMap::new(),
            groups: BTreeMap::new(),
            loses: 100,
            heard: Vec::new(),
            lies: false,
            random: Random::new(seed ^ 0xb05),
        }
    }

    pub(super) fn is_reached(&self, relay: usize) -> bool {
        self.reached.get(&relay).copied().unwrap_or(true)
    }

    pub(super) fn set_reached(&mut self, relay: usize, is_reached: bool) {
        self.reached.insert(relay, is_reached);
        if !is_reached {
            self.forget(relay);
        }
    }

    /// Loses the messages on their way to a relay.
    pub(super) fn forget(&mut self, relay: usize) {
        self.queue.retain(|_, (to, ..)| *to != relay);
    }

    pub(super) fn split(&mut self, relay: usize, group: u8) {
        self.groups.insert(relay, group);
    }

    pub(super) fn publish(&mut self, from: usize, publication: &Publication, now: Instant) {
        if !self.is_reached(from) {
            return;
        }
        self.send(Some(from), publication.subject, &publication.payload, now);
        if self.lies {
            self.lie(&publication.payload, publication.subject, now);
        }
    }

    fn lie(&mut self, payload: &Bytes, subject: Subject, now: Instant) {
        if self.heard.len() < 64 {
            self.heard.push((subject, payload.clone()));
        }
        let (subject, old) = self.heard[self.random.below(self.heard.len() as u64) as usize].clone();
        match self.random.below(4) {
            0 => self.send(None, subject, &old, now),
            1 => {
                let mut changed = old.to_vec();
                let at = self.random.below(changed.len() as u64) as usize;
                changed[at] ^= 1 << self.random.below(8);
                self.send(None, subject, &changed.into(), now);
            }
            2 => {
                let len = self.random.below(200);
                let garbage: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
                self.send(None, Subject::Find, &garbage.into(), now);
            }
            _ => {}
        }
    }

    fn send(&mut self, from: Option<usize>, subject: Subject, payload: &Bytes, now: Instant) {
        let group = |bus: &Self, relay| bus.groups.get(&relay).copied().unwrap_or(0);
        for to in 0..self.groups.len() {
            let is_split = from.is_some_and(|from| group(self, from) != group(self, to));
            let is_lost = self.loses > 0 && self.random.one_in(self.loses);
            if Some(to) == from || is_split || is_lost || !self.is_reached(to) {
                continue;
            }
            let delay = if self.random.one_in(200) { 2_000_000 } else { 5_000 };
            let at = now + Duration::from_micros(200 + self.random.below(delay));
            self.sent += 1;
            self.queue.insert((at, self.sent), (to, subject, payload.clone()));
        }
    }

    pub(super) fn next_at(&self, is_awake: impl Fn(usize) -> bool) -> Option<Instant> {
        self.queue.iter().find(|(_, (to, ..))| is_awake(*to)).map(|((at, _), _)| *at)
    }

    /// The next message that has arrived at a relay that is awake.
    pub(super) fn pop_due(
        &mut self,
        now: Instant,
        is_awake: impl Fn(usize) -> bool,
    ) -> Option<(usize, Subject, Bytes)> {
        let due = self.queue.range(..=(now, u64::MAX));
        let key = due.into_iter().find(|(_, (to, ..))| is_awake(*to)).map(|(key, _)| *key)?;
        self.queue.remove(&key)
    }
}
