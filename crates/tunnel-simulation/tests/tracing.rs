//! The events of the core that a developer sees with the feature `tracing`.
#![allow(clippy::unwrap_used)] // A test that panics fails, as it should.

use std::io;
use std::sync::{Arc, Mutex};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Event};
use tunnel_protocol::time::Duration;
use tunnel_protocol::{CloseCode, router};
use tunnel_simulation::World;

const LONG: Duration = Duration::from_secs(60);

/// The lines that a subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text of all events of the core while `story` runs.
fn events_of(story: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let _guard = subscriber.set_default();
    story();
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

/// Asserts that all parts are there, in this order.
fn assert_in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("{part:?} is missing or too early in:\n{text}") };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn a_subscriber_sees_a_connection_from_dialling_to_its_end() {
    let text = events_of(|| {
        let mut world = World::new(7, router::Config::default());
        let (server, client) = (world.add_peer(Config::default()), world.add_peer(Config::default()));
        let server_id = world.host(server, [42; 32]);
        let socket = world.connect(client, server_id, 80, ConnectOptions::default());
        assert!(matches!(world.next_event(client, LONG), Some(Event::Opened { .. })));
        // The server has the client's first record.
        world.advance(Duration::from_secs(1));
        for connection in world.connections_of(client) {
            world.cut(connection);
        }
        assert!(matches!(world.next_event(client, LONG), Some(Event::Interrupted { .. })));
        assert!(matches!(world.next_event(client, LONG), Some(Event::Resumed { .. })));
        world.with(client, |endpoint, now| endpoint.close(socket, Some(CloseCode::NORMAL), "done", now));
        world.advance(LONG);
    });
    assert_in_order(
        &text,
        &[
            "dialling the relay",
            "the relay has answered",
            "the server is registered",
            "a client wants in",
            "the socket is open",
            "the link is lost",
            "back-off before the next dial",
            "the socket has lost its path",
            "the socket goes on",
            "the socket has ended",
        ],
    );
    assert!(
        text.contains("1000 (normal)") && text.contains("done"),
        "the code and the reason are there: {text}"
    );
}
