//! Tests of connections over real sockets.

use super::Dialect;
use crate::faults::{UNDER_THE_LOCK, WHILE_READING};
use crate::{Config, Relay};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{ChannelId, Frame, ServerId, registration};

/// One end of a link.
struct Peer {
    socket: WebSocketStream<TcpStream>,
    challenge: tunnel_protocol::server_id::PublicKey,
}

impl Peer {
    async fn open(relay: &Relay) -> Self {
        let builder = ClientBuilder::from_uri(relay.url().parse().unwrap());
        let (name, value) = ("sec-websocket-protocol", "tunnel.v1");
        let builder = builder.add_header(name.parse().unwrap(), value.parse().unwrap()).unwrap();
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let (socket, _) = builder.connect_on(stream).await.unwrap();
        let challenge = StaticKey::from_secret([0; 32]).public();
        let mut peer = Self { socket, challenge };
        let hello = Frame::Hello { min_version: 1, max_version: 1, features: 0, token: String::new() };
        peer.send(hello.encode()).await;
        let Frame::Welcome(welcome) = peer.frame().await else { panic!("no WELCOME") };
        peer.challenge = welcome.challenge;
        peer
    }

    async fn send(&mut self, message: Bytes) {
        self.socket.send(Message::binary(BytesMut::from(message))).await.unwrap();
    }

    async fn frame(&mut self) -> Frame {
        let message = within(self.socket.next()).await.unwrap().unwrap();
        Frame::decode(message.into_payload().into()).unwrap().unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

/// A client and a server, with channel 1 of the one and 2 of the other between them.
async fn pair(relay: &Relay) -> (Peer, Peer) {
    let (mut client, mut server) = (Peer::open(relay).await, Peer::open(relay).await);
    let (key, origin) = (StaticKey::from_secret([1; 32]), format!("ws://{}/", relay.address()));
    let proof = registration::prove(&key, &server.challenge, &origin).unwrap();
    server.send(Frame::Register { key: key.public(), proof, url: String::new() }.encode()).await;
    assert!(matches!(server.frame().await, Frame::Registered { .. }));
    let (channel, server_id) = (ChannelId(1), ServerId::Key(key.public()));
    let (kind, payload) = (ChannelKind::Session, Bytes::new());
    client
        .send(Frame::Connect { channel, server_id, port: 1, kind, payload: payload.clone() }.encode())
        .await;
    assert!(matches!(server.frame().await, Frame::Incoming { .. }));
    server.send(Frame::Accept { channel: ChannelId(2), payload }.encode()).await;
    assert!(matches!(client.frame().await, Frame::Accept { .. }));
    (client, server)
}

/// The value of a metric.
async fn metric(relay: &Relay, name: &str) -> String {
    let mut stream = TcpStream::connect(relay.metrics_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {answer}")).trim().to_owned()
}

#[test]
fn a_command_of_the_livecode_dialect_is_read_before_the_lock_is_taken() {
    for text in [r#"{"instruction":"initialize"}"#, "no command"] {
        let message = super::text_message(text.to_owned(), Dialect::Livecode);
        assert!(matches!(message, super::Message::Command { len, .. } if len == text.len()), "{message:?}");
    }
    assert!(matches!(super::text_message("a text".to_owned(), Dialect::Tunnel), super::Message::Text(_)));
}

#[test]
fn the_room_that_each_connection_keeps_for_messages_is_small() {
    // Four of them, the least that a vector makes room for, are kept for good.
    assert!(size_of::<super::Message>() <= 40, "{} bytes", size_of::<super::Message>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_connection_whose_task_it_was_and_no_other() {
    let metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    let relay = Relay::start(Config { metrics_listen, ..Config::ephemeral() }).await.unwrap();
    let (mut client, mut server) = pair(&relay).await;
    for (before, wire) in [WHILE_READING, UNDER_THE_LOCK, WHILE_READING].into_iter().enumerate() {
        let mut victim = Peer::open(&relay).await;
        assert_eq!(relay.stats().links, 3);
        victim.send(Bytes::from_static(wire)).await;
        let end = within(victim.socket.next()).await;
        assert!(!matches!(end, Some(Ok(_))), "its connection is gone, without a word: {end:?}");
        // The peer may see the end before the connection's task has counted it.
        let counted = async {
            let (ended, count) =
                ("tunnel_relay_websockets_ended_total{by=\"panic\"}", (before + 1).to_string());
            while metric(&relay, ended).await != count
                || metric(&relay, "tunnel_relay_connections{protocol=\"websocket\"}").await != "2"
            {
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
        assert_eq!(relay.stats().links, 2);

        let payload = Bytes::from_static(b"all is well");
        client.send(Frame::Data { channel: ChannelId(1), payload: payload.clone() }.encode()).await;
        assert_eq!(server.frame().await, Frame::Data { channel: ChannelId(2), payload: payload.clone() });
        server.send(Frame::Data { channel: ChannelId(2), payload: payload.clone() }.encode()).await;
        assert_eq!(client.frame().await, Frame::Data { channel: ChannelId(1), payload });
    }
    drop((client, server));
    within(relay.shut_down()).await;
}
