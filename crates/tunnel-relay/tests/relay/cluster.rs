//! Several relays and a real NATS server: clients at one relay, servers at another one, and whoever wants to break that.

mod cable;
mod ghost;
mod links;
use crate::support::nats::Nats;
use crate::support::process::command;
use crate::support::{Peer, Received, accept, code, connect, data, get, relay_with, server_id, within};
use bytes::Bytes;
use cable::Cable;
use futures_util::StreamExt as _;
use ghost::{Character, Ghost};
use std::time::Duration;
use tunnel_protocol::frame::ChannelKind;
use tunnel_protocol::{ChannelId, CloseCode, Frame, ServerId};
use tunnel_relay::{Config, Relay, Secret};

const SECRET: &str = "a secret that only the relays of this test know";

/// Settings of a relay by whose measure seconds are long.
fn hasty(nats: &str, node: &str) -> impl FnOnce(&mut Config) {
    move |config: &mut Config| {
        config.cluster = vec![nats.parse().unwrap()];
        config.node = node.to_owned();
        config.cluster_secret = Some(Secret(SECRET.to_owned()));
        config.cluster_listen = Some(([127, 0, 0, 1], 0).into());
        config.metrics_listen = Some(([127, 0, 0, 1], 0).into());
        config.cluster_lost_after = Duration::from_secs(1);
        config.cluster_forget_after = Duration::from_secs(3);
        config.absent_wait = Duration::from_millis(500);
        config.max_waiting_per_link = 4_096;
        config.connect_rate = 0;
    }
}

async fn start(nats: &Nats, node: &str) -> Relay {
    relay_with(hasty(&nats.url(), node)).await
}

/// Two relays that know each other.
async fn pair(nats: &Nats) -> [Relay; 2] {
    let pair = [start(nats, "a").await, start(nats, "b").await];
    for relay in &pair {
        has(relay, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 1.0).await;
    }
    pair
}

/// The value of a metric, with its labels.
async fn metric(relay: &Relay, name: &str) -> f64 {
    let page = get(relay.metrics_address().unwrap(), "/metrics").await;
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{}", page.text())).parse().unwrap()
}

async fn has(relay: &Relay, name: &str, condition: impl Fn(f64) -> bool) {
    let wait = async {
        while !condition(metric(relay, name).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(name, wait).await;
}

/// Opens a channel of a client to the server of `secret`: tries again as a session does while it hears 1013.
async fn open(client: &mut Peer, server: &mut Peer, secret: u8) -> (u32, u32) {
    let mut channel = 1;
    loop {
        client.send(connect(channel, secret)).await;
        tokio::select! {
            frame = server.frame() => {
                let Frame::Incoming { channel: incoming, .. } = frame else { panic!("no INCOMING but {frame:?}") };
                server.send(accept(incoming.0)).await;
                assert_eq!(client.frame().await, accept(channel));
                return (channel, incoming.0);
            }
            frame = client.frame() => assert_eq!(code(&frame), CloseCode::TRY_AGAIN_LATER),
        }
        channel += 2;
    }
}

/// Says `count` numbered messages each way, and checks that they come in order.
async fn talk(client: (&mut Peer, u32), server: (&mut Peer, u32), count: u32) {
    let payload = |side: u8, number: u32| {
        let mut bytes = vec![side; (number as usize * 37) % 3_000];
        bytes.extend(number.to_be_bytes());
        Bytes::from(bytes)
    };
    for number in 0..count {
        client.0.send(data(client.1, payload(1, number))).await;
        server.0.send(data(server.1, payload(2, number))).await;
    }
    for number in 0..count {
        assert_eq!(server.0.frame().await, data(server.1, payload(1, number)));
        assert_eq!(client.0.frame().await, data(client.1, payload(2, number)));
    }
}

fn ghost(secret: &str) -> Character {
    Character {
        node: "ghost",
        address: "127.0.0.1:1".to_owned(),
        secret: secret.to_owned(),
        hears: true,
        beats: true,
        server: None,
    }
}

#[tokio::test]
async fn the_settings_of_the_compose_file_are_understood() {
    const FILE: &str = include_str!("../../../../deploy/compose.cluster.yaml");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster-secret"), format!("{SECRET}\n")).unwrap();
    let mut check = command(&["check-config"]);
    let (before, _) = FILE.split_once("\n  relay-2:").unwrap();
    let mut variables = 0;
    for line in before.lines().map(str::trim) {
        if let Some((name, value)) =
            line.split_once(": ").filter(|(name, _)| name.starts_with("TUNNEL_RELAY_"))
        {
            let value = value.trim_matches('"').replace("${RELAY_ACCESS:-open}", "open");
            let domain = "${RELAY_DOMAIN:?the public name of this machine, such as relay.example.org}";
            let value = value.replace(domain, "relay.example.org");
            // Compose leaves out what is empty.
            if !value.contains("${") {
                check.env(name, value);
                variables += 1;
            }
        }
    }
    assert!(variables > 8, "{variables}");
    let output =
        within("the check", check.env("CREDENTIALS_DIRECTORY", folder.path()).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_client_at_one_relay_reaches_a_server_at_another_one_and_messages_keep_their_order() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let mut server = Peer::server(&b, 1).await;
    let mut client = Peer::link(&a).await;
    client.send(connect(1, 1)).await;
    match server.frame().await {
        Frame::Incoming {
            channel: ChannelId(2),
            port: 1337,
            address,
            kind: ChannelKind::Session,
            payload,
        } => {
            assert_eq!(
                (address.as_str(), &*payload),
                ("127.0.0.1", &b"first"[..]),
                "the client's, not the relay's"
            );
        }
        frame => panic!("no INCOMING but {frame:?}"),
    }
    server.send(accept(2)).await;
    assert_eq!(client.frame().await, accept(1));
    talk((&mut client, 1), (&mut server, 2), 300).await;
    server.send(crate::support::close(2, CloseCode(4_000))).await;
    assert_eq!(client.frame().await, crate::support::close(1, CloseCode(4_000)));
    assert_eq!(metric(&a, "tunnel_relay_cluster_finds_total{result=\"found\"}").await, 1.0);
    assert_eq!(metric(&a, "tunnel_relay_cluster_spliced_total{role=\"entry\"}").await, 1.0);
    assert_eq!(metric(&b, "tunnel_relay_cluster_spliced_total{role=\"owner\"}").await, 1.0);
    assert_eq!(metric(&a, "tunnel_relay_cluster_spliced_frames_total{role=\"entry\"}").await, 301.0);
    // The next client goes by the same link.
    let mut other = Peer::link(&a).await;
    let (channel, incoming) = open(&mut other, &mut server, 1).await;
    talk((&mut other, channel), (&mut server, incoming), 3).await;
    assert_eq!(metric(&a, "tunnel_relay_cluster_node_links").await, 1.0);
    for relay in [a, b] {
        relay.shut_down().await;
    }
}

#[tokio::test]
async fn a_client_that_is_faster_than_its_server_is_taken_to_it_when_it_registers_at_another_relay() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let mut client = Peer::link(&a).await;
    client.send(connect(1, 1)).await;
    assert_eq!(client.fence().await, []);
    let mut server = Peer::server(&b, 1).await;
    assert!(matches!(server.frame().await, Frame::Incoming { channel: ChannelId(2), .. }));
}

#[tokio::test]
async fn a_server_is_nowhere_only_if_all_relays_say_so() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let mut client = Peer::link(&a).await;
    // Relays that have just started don't know which others may have it, and say 1013.
    let mut channel = 1;
    let absent = async {
        loop {
            client.send(connect(channel, 9)).await;
            channel += 2;
            match code(&client.frame().await) {
                CloseCode::TRY_AGAIN_LATER => {}
                code => return code,
            }
        }
    };
    assert_eq!(within("a relay that knows", absent).await, CloseCode::SERVER_NOT_FOUND);
    // One that is there, and says nothing to a question.
    let silent = Ghost::start(&nats.url(), Character { hears: false, ..ghost(SECRET) }).await;
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 2.0).await;
    client.send(connect(channel, 9)).await;
    assert_eq!(code(&client.frame().await), CloseCode::TRY_AGAIN_LATER);
    // It is lost, and forgotten at last.
    drop(silent);
    has(&a, "tunnel_relay_cluster_nodes{state=\"lost\"}", |lost| lost == 1.0).await;
    client.send(connect(channel + 2, 9)).await;
    assert_eq!(code(&client.frame().await), CloseCode::TRY_AGAIN_LATER);
    has(&a, "tunnel_relay_cluster_nodes{state=\"lost\"}", |lost| lost == 0.0).await;
    has(&b, "tunnel_relay_cluster_nodes{state=\"lost\"}", |lost| lost == 0.0).await;
    client.send(connect(channel + 4, 9)).await;
    assert_eq!(code(&client.frame().await), CloseCode::SERVER_NOT_FOUND);
}

#[tokio::test]
async fn the_newest_proof_of_a_key_wins_though_it_comes_to_another_relay() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let mut older = Peer::server(&a, 1).await;
    let mut newer = Peer::server(&b, 1).await;
    assert_eq!(code(&older.frame().await), CloseCode::ID_TAKEN_OVER);
    assert_eq!(older.closed().await, CloseCode::ID_TAKEN_OVER);
    let mut client = Peer::link(&a).await;
    open(&mut client, &mut newer, 1).await;
    has(&a, "tunnel_relay_cluster_fenced_total{code=\"3700\"}", |fenced| fenced == 1.0).await;
}

#[tokio::test]
async fn garbage_on_each_subject_is_counted_and_skipped() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    // Messages of other relays, changed, and sent to receivers that they are not for.
    let mut claims = client.subscribe("tunnel.claim").await.unwrap();
    let heard = within("a sign of life", claims.next()).await.unwrap().payload;
    let mut changed = heard.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let own = Ghost::start(&nats.url(), ghost("a secret of another cluster, with 32 bytes")).await;
    let garbage = [Bytes::new(), Bytes::from_static(b"garbage"), vec![0; 60_000].into(), changed.into()];
    let skipped = "tunnel_relay_cluster_messages_skipped_total{why=\"garbage\"}";
    let before = metric(&a, skipped).await;
    for subject in ["tunnel.find", "tunnel.claim"] {
        for payload in &garbage {
            client.publish(subject, payload.clone()).await.unwrap();
        }
    }
    client.publish("tunnel.find", heard).await.unwrap();
    client.publish("tunnel.claim", vec![1; 100_000].into()).await.unwrap();
    client.flush().await.unwrap();
    has(&a, skipped, |count| count >= before + 9.0).await;
    has(&a, "tunnel_relay_cluster_messages_skipped_total{why=\"no-room\"}", |count| count == 1.0).await;
    assert_eq!(
        metric(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}").await,
        1.0,
        "the other cluster's is none"
    );
    let (mut server, mut visitor) = (Peer::server(&b, 1).await, Peer::link(&a).await);
    open(&mut visitor, &mut server, 1).await;
    drop(own);
}

#[tokio::test]
async fn whoever_is_not_on_the_roster_is_not_dialled() {
    let nats = Nats::start().await;
    let [a, _b] = pair(&nats).await;
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = trap.local_addr().unwrap().to_string();
    let character = Character { beats: false, address, server: Some(server_id(5)), ..ghost(SECRET) };
    let _ghost = Ghost::start(&nats.url(), character).await;
    let mut client = Peer::link(&a).await;
    client.send(connect(1, 5)).await;
    // It has said that it has the server, and counts for nothing.
    assert!([CloseCode::TRY_AGAIN_LATER, CloseCode::SERVER_NOT_FOUND].contains(&code(&client.frame().await)));
    has(&a, "tunnel_relay_cluster_messages_skipped_total{why=\"off-roster\"}", |count| count >= 1.0).await;
    let dialled = tokio::time::timeout(Duration::ZERO, trap.accept()).await;
    assert!(dialled.is_err(), "{dialled:?}");
}

#[tokio::test]
async fn clients_that_ask_for_made_up_servers_do_not_flood_the_bus() {
    let nats = Nats::start().await;
    let limited = relay_with(|config| {
        hasty(&nats.url(), "a")(config);
        config.cluster_finds_per_second = 50;
    });
    let (a, b) = (limited.await, start(&nats, "b").await);
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 1.0).await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut questions = client.subscribe("tunnel.find").await.unwrap();
    client.publish("tunnel.find", Bytes::from_static(b"the start")).await.unwrap();
    within("a subscription", questions.next()).await.unwrap();
    let began = std::time::Instant::now();
    let mut flood = Peer::link(&a).await;
    for number in 0..2_000_u32 {
        let mut made_up = [7; 32];
        made_up[..4].copy_from_slice(&number.to_be_bytes());
        let server_id = ServerId::Key(tunnel_protocol::server_id::PublicKey(made_up));
        let channel = ChannelId(1 + 2 * number);
        let payload = Bytes::from_static(b"first");
        flood.send(Frame::Connect { channel, server_id, port: 1, kind: ChannelKind::Session, payload }).await;
    }
    for _ in 0..2_000 {
        // The few that all relays are asked for may be found to be nowhere.
        let code = code(&flood.frame().await);
        assert!([CloseCode::TRY_AGAIN_LATER, CloseCode::SERVER_NOT_FOUND].contains(&code), "{code}");
    }
    let asked = metric(&a, "tunnel_relay_cluster_questions_total{sent=\"yes\"}").await;
    let bound = 50.0 * (began.elapsed().as_secs_f64() + 1.0);
    assert!(asked <= bound, "{asked} questions, at most {bound}");
    assert!(metric(&a, "tunnel_relay_cluster_questions_total{sent=\"no\"}").await > 1_000.0);
    // On the bus itself there are no more than that.
    client.publish("tunnel.find", Bytes::from_static(b"the end")).await.unwrap();
    let mut heard = 0;
    while within("a question on the bus", questions.next()).await.unwrap().payload != "the end" {
        heard += 1;
    }
    assert!((1..=bound as usize).contains(&heard), "{heard} questions, at most {bound}");
    // The owner of a server is found afterwards.
    let (mut server, mut visitor) = (Peer::server(&b, 1).await, Peer::link(&a).await);
    open(&mut visitor, &mut server, 1).await;
}

#[tokio::test]
async fn without_the_bus_all_goes_on_that_needs_no_other_relay() {
    let mut nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let mut server = Peer::server(&b, 1).await;
    let mut client = Peer::link(&a).await;
    let (channel, incoming) = open(&mut client, &mut server, 1).await;
    nats.kill().await;
    has(&a, "tunnel_relay_cluster_connected", |connected| connected == 0.0).await;
    has(&b, "tunnel_relay_cluster_connected", |connected| connected == 0.0).await;
    assert_eq!(get(a.address(), "/readyz").await.status, 200);
    talk((&mut client, channel), (&mut server, incoming), 50).await;
    // A pair at one relay, of which the server registers without the bus.
    let mut here = Peer::server(&a, 2).await;
    let mut visitor = Peer::link(&a).await;
    open(&mut visitor, &mut here, 2).await;
    // A client of a server at another relay is told to wait, and reaches it when the bus is back.
    visitor.send(connect(101, 1)).await;
    assert_eq!(code(&visitor.frame().await), CloseCode::TRY_AGAIN_LATER);
    nats.start_again().await;
    let mut late = Peer::link(&b).await;
    open(&mut late, &mut here, 2).await;
    let mut again = Peer::link(&a).await;
    open(&mut again, &mut server, 1).await;
}

#[tokio::test]
async fn a_bus_may_have_tls_and_ask_for_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("right"), "relays:the password of relays\n".replace(' ', "-")).unwrap();
    std::fs::write(path("wrong"), "relays:another-password").unwrap();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let password = "the-password-of-relays";
    let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key, "--user", "relays", "--pass", password];
    let nats = Nats::start_with(&tls).await;
    let secured = |node: &'static str, credentials: &str| {
        let (url, credentials, authority) =
            (format!("tls://{}", nats.address), path(credentials), path("cert.pem"));
        relay_with(move |config| {
            hasty(&url, node)(config);
            config.cluster_start_wait = Duration::from_millis(500);
            config.cluster_bus_credentials = Some(credentials.into());
            config.cluster_bus_ca = Some(authority.into());
        })
    };
    let (a, b) = (secured("a", "right").await, secured("b", "right").await);
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 1.0).await;
    let (mut server, mut client) = (Peer::server(&b, 1).await, Peer::link(&a).await);
    open(&mut client, &mut server, 1).await;
    let stranger = secured("c", "wrong").await;
    assert_eq!(metric(&stranger, "tunnel_relay_cluster_connected").await, 0.0);
    // Without TLS, or with another authority, it is not the bus.
    let plain = relay_with(|config| {
        hasty(&nats.url(), "d")(config);
        config.cluster_start_wait = Duration::from_millis(500);
        config.cluster_bus_credentials = Some(path("right").into());
    })
    .await;
    assert_eq!(metric(&plain, "tunnel_relay_cluster_connected").await, 0.0);
    assert_eq!(metric(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}").await, 1.0);
}

#[tokio::test]
async fn a_relay_that_starts_without_the_bus_lets_peers_in_after_a_while() {
    let relay = relay_with(|config| {
        hasty("nats://127.0.0.1:1", "a")(config);
        config.cluster_start_wait = Duration::from_millis(100);
    })
    .await;
    assert_eq!(get(relay.address(), "/readyz").await.status, 200);
    Peer::pair(&relay).await;
    assert_eq!(metric(&relay, "tunnel_relay_cluster_connected").await, 0.0);
    relay.shut_down().await;
}

#[tokio::test]
async fn a_registration_does_not_wait_for_a_bus_that_is_frozen() {
    let nats = Nats::start().await;
    let a = start(&nats, "a").await;
    nats.signal("-STOP");
    // Nobody has noticed yet: REGISTERED comes all the same.
    Peer::pair(&a).await;
    nats.signal("-CONT");
}

#[tokio::test]
async fn a_relay_that_is_cut_off_from_the_bus_alone_sends_its_pages_to_others_and_ends_when_the_bus_is_back()
{
    let nats = Nats::start().await;
    let cable = Cable::to(nats.address).await;
    let a = relay_with(hasty(&format!("nats://{}", cable.address), "a")).await;
    let b = start(&nats, "b").await;
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 1.0).await;
    has(&b, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 1.0).await;
    let mut page = Peer::link(&a).await;
    cable.set_cut(true);
    assert!(matches!(page.frame().await, Frame::GoAway { .. }));
    assert_eq!(get(a.metrics_address().unwrap(), "/readyz").await.status, 503);
    assert_eq!(get(b.address(), "/readyz").await.status, 200);
    assert!(
        tokio::time::timeout(Duration::ZERO, a.cut_off()).await.is_err(),
        "it would only start as it is now"
    );
    cable.set_cut(false);
    within("the bus", a.cut_off()).await;
    a.shut_down().await;
    has(&b, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 0.0).await;
    has(&b, "tunnel_relay_cluster_nodes{state=\"lost\"}", |lost| lost == 0.0).await;
}

#[tokio::test]
async fn a_relay_that_ends_in_order_is_forgotten_at_once_and_its_clients_hear_that_they_should_dial_anew() {
    let nats = Nats::start().await;
    let [a, b] = pair(&nats).await;
    let (mut server, mut client) = (Peer::server(&b, 1).await, Peer::link(&a).await);
    let (channel, _) = open(&mut client, &mut server, 1).await;
    let ending = tokio::spawn(b.shut_down());
    assert!(matches!(server.frame().await, Frame::GoAway { .. }));
    drop(server);
    match client.received().await {
        Received::Frame(Frame::Close { channel: closed, code, .. }) => {
            assert_eq!((closed.0, code), (channel, CloseCode::PEER_GONE));
        }
        other => panic!("no CLOSE but {other:?}"),
    }
    within("the end of the relay", ending).await.unwrap();
    has(&a, "tunnel_relay_cluster_nodes{state=\"alive\"}", |alive| alive == 0.0).await;
    assert_eq!(metric(&a, "tunnel_relay_cluster_nodes{state=\"lost\"}").await, 0.0);
}
