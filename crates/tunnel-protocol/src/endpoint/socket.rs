//! One socket of an endpoint: its session, its path, and what its side of the connection needs to know.

use super::action::{Action, Context};
use super::client::{ClientSide, Reopening};
use super::redial;
use super::server::ServerSide;
use super::{Event, LinkId, SocketId};
use crate::frame::ChannelId;
use crate::identity::StaticKey;
use crate::server_id::PublicKey;
use crate::session::{RecordError, Session, SessionStats};
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;

/// The time that a socket that answered a close is kept, so that the answer arrives even over another path.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// Options of a client's socket.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Subprotocols, in order of preference: 64 of 1,024 bytes at most.
    pub protocols: Vec<String>,
    /// Path and query behind the port in the tunnel URL: 16,384 bytes at most.
    pub path: String,
    /// The client's identity; if there is none, the socket gets a fresh key.
    pub key: Option<StaticKey>,
    /// The time that the socket survives without the relay; zero turns resumption off.
    pub resume_timeout: Duration,
    /// The time that it survives when the relay answers and the server is not there.
    pub absent_timeout: Duration,
    /// True if a server that does not encrypt is acceptable (livecode dialect only).
    pub allow_plain: bool,
    /// True if the socket, once it was open, begins a new session when the server's page was reloaded, left or closed:
    /// [`Event::Reopened`](super::Event::Reopened). It does so for as long as a session would be resumed, and as long as the
    /// server may be absent. It has no effect without resumption, and for servers of the livecode dialect, which can't
    /// prove that they are the same.
    pub redial: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            protocols: Vec::new(),
            path: String::new(),
            key: None,
            resume_timeout: Duration::from_secs(300),
            absent_timeout: Duration::from_secs(15),
            allow_plain: false,
            redial: false,
        }
    }
}

/// A client that is not in yet, as the application is asked about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    /// The port that it wants.
    pub port: u16,
    /// Its address as the relay sees it.
    pub address: String,
    /// The key that its handshake was made with; it has proven that it holds it once the socket opens.
    pub remote: Option<PublicKey>,
    /// True if it has proven already that it holds the key. It has not when the application is asked: the first handshake
    /// message may be a recording, which never becomes an open socket.
    pub verified: bool,
    /// Subprotocols offered, in order of preference.
    pub protocols: Vec<String>,
    /// Path and query behind the port in the tunnel URL.
    pub path: String,
    /// True if it does not encrypt.
    pub plain: bool,
}

/// The peer on the other side.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Remote {
    /// The key that it holds.
    pub key: Option<PublicKey>,
    /// True if it has proven that it holds that key and, for a server, if that is the key that was asked for: false
    /// for servers of the livecode dialect, whose IDs say nothing about keys.
    pub verified: bool,
    /// Its address as the relay sees it, if the relay said so.
    pub address: Option<String>,
    /// True if the socket is encrypted end to end.
    pub encrypted: bool,
}

/// The last signs of life of the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// There is a path, and all that was sent has been acknowledged.
    Alive,
    /// There is a path, and something sent has not been acknowledged: the peer is busy, or frozen.
    Waiting,
    /// There is no path.
    Interrupted,
}

/// Counters of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketStats {
    /// The session's counters.
    pub session: SessionStats,
    /// The last signs of life of the other side.
    pub liveness: Liveness,
}

/// The channel on a link that a session runs over now.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Path {
    pub(super) link: LinkId,
    pub(super) channel: ChannelId,
}

/// A socket and the machine of its side, which is handed the socket for each of its steps.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Socket,
    pub(super) side: Side,
}

/// The part of a socket that both sides have.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) id: SocketId,
    pub(super) session: Session,
    pub(super) path: Option<Path>,
    /// The link that serves it alone, as the livecode dialect wants it for clients.
    pub(super) own_link: Option<LinkId>,
    /// True if the application was told that it is open.
    pub(super) opened: bool,
    /// The subprotocol that both sides speak, once it is known.
    pub(super) protocol: String,
    /// Since when there is no path; never while there is one.
    pub(super) interrupted_at: Instant,
    /// The application knows of the end; the peer may not yet. Never while there is no end.
    pub(super) lingers_until: Instant,
    /// The deadline under which this socket is in `Endpoint::timers`; NEVER if it is not there.
    pub(super) timer: Instant,
    /// True if it waits for its turn to send.
    pub(super) is_ready: bool,
    /// For sockets that begin a new session when the server has lost theirs.
    pub(super) reopening: Option<Box<Reopening>>,
}

#[derive(Debug)]
pub(super) enum Side {
    Client(Box<ClientSide>),
    Server(Box<ServerSide>),
}

impl Socket {
    pub(super) const fn new(id: SocketId, session: Session) -> Self {
        Self {
            id,
            session,
            path: None,
            own_link: None,
            opened: false,
            protocol: String::new(),
            interrupted_at: Instant::NEVER,
            lingers_until: Instant::NEVER,
            timer: Instant::NEVER,
            is_ready: false,
            reopening: None,
        }
    }

    /// Returns whether it has lost its path.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted_at < Instant::NEVER
    }

    /// Takes a path: the application hears that the socket is open, or open again, and with whom.
    pub(super) fn open(&mut self, path: Path, remote: Remote, cx: &mut Context<'_>) {
        self.path = Some(path);
        self.interrupted_at = Instant::NEVER;
        let socket = self.id;
        if !std::mem::replace(&mut self.opened, true) {
            cx.act(Action::Tell(Event::Opened { socket, protocol: self.protocol.clone(), remote }));
        } else if self.reopening.as_mut().is_some_and(|reopening| reopening.succeed(cx.now)) {
            cx.act(Action::Tell(Event::Reopened { socket, protocol: self.protocol.clone() }));
        } else if !self.session.has_ended() {
            cx.act(Action::Tell(Event::Resumed { socket }));
        }
    }

    /// Closes it behind what is queued on it. If it is still connecting, it fails.
    pub(super) fn close(&mut self, code: Option<CloseCode>, reason: &str, now: Instant) {
        if self.opened {
            if !self.close_reopening() {
                self.session.close(code, reason, now);
            }
        } else {
            let reason = "closed before the connection was established";
            self.session.abort(CloseCode::ABORTED, reason, false);
        }
    }

    /// Leaves the path, which is gone, and returns its link.
    pub(super) fn leave_path(&mut self, resumes: bool, cx: &mut Context<'_>) -> Option<LinkId> {
        let path = self.path.take();
        self.session.detach();
        if self.opened && !self.is_interrupted() {
            self.interrupted_at = cx.now;
            if !self.session.has_ended() && resumes {
                cx.act(Action::Tell(Event::Interrupted { socket: self.id }));
            }
        }
        path.map(|path| path.link)
    }
}

impl Entry {
    /// Takes in one record that came on one of its paths.
    pub(super) fn handle_data(&mut self, path: Path, record: Bytes, cx: &mut Context<'_>) {
        if self.socket.path == Some(path) {
            // A violation ends the session, which the endpoint sees after this step.
            if let Err(RecordError::Open(_)) = self.socket.session.handle_record(record, cx.now) {
                let (code, reason) = (CloseCode::PROTOCOL_ERROR, "a record was tampered with");
                cx.close(path, code, reason);
                self.lose_path(code, reason, cx);
            }
            return;
        }
        match &mut self.side {
            Side::Client(client) => client.handle_early_data(path, record, &mut self.socket, cx),
            Side::Server(served) => served.handle_data(path, record, &mut self.socket, cx),
        }
    }

    /// One of its channels is gone.
    pub(super) fn handle_channel_closed(
        &mut self,
        path: Path,
        code: CloseCode,
        reason: &str,
        cx: &mut Context<'_>,
    ) {
        let session = &self.socket.session;
        if session.has_ended() && (code == CloseCode::NORMAL || !session.may_linger()) {
            return cx.act(Action::Remove);
        }
        match &mut self.side {
            Side::Client(client) => client.handle_channel_closed(code, reason, &mut self.socket, cx),
            Side::Server(served) => served.handle_channel_closed(path, code, reason, &mut self.socket, cx),
        }
    }

    /// Its path is gone, or the link that it waited for. What becomes of it is up to its side.
    pub(super) fn lose_path(&mut self, code: CloseCode, reason: &str, cx: &mut Context<'_>) {
        match &mut self.side {
            Side::Client(client) => client.lose_path(code, reason, &mut self.socket, cx),
            Side::Server(served) => served.lose_path(code, reason, &mut self.socket, cx),
        }
    }

    /// Acts on the clock; calling it too early is harmless.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.socket.timer = Instant::NEVER;
        self.socket.session.handle_timeout(cx.now);
        if self.socket.lingers_until <= cx.now {
            return cx.act(Action::Remove);
        }
        match &mut self.side {
            Side::Client(client) => client.handle_timeout(&mut self.socket, cx),
            Side::Server(served) => served.handle_timeout(&mut self.socket, cx),
        }
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Instant {
        let socket = &self.socket;
        let side = match &self.side {
            Side::Client(client) => client.poll_timeout(socket.interrupted_at),
            Side::Server(served) => served.poll_timeout(socket.interrupted_at),
        };
        let session = if socket.path.is_some() { socket.session.poll_timeout(now) } else { Instant::NEVER };
        side.min(socket.lingers_until).min(session)
    }

    /// Returns whether it goes on over another path when it loses the one that it has.
    pub(super) fn resumes(&self) -> bool {
        match &self.side {
            Side::Client(client) => client.resumes(),
            Side::Server(served) => served.resumes(),
        }
    }

    /// Returns whether it is a client without a path.
    pub(super) const fn wants_path(&self) -> bool {
        self.socket.path.is_none() && matches!(self.side, Side::Client(_))
    }
}

/// A retry's wait, by the same rule as dialling.
pub(super) fn retry_wait(attempts: u32, random: u64) -> Duration {
    redial::wait(attempts, random)
}

/// The prologue of a handshake: both sides agree on it beforehand.
pub(super) fn prologue(port: u16) -> Vec<u8> {
    let mut prologue = crate::SUBPROTOCOL.as_bytes().to_vec();
    prologue.extend_from_slice(&port.to_be_bytes());
    prologue
}

/// Names a server's port in reasons.
pub(super) fn describe(server: &ServerId, port: u16) -> String {
    let id = server.to_string();
    let short = id.get(..8).unwrap_or(&id);
    let ellipsis = if id.len() > 8 { "…" } else { "" };
    format!("port {port} of server {short}{ellipsis}")
}
