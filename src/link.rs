//! The browser's WebSocket to a relay, and the other things of the browser that a [`Driver`](crate::driver::Driver)
//! drives: a timer, the clock, randomness.

use crate::driver::Driver;
use crate::event;
use bytes::Bytes;
use js_sys::{Function, Uint8Array};
use std::cell::RefCell;
use std::rc::Weak;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};
use tunnel_protocol::{CloseCode, Instant, SUBPROTOCOL};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

/// As much as a WebSocket is given ahead, in bytes: what it holds can neither be overtaken nor packed better.
const HIGH_WATER_MARK: u32 = 256 * 1024;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    /// A new WebSocket, or what stands for one in a rehearsal.
    #[wasm_bindgen(js_name = dial, catch)]
    fn dial(url: &str, protocol: &str) -> Result<WebSocket, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);

    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &Function, milliseconds: f64) -> JsValue;

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
pub(crate) struct WebSocketLink {
    socket: WebSocket,
    _on_message: Closure<dyn Fn(MessageEvent)>,
    _on_change: Closure<dyn Fn(Event)>,
}

impl WebSocketLink {
    /// Dials. Fails where the browser forbids the URL, as `ws:` from an `https:` page.
    pub(crate) fn open(relay: &Relay, id: LinkId, driver: Weak<Driver>) -> Result<Self, JsValue> {
        let socket = dial(&relay.url, SUBPROTOCOL)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let receiver = driver.clone();
        let on_message = Closure::<dyn Fn(MessageEvent)>::new(move |event: MessageEvent| {
            if let Some(driver) = receiver.upgrade() {
                let data = event.data();
                let message = match data.as_string() {
                    Some(text) => LinkMessage::Text(text),
                    None => LinkMessage::Binary(Bytes::from(Uint8Array::new(&data).to_vec())),
                };
                driver.handle_message(id, message);
            }
        });
        let on_change = Closure::<dyn Fn(Event)>::new(move |event: Event| {
            let Some(driver) = driver.upgrade() else { return };
            if event.type_() == "open" {
                driver.with(|endpoint, now| endpoint.handle_link_opened(id, now));
            } else {
                let event: CloseEvent = event.unchecked_into();
                driver.handle_link_closed(id, CloseCode(event.code()), &event.reason());
            }
        });
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        event::run_tasks_after(&socket);
        socket.set_onopen(Some(on_change.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_change.as_ref().unchecked_ref()));
        Ok(Self { socket, _on_message: on_message, _on_change: on_change })
    }

    /// Whether the WebSocket takes messages at all.
    pub(crate) fn is_open(&self) -> bool {
        self.socket.ready_state() == WebSocket::OPEN
    }

    /// Whether the WebSocket holds little enough to be given more.
    pub(crate) fn has_room(&self) -> bool {
        self.socket.buffered_amount() < HIGH_WATER_MARK
    }

    pub(crate) fn send(&self, message: &LinkMessage) {
        let sent = match message {
            LinkMessage::Binary(data) => self.socket.send_with_u8_array(data),
            LinkMessage::Text(text) => self.socket.send_with_str(text),
        };
        debug_assert!(sent.is_ok(), "an open WebSocket takes any message");
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        // A page may say no other codes.
        let code = if code.is_for_applications() { code } else { CloseCode::NORMAL };
        let closed =
            self.socket.close_with_code_and_reason(code.0, tunnel_protocol::close::truncate_reason(reason));
        debug_assert!(closed.is_ok(), "code and reason are within the bounds");
    }
}

impl Drop for WebSocketLink {
    fn drop(&mut self) {
        self.socket.set_onmessage(None);
        self.socket.set_onopen(None);
        self.socket.set_onclose(None);
        // Does nothing to a WebSocket that is closing already.
        let closed = self.socket.close();
        debug_assert!(closed.is_ok(), "closing without a code is always possible");
    }
}

/// One timer, armed again and again.
#[derive(Debug)]
pub(crate) struct Timer {
    callback: Closure<dyn Fn()>,
    armed: RefCell<Option<(JsValue, Instant)>>,
}

impl Timer {
    pub(crate) fn new(callback: impl Fn() + 'static) -> Self {
        Self { callback: Closure::new(callback), armed: RefCell::new(None) }
    }

    /// Fires at `at`, or earlier: the owner finds out whether it is time.
    pub(crate) fn arm(&self, at: Instant) {
        if self.armed.borrow().as_ref().is_some_and(|(_, armed)| *armed <= at) {
            return;
        }
        self.disarm();
        // Rounded up: a timer that fires too early is armed again. The platform takes 31 bits.
        let wait = (at - now()).as_micros().div_ceil(1000).min(0x7fff_ffff) as f64;
        let timer = set_timeout(self.callback.as_ref().unchecked_ref(), wait);
        self.armed.replace(Some((timer, at)));
    }

    /// The callback runs: nothing is armed.
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
