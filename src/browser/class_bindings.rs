//! The classes as Rust code sees them. Called by the tests in `tests/web`; the npm package does not need it.

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/sockets.js")]
extern "C" {
    /// Defined in JavaScript because a Rust struct cannot extend `EventTarget`.
    #[wasm_bindgen(extends = web_sys::EventTarget)]
    #[derive(Clone, Debug)]
    pub type PeerToPeerWebSocket;

    /// Connects to a port of a server; `options` is an object as `js/sockets.d.ts` describes it, or undefined.
    #[wasm_bindgen(static_method_of = PeerToPeerWebSocket, js_name = toPort, catch)]
    pub fn to_port(
        port: u16,
        server_id: &str,
        relay_url: &str,
        options: &JsValue,
    ) -> Result<PeerToPeerWebSocket, JsValue>;

    /// Sends a string, a `Blob`, an `ArrayBuffer` or a view of one.
    #[wasm_bindgen(method, catch)]
    pub fn send(this: &PeerToPeerWebSocket, data: &JsValue) -> Result<(), JsValue>;

    /// Closes the socket.
    #[wasm_bindgen(method)]
    pub fn close(this: &PeerToPeerWebSocket);
}

#[wasm_bindgen(module = "/js/server.js")]
extern "C" {
    /// Defined in JavaScript because a Rust struct cannot extend `EventTarget`.
    #[wasm_bindgen(extends = web_sys::EventTarget)]
    #[derive(Clone, Debug)]
    pub type ForwardingServerWebSocket;

    /// Registers a server: a promise of it. `options` is an object as `js/sockets.d.ts` describes it, or undefined.
    #[wasm_bindgen(static_method_of = ForwardingServerWebSocket, js_name = newThrough)]
    pub fn new_through(relay_url: &str, options: &JsValue) -> js_sys::Promise;

    /// The ID that clients connect to.
    #[wasm_bindgen(method, getter, js_name = serverId)]
    pub fn server_id(this: &ForwardingServerWebSocket) -> String;

    /// Serves a port: the handler gets each open socket.
    #[wasm_bindgen(method, catch)]
    pub fn listen(
        this: &ForwardingServerWebSocket,
        port: u16,
        handler: &js_sys::Function,
    ) -> Result<JsValue, JsValue>;

    /// Closes the clients with 1001 and unregisters.
    #[wasm_bindgen(method)]
    pub fn close(this: &ForwardingServerWebSocket) -> js_sys::Promise;
}
