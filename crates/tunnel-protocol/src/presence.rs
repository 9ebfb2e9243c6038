//! The relays of a cluster know by this which of them has a server.
//!
//! The owner of a server's key is the relay whose router has the server's link. There is no other record: a relay whose client waits
//! for a server asks all others on a bus (FIND), and only the owner answers. A relay at which a server registers says so (CLAIM),
//! and whoever has an older registration of the same key ends it.
//!
//! This machine stands beside the [`Router`](crate::router::Router), whose events it gets and whose `handle_route`,
//! `handle_absent` and `handle_fence` its own events call. Its owner brings a bus that may lose, delay and repeat messages, and two
//! clocks: one that only goes on, and the time of day, by which registrations at different relays are compared. No frame of a channel
//! comes here.

mod config;
mod event;
mod message;
mod roster;
mod routes;
mod wants;

pub use config::Config;
pub use event::{Event, Moment, Publication, Stats};
pub use message::Subject;
pub use routes::Routes;

use crate::router::LinkId;
use crate::router::pace::Pace;
use crate::server_id::PublicKey;
use crate::{CloseCode, Instant};
use bytes::Bytes;
use message::{Envelope, MAX_CLAIMS, Message, Word};
use roster::{NodeKey, Roster};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wants::{Roll, Step, Wants};

/// A registration that is older than another one by more than this lost to it: its page is told so for good. Nearer ones may be in the
/// wrong order, since clocks differ: their pages register again.
const NEAR: u64 = 10_000_000;

/// A claim counts as fresh for this time.
const FRESH: Duration = Duration::from_secs(2);

/// A message that may have taken longer than this is late: a client of the bus that was cut off sends what it has queued when it is
/// back, up to 9 s later as measured, and whoever can write to the bus can send it again at any time.
const LATE: Duration = Duration::from_secs(2);

/// A claim whose time is later than now by more than this, in microseconds, is wrong: it would win for ever.
const AHEAD: u64 = 3_600_000_000;

/// A server that is registered here.
#[derive(Clone, Copy, Debug)]
struct Held {
    epoch: u64,
    link: LinkId,
    /// The time at which the page has proven that it has the key.
    proven_at: Instant,
}

/// The standing of the bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Since when it has been reached.
    On { since: Instant },
    /// Since when it has not, and whether that has been said.
    Off { since: Instant, said: bool },
}

/// The part of the cluster that one relay knows; see the [module](self).
#[derive(Debug)]
pub struct Presence {
    config: Config,
    started: Instant,
    standing: Standing,
    /// Since when it has been on the bus, but for breaks in which nobody is lost.
    here_since: Instant,
    is_draining: bool,
    held: BTreeMap<PublicKey, Held>,
    roster: Roster,
    wants: Wants,
    rolls: u64,
    pace: Pace,
    next_beat: Instant,
    next_audit: Instant,
    /// Keys that are claimed with the next message.
    fresh: Vec<(PublicKey, u64)>,
    out: VecDeque<Publication>,
    events: VecDeque<Event>,
    totals: Stats,
}

impl Presence {
    /// A relay that has not reached the bus yet.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            started: now,
            standing: Standing::Off { since: now, said: false },
            here_since: now,
            is_draining: false,
            held: BTreeMap::new(),
            roster: Roster::default(),
            wants: Wants::new(config.absent_wait, config.max_wants),
            rolls: 0,
            pace: Pace::default(),
            next_beat: now,
            next_audit: now + config.audit_interval,
            fresh: Vec::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            totals: Stats::default(),
            config,
        }
    }

    /// The bus is reached, for the first time or again. What is held here is claimed before any question is answered.
    pub fn handle_bus_up(&mut self, time: Moment) {
        if matches!(self.standing, Standing::Off { since, .. } if since + self.config.lost_after <= time.now)
        {
            self.here_since = time.now;
        }
        self.standing = Standing::On { since: time.now };
        self.roster.excuse(time.now);
        self.beat(true, time);
        self.audit(time);
        self.wants.begin_again(time.now);
        self.look_for_servers(time);
    }

    /// The bus is not reached any more.
    pub fn handle_bus_down(&mut self, time: Moment) {
        if let Standing::On { .. } = self.standing {
            self.standing = Standing::Off { since: time.now, said: false };
        }
        self.out.clear();
    }

    /// A server has registered at this relay: from [`router::Event::Registered`](crate::router::Event::Registered).
    pub fn handle_registered(&mut self, key: PublicKey, link: LinkId, time: Moment) {
        let known = self.held.get(&key).map_or(0, |held| held.epoch.saturating_add(1));
        self.hold(key, Held { epoch: time.wall.max(known), link, proven_at: time.now });
        self.wants.remove(&key);
    }

    /// A server's link is gone.
    pub fn handle_unregistered(&mut self, key: &PublicKey, link: LinkId) {
        if self.held.get(key).is_some_and(|held| held.link == link) {
            self.held.remove(key);
        }
    }

    /// A client waits for a server that is not registered here.
    pub fn handle_wanted(&mut self, key: PublicKey, time: Moment) {
        if !self.held.contains_key(&key) {
            self.wants.add(key, time.now);
            self.look_for_servers(time);
        }
    }

    /// The relay is about to end: it answers no FIND any more.
    pub fn handle_drain(&mut self) {
        self.is_draining = true;
    }

    /// The relay ends now.
    pub fn handle_end(&mut self, time: Moment) {
        self.is_draining = true;
        self.publish(Subject::Claim, Message::Bye, time);
    }

    /// Takes in a message of the bus.
    pub fn handle_message(&mut self, subject: Subject, payload: &Bytes, time: Moment) {
        let is_for_others = matches!(subject, Subject::Node(to) if to != self.config.incarnation);
        let envelope = Envelope::decode(payload, subject, &self.config.secret);
        let Some(envelope) = envelope.filter(|_| !is_for_others) else {
            self.totals.garbage += 1;
            return;
        };
        let Envelope { node, incarnation, sent, message } = envelope;
        if incarnation == self.config.incarnation {
            return;
        }
        let from = (node, incarnation);
        let lateness = self.roster.lateness(&from, sent, time.now);
        match message {
            Message::Beat { address, asks, answers } => {
                let answers = matches!(subject, Subject::Node(_)).then_some(answers);
                self.handle_beat(&from, address, sent, asks, answers, time);
            }
            Message::Bye => {
                if self.roster.leave(&from) {
                    self.events.push_back(Event::Left { node: from.0 });
                }
            }
            Message::Find { key } => {
                if self.held.contains_key(&key) && !self.is_draining {
                    self.publish(Subject::Node(from.1), Message::Found { key }, time);
                }
            }
            Message::Roll { key, roll } => self.answer_roll(&from, key, roll, time),
            Message::Found { key } => self.route(&key, &from),
            Message::No { roll, word: Word::Unsure } => {
                if let Some(key) = self.wants.asked(roll) {
                    self.settle(&key, false, time);
                }
            }
            Message::No { roll, word } => {
                if let Some((key, has_senior)) = self.wants.says_no(roll, &from, word == Word::Senior) {
                    let is_certain = !self.roster.has_lost() && (has_senior || self.is_senior(time.now));
                    self.settle(&key, is_certain, time);
                }
            }
            Message::Claim { is_fresh, claims } => {
                let lateness = lateness.filter(|lateness| is_fresh && *lateness <= LATE);
                self.handle_claims(&from, is_fresh, lateness, claims, time);
            }
            Message::Newer { is_fresh, claims } => {
                for (key, epoch) in claims {
                    self.handle_newer(&from, key, epoch, is_fresh, time);
                }
            }
        }
    }

    /// Takes in a BEAT to all, or to this relay alone: the answer to the one that this relay sent at the time that it names.
    fn handle_beat(
        &mut self,
        from: &NodeKey,
        address: String,
        sent: u64,
        asks: bool,
        answers: Option<u64>,
        time: Moment,
    ) {
        if from.0 == self.config.node {
            self.events.push_back(Event::Clash { address });
            return;
        }
        let is_new = self.roster.beat(from, &address, sent, time.now);
        // A replay to all would have all answer. An answer may come behind a later BEAT to all, and one that is replayed tells less.
        if is_new.is_none() && answers.is_none() {
            return;
        }
        if let Some(round_trip) = answers.and_then(|asked| self.running_for(time).checked_sub(asked)) {
            self.roster.compare(from, sent, round_trip, time.now);
        }
        if asks {
            let asks = answers.is_none() && !self.roster.is_compared(from, time.now);
            let address = self.config.address.clone();
            self.publish(Subject::Node(from.1), Message::Beat { address, asks, answers: sent }, time);
        }
        if is_new == Some(true) {
            self.events.push_back(Event::Joined { node: from.0.clone(), address });
        }
    }

    fn answer_roll(&mut self, from: &NodeKey, key: PublicKey, roll: u64, time: Moment) {
        let has_it = self.held.contains_key(&key);
        let answer = if has_it && !self.is_draining {
            Message::Found { key }
        } else {
            let word = match (!has_it && self.can_tell(time.now), self.is_senior(time.now)) {
                (false, _) => Word::Unsure,
                (true, false) => Word::Sure,
                (true, true) => Word::Senior,
            };
            Message::No { roll, word }
        };
        self.publish(Subject::Node(from.1), answer, time);
    }

    /// Returns whether this relay's word that a server is not there is worth something.
    fn can_tell(&self, now: Instant) -> bool {
        let settled =
            matches!(self.standing, Standing::On { since } if since + self.config.lost_after <= now);
        settled && !self.roster.has_lost()
    }

    /// Returns whether this relay has been on the bus for so long that it knows of every relay that was lost lately.
    fn is_senior(&self, now: Instant) -> bool {
        self.here_since + self.config.lost_after + self.config.forget_after <= now
    }

    /// Takes in what another relay has. `lateness`: the time since the proofs, if they are fresh and the message is on time.
    fn handle_claims(
        &mut self,
        from: &NodeKey,
        is_fresh: bool,
        lateness: Option<Duration>,
        claims: Vec<(PublicKey, u64)>,
        time: Moment,
    ) {
        let mut newer = Vec::new();
        for (key, epoch) in claims {
            if epoch > time.wall.saturating_add(AHEAD) {
                self.totals.ahead += 1;
                continue;
            }
            match self.held.get(&key) {
                Some(held) if self.is_greater(from, epoch, held) => {
                    if lateness.is_some_and(|lateness| held.proven_at + lateness > time.now) {
                        // Its page has gone on to this relay while the message was on its way, from a relay whose clock is ahead.
                        self.hold(key, Held { epoch: epoch.saturating_add(1), ..*held });
                    } else {
                        self.fence(key, lateness.is_some() || epoch - held.epoch > NEAR);
                    }
                }
                Some(held) => newer.push((key, held.epoch)),
                None => self.route(&key, from),
            }
        }
        if !newer.is_empty() {
            self.publish(Subject::Node(from.1), Message::Newer { is_fresh, claims: newer }, time);
        }
    }

    /// Returns whether another relay's claim counts more than a registration here.
    fn is_greater(&self, from: &NodeKey, epoch: u64, held: &Held) -> bool {
        (epoch, &from.0, from.1) > (held.epoch, &self.config.node, self.config.incarnation)
    }

    fn handle_newer(&mut self, from: &NodeKey, key: PublicKey, epoch: u64, is_fresh: bool, time: Moment) {
        if epoch > time.wall.saturating_add(AHEAD) {
            self.totals.ahead += 1;
            return;
        }
        let Some(held) = self.held.get(&key).copied() else { return };
        if !self.is_greater(from, epoch, &held) {
            return;
        }
        if is_fresh && held.proven_at + FRESH > time.now {
            // The proof was made here just now, so it is the newest, whatever the clocks say.
            self.hold(key, Held { epoch: epoch.saturating_add(1), ..held });
        } else {
            self.fence(key, epoch - held.epoch > NEAR);
        }
    }

    fn hold(&mut self, key: PublicKey, held: Held) {
        self.held.insert(key, held);
        if self.is_on() {
            self.fresh.push((key, held.epoch));
            self.totals.claims_fresh += 1;
        }
    }

    fn fence(&mut self, key: PublicKey, is_final: bool) {
        let Some(held) = self.held.remove(&key) else { return };
        let (count, code) = if is_final {
            (&mut self.totals.fenced, CloseCode::ID_TAKEN_OVER)
        } else {
            (&mut self.totals.asked_again, CloseCode::DRAINING)
        };
        *count += 1;
        self.events.push_back(Event::Fence { key, link: held.link, code });
    }

    /// Takes those who wait for a server to a relay, if that is on the roster.
    fn route(&mut self, key: &PublicKey, to: &NodeKey) {
        if !self.wants.contains(key) {
            return;
        }
        let Some(node) = self.roster.get(to) else {
            self.totals.off_roster += 1;
            return;
        };
        let address = node.address.clone();
        self.wants.remove(key);
        self.totals.found += 1;
        self.events.push_back(Event::Route { key: *key, node: to.0.clone(), address });
    }

    fn settle(&mut self, key: &PublicKey, is_certain: bool, time: Moment) {
        if !is_certain && self.wants.put_off(key, time.now) {
            return;
        }
        let count = if is_certain { &mut self.totals.absent } else { &mut self.totals.uncertain };
        *count += 1;
        self.wants.settle(key, time.now);
        self.events.push_back(Event::Absent { key: *key, is_certain });
    }

    /// Acts on the clocks; calling it too early is harmless.
    pub fn handle_timeout(&mut self, time: Moment) {
        match &mut self.standing {
            Standing::On { .. } if self.next_beat <= time.now => {
                // A relay that was suspended has missed messages: other relays may have taken over its servers.
                if self.next_beat + self.config.lost_after / 2 <= time.now {
                    self.here_since = time.now;
                    self.handle_bus_up(time);
                }
                self.beat(false, time);
            }
            Standing::Off { since, said } if !*said && *since + self.config.cut_off_after <= time.now => {
                *said = true;
                self.events.push_back(Event::CutOff);
            }
            Standing::On { .. } | Standing::Off { .. } => {}
        }
        if self.next_audit <= time.now {
            self.audit(time);
        }
        if self.is_on() {
            let Config { lost_after, forget_after, .. } = self.config;
            for node in self.roster.expire(lost_after, forget_after, time.now) {
                self.events.push_back(Event::Lost { node });
            }
        }
        self.look_for_servers(time);
    }

    fn look_for_servers(&mut self, time: Moment) {
        while let Some((key, step)) = self.wants.next_step(time.now) {
            match step {
                Step::Find => {
                    if self.may_ask(time.now) {
                        self.publish(Subject::Find, Message::Find { key }, time);
                    }
                }
                Step::Roll => self.call_the_roll(key, time),
                Step::Silence => self.settle(&key, false, time),
            }
        }
    }

    fn may_ask(&mut self, now: Instant) -> bool {
        if !self.is_on() {
            return false;
        }
        let may = self.pace.allows(self.config.finds_per_second, Duration::from_secs(1), now);
        let count = if may { &mut self.totals.finds } else { &mut self.totals.suppressed };
        *count += 1;
        may
    }

    fn call_the_roll(&mut self, key: PublicKey, time: Moment) {
        let missing: BTreeSet<NodeKey> = self.roster.iter().map(|(node, _)| node.clone()).collect();
        if !self.can_tell(time.now) {
            return self.settle(&key, false, time);
        }
        if missing.is_empty() {
            let is_certain = self.is_senior(time.now);
            return self.settle(&key, is_certain, time);
        }
        if !self.may_ask(time.now) {
            return self.settle(&key, false, time);
        }
        self.rolls = self.rolls.wrapping_add(1);
        let roll = self.config.incarnation.wrapping_add(self.rolls);
        self.wants.start_roll(&key, Roll::new(roll, missing, time.now, time.now + self.config.roll_wait));
        self.publish(Subject::Find, Message::Roll { key, roll }, time);
    }

    fn beat(&mut self, asks: bool, time: Moment) {
        self.next_beat = time.now + self.config.beat_interval;
        let address = self.config.address.clone();
        let asks = asks || self.roster.wants_answers(time.now);
        self.publish(Subject::Claim, Message::Beat { address, asks, answers: 0 }, time);
    }

    /// Claims all that is held here: whoever has a newer registration says so.
    fn audit(&mut self, time: Moment) {
        self.next_audit = time.now + self.config.audit_interval;
        if !self.is_on() {
            return;
        }
        self.flush_claims(time);
        let held: Vec<_> = self.held.iter().map(|(key, held)| (*key, held.epoch)).collect();
        self.totals.claims_audit += held.len() as u64;
        for claims in held.chunks(MAX_CLAIMS) {
            let claims = claims.to_vec();
            self.publish(Subject::Claim, Message::Claim { is_fresh: false, claims }, time);
        }
    }

    /// Has the claims of the last call wait for no timer.
    fn flush_claims(&mut self, time: Moment) {
        let mut fresh = std::mem::take(&mut self.fresh);
        // A relay that was suspended may take in a registration and the end of its link at once.
        fresh.retain(|(key, epoch)| self.held.get(key).is_some_and(|held| held.epoch == *epoch));
        for claims in fresh.chunks(MAX_CLAIMS) {
            let claims = claims.to_vec();
            self.publish(Subject::Claim, Message::Claim { is_fresh: true, claims }, time);
        }
    }

    const fn is_on(&self) -> bool {
        matches!(self.standing, Standing::On { .. })
    }

    fn publish(&mut self, subject: Subject, message: Message, time: Moment) {
        if !self.is_on() {
            return;
        }
        let envelope = Envelope {
            node: self.config.node.clone(),
            incarnation: self.config.incarnation,
            sent: self.running_for(time),
            message,
        };
        self.out.push_back(Publication { subject, payload: envelope.encode(subject, &self.config.secret) });
    }

    /// Microseconds since this relay started.
    fn running_for(&self, time: Moment) -> u64 {
        u64::try_from(time.now.saturating_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    /// The next message for the bus.
    pub fn poll_publish(&mut self, time: Moment) -> Option<Publication> {
        self.flush_claims(time);
        self.out.pop_front()
    }

    /// The next thing for the owner to do or to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The time at which to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Config { lost_after, forget_after, cut_off_after, .. } = self.config;
        let standing = match self.standing {
            Standing::On { .. } => Some(self.next_beat),
            Standing::Off { since, said: false } => Some(since + cut_off_after),
            Standing::Off { said: true, .. } => None,
        };
        let roster = self.roster.next_timeout(lost_after, forget_after).filter(|_| self.is_on());
        let due = [standing, roster, Some(self.next_audit), self.wants.next_timeout()];
        due.into_iter().flatten().min()
    }

    /// The relays on the roster: name, address, and whether it is lost.
    pub fn roster(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.roster.iter().map(|((name, _), node)| (&**name, &*node.address, node.is_lost))
    }

    /// Returns whether the bus is reached.
    #[must_use]
    pub const fn is_bus_well(&self) -> bool {
        self.is_on()
    }

    /// Returns the counters, and what is held.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let lost = self.roster.iter().filter(|(_, node)| node.is_lost).count();
        Stats { alive: self.roster.iter().count() - lost, lost, wanted: self.wants.len(), ..self.totals }
    }
}

#[cfg(test)]
mod tests;
