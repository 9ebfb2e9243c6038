//! The thread that runs injected instructions. `server` starts it, `shared_router` sends it commands and takes what it says.

use crate::config::{Config, Switch};
use crate::livecode_state::Folder;
use crate::metrics::LivecodeStats;
use crate::shared::Shared;
use crate::shared_router::ToEngine;
use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{error, info, warn};
use tunnel_livecode_engine::{Engine, Image, Limits, Next, Program, Settings};
use tunnel_protocol::router::{LinkId, Said};

/// The engine's module, which `cargo xtask livecode` builds.
const MODULE: &[u8] = include_bytes!(env!("TUNNEL_LIVECODE_GUEST"));

/// The interval at which the state of the sandbox is written to its folder, if calls ran.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// The time for which the thread rests when it has nothing to do. It is woken when something comes.
const REST: Duration = Duration::from_secs(3_600);

/// The parts that the thread needs to make an engine, and to make it again.
pub(crate) struct Workshop {
    program: Arc<Program>,
    settings: Settings,
    folder: Option<Folder>,
}

impl Workshop {
    /// Compiles the module.
    ///
    /// # Errors
    ///
    /// The module does not run within its limits, or the folder can't be used.
    pub(crate) fn new(config: &Config) -> io::Result<Self> {
        let limits = Limits {
            heap: u32::try_from(config.livecode_memory).unwrap_or(u32::MAX),
            ..Limits::default().with_call_time(config.livecode_call_time)
        };
        let settings = Settings {
            share: f64::from(config.livecode_share) / 100.0,
            allows_eval: config.livecode_eval == Switch::On,
            shows_addresses: config.livecode_addresses == Switch::On,
            ..Settings::default()
        };
        let folder = config.livecode_state.as_deref().map(Folder::open).transpose()?;
        let program = Program::new(MODULE, limits).map_err(io::Error::other)?;
        Ok(Self { program, settings, folder })
    }

    /// An engine with what was saved, or, if that can't be used, with its sources, or with nothing.
    fn engine(&self, shared: &Shared) -> io::Result<Engine> {
        let now = shared.router.now();
        if let Some(folder) = &self.folder {
            match folder.image() {
                Ok(Some(image)) => match self.engine_of(&image, shared) {
                    Ok(engine) => {
                        info!("injected instructions go on where they were saved");
                        return Ok(engine);
                    }
                    Err(error) => warn!(%error, "only the sources of injected instructions are taken over"),
                },
                Ok(None) => {}
                Err(error) => warn!(%error, "only the sources of injected instructions are taken over"),
            }
            let sources = folder.sources()?;
            if !sources.is_empty() {
                return Engine::from_sources(&self.program, self.settings.clone(), &sources, now)
                    .map_err(io::Error::other);
            }
        }
        Engine::new(&self.program, self.settings.clone(), now).map_err(io::Error::other)
    }

    fn engine_of(&self, image: &Image, shared: &Shared) -> io::Result<Engine> {
        Engine::from_image(&self.program, self.settings.clone(), image, shared.router.now())
            .map_err(io::Error::other)
    }

    fn save(&self, engine: &mut Engine) {
        if let Some(folder) = &self.folder
            && let Err(error) = folder.save(&engine.image(), &engine.sources())
        {
            error!(%error, "injected instructions can't be saved: they are lost when the relay ends");
        }
    }
}

/// Starts the thread. It ends, after it has saved what there is, when nobody can send it commands any more.
pub(crate) fn start(
    workshop: Workshop,
    shared: Arc<Shared>,
    inbox: Receiver<ToEngine>,
) -> io::Result<JoinHandle<()>> {
    let engine = workshop.engine(&shared)?;
    let mut worker = Worker { workshop, shared, inbox, engine, under_way: BTreeSet::new(), restarts: 0 };
    std::thread::Builder::new().name("livecode".to_owned()).spawn(move || worker.run())
}

struct Worker {
    workshop: Workshop,
    shared: Arc<Shared>,
    inbox: Receiver<ToEngine>,
    engine: Engine,
    /// Links whose command is not answered.
    under_way: BTreeSet<LinkId>,
    /// The number of times that the engine was made anew after a panic.
    restarts: u64,
}

impl Worker {
    fn run(&mut self) {
        let mut saved = (std::time::Instant::now(), self.engine.stats().calls);
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
            let (at, calls) = saved;
            if at.elapsed() >= SAVE_INTERVAL && self.engine.stats().calls != calls {
                self.workshop.save(&mut self.engine);
                saved = (std::time::Instant::now(), self.engine.stats().calls);
            }
        }
        self.workshop.save(&mut self.engine);
    }

    /// Takes a message in and runs one call; for how long there is nothing to do then.
    fn turn(&mut self, message: Option<ToEngine>) -> Duration {
        let now = self.shared.router.now();
        let mut message = message;
        while let Some(next) = message {
            match next {
                ToEngine::Instruct(instruct) => {
                    self.under_way.insert(instruct.link);
                    #[cfg(test)]
                    crate::faults::trip(crate::faults::IN_THE_ENGINE, instruct.name.as_bytes());
                    self.engine.instruct(*instruct, now);
                }
                ToEngine::Left(link) => {
                    self.under_way.remove(&link);
                    self.engine.link_left(link);
                }
            }
            message = self.inbox.try_recv().ok();
        }
        let next = self.engine.work(now);
        let said: Vec<_> = std::iter::from_fn(|| self.engine.poll_said()).collect();
        for said in &said {
            if let Said::Done { link } = said {
                self.under_way.remove(link);
            }
        }
        self.shared.router.say(said);
        self.shared.metrics.set_livecode(self.stats());
        match next {
            Next::Now => Duration::ZERO,
            Next::At(at) => at.saturating_since(self.shared.router.now()) + Duration::from_millis(1),
            Next::Idle => REST,
        }
    }

    fn stats(&self) -> LivecodeStats {
        let stats = self.engine.stats();
        LivecodeStats {
            calls: stats.calls,
            errors: stats.errors,
            interrupted: stats.interrupted,
            dropped: stats.dropped,
            seconds: stats.spent.as_secs_f64(),
            memory: stats.memory,
            links: stats.links,
            waiting: stats.waiting,
            restarts: self.restarts,
        }
    }

    /// Makes the engine anew after a panic, as it was at its last checkpoint. Commands that it had are answered with an error.
    fn begin_again(&mut self) {
        self.restarts += 1;
        error!("the livecoding engine failed; it goes on where its last checkpoint was");
        let image = self.engine.last_checkpoint();
        let engine =
            self.workshop.engine_of(&image, &self.shared).or_else(|_| self.workshop.engine(&self.shared));
        match engine {
            Ok(engine) => self.engine = engine,
            Err(error) => error!(%error, "the livecoding engine can't be made anew"),
        }
        let mut said = Vec::new();
        for link in std::mem::take(&mut self.under_way) {
            let text =
                "server: Error: stopped (the engine failed); went back to the last checkpoint".to_owned();
            said.push(Said::Text { link, text });
            said.push(Said::Done { link });
        }
        self.shared.router.say(said);
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
