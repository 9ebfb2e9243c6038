//! The closing handshake of two sessions whose records are carried by hand.

use tunnel_protocol::handshake::{Initiator, Responder};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::{Config, Position, Session, SessionEvent};
use tunnel_protocol::{CloseCode, Instant};

const NOW: Instant = Instant::ORIGIN;

/// Two sessions with a path between them.
fn pair() -> (Session, Session) {
    let (client, server) = (StaticKey::from_secret([1; 32]), StaticKey::from_secret([2; 32]));
    let mut initiator = Initiator::new(b"", server.public(), [3; 32]);
    let message = initiator.write_message(&client, b"").unwrap();
    let (responder, ..) = Responder::read_message(b"", &server, &message).unwrap();
    let (message, at_server) = responder.write_message([4; 32], b"").unwrap();
    let (_, at_client) = initiator.read_message(&client, &message).unwrap();
    let (mut client, mut server) = (Session::new(Config::default()), Session::new(Config::default()));
    let start = Position { received: 0, limit: 262_144 };
    assert!(client.attach(at_client, start, NOW) && server.attach(at_server, start, NOW));
    (client, server)
}

/// Carries all that one has to say to the other.
fn carry(from: &mut Session, to: &mut Session) {
    while let Some(record) = from.poll_record(b"", 65_536, NOW) {
        to.handle_record(record, NOW).unwrap();
    }
}

/// The code that a session ended with, and whether it ended cleanly.
fn end(session: &mut Session) -> Option<(CloseCode, bool)> {
    let Some(SessionEvent::Closed(closed)) = session.poll_event() else { return None };
    Some((closed.code, closed.was_clean))
}

#[test]
fn who_closes_before_the_answer_to_the_peers_close_is_out_answers_with_its_own_code() {
    let (mut client, mut server) = pair();
    client.close(None, "", NOW);
    carry(&mut client, &mut server);
    server.close(Some(CloseCode::GOING_AWAY), "the server was closed", NOW);
    carry(&mut server, &mut client);
    assert_eq!(end(&mut client), Some((CloseCode::GOING_AWAY, true)));
    assert_eq!(end(&mut server), Some((CloseCode::NO_STATUS, true)));
}

#[test]
fn a_close_that_nobody_answers_with_another_is_answered_with_the_same() {
    let (mut client, mut server) = pair();
    client.close(Some(CloseCode(4001)), "done", NOW);
    carry(&mut client, &mut server);
    carry(&mut server, &mut client);
    assert_eq!(end(&mut client), Some((CloseCode(4001), true)));
    assert_eq!(end(&mut server), Some((CloseCode(4001), true)));
}

#[test]
fn a_close_that_is_queued_when_the_peers_arrives_is_sent_all_the_same() {
    let (mut client, mut server) = pair();
    server.close(Some(CloseCode(4002)), "", NOW);
    client.close(Some(CloseCode(4001)), "", NOW);
    carry(&mut client, &mut server);
    assert_eq!(end(&mut server), None, "its own close is not out");
    carry(&mut server, &mut client);
    assert_eq!(end(&mut server), Some((CloseCode(4001), true)));
    assert_eq!(end(&mut client), Some((CloseCode(4002), true)));
}
