//! The machine of a socket that this endpoint opened: connecting, and finding the server again.
//!
//! The endpoint hands it its socket and what arrived for it, and performs the actions that it returns.

mod handshake;
mod reopen;

use super::action::{Action, Context, Handshake};
use super::carrier::Carrier;
use super::links::is_lasting;
use super::socket::{ConnectOptions, Path, Remote, Socket, describe, prologue, retry_wait};
use super::{Endpoint, LinkId, Side, SocketId};
use crate::handshake::{HandshakeError, Initiator, Transport};
use crate::identity::{DhError, StaticKey};
use crate::ledger::Owner;
use crate::server_id::PublicKey;
use crate::session::{Epoch, FEATURES, Open, Opened, Position, Session, SessionId, offer_problem};
use crate::time::Duration;
use crate::trace::event;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
pub(super) use reopen::Reopening;

/// The time that the server may take to answer the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// The time that a server of the livecode dialect may take to say who it is, before it is taken for a plain one where that
/// is allowed.
const PLAIN_AFTER: Duration = Duration::from_secs(3);

/// Longest first handshake message that is sent before the relay has told its limits, in bytes: any relay takes it.
const MAX_EARLY_MESSAGE: usize = 8_000;

/// Longest wait between two tries while the relay says that the server is not there.
const LONGEST_ABSENT_WAIT: Duration = Duration::from_secs(1);

/// Tries of a connection that never opened, if it fails for a passing reason.
const MAX_FIRST_ATTEMPTS: u32 = 4;

/// A client's half of a socket, beside the session.
#[derive(Debug)]
pub(super) struct ClientSide {
    server: ServerId,
    /// The server's key: told by its ID or, unproven, by the server itself.
    server_key: Option<PublicKey>,
    port: u16,
    options: ConnectOptions,
    /// Made when it is needed first, unless the application has one.
    key: Option<StaticKey>,
    session_id: SessionId,
    /// The server's page load, once it has answered.
    server_epoch: Option<Epoch>,
    state: State,
    /// Attempts since the last path.
    attempts: u32,
    /// Since when the relay says that the server is not there; never while it doesn't.
    absent_since: Instant,
    /// A request to the key is out.
    asked: bool,
    /// The first handshake, computed while there was no link to send it on.
    prepared: Option<Handshake>,
}

#[derive(Debug)]
enum State {
    /// Without a channel: until the link is ready and this time, if any, has come.
    Waiting { retry_at: Option<Instant> },
    /// Livecode dialect: connected, and the server has been asked who it is.
    Asking { path: Path, give_up_at: Instant },
    /// The first handshake message is out. `answer` has come and waits for the key.
    Handshaking { path: Path, initiator: Box<Initiator>, answer: Option<Bytes>, give_up_at: Instant },
    /// The session has a path.
    Open,
}

impl ClientSide {
    fn new(server: ServerId, port: u16, options: ConnectOptions, session_id: SessionId) -> Self {
        Self {
            server,
            server_key: server.key().copied(),
            port,
            key: options.key.clone(),
            options,
            session_id,
            server_epoch: None,
            state: State::Waiting { retry_at: None },
            attempts: 0,
            absent_since: Instant::NEVER,
            asked: false,
            prepared: None,
        }
    }

    /// Returns whether the socket goes on over another path when it loses the one that it has.
    pub(super) const fn resumes(&self) -> bool {
        !self.options.resume_timeout.is_zero()
    }

    /// Returns whether the server's ID is one of the livecode dialect.
    pub(super) const fn wants_livecode(&self) -> bool {
        matches!(self.server, ServerId::Number(_))
    }

    /// Forgets that the server is not there: the relay that said so is gone.
    pub(super) const fn forget_absence(&mut self) {
        self.absent_since = Instant::NEVER;
    }

    pub(super) fn poll_timeout(&self, interrupted_at: Instant) -> Instant {
        let step = match &self.state {
            State::Waiting { retry_at } => retry_at.unwrap_or(Instant::NEVER),
            State::Asking { give_up_at, .. } | State::Handshaking { give_up_at, .. } => *give_up_at,
            State::Open => Instant::NEVER,
        };
        let expiry = interrupted_at + self.options.resume_timeout;
        let absence = self.absent_since + self.options.absent_timeout;
        step.min(expiry).min(absence)
    }

    /// Takes the next step, if nothing that it waits for is missing any more.
    pub(super) fn advance(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Waiting { retry_at } if retry_at.is_none_or(|at| at <= cx.now) => {
                *retry_at = None;
                if cx.is_livecode {
                    self.advance_livecode(socket, cx);
                } else if let Some(link) = cx.ready_link() {
                    self.initiate(socket, link, cx);
                }
            }
            State::Handshaking { answer, .. } => {
                if let Some(answer) = answer.take() {
                    self.asked = false;
                    self.handle_accepted(answer, socket, cx);
                }
            }
            State::Asking { path, .. } => {
                let path = *path;
                if let Some(server_key) = self.server_key {
                    self.initiate_livecode(path, server_key, socket, cx);
                }
            }
            State::Waiting { .. } | State::Open => {}
        }
    }

    /// In the livecode dialect a client connects on a link of its own, and asks who the server is.
    fn advance_livecode(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        let ServerId::Number(number) = self.server else {
            let reason = "this relay speaks the livecode dialect, where servers have numbers";
            return self.fail(CloseCode::SERVER_NOT_FOUND, reason, socket, cx.now);
        };
        match socket.own_link {
            None => cx.act(Action::DialOwnLink),
            Some(link) if cx.links.get(link).is_some_and(Carrier::is_livecode) => {
                self.server_key = None;
                cx.act(Action::ConnectByNumber { link, number, port: self.port });
            }
            // It is being dialled; its first answer brings this client here again.
            Some(_) => {}
        }
    }

    /// Livecode dialect: CONNECT is out on this path.
    pub(super) fn handle_asking(&mut self, path: Path, now: Instant) {
        let patience = if self.options.allow_plain { PLAIN_AFTER } else { HANDSHAKE_TIMEOUT };
        self.state = State::Asking { path, give_up_at: now + patience };
    }

    /// Takes in the key that a server of the livecode dialect says is its own.
    pub(super) fn handle_server_key(&mut self, key: PublicKey, socket: &mut Socket, cx: &mut Context<'_>) {
        // A server that says it twice is not believed the second time.
        if let State::Asking { .. } = self.state {
            self.server_key = Some(key);
            self.advance(socket, cx);
        }
    }

    /// Opens the socket to a server of the livecode dialect that does not encrypt, which the application allows.
    fn open_plain(&mut self, path: Path, socket: &mut Socket, cx: &mut Context<'_>) {
        self.state = State::Open;
        self.options.resume_timeout = Duration::ZERO;
        socket.session.become_plain();
        socket.open(path, Remote::default(), cx);
    }

    /// Takes in a record that came before the socket has a path: a plain server talks.
    pub(super) fn handle_early_data(
        &mut self,
        path: Path,
        text: Bytes,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        // Before its answer to the handshake, no other server can say anything.
        if self.options.allow_plain && matches!(self.state, State::Asking { .. }) {
            self.open_plain(path, socket, cx);
            // A plain peer can't break a protocol that it does not speak.
            let _ = socket.session.handle_record(text, cx.now);
        }
    }

    /// The relay, or the server, closed the client's channel.
    pub(super) fn handle_channel_closed(
        &mut self,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        if socket.path.is_some() {
            return self.lose_path(code, reason, socket, cx);
        }
        if code == CloseCode::SERVER_NOT_FOUND {
            self.absent_since = self.absent_since.min(cx.now);
        }
        self.retry(code, reason, socket, cx);
    }

    /// The path is gone, or the link that this client waited for.
    pub(super) fn lose_path(
        &mut self,
        code: CloseCode,
        reason: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        socket.leave_path(self.resumes(), cx);
        self.retry(code, reason, socket, cx);
    }

    /// Tries again, if that makes sense.
    fn retry(&mut self, code: CloseCode, reason: &str, socket: &mut Socket, cx: &mut Context<'_>) {
        let random = cx.keys.entropy.u64();
        let passing = matches!(
            code,
            CloseCode::PEER_GONE | CloseCode::TRY_AGAIN_LATER | CloseCode::DRAINING | CloseCode::ABNORMAL
        );
        let again = if is_lasting(code) {
            false
        } else if socket.opened {
            self.resumes()
        } else {
            passing && self.attempts < MAX_FIRST_ATTEMPTS
        };
        if !again {
            return self.fail(code, reason, socket, cx.now);
        }
        // The first try is at once: most paths die for reasons that are over by then.
        let wait = if self.attempts == 0 { Duration::ZERO } else { retry_wait(self.attempts, random) };
        // A server that is reloaded is back within seconds, and its clients after one at most.
        let wait = if self.absent_since < Instant::NEVER { wait.min(LONGEST_ABSENT_WAIT) } else { wait };
        self.attempts = self.attempts.saturating_add(1);
        event!(DEBUG, socket = socket.id.0, %code, reason, wait_us = wait.as_micros() as u64, "the client tries again");
        self.state = State::Waiting { retry_at: Some(cx.now + wait) };
        self.asked = false;
        cx.act(Action::Dial);
        self.advance(socket, cx);
    }

    /// Gives up on the socket.
    fn fail(&self, code: CloseCode, reason: &str, socket: &mut Socket, now: Instant) {
        if socket.opened {
            // Without resumption, a connection that just ends is what the platform calls abnormal.
            let code = if self.resumes() { code } else { CloseCode::ABNORMAL };
            let reason = format!("{reason}; {}", socket.session.certainty());
            socket.session.give_up(code, &reason);
        } else {
            let what = describe(&self.server, self.port);
            socket.session.give_up(code, &format!("{what}: {reason}"));
        }
        socket.path = None;
        if socket.lingers_until < Instant::NEVER {
            socket.lingers_until = now;
        }
    }

    /// Acts on the clock; calling it too early is harmless.
    pub(super) fn handle_timeout(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        let now = cx.now;
        let timeouts = &self.options;
        if let Some(path) = socket.path.filter(|_| socket.session.is_stalled(now)) {
            let reason = "the peer gives no sign of life on this path";
            cx.close(path, CloseCode::TIMEOUT, reason);
            self.lose_path(CloseCode::TIMEOUT, reason, socket, cx);
        } else if self.absent_since + timeouts.absent_timeout <= now {
            let reason = format!("the server has been gone for {} s", timeouts.absent_timeout.as_secs());
            self.fail(CloseCode::SERVER_NOT_FOUND, &reason, socket, now);
        } else if socket.interrupted_at + timeouts.resume_timeout <= now {
            let reason = format!("not resumed within {} s", timeouts.resume_timeout.as_secs());
            self.fail(CloseCode::EXPIRED, &reason, socket, now);
        } else if let State::Handshaking { path, give_up_at, .. } | State::Asking { path, give_up_at } =
            self.state
            && give_up_at <= now
        {
            if self.options.allow_plain && matches!(self.state, State::Asking { .. }) {
                return self.open_plain(path, socket, cx);
            }
            // The relay knows the server, which says nothing: its page is frozen. That is no reason to give up.
            if socket.is_interrupted() {
                socket.interrupted_at = now;
            }
            let reason = "the server did not answer the handshake";
            cx.close(path, CloseCode::TIMEOUT, reason);
            self.retry(CloseCode::TIMEOUT, reason, socket, cx);
        } else {
            self.advance(socket, cx);
        }
    }

    /// Tries now what would have been tried later.
    pub(super) fn hurry(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        if let State::Waiting { retry_at } = &mut self.state {
            *retry_at = None;
            self.attempts = 0;
            self.advance(socket, cx);
        }
    }
}

impl Endpoint {
    /// Opens a socket to a server's port. [`Event::Opened`](super::Event::Opened) or [`Event::Closed`](super::Event::Closed)
    /// tells what came of it. It fails with 1009 if there is an [`offer_problem`].
    pub fn connect(
        &mut self,
        server: ServerId,
        port: u16,
        options: ConnectOptions,
        now: Instant,
    ) -> SocketId {
        let problem = offer_problem(options.protocols.iter().map(String::as_str), &options.path);
        let redials = options.redial && !options.resume_timeout.is_zero() && server.key().is_some();
        let client = ClientSide::new(server, port, options, SessionId(self.keys.entropy.array()));
        let mut session = Session::new(self.next_session());
        session.keep_alive();
        if redials {
            session.keep_whole();
        }
        let socket = self.add_socket(session, Side::Client(Box::new(client)));
        if let Some(entry) = self.sockets.get_mut(socket).filter(|_| redials) {
            entry.socket.reopening = Some(Box::default());
        }
        if let Some(problem) = problem {
            self.step_client(socket, now, |client, socket, _| {
                client.fail(CloseCode::TOO_BIG, &problem, socket, now);
            });
            return socket;
        }
        self.dial_if_wanted(now);
        self.step_client(socket, now, ClientSide::advance);
        self.unprepared.push(socket);
        socket
    }
}

/// The second handshake message of a server that accepts.
struct Answer {
    epoch: Epoch,
    position: Position,
    protocol: String,
    transport: Transport,
}

#[cfg(test)]
mod tests;
