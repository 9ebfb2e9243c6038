//! One WebSocket: the only module that knows which library speaks the protocol.

use crate::transport::Transport;
use bytes::BytesMut;
use futures_core::Stream as _;
use futures_sink::Sink as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_websockets::{Config, Error, Limits, Message, ServerBuilder, WebSocketStream};
use tunnel_protocol::CloseCode;
use tunnel_protocol::router::Transmit;

/// How much of what a peer still sends is read and forgotten while its WebSocket closes.
///
/// A socket that closes with bytes unread is reset, and the reset overtakes the close frame.
const MAX_FORGOTTEN: usize = 4 << 20;

/// A WebSocket, this end being the server.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Transport>,
}

/// One message, or a sign of life.
#[derive(Debug)]
pub(crate) enum Received {
    Binary(BytesMut),
    Text(Text),
    Ping,
    Pong,
    /// The peer's close frame: nothing comes after it.
    Close(CloseCode),
}

/// A text message: UTF-8, checked while it was received.
#[derive(Debug)]
pub(crate) struct Text(Message);

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("a message may have {max} bytes here")]
    TooBig { max: usize },
    /// The library has queued a close frame that says what is wrong.
    #[error("{0}")]
    Malformed(#[source] Error),
    #[error("the connection broke")]
    Lost,
}

impl Socket {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn new(transport: Transport, max_message: usize) -> Self {
        let stream = ServerBuilder::new()
            // Ours are never cut into fragments, and are flushed when `flush` is called.
            .config(Config::default().frame_size(usize::MAX).flush_threshold(usize::MAX))
            .limits(Limits::default().max_payload_len(Some(max_message)))
            .serve(transport);
        Self { stream }
    }

    /// Bytes that the peer's socket, or the kernel for it, has taken.
    pub(crate) fn written(&self) -> u64 {
        self.stream.get_ref().written()
    }

    /// The next message; `None` when the connection ended.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Received, ReceiveError>>> {
        let message = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => message,
            Some(Err(Error::PayloadTooLong { max_len, .. })) => {
                return Poll::Ready(Some(Err(ReceiveError::TooBig { max: max_len })));
            }
            Some(Err(Error::Io(_))) => return Poll::Ready(Some(Err(ReceiveError::Lost))),
            Some(Err(error)) => return Poll::Ready(Some(Err(ReceiveError::Malformed(error)))),
            None => return Poll::Ready(None),
        };
        let received = if message.is_binary() {
            Received::Binary(message.into_payload().into())
        } else if message.is_text() {
            Received::Text(Text(message))
        } else if message.is_ping() {
            Received::Ping
        } else if message.is_pong() {
            Received::Pong
        } else {
            Received::Close(
                message.as_close().map_or(CloseCode::NO_STATUS, |(code, _)| CloseCode(code.into())),
            )
        };
        Poll::Ready(Some(Ok(received)))
    }

    /// Queues one message; a closed connection forgets it.
    pub(crate) fn send(&mut self, transmit: Transmit) {
        self.queue(match transmit {
            Transmit::Binary(message) => Message::binary(message),
            Transmit::Text(message) => Message::text(message),
        });
    }

    /// Queues a ping; a closed connection forgets it.
    pub(crate) fn ping(&mut self) {
        self.queue(Message::ping(""));
    }

    fn queue(&mut self, message: Message) {
        // The only error is that the connection is closed already, which the next receive tells.
        let _closed = Pin::new(&mut self.stream).start_send(message);
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes what is queued and a close frame, unless one was sent before.
    pub(crate) async fn flush_with_close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        // An application's codes may lie where no close frame's may.
        let code = tokio_websockets::CloseCode::try_from(code.0)
            .ok()
            .filter(|code| !code.is_reserved())
            .unwrap_or(tokio_websockets::CloseCode::POLICY_VIOLATION);
        self.queue(Message::close(Some(code), tunnel_protocol::close::truncate_reason(reason)));
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Waits for the peer to close its end, forgetting what it still sends.
    pub(crate) async fn finish(self) -> io::Result<()> {
        let mut stream = self.stream.into_inner().into_inner();
        stream.shutdown().await?;
        let mut forgotten = 0;
        // Not an array: every idle connection would have room for it in its task.
        let mut scratch = vec![0; 4096];
        while forgotten < MAX_FORGOTTEN {
            match stream.read(&mut scratch).await? {
                0 => break,
                len => forgotten += len,
            }
        }
        Ok(())
    }

    /// Resets the connection: what the kernel still holds for the peer is forgotten at once.
    pub(crate) fn reset(self) {
        let stream = self.stream.into_inner().into_inner();
        // If it fails, the kernel goes on trying to deliver for some minutes.
        let _ignored = stream.set_zero_linger();
    }
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_text().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_payload().len()
    }
}
