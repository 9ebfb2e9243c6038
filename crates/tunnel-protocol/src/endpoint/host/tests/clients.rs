//! Clients that want in, and those that attack.

use super::*;
use crate::endpoint::host::incoming::MAX_WAITING;
use crate::frame::ChannelId;
use crate::handshake::{Initiator, Transport};
use crate::session;
use bytes::BytesMut;

/// A server that is registered, and a relay's side of its link.
struct Served {
    endpoint: Endpoint,
    link: LinkId,
    now: Instant,
    next_channel: u32,
    secrets: u64,
}

/// A client's handshake that has been offered to the server.
struct Caller {
    channel: ChannelId,
    message: Bytes,
    initiator: Initiator,
    key: StaticKey,
}

impl Served {
    fn new(config: Config) -> Self {
        Self::with_key(config, key(7))
    }

    fn with_key(config: Config, key: StaticKey) -> Self {
        let mut endpoint = Endpoint::new(config, [1; 32]);
        let server_id = ServerId::Key(key.public());
        endpoint.host(key, NOW);
        let link = greet(&mut endpoint);
        let mut served = Self { endpoint, link, now: NOW, next_channel: 2, secrets: 0 };
        for theirs in asked(&mut served.endpoint) {
            answer(&mut served, theirs);
        }
        say(&mut served.endpoint, link, &Frame::Registered { server_id });
        served
    }

    /// 32 bytes that were not used before.
    fn secret(&mut self) -> [u8; 32] {
        self.secrets += 1;
        let mut secret = [99; 32];
        secret[..8].copy_from_slice(&self.secrets.to_be_bytes());
        secret
    }

    /// The relay brings a first handshake message from an address.
    fn bring(&mut self, address: &str, message: Bytes) -> ChannelId {
        let channel = ChannelId(self.next_channel);
        self.next_channel += 2;
        let (port, kind, address) = (80, ChannelKind::Session, address.to_owned());
        let incoming = Frame::Incoming { channel, port, kind, address, payload: message };
        self.endpoint.handle_message(self.link, LinkMessage::Binary(incoming.encode()), self.now);
        channel
    }

    /// A client calls from an address.
    fn call(&mut self, address: &str) -> Caller {
        let key = StaticKey::from_secret(self.secret());
        self.call_as(key, address)
    }

    fn call_as(&mut self, key: StaticKey, address: &str) -> Caller {
        let mut initiator = Initiator::new(&prologue(80), self::key(7).public(), self.secret());
        let open = Open {
            session_id: SessionId(self.secret()[..16].try_into().unwrap_or_default()),
            epoch: Epoch(1),
            server_epoch: None,
            position: Position { received: 0, limit: 1 << 20 },
            protocols: Vec::new(),
            path: String::new(),
            features: 0,
        };
        let message = initiator.write_message(&key, &open.encode()).expect("it has a key");
        let channel = self.bring(address, message.clone());
        Caller { channel, message, initiator, key }
    }

    /// The application lets all in who are offered; returns how many.
    fn accept_all(&mut self) -> usize {
        let mut count = 0;
        for event in events(&mut self.endpoint) {
            if let Event::Incoming { socket, .. } = event {
                self.endpoint.accept(socket, "", self.now);
                count += 1;
            }
        }
        count
    }

    /// All frames that the server sends.
    fn sent(&mut self) -> Vec<Frame> {
        let messages = std::iter::from_fn(|| self.endpoint.poll_transmit(self.link, self.now));
        let frames = messages.map(|message| match message {
            LinkMessage::Binary(message) => Frame::decode(message).expect("a frame").expect("a known one"),
            LinkMessage::Text(text) => panic!("{text}"),
        });
        frames.collect()
    }

    /// A caller whom the server has accepted says something, so that its path counts.
    fn confirm(&mut self, caller: Caller, sent: &[Frame], data: &[u8]) -> Transport {
        let accepted = sent.iter().find_map(|frame| match frame {
            Frame::Accept { channel, payload } if *channel == caller.channel => Some(payload.clone()),
            _ => None,
        });
        let Caller { channel, mut initiator, key, .. } = caller;
        let (_, mut transport) = initiator.read_message(&key, &accepted.expect("accepted")).expect("opens");
        let payload = transport.seal(data).expect("a record");
        let frame = Frame::Data { channel, payload };
        self.endpoint.handle_message(self.link, LinkMessage::Binary(frame.encode()), self.now);
        transport
    }

    /// The relay closes a channel.
    fn close(&mut self, channel: ChannelId) {
        let frame = Frame::Close { channel, code: CloseCode::PEER_GONE, reason: String::new() };
        self.endpoint.handle_message(self.link, LinkMessage::Binary(frame.encode()), self.now);
    }

    /// A client from an address that is in.
    fn client(&mut self, address: &str) -> ChannelId {
        let caller = self.call(address);
        let channel = caller.channel;
        assert_eq!(self.accept_all(), 1, "{address} is let in");
        let sent = self.sent();
        self.confirm(caller, &sent, b"");
        assert!(matches!(events(&mut self.endpoint)[..], [Event::Opened { .. }]));
        channel
    }
}

fn refusals(sent: &[Frame], code: CloseCode) -> usize {
    sent.iter().filter(|frame| matches!(frame, Frame::Close { code: found, .. } if *found == code)).count()
}

fn of_size(max_clients: usize) -> Config {
    Config { max_clients, ..Config::default() }
}

#[test]
fn a_handshake_that_has_come_before_reaches_nobody() {
    let mut served = Served::new(of_size(1_000));
    let caller = served.call("192.0.2.1");
    for _ in 0..500 {
        served.bring("192.0.2.9", caller.message.clone());
    }
    assert_eq!(served.accept_all(), 1, "the application is asked once");
    assert_eq!(refusals(&served.sent(), CloseCode::HANDSHAKE_FAILED), 500);
}

#[test]
fn a_server_takes_as_many_clients_as_it_is_told_and_says_so_to_the_next() {
    let mut served = Served::new(of_size(3));
    let channels: Vec<_> = (0..3).map(|_| served.client("192.0.2.1")).collect();
    let next = served.call("192.0.2.2").channel;
    assert_eq!(served.accept_all(), 0);
    let mut sent = served.sent();
    sent.retain(|frame| matches!(frame, Frame::Close { .. }));
    let [Frame::Close { channel, code: CloseCode::TRY_AGAIN_LATER, reason }] = &sent[..] else {
        panic!("it is turned away: {sent:?}")
    };
    assert_eq!(*channel, next);
    assert!(reason.contains("3 clients"), "{reason}");
    served.close(channels[0]);
    served.now += Duration::from_secs(301);
    served.endpoint.handle_timeout(served.now);
    events(&mut served.endpoint);
    served.client("192.0.2.2");
}

#[test]
fn clients_who_never_finish_their_handshake_give_way_to_those_of_other_addresses() {
    let mut served = Served::new(of_size(20));
    for _ in 0..100 {
        served.call("203.0.113.1");
        served.accept_all();
    }
    assert_eq!(refusals(&served.sent(), CloseCode::TRY_AGAIN_LATER), 80, "there is room for 20");
    for number in 0..8 {
        let caller = served.call(&format!("192.0.2.{number}"));
        assert_eq!(served.accept_all(), 1, "client {number} is asked about");
        let sent = served.sent();
        assert_eq!(refusals(&sent, CloseCode::TRY_AGAIN_LATER), 1, "one of the others has left");
        // The attacker goes on meanwhile.
        for _ in 0..20 {
            served.call("203.0.113.1");
            served.accept_all();
        }
        served.confirm(caller, &sent, b"");
        assert!(events(&mut served.endpoint).iter().any(|event| matches!(event, Event::Opened { .. })));
        served.sent();
    }
}

#[test]
fn clients_who_take_long_to_come_in_give_way_to_others_of_their_address() {
    let mut served = Served::new(of_size(4));
    for _ in 0..4 {
        served.call("203.0.113.1");
        served.accept_all();
    }
    served.sent();
    served.now += Duration::from_secs(3);
    served.endpoint.handle_timeout(served.now);
    served.client("203.0.113.1");
}

#[test]
fn sessions_of_a_stranger_who_is_away_push_out_their_own_and_no_others() {
    let budget = 40 * 4_096;
    let mut served = Served::new(Config { away_buffer: budget, ..Config::default() });
    let honest: Vec<_> = (0..10).map(|_| served.client("192.0.2.1")).collect();
    for channel in honest {
        served.close(channel);
    }
    for _ in 0..100 {
        let channel = served.client("203.0.113.1");
        served.now += Duration::from_millis(1);
        served.close(channel);
        let lost = events(&mut served.endpoint);
        for event in lost {
            if let Event::Closed { code, socket, .. } = event {
                assert_eq!(code, CloseCode::OVERFLOW);
                assert!(socket.0 >= 10, "an honest one was pushed out");
            }
        }
    }
    assert_eq!(served.endpoint.client_count(), 40, "as many as there is memory for");
}

#[test]
fn one_key_keeps_no_more_than_a_quarter_for_when_it_is_away() {
    let mut served = Served::new(Config { away_buffer: 40 * 4_096, ..Config::default() });
    for _ in 0..20 {
        let caller = served.call_as(key(50), "203.0.113.1");
        let channel = caller.channel;
        served.accept_all();
        let sent = served.sent();
        served.confirm(caller, &sent, b"");
        served.close(channel);
    }
    assert_eq!(served.endpoint.client_count(), 10);
}

#[test]
fn a_server_whose_own_link_breaks_loses_no_client() {
    let mut served = Served::new(Config { away_buffer: 10 * 4_096, ..Config::default() });
    for number in 0..300 {
        served.client(&format!("198.51.100.{}", number % 250));
    }
    served.endpoint.handle_link_closed(served.link, CloseCode::ABNORMAL, "", served.now);
    let lost = events(&mut served.endpoint);
    assert!(!lost.iter().any(|event| matches!(event, Event::Closed { .. })), "{lost:?}");
    assert_eq!(served.endpoint.client_count(), 300);
}

/// The public keys that the key's holder is asked about.
fn asked(endpoint: &mut Endpoint) -> Vec<PublicKey> {
    let events = events(endpoint).into_iter();
    let asked = events.filter_map(|event| match event {
        Event::NeedsDiffieHellman { theirs, .. } => Some(theirs),
        _ => None,
    });
    asked.collect()
}

fn answer(served: &mut Served, theirs: PublicKey) {
    let shared = *key(7).diffie_hellman(&theirs).expect("not of low order").as_bytes();
    let now = served.now;
    served.endpoint.handle_diffie_hellman(key(7).public(), theirs, shared, now);
}

#[test]
fn junk_makes_a_key_that_is_held_elsewhere_work_once_for_each_and_leaves_room_for_others() {
    let mut served = Served::with_key(Config::default(), StaticKey::external(key(7).public()));
    for _ in 0..1_000 {
        let junk = BytesMut::from(&[&served.secret()[..], &[0; 200]].concat()[..]).freeze();
        served.bring("203.0.113.1", junk);
    }
    let honest = served.call("192.0.2.1");
    let mut all = asked(&mut served.endpoint);
    assert!(all.len() <= MAX_WAITING, "{} computations for 1,000 messages", all.len());
    let mut at = 0;
    while let Some(theirs) = all.get(at).copied() {
        answer(&mut served, theirs);
        at += 1;
        for event in events(&mut served.endpoint) {
            match event {
                Event::NeedsDiffieHellman { theirs, .. } => all.push(theirs),
                Event::Incoming { socket, .. } => served.endpoint.accept(socket, "", NOW),
                _ => {}
            }
        }
    }
    let distinct = all.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(distinct, all.len(), "nothing is computed twice");
    let sent = served.sent();
    served.confirm(honest, &sent, b"");
    assert!(matches!(events(&mut served.endpoint)[..], [Event::Opened { .. }]));
}

#[test]
fn an_answer_counts_for_the_key_that_it_was_computed_with() {
    let mut served = Served::with_key(Config::default(), StaticKey::external(key(7).public()));
    served.call("192.0.2.1");
    let [theirs] = asked(&mut served.endpoint)[..] else { panic!("it is asked for the ephemeral key") };
    let wrong = *key(8).diffie_hellman(&theirs).expect("not of low order").as_bytes();
    let now = served.now;
    served.endpoint.handle_diffie_hellman(key(8).public(), theirs, wrong, now);
    assert_eq!(refusals(&served.sent(), CloseCode::HANDSHAKE_FAILED), 0, "that was another key's");
    answer(&mut served, theirs);
    assert_eq!(asked(&mut served.endpoint).len(), 1, "it goes on with the client's static key");
}

#[test]
fn what_many_clients_announce_costs_nothing_and_what_arrives_is_bounded() {
    let ledger = crate::ledger::Ledger::new(1 << 20);
    let session = session::Config { ledger: ledger.clone(), ..session::Config::default() };
    let mut served = Served::new(Config { session, ..Config::default() });
    // STREAM at 0 with the header of a message of 100 MiB.
    let announcement = [&[1][..], &[0; 8], &[0, 9], &[2, 0xc0, 0, 0, 0, 6, 0x3f, 0xff, 0xff]].concat();
    let mut transports = Vec::new();
    for _ in 0..200 {
        let caller = served.call("203.0.113.1");
        let channel = caller.channel;
        served.accept_all();
        let sent = served.sent();
        transports.push((channel, served.confirm(caller, &sent, &announcement)));
    }
    assert_eq!((served.endpoint.held(), ledger.held()), (0, 0));
    let frame = [&[1][..], &9_u64.to_be_bytes(), &[0x20, 0], &[0; 0x2000]].concat();
    for (channel, transport) in &mut transports {
        let payload = transport.seal(&frame).expect("a record");
        say(&mut served.endpoint, served.link, &Frame::Data { channel: *channel, payload });
        assert!(ledger.held() <= 1 << 19, "one address holds half of the budget at most");
    }
    let ended = events(&mut served.endpoint)
        .into_iter()
        .filter(|event| matches!(event, Event::Closed { code: CloseCode::TRY_AGAIN_LATER, .. }));
    assert!(ended.count() > 100, "those for whom there was no room hear of it");
    assert!(ledger.held() > 1 << 18);
}

#[test]
fn a_relay_that_announces_clients_and_does_not_read_is_left() {
    let mut served = Served::new(Config::default());
    let mut held = 0;
    for number in 0..100_000 {
        let channel = served.bring("203.0.113.1", Bytes::from(vec![number as u8; 20]));
        if let Some(Event::HangUp { code, .. }) = served.endpoint.poll_event() {
            assert_eq!(code, CloseCode::OVERFLOW);
            assert!(channel.0 > 2_000, "after {channel}");
            return;
        }
        held += 1;
    }
    panic!("{held} answers wait, and the link goes on");
}

#[test]
fn a_message_of_the_relay_that_is_longer_than_its_limit_ends_the_link_with_1009() {
    for (len, ends) in [(60_000, false), (60_001, true)] {
        let mut served = Served::new(Config::default());
        events(&mut served.endpoint);
        // A frame of an unknown kind that may be skipped.
        let mut message = vec![0; len];
        message[0] = 0x70;
        served.endpoint.handle_message(served.link, LinkMessage::Binary(message.into()), NOW);
        let hung_up = events(&mut served.endpoint).into_iter().find_map(|event| match event {
            Event::HangUp { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(hung_up, ends.then_some(CloseCode::TOO_BIG), "{len} bytes");
    }
}

#[test]
fn a_client_who_goes_while_the_server_is_closed_is_not_waited_for() {
    let mut served = Served::new(Config::default());
    let channel = served.client("192.0.2.1");
    let now = served.now;
    served.endpoint.unhost(now);
    served.sent();
    assert_eq!(events(&mut served.endpoint), [], "the client's close is awaited");
    served.close(channel);
    let ended = events(&mut served.endpoint);
    assert!(matches!(ended[..], [.., Event::Closed { .. }, Event::HostClosed { .. }]), "{ended:?}");
}

#[test]
fn the_server_counts_who_is_in_who_waits_who_was_refused_and_how_often_its_link_was_lost() {
    let mut served = Served::new(of_size(10));
    served.client("192.0.2.1");
    served.call("192.0.2.2");
    let refused = served.call("192.0.2.3").channel;
    let incoming = events(&mut served.endpoint).into_iter().filter_map(|event| match event {
        Event::Incoming { socket, incoming } => Some((socket, incoming.address)),
        _ => None,
    });
    let (socket, _) = incoming.last().expect("the third client is offered");
    served.endpoint.refuse(socket, CloseCode::REFUSED, "", served.now);
    assert_eq!(refusals(&served.sent(), CloseCode::REFUSED), 1);
    let stats = served.endpoint.host_stats();
    assert!(stats.is_registered);
    assert_eq!((stats.clients, stats.incoming, stats.admitted, stats.refused), (1, 1, 1, 1));
    assert_eq!(served.endpoint.link_of_host(), Some(served.link));
    // The refused client's channel is the relay's to close.
    served.close(refused);
    let link = served.endpoint.link_stats(served.link).expect("it is there");
    assert!(link.is_ready && !link.is_livecode);
    assert_eq!((link.channels, link.paused), (2, 0));

    served.endpoint.handle_link_closed(served.link, CloseCode::ABNORMAL, "", served.now);
    let stats = served.endpoint.host_stats();
    assert!(!stats.is_registered);
    assert_eq!((stats.clients, stats.interruptions), (1, 1));
    assert_eq!(served.endpoint.link_stats(served.link), None);
    assert_eq!(served.endpoint.host_stats().admitted, 1, "the count goes on");
}
