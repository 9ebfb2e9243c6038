//! Admission: origins, limits, reverse proxies.

use crate::support::{Answer, Peer, get, hello, relay_with, request, until, within};
use http::StatusCode;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tunnel_protocol::{CloseCode, Frame};
use tunnel_relay::config::AddressSource;

/// A WebSocket handshake with further headers; the answer's head.
async fn handshake(address: SocketAddr, headers: &str) -> Answer {
    let head = format!(
        "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tunnel.v1\r\n{headers}\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = loop {
        answer.push(within("an HTTP answer", stream.read_u8()).await.unwrap());
        if answer.ends_with(b"\r\n\r\n") {
            break answer.len();
        }
    };
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: Vec::new() }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_the_upgrade() {
    let origins = ["https://example.org", "https://*.example.net"];
    let relay =
        relay_with(|config| config.allowed_origins = origins.map(|text| text.parse().unwrap()).to_vec())
            .await;
    for (headers, status) in [
        ("origin: https://example.org\r\n", StatusCode::SWITCHING_PROTOCOLS),
        ("origin: https://a.example.net\r\n", StatusCode::SWITCHING_PROTOCOLS),
        ("origin: https://evil.com\r\n", StatusCode::FORBIDDEN),
        ("origin: http://example.org\r\n", StatusCode::FORBIDDEN),
        ("origin: https://example.org.evil.com\r\n", StatusCode::FORBIDDEN),
        ("origin: https://evilexample.org\r\n", StatusCode::FORBIDDEN),
        ("origin: https://example.net\r\n", StatusCode::FORBIDDEN),
        ("origin: null\r\n", StatusCode::FORBIDDEN),
        ("origin: \r\n", StatusCode::FORBIDDEN),
        ("origin: https://example.org\r\norigin: https://evil.com\r\n", StatusCode::FORBIDDEN),
        ("", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(handshake(relay.address(), headers).await.status, status, "{headers}");
    }
    until("the links of those let in", || relay.stats().links <= 2).await;
    assert_eq!(get(relay.address(), "/healthz").await.status, StatusCode::OK, "pages are served to all");
}

#[tokio::test]
async fn a_page_of_any_origin_may_ask_why_and_learns_what_a_handshake_would_be_told_and_no_more() {
    let relay = relay_with(|config| {
        config.allowed_origins = vec!["https://secret.example".parse().unwrap()];
        config.hosts = vec!["named.example".parse().unwrap()];
    })
    .await;
    let address = relay.address();
    let ask = async |host: &str, origin: &str| {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\naccept: application/vnd.tunnel-relay\r\norigin: {origin}\r\n\
             connection: close\r\n\r\n"
        );
        let answer = request(address, &head).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{answer:?}");
        assert!(
            answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
            "{answer:?}"
        );
        (answer.status, answer.text().to_owned())
    };
    let own = address.to_string();
    let (status, text) = ask(&own, "https://other.example").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(text.contains("origin may not use this relay") && !text.contains("secret.example"), "{text}");
    let (status, text) = ask("rewritten.example", "https://secret.example").await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    assert!(text.contains("rewritten.example") && !text.contains("named.example"), "{text}");
    let (status, text) = ask(&own, "https://secret.example").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(relay.stats().links, 0, "no place is taken");

    let (status, _) = ask(&own, "https://secret.example").await;
    let headers = "origin: https://secret.example\r\n";
    assert_eq!(
        (status, handshake(address, headers).await.status),
        (StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS)
    );
}

#[tokio::test]
async fn a_handshake_with_two_hosts_two_origins_or_a_body_is_refused() {
    let relay = relay_with(|_| {}).await;
    for (headers, text) in [
        ("host: relay.example\r\n", "one Host header"),
        ("origin: https://a.example\r\norigin: https://b.example\r\n", "at most one Origin header"),
        ("origin: https://a.example\r\norigin: https://a.example\r\n", "at most one Origin header"),
        ("content-length: 4\r\n", "no body"),
        ("transfer-encoding: chunked\r\n", "no body"),
    ] {
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: tunnel.v1\r\n{headers}\r\n",
            relay.address()
        );
        let answer = request(relay.address(), &head).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers}");
        assert!(answer.text().contains(text), "{headers}: {answer:?}");
    }
    let head = "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n";
    assert_eq!(request(relay.address(), head).await.status, StatusCode::BAD_REQUEST, "no handshake");
    assert_eq!(relay.stats().links, 0);
}

#[tokio::test]
async fn who_is_in_is_served_while_newcomers_are_told_that_the_relay_is_full() {
    let relay = relay_with(|config| config.max_connections = 2).await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    for _ in 0..10 {
        let refused = get(relay.address(), "/healthz").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.text().contains("as many connections as it takes"), "{refused:?}");
    }
    client.send(crate::support::data(1, "still")).await;
    assert_eq!(server.frame().await, crate::support::data(2, "still"));
    client.reset();
    until("the place of the client", || relay.stats().links == 1).await;
    let mut status = StatusCode::SERVICE_UNAVAILABLE;
    while status == StatusCode::SERVICE_UNAVAILABLE {
        status = get(relay.address(), "/healthz").await.status;
    }
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_so_many_new_ones_a_second() {
    let relay = relay_with(|config| config.max_connections_per_address = 1).await;
    let _only = Peer::link(&relay).await;
    let refused = get(relay.address(), "/healthz").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("from your address"), "{refused:?}");

    let relay = relay_with(|config| config.accept_rate_per_address = 1).await;
    let mut refused = 0;
    for _ in 0..50 {
        if get(relay.address(), "/healthz").await.status == StatusCode::SERVICE_UNAVAILABLE {
            refused += 1;
        }
    }
    assert!(refused > 0, "50 connections, of which 4 may come at once and one a second");
}

#[tokio::test]
async fn a_flood_is_refused_and_leaves_nothing_behind() {
    let relay = relay_with(|config| {
        config.max_connections = 50;
        config.accept_rate = 0;
        config.accept_rate_per_address = 0;
    })
    .await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let mut flood = Vec::new();
    for _ in 0..500 {
        flood.push(TcpStream::connect(relay.address()).await.unwrap());
    }
    client.send(crate::support::data(1, "through the flood")).await;
    assert_eq!(server.frame().await, crate::support::data(2, "through the flood"));
    drop(flood);
    let mut status = StatusCode::SERVICE_UNAVAILABLE;
    while status == StatusCode::SERVICE_UNAVAILABLE {
        status = get(relay.address(), "/healthz").await.status;
    }
    assert_eq!(status, StatusCode::OK);
}

/// The address that the relay says a peer has.
async fn address_of(mut peer: Peer) -> String {
    peer.send(hello()).await;
    match peer.frame().await {
        Frame::Welcome(welcome) => welcome.address,
        other => panic!("no WELCOME but {other:?}"),
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_who_is_behind_it_and_a_stranger_does_not() {
    for (trusted, source, headers, expected) in [
        ("127.0.0.0/8", AddressSource::XForwardedFor, "x-forwarded-for: 6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.0/8", AddressSource::Forwarded, "forwarded: for=\"[2001:db8::7]:80\"", "2001:db8::7"),
        ("127.0.0.0/8", AddressSource::Forwarded, "x-forwarded-for: 192.0.2.7", "127.0.0.1"),
        ("10.0.0.0/8", AddressSource::XForwardedFor, "x-forwarded-for: 192.0.2.7", "127.0.0.1"),
    ] {
        let relay = relay_with(|config| {
            config.trusted_proxies = vec![trusted.parse().unwrap()];
            config.client_address = source;
        })
        .await;
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let peer = Peer::open_with(stream, relay.address(), Some("tunnel.v1"), Some(headers)).await.unwrap();
        assert_eq!(address_of(peer).await, expected, "{trusted} {headers}");
    }
}

#[tokio::test]
async fn limits_by_address_follow_the_address_that_a_trusted_proxy_says() {
    let relay = relay_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.max_connections_per_address = 1;
    })
    .await;
    let open = async |from: &str| {
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        let header = format!("x-forwarded-for: {from}");
        Peer::open_with(stream, relay.address(), Some("tunnel.v1"), Some(&header)).await
    };
    let first = open("192.0.2.1").await.unwrap();
    assert!(open("192.0.2.1").await.is_err(), "a second of the same address");
    let _other = open("192.0.2.2").await.unwrap();
    first.reset();
    while open("192.0.2.1").await.is_err() {}
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

#[tokio::test]
async fn a_trusted_proxy_may_speak_the_proxy_protocol_of_both_versions() {
    let relay = relay_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.client_address = AddressSource::ProxyProtocol;
    })
    .await;
    let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 16], &[0x12, 0x67, 0, 80]]
        .concat();
    // With a TLV of the proxy's own behind the addresses.
    let v4 = [&[192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x67, 0, 80][..], &[0xe0, 0, 2, 1, 2]].concat();
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(1, 0x11, &v4), "192.0.2.7"),
        (version_2(1, 0x21, &v6), "2001:db8::7"),
        (version_2(0, 0, &[]), "127.0.0.1"),
    ] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(&header).await.unwrap();
        let spoofed = Some("x-forwarded-for: 6.6.6.6");
        let peer = Peer::open_with(stream, relay.address(), Some("tunnel.v1"), spoofed).await.unwrap();
        assert_eq!(address_of(peer).await, expected, "{header:?}");
    }
}

#[tokio::test]
async fn without_or_with_a_wrong_proxy_header_nothing_is_served() {
    let relay = relay_with(|config| {
        config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.client_address = AddressSource::ProxyProtocol;
    })
    .await;
    let long = version_2(1, 0x11, &[0; 2_000]);
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    for bytes in [
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".as_slice(),
        b"PROXY TCP4 nonsense\r\nGET",
        &long,
        &endless,
    ] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ignored = within("the end", stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"", "{bytes:?}");
    }
}

#[tokio::test]
async fn a_proxy_protocol_header_of_a_stranger_is_no_http() {
    let relay = relay_with(|config| config.client_address = AddressSource::ProxyProtocol).await;
    let head = "PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(request(relay.address(), head).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn settings_that_are_read_again_hold_for_newcomers_and_others_are_named() {
    let relay = relay_with(|_| {}).await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    let config = tunnel_relay::Config {
        allowed_origins: vec!["https://example.org".parse().unwrap()],
        max_channels: 1,
        livecode_credential: Some("a secret of the test".parse().unwrap()),
        ..tunnel_relay::Config::ephemeral()
    };
    assert_eq!(relay.reload(config).unwrap(), ["livecode-credential"]);
    assert_eq!(
        handshake(relay.address(), "origin: https://evil.com\r\n").await.status,
        StatusCode::FORBIDDEN
    );
    client.send(crate::support::data(1, "still here")).await;
    assert_eq!(server.frame().await, crate::support::data(2, "still here"));
    client.send(crate::support::connect(3, 1)).await;
    assert_eq!(crate::support::code(&client.frame().await), CloseCode::TRY_AGAIN_LATER);
}
