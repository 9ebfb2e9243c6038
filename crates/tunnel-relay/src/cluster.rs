//! The relay as one of several with the same servers: a task drives the core's machine `Presence` by a bus, and takes clients to other
//! relays by links. `server` starts it.

mod bus;
mod links;
mod nats;

use crate::Config;
use crate::complaints::complain;
use crate::metrics::{ClusterStats, Histogram};
use crate::shared::{Phase, Shared};
use crate::shared_router::News;
use bus::{Bus, BusEvent};
use links::Links;
use nats::Nats;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant as Clock;
use tracing::{debug, error, info, warn};
use tunnel_protocol::node::ClusterSecret;
use tunnel_protocol::presence::{self, Event, Moment, Presence, Routes};
use tunnel_protocol::router::{self, ClusterConfig};
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{Instant, ServerId};

/// The number of messages of the bus that are taken in before what they bring about is done.
const BATCH: usize = 256;

/// Interval at which a relay that is off the bus looks after itself.
const OFF_TICK: Duration = Duration::from_secs(1);

/// Interval at which it dials others, so that they can say whether the bus is well, and how many of them.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASKED: usize = 8;

/// A relay that is off the bus for so many times `cluster-lost-after` may be cut off.
const CUT_OFF: u32 = 10;

/// It is if the bus has been well elsewhere for so many times that: when the servers of the bus start again, some relays are there before
/// others.
const WELL_FOR: u32 = 2;

/// Longest time that the last word to other relays may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The number of servers whose time until they are found is measured.
const MAX_MEASURED: usize = 4_096;

/// Longest time of that which is of interest.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The number of other relays that are shown to those who watch this one.
const MAX_SHOWN: usize = 64;

/// All that can fail before the relay listens for peers.
pub(crate) struct Prepared {
    listener: TcpListener,
    links: Links,
    nats: Nats,
    presence: presence::Config,
}

/// The relay's place among others. Dropping it ends its tasks.
#[derive(Debug)]
pub(crate) struct Cluster {
    address: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    state: watch::Receiver<Standing>,
    _tasks: JoinSet<()>,
}

/// A message of the relay to the task.
#[derive(Debug)]
enum Order {
    /// It is about to end.
    Drain,
    /// It ends: say when the others have been told.
    End(oneshot::Sender<()>),
}

/// A message of the task to the relay.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// The bus has been reached once.
    has_been_on: bool,
    /// The relay was cut off and has drained, and the bus is back.
    is_to_end: bool,
}

impl Prepared {
    /// Listens for other relays, if the configuration names any.
    ///
    /// # Errors
    ///
    /// The address can't be listened on, or a file can't be used; the text says which.
    pub(crate) async fn new(config: &Config) -> io::Result<Option<Self>> {
        if !config.is_clustered() {
            return Ok(None);
        }
        let missing = || io::Error::other("a cluster needs cluster-listen and a cluster-secret of 32 bytes");
        let listen = config.cluster_listen.ok_or_else(missing)?;
        let secret = secret(config).ok_or_else(missing)?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            io::Error::new(error.kind(), format!("can't listen on {listen} for other relays: {error}"))
        })?;
        let address = match &config.cluster_address {
            Some(address) => address.to_string(),
            None => listener.local_addr()?.to_string(),
        };
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation).map_err(io::Error::other)?;
        let incarnation = u64::from_be_bytes(incarnation);
        let presence = presence::Config {
            absent_wait: config.absent_wait,
            beat_interval: config.cluster_lost_after / 3,
            lost_after: config.cluster_lost_after,
            cut_off_after: config.cluster_lost_after * CUT_OFF,
            forget_after: config.cluster_forget_after,
            audit_interval: config.cluster_audit,
            finds_per_second: config.cluster_finds_per_second,
            ..presence::Config::new(config.node.clone(), address, incarnation, secret)
        };
        Ok(Some(Self {
            listener,
            links: Links::new(config)?,
            nats: Nats::new(config, incarnation)?,
            presence,
        }))
    }

    /// Starts the tasks.
    pub(crate) fn start(self, shared: &Arc<Shared>) -> io::Result<Cluster> {
        let Self { listener, links, nats, presence } = self;
        let address = listener.local_addr()?;
        let (orders, inbox) = mpsc::unbounded_channel();
        let (to_state, state) = watch::channel(Standing::default());
        let (bus, server) = Bus::new();
        let links = Arc::new(links);
        info!(%address, dialled = presence.address, node = presence.node, tls = links.tls.is_some(), "links of other relays");
        shared.router.keep_cluster_news();
        let mut tasks = JoinSet::new();
        let driver = Driver::new(shared.clone(), presence, bus, links.clone(), to_state);
        tasks.spawn(driver.run(inbox));
        tasks.spawn(nats.serve(shared.clone(), server));
        tasks.spawn(links.clone().accept(shared.clone(), listener));
        let interval = shared.config().tls_watch_interval;
        tasks.spawn(async move {
            if let Some(tls) = &links.tls {
                tls.keep_fresh(interval).await;
            }
        });
        Ok(Cluster { address, orders, state, _tasks: tasks })
    }
}

/// The router's settings of the cluster.
pub(crate) fn router_config(config: &Config) -> Option<ClusterConfig> {
    let secret = secret(config).filter(|_| config.is_clustered())?;
    let verdict_wait = router::verdict_wait(config.absent_wait);
    Some(ClusterConfig { node_buffer: config.cluster_buffer, verdict_wait, ..ClusterConfig::new(secret) })
}

/// Checks files that are read when the relay starts.
///
/// # Errors
///
/// One can't be used; the text says which and why.
pub(crate) fn check(config: &Config) -> io::Result<()> {
    if config.is_clustered() {
        Links::new(config)?;
        Nats::new(config, 0)?;
    }
    Ok(())
}

fn secret(config: &Config) -> Option<ClusterSecret> {
    ClusterSecret::new(config.cluster_secret.as_ref()?.0.as_bytes())
}

impl Cluster {
    /// The address at which the links of other relays come in.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the bus has been reached once, but not for long.
    pub(crate) async fn reached(&self, patience: Duration) {
        let mut state = self.state.clone();
        let reached = state.wait_for(|state| state.has_been_on);
        if tokio::time::timeout(patience, reached).await.is_err() {
            warn!(
                ?patience,
                "the bus is not reached: this relay lets peers in all the same, but other relays do not know of its servers yet"
            );
        }
    }

    /// Waits until the relay should end: it was cut off from the bus, has drained, and the bus is back. Or the task that knows of other
    /// relays has failed, which a new process has again.
    pub(crate) async fn cut_off(&self) {
        let mut state = self.state.clone();
        if state.wait_for(|state| state.is_to_end).await.is_err() {
            error!("the task that knows of other relays has ended");
        }
    }

    /// No server is found here any more.
    pub(crate) fn drain(&self) {
        // The task ends with the relay only.
        let _ended = self.orders.send(Order::Drain);
    }

    /// Tells the other relays that this one ends.
    pub(crate) async fn end(&self) {
        let (done, told) = oneshot::channel();
        if self.orders.send(Order::End(done)).is_ok() && tokio::time::timeout(LAST_WORD, told).await.is_err()
        {
            warn!("the other relays were not told that this one ends: to them, it is lost for a while");
        }
    }
}

/// The task that knows of other relays.
struct Driver {
    shared: Arc<Shared>,
    presence: Presence,
    routes: Routes,
    bus: Bus,
    links: Arc<Links>,
    state: watch::Sender<Standing>,
    /// The ends of dials that came to nothing.
    failures: mpsc::UnboundedReceiver<Failure>,
    to_failures: mpsc::UnboundedSender<Failure>,
    /// Since when clients wait for servers.
    wanted: BTreeMap<PublicKey, Instant>,
    found: Histogram,
    dials_failed: u64,
    /// The other relays, for those who watch this one.
    roster: Arc<[(String, String, bool)]>,
    well_for: Duration,
    off: Option<Off>,
    has_drained: bool,
}

/// The relay is off the bus.
struct Off {
    /// The times at which it looks after itself next, and at which it dials others.
    tick: Clock,
    ask: Clock,
    /// Since when another relay has said that the bus is well.
    well_since: Option<Clock>,
    /// It has been off for so long that it may be cut off.
    is_long: bool,
}

struct Failure {
    node: String,
    address: String,
    error: String,
}

impl Driver {
    fn new(
        shared: Arc<Shared>,
        config: presence::Config,
        bus: Bus,
        links: Arc<Links>,
        state: watch::Sender<Standing>,
    ) -> Self {
        let well_for = config.lost_after * WELL_FOR;
        let presence = Presence::new(config, shared.router.now());
        let (to_failures, failures) = mpsc::unbounded_channel();
        Self {
            shared,
            presence,
            routes: Routes::default(),
            bus,
            links,
            state,
            failures,
            to_failures,
            wanted: BTreeMap::new(),
            found: Histogram::default(),
            dials_failed: 0,
            roster: Arc::default(),
            well_for,
            off: Some(Off::new()),
            has_drained: false,
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let shared = self.shared.clone();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            self.settle();
            self.report();
            let due = self.due();
            tokio::select! {
                count = self.bus.events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        error!("the task of the bus has ended");
                        return;
                    }
                    batch.drain(..).for_each(|event| self.handle_bus(event));
                }
                () = shared.router.cluster_news() => {}
                Some(failure) = self.failures.recv() => self.handle_failure(&failure),
                order = orders.recv() => match order {
                    Some(Order::Drain) => self.presence.handle_drain(),
                    Some(Order::End(done)) => self.end(done).await,
                    None => return,
                },
                () = tokio::time::sleep_until(due) => {
                    let time = self.time();
                    self.presence.handle_timeout(time);
                    self.look_after_itself();
                }
            }
        }
    }

    fn time(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { now: self.shared.router.now(), wall: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
    }

    fn due(&self) -> Clock {
        let hour = Clock::now() + Duration::from_secs(3_600);
        let presence = self.presence.poll_timeout().filter(|at| *at < Instant::NEVER);
        // A late call is harmless, and a few at once are cheaper.
        let presence = presence.map(|at| self.shared.router.time_of(at) + Duration::from_millis(1));
        let tick = self.off.as_ref().map(|off| off.tick);
        [presence, tick].into_iter().flatten().fold(hour, Clock::min)
    }

    /// Does all that has come up.
    fn settle(&mut self) {
        loop {
            let news = self.shared.router.take_cluster_news();
            let mut moved = !news.is_empty();
            news.into_iter().for_each(|news| self.handle_news(news));
            while let Some(event) = self.presence.poll_event() {
                self.handle_event(event);
                moved = true;
            }
            let time = self.time();
            while let Some(publication) = self.presence.poll_publish(time) {
                self.bus.publish(publication);
            }
            if !moved {
                return;
            }
        }
    }

    fn handle_bus(&mut self, event: BusEvent) {
        let time = self.time();
        match event {
            BusEvent::Message(subject, payload) => self.presence.handle_message(subject, &payload, time),
            BusEvent::Up => {
                self.presence.handle_bus_up(time);
                self.off = None;
                self.tell_of_bus();
                let is_to_end = self.has_drained;
                self.state.send_modify(|state| *state = Standing { has_been_on: true, is_to_end });
            }
            BusEvent::Down => {
                self.presence.handle_bus_down(time);
                self.off = Some(Off::new());
                self.tell_of_bus();
            }
        }
    }

    fn tell_of_bus(&self) {
        let is_well = self.presence.is_bus_well();
        self.shared.router.with(|router, _| router.tell_of_bus(is_well));
    }

    fn handle_news(&mut self, news: News) {
        let time = self.time();
        match news {
            News::Router(router::Event::Registered { link, server_id }) => {
                if let Some(key) = server_id.key() {
                    self.presence.handle_registered(*key, link, time);
                    self.wanted.remove(key);
                }
            }
            News::Router(router::Event::Unregistered { link, server_id }) => {
                if let Some(key) = server_id.key() {
                    self.presence.handle_unregistered(key, link);
                }
            }
            News::Router(router::Event::Wanted { server_id }) => {
                if let Some(key) = server_id.key() {
                    self.presence.handle_wanted(*key, time);
                    self.measure(*key, time.now);
                }
            }
            News::Router(router::Event::NodeProven { link, .. }) => {
                let (routes, is_well) = (&mut self.routes, self.presence.is_bus_well());
                self.shared.router.with(|router, _| {
                    router.tell_of_bus(is_well);
                    routes.proven(router, link);
                });
            }
            News::Router(_) => {}
            News::Dialled { node, address, link } => self.routes.dialled(&node, &address, link),
            News::Closed(link) => self.routes.closed(link),
        }
    }

    /// Begins to measure how long it takes to find a server.
    fn measure(&mut self, key: PublicKey, now: Instant) {
        if self.wanted.len() >= MAX_MEASURED {
            self.wanted.retain(|_, since| *since + FORGOTTEN > now);
        }
        if self.wanted.len() < MAX_MEASURED {
            self.wanted.entry(key).or_insert(now);
        }
    }

    fn handle_event(&mut self, event: Event) {
        if let Event::Joined { .. } | Event::Left { .. } | Event::Lost { .. } = &event {
            let roster = self.presence.roster().take(MAX_SHOWN);
            self.roster =
                roster.map(|(node, at, is_lost)| (node.to_owned(), at.to_owned(), is_lost)).collect();
        }
        match event {
            Event::Route { key, node, address } => {
                debug!(server_id = %ServerId::Key(key), node, "server found");
                if let Some(since) = self.wanted.remove(&key) {
                    self.found.observe(self.shared.router.now().saturating_since(since));
                }
                let (routes, server_id) = (&mut self.routes, ServerId::Key(key));
                if self.shared.router.with(|router, _| routes.route(router, &node, &address, server_id)) {
                    self.dial(node, address);
                }
            }
            Event::Fence { key, link, code } => {
                let server_id = ServerId::Key(key);
                info!(%server_id, %link, %code, "another relay has a newer registration");
                self.shared.router.with(|router, _| router.handle_fence(&server_id, link, code));
            }
            Event::Absent { key, is_certain } => {
                self.wanted.remove(&key);
                let server_id = ServerId::Key(key);
                self.shared.router.with(|router, now| router.handle_absent(&server_id, is_certain, now));
            }
            Event::Joined { node, address } => info!(node, address, "relay joined"),
            Event::Left { node } => info!(node, "relay left"),
            Event::Lost { node } => warn!(
                node,
                "relay lost: clients of servers that are not found hear that they should try again, until it is back or forgotten"
            ),
            Event::Clash { address } => {
                error!(
                    address,
                    "another relay has the same `node`: each relay of a cluster needs a name of its own"
                );
            }
            Event::CutOff => {
                if let Some(off) = &mut self.off {
                    off.is_long = true;
                }
            }
            _ => {}
        }
    }

    fn dial(&self, node: String, address: String) {
        let (shared, links, failures) = (self.shared.clone(), self.links.clone(), self.to_failures.clone());
        self.shared.tasks.spawn(async move {
            if let Err(error) = links.dial(&shared, node.clone(), &address).await {
                // Nobody listens when the relay ends.
                let _ended = failures.send(Failure { node, address, error });
            }
        });
    }

    fn handle_failure(&mut self, failure: &Failure) {
        let Failure { node, address, error } = failure;
        self.dials_failed += 1;
        self.routes.failed(node, address);
        let this = self.shared.config().node.clone();
        complain!(
            self.shared.complaints,
            NodeDial,
            this,
            node,
            address,
            error,
            "another relay is not reached: clients of its servers have to wait"
        );
    }

    /// Without the bus, others can say whether it is well; with them, a relay that is cut off alone drains itself.
    fn look_after_itself(&mut self) {
        let now = Clock::now();
        let is_well = self.shared.router.with(|router, _| router.is_bus_well_elsewhere());
        let Some(off) = self.off.as_mut().filter(|off| off.tick <= now) else { return };
        off.tick = now + OFF_TICK;
        off.well_since = if is_well { Some(off.well_since.unwrap_or(now)) } else { None };
        let is_cut_off = off.is_long && off.well_since.is_some_and(|since| since + self.well_for <= now);
        if off.ask <= now && !self.has_drained {
            off.ask = now + ASK_AGAIN;
            let others = self.presence.roster().filter(|(_, _, is_lost)| !is_lost).take(ASKED);
            let others: Vec<_> =
                others.map(|(node, address, _)| (node.to_owned(), address.to_owned())).collect();
            for (node, address) in others {
                if self.routes.want(&node, &address) {
                    self.dial(node, address);
                }
            }
        }
        if is_cut_off && !self.has_drained && !self.shared.is_draining() {
            self.has_drained = true;
            error!(
                "this relay alone is cut off from the bus: its servers can't be found, so it sends its peers to other relays, and ends \
                 when the bus is back"
            );
            self.presence.handle_drain();
            self.shared.enter(Phase::Draining);
            self.shared.router.drain(self.shared.config().drain_timeout);
        }
    }

    async fn end(&mut self, done: oneshot::Sender<()>) {
        let time = self.time();
        self.presence.handle_drain();
        self.presence.handle_end(time);
        while let Some(publication) = self.presence.poll_publish(time) {
            self.bus.publish(publication);
        }
        self.bus.flush().await;
        let _nobody_waits = done.send(());
    }

    fn report(&self) {
        self.shared.metrics.set_cluster(ClusterStats {
            presence: self.presence.stats(),
            is_on: self.presence.is_bus_well(),
            messages_lost: self.bus.lost(),
            dials_failed: self.dials_failed,
            found: self.found.clone(),
            roster: self.roster.clone(),
        });
    }
}

impl Off {
    fn new() -> Self {
        let now = Clock::now();
        Self { tick: now, ask: now + ASK_AGAIN, well_since: None, is_long: false }
    }
}
