//! One namespace: its sandbox, its links, whose turn it is, and what is said about it.

mod answers;
mod manage;
mod proof;
mod run;
mod service;
mod turns;
mod watch;

pub use service::{SERVICE_URL, Wire};

use crate::bucket::Bucket;
use crate::image::{Image, ImageError};
use crate::program::{Program, ProgramError};
use crate::sandbox::{Op, Sandbox};
use answers::Pending;
use run::Caller;
use service::Service;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Instruct, LinkId, Peer, Said};
use tunnel_protocol::{Instant, ServerId};
use turns::{Turns, Who};

/// The number of labelled checkpoints that are kept.
const MAX_KEPT: usize = 4;

/// The processor time that may be saved up.
const SHARE_BURST: Duration = Duration::from_secs(1);
const LINK_BURST: Duration = Duration::from_millis(500);

/// A link may use this part of what the namespace may.
const LINK_PART: f64 = 0.25;

/// The limits of an engine, beside the program's limits for each call.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Processor time of all calls together: a share of one processor, 0.2 for a fifth. A link's is a quarter of it.
    pub share: f64,
    /// True if `eval` is allowed.
    pub allows_eval: bool,
    /// True if instructions see the peers' addresses; else each link has one of 198.51.100.0/24.
    pub shows_addresses: bool,
    /// After how long a checkpoint is made anew, if calls ran.
    pub checkpoint_interval: Duration,
    /// The namespace's name, which is part of its links' URL; empty: the one of links without.
    pub namespace: String,
    /// The key of the server that instructions make of the namespace by `serve`; `None`: a fresh one.
    pub key: Option<StaticKey>,
    /// Most clients that this server has.
    pub max_clients: usize,
}

impl Settings {
    /// An address as instructions may see it.
    fn address(&self, address: &str, number: u32) -> String {
        if self.shows_addresses { address.to_owned() } else { format!("198.51.100.{}", number % 254 + 1) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            share: 0.2,
            allows_eval: true,
            shows_addresses: true,
            checkpoint_interval: Duration::from_secs(1),
            namespace: String::new(),
            key: None,
            max_clients: 256,
        }
    }
}

/// The time of the next call of [`Engine::work`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// At once.
    Now,
    /// Then, or when something comes earlier.
    At(Instant),
    /// Only after something has come.
    Idle,
}

/// The counters of an engine since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Calls into the sandbox.
    pub calls: u64,
    /// Of these, the ones that threw.
    pub errors: u64,
    /// The ones that were stopped at the soft limit.
    pub interrupted: u64,
    /// The ones that were dropped, with everything since the last checkpoint.
    pub dropped: u64,
    /// Processor time of all calls.
    pub spent: Duration,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Links that it knows.
    pub links: usize,
    /// Commands that wait for their turn.
    pub waiting: usize,
    /// Clients of the namespace's own server.
    pub clients: usize,
}

/// A link as the engine knows it.
#[derive(Debug)]
struct Link {
    /// Its number in the sandbox; never used twice.
    number: u32,
    peer: Arc<Peer>,
    /// The facts about the peer that instructions may know, in JSON.
    about: String,
    /// Servers whose keys the peer has shown to have.
    proven: Vec<ServerId>,
    commands: VecDeque<Instruct>,
    is_configurer: bool,
    /// Texts that belong to no command, and so must not come into the middle of an answer.
    notices: VecDeque<String>,
}

/// A sandbox with everything around it. Commands go in by [`instruct`](Self::instruct), [`work`](Self::work) runs one call, and
/// [`poll_said`](Self::poll_said) has what comes of it.
pub struct Engine {
    program: Arc<Program>,
    settings: Settings,
    sandbox: Sandbox,
    links: BTreeMap<LinkId, Link>,
    numbers: BTreeMap<u32, LinkId>,
    last_number: u32,
    /// Numbers of links that are gone, of which the sandbox has not heard.
    left: VecDeque<u32>,
    turns: Turns,
    share: Bucket,
    /// The sandbox's timers.
    timers: BTreeMap<u32, Instant>,
    checkpoint: Image,
    checkpoint_at: Instant,
    /// True if calls ran since the checkpoint.
    is_changed: bool,
    kept: VecDeque<(String, Image)>,
    pending: Pending,
    watchers: BTreeSet<LinkId>,
    service: Service,
    /// The link whose command runs.
    running: Option<LinkId>,
    said: VecDeque<Said>,
    stats: Stats,
}

impl Engine {
    /// An engine with nothing in it.
    pub fn new(program: &Arc<Program>, settings: Settings, now: Instant) -> Result<Self, ProgramError> {
        let sandbox = Sandbox::new(program)?;
        let mut engine = Self::with_sandbox(program, settings, sandbox, now);
        // Instructions have to know the server's ID.
        engine.resume(now);
        Ok(engine)
    }

    /// An engine that goes on where an image was made. All links that were open then are closed.
    pub fn from_image(
        program: &Arc<Program>,
        settings: Settings,
        image: &Image,
        now: Instant,
    ) -> Result<Self, ImageError> {
        let sandbox = Sandbox::from_image(program, image)?;
        let mut engine = Self::with_sandbox(program, settings, sandbox, now);
        // Numbers of links in the image must not be given to others.
        engine.last_number = image.last_number;
        engine.resume(now);
        Ok(engine)
    }

    /// An engine with instructions of which only the sources are left: each is a name and a body.
    pub fn from_sources(
        program: &Arc<Program>,
        settings: Settings,
        sources: &[(String, String)],
        now: Instant,
    ) -> Result<Self, ProgramError> {
        let mut engine = Self::new(program, settings, now)?;
        for (name, body) in sources {
            let parameters = serde_json::json!({ "instructionToAdd": name, "body": body });
            let text = serde_json::json!({ "parameters": parameters }).to_string();
            engine.call(Op::Add, 0, text.as_bytes(), Caller::Nobody, now);
            // Nobody asked; but the router has to know whether the tunnel's six are here.
            engine.said.retain(|said| matches!(said, Said::Tunnel { .. }));
        }
        engine.keep_checkpoint(now);
        Ok(engine)
    }

    fn with_sandbox(program: &Arc<Program>, settings: Settings, sandbox: Sandbox, now: Instant) -> Self {
        let share = settings.share.clamp(0.001, 1.0);
        let key = settings.key.clone().unwrap_or_else(fresh_key);
        Self {
            service: Service::new(key, settings.max_clients),
            program: program.clone(),
            checkpoint: sandbox.image(),
            sandbox,
            links: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            left: VecDeque::new(),
            turns: Turns::new(share * LINK_PART, LINK_BURST),
            share: Bucket::new(share, SHARE_BURST, now),
            timers: BTreeMap::new(),
            checkpoint_at: now,
            is_changed: false,
            kept: VecDeque::new(),
            pending: Pending::default(),
            watchers: BTreeSet::new(),
            running: None,
            said: VecDeque::new(),
            stats: Stats::default(),
            settings,
        }
    }

    /// Takes a command. Commands of one link are run in their order.
    pub fn instruct(&mut self, instruct: Instruct, now: Instant) {
        let id = instruct.link;
        if !self.links.contains_key(&id) {
            self.last_number += 1;
            let number = self.last_number;
            let about = self.about(&instruct.peer, number, &[]);
            let link = Link {
                number,
                peer: instruct.peer.clone(),
                about,
                proven: Vec::new(),
                commands: VecDeque::new(),
                is_configurer: false,
                notices: VecDeque::new(),
            };
            self.numbers.insert(number, id);
            self.links.insert(id, link);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.commands.push_back(instruct);
            self.turns.want(Who::Link(id), now);
        }
    }

    fn about(&self, peer: &Peer, number: u32, proven: &[ServerId]) -> String {
        let address = self.settings.address(&peer.address, number);
        let proven: Vec<_> = proven.iter().map(ServerId::to_string).collect();
        let url = path(&peer.url);
        serde_json::json!({ "address": address, "url": url, "headers": {}, "proven": proven }).to_string()
    }

    /// Forgets a link: it is closed. Instructions hear of it.
    pub fn link_left(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.numbers.remove(&link.number);
        self.turns.forget(Who::Link(id));
        self.watchers.remove(&id);
        self.pending.forget(id);
        self.left.push_back(link.number);
    }

    /// The next thing for the router.
    pub fn poll_said(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    /// Returns the counters, and the sizes of what it holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            memory: self.sandbox.size(),
            links: self.links.len(),
            waiting: self.links.values().map(|link| link.commands.len()).sum(),
            clients: self.service.clients(),
            ..self.stats
        }
    }

    /// Everything there is, as of the last call.
    #[must_use]
    pub fn image(&self) -> Image {
        Image { last_number: self.last_number, ..self.sandbox.image() }
    }

    /// The image to which a call that is dropped goes back.
    #[must_use]
    pub fn last_checkpoint(&self) -> Image {
        Image { last_number: self.last_number, ..self.checkpoint.clone() }
    }

    /// The newest sources, as names and bodies: what is left when an image cannot be used.
    pub fn sources(&mut self) -> Vec<(String, String)> {
        let called = self.sandbox.call(Op::Sources, 0, "");
        let text = called.out.into_iter().next().map(|out| out.text).unwrap_or_default();
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
        let member = |it: &serde_json::Value, name| it.get(name)?.as_str().map(str::to_owned);
        list.iter().filter_map(|it| Some((member(it, "name")?, member(it, "body")?))).collect()
    }

    fn keep_checkpoint(&mut self, now: Instant) {
        self.checkpoint = self.sandbox.image();
        self.checkpoint_at = now;
        self.is_changed = false;
    }
}

/// A key that nobody has had. Without randomness there is none that could be kept secret, and no server is registered under this one
/// either: that needs randomness, too.
fn fresh_key() -> StaticKey {
    let mut secret = [0; 32];
    let _failed = getrandom::fill(&mut secret);
    StaticKey::from_secret(secret)
}

/// The path of a URL, as a request's line has it.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}
