//! Measurements of one contestant's process.

use crate::server::Server;
use crate::wire::{Pair, Peer, Wire, masked};
use serde_json::{Value, json};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tunnel_protocol::{ChannelId, Frame};

/// Long enough for a compiler that works while the program runs.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
pub(crate) const RUN: Duration = Duration::from_millis(700);

/// The number of connections that are opened to find out what one takes.
const CONNECTIONS: usize = 1_000;

/// Of one forwarded message: CPU time of the contestant's process, messages a second, and the time of a turn.
///
/// Two peers, plain threads with prepared bytes, send each other `batch` messages in turns.
pub(crate) fn forward(server: &Server, wire: Wire, number: u32, size: usize, batch: usize) -> Value {
    let mut pair = Pair::open(wire, server.address, number);
    let mut turns = Turns::start(&mut pair, size, batch);
    turns.run(WARM_UP);
    let cpu = server.cpu();
    let (elapsed, mut times) = turns.run(RUN);
    let cpu = server.cpu() - cpu;
    turns.end();
    let messages = (2 * times.len() * batch) as f64;
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    json!({
        "cpuMicros": cpu.as_secs_f64() * 1e6 / messages,
        "messagesPerSecond": messages / elapsed.as_secs_f64(),
        "roundTripP50Micros": at(50),
        "roundTripP99Micros": at(99),
    })
}

/// The peers of a pair, one of them in a thread of its own.
pub(crate) struct Turns {
    client: Peer,
    message: Vec<u8>,
    answer: Vec<u8>,
    end: std::net::TcpStream,
    echo: std::thread::JoinHandle<()>,
}

impl Turns {
    pub(crate) fn start(pair: &mut Pair, size: usize, batch: usize) -> Self {
        let (heard_by_client, server_gets) = pair.calibrate(true, size);
        let (heard_by_server, client_gets) = pair.calibrate(false, size);
        let message = pair.message(true, size).repeat(batch);
        let answer = pair.message(false, size).repeat(batch);
        let reopen = |peer: &Peer| peer.stream.try_clone().unwrap();
        let (client, server) = (reopen(&pair.client), reopen(&pair.server));
        let end = reopen(&pair.server);
        let echo = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let mut server = server;
            // The contestant's words to a sender come after the sender's message, before the next turn.
            let mut buffer = vec![0; server_gets * batch];
            let mut chatter = vec![0; heard_by_server * batch];
            while server.read_exact(&mut buffer).is_ok()
                && server.write_all(&answer).is_ok()
                && server.read_exact(&mut chatter).is_ok()
            {}
        });
        let answer = vec![0; (client_gets + heard_by_client) * batch];
        Self { client: Peer::over(client), message, answer, end, echo }
    }

    /// The time that it took, in all and each turn.
    pub(crate) fn run(&mut self, time: Duration) -> (Duration, Vec<Duration>) {
        let (start, mut times) = (Instant::now(), Vec::new());
        let mut last = Duration::ZERO;
        while last < time {
            self.client.write(&self.message);
            self.client.read(&mut self.answer);
            let now = start.elapsed();
            times.push(now - last);
            last = now;
        }
        (last, times)
    }

    pub(crate) fn end(self) {
        self.end.shutdown(Shutdown::Both).unwrap();
        self.echo.join().unwrap();
    }
}

/// The cost of a connection: CPU time to set it up, memory while it waits, and memory after 64 KiB went through it.
pub(crate) fn connections(server: &Server, wire: Wire) -> Value {
    let open = |number: usize| Pair::open(wire, server.address, 1_000 + number as u32);
    let _warm = (0..20).map(open).collect::<Vec<_>>();
    let base = server.memory();
    let (set_up, waiting) = set_up(server, wire);
    let each = |base: usize, count: usize| server.memory().saturating_sub(base) as f64 / count as f64;
    let idle = each(base, waiting.len());
    // Others, since those can't all be joined to pairs; the first ones stay, so that their memory is not used again.
    let base = server.memory();
    let mut pairs: Vec<_> = (100..100 + CONNECTIONS / 2).map(open).collect();
    for pair in &mut pairs {
        use_pair(pair);
    }
    let used = each(base, CONNECTIONS);
    drop((waiting, pairs));
    json!({ "setUpMicros": set_up, "idleBytes": idle, "usedBytes": used })
}

/// The CPU time in microseconds that the set-up of a connection takes, and the connections.
pub(crate) fn set_up(server: &Server, wire: Wire) -> (f64, Vec<Peer>) {
    let cpu = server.cpu();
    let waiting = open_many(server, wire, CONNECTIONS);
    ((server.cpu() - cpu).as_secs_f64() * 1e6 / waiting.len() as f64, waiting)
}

/// Several at a time, as a busy server gets them: one by one, waking up would be what costs most.
fn open_many(server: &Server, wire: Wire, count: usize) -> Vec<Peer> {
    const AT_ONCE: usize = 16;
    let open = || {
        (0..count / AT_ONCE).map(|number| Peer::open(wire, server.address, ["client", "server"][number % 2]))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| open().collect::<Vec<_>>())).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Sends 64 KiB each way, in two messages.
fn use_pair(pair: &mut Pair) {
    const SIZE: usize = 32 << 10;
    for from_client in [true, false] {
        let message = pair.message(from_client, SIZE);
        for _ in 0..2 {
            let (from, to) = if from_client {
                (&mut pair.client, &mut pair.server)
            } else {
                (&mut pair.server, &mut pair.client)
            };
            from.write(&message);
            if pair.wire == Wire::Raw {
                to.read(&mut vec![0; SIZE]);
            } else if pair.wire == Wire::Nats {
                to.wait_for_bytes_after(SIZE, b"\r\n");
            } else {
                while to.receive_message().1.len() < SIZE {}
            }
        }
    }
}

/// The round trip of 64 bytes between a client and its server: while nothing else goes on, and while four other
/// clients send that server as much as the relay lets them.
pub(crate) fn fairness(server: &Server) -> Value {
    let mut server_peer = Peer::open(Wire::Tunnel, server.address, "server");
    server_peer.register(7);
    let mut clients: Vec<_> = (0..5).map(|_| Peer::open(Wire::Tunnel, server.address, "client")).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.connect(&mut server_peer, 7, 2 * (index as u32 + 1));
    }
    let mut quiet = clients.remove(0);
    let server_end = server_peer.stream.try_clone().unwrap();
    let host = std::thread::spawn(move || host(server_peer.stream));
    let before = round_trips(&mut quiet, Duration::from_millis(800));

    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let floods: Vec<_> = clients.into_iter().map(|client| flood(client, stop.clone())).collect();
    std::thread::sleep(Duration::from_millis(200));
    let during = round_trips(&mut quiet, Duration::from_millis(1_500));
    stop.store(true, Ordering::Relaxed);
    server_end.shutdown(Shutdown::Both).unwrap();
    let (flooded, elapsed) = (host.join().unwrap(), start.elapsed());
    drop(quiet);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    json!({
        "quietP50Micros": before.0, "quietP99Micros": before.1,
        "floodedP50Micros": during.0, "floodedP99Micros": during.1,
        "floodMegabytesPerSecond": flooded as f64 / 1e6 / elapsed.as_secs_f64(),
    })
}

/// The messages by which a client is ahead of what its server has acknowledged: 256 KiB, a session's first window.
const WINDOW: usize = 16;

/// A flood's message.
const FLOOD: usize = 16 << 10;

/// Answers 64 bytes with 64 and acknowledges every fourth message of a flood, until the connection ends; how many
/// bytes of floods came.
fn host(stream: std::net::TcpStream) -> usize {
    use std::io::Write as _;
    let mut write = stream.try_clone().unwrap();
    let mut read = Messages::over(stream);
    let (mut flooded, mut counts) = (0, [0; 16]);
    while let Some(message) = read.next() {
        let Some(&[_, a, b, c, d]) = message.first_chunk() else { continue };
        let channel = ChannelId(u32::from_be_bytes([a, b, c, d]));
        if message.len() > 100 {
            flooded += message.len();
            let count = &mut counts[channel.0 as usize % 16];
            *count += 1;
            if *count % 4 != 0 {
                continue;
            }
        }
        let answer = masked(0x82, &Frame::Data { channel, payload: vec![7; 64].into() }.encode());
        if write.write_all(&answer).is_err() {
            break;
        }
    }
    flooded
}

/// The messages that come over a connection, until it ends.
struct Messages {
    stream: std::io::BufReader<std::net::TcpStream>,
    message: Vec<u8>,
}

impl Messages {
    fn over(stream: std::net::TcpStream) -> Self {
        Self { stream: std::io::BufReader::with_capacity(1 << 17, stream), message: Vec::new() }
    }

    /// The next message of less than 64 KiB.
    fn next(&mut self) -> Option<&[u8]> {
        use std::io::Read as _;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let mut len = usize::from(head[1]);
        if len == 126 {
            let mut long = [0; 2];
            self.stream.read_exact(&mut long).ok()?;
            len = u16::from_be_bytes(long).into();
        }
        self.message.resize(len, 0);
        self.stream.read_exact(&mut self.message).ok()?;
        Some(&self.message)
    }
}

/// Median and 99th percentile, in microseconds.
fn round_trips(client: &mut Peer, time: Duration) -> (f64, f64) {
    let question = Frame::Data { channel: ChannelId(1), payload: vec![7; 64].into() };
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let asked = Instant::now();
        client.send(&question);
        while !matches!(client.receive(), Frame::Data { .. }) {}
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[(times.len() - 1) * 99 / 100])
}

/// Sends as much as the server's acknowledgements allow, as a session does.
fn flood(client: Peer, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    use std::io::Write as _;
    std::thread::spawn(move || {
        let payload = vec![7; FLOOD].into();
        let message = masked(0x82, &Frame::Data { channel: ChannelId(1), payload }.encode());
        let mut write = client.stream.try_clone().unwrap();
        let mut read = Messages::over(client.stream);
        let mut allowed = WINDOW;
        while !stop.load(Ordering::Relaxed) {
            while allowed > 0 && write.write_all(&message).is_ok() {
                allowed -= 1;
            }
            match read.next() {
                Some([0x88, ..]) => allowed += 4,
                Some(_) => {}
                None => return,
            }
        }
    })
}

/// Four pairs at once, 1 KiB in batches of 16: what all get through, and what a message costs.
pub(crate) fn parallel(server: &Server, wire: Wire) -> Value {
    const PAIRS: u32 = 4;
    let barrier = Arc::new(Barrier::new(PAIRS as usize + 1));
    let threads: Vec<_> = (0..PAIRS)
        .map(|number| {
            let mut pair = Pair::open(wire, server.address, 500 + number);
            let mut turns = Turns::start(&mut pair, 1_024, 16);
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                turns.run(WARM_UP);
                barrier.wait();
                let (_, times) = turns.run(RUN);
                barrier.wait();
                turns.end();
                times.len() * 2 * 16
            })
        })
        .collect();
    barrier.wait();
    let (start, cpu) = (Instant::now(), server.cpu());
    barrier.wait();
    let (elapsed, cpu) = (start.elapsed(), server.cpu() - cpu);
    let messages: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    json!({
        "messagesPerSecond": messages as f64 / elapsed.as_secs_f64(),
        "cpuMicros": cpu.as_secs_f64() * 1e6 / messages as f64,
    })
}

/// As many links as asked, and then as many clients of one server: whether all get a message through, and what they
/// take.
pub(crate) fn hold(server: &Server, links: usize, clients: usize) -> Value {
    let (base, cpu) = (server.memory(), server.cpu());
    let idle = open_many(server, Wire::Tunnel, links);
    let links = idle.len();
    let set_up = (server.cpu() - cpu).as_secs_f64() * 1e6 / links as f64;
    let idle_bytes = (server.memory() - base) as f64 / links as f64;
    drop(idle);
    // Until the relay has noticed.
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    while descriptors() > 100 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = server.memory().saturating_sub(base);

    let mut host = Peer::open(Wire::Tunnel, server.address, "server");
    host.register(1);
    let mut all = Vec::new();
    for number in 0..clients {
        let mut client = Peer::open(Wire::Tunnel, server.address, "client");
        client.connect(&mut host, 1, 2 * (number as u32 + 1));
        all.push(client);
    }
    let start = Instant::now();
    let mut answered = 0;
    for client in &mut all {
        client.send(&Frame::Data { channel: ChannelId(1), payload: vec![7; 64].into() });
        let Frame::Data { channel, payload } = host.receive() else { panic!("no DATA") };
        host.send(&Frame::Data { channel, payload });
        answered += usize::from(matches!(client.receive(), Frame::Data { .. }));
    }
    let millis = start.elapsed().as_secs_f64() * 1e3;
    json!({
        "idleLinks": links, "idleBytes": idle_bytes, "setUpMicros": set_up, "bytesLeftAfterwards": left,
        "clientsOfOneServer": answered, "clientRoundTripMillis": millis / clients as f64,
    })
}
