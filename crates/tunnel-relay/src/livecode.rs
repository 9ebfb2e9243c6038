//! The thread that runs injected instructions. `server` starts it, `shared_router` sends it commands and takes what it says.

mod line;
mod space;

use crate::config::{Config, Switch};
use crate::livecode_state::Folder;
use crate::metrics::LivecodeStats;
use crate::shared::Shared;
use crate::shared_router::ToEngine;
use space::Space;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{error, info, warn};
use tunnel_livecode_engine::{Engine, Image, Kept, Limits, Next, Program, Settings};
use tunnel_protocol::Instant;
use tunnel_protocol::identity::StaticKey;

/// The engine's module, which `cargo xtask livecode` builds.
const MODULE: &[u8] = include_bytes!(env!("TUNNEL_LIVECODE_GUEST"));

/// The interval at which the state of the sandboxes is written to its folder, if calls ran.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// The time for which the thread rests when it has nothing to do. It is woken when something comes.
const REST: Duration = Duration::from_secs(3_600);

/// The parts that the thread needs to make engines, and to make them again.
pub(crate) struct Workshop {
    program: Arc<Program>,
    settings: Settings,
    folder: Option<Folder>,
    /// Names of all namespaces; the one without a name is empty.
    namespaces: Vec<String>,
}

impl Workshop {
    /// Compiles the module.
    ///
    /// # Errors
    ///
    /// The module does not run within its limits, or the folder can't be used.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let limits = Limits {
            heap: short(config.livecode_memory),
            output: config.livecode_output,
            outputs: config.livecode_messages,
            kept: Kept {
                sources: short(config.livecode_sources),
                instructions: short(config.livecode_instructions),
                versions: short(config.livecode_versions),
                timers: short(config.livecode_timers),
            },
            ..Limits::default().with_call_time(config.livecode_call_time)
        };
        let named = config.livecode_namespaces.iter().map(|it| it.name.clone());
        let namespaces: Vec<_> = std::iter::once(String::new()).chain(named).collect();
        let settings = Settings {
            share: f64::from(config.livecode_share) / 100.0 / namespaces.len() as f64,
            allows_eval: config.livecode_eval == Switch::On,
            shows_addresses: config.livecode_addresses == Switch::On,
            max_clients: config.livecode_clients,
            ..Settings::default()
        };
        let folder = config.livecode_state.as_deref().map(Folder::open).transpose()?;
        let program = Program::new(MODULE, limits).map_err(io::Error::other)?;
        Ok(Self { program, settings, folder, namespaces })
    }

    /// The settings of a namespace's engine. The key of the server that instructions may make of it outlives the relay with the rest of
    /// its state.
    fn settings(&self, namespace: &str) -> io::Result<Settings> {
        let mut secret = [0; 32];
        match &self.folder {
            Some(folder) => secret = folder.key(namespace)?,
            None => getrandom::fill(&mut secret).map_err(io::Error::other)?,
        }
        let key = Some(StaticKey::from_secret(secret));
        Ok(Settings { namespace: namespace.to_owned(), key, ..self.settings.clone() })
    }

    /// An engine with what was saved, or, if that can't be used, with its sources, or with nothing.
    fn engine(&self, settings: &Settings, now: Instant) -> io::Result<Engine> {
        let namespace = &settings.namespace;
        if let Some(folder) = &self.folder {
            match folder.image(namespace) {
                Ok(Some(image)) => match self.engine_of(settings, &image, now) {
                    Ok(engine) => {
                        info!(namespace, "injected instructions go on where they were saved");
                        return Ok(engine);
                    }
                    Err(error) => {
                        warn!(namespace, %error, "only the sources of injected instructions are taken over");
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    warn!(namespace, %error, "only the sources of injected instructions are taken over");
                }
            }
            let sources = folder.sources(namespace)?;
            if !sources.is_empty() {
                return Engine::from_sources(&self.program, settings.clone(), &sources, now)
                    .map_err(io::Error::other);
            }
        }
        Engine::new(&self.program, settings.clone(), now).map_err(io::Error::other)
    }

    fn engine_of(&self, settings: &Settings, image: &Image, now: Instant) -> io::Result<Engine> {
        Engine::from_image(&self.program, settings.clone(), image, now).map_err(io::Error::other)
    }

    fn save(&self, namespace: &str, engine: &mut Engine) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.save(namespace, &engine.image(), &engine.sources())
        {
            error!(namespace, %error, "injected instructions can't be saved: they are lost when the relay ends");
        }
    }
}

/// Starts the thread. It ends, after it has saved what there is, when nobody can send it commands any more.
pub(crate) fn start(
    workshop: Workshop,
    shared: Arc<Shared>,
    inbox: Receiver<ToEngine>,
) -> io::Result<JoinHandle<()>> {
    let mut engines = Vec::new();
    for namespace in &workshop.namespaces {
        let settings = workshop.settings(namespace)?;
        let engine = workshop.engine(&settings, shared.router.now())?;
        engines.push((settings, engine));
    }
    std::thread::Builder::new().name("livecode".to_owned()).spawn(move || {
        let space = |(settings, engine): (Settings, Engine)| {
            (settings.namespace.clone(), Space::new(settings, engine))
        };
        let spaces = engines.into_iter().map(space).collect();
        let worker = Worker { workshop, shared: &shared, inbox, spaces, at_work: String::new(), restarts: 0 };
        worker.run();
    })
}

struct Worker<'s> {
    workshop: Workshop,
    shared: &'s Arc<Shared>,
    inbox: Receiver<ToEngine>,
    /// By the name of their namespace.
    spaces: BTreeMap<String, Space<'s>>,
    /// The namespace whose engine was called last.
    at_work: String,
    /// The number of times that an engine was made anew after a panic.
    restarts: u64,
}

impl Worker<'_> {
    fn run(mut self) {
        let mut saved = std::time::Instant::now();
        let mut wait = Duration::ZERO;
        loop {
            let message = match self.inbox.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let worked = catch_unwind(AssertUnwindSafe(|| self.turn(message)));
            wait = worked.unwrap_or_else(|_| {
                self.begin_again();
                Duration::ZERO
            });
            if saved.elapsed() >= SAVE_INTERVAL {
                saved = std::time::Instant::now();
                self.save();
            }
        }
        self.save();
    }

    fn save(&mut self) {
        for (namespace, space) in &mut self.spaces {
            if space.has_changed() {
                self.workshop.save(namespace, &mut space.engine);
            }
        }
    }

    /// Takes messages in and runs one call of each namespace; for how long there is nothing to do then.
    fn turn(&mut self, message: Option<ToEngine>) -> Duration {
        let now = self.shared.router.now();
        let mut message = message;
        while let Some(next) = message {
            match next {
                ToEngine::Instruct(instruct) => {
                    instruct.peer.namespace().clone_into(&mut self.at_work);
                    if let Some(space) = self.spaces.get_mut(&self.at_work) {
                        space.instruct(*instruct, now);
                    }
                }
                ToEngine::Left(link) => self.spaces.values_mut().for_each(|space| space.link_left(link)),
                ToEngine::Wake => {}
            }
            message = self.inbox.try_recv().ok();
        }
        let mut wait = REST;
        for (namespace, space) in &mut self.spaces {
            self.at_work.clone_from(namespace);
            let next = space.work(self.shared, self.shared.router.now());
            wait = wait.min(match next {
                Next::Now => Duration::ZERO,
                Next::At(at) => at.saturating_since(self.shared.router.now()) + Duration::from_millis(1),
                Next::Idle => REST,
            });
        }
        self.shared.metrics.set_livecode(self.stats());
        wait
    }

    fn stats(&self) -> LivecodeStats {
        let mut sum = LivecodeStats { restarts: self.restarts, ..LivecodeStats::default() };
        for space in self.spaces.values() {
            let stats = space.engine.stats();
            sum.calls += stats.calls;
            sum.errors += stats.errors;
            sum.interrupted += stats.interrupted;
            sum.dropped += stats.dropped;
            sum.seconds += stats.spent.as_secs_f64();
            sum.memory += stats.memory;
            sum.links += stats.links;
            sum.waiting += stats.waiting;
            sum.clients += stats.clients;
        }
        sum
    }

    /// Makes an engine anew after a panic, as it was at its last checkpoint. Commands that it had are answered with an error.
    fn begin_again(&mut self) {
        self.restarts += 1;
        let Some(space) = self.spaces.get_mut(&self.at_work) else { return };
        let namespace = &self.at_work;
        error!(namespace, "the livecoding engine failed; it goes on where its last checkpoint was");
        let now = self.shared.router.now();
        let image = space.engine.last_checkpoint();
        let made = self.workshop.engine_of(&space.settings, &image, now);
        match made.or_else(|_| self.workshop.engine(&space.settings, now)) {
            Ok(engine) => self.shared.router.say(space.begin_again(engine)),
            Err(error) => error!(namespace, %error, "the livecoding engine can't be made anew"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Switch;
    use crate::{Config, Relay};
    use futures_util::{SinkExt as _, StreamExt as _};
    use std::time::Duration;
    use tokio::net::TcpStream;
    use tokio_websockets::{ClientBuilder, Message, WebSocketStream};

    const CREDENTIAL: &str = "sesame, open the relay";

    async fn open(relay: &Relay) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(relay.address()).await.unwrap();
        ClientBuilder::from_uri(relay.url().parse().unwrap()).connect_on(stream).await.unwrap().0
    }

    /// Sends a text; what is answered up to a line that begins with `last`.
    async fn say(peer: &mut WebSocketStream<TcpStream>, text: &str, last: &str) -> String {
        peer.send(Message::text(text.to_owned())).await.unwrap();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(60), peer.next());
            let message = next.await.expect("it hangs").unwrap().unwrap();
            let text = message.as_text().unwrap();
            if text.starts_with(last) {
                return text.to_owned();
            }
        }
    }

    #[tokio::test]
    async fn a_panic_in_the_engine_is_answered_and_the_engine_goes_on_from_its_checkpoint() {
        let relay = Relay::start(Config {
            livecode_credential: Some(CREDENTIAL.parse().unwrap()),
            livecode_programs: Switch::On,
            livecode_share: 100,
            ..Config::ephemeral()
        });
        let relay = relay.await.unwrap();
        let mut peer = open(&relay).await;
        for name in ["kept", "last"] {
            let parameters = serde_json::json!({ "instructionToAdd": name, "body": "() => 'kept'" });
            let command = serde_json::json!({ "instruction": "add instruction", "parameters": parameters, "credential": CREDENTIAL });
            say(&mut peer, &command.to_string(), "server: adding").await;
        }
        let told = say(&mut peer, r#"{"instruction":"panic in the engine"}"#, "server: Error").await;
        assert!(told.contains("the engine failed"), "{told}");
        let mut other = open(&relay).await;
        for peer in [&mut peer, &mut other] {
            assert_eq!(say(peer, r#"{"instruction":"kept"}"#, "server: kept").await, "server: kept");
        }
    }
}
