//! A client's handshake: computed ahead, sent early, answered.

use super::*;

impl ClientSide {
    /// Computes the first handshake of a new socket whose link is still being opened.
    pub(super) fn prepare(&mut self, socket: &mut Socket, cx: &mut Context<'_>) {
        let waits = matches!(self.state, State::Waiting { .. });
        if waits
            && !self.asked
            && self.prepared.is_none()
            && let Some(server_key) = self.server_key
        {
            self.prepared = self.begin_handshake(server_key, socket, cx);
        }
    }

    /// Connects on a link whose WebSocket is being opened, or is open. HELLO is said first; CONNECT does not wait for the
    /// answer.
    pub(in crate::endpoint) fn connect_early(
        &mut self,
        link: LinkId,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        if let State::Waiting { retry_at } = self.state
            && retry_at.is_none_or(|at| at <= cx.now)
        {
            self.initiate(socket, link, cx);
        }
    }

    /// Counts the time for the server's answer from now on: the WebSocket, in whose handshake CONNECT may have been, is open.
    pub(in crate::endpoint) fn restart_patience(&mut self, link: LinkId, now: Instant) {
        if let State::Handshaking { path, give_up_at, .. } = &mut self.state
            && path.link == link
        {
            *give_up_at = now + HANDSHAKE_TIMEOUT;
        }
    }

    /// Forgets a CONNECT that came to nothing: the relay speaks the livecode dialect, or the WebSocket did not open. Returns
    /// the path that it was for.
    pub(in crate::endpoint) fn take_back_early(&mut self, link: LinkId) -> Option<Path> {
        match self.state {
            State::Handshaking { path, .. } if path.link == link => {
                self.state = State::Waiting { retry_at: None };
                Some(path)
            }
            _ => None,
        }
    }

    /// Sends the first handshake message, in a CONNECT on this link.
    pub(super) fn initiate(&mut self, socket: &mut Socket, link: LinkId, cx: &mut Context<'_>) {
        let Some(server_key) = self.server_key else {
            let reason =
                "numbers name servers of livecoding relays; this relay's servers have IDs of 56 characters";
            return self.fail(CloseCode::SERVER_NOT_FOUND, reason, socket, cx.now);
        };
        let prepared = self.prepared.take();
        let Some(handshake) = prepared.or_else(|| self.begin_handshake(server_key, socket, cx)) else {
            return;
        };
        let carrier = cx.links.get(link);
        if handshake.message.len() > MAX_EARLY_MESSAGE && !carrier.is_some_and(Carrier::is_ready) {
            self.prepared = Some(handshake);
            return;
        }
        let is_dialling = carrier.is_some_and(Carrier::is_dialling);
        let give_up_at = if is_dialling { Instant::NEVER } else { cx.now + HANDSHAKE_TIMEOUT };
        cx.act(Action::Connect { link, server: self.server, port: self.port, handshake, give_up_at });
    }

    /// CONNECT is out on this path.
    pub(in crate::endpoint) fn handle_connecting(
        &mut self,
        path: Path,
        initiator: Box<Initiator>,
        give_up_at: Instant,
    ) {
        self.state = State::Handshaking { path, initiator, answer: None, give_up_at };
    }

    /// Sends the first handshake message to a server of the livecode dialect that has said who it is.
    pub(super) fn initiate_livecode(
        &mut self,
        path: Path,
        server_key: PublicKey,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let Some(handshake) = self.begin_handshake(server_key, socket, cx) else { return };
        cx.act(Action::Initiate { path, message: handshake.message });
        self.handle_connecting(path, handshake.initiator, cx.now + HANDSHAKE_TIMEOUT);
    }

    /// Computes the first handshake message. `None` if the key has to be asked first, whose answer brings the client back
    /// here, or if the socket has failed.
    fn begin_handshake(
        &mut self,
        server_key: PublicKey,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) -> Option<Handshake> {
        let ephemeral = cx.keys.fresh();
        let key = self.key.get_or_insert_with(|| cx.keys.fresh());
        let open = Open {
            session_id: self.session_id,
            epoch: cx.epoch,
            server_epoch: self.server_epoch,
            position: socket.session.position(),
            protocols: self.options.protocols.clone(),
            path: self.options.path.clone(),
            features: FEATURES,
        };
        let payload = socket.session.greased(open.encode());
        let mut initiator = Initiator::new(&prologue(self.port), server_key, ephemeral);
        match initiator.write_message(key, &payload) {
            Ok(message) => {
                self.asked = false;
                Some(Handshake { initiator: Box::new(initiator), message })
            }
            Err(HandshakeError::Dh(DhError::Pending(theirs))) => {
                self.asked = true;
                cx.act(Action::Ask { ours: key.public(), theirs });
                None
            }
            Err(error) => {
                let reason = format!("the handshake could not begin: {error}");
                self.fail(CloseCode::HANDSHAKE_FAILED, &reason, socket, cx.now);
                None
            }
        }
    }

    /// Takes in the answer of the application's key, if this client has asked it.
    pub(in crate::endpoint) fn handle_diffie_hellman(
        &mut self,
        ours: PublicKey,
        theirs: PublicKey,
        shared: [u8; 32],
    ) {
        if let Some(key) = self.key.as_mut().filter(|key| key.public() == ours) {
            key.answer(theirs, shared);
        }
    }

    /// Takes in the second handshake message.
    pub(in crate::endpoint) fn handle_accepted(
        &mut self,
        payload: Bytes,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let (State::Handshaking { path, initiator, answer, .. }, Some(key)) =
            (&mut self.state, &mut self.key)
        else {
            // A second ACCEPT, from a relay that lies: the session goes on with what the first one said.
            return;
        };
        let path = *path;
        let result = initiator.read_message(key, &payload);
        if let Err(HandshakeError::Dh(DhError::Pending(theirs))) = result {
            *answer = Some(payload);
            self.asked = true;
            return cx.act(Action::Ask { ours: key.public(), theirs });
        }
        key.forget_answers();
        let (payload, transport) = match result {
            Ok(read) => read,
            Err(error) => {
                return self.refuse_answer(path, CloseCode::HANDSHAKE_FAILED, &error.to_string(), socket, cx);
            }
        };
        match Opened::decode(payload) {
            Ok(Opened::Accepted { epoch, position, protocol, .. }) => {
                self.open(path, Answer { epoch, position, protocol, transport }, socket, cx);
            }
            Ok(Opened::Refused { code, reason }) => {
                cx.close(path, CloseCode::NORMAL, "");
                self.lose_session(code, &reason, socket, cx);
            }
            Err(error) => {
                self.refuse_answer(path, CloseCode::PROTOCOL_ERROR, &error.to_string(), socket, cx);
            }
        }
    }

    /// Leaves a channel whose second handshake message is not what the server should say.
    fn refuse_answer(
        &mut self,
        path: Path,
        code: CloseCode,
        error: &str,
        socket: &mut Socket,
        cx: &mut Context<'_>,
    ) {
        let reason = format!("the server's handshake was refused: {error}");
        cx.close(path, code, &reason);
        self.retry(code, &reason, socket, cx);
    }

    /// Opens the socket, or opens it again, if the server's answer fits to what it has said before.
    fn open(&mut self, path: Path, answer: Answer, socket: &mut Socket, cx: &mut Context<'_>) {
        let offered = answer.protocol.is_empty() || self.options.protocols.contains(&answer.protocol);
        let same_page = self.server_epoch.is_none_or(|epoch| epoch == answer.epoch);
        if !offered || !same_page || !socket.session.attach(answer.transport, answer.position, cx.now) {
            let (code, reason) = if !offered {
                (CloseCode::PROTOCOL_ERROR, "the server chose a subprotocol that was not offered")
            } else if !same_page {
                (CloseCode::PEER_RELOADED, "the server's page was reloaded")
            } else {
                (CloseCode::PROTOCOL_ERROR, "the server claims to have received what was never sent")
            };
            cx.close(path, code, reason);
            return self.lose_session(code, reason, socket, cx);
        }
        socket.session.belong_to(self.server_key.map(Owner::Key).into_iter().collect());
        self.server_epoch = Some(answer.epoch);
        self.state = State::Open;
        self.attempts = 0;
        self.forget_absence();
        let verified = self.server.key().is_some();
        let remote = Remote { key: self.server_key, verified, address: None, encrypted: true };
        socket.protocol = answer.protocol;
        socket.open(path, remote, cx);
    }
}

impl Endpoint {
    /// Computes the first handshakes of new sockets whose link is still being opened, and a key for the next client. Call
    /// it when all else is done.
    pub fn prepare(&mut self, now: Instant) {
        if self.host.is_some() {
            self.keys.make_spare();
        }
        for socket in std::mem::take(&mut self.unprepared) {
            self.step_client(socket, now, ClientSide::prepare);
        }
    }
}
