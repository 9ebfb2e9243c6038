use crate::bucket::Bucket;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tunnel_protocol::Instant;
use tunnel_protocol::router::LinkId;

/// The order of links: by turns, and each only as often as its processor time allows.
#[derive(Debug)]
pub(super) struct Turns {
    share: f64,
    burst: Duration,
    /// Links with commands that wait, the next one first.
    round: VecDeque<LinkId>,
    buckets: BTreeMap<LinkId, Bucket>,
    /// For what no link asks for: timers and closed links.
    own: Option<Bucket>,
}

impl Turns {
    pub(super) fn new(share: f64, burst: Duration) -> Self {
        Self { share, burst, round: VecDeque::new(), buckets: BTreeMap::new(), own: None }
    }

    fn bucket(&mut self, link: Option<LinkId>, now: Instant) -> &mut Bucket {
        let fresh = || Bucket::new(self.share, self.burst, now);
        match link {
            Some(link) => self.buckets.entry(link).or_insert_with(fresh),
            None => self.own.get_or_insert_with(fresh),
        }
    }

    /// Notes that a link has a command that waits.
    pub(super) fn want(&mut self, link: LinkId, now: Instant) {
        self.bucket(Some(link), now);
        if !self.round.contains(&link) {
            self.round.push_back(link);
        }
    }

    /// Gives a link back its turn.
    pub(super) fn want_first(&mut self, link: LinkId) {
        self.round.push_front(link);
    }

    /// The next link whose turn it is, or when one's will be.
    pub(super) fn next(&mut self, now: Instant) -> Result<LinkId, Option<Instant>> {
        let mut earliest: Option<Instant> = None;
        for index in 0..self.round.len() {
            let link = self.round[index];
            let at = self.bucket(Some(link), now).ready_at(now);
            if at <= now {
                self.round.remove(index);
                return Ok(link);
            }
            earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        Err(earliest)
    }

    /// The time at which timers and closed links may have their turn.
    pub(super) fn own_at(&mut self, now: Instant) -> Instant {
        self.bucket(None, now).ready_at(now)
    }

    /// Notes what a call took. One that was stopped costs three times as much.
    pub(super) fn charge(&mut self, link: Option<LinkId>, spent: Duration, was_stopped: bool, now: Instant) {
        let spent = if was_stopped { 3 * spent } else { spent };
        self.bucket(link, now).take(spent, now);
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.round.retain(|it| *it != link);
        self.buckets.remove(&link);
    }
}
