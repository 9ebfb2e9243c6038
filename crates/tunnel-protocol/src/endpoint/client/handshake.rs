//! A client's handshake: begun ahead, sent early, answered.

use super::*;

impl Endpoint {
    /// Computes the first handshakes of new sockets whose link is still being opened, and a key for the next client. Call
    /// it when all else is done.
    pub fn prepare(&mut self, now: Instant) {
        if self.host.is_some() && self.spare_keys.is_empty() {
            let key = self.fresh_key();
            self.spare_keys.push(key);
        }
        for socket in std::mem::take(&mut self.unprepared) {
            let Some(entry) = self.sockets.get(socket) else { continue };
            let Side::Client(client) = &entry.side else { continue };
            let waits = matches!(client.state, State::Waiting { .. });
            if waits && !client.asked && client.prepared.is_none() && client.server_key.is_some() {
                let prepared = self.begin_handshake(socket, now);
                if let Some(entry) = self.sockets.get_mut(socket)
                    && let Side::Client(client) = &mut entry.side
                {
                    client.prepared = prepared;
                }
            }
        }
    }

    /// HELLO is said first. A client does not wait for the answer: CONNECT may follow at once.
    pub(in crate::endpoint) fn connect_early(&mut self, link: LinkId, now: Instant) {
        let wants_livecode = |entry: &Socket| match &entry.side {
            Side::Client(client) => client.wants_livecode(),
            Side::Server(_) => false,
        };
        // A relay of the livecode dialect would answer to each frame in words.
        let waits = self.is_livecode || self.sockets.values().any(wants_livecode);
        for socket in self.sockets.keys() {
            let Some(entry) = self.sockets.get_mut(socket) else { continue };
            let Side::Client(client) = &mut entry.side else { continue };
            match &mut client.state {
                State::Waiting { retry_at } if !waits && retry_at.is_none_or(|at| at <= now) => {
                    self.initiate(socket, link, None, now);
                }
                // The answer is waited for from when the WebSocket is open.
                State::Handshaking { path, give_up_at, .. } if path.link == link => {
                    *give_up_at = now + HANDSHAKE_TIMEOUT;
                    self.touch(socket, now);
                }
                _ => {}
            }
        }
    }

    /// The relay speaks the livecode dialect, which makes nothing of what was sent early, or the WebSocket did not open.
    pub(in crate::endpoint) fn take_back_early(&mut self, link: LinkId) {
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

    /// Sends the first handshake message: on `path`, or with a CONNECT of its own.
    pub(super) fn initiate(&mut self, socket: SocketId, link: LinkId, path: Option<Path>, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
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
        let Some(carrier) = self.links.get_mut(link) else { return };
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let opens_at = if carrier.is_dialling() { Instant::NEVER } else { now };
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
            (Carrier::Livecode(_) | Carrier::Foreign { .. }, _) => return,
        };
        let give_up_at = opens_at + HANDSHAKE_TIMEOUT;
        client.state = State::Handshaking { path, initiator, answer: None, give_up_at };
        self.by_path.insert(path, socket);
        self.touch(socket, now);
    }

    /// The first handshake message, and who reads the answer to it. `None` if the key has to be asked first, which
    /// brings it back here, or if the socket has failed.
    pub(super) fn begin_handshake(
        &mut self,
        socket: SocketId,
        now: Instant,
    ) -> Option<(Box<Initiator>, Bytes)> {
        let ephemeral = self.fresh_key();
        let own = self.sockets.get(socket)?.needs_key().then(|| self.fresh_key());
        let entry = self.sockets.get_mut(socket)?;
        let position = entry.session.position();
        let Side::Client(client) = &mut entry.side else { return None };
        if own.is_some() {
            client.key = own;
        }
        let open = Open {
            session_id: client.session_id,
            epoch: self.epoch,
            server_epoch: client.server_epoch,
            position,
            protocols: client.options.protocols.clone(),
            path: client.options.path.clone(),
            features: FEATURES,
        };
        let payload = entry.session.greased(open.encode());
        let key = client.key.as_mut()?;
        let mut initiator = Initiator::new(&prologue(client.port), client.server_key?, ephemeral);
        match initiator.write_message(key, &payload) {
            Ok(message) => {
                client.asked = false;
                Some((Box::new(initiator), message))
            }
            // The answer brings it back here.
            Err(HandshakeError::Dh(DhError::Pending(theirs))) => {
                client.asked = true;
                let ours = key.public();
                self.ask(ours, theirs);
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
    pub(in crate::endpoint) fn handle_accepted(&mut self, socket: SocketId, payload: Bytes, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Client(client) = &mut entry.side else { return };
        let State::Handshaking { path, initiator, answer, .. } = &mut client.state else { return };
        let Some(key) = &mut client.key else { return };
        let path = *path;
        let result = initiator.read_message(key, &payload);
        if let Err(HandshakeError::Dh(DhError::Pending(theirs))) = result {
            *answer = Some(payload);
            client.asked = true;
            let ours = key.public();
            return self.ask(ours, theirs);
        }
        key.forget_answers();
        let (payload, transport) = match result {
            Ok(read) => read,
            Err(error) => {
                return self.refuse_answer(
                    socket,
                    path,
                    CloseCode::HANDSHAKE_FAILED,
                    &error.to_string(),
                    now,
                );
            }
        };
        match Opened::decode(payload) {
            Ok(Opened::Accepted { epoch, position, protocol, .. }) => {
                self.open_client(socket, path, Answer { epoch, position, protocol, transport }, now);
            }
            Ok(Opened::Refused { code, reason }) => {
                self.close_path(path, CloseCode::NORMAL, "");
                self.fail_client(socket, code, &reason, now);
            }
            Err(error) => {
                self.refuse_answer(socket, path, CloseCode::PROTOCOL_ERROR, &error.to_string(), now);
            }
        }
    }

    /// The second handshake message is not what the server should say.
    fn refuse_answer(&mut self, socket: SocketId, path: Path, code: CloseCode, error: &str, now: Instant) {
        let reason = format!("the server's handshake was refused: {error}");
        self.close_path(path, code, &reason);
        self.retry_client(socket, code, &reason, now);
    }

    pub(super) fn open_client(&mut self, socket: SocketId, path: Path, answer: Answer, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
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
        entry.session.belong_to(client.server_key.map(Owner::Key).into_iter().collect());
        client.server_epoch = Some(answer.epoch);
        client.state = State::Open;
        client.attempts = 0;
        client.forget_absence();
        let verified = client.server.key().is_some();
        let remote = Remote { key: client.server_key, verified, address: None, encrypted: true };
        entry.protocol = answer.protocol;
        self.open(socket, path, remote);
        self.touch(socket, now);
    }
}
