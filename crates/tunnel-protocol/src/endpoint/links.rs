//! The WebSockets to the relay: dialling, what arrives, and what becomes of the sockets on one that is lost.

use super::carrier::Carrier;
use super::client::ClientSide;
use super::host::{FirstMessage, Host};
use super::socket::{Entry, Path, Side};
use super::{Endpoint, Event, LinkId, LinkMessage, SocketId, Translator};
use crate::link::{Link, LinkError, LinkEvent};
use crate::sorted::SortedSet;
use crate::trace::event;
use crate::{CloseCode, Instant};

impl Endpoint {
    /// Something changed that a link may not have survived (the page was shown again, the network is back): checks
    /// the link and dials at once if there is none.
    pub fn probe(&mut self, now: Instant) {
        for link in self.links.values_mut() {
            link.probe(now);
        }
        self.redial.hurry(now);
        self.for_each_client(now, ClientSide::hurry);
        self.dial_if_wanted(now);
    }

    /// Tells the access token for a WebSocket that was asked for, where [`Config::token`](super::Config::token) can't have it:
    /// before the WebSocket is opened, which has its time from `now` on. Returns whether it is still wanted.
    pub fn set_token(&mut self, id: LinkId, token: &str, now: Instant) -> bool {
        match self.links.get_mut(id) {
            Some(Carrier::Tunnel(link)) => link.set_token(token, now),
            Some(_) => {}
            None => return false,
        }
        true
    }

    /// Returns whether something ends because this WebSocket could not be opened, so that its owner should find out why and
    /// tell [`handle_link_failed`](Self::handle_link_failed).
    #[must_use]
    pub fn ends_with(&self, id: LinkId) -> bool {
        let Some(link) = self.links.get(id) else { return false };
        let is_new = |entry: &Entry| !entry.socket.opened && matches!(entry.side, Side::Client(_));
        // One that failed with frames in its handshake is followed by one without at once.
        !link.is_ready()
            && !link.is_offering()
            && (self.host.as_ref().is_some_and(Host::is_new) || self.sockets.values().any(is_new))
    }

    /// A WebSocket could not be opened, and this is known about why, in words: empty for nothing.
    pub fn handle_link_failed(&mut self, id: LinkId, why: &str, now: Instant) {
        let reason = if why.is_empty() {
            String::new()
        } else {
            format!("the relay at {} can't be used: {why}", self.config.relay_url)
        };
        self.handle_link_closed(id, CloseCode::ABNORMAL, &reason, now);
    }

    /// Returns the early frames for the handshake of a WebSocket that was asked for, as [`early`](crate::early) encodes them. The owner
    /// need not ask for it, nor offer it to the relay. It is empty when the last WebSocket could not be opened: something
    /// on the way may take no long headers. One that failed with frames is followed by one without at once.
    pub fn early_frames(&mut self, id: LinkId, now: Instant) -> Vec<u8> {
        if self.redial.was_refused() {
            return Vec::new();
        }
        if self.main == Some(id) {
            self.connect_early(id, now);
        }
        match self.links.get_mut(id) {
            Some(Carrier::Tunnel(link)) => link.early_frames(),
            _ => Vec::new(),
        }
    }

    /// A WebSocket that was asked for is open; `greeted` if the relay has taken the
    /// [early frames](Self::early_frames).
    pub fn handle_link_opened(&mut self, id: LinkId, greeted: bool, now: Instant) {
        if let Some(link) = self.links.get_mut(id) {
            link.open(greeted, now);
        }
        if self.main == Some(id) {
            self.connect_early(id, now);
        }
    }

    /// Takes in one message of a WebSocket.
    pub fn handle_message(&mut self, id: LinkId, message: LinkMessage, now: Instant) {
        let Some(link) = self.links.get_mut(id) else { return };
        let was_foreign = link.is_foreign();
        let mut result = link.handle_message(message, now);
        if link.is_foreign() && !was_foreign {
            result = self.allow_livecode();
            if result.is_ok() {
                self.events.push_back(Event::Livecode { link: id });
            }
        }
        self.handle_link_events(id, now);
        if let Err(error) = result {
            self.end_link(id, &error, now);
        }
    }

    /// Checks that the relay may go on in the livecode dialect. The application decides that, not the relay: in the dialect, a
    /// server is a number, and whoever the relay likes can answer for it.
    fn allow_livecode(&self) -> Result<(), LinkError> {
        let hosts_under_key = self.host.as_ref().is_some_and(Host::has_key_for_id);
        let reason = match (self.config.livecode, hosts_under_key) {
            (true, false) => return Ok(()),
            (true, true) => "the relay speaks the livecode dialect now, which would change this server's ID",
            (false, _) => "the relay speaks the livecode dialect: allow it by { livecode: true }",
        };
        Err(LinkError::UnwantedDialect { reason })
    }

    /// Takes in the answer to [`Event::Livecode`]: who speaks the dialect on that WebSocket.
    pub fn speak_livecode(&mut self, id: LinkId, translator: Box<dyn Translator>, now: Instant) {
        let Some(link) = self.links.get_mut(id) else { return };
        let unread = link.speak(translator);
        self.handle_link_events(id, now);
        for text in unread {
            self.handle_message(id, LinkMessage::Text(text), now);
        }
    }

    /// A WebSocket is closed, or could not be opened.
    pub fn handle_link_closed(&mut self, id: LinkId, code: CloseCode, reason: &str, now: Instant) {
        if self.main == Some(id) && self.links.get(id).is_some_and(Carrier::is_offering) {
            self.take_back_early(id);
            self.links.remove(id);
            self.main = None;
            self.redial.fail_at_once(now);
            return self.dial_if_wanted(now);
        }
        if !reason.is_empty() {
            return self.lose_link(id, code, reason, now);
        }
        let reason = match self.links.get(id) {
            Some(link) if link.is_ready() => "the connection to the relay was lost".to_owned(),
            _ => format!(
                "no relay answers at {}: is it running, in reach, and does it know that name (its setting `hosts`)?",
                self.config.relay_url
            ),
        };
        self.lose_link(id, code, &reason, now);
    }

    /// Has clients connect on the shared link before the relay has answered HELLO.
    fn connect_early(&mut self, link: LinkId, now: Instant) {
        let is_for_livecode =
            |entry: &Entry| matches!(&entry.side, Side::Client(client) if client.wants_livecode());
        // A relay of the livecode dialect would answer each frame in words.
        let waits = self.is_livecode || self.sockets.values().any(is_for_livecode);
        for socket in self.sockets.keys() {
            self.step_client(socket, now, |client, socket, cx| {
                client.restart_patience(link, cx.now);
                if !waits {
                    client.connect_early(link, socket, cx);
                }
            });
        }
    }

    /// Has clients forget what they sent early on this link: it came to nothing.
    fn take_back_early(&mut self, link: LinkId) {
        for entry in self.sockets.values_mut() {
            if let Side::Client(client) = &mut entry.side
                && let Some(path) = client.take_back_early(link)
            {
                self.by_path.remove(&path);
            }
        }
    }

    fn handle_link_events(&mut self, id: LinkId, now: Instant) {
        while let Some(event) = self.links.get_mut(id).and_then(Carrier::poll_event) {
            match event {
                LinkEvent::Ready => self.handle_link_ready(id, now),
                LinkEvent::Registered(server_id) => self.handle_registered(id, server_id, now),
                LinkEvent::Incoming { channel, port, kind, address, payload } => {
                    let path = Path { link: id, channel };
                    self.handle_incoming(FirstMessage { path, port, kind, address, payload }, now);
                }
                LinkEvent::ServerKey { channel, key } => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.step_client(socket, now, |client, socket, cx| {
                            client.handle_server_key(key, socket, cx);
                        });
                    }
                }
                LinkEvent::Accepted { channel, payload } => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.step_client(socket, now, |client, socket, cx| {
                            client.handle_accepted(payload, socket, cx);
                        });
                    }
                }
                LinkEvent::Data { channel, payload } => {
                    let path = Path { link: id, channel };
                    if let Some(&socket) = self.by_path.get(&path) {
                        self.step(socket, now, |entry, cx| entry.handle_data(path, payload, cx));
                    }
                }
                LinkEvent::Closed { channel, code, reason } => {
                    let path = Path { link: id, channel };
                    if let Some(socket) = self.by_path.remove(&path) {
                        self.step(socket, now, |entry, cx| {
                            entry.handle_channel_closed(path, code, &reason, cx);
                        });
                    }
                }
                LinkEvent::Writable(channel) => {
                    if let Some(&socket) = self.by_path.get(&Path { link: id, channel }) {
                        self.mark_ready(socket);
                    }
                }
                LinkEvent::GoAway { .. } => {
                    event!(DEBUG, link = id.0, "the relay is about to end");
                    self.leave_draining(id, now);
                }
            }
        }
    }

    fn handle_link_ready(&mut self, id: LinkId, now: Instant) {
        event!(DEBUG, link = id.0, "the relay has answered");
        self.redial.succeed(now);
        self.is_livecode = self.links.get(id).is_some_and(Carrier::is_livecode);
        if self.is_livecode {
            self.take_back_early(id);
        }
        if self.is_livecode && self.main == Some(id) && self.host.is_none() {
            // Each client needs a link of its own: the first gets this one.
            self.main = None;
            if let Some(first) = self.sockets.values_mut().find(|entry| entry.wants_path()) {
                first.socket.own_link = Some(id);
            } else {
                self.hang_up(id, CloseCode::NORMAL, "nothing needs it");
            }
        } else if !self.is_livecode && self.main != Some(id) {
            // The relay was restarted and now speaks tunnel.v1, where one link serves all sockets.
            self.take_link(id);
            if self.main.is_none() {
                self.main = Some(id);
            } else {
                self.hang_up(id, CloseCode::NORMAL, "one link is enough");
            }
        }
        self.register(now);
        self.for_each_client(now, ClientSide::advance);
    }

    pub(super) fn end_link(&mut self, id: LinkId, error: &LinkError, now: Instant) {
        let reason = error.to_string();
        event!(WARN, link = id.0, reason, "this peer ends the link");
        self.events.push_back(Event::HangUp { link: id, code: error.code(), reason: reason.clone() });
        if *error == LinkError::WrongServerId {
            self.close_host(error.code(), &reason, now);
        }
        self.lose_link(id, error.code(), &reason, now);
    }

    /// Closes a link that carries nothing.
    pub(super) fn hang_up(&mut self, id: LinkId, code: CloseCode, reason: &str) {
        if self.links.remove(id).is_some() {
            self.events.push_back(Event::HangUp { link: id, code, reason: reason.to_owned() });
        }
    }

    /// Makes a link that served one socket alone nobody's own; returns that socket.
    fn take_link(&mut self, id: LinkId) -> Option<SocketId> {
        let (socket, entry) = self.sockets.iter_mut().find(|(_, entry)| entry.socket.own_link == Some(id))?;
        entry.socket.own_link = None;
        Some(socket)
    }

    pub(super) fn lose_link(&mut self, id: LinkId, code: CloseCode, reason: &str, now: Instant) {
        if self.links.get(id).is_some_and(Carrier::is_dialling) {
            self.take_back_early(id);
        }
        let Some(link) = self.links.remove(id) else { return };
        event!(DEBUG, link = id.0, %code, reason, "the link is lost");
        let was_ready = link.is_ready();
        let told = matches!(code, CloseCode::REFUSED | CloseCode::BAD_CREDENTIAL | CloseCode::LIVECODE_RELAY);
        let code = if was_ready || told { code } else { CloseCode::RELAY_UNREACHABLE };
        let owner = self.take_link(id);
        let was_shared = self.main == Some(id) && !self.is_livecode;
        if self.main == Some(id) {
            self.main = None;
            self.redial.fail(was_ready, self.keys.entropy.u64(), now);
            event!(
                DEBUG,
                wait_us = (self.redial.at() - now).as_micros() as u64,
                "back-off before the next dial"
            );
            self.lose_host_link(code, reason, now);
        }
        let mut on_it = SortedSet::new();
        self.by_path.retain(|path, socket| {
            let lost = path.link == id;
            if lost {
                on_it.insert(*socket);
            }
            !lost
        });
        for socket in self.sockets.keys() {
            let Some(entry) = self.sockets.get_mut(socket) else { continue };
            let on_it = on_it.contains(&socket);
            // A socket that waits for a first link fails with it; one that has been open goes on waiting, unless the next try would
            // find the same.
            let may_fail = !entry.socket.opened || is_lasting(code);
            let waits_for_it = may_fail && (owner == Some(socket) || owner.is_none() && entry.wants_path());
            match &mut entry.side {
                Side::Server(served) if on_it => served.forget_unconfirmed(),
                Side::Client(client) if was_shared => client.forget_absence(),
                _ => {}
            }
            if on_it || waits_for_it {
                self.step(socket, now, |entry, cx| entry.lose_path(code, reason, cx));
            }
            self.touch(socket, now);
        }
        self.dial_if_wanted(now);
    }

    pub(super) fn dial_if_wanted(&mut self, now: Instant) {
        if self.main.is_none() && self.wants_link() && self.redial.is_due(now) {
            self.main = Some(self.dial(now));
        }
    }

    pub(super) fn dial(&mut self, now: Instant) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, Carrier::Tunnel(Link::new(&self.config.token, now)));
        self.events.push_back(Event::Dial { link });
        link
    }

    pub(super) fn wants_link(&self) -> bool {
        self.host.is_some() || !self.is_livecode && self.sockets.values().any(|entry| entry.wants_path())
    }

    /// Gives the channels of a socket back, but for the one that it uses now.
    pub(super) fn close_other_paths(&mut self, socket: SocketId) {
        let used = self.sockets.get(socket).and_then(|entry| entry.socket.path);
        let others = self.by_path.iter().filter(|&(path, owner)| *owner == socket && Some(*path) != used);
        for path in others.map(|(path, _)| *path).collect::<Vec<_>>() {
            self.close_path(path, CloseCode::NORMAL, "");
        }
    }

    pub(super) fn close_path(&mut self, path: Path, code: CloseCode, reason: &str) {
        event!(DEBUG, link = path.link.0, channel = path.channel.0, %code, reason, "closing a channel");
        self.by_path.remove(&path);
        if let Some(link) = self.links.get_mut(path.link) {
            link.close(path.channel, code, reason);
        }
    }
}

/// Returns whether a link that ended with this code would end so again: the same access token would be shown, or the same
/// dialect refused.
pub(super) const fn is_lasting(code: CloseCode) -> bool {
    matches!(code, CloseCode::BAD_CREDENTIAL | CloseCode::LIVECODE_RELAY)
}
