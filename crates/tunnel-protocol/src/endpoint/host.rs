//! The server that this endpoint hosts: its registration, and the clients that want in or back in.
//!
//! The [`Host`] has the server's key and its standing with the relay. The endpoint asks it about what the relay says, and
//! makes a [`ServerSide`] for each client that it finds to be new.

mod eviction;
mod incoming;
mod replay;

use super::carrier::Carrier;
use super::links::is_lasting;
use super::server::{Arrival, ServerSide, refusal};
use super::socket::{Incoming, Path, Side, Socket, prologue};
use super::{Endpoint, Event, LinkId, SocketId};
use crate::codec::DecodeError;
use crate::frame::ChannelKind;
use crate::handshake::{HandshakeError, Responder};
use crate::identity::{DhError, StaticKey};
use crate::ledger::Owner;
use crate::link::LinkError;
use crate::server_id::PublicKey;
use crate::session::{Open, Session, SessionId};
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
pub(super) use incoming::FirstMessage;
use incoming::WaitingMessage;
use replay::Replays;

/// The server's identity and its standing with the relay.
#[derive(Debug)]
pub(super) struct Host {
    key: StaticKey,
    /// REGISTER is out on the link that there is now.
    registered: bool,
    /// The relay has answered it.
    confirmed: bool,
    /// The ID under which it was registered first. It never changes.
    server_id: Option<ServerId>,
    closing: bool,
    /// Its number at a livecoding relay, and the credential that gets it back.
    installation: String,
    /// Handshakes that wait for the key.
    waiting: Vec<WaitingMessage>,
    replays: Replays,
}

/// The consequence for a server whose link is gone.
enum LostLink {
    /// It is no longer hosted.
    Close,
    /// It was registered, and will be again.
    Interrupt,
    /// It had not been registered on this link. It is when there is another.
    Wait,
}

impl Host {
    /// Returns whether it was never registered.
    pub(super) const fn is_new(&self) -> bool {
        self.server_id.is_none()
    }

    fn new(key: StaticKey) -> Self {
        Self {
            key,
            registered: false,
            confirmed: false,
            server_id: None,
            closing: false,
            installation: String::new(),
            waiting: Vec::new(),
            replays: Replays::default(),
        }
    }

    /// Returns whether it is registered under the ID of its key, or was.
    pub(super) const fn has_key_for_id(&self) -> bool {
        matches!(self.server_id, Some(ServerId::Key(_)))
    }

    /// Returns whether new clients may come in, and old ones come back.
    pub(super) const fn is_open(&self) -> bool {
        !self.closing
    }

    /// Returns whether the relay has it registered, as far as is known.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// The public half of its key.
    pub(super) const fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Proves to the relay whose server this is, unless it has been done on this link. Returns the public key that the
    /// server's own has to be asked about first.
    fn register(&mut self, carrier: &mut Carrier, relay_url: &str) -> Result<Option<PublicKey>, LinkError> {
        if self.registered || self.closing || !carrier.is_ready() {
            return Ok(None);
        }
        match carrier {
            Carrier::Tunnel(link) => match link.register(&self.key, relay_url) {
                Ok(()) => {}
                Err(DhError::Pending(theirs)) => return Ok(Some(theirs)),
                // The relay's challenge is none, and gets no proof. On a link without a server there would be silence.
                Err(DhError::LowOrder) => {
                    return Err(LinkError::Malformed(DecodeError::InvalidValue { field: "challenge" }));
                }
            },
            Carrier::Livecode(link) => link.register(self.key.public(), &self.installation),
            Carrier::Foreign { .. } => return Ok(None),
        }
        self.registered = true;
        Ok(None)
    }

    /// The relay has registered the server under this ID.
    fn handle_registered(&mut self, server_id: ServerId) -> Result<Event, LinkError> {
        let before = self.server_id.replace(server_id);
        // Clients know the server by its first ID.
        if before.is_some_and(|first| first != server_id) {
            return Err(LinkError::WrongServerId);
        }
        self.confirmed = true;
        Ok(Event::Hosting { server_id, again: before.is_some() })
    }

    /// The server's link is gone.
    fn handle_link_lost(&mut self, code: CloseCode) -> LostLink {
        let was_registered = std::mem::replace(&mut self.registered, false);
        self.confirmed = false;
        self.waiting.clear();
        let is_final = matches!(code, CloseCode::ID_TAKEN_OVER | CloseCode::POLICY | CloseCode::REFUSED)
            || is_lasting(code);
        if is_final || self.server_id.is_none() || self.closing {
            LostLink::Close
        } else if was_registered {
            LostLink::Interrupt
        } else {
            LostLink::Wait
        }
    }
}

impl Endpoint {
    /// Registers a server under `key`, now and whenever the link has to be built again.
    pub fn host(&mut self, key: StaticKey, now: Instant) {
        self.idle_until = Instant::NEVER;
        self.host = Some(Host::new(key));
        self.dial_if_wanted(now);
        self.register(now);
    }

    /// Stops hosting: its sockets are closed in order with 1001, new clients are refused, and when the last socket is
    /// gone, [`Event::HostClosed`] comes. Without a server it does nothing.
    pub fn unhost(&mut self, now: Instant) {
        let Some(host) = &mut self.host else { return };
        host.closing = true;
        self.for_each_served(now, ServerSide::leave);
        self.finish_host(now);
    }

    /// The last step of [`unhost`](Self::unhost): the server ends with its last socket.
    pub(super) fn finish_host(&mut self, now: Instant) {
        let closing = self.host.as_ref().is_some_and(|host| host.closing);
        if closing && !self.sockets.values().any(|entry| matches!(entry.side, Side::Server(_))) {
            self.host = None;
            self.events.push_back(Event::HostClosed { code: CloseCode::NORMAL, reason: String::new() });
        }
        self.rest(now);
        if closing && self.is_idle() {
            // A registration lasts as long as its link.
            self.idle_until = now;
        }
    }

    /// Answers [`Event::Incoming`], once: let the client in, with one of the subprotocols that it offered, or none.
    /// [`Event::Opened`] or [`Event::Closed`] follows, unless the client has gone already.
    pub fn accept(&mut self, socket: SocketId, protocol: &str, now: Instant) {
        self.step_served(socket, now, |served, socket, cx| served.accept(protocol, socket, cx));
    }

    /// Answers [`Event::Incoming`], once: turn the client away. No [`Event::Closed`] follows.
    pub fn refuse(&mut self, socket: SocketId, code: CloseCode, reason: &str, now: Instant) {
        self.host_counts.refused += u64::from(self.sockets.get(socket).is_some());
        self.step_served(socket, now, |served, socket, cx| served.refuse(code, reason, socket, cx));
    }

    /// Registers the server, if there is one and a link on which it is not registered.
    pub(super) fn register(&mut self, now: Instant) {
        let (Some(host), Some(main)) = (&mut self.host, self.main) else { return };
        let Some(carrier) = self.links.get_mut(main) else { return };
        let ours = host.public();
        match host.register(carrier, &self.config.relay_url) {
            Ok(None) => {}
            Ok(Some(theirs)) => self.ask(ours, theirs),
            Err(error) => self.end_link(main, &error, now),
        }
    }

    /// The server's key has given an answer: to the relay's challenge, or to handshakes.
    pub(super) fn answer_host(&mut self, theirs: PublicKey, shared: [u8; 32], now: Instant) {
        if let Some(host) = &mut self.host {
            host.key.answer(theirs, shared);
        }
        self.register(now);
        if let Some(host) = &mut self.host {
            host.key.forget_answers();
        }
        self.retry_waiting(theirs, shared, now);
    }

    pub(super) fn handle_registered(&mut self, link: LinkId, server_id: ServerId, now: Instant) {
        // The server may have been closed while the relay answered.
        let Some(host) = &mut self.host else { return };
        if let Some(Carrier::Livecode(link)) = self.links.get(link) {
            host.installation = link.installation();
        }
        match host.handle_registered(server_id) {
            Ok(event) => self.events.push_back(event),
            Err(error) => self.end_link(link, &error, now),
        }
    }

    /// The server's link is gone.
    pub(super) fn lose_host_link(&mut self, code: CloseCode, reason: &str, now: Instant) {
        match self.host.as_mut().map(|host| host.handle_link_lost(code)) {
            Some(LostLink::Close) => self.close_host(code, reason, now),
            Some(LostLink::Interrupt) => {
                self.host_counts.interruptions += 1;
                self.events.push_back(Event::HostInterrupted);
            }
            Some(LostLink::Wait) | None => {}
        }
    }

    /// Stops hosting at once. Clients that are away can't come back: their sockets end, too.
    pub(super) fn close_host(&mut self, code: CloseCode, reason: &str, now: Instant) {
        if self.host.take().is_none() {
            return;
        }
        self.events.push_back(Event::HostClosed { code, reason: reason.to_owned() });
        for socket in self.sockets.keys() {
            self.step_served(socket, now, |_, socket, _| {
                if socket.is_interrupted() {
                    socket.session.give_up(code, reason);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
