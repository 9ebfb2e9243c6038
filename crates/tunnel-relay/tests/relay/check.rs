//! `tunnel-relay check`: what it says of relays that work, and of what is in the way.

use crate::support::process::{Process, command};
use crate::support::within;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Exit code and what was said, stdout first.
async fn check(arguments: &[&str]) -> (i32, String) {
    let output = within("the check", command(&[&["check"], arguments].concat()).output()).await.unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap(), said)
}

#[track_caller]
fn assert_says((code, said): &(i32, String), expected: i32, words: &[&str]) {
    assert_eq!(*code, expected, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

#[tokio::test]
async fn a_relay_that_works_is_told_step_by_step() {
    let relay = Process::serve(None, &["--node", "here", "--max-frame", "9000"]).await;
    let said = check(&[&format!("ws://{}", relay.address)]).await;
    let address = relay.address.to_string();
    let words = [
        &address,
        "subprotocol: tunnel.v1",
        "handshake: taken",
        "this machine is 127.0.0.1",
        "frames of up to 9000 bytes, node \"here\"",
        "registration: ",
        "echo: 8 messages",
        "this relay works",
    ];
    assert_says(&said, 0, &words);
}

/// A certificate for localhost that signs itself, and its key.
fn certificate(folder: &Path) -> [PathBuf; 2] {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let paths = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    std::fs::write(&paths[0], certified.cert.pem()).unwrap();
    std::fs::write(&paths[1], certified.signing_key.serialize_pem()).unwrap();
    paths
}

#[tokio::test]
async fn tls_is_told_with_names_and_end_and_an_unknown_authority_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path()).map(|path| path.to_str().unwrap().to_owned());
    let relay = Process::serve(None, &["--tls-certificate", &certificate, "--tls-key", &key]).await;
    let url = format!("wss://localhost:{}", relay.address.port());
    let said = check(&[&url, "--ca", &certificate]).await;
    assert_says(
        &said,
        0,
        &["TLS: TLS 1.3, a certificate for localhost, good until ", "GMT", "this relay works"],
    );
    assert_says(&check(&[&url]).await, 1, &["fail  TLS: ", "--ca FILE"]);
    let plain = url.replace("wss:", "ws:");
    assert_says(&check(&[&plain]).await, 1, &["fail  WebSocket: ", "use wss:"]);
}

#[tokio::test]
async fn what_is_in_the_way_is_said_with_what_to_do() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_says(&check(&[&format!("ws://{nobody}")]).await, 1, &["fail  TCP: ", "start the relay"]);
    assert_says(&check(&["ws://nowhere.invalid"]).await, 1, &["fail  name: nowhere.invalid", "DNS"]);
    for (wrong, word) in [("https://a", "write wss:"), ("a", "begins with wss://")] {
        assert_says(&check(&[wrong]).await, 2, &[word]);
    }
    assert_says(&check(&["ws://a", "--token-file", "/no/such/file"]).await, 2, &["/no/such/file"]);
}

#[tokio::test]
async fn a_relay_that_asks_for_an_origin_or_a_token_says_so_until_it_gets_one() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = command(&["token", "new"]).output().await.unwrap().stdout;
    let drawn = String::from_utf8(drawn).unwrap();
    let (token, entry) = drawn.trim_end().split_once('\n').unwrap();
    let file = folder.path().join("relay.toml");
    let lines = format!("allowed-origins = [\"https://example.org\"]\naccess-tokens = [\"{entry}\"]\n");
    std::fs::write(&file, lines).unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, format!("{token}\n")).unwrap();
    let relay = Process::serve(None, &["--config", file.to_str().unwrap()]).await;
    let url = format!("ws://{}", relay.address);
    let origin = ["--origin", "https://example.org"];
    assert_says(&check(&[&url]).await, 1, &["403", "may not use this relay", "allowed-origins", "--origin"]);
    assert_says(&check(&[&[&url[..]], &origin[..]].concat()).await, 1, &["token", "--token-file"]);
    let all = [&[&url[..], "--token-file", token_file.to_str().unwrap()], &origin[..]].concat();
    assert_says(&check(&all).await, 0, &["this relay works"]);
}

/// A server that answers every request with this.
async fn answering(answer: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _some = stream.read(&mut request).await;
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn other_servers_are_known_by_their_answers() {
    for (answer, words) in [
        (
            "HTTP/1.1 200 OK\r\nserver: nginx\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome",
            &["200 OK", "nginx", "welcome", "web server"][..],
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            &["502", "start the relay"],
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            &["subprotocol", "Sec-WebSocket-Protocol"],
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", &["not HTTP"]),
    ] {
        let said = check(&[&format!("ws://{}", answering(answer).await)]).await;
        assert_says(&said, 1, words);
    }
}
