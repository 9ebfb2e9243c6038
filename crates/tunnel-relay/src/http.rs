//! Plain HTTP: health, files, and the request by which a connection becomes a WebSocket. `server` calls it for each connection.

use crate::answers;
use crate::client;
use crate::clock::RequestClock;
use crate::complaints::{complain, quoted};
use crate::config::AddressSource;
use crate::entrance::{self, Admitted, Rejection};
use crate::files::{self, Answer};
use crate::hosts;
use crate::inquiry;
use crate::metrics::Refused;
use crate::remote::Remote;
use crate::shared::Shared;
use crate::stream::{self, Stream};
use crate::tls;
use crate::transport::{HttpStream, Transport, WrongProtocol};
use crate::upgrade::{self, Refusal};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tracing::{debug, error};

/// Serves one connection, until it goes away or the relay ends.
pub(crate) fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    remote: Remote,
) -> impl Future<Output = ()> + Send {
    // In a box, which is gone while the WebSocket is open: the task has room for all that it awaits.
    let receiving = Box::pin(receive(shared.clone(), stream, remote));
    async move {
        if let Some((mut admitted, transport)) = receiving.await {
            admitted.run(&shared, transport).await;
        }
    }
}

/// Serves a connection until it becomes a WebSocket, if it does.
async fn receive(
    shared: Arc<Shared>,
    stream: TcpStream,
    mut remote: Remote,
) -> Option<(Admitted, Transport)> {
    if let Ok(local) = stream.local_addr() {
        remote.local = local.ip().to_canonical();
    }
    let (address, deadline) = (remote.address, remote.config.handshake_timeout);
    let prepared = tokio::select! {
        prepared = tokio::time::timeout(deadline, prepare(&shared, stream, &mut remote)) => prepared,
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
    let remote = Arc::new(remote);
    converse(shared.clone(), stream, remote).await
}

/// Does what comes before HTTP: the PROXY protocol, then TLS.
async fn prepare(shared: &Shared, mut stream: TcpStream, remote: &mut Remote) -> io::Result<Stream> {
    if remote.is_proxy && remote.config.client_address == AddressSource::ProxyProtocol {
        let header = client::read_proxy_header(&mut stream).await;
        if let Err(error) = &header
            && error.kind() == io::ErrorKind::InvalidData
        {
            complain!(
                shared.complaints,
                NoProxyHeader,
                proxy = %remote.address,
                %error,
                "a trusted proxy does not speak the PROXY protocol, which client-address expects of it"
            );
        }
        if let Some(address) = header? {
            remote.address = address.to_canonical();
            let own = shared.admission.enter_from(remote.address, Instant::now());
            remote.own = Some(own.map_err(|full| io::Error::other(full.text().trim_end()))?);
        }
        remote.is_proxy = false;
    }
    match &shared.tls {
        Some(tls) => {
            let accepted = tls.acceptor.accept(stream).await;
            if accepted.as_ref().is_err_and(tls::speaks_no_tls) {
                complain!(
                    shared.complaints,
                    NoTls,
                    address = %remote.address,
                    "somebody speaks without TLS (ws:, http:) to this port, which has a certificate: use wss:, or tell the proxy \
                     before it"
                );
            }
            Ok(Stream::Tls(Box::new(accepted?.into())))
        }
        None => Ok(Stream::Plain(stream)),
    }
}

/// Speaks HTTP, until the connection ends or becomes a WebSocket.
async fn converse(shared: Arc<Shared>, stream: Stream, remote: Arc<Remote>) -> Option<(Admitted, Transport)> {
    let (limits, address) = (remote.config.clone(), remote.address);
    let clock = RequestClock::new(&limits);
    let stream = HttpStream::new(stream, clock.clone(), limits.write_timeout);
    // Set by the answer with which a WebSocket opens, the last one.
    let slot: Arc<Mutex<Option<Admitted>>> = Arc::default();
    let service = service_fn(|request| {
        // In a box, so that the connection can be taken apart.
        Box::pin(answer(shared.clone(), request, remote.clone(), slot.clone()))
    });
    let mut connection = http1::Builder::new()
        .timer(clock)
        .header_read_timeout(limits.handshake_timeout)
        // A client that closes its half after the request gets its answer.
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
    let admitted = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let parts = connection.into_parts();
    let wrong_protocol = parts.io.wrong_protocol();
    let mut stream = parts.io.into_inner();
    if let Err(error) = result {
        match wrong_protocol {
            Some(WrongProtocol::Tls) => complain!(
                shared.complaints,
                Tls,
                %address,
                "somebody speaks TLS (wss:, https:) to this port, which has none: set tls-certificate, or use ws:"
            ),
            Some(WrongProtocol::ProxyHeader) => complain!(
                shared.complaints,
                ProxyHeader,
                %address,
                "a connection begins with a header of the PROXY protocol, which is expected of trusted-proxies only, \
                 and with client-address = \"proxy-protocol\""
            ),
            None => debug!(%address, ?error, "HTTP connection failed"),
        }
        if admitted.is_some() {
            shared.metrics.refused.count(Refused::Opening);
        }
        if error.is_parse() {
            // It has been answered, with 400 or 431.
            let _ignored = tokio::time::timeout(stream::LAST_WORDS, stream::close_after_answer(stream)).await;
        }
        return None;
    }
    let Some(admitted) = admitted else {
        // TLS says that this is the end; a peer that does not hear it has left already.
        let _ignored = tokio::time::timeout(limits.close_timeout, stream.shutdown()).await;
        return None;
    };
    // Copied: the few bytes, mostly none, are a part of HTTP's read buffer of 8 KiB.
    Some((admitted, Transport::new(stream, Bytes::copy_from_slice(&parts.read_buf))))
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    remote: Arc<Remote>,
    slot: Arc<Mutex<Option<Admitted>>>,
) -> Result<Answer, Infallible> {
    let (request, _body) = request.into_parts();
    let mut answer = if request.headers.get_all(header::HOST).iter().count() > 1 {
        files::text(StatusCode::BAD_REQUEST, "a request has one Host header\n")
    } else if let Some(answer) = answers::health(&shared, &request) {
        answer
    } else if upgrade::is_wanted(&request.headers) {
        open_web_socket(&shared, &request, &remote, &slot)
    } else if inquiry::is_one(&request.headers) {
        inquiry::answer(&shared, &request, &remote)
    } else if let Err(error) = hosts::reached(shared.config().names(), &request, remote.way()) {
        answers::unknown_host(&shared, &error)
    } else if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut answer = files::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served here\n");
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else {
        shared.files.serve(&shared.complaints, &request.method, &request.uri, &request.headers).await
    };
    shared.metrics.answered(answer.status());
    answers::harden(answer.headers_mut());
    Ok(answer)
}

fn open_web_socket(
    shared: &Shared,
    request: &request::Parts,
    remote: &Arc<Remote>,
    slot: &Mutex<Option<Admitted>>,
) -> Answer {
    let (handshake, admitted) = match entrance::admit(shared, request, remote) {
        Ok(both) => both,
        Err(rejection) => {
            let address = remote.seen_in(&shared.config(), &request.headers);
            let origin = quoted(request.headers.get(header::ORIGIN));
            if let Rejection::NoRandomness(error) = &rejection {
                error!(%error, "the system has no random numbers");
            }
            if matches!(rejection, Rejection::Refused(Refusal::Origin)) {
                complain!(shared.complaints, Origin, %address, ?origin, "a page's origin is not among the allowed-origins");
            } else if let Rejection::Host(error) = &rejection {
                complain!(shared.complaints, Host, %address, host = ?error.0, "a handshake is refused: {error}");
            } else {
                debug!(%address, ?origin, ?rejection, "WebSocket refused");
            }
            shared.metrics.refused.count(rejection.metric());
            return rejection.answer();
        }
    };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(admitted);
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    handshake.answer(answer.headers_mut());
    answer
}
