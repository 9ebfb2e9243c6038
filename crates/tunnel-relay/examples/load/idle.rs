//! CPU time that a relay takes for links on which nothing is said but signs of life.

use crate::server::Server;
use crate::wire::{Peer, Wire, masked};
use serde_json::{Map, Value, json};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tunnel_protocol::Frame;

/// Number of links to each relay.
const LINKS: usize = 500;

/// Pauses between two links: signs of life go on as far apart as the links were opened, and a relay that wakes up for many at once works
/// less. Pages are opened one by one, and come back at once after a restart.
const PACES: [(&str, Duration); 2] = [("oneByOne", Duration::from_millis(40)), ("atOnce", Duration::ZERO)];

/// Time for the relays to come to rest, and time that is measured.
const SETTLE: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(120);

/// First bytes of a WebSocket's pings and pongs, and of binary messages.
const WS_PING: u8 = 0x89;
const WS_PONG: u8 = 0x8a;
const BINARY: u8 = 0x82;

/// The figures of each relay at both paces.
pub(crate) fn measure(servers: &[Server]) -> Vec<Value> {
    let mut figures = vec![Map::new(); servers.len()];
    for (name, apart) in PACES {
        for (all, new) in figures.iter_mut().zip(measure_pace(servers, apart)) {
            all.insert(name.to_owned(), new);
        }
    }
    figures.into_iter().map(Value::Object).collect()
}

/// Holds idle links to all relays at once, so that the same other work of the machine is in the figures of all.
fn measure_pace(servers: &[Server], apart: Duration) -> Vec<Value> {
    let heard: Vec<_> = servers.iter().map(|_| Arc::new(Heard::default())).collect();
    let mut links = Vec::new();
    for _ in 0..LINKS {
        for (server, heard) in servers.iter().zip(&heard) {
            links.push(Link::open(server, heard.clone()));
        }
        std::thread::sleep(apart);
    }
    std::thread::sleep(SETTLE);
    let now = || -> Vec<_> {
        servers.iter().zip(&heard).map(|(server, heard)| (server.cpu(), heard.counts())).collect()
    };
    let before = now();
    std::thread::sleep(MEASURED);
    let after = now();
    links.into_iter().for_each(Link::end);
    let link_seconds = LINKS as f64 * MEASURED.as_secs_f64();
    let figures = before.iter().zip(&after).map(|((cpu, counts), (cpu_after, counts_after))| {
        let each_minute = |index: usize| (counts_after[index] - counts[index]) as f64 * 60.0 / link_seconds;
        json!({
            "cpuMicros": (*cpu_after - *cpu).as_secs_f64() * 1e6 / link_seconds,
            "pingsEachMinute": each_minute(0),
            "webSocketPingsEachMinute": each_minute(1),
        })
    });
    figures.collect()
}

/// Counts of the messages that the links of a relay have heard.
#[derive(Default)]
struct Heard {
    pings: AtomicUsize,
    web_socket_pings: AtomicUsize,
}

impl Heard {
    fn counts(&self) -> [usize; 2] {
        [&self.pings, &self.web_socket_pings].map(|count| count.load(Ordering::Relaxed))
    }
}

/// A link whose thread answers signs of life, as browsers and pages do.
struct Link {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

impl Link {
    fn open(server: &Server, heard: Arc<Heard>) -> Self {
        let peer = Peer::open(Wire::Tunnel, server.address, "client");
        peer.stream.set_read_timeout(None).unwrap();
        let stream = peer.stream.try_clone().unwrap();
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let thread = thread.spawn(move || answer(peer, &heard)).unwrap();
        Self { stream, thread }
    }

    fn end(self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
        self.thread.join().unwrap();
    }
}

/// Answers until the connection ends.
fn answer(mut peer: Peer, heard: &Heard) {
    while let Some((first, message)) = peer.next_message() {
        match first {
            WS_PING => {
                heard.web_socket_pings.fetch_add(1, Ordering::Relaxed);
                peer.write(&masked(WS_PONG, &message));
            }
            BINARY => {
                if let Ok(Some(Frame::Ping { nonce })) = Frame::decode(message.into()) {
                    heard.pings.fetch_add(1, Ordering::Relaxed);
                    peer.send(&Frame::Pong { nonce });
                }
            }
            _ => {}
        }
    }
}
