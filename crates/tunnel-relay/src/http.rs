//! Plain HTTP: health, files and the way into a WebSocket.

use crate::connection;
use crate::files::{self, Answer};
use crate::metrics::Refused;
use crate::monitor;
use crate::server::Shared;
use crate::transport::{HttpStream, Transport};
use crate::upgrade::{self, Handshake};
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
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tracing::debug;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Dialect, Peer};

/// Speaks HTTP with one peer, until it goes away, becomes a WebSocket or the relay ends.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let limits = &shared.config;
    let _present = shared.metrics.http();
    let stream = HttpStream::new(stream, limits.write_timeout);
    let service = service_fn(|request| answer(shared.clone(), request, address));
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
    address: SocketAddr,
) -> Result<Answer, Infallible> {
    let mut answer = if upgrade::is_wanted(request.headers()) {
        open_web_socket(&shared, request, address)
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

fn open_web_socket(shared: &Arc<Shared>, mut request: Request<Incoming>, address: SocketAddr) -> Answer {
    let upgraded = hyper::upgrade::on(&mut request);
    let (request, _) = request.into_parts();
    let origin = request.headers.get(header::ORIGIN);
    if shared.is_draining() {
        shared.metrics.refused.count(Refused::Draining);
        return files::text(StatusCode::SERVICE_UNAVAILABLE, "this relay is about to end: try again later\n");
    }
    let handshake = match Handshake::check(&request, shared.config.livecode_credential.is_some()) {
        Ok(handshake) => handshake,
        Err(refusal) => {
            debug!(%address, origin = ?quoted(origin), ?refusal, "WebSocket refused");
            shared.metrics.refused.count(refusal.metric());
            return refused(refusal);
        }
    };
    let peer = match peer(handshake.dialect, &request.headers, address) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::error!(%error, "the system has no random numbers");
            shared.metrics.refused.count(Refused::NoRandomness);
            return files::text(StatusCode::SERVICE_UNAVAILABLE, "this relay has no random numbers\n");
        }
    };
    debug!(%address, origin = ?quoted(origin), dialect = ?handshake.dialect, "WebSocket opens");
    let web_socket = run_web_socket(shared.clone(), upgraded, peer);
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

fn refused(refusal: upgrade::Refusal) -> Answer {
    let mut answer = files::text(refusal.status(), refusal.text());
    let headers = answer.headers_mut();
    match refusal {
        upgrade::Refusal::NotGet => headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        upgrade::Refusal::Version => {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
        }
        _ => None,
    };
    answer
}

fn peer(dialect: Dialect, headers: &HeaderMap, address: SocketAddr) -> Result<Peer, getrandom::Error> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge)?;
    let address = address.ip().to_canonical().to_string();
    let challenge = StaticKey::from_secret(challenge);
    Ok(Peer { dialect, address, origin: host.to_ascii_lowercase(), challenge })
}

async fn run_web_socket(shared: Arc<Shared>, upgraded: OnUpgrade, peer: Peer) {
    let _present = shared.metrics.web_socket();
    // In a future of its own, which is gone while the connection runs: its task is the size of the larger one.
    if let Some(transport) = opened(upgraded, shared.config.handshake_timeout).await {
        connection::run(&shared, transport, peer).await;
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
