//! What stands behind the main module's `Translator`: one link through a relay that speaks the dialect.

use bytes::Bytes;
use std::cell::RefCell;
use tunnel_protocol::endpoint::Translator;
use tunnel_protocol::frame::ChannelId;
use tunnel_protocol::link::LinkError;
use tunnel_protocol::livecode::{Installation, Line, LivecodeLink, encode_link_event};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{CloseCode, Instant};
use wasm_bindgen::prelude::*;

/// Protocol state of one WebSocket to a livecoding relay. Times are microseconds.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct LivecodeLinkCore {
    link: RefCell<LivecodeLink>,
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl LivecodeLinkCore {
    /// The relay has turned out to speak the dialect.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Installs a server by its key; `installation` is what it had before, as `installation()` gave it, or empty.
    pub fn register(&self, key: &[u8], installation: &str) {
        let installation = Line::parse_server_credential(installation)
            .map(|(number, credential)| Installation { number, credential: credential.to_owned() });
        if let Ok(key) = key.try_into() {
            self.link.borrow_mut().register(PublicKey(key), installation);
        }
    }

    /// The server's number and credential, or empty.
    pub fn installation(&self) -> String {
        let installation = self.link.borrow().installation();
        installation.map_or_else(String::new, |installation| {
            Line::server_credential(installation.number, &installation.credential)
        })
    }

    /// Connects to a server; returns the channel.
    pub fn connect(&self, number: u32, port: u16) -> u32 {
        self.link.borrow_mut().connect(number, port).0
    }

    /// Sends the client's handshake message.
    pub fn initiate(&self, channel: u32, message: &[u8]) {
        self.link.borrow_mut().initiate(ChannelId(channel), Bytes::copy_from_slice(message));
    }

    /// Sends the server's handshake message.
    pub fn respond(&self, channel: u32, message: &[u8]) {
        self.link.borrow_mut().respond(ChannelId(channel), Bytes::copy_from_slice(message));
    }

    /// Sends one record.
    #[wasm_bindgen(js_name = sendRecord)]
    pub fn send_record(&self, channel: u32, record: &[u8]) {
        self.link.borrow_mut().send_record(ChannelId(channel), Bytes::copy_from_slice(record));
    }

    /// Sends text to a peer that does not encrypt.
    #[wasm_bindgen(js_name = sendPlain)]
    pub fn send_plain(&self, channel: u32, text: &str) {
        self.link.borrow_mut().send_plain(ChannelId(channel), text);
    }

    /// Ends a channel.
    pub fn close(&self, channel: u32, code: u16, reason: &str) {
        self.link.borrow_mut().close(ChannelId(channel), CloseCode(code), reason);
    }

    /// Takes in one text message; returns why the link has to end, if it does: a close code, a space, and words.
    #[wasm_bindgen(js_name = handleText)]
    pub fn handle_text(&self, text: &str, now: f64) -> Option<String> {
        problem(self.link.borrow_mut().handle_text(text, instant(now)))
    }

    /// Acts on the clock; returns the same.
    #[wasm_bindgen(js_name = handleTimeout)]
    pub fn handle_timeout(&self, now: f64) -> Option<String> {
        problem(self.link.borrow_mut().handle_timeout(instant(now)))
    }

    /// The next text message to send.
    #[wasm_bindgen(js_name = pollTransmit)]
    pub fn poll_transmit(&self, now: f64) -> Option<String> {
        self.link.borrow_mut().poll_transmit(instant(now))
    }

    /// What happened, in order, as `encode_link_event` writes it.
    #[wasm_bindgen(js_name = pollEvent)]
    pub fn poll_event(&self) -> Option<Vec<u8>> {
        let mut link = self.link.borrow_mut();
        std::iter::from_fn(|| link.poll_event()).find_map(|event| encode_link_event(&event))
    }

    /// When to call `handleTimeout`.
    #[wasm_bindgen(js_name = pollTimeout)]
    pub fn poll_timeout(&self) -> Option<f64> {
        self.link.borrow().poll_timeout().map(|at| at.as_micros() as f64)
    }

    /// Whether the channel is open and the relay keeps up.
    #[wasm_bindgen(js_name = maySend)]
    pub fn may_send(&self, channel: u32) -> bool {
        self.link.borrow_mut().may_send(ChannelId(channel))
    }
}

fn instant(micros: f64) -> Instant {
    Instant::from_micros(micros as u64)
}

fn problem(result: Result<(), LinkError>) -> Option<String> {
    let error = result.err()?;
    Some(format!("{} {error}", error.code().0))
}
