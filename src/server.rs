//! The Rust half of a `ForwardingServerWebSocket`.

use crate::driver::Driver;
use crate::identity::Identity;
use crate::link::random;
use crate::options::{self, Dial};
use crate::socket::{SocketCore, fire};
use std::cell::RefCell;
use std::rc::Rc;
use tunnel_protocol::ServerId;
use tunnel_protocol::endpoint::{Endpoint, Event, Offer, SocketId};
use tunnel_protocol::identity::StaticKey;
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
extern "C" {
    /// Defined in JavaScript because a Rust struct cannot extend `EventTarget`.
    #[wasm_bindgen(extends = web_sys::EventTarget)]
    #[derive(Clone, Debug)]
    pub type ForwardingServerWebSocket;

    /// Registers a server: a promise of it. `options` is an object as `js/sockets.d.ts` describes it, or undefined.
    #[wasm_bindgen(static_method_of = ForwardingServerWebSocket, js_name = newThrough)]
    pub fn new_through(relay_url: &str, options: &JsValue) -> js_sys::Promise;

    /// What clients connect to.
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

    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = ForwardingServerWebSocket, reexport, skip_typescript)]
    fn forwarding_server_web_socket();

    #[wasm_bindgen(js_name = fireHosting)]
    fn fire_hosting(server: &ForwardingServerWebSocket, server_id: &str, again: bool);
    #[wasm_bindgen(js_name = fireOffer)]
    fn fire_offer(
        server: &ForwardingServerWebSocket,
        core: SocketCore,
        channel: f64,
        port: u16,
        address: &str,
        remote_id: Option<String>,
        protocols: Vec<String>,
        path: &str,
        plain: bool,
    );
    #[wasm_bindgen(js_name = fireServerClosed)]
    fn fire_server_closed(server: &ForwardingServerWebSocket, code: u16, name: &str, reason: &str);
}

/// The class's object, until `close` has been fired: so long it stays alive by itself.
#[derive(Debug)]
pub(crate) struct Server {
    target: RefCell<Option<ForwardingServerWebSocket>>,
}

impl Server {
    /// Tells the class what happened.
    pub(crate) fn fire(&self, event: Event) {
        let Some(target) = self.target.borrow().clone() else { return };
        match event {
            Event::Hosting { server_id, again } => fire_hosting(&target, &server_id.to_string(), again),
            Event::HostInterrupted => fire(&target, "reconnecting"),
            Event::HostClosed { code, reason } => {
                fire_server_closed(&target, code.0, code.name().unwrap_or("closed"), &reason);
                self.target.take();
            }
            _ => {}
        }
    }

    /// Asks the class whether a client may come in.
    pub(crate) fn offer(&self, driver: Rc<Driver>, socket: SocketId, offer: Offer) {
        let core = SocketCore::incoming(driver, socket);
        let Some(target) = self.target.borrow().clone() else {
            return core.refuse("port-closed", "the server is closed");
        };
        let remote_id = offer.remote.map(|key| ServerId::Key(key).to_string());
        let Offer { port, address, protocols, path, plain, .. } = offer;
        fire_offer(&target, core, socket.0 as f64, port, &address, remote_id, protocols, &path, plain);
    }
}

/// What a `ForwardingServerWebSocket` commands.
#[wasm_bindgen(private)]
#[derive(Debug)]
pub(crate) struct ServerCore {
    driver: Rc<Driver>,
}

impl ServerCore {
    /// Begins to host a server.
    pub(crate) fn host(target: ForwardingServerWebSocket, dial: &Dial, identity: Option<Identity>) -> Self {
        let server = Rc::new(Server { target: RefCell::new(Some(target)) });
        let driver = Driver::new(options::relay(dial), Some(server), dial.allow_plain());
        let key = identity.as_ref().and_then(Identity::key);
        let key = key.unwrap_or_else(|| StaticKey::from_secret(random()));
        driver.add_identity(key.public(), identity);
        driver.with(|endpoint, now| endpoint.host(key, now));
        Self { driver }
    }
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl ServerCore {
    /// Closes the clients' sockets with 1001, then unregisters.
    pub fn close(&self) {
        self.driver.with(Endpoint::unhost);
    }
}
