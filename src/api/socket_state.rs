//! The changes that a socket's events make, and the tasks that wait for them.

use super::halves::{Shared, halves};
use super::{Engine, Error, PathEvent, Socket};
use futures_channel::{mpsc, oneshot};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use tunnel_protocol::Message;
use tunnel_protocol::endpoint::{Event, Remote, SocketId};

/// The subprotocol of a socket that has opened, and the other side.
type Opened = (String, Remote);

/// What the events of a socket change.
#[derive(Default)]
pub(crate) struct SocketState {
    inbox: RefCell<Option<mpsc::UnboundedSender<Message>>>,
    opened: RefCell<Option<oneshot::Sender<Result<Opened, Error>>>>,
    pub(super) path_events: RefCell<Option<mpsc::UnboundedSender<PathEvent>>>,
    /// Waits for room to send, or for the end.
    pub(super) writer: RefCell<Option<Waker>>,
    /// Those who wait for the end.
    pub(super) watchers: RefCell<Vec<oneshot::Sender<Error>>>,
    /// The way it ended.
    pub(super) end: RefCell<Option<Error>>,
    pub(super) is_closing: Cell<bool>,
    /// Bytes that were buffered when the writer was woken last.
    shown_buffered: Cell<usize>,
    /// Dropped with the end: for example, what keeps an identity.
    guard: RefCell<Option<Box<dyn Any>>>,
}

/// A socket that is not open yet.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages have an engine yet"))]
pub(crate) struct Opening {
    inbox: mpsc::UnboundedReceiver<Message>,
    opened: oneshot::Receiver<Result<Opened, Error>>,
}

#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages have an engine yet"))]
impl SocketState {
    /// The state of a new socket, which keeps `guard` until it has ended.
    pub(crate) fn new(guard: Option<Box<dyn Any>>) -> (Rc<Self>, Opening) {
        let (inbox_sender, inbox) = mpsc::unbounded();
        let (opened_sender, opened) = oneshot::channel();
        let state = Self {
            inbox: RefCell::new(Some(inbox_sender)),
            opened: RefCell::new(Some(opened_sender)),
            guard: RefCell::new(guard),
            ..Self::default()
        };
        (Rc::new(state), Opening { inbox, opened })
    }

    /// Takes an event of the socket. Returns what a message [costs](Message::cost) that nobody reads any more: the peer is to
    /// be let send as much again.
    pub(crate) fn handle(&self, event: Event) -> usize {
        match event {
            Event::Opened { protocol, remote, .. } => {
                if let Some(opened) = self.opened.take() {
                    // Nobody waits any more if the future was dropped.
                    let _ = opened.send(Ok((protocol, remote)));
                }
            }
            Event::Message { message, .. } => {
                let cost = message.cost();
                let is_read = |inbox: &mpsc::UnboundedSender<_>| inbox.unbounded_send(message).is_ok();
                if !self.inbox.borrow().as_ref().is_some_and(is_read) {
                    return cost;
                }
            }
            Event::Interrupted { .. } => self.tell(PathEvent::Interrupted),
            Event::Resumed { .. } => self.tell(PathEvent::Resumed),
            Event::Closed { code, reason, was_clean, .. } => {
                if let Some(opened) = self.opened.take() {
                    let _ = opened.send(Err(Error::Failed { code, reason: reason.clone() }));
                }
                let end = Error::Closed { code, reason, was_clean };
                self.end.replace(Some(end.clone()));
                for watcher in self.watchers.take() {
                    let _ = watcher.send(end.clone());
                }
                self.inbox.take();
                self.path_events.take();
                self.guard.take();
                self.wake_writer();
            }
            _ => {}
        }
        0
    }

    fn tell(&self, event: PathEvent) {
        if let Some(listener) = &*self.path_events.borrow() {
            let _ = listener.unbounded_send(event);
        }
    }

    /// Wakes whoever waits for room to send.
    pub(crate) fn wake_writer(&self) {
        let writer = self.writer.take();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Returns whether somebody waits for room to send, or for the end.
    pub(crate) fn has_writer(&self) -> bool {
        self.writer.borrow().is_some()
    }

    /// Changes how many bytes were buffered when that was looked at last; returns how many it were before.
    pub(crate) fn shown_buffered(&self, change: impl FnOnce(usize) -> usize) -> usize {
        let shown = self.shown_buffered.get();
        self.shown_buffered.set(change(shown));
        shown
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages have an engine yet"))]
impl Opening {
    /// Waits until the socket is open. It is closed if the future is dropped before.
    pub(crate) async fn socket(
        self,
        engine: Rc<dyn Engine>,
        id: SocketId,
        state: Rc<SocketState>,
    ) -> Result<Socket, Error> {
        let Self { inbox, opened } = self;
        // Both close the socket when they are dropped while this waits.
        let (sender, receiver) = halves(Shared { engine, id, state }, inbox);
        // The state keeps the other end until it has told what came of it.
        let (protocol, remote) = opened.await.unwrap_or(Err(Error::Unsupported))?;
        Ok(Socket { sender, receiver, protocol, remote })
    }
}
