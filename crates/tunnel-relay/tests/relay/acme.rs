//! Certificates by ACME: from pebble, which is Let's Encrypt's directory for tests, and where no directory answers.
//!
//! `cargo xtask setup` installs pebble where it may. Where it is missing, nothing is ordered, and the test says so.

use crate::support::process::{Process, locate};
use crate::support::{get, within};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_acme::CertCache as _;
use rustls_acme::caches::DirCache;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
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

/// The address at which the directory is to listen, and the port of this machine that it takes for every name's 443.
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

    /// The same as a process.
    async fn relay(&self, folder: &Path, more: &[&str]) -> Process {
        let config = self.config(folder);
        let path = |path: Option<PathBuf>| path.unwrap().to_str().unwrap().to_owned();
        let arguments = [
            format!("--acme-domains={NAME}"),
            format!("--acme-contacts={}", config.acme_contacts[0]),
            format!("--acme-directory={}", config.acme_directory),
            format!("--acme-root={}", path(config.acme_root)),
            format!("--acme-cache={}", path(config.acme_cache)),
            "--metrics-listen=127.0.0.1:0".to_owned(),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Process::serve(Some(config.listen), &arguments).await
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
    let relay = ports.relay(folder, &[]).await;
    let watched = relay.metrics().await;
    let answer = get(watched, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("no certificate yet"), "{answer:?}");
    assert_eq!(shown(relay.address).await, None);
    assert!(!get(watched, "/metrics").await.text().contains("certificate_not_after_seconds "));

    let Some(running) = ports.pebble(folder) else { return };
    relay.logged(1, "event=CertCacheStore").await;
    let certificate = shown(relay.address).await.unwrap();
    assert_eq!(certificate.names, [NAME]);
    assert_eq!(get(watched, "/readyz").await.status, 200);
    let not_after = certificate.not_after.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let metric = format!("tunnel_relay_certificate_not_after_seconds {not_after}\n");
    assert!(get(watched, "/metrics").await.text().contains(&metric), "{metric}");
    let live: Value = serde_json::from_str(get(watched, "/live.json").await.text()).unwrap();
    assert_eq!(live["certificate"]["names"], json!([NAME]));
    assert_eq!(std::fs::read_dir(folder.join("cache")).unwrap().count(), 2, "account and certificate");
    assert_eq!(Relay::check(&ports.config(folder)).unwrap(), Vec::<String>::new());
    relay.signal("-TERM");
    assert_eq!(relay.end().await.0, Some(0));

    drop(running);
    let relay = ports.relay(folder, &[]).await;
    relay.logged(1, "event=DeployedCachedCert").await;
    assert_eq!(shown(relay.address).await, Some(certificate));
    assert_eq!(get(relay.metrics().await, "/readyz").await.status, 200);
}

#[tokio::test]
async fn a_reload_orders_again_at_once_after_orders_that_failed() {
    /// By themselves these would take more than half an hour, the pauses growing from a second.
    const ORDERS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    certify_directory(folder.path());
    let directory = TcpListener::bind("localhost:0").await.unwrap();
    let ports = Ports { directory: directory.local_addr().unwrap().port(), relay: free_port() };
    let relay = ports.relay(folder.path(), &[]).await;
    for number in 1..=ORDERS {
        // A directory that ends each connection.
        drop(within("an order", directory.accept()).await.unwrap());
        relay.logged(number, "no certificate from the ACME directory; SIGHUP tries again at once").await;
        relay.signal("-HUP");
    }
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
async fn a_certificate_in_the_cache_that_ends_or_has_ended_and_is_not_renewed_is_said_and_shown() {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    // Whole seconds, as certificates have them.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = UNIX_EPOCH + Duration::from_secs(now);
    for (from, until, problem) in [
        (now - 80 * DAY, now + 10 * DAY, Some("the certificate ends soon")),
        (now - 100 * DAY, now - 10 * DAY, Some("the certificate has expired")),
        (now - 30 * DAY, now + 60 * DAY, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        certify_directory(folder.path());
        // Nobody answers where the directory should be.
        let ports = Ports::new();
        let config = ports.config(folder.path());
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from.into(), until.into());
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem() + "\n" + &params.self_signed(&key).unwrap().pem();
        let cache = DirCache::new(config.acme_cache.clone().unwrap());
        cache.store_cert(&config.acme_domains, &config.acme_directory, pem.as_bytes()).await.unwrap();

        let warnings = Relay::check(&config).unwrap();
        let relay = ports.relay(folder.path(), &["--tls-watch-interval=10ms"]).await;
        let watched = relay.metrics().await;
        relay.logged(1, "event=DeployedCachedCert").await;
        let end = until.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let metric = format!("\ntunnel_relay_certificate_not_after_seconds {end}\n");
        assert!(get(watched, "/metrics").await.text().contains(&metric), "{metric}");
        let live: Value = serde_json::from_str(get(watched, "/live.json").await.text()).unwrap();
        let Some(problem) = problem else {
            assert_eq!((warnings, &live["certificate"]["problem"]), (Vec::new(), &Value::Null));
            assert!(!relay.log().contains(" WARN ") && !relay.log().contains(" ERROR "), "{}", relay.log());
            continue;
        };
        assert!(warnings[0].contains(&format!("cache: {problem}")), "{warnings:?}");
        assert!(live["certificate"]["problem"].as_str().unwrap().contains(problem), "{live}");
        relay.logged(1, &format!("TLS problem={problem}")).await;
        relay.logged(1, "no certificate from the ACME directory").await;
        let log = relay.log();
        let level =
            |line: &str| log.lines().find(|text| text.contains(line)).unwrap().split_whitespace().nth(1);
        assert_eq!((level(problem), level("no certificate from")), (Some("WARN"), Some("ERROR")), "{log}");
    }
}
