//! A client against a relay that the tests play.

use super::*;
use crate::early;
use crate::endpoint::socket::prologue;
use crate::endpoint::{Config, Event, LinkMessage};
use crate::frame::{ChannelId, Frame, Welcome};
use crate::handshake::Responder;
use crate::livecode::LivecodeLink;
use crate::session::{Epoch, Opened, Position};

const START: Instant = Instant::from_micros(1_000_000);

fn welcome() -> Frame {
    Frame::Welcome(Box::new(Welcome {
        version: 1,
        features: 0,
        max_frame: 60_000,
        max_channels: 1,
        channel_buffer: 1 << 20,
        idle_timeout: Duration::from_secs(60),
        challenge: StaticKey::from_secret([3; 32]).public(),
        address: String::new(),
        node: String::new(),
    }))
}

/// The kinds of the frames that an endpoint sends now.
fn sent(endpoint: &mut Endpoint, link: LinkId) -> Vec<&'static str> {
    let mut names = Vec::new();
    while let Some(message) = endpoint.poll_transmit(link, START) {
        let LinkMessage::Binary(message) = message else { panic!("a text") };
        names.push(Frame::decode(message).unwrap().unwrap().name());
    }
    names
}

/// A new client of a server whose path is so long, and the link that it asks for. The relay may speak any dialect if the
/// server has a number.
fn new_client(server: ServerId, path_len: usize) -> (Endpoint, LinkId) {
    let livecode = matches!(server, ServerId::Number(_));
    new_client_of(Config { livecode, ..Config::default() }, server, path_len)
}

fn new_client_of(config: Config, server: ServerId, path_len: usize) -> (Endpoint, LinkId) {
    let mut endpoint = Endpoint::new(config, [1; 32]);
    let path = "p".repeat(path_len);
    endpoint.connect(server, 1, ConnectOptions { path, ..ConnectOptions::default() }, START);
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
    endpoint.prepare(START);
    (endpoint, link)
}

fn some_server() -> ServerId {
    ServerId::Key(StaticKey::from_secret([2; 32]).public())
}

#[test]
fn connect_follows_hello_without_waiting_for_welcome() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    endpoint.handle_link_opened(link, false, START);
    assert_eq!(sent(&mut endpoint, link), ["HELLO", "CONNECT"]);
    endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
    assert_eq!(sent(&mut endpoint, link), [""; 0], "nor is it sent twice");
}

/// The kinds of the frames in a WebSocket's handshake.
fn said_early(endpoint: &mut Endpoint, link: LinkId) -> Vec<&'static str> {
    let frames = early::decode(endpoint.early_frames(link, START).into()).unwrap();
    frames.into_iter().map(|frame| Frame::decode(frame).unwrap().unwrap().name()).collect()
}

#[test]
fn what_the_relay_took_from_the_handshake_is_not_said_again() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    assert_eq!(said_early(&mut endpoint, link), ["HELLO", "CONNECT"]);
    assert_eq!(sent(&mut endpoint, link), [""; 0], "before the WebSocket is open");
    endpoint.handle_link_opened(link, true, START);
    assert_eq!(sent(&mut endpoint, link), [""; 0]);
    endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
    assert_eq!(sent(&mut endpoint, link), [""; 0]);
}

#[test]
fn what_the_relay_left_in_the_handshake_is_said_in_messages() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    said_early(&mut endpoint, link);
    endpoint.connect(some_server(), 2, ConnectOptions::default(), START);
    endpoint.handle_link_opened(link, false, START);
    assert_eq!(sent(&mut endpoint, link), ["HELLO", "CONNECT", "CONNECT"]);
}

#[test]
fn what_does_not_fit_into_the_handshake_follows_it() {
    let (mut endpoint, link) = new_client(some_server(), 1_000);
    let path = "p".repeat(1_000);
    endpoint.connect(some_server(), 1, ConnectOptions { path, ..ConnectOptions::default() }, START);
    assert_eq!(said_early(&mut endpoint, link), ["HELLO", "CONNECT"]);
    endpoint.handle_link_opened(link, true, START);
    assert_eq!(sent(&mut endpoint, link), ["CONNECT"]);
}

#[test]
fn a_web_socket_that_never_opens_is_given_up_after_ten_seconds() {
    let (mut endpoint, _) = new_client(some_server(), 0);
    endpoint.handle_timeout(START + Duration::from_secs(9));
    assert_eq!(endpoint.poll_event(), None);
    endpoint.handle_timeout(START + Duration::from_secs(10));
    let code = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, Some(CloseCode::RELAY_UNREACHABLE));
}

#[test]
fn patience_with_a_server_begins_when_the_web_socket_is_open() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    said_early(&mut endpoint, link);
    let opened_at = START + Duration::from_secs(9);
    endpoint.handle_timeout(opened_at);
    assert_eq!(endpoint.poll_event(), None);
    endpoint.handle_link_opened(link, true, opened_at);
    endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), opened_at);
    endpoint.handle_timeout(START + HANDSHAKE_TIMEOUT);
    assert_eq!(endpoint.poll_event(), None, "the time of dialling does not count");
    endpoint.handle_timeout(opened_at + HANDSHAKE_TIMEOUT);
    let closed = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(closed.expect("the socket fails").contains("did not answer"));
}

/// The link that is asked for now.
fn dialled(endpoint: &mut Endpoint) -> Option<LinkId> {
    std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Dial { link } => Some(link),
        _ => None,
    })
}

#[test]
fn a_handshake_that_failed_is_tried_again_without_frames_and_an_open_socket_connects_when_it_succeeds() {
    let (mut endpoint, mut link) = client_of_an_absent_server();
    let mut now = START;
    for (dial, frames) in [2, 0, 0, 0].into_iter().enumerate() {
        endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", now);
        link = dialled(&mut endpoint).unwrap_or_else(|| {
            now = endpoint.poll_timeout().unwrap();
            endpoint.handle_timeout(now);
            dialled(&mut endpoint).expect("it dials again")
        });
        // By then it is time, too, to ask for the server again.
        now += Duration::from_secs(1);
        let early = early::decode(endpoint.early_frames(link, now).into()).unwrap_or_default();
        assert_eq!(early.len(), frames, "dial {dial}");
    }
    endpoint.handle_link_opened(link, false, now);
    assert_eq!(sent(&mut endpoint, link), ["HELLO", "CONNECT"]);
}

#[test]
fn a_first_connection_whose_way_takes_no_frames_in_the_handshake_connects_without() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    said_early(&mut endpoint, link);
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials again at once") };
    assert!(endpoint.early_frames(link, START).is_empty());
    endpoint.handle_link_opened(link, false, START);
    assert_eq!(sent(&mut endpoint, link), ["HELLO", "CONNECT"]);
    assert_eq!(endpoint.poll_event(), None);
}

#[test]
fn a_relay_that_answers_with_and_without_frames_in_the_handshake_to_neither_is_unreachable() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    said_early(&mut endpoint, link);
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials again at once") };
    endpoint.early_frames(link, START);
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    let Some(Event::Closed { code, failed: true, .. }) = endpoint.poll_event() else { panic!("it fails") };
    assert_eq!(code, CloseCode::RELAY_UNREACHABLE);
    assert_eq!(endpoint.poll_event(), None, "nobody dials a third time");
}

#[test]
fn a_connect_that_a_relay_might_not_take_waits_for_its_limits() {
    let (mut endpoint, link) = new_client(some_server(), MAX_EARLY_MESSAGE);
    endpoint.handle_link_opened(link, false, START);
    assert_eq!(sent(&mut endpoint, link), ["HELLO"]);
    endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
    assert_eq!(sent(&mut endpoint, link), ["CONNECT"]);
}

#[test]
fn an_early_connect_to_a_livecode_relay_fails_with_the_reason() {
    let (mut endpoint, link) =
        new_client_of(Config { livecode: true, ..Config::default() }, some_server(), 0);
    endpoint.handle_link_opened(link, false, START);
    sent(&mut endpoint, link);
    let text = "server: rejected malformed command";
    endpoint.handle_message(link, LinkMessage::Text(text.to_owned()), START);
    assert_eq!(endpoint.poll_event(), Some(Event::Livecode { link }));
    // The answer to CONNECT comes while somebody who speaks the dialect is being looked for.
    endpoint.handle_message(link, LinkMessage::Text(text.to_owned()), START);
    endpoint.speak_livecode(link, Box::<LivecodeLink>::default(), START);
    let reason = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { reason, failed: true, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.unwrap().contains("livecode dialect"));
}

/// The relay of a client answers HELLO in the livecode dialect; returns the end of its socket.
fn refuse_livecode(endpoint: &mut Endpoint, link: LinkId) -> Option<(CloseCode, String)> {
    let text = "server: rejected malformed command";
    endpoint.handle_message(link, LinkMessage::Text(text.to_owned()), START);
    let mut end = None;
    while let Some(event) = endpoint.poll_event() {
        match event {
            Event::Closed { code, reason, .. } => end = Some((code, reason)),
            Event::Livecode { .. } | Event::Dial { .. } => panic!("nobody has asked for {event:?}"),
            _ => {}
        }
    }
    end
}

#[test]
fn a_relay_that_answers_in_the_livecode_dialect_unasked_is_an_error_that_names_the_option() {
    for server in [some_server(), ServerId::Number(1)] {
        let (mut endpoint, link) = new_client_of(Config::default(), server, 0);
        endpoint.handle_link_opened(link, false, START);
        let (code, reason) = refuse_livecode(&mut endpoint, link).expect("the socket ends");
        assert_eq!(code, CloseCode::LIVECODE_RELAY);
        assert!(reason.contains("{ livecode: true }"), "{reason}");
        // A page puts the code's name before it, and all of it has to fit into a close frame.
        let longest = format!("livecode-relay: {}", reason.replacen("port 1 ", "port 65535 ", 1));
        assert_eq!(crate::close::truncate_reason(&longest), longest);
    }
}

#[test]
fn an_open_socket_ends_with_the_reason_when_a_later_relay_speaks_the_livecode_dialect() {
    let (mut endpoint, link) = client_of_an_absent_server();
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    endpoint.handle_timeout(START + Duration::from_secs(9));
    let link = dialled(&mut endpoint).expect("it dials again");
    endpoint.handle_link_opened(link, false, START);
    let (code, _) = refuse_livecode(&mut endpoint, link).expect("the socket ends");
    assert_eq!(code, CloseCode::LIVECODE_RELAY);
}

#[test]
fn a_relay_that_floods_who_does_not_speak_its_dialect_yet_is_left() {
    let (mut endpoint, link) = new_client(ServerId::Number(7), 0);
    endpoint.handle_link_opened(link, false, START);
    for _ in 0..100 {
        let text = LinkMessage::Text("server: rejected malformed command".to_owned());
        endpoint.handle_message(link, text, START);
    }
    assert_eq!(endpoint.poll_event(), Some(Event::Livecode { link }));
    let left = |event| matches!(event, Event::HangUp { link: left, .. } if left == link);
    assert!(std::iter::from_fn(|| endpoint.poll_event()).any(left));
    endpoint.speak_livecode(link, Box::<LivecodeLink>::default(), START);
}

#[test]
fn who_wants_a_livecode_server_says_nothing_but_hello_first() {
    let (mut endpoint, link) = new_client(ServerId::Number(7), 0);
    endpoint.connect(some_server(), 1, ConnectOptions::default(), START);
    endpoint.handle_link_opened(link, false, START);
    assert_eq!(sent(&mut endpoint, link), ["HELLO"]);
}

/// A client whose open socket is interrupted, on a link to a relay that says that the server is not there.
fn client_of_an_absent_server() -> (Endpoint, LinkId) {
    let mut endpoint = Endpoint::new(Config::default(), [1; 32]);
    let key = StaticKey::from_secret([2; 32]).public();
    let socket = endpoint.connect(ServerId::Key(key), 1, ConnectOptions::default(), START);
    let entry = endpoint.sockets.get_mut(socket).unwrap();
    (entry.socket.opened, entry.socket.interrupted_at) = (true, START);
    let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
    endpoint.handle_link_opened(link, false, START);
    let close =
        Frame::Close { channel: ChannelId(1), code: CloseCode::SERVER_NOT_FOUND, reason: String::new() };
    for frame in [welcome(), close] {
        endpoint.handle_message(link, LinkMessage::Binary(frame.encode()), START);
    }
    assert!(endpoint.poll_event().is_none());
    (endpoint, link)
}

#[test]
fn a_relay_that_refuses_the_access_token_is_not_asked_again() {
    let (mut endpoint, link) = client_of_an_absent_server();
    let text = "the access token has expired".to_owned();
    let refusal = Frame::Error { code: CloseCode::BAD_CREDENTIAL, text };
    endpoint.handle_message(link, LinkMessage::Binary(refusal.encode()), START);
    let closed = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { code, reason, .. } => Some((code, reason)),
        _ => None,
    });
    let (code, reason) = closed.expect("the socket ends");
    assert_eq!(code, CloseCode::BAD_CREDENTIAL);
    assert!(reason.contains("has expired"), "{reason}");
}

#[test]
fn a_relay_that_refuses_the_access_token_of_a_later_link_is_not_asked_again() {
    let (mut endpoint, link) = client_of_an_absent_server();
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    endpoint.handle_timeout(START + Duration::from_secs(9));
    let dialled = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Dial { link } => Some(link),
        _ => None,
    });
    let link = dialled.expect("it dials again");
    endpoint.handle_link_opened(link, false, START);
    let text = "the access token has expired".to_owned();
    let refusal = Frame::Error { code: CloseCode::BAD_CREDENTIAL, text };
    endpoint.handle_message(link, LinkMessage::Binary(refusal.encode()), START);
    let closed = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { code, reason, .. } => Some((code, reason)),
        _ => None,
    });
    let (code, reason) = closed.expect("the socket ends");
    assert_eq!(code, CloseCode::BAD_CREDENTIAL);
    assert!(reason.contains("has expired"), "{reason}");
}

#[test]
fn a_server_is_not_absent_while_there_is_no_relay_to_say_so() {
    let absent_timeout = ConnectOptions::default().absent_timeout;

    let (mut endpoint, _) = client_of_an_absent_server();
    endpoint.handle_timeout(START + absent_timeout);
    let code = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
        Event::Closed { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, Some(CloseCode::SERVER_NOT_FOUND), "the relay is there");

    let (mut endpoint, link) = client_of_an_absent_server();
    endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
    endpoint.handle_timeout(START + absent_timeout);
    let closed = |event| matches!(event, Event::Closed { .. });
    assert!(!std::iter::from_fn(|| endpoint.poll_event()).any(closed), "the relay is gone");
}

#[test]
fn a_server_whose_opened_has_an_unknown_critical_extension_is_refused_with_1002() {
    let (mut endpoint, link) = new_client(some_server(), 0);
    endpoint.handle_link_opened(link, false, START);
    endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
    let mut connect = None;
    while let Some(LinkMessage::Binary(message)) = endpoint.poll_transmit(link, START) {
        if let Ok(Some(Frame::Connect { channel, payload, .. })) = Frame::decode(message) {
            connect = Some((channel, payload));
        }
    }
    let (channel, payload) = connect.unwrap();
    let key = StaticKey::from_secret([2; 32]);
    let (responder, ..) = Responder::read_message(&prologue(1), &key, &payload).unwrap();
    let position = Position { received: 0, limit: 65_536 };
    let opened = Opened::Accepted { epoch: Epoch(1), position, protocol: String::new(), features: 0 };
    let extended = [&opened.encode()[..], &[0x80, 0, 0]].concat();
    let (payload, _) = responder.write_message(StaticKey::from_secret([4; 32]), &extended).unwrap();
    endpoint.handle_message(link, LinkMessage::Binary(Frame::Accept { channel, payload }.encode()), START);

    let Some(LinkMessage::Binary(message)) = endpoint.poll_transmit(link, START) else { panic!("an answer") };
    let Ok(Some(Frame::Close { channel: closed, code, .. })) = Frame::decode(message) else {
        panic!("a refusal")
    };
    assert_eq!((closed, code), (channel, CloseCode::PROTOCOL_ERROR));
    let ends: Vec<_> = std::iter::from_fn(|| endpoint.poll_event()).collect();
    let Some(Event::Closed { code, was_clean, failed, reason, .. }) = ends.last() else { panic!("{ends:?}") };
    assert_eq!((*code, *was_clean, *failed), (CloseCode::PROTOCOL_ERROR, false, true));
    assert!(reason.contains("critical"), "{reason}");
}
