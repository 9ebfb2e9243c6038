//! All that a page has through one relay: links, the sessions that run over them, the server that it hosts.
//!
//! The endpoint decides when to dial, redial, resume and give up. Its owner moves messages between it and the
//! WebSockets that it asks for, and tells it the time.

mod carrier;
mod client;
mod config;
mod event;
mod links;
mod redial;
mod server;
mod socket;
mod table;
mod translator;

use crate::entropy::Entropy;
use crate::identity::StaticKey;
use crate::server_id::PublicKey;
use crate::session::{self, Epoch, RecordError, Session, SessionId};
use crate::sorted::{SortedMap, SortedSet};
use crate::{CloseCode, Instant, Message};
use bytes::Bytes;
use carrier::Carrier;
pub use config::Config;
pub use event::{Event, LinkId, LinkMessage, SendError, SocketId};
use redial::Redial;
use server::Host;
pub use socket::{ConnectOptions, Liveness, Offer, Remote, SocketStats};
use socket::{Path, Side, Socket};
use std::collections::VecDeque;
use table::Table;
pub use translator::{MaybeSend, Translator};

/// What a session may keep however many there are, in bytes: a record's worth.
const MIN_SHARE: u64 = 64 * 1024;

/// The state machine of all that a page does through one relay URL.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    entropy: Entropy,
    epoch: Epoch,
    links: Table<LinkId, Carrier>,
    next_link: u64,
    /// The link that all sockets share; in the livecode dialect, the server's own.
    main: Option<LinkId>,
    /// Links that go once what is queued on them is out.
    parting: SortedSet<LinkId>,
    /// Whether the relay spoke the livecode dialect when it last said something.
    is_livecode: bool,
    redial: Redial,
    sockets: Table<SocketId, Socket>,
    next_socket: u64,
    /// New clients, whose first handshake nobody has begun yet.
    unprepared: Vec<SocketId>,
    /// What each session may keep, in bytes.
    share: u64,
    by_path: SortedMap<Path, SocketId>,
    /// Sessions of clients, by what they are resumed with.
    by_session: SortedMap<(PublicKey, SessionId), SocketId>,
    host: Option<Host>,
    /// Diffie-Hellman that have been asked for and not been answered: one's own key, and the other.
    agreements: SortedSet<(PublicKey, PublicKey)>,
    /// Keys that nothing has used, made while nobody waited.
    spare_keys: Vec<StaticKey>,
    /// Sockets that may have a record to send, in the order of their turns.
    ready: VecDeque<SocketId>,
    /// Deadlines of sockets.
    timers: SortedSet<(Instant, SocketId)>,
    /// When to hang up, if nothing needs the link until then; never while something does.
    idle_until: Instant,
    events: VecDeque<Event>,
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
            links: Table::new(),
            next_link: 0,
            main: None,
            parting: SortedSet::new(),
            is_livecode: false,
            redial: Redial::default(),
            sockets: Table::new(),
            next_socket: 0,
            unprepared: Vec::new(),
            share: u64::MAX,
            by_path: SortedMap::new(),
            by_session: SortedMap::new(),
            host: None,
            agreements: SortedSet::new(),
            spare_keys: Vec::new(),
            ready: VecDeque::new(),
            timers: SortedSet::new(),
            idle_until: Instant::NEVER,
            events: VecDeque::new(),
        }
    }

    /// Takes fresh keys, which nothing else uses, for the next handshakes: to make one takes as long as the rest of the
    /// endpoint's work on it. A client needs two.
    pub fn stock(&mut self, keys: Vec<StaticKey>) {
        self.spare_keys = keys;
    }

    fn fresh_key(&mut self) -> StaticKey {
        self.spare_keys.pop().unwrap_or_else(|| StaticKey::from_secret(self.entropy.bytes()))
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// The socket is not open; nothing was queued.
    pub fn send(&mut self, socket: SocketId, message: Message) -> Result<(), SendError> {
        let entry = self.sockets.get_mut(socket).ok_or(SendError::NotOpen)?;
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
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if entry.opened {
            entry.session.close(code, reason, now);
            self.touch(socket, now);
        } else {
            self.abort(socket, CloseCode::ABORTED, "closed before the connection was established", now);
        }
    }

    /// Ends a socket at once; the peer is told if it can be.
    pub fn abort(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        entry.session.abort(code, reason, false);
        self.touch(socket, now);
    }

    /// The application has taken in messages of a socket that [cost](Message::cost) so much; the peer may send as much more.
    pub fn consume(&mut self, socket: SocketId, cost: usize, now: Instant) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.session.consume(cost, now);
            self.touch(socket, now);
        }
    }

    /// Has a socket take messages of so many bytes at most: call it before [`accept`](Self::accept), or at once after
    /// [`connect`](Self::connect).
    pub fn limit_messages(&mut self, socket: SocketId, max_message: u64) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.session.set_max_message(max_message);
        }
    }

    /// The page goes: tells every peer 1001 and the relay that nobody comes back. Drain
    /// [`poll_transmit`](Self::poll_transmit) at once, there is no later.
    pub fn leave(&mut self, now: Instant) {
        self.for_each_socket(now, |endpoint, socket, now| {
            if let Some(entry) = endpoint.sockets.get_mut(socket) {
                entry.session.abort(CloseCode::GOING_AWAY, "the page was closed", true);
            }
            endpoint.touch(socket, now);
        });
        self.unhost(now);
        self.redial.stop();
    }

    /// Acts on the clock; calling it too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in self.links.keys() {
            if let Some(link) = self.links.get_mut(id)
                && let Err(error) = link.handle_timeout(now)
            {
                self.end_link(id, &error, now);
            }
        }
        while let Some((at, socket)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, socket));
            if let Some(entry) = self.sockets.get_mut(socket) {
                entry.timer = Instant::NEVER;
                entry.session.handle_timeout(now);
                self.handle_socket_timeout(socket, now);
                self.touch(socket, now);
            }
        }
        if self.is_idle() && self.idle_until <= now {
            self.idle_until = Instant::NEVER;
            self.main = None;
            for link in self.links.keys() {
                self.hang_up(link, CloseCode::NORMAL, "nothing needs it");
            }
        }
        self.dial_if_wanted(now);
    }

    /// Takes in the answer to [`Event::NeedsDiffieHellman`].
    pub fn handle_diffie_hellman(
        &mut self,
        ours: PublicKey,
        theirs: PublicKey,
        shared: [u8; 32],
        now: Instant,
    ) {
        self.agreements.remove(&(ours, theirs));
        for entry in self.sockets.values_mut() {
            if let Side::Client(client) = &mut entry.side
                && let Some(key) = client.key.as_mut().filter(|key| key.public() == ours)
            {
                key.answer(theirs, shared);
            }
        }
        if self.host.as_ref().is_some_and(|host| host.key.public() == ours) {
            self.answer_host(theirs, shared, now);
        }
        self.for_each_socket(now, Self::advance_client);
    }

    /// Asks the holder of a key for a Diffie-Hellman, once.
    fn ask(&mut self, ours: PublicKey, theirs: PublicKey) {
        if self.agreements.insert((ours, theirs)) {
            self.events.push_back(Event::NeedsDiffieHellman { ours, theirs });
        }
    }

    /// The next message for a WebSocket; call it while that WebSocket's own buffer is short.
    ///
    /// Control comes first, then the sockets take turns, a record each. Records are made here and now, from all that
    /// has been queued until now: that is what packs small messages.
    pub fn poll_transmit(&mut self, id: LinkId, now: Instant) -> Option<LinkMessage> {
        if let Some(control) = self.links.get_mut(id)?.poll_transmit(now) {
            return Some(control);
        }
        // Sockets of other links wait in the same queue: each is looked at once.
        for _ in 0..self.ready.len() {
            let Some(socket) = self.ready.pop_front() else { break };
            let Some(entry) = self.sockets.get_mut(socket) else { continue };
            let Some(path) = entry.path.filter(|path| path.link == id) else {
                entry.is_ready = entry.path.is_some();
                if entry.is_ready {
                    self.ready.push_back(socket);
                }
                continue;
            };
            entry.is_ready = false;
            let record = self.links.get_mut(id)?.poll_record(path.channel, &mut entry.session, now);
            if record.is_some() {
                self.touch(socket, now);
                return record;
            }
        }
        // A socket that has just ended may have left a CLOSE behind.
        let last = self.links.get_mut(id)?.poll_transmit(now);
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
        let mut at = self.idle_until;
        for link in self.links.values() {
            at = at.min(link.poll_timeout());
        }
        if let Some((socket, _)) = self.timers.first() {
            at = at.min(*socket);
        }
        if self.main.is_none() && self.wants_link() {
            at = at.min(self.redial.at());
        }
        (at < Instant::NEVER).then_some(at)
    }

    /// Payload bytes that [`send`](Self::send) took and that are in no record yet.
    #[must_use]
    pub fn buffered_amount(&self, socket: SocketId) -> usize {
        self.sockets.get(socket).map_or(0, |entry| entry.session.buffered_amount())
    }

    /// What has been counted on a socket; `None` when it has ended.
    #[must_use]
    pub fn stats(&self, socket: SocketId) -> Option<SocketStats> {
        let entry = self.sockets.get(socket)?;
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

    fn handle_data(&mut self, socket: SocketId, path: Path, record: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
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
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if entry.session.has_ended() && (code == CloseCode::NORMAL || !entry.session.may_linger()) {
            self.remove(socket, now);
            return;
        }
        match &mut entry.side {
            Side::Client(_) => self.handle_client_channel_closed(socket, code, reason, now),
            Side::Server(serving) => {
                serving.take_candidate(path);
                if entry.path == Some(path) {
                    self.lose_path(socket, code, reason, now);
                } else if !entry.opened {
                    // Whoever asked has gone before it was answered.
                    self.remove(socket, now);
                }
            }
        }
    }

    /// The socket has a path: the application hears that it is open, or again, and with whom.
    fn open(&mut self, socket: SocketId, path: Path, remote: Remote) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        entry.path = Some(path);
        entry.interrupted_at = Instant::NEVER;
        if !std::mem::replace(&mut entry.opened, true) {
            let protocol = entry.protocol.clone();
            self.events.push_back(Event::Opened { socket, protocol, remote });
        } else if !entry.session.has_ended() {
            self.events.push_back(Event::Resumed { socket });
        }
    }

    /// The socket has no path any more. What becomes of it is up to its side.
    fn lose_path(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let link = entry.path.take().map(|path| path.link);
        let link_lives = link.is_some_and(|link| self.links.get(link).is_some());
        entry.session.detach();
        if entry.opened && !entry.is_interrupted() {
            entry.interrupted_at = now;
            if !entry.session.has_ended() && entry.resumes() {
                self.events.push_back(Event::Interrupted { socket });
            }
        }
        let Some(entry) = self.sockets.get(socket) else { return };
        match &entry.side {
            Side::Client(_) => self.lose_client_path(socket, code, reason, now),
            Side::Server(_) => self.lose_server_path(socket, code, reason, link_lives, now),
        }
    }

    fn handle_socket_timeout(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if entry.lingers_until <= now {
            self.remove(socket, now);
            return;
        }
        match &entry.side {
            Side::Client(_) => self.handle_client_timeout(socket, now),
            Side::Server(_) => self.handle_server_timeout(socket, now),
        }
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

    /// Does something to each socket that is there now.
    fn for_each_socket(&mut self, now: Instant, step: fn(&mut Self, SocketId, Instant)) {
        for socket in self.sockets.keys() {
            step(self, socket, now);
        }
    }

    fn add_socket(&mut self, session: Session, side: Side) -> SocketId {
        let socket = SocketId(self.next_socket);
        self.next_socket += 1;
        self.idle_until = Instant::NEVER;
        let mut entry = Socket::new(session, side);
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
        if let Some(entry) = self.sockets.get_mut(socket)
            && !entry.is_ready
        {
            entry.is_ready = true;
            self.ready.push_back(socket);
        }
    }

    /// After anything that may have changed a socket: passes on its events, sets its timer, gives it its turn to send
    /// and forgets it when it is finished.
    fn touch(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        while let Some(event) = entry.session.poll_event() {
            self.events.push_back(match event {
                session::Event::Message(message) => Event::Message { socket, message },
                session::Event::Closed(closed) => {
                    entry.lingers_until = now + socket::LINGER;
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
            self.timers.remove(&(entry.timer, socket));
            entry.timer = timer;
            if timer < Instant::NEVER {
                self.timers.insert((timer, socket));
            }
        }
        if has_path && entry.session.has_record(now) {
            self.mark_ready(socket);
        }
    }

    /// Forgets a socket and gives its channels back.
    fn remove(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.remove(socket) else { return };
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
        self.timers.remove(&(entry.timer, socket));
        self.close_other_paths(socket);
        if let Some(link) = entry.own_link {
            self.parting.insert(link);
        }
        if let Side::Server(serving) = &entry.side {
            self.by_session.remove(&(serving.key, serving.session_id));
        }
        self.finish_host(now);
    }

    /// Lets the link go some time after the last that needed it.
    fn rest(&mut self, now: Instant) {
        self.idle_until = if self.is_idle() { now + self.config.link_grace } else { Instant::NEVER };
    }
}
