//! Measures what forwarding costs the relay, next to the least that anything could cost: a raw TCP splice.
//!
//! ```text
//! cargo build --release -p tunnel-relay && cargo run --release -p tunnel-relay --example load -- target/release/tunnel-relay
//! ```
//!
//! Both run as processes of their own. Two peers, plain threads with prepared bytes, send each other messages in
//! turns; the CPU time is that of the server's process. Runs alternate; the medians are printed. Linux only.

#![allow(clippy::unwrap_used, reason = "a measurement that can't go on had better stop")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{ChannelId, Frame, ServerId, registration};

const ROUNDS: usize = 5;
const RUN: Duration = Duration::from_millis(1_000);

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().expect("the path of tunnel-relay");
    if first == "splice" {
        return splice();
    }
    let relay =
        || Server::start(Command::new(&first).args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]));
    let splice = || Server::start(Command::new(std::env::current_exe().unwrap()).arg("splice"));

    println!(
        "{:>8} {:>6} {:>12} {:>12} {:>7} {:>12} {:>12}",
        "bytes", "batch", "relay µs", "splice µs", "ratio", "relay/s", "splice/s"
    );
    let mut cases = vec![(64, 1), (1_024, 1), (1_024, 16), (16_384, 1), (59_990, 1), (59_990, 4)];
    let mut rounds = ROUNDS;
    if let (Some(size), Some(batch)) = (arguments.next(), arguments.next()) {
        (cases, rounds) = (vec![(size.parse().unwrap(), batch.parse().unwrap())], 1);
    }
    for (size, batch) in cases {
        let mut rows = Vec::new();
        for _ in 0..rounds {
            let ours = measure(&relay(), size, batch, true);
            let floor = measure(&splice(), size, batch, false);
            rows.push((ours, floor));
        }
        let median = |pick: &dyn Fn(&(Cost, Cost)) -> f64| {
            let mut values: Vec<f64> = rows.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{size:>8} {batch:>6} {:>12.2} {:>12.2} {:>7.2} {:>12.0} {:>12.0}",
            median(&|row| row.0.cpu),
            median(&|row| row.1.cpu),
            median(&|row| row.0.cpu / row.1.cpu),
            median(&|row| row.0.rate),
            median(&|row| row.1.rate),
        );
    }
    idle(&relay());
}

/// Of one forwarded message.
struct Cost {
    /// CPU time of the server's process, in microseconds.
    cpu: f64,
    /// Messages a second.
    rate: f64,
}

fn measure(server: &Server, size: usize, batch: usize, web_socket: bool) -> Cost {
    let (mut here, mut there, there_to_here, here_to_there) = if web_socket {
        let (mut client, mut listener) = (Peer::open(server.address), Peer::open(server.address));
        pair(&mut client, &mut listener);
        let frame = |channel| {
            masked(&Frame::Data { channel: ChannelId(channel), payload: vec![7; size].into() }.encode())
        };
        (client.stream, listener.stream, frame(2).repeat(batch), frame(1).repeat(batch))
    } else {
        let one = TcpStream::connect(server.address).unwrap();
        let other = TcpStream::connect(server.address).unwrap();
        (one, other, vec![7; size * batch], vec![7; size * batch])
    };
    let received =
        if web_socket { (size + 5 + if size + 5 < 126 { 2 } else { 4 }) * batch } else { size * batch };
    for stream in [&here, &there] {
        stream.set_nodelay(true).unwrap();
    }
    let to_end = there.try_clone().unwrap();
    let echo = std::thread::spawn(move || {
        let mut buffer = vec![0; received];
        while there.read_exact(&mut buffer).is_ok() && there.write_all(&there_to_here).is_ok() {}
    });
    let mut buffer = vec![0; received];
    let mut turn = || {
        here.write_all(&here_to_there).unwrap();
        here.read_exact(&mut buffer).unwrap();
    };
    (0..200).for_each(|_| turn());
    let (start, before, mut turns) = (Instant::now(), server.cpu(), 0);
    while start.elapsed() < RUN {
        turn();
        turns += 1;
    }
    let (elapsed, cpu) = (start.elapsed(), server.cpu() - before);
    to_end.shutdown(std::net::Shutdown::Both).unwrap();
    echo.join().unwrap();
    let messages = (2 * turns * batch) as f64;
    Cost { cpu: cpu.as_secs_f64() * 1e6 / messages, rate: messages / elapsed.as_secs_f64() }
}

/// Memory and CPU time of links that do nothing.
fn idle(server: &Server) {
    const LINKS: usize = 5_000;
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let _warm: Vec<_> = (0..100).map(|_| Peer::open(server.address)).collect();
    let (memory, cpu) = (server.memory(), server.cpu());
    let mut links: Vec<_> = (0..LINKS).map(|_| Peer::open(server.address)).collect();
    let (after, cpu) = (server.memory(), server.cpu() - cpu);
    println!(
        "idle link: {} bytes; set-up {:.0} µs of CPU",
        (after - memory) / LINKS,
        cpu.as_secs_f64() * 1e6 / LINKS as f64
    );
    // 64 KiB to the relay and back again through a channel of the link to itself.
    let mut last = 0;
    for (number, link) in links.iter_mut().enumerate().take(1_000) {
        let key = StaticKey::from_secret([1 + (number % 200) as u8; 32]);
        link.register(&key);
        let server_id = ServerId::Key(key.public());
        link.send(&Frame::Connect {
            channel: ChannelId(1),
            server_id,
            port: 1,
            kind: ChannelKind::Session,
            payload: Default::default(),
        });
        link.receive();
        link.send(&Frame::Accept { channel: ChannelId(2), payload: Default::default() });
        link.receive();
        for _ in 0..2 {
            link.send(&Frame::Data { channel: ChannelId(1), payload: vec![7; 32_768].into() });
            link.receive();
        }
        last = number + 1;
        if last == 200 {
            break;
        }
    }
    println!(
        "after 64 KiB went through {last} of them: {} bytes more for each",
        (server.memory().saturating_sub(after)) / last
    );
}

/// Accepts two connections at a time and copies between them.
fn splice() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on ws://{}", listener.local_addr().unwrap());
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            one.set_nodelay(true).unwrap();
            other.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                tokio::io::copy_bidirectional_with_sizes(&mut one, &mut other, 65_536, 65_536).await
            });
        }
    });
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ws://").unwrap().parse().unwrap();
        Self { child, address }
    }

    fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.map(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            stat.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Private memory in use, in bytes.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1_024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A link, over a WebSocket that can only do what is needed here.
struct Peer {
    stream: TcpStream,
    origin: String,
    challenge: tunnel_protocol::server_id::PublicKey,
}

impl Peer {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: tunnel.v1\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        let mut peer = Self {
            stream,
            origin: address.to_string(),
            challenge: tunnel_protocol::server_id::PublicKey([0; 32]),
        };
        peer.send(&Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() });
        let Frame::Welcome(welcome) = peer.receive() else { panic!("no WELCOME") };
        peer.challenge = welcome.challenge;
        peer
    }

    fn register(&mut self, key: &StaticKey) {
        let proof = registration::prove(key, &self.challenge, &self.origin).unwrap();
        self.send(&Frame::Register { key: key.public(), proof });
        assert!(matches!(self.receive(), Frame::Registered { .. }));
    }

    fn send(&mut self, frame: &Frame) {
        self.stream.write_all(&masked(&frame.encode())).unwrap();
    }

    fn receive(&mut self) -> Frame {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let len = if head[1] == 126 {
                let mut len = [0; 2];
                self.stream.read_exact(&mut len).unwrap();
                u16::from_be_bytes(len).into()
            } else {
                usize::from(head[1])
            };
            let mut payload = vec![0; len];
            self.stream.read_exact(&mut payload).unwrap();
            if head[0] == 0x82 {
                return Frame::decode(payload.into()).unwrap().unwrap();
            }
        }
    }
}

/// Connects a client to a server: channel 1 at the one, 2 at the other.
fn pair(client: &mut Peer, server: &mut Peer) {
    let key = StaticKey::from_secret([1; 32]);
    server.register(&key);
    client.send(&Frame::Connect {
        channel: ChannelId(1),
        server_id: ServerId::Key(key.public()),
        port: 1,
        kind: ChannelKind::Session,
        payload: Default::default(),
    });
    server.receive();
    server.send(&Frame::Accept { channel: ChannelId(2), payload: Default::default() });
    client.receive();
}

/// A WebSocket message as a client sends it.
fn masked(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match message.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
