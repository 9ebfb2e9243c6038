//! Misconfiguration around the relay is told in its log, once a minute, with the value that was seen.

#![cfg(target_os = "linux")]
use crate::support::process::Process;
use crate::support::{Peer, get, hello, key, within};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tunnel_protocol::{Frame, registration};

/// Sends bytes and reads what is answered until the end.
async fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ignored = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    answer
}

/// The lines at `warn` of a relay that has been told three times.
async fn complaints(arguments: &[&str], tell: impl AsyncFn(SocketAddr)) -> Vec<String> {
    let relay = Process::serve(None, arguments).await;
    for _ in 0..3 {
        tell(relay.address).await;
    }
    relay.signal("-TERM");
    let (_, log) = relay.end().await;
    log.lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
}

#[track_caller]
fn assert_one(lines: &[String], words: &[&str]) {
    let [line] = lines else { panic!("one line is expected: {lines:#?}") };
    for word in words {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

/// The first bytes of a browser that speaks TLS, and of the PROXY protocol.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const PROXY_HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n";
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn tls_on_a_port_without_is_answered_at_once_and_said() {
    let lines = complaints(&[], async |address| {
        assert!(send(address, CLIENT_HELLO).await.starts_with(b"HTTP/1.1 400 "));
    })
    .await;
    assert_one(&lines, &["speaks TLS", "tls-certificate", "127.0.0.1"]);
}

#[tokio::test]
async fn http_on_a_port_with_tls_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    let mut command = crate::support::process::command(&[
        "serve",
        "--listen=127.0.0.1:0",
        "--tls-certificate",
        &path("cert.pem"),
        "--tls-key",
        &path("key.pem"),
    ]);
    let relay = Process::spawn(&mut command).await;
    send(relay.address, REQUEST).await;
    relay.signal("-TERM");
    let (_, log) = relay.end().await;
    assert!(log.contains("speaks without TLS"), "{log}");
}

#[tokio::test]
async fn a_proxy_header_where_none_is_expected_is_said() {
    let version_2 = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20, 0, 0, 0]].concat();
    for header in [PROXY_HEADER, &version_2] {
        let lines = complaints(&[], async |address| {
            send(address, &[header, REQUEST].concat()).await;
        })
        .await;
        assert_one(&lines, &["PROXY protocol", "trusted-proxies", "client-address", "127.0.0.1"]);
    }
}

#[tokio::test]
async fn a_proxy_header_that_is_missing_is_said_with_what_came_instead() {
    let arguments = ["--trusted-proxies=127.0.0.0/8", "--client-address=proxy-protocol"];
    let lines = complaints(&arguments, async |address| {
        send(address, REQUEST).await;
    })
    .await;
    assert_one(&lines, &["PROXY protocol", "client-address", "GET /healthz"]);
}

/// Opens a WebSocket with a header, or is refused.
async fn open(address: SocketAddr, header: Option<&str>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let _maybe_refused = Peer::open_with(stream, address, Some("tunnel.v1"), header).await;
}

#[tokio::test]
async fn a_trusted_proxy_that_forwards_no_address_is_said_with_what_it_sends() {
    let lines = complaints(&["--trusted-proxies=127.0.0.0/8"], async |address| {
        open(address, Some("x-real-ip: 192.0.2.7")).await;
    })
    .await;
    assert_one(&lines, &["x-forwarded-for", "x-real-ip: ", "192.0.2.7", "client-address"]);
    let good = complaints(&["--trusted-proxies=127.0.0.0/8"], async |address| {
        open(address, Some("x-forwarded-for: 192.0.2.7")).await;
    })
    .await;
    assert!(good.is_empty(), "{good:?}");
}

#[tokio::test]
async fn a_host_that_a_proxy_has_rewritten_is_said_with_the_setting_that_would_know_it() {
    let lines = complaints(&[], async |address| {
        send(address, b"GET / HTTP/1.1\r\nhost: backend_1.internal:8087\r\nconnection: close\r\n\r\n").await;
    })
    .await;
    assert_one(&lines, &["backend_1.internal:8087", "`hosts`"]);
}

#[tokio::test]
async fn a_server_that_dialled_another_url_is_said_with_both() {
    const DIALLED: &str = "wss://relay.example/tunnel";
    let lines = complaints(&[], async |address| {
        let mut peer = Peer::open(address, Some("tunnel.v1")).await.unwrap();
        peer.send(hello()).await;
        let Frame::Welcome(welcome) = peer.frame().await else { panic!("no WELCOME") };
        let proof = registration::prove(&key(1), &welcome.challenge, DIALLED).unwrap();
        peer.send(Frame::Register { key: key(1).public(), proof, url: DIALLED.to_owned() }).await;
        assert!(matches!(peer.frame().await, Frame::Error { .. }));
    })
    .await;
    assert_one(&lines, &["ws://127.0.0.1:", DIALLED, "X-Forwarded-Proto", "`hosts`"]);
}

#[tokio::test]
async fn an_origin_that_is_refused_is_said_and_not_longer_than_is_good() {
    let arguments = ["--allowed-origins=https://example.org"];
    let lines = complaints(&arguments, async |address| {
        open(address, Some("origin: https://other.example")).await;
    })
    .await;
    assert_one(&lines, &["https://other.example", "allowed-origins"]);
    let long = format!("origin: https://{}", "a".repeat(5_000));
    let lines = complaints(&arguments, async |address| open(address, Some(&long)).await).await;
    assert_one(&lines, &["https://aaa"]);
    assert!(lines[0].len() < 1_000, "{}", lines[0]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_said() {
    // Its mode is 0200, and even root may not read it.
    let lines = complaints(&["--www=/proc/sys/net/ipv4/route"], async |address| {
        assert_eq!(get(address, "/flush").await.status, 403);
        assert_eq!(get(address, "/nothing").await.status, 404);
    })
    .await;
    assert_one(&lines, &["/proc/sys/net/ipv4/route/flush", "Permission denied"]);
}

/// Asks for metrics on a connection that is open already: how many connections could not be accepted.
async fn accept_errors(watching: &mut TcpStream) -> u64 {
    watching.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", watching.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut page = vec![0; len.parse().unwrap()];
    within("the metrics", watching.read_exact(&mut page)).await.unwrap();
    let page = String::from_utf8(page).unwrap();
    let (_, value) = page.split_once("\ntunnel_relay_accept_errors_total ").unwrap();
    value.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_relay_without_descriptors_says_so_once() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = Process::serve(None, &["--metrics-listen", &free.to_string()]).await;
    let mut watching = TcpStream::connect(free).await.unwrap();
    assert_eq!(accept_errors(&mut watching).await, 0);
    // As few as it has already: the next connection can't be accepted.
    let pid = relay.child.id().unwrap();
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={used}:{used}");
    let prlimit = std::process::Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(prlimit.unwrap().success());
    let _waits = TcpStream::connect(relay.address).await.unwrap();
    while accept_errors(&mut watching).await < 5 {
        tokio::task::yield_now().await;
    }
    relay.signal("-TERM");
    let (_, log) = relay.end().await;
    assert_eq!(log.matches("can't accept connections").count(), 1, "{log}");
    assert!(log.contains("LimitNOFILE"), "{log}");
}
