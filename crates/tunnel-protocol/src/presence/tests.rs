//! Stories of relays on a bus, whose clocks and delays are the test's.

use super::*;
use crate::node::ClusterSecret;

/// Some relays and the messages between them.
struct Relays {
    relays: Vec<Presence>,
    now: Instant,
    /// The error of each relay's time of day, in microseconds.
    skews: Vec<i64>,
    /// Relays that the bus does not reach.
    deaf: BTreeSet<usize>,
    events: Vec<Vec<Event>>,
    /// All that was published: by whom, and what.
    published: Vec<(usize, Publication)>,
}

fn secret() -> ClusterSecret {
    ClusterSecret::new(&[1; 32]).expect("long enough")
}

fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

const LINK: LinkId = LinkId(7);

fn name(number: usize) -> String {
    char::from(b'a' + number as u8).to_string()
}

impl Relays {
    /// Relays that have been on the bus for a while.
    fn new(count: usize) -> Self {
        let mut relays = Self {
            relays: Vec::new(),
            now: Instant::from_micros(1_000_000),
            skews: vec![0; count],
            deaf: BTreeSet::new(),
            events: vec![Vec::new(); count],
            published: Vec::new(),
        };
        for number in 0..count {
            let config =
                Config::new(name(number), format!("h{number}:1"), 1_000 * (number as u64 + 1), secret());
            relays.relays.push(Presence::new(config, relays.now));
        }
        for number in 0..count {
            relays.with(number, Presence::handle_bus_up);
        }
        relays.advance(90_000);
        relays.events.iter_mut().for_each(Vec::clear);
        relays.published.clear();
        relays
    }

    fn moment(&self, number: usize) -> Moment {
        let wall = 1_700_000_000_000_000 + self.now.as_micros();
        Moment { now: self.now, wall: wall.saturating_add_signed(self.skews[number]) }
    }

    fn with(&mut self, number: usize, act: impl FnOnce(&mut Presence, Moment)) {
        let moment = self.moment(number);
        act(&mut self.relays[number], moment);
        self.settle();
    }

    /// Brings what was published, at once.
    fn settle(&mut self) {
        loop {
            let mut published = Vec::new();
            for number in 0..self.relays.len() {
                let moment = self.moment(number);
                while let Some(publication) = self.relays[number].poll_publish(moment) {
                    published.push((number, publication));
                }
                while let Some(event) = self.relays[number].poll_event() {
                    self.events[number].push(event);
                }
            }
            if published.is_empty() {
                return;
            }
            for (from, publication) in published {
                self.published.push((from, publication.clone()));
                if !self.deaf.contains(&from) {
                    self.deliver(&publication);
                }
            }
        }
    }

    fn deliver(&mut self, publication: &Publication) {
        for number in 0..self.relays.len() {
            let is_for = match publication.subject {
                Subject::Node(incarnation) => incarnation == 1_000 * (number as u64 + 1),
                Subject::Find | Subject::Claim => true,
            };
            if is_for && !self.deaf.contains(&number) {
                let moment = self.moment(number);
                self.relays[number].handle_message(publication.subject, &publication.payload, moment);
            }
        }
    }

    fn advance(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) =
            self.relays.iter().filter_map(Presence::poll_timeout).min().filter(|at| *at <= until)
        {
            self.now = self.now.max(at);
            for number in 0..self.relays.len() {
                let moment = self.moment(number);
                self.relays[number].handle_timeout(moment);
            }
            self.settle();
        }
        self.now = until;
    }

    fn register(&mut self, number: usize, link: u64) {
        self.with(number, |relay, time| relay.handle_registered(key(1), LinkId(link), time));
    }

    fn take(&mut self, number: usize) -> Vec<Event> {
        std::mem::take(&mut self.events[number])
    }

    fn holders(&self) -> Vec<usize> {
        (0..self.relays.len()).filter(|number| self.relays[*number].held.contains_key(&key(1))).collect()
    }
}

fn route(to: usize) -> Event {
    Event::Route { key: key(1), node: name(to), address: format!("h{to}:1") }
}

fn fence(link: u64, code: CloseCode) -> Event {
    Event::Fence { key: key(1), link: LinkId(link), code }
}

#[test]
fn only_the_owner_answers_who_asks_for_a_server() {
    let mut relays = Relays::new(3);
    relays.register(1, 7);
    relays.published.clear();
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    assert_eq!(relays.take(0), [route(1)]);
    assert_eq!(relays.published.len(), 2, "a question and one answer");
    assert_eq!(relays.relays[0].stats().wanted, 0);
}

#[test]
fn a_claim_admits_those_who_wait_without_another_question() {
    let mut relays = Relays::new(3);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.with(2, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(150);
    assert_eq!((relays.take(0), relays.take(2)), (vec![], vec![]));
    relays.published.clear();
    relays.register(1, 7);
    assert_eq!((relays.take(0), relays.take(2)), (vec![route(1)], vec![route(1)]));
    assert_eq!(relays.published.len(), 1);
}

#[test]
fn a_question_is_repeated_while_nobody_answers_and_then_all_are_asked() {
    let mut relays = Relays::new(3);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(1_990);
    assert_eq!(relays.relays[0].stats().finds, 6);
    assert_eq!(relays.take(0), []);
    relays.advance(20);
    assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain: true }]);
    assert_eq!(relays.relays[0].stats().wanted, 0);
}

#[test]
fn not_found_is_certain_only_if_every_relay_has_said_so() {
    // One that hears nothing: it is not lost yet.
    let mut relays = Relays::new(3);
    relays.deaf.insert(2);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(13_000);
    assert!(relays.take(0).contains(&Event::Absent { key: key(1), is_certain: false }));
    // It is lost, and for a while a server may be on its way from there.
    for (wait, is_certain) in [(1_000, false), (40_000, false), (20_000, true)] {
        relays.advance(wait);
        relays.take(0);
        relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
        relays.advance(13_000);
        let absent = Event::Absent { key: key(1), is_certain };
        assert!(relays.take(0).contains(&absent), "after {wait} ms more");
    }
    // All of them have just started: they would not know of one that was lost before.
    let mut relays = Relays::new(2);
    for relay in &mut relays.relays {
        relay.here_since = relays.now;
    }
    for (wait, is_certain) in [(0, false), (80_000, true)] {
        relays.advance(wait);
        relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
        relays.advance(13_000);
        assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain }]);
    }
    // One that has been on the bus for a second can't tell, and can soon.
    let mut relays = Relays::new(2);
    relays.with(1, Presence::handle_bus_up);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(3_000);
    assert_eq!(relays.take(0), []);
    relays.advance(7_000);
    assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain: true }]);
}

#[test]
fn clients_wait_on_while_nobody_can_tell_and_are_taken_to_their_server_as_soon_as_it_is_claimed() {
    let mut relays = Relays::new(3);
    relays.deaf.insert(2);
    relays.advance(10_000);
    assert!(relays.take(0).contains(&Event::Lost { node: name(2) }));
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(9_500);
    assert_eq!(relays.take(0), []);
    relays.register(1, 7);
    assert_eq!(relays.take(0), [route(1)]);
    assert_eq!(relays.relays[0].stats().wanted, 0);
}

#[test]
fn a_client_waits_no_longer_than_the_relays_router_lets_it() {
    let mut relays = Relays::new(3);
    relays.deaf.insert(2);
    relays.advance(10_000);
    relays.take(0);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    let absent_wait = Duration::from_secs(2);
    let longest = absent_wait + crate::router::verdict_wait(absent_wait);
    relays.advance(longest.as_millis() as u64);
    assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain: false }]);
    // After the first six, two questions in each `absent_wait` at the most.
    assert!(relays.relays[0].stats().finds <= 6 + 2 * 6, "{:?}", relays.relays[0].stats());
}

#[test]
fn a_relay_that_ends_in_order_is_not_waited_for_and_answers_nobody_meanwhile() {
    let mut relays = Relays::new(3);
    relays.register(2, 7);
    relays.with(2, |relay, _| relay.handle_drain());
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(13_000);
    assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain: false }], "its page moves");
    relays.with(2, Presence::handle_end);
    relays.deaf.insert(2);
    assert_eq!(relays.take(0), [Event::Left { node: name(2) }]);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(3_000);
    assert_eq!(relays.take(0), [Event::Absent { key: key(1), is_certain: true }]);
}

#[test]
fn the_newest_proof_wins_at_once_and_the_older_page_is_told_so_for_good() {
    let mut relays = Relays::new(2);
    relays.register(0, 7);
    relays.advance(20);
    relays.register(1, 8);
    assert_eq!(relays.take(0), [fence(7, CloseCode::ID_TAKEN_OVER)]);
    assert_eq!(relays.holders(), [1]);
    relays.register(0, 9);
    assert_eq!(
        relays.take(1),
        [fence(8, CloseCode::ID_TAKEN_OVER)],
        "in the same microsecond, it is still the later one"
    );
    assert_eq!(relays.holders(), [0]);
}

#[test]
fn the_newest_proof_wins_though_its_relays_clock_is_slow() {
    let mut relays = Relays::new(2);
    relays.skews[0] = 5_000_000;
    relays.register(0, 7);
    relays.advance(100);
    relays.register(1, 8);
    assert_eq!(relays.holders(), [1]);
    assert_eq!(relays.take(0), [fence(7, CloseCode::ID_TAKEN_OVER)]);
}

#[test]
fn a_page_that_has_gone_on_keeps_its_server_when_the_claim_of_its_last_relay_comes_late_from_a_clock_that_is_ahead()
 {
    for (lateness, fences) in [(1_800, vec![]), (2_500, vec![fence(8, CloseCode::DRAINING)])] {
        let mut relays = Relays::new(2);
        relays.skews[0] = 5_000_000;
        relays.deaf.insert(0);
        relays.register(0, 7);
        let (_, claim) = relays.published.pop().expect("a claim");
        relays.deaf.clear();
        relays.with(0, |relay, _| relay.handle_unregistered(&key(1), LinkId(7)));
        relays.advance(400);
        relays.register(1, 8);
        relays.advance(lateness - 400);

        relays.deliver(&claim);
        relays.settle();

        assert_eq!(relays.take(1), fences, "{lateness} ms late");
    }
}

#[test]
fn a_registration_that_ends_in_the_same_moment_is_not_claimed() {
    let mut relays = Relays::new(2);
    relays.register(0, 7);
    let moment = relays.moment(1);
    relays.relays[1].handle_registered(key(1), LinkId(8), moment);
    relays.relays[1].handle_unregistered(&key(1), LinkId(8));
    relays.settle();
    assert_eq!((relays.take(0), relays.holders()), (vec![], vec![0]));
}

#[test]
fn what_is_replayed_of_a_relay_that_was_forgotten_takes_no_server_away_for_good() {
    let mut relays = Relays::new(3);
    relays.skews[2] = 5_000_000;
    // Relay 0 hears nothing of it then.
    relays.deaf.insert(0);
    relays.register(2, 7);
    let (_, claim) = relays.published.pop().expect("a claim");
    relays.advance(2_100);
    let beat = relays.published.iter().rfind(|(from, _)| *from == 2).expect("a beat").1.clone();
    relays.with(2, |relay, _| relay.handle_unregistered(&key(1), LinkId(7)));
    relays.deaf = [2].into();
    relays.register(0, 8);
    relays.advance(100_000);
    relays.take(0);

    for message in [&beat, &claim] {
        relays.deliver(message);
    }
    relays.settle();

    assert!(!relays.take(0).contains(&fence(8, CloseCode::ID_TAKEN_OVER)));
}

#[test]
fn what_is_replayed_to_a_relay_that_has_just_started_takes_no_server_away_for_good() {
    let mut relays = Relays::new(2);
    relays.skews[1] = 8_000_000;
    relays.deaf = [0, 1].into();
    relays.advance(2_100);
    let beat = relays.published.iter().rfind(|(from, _)| *from == 1).expect("a beat").1.clone();
    relays.register(1, 7);
    let (_, claim) = relays.published.pop().expect("a claim");
    relays.with(1, |relay, _| relay.handle_unregistered(&key(1), LinkId(7)));
    relays.advance(3_000);
    relays.relays[0] = Presence::new(relays.relays[0].config.clone(), relays.now);
    relays.with(0, Presence::handle_bus_up);
    relays.register(0, 8);

    // All messages take the same time, as if the clocks differed by that.
    relays.deaf = [1].into();
    for message in [&beat, &claim] {
        relays.advance(2_000);
        relays.deliver(message);
    }
    relays.settle();

    assert_eq!(relays.take(0).last(), Some(&fence(8, CloseCode::DRAINING)));
}

#[test]
fn registrations_on_two_sides_of_a_split_are_decided_when_it_heals() {
    for (apart, code) in [(3_000, CloseCode::DRAINING), (30_000, CloseCode::ID_TAKEN_OVER)] {
        let mut relays = Relays::new(2);
        relays.deaf.insert(1);
        relays.register(0, 7);
        relays.advance(apart);
        relays.register(1, 8);
        relays.advance(5_000);
        assert_eq!(relays.holders(), [0, 1]);
        relays.deaf.clear();
        relays.events.iter_mut().for_each(Vec::clear);
        relays.with(1, Presence::handle_bus_up);
        assert_eq!(relays.holders(), [1]);
        assert!(relays.take(0).contains(&fence(7, code)), "{apart} ms apart");
    }
}

#[test]
fn a_registration_that_is_gone_fences_nobody_and_an_older_link_takes_nothing_away() {
    let mut relays = Relays::new(2);
    relays.register(0, 7);
    relays.register(0, 8);
    relays.with(0, |relay, _| relay.handle_unregistered(&key(1), LinkId(7)));
    assert_eq!(relays.holders(), [0]);
    relays.with(0, |relay, _| relay.handle_unregistered(&key(1), LinkId(8)));
    assert!(relays.holders().is_empty());
    relays.with(1, |relay, time| relay.handle_wanted(key(1), time));
    assert_eq!(relays.take(1), []);
}

#[test]
fn what_is_not_from_a_relay_on_the_roster_is_not_believed() {
    let mut relays = Relays::new(2);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    let stranger =
        Envelope { node: "z".into(), incarnation: 66, sent: 1, message: Message::Found { key: key(1) } };
    let payload = stranger.encode(Subject::Node(1_000), &secret());
    relays.deliver(&Publication { subject: Subject::Node(1_000), payload: payload.clone() });
    assert_eq!(relays.relays[0].stats().off_roster, 1);
    let forged = stranger.encode(Subject::Node(1_000), &ClusterSecret::new(&[2; 32]).expect("long enough"));
    for garbage in [Bytes::new(), Bytes::from_static(b"garbage"), payload.slice(..payload.len() - 1), forged]
    {
        for subject in [Subject::Find, Subject::Claim, Subject::Node(1_000)] {
            relays.deliver(&Publication { subject, payload: garbage.clone() });
        }
    }
    assert_eq!(relays.relays[0].stats().garbage, 12);
    relays.settle();
    assert_eq!(relays.take(0), []);
}

#[test]
fn a_claim_from_the_far_future_takes_no_server_away() {
    let mut relays = Relays::new(2);
    relays.register(0, 7);
    for is_fresh in [true, false] {
        let claims = vec![(key(1), u64::MAX)];
        for message in
            [Message::Claim { is_fresh, claims: claims.clone() }, Message::Newer { is_fresh, claims }]
        {
            let subject =
                if matches!(message, Message::Claim { .. }) { Subject::Claim } else { Subject::Node(1_000) };
            let envelope = Envelope { node: "b".into(), incarnation: 2_000, sent: 1, message };
            relays.deliver(&Publication { subject, payload: envelope.encode(subject, &secret()) });
        }
    }
    relays.settle();
    assert_eq!((relays.holders(), relays.take(0)), (vec![0], vec![]));
    assert_eq!(relays.relays[0].stats().ahead, 4);
}

#[test]
fn clients_that_ask_for_made_up_servers_do_not_flood_the_bus() {
    let mut relays = Relays::new(2);
    relays.relays[0].config.finds_per_second = 100;
    for number in 0..10_000_u32 {
        let mut made_up = [0; 32];
        made_up[..4].copy_from_slice(&number.to_be_bytes());
        relays.with(0, |relay, time| relay.handle_wanted(PublicKey(made_up), time));
    }
    assert_eq!(relays.relays[0].stats().wanted, 4_096, "so many are kept");
    assert_eq!(relays.published.len(), 100);
    relays.advance(10_000);
    assert_eq!(relays.relays[0].stats().wanted, 0);
    let questions = relays.relays[0].stats().finds;
    assert!((200..=1_200).contains(&questions), "{questions}");
}

#[test]
fn all_that_is_held_is_claimed_again_every_minute_many_keys_at_a_time() {
    let mut relays = Relays::new(2);
    for number in 0..2_500_u32 {
        let mut made_up = [0; 32];
        made_up[..4].copy_from_slice(&number.to_be_bytes());
        relays.with(0, |relay, time| relay.handle_registered(PublicKey(made_up), LINK, time));
    }
    let before = relays.published.len();
    relays.advance(60_000);
    let beats = 2 * 30;
    let to_all = relays.published[before..].iter().filter(|(_, message)| message.subject == Subject::Claim);
    assert_eq!(to_all.count(), beats + 3);
    assert_eq!(relays.relays[0].stats().claims_audit, 2_500);
}

#[test]
fn a_relay_that_loses_the_bus_asks_again_when_it_is_back_and_may_be_cut_off_after_a_minute() {
    let mut relays = Relays::new(2);
    relays.register(1, 7);
    relays.with(0, Presence::handle_bus_down);
    relays.with(0, |relay, time| relay.handle_wanted(key(1), time));
    relays.advance(1_000);
    assert_eq!(relays.take(0), []);
    relays.with(0, Presence::handle_bus_up);
    assert_eq!(relays.take(0), [route(1)]);
    relays.with(0, Presence::handle_bus_down);
    relays.advance(59_000);
    assert_eq!(relays.take(0), []);
    relays.advance(60_000);
    assert_eq!(relays.take(0), [Event::CutOff], "once");
}

#[test]
fn a_relay_that_has_slept_claims_what_it_holds_and_yields_to_who_has_taken_over() {
    let mut relays = Relays::new(2);
    relays.register(0, 7);
    relays.deaf.insert(0);
    relays.now += Duration::from_secs(40);
    let moment = relays.moment(1);
    relays.relays[1].handle_timeout(moment);
    relays.register(1, 8);
    assert_eq!(relays.holders(), [0, 1]);
    relays.deaf.clear();
    relays.advance(10);
    assert_eq!(relays.holders(), [1]);
    assert!(relays.take(0).contains(&fence(7, CloseCode::ID_TAKEN_OVER)));
}

#[test]
fn another_relay_with_the_same_name_is_noticed() {
    let mut relays = Relays::new(2);
    let config = Config::new(name(0), "elsewhere:1".to_owned(), 77, secret());
    let mut twin = Presence::new(config, relays.now);
    let moment = relays.moment(0);
    twin.handle_bus_up(moment);
    while let Some(publication) = twin.poll_publish(moment) {
        relays.deliver(&publication);
    }
    relays.settle();
    assert_eq!(relays.take(0), [Event::Clash { address: "elsewhere:1".to_owned() }]);
}
