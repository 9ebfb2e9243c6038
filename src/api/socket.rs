//! A socket: a stream and a sink of messages.

use super::{Error, ReceiveHalf, Reopened, SendHalf};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tunnel_protocol::endpoint::{ConnectOptions, MaybeSend, Remote, SocketStats};
use tunnel_protocol::session::DEFAULT_MAX_MESSAGE;
use tunnel_protocol::{CloseCode, Message, ServerId};

/// The options of a client. Made by [`Socket::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is dialled before `connect` is called"]
pub struct SocketBuilder {
    plan: SocketPlan,
}

/// The options that a [`SocketBuilder`] has collected.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
pub(crate) struct SocketPlan {
    pub(crate) relay: String,
    pub(crate) server_id: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) identity: Option<String>,
    pub(crate) options: ConnectOptions,
    pub(crate) max_message: u64,
    #[cfg(all(not(target_family = "wasm"), feature = "native"))]
    pub(crate) taken: Option<crate::native::Identity>,
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

    /// Time for which a lost connection is sought again before the socket ends.
    pub fn resume_timeout(mut self, timeout: Duration) -> Self {
        self.plan.options.resume_timeout = timeout;
        self
    }

    /// Time for which an absent server is waited for.
    pub fn absent_timeout(mut self, timeout: Duration) -> Self {
        self.plan.options.absent_timeout = timeout;
        self
    }

    /// Has the socket, once it was open, begin a new session by itself when the server's page was reloaded, left or
    /// closed, instead of ending: it does not unless this is called with `true`. The server must have an identity, and proves the same key again.
    /// The socket seeks it for [`absent_timeout`](Self::absent_timeout) while it is not there, and for
    /// [`resume_timeout`](Self::resume_timeout) in all.
    ///
    /// [`PathEvent::Interrupted`] comes first, then [`Socket::on_reopened`]'s function is called and [`PathEvent::Reopened`]
    /// comes. [`Socket::unacknowledged`] hands back what may be lost. Each message is kept whole until the server has all of it.
    pub const fn redial(mut self, redial: bool) -> Self {
        self.plan.options.redial = redial;
        self
    }

    /// Longest message that the server may send, in bytes: 100 MiB unless this is called. A longer one ends the socket with
    /// [`CloseCode::TOO_BIG`] before it is received.
    pub const fn max_message_size(mut self, bytes: u64) -> Self {
        self.plan.max_message = bytes;
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

    /// Connects under an identity that the program has taken already.
    #[cfg(all(not(target_family = "wasm"), feature = "native"))]
    pub fn with_identity(mut self, identity: crate::native::Identity) -> Self {
        self.plan.taken = Some(identity);
        self
    }

    /// Connects, and waits until the socket is open.
    ///
    /// # Errors
    ///
    /// [`Error::ServerId`], [`Error::Protocols`], [`Error::Path`], [`Error::Redial`], [`Error::Url`] and [`Error::Identity`]
    /// before anything is dialled; [`Error::Failed`] says why the socket did not open; [`Error::Unsupported`] outside of web pages without
    /// the feature `native`, and with it [`Error::NoRuntime`] outside of a tokio runtime.
    pub async fn connect(self) -> Result<Socket, Error> {
        let server = self.plan.check()?;
        #[cfg(target_family = "wasm")]
        return crate::browser::connect(server, self.plan).await;
        #[cfg(all(not(target_family = "wasm"), feature = "native"))]
        return crate::native::connect(server, self.plan).await;
        #[cfg(not(any(target_family = "wasm", feature = "native")))]
        return Err({
            let _: ServerId = server;
            Error::Unsupported
        });
    }
}

impl SocketPlan {
    /// Checks what can be checked without the platform. Returns which server is meant.
    fn check(&self) -> Result<ServerId, Error> {
        let no_server = |problem| Error::ServerId { id: self.server_id.clone(), problem };
        let server = match self.server_id.parse::<ServerId>() {
            Ok(ServerId::Number(_)) => {
                return Err(no_server("a number proves nothing about the server".to_owned()));
            }
            Ok(server) => server,
            Err(problem) => return Err(no_server(problem.to_string())),
        };
        let ConnectOptions { protocols, path, .. } = &self.options;
        for (index, protocol) in protocols.iter().enumerate() {
            if !is_token(protocol) || protocols[..index].contains(protocol) {
                return Err(Error::Protocols(protocol.clone()));
            }
        }
        if !path.is_empty() && !path.starts_with('/') {
            return Err(Error::Path(path.clone()));
        }
        if self.options.redial && self.options.resume_timeout.is_zero() {
            return Err(Error::Redial);
        }
        Ok(server)
    }
}

/// Returns whether a text is a token of HTTP (RFC 9110, section 5.6.2), as subprotocols have to be.
fn is_token(text: &str) -> bool {
    let is_special = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_special(byte))
}

/// A change of the path underneath an open socket, or of what keeps a server registered. Only with the last kind may messages be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PathEvent {
    /// The connection is lost, and sought again.
    Interrupted,
    /// The socket or server goes on where it was.
    Resumed,
    /// The server has lost the session, and the socket, which [redials](SocketBuilder::redial), has a new one:
    /// [`Socket::unacknowledged`] has what may be lost.
    Reopened,
}

/// An open socket to another page.
///
/// It is a [`Stream`] of messages and a [`Sink`] for them. Reading is what lets the other side send more, and the sink is ready
/// while little is buffered. The stream ends after a clean close, and with [`Error::Closed`] after any other end. A socket that
/// is dropped is closed with 1000; what the other side still sends is dropped.
///
/// ```no_run
/// # use futures_util::{SinkExt, StreamExt};
/// # use tunnel_wasm::{Error, Message, Socket};
/// # async fn ask(server_id: &str) -> Result<(), Error> {
/// let mut socket = Socket::builder("wss://relay.example", server_id, 80).path("/time").connect().await?;
/// socket.send("what is the time?".into()).await?;
/// if let Some(Message::Text(answer)) = socket.next().await.transpose()? {
///     println!("{answer}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socket {
    pub(super) sender: SendHalf,
    pub(super) receiver: ReceiveHalf,
    pub(super) protocol: String,
    pub(super) remote: Remote,
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
            max_message: DEFAULT_MAX_MESSAGE,
            #[cfg(all(not(target_family = "wasm"), feature = "native"))]
            taken: None,
        };
        SocketBuilder { plan }
    }

    /// The subprotocol that the server chose when the socket opened, or empty.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Has a function called with each new session of a socket that [redials](SocketBuilder::redial). What it sends goes out
    /// before all that has waited for the session. A later call takes the place of an earlier one; it goes on when the socket
    /// is split.
    ///
    /// ```no_run
    /// # use tunnel_wasm::{Error, Socket};
    /// # async fn join(server_id: &str) -> Result<(), Error> {
    /// let socket = Socket::builder("wss://relay.example", server_id, 80).redial(true).connect().await?;
    /// socket.on_reopened(|session| {
    ///     session.send("join the room again");
    ///     for message in session.unacknowledged() {
    ///         session.send(message);
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_reopened(&self, greet: impl FnMut(&Reopened<'_>) + MaybeSend + 'static) {
        self.sender.command.state.on_reopened(Box::new(greet));
    }

    /// Takes out what is not known to have arrived, oldest first: of sessions that a server has lost, and, when a socket that
    /// [redials](SocketBuilder::redial) has ended, also what waited. Nothing of it is sent again by itself: a message that had
    /// arrived would arrive twice. What is not taken is kept; more than 1 MiB of it ends the socket with
    /// [`CloseCode::OVERFLOW`] when yet another session is lost.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<Message> {
        self.sender.unacknowledged()
    }

    /// The other side.
    #[must_use]
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// The counters; `None` when the socket has ended.
    #[must_use]
    pub fn stats(&self) -> Option<SocketStats> {
        self.sender.stats()
    }

    /// Bytes that were sent and have not left.
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.sender.buffered_amount()
    }

    /// The changes of the path from now on. A later call takes the place of an earlier one. The stream ends with the socket, and
    /// goes on when the socket is split.
    ///
    /// ```no_run
    /// # use futures_util::StreamExt;
    /// # use tunnel_wasm::{PathEvent, Socket};
    /// # async fn watch(socket: Socket) {
    /// let mut events = socket.path_events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         PathEvent::Interrupted => println!("reconnecting"),
    ///         PathEvent::Resumed => println!("here again"),
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn path_events(&self) -> impl Stream<Item = PathEvent> + use<> {
        self.sender.command.state.path_events()
    }

    /// Begins to close, behind what has been sent. The stream gives what the other side still sends, and then ends.
    ///
    /// `code` is 1000 or 3000 to 4999, as for a `WebSocket`; a reason of more than 123 bytes is cut between words.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.sender.close(code, reason);
    }

    /// Ends the socket at once, because of `reason`: what has not arrived is lost. The other side sees an end that is not clean,
    /// with the code if it can be told.
    pub fn abort(&self, code: CloseCode, reason: &str) {
        self.sender.abort(code, reason);
    }

    /// Waits for the end, which [`Error::Closed`] describes, a clean close too. The future outlives the socket.
    pub fn closed(&self) -> impl Future<Output = Error> + use<> {
        self.sender.closed()
    }

    /// Gives both directions away, to different tasks for example. The socket is closed when both halves are dropped.
    ///
    /// ```no_run
    /// # use futures_util::{SinkExt, StreamExt};
    /// # use tunnel_wasm::{Error, Socket};
    /// # async fn echo(socket: Socket) -> Result<(), Error> {
    /// let (mut sender, mut receiver) = socket.split();
    /// while let Some(message) = receiver.next().await {
    ///     sender.send(message?).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn split(self) -> (SendHalf, ReceiveHalf) {
        (self.sender, self.receiver)
    }
}

impl Stream for Socket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl FusedStream for Socket {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl Sink<Message> for Socket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "native"))]
    use futures_util::FutureExt;
    use tunnel_protocol::server_id::PublicKey;

    fn builder() -> SocketBuilder {
        Socket::builder("wss://relay.example", ServerId::Key(PublicKey([7; 32])), 80)
    }

    fn problem(builder: &SocketBuilder) -> Error {
        builder.plan.check().unwrap_err()
    }

    #[test]
    fn what_a_client_cannot_ask_for_is_an_error_before_anything_is_dialled() {
        assert!(builder().protocols(["chat", "chat.v2"]).path("/room?name=x").plan.check().is_ok());
        for protocols in [&["a b"][..], &[""], &["a,b"], &["grün"], &["a", "b", "a"]] {
            let expected = Error::Protocols((*protocols.last().unwrap()).to_owned());
            assert_eq!(problem(&builder().protocols(protocols.iter().copied())), expected);
        }
        assert_eq!(problem(&builder().path("room")), Error::Path("room".into()));
        assert_eq!(problem(&builder().redial(true).resume_timeout(Duration::ZERO)), Error::Redial);
        for id in ["nobody", "7", ""] {
            let error = problem(&Socket::builder("wss://relay.example", id, 80));
            assert!(matches!(&error, Error::ServerId { id: given, .. } if given == id), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "native"))]
    fn nothing_connects_or_hosts_where_there_is_no_driver() {
        let connected = builder().connect().now_or_never().unwrap();
        assert_eq!(connected.unwrap_err(), Error::Unsupported);
        let hosted = crate::Server::builder("wss://relay.example").host().now_or_never().unwrap();
        assert_eq!(hosted.unwrap_err(), Error::Unsupported);
    }
}
