//! The tunnel server that a namespace is, once an instruction has called `serve`.
//!
//! It is an [`Endpoint`] as a page has one. Its WebSocket is whatever the owner makes of [`Wire`]: in a relay, a link of the same
//! router.

use super::Engine;
use super::run::{Caller, Outcome};
use super::turns::Who;
use crate::sandbox::Op;
use bytes::Bytes;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tunnel_protocol::endpoint::{Config, Endpoint, Event, LinkId, LinkMessage, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};

/// The URL under which a namespace reaches its relay: both ends of that link are in one process.
pub const SERVICE_URL: &str = "wss://livecode.invalid/";

/// Bytes that may wait for one client.
const MAX_UNSENT: usize = 1 << 20;

/// Longest message of a client, in bytes: as long as a command.
const MAX_MESSAGE: u64 = 1 << 20;

/// Bytes that the sessions of all clients may hold in each direction.
const TOTAL_BUFFER: u64 = 4 << 20;

/// A task for the owner of the server's link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wire {
    /// To open a link to the router, and to tell [`Engine::wire_opened`].
    Dial,
    /// To send a message there.
    Send(Bytes),
    /// To close the link. Nothing needs to be said about it.
    HangUp,
}

/// One client's socket.
#[derive(Debug)]
struct Client {
    /// Its number in the sandbox; never used twice.
    number: u32,
    port: u16,
    address: String,
    remote_id: Option<String>,
    events: VecDeque<Happened>,
}

#[derive(Debug)]
enum Happened {
    Opened,
    Message(Message),
    Closed { code: CloseCode, reason: String, was_clean: bool },
}

/// The server, its link and its clients.
pub(super) struct Service {
    key: StaticKey,
    max_clients: usize,
    endpoint: Option<Endpoint>,
    is_hosted: bool,
    link: Option<LinkId>,
    /// Ports that an instruction listens on.
    pub(super) ports: BTreeSet<u16>,
    clients: BTreeMap<SocketId, Client>,
    numbers: BTreeMap<u32, SocketId>,
    wire: VecDeque<Wire>,
}

impl Service {
    pub(super) fn new(key: StaticKey, max_clients: usize) -> Self {
        Self {
            key,
            max_clients,
            endpoint: None,
            is_hosted: false,
            link: None,
            ports: BTreeSet::new(),
            clients: BTreeMap::new(),
            numbers: BTreeMap::new(),
            wire: VecDeque::new(),
        }
    }

    /// The ID under which clients reach it.
    pub(super) fn server_id(&self) -> ServerId {
        ServerId::Key(self.key.public())
    }

    /// The sandbox's numbers of all clients.
    pub(super) fn open_numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.numbers.keys().copied()
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.as_ref().and_then(Endpoint::poll_timeout)
    }

    /// Sends a client a message. A number that is none of a client's has no effect: it has gone.
    pub(super) fn send(&mut self, number: u32, message: Message, now: Instant) {
        let (Some(socket), Some(endpoint)) = (self.numbers.get(&number), &mut self.endpoint) else { return };
        if endpoint.buffered_amount(*socket) + message.len() > MAX_UNSENT {
            let reason = "the client takes too little of what instructions send";
            return endpoint.abort(*socket, CloseCode::OVERFLOW, reason, now);
        }
        // A socket that closes takes nothing; its instructions hear of the close.
        let _closing = endpoint.send(*socket, message);
    }

    /// Closes a client's socket.
    pub(super) fn close(&mut self, number: u32, code: CloseCode, reason: &str, now: Instant) {
        if let (Some(socket), Some(endpoint)) = (self.numbers.get(&number), &mut self.endpoint) {
            endpoint.close(*socket, Some(code), reason, now);
        }
    }

    /// Registers the server, if an instruction listens and it is not registered.
    fn host(&mut self, now: Instant) -> Result<(), getrandom::Error> {
        if self.is_hosted || self.ports.is_empty() {
            return Ok(());
        }
        if self.endpoint.is_none() {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            let config = Config {
                relay_url: SERVICE_URL.to_owned(),
                max_clients: self.max_clients,
                away_buffer: TOTAL_BUFFER,
                total_buffer: TOTAL_BUFFER,
                ..Config::default()
            };
            self.endpoint = Some(Endpoint::new(config, seed));
        }
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.host(self.key.clone(), now);
            self.is_hosted = true;
        }
        Ok(())
    }

    fn about(&self, socket: SocketId, client: &Client) -> serde_json::Value {
        let buffered = self.endpoint.as_ref().map_or(0, |endpoint| endpoint.buffered_amount(socket));
        json!({
            "address": client.address,
            "url": "/",
            "headers": {},
            "port": client.port,
            "remoteId": client.remote_id,
            "bufferedAmount": buffered,
        })
    }
}

impl Engine {
    /// The next task for the owner of the link of the namespace's own server.
    pub fn poll_wire(&mut self, now: Instant) -> Option<Wire> {
        let service = &mut self.service;
        if let Some(wire) = service.wire.pop_front() {
            return Some(wire);
        }
        match service.endpoint.as_mut()?.poll_transmit(service.link?, now)? {
            LinkMessage::Binary(message) => Some(Wire::Send(message)),
            LinkMessage::Text(_) => None,
        }
    }

    /// The link that [`Wire::Dial`] asked for is open.
    pub fn wire_opened(&mut self, now: Instant) {
        if let (Some(endpoint), Some(link)) = (&mut self.service.endpoint, self.service.link) {
            endpoint.handle_link_opened(link, false, now);
        }
        self.serve(now);
    }

    /// Takes in a message of the router.
    pub fn wire_message(&mut self, message: Bytes, now: Instant) {
        if let (Some(endpoint), Some(link)) = (&mut self.service.endpoint, self.service.link) {
            endpoint.handle_message(link, LinkMessage::Binary(message), now);
        }
        self.serve(now);
    }

    /// The router has ended the link.
    pub fn wire_closed(&mut self, code: CloseCode, reason: &str, now: Instant) {
        if let (Some(endpoint), Some(link)) = (&mut self.service.endpoint, self.service.link.take()) {
            endpoint.handle_link_closed(link, code, reason, now);
        }
        self.serve(now);
    }

    /// The ID of the server that instructions make of the namespace by `serve`.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        self.service.server_id()
    }

    /// Acts on the clock, and takes in what has happened to the server.
    pub(super) fn serve(&mut self, now: Instant) {
        if let Err(error) = self.service.host(now) {
            self.log(&format!("error the server can't be registered: {error}"));
        }
        let Some(endpoint) = &mut self.service.endpoint else { return };
        endpoint.handle_timeout(now);
        endpoint.prepare(now);
        while let Some(event) = self.service.endpoint.as_mut().and_then(Endpoint::poll_event) {
            self.serve_event(event, now);
        }
    }

    fn serve_event(&mut self, event: Event, now: Instant) {
        let service = &mut self.service;
        let Some(endpoint) = &mut service.endpoint else { return };
        let socket = match event {
            Event::Dial { link } => {
                service.link = Some(link);
                return service.wire.push_back(Wire::Dial);
            }
            Event::HangUp { link, .. } => {
                service.link.take_if(|it| *it == link);
                return service.wire.push_back(Wire::HangUp);
            }
            Event::HostClosed { code, reason } => {
                service.is_hosted = false;
                service.ports.clear();
                return self.log(&format!("error the server is closed: {reason} ({code})"));
            }
            Event::Incoming { socket, incoming } => {
                if !service.ports.contains(&incoming.port) {
                    let reason = format!("nobody listens on port {}", incoming.port);
                    return endpoint.refuse(socket, CloseCode::PORT_CLOSED, &reason, now);
                }
                self.last_number += 1;
                let number = self.last_number;
                let client = Client {
                    number,
                    port: incoming.port,
                    address: self.settings.address(&incoming.address, number),
                    remote_id: None,
                    events: VecDeque::new(),
                };
                service.clients.insert(socket, client);
                endpoint.limit_messages(socket, MAX_MESSAGE);
                return endpoint.accept(socket, "", now);
            }
            Event::Opened { socket, remote, .. } => {
                let Some(client) = service.clients.get_mut(&socket) else { return };
                client.remote_id = remote.key.map(|key| ServerId::Key(key).to_string());
                service.numbers.insert(client.number, socket);
                client.events.push_back(Happened::Opened);
                socket
            }
            Event::Message { socket, message } => {
                let Some(client) = service.clients.get_mut(&socket) else { return };
                client.events.push_back(Happened::Message(message));
                socket
            }
            Event::Closed { socket, code, reason, was_clean, .. } => {
                let Some(client) = service.clients.get_mut(&socket) else { return };
                if !service.numbers.contains_key(&client.number) {
                    service.clients.remove(&socket);
                    return;
                }
                client.events.push_back(Happened::Closed { code, reason, was_clean });
                socket
            }
            _ => return,
        };
        self.turns.want(Who::Client(socket), now);
    }

    /// Tells the instructions the next thing that happened to a client.
    pub(super) fn run_client(&mut self, socket: SocketId, now: Instant) {
        let Some(client) = self.service.clients.get_mut(&socket) else { return };
        let (number, happened) = (client.number, client.events.pop_front());
        if !client.events.is_empty() {
            self.turns.want(Who::Client(socket), now);
        }
        let (Some(client), Some(happened)) = (self.service.clients.get(&socket), happened) else { return };
        let about = self.service.about(socket, client);
        let outcome = match happened {
            Happened::Opened => {
                self.tell_client(socket, number, &json!({ "about": about, "event": "open" }), None, now)
            }
            Happened::Message(message) => {
                let cost = message.cost();
                let outcome = match message {
                    Message::Text(data) => {
                        let event = json!({ "about": about, "event": "message", "data": data });
                        self.tell_client(socket, number, &event, None, now)
                    }
                    Message::Binary(data) => {
                        let event = json!({ "about": about, "event": "message" });
                        self.tell_client(socket, number, &event, Some(&data), now)
                    }
                };
                // Only now may the client send as much more.
                if let Some(endpoint) = &mut self.service.endpoint {
                    endpoint.consume(socket, cost, now);
                }
                outcome
            }
            Happened::Closed { code, reason, was_clean } => {
                self.service.clients.remove(&socket);
                self.service.numbers.remove(&number);
                let event = json!({
                    "about": about, "event": "close", "code": code.0, "reason": reason, "wasClean": was_clean,
                });
                let outcome = self.tell_client(socket, number, &event, None, now);
                self.turns.forget(Who::Client(socket));
                outcome
            }
        };
        self.note_thrown(&outcome);
        if let (true, Some(thrown)) = (outcome.is_dropped, &outcome.thrown) {
            // It would wait for an answer that no instruction knows of any more.
            self.service.close(number, CloseCode::INTERNAL, &thrown.message, now);
        }
    }

    fn tell_client(
        &mut self,
        socket: SocketId,
        number: u32,
        event: &serde_json::Value,
        data: Option<&[u8]>,
        now: Instant,
    ) -> Outcome {
        let mut text = event.to_string().into_bytes();
        let op = if let Some(data) = data {
            text.push(b'\n');
            text.extend_from_slice(data);
            Op::ServedBytes
        } else {
            Op::Served
        };
        self.call(op, number, &text, Caller::Client(socket), now)
    }
}
