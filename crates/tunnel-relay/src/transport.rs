//! The byte streams below HTTP (`http`) and below WebSockets (`socket`).

use crate::client;
use crate::clock::RequestClock;
use crate::stream::Stream;
use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Bytes that are read of a connection first: more than a browser's handshake takes, mostly.
const START: usize = 2 << 10;

/// A protocol that a peer speaks to a port on which it is not expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WrongProtocol {
    Tls,
    ProxyHeader,
}

impl WrongProtocol {
    fn of(start: &[u8]) -> Option<Self> {
        // A handshake record of any version of TLS.
        if start.starts_with(&[0x16, 0x03]) {
            return Some(Self::Tls);
        }
        client::is_proxy_header(start).then_some(Self::ProxyHeader)
    }
}

/// A stream under HTTP. Ended when the peer takes nothing of what is written for too long.
pub(crate) struct HttpStream {
    io: TokioIo<Stream>,
    /// The protocol that the first bytes belong to, if it is not HTTP.
    wrong_protocol: Option<WrongProtocol>,
    has_begun: bool,
    clock: RequestClock,
    write_timeout: Duration,
    /// Since the peer last took something; only while it does not.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl HttpStream {
    pub(crate) fn new(stream: Stream, clock: RequestClock, write_timeout: Duration) -> Self {
        Self {
            io: TokioIo::new(stream),
            wrong_protocol: None,
            has_begun: false,
            clock,
            write_timeout,
            stalled: None,
        }
    }

    /// The protocol that the peer seems to speak instead of HTTP.
    pub(crate) const fn wrong_protocol(&self) -> Option<WrongProtocol> {
        self.wrong_protocol
    }

    pub(crate) fn into_inner(self) -> Stream {
        self.io.into_inner()
    }

    fn watched<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.write_timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_begun {
            let read = Pin::new(&mut self.io).poll_read(cx, buf);
            if read.is_ready() {
                self.clock.heard();
            }
            return read;
        }
        // Once for each connection: what can be read of a cursor is only what was read into a buffer of one's own.
        let mut start = [0; START];
        let mut read = ReadBuf::new(&mut start[..START.min(buf.remaining())]);
        ready!(AsyncRead::poll_read(Pin::new(self.io.inner_mut()), cx, &mut read))?;
        self.has_begun = true;
        self.wrong_protocol = WrongProtocol::of(read.filled());
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for HttpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watched(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watched(cx, written)
    }
}

/// A stream under a WebSocket: what HTTP had read too much comes first, and what is written is counted.
#[derive(Debug)]
pub(crate) struct Transport {
    io: Stream,
    early: Bytes,
    written: u64,
}

impl Transport {
    pub(crate) const fn new(io: Stream, early: Bytes) -> Self {
        Self { io, early, written: 0 }
    }

    /// Bytes that the peer's socket, or the kernel for it, has taken.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn into_inner(self) -> Stream {
        self.io
    }

    fn counted(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = &written {
            self.written += *len as u64;
        }
        written
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..len]);
        self.early.advance(len);
        if self.early.is_empty() {
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.counted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.counted(written)
    }
}
