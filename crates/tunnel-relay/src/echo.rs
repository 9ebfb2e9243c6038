//! A server that sends every message back: what the WebSocket stack is tested with, without a router behind it.

use crate::clock::RequestClock;
use crate::config::Config;
use crate::socket::{ReceiveError, Socket, ThreadBuffers};
use crate::stream::Stream;
use crate::transport::{HttpStream, Transport};
use crate::upgrade::Handshake;
use crate::websocket::Received;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpListener;
use tunnel_protocol::CloseCode;
use tunnel_protocol::router::Transmit;

/// Most fragments of a message: Autobahn cuts 4 MiB into pieces of 64 bytes.
const MAX_FRAGMENTS: u32 = 1 << 20;

/// Messages that are answered before other connections get their turn.
const BATCH: usize = 32;

/// Longest time that a peer may take nothing, and that its part of a closing handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers whoever comes, with messages of up to `max_message` bytes.
///
/// # Errors
///
/// Connections can't be accepted.
pub async fn serve(listener: TcpListener, max_message: usize) -> io::Result<Infallible> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer(request, max_message)));
            let stream =
                HttpStream::new(Stream::Plain(stream), RequestClock::new(&Config::default()), PATIENCE);
            // A connection that fails is the peer's affair.
            let _ = http1::Builder::new().serve_connection(stream, service).with_upgrades().await;
        });
    }
}

fn answer(mut request: Request<Incoming>, max_message: usize) -> Response<Full<Bytes>> {
    let upgraded = hyper::upgrade::on(&mut request);
    let mut answer = Response::new(Full::default());
    // Clients that offer no subprotocol are welcome.
    match Handshake::check(&request.into_parts().0, true) {
        Ok(handshake) => {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            handshake.answer(answer.headers_mut());
            tokio::spawn(run(upgraded, max_message));
        }
        Err(refusal) => *answer.status_mut() = refusal.status(),
    }
    answer
}

async fn run(upgraded: OnUpgrade, max_message: usize) {
    let Ok(upgraded) = upgraded.await else { return };
    let parts = upgraded.downcast::<HttpStream>().expect("all that is served is an HttpStream");
    let stream = parts.io.into_inner();
    let mut socket = Socket::new(Transport::new(stream, parts.read_buf), max_message, MAX_FRAGMENTS, None);
    let end = poll_fn(|cx| ThreadBuffers::with(|buffers| turn(&mut socket, cx, buffers))).await;
    let Some((code, reason)) = end else { return };
    let closing = async {
        socket.flush_with_close(code, &reason).await?;
        socket.finish().await
    };
    // An error here is the peer's affair.
    let _ = tokio::time::timeout(PATIENCE, closing).await;
}

/// Answers a batch of messages; with what to close, once it is over.
fn turn(
    socket: &mut Socket,
    cx: &mut Context<'_>,
    buffers: &mut ThreadBuffers,
) -> Poll<Option<(CloseCode, String)>> {
    socket.borrow(buffers);
    for _ in 0..BATCH {
        // Answers have to go before more is read.
        match ready!(socket.poll_flush(cx, buffers)) {
            Ok(()) => {}
            Err(_) => return Poll::Ready(None),
        }
        let received = socket.poll_receive(cx, buffers);
        socket.pause(buffers);
        match ready!(received) {
            Some(Ok(Received::Binary(message))) => socket.send(Transmit::Binary(message.freeze())),
            Some(Ok(Received::Text(text))) => socket.send(Transmit::Text(text)),
            Some(Ok(Received::Ping(_) | Received::Pong)) => {}
            Some(Ok(Received::Close(code))) => return Poll::Ready(Some((code, String::new()))),
            Some(Err(ReceiveError::Fault(fault))) => {
                return Poll::Ready(Some((fault.code(), fault.to_string())));
            }
            Some(Err(ReceiveError::Lost)) | None => return Poll::Ready(None),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}
