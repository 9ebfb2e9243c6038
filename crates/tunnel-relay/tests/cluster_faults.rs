//! Three relays and two NATS servers are killed, frozen and restarted while pages talk through two relays: nobody loses a message, or gets
//! one twice or out of order.
//!
//! Those that take minutes are for `cargo xtask cluster --prove`, which also says how long sessions were interrupted.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

#[path = "cluster_faults/long.rs"]
mod long;
#[cfg(target_os = "linux")]
#[path = "cluster_faults/partitions.rs"]
mod partitions;
#[path = "cluster_faults/stalls.rs"]
mod stalls;
mod support;

use std::ops::ControlFlow;
use support::cluster::Cluster;
use support::page::Page;
use support::talk::{Conversation, Talk};
use support::{key, within};
use tunnel_protocol::CloseCode;
use tunnel_protocol::endpoint::Event;

/// Messages each way of one pair.
const MESSAGES: u32 = 600;

/// Pages notice soon that their relay is silent.
const QUICK: &[&str] = &["--idle-timeout=4s", "--ping-interval=1s", "--websocket-ping-interval=2s"];

/// Pairs that talk through two relays: the servers' pages are at the first one, the clients' at the second.
async fn pairs(cluster: &Cluster, count: u8) -> Vec<Conversation> {
    let mut pairs: Vec<_> = (1..=count).map(|secret| cluster.talk(secret)).collect();
    for pair in &mut pairs {
        pair.allow(MESSAGES / 6);
    }
    for pair in &mut pairs {
        pair.reach(MESSAGES / 6).await;
    }
    cluster.spliced(u32::from(count)).await;
    // Some are on their way from now on.
    for pair in &mut pairs {
        pair.allow(MESSAGES / 2);
        pair.reach(MESSAGES / 4).await;
    }
    pairs
}

/// Lets all messages through; what each page saw, the server's of each pair before its client's.
async fn end(pairs: Vec<Conversation>) -> Vec<Talk> {
    let mut talks = Vec::new();
    for pair in pairs {
        talks.extend(pair.end(MESSAGES).await);
    }
    talks
}

#[tokio::test]
async fn an_owner_that_is_killed_costs_a_reconnect_and_no_message() {
    let mut cluster = Cluster::start(&[]).await;
    let pairs = pairs(&cluster, 3).await;
    cluster.relays[0].kill().await;
    for talk in end(pairs).await {
        assert!(!talk.resumed.is_empty(), "{talk:?}");
    }
}

#[tokio::test]
async fn an_entry_that_is_killed_costs_a_reconnect_and_no_message() {
    let mut cluster = Cluster::start(&[]).await;
    let pairs = pairs(&cluster, 3).await;
    cluster.relays[1].kill().await;
    for talk in end(pairs).await {
        assert!(!talk.resumed.is_empty(), "{talk:?}");
    }
}

#[tokio::test]
async fn nobody_notices_that_a_nats_server_is_killed_and_servers_are_found_without_it() {
    let mut cluster = Cluster::start(&[]).await;
    let pairs = pairs(&cluster, 3).await;
    for number in [0, 1] {
        cluster.nats[number].kill().await;
        let secret = 100 + number as u8;
        let mut newcomers = cluster.talk(secret);
        newcomers.allow(10);
        newcomers.reach(10).await;
        newcomers.end(10).await;
        cluster.nats[number].start_again().await;
        cluster.bus_is(true).await;
    }
    for talk in end(pairs).await {
        assert!(talk.resumed.is_empty(), "{talk:?}");
    }
}

#[tokio::test]
async fn without_any_nats_server_pairs_go_on_and_others_wait_until_one_is_back() {
    let mut cluster = Cluster::start(&[]).await;
    let mut pairs = pairs(&cluster, 2).await;
    for server in &mut cluster.nats {
        server.kill().await;
    }
    cluster.bus_is(false).await;
    for pair in &mut pairs {
        pair.reach(MESSAGES / 2).await;
    }
    // At one relay everything is as always; between relays nobody is told that a server is not there.
    let same = Conversation::start(cluster.page(&[0], 50), cluster.page(&[0], 51), 50);
    same.end(10).await;
    let mut apart = Conversation::start(cluster.page(&[0], 60), cluster.page(&[2], 61), 60);
    apart.allow(10);
    // A session is cut, and can't be found again yet: its entry dies.
    cluster.relays[1].kill().await;
    cluster.nats[1].start_again().await;
    cluster.relays[1].start_again().await;
    apart.reach(10).await;
    apart.end(10).await;
    for [server, client] in end(pairs).await.as_chunks().0 {
        assert!(!client.resumed.is_empty(), "{server:?} {client:?}");
    }
}

#[tokio::test]
async fn everything_is_restarted_in_turn_and_no_message_is_lost() {
    let mut cluster = Cluster::start(&["--drain-timeout=30s"]).await;
    let mut pairs = pairs(&cluster, 3).await;
    for number in 0..3 {
        cluster.relays[number].restart().await;
        cluster.settled().await;
    }
    for number in 0..2 {
        cluster.nats[number].restart().await;
        cluster.bus_is(true).await;
    }
    for pair in &mut pairs {
        pair.reach(MESSAGES / 2).await;
    }
    for talk in end(pairs).await {
        assert!(!talk.resumed.is_empty(), "{talk:?}");
    }
}

#[tokio::test]
async fn of_two_processes_with_one_identity_at_two_relays_the_newer_one_has_it() {
    let cluster = Cluster::start(&[]).await;
    let older = host(cluster.page(&[0], 1));
    let older = within("the older registration", older).await;
    let newer = within("the newer registration", host(cluster.page(&[2], 2))).await;
    let closed = within("the end of the older one", closed(older)).await;
    assert_eq!(closed, CloseCode::ID_TAKEN_OVER);
    // A third relay's client reaches the newer one.
    let talk = Conversation::with_host(newer, cluster.page(&[1], 3), 1);
    talk.end(10).await;
}

/// Hosts the key of 1 at a page, and waits until it is registered.
async fn host(mut page: Page) -> Page {
    let now = page.now();
    page.endpoint.host(key(1), now);
    page.run(|_, event, _| match event {
        Some(Event::Hosting { .. }) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .await;
    page
}

/// The code with which a page's server is closed.
async fn closed(mut page: Page) -> CloseCode {
    page.run(|_, event, _| match event {
        Some(Event::HostClosed { code, .. }) => ControlFlow::Break(code),
        _ => ControlFlow::Continue(()),
    })
    .await
}

#[tokio::test]
async fn an_owner_that_freezes_is_left_and_is_harmless_when_it_wakes() {
    let cluster = Cluster::start(QUICK).await;
    let pairs = pairs(&cluster, 2).await;
    cluster.relays[0].process.signal("-STOP");
    // They are in when the page has found another relay: the frozen one's registration is older.
    let mut talks = Vec::new();
    for mut pair in pairs {
        pair.allow(MESSAGES - 10);
        pair.reach(MESSAGES - 10).await;
        talks.push(pair);
    }
    cluster.relays[0].process.signal("-CONT");
    cluster.settled().await;
    cluster.relays[0].has("tunnel_relay_registrations", |held| held == 0.0).await;
    for talk in end(talks).await {
        assert!(!talk.resumed.is_empty(), "{talk:?}");
    }
}
