//! The I/O around an endpoint: its WebSockets, its timers, and the tasks that its events become.
//!
//! Commanded by the classes and by the API for Rust pages, which are its [`SocketSink`]s and [`ServerSink`]s.

use crate::browser::awake;
use crate::browser::identity;
use crate::browser::link::{Link, LinkSink, Relay, Token, why_closed};
#[cfg(feature = "npm")]
use crate::browser::livecode;
use crate::browser::platform::{Timer, now, random};
use crate::browser::tasks;
#[cfg(feature = "npm")]
use crate::browser::warm_up;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage, SocketId};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::ledger::Ledger;
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::session;
use tunnel_protocol::sorted::SortedMap;
use tunnel_protocol::time::Duration;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

#[wasm_bindgen(module = "/js/page.js")]
extern "C" {
    /// Time for which a link that nothing needs is kept, in milliseconds.
    #[wasm_bindgen(js_name = linkGrace)]
    fn link_grace() -> f64;
}

/// The application's side of a socket.
pub(crate) trait SocketSink {
    /// Takes an event of the socket. The endpoint is borrowed by nobody, but events follow that are older than what this
    /// commands: fire JavaScript's from a task.
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event);

    /// Counts bytes that were sent; returns whether none were counted before.
    fn add_buffered(&self, len: usize) -> bool;

    /// The number of bytes that the application sees as buffered.
    fn buffered(&self) -> usize;

    /// Returns whether the application has looked at that number, and so may wait for it to fall.
    fn is_watched(&self) -> bool;

    /// Shows how many bytes really are buffered; returns whether some are. Called where a task begins.
    fn settle_buffered(&self, id: SocketId, driver: &Driver) -> bool;
}

/// The application's side of a server.
pub(crate) trait ServerSink {
    /// Takes an event of the server, as [`SocketSink::handle`] does.
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, event: Event);
}

/// Time after which a full WebSocket is looked at again: it does not tell when it has room. A `bufferedAmount` that the page has looked
/// at falls as soon, if no message comes before. Browsers' timers don't go lower.
const RETRY: Duration = Duration::from_millis(4);

/// The time that an application has to give an access token, and a second for whoever keeps it: `js/page.js`.
const TOKEN_TIME: Duration = Duration::from_secs(11);

/// Number of times that sending and its effects take turns before the page gets its turn; the timer brings the rest.
const MAX_ROUNDS: usize = 8;

thread_local! {
    /// All drivers that have something to do: they live without anybody else holding them.
    static DRIVERS: RefCell<Vec<Rc<Driver>>> = const { RefCell::new(Vec::new()) };
    /// For the first handshakes of the next driver.
    static SPARE_KEYS: RefCell<Vec<StaticKey>> = const { RefCell::new(Vec::new()) };
    /// The budget for unfinished messages of all sockets of the page.
    static LEDGER: Ledger = Ledger::default();
}

/// One endpoint, and what it needs of the browser.
pub(crate) struct Driver {
    this: Weak<Self>,
    relay: Relay,
    endpoint: RefCell<Endpoint>,
    links: RefCell<SortedMap<LinkId, Link>>,
    sockets: RefCell<SortedMap<SocketId, Rc<dyn SocketSink>>>,
    /// Sockets whose `bufferedAmount` may fall.
    buffering: RefCell<Vec<(SocketId, Rc<dyn SocketSink>)>>,
    /// Payload bytes that listeners have taken in since the endpoint heard of it last.
    consumed: RefCell<Vec<(SocketId, usize)>>,
    /// The server that the endpoint hosts.
    server: Option<Rc<dyn ServerSink>>,
    /// For what the endpoint waits for.
    timer: Timer,
    /// For [`RETRY`]: one timer for both would be cancelled and armed again with most messages.
    retry_timer: Timer,
    flushing: Cell<bool>,
}

impl Driver {
    /// The driver of all clients of a relay.
    pub(crate) fn shared(relay: Relay) -> Rc<Self> {
        let found = DRIVERS.with_borrow(|drivers| {
            drivers.iter().find(|driver| driver.server.is_none() && driver.relay == relay).cloned()
        });
        found.unwrap_or_else(|| Self::new(relay, None, false, 0))
    }

    pub(crate) fn new(
        relay: Relay,
        server: Option<Rc<dyn ServerSink>>,
        allow_plain: bool,
        max_clients: usize,
    ) -> Rc<Self> {
        let relay_url = relay.bound.clone();
        let token = match &relay.token {
            Token::Text(token) => token.clone(),
            Token::Asked(_) => String::new(),
        };
        let link_grace = Duration::from_millis(link_grace() as u64);
        let session = session::Config { ledger: LEDGER.with(Clone::clone), ..session::Config::default() };
        let livecode = relay.livecode;
        let config = Config {
            relay_url,
            token,
            livecode,
            allow_plain,
            link_grace,
            max_clients,
            session,
            ..Config::default()
        };
        let mut endpoint = Endpoint::new(config, random());
        endpoint.stock(SPARE_KEYS.take());
        let driver = Rc::new_cyclic(|this: &Weak<Self>| Self {
            this: this.clone(),
            relay,
            endpoint: RefCell::new(endpoint),
            links: RefCell::default(),
            sockets: RefCell::default(),
            buffering: RefCell::default(),
            consumed: RefCell::default(),
            server,
            timer: Timer::default(),
            retry_timer: Timer::default(),
            flushing: Cell::new(false),
        });
        DRIVERS.with_borrow_mut(|drivers| drivers.push(driver.clone()));
        awake::stay_awake(true);
        driver
    }

    /// Commands or feeds the endpoint, and acts on what it says.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = act(&mut self.endpoint.borrow_mut(), now());
        self.settle();
        result
    }

    /// Like [`with`](Self::with), but acts when the page's script has had its turn.
    pub(crate) fn with_later<T>(&self, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = act(&mut self.endpoint.borrow_mut(), now());
        self.settle_later();
        result
    }

    /// Acts when the page's script has had its turn.
    pub(crate) fn settle_later(&self) {
        if !self.flushing.replace(true) {
            let this = self.this.clone();
            tasks::defer(move || {
                if let Some(driver) = this.upgrade() {
                    driver.flushing.set(false);
                    driver.settle();
                }
            });
        }
    }

    /// Reads the endpoint.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Endpoint) -> T) -> T {
        read(&self.endpoint.borrow())
    }

    /// Opens a socket; its events go to `socket`.
    pub(crate) fn connect(
        &self,
        server: ServerId,
        port: u16,
        options: ConnectOptions,
        max_message: u64,
        socket: Rc<dyn SocketSink>,
    ) -> SocketId {
        let connect = |endpoint: &mut Endpoint, now| {
            let id = endpoint.connect(server, port, options, now);
            endpoint.limit_messages(id, max_message);
            id
        };
        let id = self.with_later(connect);
        self.insert(id, socket);
        // The WebSocket is on its way before anything else is done.
        self.handle_events();
        id
    }

    /// Takes a socket in: its events go to `socket` from now on.
    pub(crate) fn insert(&self, id: SocketId, socket: Rc<dyn SocketSink>) {
        self.sockets.borrow_mut().insert(id, socket);
    }

    pub(crate) fn send(&self, id: SocketId, socket: Rc<dyn SocketSink>, message: Message) {
        let len = message.len();
        // A socket that has ended, and whose page has not heard of it yet, takes and drops what is sent.
        let _ = self.endpoint.borrow_mut().send(id, message);
        self.settle_later();
        if socket.add_buffered(len) {
            self.buffering.borrow_mut().push((id, socket));
        }
    }

    /// A listener has taken a message of so many bytes in. The endpoint hears of it once for each turn, which is what
    /// the peer is told.
    pub(crate) fn consume(&self, id: SocketId, len: usize) {
        let mut consumed = self.consumed.borrow_mut();
        match consumed.last_mut() {
            Some((last, sum)) if *last == id => *sum += len,
            _ => consumed.push((id, len)),
        }
        self.settle_later();
    }

    /// Opens a WebSocket that the endpoint has asked for.
    fn open_link(&self, link: LinkId) {
        let early = self.endpoint.borrow_mut().early_frames(link, now());
        let sink: Weak<dyn LinkSink> = self.this.clone();
        let reason = match Link::open(&sink, link, &self.relay, &early) {
            Ok(opened) if opened.is_stillborn() => String::new(),
            Ok(opened) => return drop(self.links.borrow_mut().insert(link, opened)),
            Err(reason) => reason,
        };
        if let Some(this) = self.this.upgrade() {
            spawn_local(async move { this.handle_link_closed(link, CloseCode::ABNORMAL, &reason) });
        }
    }

    /// The same with the access token that the application gives for it.
    async fn open_link_with(self: Rc<Self>, link: LinkId, token: JsValue) {
        // The WebSocket has its time from when there is a token, which the application may take a while to give.
        self.endpoint.borrow_mut().set_token(link, "", now() + TOKEN_TIME);
        match Token::ask(token).await {
            Ok(token) => {
                let wanted = self.endpoint.borrow_mut().set_token(link, &token, now());
                if wanted {
                    self.open_link(link);
                    self.settle();
                }
            }
            Err(why) => {
                let reason = format!("the page's `token` for the relay failed: {why}");
                self.handle_link_closed(link, CloseCode::ABNORMAL, &reason);
            }
        }
    }

    /// Has the livecode dialect spoken on a link, or closes it if nothing speaks it.
    async fn speak_livecode(self: Rc<Self>, link: LinkId) {
        #[cfg(feature = "npm")]
        let reason = match livecode::translator().await {
            Ok(translator) => {
                return self.with(|endpoint, now| endpoint.speak_livecode(link, translator, now));
            }
            Err(reason) => reason,
        };
        #[cfg(not(feature = "npm"))]
        let reason = "the relay speaks the livecode dialect, and this build does not";
        self.handle_link_closed(link, CloseCode::ABNORMAL, reason.as_ref());
    }

    /// Computes the secret that a key of WebCrypto's shares with `theirs`.
    async fn share(self: Rc<Self>, ours: PublicKey, theirs: PublicKey) {
        let shared = identity::shared_secret(ours, theirs).await;
        self.with(|endpoint, now| endpoint.handle_diffie_hellman(ours, theirs, shared, now));
    }

    /// Looks at a link, if it is there.
    #[cfg(feature = "npm")]
    pub(crate) fn with_link<T>(&self, id: LinkId, look: impl FnOnce(&Link) -> Option<T>) -> Option<T> {
        self.links.borrow().get(&id).and_then(look)
    }

    #[cfg(feature = "npm")]
    pub(crate) fn link_ids(&self) -> Vec<LinkId> {
        self.links.borrow().keys().copied().collect()
    }

    /// Has one of the timers call the driver at `at`.
    fn arm(&self, timer: fn(&Self) -> &Timer, at: Instant) {
        let this = self.this.clone();
        timer(self).arm(at, move || {
            if let Some(driver) = this.upgrade() {
                timer(&driver).stop();
                driver.settle_buffers();
                driver.with(Endpoint::handle_timeout);
            }
        });
    }

    /// Acts on all that the endpoint has to say.
    fn settle(&self) {
        let now = now();
        for (id, len) in self.consumed.take() {
            self.endpoint.borrow_mut().consume(id, len, now);
        }
        self.handle_events();
        let mut full = false;
        // Sending has effects of its own (a socket's last record ends it), and what is due already, such as hanging up
        // behind the last message, is not left to a timer.
        for _ in 0..MAX_ROUNDS {
            full = self.transmit(Link::has_room, now);
            let due = self.endpoint.borrow().poll_timeout().is_some_and(|at| at <= now);
            if due {
                self.endpoint.borrow_mut().handle_timeout(now);
            }
            if !self.handle_events() && !due {
                break;
            }
        }
        self.endpoint.borrow_mut().prepare(now);
        self.handle_events();
        let timeout = self.endpoint.borrow().poll_timeout();
        if let Some(at) = timeout {
            self.arm(|driver| &driver.timer, at);
        }
        let is_idle = self.endpoint.borrow().is_idle() && self.links.borrow().is_empty();
        if full || self.has_settled(is_idle) {
            self.arm(|driver| &driver.retry_timer, now + RETRY);
        }
        if is_idle && self.buffering.borrow().is_empty() {
            // Otherwise a process of Node.js would wait for it.
            self.timer.stop();
            self.retry_timer.stop();
            DRIVERS.with_borrow_mut(|drivers| drivers.retain(|driver| !std::ptr::eq(&**driver, self)));
            awake::stay_awake(DRIVERS.with_borrow(|drivers| !drivers.is_empty()));
            make_keys();
        }
    }

    /// Acts on the endpoint's events; whether there were any.
    fn handle_events(&self) -> bool {
        let mut any = false;
        loop {
            let event = self.endpoint.borrow_mut().poll_event();
            let Some(event) = event else { return any };
            any = true;
            self.handle_event(event);
        }
    }

    fn handle_event(&self, event: Event) {
        let Some(this) = self.this.upgrade() else { return };
        match event {
            Event::Dial { link } => match self.relay.token.clone() {
                Token::Text(_) => self.open_link(link),
                Token::Asked(token) => spawn_local(this.open_link_with(link, token)),
            },
            Event::Livecode { link } => spawn_local(this.speak_livecode(link)),
            Event::HangUp { link, code, reason } => {
                let link = self.links.borrow_mut().remove(&link);
                if let Some(link) = link {
                    link.close(code, &reason);
                }
            }
            Event::Hosting { .. } | Event::HostInterrupted | Event::HostClosed { .. } => {
                #[cfg(feature = "npm")]
                let begins = matches!(event, Event::Hosting { again: false, .. });
                if let Some(server) = &self.server {
                    server.clone().handle(&this, event);
                }
                #[cfg(feature = "npm")]
                if begins {
                    tasks::post(warm_up::begin);
                }
            }
            Event::Incoming { .. } => {
                if let Some(server) = &self.server {
                    server.clone().handle(&this, event);
                }
            }
            Event::Opened { socket: id, .. }
            | Event::Message { socket: id, .. }
            | Event::Interrupted { socket: id }
            | Event::Resumed { socket: id }
            | Event::Reopened { socket: id, .. }
            | Event::Unacknowledged { socket: id, .. } => {
                let socket = self.sockets.borrow().get(&id).cloned();
                if let Some(socket) = socket {
                    socket.handle(&this, id, event);
                }
            }
            Event::Closed { socket: id, .. } => {
                let socket = self.sockets.borrow_mut().remove(&id);
                if let Some(socket) = socket {
                    socket.handle(&this, id, event);
                }
            }
            Event::NeedsDiffieHellman { ours, theirs } => spawn_local(this.share(ours, theirs)),
        }
    }

    /// Gives the WebSockets what they take; says whether some are full.
    fn transmit(&self, has_room: impl Fn(&Link) -> bool, now: Instant) -> bool {
        let mut full = false;
        for (id, link) in self.links.borrow().iter() {
            if !link.is_open() {
                continue;
            }
            loop {
                if !has_room(link) {
                    full = true;
                    break;
                }
                let message = self.endpoint.borrow_mut().poll_transmit(*id, now);
                let Some(message) = message else { break };
                link.send(&message);
            }
        }
        full
    }

    /// Returns whether a socket has less to send than its `bufferedAmount` shows. Without `all`, sockets whose `bufferedAmount` nobody
    /// reads don't count: the next message brings theirs up to date.
    fn has_settled(&self, all: bool) -> bool {
        let endpoint = self.endpoint.borrow();
        self.buffering.borrow().iter().any(|(id, socket)| {
            (all || socket.is_watched()) && endpoint.buffered_amount(*id) < socket.buffered()
        })
    }

    /// Lets `bufferedAmount` fall. Called where a task begins: a script sees no change within its turn.
    fn settle_buffers(&self) {
        let mut sockets = self.buffering.take();
        sockets.retain(|(id, socket)| socket.settle_buffered(*id, self));
        self.buffering.borrow_mut().append(&mut sockets);
    }
}

impl LinkSink for Driver {
    fn handle_link_opened(&self, link: LinkId, greeted: bool) {
        self.with(|endpoint, now| endpoint.handle_link_opened(link, greeted, now));
    }

    fn handle_message(&self, link: LinkId, message: LinkMessage) {
        tasks::begin_round();
        self.settle_buffers();
        self.endpoint.borrow_mut().handle_message(link, message, now());
        self.handle_events();
        self.settle_later();
    }

    fn handle_link_closed(&self, link: LinkId, code: CloseCode, reason: &str) {
        let gone = self.links.borrow_mut().remove(&link);
        drop(gone);
        if reason.is_empty()
            && self.read(|endpoint| endpoint.ends_with(link))
            && let (Some(this), Some(url)) = (self.this.upgrade(), self.relay.url.clone())
        {
            return spawn_local(async move {
                let why = why_closed(url).await;
                this.with(|endpoint, now| endpoint.handle_link_failed(link, &why, now));
            });
        }
        self.with(|endpoint, now| endpoint.handle_link_closed(link, code, reason, now));
    }
}

/// The drivers of the page.
pub(crate) fn all() -> Vec<Rc<Driver>> {
    DRIVERS.with_borrow(Clone::clone)
}

/// Makes keys for a first connection, while nobody waits for it.
pub(crate) fn make_keys() {
    SPARE_KEYS.with_borrow_mut(|keys| keys.resize_with(2, || StaticKey::from_secret(random())));
}

#[cfg(feature = "npm")]
/// The page is idle: there is time to prepare for its first connection, unless that is already on its way.
pub(crate) fn handle_idle() {
    if DRIVERS.with_borrow(Vec::is_empty) {
        warm_up::begin();
    }
}

/// Called on `pagehide`: tells every peer. There is no later chance.
pub(crate) fn leave() {
    // Acknowledged messages reach their listeners, so that an application can keep them for the page's next load.
    tasks::run_all();
    for driver in all() {
        driver.with(Endpoint::leave);
        driver.transmit(|_| true, now());
    }
}

/// Something happened that the links may not have survived.
pub(crate) fn probe() {
    for driver in all() {
        driver.with(Endpoint::probe);
    }
}
