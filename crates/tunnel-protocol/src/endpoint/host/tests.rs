//! A server against a relay that the tests play.

use super::*;
use crate::endpoint::{Config, LinkMessage};
use crate::frame::{ChannelId, Frame, Welcome};
use crate::handshake::Initiator;
use crate::session::{Epoch, Position};

mod clients;

const NOW: Instant = Instant::from_micros(1_000_000);

fn key(secret: u8) -> StaticKey {
    StaticKey::from_secret([secret; 32])
}

fn id(secret: u8) -> ServerId {
    ServerId::Key(key(secret).public())
}

fn welcome() -> Frame {
    welcome_with(key(3).public())
}

fn welcome_with(challenge: PublicKey) -> Frame {
    Frame::Welcome(Box::new(Welcome {
        version: 1,
        features: 0,
        max_frame: 60_000,
        max_channels: 1,
        channel_buffer: 1 << 20,
        idle_timeout: Duration::from_secs(60),
        challenge,
        address: String::new(),
        node: String::new(),
    }))
}

fn say(endpoint: &mut Endpoint, link: LinkId, frame: &Frame) {
    endpoint.handle_message(link, LinkMessage::Binary(frame.encode()), NOW);
}

fn events(endpoint: &mut Endpoint) -> Vec<Event> {
    std::iter::from_fn(|| endpoint.poll_event()).collect()
}

/// The relay answers the dialling of a server whose key is made of 7.
fn greet(endpoint: &mut Endpoint) -> LinkId {
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
    endpoint.handle_link_opened(link, false, NOW);
    say(endpoint, link, &welcome());
    link
}

fn new_host_of(config: Config) -> Endpoint {
    let mut endpoint = Endpoint::new(config, [1; 32]);
    endpoint.host(key(7), NOW);
    endpoint
}

fn new_host() -> (Endpoint, LinkId) {
    let mut endpoint = new_host_of(Config::default());
    let link = greet(&mut endpoint);
    (endpoint, link)
}

/// The link that is asked for last.
fn dialled(endpoint: &mut Endpoint) -> LinkId {
    let last = events(endpoint).pop();
    let Some(Event::Dial { link }) = last else { panic!("it does not dial, instead: {last:?}") };
    link
}

/// The relay answers HELLO as a livecoding server does; returns how the server ends.
fn answer_in_livecode(endpoint: &mut Endpoint, link: LinkId) -> Option<(CloseCode, String)> {
    endpoint.handle_link_opened(link, false, NOW);
    let text = "server: rejected malformed command".to_owned();
    endpoint.handle_message(link, LinkMessage::Text(text), NOW);
    events(endpoint).into_iter().find_map(|event| match event {
        Event::HostClosed { code, reason } => Some((code, reason)),
        Event::Livecode { .. } => panic!("nobody speaks the dialect"),
        _ => None,
    })
}

/// The events by which the endpoint ends a link whose relay lies about the server's ID, and the server with it.
fn ends(link: LinkId) -> [Event; 2] {
    let (code, reason) = (CloseCode::PROTOCOL_ERROR, LinkError::WrongServerId.to_string());
    [Event::HangUp { link, code, reason: reason.clone() }, Event::HostClosed { code, reason }]
}

#[test]
fn a_server_is_registered_under_the_id_of_its_own_key() {
    let (mut endpoint, link) = new_host();
    say(&mut endpoint, link, &Frame::Registered { server_id: id(7) });
    assert_eq!(events(&mut endpoint), [Event::Hosting { server_id: id(7), again: false }]);
}

#[test]
fn a_relay_that_registers_a_server_under_another_id_ends_the_link_and_the_server_with_1002() {
    for other in [id(8), ServerId::Number(1)] {
        let (mut endpoint, link) = new_host();
        say(&mut endpoint, link, &Frame::Registered { server_id: other });
        assert_eq!(events(&mut endpoint), ends(link), "{other}");
        assert_eq!(endpoint.poll_timeout().map(|at| at > NOW), None, "nothing is dialled any more");
    }
}

#[test]
fn a_relay_that_changes_the_id_when_the_server_comes_back_ends_the_server() {
    let (mut endpoint, link) = new_host();
    say(&mut endpoint, link, &Frame::Registered { server_id: id(7) });
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", NOW);
    let link = dialled(&mut endpoint);
    endpoint.handle_link_opened(link, false, NOW);
    say(&mut endpoint, link, &welcome());
    say(&mut endpoint, link, &Frame::Registered { server_id: id(8) });
    assert_eq!(events(&mut endpoint), ends(link));
}

#[test]
fn a_registration_that_was_not_asked_for_ends_the_link_with_1002() {
    let (mut endpoint, link) = new_host();
    let registered = Frame::Registered { server_id: id(7) };
    say(&mut endpoint, link, &registered);
    events(&mut endpoint);
    say(&mut endpoint, link, &registered);
    let Some(Event::HangUp { code, .. }) = endpoint.poll_event() else { panic!("the link ends") };
    assert_eq!(code, CloseCode::PROTOCOL_ERROR);
}

#[test]
fn a_server_whose_relay_speaks_the_livecode_dialect_unasked_ends_with_an_error_that_names_the_option() {
    let mut endpoint = new_host_of(Config::default());
    let link = dialled(&mut endpoint);
    let (code, reason) = answer_in_livecode(&mut endpoint, link).expect("it ends");
    assert_eq!(code, CloseCode::LIVECODE_RELAY);
    assert!(reason.contains("{ livecode: true }"), "{reason}");
    assert_eq!(endpoint.poll_timeout().map(|at| at > NOW), None, "nothing is dialled any more");
}

#[test]
fn a_server_never_becomes_a_number_when_its_relay_changes_to_the_livecode_dialect() {
    for livecode in [false, true] {
        let mut endpoint = new_host_of(Config { livecode, ..Config::default() });
        let link = greet(&mut endpoint);
        say(&mut endpoint, link, &Frame::Registered { server_id: id(7) });
        endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", NOW);
        let link = dialled(&mut endpoint);
        let (code, reason) = answer_in_livecode(&mut endpoint, link).expect("it ends");
        assert_eq!(code, CloseCode::LIVECODE_RELAY);
        assert!(reason.contains(if livecode { "ID" } else { "{ livecode: true }" }), "{reason}");
    }
}

#[test]
fn a_server_under_a_number_ends_when_its_relay_gives_it_another_id() {
    for other in [ServerId::Number(2), id(7)] {
        let mut endpoint = new_host_of(Config { livecode: true, ..Config::default() });
        let link = dialled(&mut endpoint);
        endpoint.handle_registered(link, ServerId::Number(1), NOW);
        endpoint.handle_registered(link, other, NOW);
        let hosting = Event::Hosting { server_id: ServerId::Number(1), again: false };
        assert_eq!(events(&mut endpoint), [vec![hosting], ends(link).to_vec()].concat());
    }
}

#[test]
fn a_relay_whose_challenge_is_of_low_order_ends_the_link_and_the_server_with_1002() {
    let mut endpoint = new_host_of(Config::default());
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
    endpoint.handle_link_opened(link, false, NOW);
    say(&mut endpoint, link, &welcome_with(PublicKey([0; 32])));
    let [Event::HangUp { code: first, .. }, Event::HostClosed { code, reason }] = &events(&mut endpoint)[..]
    else {
        panic!("both end")
    };
    assert_eq!((*first, *code), (CloseCode::PROTOCOL_ERROR, CloseCode::PROTOCOL_ERROR));
    assert!(reason.contains("challenge"), "{reason}");
}

/// Once without a wait, as after any link, and then no more.
#[test]
fn a_relay_that_breaks_the_protocol_right_after_welcome_is_not_dialled_in_a_hot_loop() {
    let (mut endpoint, mut link) = new_host();
    say(&mut endpoint, link, &Frame::Registered { server_id: id(7) });
    let mut dials = 0;
    loop {
        events(&mut endpoint);
        say(&mut endpoint, link, &welcome());
        endpoint.handle_timeout(NOW);
        let Some(Event::Dial { link: next }) = events(&mut endpoint).pop() else { break };
        dials += 1;
        assert!(dials < 10, "it dials without end");
        link = next;
        endpoint.handle_link_opened(link, false, NOW);
        say(&mut endpoint, link, &welcome());
    }
    assert_eq!(dials, 1);
    assert!(endpoint.poll_timeout().is_some_and(|at| at > NOW), "it dials again later");
}

#[test]
fn a_client_whose_open_has_an_unknown_critical_extension_is_refused_with_1002() {
    let (mut endpoint, link) = new_host();
    say(&mut endpoint, link, &Frame::Registered { server_id: id(7) });
    events(&mut endpoint);
    while endpoint.poll_transmit(link, NOW).is_some() {}
    let open = Open {
        session_id: SessionId([1; 16]),
        epoch: Epoch(1),
        server_epoch: None,
        position: Position { received: 0, limit: 65_536 },
        protocols: Vec::new(),
        path: "/".to_owned(),
        features: 0,
    };
    let extended = [&open.encode()[..], &[0x80, 0, 0]].concat();
    let incoming = |channel: u32, payload: &[u8]| {
        // One ephemeral key for two messages would be a replay.
        let ephemeral = key(20 + channel as u8);
        let payload =
            Initiator::new(&prologue(1), key(7).public(), ephemeral).write_message(&key(9), payload);
        let (kind, payload) = (ChannelKind::Session, payload.unwrap());
        Frame::Incoming { channel: ChannelId(channel), port: 1, kind, address: String::new(), payload }
    };
    say(&mut endpoint, link, &incoming(2, &extended));
    assert_eq!(events(&mut endpoint), [], "no application is asked");
    let Some(LinkMessage::Binary(message)) = endpoint.poll_transmit(link, NOW) else { panic!("an answer") };
    let Ok(Some(Frame::Close { channel, code, reason })) = Frame::decode(message) else {
        panic!("a refusal")
    };
    assert_eq!((channel, code), (ChannelId(2), CloseCode::PROTOCOL_ERROR));
    assert!(reason.contains("critical"), "{reason}");
    say(&mut endpoint, link, &incoming(4, &open.encode()));
    assert!(
        matches!(events(&mut endpoint)[..], [Event::Incoming { .. }]),
        "without it, the application is asked"
    );
}
