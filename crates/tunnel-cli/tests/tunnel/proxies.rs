//! Proxies between the command and its relay.

use crate::support::{Running, TestRelay, User, target, text};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const LISTEN: [&str; 7] = ["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone", "--timeout", "2"];

/// The methods of RFC 1928.
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;

/// A SOCKS proxy of version 5 (RFC 1928); the other half tells the addresses that it was asked for, and the credentials.
///
/// One that wants `password` lets nobody in without it (RFC 1929).
async fn proxy(password: Option<&'static str>) -> (SocketAddr, UnboundedReceiver<String>) {
    let (asked, is_asked) = unbounded_channel();
    let address = target(move |stream| serve(stream, password, asked.clone())).await;
    (address, is_asked)
}

async fn serve(mut stream: TcpStream, password: Option<&str>, asked: UnboundedSender<String>) {
    assert_eq!(stream.read_u8().await.unwrap(), 5, "the version");
    let methods = block(&mut stream).await;
    let method = password.map_or(NO_AUTHENTICATION, |_| USER_AND_PASSWORD);
    if !methods.contains(&method) {
        return stream.write_all(&[5, 255]).await.unwrap();
    }
    stream.write_all(&[5, method]).await.unwrap();
    if let Some(password) = password {
        assert_eq!(stream.read_u8().await.unwrap(), 1, "the version of the credentials");
        let (user, given) = (block(&mut stream).await, block(&mut stream).await);
        let is_right = given == password.as_bytes();
        asked.send(format!("{}:{}", text(&user), text(&given))).unwrap();
        stream.write_all(&[1, u8::from(!is_right)]).await.unwrap();
        if !is_right {
            return;
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..3], [5, 1, 0], "version, CONNECT, reserved");
    let host = match head[3] {
        1 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await.unwrap();
            std::net::Ipv4Addr::from(octets).to_string()
        }
        3 => text(&block(&mut stream).await),
        other => panic!("an address of the kind {other}"),
    };
    let to = format!("{host}:{}", stream.read_u16().await.unwrap());
    asked.send(to.clone()).unwrap();
    match TcpStream::connect(&to).await {
        Ok(mut relay) => {
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            let _cut = tokio::io::copy_bidirectional(&mut stream, &mut relay).await;
        }
        // Connection refused.
        Err(_) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap(),
    }
}

/// Bytes behind a byte with their number.
async fn block(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await.unwrap())];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_socks_proxy_that_the_environment_names_is_used() {
    let relay = TestRelay::start().await;
    let mut user = User::of(&relay);
    let (proxy, mut is_asked) = proxy(None).await;
    let mut command = user.command(&LISTEN);
    command.env("ALL_PROXY", format!("socks5://{proxy}"));
    let listening = Running::start(command).await;
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
    assert_eq!(is_asked.recv().await, Some(relay.address.to_string()));

    // The proxy is asked for the name, which this machine need not know.
    user.relay = format!("ws://localhost:{}", relay.address.port());
    let mut command = user.command(&LISTEN);
    command.env("ALL_PROXY", format!("socks5h://{proxy}"));
    let listening = Running::start(command).await;
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
    assert_eq!(is_asked.recv().await, Some(format!("localhost:{}", relay.address.port())));
}

#[tokio::test]
async fn a_socks_proxy_gets_the_password_that_is_in_its_url() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let (proxy, mut is_asked) = proxy(Some("secret")).await;
    let mut command = user.command(&LISTEN);
    command.env("ALL_PROXY", format!("socks5://me:secret@{proxy}"));
    let listening = Running::start(command).await;
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
    assert_eq!(is_asked.recv().await.as_deref(), Some("me:secret"));
    for url in [format!("socks5://me:wrong@{proxy}"), format!("socks5://{proxy}")] {
        let output = user.command(&LISTEN).env("ALL_PROXY", url).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("the proxy") && said.contains(&proxy.to_string()), "{said}");
        assert!(!said.contains("wrong"), "a password is nobody's business: {said}");
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_connect_or_is_not_understood_is_named() {
    let relay = TestRelay::start().await;
    let mut user = User::of(&relay);
    let (proxy, _asked) = proxy(None).await;
    let output = user.command(&LISTEN).env("ALL_PROXY", format!("socks4://{proxy}")).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("has to be http: or socks5:"), "{said}");

    // Nothing listens there.
    user.relay = "ws://127.0.0.1:1".to_owned();
    let output = user.command(&LISTEN).env("ALL_PROXY", format!("socks5://{proxy}")).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("the proxy") && said.contains("127.0.0.1:1"), "{said}");
}
