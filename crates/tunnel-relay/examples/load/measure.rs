//! What is measured of one contestant's process.

use crate::server::Server;
use crate::wire::{Pair, Peer, Wire, masked};
use serde_json::{Value, json};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tunnel_protocol::{ChannelId, Frame};

/// Long enough for a compiler that works while the program runs.
const WARM_UP: Duration = Duration::from_millis(300);
const RUN: Duration = Duration::from_millis(700);

/// How many connections tell what one takes.
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
struct Turns {
    client: Peer,
    message: Vec<u8>,
    answer: Vec<u8>,
    end: std::net::TcpStream,
    echo: std::thread::JoinHandle<()>,
}

impl Turns {
    fn start(pair: &mut Pair, size: usize, batch: usize) -> Self {
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
            // What the contestant says to a sender comes after the sender's message, before the next turn.
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

    /// How long it took, in all and each turn.
    fn run(&mut self, time: Duration) -> (Duration, Vec<Duration>) {
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

    fn end(self) {
        self.end.shutdown(Shutdown::Both).unwrap();
        self.echo.join().unwrap();
    }
}

/// What a connection takes: CPU time to set it up, memory while it waits, and memory after 64 KiB went through it.
pub(crate) fn connections(server: &Server, wire: Wire) -> Value {
    let open = |number: usize| Pair::open(wire, server.address, 1_000 + number as u32);
    let idle = |count: usize| -> Vec<Peer> {
        (0..count).map(|number| Peer::open(wire, server.address, ["client", "server"][number % 2])).collect()
    };
    let _warm = (0..20).map(open).collect::<Vec<_>>();
    let (base, cpu) = (server.memory(), server.cpu());
    let waiting = idle(CONNECTIONS);
    let set_up = (server.cpu() - cpu).as_secs_f64() * 1e6 / CONNECTIONS as f64;
    let each = |base: usize| server.memory().saturating_sub(base) as f64 / CONNECTIONS as f64;
    let idle = each(base);
    // Others, since those can't all be joined to pairs; the first ones stay, so that their memory is not used again.
    let base = server.memory();
    let mut pairs: Vec<_> = (100..100 + CONNECTIONS / 2).map(open).collect();
    for pair in &mut pairs {
        use_pair(pair);
    }
    let used = each(base);
    drop((waiting, pairs));
    json!({ "setUpMicros": set_up, "idleBytes": idle, "usedBytes": used })
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
    let mut host = Peer::open(Wire::Tunnel, server.address, "server");
    host.register(7);
    let mut clients: Vec<_> = (0..5).map(|_| Peer::open(Wire::Tunnel, server.address, "client")).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.connect(&mut host, 7, 2 * (index as u32 + 1));
    }
    let mut quiet = clients.remove(0);
    let host_end = host.stream.try_clone().unwrap();
    let echo = std::thread::spawn(move || answer_channel(host.stream, ChannelId(2)));
    let before = round_trips(&mut quiet, Duration::from_millis(800));

    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = clients.into_iter().map(|client| flood(client, stop.clone())).collect();
    std::thread::sleep(Duration::from_millis(200));
    let during = round_trips(&mut quiet, Duration::from_millis(1_500));
    stop.store(true, Ordering::Relaxed);
    host_end.shutdown(Shutdown::Both).unwrap();
    let flooded = echo.join().unwrap();
    let sent: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    json!({
        "quietP50Micros": before.0, "quietP99Micros": before.1,
        "floodedP50Micros": during.0, "floodedP99Micros": during.1,
        "floodMegabytes": flooded as f64 / 1e6, "floodMegabytesSent": sent as f64 / 1e6,
    })
}

/// Answers what comes on one channel, and counts the bytes of what comes on others, until the connection ends.
fn answer_channel(stream: std::net::TcpStream, channel: ChannelId) -> usize {
    use std::io::{BufReader, Read as _, Write as _};
    let mut write = stream.try_clone().unwrap();
    let mut read = BufReader::with_capacity(1 << 18, stream);
    let answer = masked(0x82, &Frame::Data { channel, payload: vec![7; 64].into() }.encode());
    let (mut count, mut payload) = (0, Vec::new());
    loop {
        let mut head = [0; 2];
        if read.read_exact(&mut head).is_err() {
            return count;
        }
        let mut len = usize::from(head[1]);
        if len == 126 {
            let mut long = [0; 2];
            if read.read_exact(&mut long).is_err() {
                return count;
            }
            len = u16::from_be_bytes(long).into();
        }
        payload.resize(len, 0);
        if read.read_exact(&mut payload).is_err() {
            return count;
        }
        count += len;
        let wanted = payload.get(1..5).is_some_and(|number| number == channel.0.to_be_bytes());
        if wanted && payload.len() == 69 && write.write_all(&answer).is_err() {
            return count;
        }
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

/// Sends 16 KiB messages, except while it is told to pause; how many bytes.
fn flood(client: Peer, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    use std::io::Write as _;
    let paused = Arc::new(AtomicBool::new(false));
    let mut write = client.stream.try_clone().unwrap();
    let listener = {
        let (paused, stop, mut client) = (paused.clone(), stop.clone(), client);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match client.receive() {
                    Frame::Pause { .. } => paused.store(true, Ordering::Relaxed),
                    Frame::Resume { .. } => paused.store(false, Ordering::Relaxed),
                    Frame::Close { .. } => return,
                    _ => {}
                }
            }
        })
    };
    std::thread::spawn(move || {
        let message =
            masked(0x82, &Frame::Data { channel: ChannelId(1), payload: vec![7; 16 << 10].into() }.encode());
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            if paused.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(100));
                continue;
            }
            if write.write_all(&message).is_err() {
                break;
            }
            sent += message.len();
        }
        let _ = write.shutdown(Shutdown::Both);
        // It ends with the connection, whatever it was reading.
        let _ = listener.join();
        sent
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
    let idle: Vec<_> = (0..links).map(|_| Peer::open(Wire::Tunnel, server.address, "client")).collect();
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
