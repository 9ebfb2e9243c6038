//! Sockets that this endpoint opened: connecting, and finding the server again.

use super::carrier::Carrier;
use super::socket::{ConnectOptions, Path, Remote, Side, Socket, describe, prologue, retry_wait};
use super::{Endpoint, Event, LinkId, SocketId};
use crate::frame::ChannelKind;
use crate::handshake::{HandshakeError, Initiator, Transport};
use crate::identity::{DhError, StaticKey};
use crate::server_id::PublicKey;
use crate::session::{Epoch, Open, Opened, Position, Session, SessionId};
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
    /// Since when the relay says that the server is not there.
    absent_since: Option<Instant>,
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

    pub(super) const fn tried_path(&self) -> Option<Path> {
        match &self.state {
            State::Asking { path, .. } | State::Handshaking { path, .. } => Some(*path),
            State::Waiting { .. } | State::Open => None,
        }
    }

    /// Whether the server's ID is one of the livecode dialect.
    const fn wants_livecode(&self) -> bool {
        matches!(self.server, ServerId::Number(_))
    }

    /// There is no relay any more that says that the server is not there.
    pub(super) const fn forget_absence(&mut self) {
        self.absent_since = None;
    }

    pub(super) fn poll_timeout(&self, interrupted_at: Option<Instant>) -> Option<Instant> {
        let step = match &self.state {
            State::Waiting { retry_at } => *retry_at,
            State::Asking { give_up_at, .. } | State::Handshaking { give_up_at, .. } => Some(*give_up_at),
            State::Open => None,
        };
        let expiry = interrupted_at.map(|at| at + self.options.resume_timeout);
        let absence = self.absent_since.map(|at| at + self.options.absent_timeout);
        [step, expiry, absence].into_iter().flatten().min()
    }
}

impl Endpoint {
    /// Opens a socket to a server's port. [`Event::Opened`] or [`Event::Closed`] tells what came of it.
    pub fn connect(
        &mut self,
        server: ServerId,
        port: u16,
        options: ConnectOptions,
        now: Instant,
    ) -> SocketId {
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
            absent_since: None,
            asked: false,
            prepared: None,
        };
        let mut session = Session::new(self.next_session());
        session.keep_alive();
        let socket = self.add_socket(session, Side::Client(Box::new(client)));
        self.dial_if_wanted(now);
        self.advance_client(socket, now);
        self.unprepared.push(socket);
        socket
    }

    /// Computes the first handshakes of new sockets whose link is still being opened. Call it when that is under way:
    /// the one takes as long as the other.
    pub fn prepare(&mut self, now: Instant) {
        for socket in std::mem::take(&mut self.unprepared) {
            let Some(entry) = self.sockets.get(&socket) else { continue };
            let Side::Client(client) = &entry.side else { continue };
            let waits = matches!(client.state, State::Waiting { .. });
            if waits && !client.asked && client.prepared.is_none() && client.server_key.is_some() {
                let prepared = self.begin_handshake(socket, now);
                if let Some(entry) = self.sockets.get_mut(&socket)
                    && let Side::Client(client) = &mut entry.side
                {
                    client.prepared = prepared;
                }
            }
        }
    }

    /// HELLO is out. A client does not wait for the answer: CONNECT may follow at once.
    pub(super) fn connect_early(&mut self, link: LinkId, now: Instant) {
        let wants_livecode = |entry: &Socket| match &entry.side {
            Side::Client(client) => client.wants_livecode(),
            Side::Server(_) => false,
        };
        // A relay of the livecode dialect would answer to each frame in words.
        if self.is_livecode || self.sockets.values().any(|entry| wants_livecode(entry)) {
            return;
        }
        for socket in self.sockets.keys().copied().collect::<Vec<_>>() {
            let Some(entry) = self.sockets.get(&socket) else { continue };
            let Side::Client(client) = &entry.side else { continue };
            if matches!(client.state, State::Waiting { retry_at } if retry_at.is_none_or(|at| at <= now)) {
                self.initiate(socket, link, None, now);
            }
        }
    }

    /// The relay speaks the livecode dialect, which makes nothing of what was sent early.
    pub(super) fn take_back_early(&mut self, link: LinkId) {
        for entry in self.sockets.values_mut() {
            if let Side::Client(client) = &mut entry.side
                && let State::Handshaking { path, .. } = &client.state
                && path.link == link
            {
                self.by_path.remove(path);
                client.state = State::Waiting { retry_at: None };
            }
        }
    }

    /// Takes the next step of a client that waits for nothing any more.
    pub(super) fn advance_client(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        match &mut client.state {
            State::Waiting { retry_at } if retry_at.is_none_or(|at| at <= now) => {
                *retry_at = None;
                if self.is_livecode {
                    self.advance_livecode_client(socket, now);
                } else if let Some(link) = self.main
                    && self.links.get(&link).is_some_and(Carrier::is_ready)
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
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let ServerId::Number(number) = client.server else {
            let reason = "this relay speaks the livecode dialect, where servers have numbers";
            return self.fail_client(socket, CloseCode::SERVER_NOT_FOUND, reason, now);
        };
        let Some(&link) = self.own_links.get(&socket) else {
            let link = self.dial();
            self.own_links.insert(socket, link);
            return;
        };
        if let Some(Carrier::Livecode(carrier)) = self.links.get_mut(&link) {
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
        if let Some(entry) = self.sockets.get_mut(&socket)
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
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        client.state = State::Open;
        client.options.resume_timeout = Duration::ZERO;
        entry.session = session;
        entry.path = Some(path);
        entry.opened = true;
        let remote = Remote::default();
        self.events.push_back(Event::Opened { socket, protocol: String::new(), remote });
        self.touch(socket, now);
    }

    /// Data for a client that has no session yet: a plain server talks.
    pub(super) fn handle_early_data(&mut self, socket: SocketId, path: Path, text: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get(&socket) else { return };
        let Side::Client(client) = &entry.side else { return };
        if client.options.allow_plain && matches!(client.state, State::Asking { .. }) {
            self.open_plain_client(socket, path, now);
            self.handle_data(socket, path, text, now);
        }
    }

    /// Sends the first handshake message: on `path`, or with a CONNECT of its own.
    fn initiate(&mut self, socket: SocketId, link: LinkId, path: Option<Path>, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        if client.server_key.is_none() {
            let reason =
                "numbers name servers of livecoding relays; this relay's servers have IDs of 56 characters";
            return self.fail_client(socket, CloseCode::SERVER_NOT_FOUND, reason, now);
        }
        let prepared = client.prepared.take();
        let Some((initiator, message)) = prepared.or_else(|| self.begin_handshake(socket, now)) else {
            return self.touch(socket, now);
        };
        let Some(carrier) = self.links.get_mut(&link) else { return };
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let path = match (carrier, path) {
            (Carrier::Tunnel(carrier), _) => {
                if !carrier.is_ready() && message.len() > MAX_EARLY_MESSAGE {
                    client.prepared = Some((initiator, message));
                    return;
                }
                let channel = carrier.connect(client.server, client.port, ChannelKind::Session, message);
                Path { link, channel }
            }
            (Carrier::Livecode(carrier), Some(path)) => {
                carrier.initiate(path.channel, message);
                path
            }
            (Carrier::Livecode(_) | Carrier::Dialing, _) => return,
        };
        let give_up_at = now + HANDSHAKE_TIMEOUT;
        client.state = State::Handshaking { path, initiator, answer: None, give_up_at };
        self.by_path.insert(path, socket);
        self.touch(socket, now);
    }

    /// The first handshake message, and who reads the answer to it. `None` if the key has to be asked first, which
    /// brings it back here, or if the socket has failed.
    fn begin_handshake(&mut self, socket: SocketId, now: Instant) -> Option<(Box<Initiator>, Bytes)> {
        let entry = self.sockets.get_mut(&socket)?;
        let position = entry.session.position();
        let Side::Client(client) = &mut entry.side else { return None };
        let open = Open {
            session_id: client.session_id,
            epoch: self.epoch,
            server_epoch: client.server_epoch,
            position,
            protocols: client.options.protocols.clone(),
            path: client.options.path.clone(),
        };
        let key = client.key.get_or_insert_with(|| StaticKey::from_secret(self.entropy.bytes()));
        let mut initiator = Initiator::new(&prologue(client.port), client.server_key?, self.entropy.bytes());
        match initiator.write_message(key, &open.encode()) {
            Ok(message) => {
                client.asked = false;
                Some((Box::new(initiator), message))
            }
            // The answer brings it back here.
            Err(HandshakeError::Dh(DhError::Pending(theirs))) => {
                if !std::mem::replace(&mut client.asked, true) {
                    self.events.push_back(Event::NeedsDiffieHellman { ours: key.public(), theirs });
                }
                None
            }
            Err(error) => {
                let reason = format!("the handshake could not begin: {error}");
                self.fail_client(socket, CloseCode::HANDSHAKE_FAILED, &reason, now);
                None
            }
        }
    }

    /// The second handshake message.
    pub(super) fn handle_accepted(&mut self, socket: SocketId, payload: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let State::Handshaking { path, initiator, answer, .. } = &mut client.state else { return };
        let Some(key) = &mut client.key else { return };
        let path = *path;
        let result = initiator.read_message(key, &payload);
        if let Err(HandshakeError::Dh(DhError::Pending(theirs))) = result {
            *answer = Some(payload);
            if !std::mem::replace(&mut client.asked, true) {
                self.events.push_back(Event::NeedsDiffieHellman { ours: key.public(), theirs });
            }
            return;
        }
        key.forget_answers();
        let opened = result.map_err(|error| error.to_string()).and_then(|(payload, transport)| {
            match Opened::decode(payload) {
                Ok(opened) => Ok((opened, transport)),
                Err(error) => Err(error.to_string()),
            }
        });
        match opened {
            Ok((Opened::Accepted { epoch, position, protocol }, transport)) => {
                self.open_client(socket, path, Answer { epoch, position, protocol, transport }, now);
            }
            Ok((Opened::Refused { code, reason }, _)) => {
                self.close_path(path, CloseCode::NORMAL, "");
                self.fail_client(socket, code, &reason, now);
            }
            Err(error) => {
                let reason = format!("the server's handshake was refused: {error}");
                self.close_path(path, CloseCode::HANDSHAKE_FAILED, &reason);
                self.retry_client(socket, CloseCode::HANDSHAKE_FAILED, &reason, now);
            }
        }
    }

    fn open_client(&mut self, socket: SocketId, path: Path, answer: Answer, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let offered = answer.protocol.is_empty() || client.options.protocols.contains(&answer.protocol);
        let same_page = client.server_epoch.is_none_or(|epoch| epoch == answer.epoch);
        if !offered || !same_page || !entry.session.attach(answer.transport, answer.position, now) {
            let (code, reason) = if !offered {
                (CloseCode::PROTOCOL_ERROR, "the server chose a subprotocol that was not offered")
            } else if !same_page {
                (CloseCode::PEER_RELOADED, "the server's page was reloaded")
            } else {
                (CloseCode::PROTOCOL_ERROR, "the server claims to have received what was never sent")
            };
            self.close_path(path, code, reason);
            self.fail_client(socket, code, reason, now);
            return;
        }
        client.server_epoch = Some(answer.epoch);
        client.state = State::Open;
        client.attempts = 0;
        client.absent_since = None;
        entry.path = Some(path);
        entry.interrupted_at = None;
        if std::mem::replace(&mut entry.opened, true) {
            if !entry.session.has_ended() {
                self.events.push_back(Event::Resumed { socket });
            }
        } else {
            entry.protocol.clone_from(&answer.protocol);
            entry.remote = Remote {
                key: client.server_key,
                verified: client.server.key().is_some(),
                address: None,
                encrypted: true,
            };
            let remote = entry.remote.clone();
            self.events.push_back(Event::Opened { socket, protocol: answer.protocol, remote });
        }
        self.touch(socket, now);
    }

    /// The relay, or the server, closed the client's channel.
    pub(super) fn handle_client_channel_closed(
        &mut self,
        socket: SocketId,
        code: CloseCode,
        reason: &str,
        now: Instant,
    ) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        if entry.path.is_some() {
            self.lose_path(socket, code, reason, now);
            return;
        }
        if let Side::Client(client) = &mut entry.side
            && code == CloseCode::SERVER_NOT_FOUND
        {
            client.absent_since.get_or_insert(now);
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
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let passing = matches!(
            code,
            CloseCode::PEER_GONE | CloseCode::TRY_AGAIN_LATER | CloseCode::DRAINING | CloseCode::ABNORMAL
        );
        let again = if code == CloseCode::BAD_CREDENTIAL {
            false // it would show the same access token again
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
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
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
        if let Some(until) = &mut entry.lingers_until {
            *until = now;
        }
        self.touch(socket, now);
    }

    pub(super) fn handle_client_timeout(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        let Side::Client(client) = &entry.side else { return };
        let timeouts = &client.options;
        if let Some(path) = entry.path.filter(|_| entry.session.is_stalled(now)) {
            let reason = "the peer gives no sign of life on this path";
            self.close_path(path, CloseCode::TIMEOUT, reason);
            self.lose_path(socket, CloseCode::TIMEOUT, reason, now);
        } else if client.absent_since.is_some_and(|since| since + timeouts.absent_timeout <= now) {
            let reason = format!("the server has been gone for {} s", timeouts.absent_timeout.as_secs());
            self.fail_client(socket, CloseCode::SERVER_NOT_FOUND, &reason, now);
        } else if entry.interrupted_at.is_some_and(|at| at + timeouts.resume_timeout <= now) {
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
            if let Some(since) = &mut entry.interrupted_at {
                *since = now;
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
        if let Some(entry) = self.sockets.get_mut(&socket)
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
mod tests {
    use super::*;
    use crate::endpoint::{Config, LinkMessage};
    use crate::frame::{ChannelId, Frame, Welcome};

    const START: Instant = Instant::from_micros(1_000_000);

    fn welcome() -> Frame {
        Frame::Welcome(Box::new(Welcome {
            version: 1,
            features: 0,
            max_frame: 60_000,
            max_channels: 1,
            channel_buffer: 1 << 20,
            idle_timeout: Duration::from_secs(60),
            challenge: StaticKey::from_secret([3; 32]).public(),
            address: String::new(),
            node: String::new(),
        }))
    }

    /// The kinds of the frames that an endpoint sends now.
    fn sent(endpoint: &mut Endpoint, link: LinkId) -> Vec<&'static str> {
        let mut names = Vec::new();
        while let Some(message) = endpoint.poll_transmit(link, START) {
            let LinkMessage::Binary(message) = message else { panic!("a text") };
            names.push(Frame::decode(message).unwrap().unwrap().name());
        }
        names
    }

    /// A new client of a server whose path is so long, and the link that it asks for.
    fn new_client(server: ServerId, path_len: usize) -> (Endpoint, LinkId) {
        let mut endpoint = Endpoint::new(Config::default(), [1; 32]);
        let path = "p".repeat(path_len);
        endpoint.connect(server, 1, ConnectOptions { path, ..ConnectOptions::default() }, START);
        let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
        endpoint.prepare(START);
        (endpoint, link)
    }

    fn some_server() -> ServerId {
        ServerId::Key(StaticKey::from_secret([2; 32]).public())
    }

    #[test]
    fn connect_follows_hello_without_waiting_for_welcome() {
        let (mut endpoint, link) = new_client(some_server(), 0);
        endpoint.handle_link_opened(link, START);
        assert_eq!(sent(&mut endpoint, link), ["HELLO", "CONNECT"]);
        endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
        assert_eq!(sent(&mut endpoint, link), [""; 0], "nor is it sent twice");
    }

    #[test]
    fn a_connect_that_a_relay_might_not_take_waits_for_its_limits() {
        let (mut endpoint, link) = new_client(some_server(), MAX_EARLY_MESSAGE);
        endpoint.handle_link_opened(link, START);
        assert_eq!(sent(&mut endpoint, link), ["HELLO"]);
        endpoint.handle_message(link, LinkMessage::Binary(welcome().encode()), START);
        assert_eq!(sent(&mut endpoint, link), ["CONNECT"]);
    }

    #[test]
    fn an_early_connect_to_a_livecode_relay_fails_with_the_reason() {
        let (mut endpoint, link) = new_client(some_server(), 0);
        endpoint.handle_link_opened(link, START);
        sent(&mut endpoint, link);
        let text = "server: rejected malformed command";
        endpoint.handle_message(link, LinkMessage::Text(text.to_owned()), START);
        let reason = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
            Event::Closed { reason, failed: true, .. } => Some(reason),
            _ => None,
        });
        assert!(reason.unwrap().contains("livecode dialect"));
    }

    #[test]
    fn who_wants_a_livecode_server_says_nothing_but_hello_first() {
        let (mut endpoint, link) = new_client(ServerId::Number(7), 0);
        endpoint.connect(some_server(), 1, ConnectOptions::default(), START);
        endpoint.handle_link_opened(link, START);
        assert_eq!(sent(&mut endpoint, link), ["HELLO"]);
    }

    /// A client whose open socket is interrupted, on a link to a relay that says that the server is not there.
    fn client_of_an_absent_server() -> (Endpoint, LinkId) {
        let mut endpoint = Endpoint::new(Config::default(), [1; 32]);
        let key = StaticKey::from_secret([2; 32]).public();
        let socket = endpoint.connect(ServerId::Key(key), 1, ConnectOptions::default(), START);
        let entry = endpoint.sockets.get_mut(&socket).unwrap();
        (entry.opened, entry.interrupted_at) = (true, Some(START));
        let Some(Event::Dial { link }) = endpoint.poll_event() else { panic!("it dials") };
        endpoint.handle_link_opened(link, START);
        let close =
            Frame::Close { channel: ChannelId(1), code: CloseCode::SERVER_NOT_FOUND, reason: String::new() };
        for frame in [welcome(), close] {
            endpoint.handle_message(link, LinkMessage::Binary(frame.encode()), START);
        }
        assert!(endpoint.poll_event().is_none());
        (endpoint, link)
    }

    #[test]
    fn a_relay_that_refuses_the_access_token_is_not_asked_again() {
        let (mut endpoint, link) = client_of_an_absent_server();
        let text = "the access token has expired".to_owned();
        let refusal = Frame::Error { code: CloseCode::BAD_CREDENTIAL, text };
        endpoint.handle_message(link, LinkMessage::Binary(refusal.encode()), START);
        let closed = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
            Event::Closed { code, reason, .. } => Some((code, reason)),
            _ => None,
        });
        let (code, reason) = closed.expect("the socket ends");
        assert_eq!(code, CloseCode::BAD_CREDENTIAL);
        assert!(reason.contains("has expired"), "{reason}");
    }

    #[test]
    fn a_server_is_not_absent_while_there_is_no_relay_to_say_so() {
        let absent_timeout = ConnectOptions::default().absent_timeout;

        let (mut endpoint, _) = client_of_an_absent_server();
        endpoint.handle_timeout(START + absent_timeout);
        let code = std::iter::from_fn(|| endpoint.poll_event()).find_map(|event| match event {
            Event::Closed { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(code, Some(CloseCode::SERVER_NOT_FOUND), "the relay is there");

        let (mut endpoint, link) = client_of_an_absent_server();
        endpoint.handle_link_closed(link, CloseCode::ABNORMAL, "", START);
        endpoint.handle_timeout(START + absent_timeout);
        let closed = |event| matches!(event, Event::Closed { .. });
        assert!(!std::iter::from_fn(|| endpoint.poll_event()).any(closed), "the relay is gone");
    }
}
