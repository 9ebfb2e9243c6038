//! The steps of sockets' machines: what a machine is handed, and what the endpoint does afterwards.

use super::action::{Action, Context};
use super::carrier::Carrier;
use super::client::ClientSide;
use super::host::Host;
use super::server::ServerSide;
use super::socket::{Entry, LINGER, Path, Side, Socket};
use super::{Endpoint, Event, SocketId};
use crate::frame::ChannelKind;
use crate::session::SessionEvent;
use crate::{CloseCode, Instant};

impl Endpoint {
    /// Has the machine of a client's socket take a step, then does what it asks for.
    ///
    /// An input for a socket may find that it has gone, or that it is one of the other side. That is no error here:
    /// the socket's end crosses with what the relay, the application and the keys say, and a relay may lie about a channel.
    pub(super) fn step_client(
        &mut self,
        id: SocketId,
        now: Instant,
        step: impl FnOnce(&mut ClientSide, &mut Socket, &mut Context<'_>),
    ) {
        self.step(id, now, |entry, cx| {
            if let Side::Client(client) = &mut entry.side {
                step(client, &mut entry.socket, cx);
            }
        });
    }

    /// The same for the socket of a client of this endpoint's server.
    pub(super) fn step_served(
        &mut self,
        id: SocketId,
        now: Instant,
        step: impl FnOnce(&mut ServerSide, &mut Socket, &mut Context<'_>),
    ) {
        self.step(id, now, |entry, cx| {
            if let Side::Server(served) = &mut entry.side {
                step(served, &mut entry.socket, cx);
            }
        });
    }

    /// Has an entry take a step, then does what its machine asked for.
    pub(super) fn step(
        &mut self,
        id: SocketId,
        now: Instant,
        step: impl FnOnce(&mut Entry, &mut Context<'_>),
    ) {
        let Some(entry) = self.sockets.get_mut(id) else { return };
        let mut cx = Context {
            now,
            epoch: self.epoch,
            keys: &mut self.keys,
            links: &self.links,
            main: self.main,
            is_livecode: self.is_livecode,
            is_hosting: self.host.as_ref().is_some_and(Host::is_open),
            actions: Vec::new(),
        };
        step(entry, &mut cx);
        let actions = cx.actions;
        self.perform(id, actions, now);
        self.touch(id, now);
    }

    /// The same for each socket of a client of this endpoint's server.
    pub(super) fn for_each_served(
        &mut self,
        now: Instant,
        step: fn(&mut ServerSide, &mut Socket, &mut Context<'_>),
    ) {
        for socket in self.sockets.keys() {
            self.step_served(socket, now, step);
        }
    }

    /// Has the machine of each client's socket that is there now take a step.
    pub(super) fn for_each_client(
        &mut self,
        now: Instant,
        step: fn(&mut ClientSide, &mut Socket, &mut Context<'_>),
    ) {
        for socket in self.sockets.keys() {
            self.step_client(socket, now, step);
        }
    }

    /// Does what a socket's machine asked for.
    fn perform(&mut self, id: SocketId, actions: Vec<Action>, now: Instant) {
        for action in actions {
            match action {
                Action::Tell(event) => {
                    if matches!(event, Event::Opened { .. }) {
                        self.count_opened(id);
                    }
                    self.events.push_back(event);
                }
                Action::Dial => self.dial_if_wanted(now),
                Action::DialOwnLink => {
                    let link = self.dial(now);
                    if let Some(entry) = self.sockets.get_mut(id) {
                        entry.socket.own_link = Some(link);
                    }
                }
                Action::Ask { ours, theirs } => self.ask(ours, theirs),
                Action::Connect { link, server, port, handshake, give_up_at } => {
                    if let Some(Carrier::Tunnel(carrier)) = self.links.get_mut(link) {
                        let kind = ChannelKind::Session;
                        let channel = carrier.connect(server, port, kind, handshake.message);
                        let path = Path { link, channel };
                        self.by_path.insert(path, id);
                        self.report(id, |client| {
                            client.handle_connecting(path, handshake.initiator, give_up_at);
                        });
                    }
                }
                Action::ConnectByNumber { link, number, port } => {
                    if let Some(Carrier::Livecode(carrier)) = self.links.get_mut(link) {
                        let path = Path { link, channel: carrier.connect(number, port) };
                        self.by_path.insert(path, id);
                        self.report(id, |client| client.handle_asking(path, now));
                    }
                }
                Action::Initiate { path, message } => {
                    if let Some(Carrier::Livecode(carrier)) = self.links.get_mut(path.link) {
                        carrier.initiate(path.channel, message);
                    }
                }
                Action::Route(path) => {
                    self.by_path.insert(path, id);
                }
                Action::Accept { path, message } => {
                    if let Some(link) = self.links.get_mut(path.link) {
                        link.accept(path.channel, message);
                    }
                }
                Action::AcceptPlain(path) => {
                    if let Some(link) = self.links.get_mut(path.link) {
                        link.accept_plain(path.channel);
                    }
                }
                Action::CloseOtherPaths => self.close_other_paths(id),
                Action::EvictAway => self.evict_away(now),
                Action::Close { path, code, reason } => self.close_path(path, code, &reason),
                Action::Remove => self.remove(id, now),
            }
        }
    }

    /// Tells a client's machine what came of an action of its own.
    fn report(&mut self, id: SocketId, what: impl FnOnce(&mut ClientSide)) {
        match self.sockets.get_mut(id).map(|entry| &mut entry.side) {
            Some(Side::Client(client)) => what(client),
            _ => debug_assert!(
                false,
                "only a client connects, and it is there while its actions are performed"
            ),
        }
    }

    /// After anything that may have changed a socket: passes on its events, sets its timer, gives it its turn to send
    /// and forgets it when it is finished.
    pub(super) fn touch(&mut self, socket: SocketId, now: Instant) {
        let Some(entry) = self.sockets.get_mut(socket) else { return };
        while let Some(event) = entry.socket.session.poll_event() {
            let event = match event {
                SessionEvent::Message(message) => Event::Message { socket, message },
                SessionEvent::Closed(closed) if entry.socket.reopens_after(closed.code) => {
                    return self.step_client(socket, now, ClientSide::reopen);
                }
                SessionEvent::Closed(closed) => {
                    if let Some(messages) = entry.socket.leftover() {
                        self.events.push_back(Event::Unacknowledged { socket, messages });
                    }
                    entry.socket.lingers_until = now + LINGER;
                    Event::Closed {
                        socket,
                        code: closed.code,
                        reason: closed.reason,
                        was_clean: closed.was_clean && entry.socket.opened,
                        failed: !entry.socket.opened,
                        stats: entry.socket.session.stats(),
                    }
                }
            };
            self.events.push_back(event);
        }
        let has_path = entry.socket.path.is_some();
        if entry.socket.session.is_finished()
            || entry.socket.session.has_ended() && !has_path && !entry.socket.session.may_linger()
        {
            self.remove(socket, now);
            return;
        }
        let timer = entry.poll_timeout(now);
        if timer != entry.socket.timer {
            self.timers.remove(&(entry.socket.timer, socket));
            entry.socket.timer = timer;
            if timer < Instant::NEVER {
                self.timers.insert((timer, socket));
            }
        }
        if has_path && entry.socket.session.has_record(now) {
            self.mark_ready(socket);
        }
    }

    /// Forgets a socket and gives its channels back.
    pub(super) fn remove(&mut self, socket: SocketId, now: Instant) {
        let Some(mut entry) = self.sockets.remove(socket) else { return };
        self.share_out();
        if !entry.socket.session.has_ended() {
            if let Some(messages) = entry.socket.leftover() {
                self.events.push_back(Event::Unacknowledged { socket, messages });
            }
            self.events.push_back(Event::Closed {
                socket,
                code: CloseCode::ABNORMAL,
                reason: "the peer has gone".to_owned(),
                was_clean: false,
                failed: !entry.socket.opened,
                stats: entry.socket.session.stats(),
            });
        }
        self.timers.remove(&(entry.socket.timer, socket));
        self.close_other_paths(socket);
        if let Some(link) = entry.socket.own_link {
            self.parting.insert(link);
        }
        if let Side::Server(served) = &entry.side {
            self.by_session.remove(&(served.key, served.session_id));
        }
        self.finish_host(now);
    }
}
