//! Under which names the relay is reached, and what registrations are bound to.

use crate::support::{Peer, Received, hello, key, relay_with, request};
use http::StatusCode;
use tokio::net::TcpStream;
use tunnel_protocol::frame::Frame;
use tunnel_protocol::{CloseCode, registration};

#[tokio::test]
async fn a_request_for_a_name_that_the_relay_does_not_have_is_refused() {
    let relay = relay_with(|config| {
        config.hosts = vec!["relay.example".parse().unwrap()];
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let upgrade = "connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tunnel.v1\r\n";
    for (host, known) in [
        ("relay.example", true),
        ("RELAY.example.:8087", true),
        ("localhost", true),
        ("127.0.0.1:1", true),
        ("evil.example", false),
        ("relay.example.evil.example", false),
        ("192.0.2.1", false),
    ] {
        let page = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let page = request(relay.address(), &page).await;
        let metrics = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let metrics = request(relay.metrics_address().unwrap(), &metrics).await;
        let health = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(
            request(relay.address(), &health).await.status,
            StatusCode::OK,
            "{host}: health is for all"
        );
        if known {
            assert_eq!((page.status, metrics.status), (StatusCode::NOT_FOUND, StatusCode::OK), "{host}");
            continue;
        }
        let socket = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{upgrade}\r\n");
        let socket = request(relay.address(), &socket).await;
        for answer in [page, metrics, socket] {
            assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
            let text = String::from_utf8(answer.body).unwrap();
            assert!(text.contains("`hosts`"), "the setting is named: {text}");
        }
    }
}

/// Registers with a proof for a URL, over a WebSocket to another one; what the relay says.
async fn registers(peer: &mut Peer, url: &str) -> Frame {
    peer.send(hello()).await;
    let Frame::Welcome(welcome) = peer.frame().await else { panic!("no WELCOME") };
    let proof = registration::prove(&key(1), &welcome.challenge, url).unwrap();
    peer.send(Frame::Register { key: key(1).public(), proof, url: url.to_owned() }).await;
    peer.frame().await
}

#[tokio::test]
async fn a_registration_for_one_relay_is_worth_nothing_at_another() {
    let relay = relay_with(|_| ()).await;
    let address = relay.address();
    for other in
        ["wss://evil.example/".to_owned(), format!("wss://{address}/"), format!("ws://{address}/other")]
    {
        let mut peer = Peer::open(address, Some("tunnel.v1")).await.unwrap();
        let Frame::Error { code, text } = registers(&mut peer, &other).await else { panic!("{other}") };
        assert_eq!(code, CloseCode::HANDSHAKE_FAILED);
        for word in [&format!("reached as ws://{address}/,"), &format!("dialled {other}:"), "`hosts`"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(matches!(peer.received().await, Received::Closed(CloseCode::HANDSHAKE_FAILED, _)));
        assert_eq!(relay.stats().registrations, 0);
    }
}

#[tokio::test]
async fn a_server_registers_through_a_trusted_proxy_that_says_that_it_does_tls() {
    for trusted in [true, false] {
        let relay = relay_with(|config| {
            config.trusted_proxies = if trusted { vec!["127.0.0.0/8".parse().unwrap()] } else { vec![] };
        })
        .await;
        let (stream, header) =
            (TcpStream::connect(relay.address()).await.unwrap(), "x-forwarded-proto: https");
        let mut peer =
            Peer::open_with(stream, relay.address(), Some("tunnel.v1"), Some(header)).await.unwrap();
        let answer = registers(&mut peer, &format!("wss://{}/", relay.address())).await;
        assert_eq!(matches!(answer, Frame::Registered { .. }), trusted, "{answer:?}");
    }
}
