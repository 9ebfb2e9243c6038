//! The Rust half of a `ForwardingServerWebSocket`: whose port is whose, which clients are refused, and who gets the sockets.
//!
//! Called by `handles.rs` for the class, and by the driver with the events of the server.

use super::socket::{SocketCore, fire};
use super::socket_handle::SocketHandle;
use crate::api::{Backlog, Claims, Error, Ports, Refusal, backlog_is_full, nobody_listens};
use crate::browser::driver::{Driver, ServerSink};
use crate::browser::identity::shared_secret;
use crate::browser::link::Relay;
use crate::browser::platform::random;
use crate::browser::{tasks, watching};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use tunnel_protocol::endpoint::{Endpoint, Event, HostStats, Incoming, SocketId};
use tunnel_protocol::identity::{DhError, StaticKey};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{CloseCode, ServerId, registration};
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
    /// `listener` is as [`Server::listen`] got it, or undefined for the port of a server without any.
    fn fire_offer(
        server: &JsValue,
        listener: JsValue,
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

    /// Returns whether the page listens to `connection`.
    #[wasm_bindgen(js_name = hasCallbacks)]
    fn has_callbacks(server: &JsValue) -> bool;

    /// The ends of a promise of `accept()`.
    pub(crate) type Taker;
    #[wasm_bindgen(method)]
    fn resolve(this: &Taker, socket: &JsValue);
    /// Rejects the promise: the server has ended.
    #[wasm_bindgen(js_name = dismiss)]
    fn dismiss(taker: &Taker);
}

/// A server of the class, and what its driver tells it.
pub(super) struct Server {
    /// The class's object, until `close` has been fired: so long it stays alive by itself.
    target: RefCell<Option<JsValue>>,
    driver: RefCell<Weak<Driver>>,
    /// The key that is its ID.
    key: StaticKey,
    /// By number: what the class's `listen` was given.
    claims: RefCell<Claims<(u32, JsValue)>>,
    /// The number of the next claim.
    claimed: Cell<u32>,
    backlog: RefCell<Backlog<JsValue, Taker>>,
    /// The counters at its end.
    last_stats: Cell<HostStats>,
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
        let key = key.unwrap_or_else(|| StaticKey::from_secret(random()));
        let server = Rc::new(Self {
            target: RefCell::new(Some(target)),
            driver: RefCell::default(),
            key: key.clone(),
            claims: RefCell::default(),
            claimed: Cell::default(),
            backlog: RefCell::default(),
            last_stats: Cell::default(),
        });
        let driver = Driver::new(relay, Some(server.clone()), allow_plain, max_clients);
        server.driver.replace(Rc::downgrade(&driver));
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

    /// Proves to the relay that has made the challenge that the page holds the server's key; `None`: the challenge is no key.
    pub(super) async fn prove(&self, challenge: PublicKey, url: &str) -> Option<[u8; 32]> {
        let mut key = self.key.clone();
        loop {
            match registration::prove(&key, &challenge, url) {
                Ok(proof) => return Some(proof),
                Err(DhError::Pending(theirs)) => {
                    let shared = shared_secret(key.public(), theirs).await;
                    key.answer(theirs, shared);
                }
                Err(_) => return None,
            }
        }
    }

    /// State and counters, as the application sees them.
    pub(super) fn stats(&self) -> JsValue {
        let driver = self.driver.borrow().upgrade().filter(|_| self.target.borrow().is_some());
        let stats = driver.as_ref().map(|driver| driver.read(Endpoint::host_stats));
        watching::server(driver.as_deref(), &stats.unwrap_or_else(|| self.last_stats.get()))
    }

    /// Claims ports for a listener; returns the number of the claim.
    pub(super) fn listen(&self, ports: Vec<Ports>, listener: JsValue) -> Result<u32, Error> {
        let number = self.claimed.get();
        self.claims.borrow_mut().claim(ports, (number, listener))?;
        self.claimed.set(number.wrapping_add(1));
        Ok(number)
    }

    /// Gives the ports of a claim up.
    pub(super) fn unlisten(&self, number: u32) {
        self.claims.borrow_mut().retain(|(claim, _)| *claim != number);
    }

    /// Sockets that nobody else gets wait for `accept()` from now on, on every port if none is claimed.
    pub(super) fn begin_accepting(&self) {
        self.backlog.borrow_mut().begin();
    }

    /// Takes the socket that has waited longest.
    pub(super) fn take(&self) -> Option<JsValue> {
        self.backlog.borrow_mut().take()
    }

    /// Has the next socket given to the taker.
    pub(super) fn wait(&self, taker: Taker) {
        self.backlog.borrow_mut().wait(taker);
    }

    /// Gives an open socket to a taker, or keeps it for the next; returns whether there was one.
    pub(super) fn put(&self, socket: JsValue) -> bool {
        let pair = self.backlog.borrow_mut().put(socket);
        if let Some((socket, taker)) = &pair {
            taker.resolve(socket);
        }
        pair.is_some()
    }

    /// Forgets a socket that has ended.
    pub(super) fn remove(&self, socket: &JsValue) {
        self.backlog.borrow_mut().remove(socket);
    }

    /// The refusal of a client of this port, if no more may wait.
    pub(super) fn refusal(&self, port: u16) -> Option<Refusal> {
        self.backlog.borrow().is_full().then(|| backlog_is_full(port))
    }

    /// The listener that has the port; undefined if the page serves all ports in another way.
    fn listener(&self, target: &JsValue, port: u16) -> Option<JsValue> {
        let mut claims = self.claims.borrow_mut();
        if claims.is_empty() && (self.backlog.borrow().is_used() || has_callbacks(target)) {
            return Some(JsValue::UNDEFINED);
        }
        claims.owner(port).map(|(_, listener)| listener.clone())
    }

    /// Asks the class whether a client may come in, if somebody listens on its port.
    fn ask(&self, driver: Rc<Driver>, id: SocketId, incoming: Incoming) {
        let core = SocketCore::incoming(driver, id);
        let Some(target) = self.target.borrow().clone() else {
            return core.refuse(CloseCode::PORT_CLOSED, "the server is closed");
        };
        let Some(listener) = self.listener(&target, incoming.port) else {
            let (code, reason) = nobody_listens(incoming.port);
            return core.refuse(code, &reason);
        };
        let remote_id = incoming.remote.map(|key| ServerId::Key(key).to_string());
        let Incoming { port, address, verified, protocols, path, plain, .. } = incoming;
        let (core, channel) = (SocketHandle(core), id.0 as f64);
        fire_offer(
            &target, listener, core, channel, port, &address, remote_id, verified, protocols, &path, plain,
        );
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
                let takers = self.backlog.borrow_mut().dismiss();
                takers.iter().for_each(dismiss);
                fire_server_closed(&target, code.0, code.name().unwrap_or("closed"), &reason);
                // The garbage collector does not see that the page's objects hold each other through these.
                self.target.take();
                self.claims.take();
            }
            (_, Event::Incoming { socket, incoming }) => self.ask(driver, socket, incoming),
            _ => {}
        }
    }
}

impl ServerSink for Server {
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, event: Event) {
        let driver = driver.clone();
        if matches!(event, Event::HostClosed { .. }) {
            self.last_stats.set(driver.read(Endpoint::host_stats));
        }
        tasks::post(move || self.fire(driver, event));
    }
}
