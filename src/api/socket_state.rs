//! The changes that a socket's events make, and the tasks that wait for them.

use super::halves::{Command, halves};
use super::sync::{Guard, Shared, Slot};
use super::{Engine, Error, PathEvent, Reopened, Socket};
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::task::Waker;
use tunnel_protocol::Message;
use tunnel_protocol::endpoint::{Event, Remote, SocketId};

/// The subprotocol of a socket that has opened, and the other side.
type Opened = (String, Remote);

/// A function that hears of a socket's new sessions.
#[cfg(target_family = "wasm")]
pub(super) type Greeting = Box<dyn FnMut(&Reopened<'_>)>;
/// The same, which is called by a task of the driver.
#[cfg(not(target_family = "wasm"))]
pub(super) type Greeting = Box<dyn FnMut(&Reopened<'_>) + Send>;

/// The state that the events of a socket change.
pub(crate) struct SocketState(Slot<Changing>);

#[derive(Default)]
struct Changing {
    inbox: Option<mpsc::UnboundedSender<Message>>,
    opened: Option<oneshot::Sender<Result<Opened, Error>>>,
    path_events: Option<mpsc::UnboundedSender<PathEvent>>,
    greeting: Option<Greeting>,
    /// The messages that were not known to have arrived at the end.
    leftover: Vec<Message>,
    /// Waits for room to send, or for the end.
    writer: Option<Waker>,
    /// Those who wait for the end.
    watchers: Vec<oneshot::Sender<Error>>,
    /// The way it ended.
    end: Option<Error>,
    is_closing: bool,
    /// Bytes that were buffered when the writer was woken last.
    #[cfg(target_family = "wasm")]
    shown_buffered: usize,
    /// Dropped with the end: for example, what keeps an identity.
    _guard: Option<Box<dyn Guard>>,
}

/// A socket that is not open yet.
#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
pub(crate) struct Opening {
    inbox: mpsc::UnboundedReceiver<Message>,
    opened: oneshot::Receiver<Result<Opened, Error>>,
}

impl SocketState {
    /// Returns the end, if it has come.
    pub(super) fn end(&self) -> Option<Error> {
        self.0.with(|state| state.end.clone())
    }

    /// Waits for the end.
    pub(super) fn closed(&self) -> impl Future<Output = Error> + use<> {
        let (sender, closed) = oneshot::channel();
        self.0.with(|state| match &state.end {
            Some(end) => drop(sender.send(end.clone())),
            None => {
                state.watchers.retain(|watcher| !watcher.is_canceled());
                state.watchers.push(sender);
            }
        });
        // The state keeps the sender until it has sent.
        async move { closed.await.unwrap_or(Error::Unsupported) }
    }

    /// The changes of the path from now on.
    pub(super) fn path_events(&self) -> impl Stream<Item = PathEvent> + use<> {
        let (sender, receiver) = mpsc::unbounded();
        self.0.with(|state| {
            if state.end.is_none() {
                state.path_events = Some(sender);
            }
        });
        receiver
    }

    pub(super) fn on_reopened(&self, greet: Greeting) {
        // The one before is dropped behind the change: it may own a half of this socket.
        let _before = self.0.with(|state| match state.end {
            None => state.greeting.replace(greet),
            Some(_) => Some(greet),
        });
    }

    /// Has a task woken when there is room to send, or at the end; returns the end if it has come.
    pub(super) fn wait_to_write(&self, waker: &Waker) -> Option<Error> {
        self.0.with(|state| {
            state.writer = Some(waker.clone());
            state.end.clone()
        })
    }

    /// Returns whether nobody has begun to close the socket before.
    pub(super) fn begin_to_close(&self) -> bool {
        self.0.with(|state| !std::mem::replace(&mut state.is_closing, true))
    }

    /// Takes out what is not known to have arrived.
    pub(super) fn take_unacknowledged(&self, engine: &dyn Engine, id: SocketId) -> Vec<Message> {
        let mut messages = engine.take_unacknowledged(id);
        self.0.with(|state| messages.append(&mut state.leftover));
        messages
    }
}

#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
impl SocketState {
    /// The state of a new socket, which keeps `guard` until it has ended.
    pub(crate) fn new(guard: Option<Box<dyn Guard>>) -> (Shared<Self>, Opening) {
        let (inbox_sender, inbox) = mpsc::unbounded();
        let (opened_sender, opened) = oneshot::channel();
        let state = Changing {
            inbox: Some(inbox_sender),
            opened: Some(opened_sender),
            _guard: guard,
            ..Changing::default()
        };
        (Shared::new(Self(Slot::new(state))), Opening { inbox, opened })
    }

    /// Takes an event of the socket. Returns what a message [costs](Message::cost) that nobody reads any more: the peer is to
    /// be let send as much again.
    pub(crate) fn handle(self: &Shared<Self>, engine: &dyn Engine, id: SocketId, event: Event) -> usize {
        match event {
            Event::Opened { protocol, remote, .. } => {
                if let Some(opened) = self.0.with(|state| state.opened.take()) {
                    // Nobody waits any more if the future was dropped.
                    let _ = opened.send(Ok((protocol, remote)));
                }
            }
            Event::Message { message, .. } => {
                let cost = message.cost();
                let inbox = self.0.with(|state| state.inbox.clone());
                let is_read = |inbox: mpsc::UnboundedSender<_>| inbox.unbounded_send(message).is_ok();
                if !inbox.is_some_and(is_read) {
                    return cost;
                }
            }
            Event::Interrupted { .. } => self.tell(PathEvent::Interrupted),
            Event::Resumed { .. } => self.tell(PathEvent::Resumed),
            Event::Reopened { protocol, .. } => self.reopen(engine, id, protocol),
            Event::Closed { code, reason, was_clean, .. } => {
                self.finish(Error::Closed { code, reason, was_clean })
            }
            Event::Unacknowledged { messages, .. } => self.0.with(|state| state.leftover = messages),
            _ => {}
        }
        0
    }

    fn finish(&self, end: Error) {
        let told = end.clone();
        // Senders and guards are dropped behind the change: what that wakes may look at the state.
        let mut before = self.0.with(|state| {
            let leftover = std::mem::take(&mut state.leftover);
            let is_closing = state.is_closing;
            let after = Changing { end: Some(end), leftover, is_closing, ..Changing::default() };
            std::mem::replace(state, after)
        });
        if let (Some(opened), Error::Closed { code, reason, .. }) = (before.opened.take(), &told) {
            let _ = opened.send(Err(Error::Failed { code: *code, reason: reason.clone() }));
        }
        for watcher in before.watchers.drain(..) {
            let _ = watcher.send(told.clone());
        }
        if let Some(writer) = before.writer.take() {
            writer.wake();
        }
    }

    /// There is a new session: what the application says at once goes out before what has waited.
    fn reopen(self: &Shared<Self>, engine: &dyn Engine, id: SocketId, protocol: String) {
        engine.greet(id);
        // It may put another in its place.
        let greeting = self.0.with(|state| state.greeting.take());
        if let Some(mut greet) = greeting {
            greet(&Reopened { engine, id, state: self, protocol });
            self.0.with(|state| {
                state.greeting.get_or_insert(greet);
            });
        }
        engine.flush(id);
        self.tell(PathEvent::Reopened);
    }

    fn tell(&self, event: PathEvent) {
        let listener = self.0.with(|state| state.path_events.clone());
        if let Some(listener) = listener {
            let _ = listener.unbounded_send(event);
        }
    }

    /// Wakes whoever waits for room to send.
    pub(crate) fn wake_writer(&self) {
        let writer = self.0.with(|state| state.writer.take());
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(target_family = "wasm")]
impl SocketState {
    /// Returns whether somebody waits for room to send, or for the end.
    pub(crate) fn has_writer(&self) -> bool {
        self.0.with(|state| state.writer.is_some())
    }

    /// Changes how many bytes were buffered when that was looked at last; returns how many it were before.
    pub(crate) fn shown_buffered(&self, change: impl FnOnce(usize) -> usize) -> usize {
        self.0.with(|state| {
            let after = change(state.shown_buffered);
            std::mem::replace(&mut state.shown_buffered, after)
        })
    }
}

#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
impl Opening {
    /// Waits until the socket is open. It is closed if the future is dropped before.
    pub(crate) async fn socket(
        self,
        engine: Shared<dyn Engine>,
        id: SocketId,
        state: Shared<SocketState>,
    ) -> Result<Socket, Error> {
        let Self { inbox, opened } = self;
        // Both close the socket when they are dropped while this waits.
        let (sender, receiver) = halves(Command { engine, id, state }, inbox);
        // The state keeps the other end until it has told what came of it.
        let (protocol, remote) = opened.await.unwrap_or(Err(Error::Unsupported))?;
        Ok(Socket { sender, receiver, protocol, remote })
    }
}
