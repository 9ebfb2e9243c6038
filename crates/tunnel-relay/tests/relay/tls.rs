//! `wss`: a relay with a certificate of an authority that the test makes.

use crate::support::{Peer, hello, relay_with, until, within};
use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_websockets::{ClientBuilder, Message};
use tunnel_protocol::Frame;
use tunnel_relay::{Config, Relay};

/// An authority that only the test trusts, and a folder for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes a new certificate and its key; the certificate.
    fn sign(&self) -> CertificateDer<'static> {
        self.sign_with(|_| {})
    }

    fn sign_with(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.key(), key.serialize_pem()).unwrap();
        std::fs::write(self.certificate(), certificate.pem()).unwrap();
        certificate.der().clone()
    }

    async fn relay(&self, change: impl FnOnce(&mut Config)) -> Relay {
        relay_with(|config| {
            config.tls_certificate = Some(self.certificate());
            config.tls_key = Some(self.key());
            change(config);
        })
        .await
    }

    /// A client's TLS connection.
    async fn dial(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within("the TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn links_and_pages_go_through_tls_once_there_is_a_certificate() {
    let authority = Authority::new();
    authority.sign();
    let relay = authority.relay(|_| {}).await;
    assert_eq!(relay.url(), format!("wss://{}", relay.address()));

    let mut stream = authority.dial(relay.address()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");

    let stream = authority.dial(relay.address()).await.unwrap();
    let (mut socket, _) = ClientBuilder::from_uri("wss://localhost/".parse().unwrap())
        .add_header("sec-websocket-protocol".parse().unwrap(), "tunnel.v1".parse().unwrap())
        .unwrap()
        .connect_on(stream)
        .await
        .unwrap();
    socket.send(Message::binary(hello().encode())).await.unwrap();
    let message = within("WELCOME", socket.next()).await.unwrap().unwrap();
    let welcome = Frame::decode(message.into_payload().into()).unwrap();
    assert!(matches!(welcome, Some(Frame::Welcome(_))), "{welcome:?}");

    // Many small ones and some large ones come back whole: what TLS holds back is flushed.
    for len in (0..200).chain([30_000, 59_000]) {
        let nonce = u64::try_from(len).unwrap();
        socket.send(Message::binary(Frame::Ping { nonce }.encode())).await.unwrap();
        loop {
            let message = within("PONG", socket.next()).await.unwrap().unwrap();
            if !message.is_binary() {
                continue;
            }
            if Frame::decode(message.into_payload().into()).unwrap() == Some(Frame::Pong { nonce }) {
                break;
            }
        }
    }
    socket.close().await.unwrap();
    until("the end of the link", || relay.stats().links == 0).await;
}

#[tokio::test]
async fn whoever_speaks_no_tls_gets_nothing_and_is_gone_in_time() {
    let authority = Authority::new();
    authority.sign();
    let relay = authority.relay(|config| config.handshake_timeout = Duration::from_millis(50)).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"\x16\x03\x01"] {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _reset = within("the end", stream.read_to_end(&mut answer)).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert!(Peer::open(relay.address(), Some("tunnel.v1")).await.is_err());
    assert!(Authority::new().dial(relay.address()).await.is_err(), "another authority's certificate");
}

#[tokio::test]
async fn a_certificate_that_changed_is_used_without_a_restart() {
    let authority = Authority::new();
    let first = authority.sign();
    let relay = authority.relay(|_| {}).await;
    let old = authority.dial(relay.address()).await.unwrap();
    assert_eq!(shown(&old), first);

    let second = authority.sign();
    relay.reload(Config { tls_certificate: Some(authority.certificate()), ..Config::ephemeral() }).unwrap();
    assert_eq!(shown(&authority.dial(relay.address()).await.unwrap()), second);

    std::fs::write(authority.key(), "nonsense").unwrap();
    let error = relay.reload(Config::ephemeral()).unwrap_err().to_string();
    assert!(error.contains("key.pem"), "{error}");
    assert_eq!(shown(&authority.dial(relay.address()).await.unwrap()), second, "the old one stays in use");
}

#[tokio::test]
async fn the_files_are_watched_by_what_is_in_them() {
    let authority = Authority::new();
    authority.sign();
    let relay = authority.relay(|config| config.tls_watch_interval = Duration::from_millis(10)).await;
    let newest = authority.sign();
    // As if it had not changed.
    for path in [authority.certificate(), authority.key()] {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    // The relay, which is in this process, has no event for it.
    while shown(&authority.dial(relay.address()).await.unwrap()) != newest {}
}

const ENCRYPTED_OF_OLD: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";

/// PEM of some kind with nothing of use in it.
fn label(kind: &str) -> String {
    format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n")
}

#[tokio::test]
async fn a_certificate_that_is_not_good_now_is_said_and_shown_in_the_metrics() {
    let authority = Authority::new();
    for (from, until, seconds, word) in [
        (2000, 2100, 4_102_444_800_u64, None),
        (2000, 2001, 978_307_200, Some("has expired: it was good until Mon, 01 Jan 2001")),
        (2090, 2100, 4_102_444_800, Some("is not good before Sun, 01 Jan 2090")),
    ] {
        authority.sign_with(|params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        });
        let relay = authority.relay(|config| config.metrics_listen = Some(([127, 0, 0, 1], 0).into())).await;
        let page = crate::support::get(relay.metrics_address().unwrap(), "/metrics").await;
        let line = format!("\ntunnel_relay_certificate_not_after_seconds {seconds}\n");
        assert!(page.text().contains(&line), "{}", page.text());
        let (certificate, key) = (authority.certificate(), authority.key());
        let files = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let mut check = crate::support::process::command(&[&["check-config"], &files[..]].concat());
        let output = within("the check", check.output()).await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.lines().count(), usize::from(word.is_some()), "{said}");
        let process = crate::support::process::Process::serve(None, &files).await;
        process.signal("-TERM");
        let (_, log) = process.end().await;
        for text in [&said, &log] {
            assert_eq!(
                word.is_some(),
                text.contains("certificate is not") || text.contains("has expired"),
                "{text}"
            );
            assert!(text.contains(word.unwrap_or_default()), "{text}");
        }
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    authority.sign();
    let key_of_another = KeyPair::generate().unwrap().serialize_pem();
    for (certificate, key, word) in [
        (None, None, "certificate.pem"),
        (Some("no PEM"), None, "there is no certificate in it"),
        (None, Some("no PEM"), "key.pem"),
        (None, Some(key_of_another.as_str()), "is not the certificate's"),
        (None, Some(&label("ENCRYPTED PRIVATE KEY")), "openssl pkey -in FILE"),
        (None, Some(ENCRYPTED_OF_OLD), "encrypted with a passphrase"),
        (None, Some(&label("OPENSSH PRIVATE KEY")), "a key for SSH"),
        (None, Some(&label("DSA PRIVATE KEY")), "a DSA key"),
        (None, Some(&label("PUBLIC KEY")), "the private one is needed"),
        (None, Some(&label("CERTIFICATE")), "swapped?"),
        (None, Some(&label("PRIVATE KEY")), "allowed are RSA"),
    ] {
        authority.sign();
        match (certificate, key) {
            (None, None) => std::fs::remove_file(authority.certificate()).unwrap(),
            (Some(text), _) => std::fs::write(authority.certificate(), text).unwrap(),
            (None, Some(text)) => std::fs::write(authority.key(), text).unwrap(),
        }
        let config = Config {
            tls_certificate: Some(authority.certificate()),
            tls_key: Some(authority.key()),
            ..Config::ephemeral()
        };
        let error = Relay::check(&config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(Relay::start(config).await.map(drop).unwrap_err().to_string(), error);
    }
}
