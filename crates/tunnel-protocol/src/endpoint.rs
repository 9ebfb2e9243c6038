//! All that a page has through one relay: links, the sessions that run over them, the server that it hosts.
//!
//! The endpoint decides when to dial, redial, resume and give up. Its owner moves messages between it and the
//! WebSockets that it asks for, and tells it the time.

mod action;
mod carrier;
mod client;
mod config;
mod event;
mod host;
mod keys;
mod links;
mod redial;
mod server;
mod socket;
mod stats;
mod steps;
mod table;
mod translator;

use crate::entropy::Entropy;
use crate::identity::StaticKey;
use crate::server_id::PublicKey;
use crate::session::{self, Epoch, Session, SessionId};
use crate::sorted::{SortedMap, SortedSet};
use crate::{CloseCode, Instant, Message};
use carrier::Carrier;
use client::ClientSide;
pub use config::Config;
pub use event::{Event, LinkId, LinkMessage, SendError, SocketId};
use host::Host;
use keys::Keys;
use redial::Redial;
pub use socket::{ConnectOptions, Incoming, Liveness, Remote, SocketStats};
use socket::{Entry, Path, Side, Socket};
use stats::HostCounts;
pub use stats::{HostStats, LinkStats};
use std::collections::VecDeque;
use table::Table;
pub use translator::{MaybeSend, Translator};

/// The least that a session may keep, in bytes, however many there are: a record's worth.
const MIN_SHARE: u64 = 64 * 1024;

/// The state machine of all that a page does through one relay URL.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    keys: Keys,
    epoch: Epoch,
    links: Table<LinkId, Carrier>,
    next_link: u64,
    /// The link that all sockets share; in the livecode dialect, the server's own.
    main: Option<LinkId>,
    /// Links that go once what is queued on them is out.
    parting: SortedSet<LinkId>,
    /// True if the relay spoke the livecode dialect when it last said something.
    is_livecode: bool,
    redial: Redial,
    sockets: Table<SocketId, Entry>,
    next_socket: u64,
    /// New clients, whose first handshake nobody has begun yet.
    unprepared: Vec<SocketId>,
    /// The bytes that each session may keep.
    share: u64,
    by_path: SortedMap<Path, SocketId>,
    /// Sessions of clients, by what they are resumed with.
    by_session: SortedMap<(PublicKey, SessionId), SocketId>,
    host: Option<Host>,
    host_counts: HostCounts,
    /// Diffie-Hellman that have been asked for and not been answered: one's own key, and the other.
    agreements: SortedSet<(PublicKey, PublicKey)>,
    /// Sockets that may have a record to send, in the order of their turns.
    ready: VecDeque<SocketId>,
    /// Deadlines of sockets.
    timers: SortedSet<(Instant, SocketId)>,
    /// The time at which to hang up, if nothing needs the link until then; never while something does.
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
            keys: Keys::new(entropy),
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
            host_counts: HostCounts::default(),
            agreements: SortedSet::new(),
            ready: VecDeque::new(),
            timers: SortedSet::new(),
            idle_until: Instant::NEVER,
            events: VecDeque::new(),
        }
    }

    /// Takes fresh keys, which nothing else uses, for the next handshakes. To make a key takes as long as the rest of the
    /// endpoint's work on a handshake. A client needs two.
    pub fn stock(&mut self, keys: Vec<StaticKey>) {
        self.keys.stock(keys);
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// The socket is not open; nothing was queued.
    pub fn send(&mut self, socket: SocketId, message: Message) -> Result<(), SendError> {
        let entry = self.sockets.get_mut(socket).ok_or(SendError::NotOpen)?;
        if !entry.socket.opened {
            return Err(SendError::Connecting);
        }
        if !entry.socket.session.is_open() {
            return Err(SendError::NotOpen);
        }
        entry.socket.send(message);
        self.mark_ready(socket);
        Ok(())
    }

    /// Closes a socket behind what is queued on it; `None` is a close without a code. A socket that is still
    /// connecting fails.
    pub fn close(&mut self, socket: SocketId, code: Option<CloseCode>, reason: &str, now: Instant) {
        self.step(socket, now, |entry, cx| entry.socket.close(code, reason, cx.now));
    }

    /// Ends a socket at once; the peer is told if it can be.
    pub fn abort(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        self.step(socket, now, |entry, _| {
            entry.socket.never_reopen();
            entry.socket.session.abort(code, reason, false);
        });
    }

    /// The application has taken in messages of a socket that [cost](Message::cost) so much; the peer may send as much more.
    pub fn consume(&mut self, socket: SocketId, cost: usize, now: Instant) {
        self.step(socket, now, |entry, cx| entry.socket.session.consume(cost, cx.now));
    }

    /// Has a socket take messages of so many bytes at most: call it before [`accept`](Self::accept), or at once after
    /// [`connect`](Self::connect).
    pub fn limit_messages(&mut self, socket: SocketId, max_message: u64) {
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.socket.session.set_max_message(max_message);
        }
    }

    /// Closes all sockets with 1001 and the server, because the page is being closed. Call
    /// [`poll_transmit`](Self::poll_transmit) until it returns `None` before returning to the event loop.
    pub fn leave(&mut self, now: Instant) {
        for socket in self.sockets.keys() {
            self.step(socket, now, |entry, _| {
                entry.socket.never_reopen();
                entry.socket.session.abort(CloseCode::GOING_AWAY, "the page was closed", true);
            });
        }
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
            self.step(socket, now, Entry::handle_timeout);
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
            if let Side::Client(client) = &mut entry.side {
                client.handle_diffie_hellman(ours, theirs, shared);
            }
        }
        if self.host.as_ref().is_some_and(|host| host.public() == ours) {
            self.answer_host(theirs, shared, now);
        }
        self.for_each_client(now, ClientSide::advance);
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
            let Some(path) = entry.socket.path.filter(|path| path.link == id) else {
                entry.socket.is_ready = entry.socket.path.is_some();
                if entry.socket.is_ready {
                    self.ready.push_back(socket);
                }
                continue;
            };
            entry.socket.is_ready = false;
            let record = self.links.get_mut(id)?.poll_record(path.channel, &mut entry.socket.session, now);
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

    /// Returns the next event, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        #[cfg(feature = "tracing")]
        event.trace();
        Some(event)
    }

    /// The time at which to call [`handle_timeout`](Self::handle_timeout), if nothing else happens before.
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
        self.sockets.get(socket).map_or(0, |entry| entry.socket.buffered_amount())
    }

    /// Returns the counters of a socket; `None` when it has ended.
    #[must_use]
    pub fn stats(&self, socket: SocketId) -> Option<SocketStats> {
        let entry = self.sockets.get(socket)?;
        let session = entry.socket.session.stats();
        let liveness = match entry.socket.session.is_attached() {
            true if session.bytes_unacknowledged > 0 => Liveness::Waiting,
            true => Liveness::Alive,
            false => Liveness::Interrupted,
        };
        Some(SocketStats { session, liveness })
    }

    /// Bytes of messages held for all sockets.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.sockets.values().map(|entry| entry.socket.held()).sum()
    }

    /// Returns whether there is neither a socket nor a server, so that the owner may let go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.sockets.is_empty() && self.host.is_none()
    }

    /// The relay is about to end, and its successor may be there already: what can be resumed moves at once. If there
    /// is something that can't, all stays as long as the relay does.
    fn leave_draining(&mut self, id: LinkId, now: Instant) {
        if self.sockets.values().all(|entry| entry.socket.opened && entry.resumes()) {
            let (code, reason) = (CloseCode::DRAINING, "the relay is about to end");
            self.events.push_back(Event::HangUp { link: id, code, reason: reason.to_owned() });
            self.lose_link(id, code, reason, now);
        }
    }

    fn add_socket(&mut self, session: Session, side: Side) -> SocketId {
        let socket = SocketId(self.next_socket);
        self.next_socket += 1;
        self.idle_until = Instant::NEVER;
        let mut entry = Entry { socket: Socket::new(socket, session), side };
        entry.socket.session.set_share(self.share);
        self.sockets.insert(socket, entry);
        self.share_out();
        socket
    }

    /// Returns the bytes that each of so many sessions may keep. The number of shares is a power of two, so that they change
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
                entry.socket.session.set_share(share);
            }
        }
    }

    fn mark_ready(&mut self, socket: SocketId) {
        if let Some(entry) = self.sockets.get_mut(socket)
            && !entry.socket.is_ready
        {
            entry.socket.is_ready = true;
            self.ready.push_back(socket);
        }
    }

    /// Starts, or stops, the idle timer after which the link is closed.
    fn rest(&mut self, now: Instant) {
        self.idle_until = if self.is_idle() { now + self.config.link_grace } else { Instant::NEVER };
    }
}
