//! The relay's log at the highest level while strangers try to write into it.

#![cfg(unix)]
use crate::support::process::Process;
use crate::support::{Peer, Received, accept, data, key, raw_frame, within};
use bytes::Bytes;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::{ChannelId, CloseCode, Frame, ServerId};

/// In every payload, and in no log.
const PAYLOAD: &str = "PAYLOAD-CANARY";
/// In every token and credential, and in no log.
const SECRET: &str = "SECRET-CANARY-OF-THE-LOG";
/// In every text that a stranger may have logged, so that it can be found.
const MARK: &str = "STRANGER";

/// Random numbers that are the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// A text that would like to be a line of its own, a colour, a JSON field or the end of something.
    fn text(&mut self) -> String {
        let nasty = [
            "\n",
            "\r\n",
            "\u{1b}[31m",
            "\u{9b}31m",
            "\0",
            "\u{7f}",
            "\u{85}",
            "\u{8}",
            "\u{2028}",
            "\u{202e}",
            "\"",
            "\\",
            "\\n",
            "{",
            "}",
            "\",\"level\":\"ERROR\",\"x\":\"",
            "2017-01-01T00:00:00Z ERROR ",
            "%0a",
            "\t",
            "é",
            "'",
        ];
        let mut text = MARK.to_owned();
        for _ in 0..1 + self.below(6) {
            text.push_str(nasty[self.below(nasty.len())]);
            text.push_str(MARK);
        }
        text
    }
}

/// Sends bytes to the relay and waits for it to close, as it does with most of them.
async fn raw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _maybe_closed = stream.write_all(bytes).await;
    let _maybe_closed = stream.shutdown().await;
    let mut answer = Vec::new();
    let _maybe_reset = within("the end of a connection", stream.read_to_end(&mut answer)).await;
}

/// A request with a stranger's texts in its path and headers: as they are, or so that HTTP lets them through.
async fn strange_request(address: SocketAddr, dice: &mut Dice, polite: bool) {
    let mut text = || {
        let text = dice.text();
        if polite { text.replace(|c: char| c.is_control() && c != '\t', "_") } else { text }
    };
    let path = text().replace([' ', '\t'], "+");
    let head = format!(
        "GET /{path} HTTP/1.1\r\nhost: {}\r\norigin: {}\r\nuser-agent: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {}\r\nsec-websocket-protocol: {}\r\ncookie: {SECRET}\r\n\r\n",
        text(),
        text(),
        text(),
        text(),
        text(),
    );
    raw(address, head.as_bytes()).await;
}

/// A peer that says strange things in frames, and one that says no frames at all.
async fn strange_peers(address: SocketAddr, dice: &mut Dice) {
    let (mut peer, _) = Peer::link_to(address).await;
    peer.send(Frame::Close { channel: ChannelId::LINK, code: CloseCode(4_000), reason: dice.text() }).await;
    dealt_with(peer).await;
    let mut peer = Peer::open(address, Some("tunnel.v1")).await.unwrap();
    let token = format!("{SECRET}{}", dice.text());
    peer.send(Frame::Hello { min_version: 1, max_version: 1, features: 0, token }).await;
    peer.send_text(&format!("{PAYLOAD}{}", dice.text())).await;
    dealt_with(peer).await;
    let (mut peer, _) = Peer::link_to(address).await;
    peer.send_bytes(Bytes::from(format!("\u{1}{PAYLOAD}{}", dice.text()))).await;
    dealt_with(peer).await;
    // The livecode dialect.
    let mut peer = Peer::open(address, None).await.unwrap();
    for text in [
        format!("{PAYLOAD}{}", dice.text()),
        serde_json::json!({"type": dice.text(), "credential": SECRET, "content": PAYLOAD}).to_string(),
        serde_json::json!({"request": "add instruction", "params": {"credential": SECRET, "name": dice.text()}})
            .to_string(),
    ] {
        peer.send_text(&text).await;
    }
    peer.send_text("{}").await;
    peer.reset();
}

/// Waits until the relay has answered or closed.
async fn dealt_with(mut peer: Peer) {
    let ping = Frame::Ping { nonce: 99 }.encode();
    // Below the WebSocket: the relay may have closed it.
    peer.write_raw(&raw_frame(0x82, ping.len() as u64, &ping)).await;
    while let Received::Frame(frame) = peer.received().await {
        if frame == (Frame::Pong { nonce: 99 }) {
            break;
        }
    }
}

/// A well-behaved pair, whose words are nobody's business.
async fn pair(address: SocketAddr) {
    let (mut server, welcome) = Peer::link_to(address).await;
    let proof = tunnel_protocol::registration::prove(&key(1), &welcome.challenge, &server.url).unwrap();
    server.send(Frame::Register { key: key(1).public(), proof, url: String::new() }).await;
    assert!(matches!(server.frame().await, Frame::Registered { .. }));
    let (mut client, _) = Peer::link_to(address).await;
    client
        .send(Frame::Connect {
            channel: ChannelId(1),
            server_id: ServerId::Key(key(1).public()),
            port: 1,
            kind: ChannelKind::Session,
            payload: Bytes::from_static(PAYLOAD.as_bytes()),
        })
        .await;
    assert!(matches!(server.frame().await, Frame::Incoming { .. }));
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    for _ in 0..10 {
        client.send(data(1, PAYLOAD)).await;
        assert_eq!(server.frame().await, data(2, PAYLOAD));
    }
    client
        .send(Frame::Close { channel: ChannelId(1), code: CloseCode(4_000), reason: PAYLOAD.to_owned() })
        .await;
    assert!(matches!(server.frame().await, Frame::Close { .. }));
}

/// The log of a relay that strangers have tried to write into.
async fn log(format: &str) -> String {
    let relay = Process::serve(
        None,
        &[
            "--log",
            "trace",
            "--log-format",
            format,
            "--livecode-credential",
            SECRET,
            "--metrics-listen",
            "127.0.0.1:0",
        ],
    )
    .await;
    let mut dice = Dice(7);
    for round in 0..40 {
        strange_request(relay.address, &mut dice, round % 2 == 0).await;
    }
    for _ in 0..10 {
        strange_peers(relay.address, &mut dice).await;
    }
    pair(relay.address).await;
    relay.signal("-TERM");
    let (code, log) = relay.end().await;
    assert_eq!(code, Some(0), "{log}");
    log
}

/// Nobody's words in it, no control characters, and enough to show that the highest level is on.
fn check(log: &str) {
    assert!(log.ends_with('\n'));
    for secret in [PAYLOAD, SECRET] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    for line in log.lines() {
        let evil = line.chars().find(|c| c.is_control() || ('\u{2028}'..='\u{202e}').contains(c));
        assert_eq!(evil, None, "{line:?}");
    }
    assert!(log.contains(MARK), "what strangers wrote is logged, quoted");
    assert!(log.contains("WebSocket opens") && log.contains("server registered"), "{log}");
}

#[tokio::test]
async fn a_line_for_people_is_one_event_whatever_strangers_write() {
    let log = log("human").await;
    check(&log);
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 27, "no time begins {line:?}");
        let level = words.next().unwrap();
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "no level in {line:?}");
        assert!(!line.starts_with("2017"), "{line}");
    }
}

#[tokio::test]
async fn a_line_of_json_is_one_event_whatever_strangers_write() {
    let log = log("json").await;
    check(&log);
    for line in log.lines() {
        let Ok(Value::Object(event)) = serde_json::from_str(line) else { panic!("no object: {line:?}") };
        assert!(event.contains_key("message") && !event.contains_key("x"), "{line}");
        assert!(event["timestamp"].as_str().unwrap().starts_with("20"), "{line}");
        assert_ne!(event["level"], "ERROR", "{line}");
    }
}
