//! The owner of an endpoint: its links, its clock, and the task that moves what passes between them and the application.

use super::dial::Relay;
use super::link::{CHANGED, Ears, Link, News, Parting};
use crate::api::{ServerState, SocketState};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use tokio::runtime::{self, Handle};
use tokio::sync::{Notify, mpsc};
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, SocketId};
use tunnel_protocol::ledger::Ledger;
use tunnel_protocol::{CloseCode, Instant, ServerId, session};

/// Messages of links that wait to be taken in, for each driver.
const NEWS: usize = 64;

/// The origin of all drivers' clocks.
static START: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);

/// The budget for unfinished messages of all sockets of the process.
static LEDGER: LazyLock<Ledger> = LazyLock::new(Ledger::default);

/// All drivers that have something to do, with the runtime that each belongs to.
static DRIVERS: Mutex<Vec<(runtime::Id, Weak<Driver>)>> = Mutex::new(Vec::new());

pub(super) fn now() -> Instant {
    Instant::from_micros(u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// One endpoint, and what it needs of the system.
pub(super) struct Driver {
    this: Weak<Self>,
    relay: Relay,
    runtime: Handle,
    /// Wakes the task: something was commanded, or a link has room.
    wake: Arc<Notify>,
    state: Mutex<State>,
}

struct State {
    endpoint: Endpoint,
    links: BTreeMap<LinkId, Link>,
    parting: Parting,
    sockets: HashMap<SocketId, Arc<SocketState>>,
    /// Sockets that have sent, and the bytes that were buffered of each when that was looked at last.
    buffering: HashMap<SocketId, usize>,
    server: Option<Arc<ServerState>>,
    /// For new links of the task that runs; `None` while none runs.
    news: Option<mpsc::Sender<(LinkId, News)>>,
}

impl Driver {
    /// The driver of all clients of a relay in this runtime.
    pub(super) fn shared(relay: &Relay, runtime: &Handle, seed: [u8; 32]) -> Arc<Self> {
        let found = drivers().into_iter().find(|driver| {
            driver.relay == *relay && driver.runtime.id() == runtime.id() && driver.lock().server.is_none()
        });
        found.unwrap_or_else(|| Self::new(relay, runtime, None, 0, seed))
    }

    /// A driver of its own, for a server.
    pub(super) fn new(
        relay: &Relay,
        runtime: &Handle,
        server: Option<Arc<ServerState>>,
        max_clients: usize,
        seed: [u8; 32],
    ) -> Arc<Self> {
        let config = Config {
            relay_url: relay.bound(),
            token: relay.token.clone(),
            max_clients,
            session: session::Config { ledger: LEDGER.clone(), ..session::Config::default() },
            ..Config::default()
        };
        let state = State {
            endpoint: Endpoint::new(config, seed),
            links: BTreeMap::new(),
            parting: Parting::default(),
            sockets: HashMap::new(),
            buffering: HashMap::new(),
            server,
            news: None,
        };
        let driver = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            relay: relay.clone(),
            runtime: runtime.clone(),
            wake: Arc::new(Notify::new()),
            state: Mutex::new(state),
        });
        let mut drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.retain(|(_, driver)| driver.strong_count() > 0);
        drivers.push((runtime.id(), Arc::downgrade(&driver)));
        driver
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commands the endpoint; its task acts on what comes of it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        self.change(|state| act(&mut state.endpoint, now()))
    }

    /// Reads the endpoint.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Endpoint) -> T) -> T {
        read(&self.lock().endpoint)
    }

    /// Opens a socket; its events go to `socket`.
    pub(super) fn connect(
        &self,
        server: ServerId,
        port: u16,
        options: ConnectOptions,
        max_message: u64,
        socket: Arc<SocketState>,
    ) -> SocketId {
        self.change(|state| {
            let id = state.endpoint.connect(server, port, options, now());
            state.endpoint.limit_messages(id, max_message);
            state.sockets.insert(id, socket);
            id
        })
    }

    /// Lets a client in, if it is still there; its events go to `socket`.
    pub(super) fn accept(
        &self,
        id: SocketId,
        socket: Arc<SocketState>,
        protocol: &str,
        max_message: u64,
    ) -> bool {
        self.change(|state| {
            if state.endpoint.stats(id).is_none() {
                return false;
            }
            state.sockets.insert(id, socket);
            state.endpoint.limit_messages(id, max_message);
            state.endpoint.accept(id, protocol, now());
            true
        })
    }

    /// Queues a message. A socket that has ended drops it.
    pub(super) fn send(&self, id: SocketId, message: tunnel_protocol::Message) {
        self.change(|state| {
            let _ended = state.endpoint.send(id, message);
            let buffered = state.endpoint.buffered_amount(id);
            state.buffering.insert(id, buffered);
        });
    }

    /// Changes the state, and has the task look at it; starts one if none runs.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let news = state.news.is_none().then(|| {
            let (sender, news) = mpsc::channel(NEWS);
            state.news = Some(sender);
            news
        });
        drop(state);
        // Not under the lock: a runtime that has ended drops the task at once, and so ends all sockets.
        if let (Some(news), Some(driver)) = (news, self.this.upgrade()) {
            self.runtime.spawn(Task { driver, is_done: false }.run(news));
        }
        self.wake.notify_one();
        result
    }

    /// Lets the links write, and returns the events that are not the driver's own, and the sockets that have room to send.
    fn step(&self) -> (Vec<Event>, Vec<Arc<SocketState>>) {
        let mut state = self.lock();
        let now = now();
        let mut events = Vec::new();
        loop {
            let mut any = false;
            while let Some(event) = state.endpoint.poll_event() {
                any = true;
                match event {
                    Event::Dial { link } => self.dial(&mut state, link, now),
                    Event::HangUp { link, code, reason } => {
                        if let Some(link) = state.links.remove(&link) {
                            link.close(code, reason, &state.parting);
                        }
                    }
                    Event::Livecode { link } => {
                        state.links.remove(&link);
                        let reason = "the relay speaks the livecode dialect, which is for pages";
                        state.endpoint.handle_link_closed(link, CloseCode::ABNORMAL, reason, now);
                    }
                    event => events.push(event),
                }
            }
            let State { endpoint, links, .. } = &mut *state;
            for (id, link) in &*links {
                while link.has_room()
                    && let Some(message) = endpoint.poll_transmit(*id, now)
                {
                    any = true;
                    link.send(message);
                }
            }
            if endpoint.poll_timeout().is_some_and(|at| at <= now) {
                any = true;
                endpoint.handle_timeout(now);
            }
            if !any {
                break;
            }
        }
        state.endpoint.prepare(now);
        (events, state.sockets_with_room())
    }

    fn dial(&self, state: &mut State, link: LinkId, now: Instant) {
        let Some(news) = state.news.clone() else { return };
        let early = state.endpoint.early_frames(link, now);
        let ears = Ears { news, room: self.wake.clone() };
        let opened = Link::open(&self.runtime, link, self.relay.clone(), early, ears);
        state.links.insert(link, opened);
    }

    /// Takes in news of a link.
    fn hear(&self, link: LinkId, news: News) {
        let mut state = self.lock();
        let State { endpoint, links, .. } = &mut *state;
        // Of one that was hung up, nothing is heard any more.
        let Some(known) = links.get_mut(&link) else { return };
        match news {
            News::Opened { greeted } => {
                known.is_open = true;
                endpoint.handle_link_opened(link, greeted, now());
            }
            News::Message(message) => endpoint.handle_message(link, message, now()),
            News::Closed(code, reason) => {
                links.remove(&link);
                endpoint.handle_link_closed(link, code, &reason, now());
            }
        }
    }

    /// Tells the application. The state is not locked: what is told may command.
    fn tell(self: &Arc<Self>, event: Event) {
        let id = match &event {
            Event::Opened { socket, .. }
            | Event::Message { socket, .. }
            | Event::Interrupted { socket }
            | Event::Resumed { socket }
            | Event::Reopened { socket, .. }
            | Event::Unacknowledged { socket, .. }
            | Event::Closed { socket, .. } => *socket,
            _ => {
                let server = self.lock().server.clone();
                if let Some(server) = server {
                    server.handle(self.clone(), event);
                }
                return;
            }
        };
        let socket = if matches!(event, Event::Closed { .. }) {
            let mut state = self.lock();
            state.buffering.remove(&id);
            state.sockets.remove(&id)
        } else {
            self.lock().sockets.get(&id).cloned()
        };
        let Some(socket) = socket else { return };
        let unread = socket.handle(&**self, id, event);
        if unread > 0 {
            self.with(|endpoint, now| endpoint.consume(id, unread, now));
        }
    }

    /// The time at which to look again; `None` if the task has nothing to do any more, which ends it.
    fn rest(&self) -> Option<Option<tokio::time::Instant>> {
        let mut state = self.lock();
        if state.endpoint.is_idle() && state.links.is_empty() {
            state.news = None;
            return None;
        }
        let at = state.endpoint.poll_timeout();
        Some(at.map(|at| *START + std::time::Duration::from_micros(at.as_micros())))
    }

    /// Closes all sockets with 1001 and the server, because the process is about to end.
    pub(super) fn leave(&self) {
        self.with(Endpoint::leave);
    }

    /// Returns whether all is said to relays, and written.
    pub(super) fn has_left(&self) -> bool {
        let state = self.lock();
        let is_idle = state.news.is_none() || state.endpoint.is_idle();
        is_idle && state.parting.is_over() && state.links.values().all(Link::has_written)
    }
}

impl State {
    fn sockets_with_room(&mut self) -> Vec<Arc<SocketState>> {
        let Self { endpoint, sockets, buffering, .. } = self;
        let mut with_room = Vec::new();
        buffering.retain(|id, shown| {
            let now = endpoint.buffered_amount(*id);
            if now < std::mem::replace(shown, now)
                && let Some(socket) = sockets.get(id)
            {
                with_room.push(socket.clone());
            }
            now > 0
        });
        with_room
    }
}

/// All drivers that live.
pub(super) fn drivers() -> Vec<Arc<Driver>> {
    let drivers = DRIVERS.lock().unwrap_or_else(PoisonError::into_inner);
    drivers.iter().filter_map(|(_, driver)| driver.upgrade()).collect()
}

/// The task of a driver. It may be dropped with its runtime.
struct Task {
    driver: Arc<Driver>,
    is_done: bool,
}

impl Task {
    async fn run(mut self, mut news: mpsc::Receiver<(LinkId, News)>) {
        loop {
            loop {
                let (events, with_room) = self.driver.step();
                for socket in with_room {
                    socket.wake_writer();
                }
                if events.is_empty() {
                    break;
                }
                for event in events {
                    self.driver.tell(event);
                }
            }
            CHANGED.notify_waiters();
            let Some(due) = self.driver.rest() else {
                self.is_done = true;
                return;
            };
            let is_due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((link, heard)) = news.recv() => {
                    self.driver.hear(link, heard);
                    // Messages that are there already are answered together.
                    while let Ok((link, heard)) = news.try_recv() {
                        self.driver.hear(link, heard);
                    }
                }
                () = self.driver.wake.notified() => {}
                () = is_due => {}
            }
        }
    }
}

impl Drop for Task {
    /// Ends all sockets and the server if the runtime has ended before them: nobody would tell those who wait.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let (sockets, server) = {
            let mut state = self.driver.lock();
            state.links.clear();
            state.news = None;
            (std::mem::take(&mut state.sockets), state.server.take())
        };
        let (code, reason) = (CloseCode::ABNORMAL, "the tokio runtime has ended");
        for (id, socket) in sockets {
            let event = Event::Closed {
                socket: id,
                code,
                reason: reason.to_owned(),
                was_clean: false,
                failed: false,
                stats: self
                    .driver
                    .read(|endpoint| endpoint.stats(id))
                    .map(|stats| stats.session)
                    .unwrap_or_default(),
            };
            socket.handle(&*self.driver, id, event);
        }
        if let Some(server) = server {
            server.handle(self.driver.clone(), Event::HostClosed { code, reason: reason.to_owned() });
        }
    }
}
