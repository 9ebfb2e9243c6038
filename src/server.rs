//! The Rust half of a `ForwardingServerWebSocket`.

use crate::driver::Driver;
use crate::identity;
use crate::link::random;
use crate::options::Place;
use crate::socket::{SocketCore, fire};
use std::cell::RefCell;
use std::rc::Rc;
use tunnel_protocol::endpoint::{Event, Offer, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::text::ToText;
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
    /// The remote ID is empty when it isn't known; subprotocols are separated by NUL, and each ends with one.
    #[wasm_bindgen(js_name = fireOffer)]
    fn fire_offer(
        server: &JsValue,
        core: u32,
        channel: f64,
        port: u16,
        address: &str,
        remote_id: &str,
        protocols: &str,
        path: &str,
        plain: bool,
    );
    #[wasm_bindgen(js_name = fireServerClosed)]
    fn fire_server_closed(server: &JsValue, code: u16, name: &str, reason: &str);
}

#[wasm_bindgen(module = "/js/common.js")]
extern "C" {
    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = TunnelError, reexport, skip_typescript)]
    fn tunnel_error_class();
}

/// The class's object, until `close` has been fired: so long it stays alive by itself.
#[derive(Debug)]
pub(crate) struct Server {
    target: RefCell<Option<JsValue>>,
}

impl Server {
    /// Tells the class what happened.
    pub(crate) fn fire(&self, event: Event) {
        let Some(target) = self.target.borrow().clone() else { return };
        match event {
            Event::Hosting { server_id, again } => fire_hosting(&target, &server_id.to_text(), again),
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
            SocketCore::with(core, |core| core.refuse(CloseCode::PORT_CLOSED, "the server is closed"));
            return SocketCore::forget(core);
        };
        let remote_id = offer.remote.map_or_else(String::new, |key| ServerId::Key(key).to_text());
        let Offer { port, address, protocols, path, plain, .. } = offer;
        let protocols: String = protocols.into_iter().map(|protocol| protocol + "\0").collect();
        fire_offer(&target, core, socket.0 as f64, port, &address, &remote_id, &protocols, &path, plain);
    }
}

/// Begins to host a server, under the key if it is one; returns its driver's number.
pub(crate) fn host(target: JsValue, place: &str, allow_plain: bool, key: &[u8], stays: bool) -> f64 {
    let server = Rc::new(Server { target: RefCell::new(Some(target)) });
    let driver = Driver::new(Place::parse(place).relay, Some(server), allow_plain);
    let key = identity::key(key, stays).unwrap_or_else(|| StaticKey::from_secret(random()));
    driver.with(|endpoint, now| endpoint.host(key, now));
    driver.number()
}
