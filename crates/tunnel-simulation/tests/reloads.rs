//! Stories of servers that are reloaded, and of sockets that redial them.
#![allow(clippy::unwrap_used)] // A story that breaks off has failed.

use std::collections::BTreeSet;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, SocketId};
use tunnel_protocol::time::Duration;
use tunnel_protocol::{CloseCode, Message, ServerId, router};
use tunnel_simulation::{Evil, World};

const SERVER: usize = 0;
const CLIENT: usize = 1;
const SECRET: [u8; 32] = [42; 32];
const PORT: u16 = 1337;

/// Longer than any single step of the protocols waits.
const LONG: Duration = Duration::from_secs(60);

/// Two tabs, and a socket between them that redials.
fn redialling() -> (World, SocketId) {
    let mut world = World::new(11, router::Config::default());
    world.add_peer(Config::default());
    world.add_peer(Config::default());
    let server = world.host(SERVER, SECRET);
    let client = connect(&mut world, server);
    assert!(matches!(world.next_event(CLIENT, LONG), Some(Event::Opened { .. })));
    world.advance(Duration::from_secs(2));
    (world, client)
}

fn connect(world: &mut World, server: ServerId) -> SocketId {
    let options = ConnectOptions { redial: true, ..ConnectOptions::default() };
    world.connect(CLIENT, server, PORT, options)
}

fn say(world: &mut World, socket: SocketId, text: &str) {
    world.with(CLIENT, |endpoint, _| endpoint.send(socket, text.into())).unwrap();
}

/// The page says goodbye and is gone.
fn leave(world: &mut World) {
    world.with(SERVER, Endpoint::leave);
    world.advance(Duration::from_millis(100));
    world.reload(SERVER, Config::default());
}

fn reload(world: &mut World) {
    leave(world);
    world.host(SERVER, SECRET);
}

/// Does as an application that hears of a new session: it greets, sends what it gets back, and returns that.
fn greet(world: &mut World, socket: SocketId, greeting: &str) -> Vec<Message> {
    world.with(CLIENT, |endpoint, _| {
        endpoint.greet(socket);
        let _ = endpoint.send(socket, greeting.into());
        let unacknowledged = endpoint.take_unacknowledged(socket);
        for message in &unacknowledged {
            let _ = endpoint.send(socket, message.clone());
        }
        endpoint.flush(socket);
        unacknowledged
    })
}

/// Steps until the socket is reopened or closed; returns that event and how long it took.
fn outcome(world: &mut World) -> (Event, Duration) {
    let start = world.now;
    loop {
        let event = world.next_event(CLIENT, Duration::from_secs(400)).expect("something comes of it");
        if matches!(event, Event::Reopened { .. } | Event::Closed { .. }) {
            return (event, world.now - start);
        }
    }
}

fn texts(world: &mut World, peer: usize) -> Vec<String> {
    let events = std::mem::take(&mut world.peers[peer].events);
    let texts = events.into_iter().filter_map(|event| match event {
        Event::Message { message: Message::Text(text), .. } => Some(text),
        _ => None,
    });
    texts.collect()
}

fn text(message: &Message) -> String {
    match message {
        Message::Text(text) => text.clone(),
        Message::Binary(data) => format!("{} bytes", data.len()),
    }
}

#[test]
fn a_server_that_is_reloaded_twenty_times_under_traffic_misses_nothing_that_its_guest_cannot_name() {
    let (mut world, client) = redialling();
    let (mut arrived, mut handed_back) = (Vec::new(), BTreeSet::new());
    let mut sent = 0;
    for round in 0..20 {
        for _ in 0..50 {
            say(&mut world, client, &sent.to_string());
            sent += 1;
            world.advance(Duration::from_millis(3));
        }
        arrived.extend(texts(&mut world, SERVER));
        // A page that crashes says no goodbye.
        if round % 2 == 0 {
            world.reload(SERVER, Config::default());
        } else {
            leave(&mut world);
        }
        for _ in 0..5 {
            say(&mut world, client, &sent.to_string());
            sent += 1;
            world.advance(Duration::from_millis(300));
        }
        world.host(SERVER, SECRET);
        let (event, took) = outcome(&mut world);
        assert!(matches!(event, Event::Reopened { .. }), "{event:?}");
        assert!(took < Duration::from_millis(1_200), "{took:?}");
        handed_back.extend(greet(&mut world, client, "hello").iter().map(text));
        world.advance(Duration::from_secs(1));
    }
    world.advance(LONG);
    arrived.extend(texts(&mut world, SERVER));

    let numbers = || arrived.iter().filter(|text| *text != "hello");
    let distinct: BTreeSet<_> = numbers().collect();
    assert_eq!(distinct.len(), sent, "nothing is missing");
    let mut seen = BTreeSet::new();
    for text in numbers() {
        assert!(
            seen.insert(text) || handed_back.contains(text),
            "{text} came twice, and was never handed back"
        );
    }
    assert!(!handed_back.is_empty());
}

#[test]
fn what_is_sent_while_a_socket_redials_waits_and_follows_what_the_application_says_first() {
    let (mut world, client) = redialling();
    leave(&mut world);
    say(&mut world, client, "one");
    world.advance(Duration::from_secs(2));
    say(&mut world, client, "two");
    assert_eq!(world.with(CLIENT, |endpoint, _| endpoint.buffered_amount(client)), 6);
    world.host(SERVER, SECRET);
    assert!(matches!(outcome(&mut world).0, Event::Reopened { .. }));
    say(&mut world, client, "three");
    greet(&mut world, client, "hello");
    say(&mut world, client, "four");
    world.advance(LONG);
    assert_eq!(texts(&mut world, SERVER), ["hello", "one", "two", "three", "four"]);
    assert_eq!(world.with(CLIENT, |endpoint, _| endpoint.buffered_amount(client)), 0);
}

#[test]
fn a_server_that_is_reloaded_again_while_it_is_redialled_is_found_all_the_same() {
    let (mut world, client) = redialling();
    leave(&mut world);
    say(&mut world, client, "patience");
    for wait in [5, 25, 45, 65, 85] {
        world.host(SERVER, SECRET);
        // The handshake is on its way, or has just come.
        world.advance(Duration::from_millis(wait));
        leave(&mut world);
    }
    world.host(SERVER, SECRET);
    world.advance(LONG);
    // Sessions that lived for a moment may have been reported, too: the last one is there.
    let last = world.peers[CLIENT].events.pop_back();
    assert!(matches!(last, Some(Event::Reopened { .. })), "{last:?}");
    greet(&mut world, client, "hello");
    world.advance(LONG);
    assert_eq!(texts(&mut world, SERVER), ["hello", "patience"]);
}

#[test]
fn a_server_that_is_reloaded_for_ever_is_redialled_ever_more_slowly() {
    let (mut world, client) = redialling();
    let end = world.now + Duration::from_secs(300);
    let mut sessions = 0;
    while world.now < end {
        reload(&mut world);
        let (event, _) = outcome(&mut world);
        assert!(matches!(event, Event::Reopened { .. }), "{event:?}");
        greet(&mut world, client, "hello");
        sessions += 1;
    }
    assert!(sessions < 100, "{sessions} sessions in 300 s");
}

#[test]
fn a_server_that_does_not_come_back_ends_the_socket_which_says_what_may_be_lost() {
    let (mut world, client) = redialling();
    let connection = world.connections_of(SERVER)[0];
    world.black_hole(connection);
    say(&mut world, client, "on its way");
    world.advance(Duration::from_millis(100));
    leave(&mut world);
    say(&mut world, client, "too late");
    let start = world.now;
    let mut events = Vec::new();
    while let Some(event) = world.next_event(CLIENT, LONG) {
        events.push(event);
    }
    let [.., Event::Unacknowledged { messages, .. }, Event::Closed { code, was_clean: false, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(*code, CloseCode::SERVER_NOT_FOUND);
    assert_eq!(messages[..], ["on its way".into(), "too late".into()]);
    assert!(world.now - start > Duration::from_secs(15));
}

#[test]
fn a_socket_that_is_closed_while_it_redials_ends_at_once_and_names_what_was_not_sent() {
    let (mut world, client) = redialling();
    leave(&mut world);
    say(&mut world, client, "unsent");
    world.peers[CLIENT].events.clear();
    world.with(CLIENT, |endpoint, now| endpoint.close(client, None, "", now));
    let events = std::mem::take(&mut world.peers[CLIENT].events);
    let [Event::Unacknowledged { messages, .. }, Event::Closed { code, was_clean: false, .. }] =
        events.as_slices().0
    else {
        panic!("{events:?}")
    };
    assert_eq!((messages, *code), (&vec!["unsent".into()], CloseCode::ABORTED));
}

#[test]
fn a_socket_that_is_closed_before_it_has_greeted_sends_what_waited_and_closes_behind_it() {
    let (mut world, client) = redialling();
    leave(&mut world);
    say(&mut world, client, "last words");
    world.host(SERVER, SECRET);
    assert!(matches!(outcome(&mut world).0, Event::Reopened { .. }));
    world.with(CLIENT, |endpoint, now| endpoint.close(client, Some(CloseCode(1000)), "", now));
    let (Event::Closed { code, was_clean: true, .. }, _) = outcome(&mut world) else { panic!("it closes") };
    assert_eq!(code, CloseCode::NORMAL);
    assert_eq!(texts(&mut world, SERVER), ["last words"]);
}

#[test]
fn a_relay_that_lies_can_cut_but_makes_no_socket_believe_in_a_reload() {
    let (mut world, client) = redialling();
    world.evil = Some(Evil::new(3));
    for number in 0..2_000 {
        let _ = world.with(CLIENT, |endpoint, _| endpoint.send(client, number.to_string().as_str().into()));
        world.advance(Duration::from_millis(50));
    }
    let events = std::mem::take(&mut world.peers[CLIENT].events);
    assert!(events.iter().any(|event| matches!(event, Event::Interrupted { .. })), "it did cut");
    assert!(!events.iter().any(|event| matches!(event, Event::Reopened { .. })), "{events:?}");
}

#[test]
fn a_server_that_does_not_listen_yet_is_waited_for() {
    let (mut world, client) = redialling();
    leave(&mut world);
    world.peers[SERVER].obliging = false;
    world.host(SERVER, SECRET);
    for _ in 0..3 {
        let socket = loop {
            match world.next_event(SERVER, LONG) {
                Some(Event::Incoming { socket, .. }) => break socket,
                Some(_) => {}
                None => panic!("the client asks"),
            }
        };
        let (code, reason) = (CloseCode::PORT_CLOSED, "nobody listens");
        world.with(SERVER, |endpoint, now| endpoint.refuse(socket, code, reason, now));
    }
    world.peers[SERVER].obliging = true;
    assert!(matches!(outcome(&mut world).0, Event::Reopened { .. }));
    greet(&mut world, client, "hello");
}

#[test]
fn what_is_handed_back_and_never_taken_is_bounded() {
    let (mut world, client) = redialling();
    let mut reloads = 0;
    loop {
        // It is sent, and nothing is acknowledged any more.
        let connection = world.connections_of(SERVER)[0];
        world.black_hole(connection);
        for _ in 0..30 {
            let message = Message::Binary(vec![7; 10_000].into());
            world.with(CLIENT, |endpoint, _| endpoint.send(client, message)).unwrap();
        }
        world.advance(Duration::from_secs(2));
        reload(&mut world);
        match outcome(&mut world).0 {
            Event::Reopened { .. } => world.with(CLIENT, |endpoint, _| {
                endpoint.greet(client);
                endpoint.flush(client);
            }),
            Event::Closed { code, .. } => {
                assert_eq!(code, CloseCode::OVERFLOW);
                break;
            }
            _ => unreachable!(),
        }
        world.advance(Duration::from_secs(2));
        reloads += 1;
        let held = world.peers[CLIENT].endpoint.held();
        assert!(held < 2 << 20, "{held} bytes after {reloads} reloads");
    }
    assert!(reloads >= 3, "{reloads}");
}

#[test]
fn a_socket_that_does_not_redial_closes_when_the_server_leaves() {
    let (mut world, _) = redialling();
    let server = world.host(SERVER, SECRET);
    let plain = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    world.advance(Duration::from_secs(1));
    world.peers[CLIENT].events.clear();
    leave(&mut world);
    let (Event::Closed { socket, code, was_clean: true, .. }, _) = outcome(&mut world) else {
        panic!("it closes")
    };
    assert_eq!((socket, code), (plain, CloseCode::GOING_AWAY));
}
