//! Two relays with one address space beside one relay: a pair whose client and server are at different relays, how fast servers are found,
//! and what a registration costs with the bus and without.

use crate::measure::{RUN, Turns, WARM_UP};
use crate::server::Server;
use crate::wire::{Pair, Peer, Wire};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tunnel_protocol::Frame;

/// Payload, messages before an answer, and pairs at once.
const CASES: [(usize, usize, u32); 4] = [(1_024, 1, 1), (1_024, 1, 8), (1_024, 16, 8), (16, 16, 8)];

/// Servers that are looked for at once, by so many clients.
const SERVERS: u32 = 800;
const CLIENTS: u32 = 8;

/// Servers that are looked for one after the other, and registrations that are timed.
const ONE_BY_ONE: u32 = 200;

/// Registrations of which the memory is measured.
const MANY: u32 = 4_000;

/// The variable by which relays are told the secret of their cluster.
const SECRET: (&str, &str) = ("TUNNEL_RELAY_CLUSTER_SECRET", "of relays that exist for a minute");

/// A relay by itself; and the owner, the entry and the NATS server of a cluster.
struct Relays {
    alone: Server,
    owner: Server,
    entry: Server,
    nats: Server,
}

impl Relays {
    fn start(relay: &[String], nats: &[String]) -> Self {
        let nats = Server::start(nats, &[]);
        let member = |name: &str| {
            let more = [
                format!("--node={name}"),
                format!("--cluster=nats://{}", nats.address),
                "--cluster-listen=127.0.0.1:0".to_owned(),
                "--cluster-finds-per-second=0".to_owned(),
            ];
            Server::start(&[relay, &more].concat(), &[SECRET])
        };
        let relays =
            Self { alone: Server::start(relay, &[]), owner: member("owner"), entry: member("entry"), nats };
        relays.wait_for_each_other();
        relays
    }

    /// Until they have heard of each other, clients are told to try again.
    fn wait_for_each_other(&self) {
        let mut server = Peer::open(Wire::Tunnel, self.owner.address, "server");
        server.register(1);
        let mut client = Peer::open(Wire::Tunnel, self.entry.address, "client");
        let deadline = Instant::now() + Duration::from_secs(20);
        for attempt in 0.. {
            assert!(Instant::now() < deadline, "the relays do not find each other's servers");
            client.send(&Peer::connect_frame(2 * attempt + 1, 1));
            while client.is_quiet(Duration::from_millis(1)) {
                if !server.is_quiet(Duration::from_millis(20)) {
                    return;
                }
            }
            client.receive();
        }
    }
}

/// All that is measured of relays, once.
pub(crate) fn measure(relay: &[String], nats: &[String]) -> Value {
    let relays = Relays::start(relay, nats);
    let mut figures = Map::new();
    let mut number = 10;
    for (size, batch, pairs) in CASES {
        let alone = forward(&relays, false, number, (size, batch, pairs));
        let spliced = forward(&relays, true, number + pairs, (size, batch, pairs));
        number += 2 * pairs;
        figures.insert(format!("{size}x{batch}x{pairs}"), json!({ "alone": alone, "spliced": spliced }));
    }
    figures.insert("find".to_owned(), find(&relays));
    figures.insert("registration".to_owned(), registration(&relays));
    figures.insert("memory".to_owned(), memory(&relays));
    Value::Object(figures)
}

/// Messages of pairs by way of one relay or two: CPU time of each message, messages a second and the time of a turn.
fn forward(relays: &Relays, spliced: bool, first: u32, (size, batch, pairs): (usize, usize, u32)) -> Value {
    let (entry, owner) =
        if spliced { (&relays.entry, &relays.owner) } else { (&relays.alone, &relays.alone) };
    let barrier = Arc::new(Barrier::new(pairs as usize + 1));
    let threads: Vec<_> = (0..pairs)
        .map(|number| {
            let mut pair = Pair::apart(entry.address, owner.address, first + number);
            let mut turns = Turns::start(&mut pair, size, batch);
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                turns.run(WARM_UP);
                barrier.wait();
                let (_, times) = turns.run(RUN);
                barrier.wait();
                turns.end();
                times
            })
        })
        .collect();
    barrier.wait();
    let (start, before) = (Instant::now(), (entry.cpu(), owner.cpu()));
    barrier.wait();
    let (elapsed, after) = (start.elapsed(), (entry.cpu(), owner.cpu()));
    let mut times: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    times.sort();
    let messages = (times.len() * 2 * batch) as f64;
    let each = |from: Duration, to: Duration| (to - from).as_secs_f64() * 1e6 / messages;
    let (entry, owner) = (each(before.0, after.0), each(before.1, after.1));
    json!({
        "entryMicros": entry,
        "ownerMicros": if spliced { json!(owner) } else { Value::Null },
        "cpuMicros": if spliced { entry + owner } else { entry },
        "messagesPerSecond": messages / elapsed.as_secs_f64(),
        "roundTripP50Micros": times[times.len() / 2].as_secs_f64() * 1e6,
        "roundTripP99Micros": times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e6,
    })
}

/// The time until servers of the other relay are found, one by one and many at once, beside servers of the same relay.
fn find(relays: &Relays) -> Value {
    let mut servers: Vec<_> = (0..SERVERS)
        .map(|number| {
            let mut peer = Peer::open(Wire::Tunnel, relays.owner.address, "server");
            peer.register(1_000 + number);
            peer
        })
        .collect();
    let mut one_by_one = |entry: &Server| {
        let mut client = Peer::open(Wire::Tunnel, entry.address, "client");
        let mut times: Vec<_> = (0..ONE_BY_ONE)
            .map(|number| {
                let began = Instant::now();
                client.send(&Peer::connect_frame(2 * number + 1, 1_000 + number));
                servers[number as usize].wait_for_client();
                began.elapsed()
            })
            .collect();
        times.sort();
        (micros(times[times.len() / 2]), micros(times[times.len() * 99 / 100]))
    };
    let (apart, here) = (one_by_one(&relays.entry), one_by_one(&relays.owner));
    let before = [&relays.entry, &relays.owner, &relays.nats].map(Server::cpu);
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = Peer::open(Wire::Tunnel, relays.entry.address, "client");
            for (channel, server) in (number..SERVERS).step_by(CLIENTS as usize).enumerate() {
                client.send(&Peer::connect_frame(2 * channel as u32 + 1, 1_000 + server));
            }
            client
        })
        .collect();
    for server in &mut servers {
        server.wait_for_client();
    }
    let elapsed = began.elapsed();
    let after = [&relays.entry, &relays.owner, &relays.nats].map(Server::cpu);
    drop(clients);
    let each = |which: usize| micros(after[which] - before[which]) / f64::from(SERVERS);
    json!({
        "apartP50Micros": apart.0, "apartP99Micros": apart.1,
        "hereP50Micros": here.0, "hereP99Micros": here.1,
        "perSecond": f64::from(SERVERS) / elapsed.as_secs_f64(),
        "entryMicros": each(0), "ownerMicros": each(1), "natsMicros": each(2),
    })
}

/// The time from REGISTER to REGISTERED and the relay's CPU time for it, with the bus and without, in turns.
fn registration(relays: &Relays) -> Value {
    let mut figures = Map::new();
    let (mut alone, mut clustered) = (Registrations::default(), Registrations::default());
    for number in 0..ONE_BY_ONE {
        alone.add(&relays.alone, 10_000 + number);
        clustered.add(&relays.owner, 10_000 + number);
    }
    for (name, registrations) in [("alone", alone), ("clustered", clustered)] {
        figures.insert(name.to_owned(), registrations.figures());
    }
    Value::Object(figures)
}

/// Registrations at one relay.
#[derive(Default)]
struct Registrations {
    /// They stay.
    peers: Vec<Peer>,
    times: Vec<Duration>,
    cpu: Duration,
}

impl Registrations {
    fn add(&mut self, relay: &Server, number: u32) {
        let mut peer = Peer::open(Wire::Tunnel, relay.address, "server");
        let register = peer.register_frame(number);
        let (cpu, began) = (relay.cpu(), Instant::now());
        peer.send(&register);
        assert!(matches!(peer.receive(), Frame::Registered { .. }));
        self.times.push(began.elapsed());
        self.cpu += relay.cpu() - cpu;
        self.peers.push(peer);
    }

    fn figures(mut self) -> Value {
        self.times.sort();
        let count = self.times.len();
        json!({
            "p50Micros": micros(self.times[count / 2]),
            "p99Micros": micros(self.times[count * 99 / 100]),
            "cpuMicros": micros(self.cpu) / count as f64,
        })
    }
}

/// Memory of the NATS server and of the other relay for each server that is registered, in bytes.
fn memory(relays: &Relays) -> Value {
    let descriptors = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1_024, |(soft, _)| soft);
    let many = MANY.min(u32::try_from(descriptors / 2).unwrap_or(MANY));
    let memory = || [&relays.nats, &relays.entry, &relays.owner].map(Server::memory);
    let before = memory();
    let peers: Vec<_> = (0..many)
        .map(|number| {
            let mut peer = Peer::open(Wire::Tunnel, relays.owner.address, "server");
            peer.register(100_000 + number);
            peer
        })
        .collect();
    // The last claims are on their way.
    std::thread::sleep(Duration::from_millis(500));
    let after = memory();
    drop(peers);
    let each = |which: usize| (after[which] as f64 - before[which] as f64) / f64::from(many);
    json!({ "registrations": many, "natsBytes": each(0), "entryBytes": each(1), "ownerBytes": each(2) })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
