//! A log that nobody takes: the relay goes on, and counts what is lost.

#![cfg(target_os = "linux")]
use crate::support::process::command;
use crate::support::{Peer, get, within};
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// More lines than may wait, and than a pipe holds.
const LINES: usize = 6_000;

struct Relay {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
}

impl Relay {
    /// With this as its stderr, which has no room for the line that says where metrics are.
    async fn start(stderr: impl Into<Stdio>) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let arguments = ["serve", "--listen=127.0.0.1:0", &format!("--metrics-listen={free}"), "--log=debug"];
        let mut child = command(&arguments).stderr(stderr).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        within("the line that says where it listens", stdout.read_line(&mut line)).await.unwrap();
        let address = line.trim_end().strip_prefix("listening on ws://").unwrap().parse().unwrap();
        Self { child, address, metrics: free }
    }

    /// Has it log a line for each of many requests.
    async fn fill_log(&self) {
        let one = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let last = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let (mut read, mut write) = TcpStream::connect(self.address).await.unwrap().into_split();
        let requests = one.repeat(LINES) + last;
        let writing = tokio::spawn(async move { write.write_all(requests.as_bytes()).await.map(|()| write) });
        let mut answers = String::new();
        within("all answers", read.read_to_string(&mut answers)).await.unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(answers.matches("HTTP/1.1 426 ").count(), LINES);
    }

    async fn lost(&self) -> usize {
        let page = get(self.metrics, "/metrics").await;
        let name = "\ntunnel_relay_log_lines_lost_total ";
        let (_, value) = page.text().split_once(name).unwrap();
        value.lines().next().unwrap().parse().unwrap()
    }

    async fn assert_goes_on_and_ends(mut self) {
        self.fill_log().await;
        assert!(self.lost().await > 0);
        drop(Peer::link_to(self.address).await);
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let status = within("the end of the relay", self.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

#[tokio::test]
async fn a_relay_whose_log_has_lost_its_reader_goes_on() {
    let mut relay = Relay::start(Stdio::piped()).await;
    drop(relay.child.stderr.take());
    relay.assert_goes_on_and_ends().await;
}

#[tokio::test]
async fn a_relay_whose_log_is_on_a_full_disk_goes_on() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    Relay::start(full).await.assert_goes_on_and_ends().await;
}

#[tokio::test]
async fn a_relay_whose_log_is_not_read_goes_on() {
    let mut relay = Relay::start(Stdio::piped()).await;
    let _never_read = relay.child.stderr.take();
    relay.assert_goes_on_and_ends().await;
}

#[tokio::test]
async fn a_fatal_error_is_printed_whatever_is_logged() {
    for filter in ["off", "tunnel_relay::connection=info", "error"] {
        let arguments = ["serve", "--listen", "192.0.2.1:1", "--log", filter];
        let output = within("its end", command(&arguments).output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the relay can't run") && said.contains("192.0.2.1:1"), "{filter}: {said}");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{filter}: {said}");
    }
}

#[tokio::test]
async fn what_is_printed_to_a_full_disk_is_a_failure_and_to_whoever_has_read_enough_is_none() {
    for arguments in [&["serve", "--print-config"][..], &["check-config"], &["token", "secret"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let child = command(arguments).stdout(full).spawn().unwrap();
        let output = within("its end", child.wait_with_output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(said.contains("not all could be written to stdout: No space left"), "{said}");
        let mut child = command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = within("its end", child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    }
}
