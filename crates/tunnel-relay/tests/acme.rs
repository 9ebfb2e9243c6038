//! Certificates by ACME: from pebble, which is Let's Encrypt's directory for tests, and where no directory answers.
//!
//! `cargo xtask setup` installs pebble where it may. Where it is missing, nothing is ordered, and the test says so.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_acme::CertCache as _;
use rustls_acme::caches::DirCache;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::process::locate;
use support::{get, within};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tunnel_relay::certificate::Certificate;
use tunnel_relay::{Config, Relay};

/// The name that the relay orders a certificate for.
const NAME: &str = "relay.test";

/// A program that runs until this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

/// A port of this machine that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Where the directory is to listen, and which port of this machine it takes for every name's 443.
struct Ports {
    directory: u16,
    relay: u16,
}

impl Ports {
    fn new() -> Self {
        Self { directory: free_port(), relay: free_port() }
    }

    /// A relay that orders from the directory, and keeps what it gets in `folder`.
    fn config(&self, folder: &Path) -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, self.relay)),
            acme_domains: vec![NAME.to_owned()],
            acme_contacts: vec!["operator@relay.test".to_owned()],
            acme_directory: format!("https://localhost:{}/dir", self.directory),
            acme_root: Some(folder.join("root.pem")),
            acme_cache: Some(folder.join("cache")),
            metrics_listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..Config::ephemeral()
        }
    }

    /// Starts the directory, with a name server that leads all names to this machine.
    fn pebble(&self, folder: &Path) -> Option<[Running; 2]> {
        let (pebble, names) = (locate("pebble")?, locate("pebble-challtestsrv")?);
        let name_server = format!("127.0.0.1:{}", free_port());
        let settings = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.directory),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": folder.join("directory.pem"),
            "privateKey": folder.join("directory.key"),
            "httpPort": free_port(),
            "tlsPort": self.relay,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        std::fs::write(folder.join("pebble.json"), settings.to_string()).unwrap();
        let names = start(
            Command::new(names)
                .args(["-dns01", &name_server, "-management", "127.0.0.1:0", "-defaultIPv6", ""])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .stderr(Stdio::null()),
        );
        let pebble = start(
            Command::new(pebble)
                .arg("-config")
                .arg(folder.join("pebble.json"))
                .args(["-dnsserver", &name_server])
                // It would rest before each challenge, and refuse some requests, to try its clients.
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0"),
        );
        Some([names, pebble])
    }
}

/// A certificate for the directory itself, and the authority that signed it.
fn certify_directory(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("root.pem"), issuer.pem()).unwrap();
    std::fs::write(folder.join("directory.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("directory.key"), key.serialize_pem()).unwrap();
}

/// The certificate that is shown at an address, if one is.
async fn shown(address: SocketAddr) -> Option<Certificate> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.ok()?;
    Some(Certificate::read(&stream.get_ref().1.peer_certificates()?[0]).unwrap())
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes any certificate: pebble signs with a key that it makes at each start.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_relay_orders_its_certificate_from_pebble_and_is_ready_with_it_after_the_next_start_too() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, ports) = (folder.path(), Ports::new());
    certify_directory(folder);
    let config = ports.config(folder);
    let relay = Relay::start(config.clone()).await.unwrap();
    assert!(relay.url().starts_with("wss://"));
    let watched = relay.metrics_address().unwrap();
    let answer = get(watched, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("no certificate yet"), "{answer:?}");
    assert_eq!(shown(relay.address()).await, None);
    assert!(!get(watched, "/metrics").await.text().contains("certificate_not_after_seconds "));

    let Some(running) = ports.pebble(folder) else { return };
    let certificate = within("a certificate from pebble", async {
        loop {
            if let Some(certificate) = shown(relay.address()).await {
                break certificate;
            }
        }
    })
    .await;
    assert_eq!(certificate.names, [NAME]);
    assert_eq!(get(watched, "/readyz").await.status, 200);
    let not_after = certificate.not_after.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let metric = format!("tunnel_relay_certificate_not_after_seconds {not_after}\n");
    assert!(get(watched, "/metrics").await.text().contains(&metric), "{metric}");
    let live: Value = serde_json::from_str(get(watched, "/live.json").await.text()).unwrap();
    assert_eq!(live["certificate"]["names"], json!([NAME]));
    let kept = async {
        while std::fs::read_dir(folder.join("cache")).map_or(0, Iterator::count) < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("account and certificate in the cache", kept).await;
    assert_eq!(Relay::check(&config).unwrap(), Vec::<String>::new());
    relay.shut_down().await;

    drop(running);
    let relay = Relay::start(Config { listen: Config::ephemeral().listen, ..config }).await.unwrap();
    let again = within("the certificate of before", async {
        loop {
            if let Some(certificate) = shown(relay.address()).await {
                break certificate;
            }
        }
    })
    .await;
    assert_eq!(again, certificate);
    assert_eq!(get(relay.metrics_address().unwrap(), "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_reload_orders_again_at_once_after_orders_that_failed() {
    /// By themselves these would take more than half an hour, the pauses growing from a second.
    const ORDERS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    certify_directory(folder.path());
    let directory = TcpListener::bind("localhost:0").await.unwrap();
    let ports = Ports { directory: directory.local_addr().unwrap().port(), relay: free_port() };
    let config = ports.config(folder.path());
    let relay = Relay::start(config.clone()).await.unwrap();
    let orders = async {
        for _ in 0..ORDERS {
            loop {
                tokio::select! {
                    // A directory that ends each connection.
                    connection = directory.accept() => { drop(connection); break }
                    () = tokio::time::sleep(Duration::from_millis(20)) => { relay.reload(config.clone()).unwrap(); }
                }
            }
        }
    };
    within("an order after each reload", orders).await;
}

#[test]
fn check_config_reads_the_cache_of_certificates_and_says_that_one_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    certify_directory(folder.path());
    let config = Ports::new().config(folder.path());
    assert_eq!(Relay::check(&config).unwrap(), Vec::<String>::new(), "nothing has been ordered yet");
    let without = Config { acme_cache: None, ..config };
    let warnings = Relay::check(&without).unwrap();
    assert!(warnings[0].contains("acme-cache is not set"), "{warnings:?}");
}

#[tokio::test]
async fn a_certificate_in_the_cache_that_has_expired_is_said_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    certify_directory(folder.path());
    let config = Ports::new().config(folder.path());
    let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 4, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let cache = DirCache::new(config.acme_cache.clone().unwrap());
    let pem = key.serialize_pem() + "\n" + &certificate.pem();
    cache.store_cert(&config.acme_domains, &config.acme_directory, pem.as_bytes()).await.unwrap();

    let warnings = Relay::check(&config).unwrap();
    assert!(warnings[0].contains("cache: the certificate has expired"), "{warnings:?}");
    let relay = Relay::start(config).await.unwrap();
    let watched = relay.metrics_address().unwrap();
    let read = async { while shown(relay.address()).await.is_none() {} };
    within("the certificate from the cache", read).await;
    assert!(get(watched, "/metrics").await.text().contains("certificate_not_after_seconds 1585699200\n"));
    let live: Value = serde_json::from_str(get(watched, "/live.json").await.text()).unwrap();
    assert!(live["certificate"]["problem"].as_str().unwrap().contains("has expired"), "{live}");
}
