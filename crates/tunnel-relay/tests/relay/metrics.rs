//! The metrics while peers talk, and the table that explains them.

use crate::support::{Peer, accept, connect, data, get, relay_with, request, until, within};
use std::collections::{BTreeMap, BTreeSet};
use tunnel_protocol::{ChannelId, CloseCode, Frame};
use tunnel_relay::Relay;

/// One answer to `GET /metrics`.
#[derive(Debug)]
struct Scrape {
    /// Each family's kind.
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    async fn of(relay: &Relay) -> Self {
        let answer = get(relay.metrics_address().unwrap(), "/metrics").await;
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(answer.text())
    }

    /// Reads the text format, and minds that it is well-formed.
    fn parse(text: &str) -> Self {
        let mut scrape = Self { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut family) = (String::new(), String::new());
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(help.ends_with('.'), "{line}");
                helped = name.to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "a family has its help first");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert_eq!(scrape.kinds.insert(name.to_owned(), kind.to_owned()), None, "{name} comes once");
                family = name.to_owned();
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(&family), "{line} is not of {family}");
                assert!(
                    scrape.samples.insert(name.to_owned(), value.parse().unwrap()).is_none(),
                    "{line} again"
                );
            }
        }
        scrape
    }

    #[track_caller]
    fn value(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", self.samples))
    }

    #[track_caller]
    fn assert(&self, expected: &[(&str, f64)]) {
        for (name, value) in expected {
            assert_eq!(self.value(name), *value, "{name}");
        }
    }
}

async fn watched() -> Relay {
    relay_with(|config| config.metrics_listen = Some("127.0.0.1:0".parse().unwrap())).await
}

/// Some are there with TLS only.
async fn with_all_metrics() -> Relay {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&paths[0], certified.cert.pem()).unwrap();
    std::fs::write(&paths[1], certified.signing_key.serialize_pem()).unwrap();
    let [certificate, key] = paths;
    relay_with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        (config.tls_certificate, config.tls_key) = (Some(certificate), Some(key));
    })
    .await
}

#[tokio::test]
async fn a_pair_that_talks_shows_in_the_metrics() {
    let relay = watched().await;
    let (mut client, mut server) = Peer::pair(&relay).await;
    for length in [10, 100, 1_000] {
        client.send(data(1, vec![1; length])).await;
        assert_eq!(server.frame().await, data(2, vec![1; length]));
    }
    server.send(data(2, "answer")).await;
    assert_eq!(client.frame().await, data(1, "answer"));

    let scrape = Scrape::of(&relay).await;
    scrape.assert(&[
        ("tunnel_relay_ready", 1.0),
        ("tunnel_relay_links", 2.0),
        ("tunnel_relay_links_opened_total", 2.0),
        ("tunnel_relay_connections{protocol=\"websocket\"}", 2.0),
        ("tunnel_relay_connections{protocol=\"http\"}", 0.0),
        ("tunnel_relay_connections_accepted_total", 2.0),
        ("tunnel_relay_http_answers_total{status=\"1xx\"}", 2.0),
        ("tunnel_relay_registrations", 1.0),
        ("tunnel_relay_registrations_total", 1.0),
        ("tunnel_relay_channel_ends", 2.0),
        ("tunnel_relay_channels_opened_total", 1.0),
        // ACCEPT is one, and a DATA frame has a header of 5 bytes.
        ("tunnel_relay_frames_total", 5.0),
        ("tunnel_relay_frame_bytes_total", (1_116 + 4 * 5 + accept(1).encode().len()) as f64),
        // HELLO twice, REGISTER, CONNECT, ACCEPT and four times DATA; WELCOME, REGISTERED and INCOMING go out.
        ("tunnel_relay_messages_total{direction=\"in\"}", 9.0),
        ("tunnel_relay_messages_total{direction=\"out\"}", 9.0),
        ("tunnel_relay_wait_seconds_count", 5.0),
        ("tunnel_relay_wait_seconds_bucket{le=\"+Inf\"}", 5.0),
        ("tunnel_relay_queue_bytes", 0.0),
        ("tunnel_relay_queue_links", 0.0),
        ("tunnel_relay_memory_bytes{part=\"queues\"}", 0.0),
    ]);
    assert!(scrape.value("tunnel_relay_message_bytes_total{direction=\"in\"}") > 1_136.0);
    assert!(scrape.value("tunnel_relay_wait_seconds_sum") > 0.0);
    for part in ["links", "channels", "registrations", "tasks"] {
        assert!(scrape.value(&format!("tunnel_relay_memory_bytes{{part=\"{part}\"}}")) > 0.0, "{part}");
    }
    if cfg!(target_os = "linux") {
        assert!(scrape.value("process_resident_memory_bytes") > 1e6);
        // The listeners, two peers with both ends in this process, the scrape itself.
        assert!(scrape.value("process_open_fds") > 8.0);
        assert!(scrape.value("process_max_fds") >= scrape.value("process_open_fds"));
        assert!(scrape.value("process_threads") >= 1.0);
        assert!(scrape.value("process_virtual_memory_bytes") > scrape.value("process_resident_memory_bytes"));
    }

    drop((client, server));
    until("the links' end", || relay.stats().links == 0).await;
    let scrape = Scrape::of(&relay).await;
    scrape.assert(&[
        ("tunnel_relay_links", 0.0),
        ("tunnel_relay_registrations", 0.0),
        ("tunnel_relay_channel_ends", 0.0),
        ("tunnel_relay_frames_total", 5.0),
        ("tunnel_relay_websockets_ended_total{by=\"lost\"}", 2.0),
    ]);
    relay.shut_down().await;
}

#[tokio::test]
async fn refusals_and_drops_are_counted_with_their_reasons() {
    let relay = relay_with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        config.max_channels = 1;
    })
    .await;
    Peer::open(relay.address(), Some("mqtt")).await.map(drop).unwrap_err();
    Peer::open(relay.address(), None).await.map(drop).unwrap_err();
    let head =
        "GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: close, upgrade\r\n\r\n";
    request(relay.address(), head).await;
    get(relay.address(), "/nothing").await;
    let (mut client, server) = Peer::pair(&relay).await;
    client.send(connect(3, 1)).await;
    assert!(matches!(client.frame().await, Frame::Close { channel: ChannelId(3), .. }));
    let mut rude = Peer::link(&relay).await;
    rude.send_text("no frame").await;
    assert!(matches!(rude.frame().await, Frame::Error { code: CloseCode::PROTOCOL_ERROR, .. }));
    rude.closed().await;
    drop(rude);
    until("the end of a link", || relay.stats().links == 2).await;

    let scrape = Scrape::of(&relay).await;
    scrape.assert(&[
        ("tunnel_relay_refused_total{reason=\"subprotocol\"}", 1.0),
        ("tunnel_relay_refused_total{reason=\"livecode-is-off\"}", 1.0),
        ("tunnel_relay_refused_total{reason=\"handshake\"}", 1.0),
        ("tunnel_relay_refused_total{reason=\"draining\"}", 0.0),
        ("tunnel_relay_http_answers_total{status=\"1xx\"}", 3.0),
        ("tunnel_relay_http_answers_total{status=\"4xx\"}", 4.0),
        ("tunnel_relay_channels_refused_total{code=\"try-again-later\"}", 1.0),
        ("tunnel_relay_channels_refused_total{code=\"overflow\"}", 0.0),
        ("tunnel_relay_links_ended_total{code=\"protocol-error\"}", 1.0),
        ("tunnel_relay_violations_total", 1.0),
        ("tunnel_relay_websockets_ended_total{by=\"relay\"}", 1.0),
    ]);
    drop((client, server));
    relay.shut_down().await;
}

#[tokio::test]
async fn a_proof_is_checked_after_hello_and_token_and_once() {
    let known = format!("sha256:{} host", "0".repeat(64)).parse().unwrap();
    let closed = relay_with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        config.access_tokens = vec![known];
    })
    .await;
    let open = watched().await;
    let register = |secret: u8| Frame::Register {
        key: crate::support::key(secret).public(),
        proof: [7; 32],
        url: String::new(),
    };
    let checked = "tunnel_relay_proofs_checked_total";
    for (relay, frames) in [(&open, vec![register(1)]), (&closed, vec![crate::support::hello(), register(1)])]
    {
        let mut peer = Peer::open(relay.address(), Some("tunnel.v1")).await.unwrap();
        for frame in frames {
            peer.send(frame).await;
        }
        peer.socket_end().await;
        assert_eq!(Scrape::of(relay).await.value(checked), 0.0);
    }
    let (mut server, welcome) = Peer::link_to(open.address()).await;
    for _ in 0..10 {
        server.register(1, &welcome).await;
    }
    assert_eq!(Scrape::of(&open).await.value(checked), 1.0);
    let mut forger = Peer::link(&open).await;
    for secret in 2..10 {
        forger.send(register(secret)).await;
    }
    forger.socket_end().await;
    assert_eq!(Scrape::of(&open).await.value(checked), 2.0, "the first wrong proof ends the link");
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_shows_as_queue_and_memory() {
    let relay = watched().await;
    let (mut client, server) = Peer::pair(&relay).await;
    // The server reads nothing more: what the kernel does not hold stays in the relay, until the sender has to pause
    // at 256 KiB.
    let (scrape, queued) = loop {
        client.send(data(1, vec![7; 50_000])).await;
        client.fence().await;
        let scrape = Scrape::of(&relay).await;
        let queued = scrape.value("tunnel_relay_queue_bytes");
        if queued > 262_144.0 {
            break (scrape, queued);
        }
    };
    scrape.assert(&[
        ("tunnel_relay_queue_links", 1.0),
        ("tunnel_relay_queue_longest_bytes", queued),
        ("tunnel_relay_memory_bytes{part=\"queues\"}", queued),
        ("tunnel_relay_channels_paused", 1.0),
    ]);
    drop((client, server));
    within("the end", relay.shut_down()).await;
}

#[tokio::test]
async fn while_it_drains_it_is_alive_but_not_ready_and_can_be_watched() {
    let relay = watched().await;
    let (address, watched) = (relay.address(), relay.metrics_address().unwrap());
    for from in [address, watched] {
        assert_eq!(get(from, "/healthz").await.text(), "ok\n");
        assert_eq!(get(from, "/readyz").await.text(), "ready\n");
    }
    let (mut peer, _) = Peer::link_to(address).await;
    let ending = tokio::spawn(relay.shut_down());
    assert!(matches!(peer.frame().await, Frame::GoAway { .. }));
    let answer = get(watched, "/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (503, "not ready: this relay is about to end\n"));
    assert_eq!(get(watched, "/healthz").await.status, 200);
    let scrape = Scrape::parse(get(watched, "/metrics").await.text());
    scrape.assert(&[("tunnel_relay_ready", 0.0), ("tunnel_relay_links", 1.0)]);
    drop(peer);
    within("the end", ending).await.unwrap();
    assert!(tokio::net::TcpStream::connect(watched).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn metrics_are_not_for_strangers() {
    let relay = watched().await;
    assert_eq!(get(relay.address(), "/metrics").await.status, 404);
    let watched = relay.metrics_address().unwrap();
    for (head, status) in [
        (format!("POST /metrics HTTP/1.1\r\nhost: {watched}\r\nconnection: close\r\n\r\n"), 405),
        (format!("GET /etc/passwd HTTP/1.1\r\nhost: {watched}\r\nconnection: close\r\n\r\n"), 404),
    ] {
        assert_eq!(request(watched, &head).await.status, status, "{head}");
    }
    assert_eq!(relay_with(|_| {}).await.metrics_address(), None, "off by default");
    relay.shut_down().await;
}

/// The rows of the table of metrics in the operator's guide: name, kind and labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let guide = include_str!("../../../../docs/OPERATING.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
        let (metric, row) = row.split_once("` | ")?;
        let kind = row.split(" | ").next()?;
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        ["counter", "gauge", "histogram"]
            .contains(&kind)
            .then(|| (name.to_owned(), (kind.to_owned(), labels.map(str::to_owned).collect())))
    });
    rows.collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_metric_is_in_the_guide_and_every_metric_of_the_guide_exists() {
    let relay = with_all_metrics().await;
    let scrape = Scrape::of(&relay).await;
    let documented = documented();
    for (name, kind) in &scrape.kinds {
        let (written, labels) =
            documented.get(name).unwrap_or_else(|| panic!("docs/OPERATING.md has no row for {name}"));
        assert_eq!(written, kind, "{name}");
        let samples = scrape.samples.keys().filter(|sample| {
            sample.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        });
        for sample in samples {
            let shown = sample.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches('}'));
            let shown =
                shown.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            assert_eq!(*labels, shown.collect(), "{sample}");
        }
    }
    for sample in scrape.samples.keys().filter(|sample| sample.starts_with("tunnel_relay_refused_total")) {
        let reason = sample.split('"').nth(1).unwrap();
        let row = format!("`{reason}`");
        let (_, table) = include_str!("../../../../docs/OPERATING.md").split_once("| `reason` |").unwrap();
        let table = table.split("\n\n").next().unwrap();
        assert!(table.contains(&row), "docs/OPERATING.md does not explain the reason {row}");
    }
    for name in documented.keys() {
        assert!(
            scrape.kinds.contains_key(name),
            "docs/OPERATING.md has a row for {name}, which does not exist"
        );
    }
    relay.shut_down().await;
}

/// Names of metrics in a text, as its expressions use them.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("tunnel_relay_") || word.starts_with("process_")).collect()
}

/// All strings under a key, wherever it is.
fn strings<'a>(value: &'a serde_json::Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == key => found.push(text),
                    _ => strings(value, key, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        _ => {}
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let relay = with_all_metrics().await;
    let scrape = Scrape::of(&relay).await;
    let exists = |name: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        scrape.kinds.contains_key(name)
            || family.is_some_and(|family| scrape.kinds.get(family).is_some_and(|kind| kind == "histogram"))
    };
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../../deploy/grafana.json")).unwrap();
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 10, "{expressions:?}");
    let alerts = include_str!("../../../../deploy/alerts.yml");
    let alerts: Vec<_> =
        alerts.split("expr: ").skip(1).filter_map(|rule| rule.split("labels: ").next()).collect();
    assert!(alerts.len() > 5, "{alerts:?}");
    for expression in expressions.iter().chain(&alerts) {
        let names = named(expression);
        assert!(!names.is_empty() || expression.contains("up{"), "{expression} is about nothing");
        for name in names {
            assert!(exists(name), "{name} in {expression} does not exist");
        }
    }
    relay.shut_down().await;
}

#[tokio::test]
async fn the_live_page_shows_numbers_refusals_and_settings_and_no_ids_or_secrets() {
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let relay = relay_with(|config| {
        config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
        config.allowed_origins = vec!["https://example.org".parse().unwrap(), "absent".parse().unwrap()];
        config.livecode_credential = Some(secret.parse().unwrap());
    })
    .await;
    let address = relay.metrics_address().unwrap();
    let (_client, _server) = Peer::pair(&relay).await;
    let stream = tokio::net::TcpStream::connect(relay.address()).await.unwrap();
    let other = Some("origin: https://other.example");
    assert!(Peer::open_with(stream, relay.address(), Some("tunnel.v1"), other).await.is_err());

    let page = get(address, "/").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'; "));
    // Nothing is fetched but from the relay itself.
    let links = page.text().matches("http").count();
    assert_eq!(links, page.text().matches("http://www.w3.org/2000/svg").count(), "no assets from elsewhere");

    let answer = get(address, "/live.json").await;
    let state: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    let now = state["samples"].as_array().unwrap().last().unwrap();
    assert_eq!((&now[1], &now[2], &now[3]), (&2.into(), &1.into(), &1.into()), "{now}");
    assert_eq!(state["refusals"], serde_json::json!([["origin", 1, "allowed-origins"]]));
    assert_eq!(
        (&state["notReady"], &state["certificate"]),
        (&serde_json::Value::Null, &serde_json::Value::Null)
    );
    let settings: Vec<_> =
        state["settings"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert!(settings.contains(&"allowed-origins = [\"https://example.org\", \"absent\"]"), "{settings:?}");
    for hidden in [secret, &crate::support::server_id(1).to_string()] {
        assert!(!answer.text().contains(hidden), "{}", answer.text());
    }
}
