//! The livecode dialect over real WebSockets, and what kills the relay of 2017.

use crate::support::{Peer, Received, connect, data, relay_with, until};
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::{ChannelId, CloseCode, Frame, ServerId};
use tunnel_relay::Relay;

async fn relay() -> Relay {
    relay_with(|config| config.livecode_credential = Some("sesame, open the relay".parse().unwrap())).await
}

/// Sends a command and returns what the relay says up to the line with the returned value.
async fn run(peer: &mut Peer, instruction: &str, parameters: &str) -> Vec<String> {
    peer.send_text(&format!(r#"{{"instruction":"{instruction}","parameters":[{parameters}]}}"#)).await;
    let mut texts = Vec::new();
    let evaluating = format!("server: evaluating added instruction '{instruction}'");
    while texts.last() != Some(&evaluating) {
        texts.push(peer.text().await);
    }
    loop {
        let text = peer.text().await;
        if text.starts_with("server: ") {
            return texts.split_off(2);
        }
        texts.push(text);
    }
}

/// A server and its ID.
async fn server(relay: &Relay) -> (Peer, String) {
    let mut server = Peer::open(relay.address(), None).await.unwrap();
    let sent = run(&mut server, "create server credential", "").await;
    let (id, credential) = sent[0].split_once(' ').unwrap();
    assert_eq!(run(&mut server, "install server", &format!(r#"{id},"{credential}""#)).await, ["1"]);
    let id = id.to_owned();
    (server, id)
}

/// A client that is connected to a server, and the channel that it has there.
async fn client(relay: &Relay, server: &mut Peer, id: &str) -> (Peer, String) {
    let mut client = Peer::open(relay.address(), None).await.unwrap();
    assert_eq!(run(&mut client, "connect to server", &format!("{id},1337")).await, ["1"]);
    let connected = server.text().await;
    let parts: Vec<_> = connected.split(' ').collect();
    let ["connected:atPort:for:", channel, "1337", "127.0.0.1"] = parts[..] else { panic!("{connected}") };
    let channel = channel.to_owned();
    (client, channel)
}

#[tokio::test]
async fn a_client_and_a_server_talk() {
    let relay = relay().await;
    let (mut server, id) = server(&relay).await;
    let (mut client, channel) = client(&relay, &mut server, &id).await;
    assert_eq!(run(&mut client, "forward to server", &format!(r#"{id},"hello you""#)).await, ["1"]);
    assert_eq!(server.text().await, format!("from:data: {channel} hello you"));
    assert_eq!(run(&mut server, "forward to client", &format!(r#"{channel},"grüße""#)).await, ["1"]);
    assert_eq!(client.text().await, format!("from:data: {id} grüße"));
}

#[tokio::test]
async fn texts_may_be_larger_than_a_frame() {
    let relay = relay().await;
    let (mut server, id) = server(&relay).await;
    let (mut client, channel) = client(&relay, &mut server, &id).await;
    let text = "x".repeat(1_000_000);
    assert_eq!(run(&mut client, "forward to server", &format!(r#"{id},"{text}""#)).await, ["1"]);
    assert_eq!(server.text().await, format!("from:data: {channel} {text}"));
    client.send_text(&"x".repeat((1 << 20) + 1)).await;
    assert_eq!(client.closed().await, CloseCode::TOO_BIG);
}

#[tokio::test]
async fn what_kills_the_relay_of_2017_is_answered() {
    let relay = relay().await;
    let (mut witness, witness_id) = server(&relay).await;
    let mut peer = Peer::open(relay.address(), None).await.unwrap();
    for text in ["null", "true", "7", "[]", "{}", "", "{", r#"{"instruction":null}"#, r#"{"parameters":[1]}"#]
    {
        peer.send_text(text).await;
        // The lines of a command that is known mark the end of the answer.
        peer.send_text(r#"{"instruction":"initialize"}"#).await;
        let first = peer.text().await;
        assert!(
            first.starts_with("server: rejected") || first.starts_with("server: received"),
            "{text}: {first}"
        );
        while peer.text().await != "server: initialized" {}
    }
    for (instruction, parameters) in [
        ("connect to server", ""),
        ("connect to server", "null,null"),
        ("connect to server", "99,1"),
        ("connect to server", r#""98","1","extra",{}"#),
        ("install server", ""),
        ("install server", r#"1,"guessed""#),
        ("forward to client", ""),
        ("forward to client", r#"[],"x""#),
        ("forward to server", "{}"),
        ("forward to server", r#"1,"never connected""#),
    ] {
        let told = run(&mut peer, instruction, parameters).await;
        assert!(matches!(told.last().map(String::as_str), Some("0")), "{instruction} {parameters}: {told:?}");
    }
    // All the while, the others are served.
    let (_client, _) = client(&relay, &mut witness, &witness_id).await;
}

#[tokio::test]
async fn a_send_to_a_peer_that_has_gone_is_answered_with_0() {
    let relay = relay().await;
    let (mut server, id) = server(&relay).await;
    let (client, channel) = client(&relay, &mut server, &id).await;
    client.reset();
    until("the client's link is forgotten", || relay.stats().links == 1).await;
    assert_eq!(run(&mut server, "forward to client", &format!(r#"{channel},"gone""#)).await, ["0"]);

    let (mut client, _) = self::client(&relay, &mut server, &id).await;
    server.reset();
    until("the server's link is forgotten", || relay.stats().links == 1).await;
    assert_eq!(run(&mut client, "forward to server", &format!(r#"{id},"gone""#)).await, ["0"]);
    assert_eq!(run(&mut client, "connect to server", &format!("{id},1")).await, ["0"]);
    assert_eq!(relay.stats().registrations, 0);
}

#[tokio::test]
async fn a_configurer_needs_the_credential() {
    let relay = relay().await;
    let mut peer = Peer::open(relay.address(), None).await.unwrap();
    for (credential, last) in [
        ("sesame, open the relay", "server: adding instruction 'initialize'"),
        ("guessed", "server: rejected command 'add instruction'"),
    ] {
        peer.send_text(&format!(
            r#"{{"instruction":"add instruction","parameters":{{"instructionToAdd":"initialize","body":"function () {{}}"}},"credential":"{credential}"}}"#
        ))
        .await;
        assert_eq!(peer.text().await, "server: received command 'add instruction'");
        assert_eq!(peer.text().await, last);
    }
}

#[tokio::test]
async fn a_client_of_the_tunnel_dialect_reaches_a_livecode_server() {
    let relay = relay().await;
    let (mut server, id) = server(&relay).await;
    let mut client = Peer::link(&relay).await;
    let Frame::Connect { channel, port, .. } = connect(1, 1) else { unreachable!() };
    let server_id = ServerId::Number(id.parse().unwrap());
    client
        .send(Frame::Connect {
            channel,
            server_id,
            port,
            kind: ChannelKind::Plain,
            payload: Default::default(),
        })
        .await;
    assert_eq!(server.text().await, "connected:atPort:for: 2 1337 127.0.0.1");
    assert_eq!(client.frame().await, Frame::Accept { channel: ChannelId(1), payload: Default::default() });
    client.send(data(1, "from afar")).await;
    assert_eq!(server.text().await, "from:data: 2 from afar");
    assert_eq!(run(&mut server, "forward to client", r#"2,"welcome""#).await, ["1"]);
    assert_eq!(client.frame().await, data(1, "welcome"));
    drop(server);
    assert_eq!(crate::support::code(&client.frame().await), CloseCode::PEER_GONE);
}

#[tokio::test]
async fn draining_ends_livecode_links_with_a_close_frame() {
    let relay = relay_with(|config| {
        config.livecode_credential = Some("sesame, open the relay".parse().unwrap());
        config.drain_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    let (mut server, _) = server(&relay).await;
    let (_, received) =
        tokio::join!(crate::support::within("draining", relay.shut_down()), server.received());
    assert!(matches!(received, Received::Closed(CloseCode::DRAINING, _)), "{received:?}");
}
