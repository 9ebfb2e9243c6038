//! The browser's WebSocket to a relay, and the other things of the browser that a [`Driver`](crate::driver::Driver)
//! drives: a timer, the clock, randomness. What they report comes through the connector, with the driver's number.

use std::cell::RefCell;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};
use tunnel_protocol::{CloseCode, Instant};
use wasm_bindgen::prelude::*;

/// As much as a WebSocket is given ahead, in bytes: what it holds can neither be overtaken nor packed better.
const HIGH_WATER_MARK: f64 = 262_144.0;

/// A WebSocket's `readyState` while it takes messages.
const OPEN: f64 = 1.0;

#[wasm_bindgen(module = "/js/common.js")]
extern "C" {
    /// A WebSocket, or what stands for one in a rehearsal.
    #[wasm_bindgen(js_name = Object)]
    #[derive(Debug)]
    type WebSocket;

    #[wasm_bindgen(method, getter, js_name = readyState)]
    fn ready_state(this: &WebSocket) -> f64;
    #[wasm_bindgen(method, getter, js_name = bufferedAmount)]
    fn buffered_amount(this: &WebSocket) -> f64;
    #[wasm_bindgen(method, js_name = send)]
    fn send_bytes(this: &WebSocket, data: &[u8]);
    #[wasm_bindgen(method, js_name = send)]
    fn send_text(this: &WebSocket, text: &str);
    #[wasm_bindgen(method)]
    fn close(this: &WebSocket, code: u16, reason: &str);

    /// Dials, and offers the relay the early frames; the driver hears what comes of it, under the link's number. One that
    /// the browser forbids, as `ws:` from an `https:` page, is closed at once.
    #[wasm_bindgen(js_name = dial)]
    fn dial(driver: f64, link: f64, url: &str, early: &[u8]) -> WebSocket;

    /// Closes a WebSocket, of which nothing is heard any more.
    #[wasm_bindgen(js_name = hangUp)]
    fn hang_up(socket: &WebSocket);

    /// Wakes the driver in so many milliseconds; returns what `clearTimeout` takes.
    #[wasm_bindgen(js_name = wake)]
    fn wake(driver: f64, milliseconds: f64) -> JsValue;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);

    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue);
}

/// Now, by the browser's monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::from_micros((performance_now() * 1000.0) as u64)
}

/// 32 fresh random bytes.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    get_random_values(&mut bytes);
    bytes
}

/// How a relay is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Relay {
    pub(crate) url: String,
    /// Host, and port unless it is the scheme's own, in lower case.
    pub(crate) host: String,
    pub(crate) token: String,
}

/// One WebSocket to the relay; closed when dropped.
#[derive(Debug)]
pub(crate) struct WebSocketLink(WebSocket);

impl WebSocketLink {
    /// Dials for the driver of this number.
    pub(crate) fn open(relay: &Relay, driver: f64, link: LinkId, early: &[u8]) -> Self {
        Self(dial(driver, number(link), &relay.url, early))
    }

    /// Whether the WebSocket takes messages at all.
    pub(crate) fn is_open(&self) -> bool {
        self.0.ready_state() == OPEN
    }

    /// Whether the WebSocket holds little enough to be given more.
    pub(crate) fn has_room(&self) -> bool {
        self.0.buffered_amount() < HIGH_WATER_MARK
    }

    /// Sends through one that is open, which takes any message.
    pub(crate) fn send(&self, message: &LinkMessage) {
        match message {
            LinkMessage::Binary(data) => self.0.send_bytes(data),
            LinkMessage::Text(text) => self.0.send_text(text),
        }
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        // A page may say no other codes.
        let code = if code.is_for_applications() { code } else { CloseCode::NORMAL };
        self.0.close(code.0, tunnel_protocol::close::truncate_reason(reason));
    }
}

impl Drop for WebSocketLink {
    fn drop(&mut self) {
        hang_up(&self.0);
    }
}

/// A link's number in JavaScript.
pub(crate) fn number(link: LinkId) -> f64 {
    link.0 as f64
}

/// One timer, armed again and again.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    armed: RefCell<Option<(JsValue, Instant)>>,
}

impl Timer {
    /// Wakes the driver of this number at `at`, or earlier: it finds out whether it is time.
    pub(crate) fn arm(&self, driver: f64, at: Instant) {
        if self.armed.borrow().as_ref().is_some_and(|(_, armed)| *armed <= at) {
            return;
        }
        self.disarm();
        // Rounded up: a timer that fires too early is armed again. The platform takes 31 bits.
        // A `Duration` would count in 128 bits, which is 0.3 KB of code.
        let wait = at.as_micros().saturating_sub(now().as_micros()).div_ceil(1000).min(0x7fff_ffff) as f64;
        self.armed.replace(Some((wake(driver, wait), at)));
    }

    /// It has fired: nothing is armed.
    pub(crate) fn fired(&self) {
        self.armed.replace(None);
    }

    fn disarm(&self) {
        if let Some((timer, _)) = self.armed.take() {
            clear_timeout(&timer);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.disarm();
    }
}
