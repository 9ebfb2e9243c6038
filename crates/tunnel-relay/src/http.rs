//! Plain HTTP: health, files and the way into a WebSocket.

use crate::admission::{AddressPlace, NoPlace, Place};
use crate::client;
use crate::clock::RequestClock;
use crate::complaints::complain;
use crate::config::{AddressSource, Config};
use crate::entrance::{self, Guest, Obstacle};
use crate::files::{self, Answer};
use crate::hosts::{self, Way};
use crate::metrics::Refused;
use crate::monitor;
use crate::server::{self, Shared};
use crate::stream::Stream;
use crate::tls;
use crate::transport::{HttpStream, Stray, Transport};
use crate::upgrade::{self, Refusal};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tracing::{debug, error};

/// Who is at the other end of a connection, and the places that it takes.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// The peer's, or that of the trusted proxy before it.
    address: IpAddr,
    /// Whether others are behind it, of whom it is to say who they are.
    is_proxy: bool,
    /// Whether the relay speaks TLS with it.
    is_secure: bool,
    /// The relay's own address, which it came to.
    local: IpAddr,
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
        let (is_secure, local) = (shared.tls.is_some(), config.listen.ip());
        Ok(Self { address, is_proxy, is_secure, local, config, _place: shared.admission.enter(now)?, own })
    }
}

impl Visitor {
    /// Whether others are behind it.
    pub(crate) const fn is_proxy(&self) -> bool {
        self.is_proxy
    }

    /// How it reached the relay.
    pub(crate) const fn way(&self) -> Way {
        Way { local: self.local, is_secure: self.is_secure, is_proxy: self.is_proxy }
    }

    /// The address of the peer that sent a request.
    pub(crate) fn seen_in(&self, config: &Config, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        client::forwarded(config.client_address, &config.trusted_proxies, headers, self.address)
    }
}

/// Serves one connection, until it goes away or the relay ends.
pub(crate) fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    visitor: Visitor,
) -> impl Future<Output = ()> + Send {
    // In a box, which is gone while the WebSocket is open: the task has room for all that it awaits.
    let receiving = Box::pin(receive(shared.clone(), stream, visitor));
    async move {
        if let Some((mut guest, transport)) = receiving.await {
            guest.stay(&shared, transport).await;
        }
    }
}

/// Serves a connection until it becomes a WebSocket, if it does.
async fn receive(shared: Arc<Shared>, stream: TcpStream, mut visitor: Visitor) -> Option<(Guest, Transport)> {
    if let Ok(local) = stream.local_addr() {
        visitor.local = local.ip().to_canonical();
    }
    let (address, deadline) = (visitor.address, visitor.config.handshake_timeout);
    let prepared = tokio::select! {
        prepared = tokio::time::timeout(deadline, prepare(&shared, stream, &mut visitor)) => prepared,
        () = shared.draining() => return None,
    };
    let stream = match prepared {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            shared.metrics.refused.count(Refused::Preparing);
            debug!(%address, %error, "connection failed before HTTP");
            return None;
        }
        Err(_) => {
            shared.metrics.refused.count(Refused::Preparing);
            debug!(%address, "connection was not ready for HTTP in time");
            return None;
        }
    };
    let _present = shared.metrics.http();
    let visitor = Arc::new(visitor);
    converse(shared.clone(), stream, visitor).await
}

/// What comes before HTTP: the PROXY protocol, then TLS.
async fn prepare(shared: &Shared, mut stream: TcpStream, visitor: &mut Visitor) -> io::Result<Stream> {
    if visitor.is_proxy && visitor.config.client_address == AddressSource::ProxyProtocol {
        let header = client::read_proxy_header(&mut stream).await;
        if let Err(error) = &header
            && error.kind() == io::ErrorKind::InvalidData
        {
            complain!(
                shared,
                NoProxyHeader,
                proxy = %visitor.address,
                %error,
                "a trusted proxy does not speak the PROXY protocol, which client-address expects of it"
            );
        }
        if let Some(address) = header? {
            visitor.address = address.to_canonical();
            let own = shared.admission.enter_from(visitor.address, Instant::now());
            visitor.own = Some(own.map_err(|full| io::Error::other(full.text().trim_end()))?);
        }
        visitor.is_proxy = false;
    }
    match &shared.tls {
        Some(tls) => {
            let accepted = tls.acceptor.accept(stream).await;
            if accepted.as_ref().is_err_and(tls::speaks_no_tls) {
                complain!(
                    shared,
                    NoTls,
                    address = %visitor.address,
                    "somebody speaks without TLS (ws:, http:) to this port, which has a certificate: use wss:, or tell the proxy \
                     before it"
                );
            }
            Ok(Stream::Tls(Box::new(accepted?)))
        }
        None => Ok(Stream::Plain(stream)),
    }
}

/// Speaks HTTP, until the connection ends or becomes a WebSocket.
async fn converse(shared: Arc<Shared>, stream: Stream, visitor: Arc<Visitor>) -> Option<(Guest, Transport)> {
    let (limits, address) = (visitor.config.clone(), visitor.address);
    let clock = RequestClock::new(&limits);
    let stream = HttpStream::new(stream, clock.clone(), limits.write_timeout);
    // Set by the answer with which a WebSocket opens, the last one.
    let admitted: Arc<Mutex<Option<Guest>>> = Arc::default();
    let service = service_fn(|request| {
        // In a box, so that the connection can be taken apart.
        Box::pin(answer(shared.clone(), request, visitor.clone(), admitted.clone()))
    });
    let mut connection = http1::Builder::new()
        .timer(clock)
        .header_read_timeout(limits.handshake_timeout)
        // Whoever has said all that it has to say may close its half: it gets its answer.
        .half_close(true)
        .max_buf_size(limits.max_header_bytes)
        .serve_connection(stream, service);
    let mut draining = pin!(shared.draining());
    let mut killed = pin!(shared.killed());
    let mut is_draining = false;
    let result = loop {
        tokio::select! {
            result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break result,
            () = &mut draining, if !is_draining => {
                is_draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut killed => return None,
        }
    };
    let guest = admitted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let parts = connection.into_parts();
    let stray = parts.io.stray();
    let mut stream = parts.io.into_inner();
    if let Err(error) = result {
        match stray {
            Some(Stray::Tls) => complain!(
                shared,
                Tls,
                %address,
                "somebody speaks TLS (wss:, https:) to this port, which has none: set tls-certificate, or use ws:"
            ),
            Some(Stray::ProxyHeader) => complain!(
                shared,
                ProxyHeader,
                %address,
                "a connection begins with a header of the PROXY protocol, which is expected of trusted-proxies only, \
                 and with client-address = \"proxy-protocol\""
            ),
            None => debug!(%address, ?error, "HTTP connection failed"),
        }
        if guest.is_some() {
            shared.metrics.refused.count(Refused::Opening);
        }
        if error.is_parse() {
            // It has been answered, with 400 or 431.
            let _ignored = tokio::time::timeout(server::TOLD_WITHIN, server::take_leave(stream)).await;
        }
        return None;
    }
    let Some(guest) = guest else {
        // TLS says that this is the end; a peer that does not hear it has left already.
        let _ignored = tokio::time::timeout(limits.close_timeout, stream.shutdown()).await;
        return None;
    };
    // Copied: the few bytes, mostly none, are a part of HTTP's read buffer of 8 KiB.
    Some((guest, Transport::new(stream, Bytes::copy_from_slice(&parts.read_buf))))
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    visitor: Arc<Visitor>,
    admitted: Arc<Mutex<Option<Guest>>>,
) -> Result<Answer, Infallible> {
    let (request, _body) = request.into_parts();
    let mut answer = if request.headers.get_all(header::HOST).iter().count() > 1 {
        files::text(StatusCode::BAD_REQUEST, "a request has one Host header\n")
    } else if let Some(answer) = monitor::health(&shared, &request) {
        answer
    } else if upgrade::is_wanted(&request.headers) {
        open_web_socket(&shared, &request, &visitor, &admitted)
    } else if let Err(error) = hosts::reached(&shared.config(), &request, visitor.way()) {
        complain!(shared, Host, host = ?error.0, "a request is refused: {error}");
        files::text(StatusCode::MISDIRECTED_REQUEST, format!("{error}\n"))
    } else if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut answer = files::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else {
        shared.files.serve(&shared, &request.method, &request.uri, &request.headers).await
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

fn open_web_socket(
    shared: &Shared,
    request: &request::Parts,
    visitor: &Arc<Visitor>,
    admitted: &Mutex<Option<Guest>>,
) -> Answer {
    let (handshake, guest) = match entrance::admit(shared, request, visitor) {
        Ok(admitted) => admitted,
        Err(obstacle) => {
            let address = visitor.seen_in(&shared.config(), &request.headers);
            let origin = entrance::quoted(request.headers.get(header::ORIGIN));
            if let Obstacle::NoRandomness(error) = &obstacle {
                error!(%error, "the system has no random numbers");
            }
            if matches!(obstacle, Obstacle::Refused(Refusal::Origin)) {
                complain!(shared, Origin, %address, ?origin, "a page's origin is not among the allowed-origins");
            } else if let Obstacle::Host(error) = &obstacle {
                complain!(shared, Host, %address, host = ?error.0, "a handshake is refused: {error}");
            } else {
                debug!(%address, ?origin, ?obstacle, "WebSocket refused");
            }
            shared.metrics.refused.count(obstacle.metric());
            return obstacle.answer();
        }
    };
    *admitted.lock().unwrap_or_else(PoisonError::into_inner) = Some(guest);
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    handshake.answer(answer.headers_mut());
    answer
}
