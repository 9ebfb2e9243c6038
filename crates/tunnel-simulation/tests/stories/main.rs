//! Stories of two tabs, a relay and the network between them, on a simulated clock.
#![allow(clippy::unwrap_used)] // A story that breaks off has failed.

mod losses;
mod memory;

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
