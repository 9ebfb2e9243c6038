//! The two directions of a socket, which different tasks can own.

use super::{Engine, Error, PathEvent, SocketState};
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tunnel_protocol::endpoint::{SocketId, SocketStats};
use tunnel_protocol::{CloseCode, Message};

/// A socket is ready for another message while fewer bytes than this are buffered: a link's worth.
const HIGH_WATER_MARK: usize = 262_144;

/// What both halves of a socket command. The socket is closed with 1000 when the last of them is dropped.
pub(super) struct Shared {
    pub(super) engine: Rc<dyn Engine>,
    pub(super) id: SocketId,
    pub(super) state: Rc<SocketState>,
}

impl Shared {
    pub(super) fn path_events(&self) -> impl Stream<Item = PathEvent> + use<> {
        let (sender, receiver) = mpsc::unbounded();
        if !self.state.has_ended() {
            self.state.path_events.replace(Some(sender));
        }
        receiver
    }

    pub(super) fn closed(&self) -> impl Future<Output = Error> + use<> {
        let (sender, closed) = oneshot::channel();
        match self.end() {
            Some(end) => drop(sender.send(end)),
            None => {
                let mut watchers = self.state.watchers.borrow_mut();
                watchers.retain(|watcher| !watcher.is_canceled());
                watchers.push(sender);
            }
        }
        // The state keeps the sender until it has sent.
        async move { closed.await.unwrap_or(Error::Unsupported) }
    }

    fn end(&self) -> Option<Error> {
        self.state.end.borrow().clone()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.state.has_ended() {
            self.engine.close(self.id, Some(CloseCode::NORMAL), "");
        }
    }
}

/// Both halves of a socket whose messages come from `inbox`.
pub(super) fn halves(shared: Shared, inbox: mpsc::UnboundedReceiver<Message>) -> (SendHalf, ReceiveHalf) {
    let shared = Rc::new(shared);
    (SendHalf { shared: shared.clone() }, ReceiveHalf { shared, inbox, has_ended: false })
}

/// The half of a [`Socket`](super::Socket) that sends: a [`Sink`] of messages. Made by [`Socket::split`](super::Socket::split).
pub struct SendHalf {
    pub(super) shared: Rc<Shared>,
}

impl SendHalf {
    /// Bytes that were sent and have not left.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.shared.engine.buffered_amount(self.shared.id)
    }

    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.shared.engine.stats(self.shared.id)
    }

    /// Begins to close, behind what has been sent. The other half gives what the other side still sends, and then ends.
    ///
    /// `code` is 1000 or 3000 to 4999, as for a `WebSocket`; a reason of more than 123 bytes is cut between words.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.shared.engine.close(self.shared.id, Some(code), reason);
    }

    /// Waits for the socket's end, as [`Socket::closed`](super::Socket::closed) does.
    pub fn closed(&self) -> impl Future<Output = Error> + use<> {
        self.shared.closed()
    }

    fn poll_buffered(&self, limit: usize, context: &Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.shared.end() {
            return Poll::Ready(Err(error));
        }
        if self.buffered_amount() < limit {
            return Poll::Ready(Ok(()));
        }
        self.shared.state.writer.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SendHalf").finish_non_exhaustive()
    }
}

impl Sink<Message> for SendHalf {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_buffered(HIGH_WATER_MARK, context)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if let Some(error) = self.shared.end() {
            return Err(error);
        }
        self.shared.engine.send(self.shared.id, self.shared.state.clone(), message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_buffered(1, context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Shared { engine, id, state } = &*self.shared;
        match self.shared.end() {
            Some(Error::Closed { was_clean: true, .. }) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None => {
                state.writer.replace(Some(context.waker().clone()));
                if !state.is_closing.replace(true) {
                    engine.close(*id, None, "");
                }
                Poll::Pending
            }
        }
    }
}

/// The half of a [`Socket`](super::Socket) that receives: a [`Stream`] of messages. Made by [`Socket::split`](super::Socket::split).
///
/// When it is dropped, what still comes is dropped, too, so that the other side is not held up.
pub struct ReceiveHalf {
    pub(super) shared: Rc<Shared>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Whether the stream has told the end.
    has_ended: bool,
}

impl ReceiveHalf {
    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.shared.engine.stats(self.shared.id)
    }
}

impl fmt::Debug for ReceiveHalf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ReceiveHalf").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

impl Drop for ReceiveHalf {
    /// Lets the peer send on: its close comes behind what it has sent, and would wait for credit.
    fn drop(&mut self) {
        self.inbox.close();
        let mut unread = 0;
        while let Ok(message) = self.inbox.try_recv() {
            unread += message.cost();
        }
        if unread > 0 {
            self.shared.engine.consume(self.shared.id, unread);
        }
    }
}

impl Stream for ReceiveHalf {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(message) = ready!(Pin::new(&mut self.inbox).poll_next(context)) {
            self.shared.engine.consume(self.shared.id, message.cost());
            return Poll::Ready(Some(Ok(message)));
        }
        self.has_ended = true;
        let error = self.shared.end().filter(|error| !matches!(error, Error::Closed { was_clean: true, .. }));
        Poll::Ready(error.map(Err))
    }
}

impl FusedStream for ReceiveHalf {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}
