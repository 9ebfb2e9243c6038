//! The Rust half of a `ForwardingServerWebSocket`.

use super::handles::SocketHandle;
use super::socket::{SocketCore, fire};
use crate::browser::driver::{Driver, ServerSink};
use crate::browser::link::Relay;
use crate::browser::platform::random;
use crate::browser::tasks;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use tunnel_protocol::endpoint::{Endpoint, Event, Offer, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{CloseCode, ServerId};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/server.js")]
extern "C" {
    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = ForwardingServerWebSocket, reexport, skip_typescript)]
    fn forwarding_server_web_socket();

    #[wasm_bindgen(js_name = fireHosting)]
    fn fire_hosting(server: &JsValue, server_id: &str, again: bool);
    #[wasm_bindgen(js_name = fireOffer)]
    fn fire_offer(
        server: &JsValue,
        core: SocketHandle,
        channel: f64,
        port: u16,
        address: &str,
        remote_id: Option<String>,
        verified: bool,
        protocols: Vec<String>,
        path: &str,
        plain: bool,
    );
    #[wasm_bindgen(js_name = fireServerClosed)]
    fn fire_server_closed(server: &JsValue, code: u16, name: &str, reason: &str);
}

/// A server of the class, and what its driver tells it.
pub(super) struct Server {
    /// The class's object, until `close` has been fired: so long it stays alive by itself.
    target: RefCell<Option<JsValue>>,
    driver: RefCell<Weak<Driver>>,
}

impl Server {
    /// Begins to host a server, under the key if there is one.
    pub(super) fn host(
        target: JsValue,
        relay: Relay,
        allow_plain: bool,
        key: Option<StaticKey>,
        max_clients: usize,
    ) -> Rc<Self> {
        let server = Rc::new(Self { target: RefCell::new(Some(target)), driver: RefCell::default() });
        let driver = Driver::new(relay, Some(server.clone()), allow_plain, max_clients);
        server.driver.replace(Rc::downgrade(&driver));
        let key = key.unwrap_or_else(|| StaticKey::from_secret(random()));
        driver.with(|endpoint, now| endpoint.host(key, now));
        server
    }

    /// Closes the clients' sockets with 1001, then unregisters.
    pub(super) fn close(&self) {
        let driver = self.driver.borrow().upgrade();
        if let Some(driver) = driver {
            driver.with(Endpoint::unhost);
        }
    }

    /// Tells the class what happened.
    fn fire(&self, driver: Rc<Driver>, event: Event) {
        let target = self.target.borrow().clone();
        match (target, event) {
            (Some(target), Event::Hosting { server_id, again }) => {
                fire_hosting(&target, &server_id.to_string(), again);
            }
            (Some(target), Event::HostInterrupted) => fire(&target, "reconnecting"),
            (Some(target), Event::HostClosed { code, reason }) => {
                fire_server_closed(&target, code.0, code.name().unwrap_or("closed"), &reason);
                self.target.take();
            }
            (target, Event::Offer { socket, offer }) => ask(target, driver, socket, offer),
            _ => {}
        }
    }
}

impl ServerSink for Server {
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, event: Event) {
        let driver = driver.clone();
        tasks::post(move || self.fire(driver, event));
    }
}

/// Asks the class whether a client may come in.
fn ask(target: Option<JsValue>, driver: Rc<Driver>, socket: SocketId, offer: Offer) {
    let core = SocketCore::incoming(driver, socket);
    let Some(target) = target else {
        return core.refuse(CloseCode::PORT_CLOSED, "the server is closed");
    };
    let remote_id = offer.remote.map(|key| ServerId::Key(key).to_string());
    let Offer { port, address, verified, protocols, path, plain, .. } = offer;
    let (core, channel) = (SocketHandle(core), socket.0 as f64);
    fire_offer(&target, core, channel, port, &address, remote_id, verified, protocols, &path, plain);
}
