//! The frames of a tunnel peer. Called by `Router::handle_message`.

use super::channel::{EndKey, EndStage};
use super::config::{CONNECT_BURST, SERVER_CONNECT_BURST};
use super::ledger;
use super::link::{Stage, is_opened_by_peer};
use super::waiting::Request;
use super::{Dialect, Drain, Event, Grant, LinkId, Peer, Registration, Router, Transmit, Violation};
use crate::codec::DecodeError;
use crate::frame::{ACCEPT, ChannelId, ChannelKind, DATA, Frame, HEADER_LEN, Welcome, restamp};
use crate::livecode::{DELIMITER, Notification};
use crate::node::{FORWARD_OVERHEAD, NodeFrame};
use crate::{CloseCode, Instant, ServerId, VERSION};
use bytes::{Bytes, BytesMut};
use std::ops::RangeInclusive;

/// The number of bytes of refusals a link may leave unread: the only control frames that a peer can provoke without end.
const MAX_REFUSALS: usize = 64 << 10;

/// Features that this relay has.
const FEATURES: u32 = 0;

/// The beginning of a URL: so much that two of them and the words around them fit into an ERROR.
fn shortened(url: &str) -> &str {
    &url[..url.floor_char_boundary(64)]
}

impl Router {
    /// Takes in one frame of a tunnel peer.
    pub(super) fn handle_frame(
        &mut self,
        link: LinkId,
        message: BytesMut,
        now: Instant,
    ) -> Result<(), Violation> {
        let max = self.config.max_frame as usize;
        // A client's address travels between relays, too.
        let is_long_forward = || message.len() <= max + FORWARD_OVERHEAD && self.is_node(link);
        if message.len() > max && !is_long_forward() {
            let text = format!("a frame of {} bytes; the limit is {max} bytes", message.len());
            return Err(Violation { code: CloseCode::TOO_BIG, text });
        }
        if let Some((&[kind @ (ACCEPT | DATA), a, b, c, d], _)) = message.split_first_chunk::<HEADER_LEN>() {
            return self.handle_payload(link, kind, ChannelId(u32::from_be_bytes([a, b, c, d])), message);
        }
        if self.is_node(link) {
            return self.handle_node_message(link, message.freeze(), now);
        }
        let kind = message.first().copied().unwrap_or_default();
        let malformed = |error: DecodeError| Violation::new(format!("a frame of type {kind:#04x}: {error}"));
        let Some(frame) = Frame::decode(message.freeze()).map_err(malformed)? else { return Ok(()) };
        let greeted = self.stage(link) == Some(Stage::Ready);
        match frame {
            Frame::Hello { min_version, max_version, features, token } if !greeted => {
                self.hello(link, min_version..=max_version, features, &token)
            }
            frame if !greeted => Err(Violation::new(format!("{} before HELLO", frame.name()))),
            Frame::Register { key, proof, url } => self
                .register(link, ServerId::Key(key), proof, |peer| Registration::check(key, proof, url, peer)),
            Frame::Connect { channel, server_id, port, kind, payload } => {
                self.connect(link, channel, Request { server_id, port, kind, payload, address: None }, now)
            }
            Frame::Close { channel: ChannelId::LINK, .. } => {
                self.end_link(link, None, CloseCode::NORMAL, "");
                Ok(())
            }
            Frame::Close { channel, code, reason } => self.close(link, channel, code, &reason),
            Frame::Ping { nonce } => {
                if let Some(state) = self.links.get_mut(link.0) {
                    state.outbox.pong = Some(nonce);
                }
                self.announce(link);
                Ok(())
            }
            Frame::Pong { .. } => Ok(()),
            Frame::Hello { .. } => Err(Violation::new("a second HELLO")),
            frame => Err(Violation::new(format!("{} is not for a relay", frame.name()))),
        }
    }

    pub(super) fn stage(&self, link: LinkId) -> Option<Stage> {
        self.links.get(link.0).map(|state| state.stage)
    }

    fn hello(
        &mut self,
        link: LinkId,
        versions: RangeInclusive<u16>,
        features: u32,
        token: &str,
    ) -> Result<(), Violation> {
        if !versions.contains(&VERSION) {
            let (min, max) = versions.into_inner();
            let text = format!("HELLO offers versions {min} to {max}; this relay speaks version {VERSION}");
            return Err(Violation::new(text));
        }
        let granted = self.config.access.as_ref().map(|access| access.check(token)).transpose();
        let grant = granted.map_err(|text| Violation { code: CloseCode::BAD_CREDENTIAL, text })?;
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        state.grant = grant.filter(|grant| *grant != Grant::ALL).map(Box::new);
        state.stage = Stage::Ready;
        let welcome = Frame::Welcome(Box::new(Welcome {
            version: VERSION,
            features: features & FEATURES,
            max_frame: self.config.max_frame,
            max_channels: self.config.max_channels,
            channel_buffer: u32::try_from(self.config.channel_buffer).unwrap_or(u32::MAX),
            idle_timeout: self.config.idle_timeout,
            challenge: state.peer.challenge.public(),
            address: state.peer.address.clone(),
            node: self.config.node.clone(),
        }));
        self.arm(link);
        self.control(link, Transmit::Binary(welcome.encode()), usize::MAX);
        Ok(())
    }

    /// Takes in a REGISTER by itself.
    pub(super) fn register_greeted(
        &mut self,
        link: LinkId,
        registration: &Registration,
    ) -> Result<(), Violation> {
        if self.is_node(link) {
            return Err(Violation::new("REGISTER is not for a link between relays"));
        }
        if self.stage(link) != Some(Stage::Ready) {
            return Err(Violation::new("REGISTER before HELLO"));
        }
        let (server_id, proof) = (registration.server_id, registration.proof);
        self.register(link, server_id, proof, |_| registration.clone())
    }

    /// The proof is looked at last: it costs a key agreement.
    fn register(
        &mut self,
        link: LinkId,
        server_id: ServerId,
        proof: [u8; 32],
        check: impl FnOnce(&Peer) -> Registration,
    ) -> Result<(), Violation> {
        let Some(state) = self.links.get(link.0) else { return Ok(()) };
        match state.registered {
            // The same question again: the proof is known to be right.
            Some(registered) if registered == (server_id, proof) => {}
            Some((other, _)) => {
                return Err(Violation::new(format!("REGISTER on a link that is registered as {other}")));
            }
            None if self.drain != Drain::No => {
                self.end_draining(link);
                return Ok(());
            }
            None => {
                if let Some(violation) = self.forbids(link, &server_id) {
                    return Err(violation);
                }
                let Registration { is_proven, dialled, .. } = check(&state.peer);
                if !is_proven {
                    let code = CloseCode::HANDSHAKE_FAILED;
                    let reached = state.peer.url.clone();
                    if dialled.is_empty() || dialled == reached {
                        let text = "REGISTER's proof does not fit key, challenge and URL".to_owned();
                        return Err(Violation { code, text });
                    }
                    let text = format!(
                        "this relay is reached as {}, the page dialled {}: have the proxy pass on Host and scheme, or set \
                         `hosts` to the URL that pages dial",
                        shortened(&reached),
                        shortened(&dialled)
                    );
                    self.events.push_back(Event::Misaddressed { link, reached, dialled });
                    return Err(Violation { code, text });
                }
                if let Some(state) = self.links.get_mut(link.0) {
                    state.registered = Some((server_id, proof));
                }
                self.take_over(link, server_id);
            }
        }
        if let Some(state) = self.links.get_mut(link.0) {
            state.outbox.registered = true;
        }
        self.announce(link);
        self.admit_waiting(&server_id, link);
        Ok(())
    }

    /// Makes a link the way to a server. The newest proof counts: a link that has died unnoticed gives way.
    fn take_over(&mut self, link: LinkId, server_id: ServerId) {
        self.totals.registered += 1;
        let old = self.enrol(server_id, link);
        self.events.push_back(Event::Registered { link, server_id });
        if let Some(old) = old {
            self.totals.taken_over += 1;
            let (code, text) = (CloseCode::ID_TAKEN_OVER, "another link registered the same key");
            let close = Frame::Close { channel: ChannelId::LINK, code, reason: text.to_owned() };
            self.end_link(old, Some(close), code, text);
        }
    }

    /// Takes in a CONNECT, or another relay's FORWARD: that has been checked there, and is not sent on once more.
    pub(super) fn connect(
        &mut self,
        link: LinkId,
        channel: ChannelId,
        request: Request,
        now: Instant,
    ) -> Result<(), Violation> {
        let Some(state) = self.links.get_mut(link.0) else { return Ok(()) };
        let last = state.last_opened;
        if !is_opened_by_peer(channel) || channel <= last {
            let text =
                format!("CONNECT on {channel}: it has to be odd and greater than the last one, {}", last.0);
            return Err(Violation::new(text));
        }
        let is_forwarded = request.address.is_some();
        let max_channels = match (&state.node, &self.config.cluster) {
            (Some(_), Some(cluster)) => cluster.max_node_channels,
            _ => self.config.max_channels,
        };
        if state.opened >= max_channels {
            state.last_opened = channel;
            return self.refuse_unseen(link, channel);
        }
        let end = self.add_end(link, channel, EndStage::Closing);
        let grant = self.links.get(link.0).and_then(|state| state.grant.as_ref());
        if self.drain != Drain::No {
            self.refuse(end, CloseCode::DRAINING, "the relay is being shut down or restarted");
        } else if let ChannelKind::Unknown(_) = request.kind {
            self.refuse(end, CloseCode::REFUSED, "the relay does not know this kind of channel");
        } else if let Some(text) =
            grant.and_then(|grant| grant.forbids_connect(&request.server_id, request.port))
        {
            self.refuse(end, CloseCode::BAD_CREDENTIAL, text);
        } else if self.is_full() {
            self.refuse(end, CloseCode::TRY_AGAIN_LATER, "the relay holds as much as it may for others");
        } else if !self.is_in_pace(link, &request.server_id, now) {
            self.refuse(end, CloseCode::TRY_AGAIN_LATER, "too many connections are opened in a short time");
        } else if let Some(&server) = self.registrations.get(&request.server_id) {
            self.offer(end, server, request);
        } else if is_forwarded {
            self.refuse(end, CloseCode::SERVER_NOT_FOUND, "the server has left this relay");
        } else {
            self.wait(link, end, request, now);
        }
        Ok(())
    }

    /// Returns whether the link, and all links together to that server, may open one more channel now.
    fn is_in_pace(&mut self, link: LinkId, server_id: &ServerId, now: Instant) -> bool {
        let (rate, server_rate) = (self.config.connect_rate, self.config.server_connect_rate);
        let client = self.links.get_mut(link.0).filter(|state| state.node.is_none());
        let client = client.map(|state| &mut state.connects);
        if client.is_some_and(|pace| !pace.allows(rate, CONNECT_BURST, now)) {
            return false;
        }
        let server = self.registrations.get(server_id).and_then(|server| self.links.get_mut(server.0));
        server.is_none_or(|state| state.connected.allows(server_rate, SERVER_CONNECT_BURST, now))
    }

    /// Refuses a channel without keeping anything about it.
    fn refuse_unseen(&mut self, link: LinkId, channel: ChannelId) -> Result<(), Violation> {
        let (code, max) = (CloseCode::TRY_AGAIN_LATER, self.config.max_channels);
        let close = Frame::Close { channel, code, reason: format!("the link has {max} channels, its limit") };
        if !self.control(link, Transmit::Binary(close.encode()), MAX_REFUSALS) {
            let text = format!("CONNECT on {channel}: the limit of {max} channels was ignored for too long");
            return Err(Violation { code: CloseCode::POLICY, text });
        }
        self.refused(link, code);
        Ok(())
    }

    /// Offers a client's channel to the server, or refuses it.
    pub(super) fn offer(&mut self, client: EndKey, server: LinkId, request: Request) {
        if let Err((code, reason)) = self.try_offer(client, server, request) {
            self.refuse(client, code, reason);
        }
    }

    fn try_offer(
        &mut self,
        client: EndKey,
        server: LinkId,
        request: Request,
    ) -> Result<(), (CloseCode, &'static str)> {
        const GONE: (CloseCode, &str) = (CloseCode::PEER_GONE, "the server is gone");
        let client_end = self.ends.get(client).ok_or(GONE)?;
        let client_link = self.links.get(client_end.link.0).ok_or(GONE)?;
        let address = request.address.unwrap_or_else(|| client_link.peer.address.clone());
        let client_dialect = client_end.dialect;
        let state = self.links.get(server.0).ok_or(GONE)?;
        let dialect = state.peer.dialect;
        let number = state.last_incoming.0.checked_add(2);
        let leads_to_owner = state.leads_to_owner();
        let max_incoming = match (leads_to_owner, &self.config.cluster) {
            (true, Some(cluster)) => cluster.max_node_channels,
            _ => self.config.max_incoming,
        };
        let (Some(number), true) = (number, state.incoming < max_incoming) else {
            return Err((CloseCode::TRY_AGAIN_LATER, "the server has too many channels"));
        };
        if dialect == Dialect::Livecode && request.kind == ChannelKind::Session {
            return Err((
                CloseCode::REFUSED,
                "the server speaks the livecode dialect: connect as a plain peer",
            ));
        }
        let (id, server_id) = (ChannelId(number), request.server_id);
        let mut max_len = self.config.max_frame as usize;
        let offer = match dialect {
            Dialect::Tunnel if leads_to_owner => {
                let Request { port, kind, payload, .. } = request;
                max_len += FORWARD_OVERHEAD;
                let channel = ChannelId(number - 1);
                let forward = NodeFrame::Forward { channel, server_id, port, kind, address, payload };
                Transmit::Binary(forward.encode())
            }
            Dialect::Tunnel => {
                let Request { port, kind, payload, .. } = request;
                Transmit::Binary(Frame::Incoming { channel: id, port, kind, address, payload }.encode())
            }
            Dialect::Livecode => {
                let connected =
                    Notification::Connected { channel: number, port: request.port, address: &address };
                Transmit::Text(connected.encode(DELIMITER))
            }
        };
        let cost = ledger::cost(offer.len());
        if offer.len() > max_len {
            return Err((CloseCode::TOO_BIG, "CONNECT's payload is too long to be forwarded"));
        }
        if !self.has_room(server, cost) {
            return Err((CloseCode::TRY_AGAIN_LATER, "the relay's buffer is full"));
        }
        let end = self.add_end(server, id, EndStage::Connecting { other: client });
        if let Some(client) = self.ends.get_mut(client) {
            client.stage = EndStage::Connecting { other: end };
        }
        self.enqueue(end, offer);
        self.totals.spliced_out += u64::from(leads_to_owner);
        if dialect == Dialect::Livecode {
            // A server of the livecode dialect is not asked.
            self.seat_client(server, id, server_id);
            self.opened(end, client);
            if client_dialect == Dialect::Tunnel
                && let Some(client_end) = self.ends.get(client)
            {
                let accept = Frame::Accept { channel: client_end.id, payload: Bytes::new() };
                self.enqueue(client, Transmit::Binary(accept.encode()));
            }
        }
        Ok(())
    }

    /// Takes in a frame that is forwarded as it is but for its channel.
    fn handle_payload(
        &mut self,
        link: LinkId,
        kind: u8,
        channel: ChannelId,
        mut message: BytesMut,
    ) -> Result<(), Violation> {
        let name = if kind == DATA { "DATA" } else { "ACCEPT" };
        let Some(state) = self.links.get(link.0) else { return Ok(()) };
        if state.stage != Stage::Ready {
            let first = if state.node.is_some() { "the proof" } else { "HELLO" };
            return Err(Violation::new(format!("{name} before {first}")));
        }
        let channel = state.local_id(channel);
        let side = state.node.as_ref().map(|node| node.leads_to_owner());
        let Some(&from) = state.channels.get(&channel) else {
            return self.ignore_if_used(link, channel, name);
        };
        let Some(end) = self.ends.get(from) else { return Ok(()) };
        let to = match (end.stage, kind) {
            (EndStage::Open { other }, DATA) => other,
            (EndStage::Connecting { other }, ACCEPT) if !is_opened_by_peer(channel) => {
                self.opened(from, other);
                other
            }
            // The other peer has closed the channel, and this one did not know yet.
            (EndStage::Closing, _) => return Ok(()),
            (EndStage::Waiting(_) | EndStage::Connecting { .. }, _) => {
                return Err(Violation::new(format!("{name} on {channel}, which is not accepted yet")));
            }
            (EndStage::Open { .. }, _) => {
                return Err(Violation::new(format!("{name} on {channel}, which is accepted already")));
            }
        };
        let Some(receiver) = self.ends.get(to) else { return Ok(()) };
        self.totals.frames += 1;
        self.totals.bytes += message.len() as u64;
        match side {
            Some(true) => self.totals.frames_from_owners += 1,
            Some(false) => self.totals.frames_from_entries += 1,
            None => {}
        }
        if receiver.dialect == Dialect::Livecode {
            if kind == DATA {
                self.forward_payload_as_text(from, to, &message[HEADER_LEN..]);
            }
            return Ok(());
        }
        restamp(&mut message, receiver.wire_id());
        self.forward(from, to, Transmit::Binary(message.freeze()));
        Ok(())
    }

    /// Notes that a server accepted a client's channel.
    fn opened(&mut self, server: EndKey, client: EndKey) {
        self.totals.channels_opened += 1;
        for (end, other) in [(server, client), (client, server)] {
            if let Some(end) = self.ends.get_mut(end) {
                end.stage = EndStage::Open { other };
            }
        }
        self.let_go(server);
        if let (Some(client), Some(server)) = (self.ends.get(client), self.ends.get(server)) {
            self.events.push_back(Event::Opened { client: client.link, server: server.link });
        }
    }

    pub(super) fn close(
        &mut self,
        link: LinkId,
        channel: ChannelId,
        code: CloseCode,
        reason: &str,
    ) -> Result<(), Violation> {
        match self.links.get(link.0).and_then(|state| state.channels.get(&channel)) {
            Some(&end) => {
                self.abandon(end, code, reason);
                Ok(())
            }
            None => self.ignore_if_used(link, channel, "CLOSE"),
        }
    }

    /// A frame for a channel that was closed meanwhile is a race; one for a channel that never was is not.
    pub(super) fn ignore_if_used(
        &self,
        link: LinkId,
        channel: ChannelId,
        frame: &str,
    ) -> Result<(), Violation> {
        match self.links.get(link.0) {
            Some(state) if !state.has_used(channel) || channel == ChannelId::LINK => {
                Err(Violation::new(format!("{frame} on {channel}, which was never opened")))
            }
            _ => Ok(()),
        }
    }
}
