//! Plain HTTP on the relay's port.

use crate::support::{get, hello, raw_frame, relay, relay_with, request, until, within};
use http::StatusCode;
use std::fs;
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
        "/%00",
        "/index.html%00.txt",
        "/app.mjs::$DATA",
        "/c:/windows/win.ini",
        "/..\\secret.txt",
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
        let head = format!(
            "GET /app.mjs HTTP/1.1\r\nhost: localhost\r\n{header}: {value}\r\nconnection: close\r\n\r\n"
        );
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
async fn a_file_that_changes_has_another_tag_even_if_time_and_length_stay() {
    let (relay, folder) = site().await;
    let path = folder.path().join("www/app.mjs");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    let write = |content: &str| {
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    };
    let mut seen = Vec::new();
    for content in ["release 41", "release 42", "release 43"] {
        write(content);
        let answer = get(relay.address(), "/app.mjs").await;
        let tag = answer.header("etag").unwrap().to_owned();
        assert_eq!(answer.text(), content);
        assert!(!seen.contains(&tag), "{tag} again");
        // The same again, as long as it is the same.
        assert_eq!(get(relay.address(), "/app.mjs").await.header("etag"), Some(&*tag));
        seen.push(tag);
    }
    // An older release that is deployed again is not what the browser has.
    let date = httpdate::fmt_http_date(old + std::time::Duration::from_secs(86_400));
    let head = format!(
        "GET /app.mjs HTTP/1.1\r\nhost: localhost\r\nif-modified-since: {date}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(request(relay.address(), &head).await.status, StatusCode::OK);
}

#[tokio::test]
async fn files_of_any_time_are_served() {
    let (relay, folder) = site().await;
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    let second = std::time::Duration::from_secs(1);
    for time in [epoch - 1_000_000 * second, epoch, epoch + u32::MAX * second] {
        let file = fs::File::options().write(true).open(folder.path().join("www/app.mjs")).unwrap();
        file.set_modified(time).unwrap();
        let answer = get(relay.address(), "/app.mjs").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "export {}"));
        assert_eq!(answer.header("last-modified").is_some(), time >= epoch);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_folder_that_is_a_link_is_followed_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for release in ["releases/41", "releases/42"] {
        fs::create_dir_all(path(release)).unwrap();
        fs::write(path(release).join("index.html"), release).unwrap();
    }
    let point = |release: &str| {
        std::os::unix::fs::symlink(release, path("new")).unwrap();
        fs::rename(path("new"), path("current")).unwrap();
    };
    point("releases/41");
    let mount = Mount { prefix: "/".to_owned(), folder: path("current") };
    let relay = relay_with(|config| config.www = vec![mount]).await;
    assert_eq!(get(relay.address(), "/").await.text(), "releases/41");
    point("releases/42");
    fs::remove_dir_all(path("releases/41")).unwrap();
    assert_eq!(get(relay.address(), "/").await.text(), "releases/42");
}

/// The answer to a GET request for `/app.mjs`, which holds `export {}`, with one more header.
async fn part(relay: &Relay, headers: &str) -> (u16, String, Option<String>) {
    let head = format!("GET /app.mjs HTTP/1.1\r\nhost: localhost\r\n{headers}\r\nconnection: close\r\n\r\n");
    let answer = request(relay.address(), &head).await;
    let range = answer.header("content-range").map(str::to_owned);
    (answer.status.as_u16(), answer.text().to_owned(), range)
}

#[tokio::test]
async fn a_part_of_a_file_is_sent_to_whoever_asks_for_one() {
    let (relay, _folder) = site().await;
    for (range, status, body, content_range) in [
        ("bytes=0-5", 206, "export", Some("bytes 0-5/9")),
        ("bytes=7-", 206, "{}", Some("bytes 7-8/9")),
        ("bytes=-2", 206, "{}", Some("bytes 7-8/9")),
        ("bytes=7-1000", 206, "{}", Some("bytes 7-8/9")),
        ("bytes=0-", 206, "export {}", Some("bytes 0-8/9")),
        ("bytes=0-0", 206, "e", Some("bytes 0-0/9")),
        ("bytes=9-", 416, "the file is shorter than that\n", Some("bytes */9")),
        // Several parts, or none that makes sense: the whole.
        ("bytes=0-1,3-4", 200, "export {}", None),
        ("bytes=5-1", 200, "export {}", None),
        ("lines=1-2", 200, "export {}", None),
        ("bytes=99999999999999999999999999999999-", 200, "export {}", None),
    ] {
        let answer = part(&relay, &format!("range: {range}")).await;
        assert_eq!(answer, (status, body.to_owned(), content_range.map(str::to_owned)), "{range}");
    }
    let whole = get(relay.address(), "/app.mjs").await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let (tag, date) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    for (condition, status) in [(tag, 206), (date, 206), ("\"another\"", 200), (&format!("W/{tag}"), 200)] {
        let answer = part(&relay, &format!("range: bytes=0-1\r\nif-range: {condition}")).await;
        assert_eq!(answer.0, status, "{condition}");
    }
}

#[tokio::test]
async fn whoever_closes_its_half_after_the_request_gets_its_answer() {
    let (relay, folder) = site().await;
    fs::write(folder.path().join("www/large.bin"), vec![7; 3_000_000]).unwrap();
    for (path, len) in [("/healthz", 3), ("/app.mjs", 9), ("/large.bin", 3_000_000)] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within("the answer", stream.read_to_end(&mut answer)).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(answer.len() - end, len, "{path}");
    }
}

#[tokio::test]
async fn a_connection_may_rest_between_requests_for_another_time_than_a_head_may_take() {
    let (short, long) = (std::time::Duration::from_millis(50), std::time::Duration::from_secs(3_600));
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(get.as_bytes()).await.unwrap();
        assert!(head(stream).await.starts_with("HTTP/1.1 200 "));
        within("the body", stream.read_exact(&mut [0; 3])).await.unwrap();
    };
    let relay =
        relay_with(|config| (config.handshake_timeout, config.keep_alive_timeout) = (short, long)).await;
    let (mut rests, mut slow) = (
        TcpStream::connect(relay.address()).await.unwrap(),
        TcpStream::connect(relay.address()).await.unwrap(),
    );
    ask(&mut rests).await;
    ask(&mut slow).await;
    slow.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
    // A reset is as good an end as a close.
    let _end = within("the end of a slow request", slow.read_to_end(&mut Vec::new())).await;
    ask(&mut rests).await;

    let relay =
        relay_with(|config| (config.handshake_timeout, config.keep_alive_timeout) = (long, short)).await;
    let mut rests = TcpStream::connect(relay.address()).await.unwrap();
    ask(&mut rests).await;
    let _end = within("the end of a rest", rests.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn head_gets_the_headers_only_and_other_methods_are_refused() {
    let (relay, _folder) = site().await;
    let ask = async |method: &str| {
        let head = format!("{method} /app.mjs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
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
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "a".repeat(9_000));
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
            "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n{headers}\r\n\r\n"
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
        "GET /any HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
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
    let get = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
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
