//! Hello, registration, takeover, liveness, drain.

use super::*;

#[test]
fn hello_is_answered_with_the_limits() {
    let mut net = Net::new(config());
    let (_, welcome) = net.welcomed();
    assert_eq!(welcome.version, 1);
    assert_eq!(welcome.max_frame, 65_536);
    assert_eq!(welcome.idle_timeout, Duration::from_secs(60));
    assert_eq!(welcome.challenge, StaticKey::from_secret([1; 32]).public());
    assert_eq!(welcome.address, "192.0.2.1:1000");
    assert_eq!(welcome.node, "test");
}

#[test]
fn hello_is_refused_without_a_common_version() {
    let mut net = Net::new(config());
    let link = net.socket();
    net.send(link, Frame::Hello { min_version: 2, max_version: 9, features: 0, token: String::new() });
    assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)]);
    assert_eq!(net.closes(), [(link, CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn hello_is_accepted_with_a_range_around_the_version() {
    let mut net = Net::new(config());
    let link = net.socket();
    net.send(link, Frame::Hello { min_version: 0, max_version: 9, features: u32::MAX, token: String::new() });
    let Some(Frame::Welcome(welcome)) = net.take(link) else { panic!("no WELCOME") };
    assert_eq!((welcome.version, welcome.features), (1, 0));
}

#[test]
fn hello_has_to_come_in_time() {
    let mut net = Net::new(config());
    let link = net.socket();
    net.advance(Duration::from_millis(9_999));
    assert_eq!(net.closes(), []);
    net.advance(Duration::from_millis(1));
    assert_eq!(net.received(link), [error(CloseCode::TIMEOUT)]);
    assert_eq!(net.closes(), [(link, CloseCode::TIMEOUT)]);
}

#[test]
fn every_frame_but_hello_is_refused_before_hello() {
    let key = server_key(1).public();
    for frame in [
        Frame::Register { key, proof: [0; 32], url: String::new() },
        connect(1, server_id(1)),
        accept(2),
        data(1, "data"),
        close(0, CloseCode::NORMAL),
        close(1, CloseCode::NORMAL),
        Frame::Ping { nonce: 1 },
        Frame::Pong { nonce: 1 },
        Frame::Pause { channel: ChannelId(1) },
    ] {
        let mut net = Net::new(config());
        let link = net.socket();
        net.send(link, frame.clone());
        assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)], "{frame:?}");
        assert_eq!(net.closes(), [(link, CloseCode::PROTOCOL_ERROR)], "{frame:?}");
    }
}

#[test]
fn frames_that_only_a_relay_sends_are_refused() {
    let welcome = {
        let mut net = Net::new(config());
        net.welcomed().1
    };
    for frame in [
        hello(),
        Frame::Welcome(Box::new(welcome)),
        Frame::Registered { server_id: server_id(1) },
        Frame::Incoming {
            channel: ChannelId(2),
            port: 1,
            kind: ChannelKind::Session,
            address: String::new(),
            payload: Bytes::new(),
        },
        Frame::Pause { channel: ChannelId(1) },
        Frame::Resume { channel: ChannelId(1) },
        Frame::GoAway { deadline: Duration::ZERO },
        Frame::Error { code: CloseCode::NORMAL, text: String::new() },
    ] {
        let mut net = Net::new(config());
        let link = net.link();
        net.send(link, frame.clone());
        assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)], "{frame:?}");
    }
}

#[test]
fn unknown_frames_are_skipped_or_end_the_link_as_their_critical_bit_says() {
    let mut net = Net::new(config());
    let link = net.link();
    net.send_bytes(link, &[0x7f, 0, 0, 0, 0, 1, 2, 3]);
    assert_eq!(net.received(link), []);
    net.send_bytes(link, &[0xff, 0, 0, 0, 0, 1, 2, 3]);
    assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_channel_of_an_unknown_kind_is_refused_and_the_link_goes_on() {
    let mut net = Net::new(config());
    let (client, _) = net.pair();
    for server in [1, 99] {
        let channel = ChannelId(server * 2 + 1);
        let (server_id, kind) = (server_id(server as u8), ChannelKind::Unknown(2));
        net.send(client, Frame::Connect { channel, server_id, port: 1, kind, payload: Bytes::new() });
        assert_eq!(net.received(client), [closed(channel.0, CloseCode::REFUSED)]);
    }
    net.send(client, data(1, "still open"));
    assert_eq!(net.router.stats().violations, 0);
}

#[test]
fn a_text_message_ends_a_tunnel_link() {
    let mut net = Net::new(config());
    let link = net.link();
    net.router.handle_text(link, "hello", net.now);
    assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)]);
    assert_eq!(net.closes(), [(link, CloseCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_link_that_was_ended_has_no_effect_any_more() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send_bytes(client, b"");
    assert_eq!(net.received(client), [error(CloseCode::PROTOCOL_ERROR)]);
    assert_eq!(net.received(server), [closed(2, CloseCode::PEER_GONE)]);
    net.send(client, data(1, "late"));
    net.send(client, connect(3, server_id(1)));
    net.send(client, Frame::Ping { nonce: 1 });
    assert_eq!((net.received(client), net.received(server)), (vec![], vec![]));
}

#[test]
fn a_registration_is_proven_against_the_challenge_and_the_host() {
    for (challenge, origin, good) in
        [([1; 32], ORIGIN, true), ([9; 32], ORIGIN, false), ([1; 32], "evil.example", false)]
    {
        let mut net = Net::new(config());
        let link = net.link();
        let (key, challenge) = (server_key(1), StaticKey::from_secret(challenge).public());
        let proof = registration::prove(&key, &challenge, origin).expect("the key is at hand");
        net.send(link, Frame::Register { key: key.public(), proof, url: String::new() });
        let expected = if good {
            Frame::Registered { server_id: server_id(1) }
        } else {
            error(CloseCode::HANDSHAKE_FAILED)
        };
        assert_eq!(net.received(link), [expected], "{origin}");
        assert_eq!(net.router.stats().registrations, usize::from(good));
    }
}

#[test]
fn a_proof_of_one_link_is_worth_nothing_on_another() {
    let mut net = Net::new(config());
    let (owner, welcome) = net.welcomed();
    let captured = register(1, &welcome.challenge);
    net.send(owner, captured.clone());
    let thief = net.link();
    net.send(thief, captured);
    assert_eq!(net.received(thief), [error(CloseCode::HANDSHAKE_FAILED)]);
    assert_eq!(net.received(owner), [Frame::Registered { server_id: server_id(1) }]);
}

#[test]
fn a_proof_that_the_owner_has_checked_counts_as_if_the_router_had() {
    let mut net = Net::new(config());
    let peer = |challenge: u8| Peer {
        dialect: Dialect::Tunnel,
        address: "192.0.2.1".to_owned(),
        url: ORIGIN.to_owned(),
        challenge: StaticKey::from_secret([challenge; 32]),
    };
    for (challenge, greeted, expected) in [
        (1, true, Frame::Registered { server_id: server_id(1) }),
        (9, true, error(CloseCode::HANDSHAKE_FAILED)),
        (3, false, error(CloseCode::PROTOCOL_ERROR)),
    ] {
        let link = if greeted { net.link() } else { net.socket() };
        // `Net` counts the links' challenges.
        let own = StaticKey::from_secret([net.opened; 32]).public();
        let message = register(1, &own).encode();
        let checked = Registration::of_message(&message, &peer(challenge)).expect("a REGISTER");
        net.router.handle_registration(link, &checked, net.now);
        assert_eq!(net.received(link), [expected], "challenge {challenge}");
    }
    assert_eq!(net.router.stats().registrations, 1);
    for message in [hello().encode(), Bytes::new(), Bytes::from_static(&[0x83, 0, 0])] {
        assert_eq!(Registration::of_message(&message, &peer(1)), None);
    }
}

#[test]
fn a_proof_is_wanted_only_when_nothing_else_is_left_to_check() {
    let mut net = Net::new(Config { max_registrations: 1, ..config() });
    let (link, welcome) = net.welcomed();
    let silent = net.socket();
    let message = register(1, &welcome.challenge).encode();
    assert!(!net.router.wants_proof(silent, &message), "before HELLO");
    assert!(!net.router.wants_proof(link, &hello().encode()), "another frame");
    assert!(!net.router.wants_proof(link, &message[..40]), "half a REGISTER");
    assert!(net.router.wants_proof(link, &message));
    net.send_bytes(link, &message);
    assert!(!net.router.wants_proof(link, &message), "the same question again");
    let other = net.link();
    assert!(net.router.wants_proof(other, &message), "who takes an ID over needs no room");
    let another = register(2, &welcome.challenge).encode();
    assert!(!net.router.wants_proof(other, &another), "there is no room for a second server");
    net.router.drain(Duration::from_secs(1), net.now);
    assert!(!net.router.wants_proof(other, &message), "while the relay drains");
}

#[test]
fn registering_again_is_answered_again_and_changes_nothing() {
    let mut net = Net::new(config());
    let (link, welcome) = net.welcomed();
    for _ in 0..3 {
        net.send(link, register(1, &welcome.challenge));
        assert_eq!(net.received(link), [Frame::Registered { server_id: server_id(1) }]);
    }
    assert_eq!(net.router.stats().registered, 1);
}

#[test]
fn answers_to_registrations_that_nobody_reads_do_not_pile_up() {
    let mut net = Net::new(config());
    let (link, welcome) = net.welcomed();
    for _ in 0..1_000 {
        net.send(link, register(1, &welcome.challenge));
    }
    assert_eq!(net.received(link), [Frame::Registered { server_id: server_id(1) }]);
}

#[test]
fn a_link_registers_one_server_only() {
    let mut net = Net::new(config());
    let (link, welcome) = net.welcomed();
    net.send(link, register(1, &welcome.challenge));
    net.send(link, register(2, &welcome.challenge));
    assert_eq!(net.received(link), [error(CloseCode::PROTOCOL_ERROR)]);
    assert_eq!(net.router.stats().registrations, 0, "the link is gone, and its registration with it");
}

#[test]
fn the_newest_proof_takes_over_and_the_older_link_is_fenced() {
    let mut net = Net::new(config());
    let (client, old) = net.pair();
    let new = net.server(1);
    assert_eq!(net.received(old), [closed(0, CloseCode::ID_TAKEN_OVER)]);
    assert_eq!(net.received(client), [closed(1, CloseCode::PEER_GONE)]);
    assert_eq!(net.closes(), [(old, CloseCode::ID_TAKEN_OVER)]);

    net.send(old, data(2, "late"));
    net.send(client, connect(3, server_id(1)));
    assert_eq!(net.received(client), []);
    assert_eq!(net.received(old), []);
    assert!(matches!(net.received(new)[..], [Frame::Incoming { channel: ChannelId(2), .. }]));

    net.hang_up(old);
    assert_eq!(net.router.stats().registrations, 1, "the older link's end does not unregister the newer one");
}

#[test]
fn a_server_can_register_again_after_its_link_is_gone() {
    let mut net = Net::new(config());
    let first = net.server(1);
    net.hang_up(first);
    assert_eq!(net.router.stats().registrations, 0);
    net.server(1);
    assert_eq!(net.router.stats().taken_over, 0);
}

#[test]
fn registrations_are_reported() {
    let mut net = Net::new(config());
    let link = net.server(1);
    assert!(net.events().contains(&Event::Registered { link, server_id: server_id(1) }));
    net.hang_up(link);
    assert_eq!(net.events(), [Event::Unregistered { link, server_id: server_id(1) }]);
}

#[test]
fn a_ping_is_answered_and_a_flood_of_pings_is_answered_once() {
    let mut net = Net::new(config());
    let link = net.link();
    net.send(link, Frame::Ping { nonce: 7 });
    assert_eq!(net.received(link), [Frame::Pong { nonce: 7 }]);
    for nonce in 0..1_000 {
        net.send(link, Frame::Ping { nonce });
    }
    assert_eq!(net.received(link), [Frame::Pong { nonce: 999 }]);
}

#[test]
fn a_quiet_link_is_pinged_and_a_silent_one_ended() {
    let mut net = Net::new(config());
    let link = net.link();
    net.advance(Duration::from_secs(19));
    assert_eq!(net.received(link), []);
    net.advance(Duration::from_secs(1));
    let pings = net.received(link);
    assert!(matches!(pings[..], [Frame::Ping { .. }]), "{pings:?}");
    net.advance(Duration::from_secs(39));
    assert_eq!((net.received(link), net.closes()), (vec![], vec![]));
    net.advance(Duration::from_secs(1));
    assert_eq!(net.received(link), [closed(0, CloseCode::TIMEOUT)]);
    assert_eq!(net.closes(), [(link, CloseCode::TIMEOUT)]);
}

#[test]
fn a_quiet_link_that_answers_is_pinged_every_20_seconds() {
    let mut net = Net::new(config());
    let link = net.link();
    for _ in 0..5 {
        net.advance(Duration::from_secs(19));
        assert_eq!(net.received(link), []);
        net.advance(Duration::from_secs(1));
        let [Frame::Ping { nonce }] = net.received(link)[..] else { panic!("no PING after 20 s of silence") };
        net.send(link, Frame::Pong { nonce });
    }
}

#[test]
fn whatever_a_peer_sends_keeps_its_link() {
    let mut net = Net::new(config());
    let link = net.link();
    for round in 0..20 {
        net.advance(Duration::from_secs(59));
        match round % 3 {
            0 => net.send(link, Frame::Pong { nonce: 0 }),
            1 => net.send_bytes(link, &[0x7f, 0, 0, 0, 0]),
            _ => net.router.handle_alive(link, net.now),
        }
    }
    assert_eq!(net.closes(), []);
}

#[test]
fn a_link_that_says_goodbye_is_closed() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(server, close(0, CloseCode::GOING_AWAY));
    assert_eq!(net.closes(), [(server, CloseCode::NORMAL)]);
    assert_eq!(net.received(client), [closed(1, CloseCode::PEER_GONE)]);
    assert_eq!(net.router.stats().registrations, 0);
}

#[test]
fn draining_asks_everybody_to_leave_and_closes_who_is_left() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    let deadline = Duration::from_secs(5);
    net.router.drain(deadline, net.now);
    let goaway = Frame::GoAway { deadline };
    for link in [client, server] {
        assert_eq!(net.received(link), std::slice::from_ref(&goaway));
    }

    net.send(client, data(1, "still served"));
    assert_eq!(net.received(server), [data(2, "still served")]);
    net.send(client, connect(3, server_id(1)));
    assert_eq!(net.received(client), [closed(3, CloseCode::DRAINING)]);
    let late = net.socket();
    assert_eq!(net.received(late), [closed(0, CloseCode::DRAINING)]);
    assert_eq!(net.closes(), [(late, CloseCode::DRAINING)]);
    net.hang_up(late);

    net.hang_up(client);
    net.advance(deadline);
    assert_eq!(net.received(server), [closed(0, CloseCode::DRAINING)]);
    assert_eq!(net.closes(), [(server, CloseCode::DRAINING)]);
    net.hang_up(server);
    assert_eq!(net.events(), [Event::Drained]);
    net.assert_empty();
}

#[test]
fn a_server_that_registers_while_the_relay_drains_is_sent_away() {
    let mut net = Net::new(config());
    let (link, welcome) = net.welcomed();
    net.router.drain(Duration::from_secs(5), net.now);
    net.received(link);
    net.send(link, register(1, &welcome.challenge));
    assert_eq!(net.received(link), [closed(0, CloseCode::DRAINING)]);
}

#[test]
fn draining_without_links_is_over_at_once() {
    let mut net = Net::new(config());
    net.router.drain(Duration::from_secs(5), net.now);
    assert_eq!(net.events(), [Event::Drained]);
    let late = net.socket();
    assert_eq!(net.closes(), [(late, CloseCode::DRAINING)]);
    net.hang_up(late);
    assert_eq!(net.events(), [], "said once");
    net.assert_empty();
}

#[test]
fn nothing_is_left_of_links_that_are_gone() {
    let mut net = Net::new(config());
    let (client, server) = net.pair();
    net.send(client, data(1, "unread"));
    net.send(client, connect(3, server_id(9)));
    net.send(client, connect(5, server_id(1)));
    let silent = net.socket();
    for link in [client, silent, server] {
        net.hang_up(link);
    }
    net.assert_empty();
}
