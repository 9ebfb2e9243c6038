//! The command `tunnel-relay` as a process.

use crate::support::process::{Process, command};
use crate::support::{Peer, code, get, within};
use tokio::process::Command;
use tunnel_protocol::{CloseCode, Frame, registration};

#[cfg(unix)]
#[tokio::test]
async fn both_signals_end_it_cleanly_after_goaway() {
    for signal in ["-TERM", "-INT"] {
        let process = Process::start(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "1"]).await;
        let (mut leaves, _) = Peer::link_to(process.address).await;
        let (mut stays, _) = Peer::link_to(process.address).await;
        process.signal(signal);
        assert!(matches!(leaves.frame().await, Frame::GoAway { .. }));
        drop(leaves);
        assert!(matches!(stays.frame().await, Frame::GoAway { .. }));
        assert_eq!(code(&stays.frame().await), CloseCode::DRAINING);
        assert_eq!(stays.closed().await, CloseCode::DRAINING);
        drop(stays);
        let (code, log) = process.end().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("ended"), "{log}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let process = Process::start(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "3600"]).await;
    let (mut peer, _) = Peer::link_to(process.address).await;
    process.signal("-TERM");
    assert!(matches!(peer.frame().await, Frame::GoAway { .. }));
    process.signal("-TERM");
    assert_eq!(process.end().await.0, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn what_strangers_send_does_not_forge_log_lines() {
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--livecode-credential", "hunter2, hunter2"];
    for format in ["human", "json"] {
        let process = Process::start(&[&arguments[..], &["--log-format", format]].concat()).await;
        let (mut peer, _) = Peer::link_to(process.address).await;
        peer.send_text("payload\n1970-01-01 FORGED\u{1b}[31m").await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR);
        let head = "GET /FORGED%0aFORGED HTTP/1.1\r\nhost: localhost\r\norigin: \u{1b}[31mFORGED\r\nconnection: close\r\n\r\n";
        crate::support::request(process.address, head).await;
        process.signal("-TERM");
        let (_, log) = process.end().await;
        assert!(!log.lines().any(|line| line.starts_with("FORGED") || line.contains("payload")), "{log}");
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
        if format == "json" {
            assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
        }
    }
}

#[tokio::test]
async fn it_serves_folders_and_health() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "home").unwrap();
    let www = folder.path().to_str().unwrap();
    let process = Process::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--www",
        www,
        "--www",
        &format!("/again={www}"),
    ])
    .await;
    for path in ["/", "/again/"] {
        assert_eq!(get(process.address, path).await.text(), "home");
    }
    assert_eq!(get(process.address, "/healthz").await.text(), "ok\n");
}

#[tokio::test]
async fn what_it_cannot_do_is_said_with_an_exit_code() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, exit_code, word) in [
        (&["serve", "--listen", "nowhere"][..], 2, "nowhere"),
        (
            &["serve", "--listen=127.0.0.1:9", "--metrics-listen=127.0.0.1:9"],
            2,
            "--metrics-listen: it has to be another address than listen",
        ),
        (&["serve", "--listen=127.0.0.1:0", "--metrics-listen=192.0.2.1:9"], 1, "192.0.2.1:9 for metrics"),
        (&["serve", "--listen", "127.0.0.1:0", "--www", "/does/not/exist"], 1, "/does/not/exist"),
        (&["serve", "--listen", &address], 1, &address),
        (&["serve", "--log", "no=such=filter"], 2, "no=such=filter"),
        (&["serve", "--log", "warning"], 2, "--log: \"warning\" is no level; allowed is error, warn, info"),
        (&["serve", "--log", "info "], 2, "--log: \"info \" is no level"),
        (&["token", "new", "everything"], 2, "\"everything\" is none of host, connect"),
        (&["token", "sign", "--for", "ever"], 2, "--for: \"ever\" is no time"),
        (&["token", "sign", "--for", "1h"], 2, "token-secret is not set"),
        (&["serve", "--config", "/does/not/exist"], 2, "/does/not/exist: it can't be read"),
        (
            &["serve", "--max-channels", "-1"],
            2,
            "--max-channels: \"-1\" is no number; allowed is a whole number",
        ),
        (&["check-config", "--www", "/does/not/exist"], 1, "/does/not/exist"),
        (&["check-config", "--log", "no=such=filter"], 2, "no=such=filter"),
        (&["check-config", "--close-timeout", "2 weeks"], 2, "--close-timeout: \"2 weeks\" is no time"),
        (&["serve", "--livecode-credential", ""], 2, "--livecode-credential: the value is wrong"),
        (
            &["serve", "--livecode-credential", "x"],
            2,
            "--livecode-credential: the value is wrong; allowed is a text of 16",
        ),
        (&[], 2, "serve"),
    ] {
        let output = within("the end of the relay", command(arguments).output()).await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{log}");
        assert!(log.contains(word), "{log}");
    }
}

#[tokio::test]
async fn values_that_look_right_and_are_not_are_refused_with_what_is_allowed() {
    for (flag, value, word) in [
        ("--trusted-proxies", "127.0.0.1:80", "is neither a network nor an address"),
        ("--trusted-proxies", "localhost", "is neither a network nor an address"),
        ("--allowed-origins", "file://", "write null"),
        ("--allowed-origins", "file:///home/page.html", "write null"),
        ("--allowed-origins", "https://a.example,https://b.example", "several values are several flags"),
        ("--acme-domains", "https://relay.example.org", "is no name alone"),
        ("--acme-domains", "relay.example.org:443", "is no name alone"),
        ("--acme-domains", "*.example.org", "stands for many names"),
        ("--acme-domains", "192.0.2.1", "is an address"),
        ("--acme-domains", "relay.example.org.", "is no DNS name"),
        ("--acme-domains", "b\u{fc}cher.example", "xn--"),
        ("--acme-domains", "", "is no DNS name"),
        ("--acme-contacts", "mailto:operator@example.org", "is no mail address"),
        ("--acme-contacts", "operator", "is no mail address"),
        ("--acme-directory", "acme.example.org", "begins with https://"),
        ("--keep-alive-timeout", "0", "out of bounds"),
    ] {
        let output = within("the check", command(&["check-config", flag, value]).output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(word) && said.contains("allowed is"), "{flag} {value}: {said}");
        assert_eq!(output.status.code(), Some(2), "{said}");
    }
    let good = [
        "check-config",
        "--trusted-proxies",
        "127.0.0.1",
        "--trusted-proxies",
        "::1",
        "--acme-domains",
        "Relay.test",
    ];
    assert!(prints(&mut command(&good)).await.ends_with("the configuration is good\n"));
}

#[tokio::test]
async fn an_empty_variable_is_no_value_and_is_said_to_be_none() {
    for variable in [
        "LISTEN",
        "METRICS_LISTEN",
        "TLS_CERTIFICATE",
        "TLS_KEY",
        "ACME_CACHE",
        "ACME_DIRECTORY",
        "CLIENT_ADDRESS",
        "LOG",
        "LOG_FORMAT",
        "MAX_CONNECTIONS",
        "DRAIN_TIMEOUT",
        "TOKEN_SECRET",
        "CONFIG",
    ] {
        let variable = format!("TUNNEL_RELAY_{variable}");
        let mut check = command(&["check-config"]);
        let output = within("the check", check.env(&variable, "").output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        assert!(said.contains(&variable), "{variable}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_relay_that_could_let_nobody_in_does_not_start() {
    for request in ["serve --listen 127.0.0.1:0", "check-config"] {
        let script = format!("ulimit -n 128; exec {} {request}", env!("CARGO_BIN_EXE_tunnel-relay"));
        let output = within("its end", Command::new("sh").args(["-c", &script]).output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("descriptor-reserve keeps 128") && said.contains("LimitNOFILE"), "{said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn signals_for_users_end_nothing() {
    let process = Process::serve(None, &[]).await;
    let (mut peer, _) = Peer::link_to(process.address).await;
    for signal in ["-USR1", "-USR2"] {
        process.signal(signal);
        assert_eq!(peer.fence().await, []);
    }
    process.signal("-TERM");
    drop(peer);
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
}

/// Runs the command and returns what it prints when it succeeds.
async fn prints(command: &mut Command) -> String {
    let output = within("the end of the relay", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn what_it_prints_as_its_configuration_is_a_file_that_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, "max-channels = 7\nclose-timeout = 3\n").unwrap();
    let arguments = ["serve", "--print-config", "--close-timeout", "4s", "--config", file.to_str().unwrap()];
    let printed = prints(command(&arguments).env("TUNNEL_RELAY_NODE", "here")).await;
    for line in ["max-channels = 7", "close-timeout = \"4s\"", "node = \"here\""] {
        assert!(printed.lines().any(|one| one == line), "{line} is not in {printed}");
    }
    std::fs::write(&file, &printed).unwrap();
    let again = prints(command(&["serve", "--print-config"]).env("TUNNEL_RELAY_CONFIG", &file)).await;
    assert_eq!(again, printed);
    let checked = prints(&mut command(&["check-config", "--config", file.to_str().unwrap()])).await;
    assert_eq!(
        checked,
        "the relay may be used by everybody who reaches it, from pages of any origin\nthe configuration is good\n"
    );
}

#[tokio::test]
async fn a_bad_configuration_is_refused_with_file_line_and_setting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, "node = \"a\"\nmax-channels = \"many\"\nlissten = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for request in ["check-config", "serve"] {
        let output = within("the end", command(&[request, "--config", file]).output()).await.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let expected = [
            format!(
                "error: {file}:2: max-channels: \"many\" is no number; allowed is a whole number, from 1 to 1,000,000"
            ),
            format!("error: {file}:3: lissten: there is no such setting; is listen meant?"),
        ];
        assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
        assert_eq!(output.status.code(), Some(2));
    }
}

/// Returns what the relay says about itself in WELCOME.
#[cfg(unix)]
async fn node(address: std::net::SocketAddr) -> String {
    Peer::link_to(address).await.1.node
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_has_the_file_read_again_and_a_wrong_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let listen = "listen = \"127.0.0.1:0\"\n";
    std::fs::write(&file, format!("{listen}node = \"first\"")).unwrap();
    let process = Process::start(&["serve", "--config", file.to_str().unwrap()]).await;
    let (mut stays, welcome) = Peer::link_to(process.address).await;
    assert_eq!(welcome.node, "first");

    std::fs::write(&file, format!("{listen}node = \"second\"\nlog = \"warn\"")).unwrap();
    process.signal("-HUP");
    while node(process.address).await != "second" {}

    std::fs::write(&file, "node = \"third\"\nnonsense = 1").unwrap();
    process.signal("-HUP");
    std::fs::write(&file, format!("{listen}node = \"fourth\"")).unwrap();
    process.signal("-HUP");
    while node(process.address).await != "fourth" {}

    assert_eq!(stays.fence().await, [], "a link lives through it");
    process.signal("-TERM");
    drop(stays);
    let (code, log) = process.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("settings=\"log\""), "{log}");
}

/// A link that shows a token, and what the relay answers.
async fn shows(address: std::net::SocketAddr, token: &str) -> (Peer, Frame) {
    let mut peer = Peer::open(address, Some("tunnel.v1")).await.unwrap();
    peer.send(Frame::Hello { min_version: 1, max_version: 1, features: 0, token: token.to_owned() }).await;
    let answer = peer.frame().await;
    (peer, answer)
}

#[tokio::test]
async fn what_is_empty_where_a_list_was_meant_does_not_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    for (variable, value, lines, word) in [
        (
            "TUNNEL_RELAY_ACCESS_TOKENS",
            "",
            "node = 'a'",
            "access is by tokens and there is none, so nobody gets in",
        ),
        (
            "TUNNEL_RELAY_ACCESS",
            "tokens",
            "node = 'a'",
            "access is by tokens and there is none, so nobody gets in",
        ),
        ("TUNNEL_RELAY_ACCESS", "", "node = 'a'", "TUNNEL_RELAY_ACCESS: \"\" is not one of them"),
        ("TUNNEL_RELAY_TOKEN_SECRET", "", "node = 'a'", "TUNNEL_RELAY_TOKEN_SECRET: the value is wrong"),
        ("TUNNEL_RELAY_ALLOWED_ORIGINS", "", "node = 'a'", "no origin is allowed, so nobody gets in"),
        ("TUNNEL_RELAY_ACESS_TOKENS", "x", "node = 'a'", "no such setting; is access-tokens meant?"),
        ("TUNNEL_RELAY_NODE", "b", "access-tokens = []", "access is by tokens and there is none"),
        ("TUNNEL_RELAY_NODE", "b", "", "it is empty, as a file that was cut off is"),
    ] {
        std::fs::write(&file, lines).unwrap();
        for request in ["check-config", "serve"] {
            let arguments = [request, "--listen", "127.0.0.1:0", "--config", file.to_str().unwrap()];
            let output = within("the end", command(&arguments).env(variable, value).output()).await.unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{variable}={value} {lines}: {said}");
            assert!(said.contains(word), "{variable}={value} {lines}: {said}");
            assert!(!String::from_utf8(output.stdout).unwrap().contains("good"));
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_without_the_last_token_or_the_list_of_origins_does_not_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let drawn = prints(&mut command(&["token", "new"])).await;
    let (token, entry) = drawn.trim_end().split_once('\n').unwrap();
    let closed = format!("access-tokens = [\"{entry}\"]\nallowed-origins = [\"absent\"]\n");
    std::fs::write(&file, &closed).unwrap();
    let process = Process::serve(None, &["--config", file.to_str().unwrap()]).await;
    let would_open = "the configuration would open the relay, that of before stays";
    for (times, lines) in
        ["node = 'a'\n", "access = 'open'\nallowed-origins = ['absent']\n", "access = 'tokens'\n"]
            .iter()
            .enumerate()
    {
        std::fs::write(&file, lines).unwrap();
        process.signal("-HUP");
        process.logged(times + 1, would_open).await;
        let (_, answer) = shows(process.address, "").await;
        assert_eq!(code(&answer), CloseCode::BAD_CREDENTIAL, "{lines}");
        assert!(matches!(shows(process.address, token).await.1, Frame::Welcome(_)), "{lines}");
    }
    let told = process.log();
    assert!(told.contains("access is by tokens, and would be open to everybody"), "{told}");
    assert!(told.contains("allowed-origins is a list, and would be any origin"), "{told}");

    // The last token is taken back: it stays closed, and to that token, too.
    std::fs::write(&file, "access-tokens = []\nallowed-origins = ['absent']\n").unwrap();
    process.signal("-HUP");
    process.logged(1, "configuration read again").await;
    for shown in ["", token] {
        let (_, answer) = shows(process.address, shown).await;
        assert_eq!(code(&answer), CloseCode::BAD_CREDENTIAL);
    }
    assert!(process.log().contains("the configuration keeps everybody out"), "{}", process.log());
}

#[tokio::test]
async fn tokens_that_it_makes_open_it_as_far_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let drawn = prints(&mut command(&["token", "new", "host"])).await;
    let (random, entry) = drawn.trim_end().split_once('\n').unwrap();
    let secret = prints(&mut command(&["token", "secret"])).await;
    let lines = format!("access-tokens = [\"{entry}\"]\ntoken-secret = \"{}\"\n", secret.trim_end());
    std::fs::write(&file, lines).unwrap();
    let file = file.to_str().unwrap();
    let server = format!("server={}", crate::support::server_id(1));
    let sign = ["token", "sign", "--config", file, "--for", "1h", "connect", &server, "ports=1-2000"];
    let signed = prints(&mut command(&sign)).await;
    let expired = prints(&mut command(&["token", "sign", "--config", file, "--for", "0s"])).await;

    let process = Process::serve(None, &["--config", file]).await;
    for (token, text) in [("", "is needed"), ("sesame", "is wrong"), (expired.trim_end(), "has expired")] {
        let (mut peer, answer) = shows(process.address, token).await;
        assert!(
            matches!(&answer, Frame::Error { code: CloseCode::BAD_CREDENTIAL, text: why } if why.contains(text)),
            "{answer:?}"
        );
        assert_eq!(peer.closed().await, CloseCode::BAD_CREDENTIAL);
    }
    let (mut host, answer) = shows(process.address, random).await;
    let Frame::Welcome(welcome) = answer else { panic!("{answer:?}") };
    let proof = registration::prove(&crate::support::key(1), &welcome.challenge, &host.url).unwrap();
    host.send(Frame::Register { key: crate::support::key(1).public(), proof, url: String::new() }).await;
    assert_eq!(host.frame().await, Frame::Registered { server_id: crate::support::server_id(1) });

    let (mut client, answer) = shows(process.address, signed.trim_end()).await;
    assert!(matches!(answer, Frame::Welcome(_)), "{answer:?}");
    client.send(crate::support::connect(1, 2)).await;
    assert_eq!(code(&client.frame().await), CloseCode::BAD_CREDENTIAL, "another server");
    client.send(crate::support::connect(3, 1)).await;
    assert!(matches!(host.frame().await, Frame::Incoming { port: 1337, .. }));
    host.send(crate::support::connect(1, 1)).await;
    assert_eq!(code(&host.frame().await), CloseCode::BAD_CREDENTIAL, "its token is for hosting");

    process.signal("-TERM");
    drop((host, client));
    let (_, log) = process.end().await;
    for secret in [random, secret.trim_end(), signed.trim_end()] {
        assert!(!log.contains(secret), "{log}");
    }
}
