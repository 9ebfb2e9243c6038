//! What a page asks for, as `js/sockets.js` and `js/server.js` have checked it.

use crate::link::Relay;
use tunnel_protocol::ServerId;
use tunnel_protocol::endpoint::ConnectOptions;
use tunnel_protocol::time::Duration;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// Where a client, or a server, wants to go.
    #[wasm_bindgen(js_name = Object)]
    pub(crate) type Dial;

    #[wasm_bindgen(method, getter)]
    fn relay(this: &Dial) -> String;
    #[wasm_bindgen(method, getter)]
    fn host(this: &Dial) -> String;
    #[wasm_bindgen(method, getter)]
    fn token(this: &Dial) -> String;
    #[wasm_bindgen(method, getter, js_name = serverId)]
    fn server_id(this: &Dial) -> String;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn port(this: &Dial) -> u16;
    #[wasm_bindgen(method, getter)]
    fn path(this: &Dial) -> String;
    /// Separated by commas, which no subprotocol contains.
    #[wasm_bindgen(method, getter)]
    fn protocols(this: &Dial) -> String;
    #[wasm_bindgen(method, getter, js_name = resumeTimeout)]
    fn resume_timeout(this: &Dial) -> f64;
    #[wasm_bindgen(method, getter, js_name = absentTimeout)]
    fn absent_timeout(this: &Dial) -> f64;
    #[wasm_bindgen(method, getter, js_name = allowPlain)]
    pub(crate) fn allow_plain(this: &Dial) -> bool;
}

/// The relay of a client or a server.
pub(crate) fn relay(dial: &Dial) -> Relay {
    Relay { url: dial.relay(), host: dial.host(), token: dial.token() }
}

/// The server that a client wants.
pub(crate) fn server_id(dial: &Dial) -> Option<ServerId> {
    dial.server_id().parse().ok()
}

/// How a client connects; its key is to be filled in.
pub(crate) fn connect_options(dial: &Dial) -> ConnectOptions {
    ConnectOptions {
        protocols: dial.protocols().split_terminator(',').map(str::to_owned).collect(),
        path: dial.path(),
        key: None,
        resume_timeout: milliseconds(dial.resume_timeout()),
        absent_timeout: milliseconds(dial.absent_timeout()),
        allow_plain: dial.allow_plain(),
    }
}

/// The cast saturates: `Infinity` is some centuries.
fn milliseconds(milliseconds: f64) -> Duration {
    Duration::from_millis(milliseconds as u64)
}
