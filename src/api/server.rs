//! A server: listeners on ports, which are streams of clients that want in.

use super::ports::{Claims, MAX_BACKLOG, backlog_is_full, nobody_listens};
use super::sync::{Guard, Shared, Slot};
use super::{Engine, Error, Parking, PathEvent, Ports, Socket, SocketState};
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tunnel_protocol::endpoint::{self, Config, ConnectOptions, Event, SocketId};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::session::DEFAULT_MAX_MESSAGE;
use tunnel_protocol::{CloseCode, ServerId};

/// The options of a server. Made by [`Server::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is hosted before `host` is called"]
pub struct ServerBuilder {
    plan: ServerPlan,
}

/// The options that a [`ServerBuilder`] has collected.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
pub(crate) struct ServerPlan {
    pub(crate) relay: String,
    pub(crate) token: String,
    pub(crate) identity: Option<String>,
    pub(crate) max_clients: usize,
    pub(crate) max_message: u64,
    pub(crate) absent_timeout: Duration,
    #[cfg(all(not(target_family = "wasm"), feature = "native"))]
    pub(crate) taken: Option<crate::native::Identity>,
}

impl ServerBuilder {
    /// Hosts under a name that outlives the page: the server keeps its ID.
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.plan.identity = Some(name.into());
        self
    }

    /// Hosts under an identity that the program has taken already.
    #[cfg(all(not(target_family = "wasm"), feature = "native"))]
    pub fn with_identity(mut self, identity: crate::native::Identity) -> Self {
        self.plan.taken = Some(identity);
        self
    }

    /// The access token of the relay.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.plan.token = token.into();
        self
    }

    /// Time for which a parked text is kept after the server's end: 15 s unless this is called, as long as clients wait.
    pub const fn absent_timeout(mut self, timeout: Duration) -> Self {
        self.plan.absent_timeout = timeout;
        self
    }

    /// Most clients at once, those included who are away or being let in: 1,024 unless this is called. The next one hears
    /// [`CloseCode::TRY_AGAIN_LATER`]; of 0, everybody does.
    pub const fn max_clients(mut self, max: usize) -> Self {
        self.plan.max_clients = max;
        self
    }

    /// Longest message that clients may send, in bytes: 100 MiB unless this is called. A longer one ends its socket with
    /// [`CloseCode::TOO_BIG`] before it is received.
    pub const fn max_message_size(mut self, bytes: u64) -> Self {
        self.plan.max_message = bytes;
        self
    }

    /// Registers the server at the relay.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] and [`Error::Identity`] before anything is dialled; [`Error::Failed`] says why the relay did not
    /// register the server; [`Error::Unsupported`] outside of web pages without the feature `native`, and with it
    /// [`Error::NoRuntime`] outside of a tokio runtime.
    pub async fn host(self) -> Result<Server, Error> {
        #[cfg(target_family = "wasm")]
        return crate::browser::host(self.plan).await;
        #[cfg(all(not(target_family = "wasm"), feature = "native"))]
        return crate::native::host(self.plan).await;
        #[cfg(not(any(target_family = "wasm", feature = "native")))]
        return Err(Error::Unsupported);
    }
}

/// A server in this page. When it is dropped, its clients' sockets close with 1001 and it is unregistered.
///
/// ```no_run
/// # use futures_util::{SinkExt, StreamExt};
/// # use tunnel_wasm::{Error, Server};
/// # async fn serve(spawn_local: impl Fn(std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>>)) -> Result<(), Error> {
/// let server = Server::builder("wss://relay.example").identity("my server").host().await?;
/// let mut clients = server.listen(80)?;
/// while let Some(client) = clients.next().await {
///     spawn_local(Box::pin(async move {
///         let mut socket = client.accept("").await?;
///         socket.send("welcome".into()).await
///     }));
/// }
/// // The stream has ended, so the server has. It says why.
/// println!("{}", server.closed().await);
/// # Ok(())
/// # }
/// ```
pub struct Server {
    hosted: Hosted,
    id: ServerId,
}

/// Unregisters a server when it is dropped, even while the server waits to be registered.
struct Hosted {
    engine: Shared<dyn Engine>,
    state: Shared<ServerState>,
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.state.0.with(|state| state.is_closing = true);
        self.engine.unhost();
    }
}

impl Server {
    /// Describes a server that is reached through a relay.
    pub fn builder(relay: impl Into<String>) -> ServerBuilder {
        let plan = ServerPlan {
            relay: relay.into(),
            token: String::new(),
            identity: None,
            max_clients: Config::default().max_clients,
            max_message: DEFAULT_MAX_MESSAGE,
            absent_timeout: ConnectOptions::default().absent_timeout,
            #[cfg(all(not(target_family = "wasm"), feature = "native"))]
            taken: None,
        };
        ServerBuilder { plan }
    }

    /// The ID that clients connect to.
    #[must_use]
    pub const fn id(&self) -> &ServerId {
        &self.id
    }

    /// Claims a port, or a range of ports, until the listener is dropped. Clients of all other ports are refused.
    ///
    /// ```no_run
    /// # use tunnel_wasm::{Error, Server};
    /// # fn listen(server: &Server) -> Result<(), Error> {
    /// let web = server.listen(80)?;
    /// let displays = server.listen(6000..=6009)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::PortTaken`] if another listener has one of the ports, [`Error::NoPorts`] for an empty range.
    pub fn listen(&self, ports: impl Into<Ports>) -> Result<Listener, Error> {
        // Beside these, each sender has room for one.
        let (sender, clients) = mpsc::channel(MAX_BACKLOG - 1);
        self.hosted.state.0.with(|state| {
            state.claims.retain(|sender| !sender.is_closed());
            state.claims.claim(vec![ports.into()], sender)
        })?;
        Ok(Listener { clients })
    }

    /// The text that was [parked](Self::park) last: by this server, or by the last one of this tab under the same identity and
    /// relay, if that has ended less than [`absent_timeout`](ServerBuilder::absent_timeout) ago, by a reload for example.
    ///
    /// ```no_run
    /// # use tunnel_wasm::{Error, Server};
    /// # async fn serve(new_game: impl Fn() -> String) -> Result<(), Error> {
    /// let server = Server::builder("wss://relay.example").identity("game").host().await?;
    /// let game = server.parked().unwrap_or_else(new_game);
    /// server.park(&game)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parked(&self) -> Option<String> {
        self.hosted.state.0.with(|state| state.parking.as_ref()?.text())
    }

    /// Keeps a text for the next server of this tab under the same identity and relay, in the tab's `sessionStorage`: some
    /// megabytes, which any script of the origin can read.
    ///
    /// # Errors
    ///
    /// [`Error::Parking`] for a server without an identity, or that has ended; where there is no such storage, as in workers and
    /// outside of browsers; for a text that is too long.
    pub fn park(&self, text: &str) -> Result<(), Error> {
        let refused = || {
            let why = match cfg!(target_family = "wasm") {
                true => "the server has no identity, without which a reloaded page is another server",
                false => "there is no tab here: keep what your program needs in a file of its own",
            };
            why.to_owned()
        };
        let parked =
            self.hosted.state.0.with(|state| {
                state.parking.as_ref().map_or_else(|| Err(refused()), |parking| parking.set(text))
            });
        parked.map_err(Error::Parking)
    }

    /// The changes of the server's registration from now on: while it is interrupted, nobody new gets in. A later call takes
    /// the place of an earlier one. The stream ends with the server.
    pub fn path_events(&self) -> impl Stream<Item = PathEvent> + use<> {
        let (sender, receiver) = mpsc::unbounded();
        self.hosted.state.0.with(|state| {
            if state.end.is_none() {
                state.path_events = Some(sender);
            }
        });
        receiver
    }

    /// Waits for the server's end. [`Error::Closed`] says why; it was clean if this page ended it.
    pub fn closed(&self) -> impl Future<Output = Error> + use<> {
        let (sender, closed) = oneshot::channel();
        self.hosted.state.0.with(|state| match &state.end {
            Some(end) => drop(sender.send(end.clone())),
            None => {
                state.watchers.retain(|watcher| !watcher.is_canceled());
                state.watchers.push(sender);
            }
        });
        // The state keeps the sender until it has sent.
        async move { closed.await.unwrap_or(Error::Unsupported) }
    }

    /// Closes the clients' sockets with 1001, unregisters the server, and waits until both are done.
    pub async fn close(self) {
        let closed = self.closed();
        drop(self);
        closed.await;
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Server").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A claim on ports: a stream of the clients that want in. It ends with the server.
#[derive(Debug)]
pub struct Listener {
    clients: mpsc::Receiver<Incoming>,
}

impl Stream for Listener {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        Pin::new(&mut self.clients).poll_next(context)
    }
}

/// A client that wants in. It is refused when this is dropped.
pub struct Incoming {
    engine: Shared<dyn Engine>,
    id: SocketId,
    client: endpoint::Incoming,
    max_message: u64,
    is_answered: bool,
}

impl Incoming {
    /// The port that the client wants.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.client.port
    }

    /// The path and query behind the port in the client's URL.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.client.path
    }

    /// The subprotocols that the client offers, in order of preference.
    #[must_use]
    pub fn protocols(&self) -> &[String] {
        &self.client.protocols
    }

    /// The client's address as the relay sees it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.client.address
    }

    /// The key that the client's handshake was made with, or `None` for a plain peer, which has none. The client has proven
    /// that it holds the key once the socket opens; until then the handshake may be a recording.
    #[must_use]
    pub const fn remote(&self) -> Option<PublicKey> {
        self.client.remote
    }

    /// Lets the client in, with one of the subprotocols that it offers; empty if it offers none.
    ///
    /// # Errors
    ///
    /// [`Error::NotOffered`] for another subprotocol: the client is refused. [`Error::Failed`] if the client has gone
    /// meanwhile.
    pub async fn accept(mut self, protocol: &str) -> Result<Socket, Error> {
        let offered = &self.client.protocols;
        let is_offered = offered.iter().any(|offered| offered == protocol);
        if !(is_offered || protocol.is_empty() && offered.is_empty()) {
            let error = Error::NotOffered { chosen: protocol.to_owned(), offered: offered.clone() };
            self.refuse("the server speaks none of the subprotocols offered");
            return Err(error);
        }
        self.is_answered = true;
        let (state, opening) = SocketState::new(None);
        if !self.engine.accept(self.id, state.clone(), protocol, self.max_message) {
            let reason = "the client has gone".to_owned();
            return Err(Error::Failed { code: CloseCode::ABORTED, reason });
        }
        opening.socket(self.engine.clone(), self.id, state).await
    }

    /// Turns the client away; it is told the reason.
    pub fn refuse(mut self, reason: &str) {
        self.is_answered = true;
        self.engine.refuse(self.id, CloseCode::REFUSED, reason);
    }

    /// Turns the client away with another close code, 3000 to 4999: [`CloseCode::TRY_AGAIN_LATER`] has it try again.
    pub fn refuse_with(mut self, code: CloseCode, reason: &str) {
        self.is_answered = true;
        self.engine.refuse(self.id, code, reason);
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Incoming").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_answered {
            self.engine.refuse(self.id, CloseCode::REFUSED, "the server did not accept the connection");
        }
    }
}

/// The state that the events of a server change.
pub(crate) struct ServerState(Slot<Changing>);

struct Changing {
    claims: Claims<mpsc::Sender<Incoming>>,
    hosting: Option<oneshot::Sender<Result<ServerId, Error>>>,
    path_events: Option<mpsc::UnboundedSender<PathEvent>>,
    /// Those who wait for the end.
    watchers: Vec<oneshot::Sender<Error>>,
    /// The way it ended.
    end: Option<Error>,
    /// True if this program ends it.
    is_closing: bool,
    /// Longest message that clients may send, in bytes.
    max_message: u64,
    /// Dropped with the end: for example, what keeps an identity.
    guard: Option<Box<dyn Guard>>,
    /// The parked state, until the server ends.
    parking: Option<Box<dyn Parking>>,
}

#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
impl ServerState {
    /// The state of a new server, which keeps `guard` and `parking` until it has ended, and what its registration is waited
    /// for with.
    pub(crate) fn new(
        guard: Option<Box<dyn Guard>>,
        parking: Option<Box<dyn Parking>>,
        max_message: u64,
    ) -> (Shared<Self>, oneshot::Receiver<Result<ServerId, Error>>) {
        let (sender, hosting) = oneshot::channel();
        let state = Changing {
            claims: Claims::default(),
            hosting: Some(sender),
            path_events: None,
            watchers: Vec::new(),
            end: None,
            is_closing: false,
            max_message,
            guard,
            parking,
        };
        (Shared::new(Self(Slot::new(state))), hosting)
    }

    /// Waits until the server is registered. It is unregistered if the future is dropped before.
    pub(crate) async fn server(
        self: Shared<Self>,
        hosting: oneshot::Receiver<Result<ServerId, Error>>,
        engine: Shared<dyn Engine>,
    ) -> Result<Server, Error> {
        let hosted = Hosted { engine, state: self };
        // The state keeps the sender until it has sent.
        let id = hosting.await.unwrap_or(Err(Error::Unsupported))?;
        Ok(Server { hosted, id })
    }

    /// Takes an event of the server.
    pub(crate) fn handle(&self, engine: Shared<dyn Engine>, event: Event) {
        match event {
            Event::Hosting { server_id, .. } => match self.0.with(|state| state.hosting.take()) {
                // Nobody waits any more if the future was dropped.
                Some(hosting) => drop(hosting.send(Ok(server_id))),
                None => self.tell(PathEvent::Resumed),
            },
            Event::HostInterrupted => self.tell(PathEvent::Interrupted),
            Event::HostClosed { code, reason } => self.finish(code, reason),
            Event::Incoming { socket, incoming } => self.ask(engine, socket, incoming),
            _ => {}
        }
    }

    fn finish(&self, code: CloseCode, reason: String) {
        // All is dropped behind the change: what that wakes, and clients that are refused so, may look at the state.
        let (hosting, watchers, was_clean, _others) = self.0.with(|state| {
            let was_clean = state.is_closing;
            state.end = Some(Error::Closed { code, reason: reason.clone(), was_clean });
            let others = (
                std::mem::take(&mut state.claims),
                state.path_events.take(),
                state.parking.take(),
                state.guard.take(),
            );
            (state.hosting.take(), std::mem::take(&mut state.watchers), was_clean, others)
        });
        if let Some(hosting) = hosting {
            let _ = hosting.send(Err(Error::Failed { code, reason: reason.clone() }));
        }
        for watcher in watchers {
            let _ = watcher.send(Error::Closed { code, reason: reason.clone(), was_clean });
        }
    }

    fn tell(&self, event: PathEvent) {
        let listener = self.0.with(|state| state.path_events.clone());
        if let Some(listener) = listener {
            let _ = listener.unbounded_send(event);
        }
    }

    fn ask(&self, engine: Shared<dyn Engine>, id: SocketId, client: endpoint::Incoming) {
        let port = client.port;
        let (listener, max_message) = self.0.with(|state| {
            state.claims.retain(|sender| !sender.is_closed());
            (state.claims.owner(port).cloned(), state.max_message)
        });
        let Some(mut listener) = listener else {
            let (code, reason) = nobody_listens(port);
            return engine.refuse(id, code, &reason);
        };
        let incoming = Incoming { engine: engine.clone(), id, client, max_message, is_answered: false };
        if let Err(full) = listener.try_send(incoming) {
            full.into_inner().is_answered = true;
            let (code, reason) = backlog_is_full(port);
            engine.refuse(id, code, &reason);
        }
    }
}
