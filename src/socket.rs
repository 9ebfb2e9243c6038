//! The Rust half of a `PeerToPeerWebSocket`: from the class to the endpoint, and from its events to the class.

use crate::driver::Driver;
use crate::event;
use crate::link::Relay;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tunnel_protocol::close::truncate_reason;
use tunnel_protocol::endpoint::{ConnectOptions, Endpoint, Event, Liveness, Remote, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::SessionStats;
use tunnel_protocol::sorted::SortedMap;
use tunnel_protocol::text::ToText;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/js/sockets.js")]
extern "C" {
    /// Never called: `reexport` puts the class on the package's entry point.
    #[allow(dead_code, reason = "only its re-export is wanted")]
    #[wasm_bindgen(js_name = PeerToPeerWebSocket, reexport, skip_typescript)]
    fn peer_to_peer_web_socket();

    /// Address and ID of the other side are empty when they aren't known.
    #[wasm_bindgen(js_name = fireOpen)]
    fn fire_open(socket: &JsValue, protocol: &str, address: &str, remote_id: &str, encrypted: bool);
    #[wasm_bindgen(js_name = fireMessage)]
    fn fire_text(socket: &JsValue, text: &str);
    /// Copies the bytes before it calls anybody.
    #[wasm_bindgen(js_name = fireBytes)]
    fn fire_bytes(socket: &JsValue, bytes: &[u8]);
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
    /// Fires an event that says nothing but its type.
    #[wasm_bindgen(js_name = fire)]
    pub(crate) fn fire(target: &JsValue, event_type: &str);
    /// Gives a reader what it has asked for.
    #[wasm_bindgen(js_name = giveText)]
    fn give_text(text: &str);
    #[wasm_bindgen(js_name = giveBytes)]
    fn give_bytes(bytes: &[u8]);
}

/// Who gets the messages of a socket.
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

/// What belongs to one socket on this side of the class.
#[derive(Debug, Default)]
pub(crate) struct Socket {
    /// The class's object, from when there is one until `close` has been fired: so long it stays alive by itself.
    target: RefCell<Option<JsValue>>,
    /// What `bufferedAmount` shows.
    buffered: Cell<usize>,
    /// Who gets its messages.
    taker: Cell<Taker>,
    /// The end of a socket whose messages still wait for somebody who listens.
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
                let address = remote.address.unwrap_or_default();
                fire_open(&target, &protocol, &address, &remote_id, remote.encrypted);
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
        event::post(move || socket.fire(&driver, id, event));
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
                Message::Binary(data) => fire_bytes(target, data),
            }
            driver.consume(id, message.len());
        }
    }
}

/// The name of the other side's key, if it has proven that it holds it; else empty.
fn remote_id(remote: &Remote) -> String {
    let key = remote.key.filter(|_| remote.verified);
    key.map_or_else(String::new, |key| ServerId::Key(key).to_text())
}

thread_local! {
    /// By number: what each `PeerToPeerWebSocket` commands, from when it is made until it has been collected.
    static CORES: RefCell<SortedMap<u32, Rc<SocketCore>>> = const { RefCell::new(SortedMap::new()) };
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

/// What a `PeerToPeerWebSocket` commands.
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
    /// The client's end of a connection that is to be dialled, by its number. A server ID that is none is never dialled:
    /// the classes have looked at it before.
    pub(crate) fn outgoing(
        target: JsValue,
        relay: Relay,
        server_id: &str,
        port: u16,
        options: ConnectOptions,
    ) -> u32 {
        let plan = server_id.parse().ok().map(|id| (id, port, options));
        Self {
            driver: Driver::shared(relay),
            socket: Rc::new(Socket { target: RefCell::new(Some(target)), ..Socket::default() }),
            id: Cell::new(None),
            plan: RefCell::new(plan),
        }
        .keep()
    }

    /// The server's end of a connection that a client wants, by its number.
    pub(crate) fn incoming(driver: Rc<Driver>, id: SocketId) -> u32 {
        Self { driver, socket: Rc::default(), id: Cell::new(Some(id)), plan: RefCell::default() }.keep()
    }

    fn keep(self) -> u32 {
        let number = COUNT.get();
        COUNT.set(number + 1);
        CORES.with_borrow_mut(|cores| cores.insert(number, Rc::new(self)));
        number
    }

    /// Acts on the one of this number. There is one while there is a `PeerToPeerWebSocket`.
    pub(crate) fn with<T: Default>(number: u32, act: impl FnOnce(&Self) -> T) -> T {
        let core = CORES.with_borrow(|cores| cores.get(&number).cloned());
        core.map_or_else(T::default, |core| act(&core))
    }

    /// Its `PeerToPeerWebSocket` has been collected, or will never be.
    pub(crate) fn forget(number: u32) {
        // Dropped after the borrow.
        let _core = CORES.with_borrow_mut(|cores| cores.remove(&number));
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
        event::post(move || socket.fire(&driver, id, event));
    }

    /// Connects, under the key if there is one.
    pub(crate) fn dial(&self, key: Option<StaticKey>) {
        let Some((server, port, mut options)) = self.plan.take() else { return };
        options.key = key;
        let id = self.driver.connect(server, port, options, self.socket.clone());
        self.id.set(Some(id));
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: Message) {
        if let Some(id) = self.id.get() {
            self.driver.send(id, &self.socket, message);
        }
    }

    /// Bytes that `send` took and that had not left when the current task began.
    pub(crate) fn buffered_amount(&self) -> f64 {
        self.socket.buffered.get() as f64
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
            event::post(move || {
                if let Some(target) = socket.target() {
                    socket.deliver(&target, &driver, id);
                }
            });
        }
        self.post_end();
    }

    /// Gives the oldest message kept, if there is one; the peer may then send as much again.
    pub(crate) fn take(&self) {
        let message = self.socket.inbox.borrow_mut().pop_front();
        let Some(message) = message else { return };
        self.command(|endpoint, id, now| endpoint.consume(id, message.len(), now));
        match &message {
            Message::Text(text) => give_text(text),
            Message::Binary(data) => give_bytes(data),
        }
    }

    /// One of the counters, in the order in which `js/sockets.js` names them; of a socket that has ended, the last ones.
    pub(crate) fn stat(&self, index: u32) -> f64 {
        let live = self.id.get().and_then(|id| self.driver.read(|endpoint| endpoint.stats(id)));
        let session = live.map_or_else(|| self.socket.last_stats.get(), |stats| stats.session);
        let counters = [
            session.bytes_sent,
            session.bytes_received,
            session.messages_sent,
            session.messages_received,
            session.bytes_retransmitted,
            session.bytes_unacknowledged,
            session.resumptions.into(),
        ];
        if let Some(counter) = counters.get(index as usize) {
            return *counter as f64;
        }
        if index as usize == counters.len() {
            return session.round_trip.map_or(f64::NAN, |time| time.as_micros() as f64 / 1000.0);
        }
        match live.map(|stats| stats.liveness) {
            Some(Liveness::Alive) => 0.0,
            Some(Liveness::Waiting) => 1.0,
            Some(Liveness::Interrupted) | None => 2.0,
        }
    }

    /// Lets a client in, unless it has gone; `target` is its socket from now on.
    pub(crate) fn accept(&self, target: JsValue, protocol: &str) {
        let here = |id: &SocketId| self.driver.read(|endpoint| endpoint.stats(*id)).is_some();
        if let Some(id) = self.id.get().filter(here) {
            self.socket.target.replace(Some(target));
            self.driver.insert(id, self.socket.clone());
            self.command(|endpoint, id, now| endpoint.accept(id, protocol, now));
        }
    }

    /// Turns a client away.
    pub(crate) fn refuse(&self, code: CloseCode, reason: &str) {
        self.command(|endpoint, id, now| endpoint.refuse(id, code, reason, now));
    }
}
