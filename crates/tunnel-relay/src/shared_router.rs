//! The router behind its lock: each connection's task calls it with what was received, and is woken when there is something to send.

use crate::complaints::{Complaints, complain};
use crate::metrics::{Snapshot, Traffic};
use bytes::BytesMut;
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{debug, info};
#[cfg(feature = "cluster")]
use tunnel_protocol::router::NodeSide;
use tunnel_protocol::router::{
    Config, Event, Instruct, LinkId, Peer, ReadCommand, Registration, Router, Said, Stats, Transmit,
};
use tunnel_protocol::{CloseCode, Instant};

/// The router, shared by all connections' tasks.
///
/// Each task holds the lock for one batch of messages, never while it reads, writes, logs or wakes.
pub(crate) struct SharedRouter {
    state: Mutex<State>,
    /// The origin of the router's clock.
    start: std::time::Instant,
    /// The router wants to be called earlier than the timer task knows.
    earlier: Notify,
    complaints: Complaints,
    /// There is news for the task that knows of other relays.
    cluster_news: Notify,
}

struct State {
    router: Router,
    tasks: HashMap<LinkId, LinkTask>,
    /// The time at which the timer task will call.
    armed: Option<Instant>,
    killed: bool,
    traffic: Traffic,
    /// The thread that runs injected instructions, if there is one.
    engine: Option<Sender<ToEngine>>,
    /// Events that the task of the cluster has not read yet; `None` without a cluster.
    cluster_news: Option<VecDeque<News>>,
}

/// Something that the task that knows of other relays has to hear, in this order.
#[derive(Debug)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "there are no other relays"))]
pub(crate) enum News {
    /// Of servers, clients that wait for them, and links to other relays.
    Router(Event),
    /// Another relay is reached by the link.
    Dialled { node: String, address: String, link: LinkId },
    /// The link to or from another relay is gone.
    Closed(LinkId),
}

/// The number of news above which it is not told of clients that wait: these are told to try again later.
const MAX_NEWS: usize = 16_384;

/// The messages to the thread that runs injected instructions.
#[derive(Debug)]
#[cfg_attr(not(feature = "livecode"), allow(dead_code, reason = "there is no engine"))]
pub(crate) enum ToEngine {
    Instruct(Box<Instruct>),
    Left(LinkId),
    /// Look after the links that end in the thread.
    Wake,
}

/// A connection's task, as the others see it.
#[derive(Default)]
struct LinkTask {
    waker: Option<Waker>,
    close: Option<(CloseCode, String)>,
}

/// One thing that a peer sent, as the router takes it.
///
/// Every connection keeps room for some of them, so what is long and rare is in boxes.
#[derive(Debug)]
pub(crate) enum Message {
    Binary(BytesMut),
    Text(String),
    /// A command of the livecode dialect, and the length of its text.
    Command {
        len: usize,
        command: Box<ReadCommand>,
    },
    /// A REGISTER that the router wanted to be checked, and the result.
    Registration(Box<Registration>),
    /// A sign of life, without words.
    Alive,
}

/// The next step of a connection's task after an exchange.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// The first message that is left is a REGISTER whose proof has to be checked, which takes too long for the lock.
    Prove,
    /// The task is woken when there is something.
    Wait,
    /// There is more for the peer.
    More,
    /// The router has ended the link, and all that it had for the peer is handed out.
    Close(CloseCode, String),
    /// The relay ends without ado.
    Killed,
}

/// Work that is left for when the lock is released.
#[derive(Default)]
struct Effects {
    wake: Vec<Waker>,
    log: Vec<Event>,
    earlier: bool,
    cluster_news: bool,
}

/// A link at the router; dropping it releases the link and tells the other sides.
pub(crate) struct LinkHandle<'a> {
    router: &'a SharedRouter,
    id: LinkId,
    is_node: bool,
}

impl SharedRouter {
    pub(crate) fn new(config: Config) -> Self {
        let state = State {
            router: Router::new(config),
            tasks: HashMap::new(),
            armed: None,
            killed: false,
            traffic: Traffic::default(),
            engine: None,
            cluster_news: None,
        };
        Self {
            state: Mutex::new(state),
            start: std::time::Instant::now(),
            earlier: Notify::new(),
            complaints: Complaints::default(),
            cluster_news: Notify::new(),
        }
    }

    pub(crate) fn open_link(&self, peer: Arc<Peer>) -> LinkHandle<'_> {
        let id = self.call(|state, now| {
            let id = state.router.open_link(peer, now);
            state.tasks.insert(id, LinkTask::default());
            state.traffic.opened();
            id
        });
        LinkHandle { router: self, id, is_node: false }
    }

    /// Opens a link to or from another relay, at this address.
    #[cfg(feature = "cluster")]
    pub(crate) fn open_node_link(&self, peer: Arc<Peer>, side: NodeSide, address: &str) -> LinkHandle<'_> {
        let id = self.call(|state, now| {
            let node = match &side {
                NodeSide::Dialled { node } => Some(node.clone()),
                NodeSide::Accepted => None,
            };
            let id = state.router.open_node_link(peer, side, now);
            state.tasks.insert(id, LinkTask::default());
            state.traffic.opened();
            if let (Some(node), Some(news)) = (node, &mut state.cluster_news) {
                news.push_back(News::Dialled { node, address: address.to_owned(), link: id });
            }
            id
        });
        self.cluster_news.notify_one();
        LinkHandle { router: self, id, is_node: true }
    }

    /// Begins to keep news of servers and links for the task that knows of other relays.
    #[cfg(feature = "cluster")]
    pub(crate) fn keep_cluster_news(&self) {
        self.lock().cluster_news = Some(VecDeque::new());
    }

    /// Waits until there may be news.
    #[cfg(feature = "cluster")]
    pub(crate) async fn cluster_news(&self) {
        self.cluster_news.notified().await;
    }

    /// Returns all news since the last call.
    #[cfg(feature = "cluster")]
    pub(crate) fn take_cluster_news(&self) -> VecDeque<News> {
        self.lock().cluster_news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Has the task that knows of other relays call the router.
    #[cfg(feature = "cluster")]
    pub(crate) fn with<T>(&self, call: impl FnOnce(&mut Router, Instant) -> T) -> T {
        self.call(|state, now| call(&mut state.router, now))
    }

    /// The time at which the clock of the router says this.
    #[cfg(feature = "cluster")]
    pub(crate) fn time_of(&self, instant: Instant) -> tokio::time::Instant {
        (self.start + Duration::from_micros(instant.as_micros())).into()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().router.stats()
    }

    /// All that is counted here, at one moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            stats: state.router.stats(),
            load: state.router.load(),
            traffic: state.traffic.clone(),
            tasks_memory: state.tasks.capacity() * size_of::<(LinkId, LinkTask)>(),
        }
    }

    /// Changes the router's limits.
    pub(crate) fn configure(&self, config: Config) {
        self.call(|state, _| state.router.configure(config));
    }

    /// Has injected instructions run by a thread; `None`: by none, and the one of before ends.
    pub(crate) fn set_engine(&self, engine: Option<Sender<ToEngine>>) {
        self.lock().engine = engine;
    }

    /// Takes what the engine says.
    #[cfg_attr(not(feature = "livecode"), allow(dead_code, reason = "there is no engine"))]
    pub(crate) fn say(&self, said: Vec<Said>) {
        if !said.is_empty() {
            self.call(|state, _| said.into_iter().for_each(|said| state.router.handle_said(said)));
        }
    }

    /// Has the thread that runs injected instructions look after its own links.
    #[cfg_attr(not(feature = "livecode"), allow(dead_code, reason = "there is no engine"))]
    pub(crate) fn wake_engine(&self) {
        self.lock().tell_engine(ToEngine::Wake);
    }

    /// Returns whether so much is held for peers that no new ones are taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().router.is_full()
    }

    /// Announces the end to every peer, and ends the links that remain after `deadline`.
    pub(crate) fn drain(&self, deadline: Duration) {
        self.call(|state, now| state.router.drain(deadline, now));
    }

    /// Has every connection's task end at once.
    pub(crate) fn kill(&self) {
        self.call(|state, _| state.killed = true);
        let wakers: Vec<_> = self.lock().tasks.values_mut().filter_map(|task| task.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Calls the router when it wants to be called; never returns.
    pub(crate) async fn keep_time(&self) {
        loop {
            let armed = {
                let mut state = self.lock();
                state.armed = state.router.poll_timeout();
                state.armed
            };
            let due = async {
                match armed {
                    // A late call is harmless, and a few at once are cheaper.
                    Some(instant) => {
                        let at = self.start
                            + Duration::from_micros(instant.as_micros())
                            + Duration::from_millis(1);
                        tokio::time::sleep_until(at.into()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.call(|state, now| state.router.handle_timeout(now)),
                () = self.earlier.notified() => {}
            }
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in the router ends the link whose task it was; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, call: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = self.now();
        let mut state = self.lock();
        let result = call(&mut state, now);
        let effects = state.settle(None);
        drop(state);
        self.finish(effects);
        result
    }

    fn finish(&self, effects: Effects) {
        effects.wake.into_iter().for_each(Waker::wake);
        if effects.earlier {
            self.earlier.notify_one();
        }
        if effects.cluster_news {
            self.cluster_news.notify_one();
        }
        for event in effects.log {
            if let Event::Misaddressed { reached, dialled, .. } = &event {
                complain!(
                    self.complaints,
                    Misaddressed,
                    ?reached,
                    ?dialled,
                    "a server's proof is for another URL than the one under which this relay is reached: have the proxy \
                     pass on Host and X-Forwarded-Proto, or set `hosts` to the URL that pages dial"
                );
            }
            log(&event);
        }
    }
}

impl State {
    /// Hands a message to the router, unless its proof has to be checked before: then it comes back.
    fn take(&mut self, link: LinkId, message: Message, now: Instant) -> Option<Message> {
        match message {
            Message::Binary(message) => {
                if self.router.wants_proof(link, &message) {
                    return Some(Message::Binary(message));
                }
                #[cfg(test)]
                crate::faults::trip(crate::faults::UNDER_THE_LOCK, &message);
                self.traffic.received(message.len());
                self.router.handle_message(link, message, now);
            }
            Message::Text(text) => {
                self.traffic.received(text.len());
                self.router.handle_text(link, &text, now);
            }
            // The rest of what the peer said is not read until the engine has taken this one.
            Message::Command { ref command, .. } if self.router.must_wait(link, command) => {
                return Some(message);
            }
            Message::Command { len, command } => {
                self.traffic.received(len);
                self.router.handle_read_command(link, *command, now);
            }
            Message::Registration(registration) => {
                self.traffic.received(registration.len());
                self.traffic.proven();
                self.router.handle_registration(link, &registration, now);
            }
            Message::Alive => self.router.handle_alive(link, now),
        }
        None
    }

    /// Takes the router's events; those for `own` need no waking.
    fn settle(&mut self, own: Option<LinkId>) -> Effects {
        let mut effects = Effects::default();
        while let Some(event) = self.router.poll_event() {
            self.traffic.note(&event);
            effects.cluster_news |= self.tell_cluster(&event);
            match event {
                Event::Writable(link) if Some(link) == own => {}
                Event::Writable(link) => {
                    effects.wake.extend(self.tasks.get_mut(&link).and_then(|s| s.waker.take()))
                }
                Event::Close { link, code, reason } => {
                    if let Some(task) = self.tasks.get_mut(&link) {
                        task.close = Some((code, reason));
                        effects.wake.extend(task.waker.take());
                    }
                }
                Event::Answered(link) => {
                    effects.wake.extend(self.tasks.get_mut(&link).and_then(|task| task.waker.take()));
                }
                // Under the lock, so that an engine never hears that a link has left before it hears of its command.
                Event::Instruct(instruct) => self.tell_engine(ToEngine::Instruct(instruct)),
                Event::Left(link) => self.tell_engine(ToEngine::Left(link)),
                event => effects.log.push(event),
            }
        }
        let wanted = self.router.poll_timeout();
        if wanted.is_some_and(|wanted| self.armed.is_none_or(|armed| wanted < armed)) {
            self.armed = wanted;
            effects.earlier = true;
        }
        effects
    }

    /// Keeps an event for the task that knows of other relays, if it concerns that; returns whether it does.
    fn tell_cluster(&mut self, event: &Event) -> bool {
        let Some(news) = &mut self.cluster_news else { return false };
        let is_kept = match event {
            Event::Registered { .. } | Event::Unregistered { .. } | Event::NodeProven { .. } => true,
            Event::Wanted { .. } => news.len() < MAX_NEWS,
            _ => false,
        };
        if is_kept {
            news.push_back(News::Router(event.clone()));
        }
        is_kept
    }

    fn tell_engine(&mut self, message: ToEngine) {
        if let Some(engine) = &self.engine {
            // It is gone when the relay ends: nothing is answered any more.
            let _ignored = engine.send(message);
        }
    }

    fn next(&mut self, link: LinkId, drained: bool, waker: &Waker) -> Next {
        let task = self.tasks.entry(link).or_default();
        if self.killed {
            return Next::Killed;
        }
        // Even if there is more: the link may be ended while the peer's socket takes nothing.
        if task.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            task.waker = Some(waker.clone());
        }
        if !drained {
            return Next::More;
        }
        task.close.take().map_or(Next::Wait, |(code, reason)| Next::Close(code, reason))
    }
}

impl LinkHandle<'_> {
    pub(crate) const fn id(&self) -> LinkId {
        self.id
    }

    /// Hands the peer's messages to the router, up to one whose proof has to be checked, or that comes before the last command is
    /// answered, and takes up to about `budget` bytes of what it has for the peer.
    ///
    /// When it has no more, `waker` is woken as soon as it has.
    pub(crate) fn exchange(
        &self,
        received: &mut Vec<Message>,
        budget: usize,
        waker: &Waker,
        mut send: impl FnMut(Transmit),
    ) -> Next {
        let now = self.router.now();
        let mut state = self.router.lock();
        let mut left = received.drain(..);
        let unproven = left.by_ref().find_map(|message| state.take(self.id, message, now));
        let has_unproven = matches!(unproven, Some(Message::Binary(_)));
        let left = unproven.into_iter().chain(left).collect::<Vec<_>>();
        received.extend(left);
        let mut taken = 0;
        let drained = loop {
            if taken >= budget {
                break false;
            }
            let Some(transmit) = state.router.poll_transmit(self.id) else { break true };
            taken += transmit.len();
            state.traffic.sent(transmit.len());
            send(transmit);
        };
        if let Some(since) = state.router.poll_waited() {
            state.traffic.waited(now.saturating_since(since));
        }
        // After the transmits: room in a queue is an event for whoever fills it.
        let effects = state.settle(Some(self.id));
        let next = state.next(self.id, drained, waker);
        let next = if has_unproven && matches!(next, Next::Wait | Next::More) { Next::Prove } else { next };
        drop(state);
        self.router.finish(effects);
        next
    }
}

impl Drop for LinkHandle<'_> {
    fn drop(&mut self) {
        self.router.call(|state, now| {
            state.tasks.remove(&self.id);
            state.router.handle_link_closed(self.id, now);
            if let Some(news) = state.cluster_news.as_mut().filter(|_| self.is_node) {
                news.push_back(News::Closed(self.id));
            }
        });
        if self.is_node {
            self.router.cluster_news.notify_one();
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::Registered { link, server_id } => info!(%link, %server_id, "server registered"),
        Event::Unregistered { link, server_id } => info!(%link, %server_id, "server gone"),
        Event::NodeProven { link, node } => info!(%link, %node, "link to another relay"),
        event => debug!(?event, "router"),
    }
}
