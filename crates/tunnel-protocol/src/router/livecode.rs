//! The commands of peers that speak the livecode dialect. Called by `Router::handle_message` and `handle_read_command`.

use super::channel::{EndKey, EndStage};
use super::config::{LivecodeConfig, is_same_secret};
use super::guesses::Guesses;
use super::ledger::cost;
use super::link::{LinkState, Stage, is_opened_by_peer};
use super::waiting::Request as Connect;
use super::{Dialect, Drain, Event, LinkId, Router, Transmit};
use crate::frame::{ChannelId, ChannelKind, Frame};
use crate::livecode::{
    Command, DELIMITER, Instruction, Line, MARKER, MalformedCommand, Notification, Request,
};
use crate::{CloseCode, ServerId};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// The number of servers one link may be; the injected instructions have the same bound.
const MAX_SEATS: usize = 256;

/// The number of bytes of answers a peer may leave unread.
///
/// A page that forwards 10,000 texts in one turn reads none of the answers meanwhile.
const MAX_ANSWERS: usize = 4 << 20;

/// Wrong credentials of configurers that are looked at: the secret is a person's choice.
pub(super) const fn configurer_guesses() -> Guesses {
    Guesses::new(10, Duration::from_secs(10))
}

/// Wrong credentials of servers that are looked at. They are of 256 bits and not to be guessed; but after the relay's
/// restart, all pages behind one address show the ones of before, once.
pub(super) const fn seat_guesses() -> Guesses {
    Guesses::new(2_048, Duration::from_millis(100))
}

/// A livecode peer's text, read.
///
/// Reading takes time by the length of the text, up to a megabyte. An owner that has the router behind a lock reads
/// before it takes the lock and calls [`Router::handle_read_command`].
#[derive(Debug)]
pub struct ReadCommand {
    pub(super) command: Result<Command, MalformedCommand>,
    /// Kept for the answer, which quotes it, or for the engine.
    text: String,
}

impl ReadCommand {
    /// Reads a text.
    #[must_use]
    pub fn read(text: String) -> Self {
        Self { command: Command::parse(&text), text }
    }
}

/// The state of a link of the livecode dialect beside its channels.
#[derive(Debug, Default)]
pub(super) struct LivecodeLink {
    /// The servers that the link is.
    pub(super) seats: BTreeSet<u32>,
    /// The one that its clients are connected to.
    served: BTreeMap<ChannelId, u32>,
    /// Its own channel as a client, and the server at the other end.
    client: Option<(EndKey, ServerId)>,
    /// True if the engine has a command of its.
    pub(super) is_busy: bool,
    /// The length of that command, in bytes.
    pub(super) instructed: usize,
    /// The place among the links whose command waits for the engine; none, or one that is over, if it does not.
    pub(super) held_at: Option<u64>,
    /// True if the engine had one, and so has to be told when the link is gone.
    pub(super) is_instructed: bool,
}

impl LivecodeLink {
    pub(super) fn forget(&mut self, channel: ChannelId, end: EndKey) {
        self.served.remove(&channel);
        self.client.take_if(|(client, _)| *client == end);
    }
}

impl LivecodeConfig {
    /// Returns the credential of the server with an ID: 256 bits that only this relay can compute, so none are kept.
    pub(super) fn server_credential(&self, server: u32) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(b"server credential");
        mac.update(&server.to_be_bytes());
        let mut text = String::with_capacity(64);
        for byte in mac.finalize().into_bytes() {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        text
    }
}

impl Router {
    /// Takes in one text of a livecode peer and answers it.
    pub(super) fn handle_command(&mut self, link: LinkId, read: ReadCommand) {
        self.answer_command(link, read);
        self.give_place_on(link);
    }

    fn answer_command(&mut self, link: LinkId, read: ReadCommand) {
        let ReadCommand { command, mut text } = read;
        if self.is_busy(link) {
            return self.end_link(
                link,
                None,
                CloseCode::POLICY,
                "a command came before the last one was answered",
            );
        }
        let Ok(command) = &command else { return self.say(link, Line::Malformed(&text)) };
        let name = command.name();
        self.say(link, Line::Received(name));
        if self.pass_on(link, command, &mut text) {
            return;
        }
        match command.request() {
            Request::AddInstruction { name: added, .. }
                if self.is_configurer(link, command) && Instruction::named(added).is_some() =>
            {
                self.say(link, Line::Adding(added));
                self.say_answered(link, command, "built in");
            }
            Request::AddInstruction { .. }
            | Request::Eval { .. }
            | Request::Require { .. }
            | Request::Modules
            | Request::Unknown => self.say(link, Line::Rejected(name)),
            request => {
                self.say(link, Line::Evaluating(name));
                let returned = self.run(link, request);
                self.say(link, Line::Returned(&returned));
                self.say_answered(link, command, &returned);
            }
        }
    }

    /// Returns whether a command comes with the relay's credential; from an address that was wrong too often, it does not.
    pub(super) fn is_configurer(&mut self, link: LinkId, command: &Command) -> bool {
        let (Some(config), Some(state)) = (&self.config.livecode, self.links.get(link.0)) else {
            return false;
        };
        let address = &state.peer.address;
        if !self.guesses.may_try(address, self.clock) {
            return false;
        }
        let is_right = match config.namespaces.get(state.peer.namespace()) {
            Some(hash) => command.has_credential_of(hash),
            None => state.peer.namespace().is_empty() && command.has_credential(&config.credential),
        };
        if !is_right {
            self.guesses.note_wrong(address, self.clock);
        }
        is_right
    }

    /// Returns whether a credential is that of a server.
    fn is_server(&mut self, link: LinkId, server: u32, credential: &str) -> bool {
        let (Some(config), Some(state)) = (&self.config.livecode, self.links.get(link.0)) else {
            return false;
        };
        let address = &state.peer.address;
        if !self.seat_guesses.may_try(address, self.clock) {
            return false;
        }
        let is_right = is_same_secret(&config.server_credential(server), credential);
        if !is_right {
            self.seat_guesses.note_wrong(address, self.clock);
        }
        is_right
    }

    /// Runs an instruction of the tunnel and returns its result.
    fn run(&mut self, link: LinkId, request: Request<'_>) -> String {
        let done = match request {
            Request::CreateServerCredential => return self.create_server_credential(link),
            Request::InstallServer { server, credential } => {
                server.is_some_and(|server| self.install(link, server, credential))
            }
            Request::ConnectToServer { server, port } => match (server, port) {
                (Some(server), Some(port)) => self.connect_plain(link, server, port),
                _ => false,
            },
            Request::ForwardToClient { channel, data } => {
                let client = channel.and_then(|channel| self.served_end(link, ChannelId(channel)));
                client.is_some_and(|end| self.forward_text(end, data))
            }
            Request::ForwardToServer { server, data } => {
                let client = self.livecode(link).and_then(|state| state.client);
                client.is_some_and(|(end, id)| server == Some(id) && self.forward_text(end, data))
            }
            _ => return "initialized".to_owned(),
        };
        let answer = u8::from(done).to_string();
        self.tell(link, answer.clone());
        answer
    }

    pub(super) fn livecode(&mut self, link: LinkId) -> Option<&mut LivecodeLink> {
        self.links.get_mut(link.0)?.livecode.as_deref_mut()
    }

    fn served_end(&self, link: LinkId, channel: ChannelId) -> Option<EndKey> {
        let end = self.links.get(link.0)?.channels.get(&channel)?;
        (!is_opened_by_peer(channel)).then_some(*end)
    }

    fn create_server_credential(&mut self, link: LinkId) -> String {
        let Some(config) = &self.config.livecode else { return String::new() };
        let Some(server) = self.last_livecode_server.checked_add(1) else {
            self.tell(link, "0".to_owned());
            return "0".to_owned();
        };
        let credential = config.server_credential(server);
        self.last_livecode_server = server;
        self.tell(link, Line::server_credential(server, &credential));
        server.to_string()
    }

    /// Makes a link the way to a server. The link that was keeps its other servers.
    fn install(&mut self, link: LinkId, server: u32, credential: &str) -> bool {
        if self.drain != Drain::No || !self.is_server(link, server, credential) {
            return false;
        }
        if self.forbids(link, &ServerId::Number(server)).is_some() {
            return false;
        }
        let Some(state) = self.livecode(link) else { return false };
        if state.seats.contains(&server) {
            return true;
        }
        if state.seats.len() >= MAX_SEATS {
            return false;
        }
        state.seats.insert(server);
        let server_id = ServerId::Number(server);
        self.totals.registered += 1;
        let old = self.enrol(server_id, link);
        self.events.push_back(Event::Registered { link, server_id });
        if let Some(old) = old {
            self.totals.taken_over += 1;
            self.vacate(old, server);
        }
        self.admit_waiting(&server_id, link);
        true
    }

    /// Ends the channels of a server that is elsewhere now.
    fn vacate(&mut self, link: LinkId, server: u32) {
        let Some(state) = self.livecode(link) else { return };
        state.seats.remove(&server);
        let of_server = |(channel, seat): (&ChannelId, &u32)| (*seat == server).then_some(*channel);
        let channels: Vec<_> = state.served.iter().filter_map(of_server).collect();
        for end in
            channels.into_iter().filter_map(|channel| self.served_end(link, channel)).collect::<Vec<_>>()
        {
            self.abandon(end, CloseCode::PEER_GONE, "");
        }
    }

    /// Connects a livecode client to a server, which may be of either dialect.
    fn connect_plain(&mut self, link: LinkId, server_id: ServerId, port: u16) -> bool {
        let Some(&server) = self.registrations.get(&server_id) else { return false };
        let Some(state) = self.links.get(link.0) else { return false };
        // Numbers are easily guessed: those of another namespace are no names here.
        let is_here = |other: &LinkState| other.peer.namespace() == state.peer.namespace();
        if server_id.key().is_none() && !self.links.get(server.0).is_some_and(is_here) {
            return false;
        }
        let next = match state.last_opened {
            ChannelId::LINK => Some(1),
            ChannelId(last) => last.checked_add(2),
        };
        let (Some(next), Drain::No) = (next, self.drain) else { return false };
        let end = self.add_end(link, ChannelId(next), EndStage::Closing);
        let (kind, payload) = (ChannelKind::Plain, Bytes::new());
        let request = Connect { server_id, port, kind, payload, address: None };
        self.offer(end, server, request);
        if self.ends.get(end).is_none() {
            return false;
        }
        let Some(state) = self.livecode(link) else { return false };
        if let Some((earlier, _)) = state.client.replace((end, server_id)) {
            self.abandon(earlier, CloseCode::PEER_GONE, "");
        }
        true
    }

    /// Notes which of a link's servers a client is connected to.
    pub(super) fn seat_client(&mut self, link: LinkId, channel: ChannelId, server_id: ServerId) {
        if let (Some(state), ServerId::Number(server)) = (self.livecode(link), server_id) {
            state.served.insert(channel, server);
        }
    }

    /// Forwards a livecode peer's text. Returns whether it was taken: this dialect cannot be paused.
    fn forward_text(&mut self, from: EndKey, data: &str) -> bool {
        let Some(to) = self.ends.get(from).and_then(super::channel::End::other) else { return false };
        let Some(end) = self.ends.get(to) else { return false };
        let transmit = match end.dialect {
            Dialect::Tunnel => {
                let frame = Frame::Data { channel: end.id, payload: Bytes::copy_from_slice(data.as_bytes()) };
                Transmit::Binary(frame.encode())
            }
            Dialect::Livecode => Transmit::Text(self.text_for(to, data)),
        };
        let too_long = end.dialect == Dialect::Tunnel && transmit.len() > self.config.max_frame as usize;
        if too_long || self.make_room(to, cost(transmit.len())).is_err() {
            return false;
        }
        self.note(from, to, data.as_bytes());
        self.enqueue(to, transmit);
        true
    }

    /// Forwards what a tunnel peer sent on a plain channel to a livecode peer.
    pub(super) fn forward_payload_as_text(&mut self, from: EndKey, to: EndKey, payload: &[u8]) {
        let Ok(data) = std::str::from_utf8(payload) else {
            return self.lose_channel(
                from,
                to,
                CloseCode::PROTOCOL_ERROR,
                "DATA on a plain channel is not UTF-8",
            );
        };
        let transmit = Transmit::Text(self.text_for(to, data));
        self.note(from, to, payload);
        self.forward(from, to, transmit);
    }

    /// Returns the text by which data from the other end reaches a livecode peer.
    pub(super) fn text_for(&self, to: EndKey, data: &str) -> String {
        let Some(end) = self.ends.get(to) else { return String::new() };
        let link = self.links.get(end.link.0).and_then(|state| state.livecode.as_ref());
        match link.and_then(|state| state.client.as_ref()) {
            Some((client, server)) if *client == to => {
                Notification::Data { from: *server, data }.encode(DELIMITER)
            }
            _ => Notification::Data { from: end.id.0.into(), data }.encode(DELIMITER),
        }
    }

    /// Notes that an encrypted session uses the channel: only its peers understand when the relay says that it ends.
    fn note(&mut self, from: EndKey, to: EndKey, data: &[u8]) {
        if data.starts_with(MARKER.as_bytes()) {
            for key in [from, to] {
                if let Some(end) = self.ends.get_mut(key) {
                    end.has_session = true;
                }
            }
        }
    }

    pub(super) fn say(&mut self, link: LinkId, line: Line<'_>) {
        self.tell(link, line.to_string());
    }

    /// Sends a livecode peer an answer, unless too many are unread.
    pub(super) fn tell(&mut self, link: LinkId, text: String) {
        if self.links.get(link.0).is_none_or(|state| state.stage == Stage::Ended) {
            return;
        }
        if !self.control(link, Transmit::Text(text), MAX_ANSWERS) {
            self.end_link(link, None, CloseCode::POLICY, "too many answers are unread");
        }
    }
}
