//! Messages, between JavaScript's types and the core's.

use js_sys::Uint8Array;
use tunnel_protocol::Message;
use wasm_bindgen::prelude::*;

/// A string, or an `ArrayBuffer` of its own: the one copy on the way out of wasm memory.
pub(crate) fn to_js(message: &Message) -> JsValue {
    match message {
        Message::Text(text) => JsValue::from_str(text),
        Message::Binary(data) => Uint8Array::from(&data[..]).buffer().into(),
    }
}
