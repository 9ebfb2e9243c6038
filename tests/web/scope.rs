//! What the tests have: a server, and JavaScript with the classes in its scope.

use js_sys::{Object, Promise, Reflect};
use std::time::Duration;
use tunnel_wasm::{ForwardingServerWebSocket, PeerToPeerWebSocket};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

pub(crate) const RELAY: &str = match option_env!("TUNNEL_RELAY_URL") {
    Some(url) => url,
    None => "ws://127.0.0.1:8087",
};

/// Longer than anything here takes on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

#[wasm_bindgen(inline_js = r"
const failed = (what, why) => new Error(`${what}: ${why}`)

export const within = (milliseconds, what, promise) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(failed(what, `nothing within ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export const nextEvent = (target, type) =>
  new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

const same = (actual, expected, what = '') => {
  const [a, b] = [actual, expected].map(value => JSON.stringify(value))
  if (a !== b) throw failed(what || 'differs', `${a} instead of ${b}`)
}

const thrown = action => {
  try {
    action()
    return 'nothing'
  } catch (error) {
    return error.name
  }
}

const AsyncFunction = (async () => {}).constructor

export const script = (body, scope) => {
  const { PeerToPeerWebSocket, server, relay } = scope
  const connect = (port, options) => PeerToPeerWebSocket.toPort(port, server.serverId, relay, options)
  const names = { ...scope, connect, nextEvent, same, thrown }
  return new AsyncFunction(...Object.keys(names), body)(...Object.values(names))
}
")]
extern "C" {
    #[wasm_bindgen(js_name = within)]
    fn within_promise(milliseconds: f64, what: &str, promise: &Promise) -> Promise;
    #[wasm_bindgen(js_name = nextEvent)]
    fn next_event_promise(target: &JsValue, event_type: &str) -> Promise;
    /// Calls an async function with this body and, in its scope, these names and those above.
    fn script(body: &str, scope: &JsValue) -> Promise;
}

/// Waits for a promise; a panic names what did not come in time, or why it was rejected.
pub(crate) async fn within(limit: Duration, what: &str, promise: &Promise) -> JsValue {
    let result = JsFuture::from(within_promise(limit.as_secs_f64() * 1000.0, what, promise)).await;
    result.unwrap_or_else(|error| panic!("{what}: {}", describe(&error)))
}

fn describe(error: &JsValue) -> String {
    let stack = Reflect::get(error, &"stack".into()).ok().and_then(|stack| stack.as_string());
    let text = error.dyn_ref::<Object>().map(|error| String::from(error.to_string()));
    [text, stack].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

pub(crate) async fn next_event<T: JsCast>(target: &JsValue, event_type: &str) -> T {
    within(LIMIT, event_type, &next_event_promise(target, event_type)).await.unchecked_into()
}

pub(crate) async fn new_server() -> ForwardingServerWebSocket {
    // wasm-bindgen-test does not run `start`.
    tunnel_wasm::start();
    let server = ForwardingServerWebSocket::new_through(RELAY, &JsValue::UNDEFINED);
    within(LIMIT, "a server", &server).await.unchecked_into()
}

/// Runs JavaScript that has the classes, `relay`, a `server` of its own and `connect(port, options)` in its scope.
pub(crate) async fn run(what: &str, body: &str) {
    let server = new_server().await;
    let class = |object: &JsValue| Reflect::get(object, &"constructor".into()).unwrap();
    let probe = PeerToPeerWebSocket::to_port(0, &server.server_id(), RELAY, &JsValue::UNDEFINED).unwrap();
    let scope = Object::new();
    for (name, value) in [
        ("PeerToPeerWebSocket", &class(&probe)),
        ("ForwardingServerWebSocket", &class(&server)),
        ("server", &server),
        ("relay", &RELAY.into()),
    ] {
        Reflect::set(&scope, &name.into(), value).unwrap();
    }
    probe.close();
    within(LIMIT, what, &script(body, &scope)).await;
    within(LIMIT, "closing the server", &server.close()).await;
}
