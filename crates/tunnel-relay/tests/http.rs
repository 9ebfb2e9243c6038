//! Plain HTTP on the relay's port.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use http::StatusCode;
use std::fs;
use support::{get, hello, raw_frame, relay, relay_with, request, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tunnel_relay::{Config, Mount, Relay};

/// A relay that serves a folder with a secret beside it.
async fn site() -> (Relay, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["www/sub", "pkg", "www/.hidden"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    for (name, content) in [
        ("secret.txt", "secret"),
        ("www/index.html", "<title>home</title>"),
        ("www/sub/index.html", "<title>sub</title>"),
        ("www/a b.txt", "spaced"),
        ("www/app.mjs", "export {}"),
        ("www/.hidden/secret.txt", "secret"),
        ("pkg/module.wasm", "\0asm"),
        ("pkg/module.js", "export {}"),
    ] {
        fs::write(path(name), content).unwrap();
    }
    let mount = |prefix: &str, folder| Mount { prefix: prefix.to_owned(), folder };
    let www = vec![mount("/", path("www")), mount("/pkg/", path("pkg"))];
    (relay_with(|config| config.www = www).await, folder)
}

#[tokio::test]
async fn health_is_told() {
    let relay = relay().await;
    let answer = get(relay.address(), "/healthz").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok\n"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn files_are_served_with_the_types_that_browsers_insist_on() {
    let (relay, _folder) = site().await;
    for (path, content_type, body) in [
        ("/", "text/html; charset=utf-8", "<title>home</title>"),
        ("/index.html?query", "text/html; charset=utf-8", "<title>home</title>"),
        ("/sub/", "text/html; charset=utf-8", "<title>sub</title>"),
        ("/a%20b.txt", "text/plain; charset=utf-8", "spaced"),
        ("/app.mjs", "text/javascript; charset=utf-8", "export {}"),
        ("/pkg/module.wasm", "application/wasm", "\0asm"),
        ("/pkg/module.js", "text/javascript; charset=utf-8", "export {}"),
    ] {
        let answer = get(relay.address(), path).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, body), "{path}");
        assert_eq!(answer.header("content-type"), Some(content_type), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
    }
}

#[tokio::test]
async fn a_large_file_arrives_whole() {
    let (relay, folder) = site().await;
    let content: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    fs::write(folder.path().join("www/large.bin"), &content).unwrap();
    let answer = get(relay.address(), "/large.bin").await;
    assert_eq!(answer.header("content-length"), Some("1000003"));
    assert!(answer.body == content);
}

#[tokio::test]
async fn nothing_outside_the_folders_is_served() {
    let (relay, folder) = site().await;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), folder.path().join("www/link.txt"))
            .unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("www/up")).unwrap();
        for (target, link) in
            [(".hidden/secret.txt", "shown.txt"), (".hidden", "shown"), (".hidden", "sub/deep")]
        {
            let target = folder.path().join("www").join(target);
            std::os::unix::fs::symlink(target, folder.path().join("www").join(link)).unwrap();
        }
    }
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/pkg/../secret.txt",
        "/pkg//etc/passwd",
        "/link.txt",
        "/up/secret.txt",
        "/.hidden/secret.txt",
        "/shown.txt",
        "/shown",
        "/shown/",
        "/shown/secret.txt",
        "/sub/deep/secret.txt",
        "/nothing",
        "/app.mjs/",
        "/pkg/",
    ] {
        let answer = get(relay.address(), path).await;
        assert!(
            matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST),
            "{path}: {:?} {}",
            answer.status,
            answer.text()
        );
        assert!(!answer.text().contains("secret") && !answer.text().contains("root"), "{path}");
    }
}

#[tokio::test]
async fn a_folder_without_its_slash_is_redirected() {
    let (relay, _folder) = site().await;
    for (path, location) in [("/sub", "/sub/"), ("/pkg", "/pkg/"), ("/sub?a=b", "/sub/?a=b")] {
        let answer = get(relay.address(), path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::PERMANENT_REDIRECT, Some(location))
        );
    }
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let (relay, folder) = site().await;
    let first = get(relay.address(), "/app.mjs").await;
    let ask = async |header: &str, value: &str| {
        let head =
            format!("GET /app.mjs HTTP/1.1\r\nhost: x\r\n{header}: {value}\r\nconnection: close\r\n\r\n");
        request(relay.address(), &head).await
    };
    let (tag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    for (header, value) in
        [("if-none-match", tag), ("if-none-match", &format!("\"x\", W/{tag}")), ("if-modified-since", date)]
    {
        let again = ask(header, value).await;
        assert_eq!((again.status, again.text()), (StatusCode::NOT_MODIFIED, ""), "{header}: {value}");
    }
    fs::write(folder.path().join("www/app.mjs"), "export const changed = 1").unwrap();
    let changed = ask("if-none-match", tag).await;
    assert_eq!((changed.status, changed.text()), (StatusCode::OK, "export const changed = 1"));
}

#[tokio::test]
async fn head_gets_the_headers_only_and_other_methods_are_refused() {
    let (relay, _folder) = site().await;
    let ask = async |method: &str| {
        let head = format!("{method} /app.mjs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        request(relay.address(), &head).await
    };
    let head = ask("HEAD").await;
    assert_eq!((head.status, head.text(), head.header("content-length")), (StatusCode::OK, "", Some("9")));
    let put = ask("PUT").await;
    assert_eq!((put.status, put.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let relay = relay().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(9_000));
    assert_eq!(request(relay.address(), &head).await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let relay = relay_with(|config| config.handshake_timeout = std::time::Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as a close.
    let _end = within("the end of a slow request", stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_handshake_is_refused_in_words() {
    let relay = relay().await;
    let ask = async |headers: &str| {
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n{headers}\r\n\r\n"
        );
        request(relay.address(), &head).await
    };
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13";
    for (headers, status, word) in [
        (format!("{key}\r\nsec-websocket-protocol: mqtt\r\nconnection: close"), 400, "tunnel.v1"),
        (format!("{key}\r\nconnection: close"), 400, "livecode"),
        (key.replace("13", "8") + "\r\nconnection: close", 426, "13"),
        ("sec-websocket-version: 13\r\nconnection: close".to_owned(), 400, "Sec-WebSocket-Key"),
    ] {
        let answer = ask(&headers).await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(answer.text().contains(word), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let www = vec!["/does/not/exist".parse().unwrap()];
    let error = Relay::start(Config { www, ..Config::ephemeral() }).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let relay = relay().await;
    let listen = relay.address();
    let error = Relay::start(Config { listen, ..Config::ephemeral() }).await.map(drop).unwrap_err();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

/// A handshake that is agreed to, with one more header line.
fn handshake(more: &str) -> String {
    format!(
        "GET /any HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: tunnel.v1\r\n{more}\r\n"
    )
}

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("a head", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Looks whether the link that a connection has become says WELCOME to the HELLO that was sent.
async fn assert_welcome(stream: &mut TcpStream) {
    let mut start = [0; 3];
    within("WELCOME", stream.read_exact(&mut start)).await.unwrap();
    assert_eq!((start[0], start[2]), (0x82, 0x82), "a binary message that is a WELCOME");
}

#[tokio::test]
async fn a_web_socket_opens_however_its_handshake_comes() {
    let relay = relay().await;
    let hello = hello().encode();
    let hello = raw_frame(0x82, hello.len() as u64, &hello);
    let get = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for (what, first, then) in [
        ("alone", handshake(""), ""),
        ("with an empty body", handshake("content-length: 0\r\n"), ""),
        ("with more headers than a page sends", handshake(&"a: b\r\n".repeat(70)), ""),
        ("as a second request", get.to_owned(), &handshake("")[..]),
    ] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        if !then.is_empty() {
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 "), "{what}");
            assert_eq!(within("ok", stream.read_u8()).await.unwrap(), b'o');
            within("the rest", stream.read_exact(&mut [0; 2])).await.unwrap();
            stream.write_all(then.as_bytes()).await.unwrap();
        }
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{what}: {answer}");
        let answer = answer.to_ascii_lowercase();
        assert!(
            answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{what}: {answer}"
        );
        assert!(answer.contains("\r\nsec-websocket-protocol: tunnel.v1\r\n"), "{what}: {answer}");
        assert!(answer.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{what}: {answer}");
        stream.write_all(&hello).await.unwrap();
        assert_welcome(&mut stream).await;
    }
    until("all but the last one is gone", || relay.stats().links <= 1).await;
}

#[tokio::test]
async fn what_comes_with_a_handshake_is_the_web_sockets() {
    let relay = relay().await;
    let hello = hello().encode();
    let hello = raw_frame(0x82, hello.len() as u64, &hello);
    let bytes = [handshake("").as_bytes(), &hello].concat();
    // At once and byte by byte.
    for step in [1, bytes.len()] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in bytes.chunks(step) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        assert_welcome(&mut stream).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_do_as_the_socket_that_they_come_from() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = socket2::SockRef::from(&listener);
    options.set_tcp_nodelay(true).unwrap();
    options.set_tcp_notsent_lowat(12_345).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let options = socket2::SockRef::from(&accepted);
    assert!(options.tcp_nodelay().unwrap(), "the relay counts on it: see `tune` in server.rs");
    assert_eq!(options.tcp_notsent_lowat().unwrap(), 12_345);
}
