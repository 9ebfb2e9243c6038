//! All that a page has through one relay: links, the sessions that run over them, the server that it hosts.
//!
//! The endpoint decides when to dial, redial, resume and give up. Its owner moves messages between it and the
//! WebSockets that it asks for, and tells it the time.

mod carrier;
mod client;
mod redial;
mod server;
mod socket;

use crate::entropy::Entropy;
use crate::link::{LinkError, LinkEvent};
use crate::server_id::PublicKey;
use crate::session::{self, Epoch, RecordError, Session, SessionId, SessionStats};
use crate::sorted::{SortedMap, SortedSet};
use crate::time::Duration;
use crate::{CloseCode, Instant, Message, ServerId};
use bytes::Bytes;
use carrier::Carrier;
use redial::Redial;
use server::Host;
pub use socket::{ConnectOptions, Liveness, Offer, Remote, SocketStats};
use socket::{Path, Side, Socket};
use std::collections::VecDeque;

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

/// What a session may keep however many there are, in bytes: a record's worth.
const MIN_SHARE: u64 = 64 * 1024;

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
    /// Whether the server takes plain peers of the livecode dialect, who do not encrypt.
    pub allow_plain: bool,
    /// Bounds of each session.
    pub session: session::Config,
    /// Bytes that all sessions together may keep to be sent again, and as many that their peers may be ahead: each has
    /// its share, but never less than 64 KiB.
    pub total_buffer: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origin: String::new(),
            token: String::new(),
            resume_timeout: Duration::from_secs(300),
            max_suspended: 256,
            max_pending: 1_024,
            allow_plain: false,
            session: session::Config::default(),
            total_buffer: 16 * 1024 * 1024,
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
        /// What was counted until then.
        stats: SessionStats,
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
    links: SortedMap<LinkId, Carrier>,
    next_link: u64,
    /// The link that all sockets share; in the livecode dialect, the server's own.
    main: Option<LinkId>,
    /// Links that serve one client each, as the livecode dialect wants it.
    own_links: SortedMap<SocketId, LinkId>,
    /// Links that go once what is queued on them is out.
    parting: SortedSet<LinkId>,
    /// Whether the relay spoke the livecode dialect when it last said something.
    is_livecode: bool,
    redial: Redial,
    sockets: SortedMap<SocketId, Box<Socket>>,
    next_socket: u64,
    /// New clients, whose first handshake nobody has begun yet.
    unprepared: Vec<SocketId>,
    /// What each session may keep, in bytes.
    share: u64,
    by_path: SortedMap<Path, SocketId>,
    /// Sessions of clients, by what they are resumed with.
    by_session: SortedMap<(PublicKey, SessionId), SocketId>,
    host: Option<Host>,
    /// Sockets that may have a record to send, in the order of their turns.
    ready: VecDeque<SocketId>,
    /// Deadlines of sockets.
    timers: SortedSet<(Instant, SocketId)>,
    /// When to hang up, if nothing needs the link until then.
    idle_until: Option<Instant>,
    events: VecDeque<Event>,
}

/// How long a link that nothing needs is kept: the next socket to the same relay opens faster.
const LINK_GRACE: Duration = Duration::from_secs(5);

impl Endpoint {
    /// An endpoint that does nothing yet. `seed` is 32 fresh random bytes: keys, names and jitter come from it.
    #[must_use]
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        let mut entropy = Entropy::new(seed);
        Self {
            config,
            epoch: Epoch(entropy.u64()),
            entropy,
            links: SortedMap::new(),
            next_link: 0,
            main: None,
            own_links: SortedMap::new(),
            parting: SortedSet::new(),
            is_livecode: false,
            redial: Redial::default(),
            sockets: SortedMap::new(),
            next_socket: 0,
            unprepared: Vec::new(),
            share: u64::MAX,
            by_path: SortedMap::new(),
            by_session: SortedMap::new(),
            host: None,
            ready: VecDeque::new(),
            timers: SortedSet::new(),
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
        for link in self.links.values_mut() {
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
        if let Some(link) = self.links.get_mut(&id) {
            link.open(&self.config.token, now);
        }
        if self.main == Some(id) {
            self.connect_early(id, now);
        }
    }

    /// Takes in one message of a WebSocket.
    pub fn handle_message(&mut self, id: LinkId, message: LinkMessage, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let result = link.handle_message(message, now);
        self.handle_link_events(id, now);
        if let Err(error) = result {
            self.end_link(id, &error, now);
        }
    }

    /// A WebSocket is closed, or could not be opened.
    pub fn handle_link_closed(&mut self, id: LinkId, code: CloseCode, reason: &str, now: Instant) {
        if !reason.is_empty() {
            return self.lose_link(id, code, reason, now);
        }
        let reason = match self.links.get(&id) {
            Some(link) if link.is_ready() => "the connection to the relay was lost".to_owned(),
            _ => format!("no relay answers at {}: is it running, and in reach?", self.config.origin),
        };
        self.lose_link(id, code, &reason, now);
    }

    /// Acts on the clock; calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            if let Some(link) = self.links.get_mut(&id)
                && let Err(error) = link.handle_timeout(now)
            {
                self.end_link(id, &error, now);
            }
        }
        while let Some((at, socket)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, socket));
            if let Some(entry) = self.sockets.get_mut(&socket) {
                entry.timer = None;
                entry.session.handle_timeout(now);
                self.handle_socket_timeout(socket, now);
                self.touch(socket, now);
            }
        }
        if self.is_idle() && self.idle_until.is_some_and(|until| until <= now) {
            self.idle_until = None;
            self.main = None;
            for link in std::mem::take(&mut self.links).into_keys() {
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
                if let Some(key) = &mut client.key {
                    key.answer(theirs, shared);
                }
            }
        }
        self.register();
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
        if let Some(control) = self.links.get_mut(&id)?.poll_transmit(now) {
            return Some(control);
        }
        // Sockets of other links wait in the same queue: each is looked at once.
        for _ in 0..self.ready.len() {
            let Some(socket) = self.ready.pop_front() else { break };
            let Some(entry) = self.sockets.get_mut(&socket) else { continue };
            let Some(path) = entry.path.filter(|path| path.link == id) else {
                entry.is_ready = entry.path.is_some();
                if entry.is_ready {
                    self.ready.push_back(socket);
                }
                continue;
            };
            entry.is_ready = false;
            let record = self.links.get_mut(&id)?.poll_record(path.channel, &mut entry.session, now);
            if record.is_some() {
                self.touch(socket, now);
                return record;
            }
        }
        // A socket that has just ended may have left a CLOSE behind.
        let last = self.links.get_mut(&id)?.poll_transmit(now);
        if last.is_none() && self.parting.remove(&id) {
            self.hang_up(id, CloseCode::NORMAL, "its socket is closed");
        }
        last
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let link = self.links.values().filter_map(Carrier::poll_timeout).min();
        let redial = if self.main.is_none() && self.wants_link() { self.redial.at() } else { None };
        let socket = self.timers.first().map(|(at, _)| *at);
        [link, redial, socket, self.idle_until].into_iter().flatten().min()
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
        let session = entry.session.stats();
        let liveness = match entry.session.is_attached() {
            true if session.bytes_unacknowledged > 0 => Liveness::Waiting,
            true => Liveness::Alive,
            false => Liveness::Interrupted,
        };
        Some(SocketStats { session, liveness })
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

    fn handle_link_events(&mut self, id: LinkId, now: Instant) {
        while let Some(event) = self.links.get_mut(&id).and_then(Carrier::poll_event) {
            match event {
                LinkEvent::Ready => self.handle_link_ready(id, now),
                LinkEvent::Registered(server_id) => self.handle_registered(id, server_id),
                LinkEvent::Incoming { channel, port, kind, address, payload } => {
                    let path = Path { link: id, channel };
                    self.handle_incoming(server::Incoming { path, port, kind, address, payload }, now);
                }
                LinkEvent::ServerKey { channel, key } => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.handle_server_key(socket, key, now);
                    }
                }
                LinkEvent::Accepted { channel, payload } => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.handle_accepted(socket, payload, now);
                    }
                }
                LinkEvent::Data { channel, payload } => {
                    let path = Path { link: id, channel };
                    if let Some(&socket) = self.by_path.get(&path) {
                        self.handle_data(socket, path, payload, now);
                    }
                }
                LinkEvent::Closed { channel, code, reason } => {
                    let path = Path { link: id, channel };
                    if let Some(socket) = self.by_path.remove(&path) {
                        self.handle_channel_closed(socket, path, code, &reason, now);
                    }
                }
                LinkEvent::Writable(channel) => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.mark_ready(socket);
                    }
                }
                LinkEvent::GoAway { .. } => self.leave_draining(id, now),
            }
        }
    }

    fn handle_link_ready(&mut self, id: LinkId, now: Instant) {
        self.redial.succeed();
        self.is_livecode = self.links.get(&id).is_some_and(Carrier::is_livecode);
        if self.is_livecode {
            self.take_back_early(id);
        }
        if self.is_livecode && self.main == Some(id) && self.host.is_none() {
            // Each client needs a link of its own: the first gets this one.
            self.main = None;
            let first = self.sockets.iter().find(|(_, entry)| entry.wants_path()).map(|(socket, _)| *socket);
            match first {
                Some(socket) => {
                    self.own_links.insert(socket, id);
                }
                None => self.hang_up(id, CloseCode::NORMAL, "nothing needs it"),
            }
        } else if !self.is_livecode && self.main != Some(id) {
            // The relay has been replaced by one that needs a single link.
            self.own_links.retain(|_, link| *link != id);
            if self.main.is_none() {
                self.main = Some(id);
            } else {
                self.hang_up(id, CloseCode::NORMAL, "one link is enough");
            }
        }
        self.register();
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.advance_client(socket, now);
        }
    }

    fn handle_data(&mut self, socket: SocketId, path: Path, record: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.path != Some(path) {
            match entry.side {
                Side::Client(_) => self.handle_early_data(socket, path, record, now),
                Side::Server(_) => self.handle_candidate_data(socket, path, record, now),
            }
            return;
        }
        match entry.session.handle_record(record, now) {
            Ok(()) | Err(RecordError::Violation) => {}
            Err(RecordError::Open(_)) => {
                let reason = "a record was tampered with";
                self.close_path(path, CloseCode::PROTOCOL_ERROR, reason);
                self.lose_path(socket, CloseCode::PROTOCOL_ERROR, reason, now);
            }
        }
        self.touch(socket, now);
    }

    fn handle_channel_closed(
        &mut self,
        socket: SocketId,
        path: Path,
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
                serving.candidates.retain(|candidate| candidate.path != path);
                if entry.path == Some(path) {
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
            if !entry.session.has_ended() && entry.resumes() {
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

    fn end_link(&mut self, id: LinkId, error: &LinkError, now: Instant) {
        let reason = error.to_string();
        self.events.push_back(Event::HangUp { link: id, code: error.code(), reason: reason.clone() });
        self.lose_link(id, error.code(), &reason, now);
    }

    /// The relay is about to end, and its successor may be there already: what can be resumed moves at once. If there
    /// is something that can't, all stays as long as the relay does.
    fn leave_draining(&mut self, id: LinkId, now: Instant) {
        if self.sockets.values().all(|entry| entry.opened && entry.resumes()) {
            let (code, reason) = (CloseCode::DRAINING, "the relay is about to end");
            self.events.push_back(Event::HangUp { link: id, code, reason: reason.to_owned() });
            self.lose_link(id, code, reason, now);
        }
    }

    /// Lets a link go that carries nothing.
    fn hang_up(&mut self, id: LinkId, code: CloseCode, reason: &str) {
        if self.links.remove(&id).is_some() {
            self.events.push_back(Event::HangUp { link: id, code, reason: reason.to_owned() });
        }
    }

    fn lose_link(&mut self, id: LinkId, code: CloseCode, reason: &str, now: Instant) {
        let Some(link) = self.links.remove(&id) else { return };
        let was_ready = link.is_ready();
        let code = if was_ready || code == CloseCode::REFUSED { code } else { CloseCode::RELAY_UNREACHABLE };
        let owner = self.own_links.iter().find(|(_, link)| **link == id).map(|(socket, _)| *socket);
        let was_shared = self.main == Some(id) && !self.is_livecode;
        if self.main == Some(id) {
            self.main = None;
            self.redial.fail(was_ready, self.entropy.u64(), now);
            self.lose_host_link(code, reason);
        }
        if let Some(owner) = owner {
            self.own_links.remove(&owner);
        }
        self.by_path.retain(|path, _| path.link != id);
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.sockets.get_mut(&socket) else { continue };
            let on_it = entry.paths().iter().any(|path| path.link == id);
            // What waits for a first link fails with it; what has been open goes on waiting.
            let waits_for_it =
                !entry.opened && (owner == Some(socket) || owner.is_none() && entry.wants_path());
            match &mut entry.side {
                Side::Server(serving) => serving.candidates.retain(|candidate| candidate.path.link != id),
                Side::Client(client) if was_shared => client.forget_absence(),
                Side::Client(_) => {}
            }
            if on_it || waits_for_it {
                self.lose_path(socket, code, reason, now);
            }
            self.touch(socket, now);
        }
        self.dial_if_wanted(now);
    }

    fn dial_if_wanted(&mut self, now: Instant) {
        if self.main.is_none() && self.wants_link() && self.redial.is_due(now) {
            self.main = Some(self.dial());
        }
    }

    fn dial(&mut self) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, Carrier::Dialing);
        self.events.push_back(Event::Dial { link });
        link
    }

    fn wants_link(&self) -> bool {
        self.host.is_some() || !self.is_livecode && self.sockets.values().any(|entry| entry.wants_path())
    }

    fn close_path(&mut self, path: Path, code: CloseCode, reason: &str) {
        self.by_path.remove(&path);
        if let Some(link) = self.links.get_mut(&path.link) {
            link.close(path.channel, code, reason);
        }
    }

    fn add_socket(&mut self, session: Session, side: Side) -> SocketId {
        let socket = SocketId(self.next_socket);
        self.next_socket += 1;
        self.idle_until = None;
        let mut entry = Box::new(Socket::new(session, side));
        entry.session.set_share(self.share);
        self.sockets.insert(socket, entry);
        self.share_out();
        socket
    }

    /// What each of so many sessions may keep, in bytes. The number of shares is a power of two, so that they change
    /// seldom.
    fn share_of(&self, sessions: usize) -> u64 {
        (self.config.total_buffer / sessions.next_power_of_two() as u64).max(MIN_SHARE)
    }

    /// Bounds of one more session.
    fn next_session(&self) -> session::Config {
        let share = self.share_of(self.sockets.len() + 1);
        session::Config { window: self.config.session.window.min(share), ..self.config.session.clone() }
    }

    /// Gives each session its share of the page's memory.
    fn share_out(&mut self) {
        let share = self.share_of(self.sockets.len());
        if std::mem::replace(&mut self.share, share) != share {
            for entry in self.sockets.values_mut() {
                entry.session.set_share(share);
            }
        }
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
                        stats: entry.session.stats(),
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
            if let Some(at) = timer {
                self.timers.insert((at, socket));
            }
        }
        if has_path && entry.session.has_record(now) {
            self.mark_ready(socket);
        }
    }

    /// Forgets a socket and gives its channels back.
    fn remove(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.remove(&socket) else { return };
        self.share_out();
        if !entry.session.has_ended() {
            self.events.push_back(Event::Closed {
                socket,
                code: CloseCode::ABNORMAL,
                reason: "the peer has gone".to_owned(),
                was_clean: false,
                failed: !entry.opened,
                stats: entry.session.stats(),
            });
        }
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, socket));
        }
        for path in entry.paths() {
            self.close_path(path, CloseCode::NORMAL, "");
        }
        if let Some(link) = self.own_links.remove(&socket) {
            self.parting.insert(link);
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
