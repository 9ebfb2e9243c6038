//! The server that this endpoint hosts: registration, clients that want in, clients that come back.

mod incoming;
mod replay;
mod room;

use super::carrier::Carrier;
use super::links::is_lasting;
use super::socket::{Offer, Path, Remote, Side, Socket, prologue};
use super::{Endpoint, Event, LinkId, SocketId};
use crate::codec::DecodeError;
use crate::frame::ChannelKind;
use crate::handshake::{HandshakeError, Responder, Transport};
use crate::identity::{DhError, StaticKey};
use crate::ledger::Owner;
use crate::link::LinkError;
use crate::server_id::PublicKey;
use crate::session::{Epoch, FEATURES, Open, Opened, Position, Session, SessionId};
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
use replay::Replays;

/// How long the application may think about a client.
const OFFER_TIMEOUT: Duration = Duration::from_secs(25);

/// How long a client may take from the second handshake message to its first record.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Paths of one session that may wait for their first record: a replayed handshake must not push out the real one.
const MAX_CANDIDATES: usize = 4;

/// Texts that a plain peer may send before the application has decided.
const MAX_EARLY: usize = 64;

/// First handshake messages that may wait for the key; those of one address, as many as there is still room for.
const MAX_WAITING: usize = 128;

/// Diffie-Hellman that clients may cause to be under way.
const MAX_AGREEMENTS: usize = 2 * MAX_WAITING;

/// The server's identity and its standing with the relay.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) key: StaticKey,
    registered: bool,
    /// The ID under which it was registered first. It never changes.
    server_id: Option<ServerId>,
    closing: bool,
    /// Its number at a livecoding relay, and the credential that gets it back.
    installation: String,
    /// Handshakes that wait for the key.
    waiting: Vec<Waiting>,
    replays: Replays,
}

/// A first handshake message that can't be read before its key is there.
#[derive(Debug)]
struct Waiting {
    incoming: Incoming,
    owner: Owner,
    /// The server's key, with the answers that this handshake has got.
    key: StaticKey,
    /// What it has been asked for.
    theirs: PublicKey,
}

/// A client that wants in, as the relay announces it.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) path: Path,
    pub(super) port: u16,
    pub(super) kind: ChannelKind,
    pub(super) address: String,
    pub(super) payload: Bytes,
}

/// What a server knows of one client, beside the session.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) key: PublicKey,
    pub(super) session_id: SessionId,
    client_epoch: Epoch,
    address: String,
    /// To whom the client is charged.
    owner: Owner,
    arrived_at: Instant,
    /// The client has gone, or its link: it was not this endpoint's that broke.
    is_away: bool,
    pub(super) resume_timeout: Duration,
    /// The application has not decided yet.
    undecided: Option<Undecided>,
    /// Paths whose first record has not come, the oldest first.
    pub(super) candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Undecided {
    path: Path,
    greeting: Greeting,
    give_up_at: Instant,
}

/// What the client has said to be let in.
#[derive(Debug)]
enum Greeting {
    /// The first handshake message.
    Sealed { responder: Responder, position: Position },
    /// Nothing; a plain peer may already talk.
    Plain { early: Vec<Bytes> },
}

/// A path that is the session's as soon as a record on it proves that the client is there and not a recording of it.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: Path,
    transport: Transport,
    position: Position,
    give_up_at: Instant,
}

/// A client that the application is asked about.
struct Guest {
    path: Path,
    key: PublicKey,
    session_id: SessionId,
    client_epoch: Epoch,
    greeting: Greeting,
    session: Session,
}

impl Host {
    /// Whether it is registered under the ID of its key, or was.
    pub(super) const fn has_key_for_id(&self) -> bool {
        matches!(self.server_id, Some(ServerId::Key(_)))
    }
}

impl Serving {
    /// The path counts, or is gone.
    pub(super) fn take_candidate(&mut self, path: Path) -> Option<Candidate> {
        let at = self.candidates.iter().position(|candidate| candidate.path == path)?;
        Some(self.candidates.remove(at))
    }

    pub(super) fn poll_timeout(&self, interrupted_at: Instant) -> Instant {
        let undecided = self.undecided.as_ref().map_or(Instant::NEVER, |undecided| undecided.give_up_at);
        let candidate = self.candidates.first().map_or(Instant::NEVER, |candidate| candidate.give_up_at);
        undecided.min(candidate).min(interrupted_at + self.resume_timeout)
    }
}

impl Endpoint {
    /// Registers a server under `key`, now and whenever the link has to be built again.
    pub fn host(&mut self, key: StaticKey, now: Instant) {
        self.idle_until = Instant::NEVER;
        self.host = Some(Host {
            key,
            registered: false,
            server_id: None,
            closing: false,
            installation: String::new(),
            waiting: Vec::new(),
            replays: Replays::default(),
        });
        self.dial_if_wanted(now);
        self.register(now);
    }

    /// Stops hosting: its sockets are closed in order with 1001, newcomers are refused, and when the last socket is
    /// gone, [`Event::HostClosed`] comes.
    pub fn unhost(&mut self, now: Instant) {
        let Some(host) = &mut self.host else { return };
        host.closing = true;
        self.for_each_socket(now, Self::send_away);
        self.finish_host(now);
    }

    /// Closes a client's socket because the server is.
    fn send_away(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &entry.side else { return };
        // A client that was let in may take the socket for open before its first record is here.
        if entry.opened && entry.path.is_some() || !serving.candidates.is_empty() {
            entry.session.close(Some(CloseCode::GOING_AWAY), "the server was closed", now);
        } else {
            entry.session.give_up(CloseCode::GOING_AWAY, "the server was closed");
        }
        self.touch(socket, now);
    }

    /// The last step of [`unhost`](Self::unhost).
    pub(super) fn finish_host(&mut self, now: Instant) {
        let closing = self.host.as_ref().is_some_and(|host| host.closing);
        if closing && !self.sockets.values().any(|entry| matches!(entry.side, Side::Server(_))) {
            self.host = None;
            self.events.push_back(Event::HostClosed { code: CloseCode::NORMAL, reason: String::new() });
        }
        self.rest(now);
        if closing && self.is_idle() {
            // A registration lasts as long as its link.
            self.idle_until = now;
        }
    }

    /// Answers [`Event::Offer`]: let the client in, with one of the subprotocols that it offered, or none.
    /// [`Event::Opened`] or [`Event::Closed`] follows, unless the client has gone already.
    pub fn accept(&mut self, socket: SocketId, protocol: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &mut entry.side else { return };
        let Some(Undecided { path, greeting, .. }) = serving.undecided.take() else { return };
        match greeting {
            Greeting::Sealed { responder, position } => {
                protocol.clone_into(&mut entry.protocol);
                self.answer(socket, path, responder, position, now);
            }
            Greeting::Plain { early } => self.open_plain(socket, path, early, now),
        }
    }

    /// A plain peer is in as soon as it is accepted.
    fn open_plain(&mut self, socket: SocketId, path: Path, early: Vec<Bytes>, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &entry.side else { return };
        let remote = Remote { address: Some(serving.address.clone()), ..Remote::default() };
        self.open(socket, path, remote);
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        for text in early {
            // A plain peer can't break a protocol that it does not speak.
            let _ = entry.session.handle_record(text, now);
        }
        if let Some(link) = self.links.get_mut(path.link) {
            link.accept_plain(path.channel);
        }
        self.touch(socket, now);
    }

    /// Answers [`Event::Offer`]: turn the client away. No [`Event::Closed`] follows.
    pub fn refuse(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &mut entry.side else { return };
        let Some(Undecided { path, greeting, .. }) = serving.undecided.take() else { return };
        match greeting {
            Greeting::Sealed { responder, .. } => self.turn_away(path, responder, code, reason),
            Greeting::Plain { .. } => self.close_path(path, code, reason),
        }
        // Whoever refuses knows: no event follows.
        if let Some(entry) = self.sockets.get_mut(socket) {
            entry.session.give_up(code, reason);
        }
        self.forget(socket, now);
    }

    /// Proves to the relay whose server this is.
    pub(super) fn register(&mut self, now: Instant) {
        let (Some(host), Some(main)) = (&mut self.host, self.main) else { return };
        let Some(carrier) = self.links.get_mut(main) else { return };
        if host.registered || host.closing || !carrier.is_ready() {
            return;
        }
        match carrier {
            Carrier::Tunnel(link) => match link.register(&host.key, &self.config.relay_url) {
                Ok(()) => host.registered = true,
                Err(DhError::Pending(theirs)) => {
                    let ours = host.key.public();
                    self.ask(ours, theirs);
                }
                // The relay's challenge is none: it gets no proof. A link on which no server can be would be silence without
                // end.
                Err(DhError::LowOrder) => {
                    let error = LinkError::Malformed(DecodeError::InvalidValue { field: "challenge" });
                    self.end_link(main, &error, now);
                }
            },
            Carrier::Livecode(link) => {
                link.register(host.key.public(), &host.installation);
                host.registered = true;
            }
            Carrier::Foreign { .. } => {}
        }
    }

    /// The server's key has given an answer: to the relay's challenge, or to handshakes.
    pub(super) fn answer_host(&mut self, theirs: PublicKey, shared: [u8; 32], now: Instant) {
        let Some(host) = &mut self.host else { return };
        host.key.answer(theirs, shared);
        self.register(now);
        if let Some(host) = &mut self.host {
            host.key.forget_answers();
        }
        self.retry_incoming(theirs, shared, now);
    }

    pub(super) fn handle_registered(&mut self, link: LinkId, server_id: ServerId, now: Instant) {
        let Some(host) = &mut self.host else { return };
        if let Some(Carrier::Livecode(link)) = self.links.get(link) {
            host.installation = link.installation();
        }
        let before = host.server_id.replace(server_id);
        // Clients know the server by its first ID.
        if before.is_some_and(|first| first != server_id) {
            return self.end_link(link, &LinkError::WrongServerId, now);
        }
        self.events.push_back(Event::Hosting { server_id, again: before.is_some() });
    }

    /// The path of a client is gone: it may come back.
    pub(super) fn lose_server_path(
        &mut self,
        socket: SocketId,
        code: CloseCode,
        reason: &str,
        link_lives: bool,
        now: Instant,
    ) {
        // Whoever comes back to a server that is being closed is not let in.
        let is_hosted = self.host.as_ref().is_some_and(|host| !host.closing);
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if !entry.opened {
            self.forget(socket, now);
            return;
        }
        if !entry.resumes() {
            entry.session.give_up(CloseCode::ABNORMAL, reason);
        } else if !is_hosted {
            entry.session.give_up(code, reason);
        }
        if let Side::Server(serving) = &mut entry.side {
            serving.is_away = link_lives;
        }
        self.touch(socket, now);
        self.evict_away(now);
    }

    pub(super) fn handle_server_timeout(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &mut entry.side else { return };
        if serving.undecided.as_ref().is_some_and(|undecided| undecided.give_up_at <= now) {
            self.refuse(socket, CloseCode::TIMEOUT, "the server's application did not decide", now);
            return;
        }
        // If there are more, the timer is set again.
        let late =
            serving.candidates.first().filter(|oldest| oldest.give_up_at <= now).map(|oldest| oldest.path);
        if late.is_some() {
            serving.candidates.remove(0);
        }
        let abandoned = !entry.opened && serving.undecided.is_none() && serving.candidates.is_empty();
        if entry.interrupted_at + serving.resume_timeout <= now {
            let reason = format!(
                "the client did not come back within {} s; {}",
                serving.resume_timeout.as_secs(),
                entry.session.certainty()
            );
            entry.session.give_up(CloseCode::EXPIRED, &reason);
        }
        if let Some(path) = late {
            self.close_path(path, CloseCode::TIMEOUT, "no record came");
        }
        if abandoned {
            self.forget(socket, now);
        }
    }

    /// The server's link is gone.
    pub(super) fn lose_host_link(&mut self, code: CloseCode, reason: &str, now: Instant) {
        let Some(host) = &mut self.host else { return };
        let was_registered = std::mem::replace(&mut host.registered, false);
        host.waiting.clear();
        let final_word = matches!(code, CloseCode::ID_TAKEN_OVER | CloseCode::POLICY | CloseCode::REFUSED)
            || is_lasting(code);
        if final_word || host.server_id.is_none() || host.closing {
            self.close_host(code, reason, now);
        } else if was_registered {
            self.events.push_back(Event::HostInterrupted);
        }
    }

    /// Stops hosting at once. Clients that are away can't come back: their sockets end, too.
    pub(super) fn close_host(&mut self, code: CloseCode, reason: &str, now: Instant) {
        if self.host.take().is_none() {
            return;
        }
        self.events.push_back(Event::HostClosed { code, reason: reason.to_owned() });
        for socket in self.sockets.keys() {
            if let Some(entry) = self.sockets.get_mut(socket)
                && entry.is_interrupted()
                && matches!(entry.side, Side::Server(_))
            {
                entry.session.give_up(code, reason);
                self.touch(socket, now);
            }
        }
    }

    /// Drops a socket that the application never heard of, or that it turned away itself.
    fn forget(&mut self, socket: SocketId, now: Instant) {
        self.remove(socket, now);
    }
}

#[cfg(test)]
mod tests;
