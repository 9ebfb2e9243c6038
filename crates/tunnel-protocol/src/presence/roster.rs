//! The relays of the cluster, as far as this one has heard of them.

use crate::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The number of relays that are known at one time. All of them know the secret, so this bounds mistakes, not attacks.
const MAX_NODES: usize = 1_024;

/// The time after which two clocks are compared anew, since they drift.
const TIDE: Duration = Duration::from_secs(60);

/// A message that seems to arrive by this much before it was sent, in microseconds: one of the clocks stood still, as in a machine that
/// was suspended.
const JUMP: i64 = 1_000_000;

/// The name and the incarnation of a relay.
pub(super) type NodeKey = (String, u64);

/// Another relay.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The address of its links between relays.
    pub(super) address: String,
    heard: Instant,
    /// True if it has been silent for too long.
    pub(super) is_lost: bool,
    /// The sender's time of its newest BEAT: an older one is a replay.
    beaten: u64,
    clocks: Option<Clocks>,
}

/// The clocks of two relays, compared by an answer of the other one.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// Arrival minus sending, in microseconds by the two clocks, of a message that took no time; or less, by a round trip at the most.
    apart: i64,
    compared: Instant,
}

fn took(sent: u64, now: Instant) -> i64 {
    now.as_micros() as i64 - sent as i64
}

/// All other relays.
#[derive(Debug, Default)]
pub(super) struct Roster {
    nodes: BTreeMap<NodeKey, Node>,
    /// Incarnations that have said goodbye: what is replayed of them does not bring them back.
    gone: VecDeque<u64>,
}

impl Node {
    fn lateness(&mut self, sent: u64, now: Instant) -> Option<Duration> {
        let late = took(sent, now).saturating_sub(self.clocks?.apart);
        if late < -JUMP {
            self.clocks = None;
            return None;
        }
        Some(Duration::from_micros(late.max(0).unsigned_abs()))
    }

    fn is_compared(&self, now: Instant) -> bool {
        self.clocks.is_some_and(|clocks| clocks.compared + TIDE > now)
    }

    fn compare(&mut self, sent: u64, round_trip: u64, now: Instant) {
        let apart = took(sent, now).saturating_sub_unsigned(round_trip);
        let is_compared = self.is_compared(now);
        if self.clocks.is_none_or(|clocks| !is_compared || clocks.apart <= apart) {
            self.clocks = Some(Clocks { apart, compared: now });
        }
    }
}

impl Roster {
    /// Notes a BEAT. Returns whether the relay was not known or taken to be lost; `None` if the BEAT is a replay.
    pub(super) fn beat(&mut self, key: &NodeKey, address: &str, sent: u64, now: Instant) -> Option<bool> {
        if self.gone.contains(&key.1) {
            return None;
        }
        if let Some(node) = self.nodes.get_mut(key) {
            if sent <= node.beaten {
                return None;
            }
            node.beaten = sent;
            node.heard = now;
            address.clone_into(&mut node.address);
            return Some(std::mem::take(&mut node.is_lost));
        }
        if self.nodes.len() >= MAX_NODES {
            return None;
        }
        let address = address.to_owned();
        let node = Node { address, heard: now, is_lost: false, beaten: sent, clocks: None };
        self.nodes.insert(key.clone(), node);
        Some(true)
    }

    /// Returns the time that a message of a relay took, at the most, by the sender's and the receiver's clocks, neither of which has to
    /// be right. `None`: the relay has not answered yet, so that all it seems to say may be a replay.
    pub(super) fn lateness(&mut self, key: &NodeKey, sent: u64, now: Instant) -> Option<Duration> {
        self.nodes.get_mut(key)?.lateness(sent, now)
    }

    /// Compares the clocks of a relay and of this one by an answer that arrived now, `round_trip` microseconds after it was asked for.
    pub(super) fn compare(&mut self, key: &NodeKey, sent: u64, round_trip: u64, now: Instant) {
        if let Some(node) = self.nodes.get_mut(key) {
            node.compare(sent, round_trip, now);
        }
    }

    /// Returns whether the relay has answered lately.
    pub(super) fn is_compared(&self, key: &NodeKey, now: Instant) -> bool {
        self.nodes.get(key).is_some_and(|node| node.is_compared(now))
    }

    /// Returns whether a relay should answer, so that its clock is known.
    pub(super) fn wants_answers(&self, now: Instant) -> bool {
        self.nodes.values().any(|node| !node.is_lost && !node.is_compared(now))
    }

    /// Forgets a relay that ends.
    pub(super) fn leave(&mut self, key: &NodeKey) -> bool {
        if self.gone.len() >= MAX_NODES {
            self.gone.pop_front();
        }
        if !self.gone.contains(&key.1) {
            self.gone.push_back(key.1);
        }
        self.nodes.remove(key).is_some()
    }

    pub(super) fn get(&self, key: &NodeKey) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeKey, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn has_lost(&self) -> bool {
        self.nodes.values().any(|node| node.is_lost)
    }

    /// Starts all silences anew: it was this relay that heard nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.nodes.values_mut().for_each(|node| node.heard = now);
    }

    /// Looks for silent relays: returns the names of those that are lost from now on, and forgets those that were lost for long.
    pub(super) fn expire(
        &mut self,
        lost_after: Duration,
        forget_after: Duration,
        now: Instant,
    ) -> Vec<String> {
        let mut lost = Vec::new();
        self.nodes.retain(|(name, _), node| {
            if !node.is_lost && node.heard + lost_after <= now {
                node.is_lost = true;
                lost.push(name.clone());
            }
            !(node.is_lost && node.heard + lost_after + forget_after <= now)
        });
        lost
    }

    /// The time at which the next relay is lost or forgotten.
    pub(super) fn next_timeout(&self, lost_after: Duration, forget_after: Duration) -> Option<Instant> {
        let at = |node: &Node| {
            let lost_at = node.heard + lost_after;
            if node.is_lost { lost_at + forget_after } else { lost_at }
        };
        self.nodes.values().map(at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_message_is_late_by_an_answer_of_its_sender_whatever_the_clocks_say() {
        let mut roster = Roster::default();
        let key = ("a".to_owned(), 1);
        assert_eq!(roster.lateness(&key, 0, at(5)), None, "not on the roster");
        // The sender's clock began 100 s before the receiver's.
        assert_eq!(roster.beat(&key, "h:1", 100_000_000, at(3)), Some(true));
        assert_eq!(roster.lateness(&key, 100_000_000, at(3)), None, "it has not answered");
        assert!(roster.wants_answers(at(3)));
        // The question went out 8 ms before the answer came, which took between none and all of them.
        roster.compare(&key, 101_000_000, 8_000, at(1_005));
        let late = |roster: &mut Roster, sent: u64, arrived| roster.lateness(&key, sent * 1_000, at(arrived));
        for (sent, arrived, most) in [(101_000, 1_005, 8), (102_000, 2_900, 903), (103_000, 12_000, 9_003)] {
            assert_eq!(late(&mut roster, sent, arrived), Some(Duration::from_millis(most)), "{sent}");
        }
        // A slower round trip tells less, until the last one is a minute old.
        roster.compare(&key, 104_000_000, 900_000, at(4_600));
        assert_eq!(late(&mut roster, 104_000, 4_600), Some(Duration::from_millis(603)));
        assert!(!roster.wants_answers(at(61_004)) && roster.wants_answers(at(61_005)));
        roster.compare(&key, 165_000_000, 900_000, at(65_600));
        assert_eq!(late(&mut roster, 165_000, 65_600), Some(Duration::from_millis(900)));
        // It cannot have arrived before it was sent.
        assert_eq!(late(&mut roster, 170_000, 66_000), None);
        assert!(roster.wants_answers(at(66_000)));
    }

    #[test]
    fn a_replayed_beat_brings_nobody_back() {
        let mut roster = Roster::default();
        let key = ("a".to_owned(), 1);
        assert_eq!(roster.beat(&key, "h:1", 10, at(0)), Some(true));
        assert_eq!(roster.beat(&key, "h:1", 10, at(1)), None);
        assert_eq!(roster.beat(&key, "h:1", 11, at(2)), Some(false));
        assert!(roster.leave(&key));
        assert_eq!(roster.beat(&key, "h:1", 12, at(3)), None);
    }

    #[test]
    fn a_silent_relay_is_lost_and_later_forgotten() {
        let (lost_after, forget_after) = (Duration::from_secs(6), Duration::from_secs(75));
        let mut roster = Roster::default();
        let key = ("a".to_owned(), 1);
        roster.beat(&key, "h:1", 10, at(0));
        assert_eq!(roster.next_timeout(lost_after, forget_after), Some(at(6_000)));
        assert!(roster.expire(lost_after, forget_after, at(5_999)).is_empty());
        assert_eq!(roster.expire(lost_after, forget_after, at(6_000)), ["a"]);
        assert!(roster.has_lost());
        assert_eq!(roster.beat(&key, "h:1", 11, at(7_000)), Some(true), "it is back");
        assert!(!roster.has_lost());
        assert_eq!(roster.expire(lost_after, forget_after, at(13_000)), ["a"]);
        assert_eq!(roster.next_timeout(lost_after, forget_after), Some(at(88_000)));
        roster.expire(lost_after, forget_after, at(88_000));
        assert_eq!(roster.iter().count(), 0);
    }
}
