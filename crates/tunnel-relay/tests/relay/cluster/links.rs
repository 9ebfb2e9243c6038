//! The links between relays: who may make one.

use super::{Character, Ghost, SECRET, ghost, has, hasty, open, pair, start, talk};
use crate::support::nats::Nats;
use crate::support::{Peer, code, connect, relay_with, server_id, within};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Message, ServerBuilder, WebSocketStream};
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::node::{ClusterSecret, NodeFrame, NodeLinkFacts, NodeRole};
use tunnel_protocol::{ChannelId, CloseCode, Frame};
use tunnel_relay::config::Switch;

const OWN: [u8; 32] = [3; 32];

fn secret(text: &str) -> ClusterSecret {
    ClusterSecret::new(text.as_bytes()).unwrap()
}

/// Dials a relay as another one does, and reads its challenge.
async fn dial(address: SocketAddr) -> (Peer, [u8; 32]) {
    let mut link = Peer::open(address, Some("tunnel.node.v1")).await.unwrap();
    let NodeFrame::Challenge { challenge, node, .. } = node_frame(&mut link.socket).await else {
        panic!("no CHALLENGE")
    };
    assert_eq!(node, "b");
    (link, challenge)
}

async fn node_frame(socket: &mut WebSocketStream<TcpStream>) -> NodeFrame {
    let message = within("a frame of a relay", socket.next()).await.unwrap().unwrap();
    NodeFrame::decode(&Bytes::from(BytesMut::from(message.into_payload()))).unwrap().expect("a relay's frame")
}

/// The entry's proof that it knows a secret.
fn proof(text: &str, challenge: &[u8; 32]) -> NodeFrame {
    let facts = NodeLinkFacts { entry: "x", entry_challenge: &OWN, owner: "b", owner_challenge: challenge };
    NodeFrame::Proof {
        challenge: OWN,
        proof: secret(text).prove(NodeRole::Entry, &facts),
        node: "x".to_owned(),
    }
}

fn forward() -> NodeFrame {
    NodeFrame::Forward {
        channel: ChannelId(1),
        server_id: server_id(1),
        port: 1337,
        kind: ChannelKind::Session,
        address: "192.0.2.1".to_owned(),
        payload: Bytes::from_static(b"first"),
    }
}

#[tokio::test]
async fn a_link_without_the_secret_with_a_wrong_one_or_with_a_proof_of_before_is_refused() {
    let nats = Nats::start().await;
    let b = start(&nats, "b").await;
    let address = b.cluster_address().unwrap();
    let mut server = Peer::server(&b, 1).await;

    let (mut link, first) = dial(address).await;
    link.send_bytes(forward().encode()).await;
    assert_eq!(code(&link.frame().await), CloseCode::PROTOCOL_ERROR, "no proof");

    let (mut link, challenge) = dial(address).await;
    assert_ne!(challenge, first, "challenges are used once");
    link.send_bytes(proof("a secret that somebody has made up: 32 bytes", &challenge).encode()).await;
    assert_eq!(code(&link.frame().await), CloseCode::BAD_CREDENTIAL);
    assert_eq!(link.closed().await, CloseCode::BAD_CREDENTIAL);

    let (mut link, challenge) = dial(address).await;
    let heard = proof(SECRET, &challenge);
    link.send_bytes(heard.encode()).await;
    let NodeFrame::Proven { proof } = node_frame(&mut link.socket).await else { panic!("no PROVEN") };
    let facts = NodeLinkFacts { entry: "x", entry_challenge: &OWN, owner: "b", owner_challenge: &challenge };
    assert!(secret(SECRET).verify(NodeRole::Owner, &facts, &proof), "the owner knows the secret, too");
    link.send_bytes(forward().encode()).await;
    match server.frame().await {
        Frame::Incoming { address, .. } => assert_eq!(address, "192.0.2.1"),
        frame => panic!("no INCOMING but {frame:?}"),
    }

    let (mut replay, _) = dial(address).await;
    replay.send_bytes(heard.encode()).await;
    assert_eq!(code(&replay.frame().await), CloseCode::BAD_CREDENTIAL);
    // A page's link is none to another relay, and the other way round.
    let page = Peer::open(address, Some("tunnel.v1")).await;
    assert!(page.is_err());
    assert!(Peer::open(b.address(), Some("tunnel.node.v1")).await.is_err());
    assert_eq!(server.fence().await, [], "nobody else came to the server");
}

/// Answers a relay's dial as another one would that does not know the secret; returns what it says then.
async fn pretend(listener: TcpListener) -> Option<Frame> {
    let (stream, _) = listener.accept().await.unwrap();
    let builder = ServerBuilder::new()
        .add_header(
            HeaderName::from_static("sec-websocket-protocol"),
            HeaderValue::from_static("tunnel.node.v1"),
        )
        .unwrap();
    let (_request, mut socket) = builder.accept(stream).await.unwrap();
    let say = |frame: NodeFrame| Message::binary(BytesMut::from(frame.encode()));
    let max_frame = tunnel_relay::Config::default().max_frame;
    let challenge = NodeFrame::Challenge { max_frame, challenge: OWN, node: "ghost".to_owned() };
    socket.send(say(challenge)).await.unwrap();
    assert!(matches!(node_frame(&mut socket).await, NodeFrame::Proof { .. }));
    socket.send(say(NodeFrame::Proven { proof: [9; 32] })).await.unwrap();
    let message = socket.next().await?.ok()?;
    Frame::decode(Bytes::from(BytesMut::from(message.into_payload()))).unwrap()
}

#[tokio::test]
async fn an_owner_that_does_not_know_the_secret_gets_no_client() {
    let nats = Nats::start().await;
    let [a, _b] = pair(&nats).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Somebody who can say things on the bus with the secret, and took over the address of a relay without it.
    let _ghost =
        Ghost::start(&nats.url(), Character { address, server: Some(server_id(5)), ..ghost(SECRET) }).await;
    let mut client = Peer::link(&a).await;
    client.send(connect(1, 5)).await;
    let said = within("a dial", pretend(listener)).await.expect("an ERROR");
    assert_eq!(code(&said), CloseCode::BAD_CREDENTIAL);
    assert_eq!(code(&client.frame().await), CloseCode::TRY_AGAIN_LATER);
}

#[tokio::test]
async fn a_relay_that_can_not_be_dialled_costs_a_retry() {
    let nats = Nats::start().await;
    let [a, _b] = pair(&nats).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let _ghost =
        Ghost::start(&nats.url(), Character { address: closed, server: Some(server_id(5)), ..ghost(SECRET) })
            .await;
    let mut client = Peer::link(&a).await;
    for channel in [1, 3] {
        client.send(connect(channel, 5)).await;
        assert_eq!(code(&client.frame().await), CloseCode::TRY_AGAIN_LATER);
    }
    has(&a, "tunnel_relay_cluster_node_dials_failed_total", |failed| failed >= 2.0).await;
}

#[tokio::test]
async fn what_comes_to_the_port_for_relays_and_is_none_gets_an_answer_or_a_reset_and_no_more() {
    let nats = Nats::start().await;
    let b = start(&nats, "b").await;
    let address = b.cluster_address().unwrap();
    let answer = crate::support::get(address, "/").await;
    assert_eq!(answer.status, 400);
    assert_eq!(crate::support::get(address, "/metrics").await.status, 400);
    let (mut link, _) = dial(address).await;
    link.send_text("a text").await;
    assert_eq!(code(&link.frame().await), CloseCode::PROTOCOL_ERROR);
    let (mut link, challenge) = dial(address).await;
    link.send_bytes(proof(SECRET, &challenge).encode()).await;
    node_frame(&mut link.socket).await;
    link.send_bytes(vec![0x20; 1 << 20]).await;
    // BUS, and then the end.
    while within("the end of the link", link.socket.next()).await.is_some_and(|message| {
        message.is_ok_and(|message| message.as_close().is_none_or(|(code, _)| u16::from(code) != 1009))
    }) {}
}

#[tokio::test]
async fn links_between_relays_have_tls_and_who_has_none_is_not_let_in() {
    let nats = Nats::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let secured = |node: &'static str| {
        let (nats, certificate, key) = (nats.url(), path("cert.pem"), path("key.pem"));
        relay_with(move |config| {
            hasty(&nats, node)(config);
            config.cluster_tls_certificate = Some(certificate.clone());
            config.cluster_tls_key = Some(key);
            config.cluster_tls_ca = Some(certificate);
        })
    };
    let (a, b) = (secured("a").await, secured("b").await);
    let plain = relay_with(|config| {
        hasty(&nats.url(), "c")(config);
        config.cluster_plain = Switch::On;
    })
    .await;
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 2.0).await;
    has(&plain, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 2.0).await;
    let (mut server, mut client) = (Peer::server(&b, 1).await, Peer::link(&a).await);
    let (channel, incoming) = open(&mut client, &mut server, 1).await;
    talk((&mut client, channel), (&mut server, incoming), 100).await;
    let mut stranger = Peer::link(&plain).await;
    stranger.send(connect(1, 1)).await;
    assert_eq!(code(&stranger.frame().await), CloseCode::TRY_AGAIN_LATER);
    has(&plain, "tunnel_relay_cluster_node_dials_failed_total", |failed| failed >= 1.0).await;
}
