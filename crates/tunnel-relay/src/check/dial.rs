//! The way to a relay, step by step, for `check`: name, TCP, TLS, HTTP, WebSocket.

use super::url::RelayUrl;
use super::{Failure, passed, within};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_websockets::{ClientBuilder, WebSocketStream};
use tunnel_protocol::{SUBPROTOCOL, early};
use tunnel_relay::certificate::{Certificate, Problem};

/// Most bytes that are read of an answer that is no WebSocket.
const MAX_ANSWER: usize = 4 << 10;

/// Dials relays, and tells each step.
#[derive(Clone)]
pub(crate) struct Transcript {
    url: RelayUrl,
    origin: Option<String>,
    tls: Arc<ClientConfig>,
    is_told: bool,
}

/// A WebSocket.
pub(crate) struct Dialled {
    pub(crate) socket: WebSocketStream<TokioIo<Upgraded>>,
    /// True if the relay has taken the frames in the handshake.
    pub(crate) greeted: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Transcript {
    pub(crate) fn new(
        url: RelayUrl,
        origin: Option<String>,
        authority: Option<String>,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        match authority {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let added = certificate.map_err(|error| error.to_string());
                    added
                        .and_then(|one| roots.add(one).map_err(|error| error.to_string()))
                        .map_err(|error| Failure::Misuse(format!("--ca: {error}")))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Misuse(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // As browsers do for WebSockets.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { url, origin, tls: Arc::new(tls), is_told: true })
    }

    /// Tells no further steps.
    pub(crate) fn quiet(&mut self) {
        self.is_told = false;
    }

    pub(crate) fn bound_url(&self) -> String {
        self.url.bound()
    }

    fn told(&self, what: &str, how: &str) {
        if self.is_told {
            passed(what, how);
        }
    }

    /// Opens a WebSocket and says this in its handshake.
    pub(crate) async fn dial(&self, said_early: &[u8]) -> Result<Dialled, Failure> {
        let stream = within("TCP", FIREWALL, self.connect()).await?;
        let stream: Box<dyn Stream> = if self.url.is_secure {
            Box::new(within("TLS", PLAIN, self.secure(stream)).await?)
        } else {
            if self.url.is_public() {
                self.told("TLS", "none: pages that came by https: may only use wss:");
            }
            Box::new(stream)
        };
        within("WebSocket", SILENT, self.upgrade(stream, said_early)).await
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let (host, port) = (&self.url.host, self.url.port);
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
            .await
            .map_err(|error| {
                Failure::new(
                    "name",
                    format!("{host}: {error}"),
                    "add the name to the DNS, or mend it in the URL",
                )
            })?
            .collect();
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        self.told("name", &format!("{host} is {}", texts.join(", ")));
        let started = Instant::now();
        let mut last = None;
        for address in &addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    self.told(
                        "TCP",
                        &format!("{address} in {:.1} ms", started.elapsed().as_secs_f64() * 1e3),
                    );
                    let _slower_without = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Some(format!("{address}: {error}")),
            }
        }
        Err(Failure::new("TCP", last.unwrap_or_else(|| "the name has no address".to_owned()), FIREWALL))
    }

    async fn secure(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let name = ServerName::try_from(self.url.host.clone())
            .map_err(|error| Failure::Misuse(format!("{}: {error}", self.url.host)))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| {
            let remedy = match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidMessage(_)) => PLAIN,
                Some(rustls::Error::InvalidCertificate(_)) => {
                    "have the certificate's names, dates and chain (with all up to the authority's) right; for an authority of \
                     your own, give --ca FILE"
                }
                _ => "look at the log of the relay, or of the proxy before it",
            };
            Failure::new("TLS", error, remedy)
        })?;
        let session = stream.get_ref().1;
        let version = session.protocol_version().map_or_else(String::new, |version| format!("{version:?}"));
        let mut how = version.replace("TLSv1_", "TLS 1.");
        if let Some(shown) = session.peer_certificates().and_then(|chain| chain.first())
            && let Ok(certificate) = Certificate::read(shown)
        {
            how += &format!(
                ", a certificate for {}, good until {}",
                certificate.names.join(", "),
                certificate.until()
            );
            if let Some(problem @ Problem::EndsSoon { .. }) = certificate.problem() {
                how += &format!("\n      what to do: renew it: {problem}");
            }
        }
        self.told("TLS", &how);
        Ok(stream)
    }

    async fn upgrade(&self, stream: Box<dyn Stream>, said_early: &[u8]) -> Result<Dialled, Failure> {
        let lost = |error: hyper::Error| {
            Failure::new("WebSocket", format!("the connection ended without an answer: {error}"), SILENT)
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        tokio::spawn(connection.with_upgrades());
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| Failure::Misuse(error.to_string()))?;
        let offered = if said_early.is_empty() {
            SUBPROTOCOL.to_owned()
        } else {
            let early = URL_SAFE_NO_PAD.encode(said_early);
            format!("{SUBPROTOCOL}, {}, {}{early}", early::SUBPROTOCOL, early::PREFIX)
        };
        let mut request = Request::get(&self.url.path)
            .header(header::HOST, &self.url.origin)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, STANDARD.encode(key))
            .header(header::SEC_WEBSOCKET_PROTOCOL, offered);
        if let Some(origin) = &self.origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| Failure::Misuse(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let server = answer.headers().get(header::SERVER).map(|name| format!(" (Server: {name:?})"));
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let text =
                body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
            let first: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
            let why = format!("the answer is {status}{}: {first:?}", server.unwrap_or_default());
            return Err(Failure::new("WebSocket", why, remedy(status)));
        }
        let chosen = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
        let greeted = chosen.as_ref().is_some_and(|chosen| chosen == early::SUBPROTOCOL);
        if !greeted && chosen.as_ref().is_none_or(|chosen| chosen != SUBPROTOCOL) {
            let why = format!("the subprotocol chosen is {chosen:?} instead of {SUBPROTOCOL:?}");
            let remedy = "check that this URL is a relay's, and that a proxy before it keeps the header Sec-WebSocket-Protocol";
            return Err(Failure::new("WebSocket", why, remedy));
        }
        self.told("WebSocket", &format!("opened at {:?}", self.url.path));
        let upgraded = hyper::upgrade::on(answer).await.map_err(lost)?;
        Ok(Dialled { socket: ClientBuilder::new().take_over(TokioIo::new(upgraded)), greeted })
    }
}

const FIREWALL: &str = "start the relay or its proxy there; check `listen` (127.0.0.1 is for that machine only), port and firewall";
const PLAIN: &str = "check that something speaks TLS on this port: the relay with tls-certificate or acme-domains, or the proxy \
                     before it; without TLS, use ws:";
const SILENT: &str = "check that HTTP and WebSockets are spoken on this port: TLS (use wss:) and the PROXY protocol are not HTTP, and \
                      proxies have to pass the upgrade on";

/// Advice for an answer that is no WebSocket.
fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "add the page's origin to allowed-origins; give it here with --origin",
        404 => {
            "check the path, and that the proxy passes it to the relay; \
                a server that answers 404 to a WebSocket is not the relay"
        }
        400 | 426 => {
            "have the proxy pass the upgrade on: HTTP/1.1 to the relay, with the headers Upgrade, Connection and \
                      Sec-WebSocket-*; deploy/ has a configuration for each"
        }
        421 => "add this name to the relay's hosts, and have the proxy keep the Host header",
        431 => "let the proxy, and max-header-bytes, take longer headers",
        502 | 504 => "start the relay, and check the address under which the proxy looks for it",
        503 => "try again later: the relay drains, or it is full; its log says which limit refuses",
        200..300 => "this is a web server, and not the relay: have it pass this path to the relay",
        300..400 => {
            "use the address to which this one redirects: browsers follow no redirects for WebSockets"
        }
        _ => "look at the log of the relay, or of the proxy before it",
    }
}
