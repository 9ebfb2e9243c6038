//! Who wants in: handshakes of new clients, and of those who come back.

use super::*;

impl Endpoint {
    /// A client wants in, or back.
    pub(in crate::endpoint) fn handle_incoming(&mut self, incoming: Incoming, now: Instant) {
        let path = incoming.path;
        let Some(host) = self.host.as_mut().filter(|host| !host.closing) else {
            return self.close_path(path, CloseCode::REFUSED, "the server is closing");
        };
        if incoming.kind == ChannelKind::Plain {
            return self.handle_plain(incoming, now);
        }
        if !host.replays.is_new(&incoming.payload, now) {
            return self.close_path(path, CloseCode::HANDSHAKE_FAILED, "the handshake has come before");
        }
        let key = host.key.clone();
        self.read_incoming(incoming, key, now);
    }

    /// Reads a first handshake message; `key` is the server's, which may have to be asked first.
    fn read_incoming(&mut self, incoming: Incoming, key: StaticKey, now: Instant) {
        let path = incoming.path;
        let prologue = prologue(incoming.port);
        let (responder, remote, payload) = match Responder::read_message(&prologue, &key, &incoming.payload) {
            Ok(read) => read,
            Err(HandshakeError::Dh(DhError::Pending(theirs))) => {
                let owner = Owner::of_address(&incoming.address);
                return self.wait_for_key(Waiting { incoming, owner, key, theirs });
            }
            Err(error) => {
                let reason = format!("the handshake is not for this server: {error}");
                return self.close_path(path, CloseCode::HANDSHAKE_FAILED, &reason);
            }
        };
        match Open::decode(payload) {
            Ok(open) => self.handle_open(incoming, responder, remote, open, now),
            Err(error) => self.close_path(path, CloseCode::PROTOCOL_ERROR, &error.to_string()),
        }
    }

    /// A peer that does not encrypt wants in.
    pub(super) fn handle_plain(&mut self, incoming: Incoming, now: Instant) {
        let path = incoming.path;
        if !self.config.allow_plain {
            return self.close_path(path, CloseCode::REFUSED, "this server takes encrypted sessions only");
        }
        if !self.make_room(&Owner::of_address(&incoming.address), now) {
            return self.turn_away_full(path);
        }
        // Nobody resumes a plain session: the name is only there so that all have one.
        let (key, session_id) = (PublicKey(self.entropy.bytes()), SessionId(self.entropy.array()));
        let offer = Offer {
            port: incoming.port,
            address: incoming.address,
            remote: None,
            verified: false,
            protocols: Vec::new(),
            path: String::new(),
            plain: true,
        };
        let greeting = Greeting::Plain { early: Vec::new() };
        let session = Session::new_plain(self.next_session());
        self.add_offer(
            Guest { path, key, session_id, client_epoch: Epoch::default(), greeting, session },
            offer,
            now,
        );
    }

    /// Without cryptography: whoever is turned away so tries again some times.
    fn turn_away_full(&mut self, path: Path) {
        let max = self.config.max_clients;
        let reason = format!("the server has {max} clients, which is as many as it takes");
        self.close_path(path, CloseCode::TRY_AGAIN_LATER, &reason);
    }

    /// The key is asked, once for all who wait for the same answer.
    fn wait_for_key(&mut self, waiting: Waiting) {
        let path = waiting.incoming.path;
        let Some(host) = &mut self.host else { return };
        let of_owner = host.waiting.iter().filter(|other| other.owner == waiting.owner).count();
        if of_owner + host.waiting.len() >= MAX_WAITING || self.agreements.len() >= MAX_AGREEMENTS {
            return self.close_path(path, CloseCode::TRY_AGAIN_LATER, "too many handshakes at once");
        }
        let (ours, theirs) = (waiting.key.public(), waiting.theirs);
        host.waiting.push(waiting);
        self.ask(ours, theirs);
    }

    /// Handshakes that waited for this answer of the key.
    pub(super) fn retry_incoming(&mut self, theirs: PublicKey, shared: [u8; 32], now: Instant) {
        let Some(host) = &mut self.host else { return };
        let waiting = std::mem::take(&mut host.waiting).into_iter();
        let (answered, waiting): (Vec<_>, Vec<_>) = waiting.partition(|waiting| waiting.theirs == theirs);
        host.waiting = waiting;
        for Waiting { incoming, mut key, .. } in answered {
            key.answer(theirs, shared);
            self.read_incoming(incoming, key, now);
        }
    }

    pub(super) fn handle_open(
        &mut self,
        incoming: Incoming,
        responder: Responder,
        remote: PublicKey,
        open: Open,
        now: Instant,
    ) {
        let path = incoming.path;
        let Some(&socket) = self.by_session.get(&(remote, open.session_id)) else {
            return match open.server_epoch {
                None => self.offer(incoming, responder, remote, open, now),
                Some(epoch) if epoch == self.epoch => {
                    self.turn_away(path, responder, CloseCode::EXPIRED, "the session is over here");
                }
                Some(_) => {
                    self.turn_away(
                        path,
                        responder,
                        CloseCode::PEER_RELOADED,
                        "the server's page was reloaded",
                    );
                }
            };
        };
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let opened = entry.opened;
        let Side::Server(serving) = &mut entry.side else { return };
        let same_page = serving.client_epoch == open.epoch;
        let position = open.position;
        match (open.server_epoch, &mut serving.undecided) {
            // The client lost its first try before the application decided: the new try takes its place.
            (None, Some(undecided)) if same_page => {
                let old = std::mem::replace(&mut undecided.path, path);
                undecided.greeting = Greeting::Sealed { responder, position };
                self.by_path.insert(path, socket);
                self.close_path(old, CloseCode::NORMAL, "");
            }
            (Some(epoch), None) if same_page && epoch == self.epoch => {
                self.answer(socket, path, responder, position, now);
            }
            (None, None) if same_page && !opened => self.answer(socket, path, responder, position, now),
            _ => {
                self.turn_away(
                    path,
                    responder,
                    CloseCode::PEER_RELOADED,
                    "one of the two pages was reloaded",
                );
            }
        }
    }

    pub(super) fn offer(
        &mut self,
        incoming: Incoming,
        responder: Responder,
        key: PublicKey,
        open: Open,
        now: Instant,
    ) {
        let path = incoming.path;
        if !self.make_room(&Owner::of_address(&incoming.address), now) {
            return self.turn_away_full(path);
        }
        let offer = Offer {
            port: incoming.port,
            address: incoming.address,
            remote: Some(key),
            verified: false,
            protocols: open.protocols,
            path: open.path,
            plain: false,
        };
        let (session_id, client_epoch) = (open.session_id, open.epoch);
        let greeting = Greeting::Sealed { responder, position: open.position };
        let session = Session::new(self.next_session());
        self.add_offer(Guest { path, key, session_id, client_epoch, greeting, session }, offer, now);
    }

    /// Asks the application about a client.
    pub(super) fn add_offer(&mut self, guest: Guest, offer: Offer, now: Instant) {
        let Guest { path, key, session_id, client_epoch, greeting, mut session } = guest;
        let owner = Owner::of_address(&offer.address);
        session.belong_to(vec![Owner::Key(key), owner.clone()]);
        let serving = Serving {
            key,
            session_id,
            client_epoch,
            address: offer.address.clone(),
            owner,
            arrived_at: now,
            is_away: false,
            resume_timeout: if offer.plain { Duration::ZERO } else { self.config.resume_timeout },
            undecided: Some(Undecided { path, greeting, give_up_at: now + OFFER_TIMEOUT }),
            candidates: Vec::new(),
        };
        let socket = self.add_socket(session, Side::Server(Box::new(serving)));
        self.by_session.insert((key, session_id), socket);
        self.by_path.insert(path, socket);
        self.events.push_back(Event::Offer { socket, offer });
        self.touch(socket, now);
    }

    /// Sends the second handshake message; the path counts once the client's first record is there.
    pub(super) fn answer(
        &mut self,
        socket: SocketId,
        path: Path,
        responder: Responder,
        position: Position,
        now: Instant,
    ) {
        let ephemeral = self.fresh_key();
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let opened = Opened::Accepted {
            epoch: self.epoch,
            position: entry.session.position(),
            protocol: entry.protocol.clone(),
            features: FEATURES,
        };
        let payload = entry.session.greased(opened.encode());
        let Side::Server(serving) = &mut entry.side else { return };
        match responder.write_message(ephemeral, &payload) {
            Ok((message, transport)) => {
                let give_up_at = now + CONFIRM_TIMEOUT;
                serving.candidates.push(Candidate { path, transport, position, give_up_at });
                let surplus =
                    (serving.candidates.len() > MAX_CANDIDATES).then(|| serving.candidates.remove(0));
                self.by_path.insert(path, socket);
                if let Some(link) = self.links.get_mut(path.link) {
                    link.accept(path.channel, message);
                }
                if let Some(surplus) = surplus {
                    self.close_path(surplus.path, CloseCode::TIMEOUT, "other paths came");
                }
            }
            Err(error) => self.close_path(path, CloseCode::HANDSHAKE_FAILED, &error.to_string()),
        }
        self.touch(socket, now);
    }

    pub(super) fn turn_away(&mut self, path: Path, responder: Responder, code: CloseCode, reason: &str) {
        let refused = Opened::Refused { code, reason: reason.to_owned() };
        let ephemeral = self.fresh_key();
        if let (Some(link), Ok((message, _))) =
            (self.links.get_mut(path.link), responder.write_message(ephemeral, &refused.encode()))
        {
            link.accept(path.channel, message);
        }
        self.close_path(path, code, reason);
    }

    /// A record on a path that waits for one: if it opens, the path is the session's.
    pub(in crate::endpoint) fn handle_candidate_data(
        &mut self,
        socket: SocketId,
        path: Path,
        record: Bytes,
        now: Instant,
    ) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        let Side::Server(serving) = &mut entry.side else { return };
        if let Some(Undecided { greeting: Greeting::Plain { early }, .. }) = &mut serving.undecided {
            if early.len() < MAX_EARLY {
                early.push(record);
            } else {
                self.close_path(path, CloseCode::OVERFLOW, "too much was said before the server had decided");
                self.forget(socket, now);
            }
            return;
        }
        let Some(mut candidate) = serving.take_candidate(path) else { return };
        let Ok(plaintext) = candidate.transport.open(record) else {
            let abandoned = !entry.opened && serving.candidates.is_empty();
            self.close_path(path, CloseCode::HANDSHAKE_FAILED, "the first record can't be opened");
            if abandoned {
                self.forget(socket, now);
            }
            return;
        };
        serving.candidates.clear();
        let address = Some(serving.address.clone());
        let remote = Remote { key: Some(serving.key), verified: true, address, encrypted: true };
        entry.session.detach();
        if entry.session.attach(candidate.transport, candidate.position, now) {
            self.open(socket, path, remote);
            if let Some(entry) = self.sockets.get_mut(socket) {
                // A violation ends the session; `touch` sees it.
                let _ = entry.session.handle_plaintext(plaintext, now);
            }
        } else {
            entry.path = Some(path);
            entry
                .session
                .give_up(CloseCode::PROTOCOL_ERROR, "the client claims to have received what was never sent");
        }
        self.close_other_paths(socket);
        self.touch(socket, now);
    }
}
