//! Instructions that pages inject, over real WebSockets.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use std::path::Path;
use std::time::Duration;
use support::{Peer, relay_with};
use tunnel_relay::Relay;
use tunnel_relay::config::Switch;

const CREDENTIAL: &str = "sesame, open the relay";

async fn relay() -> Relay {
    relay_kept(None).await
}

async fn relay_kept(folder: Option<&Path>) -> Relay {
    relay_with(|config| {
        config.livecode_credential = Some(CREDENTIAL.parse().unwrap());
        config.livecode_programs = Switch::On;
        config.livecode_share = 100;
        config.livecode_state = folder.map(Path::to_owned);
    })
    .await
}

fn privileged(name: &str, parameters: &serde_json::Value) -> String {
    serde_json::json!({ "instruction": name, "parameters": parameters, "credential": CREDENTIAL }).to_string()
}

/// Adds an instruction; the lines of the answer.
async fn add(peer: &mut Peer, name: &str, body: &str) {
    peer.send_text(&privileged(
        "add instruction",
        &serde_json::json!({ "instructionToAdd": name, "body": body }),
    ))
    .await;
    assert_eq!(peer.text().await, "server: received command 'add instruction'");
    assert_eq!(peer.text().await, format!("server: adding instruction '{name}'"));
}

/// Runs an instruction; what comes after the first two lines, up to the line that returns.
async fn run(peer: &mut Peer, name: &str, parameters: &str) -> Vec<String> {
    peer.send_text(&format!(r#"{{"instruction":"{name}","parameters":{parameters}}}"#)).await;
    while peer.text().await != format!("server: evaluating added instruction '{name}'") {}
    let mut texts = Vec::new();
    loop {
        let text = peer.text().await;
        let is_last = text.starts_with("server: ");
        texts.push(text);
        if is_last {
            return texts;
        }
    }
}

async fn peer(relay: &Relay) -> Peer {
    Peer::open(relay.address(), None).await.unwrap()
}

#[tokio::test]
async fn a_page_injects_an_instruction_and_others_run_it() {
    let relay = relay().await;
    let (mut page, mut other) = (peer(&relay).await, peer(&relay).await);
    add(&mut page, "join", "function (name) { (global.all ??= new Map()).set(name, this); return all.size }")
        .await;
    add(&mut page, "tell", "function (name, text) { all.get(name).send(text); return 'told' }").await;
    assert_eq!(run(&mut page, "join", r#"["page"]"#).await, ["server: 1"]);
    assert_eq!(run(&mut other, "join", r#"["other"]"#).await, ["server: 2"]);
    assert_eq!(run(&mut page, "tell", r#"["other","grüße"]"#).await, ["server: told"]);
    assert_eq!(other.text().await, "grüße");
}

#[tokio::test]
async fn commands_that_are_sent_at_once_are_answered_one_after_the_other() {
    let relay = relay().await;
    let mut page = peer(&relay).await;
    add(&mut page, "echo", "function (text) { return text }").await;
    for index in 0..300 {
        page.send_text(&format!(r#"{{"instruction":"echo","parameters":["{index}"]}}"#)).await;
    }
    for index in 0..300 {
        assert_eq!(page.text().await, "server: received command 'echo'");
        assert_eq!(page.text().await, "server: evaluating added instruction 'echo'");
        assert_eq!(page.text().await, format!("server: {index}"));
    }
}

#[tokio::test]
async fn a_bomb_ends_its_call_and_tunnels_go_on() {
    let relay = relay().await;
    let (mut page, mut other) = (peer(&relay).await, peer(&relay).await);
    add(&mut page, "bomb", "function () { for (;;); }").await;
    page.send_text(r#"{"instruction":"bomb"}"#).await;
    // The tunnel's own six need no sandbox.
    assert_eq!(run(&mut other, "create server credential", "[]").await.last().unwrap(), "server: 1");
    assert_eq!(page.text().await, "server: received command 'bomb'");
    assert_eq!(page.text().await, "server: evaluating added instruction 'bomb'");
    let text = page.text().await;
    assert!(text.starts_with("server: Error: stopped (out of time)"), "{text}");
    add(&mut page, "fine", "() => 'fine'").await;
    assert_eq!(run(&mut page, "fine", "[]").await, ["server: fine"]);
}

#[tokio::test]
async fn the_articles_instructions_make_the_relay_a_tunnel() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spikes/livecode");
    let folder = std::env::var_os("TUNNEL_LIVECODE_MATERIAL").map_or(default, Into::into);
    let Ok(text) = std::fs::read_to_string(folder.join("article-instructions.json")) else {
        eprintln!(
            "skipped: there is no article-instructions.json in {} (TUNNEL_LIVECODE_MATERIAL)",
            folder.display()
        );
        return;
    };
    let article: Vec<(String, String)> = serde_json::from_str(&text).unwrap();
    let relay = relay().await;
    let (mut server, mut client) = (peer(&relay).await, peer(&relay).await);
    for (name, body) in &article {
        add(&mut server, name, body).await;
    }
    assert_eq!(run(&mut server, "initialize", "[]").await, ["server: initialized tunnel relay"]);
    let told = run(&mut server, "create server credential", "[]").await;
    assert_eq!(told[1], "server: created server credential");
    let (id, credential) = told[0].split_once(' ').unwrap();
    assert_eq!(
        run(&mut server, "install server", &format!("[{id},1.5]")).await,
        ["0", "server: bad credential"]
    );
    assert_eq!(
        run(&mut server, "install server", &format!("[{id},{credential}]")).await,
        ["1", "server: installed server"]
    );
    assert_eq!(
        run(&mut client, "connect to server", "[7,8080]").await,
        ["0", "server: server not connected"]
    );
    assert_eq!(
        run(&mut client, "connect to server", &format!("[{id},8080]")).await,
        ["1", "server: connected client"]
    );
    assert_eq!(server.text().await, "connected:atPort:for: 0|8080|127.0.0.1");
    assert_eq!(
        run(&mut client, "forward to server", r#"[0,"hello"]"#).await,
        ["1", "server: sent data to server"]
    );
    assert_eq!(server.text().await, "from:data: 0|hello");
    assert_eq!(
        run(&mut server, "forward to client", r#"[0,"welcome"]"#).await,
        ["1", "server: sent data to client"]
    );
    assert_eq!(client.text().await, "from:data: 0|welcome");
}

#[tokio::test]
async fn instructions_and_what_they_keep_outlive_the_relay() {
    let folder = tempfile::tempdir().unwrap();
    let first = relay_kept(Some(folder.path())).await;
    let mut page = peer(&first).await;
    add(
        &mut page,
        "next",
        "function () { global.next ??= (() => { let n = 0; return () => ++n })(); return next() }",
    )
    .await;
    assert_eq!(run(&mut page, "next", "[]").await, ["server: 1"]);
    drop(page);
    first.shut_down().await;

    let second = relay_kept(Some(folder.path())).await;
    assert_eq!(run(&mut peer(&second).await, "next", "[]").await, ["server: 2"]);
    second.shut_down().await;

    // A damaged image is not gone on with; the sources are.
    let image = folder.path().join("default.image");
    let mut bytes = std::fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let third = relay_kept(Some(folder.path())).await;
    assert_eq!(run(&mut peer(&third).await, "next", "[]").await, ["server: 1"]);
}

#[tokio::test]
async fn a_link_that_sends_bombs_leaves_others_their_turns() {
    let relay = relay_with(|config| {
        config.livecode_credential = Some(CREDENTIAL.parse().unwrap());
        config.livecode_programs = Switch::On;
        config.livecode_call_time = Duration::from_millis(30);
    })
    .await;
    let (mut page, mut evil) = (peer(&relay).await, peer(&relay).await);
    add(&mut page, "echo", "function (text) { return text }").await;
    add(&mut page, "bomb", "function () { for (;;); }").await;
    for _ in 0..50 {
        evil.send_text(r#"{"instruction":"bomb"}"#).await;
    }
    // All 50 would take 45 s of the share of one link: the others' 30 calls wait for a few at most.
    for _ in 0..30 {
        assert_eq!(run(&mut page, "echo", r#"["x"]"#).await, ["server: x"]);
    }
    let mut stopped = 0;
    while tokio::time::timeout(Duration::from_millis(1), evil.text()).await.is_ok_and(|text| !text.is_empty())
    {
        stopped += 1;
    }
    assert!(stopped < 150, "the bombs were all run");
}

#[tokio::test]
async fn programs_are_off_unless_they_are_turned_on() {
    let relay = relay_with(|config| config.livecode_credential = Some(CREDENTIAL.parse().unwrap())).await;
    let mut page = peer(&relay).await;
    page.send_text(&privileged("eval", &serde_json::json!({ "body": "1" }))).await;
    assert_eq!(page.text().await, "server: received command 'eval'");
    assert_eq!(page.text().await, "server: rejected command 'eval'");
}
