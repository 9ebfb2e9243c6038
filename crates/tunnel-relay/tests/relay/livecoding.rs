//! Instructions that pages inject, over real WebSockets.

use crate::support::{Peer, relay_with, until};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;
use tunnel_protocol::CloseCode;
use tunnel_relay::config::Switch;
use tunnel_relay::{Config, Relay};

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
async fn namespaces_keep_their_instructions_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        relay_with(|config| {
            config.livecode_credential = Some(CREDENTIAL.parse().unwrap());
            config.livecode_programs = Switch::On;
            config.livecode_share = 100;
            config.livecode_state = Some(folder.path().to_owned());
            // Each has the credential of the tests, whose hash this is.
            config.livecode_namespaces = ["tea", "coffee"]
                .map(|name| {
                    let hash: String =
                        Sha256::digest(CREDENTIAL).iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{name} sha256:{hash}").parse().unwrap()
                })
                .into();
        })
    };
    let relay = start().await;
    for name in ["", "~tea", "~coffee"] {
        let mut page = Peer::open_at(relay.address(), &format!("/{name}")).await.unwrap();
        add(&mut page, "name", &format!("() => (global.name ??= []).push('{name}') + name[0]")).await;
        assert_eq!(run(&mut page, "name", "[]").await, [format!("server: 1{name}")]);
    }
    relay.shut_down().await;
    let relay = start().await;
    for name in ["~coffee", "~tea", ""] {
        let mut page = Peer::open_at(relay.address(), &format!("/{name}")).await.unwrap();
        assert_eq!(run(&mut page, "name", "[]").await, [format!("server: 2{name}")]);
    }
    let mut page = Peer::open_at(relay.address(), "/~milk").await.unwrap();
    assert_eq!(page.closed().await, CloseCode::POLICY);
}

#[tokio::test]
async fn the_limits_are_the_operators() {
    let relay = relay_with(|config| {
        config.livecode_credential = Some(CREDENTIAL.parse().unwrap());
        config.livecode_programs = Switch::On;
        config.livecode_share = 100;
        config.livecode_sources = 1 << 10;
        config.livecode_instructions = 3;
        config.livecode_versions = 2;
        config.livecode_timers = 1;
        config.livecode_output = 1 << 10;
        config.livecode_messages = 16;
        config.livecode_eval = Switch::Off;
        config.livecode_addresses = Switch::Off;
    })
    .await;
    let mut page = peer(&relay).await;
    let answer = async |page: &mut Peer, text: &str, last: &str| {
        page.send_text(text).await;
        loop {
            let text = page.text().await;
            if text.starts_with(last) {
                return text;
            }
        }
    };
    add(
        &mut page,
        "much",
        "function (n, length) { for (let i = 0; i < n; i++) this.send('x'.repeat(length)); return 'sent' }",
    )
    .await;
    assert_eq!(run(&mut page, "much", "[1,900]").await[1], "server: sent");
    for parameters in ["[1,1100]", "[17,1]"] {
        let text = format!(r#"{{"instruction":"much","parameters":{parameters}}}"#);
        let told = answer(&mut page, &text, "server: Error").await;
        assert!(told.contains("too much output"), "{told}");
    }
    add(
        &mut page,
        "timers",
        "function (n) { for (let i = 0; i < n; i++) setTimeout(() => {}, 1e6); return 'set' }",
    )
    .await;
    let told = answer(&mut page, r#"{"instruction":"timers","parameters":[2]}"#, "server: RangeError").await;
    assert!(told.contains("1 timers already"), "{told}");
    add(&mut page, "address", "function () { return this._socket.remoteAddress }").await;
    assert_eq!(run(&mut page, "address", "[]").await, ["server: 198.51.100.2"]);
    let fourth = privileged(
        "add instruction",
        &serde_json::json!({ "instructionToAdd": "fourth", "body": "() => 1" }),
    );
    let told = answer(&mut page, &fourth, "server: RangeError").await;
    assert!(told.contains("3 instructions already"), "{told}");
    let long = format!("() => '{}'", "x".repeat(900));
    let long =
        privileged("add instruction", &serde_json::json!({ "instructionToAdd": "address", "body": long }));
    let told = answer(&mut page, &long, "server: RangeError").await;
    assert!(told.contains("sources of 1024 characters"), "{told}");
    for _ in 0..2 {
        add(&mut page, "address", "() => 'another'").await;
    }
    let first = privileged("source", &serde_json::json!({ "name": "address", "version": 1 }));
    let told = answer(&mut page, &first, "server: RangeError").await;
    assert!(told.contains("the last 2 are kept"), "{told}");
    let eval = privileged("eval", &serde_json::json!({ "body": "1" }));
    assert_eq!(answer(&mut page, &eval, "server: rejected").await, "server: rejected command 'eval'");
}

#[tokio::test]
async fn a_namespace_is_a_server_that_pages_reach_by_an_id_that_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let relay = relay_kept(Some(folder.path())).await;
    let mut page = peer(&relay).await;
    add(
        &mut page,
        "open",
        "function () { return serve(80, socket => { socket.onmessage = ({ data }) => socket.send(data) }) }",
    )
    .await;
    let told = run(&mut page, "open", "[]").await;
    until("the namespace is registered", || relay.stats().registrations == 1).await;
    drop(page);
    relay.shut_down().await;
    let key = folder.path().join("default.key");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let relay = relay_kept(Some(folder.path())).await;
    until("the namespace is registered again", || relay.stats().registrations == 1).await;
    let mut page = peer(&relay).await;
    assert_eq!(run(&mut page, "open", "[]").await, told);
    drop(page);
    relay.shut_down().await;
    // A key that is damaged is not silently another one.
    std::fs::write(&key, "short").unwrap();
    let config = Config {
        livecode_credential: Some(CREDENTIAL.parse().unwrap()),
        livecode_programs: Switch::On,
        livecode_state: Some(folder.path().to_owned()),
        ..Config::ephemeral()
    };
    let error = Relay::start(config).await.err().unwrap().to_string();
    assert!(error.contains("default.key") && error.contains("32 bytes"), "{error}");
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
