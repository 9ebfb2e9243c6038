//! One WebSocket on its byte stream: `connection` receives and sends messages with it.

use crate::transport::Transport;
use crate::websocket::{Decoder, Fault, Part, Received, SendQueue, WriteBuffer};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tunnel_protocol::CloseCode;
use tunnel_protocol::router::Transmit;

/// Most bytes of one read.
///
/// Small enough to stay in a processor's cache, large enough for the largest frame with its WebSocket header.
const READ: usize = (64 << 10) + 14;

/// As much as a connection keeps of what it has read in memory of just that size: the first bytes of a frame.
const SHORT: usize = 64;

/// Most bytes that are read and dropped while a WebSocket closes.
///
/// A socket that closes with bytes unread is reset, and the reset overtakes the close frame.
const MAX_FORGOTTEN: usize = 4 << 20;

/// A WebSocket, this end being the server unless it has dialled.
#[derive(Debug)]
pub(crate) struct Socket {
    transport: Transport,
    decoder: Decoder,
    inbox: Inbox,
    queue: SendQueue,
}

/// Memory that a thread lends to the connection whose turn it is.
///
/// So a connection that waits has none, and what a processor works with stays in its cache.
#[derive(Debug, Default)]
pub(crate) struct ThreadBuffers {
    input: Vec<u8>,
    write_buffer: WriteBuffer,
}

/// Bytes that were read and not decoded yet.
#[derive(Debug, Default)]
struct Inbox {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

/// The reason why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the connection broke")]
    Lost,
}

impl ThreadBuffers {
    /// Lends the thread's memory for the time of a call, which must not borrow it again.
    pub(crate) fn with<T>(call: impl FnOnce(&mut Self) -> T) -> T {
        thread_local! {
            static BUFFERS: RefCell<ThreadBuffers> = RefCell::default();
        }
        BUFFERS.with_borrow_mut(call)
    }
}

impl Socket {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn new(
        transport: Transport,
        max_message: usize,
        max_fragments: u32,
        part: Option<Box<dyn Part>>,
    ) -> Self {
        let decoder = Decoder::new(max_message, max_fragments).within(part);
        Self { transport, decoder, inbox: Inbox::default(), queue: SendQueue::default() }
    }

    /// The client's end: this relay has dialled another one.
    #[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "there are no other relays"))]
    pub(crate) fn dialled(self) -> Self {
        Self { decoder: self.decoder.of_client(), queue: SendQueue::of_client(), ..self }
    }

    /// Bytes that the peer's socket, or the kernel for it, has taken.
    pub(crate) fn written(&self) -> u64 {
        self.transport.written()
    }

    /// The next message; `None` when the connection ended. A ping's pong is queued.
    ///
    /// After the last call of a turn, [`pause`](Self::pause).
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ThreadBuffers,
    ) -> Poll<Option<Result<Received, ReceiveError>>> {
        loop {
            match self.inbox.decode(&mut self.decoder) {
                Ok(Some(received)) => {
                    if let Received::Ping(payload) = &received {
                        self.queue.pong(payload.clone());
                    }
                    return Poll::Ready(Some(Ok(received)));
                }
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Some(Err(fault.into()))),
            }
            match ready!(self.inbox.poll_fill(&mut self.transport, cx, buffers)) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Some(Err(ReceiveError::Lost))),
            }
        }
    }

    /// Number of frames since the last call: fragments, pings and pongs count each.
    pub(crate) fn take_frames(&mut self) -> usize {
        self.decoder.take_frames()
    }

    /// Gives the thread's memory back, as far as it is not in use.
    pub(crate) fn pause(&mut self, buffers: &mut ThreadBuffers) {
        self.inbox.give_back(buffers);
    }

    /// Queues one message; a closed connection forgets it.
    pub(crate) fn send(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Binary(message) => self.queue.binary(message),
            Transmit::Text(message) => self.queue.text(message),
        }
    }

    /// Queues a ping; a closed connection forgets it.
    pub(crate) fn ping(&mut self) {
        self.queue.ping();
    }

    /// Prepares for queueing many messages; [`poll_flush`](Self::poll_flush) ends it.
    pub(crate) fn borrow(&mut self, buffers: &mut ThreadBuffers) {
        self.queue.borrow(&mut buffers.write_buffer);
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut ThreadBuffers,
    ) -> Poll<io::Result<()>> {
        let Self { transport, queue, .. } = self;
        while !queue.is_empty() {
            let written = queue.write(&mut buffers.write_buffer, |slices| {
                match Pin::new(&mut *transport).poll_write_vectored(cx, slices) {
                    Poll::Ready(Ok(0)) => Err(Poll::Ready(Err(io::ErrorKind::WriteZero.into()))),
                    Poll::Ready(Ok(len)) => Ok(len),
                    Poll::Ready(Err(error)) => Err(Poll::Ready(Err(error))),
                    Poll::Pending => Err(Poll::Pending),
                }
            });
            if let Err(end) = written {
                return end;
            }
        }
        queue.give_back(&mut buffers.write_buffer);
        Pin::new(transport).poll_flush(cx)
    }

    /// Writes what is queued and a close frame, unless one was sent before.
    pub(crate) async fn flush_with_close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.queue.close(code, reason);
        poll_fn(|cx| ThreadBuffers::with(|buffers| self.poll_flush(cx, buffers))).await
    }

    /// Waits for the peer to close its end, forgetting what it still sends.
    pub(crate) async fn finish(self) -> io::Result<()> {
        let mut stream = self.transport.into_inner();
        stream.shutdown().await?;
        let mut forgotten = 0;
        // Not an array: every idle connection would have room for it in its task.
        let mut buffers = vec![0; 4096];
        while forgotten < MAX_FORGOTTEN {
            match stream.read(&mut buffers).await? {
                0 => break,
                len => forgotten += len,
            }
        }
        Ok(())
    }

    /// Resets the connection: what the kernel still holds for the peer is forgotten at once.
    pub(crate) fn reset(self) {
        // If it fails, the kernel goes on trying to deliver for some minutes.
        let _ignored = self.transport.into_inner().set_zero_linger();
    }
}

impl Inbox {
    fn decode(&mut self, decoder: &mut Decoder) -> Result<Option<Received>, Fault> {
        let mut unread = &self.memory[self.start..self.end];
        let received = decoder.next(&mut unread);
        self.start = self.end - unread.len();
        received
    }

    /// Reads once, behind the few bytes that are left; how much.
    fn poll_fill(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        buffers: &mut ThreadBuffers,
    ) -> Poll<io::Result<usize>> {
        let left = self.end - self.start;
        if self.memory.len() < READ {
            let mut larger = std::mem::take(&mut buffers.input);
            larger.resize(READ, 0);
            larger[..left].copy_from_slice(&self.memory[self.start..self.end]);
            self.memory = larger;
        } else {
            self.memory.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, left);
        let mut room = ReadBuf::new(&mut self.memory[left..]);
        ready!(Pin::new(transport).poll_read(cx, &mut room))?;
        let len = room.filled().len();
        self.end += len;
        Poll::Ready(Ok(len))
    }

    fn give_back(&mut self, buffers: &mut ThreadBuffers) {
        let left = self.end - self.start;
        if self.memory.len() < READ || left > SHORT {
            return;
        }
        let kept = self.memory[self.start..self.end].to_vec();
        buffers.input = std::mem::replace(&mut self.memory, kept);
        (self.start, self.end) = (0, left);
    }
}
