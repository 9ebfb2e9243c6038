//! The servers that clients of this relay wait for: when they are asked for, and when all relays have to say.

use super::roster::NodeKey;
use crate::Instant;
use crate::router::UNCERTAIN_WAITS;
use crate::server_id::PublicKey;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The times of the FINDs for a server, in milliseconds: one that is lost costs 100.
const FINDS: [u64; 6] = [0, 100, 300, 700, 1_200, 1_800];

/// Clients that come within this time are answered together.
const TOGETHER: Duration = Duration::from_millis(400);

/// The next thing to do for a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Ask for it.
    Find,
    /// Ask all relays to say whether they have it.
    Roll,
    /// Not all relays have answered.
    Silence,
}

/// A server that clients wait for.
#[derive(Debug)]
pub(super) struct Want {
    /// The times at which clients began to wait: first and last of those that are answered together.
    waits: VecDeque<(Instant, Instant)>,
    begun: Instant,
    finds: usize,
    pub(super) roll: Option<Roll>,
    /// All relays are not asked before.
    next_roll: Instant,
    /// Its entry in the timers.
    at: Instant,
}

/// A question to all relays.
#[derive(Debug)]
pub(super) struct Roll {
    pub(super) number: u64,
    pub(super) missing: BTreeSet<NodeKey>,
    /// True if one of those who know of all that was lost has said no.
    has_senior: bool,
    asked: Instant,
    until: Instant,
}

impl Roll {
    pub(super) const fn new(number: u64, missing: BTreeSet<NodeKey>, asked: Instant, until: Instant) -> Self {
        Self { number, missing, has_senior: false, asked, until }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Wants {
    wants: BTreeMap<PublicKey, Want>,
    timers: BTreeSet<(Instant, PublicKey)>,
    /// The servers that questions are about.
    rolls: BTreeMap<u64, PublicKey>,
    absent_wait: Duration,
    max: usize,
}

impl Wants {
    pub(super) const fn new(absent_wait: Duration, max: usize) -> Self {
        Self { wants: BTreeMap::new(), timers: BTreeSet::new(), rolls: BTreeMap::new(), absent_wait, max }
    }

    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    pub(super) fn contains(&self, key: &PublicKey) -> bool {
        self.wants.contains_key(key)
    }

    /// A client begins to wait.
    pub(super) fn add(&mut self, key: PublicKey, now: Instant) {
        if let Some(want) = self.wants.get_mut(&key) {
            match want.waits.back_mut() {
                Some((first, last)) if *first + TOGETHER > now => *last = now,
                _ => want.waits.push_back((now, now)),
            }
            if want.begun + Duration::from_millis(300) <= now {
                (want.begun, want.finds) = (now, 0);
            }
        } else if self.wants.len() < self.max {
            let waits = VecDeque::from([(now, now)]);
            self.wants.insert(key, Want { waits, begun: now, finds: 0, roll: None, next_roll: now, at: now });
        }
        self.arm(&key);
    }

    /// Nobody waits for the server any more.
    pub(super) fn remove(&mut self, key: &PublicKey) -> bool {
        let Some(want) = self.wants.remove(key) else { return false };
        self.timers.remove(&(want.at, *key));
        if let Some(roll) = want.roll {
            self.rolls.remove(&roll.number);
        }
        true
    }

    /// Asks for all of them anew.
    pub(super) fn begin_again(&mut self, now: Instant) {
        for key in self.wants.keys().copied().collect::<Vec<_>>() {
            if let Some(want) = self.wants.get_mut(&key) {
                (want.begun, want.finds) = (now, 0);
            }
            self.arm(&key);
        }
    }

    /// The next thing that is due.
    pub(super) fn next_step(&mut self, now: Instant) -> Option<(PublicKey, Step)> {
        let (_, key) = *self.timers.first().filter(|(at, _)| *at <= now)?;
        let absent_wait = self.absent_wait;
        let want = self.wants.get_mut(&key)?;
        let step = match (&want.roll, want.waits.front()) {
            (Some(roll), _) if roll.until <= now => Step::Silence,
            (None, Some((_, last))) if want.next_roll.max(*last + absent_wait) <= now => Step::Roll,
            _ => {
                want.finds += 1;
                Step::Find
            }
        };
        self.arm(&key);
        Some((key, step))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// All relays have been asked.
    pub(super) fn start_roll(&mut self, key: &PublicKey, roll: Roll) {
        self.rolls.insert(roll.number, *key);
        if let Some(want) = self.wants.get_mut(key) {
            want.roll = Some(roll);
        }
        self.arm(key);
    }

    /// A relay has said no. If that was the last one, returns the server, and whether one of them knows of all that was lost.
    pub(super) fn says_no(
        &mut self,
        number: u64,
        node: &NodeKey,
        is_senior: bool,
    ) -> Option<(PublicKey, bool)> {
        let key = *self.rolls.get(&number)?;
        let roll = self.wants.get_mut(&key)?.roll.as_mut()?;
        roll.has_senior |= roll.missing.remove(node) && is_senior;
        roll.missing.is_empty().then_some((key, roll.has_senior))
    }

    /// The server that a question is about.
    pub(super) fn asked(&self, number: u64) -> Option<PublicKey> {
        self.rolls.get(&number).copied()
    }

    /// Has clients wait on for a server of which nobody can tell, and asks again. False if they have waited as long as they may.
    pub(super) fn put_off(&mut self, key: &PublicKey, now: Instant) -> bool {
        let longest = self.absent_wait.saturating_mul(UNCERTAIN_WAITS);
        let Some(want) = self.wants.get_mut(key) else { return false };
        if want.waits.front().is_none_or(|(_, last)| *last + longest <= now) {
            return false;
        }
        if let Some(roll) = want.roll.take() {
            self.rolls.remove(&roll.number);
        }
        want.next_roll = now + self.absent_wait;
        // One FIND before that: most often the server's CLAIM comes first.
        (want.begun, want.finds) = (now, FINDS.len() - 1);
        self.arm(key);
        true
    }

    /// The clients that have waited as long as they may are told; others may wait on.
    pub(super) fn settle(&mut self, key: &PublicKey, now: Instant) {
        let absent_wait = self.absent_wait;
        let Some(want) = self.wants.get_mut(key) else { return };
        let asked = match want.roll.take() {
            Some(roll) => {
                self.rolls.remove(&roll.number);
                roll.asked
            }
            None => now,
        };
        while want.waits.front().is_some_and(|(_, last)| *last + absent_wait <= asked) {
            want.waits.pop_front();
        }
        if want.waits.is_empty() {
            self.remove(key);
        } else {
            self.arm(key);
        }
    }

    fn arm(&mut self, key: &PublicKey) {
        let Some(want) = self.wants.get_mut(key) else { return };
        let find = FINDS.get(want.finds).map(|millis| want.begun + Duration::from_millis(*millis));
        let roll = match (&want.roll, want.waits.front()) {
            (Some(roll), _) => Some(roll.until),
            (None, Some((_, last))) => Some(want.next_roll.max(*last + self.absent_wait)),
            (None, None) => None,
        };
        let at = [find, roll].into_iter().flatten().min().unwrap_or(Instant::NEVER);
        self.timers.remove(&(want.at, *key));
        want.at = at;
        self.timers.insert((at, *key));
    }
}
