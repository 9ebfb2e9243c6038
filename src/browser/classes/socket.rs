//! The Rust half of a `PeerToPeerWebSocket`: from the class to the endpoint, and from its events to the class.
//!
//! Called by `socket_handle.rs` for the class, and by the driver with the events of the socket.

use crate::browser::driver::{Driver, SocketSink};
use crate::browser::frames::to_buffer;
use crate::browser::link::Relay;
use crate::browser::{tasks, watching};
use js_sys::ArrayBuffer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tunnel_protocol::close::truncate_reason;
use tunnel_protocol::endpoint::{ConnectOptions, Endpoint, Event, Liveness, Remote, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::SessionStats;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};
use wasm_bindgen::prelude::*;
use web_sys::WebSocket;

#[wasm_bindgen(module = "/js/sockets.js")]
extern "C" {
    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = PeerToPeerWebSocket, reexport, skip_typescript)]
    fn peer_to_peer_web_socket();

    #[wasm_bindgen(js_name = fireOpen)]
    fn fire_open(
        socket: &JsValue,
        protocol: &str,
        address: Option<String>,
        remote_id: Option<String>,
        verified: bool,
        encrypted: bool,
    );
    #[wasm_bindgen(js_name = fireMessage)]
    fn fire_text(socket: &JsValue, text: &str);
    #[wasm_bindgen(js_name = fireMessage)]
    fn fire_bytes(socket: &JsValue, bytes: &ArrayBuffer);
    #[wasm_bindgen(js_name = fireAvailable)]
    fn fire_available(socket: &JsValue);
    #[wasm_bindgen(js_name = fireDrained)]
    fn fire_drained(socket: &JsValue);
    /// The socket has ended, and messages wait that nobody has taken.
    #[wasm_bindgen(js_name = fireEnding)]
    fn fire_ending(socket: &JsValue);
    /// `message` is the whole reason; `reason` is the part of it that a close event may have.
    #[wasm_bindgen(js_name = fireClosed)]
    fn fire_closed(socket: &JsValue, code: u16, name: &str, message: &str, reason: &str, was_clean: bool);
    /// The socket has a new session.
    #[wasm_bindgen(js_name = fireReopened)]
    fn fire_reopened(socket: &JsValue, protocol: &str);
    /// Fires an event that says nothing but its type.
    #[wasm_bindgen(js_name = fire)]
    pub(crate) fn fire(target: &JsValue, event_type: &str);
}

/// The receiver of a socket's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taker {
    /// The listeners to `message`.
    #[default]
    Listeners,
    /// A reader, one by one.
    Reader,
    /// Nobody until somebody listens.
    Nobody,
}

/// The state of one socket on this side of the class.
#[derive(Default)]
pub(crate) struct Socket {
    /// The class's object, from when there is one until `close` has been fired: so long it stays alive by itself.
    target: RefCell<Option<JsValue>>,
    /// The value of `bufferedAmount`, in bytes.
    buffered: Cell<usize>,
    /// True when the page has read that value since it fell last.
    is_watched: Cell<bool>,
    /// The receiver of its messages.
    taker: Cell<Taker>,
    /// The end of a socket whose messages still wait for somebody who listens.
    end: RefCell<Option<Event>>,
    /// Messages that have had no event yet.
    inbox: RefCell<VecDeque<Message>>,
    /// The messages that were not known to have arrived at its end.
    leftover: RefCell<Vec<Message>>,
    /// The counters at its end.
    last_stats: Cell<SessionStats>,
}

impl Socket {
    /// Tells the class what happened.
    fn fire(self: &Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        let Some(target) = self.target() else { return };
        match event {
            Event::Opened { protocol, remote, .. } => {
                let remote_id = remote_id(&remote);
                fire_open(&target, &protocol, remote.address, remote_id, remote.verified, remote.encrypted);
            }
            Event::Message { message, .. } => {
                self.inbox.borrow_mut().push_back(message);
                self.deliver(&target, driver, id);
            }
            Event::Interrupted { .. } => fire(&target, "reconnecting"),
            Event::Resumed { .. } => fire(&target, "reconnected"),
            Event::Reopened { protocol, .. } => {
                // Messages that the listeners send go out before those that have waited for them.
                driver.with_later(|endpoint, _| endpoint.greet(id));
                fire_reopened(&target, &protocol);
                driver.with_later(|endpoint, _| endpoint.flush(id));
            }
            Event::Closed { code, reason, was_clean, failed, stats, .. } => {
                if !self.inbox.borrow().is_empty() && self.taker.get() != Taker::Reader {
                    let end = Event::Closed { socket: id, code, reason, was_clean, failed, stats };
                    if self.taker.get() == Taker::Nobody {
                        self.end.replace(Some(end));
                        fire_ending(&target);
                    } else {
                        // The messages have been given tasks, which come first.
                        self.post(driver, id, end);
                    }
                    return;
                }
                let name = code.name().unwrap_or("closed");
                // A socket that never opened closes with 1006, so its reason has to say what the code would have.
                let reason = if failed { name.to_owned() + ": " + &reason } else { reason };
                fire_closed(&target, code.0, name, &reason, truncate_reason(&reason), was_clean);
                self.target.take();
            }
            _ => {}
        }
    }

    /// Tells the class in a task of its own.
    fn post(self: &Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        let (socket, driver) = (self.clone(), driver.clone());
        tasks::post(move || socket.fire(&driver, id, event));
    }

    fn target(&self) -> Option<JsValue> {
        self.target.borrow().clone()
    }

    /// Gives the oldest message to the listeners, or tells the reader that there is one.
    fn deliver(&self, target: &JsValue, driver: &Driver, id: SocketId) {
        if self.taker.get() != Taker::Listeners {
            return fire_available(target);
        }
        let message = self.inbox.borrow_mut().pop_front();
        if let Some(message) = message {
            match &message {
                Message::Text(text) => fire_text(target, text),
                Message::Binary(data) => fire_bytes(target, &to_buffer(data)),
            }
            driver.consume(id, message.cost());
        }
    }
}

impl SocketSink for Socket {
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        match event {
            Event::Unacknowledged { messages, .. } => {
                self.leftover.replace(messages);
                return;
            }
            Event::Closed { stats, .. } => self.last_stats.set(stats),
            _ => {}
        }
        self.post(driver, id, event);
    }

    fn add_buffered(&self, len: usize) -> bool {
        self.buffered.replace(self.buffered.get() + len) == 0
    }

    fn buffered(&self) -> usize {
        self.buffered.get()
    }

    fn is_watched(&self) -> bool {
        self.is_watched.get()
    }

    fn settle_buffered(&self, id: SocketId, driver: &Driver) -> bool {
        self.is_watched.set(false);
        let now = driver.read(|endpoint| endpoint.buffered_amount(id));
        if now < self.buffered.replace(now)
            && let Some(target) = self.target()
        {
            fire_drained(&target);
        }
        now > 0
    }
}

/// The name of the other side's key, if it has proven that it holds it.
fn remote_id(remote: &Remote) -> Option<String> {
    let key = remote.key.filter(|_| remote.verified);
    key.map(|key| ServerId::Key(key).to_string())
}

/// The commands of a `PeerToPeerWebSocket`.
pub(crate) struct SocketCore {
    driver: Rc<Driver>,
    socket: Rc<Socket>,
    /// The endpoint's name for it, once it has been dialled.
    id: Cell<Option<SocketId>>,
    /// The place to connect to, until [`dial`](Self::dial) is called.
    plan: RefCell<Option<(ServerId, u16, ConnectOptions)>>,
    /// Longest message that it takes, in bytes, when it is dialled.
    max_message: u64,
}

impl SocketCore {
    /// The client's end of a connection that is to be dialled. A server ID that is none is never dialled: the classes have
    /// looked at it before.
    pub(crate) fn outgoing(
        target: JsValue,
        relay: Relay,
        server_id: &str,
        port: u16,
        options: ConnectOptions,
        max_message: u64,
    ) -> Rc<Self> {
        let plan = server_id.parse().ok().map(|id| (id, port, options));
        Rc::new(Self {
            driver: Driver::shared(relay),
            socket: Rc::new(Socket { target: RefCell::new(Some(target)), ..Socket::default() }),
            id: Cell::new(None),
            plan: RefCell::new(plan),
            max_message,
        })
    }

    /// The server's end of a connection that a client wants.
    pub(crate) fn incoming(driver: Rc<Driver>, id: SocketId) -> Rc<Self> {
        let (id, plan) = (Cell::new(Some(id)), RefCell::default());
        Rc::new(Self { driver, socket: Rc::default(), id, plan, max_message: 0 })
    }

    fn command(&self, act: impl FnOnce(&mut Endpoint, SocketId, Instant)) {
        if let Some(id) = self.id.get() {
            self.driver.with_later(|endpoint, now| act(endpoint, id, now));
        }
    }

    /// Ends what was never dialled.
    fn forgo(&self, reason: &str) {
        if self.plan.take().is_none() {
            return;
        }
        let (socket, driver, reason) = (self.socket.clone(), self.driver.clone(), reason.to_owned());
        let id = SocketId(u64::MAX);
        let event = Event::Closed {
            socket: id,
            code: CloseCode::ABORTED,
            reason,
            was_clean: false,
            failed: true,
            stats: SessionStats::default(),
        };
        tasks::post(move || socket.fire(&driver, id, event));
    }

    /// Connects, under the key if there is one.
    pub(crate) fn dial(&self, key: Option<StaticKey>) {
        let Some((server, port, mut options)) = self.plan.take() else { return };
        options.key = key;
        let id = self.driver.connect(server, port, options, self.max_message, self.socket.clone());
        self.id.set(Some(id));
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: Message) {
        if let Some(id) = self.id.get() {
            self.driver.send(id, self.socket.clone(), message);
        }
    }

    /// Bytes that `send` took and that had not left when the current task began.
    pub(crate) fn buffered_amount(&self) -> f64 {
        let buffered = self.socket.buffered.get();
        if buffered > 0 && !self.socket.is_watched.replace(true) {
            // It is to fall even if nothing else happens.
            self.driver.settle_later();
        }
        buffered as f64
    }

    /// Closes behind what has been sent.
    pub(crate) fn close(&self, code: Option<CloseCode>, reason: &str) {
        self.forgo("closed before the connection was established");
        self.command(|endpoint, id, now| endpoint.close(id, code, reason, now));
    }

    /// Ends at once.
    pub(crate) fn abort(&self, reason: &str) {
        self.forgo(reason);
        self.command(|endpoint, id, now| endpoint.abort(id, CloseCode::ABORTED, reason, now));
    }

    /// Keeps messages for [`take`](Self::take).
    pub(crate) fn hold(&self) {
        self.socket.taker.set(Taker::Reader);
        self.post_end();
    }

    /// Has the end told that waited behind messages.
    fn post_end(&self) {
        if let (Some(id), Some(end)) = (self.id.get(), self.socket.end.take()) {
            self.socket.post(&self.driver, id, end);
        }
    }

    /// Keeps messages, and what comes after them, until [`unpark`](Self::unpark).
    pub(crate) fn park(&self) {
        self.socket.taker.set(Taker::Nobody);
    }

    /// Has events fired for what was kept.
    pub(crate) fn unpark(&self) {
        self.socket.taker.set(Taker::Listeners);
        // A client's socket may be listened to before it is dialled: then there is nothing yet.
        let Some(id) = self.id.get() else { return };
        for _ in 0..self.socket.inbox.borrow().len() {
            let (socket, driver) = (self.socket.clone(), self.driver.clone());
            tasks::post(move || {
                if let Some(target) = socket.target() {
                    socket.deliver(&target, &driver, id);
                }
            });
        }
        self.post_end();
    }

    /// Takes the oldest message that was kept, if there is one; the peer may then send as much again.
    pub(crate) fn take(&self) -> Option<Message> {
        let message = self.socket.inbox.borrow_mut().pop_front()?;
        self.command(|endpoint, id, now| endpoint.consume(id, message.cost(), now));
        Some(message)
    }

    /// Takes out what is not known to have arrived, of sessions that are lost.
    pub(crate) fn take_unacknowledged(&self) -> Vec<Message> {
        let live =
            self.id.get().map(|id| self.driver.with_later(|endpoint, _| endpoint.take_unacknowledged(id)));
        let mut messages = live.unwrap_or_default();
        messages.append(&mut self.socket.leftover.borrow_mut());
        messages
    }

    /// The counters; of a socket that has ended, the last ones.
    pub(crate) fn stats(&self) -> (SessionStats, Option<Liveness>) {
        let live = self.id.get().and_then(|id| self.driver.read(|endpoint| endpoint.stats(id)));
        let session = live.map_or_else(|| self.socket.last_stats.get(), |stats| stats.session);
        (session, live.map(|stats| stats.liveness))
    }

    /// The WebSocket that it runs over now.
    pub(crate) fn link(&self) -> Option<WebSocket> {
        watching::socket_link(&self.driver, self.id.get()?)
    }

    /// Returns whether a client that wants in has not gone meanwhile.
    pub(crate) fn is_here(&self) -> bool {
        let is_known = |id| self.driver.read(|endpoint| endpoint.stats(id)).is_some();
        self.id.get().is_some_and(is_known)
    }

    /// Lets a client in that [is here](Self::is_here); `target` is its socket from now on.
    pub(crate) fn accept(&self, target: JsValue, protocol: &str, max_message: u64) {
        if let Some(id) = self.id.get() {
            self.socket.target.replace(Some(target));
            self.driver.insert(id, self.socket.clone());
            self.command(|endpoint, id, now| {
                endpoint.limit_messages(id, max_message);
                endpoint.accept(id, protocol, now);
            });
        }
    }

    /// Turns a client away.
    pub(crate) fn refuse(&self, code: CloseCode, reason: &str) {
        self.command(|endpoint, id, now| endpoint.refuse(id, code, reason, now));
    }
}
