//! The two directions of a socket, which different tasks can own.

use super::sync::Shared;
use super::{Engine, Error, SocketState};
use futures_channel::mpsc;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tunnel_protocol::endpoint::{SocketId, SocketStats};
use tunnel_protocol::{CloseCode, Message};

/// A socket is ready for another message while fewer bytes than this are buffered: a link's worth.
const HIGH_WATER_MARK: usize = 262_144;

/// The commands of both halves of a socket. The socket is closed with 1000 when the last of them is dropped.
pub(super) struct Command {
    pub(super) engine: Shared<dyn Engine>,
    pub(super) id: SocketId,
    pub(super) state: Shared<SocketState>,
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.state.end().is_none() {
            self.engine.close(self.id, Some(CloseCode::NORMAL), "");
        }
    }
}

/// Both halves of a socket whose messages come from `inbox`.
pub(super) fn halves(command: Command, inbox: mpsc::UnboundedReceiver<Message>) -> (SendHalf, ReceiveHalf) {
    let command = Shared::new(command);
    (SendHalf { command: command.clone() }, ReceiveHalf { command, inbox, has_ended: false })
}

/// The half of a [`Socket`](super::Socket) that sends: a [`Sink`] of messages. Made by [`Socket::split`](super::Socket::split).
pub struct SendHalf {
    pub(super) command: Shared<Command>,
}

impl SendHalf {
    /// Bytes that were sent and have not left.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.command.engine.buffered_amount(self.command.id)
    }

    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.command.engine.stats(self.command.id)
    }

    /// Takes out what is not known to have arrived, as [`Socket::unacknowledged`](super::Socket::unacknowledged) does.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<Message> {
        let Command { engine, id, state } = &*self.command;
        state.take_unacknowledged(&**engine, *id)
    }

    /// Begins to close, behind what has been sent. The other half gives what the other side still sends, and then ends.
    ///
    /// `code` is 1000 or 3000 to 4999, as for a `WebSocket`; a reason of more than 123 bytes is cut between words.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.command.engine.close(self.command.id, Some(code), reason);
    }

    /// Ends the socket at once, because of `reason`: what has not arrived is lost. The other side sees an end that is not clean,
    /// with the code if it can be told.
    pub fn abort(&self, code: CloseCode, reason: &str) {
        self.command.engine.abort(self.command.id, code, reason);
    }

    /// Waits for the socket's end, as [`Socket::closed`](super::Socket::closed) does.
    pub fn closed(&self) -> impl Future<Output = Error> + use<> {
        self.command.state.closed()
    }

    fn poll_buffered(&self, limit: usize, context: &Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.command.state.end() {
            return Poll::Ready(Err(error));
        }
        if self.buffered_amount() < limit {
            return Poll::Ready(Ok(()));
        }
        // Room that was made meanwhile, on another thread, woke nobody.
        match self.command.state.wait_to_write(context.waker()) {
            Some(error) => Poll::Ready(Err(error)),
            None if self.buffered_amount() < limit => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
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
        if let Some(error) = self.command.state.end() {
            return Err(error);
        }
        self.command.engine.send(self.command.id, self.command.state.clone(), message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_buffered(1, context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Command { engine, id, state } = &*self.command;
        match state.wait_to_write(context.waker()) {
            Some(Error::Closed { was_clean: true, .. }) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None => {
                if state.begin_to_close() {
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
    pub(super) command: Shared<Command>,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// True when the stream has told the end.
    has_ended: bool,
}

impl ReceiveHalf {
    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.command.engine.stats(self.command.id)
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
            self.command.engine.consume(self.command.id, unread);
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
            self.command.engine.consume(self.command.id, message.cost());
            return Poll::Ready(Some(Ok(message)));
        }
        self.has_ended = true;
        let error =
            self.command.state.end().filter(|error| !matches!(error, Error::Closed { was_clean: true, .. }));
        Poll::Ready(error.map(Err))
    }
}

impl FusedStream for ReceiveHalf {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}
