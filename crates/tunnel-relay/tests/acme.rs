//! A certificate by ACME, from a directory that the test plays: nothing leaves this machine.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use support::{get, relay_with, within};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that the relay orders a certificate for.
const NAME: &str = "relay.test";

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// An ACME directory (RFC 8555) with one account, one order and one challenge.
struct Directory {
    issuer: Issuer,
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the relay answers for [`NAME`], once it runs.
    relay: Option<SocketAddr>,
    is_proven: bool,
    certificate: Option<String>,
    contact: Value,
}

impl Directory {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let payload = serde_json::from_slice::<Value>(&body).ok().map_or(Value::Null, |jws| {
            let payload = URL_SAFE_NO_PAD.decode(jws["payload"].as_str().unwrap()).unwrap();
            serde_json::from_slice(&payload).unwrap_or_default()
        });
        let url = |path: &str| format!("https://localhost:{}{path}", self.address.port());
        let mut answer = Response::builder().header("replay-nonce", "nonce").status(StatusCode::OK);
        let content = match (&head.method, head.uri.path()) {
            (&Method::GET, "/directory") => json!({
                "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
            })
            .to_string(),
            (_, "/nonce") => String::new(),
            (_, "/account") => {
                self.state.lock().unwrap().contact = payload["contact"].clone();
                answer = answer.header("location", url("/account/1"));
                "{}".to_owned()
            }
            (_, "/order") => {
                answer = answer.header("location", url("/order"));
                self.order(&url).to_string()
            }
            (_, "/authorization") => json!({
                "status": if self.state.lock().unwrap().is_proven { "valid" } else { "pending" },
                "identifier": { "type": "dns", "value": NAME },
                "challenges": [{ "type": "tls-alpn-01", "url": url("/challenge"), "token": "token" }],
            })
            .to_string(),
            (_, "/challenge") => {
                self.prove().await;
                "{}".to_owned()
            }
            (_, "/finalize") => {
                let csr = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
                let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
                let certificate = request.signed_by(&self.issuer).unwrap();
                self.state.lock().unwrap().certificate = Some(certificate.pem() + &self.issuer.pem());
                self.order(&url).to_string()
            }
            (_, "/certificate") => self.state.lock().unwrap().certificate.clone().unwrap(),
            other => panic!("no such thing in a directory: {other:?}"),
        };
        Ok(answer.body(Full::from(content)).unwrap())
    }

    fn order(&self, url: &dyn Fn(&str) -> String) -> Value {
        let state = self.state.lock().unwrap();
        let status = match (&state.certificate, state.is_proven) {
            (Some(_), _) => "valid",
            (None, true) => "ready",
            (None, false) => "pending",
        };
        json!({
            "status": status, "certificate": url("/certificate"), "finalize": url("/finalize"),
            "authorizations": [url("/authorization")],
        })
    }

    /// Looks whether whoever answers under the name knows of the challenge.
    async fn prove(&self) {
        let relay = self.state.lock().unwrap().relay.expect("the relay listens before it orders");
        let mut config = client(Arc::new(Anybody));
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let stream = dial(relay, config).await.expect("the relay has a certificate for the challenge");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        self.state.lock().unwrap().is_proven = true;
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client(verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

async fn dial(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    within("the TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

/// Whoever answers a challenge has a certificate of its own.
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

/// Starts a directory, which begins to answer once it knows where the relay is.
async fn directory() -> (Arc<Directory>, TcpListener, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let directory = Directory { issuer, address, state: Mutex::default() };
    (Arc::new(directory), listener, TlsAcceptor::from(Arc::new(config)))
}

async fn serve(directory: Arc<Directory>, listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (directory, acceptor) = (directory.clone(), acceptor.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| directory.answer(request));
            // Clients leave as they like.
            let _ignored = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[tokio::test]
async fn a_relay_orders_its_certificate_keeps_it_and_is_ready_with_it() {
    let (directory, listener, acceptor) = directory().await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    std::fs::write(&root, directory.issuer.pem()).unwrap();
    let cache = folder.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let relay = relay_with(|config| {
        config.acme_domains = vec![NAME.to_owned()];
        config.acme_contacts = vec!["operator@relay.test".to_owned()];
        config.acme_directory = format!("https://localhost:{}/directory", directory.address.port());
        config.acme_root = Some(root);
        config.acme_cache = Some(cache.clone());
        config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    })
    .await;
    assert!(relay.url().starts_with("wss://"));
    directory.state.lock().unwrap().relay = Some(relay.address());
    let watched = relay.metrics_address().unwrap();
    let answer = get(watched, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("no certificate yet"), "{answer:?}");
    let serving = tokio::spawn(serve(directory.clone(), listener, acceptor));

    let mut roots = RootCertStore::empty();
    roots.add(directory.issuer.der().clone()).unwrap();
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .unwrap();
    let ordered = async { while dial(relay.address(), client(verifier.clone())).await.is_err() {} };
    within("a certificate that the authority has signed", ordered).await;
    assert!(directory.state.lock().unwrap().is_proven);
    assert_eq!(directory.state.lock().unwrap().contact, json!(["mailto:operator@relay.test"]));
    let kept = async {
        while std::fs::read_dir(&cache).unwrap().count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    within("account and certificate in the cache", kept).await;
    assert_eq!(get(watched, "/readyz").await.status, 200);
    serving.abort();
}
