//! The order in which links get processor time. Used by `engine.rs`.

use crate::bucket::Bucket;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tunnel_protocol::Instant;
use tunnel_protocol::endpoint::SocketId;
use tunnel_protocol::router::LinkId;

/// Somebody whose calls are charged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Who {
    /// Nobody: timers, and links that closed.
    Nobody,
    /// A livecode peer.
    Link(LinkId),
    /// A client of the namespace's own server.
    Client(SocketId),
}

/// The order of links and clients: by turns, and each only as often as its processor time allows.
#[derive(Debug)]
pub(super) struct Turns {
    share: f64,
    burst: Duration,
    /// Those for whom something waits, the next one first.
    round: VecDeque<Who>,
    buckets: BTreeMap<Who, Bucket>,
}

impl Turns {
    pub(super) fn new(share: f64, burst: Duration) -> Self {
        Self { share, burst, round: VecDeque::new(), buckets: BTreeMap::new() }
    }

    fn bucket(&mut self, who: Who, now: Instant) -> &mut Bucket {
        let fresh = || Bucket::new(self.share, self.burst, now);
        self.buckets.entry(who).or_insert_with(fresh)
    }

    /// Notes that something waits for somebody.
    pub(super) fn want(&mut self, who: Who, now: Instant) {
        self.bucket(who, now);
        if !self.round.contains(&who) {
            self.round.push_back(who);
        }
    }

    /// Gives somebody back its turn.
    pub(super) fn want_first(&mut self, who: Who) {
        self.round.push_front(who);
    }

    /// The next one whose turn it is, or when one's will be.
    pub(super) fn next(&mut self, now: Instant) -> Result<Who, Option<Instant>> {
        let mut earliest: Option<Instant> = None;
        for index in 0..self.round.len() {
            let who = self.round[index];
            let at = self.bucket(who, now).ready_at(now);
            if at <= now {
                self.round.remove(index);
                return Ok(who);
            }
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        Err(earliest)
    }

    /// The time at which timers and closed links may have their turn.
    pub(super) fn own_at(&mut self, now: Instant) -> Instant {
        self.bucket(Who::Nobody, now).ready_at(now)
    }

    /// Notes what a call took. One that was stopped costs three times as much.
    pub(super) fn charge(&mut self, who: Who, spent: Duration, was_stopped: bool, now: Instant) {
        let spent = if was_stopped { 3 * spent } else { spent };
        self.bucket(who, now).take(spent, now);
    }

    pub(super) fn forget(&mut self, who: Who) {
        self.round.retain(|it| *it != who);
        self.buckets.remove(&who);
    }
}
