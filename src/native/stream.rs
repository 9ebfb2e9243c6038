//! A socket as a stream of bytes, with a half-close: the subprotocol `tunnel.stream.v1`.
//!
//! Binary messages are bytes, a text is its UTF-8. An empty message ends its direction, as a FIN of TCP does. The socket closes
//! with 1000 when both directions have ended. Anything else is a cut, which is never read as an end: code 4500. A peer that has
//! not chosen the subprotocol, such as a page that just sends bytes, ends its direction by a clean close, and only so.

use crate::api::{Error, ReceiveHalf, SendHalf, Socket};
use bytes::{Buf as _, Bytes};
use futures_core::Stream as _;
use futures_sink::Sink as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tunnel_protocol::{CloseCode, Message};

/// The subprotocol of streams of bytes.
pub const STREAM_SUBPROTOCOL: &str = "tunnel.stream.v1";

/// Most bytes of a message that is sent.
const MAX_CHUNK: usize = 64 << 10;

/// The code of a stream that ended before both directions had.
const CUT: CloseCode = CloseCode(4500);

/// A [`Socket`] as a stream of bytes. Made by [`Socket::into_stream`].
///
/// `poll_shutdown` ends the direction that is written; the other one goes on. A stream that is dropped before both
/// directions have ended is aborted, and the other side gets an error where it reads.
#[derive(Debug)]
pub struct ByteStream {
    sender: SendHalf,
    receiver: ReceiveHalf,
    /// True if both sides speak the subprotocol, and so can end one direction.
    has_half_close: bool,
    /// The rest of the message that was received last.
    unread: Bytes,
    has_read_all: bool,
    has_written_all: bool,
    is_closed: bool,
}

impl Socket {
    /// Makes a stream of bytes of the socket. Both sides should speak it: offer and choose [`STREAM_SUBPROTOCOL`]. Otherwise
    /// one direction cannot end before the other, and the other side's clean close ends both.
    #[must_use]
    pub fn into_stream(self) -> ByteStream {
        let has_half_close = self.protocol() == STREAM_SUBPROTOCOL;
        let (sender, receiver) = self.split();
        ByteStream {
            sender,
            receiver,
            has_half_close,
            unread: Bytes::new(),
            has_read_all: false,
            has_written_all: false,
            is_closed: false,
        }
    }
}

impl ByteStream {
    /// Ends both directions at once, because of `reason`, which the other side is told. What has not arrived is lost.
    pub fn abort(mut self, reason: &str) {
        self.is_closed = true;
        self.sender.abort(CUT, reason);
    }

    /// Waits for the end of the socket. It comes by itself when both directions have ended.
    pub fn closed(&self) -> impl Future<Output = Error> + use<> {
        self.sender.closed()
    }

    fn close_if_done(&mut self) {
        if self.has_read_all && self.has_written_all && !self.is_closed {
            self.is_closed = true;
            self.sender.close(CloseCode::NORMAL, "");
        }
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        if !self.is_closed {
            self.sender.abort(CUT, "the stream was cut before its end");
        }
    }
}

/// A socket's error as that of a stream.
fn broken(error: Error) -> io::Error {
    let kind = match &error {
        Error::Closed { code: CUT, .. } => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

fn cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the other side closed the socket before the end of the stream",
    )
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() && !this.has_read_all {
            match ready!(Pin::new(&mut this.receiver).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => this.unread = bytes,
                Some(Ok(Message::Text(text))) => this.unread = Bytes::from(text.into_bytes()),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None if this.has_half_close => return Poll::Ready(Err(cut())),
                None => {
                    this.has_read_all = true;
                    this.is_closed = true;
                }
            }
            if this.unread.is_empty() && this.has_half_close {
                this.has_read_all = true;
                this.close_if_done();
            }
        }
        let len = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..len]);
        this.unread.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_written_all || self.is_closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // An empty message would be the end.
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(Pin::new(&mut self.sender).poll_ready(context)).map_err(broken)?;
        let chunk = &bytes[..bytes.len().min(MAX_CHUNK)];
        let message = Message::Binary(Bytes::copy_from_slice(chunk));
        Pin::new(&mut self.sender).start_send(message).map_err(broken)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All is on its way already once both directions have ended, and the socket may be gone.
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.sender).poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_written_all {
            if self.has_half_close {
                let end = Message::Binary(Bytes::new());
                Pin::new(&mut self.sender).start_send(end).map_err(broken)?;
            }
            self.has_written_all = true;
            self.close_if_done();
        }
        self.poll_flush(context)
    }
}
