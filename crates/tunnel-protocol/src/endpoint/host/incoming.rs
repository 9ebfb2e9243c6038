//! Clients that are not in yet, and those that come back: their first handshake messages.

use super::*;

/// First handshake messages that may wait for the key; those of one address, as many as there is still room for.
pub(super) const MAX_WAITING: usize = 128;

/// Diffie-Hellman that clients may cause to be under way.
const MAX_AGREEMENTS: usize = 2 * MAX_WAITING;

/// A first handshake message, or a plain peer, as the relay announces it with INCOMING.
#[derive(Debug)]
pub(in crate::endpoint) struct FirstMessage {
    pub(in crate::endpoint) path: Path,
    pub(in crate::endpoint) port: u16,
    pub(in crate::endpoint) kind: ChannelKind,
    pub(in crate::endpoint) address: String,
    pub(in crate::endpoint) payload: Bytes,
}

/// A first handshake message that can't be read before the server's key has been asked.
#[derive(Debug)]
pub(super) struct WaitingMessage {
    message: FirstMessage,
    owner: Owner,
    /// The server's key, with the answers that this handshake has got.
    key: StaticKey,
    /// The public key that it has been asked about.
    theirs: PublicKey,
}

/// A first handshake message that has been read.
struct Request {
    path: Path,
    responder: Responder,
    /// The client's key, which it has not proven to hold.
    key: PublicKey,
    open: Open,
}

/// The reason for giving a channel back without a handshake.
struct Refusal {
    code: CloseCode,
    reason: String,
}

impl Refusal {
    fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

impl Endpoint {
    /// Takes in an INCOMING frame: a client wants in, or back in.
    pub(in crate::endpoint) fn handle_incoming(&mut self, message: FirstMessage, now: Instant) {
        let path = message.path;
        let refused = self.take_in(message, now);
        self.close_if_refused(path, refused);
    }

    fn close_if_refused(&mut self, path: Path, result: Result<(), Refusal>) {
        if let Err(Refusal { code, reason }) = result {
            self.close_path(path, code, &reason);
        }
    }

    fn take_in(&mut self, message: FirstMessage, now: Instant) -> Result<(), Refusal> {
        let Some(host) = self.host.as_mut().filter(|host| !host.closing) else {
            return Err(Refusal::new(CloseCode::REFUSED, "the server is closing"));
        };
        if message.kind == ChannelKind::Plain {
            return self.ask_about_plain(message, now);
        }
        if !host.replays.is_new(&message.payload, now) {
            return Err(Refusal::new(CloseCode::HANDSHAKE_FAILED, "the handshake has come before"));
        }
        let key = host.key.clone();
        self.read_first(message, key, now)
    }

    /// Reads a first handshake message with the server's key, which may have to be asked first.
    fn read_first(&mut self, message: FirstMessage, key: StaticKey, now: Instant) -> Result<(), Refusal> {
        let path = message.path;
        match Responder::read_message(&prologue(message.port), &key, &message.payload) {
            Ok((responder, key, payload)) => match Open::decode(payload) {
                Ok(open) => self.handle_open(message, Request { path, responder, key, open }, now),
                Err(error) => Err(Refusal::new(CloseCode::PROTOCOL_ERROR, error.to_string())),
            },
            Err(HandshakeError::Dh(DhError::Pending(theirs))) => {
                let owner = Owner::of_address(&message.address);
                self.wait_for_key(WaitingMessage { message, owner, key, theirs })
            }
            Err(error) => {
                let reason = format!("the handshake is not for this server: {error}");
                Err(Refusal::new(CloseCode::HANDSHAKE_FAILED, reason))
            }
        }
    }

    /// Asks the key, once for all messages that wait for the same answer.
    fn wait_for_key(&mut self, waiting: WaitingMessage) -> Result<(), Refusal> {
        let Some(host) = &mut self.host else { return Ok(()) };
        let of_owner = host.waiting.iter().filter(|other| other.owner == waiting.owner).count();
        if of_owner + host.waiting.len() >= MAX_WAITING || self.agreements.len() >= MAX_AGREEMENTS {
            return Err(Refusal::new(CloseCode::TRY_AGAIN_LATER, "too many handshakes at once"));
        }
        let (ours, theirs) = (waiting.key.public(), waiting.theirs);
        host.waiting.push(waiting);
        self.ask(ours, theirs);
        Ok(())
    }

    /// Reads the messages that waited for this answer of the server's key.
    pub(super) fn retry_waiting(&mut self, theirs: PublicKey, shared: [u8; 32], now: Instant) {
        let Some(host) = &mut self.host else { return };
        let waiting = std::mem::take(&mut host.waiting).into_iter();
        let (answered, waiting): (Vec<_>, Vec<_>) = waiting.partition(|waiting| waiting.theirs == theirs);
        host.waiting = waiting;
        for WaitingMessage { message, mut key, .. } in answered {
            key.answer(theirs, shared);
            let path = message.path;
            let refused = self.read_first(message, key, now);
            self.close_if_refused(path, refused);
        }
    }

    /// A client asks for a new session, or for one that is there.
    fn handle_open(&mut self, message: FirstMessage, request: Request, now: Instant) -> Result<(), Refusal> {
        if let Some(&socket) = self.by_session.get(&(request.key, request.open.session_id)) {
            self.step_served(socket, now, |served, socket, cx| {
                served.handle_open(request.path, request.responder, &request.open, socket, cx);
            });
            return Ok(());
        }
        match request.open.server_epoch {
            None => return self.ask_about(message, request, now),
            Some(epoch) if epoch == self.epoch => {
                self.turn_away(request, CloseCode::EXPIRED, "the session is over here");
            }
            Some(_) => self.turn_away(request, CloseCode::PEER_RELOADED, "the server's page was reloaded"),
        }
        Ok(())
    }

    /// Refuses a client in words that only it can read.
    fn turn_away(&mut self, request: Request, code: CloseCode, reason: &str) {
        let Request { path, responder, .. } = request;
        if let Some(message) = refusal(responder, code, reason, &mut self.keys)
            && let Some(link) = self.links.get_mut(path.link)
        {
            link.accept(path.channel, message);
        }
        self.close_path(path, code, reason);
    }

    /// Asks the application about a client that is new.
    fn ask_about(&mut self, message: FirstMessage, request: Request, now: Instant) -> Result<(), Refusal> {
        self.require_room(&message, now)?;
        let Request { path, responder, key, open } = request;
        let session = Session::new(self.next_session());
        let arrival = self.arrival(&message, now);
        let served = ServerSide::new(&open, key, path, responder, arrival);
        let incoming = Incoming {
            port: message.port,
            address: message.address,
            remote: Some(key),
            verified: false,
            protocols: open.protocols,
            path: open.path,
            plain: false,
        };
        self.add_incoming(path, session, served, incoming, now);
        Ok(())
    }

    /// Asks the application about a peer that does not encrypt.
    fn ask_about_plain(&mut self, message: FirstMessage, now: Instant) -> Result<(), Refusal> {
        if !self.config.allow_plain {
            return Err(Refusal::new(CloseCode::REFUSED, "this server takes encrypted sessions only"));
        }
        self.require_room(&message, now)?;
        // Plain sessions can't be resumed; the random key and ID only fill the map's key.
        let key = PublicKey(self.keys.entropy.bytes());
        let session_id = SessionId(self.keys.entropy.array());
        let session = Session::new_plain(self.next_session());
        let arrival = self.arrival(&message, now);
        let served = ServerSide::new_plain(key, session_id, message.path, arrival);
        let incoming = Incoming {
            port: message.port,
            address: message.address,
            remote: None,
            verified: false,
            protocols: Vec::new(),
            path: String::new(),
            plain: true,
        };
        self.add_incoming(message.path, session, served, incoming, now);
        Ok(())
    }

    /// Makes room for one more client. Without any, it is refused without cryptography, so that it tries again some times.
    fn require_room(&mut self, message: &FirstMessage, now: Instant) -> Result<(), Refusal> {
        if self.make_room(&Owner::of_address(&message.address), now) {
            return Ok(());
        }
        let max = self.config.max_clients;
        let reason = format!("the server has {max} clients, which is as many as it takes");
        Err(Refusal::new(CloseCode::TRY_AGAIN_LATER, reason))
    }

    fn arrival(&self, message: &FirstMessage, now: Instant) -> Arrival {
        let (address, resume_timeout) = (message.address.clone(), self.config.resume_timeout);
        Arrival { address, at: now, resume_timeout }
    }

    fn add_incoming(
        &mut self,
        path: Path,
        mut session: Session,
        served: ServerSide,
        incoming: Incoming,
        now: Instant,
    ) {
        session.belong_to(vec![Owner::Key(served.key), served.owner.clone()]);
        let name = (served.key, served.session_id);
        let socket = self.add_socket(session, Side::Server(Box::new(served)));
        self.by_session.insert(name, socket);
        self.by_path.insert(path, socket);
        self.events.push_back(Event::Incoming { socket, incoming });
        self.touch(socket, now);
    }
}
