//! The relay is told to end while pages talk, and its successor takes over: nobody loses a byte.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use bytes::Bytes;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use support::page::Page;
use support::process::Process;
use support::{Peer, Received, code, connect, key, server_id, within};
use tokio::sync::watch;
use tunnel_protocol::endpoint::{ConnectOptions, Endpoint, Event, SocketId};
use tunnel_protocol::message::Message;
use tunnel_protocol::{CloseCode, Frame, Instant};

/// Messages each way, besides the answers that the server's page gives.
const MESSAGES: u32 = 1_600;

/// How often the relay is replaced meanwhile.
const RESTARTS: u32 = 3;

/// The bytes of message number `number`: all of them differ, and so do their lengths, from 4 to about 20,000 bytes.
fn message(number: u32) -> Bytes {
    let len = (number.wrapping_mul(2_654_435_761) >> 18) as usize % 20_000;
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|at| (at as u32 ^ number) as u8));
    bytes.into()
}

/// One page's end of the conversation: it sends all messages, and counts those that come.
#[derive(Debug, Default)]
struct Talk {
    socket: Option<SocketId>,
    sent: u32,
    received: u32,
    interrupted: u32,
    resumed: u32,
}

impl Talk {
    /// Sends while there is room, and returns whether all is over.
    fn step(&mut self, endpoint: &mut Endpoint, allowed: u32) -> bool {
        let Some(socket) = self.socket else { return false };
        while self.sent < allowed && endpoint.buffered_amount(socket) < 512 << 10 {
            if endpoint.send(socket, Message::Binary(message(self.sent))).is_err() {
                break;
            }
            self.sent += 1;
        }
        self.sent == MESSAGES && self.received == MESSAGES
    }

    fn handle(&mut self, endpoint: &mut Endpoint, event: Event, now: Instant) {
        match event {
            Event::Incoming { socket, .. } => endpoint.accept(socket, "", now),
            Event::Opened { socket, .. } => {
                assert_eq!(self.socket.replace(socket), None, "one socket for the whole conversation");
            }
            Event::Message { socket, message: Message::Binary(bytes) } => {
                assert!(bytes == message(self.received), "message {} is another one", self.received);
                self.received += 1;
                endpoint.consume(socket, Message::Binary(bytes).cost(), now);
            }
            Event::Interrupted { .. } => self.interrupted += 1,
            Event::Resumed { .. } => self.resumed += 1,
            Event::HostInterrupted | Event::Hosting { .. } => {}
            event => panic!("{event:?} after {self:?}"),
        }
    }
}

/// Runs a page until both pages have everything. It sends as far as `allowed`, and says how much it has received.
async fn talk(
    mut page: Page,
    mut allowed: watch::Receiver<u32>,
    progress: watch::Sender<u32>,
    mut done: watch::Receiver<bool>,
) -> Talk {
    let mut talk = Talk::default();
    loop {
        let limit = *allowed.borrow_and_update();
        let step = page.run(|endpoint, event, now| {
            if let Some(event) = event {
                talk.handle(endpoint, event, now);
            }
            talk.step(endpoint, limit);
            progress.send_if_modified(|known| std::mem::replace(known, talk.received) != talk.received);
            ControlFlow::<()>::Continue(())
        });
        tokio::select! {
            () = step => {}
            _ = allowed.changed() => {}
            _ = done.wait_for(|done| *done) => return talk,
        }
    }
}

/// A server's page and a client's, both sending, while the relay is replaced again and again by `replace`.
async fn restart_under_load(arguments: &[&str], replace: impl AsyncFn(Process) -> Process) {
    let mut relay = Process::serve(None, arguments).await;
    let address = relay.address;
    let mut server = Page::new(address, 1);
    let now = server.now();
    server.endpoint.host(key(1), now);
    let mut client = Page::new(address, 2);
    let now = client.now();
    client.endpoint.connect(server_id(1), 1, ConnectOptions::default(), now);
    let (allow, allowed) = watch::channel(0);
    let (finish, done) = watch::channel(false);
    let (to_server, mut at_server) = watch::channel(0);
    let (to_client, mut at_client) = watch::channel(0);
    let server = tokio::spawn(talk(server, allowed.clone(), to_server, done.clone()));
    let client = tokio::spawn(talk(client, allowed, to_client, done));
    let share = MESSAGES / (RESTARTS + 1);
    for restart in 0..RESTARTS {
        // Some are on their way when the relay is told to end, and most are still to come.
        allow.send_replace(share * (restart + 1));
        let some = share * restart + share / 2;
        within("half of what may be sent", at_server.wait_for(|received| *received >= some)).await.unwrap();
        within("half of what may be sent", at_client.wait_for(|received| *received >= some)).await.unwrap();
        relay = replace(relay).await;
        assert_eq!(relay.address, address);
    }
    allow.send_replace(MESSAGES);
    within("the rest", at_server.wait_for(|received| *received == MESSAGES)).await.unwrap();
    within("the rest", at_client.wait_for(|received| *received == MESSAGES)).await.unwrap();
    finish.send_replace(true);
    for talk in [server.await.unwrap(), client.await.unwrap()] {
        assert_eq!((talk.sent, talk.received), (MESSAGES, MESSAGES));
        assert_eq!(talk.interrupted, talk.resumed, "{talk:?}");
        assert!(talk.resumed >= RESTARTS, "{talk:?}");
    }
}

#[tokio::test]
async fn a_relay_that_is_restarted_under_load_loses_no_message() {
    // The pages leave by themselves when they hear that it ends: it does not wait for an hour.
    let arguments = ["--drain-timeout", "3600s"];
    restart_under_load(&arguments, async |old: Process| {
        let address = old.address;
        old.signal("-TERM");
        assert_eq!(old.end().await.0, Some(0));
        Process::serve(Some(address), &arguments).await
    })
    .await;
}

#[tokio::test]
async fn a_successor_takes_over_while_the_old_relay_still_drains() {
    let arguments = ["--drain-timeout", "3600s"];
    restart_under_load(&arguments, async |old: Process| {
        let address = old.address;
        let (mut keeps_it, _) = Peer::link_to(address).await;
        old.signal("-TERM");
        assert!(matches!(keeps_it.frame().await, Frame::GoAway { .. }));
        // Nobody listens on the port any more, so it is free.
        let new = Process::serve(Some(address), &arguments).await;
        drop(keeps_it);
        assert_eq!(old.end().await.0, Some(0));
        new
    })
    .await;
}

#[tokio::test]
async fn a_successor_takes_the_address_for_metrics_over_when_its_predecessor_has_ended() {
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = |node| {
        ["--drain-timeout=3600s".to_owned(), format!("--metrics-listen={metrics}"), format!("--node={node}")]
    };
    let start = async |address, node| {
        let arguments = arguments(node);
        Process::serve(address, &arguments.each_ref().map(String::as_str)).await
    };
    let old = start(None, "old").await;
    let address = old.address;
    let (mut stays, _) = Peer::link_to(address).await;
    old.signal("-TERM");
    assert!(matches!(stays.frame().await, Frame::GoAway { .. }));
    let new = start(Some(address), "new").await;
    assert_eq!(Peer::link_to(address).await.1.node, "new");
    // The old one goes on telling that it drains.
    assert_eq!(support::get(metrics, "/readyz").await.text(), "not ready: this relay is about to end\n");
    drop(stays);
    assert_eq!(old.end().await.0, Some(0));
    let ready = async {
        while tokio::net::TcpStream::connect(metrics).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(support::get(metrics, "/readyz").await.text(), "ready\n");
    };
    within("the metrics of the new one", ready).await;
    assert!(new.log().contains("the address for metrics is in use"), "{}", new.log());
}

#[tokio::test]
async fn a_relay_that_crashes_under_load_loses_no_message() {
    restart_under_load(&[], async |mut old: Process| {
        let address = old.address;
        old.child.kill().await.unwrap();
        Process::serve(Some(address), &[]).await
    })
    .await;
}

#[tokio::test]
async fn a_draining_relay_refuses_newcomers_and_new_work_and_ends_links_at_the_deadline() {
    let relay = Process::serve(None, &["--drain-timeout", "2s"]).await;
    let address = relay.address;
    let mut early = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut peer, welcome) = Peer::link_to(address).await;
    let (mut silent, _) = Peer::link_to(address).await;
    relay.signal("-TERM");
    let Frame::GoAway { deadline } = peer.frame().await else { panic!("no GOAWAY") };
    assert!(deadline <= std::time::Duration::from_secs(2), "{deadline:?}");
    assert!(matches!(silent.frame().await, Frame::GoAway { .. }));
    // Newcomers, by a new connection and by one that was there before.
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    assert!(refused_upgrade(&mut early, address).await);
    // New work of those who are there.
    peer.send(connect(1, 7)).await;
    assert_eq!(code(&peer.frame().await), CloseCode::DRAINING);
    let proof = tunnel_protocol::registration::prove(&key(1), &welcome.challenge, &peer.url).unwrap();
    peer.send(Frame::Register { key: key(1).public(), proof, url: String::new() }).await;
    assert_eq!(code(&peer.frame().await), CloseCode::DRAINING);
    // The one that stays is ended at the deadline, and told why.
    assert_eq!(code(&silent.frame().await), CloseCode::DRAINING);
    assert!(matches!(silent.received().await, Received::Closed(CloseCode::DRAINING, _)));
    let (code, log) = relay.end().await;
    assert_eq!(code, Some(0), "{log}");
}

/// Whether a connection that was there before the drain gets no WebSocket any more.
async fn refused_upgrade(stream: &mut tokio::net::TcpStream, address: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let head = format!(
        "GET / HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: tunnel.v1\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).await.is_err() {
        return true;
    }
    let mut answer = String::new();
    // Closed without a word, or with 503.
    match within("an answer", stream.read_to_string(&mut answer)).await {
        Ok(0) | Err(_) => true,
        Ok(_) => answer.starts_with("HTTP/1.1 503"),
    }
}
