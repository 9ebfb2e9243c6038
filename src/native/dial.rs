//! The way to a relay: proxy, TCP, TLS, WebSocket. Used by the links.

use crate::api::Error;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_websockets::{ClientBuilder, Limits, WebSocketStream, upgrade};
use tower_service::Service;
use tunnel_protocol::link::MAX_RECEIVED;
use tunnel_protocol::{SUBPROTOCOL, early};
use url::Url;

/// A connection to a relay, or to the proxy before it.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(super) type Socket = WebSocketStream<Box<dyn Io>>;

/// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them.
static PROXIES: LazyLock<Matcher> = LazyLock::new(Matcher::from_env);

/// The platform's certificate authorities, or Mozilla's where there are none, as in small containers. `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name others.
static TLS: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // As browsers do for WebSockets.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
});

/// A relay, and the access token for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Relay {
    url: Url,
    pub(super) token: String,
}

impl Relay {
    /// Takes a relay's URL as pages do: `http:` and `https:` are the schemes of WebSockets, too.
    pub(super) fn new(text: &str, token: String) -> Result<Self, Error> {
        let refused = || Error::Url(text.to_owned());
        let mut url = Url::parse(text).map_err(|_| refused())?;
        let scheme = match url.scheme() {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            _ => return Err(refused()),
        };
        url.set_scheme(scheme).map_err(|()| refused())?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if url.fragment().is_some() || has_user || !url.has_host() {
            return Err(refused());
        }
        Ok(Self { url, token })
    }

    /// The URL without its query: what a registration is bound to.
    pub(super) fn bound(&self) -> String {
        let port = self.url.port().map_or_else(String::new, |port| format!(":{port}"));
        let host = self.url.host_str().unwrap_or_default();
        format!("{}://{host}{port}{}", self.url.scheme(), self.url.path())
    }

    fn is_secure(&self) -> bool {
        self.url.scheme() == "wss"
    }

    /// The URL with the scheme of HTTP, as connectors and proxies want it.
    fn http_uri(&self) -> Result<Uri, String> {
        let scheme = if self.is_secure() { "https" } else { "http" };
        let rest = &self.url.as_str()[self.url.scheme().len()..];
        format!("{scheme}{rest}").parse().map_err(|error| format!("{}: {error}", self.url))
    }

    /// Opens a WebSocket, with frames in its handshake; also returns whether the relay has taken these. An error is a sentence.
    pub(super) async fn open(&self, said_early: &[u8]) -> Result<(Socket, bool), String> {
        let uri = self.http_uri()?;
        let stream = connect(uri).await?;
        let stream: Box<dyn Io> =
            if self.is_secure() { Box::new(self.secure(stream).await?) } else { Box::new(stream) };
        self.upgrade(stream, said_early).await
    }

    async fn secure(&self, stream: TcpStream) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
        let tls = TLS.clone()?;
        let host = self.url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|error| format!("{host}: {error}"))?;
        TlsConnector::from(tls).connect(name, stream).await.map_err(|error| {
            let fault = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            let remedy = match fault {
                Some(rustls::Error::InvalidMessage(_)) => {
                    "something else than TLS answers there: for a relay without TLS, write ws: or http:"
                }
                Some(rustls::Error::InvalidCertificate(_)) => {
                    "the relay's certificate is not valid here: for an authority of your own, name its file in SSL_CERT_FILE"
                }
                _ => "check that the relay, or the proxy before it, speaks TLS there",
            };
            format!("TLS with {host} failed ({error}): {remedy}")
        })
    }

    async fn upgrade(&self, stream: Box<dyn Io>, said_early: &[u8]) -> Result<(Socket, bool), String> {
        let name = HeaderName::from_static("sec-websocket-protocol");
        let frames = URL_SAFE_NO_PAD.encode(said_early);
        let offered = format!("{SUBPROTOCOL}, {}, {}{frames}", early::SUBPROTOCOL, early::PREFIX);
        let offered = HeaderValue::try_from(offered).map_err(|error| error.to_string())?;
        let uri: Uri = self.url.as_str().parse().map_err(|error| format!("{}: {error}", self.url))?;
        let builder = ClientBuilder::from_uri(uri)
            .limits(Limits::default().max_payload_len(Some(MAX_RECEIVED)))
            .add_header(name.clone(), offered)
            .map_err(|error| error.to_string())?;
        let (socket, answer) = builder.connect_on(stream).await.map_err(|error| self.refusal(&error))?;
        let chosen = answer.headers().get(&name).and_then(|value| value.to_str().ok());
        match chosen {
            Some(chosen) if chosen == early::SUBPROTOCOL => Ok((socket, true)),
            Some(SUBPROTOCOL) => Ok((socket, false)),
            _ => Err(format!(
                "what answers at {} chose the subprotocol {chosen:?} instead of {SUBPROTOCOL}: check that this is a relay's URL",
                self.url
            )),
        }
    }

    /// A sentence about a WebSocket's handshake that failed.
    fn refusal(&self, error: &tokio_websockets::Error) -> String {
        let status = match error {
            tokio_websockets::Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) => *status,
            error => return format!("the WebSocket to {} failed: {error}", self.url),
        };
        let why = match status {
            403 => "it does not take programs: the relay's allowed-origins has to have 'absent'",
            404 => "this is not the relay's path, or no relay",
            421 => "the relay does not know this name: its setting `hosts` has to have it",
            429 => "too many attempts from this address: try again later",
            502..=504 => "the relay is full, is about to end, or is not there: try again later",
            _ => "see the relay's log, or that of the proxy before it",
        };
        format!("{} answered {status} to a WebSocket: {why}", self.url)
    }
}

/// A TCP connection to the host of a URI, through the proxy that the environment names for it.
async fn connect(uri: Uri) -> Result<TcpStream, String> {
    let mut direct = HttpConnector::new();
    direct.enforce_http(false);
    direct.set_nodelay(true);
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let Some(proxy) = PROXIES.intercept(&uri) else {
        let stream = direct
            .call(uri)
            .await
            .map_err(|error| sentence(&format!("no relay answers at {host}"), &error))?;
        return Ok(stream.into_inner());
    };
    let at = proxy.uri().clone();
    let failed = |error: &dyn std::error::Error| {
        sentence(&format!("the proxy {at} that the environment names does not connect to {host}"), error)
    };
    let stream: TokioIo<TcpStream> = match at.scheme_str() {
        Some("socks5" | "socks5h") => {
            let mut socks = SocksV5::new(at.clone(), direct).local_dns(at.scheme_str() == Some("socks5"));
            if let Some((user, password)) = proxy.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            socks.call(uri).await.map_err(|error| failed(&error))?
        }
        Some("http") => {
            let mut tunnel = Tunnel::new(at.clone(), direct);
            if let Some(credential) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credential.clone());
            }
            tunnel.call(uri).await.map_err(|error| failed(&error))?
        }
        _ => return Err(format!("the proxy {at} that the environment names has to be http: or socks5:")),
    };
    Ok(stream.into_inner())
}

/// An error with its causes.
fn sentence(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_url_is_bound_as_pages_bind_it() {
        for (text, bound) in [
            ("wss://Relay.example", "wss://relay.example/"),
            ("https://relay.example:443/a?b=c", "wss://relay.example/a"),
            ("ws://relay.example:8087/", "ws://relay.example:8087/"),
            ("http://[::1]:8087", "ws://[::1]:8087/"),
            ("ws://127.0.0.1:80/x/", "ws://127.0.0.1/x/"),
        ] {
            assert_eq!(Relay::new(text, String::new()).unwrap().bound(), bound, "{text}");
        }
    }

    #[test]
    fn a_url_that_is_no_relays_is_refused() {
        for text in [
            "",
            "relay.example",
            "127.0.0.1:8087",
            "ftp://relay.example",
            "wss://",
            "wss://a#b",
            "wss://me:pw@a",
        ] {
            assert_eq!(Relay::new(text, String::new()).unwrap_err(), Error::Url(text.to_owned()));
        }
    }
}
