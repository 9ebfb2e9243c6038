//! One socket of an endpoint: its session, its path, and what its side of the connection needs to know.

use super::LinkId;
use super::client::Client;
use super::redial;
use super::server::Serving;
use crate::frame::ChannelId;
use crate::identity::StaticKey;
use crate::server_id::PublicKey;
use crate::session::{Session, SessionStats};
use crate::time::Duration;
use crate::{Instant, ServerId};

/// How long a socket that answered a close is kept, so that the answer arrives even over another path.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// What a client asks of the server that it connects to.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Subprotocols, in order of preference: 64 of 1,024 bytes at most.
    pub protocols: Vec<String>,
    /// Path and query behind the port in the tunnel URL: 16,384 bytes at most.
    pub path: String,
    /// Who the client is; a fresh key for this socket when there is none.
    pub key: Option<StaticKey>,
    /// How long the socket survives without the relay; zero turns resumption off.
    pub resume_timeout: Duration,
    /// How long it survives when the relay answers and the server is not there.
    pub absent_timeout: Duration,
    /// Whether a server that does not encrypt is acceptable (livecode dialect only).
    pub allow_plain: bool,
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
        }
    }
}

/// What a client that wants in says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The port that it wants.
    pub port: u16,
    /// Its address as the relay sees it.
    pub address: String,
    /// The key that its handshake was made with; it has proven that it holds it once the socket opens.
    pub remote: Option<PublicKey>,
    /// Whether it has proven already that it holds the key. It has not when the application is asked: the first handshake
    /// message may be a recording, which never becomes an open socket.
    pub verified: bool,
    /// Subprotocols offered, in order of preference.
    pub protocols: Vec<String>,
    /// Path and query behind the port in the tunnel URL.
    pub path: String,
    /// Whether it does not encrypt.
    pub plain: bool,
}

/// Who is on the other side.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Remote {
    /// The key that it holds.
    pub key: Option<PublicKey>,
    /// Whether it has proven that it holds that key and, for a server, whether that is the key that was asked for: false
    /// for servers of the livecode dialect, whose IDs say nothing about keys.
    pub verified: bool,
    /// Its address as the relay sees it, if the relay said so.
    pub address: Option<String>,
    /// Whether the socket is encrypted end to end.
    pub encrypted: bool,
}

/// What is known of the other side's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// There is a path, and all that was sent has been acknowledged.
    Alive,
    /// There is a path, and something sent has not been acknowledged: the peer is busy, or frozen.
    Waiting,
    /// There is no path.
    Interrupted,
}

/// What has been counted on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketStats {
    /// The session's counters.
    pub session: SessionStats,
    /// What is known of the other side's life.
    pub liveness: Liveness,
}

/// What a session runs over now.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Path {
    pub(super) link: LinkId,
    pub(super) channel: ChannelId,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) session: Session,
    pub(super) side: Side,
    pub(super) path: Option<Path>,
    /// The link that serves it alone, as the livecode dialect wants it for clients.
    pub(super) own_link: Option<LinkId>,
    /// Whether the application was told that it is open.
    pub(super) opened: bool,
    /// What both sides speak, once that is known.
    pub(super) protocol: String,
    /// Since when there is no path; never while there is one.
    pub(super) interrupted_at: Instant,
    /// The application knows of the end; the peer may not yet. Never while there is no end.
    pub(super) lingers_until: Instant,
    /// What is in the endpoint's set of timers; never if nothing is.
    pub(super) timer: Instant,
    /// Whether it waits for its turn to send.
    pub(super) is_ready: bool,
}

#[derive(Debug)]
pub(super) enum Side {
    Client(Box<Client>),
    Server(Box<Serving>),
}

impl Socket {
    pub(super) fn new(session: Session, side: Side) -> Self {
        Self {
            session,
            side,
            path: None,
            own_link: None,
            opened: false,
            protocol: String::new(),
            interrupted_at: Instant::NEVER,
            lingers_until: Instant::NEVER,
            timer: Instant::NEVER,
            is_ready: false,
        }
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Instant {
        let side = match &self.side {
            Side::Client(client) => client.poll_timeout(self.interrupted_at),
            Side::Server(serving) => serving.poll_timeout(self.interrupted_at),
        };
        let session = if self.path.is_some() { self.session.poll_timeout(now) } else { Instant::NEVER };
        side.min(self.lingers_until).min(session)
    }

    /// Whether it has lost its path.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted_at < Instant::NEVER
    }

    /// Whether it goes on over another path when it loses the one that it has.
    pub(super) fn resumes(&self) -> bool {
        let timeout = match &self.side {
            Side::Client(client) => client.resume_timeout(),
            Side::Server(serving) => serving.resume_timeout,
        };
        !timeout.is_zero()
    }

    /// Whether it is a client without a path.
    pub(super) fn wants_path(&self) -> bool {
        self.path.is_none() && matches!(self.side, Side::Client(_))
    }

    /// Whether it is a client that nobody has given a key.
    pub(super) const fn needs_key(&self) -> bool {
        matches!(&self.side, Side::Client(client) if client.key.is_none())
    }
}

/// A retry's wait, by the same rule as dialling.
pub(super) fn retry_wait(attempts: u32, random: u64) -> Duration {
    redial::wait(attempts, random)
}

/// What both sides of a handshake on a channel agree on beforehand.
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
