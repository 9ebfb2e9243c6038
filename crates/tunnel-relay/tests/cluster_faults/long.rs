//! Faults that last as long as in practice, with the relay's defaults, and how long they interrupt sessions.

use super::support::cluster::Cluster;
use super::support::talk::{Conversation, Talk};
use super::{closed, host};
use std::time::Duration;
use tunnel_protocol::CloseCode;

/// Pairs that talk at the same time, and messages each way of each.
const PAIRS: u8 = 40;
const MESSAGES: u32 = 400;

/// Kills of owner or entry in a row.
const ROUNDS: u32 = 10;

/// Pairs through two relays, which have exchanged some messages, and of which more are on their way.
pub(super) async fn pairs(cluster: &Cluster, count: u8) -> Vec<Conversation> {
    let mut pairs: Vec<_> = (1..=count).map(|secret| cluster.talk(secret)).collect();
    advance(&mut pairs, MESSAGES / 8).await;
    pairs.iter().for_each(|pair| pair.allow(MESSAGES / 2));
    pairs
}

/// Has all pairs exchange so many messages in all.
pub(super) async fn advance(pairs: &mut [Conversation], messages: u32) {
    pairs.iter().for_each(|pair| pair.allow(messages));
    for pair in pairs {
        pair.reach(messages).await;
    }
}

/// Ends all pairs, and prints how long their sessions were interrupted.
pub(super) async fn end(what: &str, pairs: Vec<Conversation>) -> Vec<Talk> {
    let mut talks = Vec::new();
    for pair in pairs {
        talks.extend(pair.end(MESSAGES).await);
    }
    report(what, &talks);
    talks
}

/// Prints how long sessions were interrupted. Messages that were lost, doubled or out of order have failed the test before.
fn report(what: &str, talks: &[Talk]) {
    let mut times: Vec<_> = talks.iter().flat_map(|talk| &talk.resumed).map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied();
    let [half, most, all] = [50, 99, 100].map(|part| at(part).unwrap_or_default());
    let messages: u64 = talks.iter().map(|talk| u64::from(talk.received)).sum();
    println!(
        "{what}: {messages} messages, 0 lost, 0 doubled, 0 out of order; {} interruptions, p50 {half:.2} s, p99 {most:.2} s, longest \
         {all:.2} s",
        times.len()
    );
}

/// Time that passes in the test as it would in practice.
pub(super) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Kills one of the relays again and again; each time those whose relay it was have to find another one.
async fn killed_again_and_again(what: &str, number: usize) {
    let mut talks = Vec::new();
    for _ in 0..ROUNDS {
        let mut cluster = Cluster::start(&[]).await;
        let mut pairs = pairs(&cluster, PAIRS).await;
        cluster.relays[number].kill().await;
        for pair in &mut pairs {
            pair.reach(MESSAGES / 2).await;
        }
        for pair in pairs {
            talks.extend(pair.end(MESSAGES).await);
        }
    }
    report(what, &talks);
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask cluster --prove"]
async fn owners_are_killed_again_and_again() {
    killed_again_and_again("owner killed", 0).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask cluster --prove"]
async fn entries_are_killed_again_and_again() {
    killed_again_and_again("entry killed", 1).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask cluster --prove"]
async fn everything_is_restarted_in_turn_under_load() {
    let mut cluster = Cluster::start(&["--drain-timeout=30s"]).await;
    let pairs = pairs(&cluster, PAIRS).await;
    for number in 0..3 {
        cluster.relays[number].restart().await;
        cluster.settled().await;
    }
    for number in 0..2 {
        cluster.nats[number].restart().await;
        cluster.bus_is(true).await;
    }
    end("everything restarted in turn", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute: cargo xtask cluster --prove"]
async fn an_owner_is_frozen_for_40_seconds() {
    let cluster = Cluster::start(&[]).await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    cluster.relays[0].process.signal("-STOP");
    pass(40).await;
    cluster.relays[0].process.signal("-CONT");
    advance(&mut pairs, MESSAGES / 2 + 1).await;
    cluster.settled().await;
    end("owner frozen for 40 s", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute: cargo xtask cluster --prove"]
async fn an_entry_is_frozen_for_40_seconds() {
    let cluster = Cluster::start(&[]).await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    cluster.relays[1].process.signal("-STOP");
    pass(40).await;
    cluster.relays[1].process.signal("-CONT");
    advance(&mut pairs, MESSAGES / 2 + 1).await;
    cluster.settled().await;
    end("entry frozen for 40 s", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute: cargo xtask cluster --prove"]
async fn a_nats_server_is_frozen_for_40_seconds() {
    let cluster = Cluster::start(&[]).await;
    let pairs = pairs(&cluster, PAIRS).await;
    cluster.nats[0].signal("-STOP");
    pass(10).await;
    let began = tokio::time::Instant::now();
    let newcomers = cluster.talk(100);
    newcomers.end(10).await;
    println!(
        "a server was found {:.2} s after it was wanted, 10 s into the freeze",
        began.elapsed().as_secs_f64()
    );
    pass(30).await;
    cluster.nats[0].signal("-CONT");
    cluster.settled().await;
    end("NATS server frozen for 40 s", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute: cargo xtask cluster --prove"]
async fn all_nats_servers_are_away_for_30_seconds() {
    let mut cluster = Cluster::start(&[]).await;
    let mut pairs = pairs(&cluster, PAIRS).await;
    for server in &mut cluster.nats {
        server.kill().await;
    }
    pass(5).await;
    // Open sessions go on; cut ones wait, and so does a client that comes now.
    advance(&mut pairs, MESSAGES / 2).await;
    cluster.relays[1].kill().await;
    let newcomers = Conversation::start(cluster.page(&[0], 100), cluster.page(&[2], 101), 100);
    pass(25).await;
    for server in &mut cluster.nats {
        server.start_again().await;
    }
    let began = tokio::time::Instant::now();
    newcomers.end(10).await;
    println!(
        "a server that was wanted since 25 s was found {:.2} s after the bus was back",
        began.elapsed().as_secs_f64()
    );
    end("all NATS servers away for 30 s, entry killed meanwhile", pairs).await;
}

#[tokio::test]
#[ignore = "takes a minute: cargo xtask cluster --prove"]
async fn two_processes_take_an_identity_from_each_other() {
    let cluster = Cluster::start(&[]).await;
    let mut holder = host(cluster.page(&[0], 1)).await;
    let mut times = Vec::new();
    for round in 0..30 {
        let next = host(cluster.page(&[(round + 1) % 3], 2 + round as u8)).await;
        let began = tokio::time::Instant::now();
        assert_eq!(closed(holder).await, CloseCode::ID_TAKEN_OVER);
        times.push(began.elapsed());
        holder = next;
    }
    times.sort();
    println!(
        "identity taken over at another relay: the older page heard it after {:?} (median of {}), longest {:?}",
        times[times.len() / 2],
        times.len(),
        times[times.len() - 1]
    );
}
