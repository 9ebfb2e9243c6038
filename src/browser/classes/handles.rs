//! The functions that the classes in `js/` call before they have a handle, and the handle of a server.

use super::server::{Server, Taker};
use super::socket::SocketCore;
use super::socket_handle::SocketHandle;
use crate::api::{Error, Ports};
use crate::browser::identity::TakenIdentity;
use crate::browser::link::{Relay, bound_url};
use crate::browser::{tasks, warm_up, watching};
use js_sys::{Function, Promise, TypeError};
use std::fmt::Write as _;
use std::rc::Rc;
use tunnel_protocol::ServerId;
use tunnel_protocol::endpoint::ConnectOptions;
use tunnel_protocol::session;
use tunnel_protocol::time::Duration;
use tunnel_protocol::tunnel_url::{self, TunnelUrl};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;
use web_sys::Url;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Makes a `TunnelError`.
    #[wasm_bindgen(js_name = tunnelError)]
    fn tunnel_error(code: &str, message: &str) -> JsValue;
}

#[wasm_bindgen]
extern "C" {
    /// The options of a client, as `js/sockets.js` has checked them.
    pub(crate) type ConnectDictionary;

    /// Path and query behind the port, or empty.
    #[wasm_bindgen(method, getter)]
    fn path(this: &ConnectDictionary) -> String;
    /// Subprotocols, in order of preference.
    #[wasm_bindgen(method, getter)]
    fn protocols(this: &ConnectDictionary) -> Vec<String>;
    /// In milliseconds.
    #[wasm_bindgen(method, getter, js_name = resumeTimeout)]
    fn resume_timeout(this: &ConnectDictionary) -> f64;
    /// In milliseconds.
    #[wasm_bindgen(method, getter, js_name = absentTimeout)]
    fn absent_timeout(this: &ConnectDictionary) -> f64;
    #[wasm_bindgen(method, getter)]
    fn livecode(this: &ConnectDictionary) -> bool;
    #[wasm_bindgen(method, getter, js_name = allowPlain)]
    fn allow_plain(this: &ConnectDictionary) -> bool;
    #[wasm_bindgen(method, getter)]
    fn redial(this: &ConnectDictionary) -> bool;
    /// In bytes; `Infinity` is no limit.
    #[wasm_bindgen(method, getter, js_name = maxMessageSize)]
    fn max_message_size(this: &ConnectDictionary) -> f64;

    /// The options of a server, as `js/server.js` has checked them.
    pub(crate) type HostDictionary;

    #[wasm_bindgen(method, getter)]
    fn livecode(this: &HostDictionary) -> bool;
    #[wasm_bindgen(method, getter, js_name = allowPlain)]
    fn allow_plain(this: &HostDictionary) -> bool;
    /// `Infinity` is no limit.
    #[wasm_bindgen(method, getter, js_name = maxClients)]
    fn max_clients(this: &HostDictionary) -> f64;
}

impl From<&ConnectDictionary> for ConnectOptions {
    fn from(options: &ConnectDictionary) -> Self {
        // The cast saturates: `Infinity` is some centuries.
        let milliseconds = |milliseconds: f64| Duration::from_millis(milliseconds as u64);
        Self {
            protocols: options.protocols(),
            path: options.path(),
            key: None,
            resume_timeout: milliseconds(options.resume_timeout()),
            absent_timeout: milliseconds(options.absent_timeout()),
            allow_plain: options.allow_plain(),
            redial: options.redial(),
        }
    }
}

/// A relay's URL as JavaScript has checked it, `None` for the relay of the warm-up; and a token: a text, or who is asked.
fn relay(url: Option<&Url>, token: JsValue, livecode: bool) -> Relay {
    let bound = url.map(bound_url).unwrap_or_default();
    Relay { url: url.map(Url::href), bound, token: token.into(), livecode }
}

/// The functions that the classes call before they have a handle.
#[wasm_bindgen(private)]
pub(crate) struct Tunnel;

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl Tunnel {
    /// Makes a socket that is to connect to a server's port. Its events go to `target`.
    pub fn connect(
        &self,
        target: JsValue,
        url: Option<Url>,
        token: JsValue,
        server_id: &str,
        port: u16,
        options: &ConnectDictionary,
    ) -> SocketHandle {
        let relay = relay(url.as_ref(), token, options.livecode());
        let max_message = options.max_message_size() as u64;
        SocketHandle(SocketCore::outgoing(target, relay, server_id, port, options.into(), max_message))
    }

    /// Begins to host a server, under a key of its own if there is no identity. Its events go to `target`.
    pub fn host(
        &self,
        target: JsValue,
        url: Option<Url>,
        token: JsValue,
        identity: Option<TakenIdentity>,
        options: &HostDictionary,
    ) -> ServerHandle {
        let key = identity.and_then(|identity| identity.static_key());
        let relay = relay(url.as_ref(), token, options.livecode());
        ServerHandle(Server::host(target, relay, options.allow_plain(), key, options.max_clients() as usize))
    }

    /// Says what is wrong with a text that should be a server ID; `undefined` if nothing is. A number is wrong unless
    /// `livecode` allows it.
    #[wasm_bindgen(js_name = serverIdProblem)]
    pub fn server_id_problem(&self, text: &str, livecode: bool) -> Option<String> {
        match text.parse() {
            Ok(ServerId::Number(_)) if !livecode => Some(
                "a number proves nothing about the server; the option { livecode: true } allows it"
                    .to_owned(),
            ),
            Ok(_) => None,
            Err(problem) => Some(problem.to_string()),
        }
    }

    /// Says why a client cannot offer the subprotocols and ask for the path; `undefined` if it can.
    #[wasm_bindgen(js_name = offerProblem)]
    pub fn offer_problem(&self, protocols: Vec<String>, path: &str) -> Option<String> {
        session::offer_problem(protocols.iter().map(String::as_str), path)
    }

    /// Takes a tunnel URL apart: an empty text, then the relay's URL, server ID, port and path; or a text that says what is
    /// wrong.
    #[wasm_bindgen(js_name = splitTunnelUrl)]
    pub fn split_tunnel_url(&self, url: &str, livecode: bool) -> Vec<String> {
        match TunnelUrl::parse(url, livecode) {
            Ok(TunnelUrl { relay, server, port, path }) => {
                vec![String::new(), relay.to_owned(), server.to_string(), port.to_string(), path]
            }
            Err(problem) => vec![problem.to_string()],
        }
    }

    /// The URL of a server, to which `/PORT` can be appended.
    #[wasm_bindgen(js_name = serverUrl)]
    pub fn server_url(&self, relay: &str, server_id: &str) -> String {
        server_id.parse().map_or_else(|_| String::new(), |id| tunnel_url::server_url(relay, &id))
    }

    /// The objects of `getLinks()`: one for each WebSocket of the page to a relay.
    pub fn links(&self) -> Vec<JsValue> {
        watching::links()
    }

    /// Calls `task` in a task of its own, behind the events that wait for theirs.
    pub fn post(&self, task: Function) {
        tasks::post(move || {
            // Tasks of the classes dispatch events, which throws nothing.
            let _ = task.call0(&JsValue::UNDEFINED);
        });
    }
}

/// Turns the warm-up off: the page does not connect to itself when it is idle.
#[wasm_bindgen(js_name = skipWarmUp)]
#[allow(unreachable_pub, reason = "only public functions are exported")]
pub fn skip_warm_up() {
    warm_up::skip();
}

/// The Rust half of a `ForwardingServerWebSocket`.
#[wasm_bindgen(private)]
pub(crate) struct ServerHandle(Rc<Server>);

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl ServerHandle {
    /// Claims ranges of ports for a listener, an object that each offer comes with. `bounds` has the first and the last port of
    /// each range. Returns the number of the claim; throws a `TunnelError` or a `TypeError`.
    pub fn listen(&self, bounds: &[u16], listener: JsValue) -> Result<u32, JsValue> {
        let (ranges, _) = bounds.as_chunks();
        let ports = ranges.iter().map(|[first, last]| Ports::new(*first, *last)).collect();
        self.0.listen(ports, listener).map_err(|error| match error {
            Error::PortTaken(port) => {
                tunnel_error("port-taken", &format!("port {port} is taken: close its Listener first"))
            }
            other => TypeError::new(&other.to_string()).into(),
        })
    }

    /// Gives the ports of a claim up.
    pub fn unlisten(&self, claim: u32) {
        self.0.unlisten(claim);
    }

    /// Sockets that nobody else gets wait for `accept()` from now on.
    #[wasm_bindgen(js_name = beginAccepting)]
    pub fn begin_accepting(&self) {
        self.0.begin_accepting();
    }

    /// Takes the open socket that has waited longest; `undefined` if none waits.
    pub fn take(&self) -> JsValue {
        self.0.take().unwrap_or_default()
    }

    /// Has the next open socket given to the taker: the ends of a promise.
    pub fn wait(&self, taker: Taker) {
        self.0.wait(taker);
    }

    /// Gives an open socket to a taker, or keeps it for the next; returns whether there was one.
    pub fn put(&self, socket: JsValue) -> bool {
        self.0.put(socket)
    }

    /// Forgets a socket that has ended.
    pub fn remove(&self, socket: &JsValue) {
        self.0.remove(socket);
    }

    /// Refuses the client of a port if too many wait already; returns whether it did.
    #[wasm_bindgen(js_name = refusesSurplus)]
    pub fn refuses_surplus(&self, client: &SocketHandle, port: u16) -> bool {
        let refusal = self.0.refusal(port);
        if let Some((code, reason)) = &refusal {
            client.0.refuse(*code, reason);
        }
        refusal.is_some()
    }

    /// Proves to the relay of a URL, whose challenge is the text of a key, that the page holds the server's key. A promise of the proof in
    /// hexadecimal digits, which are none if the challenge is no key.
    pub fn prove(&self, challenge: &str, url: &Url) -> Promise {
        let (server, url, challenge) = (self.0.clone(), bound_url(url), challenge.parse::<ServerId>());
        future_to_promise(async move {
            let mut digits = String::new();
            if let Some(challenge) = challenge.ok().as_ref().and_then(ServerId::key)
                && let Some(proof) = server.prove(*challenge, &url).await
            {
                for byte in proof {
                    write!(digits, "{byte:02x}").expect("a String takes everything");
                }
            }
            Ok(digits.into())
        })
    }

    /// Closes the clients' sockets with 1001, then unregisters.
    pub fn close(&self) {
        self.0.close();
    }

    /// State and counters; of a server that has ended, the last ones.
    #[wasm_bindgen(js_name = hostStats)]
    pub fn host_stats(&self) -> JsValue {
        self.0.stats()
    }
}
