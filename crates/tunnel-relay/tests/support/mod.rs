//! A real relay on 127.0.0.1 and peers that speak frames with it.

#![allow(dead_code, reason = "each file of tests uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

pub(crate) mod cluster;
pub(crate) mod nats;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod stall;
pub(crate) mod talk;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue, StatusCode};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Error, Message, WebSocketStream};
use tunnel_protocol::frame::{ChannelKind, Welcome};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{ChannelId, CloseCode, Frame, ServerId, registration};
use tunnel_relay::{Config, Relay};

/// Long enough for the slowest machine; only a test that hangs waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names what did not happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits for what no event tells.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, wait).await;
}

pub(crate) async fn relay() -> Relay {
    relay_with(|_| {}).await
}

pub(crate) async fn relay_with(change: impl FnOnce(&mut Config)) -> Relay {
    let mut config = Config::ephemeral();
    change(&mut config);
    Relay::start(config).await.unwrap()
}

pub(crate) fn key(secret: u8) -> StaticKey {
    StaticKey::from_secret([secret; 32])
}

pub(crate) fn server_id(secret: u8) -> ServerId {
    ServerId::Key(key(secret).public())
}

pub(crate) fn hello() -> Frame {
    Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() }
}

pub(crate) fn connect(channel: u32, server: u8) -> Frame {
    Frame::Connect {
        channel: ChannelId(channel),
        server_id: server_id(server),
        port: 1337,
        kind: ChannelKind::Session,
        payload: Bytes::from_static(b"first"),
    }
}

pub(crate) fn accept(channel: u32) -> Frame {
    Frame::Accept { channel: ChannelId(channel), payload: Bytes::from_static(b"second") }
}

pub(crate) fn data(channel: u32, payload: impl Into<Bytes>) -> Frame {
    Frame::Data { channel: ChannelId(channel), payload: payload.into() }
}

pub(crate) fn close(channel: u32, code: CloseCode) -> Frame {
    Frame::Close { channel: ChannelId(channel), code, reason: "because".to_owned() }
}

/// The code of a CLOSE or ERROR frame.
pub(crate) fn code(frame: &Frame) -> CloseCode {
    match frame {
        Frame::Close { code, .. } | Frame::Error { code, .. } => *code,
        other => panic!("neither CLOSE nor ERROR but {other:?}"),
    }
}

/// An event of a WebSocket.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Frame(Frame),
    Text(String),
    Closed(CloseCode, String),
    /// The connection ended without a close frame.
    Lost,
}

/// A peer's end of a WebSocket.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// The relay's URL.
    pub(crate) url: String,
}

impl Peer {
    /// A WebSocket that has not said anything yet.
    pub(crate) async fn open(address: SocketAddr, subprotocol: Option<&'static str>) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::open_on(stream, address, subprotocol).await
    }

    pub(crate) async fn open_on(
        stream: TcpStream,
        address: SocketAddr,
        subprotocol: Option<&'static str>,
    ) -> Result<Self, Error> {
        Self::open_with(stream, address, subprotocol, None).await
    }

    /// Without a subprotocol, under a path.
    pub(crate) async fn open_at(address: SocketAddr, path: &str) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}{path}");
        let (socket, _) = ClientBuilder::from_uri(url.parse().unwrap()).connect_on(stream).await?;
        Ok(Self { socket, url })
    }

    /// With one more header, such as `origin: https://example.org`.
    pub(crate) async fn open_with(
        stream: TcpStream,
        address: SocketAddr,
        subprotocol: Option<&'static str>,
        header: Option<&str>,
    ) -> Result<Self, Error> {
        let mut builder = ClientBuilder::from_uri(format!("ws://{address}/").parse().unwrap());
        if let Some((name, value)) = header.and_then(|header| header.split_once(": ")) {
            builder = builder.add_header(name.parse().unwrap(), value.parse().unwrap()).unwrap();
        }
        if let Some(name) = subprotocol {
            let header = HeaderName::from_static("sec-websocket-protocol");
            builder = builder.add_header(header, HeaderValue::from_static(name)).unwrap();
        }
        let (socket, response) = builder.connect_on(stream).await?;
        let chosen = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(chosen, subprotocol);
        Ok(Self { socket, url: format!("ws://{address}/") })
    }

    /// A link that has said so much in its WebSocket's handshake, if the relay takes it.
    pub(crate) async fn greet_early(relay: &Relay, frames: &[Frame]) -> Option<Self> {
        let frames: Vec<_> = frames.iter().map(Frame::encode).collect();
        let (early, _) = tunnel_protocol::early::encode(&frames);
        let (socket, taken) = page::open(relay.address(), &early).await.unwrap();
        taken.then(|| Self { socket, url: format!("ws://{}/", relay.address()) })
    }

    /// A link that has been welcomed.
    pub(crate) async fn link(relay: &Relay) -> Self {
        Self::link_to(relay.address()).await.0
    }

    pub(crate) async fn link_to(address: SocketAddr) -> (Self, Welcome) {
        let mut peer = Self::open(address, Some("tunnel.v1")).await.unwrap();
        let welcome = peer.greet().await;
        (peer, welcome)
    }

    /// Says HELLO.
    pub(crate) async fn greet(&mut self) -> Welcome {
        self.send(hello()).await;
        match self.frame().await {
            Frame::Welcome(welcome) => *welcome,
            other => panic!("no WELCOME but {other:?}"),
        }
    }

    /// A link that is registered under the key of `secret`.
    pub(crate) async fn server(relay: &Relay, secret: u8) -> Self {
        let (mut peer, welcome) = Self::link_to(relay.address()).await;
        peer.register(secret, &welcome).await;
        peer
    }

    /// Registers the key of `secret`.
    pub(crate) async fn register(&mut self, secret: u8, welcome: &Welcome) {
        let proof = registration::prove(&key(secret), &welcome.challenge, &self.url).unwrap();
        self.send(Frame::Register { key: key(secret).public(), proof, url: String::new() }).await;
        assert_eq!(self.frame().await, Frame::Registered { server_id: server_id(secret) });
    }

    /// A client, a server and an accepted channel between them: 1 at the client, 2 at the server.
    pub(crate) async fn pair(relay: &Relay) -> (Self, Self) {
        let mut server = Self::server(relay, 1).await;
        let mut client = Self::link(relay).await;
        client.send(connect(1, 1)).await;
        assert!(matches!(server.frame().await, Frame::Incoming { channel: ChannelId(2), .. }));
        server.send(accept(2)).await;
        assert_eq!(client.frame().await, accept(1));
        (client, server)
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        self.send_bytes(frame.encode()).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        let bytes = BytesMut::from(bytes.into());
        within("sending", self.socket.send(Message::binary(bytes))).await.unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        within("sending", self.socket.send(Message::text(text.to_owned()))).await.unwrap();
    }

    /// The next thing that is not a sign of life.
    pub(crate) async fn received(&mut self) -> Received {
        loop {
            let Some(Ok(message)) = within("a message from the relay", self.socket.next()).await else {
                return Received::Lost;
            };
            if let Some((code, reason)) = message.as_close() {
                return Received::Closed(CloseCode(code.into()), reason.to_owned());
            } else if let Some(text) = message.as_text() {
                return Received::Text(text.to_owned());
            } else if message.is_binary() {
                match Frame::decode(message.into_payload().into()).unwrap().expect("a known frame") {
                    Frame::Ping { nonce } => self.send(Frame::Pong { nonce }).await,
                    frame => return Received::Frame(frame),
                }
            }
        }
    }

    /// Whatever comes last.
    pub(crate) async fn socket_end(&mut self) -> Received {
        loop {
            match self.received().await {
                Received::Frame(_) => {}
                end => return end,
            }
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        match self.received().await {
            Received::Frame(frame) => frame,
            other => panic!("no frame but {other:?}"),
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.received().await {
            Received::Text(text) => text,
            other => panic!("no text but {other:?}"),
        }
    }

    /// The code of the close frame, which has to be next.
    pub(crate) async fn closed(&mut self) -> CloseCode {
        match self.received().await {
            Received::Closed(code, _) => code,
            other => panic!("no close but {other:?}"),
        }
    }

    /// Returns what came before the relay had dealt with everything that was sent to it.
    pub(crate) async fn fence(&mut self) -> Vec<Frame> {
        self.send(Frame::Ping { nonce: 99 }).await;
        let mut frames = Vec::new();
        loop {
            match self.frame().await {
                Frame::Pong { nonce: 99 } => return frames,
                frame => frames.push(frame),
            }
        }
    }

    /// Writes bytes below the WebSocket. The relay may have closed already.
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) {
        let _maybe_closed = within("writing", self.socket.get_mut().write_all(bytes)).await;
    }

    /// Ends the TCP connection by a reset.
    pub(crate) fn reset(self) {
        self.socket.get_ref().set_zero_linger().unwrap();
    }
}

/// A masked WebSocket frame: its first byte, the length that it claims and its payload. The mask is zero.
pub(crate) fn raw_frame(first: u8, claimed: u64, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match claimed {
        0..=125 => frame.push(0x80 | claimed as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((claimed as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(claimed.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Sends a request head, byte for byte, and reads until the relay closes the connection.
pub(crate) async fn request(address: SocketAddr, head: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an HTTP answer", stream.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end..].to_vec() }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")).await
}
