//! The handle through which the class `PeerToPeerWebSocket` commands its Rust half.

use super::socket::SocketCore;
use crate::browser::frames::to_buffer;
use crate::browser::identity::TakenIdentity;
use js_sys::{ArrayBuffer, Uint8Array};
use std::hint::black_box;
use std::rc::Rc;
use tunnel_protocol::endpoint::Liveness;
use tunnel_protocol::session::SessionStats;
use tunnel_protocol::{CloseCode, Message};
use wasm_bindgen::prelude::*;
use web_sys::WebSocket;

/// The bytes that are left for all else when a message takes the memory.
const RESERVE: usize = 64 << 20;

/// The Rust half of a `PeerToPeerWebSocket`.
#[wasm_bindgen(private)]
pub(crate) struct SocketHandle(pub(super) Rc<SocketCore>);

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl SocketHandle {
    /// Connects, with the key of an identity, or else one of the page's.
    pub fn dial(&self, identity: Option<TakenIdentity>) {
        self.0.dial(identity.and_then(|identity| identity.static_key()));
    }

    /// Returns whether a message of so many bytes can be taken: memory that cannot be had ends the module.
    #[wasm_bindgen(js_name = hasRoom)]
    pub fn has_room(&self, bytes: f64) -> bool {
        let mut memory = Vec::<u8>::new();
        // The cast saturates.
        let is_there = memory.try_reserve_exact((bytes as usize).saturating_add(RESERVE)).is_ok();
        // Otherwise the compiler may leave it out, as nobody uses it.
        black_box(memory.as_ptr());
        is_there
    }

    /// Sends a text message.
    #[wasm_bindgen(js_name = sendText)]
    pub fn send_text(&self, text: String) {
        self.0.send(Message::Text(text));
    }

    /// Sends a binary message.
    #[wasm_bindgen(js_name = sendBytes)]
    pub fn send_bytes(&self, data: Vec<u8>) {
        self.0.send(Message::Binary(data.into()));
    }

    /// Bytes that `sendText` and `sendBytes` took and that had not left when the current task began.
    #[wasm_bindgen(getter, js_name = bufferedAmount)]
    pub fn buffered_amount(&self) -> f64 {
        self.0.buffered_amount()
    }

    /// Closes behind what has been sent.
    pub fn close(&self, code: Option<u16>, reason: &str) {
        self.0.close(code.map(CloseCode), reason);
    }

    /// Ends at once.
    pub fn abort(&self, reason: &str) {
        self.0.abort(reason);
    }

    /// Keeps messages for `take`.
    pub fn hold(&self) {
        self.0.hold();
    }

    /// Keeps messages, and what comes after them, until `unpark`.
    pub fn park(&self) {
        self.0.park();
    }

    /// Has events fired for what was kept.
    pub fn unpark(&self) {
        self.0.unpark();
    }

    /// Takes the oldest message that was kept, a string or an `ArrayBuffer`; `undefined` if there is none.
    pub fn take(&self) -> JsValue {
        self.0.take().map_or(JsValue::UNDEFINED, |message| match message {
            Message::Text(text) => text.into(),
            Message::Binary(data) => ArrayBuffer::into(to_buffer(&data)),
        })
    }

    /// Takes out the messages that are not known to have arrived: strings, and `Uint8Array`s.
    pub fn unacknowledged(&self) -> Vec<JsValue> {
        let messages = self.0.take_unacknowledged().into_iter();
        let values = messages.map(|message| match message {
            Message::Text(text) => text.into(),
            Message::Binary(data) => Uint8Array::from(&data[..]).into(),
        });
        values.collect()
    }

    /// The counters; of a socket that has ended, the last ones.
    pub fn stats(&self) -> SocketStats {
        let (session, liveness) = self.0.stats();
        SocketStats { session, liveness, link: self.0.link() }
    }

    /// Returns whether a client that wants in has not gone meanwhile.
    #[wasm_bindgen(js_name = isHere)]
    pub fn is_here(&self) -> bool {
        self.0.is_here()
    }

    /// Lets a server's client in that is here; its events go to `target`. Its messages may be so many bytes long.
    pub fn accept(&self, target: JsValue, protocol: &str, max_message_size: f64) {
        self.0.accept(target, protocol, max_message_size as u64);
    }

    /// Turns a server's client away.
    pub fn refuse(self, code: u16, reason: &str) {
        self.0.refuse(CloseCode(code), reason);
    }
}

/// The counters of a socket, as `getStats()` returns them.
#[wasm_bindgen(private)]
pub(crate) struct SocketStats {
    session: SessionStats,
    liveness: Option<Liveness>,
    link: Option<WebSocket>,
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl SocketStats {
    #[wasm_bindgen(getter, js_name = bytesSent)]
    pub fn bytes_sent(&self) -> f64 {
        self.session.bytes_sent as f64
    }

    #[wasm_bindgen(getter, js_name = bytesReceived)]
    pub fn bytes_received(&self) -> f64 {
        self.session.bytes_received as f64
    }

    #[wasm_bindgen(getter, js_name = messagesSent)]
    pub fn messages_sent(&self) -> f64 {
        self.session.messages_sent as f64
    }

    #[wasm_bindgen(getter, js_name = messagesReceived)]
    pub fn messages_received(&self) -> f64 {
        self.session.messages_received as f64
    }

    #[wasm_bindgen(getter, js_name = bytesRetransmitted)]
    pub fn bytes_retransmitted(&self) -> f64 {
        self.session.bytes_retransmitted as f64
    }

    #[wasm_bindgen(getter, js_name = bytesUnacknowledged)]
    pub fn bytes_unacknowledged(&self) -> f64 {
        self.session.bytes_unacknowledged as f64
    }

    /// The WebSocket that the socket runs over now.
    #[wasm_bindgen(getter)]
    pub fn link(&self) -> Option<WebSocket> {
        self.link.clone()
    }

    #[wasm_bindgen(getter)]
    pub fn reconnects(&self) -> f64 {
        self.session.resumptions.into()
    }

    /// In milliseconds.
    #[wasm_bindgen(getter, js_name = roundTripTime)]
    pub fn round_trip_time(&self) -> Option<f64> {
        self.session.round_trip.map(|time| time.as_micros() as f64 / 1000.0)
    }

    #[wasm_bindgen(getter)]
    pub fn state(&self) -> String {
        let state = match self.liveness {
            Some(Liveness::Alive) => "alive",
            Some(Liveness::Waiting) => "waiting",
            Some(Liveness::Interrupted) | None => "interrupted",
        };
        state.to_owned()
    }
}
