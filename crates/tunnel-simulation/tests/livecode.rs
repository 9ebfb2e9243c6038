//! Stories of two tabs at a relay that speaks the livecode dialect, which both allow.
#![allow(clippy::unwrap_used)] // A story that breaks off has failed.

use tunnel_protocol::endpoint::{Config, ConnectOptions, Event, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{self, Dialect, LivecodeConfig};
use tunnel_protocol::time::Duration;
use tunnel_protocol::{CloseCode, Message, ServerId};
use tunnel_simulation::World;

const SERVER: usize = 0;
const CLIENT: usize = 1;
const PORT: u16 = 1337;
const LONG: Duration = Duration::from_secs(60);

fn tabs(config: Config) -> (World, ServerId) {
    let livecode = LivecodeConfig::new("secret", [1; 32]);
    let mut world = World::new(3, router::Config { livecode: Some(livecode), ..router::Config::default() });
    world.dialect = Dialect::Livecode;
    let config = Config { livecode: true, ..config };
    world.add_peer(config.clone());
    world.add_peer(config);
    world.host(SERVER, [42; 32]);
    let Some(Event::Hosting { server_id, again: false }) = world.next_event(SERVER, LONG) else {
        panic!("it is hosted")
    };
    assert!(matches!(server_id, ServerId::Number(_)), "{server_id}");
    (world, server_id)
}

fn connected() -> (World, SocketId, SocketId) {
    let (mut world, server) = tabs(Config::default());
    world.canary = Some(b"for us two".to_vec());
    let client = world.connect(CLIENT, server, PORT, ConnectOptions::default());
    let Some(Event::Opened { remote, .. }) = world.next_event(CLIENT, LONG) else { panic!("it opens") };
    assert_eq!(remote.key, Some(StaticKey::from_secret([42; 32]).public()));
    assert!(remote.encrypted && !remote.verified, "a number proves nothing, and the API says so");
    let Some(Event::Opened { socket, remote, .. }) = world.next_event(SERVER, LONG) else {
        panic!("it opens")
    };
    assert_eq!(remote.address.as_deref(), Some("192.0.2.1"));
    (world, client, socket)
}

fn texts(world: &mut World, peer: usize) -> Vec<String> {
    world.advance(LONG);
    let events = std::mem::take(&mut world.peers[peer].events);
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Message { message: Message::Text(text), .. } => Some(text),
            _ => None,
        })
        .collect()
}

#[test]
fn two_tabs_talk_encrypted_through_a_livecoding_relay() {
    let (mut world, client, server) = connected();
    world.with(CLIENT, |endpoint, _| endpoint.send(client, "for us two: ping".into())).unwrap();
    world.with(SERVER, |endpoint, _| endpoint.send(server, "for us two: pong".into())).unwrap();
    assert_eq!(texts(&mut world, SERVER), ["for us two: ping"]);
    assert_eq!(texts(&mut world, CLIENT), ["for us two: pong"]);
}

#[test]
fn a_large_message_goes_through_in_parts() {
    let (mut world, client, _) = connected();
    let message = Message::Binary(vec![7; 3_000_000].into());
    world.with(CLIENT, |endpoint, _| endpoint.send(client, message.clone())).unwrap();
    loop {
        match world.next_event(SERVER, LONG) {
            Some(Event::Message { message: arrived, .. }) => return assert_eq!(arrived, message),
            Some(_) => {}
            None => panic!("it arrives"),
        }
    }
}

#[test]
fn each_client_has_a_link_of_its_own_and_gives_it_back() {
    let (mut world, server) = tabs(Config::default());
    let sockets: Vec<_> =
        (0..5).map(|_| world.connect(CLIENT, server, PORT, ConnectOptions::default())).collect();
    world.advance(LONG);
    assert_eq!(world.connections_of(CLIENT).len(), 5);
    for socket in sockets {
        world.with(CLIENT, |endpoint, now| endpoint.close(socket, None, "", now));
    }
    world.advance(LONG);
    assert_eq!(world.connections_of(CLIENT).len(), 0);
    let closed = world.peers[SERVER]
        .events
        .iter()
        .filter(|event| matches!(event, Event::Closed { was_clean: true, .. }));
    assert_eq!(closed.count(), 5);
}

#[test]
fn a_cut_connection_is_ridden_out_here_too() {
    let (mut world, client, _) = connected();
    let connection = world.connections_of(CLIENT)[0];
    world.cut(connection);
    world.with(CLIENT, |endpoint, _| endpoint.send(client, "still there".into())).unwrap();
    assert_eq!(texts(&mut world, SERVER), ["still there"]);
}

#[test]
fn a_server_that_leaves_tells_its_clients() {
    let (mut world, _, _) = connected();
    world.with(SERVER, |endpoint, now| endpoint.leave(now));
    let Some(Event::Closed { code, was_clean: true, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it closes")
    };
    assert_eq!(code, CloseCode::GOING_AWAY);
}

#[test]
fn a_number_that_nobody_has_is_reported() {
    let (mut world, _) = tabs(Config::default());
    world.connect(CLIENT, ServerId::Number(4_711), PORT, ConnectOptions::default());
    let Some(Event::Closed { code, failed: true, .. }) = world.next_event(CLIENT, LONG) else {
        panic!("it fails")
    };
    assert_eq!(code, CloseCode::SERVER_NOT_FOUND);
}

/// A plain peer: texts without a session, by the words of 2017.
fn plain_world(allow_plain: bool) -> (World, ServerId, SocketId) {
    let (mut world, server) = tabs(Config { allow_plain, ..Config::default() });
    let options = ConnectOptions { allow_plain: true, ..ConnectOptions::default() };
    let client = world.connect(CLIENT, server, PORT, options);
    (world, server, client)
}

#[test]
fn a_client_that_may_be_plain_prefers_to_be_encrypted() {
    let (mut world, _, _) = plain_world(true);
    let Some(Event::Opened { remote, .. }) = world.next_event(CLIENT, LONG) else { panic!("it opens") };
    assert!(remote.encrypted);
}
