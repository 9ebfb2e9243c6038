//! The messages of each contestant's peers: as little as the contestant understands.

use crate::iroh;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{ChannelId, Frame, ServerId, registration};

/// Longer than any answer takes; only a contestant that hangs waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The protocol that peers speak with a contestant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wire {
    /// Links of our relay.
    Tunnel,
    /// Bytes, from one of two connections to the other.
    Raw,
    /// WebSockets to `/client` and `/server`, paired in the order in which they come.
    WebSocket,
    /// Socket.IO 4 over a WebSocket: binary events `m` between the two of a room.
    SocketIo,
    /// The livecoding server, after it was taught to forward.
    Livecode,
    /// NATS: two subjects for each pair.
    Nats,
    /// iroh's relay: datagrams over WebSockets, to public keys.
    Iroh,
}

impl Wire {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "tunnel" => Self::Tunnel,
            "raw" => Self::Raw,
            "websocket" => Self::WebSocket,
            "socket.io" => Self::SocketIo,
            "livecode" => Self::Livecode,
            "nats" => Self::Nats,
            "iroh" => Self::Iroh,
            _ => panic!("no wire is named {name}"),
        }
    }
}

/// One peer's connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    origin: String,
    challenge: PublicKey,
    /// Its address at iroh's relay.
    endpoint: iroh::EndpointId,
}

/// Two peers that are forwarded to each other.
pub(crate) struct Pair {
    pub(crate) wire: Wire,
    number: u32,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
}

impl Pair {
    /// `number` has not been used with this contestant.
    pub(crate) fn open(wire: Wire, address: SocketAddr, number: u32) -> Self {
        let client = Peer::open(wire, address, "client");
        let server = Peer::open(wire, address, "server");
        let mut pair = Self { wire, number, client, server };
        pair.join();
        pair
    }

    /// A client at one of our relays and a server at another one, or at the same.
    pub(crate) fn apart(client: SocketAddr, server: SocketAddr, number: u32) -> Self {
        let client = Peer::open(Wire::Tunnel, client, "client");
        let server = Peer::open(Wire::Tunnel, server, "server");
        let mut pair = Self { wire: Wire::Tunnel, number, client, server };
        pair.join();
        pair
    }

    fn join(&mut self) {
        let Self { client, server, number, .. } = self;
        match self.wire {
            Wire::Raw | Wire::WebSocket | Wire::Iroh => {}
            Wire::Tunnel => {
                server.register(*number);
                client.connect(server, *number, 2);
            }
            Wire::SocketIo => {
                for peer in [client, server] {
                    peer.send_text(&format!("42[\"join\",{number}]"));
                    peer.wait_for_text("42[\"joined\"]");
                }
            }
            Wire::Livecode => {
                // The same functions each time; the last ones count.
                let pair = "function () { const other = globalThis.waiting; globalThis.waiting = other ? undefined : this; \
                            if (other) { this.partner = other; other.partner = this; } return 1; }";
                let forward = "function (data) { this.partner.send(data); return 1; }";
                for (name, body) in [("pair", pair), ("forward", forward)] {
                    client.send_text(&format!(
                        r#"{{"instruction":"add instruction","parameters":{{"instructionToAdd":"{name}","body":"{body}"}},"credential":"secret"}}"#
                    ));
                    client.wait_for_text(&format!("server: adding instruction '{name}'"));
                }
                for peer in [client, server] {
                    peer.send_text(r#"{"instruction":"pair","parameters":[]}"#);
                    peer.wait_for_text("server: 1");
                }
            }
            Wire::Nats => {
                client.write(format!("SUB c{number} 1\r\nPING\r\n").as_bytes());
                client.wait_for_bytes(b"PONG\r\n");
                server.write(format!("SUB s{number} 1\r\nPING\r\n").as_bytes());
                server.wait_for_bytes(b"PONG\r\n");
            }
        }
    }

    /// The bytes of one message to the other peer, `size` bytes of it payload.
    pub(crate) fn message(&self, from_client: bool, size: usize) -> Vec<u8> {
        match self.wire {
            Wire::Raw => vec![7; size],
            Wire::WebSocket => masked(0x82, &vec![7; size]),
            Wire::Tunnel => {
                let channel = ChannelId(if from_client { 1 } else { 2 });
                masked(0x82, &Frame::Data { channel, payload: vec![7; size].into() }.encode())
            }
            Wire::SocketIo => {
                let event = masked(0x81, br#"451-["m",{"_placeholder":true,"num":0}]"#);
                [event, masked(0x82, &vec![7; size])].concat()
            }
            Wire::Livecode => {
                let data = "7".repeat(size);
                masked(0x81, format!(r#"{{"instruction":"forward","parameters":["{data}"]}}"#).as_bytes())
            }
            Wire::Nats => {
                let to = if from_client { "s" } else { "c" };
                let head = format!("PUB {to}{} {size}\r\n", self.number);
                [head.as_bytes(), &vec![7; size], b"\r\n"].concat()
            }
            Wire::Iroh => {
                let to = if from_client { &self.server } else { &self.client };
                masked(0x82, &iroh::datagram(to.endpoint, &vec![7; size]))
            }
        }
    }

    /// The number of bytes that come to the sender and to the receiver for one message.
    pub(crate) fn calibrate(&mut self, from_client: bool, size: usize) -> (usize, usize) {
        let message = self.message(from_client, size);
        let (from, to) = if from_client {
            (&mut self.client, &mut self.server)
        } else {
            (&mut self.server, &mut self.client)
        };
        from.write(&message);
        let received = to.count_until_quiet();
        assert!(received >= size, "{:?}: {received} of {size} bytes arrived", self.wire);
        (from.count_until_quiet(), received)
    }
}

impl Peer {
    /// A connection that is ready for use.
    pub(crate) fn open(wire: Wire, address: SocketAddr, role: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { origin: address.to_string(), ..Self::over(stream) };
        match wire {
            Wire::Raw => {}
            Wire::Nats => {
                peer.wait_for_bytes(b"\r\n");
                peer.write(b"CONNECT {\"verbose\":false}\r\nPING\r\n");
                peer.wait_for_bytes(b"PONG\r\n");
            }
            Wire::WebSocket => peer.upgrade(&format!("/{role}"), ""),
            Wire::Iroh => {
                let identity = iroh::Identity::fresh();
                peer.endpoint = identity.id();
                peer.upgrade("/relay", "sec-websocket-protocol: iroh-relay-v2\r\n");
                let (_, challenge) = peer.receive_message();
                peer.write(&masked(0x82, &identity.answer(&challenge)));
                assert!(iroh::is_confirmation(&peer.receive_message().1));
            }
            Wire::Livecode => peer.upgrade("/", ""),
            Wire::SocketIo => {
                peer.upgrade("/socket.io/?EIO=4&transport=websocket", "");
                peer.receive_message();
                peer.send_text("40");
                peer.receive_message();
            }
            Wire::Tunnel => {
                peer.upgrade("/", "sec-websocket-protocol: tunnel.v1\r\n");
                peer.send(&Frame::Hello {
                    min_version: 1,
                    max_version: 1,
                    features: 0,
                    token: String::new(),
                });
                let Frame::Welcome(welcome) = peer.receive() else { panic!("no WELCOME") };
                peer.challenge = welcome.challenge;
            }
        }
        peer
    }

    /// Another hold on a connection that is in use already.
    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, origin: String::new(), challenge: PublicKey([0; 32]), endpoint: [0; 32] }
    }

    fn upgrade(&mut self, path: &str, more: &str) {
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            self.origin
        );
        self.write(head.as_bytes());
        let answer = self.wait_for_bytes(b"\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    }

    /// Makes it the server of this number.
    pub(crate) fn register(&mut self, number: u32) {
        let register = self.register_frame(number);
        self.send(&register);
        assert!(matches!(self.receive(), Frame::Registered { .. }));
    }

    /// The frame by which it becomes the server of this number.
    pub(crate) fn register_frame(&self, number: u32) -> Frame {
        let key = key(number);
        let proof = registration::prove(&key, &self.challenge, &format!("ws://{}/", self.origin)).unwrap();
        Frame::Register { key: key.public(), proof, url: String::new() }
    }

    /// Waits for the next client of a server; it may still hear of clients that have left.
    pub(crate) fn wait_for_client(&mut self) {
        while !matches!(self.receive(), Frame::Incoming { .. }) {}
    }

    /// The frame by which a client opens a channel to the server of a number.
    pub(crate) fn connect_frame(channel: u32, number: u32) -> Frame {
        Frame::Connect {
            channel: ChannelId(channel),
            server_id: ServerId::Key(key(number).public()),
            port: 1,
            kind: ChannelKind::Session,
            payload: Default::default(),
        }
    }

    /// Opens channel 1 to the server of this number; `channel` is the next one there.
    pub(crate) fn connect(&mut self, server: &mut Self, number: u32, channel: u32) {
        self.send(&Self::connect_frame(1, number));
        assert!(matches!(server.receive(), Frame::Incoming { .. }));
        server.send(&Frame::Accept { channel: ChannelId(channel), payload: Default::default() });
        assert!(matches!(self.receive(), Frame::Accept { .. }));
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) {
        self.stream.read_exact(buffer).unwrap();
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.write(&masked(0x82, &frame.encode()));
    }

    fn send_text(&mut self, text: &str) {
        self.write(&masked(0x81, text.as_bytes()));
    }

    /// The next frame of a link.
    pub(crate) fn receive(&mut self) -> Frame {
        loop {
            if let (0x82, message) = self.receive_message() {
                return Frame::decode(message.into()).unwrap().unwrap();
            }
        }
    }

    /// The next message of a WebSocket, with its first byte.
    pub(crate) fn receive_message(&mut self) -> (u8, Vec<u8>) {
        self.next_message().expect("the connection goes on")
    }

    /// As [`receive_message`](Self::receive_message); `None` at the connection's end.
    pub(crate) fn next_message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let len = match head[1] {
            126 => {
                let mut len = [0; 2];
                self.stream.read_exact(&mut len).ok()?;
                u16::from_be_bytes(len).into()
            }
            127 => {
                let mut len = [0; 8];
                self.stream.read_exact(&mut len).ok()?;
                u64::from_be_bytes(len) as usize
            }
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    fn wait_for_text(&mut self, text: &str) {
        while self.receive_message().1 != text.as_bytes() {}
    }

    fn wait_for_bytes(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            let mut byte = [0];
            self.read(&mut byte);
            bytes.push(byte[0]);
        }
        bytes
    }

    /// Reads over `len` bytes and what follows, up to `end`.
    pub(crate) fn wait_for_bytes_after(&mut self, len: usize, end: &[u8]) {
        self.wait_for_bytes(b"\r\n");
        self.read(&mut vec![0; len]);
        self.wait_for_bytes(end);
    }

    /// Returns whether nothing comes for this time.
    pub(crate) fn is_quiet(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let is_quiet = self.stream.peek(&mut [0]).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        is_quiet
    }

    /// Counts the bytes that come until none came for a while.
    fn count_until_quiet(&mut self) -> usize {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (mut count, mut buffer) = (0, vec![0; 65_536]);
        while let Ok(len @ 1..) = self.stream.read(&mut buffer) {
            count += len;
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        count
    }
}

fn key(number: u32) -> StaticKey {
    let mut secret = [1; 32];
    secret[1..5].copy_from_slice(&number.to_be_bytes());
    StaticKey::from_secret(secret)
}

/// A WebSocket message as a client sends it.
pub(crate) fn masked(first: u8, message: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match message.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
