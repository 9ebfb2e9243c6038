//! Sockets that this endpoint opened: connecting, and finding the server again.

mod handshake;

use super::carrier::Carrier;
use super::links::is_lasting;
use super::socket::{ConnectOptions, Path, Remote, Side, Socket, describe, prologue, retry_wait};
use super::{Endpoint, LinkId, SocketId};
use crate::frame::ChannelKind;
use crate::handshake::{HandshakeError, Initiator, Transport};
use crate::identity::{DhError, StaticKey};
use crate::ledger::Owner;
use crate::server_id::PublicKey;
use crate::session::{Epoch, FEATURES, Open, Opened, Position, Session, SessionId, offer_problem};
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;

/// How long the server may take to answer the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server of the livecode dialect may take to say who it is, before it is taken for a plain one where that
/// is allowed.
const PLAIN_AFTER: Duration = Duration::from_secs(3);

/// Longest first handshake message that is sent before the relay has told its limits, in bytes: any relay takes it.
const MAX_EARLY_MESSAGE: usize = 8_000;

/// How often a connection that never opened is tried when it fails for a passing reason.
const MAX_FIRST_ATTEMPTS: u32 = 4;

/// What a client knows of its connection, beside the session.
#[derive(Debug)]
pub(super) struct Client {
    server: ServerId,
    /// Who the server is: told by its ID or, unproven, by the server itself.
    server_key: Option<PublicKey>,
    port: u16,
    options: ConnectOptions,
    /// Made when it is needed first, unless the application has one.
    pub(super) key: Option<StaticKey>,
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
    prepared: Option<(Box<Initiator>, Bytes)>,
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

impl Client {
    pub(super) const fn resume_timeout(&self) -> Duration {
        self.options.resume_timeout
    }

    /// Whether the server's ID is one of the livecode dialect.
    const fn wants_livecode(&self) -> bool {
        matches!(self.server, ServerId::Number(_))
    }

    /// There is no relay any more that says that the server is not there.
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
}

impl Endpoint {
    /// Opens a socket to a server's port. [`Event::Opened`] or [`Event::Closed`] tells what came of it. It fails with 1009 if
    /// there is an [`offer_problem`].
    pub fn connect(
        &mut self,
        server: ServerId,
        port: u16,
        options: ConnectOptions,
        now: Instant,
    ) -> SocketId {
        let problem = offer_problem(options.protocols.iter().map(String::as_str), &options.path);
        let client = Client {
            server,
            server_key: server.key().copied(),
            port,
            key: options.key.clone(),
            options,
            session_id: SessionId(self.entropy.array()),
            server_epoch: None,
            state: State::Waiting { retry_at: None },
            attempts: 0,
            absent_since: Instant::NEVER,
            asked: false,
            prepared: None,
        };
        let mut session = Session::new(self.next_session());
        session.keep_alive();
        let socket = self.add_socket(session, Side::Client(Box::new(client)));
        if let Some(problem) = problem {
            self.fail_client(socket, CloseCode::TOO_BIG, &problem, now);
            return socket;
        }
        self.dial_if_wanted(now);
        self.advance_client(socket, now);
        self.unprepared.push(socket);
        socket
    }

    /// Takes the next step of a client that waits for nothing any more.
    pub(super) fn advance_client(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        match &mut client.state {
            State::Waiting { retry_at } if retry_at.is_none_or(|at| at <= now) => {
                *retry_at = None;
                if self.is_livecode {
                    self.advance_livecode_client(socket, now);
                } else if let Some(link) = self.main
                    && self.links.get(link).is_some_and(Carrier::is_ready)
                {
                    self.initiate(socket, link, None, now);
                }
            }
            State::Handshaking { answer, .. } => {
                if let Some(answer) = answer.take() {
                    client.asked = false;
                    self.handle_accepted(socket, answer, now);
                }
            }
            State::Asking { path, .. } if client.server_key.is_some() => {
                let path = *path;
                self.initiate(socket, path.link, Some(path), now);
            }
            _ => {}
        }
    }

    /// In the livecode dialect a client connects on a link of its own, and asks who the server is.
    fn advance_livecode_client(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let ServerId::Number(number) = client.server else {
            let reason = "this relay speaks the livecode dialect, where servers have numbers";
            return self.fail_client(socket, CloseCode::SERVER_NOT_FOUND, reason, now);
        };
        let Some(link) = entry.own_link else {
            let link = self.dial(now);
            if let Some(entry) = self.sockets.get_mut(socket) {
                entry.own_link = Some(link);
            }
            return;
        };
        if let Some(Carrier::Livecode(carrier)) = self.links.get_mut(link) {
            let path = Path { link, channel: carrier.connect(number, client.port) };
            client.server_key = None;
            let patience = if client.options.allow_plain { PLAIN_AFTER } else { HANDSHAKE_TIMEOUT };
            client.state = State::Asking { path, give_up_at: now + patience };
            self.by_path.insert(path, socket);
            self.touch(socket, now);
        }
    }

    /// A server of the livecode dialect says who it is.
    pub(super) fn handle_server_key(&mut self, socket: SocketId, key: PublicKey, now: Instant) {
        if let Some(entry) = self.sockets.get_mut(socket)
            && let Side::Client(client) = &mut entry.side
            && let State::Asking { .. } = client.state
        {
            client.server_key = Some(key);
            self.advance_client(socket, now);
        }
    }

    /// The server of the livecode dialect does not encrypt, and the application allows that.
    fn open_plain_client(&mut self, socket: SocketId, path: Path, now: Instant) {
        let session = Session::new_plain(self.next_session());
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        client.state = State::Open;
        client.options.resume_timeout = Duration::ZERO;
        entry.session = session;
        self.open(socket, path, Remote::default());
        self.touch(socket, now);
    }

    /// Data for a client that has no session yet: a plain server talks.
    pub(super) fn handle_early_data(&mut self, socket: SocketId, path: Path, text: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get(socket) else { return };
        let Side::Client(client) = &entry.side else { return };
        if client.options.allow_plain && matches!(client.state, State::Asking { .. }) {
            self.open_plain_client(socket, path, now);
            self.handle_data(socket, path, text, now);
        }
    }

    /// The relay, or the server, closed the client's channel.
    pub(super) fn handle_client_channel_closed(
        &mut self,
        socket: SocketId,
        code: CloseCode,
        reason: &str,
        now: Instant,
    ) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        if entry.path.is_some() {
            self.lose_path(socket, code, reason, now);
            return;
        }
        if let Side::Client(client) = &mut entry.side
            && code == CloseCode::SERVER_NOT_FOUND
        {
            client.absent_since = client.absent_since.min(now);
        }
        self.retry_client(socket, code, reason, now);
    }

    /// The path, or the link under the handshake, is gone.
    pub(super) fn lose_client_path(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        self.retry_client(socket, code, reason, now);
    }

    /// Tries again, if that makes sense.
    fn retry_client(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let random = self.entropy.u64();
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let passing = matches!(
            code,
            CloseCode::PEER_GONE | CloseCode::TRY_AGAIN_LATER | CloseCode::DRAINING | CloseCode::ABNORMAL
        );
        let again = if is_lasting(code) {
            false
        } else if entry.opened {
            !client.options.resume_timeout.is_zero()
        } else {
            passing && client.attempts < MAX_FIRST_ATTEMPTS
        };
        if !again {
            self.fail_client(socket, code, reason, now);
            return;
        }
        // The first try is at once: most paths die for reasons that are over by then.
        let wait = if client.attempts == 0 { Duration::ZERO } else { retry_wait(client.attempts, random) };
        client.attempts = client.attempts.saturating_add(1);
        client.state = State::Waiting { retry_at: Some(now + wait) };
        client.asked = false;
        self.touch(socket, now);
        self.dial_if_wanted(now);
        self.advance_client(socket, now);
    }

    /// Gives up on a socket.
    fn fail_client(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &entry.side else { return };
        if entry.opened {
            // Without resumption, a connection that just ends is what the platform calls abnormal.
            let code = if client.options.resume_timeout.is_zero() { CloseCode::ABNORMAL } else { code };
            let reason = format!("{reason}; {}", entry.session.certainty());
            entry.session.give_up(code, &reason);
        } else {
            let what = describe(&client.server, client.port);
            entry.session.give_up(code, &format!("{what}: {reason}"));
        }
        entry.path = None;
        if entry.lingers_until < Instant::NEVER {
            entry.lingers_until = now;
        }
        self.touch(socket, now);
    }

    pub(super) fn handle_client_timeout(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &entry.side else { return };
        let timeouts = &client.options;
        if let Some(path) = entry.path.filter(|_| entry.session.is_stalled(now)) {
            let reason = "the peer gives no sign of life on this path";
            self.close_path(path, CloseCode::TIMEOUT, reason);
            self.lose_path(socket, CloseCode::TIMEOUT, reason, now);
        } else if client.absent_since + timeouts.absent_timeout <= now {
            let reason = format!("the server has been gone for {} s", timeouts.absent_timeout.as_secs());
            self.fail_client(socket, CloseCode::SERVER_NOT_FOUND, &reason, now);
        } else if entry.interrupted_at + timeouts.resume_timeout <= now {
            let reason = format!("not resumed within {} s", timeouts.resume_timeout.as_secs());
            self.fail_client(socket, CloseCode::EXPIRED, &reason, now);
        } else if let State::Handshaking { path, give_up_at, .. } | State::Asking { path, give_up_at } =
            client.state
            && give_up_at <= now
        {
            if client.options.allow_plain && matches!(client.state, State::Asking { .. }) {
                return self.open_plain_client(socket, path, now);
            }
            // The relay knows the server, which says nothing: its page is frozen. That is no reason to give up.
            if entry.is_interrupted() {
                entry.interrupted_at = now;
            }
            let reason = "the server did not answer the handshake";
            self.close_path(path, CloseCode::TIMEOUT, reason);
            self.retry_client(socket, CloseCode::TIMEOUT, reason, now);
        } else {
            self.advance_client(socket, now);
        }
    }

    /// Tries now what would have been tried later.
    pub(super) fn hurry_client(&mut self, socket: SocketId, now: Instant) {
        if let Some(entry) = self.sockets.get_mut(socket)
            && let Side::Client(client) = &mut entry.side
            && let State::Waiting { retry_at } = &mut client.state
        {
            *retry_at = None;
            client.attempts = 0;
            self.advance_client(socket, now);
        }
    }
}

/// What a server that accepts says.
struct Answer {
    epoch: Epoch,
    position: Position,
    protocol: String,
    transport: Transport,
}

#[cfg(test)]
mod tests;
