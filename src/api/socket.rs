//! A socket: a stream and a sink of messages.

use super::{Engine, Error};
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tunnel_protocol::endpoint::{ConnectOptions, Event, Remote, SocketId, SocketStats};
use tunnel_protocol::{CloseCode, Message};

/// A socket is ready for another message while fewer bytes than this are buffered: a link's worth.
const HIGH_WATER_MARK: usize = 262_144;

/// How a client connects. Made by [`Socket::builder`].
#[derive(Debug)]
#[must_use = "nothing is dialled before `connect` is called"]
pub struct SocketBuilder {
    plan: SocketPlan,
}

/// What a [`SocketBuilder`] has collected.
#[derive(Debug)]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages have an engine yet"))]
pub(crate) struct SocketPlan {
    pub(crate) relay: String,
    pub(crate) server_id: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) identity: Option<String>,
    pub(crate) options: ConnectOptions,
}

impl SocketBuilder {
    /// Subprotocols, in order of preference.
    pub fn protocols<T: Into<String>>(mut self, protocols: impl IntoIterator<Item = T>) -> Self {
        self.plan.options.protocols = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// A path, with a query if there is one, for the server to see.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.plan.options.path = path.into();
        self
    }

    /// How long a connection that was lost is sought again before the socket ends.
    pub fn resume_timeout(mut self, timeout: Duration) -> Self {
        self.plan.options.resume_timeout = timeout;
        self
    }

    /// How long a server that is not there yet is waited for.
    pub fn absent_timeout(mut self, timeout: Duration) -> Self {
        self.plan.options.absent_timeout = timeout;
        self
    }

    /// The access token of the relay.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.plan.token = token.into();
        self
    }

    /// Connects under a name that outlives the page: the server sees the same remote ID each time.
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.plan.identity = Some(name.into());
        self
    }

    /// Connects, and waits until the socket is open.
    ///
    /// # Errors
    ///
    /// [`Error::Url`], [`Error::ServerId`] and [`Error::Identity`] before anything is dialled; [`Error::Failed`] says why
    /// the socket did not open; [`Error::Unsupported`] outside of web pages.
    pub async fn connect(self) -> Result<Socket, Error> {
        #[cfg(target_family = "wasm")]
        return crate::browser::connect(self.plan).await;
        #[cfg(not(target_family = "wasm"))]
        return Err(Error::Unsupported);
    }
}

/// A change of the path underneath an open socket. No message is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PathEvent {
    /// The connection is lost, and sought again.
    Interrupted,
    /// The socket goes on where it was.
    Resumed,
}

/// An open socket to another page.
///
/// It is a [`Stream`] of messages and a [`Sink`] for them; `StreamExt::split` of the crate futures makes two halves of it.
/// Reading is what lets the other side send more, and the sink is ready while little is buffered. The stream ends after a
/// clean close, and with [`Error::Closed`] after any other end. A socket that is dropped is closed with 1000.
pub struct Socket {
    engine: Rc<dyn Engine>,
    id: SocketId,
    state: Rc<SocketState>,
    inbox: mpsc::UnboundedReceiver<Message>,
    protocol: String,
    remote: Remote,
    /// Whether the stream has told the end.
    has_ended: bool,
}

impl Socket {
    /// Describes a connection to a port of a server, through a relay.
    pub fn builder(relay: impl Into<String>, server_id: impl ToString, port: u16) -> SocketBuilder {
        let plan = SocketPlan {
            relay: relay.into(),
            server_id: server_id.to_string(),
            port,
            token: String::new(),
            identity: None,
            options: ConnectOptions::default(),
        };
        SocketBuilder { plan }
    }

    /// The subprotocol that the server has chosen, or empty.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Who is on the other side.
    #[must_use]
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.engine.stats(self.id)
    }

    /// Bytes that were sent and have not left.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.engine.buffered_amount(self.id)
    }

    /// The changes of the path from now on. A later call takes the place of an earlier one.
    pub fn path_events(&self) -> impl Stream<Item = PathEvent> + use<> {
        let (sender, receiver) = mpsc::unbounded();
        if !self.state.has_ended() {
            self.state.path_events.replace(Some(sender));
        }
        receiver
    }

    /// Begins to close, behind what has been sent. The stream gives what the other side still sends, and then ends.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.engine.close(self.id, Some(code), reason);
    }

    fn ended(&self) -> Option<Error> {
        let end = self.state.end.borrow();
        let (code, reason, was_clean) = end.clone()?;
        Some(Error::Closed { code, reason, was_clean })
    }

    fn poll_buffered(&self, limit: usize, context: &Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = self.ended() {
            return Poll::Ready(Err(error));
        }
        if self.engine.buffered_amount(self.id) < limit {
            return Poll::Ready(Ok(()));
        }
        self.state.writer.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Socket").field("protocol", &self.protocol).field("remote", &self.remote).finish()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.state.has_ended() {
            self.engine.close(self.id, Some(CloseCode::NORMAL), "");
        }
    }
}

impl Stream for Socket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(message) = ready!(Pin::new(&mut self.inbox).poll_next(context)) {
            self.engine.consume(self.id, message.cost());
            return Poll::Ready(Some(Ok(message)));
        }
        self.has_ended = true;
        let error = self.ended().filter(|error| !matches!(error, Error::Closed { was_clean: true, .. }));
        Poll::Ready(error.map(Err))
    }
}

impl FusedStream for Socket {
    fn is_terminated(&self) -> bool {
        self.has_ended
    }
}

impl Sink<Message> for Socket {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_buffered(HIGH_WATER_MARK, context)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if let Some(error) = self.ended() {
            return Err(error);
        }
        self.engine.send(self.id, self.state.clone(), message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_buffered(1, context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.ended() {
            Some(Error::Closed { was_clean: true, .. }) => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(error)),
            None => {
                self.state.writer.replace(Some(context.waker().clone()));
                if !self.state.is_closing.replace(true) {
                    self.engine.close(self.id, None, "");
                }
                Poll::Pending
            }
        }
    }
}

/// The subprotocol of a socket that has opened, and the other side.
type Opened = (String, Remote);

/// What the events of a socket change.
#[derive(Default)]
pub(crate) struct SocketState {
    inbox: RefCell<Option<mpsc::UnboundedSender<Message>>>,
    opened: RefCell<Option<oneshot::Sender<Result<Opened, Error>>>>,
    path_events: RefCell<Option<mpsc::UnboundedSender<PathEvent>>>,
    /// Waits for room to send, or for the end.
    writer: RefCell<Option<Waker>>,
    /// How it ended: code, reason, and whether that was clean.
    end: RefCell<Option<(CloseCode, String, bool)>>,
    is_closing: Cell<bool>,
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

    /// Takes an event of the socket.
    pub(crate) fn handle(&self, event: Event) {
        match event {
            Event::Opened { protocol, remote, .. } => {
                if let Some(opened) = self.opened.take() {
                    // Nobody waits any more if the future was dropped.
                    let _ = opened.send(Ok((protocol, remote)));
                }
            }
            Event::Message { message, .. } => {
                if let Some(inbox) = &*self.inbox.borrow() {
                    // The socket was dropped if this fails.
                    let _ = inbox.unbounded_send(message);
                }
            }
            Event::Interrupted { .. } => self.tell(PathEvent::Interrupted),
            Event::Resumed { .. } => self.tell(PathEvent::Resumed),
            Event::Closed { code, reason, was_clean, .. } => {
                if let Some(opened) = self.opened.take() {
                    let _ = opened.send(Err(Error::Failed { code, reason: reason.clone() }));
                }
                self.end.replace(Some((code, reason, was_clean)));
                self.inbox.take();
                self.path_events.take();
                self.guard.take();
                self.wake_writer();
            }
            _ => {}
        }
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

    /// Changes how many bytes were buffered when that was looked at last; returns how many it were before.
    pub(crate) fn shown_buffered(&self, change: impl FnOnce(usize) -> usize) -> usize {
        let shown = self.shown_buffered.get();
        self.shown_buffered.set(change(shown));
        shown
    }

    fn has_ended(&self) -> bool {
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
        let mut socket = Socket {
            engine,
            id,
            state,
            inbox,
            protocol: String::new(),
            remote: Remote::default(),
            has_ended: false,
        };
        // The state keeps the sender until it has sent.
        (socket.protocol, socket.remote) = opened.await.unwrap_or(Err(Error::Unsupported))?;
        Ok(socket)
    }
}
