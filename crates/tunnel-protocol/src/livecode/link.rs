//! A link through a relay that speaks the livecode dialect: the same events as [`link::Link`](crate::link::Link), other
//! words.
//!
//! One WebSocket is one server or one client's channel. Handshake messages and records travel as text, each a
//! [`Packet`]; a client first asks for the server's key, since a number does not tell it.

use super::{Answer, CallId, Line, LivecodeClient, LivecodeEvent, Packet};
use crate::endpoint::Translator;
use crate::frame::{ChannelId, ChannelKind};
use crate::link::{LinkError, LinkEvent};
use crate::server_id::PublicKey;
use crate::sorted::SortedMap;
use crate::time::Duration;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;
use std::collections::VecDeque;

/// Commands that may be under way before records have to wait.
const MAX_UNANSWERED: usize = 32;

/// The time that the relay may owe an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Most clients that have connected and said nothing yet.
const MAX_SILENT: usize = 1_024;

/// Protocol state of one WebSocket to a livecoding relay: what an endpoint takes for its [`Translator`].
#[derive(Debug)]
pub struct LivecodeLink {
    client: LivecodeClient,
    role: Role,
    /// The purposes of the commands that are under way.
    calls: SortedMap<CallId, Purpose>,
    answer_by: Option<Instant>,
    blocked: bool,
    events: VecDeque<LinkEvent>,
}

#[derive(Debug)]
enum Role {
    Idle,
    /// Clients by their channel, as far as they have got.
    Server {
        key: PublicKey,
        /// Its number and credential, as the relay said them; or empty.
        installation: String,
        clients: SortedMap<ChannelId, ClientState>,
    },
    /// The one channel of a client.
    Client {
        number: u32,
        channel: ChannelId,
        open: bool,
    },
}

#[derive(Debug)]
enum ClientState {
    /// Connected; its first handshake message, or its first plain text, is awaited.
    Silent {
        port: u16,
        address: String,
    },
    Known,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    CreateCredential,
    Install,
    Connect,
    Forward(ChannelId),
}

/// The one channel of a client's link.
const OWN: ChannelId = ChannelId(1);

impl LivecodeLink {
    /// The relay has turned out to speak the dialect.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: LivecodeClient::new(),
            role: Role::Idle,
            calls: SortedMap::new(),
            answer_by: None,
            blocked: false,
            events: VecDeque::from([LinkEvent::Ready]),
        }
    }

    /// Installs the server that the relay said this about; false if the text is something else.
    fn install(&mut self, said: &str) -> bool {
        let Some((number, credential)) = Line::parse_server_credential(said) else { return false };
        let call = self.client.install_server(number, credential);
        self.calls.insert(call, Purpose::Install);
        true
    }

    fn send(&mut self, channel: ChannelId, packet: &Packet) {
        self.forward(channel, &packet.encode());
    }

    fn forward(&mut self, channel: ChannelId, text: &str) {
        if !self.is_open(channel) {
            return;
        }
        let call = match &self.role {
            Role::Server { .. } => self.client.forward_to_client(channel.0, text),
            Role::Client { number, .. } => self.client.forward_to_server(*number, text),
            Role::Idle => return,
        };
        self.calls.insert(call, Purpose::Forward(channel));
    }

    fn handle_answer(&mut self, call: CallId, answer: &Answer) -> Result<(), LinkError> {
        let Some(purpose) = self.calls.remove(&call) else { return Ok(()) };
        if matches!(answer, Answer::Rejected | Answer::Malformed) {
            let reason = "this livecoding relay has not been made a tunnel: \
                          call NodeJSTunnelingClient.configureServerAt first";
            return Err(LinkError::Ended { code: CloseCode::REFUSED, reason: reason.to_owned() });
        }
        match purpose {
            Purpose::CreateCredential => {
                let Answer::Returned { sent, .. } = answer else { return Ok(()) };
                let Some(said) = sent.iter().find(|text| self.install(text)) else {
                    return Err(LinkError::OutOfTurn { frame: "a server credential" });
                };
                if let Role::Server { installation, .. } = &mut self.role {
                    installation.clone_from(said);
                }
            }
            Purpose::Install => {
                let Role::Server { installation, .. } = &mut self.role else { return Ok(()) };
                if let (true, Some((number, _))) =
                    (answer.is_one(), Line::parse_server_credential(installation))
                {
                    self.events.push_back(LinkEvent::Registered(ServerId::Number(number)));
                } else {
                    // The relay was restarted and knows no such number: a new one is better than none.
                    installation.clear();
                    let call = self.client.create_server_credential();
                    self.calls.insert(call, Purpose::CreateCredential);
                }
            }
            Purpose::Connect if answer.is_one() => self.send(OWN, &Packet::Who),
            Purpose::Connect => self.end_channel(OWN, CloseCode::SERVER_NOT_FOUND, "no such server"),
            Purpose::Forward(_) if answer.is_one() => {}
            Purpose::Forward(channel) => self.end_channel(channel, CloseCode::PEER_GONE, "the peer is gone"),
        }
        Ok(())
    }

    fn handle_connected(&mut self, channel: ChannelId, port: u16, address: String) {
        if let Role::Server { clients, .. } = &mut self.role {
            let silent =
                clients.values().filter(|client| matches!(client, ClientState::Silent { .. })).count();
            if silent < MAX_SILENT {
                let before = clients.insert(channel, ClientState::Silent { port, address });
                if matches!(before, Some(ClientState::Known)) {
                    // The relay reuses the slots of clients that left: whoever had this one is gone.
                    let (code, reason) = (CloseCode::PEER_GONE, "the peer is gone".to_owned());
                    self.events.push_back(LinkEvent::Closed { channel, code, reason });
                }
            }
        }
    }

    fn handle_data(&mut self, from: ServerId, data: String) -> Result<(), LinkError> {
        let channel = match (&self.role, from) {
            (Role::Server { .. }, ServerId::Number(from)) => ChannelId(from),
            (Role::Client { channel, .. }, _) => *channel,
            (Role::Server { .. }, ServerId::Key(_)) | (Role::Idle, _) => return Ok(()),
        };
        if !self.is_open(channel) {
            return Ok(());
        }
        match Packet::decode(&data) {
            Some(Ok(packet)) => self.handle_packet(channel, packet),
            // Another peer's nonsense is no reason to end a link that carries others.
            Some(Err(_)) => {
                self.close(channel, CloseCode::PROTOCOL_ERROR, "a malformed packet");
                self.end_channel(channel, CloseCode::PROTOCOL_ERROR, "a malformed packet");
            }
            None => self.handle_plain(channel, data),
        }
        Ok(())
    }

    fn handle_packet(&mut self, channel: ChannelId, packet: Packet) {
        match (packet, &mut self.role) {
            (Packet::Who, Role::Server { key, .. }) => {
                let key = Packet::Key(*key);
                self.send(channel, &key);
            }
            (Packet::Key(key), Role::Client { .. }) => {
                self.events.push_back(LinkEvent::ServerKey { channel, key });
            }
            (Packet::Initiation(payload), Role::Server { clients, .. }) => {
                if let Some(ClientState::Silent { port, address }) =
                    clients.insert(channel, ClientState::Known)
                {
                    let kind = ChannelKind::Session;
                    self.events.push_back(LinkEvent::Incoming { channel, port, kind, address, payload });
                }
            }
            (Packet::Response(payload), Role::Client { .. }) => {
                self.events.push_back(LinkEvent::Accepted { channel, payload });
            }
            (Packet::Record(payload), _) => self.events.push_back(LinkEvent::Data { channel, payload }),
            (Packet::End { code, reason }, _) => self.end_channel(channel, code, &reason),
            // A packet of the other role: the peer is confused, or the relay is.
            _ => {}
        }
    }

    fn handle_plain(&mut self, channel: ChannelId, data: String) {
        if let Role::Server { clients, .. } = &mut self.role
            && let Some(client) = clients.get_mut(&channel)
            && let ClientState::Silent { port, address } = client
        {
            let (port, address) = (*port, std::mem::take(address));
            *client = ClientState::Known;
            let (kind, payload) = (ChannelKind::Plain, Bytes::new());
            self.events.push_back(LinkEvent::Incoming { channel, port, kind, address, payload });
        }
        self.events.push_back(LinkEvent::Data { channel, payload: Bytes::from(data) });
    }

    fn end_channel(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        if self.drop_channel(channel) {
            self.events.push_back(LinkEvent::Closed { channel, code, reason: reason.to_owned() });
        }
    }

    fn drop_channel(&mut self, channel: ChannelId) -> bool {
        match &mut self.role {
            Role::Server { clients, .. } => clients.remove(&channel).is_some(),
            Role::Client { open, .. } => std::mem::replace(open, false),
            Role::Idle => false,
        }
    }

    fn is_open(&self, channel: ChannelId) -> bool {
        match &self.role {
            Role::Server { clients, .. } => clients.contains_key(&channel),
            Role::Client { open, .. } => *open && channel == OWN,
            Role::Idle => false,
        }
    }
}

impl Translator for LivecodeLink {
    fn register(&mut self, key: PublicKey, installation: &str) {
        if !self.install(installation) {
            let call = self.client.create_server_credential();
            self.calls.insert(call, Purpose::CreateCredential);
        }
        self.role = Role::Server { key, installation: installation.to_owned(), clients: SortedMap::new() };
    }

    fn installation(&self) -> String {
        match &self.role {
            Role::Server { installation, .. } => installation.clone(),
            _ => String::new(),
        }
    }

    fn connect(&mut self, number: u32, port: u16) -> ChannelId {
        let call = self.client.connect_to_server(number, port);
        self.calls.insert(call, Purpose::Connect);
        self.role = Role::Client { number, channel: OWN, open: true };
        OWN
    }

    fn initiate(&mut self, channel: ChannelId, message: Bytes) {
        self.send(channel, &Packet::Initiation(message));
    }

    fn respond(&mut self, channel: ChannelId, message: Bytes) {
        self.send(channel, &Packet::Response(message));
    }

    fn send_record(&mut self, channel: ChannelId, record: Bytes) {
        self.send(channel, &Packet::Record(record));
    }

    fn send_plain(&mut self, channel: ChannelId, text: &str) {
        self.forward(channel, text);
    }

    fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str) {
        if self.is_open(channel) {
            self.send(channel, &Packet::End { code, reason: reason.to_owned() });
            self.drop_channel(channel);
        }
    }

    fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), LinkError> {
        let result = self.client.handle_text(text);
        self.answer_by = (self.client.unanswered() > 0).then(|| now + ANSWER_TIMEOUT);
        while let Some(event) = self.client.poll_event() {
            match event {
                LivecodeEvent::Answered { call, answer } => self.handle_answer(call, &answer)?,
                LivecodeEvent::Connected { channel, port, address } => {
                    self.handle_connected(ChannelId(channel), port, address)
                }
                LivecodeEvent::Data { from, data } => self.handle_data(from, data)?,
                // Texts that instructions of others send do not concern this link.
                LivecodeEvent::Log(_) | LivecodeEvent::Text(_) => {}
            }
        }
        if self.blocked && self.client.unanswered() < MAX_UNANSWERED / 2 {
            self.blocked = false;
            let channels: Vec<_> = match &self.role {
                Role::Server { clients, .. } => clients.keys().copied().collect(),
                Role::Client { channel, .. } => vec![*channel],
                Role::Idle => Vec::new(),
            };
            self.events.extend(channels.into_iter().map(LinkEvent::Writable));
        }
        result
            .map_err(|error| LinkError::Ended { code: CloseCode::PROTOCOL_ERROR, reason: error.to_string() })
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.answer_by.is_some_and(|at| at <= now) { Err(LinkError::Silent) } else { Ok(()) }
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<String> {
        let text = self.client.poll_transmit()?;
        self.answer_by.get_or_insert(now + ANSWER_TIMEOUT);
        Some(text)
    }

    fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.answer_by
    }

    fn may_send(&mut self, channel: ChannelId) -> bool {
        if self.client.unanswered() >= MAX_UNANSWERED {
            self.blocked = true;
        }
        !self.blocked && self.is_open(channel)
    }
}

impl Default for LivecodeLink {
    fn default() -> Self {
        Self::new()
    }
}
