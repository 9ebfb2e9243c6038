//! The machine of a socket that a client opened to this endpoint's server: letting the client in, and back in.
//!
//! The endpoint hands it its socket and what arrived for it, and performs the actions that it returns. Clients are
//! announced to the [`Host`](super::host::Host), which makes a machine for each of them.

use super::action::{Action, Context};
use super::keys::Keys;
use super::socket::{Path, Remote, Socket};
use crate::handshake::{Responder, Transport};
use crate::ledger::Owner;
use crate::server_id::PublicKey;
use crate::session::{Epoch, FEATURES, Open, Opened, Position, SessionId};
use crate::time::Duration;
use crate::{CloseCode, Instant};
use bytes::Bytes;

/// The time that the application may think about a client.
const DECISION_TIMEOUT: Duration = Duration::from_secs(25);

/// The time that a client may take from the second handshake message to its first record.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for which a client that was let in, and has not sent a record, may come back over another path: a relay that is
/// started again is there by then.
const AWAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Paths of one session that may wait for their first record: a replayed handshake must not push out the real one.
const MAX_UNCONFIRMED: usize = 4;

/// Texts that a plain peer may send before the application has decided.
const MAX_EARLY: usize = 64;

/// A server's half of a socket, beside the session.
#[derive(Debug)]
pub(super) struct ServerSide {
    /// The client's key. For a plain peer it is random and only fills the key of the map of sessions.
    pub(super) key: PublicKey,
    pub(super) session_id: SessionId,
    /// The client's page load.
    client_epoch: Epoch,
    address: String,
    /// To whom the client is charged.
    pub(super) owner: Owner,
    pub(super) arrived_at: Instant,
    /// The client has gone, or its link. False if it was this endpoint's link that broke.
    pub(super) is_away: bool,
    resume_timeout: Duration,
    state: State,
    /// Paths whose first record has not come, the oldest first.
    unconfirmed: Vec<UnconfirmedPath>,
    /// Until then a client that was let in may send its first record over another path: it takes the socket for open, and
    /// does not know that the record is lost. [`Instant::NEVER`] before and behind that.
    awaited_until: Instant,
}

#[derive(Debug)]
enum State {
    /// The client is not in yet: the application is asked. `responder` answers its handshake.
    Incoming { path: Path, responder: Responder, position: Position, give_up_at: Instant },
    /// The same for a plain peer, which may already talk.
    IncomingPlain { path: Path, early: Vec<Bytes>, give_up_at: Instant },
    /// The application has answered.
    Answered,
}

/// A path that is the session's as soon as a record on it proves that the client is there and not a recording of it.
#[derive(Debug)]
struct UnconfirmedPath {
    path: Path,
    transport: Transport,
    position: Position,
    give_up_at: Instant,
}

impl ServerSide {
    /// The machine for a client that the application is about to be asked about.
    pub(super) fn new(
        open: &Open,
        key: PublicKey,
        path: Path,
        responder: Responder,
        arrival: Arrival,
    ) -> Self {
        let give_up_at = arrival.at + DECISION_TIMEOUT;
        let state = State::Incoming { path, responder, position: open.position, give_up_at };
        Self { client_epoch: open.epoch, ..Self::with_state(key, open.session_id, state, arrival) }
    }

    /// The same for a plain peer, whose session can't be resumed.
    pub(super) fn new_plain(key: PublicKey, session_id: SessionId, path: Path, arrival: Arrival) -> Self {
        let give_up_at = arrival.at + DECISION_TIMEOUT;
        let state = State::IncomingPlain { path, early: Vec::new(), give_up_at };
        Self { resume_timeout: Duration::ZERO, ..Self::with_state(key, session_id, state, arrival) }
    }

    fn with_state(key: PublicKey, session_id: SessionId, state: State, arrival: Arrival) -> Self {
        Self {
            key,
            session_id,
            client_epoch: Epoch::default(),
            owner: Owner::of_address(&arrival.address),
            address: arrival.address,
            arrived_at: arrival.at,
            is_away: false,
            resume_timeout: arrival.resume_timeout,
            state,
            unconfirmed: Vec::new(),
            awaited_until: Instant::NEVER,
        }
    }

    /// Returns whether the session goes on over another path when it loses the one that it has.
    pub(super) const fn resumes(&self) -> bool {
        !self.resume_timeout.is_zero()
    }

    pub(super) fn poll_timeout(&self, interrupted_at: Instant) -> Instant {
        let decision = match &self.state {
            State::Incoming { give_up_at, .. } | State::IncomingPlain { give_up_at, .. } => *give_up_at,
            State::Answered => Instant::NEVER,
        };
        let confirmation = self.unconfirmed.first().map_or(Instant::NEVER, |oldest| oldest.give_up_at);
        decision.min(confirmation).min(self.awaited_until).min(interrupted_at + self.resume_timeout)
    }

    /// Removes the socket of a client that is not in, unless it may still come over another path.
    fn remove_if_not_awaited(&self, socket: &Socket, cx: &mut Context<'_>) {
        let is_awaited = self.resumes() && self.awaited_until != Instant::NEVER;
        if !socket.opened && self.unconfirmed.is_empty() && !is_awaited {
            cx.act(Action::Remove);
        }
    }

    /// The application lets the client in, with one of the subprotocols that it offered, or none.
    pub(super) fn accept(&mut self, protocol: &str, socket: &mut Socket, cx: &mut Context<'_>) {
        match std::mem::replace(&mut self.state, State::Answered) {
            State::Incoming { path, responder, position, .. } => {
                protocol.clone_into(&mut socket.protocol);
                self.answer(path, responder, position, socket, cx);
            }
            State::IncomingPlain { path, early, .. } => self.open_plain(path, early, socket, cx),
            State::Answered => debug_assert!(false, "the application answers once"),
        }
    }

    /// The application turns the client away. No event follows: it knows.
    pub(super) fn refuse(
        &mut self,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        match std::mem::replace(&mut self.state, State::Answered) {
            State::Incoming { path, responder, .. } => turn_away(path, responder, code, reason, cx),
            State::IncomingPlain { path, .. } => cx.close(path, code, reason),
            State::Answered => return debug_assert!(false, "the application answers once"),
        }
        socket.session.give_up(code, reason);
        cx.act(Action::Remove);
    }

    /// Opens the socket to a plain peer, which is in as soon as it is accepted.
    fn open_plain(&self, path: Path, early: Vec<Bytes>, socket: &mut Socket, cx: &mut Context<'_>) {
        let remote = Remote { address: Some(self.address.clone()), ..Remote::default() };
        socket.open(path, remote, cx);
        for text in early {
            // A plain peer can't break a protocol that it does not speak.
            let _ = socket.session.handle_record(text, cx.now);
        }
        cx.act(Action::AcceptPlain(path));
    }

    /// The client has sent the handshake of this session again: the first try was lost, or it comes back.
    pub(super) fn handle_open(
        &mut self,
        path: Path,
        responder: Responder,
        open: &Open,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let same_page = self.client_epoch == open.epoch;
        match (open.server_epoch, &mut self.state) {
            // The client lost its first try before the application decided: the new try takes its place.
            (None, State::Incoming { path: old, responder: first, position, .. }) if same_page => {
                let old = std::mem::replace(old, path);
                *first = responder;
                *position = open.position;
                cx.act(Action::Route(path));
                cx.close(old, CloseCode::NORMAL, "");
            }
            (Some(epoch), State::Answered) if same_page && epoch == cx.epoch => {
                self.answer(path, responder, open.position, socket, cx);
            }
            // Nor has the client got the answer to its first try.
            (None, State::Answered) if same_page && !socket.opened => {
                self.answer(path, responder, open.position, socket, cx);
            }
            _ => {
                let reason = "one of the two pages was reloaded";
                turn_away(path, responder, CloseCode::PEER_RELOADED, reason, cx);
            }
        }
    }

    /// Sends the second handshake message. The path is the session's once the client's first record has come on it.
    fn answer(
        &mut self,
        path: Path,
        responder: Responder,
        position: Position,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let opened = Opened::Accepted {
            epoch: cx.epoch,
            position: socket.session.position(),
            protocol: socket.protocol.clone(),
            features: FEATURES,
        };
        let payload = socket.session.greased(opened.encode());
        match responder.write_message(cx.keys.fresh(), &payload) {
            Ok((message, transport)) => {
                cx.act(Action::Route(path));
                cx.act(Action::Accept { path, message });
                let give_up_at = cx.now + CONFIRM_TIMEOUT;
                self.unconfirmed.push(UnconfirmedPath { path, transport, position, give_up_at });
                if !socket.opened {
                    self.awaited_until = cx.now + AWAIT_TIMEOUT;
                }
                if self.unconfirmed.len() > MAX_UNCONFIRMED {
                    let oldest = self.unconfirmed.remove(0);
                    cx.close(oldest.path, CloseCode::TIMEOUT, "other paths came");
                }
            }
            Err(error) => cx.close(path, CloseCode::HANDSHAKE_FAILED, &error.to_string()),
        }
    }

    /// Removes and returns the unconfirmed path that is this one, if any.
    fn take_unconfirmed(&mut self, path: Path) -> Option<UnconfirmedPath> {
        let at = self.unconfirmed.iter().position(|unconfirmed| unconfirmed.path == path)?;
        Some(self.unconfirmed.remove(at))
    }

    /// Forgets the paths that wait for their first record: their link is gone.
    pub(super) fn forget_unconfirmed(&mut self) {
        self.unconfirmed.clear();
    }

    /// Takes in a record on a path that is not the session's: if it opens, the path is.
    pub(super) fn handle_data(
        &mut self,
        path: Path,
        record: Bytes,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        if let State::IncomingPlain { early, .. } = &mut self.state {
            if early.len() < MAX_EARLY {
                early.push(record);
            } else {
                cx.close(path, CloseCode::OVERFLOW, "too much was said before the server had decided");
                cx.act(Action::Remove);
            }
            return;
        }
        // Before it has been answered a client can't seal anything: what it sends all the same is not read.
        let Some(mut confirmed) = self.take_unconfirmed(path) else { return };
        let Ok(plaintext) = confirmed.transport.open(record) else {
            cx.close(path, CloseCode::HANDSHAKE_FAILED, "the first record can't be opened");
            if !socket.opened && self.unconfirmed.is_empty() {
                cx.act(Action::Remove);
            }
            return;
        };
        self.unconfirmed.clear();
        socket.session.detach();
        if socket.session.attach(confirmed.transport, confirmed.position, cx.now) {
            let address = Some(self.address.clone());
            let remote = Remote { key: Some(self.key), verified: true, address, encrypted: true };
            socket.open(path, remote, cx);
            self.awaited_until = Instant::NEVER;
            // A violation ends the session, which the endpoint sees after this step.
            let _ = socket.session.handle_plaintext(plaintext, cx.now);
        } else {
            socket.path = Some(path);
            let reason = "the client claims to have received what was never sent";
            socket.session.give_up(CloseCode::PROTOCOL_ERROR, reason);
        }
        cx.act(Action::CloseOtherPaths);
    }

    /// The relay, or the client, closed one of the socket's channels.
    pub(super) fn handle_channel_closed(
        &mut self,
        path: Path,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        self.take_unconfirmed(path);
        if socket.path == Some(path) {
            self.lose_path(code, reason, socket, cx);
        } else {
            self.remove_if_not_awaited(socket, cx);
        }
    }

    /// The path is gone. The client may come back, unless the server is being closed.
    pub(super) fn lose_path(
        &mut self,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let link = socket.leave_path(self.resumes(), cx);
        if !socket.opened {
            return self.remove_if_not_awaited(socket, cx);
        }
        if !self.resumes() {
            socket.session.give_up(CloseCode::ABNORMAL, reason);
        } else if !cx.is_hosting {
            socket.session.give_up(code, reason);
        }
        self.is_away = link.is_some_and(|link| cx.links.get(link).is_some());
        cx.act(Action::EvictAway);
    }

    /// Acts on the clock; calling it too early is harmless.
    pub(super) fn handle_timeout(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        if let State::Incoming { give_up_at, .. } | State::IncomingPlain { give_up_at, .. } = self.state {
            if give_up_at <= cx.now {
                let reason = "the server's application did not decide";
                self.refuse(CloseCode::TIMEOUT, reason, socket, cx);
            }
            return;
        }
        let is_late = |oldest: &&mut UnconfirmedPath| oldest.give_up_at <= cx.now;
        // If more of them are late, the timer is set again.
        if self.unconfirmed.first_mut().filter(is_late).is_some() {
            let late = self.unconfirmed.remove(0);
            cx.close(late.path, CloseCode::TIMEOUT, "no record came");
        }
        if socket.interrupted_at + self.resume_timeout <= cx.now {
            let reason = format!(
                "the client did not come back within {} s; {}",
                self.resume_timeout.as_secs(),
                socket.session.certainty()
            );
            socket.session.give_up(CloseCode::EXPIRED, &reason);
        }
        if self.awaited_until <= cx.now {
            self.awaited_until = Instant::NEVER;
        }
        self.remove_if_not_awaited(socket, cx);
    }

    /// Closes the socket because the server is being closed.
    pub(super) fn leave(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        let reason = "the server was closed";
        // A client that has lost its path has nobody to come back to.
        self.awaited_until = Instant::NEVER;
        // A client that was let in may take the socket for open before its first record is here.
        if socket.opened && socket.path.is_some() || !self.unconfirmed.is_empty() {
            socket.session.close(Some(CloseCode::GOING_AWAY), reason, cx.now);
        } else {
            socket.session.give_up(CloseCode::GOING_AWAY, reason);
        }
    }
}

/// The circumstances under which a client arrived.
pub(super) struct Arrival {
    /// The client's address as the relay sees it.
    pub(super) address: String,
    pub(super) at: Instant,
    pub(super) resume_timeout: Duration,
}

/// Answers a first handshake message with a refusal that only the client can read, and gives the channel back.
fn turn_away(path: Path, responder: Responder, code: CloseCode, reason: &str, cx: &mut Context<'_>) {
    if let Some(message) = refusal(responder, code, reason, cx.keys) {
        cx.act(Action::Accept { path, message });
    }
    cx.close(path, code, reason);
}

/// The second handshake message of a server that does not let the client in. `None` if none can be written, for a client
/// whose key is no key: the channel's CLOSE has to do.
pub(super) fn refusal(responder: Responder, code: CloseCode, reason: &str, keys: &mut Keys) -> Option<Bytes> {
    let refused = Opened::Refused { code, reason: reason.to_owned() };
    responder.write_message(keys.fresh(), &refused.encode()).ok().map(|(message, _)| message)
}
