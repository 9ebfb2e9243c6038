//! All that a page has through one relay: links, the sessions that run over them, the server that it hosts.
//!
//! The endpoint decides when to dial, redial, resume and give up. Its owner moves messages between it and the
//! WebSockets that it asks for, and tells it the time.

mod client;
mod redial;
mod server;
mod socket;

use crate::entropy::Entropy;
use crate::frame::{ChannelId, data_header};
use crate::link::{Link, LinkError, LinkEvent};
use crate::server_id::PublicKey;
use crate::session::{self, Epoch, RecordError, Session, SessionId};
use crate::time::Duration;
use crate::{CloseCode, Instant, Message, ServerId};
use bytes::Bytes;
use redial::Redial;
use server::Host;
pub use socket::{ConnectOptions, Liveness, Offer, Remote, SocketStats};
use socket::{Path, Side, Socket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One WebSocket to the relay, as numbered by the endpoint that asked for it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// One socket of an endpoint.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(pub u64);

/// One WebSocket message between an endpoint and the relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkMessage {
    /// A binary message: `tunnel.v1`.
    Binary(Bytes),
    /// A text message: the livecode dialect.
    Text(String),
}

/// How an endpoint behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The relay's host, and port unless it is the scheme's own, in lower case: what a registration is bound to.
    pub origin: String,
    /// Access token for the relay, or empty.
    pub token: String,
    /// How long a server keeps a session whose client is away.
    pub resume_timeout: Duration,
    /// Most sessions that a server keeps for clients that are away; the oldest are dropped beyond that.
    pub max_suspended: usize,
    /// Most clients whose handshake is not finished.
    pub max_pending: usize,
    /// Bounds of each session.
    pub session: session::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin: String::new(),
            token: String::new(),
            resume_timeout: Duration::from_secs(300),
            max_suspended: 256,
            max_pending: 1_024,
            session: session::Config::default(),
        }
    }
}

/// What an endpoint tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Open a WebSocket to the relay, offering the subprotocol [`SUBPROTOCOL`](crate::SUBPROTOCOL).
    Dial {
        /// Its name from now on.
        link: LinkId,
    },
    /// Close that WebSocket. It is forgotten: nothing more needs to be said about it.
    HangUp {
        /// Which WebSocket.
        link: LinkId,
        /// Why.
        code: CloseCode,
        /// Why, in words.
        reason: String,
    },
    /// The relay registered the server.
    Hosting {
        /// Under which clients reach it.
        server_id: ServerId,
        /// Whether it was registered before and had lost its link.
        again: bool,
    },
    /// The server's link is gone; a new one is being dialled.
    HostInterrupted,
    /// The server is no longer hosted, or never was.
    HostClosed {
        /// Why.
        code: CloseCode,
        /// Why, in words.
        reason: String,
    },
    /// A client wants in: answer with [`Endpoint::accept`] or [`Endpoint::refuse`].
    Offer {
        /// The socket that it would be.
        socket: SocketId,
        /// What it wants.
        offer: Offer,
    },
    /// The socket is open.
    Opened {
        /// Which socket.
        socket: SocketId,
        /// The subprotocol chosen, or empty.
        protocol: String,
        /// Who is on the other side.
        remote: Remote,
    },
    /// A message arrived; when the application has taken it in, call [`Endpoint::consume`].
    Message {
        /// On which socket.
        socket: SocketId,
        /// The message.
        message: Message,
    },
    /// The socket's path is gone; a new one is being sought.
    Interrupted {
        /// Which socket.
        socket: SocketId,
    },
    /// The socket goes on where it was; nothing was lost.
    Resumed {
        /// Which socket.
        socket: SocketId,
    },
    /// The socket has ended; nothing follows about it.
    Closed {
        /// Which socket.
        socket: SocketId,
        /// The peer's close code, or why this side gave up.
        code: CloseCode,
        /// Why, in words.
        reason: String,
        /// Whether both sides agreed to the end.
        was_clean: bool,
        /// Whether the socket never opened.
        failed: bool,
    },
    /// A key that is held elsewhere is needed: answer with [`Endpoint::handle_diffie_hellman`].
    NeedsDiffieHellman {
        /// The public half of the key.
        ours: PublicKey,
        /// The other public key.
        theirs: PublicKey,
    },
}

/// A message was not queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The socket has not opened yet.
    #[error("the socket is still connecting")]
    Connecting,
    /// The socket is closing or closed, or there is none of that name.
    #[error("the socket is closing or closed")]
    NotOpen,
}

/// The state machine of all that a page does through one relay URL.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    entropy: Entropy,
    epoch: Epoch,
    link: LinkState,
    next_link: u64,
    redial: Redial,
    sockets: BTreeMap<SocketId, Socket>,
    next_socket: u64,
    by_channel: BTreeMap<ChannelId, SocketId>,
    /// Sessions of clients, by what they are resumed with.
    by_session: BTreeMap<(PublicKey, SessionId), SocketId>,
    host: Option<Host>,
    /// Sockets that may have a record to send, in the order of their turns.
    ready: VecDeque<SocketId>,
    /// Deadlines of sockets.
    timers: BTreeSet<(Instant, SocketId)>,
    /// When to hang up, if nothing needs the link until then.
    idle_until: Option<Instant>,
    events: VecDeque<Event>,
}

/// How long a link that nothing needs is kept: the next socket to the same relay opens faster.
const LINK_GRACE: Duration = Duration::from_secs(5);

/// The link, as far as it has got.
#[derive(Debug)]
enum LinkState {
    Down,
    Dialing(LinkId),
    Up(LinkId, Link),
}

impl Endpoint {
    /// An endpoint that does nothing yet. `seed` is 32 fresh random bytes: keys, names and jitter come from it.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut entropy = Entropy::new(seed);
        Self {
            config,
            epoch: Epoch(entropy.u64()),
            entropy,
            link: LinkState::Down,
            next_link: 0,
            redial: Redial::default(),
            sockets: BTreeMap::new(),
            next_socket: 0,
            by_channel: BTreeMap::new(),
            by_session: BTreeMap::new(),
            host: None,
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            idle_until: None,
            events: VecDeque::new(),
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// The socket is not open; nothing was queued.
    pub fn send(&mut self, socket: SocketId, message: Message) -> Result<(), SendError> {
        let entry = self.sockets.get_mut(&socket).ok_or(SendError::NotOpen)?;
        if !entry.opened {
            return Err(SendError::Connecting);
        }
        if !entry.session.is_open() {
            return Err(SendError::NotOpen);
        }
        entry.session.send(message);
        self.mark_ready(socket);
        Ok(())
    }

    /// Closes a socket behind what is queued on it; `None` is a close without a code. A socket that is still
    /// connecting fails.
    pub fn close(&mut self, socket: SocketId, code: Option<CloseCode>, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.opened {
            entry.session.close(code, reason, now);
            self.touch(socket, now);
        } else {
            self.abort(socket, CloseCode::ABORTED, "closed before the connection was established", now);
        }
    }

    /// Ends a socket at once; the peer is told if it can be.
    pub fn abort(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        entry.session.abort(code, reason, false);
        self.touch(socket, now);
    }

    /// The application has taken in so many payload bytes of a socket's messages; the peer may send as many more.
    pub fn consume(&mut self, socket: SocketId, bytes: usize, now: Instant) {
        if let Some(entry) = self.sockets.get_mut(&socket) {
            entry.session.consume(bytes, now);
            self.touch(socket, now);
        }
    }

    /// The page goes: tells every peer 1001 and the relay that nobody comes back. Drain
    /// [`poll_transmit`](Self::poll_transmit) at once, there is no later.
    pub fn leave(&mut self, now: Instant) {
        let reason = "the page was closed";
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            if let Some(entry) = self.sockets.get_mut(&socket) {
                entry.session.abort(CloseCode::GOING_AWAY, reason, true);
            }
            self.touch(socket, now);
        }
        self.unhost(now);
        self.redial.stop();
    }

    /// Something changed that a link may not have survived (the page was shown again, the network is back): checks
    /// the link and dials at once if there is none.
    pub fn probe(&mut self, now: Instant) {
        if let LinkState::Up(_, link) = &mut self.link {
            link.probe(now);
        }
        self.redial.hurry(now);
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.hurry_client(socket, now);
        }
        self.dial_if_wanted(now);
    }

    /// A WebSocket that was asked for is open.
    pub fn handle_link_opened(&mut self, id: LinkId, now: Instant) {
        if matches!(self.link, LinkState::Dialing(dialing) if dialing == id) {
            self.link = LinkState::Up(id, Link::new(&self.config.token, now));
        }
    }

    /// Takes in one message of a WebSocket.
    pub fn handle_message(&mut self, id: LinkId, message: LinkMessage, now: Instant) {
        let result = match (&mut self.link, message) {
            (LinkState::Up(up, link), LinkMessage::Binary(message)) if *up == id => {
                link.handle_message(message, now)
            }
            (LinkState::Up(up, _), LinkMessage::Text(_)) if *up == id => {
                Err(LinkError::OutOfTurn { frame: "text" })
            }
            _ => return,
        };
        self.handle_link_events(now);
        if let Err(error) = result {
            self.end_link(&error, now);
        }
    }

    /// A WebSocket is closed, or could not be opened.
    pub fn handle_link_closed(&mut self, id: LinkId, code: CloseCode, reason: &str, now: Instant) {
        if self.current_link() == Some(id) {
            let reason = if reason.is_empty() { "the connection to the relay was lost" } else { reason };
            self.lose_link(code, reason, now);
        }
    }

    /// Acts on the clock; calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let LinkState::Up(_, link) = &mut self.link
            && let Err(error) = link.handle_timeout(now)
        {
            self.end_link(&error, now);
        }
        while let Some((at, socket)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(entry) = self.sockets.get_mut(&socket) {
                entry.timer = None;
                entry.session.handle_timeout(now);
                self.handle_socket_timeout(socket, now);
                self.touch(socket, now);
            }
        }
        if self.is_idle() && self.idle_until.is_some_and(|until| until <= now) {
            self.idle_until = None;
            if let Some(link) = self.current_link() {
                self.link = LinkState::Down;
                let reason = "nothing needs it".to_owned();
                self.events.push_back(Event::HangUp { link, code: CloseCode::NORMAL, reason });
            }
        }
        self.dial_if_wanted(now);
    }

    /// Takes in the answer to [`Event::NeedsDiffieHellman`].
    pub fn handle_diffie_hellman(&mut self, theirs: PublicKey, shared: [u8; 32], now: Instant) {
        if let Some(host) = &mut self.host {
            host.key.answer(theirs, shared);
        }
        for entry in self.sockets.values_mut() {
            if let Side::Client(client) = &mut entry.side {
                client.key.answer(theirs, shared);
            }
        }
        self.register(now);
        self.retry_incoming(now);
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.advance_client(socket, now);
        }
    }

    /// The next message for a WebSocket; call it while that WebSocket's own buffer is short.
    ///
    /// Control comes first, then the sockets take turns, a record each. Records are made here and now, from all that
    /// has been queued until now: that is what packs small messages.
    pub fn poll_transmit(&mut self, id: LinkId, now: Instant) -> Option<LinkMessage> {
        let LinkState::Up(up, link) = &mut self.link else { return None };
        if *up != id {
            return None;
        }
        if let Some(control) = link.poll_transmit() {
            return Some(LinkMessage::Binary(control));
        }
        while let Some(socket) = self.ready.pop_front() {
            let LinkState::Up(_, link) = &mut self.link else { return None };
            let Some(entry) = self.sockets.get_mut(&socket) else { continue };
            entry.is_ready = false;
            let Some(path) = entry.path else { continue };
            if !link.may_send(path.channel) {
                continue;
            }
            let Some(record) = entry.session.poll_record(&data_header(path.channel), link.max_frame(), now)
            else {
                continue;
            };
            self.touch(socket, now);
            return Some(LinkMessage::Binary(record));
        }
        // A socket that has just ended may have left a CLOSE behind.
        let LinkState::Up(_, link) = &mut self.link else { return None };
        link.poll_transmit().map(LinkMessage::Binary)
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = match &self.link {
            LinkState::Up(_, link) => Some(link.poll_timeout()),
            LinkState::Down if self.wants_link() => self.redial.at(),
            LinkState::Down | LinkState::Dialing(_) => None,
        };
        let socket = self.timers.first().map(|(at, _)| *at);
        [link, socket, self.idle_until].into_iter().flatten().min()
    }

    /// Payload bytes that [`send`](Self::send) took and that are in no record yet.
    #[must_use]
    pub fn buffered_amount(&self, socket: SocketId) -> usize {
        self.sockets.get(&socket).map_or(0, |entry| entry.session.buffered_amount())
    }

    /// What has been counted on a socket; `None` when it has ended.
    #[must_use]
    pub fn stats(&self, socket: SocketId) -> Option<SocketStats> {
        let entry = self.sockets.get(&socket)?;
        let liveness = match (&self.link, entry.session.is_attached()) {
            (_, true) if entry.session.stats().bytes_unacknowledged > 0 => Liveness::Waiting,
            (_, true) => Liveness::Alive,
            (_, false) => Liveness::Interrupted,
        };
        Some(SocketStats { session: entry.session.stats(), liveness })
    }

    /// Bytes of messages held for all sockets.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.sockets.values().map(|entry| entry.session.held()).sum()
    }

    /// Whether there is neither a socket nor a server, so that the owner may let go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sockets.is_empty() && self.host.is_none()
    }

    fn current_link(&self) -> Option<LinkId> {
        match &self.link {
            LinkState::Down => None,
            LinkState::Dialing(id) | LinkState::Up(id, _) => Some(*id),
        }
    }

    fn handle_link_events(&mut self, now: Instant) {
        while let LinkState::Up(_, link) = &mut self.link
            && let Some(event) = link.poll_event()
        {
            match event {
                LinkEvent::Ready => {
                    self.redial.succeed();
                    self.register(now);
                    for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
                        self.advance_client(socket, now);
                    }
                }
                LinkEvent::Registered(server_id) => self.handle_registered(server_id),
                LinkEvent::Incoming { channel, port, kind, address, payload } => {
                    self.handle_incoming(server::Incoming { channel, port, kind, address, payload }, now);
                }
                LinkEvent::Accepted { channel, payload } => {
                    if let Some(&socket) = self.by_channel.get(&channel) {
                        self.handle_accepted(socket, payload, now);
                    }
                }
                LinkEvent::Data { channel, payload } => {
                    if let Some(&socket) = self.by_channel.get(&channel) {
                        self.handle_data(socket, channel, payload, now);
                    }
                }
                LinkEvent::Closed { channel, code, reason } => {
                    if let Some(socket) = self.by_channel.remove(&channel) {
                        self.handle_channel_closed(socket, channel, code, &reason, now);
                    }
                }
                LinkEvent::Writable(channel) => {
                    if let Some(&socket) = self.by_channel.get(&channel) {
                        self.mark_ready(socket);
                    }
                }
                // The sessions go on over the next link when this one ends.
                LinkEvent::GoAway { .. } => {}
            }
        }
    }

    fn handle_data(&mut self, socket: SocketId, channel: ChannelId, record: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.path != Some(Path { channel }) {
            self.handle_candidate_data(socket, channel, record, now);
            return;
        }
        match entry.session.handle_record(record, now) {
            Ok(()) | Err(RecordError::Violation) => {}
            Err(RecordError::Open(_)) => {
                let reason = "a record was tampered with";
                self.close_channel(channel, CloseCode::PROTOCOL_ERROR, reason);
                self.lose_path(socket, CloseCode::PROTOCOL_ERROR, reason, now);
            }
        }
        self.touch(socket, now);
    }

    fn handle_channel_closed(
        &mut self,
        socket: SocketId,
        channel: ChannelId,
        code: CloseCode,
        reason: &str,
        now: Instant,
    ) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.session.has_ended() && (code == CloseCode::NORMAL || !entry.session.may_linger()) {
            self.remove(socket, now);
            return;
        }
        match &mut entry.side {
            Side::Client(_) => self.handle_client_channel_closed(socket, code, reason, now),
            Side::Server(serving) => {
                serving.candidates.retain(|candidate| candidate.path.channel != channel);
                if entry.path == Some(Path { channel }) {
                    self.lose_path(socket, code, reason, now);
                } else if !entry.opened {
                    // Whoever asked has gone before it was answered.
                    self.remove(socket, now);
                }
            }
        }
    }

    /// The socket has no path any more. What becomes of it is up to its side.
    fn lose_path(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        entry.path = None;
        entry.session.detach();
        if entry.opened && entry.interrupted_at.is_none() {
            entry.interrupted_at = Some(now);
            if !entry.session.has_ended() {
                self.events.push_back(Event::Interrupted { socket });
            }
        }
        let Some(entry) = self.sockets.get(&socket) else { return };
        match &entry.side {
            Side::Client(_) => self.lose_client_path(socket, code, reason, now),
            Side::Server(_) => self.lose_server_path(socket, code, reason, now),
        }
    }

    fn handle_socket_timeout(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.lingers_until.is_some_and(|until| until <= now) {
            self.remove(socket, now);
            return;
        }
        match &entry.side {
            Side::Client(_) => self.handle_client_timeout(socket, now),
            Side::Server(_) => self.handle_server_timeout(socket, now),
        }
    }

    fn end_link(&mut self, error: &LinkError, now: Instant) {
        let Some(link) = self.current_link() else { return };
        let reason = error.to_string();
        self.events.push_back(Event::HangUp { link, code: error.code(), reason: reason.clone() });
        self.lose_link(error.code(), &reason, now);
    }

    fn lose_link(&mut self, code: CloseCode, reason: &str, now: Instant) {
        let was_ready = matches!(&self.link, LinkState::Up(_, link) if link.is_ready());
        self.link = LinkState::Down;
        self.redial.fail(was_ready, self.entropy.u64(), now);
        self.by_channel.clear();
        self.lose_host_link(code, reason, was_ready);
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.sockets.get_mut(&socket) else { continue };
            let code = if was_ready { code } else { CloseCode::RELAY_UNREACHABLE };
            if let Side::Server(serving) = &mut entry.side {
                serving.candidates.clear();
            }
            if entry.path.is_some() || !entry.opened {
                self.lose_path(socket, code, reason, now);
            }
            self.touch(socket, now);
        }
        self.dial_if_wanted(now);
    }

    fn dial_if_wanted(&mut self, now: Instant) {
        let wanted = self.host.is_some()
            || self
                .sockets
                .values()
                .any(|entry| matches!(entry.side, Side::Client(_)) && entry.path.is_none());
        if !matches!(self.link, LinkState::Down) || !wanted || !self.redial.is_due(now) {
            return;
        }
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.link = LinkState::Dialing(link);
        self.events.push_back(Event::Dial { link });
    }

    fn wants_link(&self) -> bool {
        self.host.is_some()
            || self
                .sockets
                .values()
                .any(|entry| matches!(entry.side, Side::Client(_)) && entry.path.is_none())
    }

    fn close_channel(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        self.by_channel.remove(&channel);
        if let LinkState::Up(_, link) = &mut self.link {
            link.close(channel, code, reason);
        }
    }

    fn add_socket(&mut self, session: Session, side: Side) -> SocketId {
        let socket = SocketId(self.next_socket);
        self.next_socket += 1;
        self.sockets.insert(socket, Socket::new(session, side));
        socket
    }

    fn mark_ready(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(&socket)
            && !entry.is_ready
        {
            entry.is_ready = true;
            self.ready.push_back(socket);
        }
    }

    /// After anything that may have changed a socket: passes on its events, sets its timer, gives it its turn to send
    /// and forgets it when it is finished.
    fn touch(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        while let Some(event) = entry.session.poll_event() {
            self.events.push_back(match event {
                session::Event::Message(message) => Event::Message { socket, message },
                session::Event::Closed(closed) => {
                    entry.lingers_until = Some(now + socket::LINGER);
                    Event::Closed {
                        socket,
                        code: closed.code,
                        reason: closed.reason,
                        was_clean: closed.was_clean && entry.opened,
                        failed: !entry.opened,
                    }
                }
            });
        }
        let has_path = entry.path.is_some();
        if entry.session.is_finished()
            || entry.session.has_ended() && !has_path && !entry.session.may_linger()
        {
            self.remove(socket, now);
            return;
        }
        let timer = entry.poll_timeout(now);
        if timer != entry.timer {
            if let Some(at) = entry.timer.take() {
                self.timers.remove(&(at, socket));
            }
            entry.timer = timer;
            self.timers.extend(timer.map(|at| (at, socket)));
        }
        if has_path && entry.session.has_record(now) {
            self.mark_ready(socket);
        }
    }

    /// Forgets a socket and gives its channels back.
    fn remove(&mut self, socket: SocketId, now: Instant) {
        let Some(mut entry) = self.sockets.remove(&socket) else { return };
        if !entry.session.has_ended() {
            entry.session.give_up(CloseCode::ABNORMAL, "the peer has gone");
        }
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, socket));
        }
        for channel in entry.channels() {
            self.close_channel(channel, CloseCode::NORMAL, "");
        }
        if let Side::Server(serving) = &entry.side {
            self.by_session.remove(&(serving.key, serving.session_id));
        }
        self.finish_host(now);
    }

    /// Lets the link go some time after the last that needed it.
    fn rest(&mut self, now: Instant) {
        self.idle_until = if self.is_idle() { Some(now + LINK_GRACE) } else { None };
    }
}
