//! A second address for those who watch the relay: metrics, health and a live page. Nothing of it is for strangers. `server` starts it.

mod live;

use crate::answers;
use crate::complaints::complain;
use crate::files::{self, Answer};
use crate::hosts::{self, Way};
use crate::metrics::{Snapshot, State};
use crate::shared::Shared;
use crate::tls::Tls;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use live::History;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

/// More than all that watch one relay, and few enough to leave descriptors to peers.
const MAX_CONNECTIONS: usize = 32;

/// Longest time of one connection: a monitoring system connects again.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Content type of Prometheus's text format.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Pause before the relay tries once more to listen on this address.
const LISTEN_AGAIN: Duration = Duration::from_millis(250);

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Listens for those who watch; `None` if somebody else does there, as the relay's predecessor while it drains.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<Option<TcpListener>> {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            info!(address = %listener.local_addr()?, "metrics");
            Ok(Some(listener))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("can't listen on {address} for metrics: {error}")))
        }
    }
}

/// Waits until nobody else listens there.
async fn listen_later(shared: &Shared, address: SocketAddr) -> TcpListener {
    loop {
        match listen(address).await {
            Ok(Some(listener)) => return listener,
            Ok(None) => complain!(
                shared.complaints,
                Metrics,
                %address,
                "the address for metrics is in use, perhaps by a relay that drains: it is taken as soon as it is free"
            ),
            Err(error) => complain!(shared.complaints, Metrics, %error, "metrics can't be shown yet"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// Answers them until the future is dropped, while the relay drains too.
pub(crate) async fn serve(shared: Arc<Shared>, listener: Option<TcpListener>, address: SocketAddr) {
    let listener = match listener {
        Some(listener) => listener,
        None => listen_later(&shared, address).await,
    };
    let mut connections = JoinSet::new();
    let history = Arc::new(History::new());
    let mut samples = tokio::time::interval(live::INTERVAL);
    samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = samples.tick() => history.sample(&shared, history.now()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, address)) => {
                    connections.spawn(connection(shared.clone(), history.clone(), stream, address));
                }
                Err(error) => {
                    complain!(shared.complaints, Accept, %error, "can't accept connections for metrics");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, history: Arc<History>, stream: TcpStream, address: SocketAddr) {
    let limits = shared.config();
    let local = stream.local_addr().map_or_else(|_| address.ip(), |local| local.ip().to_canonical());
    let way = Way { local, is_secure: false, is_proxy: false };
    let service = service_fn(|request| answer(shared.clone(), history.clone(), request, way));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.handshake_timeout)
        .max_buf_size(limits.max_header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(MAX_AGE, connection).await {
        debug!(%address, ?error, "HTTP connection for metrics failed");
    }
}

async fn answer<B>(
    shared: Arc<Shared>,
    history: Arc<History>,
    request: Request<B>,
    way: Way,
) -> Result<Answer, Infallible> {
    let (request, _body) = request.into_parts();
    let mut answer = if let Some(answer) = answers::health(&shared, &request) {
        answer
    } else if let Err(error) = hosts::reached(shared.config().names(), &request, way) {
        answers::unknown_host(&shared, &error)
    } else if !matches!(request.method, Method::GET | Method::HEAD) {
        files::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n")
    } else if request.uri.path() == "/metrics" {
        metrics(shared).await
    } else if request.uri.path() == "/live.json" {
        live_state(shared, history).await
    } else if request.uri.path() == "/" {
        of_type(files::text(StatusCode::OK, live::PAGE), HTML)
    } else {
        files::text(StatusCode::NOT_FOUND, "here are a live page at /, /metrics, /healthz and /readyz\n")
    };
    answers::harden(answer.headers_mut());
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(live::POLICY));
    Ok(answer)
}

async fn metrics(shared: Arc<Shared>) -> Answer {
    let runtime = Handle::current().metrics();
    // It looks at all links and reads files: other tasks should not wait for it.
    let page = tokio::task::spawn_blocking(move || {
        let snapshot: Snapshot = shared.router.snapshot();
        let certificate = shared.tls.as_ref().and_then(Tls::certificate);
        let state = State {
            is_ready: shared.not_ready().is_none(),
            certificate_not_after: certificate.map(|certificate| certificate.not_after_seconds()),
            total_buffer: shared.config().total_buffer,
        };
        shared.metrics.page(&snapshot, &state, &runtime)
    });
    let Ok(page) = page.await else {
        return files::text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be read\n");
    };
    of_type(files::text(StatusCode::OK, page), FORMAT)
}

async fn live_state(shared: Arc<Shared>, history: Arc<History>) -> Answer {
    match tokio::task::spawn_blocking(move || live::state(&shared, &history, history.now()).to_string()).await
    {
        Ok(state) => of_type(files::text(StatusCode::OK, state), JSON),
        Err(_) => files::text(StatusCode::INTERNAL_SERVER_ERROR, "the state can't be read\n"),
    }
}

fn of_type(mut answer: Answer, content_type: HeaderValue) -> Answer {
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}
