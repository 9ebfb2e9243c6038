//! A page with one socket to a server behind the rig's router.

use super::Rig;
use bytes::BytesMut;
use std::time::Duration;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkMessage, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{LinkId, Transmit};
use tunnel_protocol::{CloseCode, Message, ServerId};

/// The URL under which it reaches the relay.
const URL: &str = "wss://relay.example/";

pub struct Tab {
    endpoint: Endpoint,
    link: Option<(tunnel_protocol::endpoint::LinkId, LinkId)>,
    socket: SocketId,
    key: StaticKey,
    pub heard: Vec<Message>,
    ended: Option<(CloseCode, String)>,
    /// True if it reads no message.
    pub takes_nothing: bool,
}

impl Tab {
    pub fn connect(rig: &mut Rig, server: ServerId, port: u16) -> Self {
        let number = rig.tabs + 1;
        rig.tabs = number;
        let mut endpoint =
            Endpoint::new(Config { relay_url: URL.to_owned(), ..Config::default() }, [number; 32]);
        let key = StaticKey::from_secret([0x80 | number; 32]);
        let options = ConnectOptions { key: Some(key.clone()), ..ConnectOptions::default() };
        let socket = endpoint.connect(server, port, options, rig.now);
        let mut tab =
            Self { endpoint, link: None, socket, key, heard: Vec::new(), ended: None, takes_nothing: false };
        tab.pump(rig);
        tab
    }

    /// The ID that others know it by.
    pub fn id(&self) -> ServerId {
        ServerId::Key(self.key.public())
    }

    pub fn send(&mut self, message: impl Into<Message>) {
        self.endpoint.send(self.socket, message.into()).expect("the socket is open");
    }

    /// Sends, and has it arrive.
    pub fn say(&mut self, rig: &mut Rig, message: impl Into<Message>) {
        self.send(message);
        self.pump(rig);
    }

    pub fn close(&mut self, rig: &mut Rig, code: CloseCode, reason: &str) {
        self.endpoint.close(self.socket, Some(code), reason, rig.now);
        self.pump(rig);
    }

    pub fn unsent(&self) -> usize {
        self.endpoint.buffered_amount(self.socket)
    }

    /// Waits for so many messages.
    pub fn hear(&mut self, rig: &mut Rig, count: usize) -> Vec<Message> {
        for _ in 0..2_000 {
            self.pump(rig);
            if self.heard.len() >= count {
                return std::mem::take(&mut self.heard);
            }
            assert_eq!(self.ended, None, "after {:?}", self.heard);
            rig.pass(Duration::from_millis(10));
        }
        panic!("nothing comes after {:?}", self.heard);
    }

    /// Waits for the end of the socket.
    pub fn end(&mut self, rig: &mut Rig) -> (CloseCode, String) {
        for _ in 0..2_000 {
            self.pump(rig);
            if let Some(ended) = self.ended.clone() {
                return ended;
            }
            rig.pass(Duration::from_millis(10));
        }
        panic!("it does not end");
    }

    /// Moves all that can be moved now.
    pub fn pump(&mut self, rig: &mut Rig) {
        let mut moved = true;
        while moved {
            moved = false;
            self.endpoint.handle_timeout(rig.now);
            self.endpoint.prepare(rig.now);
            while let Some(event) = self.endpoint.poll_event() {
                moved = true;
                self.handle(rig, event);
            }
            let Some((ours, link)) = self.link else { continue };
            while let Some(message) = self.endpoint.poll_transmit(ours, rig.now) {
                moved = true;
                if let LinkMessage::Binary(message) = message {
                    rig.router.handle_message(link, BytesMut::from(&message[..]), rig.now);
                }
            }
            rig.pump();
            while let Some(Transmit::Binary(message)) = rig.router.poll_transmit(link) {
                moved = true;
                self.endpoint.handle_message(ours, LinkMessage::Binary(message), rig.now);
            }
            rig.pump();
        }
    }

    fn handle(&mut self, rig: &mut Rig, event: Event) {
        match event {
            Event::Dial { link } => {
                self.link = Some((link, rig.open_tunnel(URL, "192.0.2.9")));
                self.endpoint.handle_link_opened(link, false, rig.now);
            }
            Event::HangUp { .. } => {
                if let Some((_, link)) = self.link.take() {
                    rig.router.handle_link_closed(link, rig.now);
                }
            }
            Event::Message { message, .. } => {
                if !self.takes_nothing {
                    self.endpoint.consume(self.socket, message.cost(), rig.now);
                }
                self.heard.push(message);
            }
            Event::Closed { code, reason, .. } => self.ended = Some((code, reason)),
            _ => {}
        }
    }
}
