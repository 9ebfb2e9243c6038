//! Plain HTTP: health, files and the way into a WebSocket.

use crate::admission::{AddressPlace, NoPlace, Place};
use crate::client;
use crate::config::{AddressSource, Config};
use crate::connection;
use crate::files::{self, Answer};
use crate::metrics::Refused;
use crate::monitor;
use crate::origins;
use crate::server::Shared;
use crate::stream::Stream;
use crate::transport::{HttpStream, Transport};
use crate::upgrade::{self, Handshake, Refusal};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioTimer;
use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tracing::debug;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Dialect, Peer};

/// Who is at the other end of a connection, and the places that it takes.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The peer's, or that of the trusted proxy before it.
    address: IpAddr,
    /// Whether others are behind it, of whom it is to say who they are.
    is_proxy: bool,
    config: Arc<Config>,
    _place: Place,
    /// The address's own place; a trusted proxy has none.
    own: Option<AddressPlace>,
}

impl Visitor {
    /// Finds places for a new connection.
    pub(crate) fn admit(shared: &Shared, address: SocketAddr) -> Result<Self, NoPlace> {
        let (config, now) = (shared.config(), Instant::now());
        let address = address.ip().to_canonical();
        let is_proxy = client::is_trusted(&config.trusted_proxies, address);
        // The address first: a flood from one does not use up the rate of all.
        let own = if is_proxy { None } else { Some(shared.admission.enter_from(address, now)?) };
        Ok(Self { address, is_proxy, config, _place: shared.admission.enter(now)?, own })
    }
}

/// Serves one connection, until it goes away, becomes a WebSocket or the relay ends.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, mut visitor: Visitor) {
    let address = visitor.address;
    let deadline = visitor.config.handshake_timeout;
    let prepared = tokio::select! {
        prepared = tokio::time::timeout(deadline, prepare(&shared, stream, &mut visitor)) => prepared,
        () = shared.draining() => return,
    };
    match prepared {
        Ok(Ok(stream)) => converse(shared, stream, visitor).await,
        Ok(Err(error)) => {
            shared.metrics.refused.count(Refused::Preparing);
            debug!(%address, %error, "connection failed before HTTP");
        }
        Err(_) => {
            shared.metrics.refused.count(Refused::Preparing);
            debug!(%address, "connection was not ready for HTTP in time");
        }
    }
}

/// What comes before HTTP: the PROXY protocol, then TLS.
async fn prepare(shared: &Shared, mut stream: TcpStream, visitor: &mut Visitor) -> io::Result<Stream> {
    if visitor.is_proxy && visitor.config.client_address == AddressSource::ProxyProtocol {
        if let Some(address) = client::read_proxy_header(&mut stream).await? {
            visitor.address = address.to_canonical();
            let own = shared.admission.enter_from(visitor.address, Instant::now());
            visitor.own = Some(own.map_err(|full| io::Error::other(full.text().trim_end()))?);
        }
        visitor.is_proxy = false;
    }
    match &shared.tls {
        Some(tls) => Ok(Stream::Tls(Box::new(tls.acceptor.accept(stream).await?))),
        None => Ok(Stream::Plain(stream)),
    }
}

/// Speaks HTTP.
async fn converse(shared: Arc<Shared>, stream: Stream, visitor: Visitor) {
    let _present = shared.metrics.http();
    let visitor = Arc::new(visitor);
    let (limits, address) = (visitor.config.clone(), visitor.address);
    let stream = HttpStream::new(stream, limits.write_timeout);
    let service = service_fn(|request| answer(shared.clone(), request, visitor.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(limits.max_header_bytes)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut draining = pin!(shared.draining());
    let mut killed = pin!(shared.killed());
    let mut is_draining = false;
    let result = loop {
        tokio::select! {
            result = &mut connection => break result,
            () = &mut draining, if !is_draining => {
                is_draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut killed => return,
        }
    };
    if let Err(error) = result {
        debug!(%address, ?error, "HTTP connection failed");
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    visitor: Arc<Visitor>,
) -> Result<Answer, Infallible> {
    let mut answer = if upgrade::is_wanted(request.headers()) {
        open_web_socket(&shared, request, visitor)
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = files::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else if let Some(answer) = monitor::health(&shared, request.uri().path()) {
        answer
    } else {
        shared.files.serve(request.method(), request.uri(), request.headers()).await
    };
    shared.metrics.answered(answer.status());
    harden(answer.headers_mut());
    Ok(answer)
}

/// Headers that no page needs to go without.
pub(crate) fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "base-uri 'self'; frame-ancestors 'self'; object-src 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn open_web_socket(shared: &Arc<Shared>, mut request: Request<Incoming>, visitor: Arc<Visitor>) -> Answer {
    let upgraded = hyper::upgrade::on(&mut request);
    let (request, _) = request.into_parts();
    let config = shared.config();
    let address = visitor.seen_in(&config, &request.headers);
    let origin = request.headers.get(header::ORIGIN);
    if shared.is_draining() {
        shared.metrics.refused.count(Refused::Draining);
        return unavailable("this relay is about to end: try again later\n");
    }
    let checked = if origins::admit(&config.allowed_origins, &request.headers) {
        Handshake::check(&request, config.livecode_credential.is_some())
    } else {
        Err(Refusal::Origin)
    };
    let handshake = match checked {
        Ok(handshake) => handshake,
        Err(refusal) => {
            debug!(%address, origin = ?quoted(origin), ?refusal, "WebSocket refused");
            shared.metrics.refused.count(refusal.metric());
            return refused(refusal);
        }
    };
    if shared.switchboard.is_full() {
        debug!(%address, "WebSocket refused: buffers are full");
        shared.metrics.refused.count(Refused::Buffers);
        return unavailable("this relay holds as much as it may for others: try again later\n");
    }
    // Behind a proxy each WebSocket counts for the peer that opens it, and not for the proxy.
    let own = match visitor.is_proxy.then(|| shared.admission.enter_from(address, Instant::now())).transpose()
    {
        Ok(own) => own,
        Err(full) => {
            debug!(%address, ?full, "WebSocket refused");
            shared.metrics.refused.count(full.metric());
            return unavailable(full.text());
        }
    };
    let places = Places { _connection: visitor, _own: own };
    let peer = match peer(handshake.dialect, &request.headers, address) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::error!(%error, "the system has no random numbers");
            shared.metrics.refused.count(Refused::NoRandomness);
            return files::text(StatusCode::SERVICE_UNAVAILABLE, "this relay has no random numbers\n");
        }
    };
    debug!(%address, origin = ?quoted(origin), dialect = ?handshake.dialect, "WebSocket opens");
    let web_socket = run_web_socket(shared.clone(), config, upgraded, peer, places);
    shared.metrics.set_task_size(size_of_val(&web_socket));
    shared.tasks.spawn(web_socket);

    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    handshake.answer(answer.headers_mut());
    answer
}

/// What a peer wrote, for the log: its debug form escapes tabs, too, which a header value's own does not.
fn quoted(value: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    value.map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// What a WebSocket takes of what there is for all, as long as it is open.
struct Places {
    _connection: Arc<Visitor>,
    _own: Option<AddressPlace>,
}

impl Visitor {
    /// The address of the peer that sent a request.
    fn seen_in(&self, config: &Config, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        client::forwarded(config.client_address, &config.trusted_proxies, headers, self.address)
    }
}

fn unavailable(text: &'static str) -> Answer {
    let mut answer = files::text(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn refused(refusal: Refusal) -> Answer {
    let mut answer = files::text(refusal.status(), refusal.text());
    let headers = answer.headers_mut();
    match refusal {
        Refusal::NotGet => headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        Refusal::Version => headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        _ => None,
    };
    answer
}

fn peer(dialect: Dialect, headers: &HeaderMap, address: IpAddr) -> Result<Peer, getrandom::Error> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge)?;
    let address = address.to_string();
    let challenge = StaticKey::from_secret(challenge);
    Ok(Peer { dialect, address, origin: host.to_ascii_lowercase(), challenge })
}

async fn run_web_socket(
    shared: Arc<Shared>,
    config: Arc<Config>,
    upgraded: OnUpgrade,
    peer: Peer,
    _places: Places,
) {
    let _present = shared.metrics.web_socket();
    // In a future of its own, which is gone while the connection runs: its task is the size of the larger one.
    if let Some(transport) = opened(upgraded, config.handshake_timeout).await {
        connection::run(&shared, &config, transport, peer).await;
    } else {
        shared.metrics.refused.count(Refused::Opening);
    }
}

async fn opened(upgraded: OnUpgrade, within: Duration) -> Option<Transport> {
    let upgraded = match tokio::time::timeout(within, upgraded).await {
        Ok(Ok(upgraded)) => upgraded,
        Ok(Err(error)) => {
            debug!(%error, "WebSocket went away while opening");
            return None;
        }
        Err(_) => {
            debug!("WebSocket did not open in time");
            return None;
        }
    };
    let parts = upgraded.downcast::<HttpStream>().expect("all that is served is an HttpStream");
    Some(Transport::new(parts.io.into_inner(), &parts.read_buf))
}
