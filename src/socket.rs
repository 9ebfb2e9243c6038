//! The Rust half of a `PeerToPeerWebSocket`: from the class to the endpoint, and from its events to the class.

use crate::driver::Driver;
use crate::event;
use crate::identity::Identity;
use crate::message;
use crate::options::{self, Dial};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tunnel_protocol::close::truncate_reason;
use tunnel_protocol::endpoint::{ConnectOptions, Endpoint, Event, Liveness, Remote, SocketId};
use tunnel_protocol::session::SessionStats;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/tunnel.js")]
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

    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = PeerToPeerWebSocket, reexport, skip_typescript)]
    fn peer_to_peer_web_socket();

    #[wasm_bindgen(js_name = fireOpen)]
    fn fire_open(
        socket: &PeerToPeerWebSocket,
        protocol: &str,
        address: Option<&str>,
        remote_id: Option<String>,
        encrypted: bool,
    );
    #[wasm_bindgen(js_name = fireMessage)]
    fn fire_text(socket: &PeerToPeerWebSocket, text: &str);
    /// Copies the bytes before it calls anybody.
    #[wasm_bindgen(js_name = fireBytes)]
    fn fire_bytes(socket: &PeerToPeerWebSocket, bytes: &[u8]);
    #[wasm_bindgen(js_name = fireAvailable)]
    fn fire_available(socket: &PeerToPeerWebSocket);
    #[wasm_bindgen(js_name = fireDrained)]
    fn fire_drained(socket: &PeerToPeerWebSocket);
    #[wasm_bindgen(js_name = fireClosed)]
    fn fire_closed(socket: &PeerToPeerWebSocket, code: u16, name: &str, reason: &str, was_clean: bool);
    #[wasm_bindgen(js_name = fire)]
    fn fire_plain(target: &JsValue, event_type: &str);
}

/// Fires an event that says nothing but its type.
pub(crate) fn fire(target: &JsValue, event_type: &str) {
    fire_plain(target, event_type);
}

/// Who gets the messages of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taker {
    /// The listeners to `message`.
    #[default]
    Listeners,
    /// A reader, one by one.
    Reader,
    /// Nobody until the socket has been accepted.
    Nobody,
}

/// What belongs to one socket on this side of the class.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// The class's object, from when there is one until `close` has been fired: so long it stays alive by itself.
    target: RefCell<Option<PeerToPeerWebSocket>>,
    /// What `bufferedAmount` shows.
    buffered: Cell<usize>,
    /// Who gets its messages.
    taker: Cell<Taker>,
    /// How it ended while it waited to be accepted.
    end: RefCell<Option<Event>>,
    /// Messages that have had no event yet.
    inbox: RefCell<VecDeque<Message>>,
    /// What had been counted when it ended.
    last_stats: Cell<SessionStats>,
}

impl Socket {
    /// Keeps the counters of a socket that has ended.
    pub(crate) fn keep_stats(&self, stats: SessionStats) {
        self.last_stats.set(stats);
    }

    /// Counts what `send` took; says whether nothing was counted before.
    pub(crate) fn add_buffered(&self, len: usize) -> bool {
        self.buffered.replace(self.buffered.get() + len) == 0
    }

    /// What `bufferedAmount` shows.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.get()
    }

    /// Shows how much really is buffered; says whether something is.
    pub(crate) fn settle_buffered(&self, id: SocketId, driver: &Driver) -> bool {
        let now = driver.read(|endpoint| endpoint.buffered_amount(id));
        if now < self.buffered.replace(now)
            && let Some(target) = self.target()
        {
            fire_drained(&target);
        }
        now > 0
    }

    /// Tells the class what happened.
    pub(crate) fn fire(self: &Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        let Some(target) = self.target() else { return };
        match event {
            Event::Opened { protocol, remote, .. } => {
                let remote_id = remote_id(&remote);
                fire_open(&target, &protocol, remote.address.as_deref(), remote_id, remote.encrypted);
            }
            Event::Message { message, .. } => {
                self.inbox.borrow_mut().push_back(message);
                self.deliver(&target, driver, id);
            }
            Event::Interrupted { .. } => fire(&target, "reconnecting"),
            Event::Resumed { .. } => fire(&target, "reconnected"),
            Event::Closed { code, reason, was_clean, failed, stats, .. } => {
                if !self.inbox.borrow().is_empty() && self.taker.get() != Taker::Reader {
                    let end = Event::Closed { socket: id, code, reason, was_clean, failed, stats };
                    if self.taker.get() == Taker::Nobody {
                        self.end.replace(Some(end));
                    } else {
                        // The messages have been given tasks, which come first.
                        self.post(driver, id, end);
                    }
                    return;
                }
                let name = code.name().unwrap_or("closed");
                // A socket that never opened closes with 1006, so its reason has to say what the code would have.
                let reason = if failed { [name, &reason].join(": ") } else { reason };
                fire_closed(&target, code.0, name, truncate_reason(&reason), was_clean);
                self.target.take();
            }
            _ => {}
        }
    }

    /// Tells the class in a task of its own.
    fn post(self: &Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        let (socket, driver) = (self.clone(), driver.clone());
        event::post(move || socket.fire(&driver, id, event));
    }

    fn target(&self) -> Option<PeerToPeerWebSocket> {
        self.target.borrow().clone()
    }

    /// Gives the oldest message to the listeners, or tells the reader that there is one.
    fn deliver(&self, target: &PeerToPeerWebSocket, driver: &Driver, id: SocketId) {
        if self.taker.get() != Taker::Listeners {
            return fire_available(target);
        }
        let message = self.inbox.borrow_mut().pop_front();
        if let Some(message) = message {
            match &message {
                Message::Text(text) => fire_text(target, text),
                Message::Binary(data) => fire_bytes(target, data),
            }
            driver.consume(id, message.len());
        }
    }
}

/// The name of the other side's key, if it has proven that it holds it.
fn remote_id(remote: &Remote) -> Option<String> {
    remote.key.filter(|_| remote.verified).map(|key| ServerId::Key(key).to_string())
}

/// What a `PeerToPeerWebSocket` commands.
#[wasm_bindgen(private)]
#[derive(Debug)]
pub(crate) struct SocketCore {
    driver: Rc<Driver>,
    socket: Rc<Socket>,
    /// The endpoint's name for it, once it has been dialled.
    id: Cell<Option<SocketId>>,
    /// What is to be dialled.
    plan: RefCell<Option<(ServerId, u16, ConnectOptions)>>,
}

impl SocketCore {
    /// The client's end of a connection that is to be dialled.
    pub(crate) fn outgoing(target: PeerToPeerWebSocket, dial: &Dial) -> Result<Self, JsValue> {
        let plan = (options::server_id(dial)?, dial.port(), options::connect_options(dial));
        Ok(Self {
            driver: Driver::shared(&options::relay(dial)),
            socket: Rc::new(Socket { target: RefCell::new(Some(target)), ..Socket::default() }),
            id: Cell::new(None),
            plan: RefCell::new(Some(plan)),
        })
    }

    /// The server's end of a connection that a client wants.
    pub(crate) fn incoming(driver: Rc<Driver>, id: SocketId) -> Self {
        Self { driver, socket: Rc::default(), id: Cell::new(Some(id)), plan: RefCell::default() }
    }

    fn command(&self, act: impl FnOnce(&mut Endpoint, SocketId, Instant)) {
        if let Some(id) = self.id.get() {
            self.driver.with_later(|endpoint, now| act(endpoint, id, now));
        }
    }

    fn send(&self, message: Message) {
        if let Some(id) = self.id.get() {
            self.driver.send(id, &self.socket, message);
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
        event::post(move || socket.fire(&driver, id, event));
    }
}

#[wasm_bindgen]
#[allow(unreachable_pub, reason = "only public methods are exported")]
impl SocketCore {
    /// Connects, under the identity if there is one.
    pub fn dial(&self, identity: Option<Identity>) {
        let Some((server, port, mut options)) = self.plan.take() else { return };
        options.key = identity.as_ref().and_then(Identity::key);
        let id = self.driver.connect(server, port, options, self.socket.clone(), identity);
        self.id.set(Some(id));
    }

    /// Sends a text message.
    #[wasm_bindgen(js_name = sendText)]
    pub fn send_text(&self, text: String) {
        self.send(Message::Text(text));
    }

    /// Sends a binary message.
    #[wasm_bindgen(js_name = sendBytes)]
    pub fn send_bytes(&self, data: Vec<u8>) {
        self.send(Message::Binary(data.into()));
    }

    /// Bytes that `sendText` and `sendBytes` took and that had not left when the current task began.
    #[wasm_bindgen(getter, js_name = bufferedAmount)]
    pub fn buffered_amount(&self) -> f64 {
        self.socket.buffered.get() as f64
    }

    /// Closes behind what has been sent.
    pub fn close(&self, code: Option<u16>, reason: &str) {
        self.forgo("closed before the connection was established");
        self.command(|endpoint, id, now| endpoint.close(id, code.map(CloseCode), reason, now));
    }

    /// Ends at once.
    pub fn abort(&self, reason: &str) {
        self.forgo(reason);
        self.command(|endpoint, id, now| endpoint.abort(id, CloseCode::ABORTED, reason, now));
    }

    /// Keeps messages for [`take`](Self::take).
    pub fn hold(&self) {
        self.socket.taker.set(Taker::Reader);
    }

    /// Keeps messages, and what comes after them, until [`unpark`](Self::unpark).
    pub fn park(&self) {
        self.socket.taker.set(Taker::Nobody);
    }

    /// Has events fired for what was kept.
    pub fn unpark(&self) {
        self.socket.taker.set(Taker::Listeners);
        let Some(id) = self.id.get() else { return };
        for _ in 0..self.socket.inbox.borrow().len() {
            let (socket, driver) = (self.socket.clone(), self.driver.clone());
            event::post(move || {
                if let Some(target) = socket.target() {
                    socket.deliver(&target, &driver, id);
                }
            });
        }
        if let Some(end) = self.socket.end.take() {
            self.socket.post(&self.driver, id, end);
        }
    }

    /// The oldest message kept, or `undefined`; the peer may then send as much again.
    pub fn take(&self) -> JsValue {
        let message = self.socket.inbox.borrow_mut().pop_front();
        let Some(message) = message else { return JsValue::UNDEFINED };
        self.command(|endpoint, id, now| endpoint.consume(id, message.len(), now));
        message::to_js(&message)
    }

    /// Counters, in the order in which `js/sockets.js` names them; the last ones of a socket that has ended.
    pub fn stats(&self) -> Vec<f64> {
        let live = self.id.get().and_then(|id| self.driver.read(|endpoint| endpoint.stats(id)));
        let session = live.map_or_else(|| self.socket.last_stats.get(), |stats| stats.session);
        let liveness = match live.map(|stats| stats.liveness) {
            Some(Liveness::Alive) => 0.0,
            Some(Liveness::Waiting) => 1.0,
            Some(Liveness::Interrupted) | None => 2.0,
        };
        vec![
            session.bytes_sent as f64,
            session.bytes_received as f64,
            session.messages_sent as f64,
            session.messages_received as f64,
            session.bytes_retransmitted as f64,
            session.bytes_unacknowledged as f64,
            session.resumptions.into(),
            session.round_trip.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0),
            liveness,
        ]
    }

    /// Lets a client in, unless it has gone; `target` is its socket from now on.
    pub fn accept(&self, target: PeerToPeerWebSocket, protocol: &str) {
        let here = |id: &SocketId| self.driver.read(|endpoint| endpoint.stats(*id)).is_some();
        if let Some(id) = self.id.get().filter(here) {
            self.socket.target.replace(Some(target));
            self.driver.insert(id, self.socket.clone());
            self.command(|endpoint, id, now| endpoint.accept(id, protocol, now));
        }
    }

    /// Turns a client away; `name` is a close code's.
    pub fn refuse(&self, name: &str, reason: &str) {
        let codes = [CloseCode::PORT_CLOSED, CloseCode::TRY_AGAIN_LATER];
        let code = codes.into_iter().find(|code| code.name() == Some(name)).unwrap_or(CloseCode::REFUSED);
        self.command(|endpoint, id, now| endpoint.refuse(id, code, reason, now));
    }
}
