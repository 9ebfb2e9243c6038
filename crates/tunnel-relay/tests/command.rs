//! The command `tunnel-relay` as a process.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use std::net::SocketAddr;
use std::process::Stdio;
use support::{Peer, code, get, within};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tunnel_protocol::{CloseCode, Frame};

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).kill_on_drop(true).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within("the line that says where it listens", stdout.read_line(&mut line)).await.unwrap();
        let address = line.trim_end().strip_prefix("listening on ws://").expect(&line).parse().unwrap();
        Self { child, address }
    }

    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Its exit code and what it logged.
    async fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        within("the end of the log", stderr.read_to_string(&mut log)).await.unwrap();
        (within("the end of the relay", self.child.wait()).await.unwrap().code(), log)
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel-relay"));
    command.args(arguments).env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

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
        ["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--livecode-credential", "hunter2"];
    for format in ["human", "json"] {
        let process = Process::start(&[&arguments[..], &["--log-format", format]].concat()).await;
        let (mut peer, _) = Peer::link_to(process.address).await;
        peer.send_text("payload\n1970-01-01 FORGED\u{1b}[31m").await;
        assert_eq!(code(&peer.frame().await), CloseCode::PROTOCOL_ERROR);
        let head = "GET /FORGED%0aFORGED HTTP/1.1\r\nhost: x\r\norigin: \u{1b}[31mFORGED\r\nconnection: close\r\n\r\n";
        support::request(process.address, head).await;
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
        (&["serve", "--listen", "127.0.0.1:0", "--www", "/does/not/exist"], 1, "/does/not/exist"),
        (&["serve", "--listen", &address], 1, &address),
        (&["serve", "--log", "no=such=filter"], 2, "no=such=filter"),
        (&["serve", "--livecode-credential", ""], 2, "secret"),
        (&[], 2, "serve"),
    ] {
        let output = within("the end of the relay", command(arguments).output()).await.unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{log}");
        assert!(log.contains(word), "{log}");
    }
}
