//! The command `tunnel`, as people and scripts use it.

use crate::support::{Running, TestRelay, User, target, text, within};
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tunnel_relay::Config;

/// Sends back what it has read, sorted by lines, once all is there: it needs a half-close.
async fn sort(mut stream: TcpStream) {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    stream.write_all(lines.join("\n").as_bytes()).await.unwrap();
}

async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let _cut = tokio::io::copy(&mut reader, &mut writer).await;
}

async fn give(user: &User, arguments: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = user.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).await.unwrap();
    drop(stdin);
    within(&arguments.join(" "), child.wait_with_output()).await.unwrap()
}

#[tokio::test]
async fn input_ends_before_output_begins_so_that_the_far_end_can_sort() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let to = target(sort).await.to_string();
    let listening = user.start(&["listen", "7", "--to", &to, "--allow-anyone"]).await;
    let output = give(&user, &["connect", &listening.first_line], b"c\na\nb").await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "a\nb\nc");
}

#[tokio::test]
async fn a_local_port_leads_to_the_port_of_a_peer() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let to = target(sort).await.to_string();
    let listening = user.start(&["listen", "7", "--to", &to, "--allow-anyone"]).await;
    let near = user.start(&["connect", &listening.first_line, "--listen", "127.0.0.1:0"]).await;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&near.first_line).await.unwrap();
        stream.write_all(b"2\n1").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut sorted = String::new();
        within("the answer", stream.read_to_string(&mut sorted)).await.unwrap();
        assert_eq!(sorted, "1\n2");
    }
}

#[tokio::test]
async fn nobody_is_let_in_unless_somebody_is_named() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let output = user.run(&["listen", "7", "--to", "127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--allow"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn only_those_who_are_allowed_get_in() {
    let relay = TestRelay::start().await;
    let (host, friend) = (User::of(&relay), User::of(&relay));
    let to = target(sort).await.to_string();
    let id = friend.id("me").await;
    let listening = host.start(&["listen", "7", "--to", &to, "--identity", "host", "--allow", &id]).await;
    assert!(listening.first_line.starts_with(&host.id("host").await), "{}", listening.first_line);
    let output = give(&friend, &["connect", &listening.first_line, "--identity", "me"], b"2\n1").await;
    assert_eq!(text(&output.stdout), "1\n2", "{}", text(&output.stderr));
    for stranger in
        [&["connect", &listening.first_line][..], &["connect", &listening.first_line, "--identity", "other"]]
    {
        let output = give(&friend, stranger, b"2\n1").await;
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains("not among those that may connect"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn an_identity_that_another_process_has_is_refused_by_name() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let arguments = ["listen", "7", "--to", "127.0.0.1:1", "--identity", "one", "--allow-anyone"];
    let _first = user.start(&arguments).await;
    let output = user.run(&arguments).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("another process uses this identity"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_mistyped_id_or_setting_is_refused_before_anything_is_dialled() {
    let relay = TestRelay::start().await;
    let mut user = User::of(&relay);
    for (target, word) in [("nobody/22", "no ID"), ("22", "ID/PORT"), ("1/22", "number")] {
        let output = user.run(&["connect", target]).await;
        assert_eq!(output.status.code(), Some(2), "{target}");
        assert!(text(&output.stderr).contains(word), "{}", text(&output.stderr));
    }
    let id = user.id("x").await;
    user.relay = "ftp://127.0.0.1".to_owned();
    let output = user.run(&["connect", &format!("{id}/22")]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("TUNNEL_RELAY"), "{}", text(&output.stderr));
    user.relay = String::new();
    let output = user.run(&["connect", &format!("{id}/22")]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("TUNNEL_RELAY is empty"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_token_in_a_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let path = user.path().join("config.toml");
    std::fs::write(&path, format!("relay = {:?}\ntoken = \"secret\"\n", relay.url())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let id = user.id("x").await;
    let mut command = user.command(&["connect", &format!("{id}/22"), "--timeout", "0.2"]);
    command.env_remove("TUNNEL_RELAY").env("TUNNEL_CONFIG", &path);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("chmod 600"), "{}", text(&output.stderr));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = within("the attempt", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_relay_that_is_away_is_waited_for_and_named() {
    let mut relay = TestRelay::start().await;
    let user = User::of(&relay);
    relay.kill().await;
    let output =
        user.run(&["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone", "--timeout", "0.5"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no relay answered within 0.5 s"), "{}", text(&output.stderr));
    let command = user.command(&["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone", "--timeout", "90"]);
    let (listening, ()) = tokio::join!(Running::start(command), async { relay.restart().await });
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
}

#[tokio::test]
async fn a_target_that_refuses_is_told_to_the_peer() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = closed.local_addr().unwrap().to_string();
    drop(closed);
    let listening = user.start(&["listen", "7", "--to", &to, "--allow-anyone"]).await;
    let output = user.run(&["connect", &listening.first_line]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("the target does not take connections"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn a_transfer_that_is_cut_never_looks_complete() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let to = target(async |mut stream: TcpStream| {
        stream.write_all(b"the first half").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        // The rest of the input is unread, so that the system resets the connection.
        stream.set_zero_linger().unwrap();
    })
    .await
    .to_string();
    let listening = user.start(&["listen", "7", "--to", &to, "--allow-anyone"]).await;
    let output = give(&user, &["connect", &listening.first_line], b"xyz").await;
    assert_eq!(text(&output.stdout), "the first half");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cut"), "{}", text(&output.stderr));

    let near = user.start(&["connect", &listening.first_line, "--listen", "127.0.0.1:0"]).await;
    let mut stream = TcpStream::connect(&near.first_line).await.unwrap();
    stream.write_all(b"xyz").await.unwrap();
    let mut all = Vec::new();
    let end = within("the end", stream.read_to_end(&mut all)).await;
    assert!(end.is_err(), "a local program sees a reset, and not an end: {:?}", text(&all));
}

#[tokio::test]
async fn signals_end_the_command_with_the_codes_that_shells_know_and_peers_are_told() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let to = target(echo).await.to_string();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut listening = user.start(&["listen", "7", "--to", &to, "--allow-anyone"]).await;
        let near = user.start(&["connect", &listening.first_line, "--listen", "127.0.0.1:0"]).await;
        let mut stream = TcpStream::connect(&near.first_line).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut byte = [0];
        within("the echo", stream.read_exact(&mut byte)).await.unwrap();
        listening.signal(signal);
        assert_eq!(listening.code().await, Some(code));
        let end = within("the end", stream.read_exact(&mut byte)).await;
        assert!(end.is_err(), "the peer is told");
    }
}

#[tokio::test]
async fn a_file_arrives_whole_and_the_sender_ends() {
    let relay = TestRelay::start().await;
    let (sender, receiver) = (User::of(&relay), User::of(&relay));
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 7) as u8).collect();
    std::fs::write(sender.path().join("a picture.png"), &content).unwrap();
    let mut sending = sender.start(&["send", "a picture.png"]).await;
    let output = receiver.run(&["receive", &sending.first_line]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "a picture.png");
    assert_eq!(std::fs::read(receiver.path().join("a picture.png")).unwrap(), content);
    assert_eq!(sending.code().await, Some(0));
}

#[tokio::test]
async fn a_file_goes_on_where_an_earlier_attempt_ended() {
    let relay = TestRelay::start().await;
    let (sender, receiver) = (User::of(&relay), User::of(&relay));
    let content: Vec<u8> = (0..500_000_u32).map(|number| (number / 3) as u8).collect();
    std::fs::write(sender.path().join("f"), &content).unwrap();
    let sending = sender.start(&["send", "f", "--keep"]).await;
    std::fs::write(receiver.path().join("f.part"), &content[..200_000]).unwrap();
    let output = receiver.run(&["receive", &sending.first_line]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("going on behind 200000 bytes"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(receiver.path().join("f")).unwrap(), content);
    assert!(!receiver.path().join("f.part").exists());

    let output = receiver.run(&["receive", &sending.first_line]).await;
    assert_eq!(output.status.code(), Some(3), "a file that is there is not replaced");
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));

    // A part that is of another file.
    std::fs::write(receiver.path().join("f.part"), vec![9; 200_000]).unwrap();
    let output = receiver.run(&["receive", &sending.first_line, "--force"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("hash"), "{}", text(&output.stderr));
    assert!(!receiver.path().join("f.part").exists(), "the wrong part is gone");
    let output = receiver.run(&["receive", &sending.first_line, "--force"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn who_has_the_id_alone_does_not_get_the_file() {
    let relay = TestRelay::start().await;
    let (sender, receiver) = (User::of(&relay), User::of(&relay));
    std::fs::write(sender.path().join("f"), b"content").unwrap();
    let sending = sender.start(&["send", "f"]).await;
    let (target, secret) = sending.first_line.rsplit_once('/').unwrap();
    let wrong = format!("{target}/{}", "0".repeat(secret.len()));
    let output = receiver.run(&["receive", &wrong]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("secret is wrong"), "{}", text(&output.stderr));
    assert!(!receiver.path().join("f").exists());
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_part_is_kept() {
    let relay = TestRelay::start().await;
    let (sender, receiver) = (User::of(&relay), User::of(&relay));
    std::fs::write(sender.path().join("f"), vec![7; 1 << 20]).unwrap();
    let sending = sender.start(&["send", "f"]).await;
    // A limit of the size of files stands for a full disk: both are errors of a write.
    let shell = format!(
        "trap '' XFSZ; ulimit -f 256; exec {} receive {}",
        env!("CARGO_BIN_EXE_tunnel"),
        sending.first_line
    );
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", &shell]).env("TUNNEL_RELAY", &receiver.relay).current_dir(receiver.path());
    let output = within("the attempt", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("is kept"), "{}", text(&output.stderr));
    assert!(receiver.path().join("f.part").exists());
    let output = receiver.run(&["receive", &sending.first_line]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(receiver.path().join("f")).unwrap(), vec![7; 1 << 20]);
}

#[tokio::test]
async fn pings_measure_the_way_and_do_not_reach_the_target() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let listening = user.start(&["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone"]).await;
    let output = user.run(&["--json", "ping", &listening.first_line, "-c", "3", "-i", "0"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["round_trips_ms"].as_array().unwrap().len(), 3, "{done}");
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_named_after_the_time_given() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let id = user.id("nobody").await;
    let output = user.run(&["connect", &format!("{id}/7"), "--timeout", "0.3"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_proxy_that_the_environment_names_is_used() {
    let relay = TestRelay::start().await;
    let user = User::of(&relay);
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let proxy = target(move |mut stream: TcpStream| {
        let asked = asked.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = text(&head);
            let to = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut relay = TcpStream::connect(&to).await.unwrap();
            asked.send(to).unwrap();
            let _cut = tokio::io::copy_bidirectional(&mut stream, &mut relay).await;
        }
    })
    .await;
    let to = target(sort).await.to_string();
    let mut command = user.command(&["listen", "7", "--to", &to, "--allow-anyone"]);
    command.env("HTTP_PROXY", format!("http://{proxy}"));
    let listening = Running::start(command).await;
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
    assert_eq!(is_asked.recv().await, Some(relay.address.to_string()));
}

#[tokio::test]
async fn a_relay_with_tls_is_believed_by_its_authority_only() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let config =
        Config { tls_certificate: Some(certificate.clone()), tls_key: Some(key), ..Config::ephemeral() };
    let relay = TestRelay::start_with(config).await;
    let user = User::of(&relay);
    let arguments = ["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone", "--timeout", "20"];
    let mut command = user.command(&arguments);
    command.env("SSL_CERT_FILE", &certificate);
    let listening = Running::start(command).await;
    assert!(listening.first_line.ends_with("/7"), "{}", listening.first_line);
    let output = user.run(&["listen", "7", "--to", "127.0.0.1:1", "--allow-anyone", "--timeout", "2"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("certificate"), "{}", text(&output.stderr));
}
