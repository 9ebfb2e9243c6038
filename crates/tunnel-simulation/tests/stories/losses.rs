//! Stories of connections, relays and pages that are lost, frozen, replaced or evil.

use super::*;

#[test]
fn a_cut_connection_is_ridden_out_without_loss() {
    let (mut world, client, server) = connected();
    say(&mut world, CLIENT, client, "one");
    let connection = world.connections_of(CLIENT)[0];
    world.cut(connection);
    say(&mut world, CLIENT, client, "two");
    say(&mut world, SERVER, server, "three");

    let (texts, events) = listen(&mut world, SERVER, LONG);
    assert_eq!(texts, ["one", "two"]);
    assert!(matches!(&events[..], [Event::Interrupted { .. }, Event::Resumed { .. }]), "{events:?}");
    let (texts, events) = listen(&mut world, CLIENT, LONG);
    assert_eq!(texts, ["three"]);
    assert!(matches!(&events[..], [Event::Interrupted { .. }, Event::Resumed { .. }]), "{events:?}");
    let stats = world.peers[CLIENT].endpoint.stats(client).unwrap().session;
    assert_eq!(stats.resumptions, 1);
}

#[test]
fn a_relay_that_is_killed_and_started_again_loses_nothing() {
    let (mut world, client, _) = connected();
    say(&mut world, CLIENT, client, "before");
    world.kill_relay();
    say(&mut world, CLIENT, client, "meanwhile");
    world.advance(Duration::from_secs(20));
    world.start_relay();
    say(&mut world, CLIENT, client, "after");

    let (texts, events) = listen(&mut world, SERVER, LONG);

    assert_eq!(texts, ["before", "meanwhile", "after"]);
    assert!(events.iter().any(|event| matches!(event, Event::Hosting { again: true, .. })), "{events:?}");
}

#[test]
fn a_relay_that_is_killed_before_a_clients_first_record_is_there_loses_nothing() {
    for away in [Duration::from_millis(1), Duration::from_secs(20)] {
        let (mut world, server) = tabs();
        let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
        assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
        say(&mut world, CLIENT, client, "first");
        world.kill_relay();
        world.advance(away);
        world.start_relay();

        let (texts, events) = listen(&mut world, SERVER, LONG);

        assert_eq!(texts, ["first"], "{events:?}");
        let (_, events) = listen(&mut world, CLIENT, LONG);
        assert!(matches!(&events[..], [Event::Interrupted { .. }, Event::Resumed { .. }]), "{events:?}");
    }
}

/// A server has let in a client, whose page stands still from then on and has lost its connections.
fn with_a_client_that_is_gone_before_its_first_record() -> World {
    let (mut world, server) = tabs();
    world.connect(CLIENT, server, PORT, ConnectOptions::default());
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    world.peers[CLIENT].frozen_until = Some(tunnel_protocol::Instant::NEVER);
    for connection in world.connections_of(CLIENT) {
        world.cut(connection);
    }
    world
}

#[test]
fn a_client_that_is_let_in_and_never_says_a_word_is_forgotten() {
    let mut world = with_a_client_that_is_gone_before_its_first_record();

    world.advance(Duration::from_secs(30));
    assert_eq!(world.peers[SERVER].endpoint.host_stats().incoming, 1, "it may come back");
    world.advance(Duration::from_secs(31));
    assert_eq!(world.peers[SERVER].endpoint.host_stats().incoming, 0);
}

#[test]
fn a_server_that_closes_does_not_wait_for_a_client_that_lost_its_path_before_its_first_record() {
    let mut world = with_a_client_that_is_gone_before_its_first_record();
    world.advance(Duration::from_secs(1));
    world.with(SERVER, |endpoint, now| endpoint.unhost(now));

    world.advance(Duration::from_secs(2));

    assert!(world.peers[SERVER].endpoint.is_idle());
}

#[test]
fn a_relay_that_is_restarted_under_a_thousand_clients_loses_none() {
    const PAGES: usize = 4;
    const SOCKETS: usize = 250;
    let (mut world, server) = tabs();
    for _ in 1..PAGES {
        world.add_peer(Config::default());
    }
    for page in 1..=PAGES {
        for _ in 0..SOCKETS {
            world.connect(page, server, PORT, ConnectOptions::default());
        }
        world.advance(LONG);
    }
    let opened = |world: &mut World, peer: usize| {
        let events = std::mem::take(&mut world.peers[peer].events);
        events.iter().filter(|event| matches!(event, Event::Opened { .. })).count()
    };
    assert_eq!(opened(&mut world, SERVER), PAGES * SOCKETS);
    world.kill_relay();
    world.advance(Duration::from_secs(2));
    world.start_relay();
    world.advance(Duration::from_secs(100));
    let events = std::mem::take(&mut world.peers[SERVER].events);
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Closed { .. })), 0);
    assert_eq!(count(|event| matches!(event, Event::Resumed { .. })), PAGES * SOCKETS);
}

#[test]
fn a_relay_that_says_nothing_is_noticed_and_left() {
    let (mut world, client, _) = connected();
    for connection in world.connections_of(CLIENT) {
        world.black_hole(connection);
    }
    say(&mut world, CLIENT, client, "into the void");

    let (texts, _) = listen(&mut world, SERVER, LONG);

    assert_eq!(texts, ["into the void"], "over another connection");
}

#[test]
fn a_frozen_page_is_not_taken_for_a_dead_one() {
    let (mut world, client, _) = connected();
    world.peers[SERVER].frozen_until = Some(world.now + Duration::from_secs(25));
    say(&mut world, CLIENT, client, "wake up");

    let (_, events) = listen(&mut world, CLIENT, Duration::from_secs(24));
    assert!(!events.iter().any(|event| matches!(event, Event::Closed { .. })), "{events:?}");
    let (texts, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(texts, ["wake up"]);
}

#[test]
fn a_page_may_be_frozen_for_longer_than_any_timeout() {
    let (mut world, client, _) = connected();
    world.peers[SERVER].frozen_until = Some(world.now + Duration::from_secs(3_000));
    say(&mut world, CLIENT, client, "good morning");

    let (_, events) = listen(&mut world, CLIENT, Duration::from_secs(2_990));
    assert!(matches!(&events[..], [Event::Interrupted { .. }]), "noticed, and not given up: {events:?}");
    let (texts, _) = listen(&mut world, SERVER, Duration::from_secs(120));
    assert_eq!(texts, ["good morning"]);
}

#[test]
fn a_channel_that_went_silent_is_replaced_though_the_link_lives() {
    let (mut world, client, _) = connected();
    world.advance(Duration::from_secs(1));
    // The relay swallows the record and the news that the channel is closed.
    world.evil = Some(Evil::new(1));
    say(&mut world, CLIENT, client, "hello?");
    world.advance(Duration::from_secs(2));
    world.evil = None;

    let (texts, _) = listen(&mut world, SERVER, Duration::from_secs(120));

    assert_eq!(texts, ["hello?"]);
}

#[test]
fn a_server_that_crashed_is_reported_after_the_absent_timeout() {
    let (mut world, _, _) = connected();
    let start = world.now;
    // Nothing dials from it any more.
    world.peers[SERVER].frozen_until = Some(world.now + Duration::from_secs(100_000));
    for connection in world.connections_of(SERVER) {
        world.cut(connection);
    }

    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Interrupted { .. })));
    assert!(world.now - start < Duration::from_secs(1), "the relay tells at once that the server is gone");
    let Some(Event::Closed { code, was_clean: false, failed: false, .. }) = world.next_event(CLIENT, LONG)
    else {
        panic!("it closes")
    };
    assert_eq!(code, CloseCode::SERVER_NOT_FOUND);
    let waited = world.now - start;
    assert!(waited >= Duration::from_secs(15) && waited < Duration::from_secs(20), "{waited:?}");
}

#[test]
fn a_server_that_was_reloaded_with_its_key_says_so_to_its_old_clients() {
    let (mut world, _, _) = connected();
    world.reload(SERVER, Config::default());
    world.host(SERVER, SECRET);

    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Interrupted { .. })));
    let Some(Event::Closed { code, reason, was_clean: false, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it closes")
    };
    assert_eq!(code, CloseCode::PEER_RELOADED);
    assert!(reason.contains("reloaded"), "{reason}");
}

#[test]
fn without_resumption_a_lost_path_is_an_abnormal_end() {
    let options = ConnectOptions { resume_timeout: Duration::ZERO, ..ConnectOptions::default() };
    let (mut world, _, _) = connected_with(options);
    let connection = world.connections_of(CLIENT)[0];
    world.cut(connection);
    let (_, events) = listen(&mut world, CLIENT, LONG);
    let [.., Event::Closed { code, was_clean: false, failed: false, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(*code, CloseCode::ABNORMAL);
}

#[test]
fn the_relay_unreachable_for_longer_than_the_resume_timeout_ends_the_socket() {
    let options = ConnectOptions { resume_timeout: Duration::from_secs(30), ..ConnectOptions::default() };
    let (mut world, client, _) = connected_with(options);
    world.kill_relay();
    say(&mut world, CLIENT, client, "lost?");
    let start = world.now;
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Interrupted { .. })));
    let Some(Event::Closed { code, reason, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it closes")
    };
    assert_eq!(code, CloseCode::EXPIRED);
    assert!(reason.contains("uncertain"), "{reason}");
    assert_eq!((world.now - start).as_secs(), 30);
}

#[test]
fn the_newer_of_two_tabs_with_one_key_takes_the_server_over() {
    let (mut world, _) = tabs();
    let other = world.add_peer(Config::default());
    world.host(other, SECRET);

    assert!(matches!(world.next_event(other, LONG), Some(Event::Hosting { .. })));
    let Some(Event::HostClosed { code, .. }) = world.next_event(SERVER, LONG) else {
        panic!("the older one is told")
    };
    assert_eq!(code, CloseCode::ID_TAKEN_OVER);
}

#[test]
fn a_relay_that_tampers_with_everything_delivers_nothing_wrong() {
    let (mut world, server) = tabs();
    world.canary = Some(b"attack at dawn".to_vec());
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(LONG);
    world.peers[SERVER].events.clear();
    world.evil = Some(Evil::new(1));
    say(&mut world, CLIENT, client, "attack at dawn");

    let (mut texts, _) = listen(&mut world, SERVER, Duration::from_secs(30));
    world.evil = None;
    // By then, the client may have left the link itself.
    for connection in world.connections_of(CLIENT) {
        world.cut(connection);
    }
    texts.extend(listen(&mut world, SERVER, LONG).0);
    assert_eq!(texts, ["attack at dawn"], "once, as soon as the relay lets it through");
}
