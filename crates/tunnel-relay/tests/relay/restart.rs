//! The relay is told to end while pages talk, and its successor takes over: nobody loses a byte.

#![cfg(unix)]
use crate::support::page::Page;
use crate::support::process::Process;
use crate::support::talk::Conversation;
use crate::support::{Peer, Received, code, connect, key, within};
use std::net::SocketAddr;
use tunnel_protocol::{CloseCode, Frame};

/// Messages each way, besides the answers that the server's page gives.
const MESSAGES: u32 = 1_600;

/// The number of times that the relay is replaced meanwhile.
const RESTARTS: u32 = 3;

/// A server's page and a client's, both sending, while the relay is replaced again and again by `replace`.
async fn restart_under_load(arguments: &[&str], replace: impl AsyncFn(Process) -> Process) {
    let mut relay = Process::serve(None, arguments).await;
    let address = relay.address;
    let mut pages = Conversation::start(Page::new(address, 1), Page::new(address, 2), 1);
    let share = MESSAGES / (RESTARTS + 1);
    for restart in 0..RESTARTS {
        // Some are on their way when the relay is told to end, and most are still to come.
        pages.allow(share * (restart + 1));
        pages.reach(share * restart + share / 2).await;
        relay = replace(relay).await;
        assert_eq!(relay.address, address);
    }
    for talk in pages.end(MESSAGES).await {
        assert!(talk.resumed.len() >= RESTARTS as usize, "{talk:?}");
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
    assert_eq!(
        crate::support::get(metrics, "/readyz").await.text(),
        "not ready: this relay is about to end\n"
    );
    drop(stays);
    assert_eq!(old.end().await.0, Some(0));
    assert_eq!(new.metrics().await, metrics);
    assert_eq!(crate::support::get(metrics, "/readyz").await.text(), "ready\n");
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

/// Returns whether a connection that was there before the drain gets no WebSocket any more.
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
