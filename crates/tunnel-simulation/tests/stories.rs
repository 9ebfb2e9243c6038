//! Stories of two tabs, a relay and the network between them, on a simulated clock.
#![allow(clippy::unwrap_used)] // A story that breaks off has failed.

use bytes::Bytes;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Event, SendError, SocketId};
use tunnel_protocol::ledger::Ledger;
use tunnel_protocol::time::Duration;
use tunnel_protocol::{CloseCode, Message, ServerId, router, session};
use tunnel_simulation::{Evil, World};

const SERVER: usize = 0;
const CLIENT: usize = 1;
const SECRET: [u8; 32] = [42; 32];
const PORT: u16 = 1337;

/// Longer than any single step of the protocols waits.
const LONG: Duration = Duration::from_secs(60);

/// A server in one tab, and another tab that has not connected yet.
fn tabs() -> (World, ServerId) {
    tabs_with(Config::default())
}

fn tabs_with(config: Config) -> (World, ServerId) {
    let mut world = World::new(7, router::Config::default());
    world.add_peer(config.clone());
    world.add_peer(config);
    let server = world.host(SERVER, SECRET);
    assert!(matches!(world.next_event(SERVER, LONG), Some(Event::Hosting { again: false, .. })));
    (world, server)
}

/// Two tabs and the open sockets between them: the client's and the server's.
fn connected() -> (World, SocketId, SocketId) {
    connected_with(ConnectOptions::default())
}

fn connected_with(options: ConnectOptions) -> (World, SocketId, SocketId) {
    let (mut world, server) = tabs();
    let client = world.connect(CLIENT, server, PORT, options);
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    let Some(Event::Opened { socket, .. }) = world.next_event(SERVER, LONG) else {
        panic!("the server's end opens")
    };
    (world, client, socket)
}

fn say(world: &mut World, peer: usize, socket: SocketId, text: &str) {
    world.with(peer, |endpoint, _| endpoint.send(socket, text.into())).unwrap();
}

/// The texts that arrive within a time, and what else happens.
fn listen(world: &mut World, peer: usize, duration: Duration) -> (Vec<String>, Vec<Event>) {
    world.advance(duration);
    let (mut texts, mut others) = (Vec::new(), Vec::new());
    while let Some(event) = world.peers[peer].events.pop_front() {
        match event {
            Event::Message { message: Message::Text(text), .. } => texts.push(text),
            Event::Message { message: Message::Binary(data), .. } => {
                texts.push(format!("{} bytes", data.len()))
            }
            other => others.push(other),
        }
    }
    (texts, others)
}

#[test]
fn a_socket_opens_after_one_round_trip_through_the_relay() {
    let (mut world, server) = tabs();
    // The first socket brings the link up; the second finds it there.
    let first = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    world.advance(Duration::from_secs(1));
    world.peers[CLIENT].events.clear();
    let start = world.now;

    let second = world.connect(CLIENT, server, PORT, ConnectOptions::default());

    let opened = world.next_event(CLIENT, LONG);
    assert!(matches!(opened, Some(Event::Opened { socket, .. }) if socket == second && socket != first));
    let hops = (world.now - start).as_micros() / world.latency.as_micros();
    assert_eq!(hops, 4, "there and back, over two connections each way");
}

#[test]
fn a_message_takes_two_hops_and_arrives_unchanged() {
    let (mut world, client, _) = connected();
    world.advance(Duration::from_secs(1));
    world.peers[SERVER].events.clear();
    let start = world.now;

    say(&mut world, CLIENT, client, "hello, wörld");

    let Some(Event::Message { message, .. }) = world.next_event(SERVER, LONG) else { panic!("a message") };
    assert_eq!(message, Message::from("hello, wörld"));
    assert_eq!((world.now - start).as_millis(), 2 * world.latency.as_millis());
}

#[test]
fn a_port_path_address_and_key_reach_the_server_before_it_decides() {
    let (mut world, server) = tabs();
    world.peers[SERVER].obliging = false;
    let options = ConnectOptions {
        protocols: vec!["chat".into(), "cheese".into()],
        path: "/room?7".into(),
        ..ConnectOptions::default()
    };
    let client = world.connect(CLIENT, server, 80, options);

    let Some(Event::Incoming { socket, incoming }) = world.next_event(SERVER, LONG) else {
        panic!("a client")
    };
    assert_eq!((incoming.port, &*incoming.path, &*incoming.address), (80, "/room?7", "192.0.2.1"));
    assert_eq!(incoming.protocols, ["chat", "cheese"]);
    let key = incoming.remote.unwrap();
    world.with(SERVER, |endpoint, now| endpoint.accept(socket, "cheese", now));

    let Some(Event::Opened { socket: opened, protocol, remote }) = world.next_event(CLIENT, LONG) else {
        panic!("it opens")
    };
    assert_eq!((opened, &*protocol), (client, "cheese"));
    assert_eq!(remote.key, server.key().copied());
    assert!(remote.verified && remote.encrypted);
    let Some(Event::Opened { remote, .. }) = world.next_event(SERVER, LONG) else { panic!("it opens") };
    assert_eq!(remote.key, Some(key));
}

#[test]
fn a_refusal_reaches_the_client_with_its_code_and_reason() {
    let (mut world, server) = tabs();
    world.peers[SERVER].obliging = false;
    world.connect(CLIENT, server, 81, ConnectOptions::default());
    let Some(Event::Incoming { socket, .. }) = world.next_event(SERVER, LONG) else { panic!("a client") };

    world
        .with(SERVER, |endpoint, now| endpoint.refuse(socket, CloseCode::PORT_CLOSED, "nobody listens", now));

    let Some(Event::Closed { code, reason, was_clean, failed, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it is closed")
    };
    assert_eq!((code, was_clean, failed), (CloseCode::PORT_CLOSED, false, true));
    assert!(reason.contains("port 81") && reason.contains("nobody listens"), "{reason}");
    world.advance(LONG);
    assert!(
        world.peers[SERVER].events.is_empty(),
        "the server's application decided, and hears no more of it"
    );
}

#[test]
fn an_unknown_server_is_reported_after_the_relays_waiting_time() {
    let (mut world, _) = tabs();
    let nobody = ServerId::Key(tunnel_protocol::identity::StaticKey::from_secret([9; 32]).public());
    let start = world.now;
    world.connect(CLIENT, nobody, PORT, ConnectOptions::default());

    let Some(Event::Closed { code, failed: true, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it fails")
    };

    assert_eq!(code, CloseCode::SERVER_NOT_FOUND);
    let waited = world.now - start;
    assert!(waited >= router::Config::default().absent_wait && waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn a_server_that_was_closed_is_unknown_from_then_on() {
    let (mut world, server) = tabs();
    world.with(SERVER, |endpoint, now| endpoint.unhost(now));
    assert!(matches!(
        world.next_event(SERVER, LONG),
        Some(Event::HostClosed { code: CloseCode::NORMAL, .. })
    ));
    world.connect(CLIENT, server, PORT, ConnectOptions::default());

    let Some(Event::Closed { code, failed: true, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it fails")
    };

    assert_eq!(code, CloseCode::SERVER_NOT_FOUND);
}

#[test]
fn a_server_that_closes_before_a_clients_first_record_is_there_tells_it_too() {
    let (mut world, server) = tabs();
    world.connect(CLIENT, server, PORT, ConnectOptions::default());
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    let start = world.now;
    world.with(SERVER, |endpoint, now| endpoint.unhost(now));

    let Some(Event::Closed { code, was_clean, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it closes")
    };

    assert_eq!((code, was_clean), (CloseCode::GOING_AWAY, true));
    assert!(world.now - start <= 6 * world.latency, "no timeout is involved: {:?}", world.now - start);
}

#[test]
fn a_relay_that_is_down_is_reported_at_once_to_whoever_connects_first() {
    let (mut world, server) = tabs();
    world.kill_relay();
    let start = world.now;
    world.connect(CLIENT, server, PORT, ConnectOptions::default());

    let Some(Event::Closed { code, failed: true, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it fails")
    };

    assert_eq!(code, CloseCode::RELAY_UNREACHABLE);
    assert!(world.now - start < Duration::from_secs(1));
}

#[test]
fn nothing_may_be_sent_before_the_socket_opens_or_after_it_closes() {
    let (mut world, server) = tabs();
    let socket = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    let early = world.with(CLIENT, |endpoint, _| endpoint.send(socket, "early".into()));
    assert_eq!(early, Err(SendError::Connecting));
    world.advance(LONG);
    world.with(CLIENT, |endpoint, now| endpoint.close(socket, None, "", now));
    let late = world.with(CLIENT, |endpoint, _| endpoint.send(socket, "late".into()));
    assert_eq!(late, Err(SendError::NotOpen));
}

#[test]
fn a_close_arrives_behind_the_messages_and_is_clean_on_both_sides() {
    let (mut world, client, _) = connected();
    say(&mut world, CLIENT, client, "last words");
    world.with(CLIENT, |endpoint, now| endpoint.close(client, Some(CloseCode(4001)), "done", now));

    let (texts, events) = listen(&mut world, SERVER, LONG);
    assert_eq!(texts, ["last words"]);
    let [Event::Closed { code, reason, was_clean: true, failed: false, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*code, &**reason), (CloseCode(4001), "done"));
    let (_, events) = listen(&mut world, CLIENT, LONG);
    assert!(
        matches!(&events[..], [Event::Closed { code: CloseCode(4001), was_clean: true, .. }]),
        "{events:?}"
    );
    assert!(world.peers[CLIENT].endpoint.is_idle());
}

#[test]
fn both_sides_may_close_at_the_same_time() {
    let (mut world, client, server) = connected();
    world.with(CLIENT, |endpoint, now| endpoint.close(client, Some(CloseCode(4001)), "", now));
    world.with(SERVER, |endpoint, now| endpoint.close(server, Some(CloseCode(4002)), "", now));
    let (_, at_client) = listen(&mut world, CLIENT, LONG);
    let (_, at_server) = listen(&mut world, SERVER, LONG);
    assert!(
        matches!(&at_client[..], [Event::Closed { code: CloseCode(4002), was_clean: true, .. }]),
        "{at_client:?}"
    );
    assert!(
        matches!(&at_server[..], [Event::Closed { code: CloseCode(4001), was_clean: true, .. }]),
        "{at_server:?}"
    );
}

#[test]
fn a_page_that_leaves_tells_its_peers_within_two_hops() {
    let (mut world, _, _) = connected();
    let start = world.now;
    world.with(SERVER, |endpoint, now| endpoint.leave(now));

    let Some(Event::Closed { code, was_clean, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it closes")
    };

    assert_eq!((code, was_clean), (CloseCode::GOING_AWAY, true));
    assert!(world.now - start <= 3 * world.latency, "no timeout is involved");
}

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
fn peers_of_a_later_version_and_of_this_one_understand_each_other() {
    for greases in [[true, false], [false, true], [true, true]] {
        let mut world = World::new(7, router::Config::default());
        for greases in greases {
            let session = session::Config { greases, ..session::Config::default() };
            world.add_peer(Config { session, ..Config::default() });
        }
        let server = world.host(SERVER, SECRET);
        assert!(matches!(world.next_event(SERVER, LONG), Some(Event::Hosting { .. })));
        let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
        assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
        let Some(Event::Opened { socket, .. }) = world.next_event(SERVER, LONG) else { panic!("it opens") };
        say(&mut world, CLIENT, client, "up");
        say(&mut world, SERVER, socket, "down");
        assert_eq!(listen(&mut world, SERVER, LONG).0, ["up"]);
        assert_eq!(listen(&mut world, CLIENT, LONG).0, ["down"]);
        world.kill_relay();
        world.start_relay();
        say(&mut world, CLIENT, client, "up again");
        assert_eq!(listen(&mut world, SERVER, LONG).0, ["up again"], "over the next path, too: {greases:?}");
    }
}

#[test]
fn a_reader_that_stops_stops_the_sender_within_the_window() {
    let session = session::Config { window: 100_000, max_window: 100_000, ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    let Some(Event::Opened { socket, .. }) = world.next_event(SERVER, LONG) else { panic!("it opens") };
    world.peers[SERVER].obliging = false;
    for _ in 0..100 {
        let message = Message::Binary(Bytes::from(vec![1; 10_000]));
        world.with(CLIENT, |endpoint, _| endpoint.send(client, message)).unwrap();
    }

    let (arrived, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(arrived.len(), 10, "the window of 100,000 bytes, and the message that its end cuts through");
    let waiting = world.peers[CLIENT].endpoint.buffered_amount(client);
    assert!((890_000..=900_000).contains(&waiting), "{waiting} bytes are still with the sender");

    world.peers[SERVER].obliging = true;
    world.with(SERVER, |endpoint, now| endpoint.consume(socket, 100_064, now));
    let (arrived, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(arrived.len(), 90, "and the rest follows");
}

#[test]
fn many_sockets_share_the_memory_of_their_page() {
    const CLIENTS: usize = 64;
    const MESSAGES: usize = 128;
    let (mut world, server) = tabs();
    world.peers[SERVER].obliging = false;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        clients.push(world.connect(CLIENT, server, PORT, ConnectOptions::default()));
    }
    for _ in 0..2 * CLIENTS {
        match world.next_event(SERVER, LONG) {
            Some(Event::Incoming { socket, .. }) => {
                world.with(SERVER, |endpoint, now| endpoint.accept(socket, "", now));
            }
            Some(Event::Opened { socket, .. }) => servers.push(socket),
            other => panic!("{other:?}"),
        }
    }
    world.advance(Duration::from_secs(1));
    for client in &clients {
        for _ in 0..MESSAGES {
            let message = Message::Binary(vec![7; 16 * 1024].into());
            world.with(CLIENT, |endpoint, _| endpoint.send(*client, message)).unwrap();
        }
    }

    // Nobody at the server takes anything in.
    world.advance(Duration::from_secs(60));

    let total = Config::default().total_buffer;
    let stats =
        |world: &World, peer: usize, socket| world.peers[peer].endpoint.stats(socket).unwrap().session;
    let ahead: u64 = servers.iter().map(|server| stats(&world, SERVER, *server).bytes_received).sum();
    assert!((total / 2..=total).contains(&ahead), "{ahead} bytes wait at the server, of {total}");
}

#[test]
fn a_chat_message_does_not_wait_behind_a_file() {
    let (mut world, server) = tabs();
    world.rate = 1_000_000;
    let file = world.connect(CLIENT, server, 2, ConnectOptions::default());
    let chat = world.connect(CLIENT, server, 1, ConnectOptions::default());
    world.advance(LONG);
    world.peers[SERVER].events.clear();
    world
        .with(CLIENT, |endpoint, _| endpoint.send(file, Message::Binary(vec![0; 50_000_000].into())))
        .unwrap();
    world.advance(Duration::from_secs(5));
    let start = world.now;

    say(&mut world, CLIENT, chat, "hi");

    loop {
        match world.next_event(SERVER, LONG) {
            Some(Event::Message { message: Message::Text(_), .. }) => break,
            Some(_) => {}
            None => panic!("the chat message arrives"),
        }
    }
    // The socket's own buffer (256 KiB at 1 MB/s), twice: the file's other 45 seconds are not in the way.
    assert!(world.now - start < Duration::from_secs(1), "{:?}", world.now - start);
}

#[test]
fn small_messages_of_one_turn_share_a_record() {
    let (mut world, client, _) = connected();
    world.advance(LONG);
    let before = world.relay_stats().unwrap().frames;
    world.with(CLIENT, |endpoint, _| {
        for number in 0..500 {
            endpoint.send(client, Message::Text(format!("message {number}"))).unwrap();
        }
    });
    let (texts, _) = listen(&mut world, SERVER, LONG);
    assert_eq!(texts.len(), 500);
    let frames = world.relay_stats().unwrap().frames - before;
    assert!(frames < 10, "{frames} frames for 500 messages and their acknowledgements");
}

#[test]
fn a_message_larger_than_every_buffer_arrives() {
    let (mut world, client, _) = connected();
    world.rate = 100_000_000;
    let message = Message::Binary(Bytes::from(vec![5; 20_000_000]));
    world.with(CLIENT, |endpoint, _| endpoint.send(client, message)).unwrap();
    let (arrived, _) = listen(&mut world, SERVER, Duration::from_secs(600));
    assert_eq!(arrived, ["20000000 bytes"]);
    assert!(world.relay_stats().unwrap().buffered == 0);
}

#[test]
fn a_message_beyond_the_receivers_limit_ends_the_socket_with_1009() {
    let session = session::Config { max_message: 1_000, ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(LONG);
    world.peers[CLIENT].events.clear();
    world.with(CLIENT, |endpoint, _| endpoint.send(client, Message::Binary(vec![0; 1_001].into()))).unwrap();
    let (_, events) = listen(&mut world, CLIENT, LONG);
    assert!(matches!(&events[..], [Event::Closed { code: CloseCode::TOO_BIG, .. }]), "{events:?}");
}

#[test]
fn a_message_for_which_the_page_has_no_room_ends_the_socket_with_1013_and_no_other() {
    let session = session::Config { ledger: Ledger::new(1_000_000), ..session::Config::default() };
    let (mut world, server) = tabs_with(Config { session, ..Config::default() });
    let honest = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    let greedy = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(LONG);
    world.peers[CLIENT].events.clear();
    world.peers[SERVER].events.clear();
    let message = Message::Binary(vec![0; 600_000].into());
    world.with(CLIENT, |endpoint, _| endpoint.send(greedy, message)).unwrap();
    let (_, events) = listen(&mut world, CLIENT, LONG);
    assert!(
        matches!(&events[..], [Event::Closed { socket, code: CloseCode::TRY_AGAIN_LATER, .. }] if *socket == greedy),
        "{events:?}"
    );
    let (_, events) = listen(&mut world, SERVER, LONG);
    assert!(matches!(&events[..], [Event::Closed { code: CloseCode::TRY_AGAIN_LATER, .. }]), "{events:?}");
    assert_eq!(world.peers[SERVER].endpoint.held(), 0, "nothing is left of it");

    let message = Message::Binary(vec![0; 200_000].into());
    world.with(CLIENT, |endpoint, _| endpoint.send(honest, message)).unwrap();
    assert_eq!(listen(&mut world, SERVER, LONG).0, ["200000 bytes"]);
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
    let connection = world.connections_of(CLIENT)[0];
    world.cut(connection);
    texts.extend(listen(&mut world, SERVER, LONG).0);
    assert_eq!(texts, ["attack at dawn"], "once, as soon as the relay lets it through");
}
