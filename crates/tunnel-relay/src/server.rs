//! Accepts connections, and ends them when the relay ends.

use crate::files::Files;
use crate::http;
use crate::metrics::Metrics;
use crate::monitor;
use crate::switchboard::Switchboard;
use crate::{Config, Secret};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use tunnel_protocol::router::{self, LivecodeConfig, Stats};

/// How long accepting rests when the system refuses: mostly it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A relay that runs.
///
/// Dropping it ends it at once: every connection is reset. [`shut_down`](Self::shut_down) is kinder.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    keeping_time: JoinHandle<()>,
    metrics_address: Option<SocketAddr>,
    monitoring: Option<JoinHandle<()>>,
}

/// What all connections' tasks share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) files: Files,
    pub(crate) switchboard: Switchboard,
    pub(crate) metrics: Metrics,
    /// One for each connection.
    pub(crate) tasks: TaskTracker,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Running,
    /// Nobody is let in any more.
    Draining,
    Killed,
}

impl Relay {
    /// Listens, and serves whoever comes, in tasks of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The address can't be listened on, or a folder can't be served; the text says which.
    pub async fn start(config: Config) -> io::Result<Self> {
        let files = Files::new(&config.www)?;
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("can't listen on {}: {error}", config.listen))
        };
        let listener = TcpListener::bind(config.listen).await.map_err(explain)?;
        let address = listener.local_addr()?;
        let watched = match config.metrics_listen {
            Some(address) => Some(monitor::listen(address).await?),
            None => None,
        };
        let metrics_address = watched.as_ref().map(TcpListener::local_addr).transpose()?;
        let shared = Arc::new(Shared {
            files,
            switchboard: Switchboard::new(router_config(&config)?),
            metrics: Metrics::new(),
            tasks: TaskTracker::new(),
            phase: watch::Sender::new(Phase::Running),
            config,
        });
        info!(%address, "listening");
        let accepting = tokio::spawn(accept(shared.clone(), listener));
        let keeping_time = tokio::spawn({
            let shared = shared.clone();
            async move { shared.switchboard.keep_time().await }
        });
        let monitoring = watched.map(|listener| tokio::spawn(monitor::serve(shared.clone(), listener)));
        Ok(Self { address, shared, accepting, keeping_time, metrics_address, monitoring })
    }

    /// Whether a relay could [`start`](Self::start) with this configuration, as far as that can be told without
    /// listening.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check(config: &Config) -> io::Result<()> {
        Files::new(&config.www)?;
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are shown, if they are.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// What peers connect to, such as `ws://127.0.0.1:8087`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// What it holds and what it has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.switchboard.stats()
    }

    /// Ends it: peers are told to go, those that remain after
    /// [`drain_timeout`](Config::drain_timeout) are closed, and those that don't answer to that are reset.
    ///
    /// Returns when the last connection has ended. Dropping the future ends the relay at once.
    pub async fn shut_down(self) {
        let limits = &self.shared.config;
        info!(links = self.stats().links, timeout = ?limits.drain_timeout, "draining");
        self.shared.phase.send_replace(Phase::Draining);
        self.accepting.abort();
        self.shared.switchboard.drain(limits.drain_timeout);
        self.shared.tasks.close();
        // After the deadline the closing handshakes take their time.
        let bound = limits.drain_timeout + limits.close_timeout + Duration::from_millis(500);
        if tokio::time::timeout(bound, self.shared.tasks.wait()).await.is_err() {
            warn!(links = self.stats().links, "some connections did not end in time and are reset");
            self.shared.kill();
            self.shared.tasks.wait().await;
        }
        info!("ended");
    }
}

/// What the router is told: the livecode dialect's secret is drawn here.
fn router_config(config: &Config) -> io::Result<router::Config> {
    let mut router = config.router();
    if let Some(Secret(credential)) = &config.livecode_credential {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        router.livecode = Some(LivecodeConfig { credential: credential.clone(), secret });
    }
    Ok(router)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.keeping_time.abort();
        if let Some(monitoring) = &self.monitoring {
            monitoring.abort();
        }
        self.shared.kill();
    }
}

impl Shared {
    /// Returns when the relay is about to end.
    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns when the relay ends without ado.
    pub(crate) async fn killed(&self) {
        self.reached(Phase::Killed).await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // It would fail when the sender is gone, which lives as long as `self`.
        let _never_fails = phases.wait_for(|now| *now >= phase).await;
    }

    fn kill(&self) {
        self.phase.send_replace(Phase::Killed);
        self.switchboard.kill();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                shared.metrics.accepted();
                // Small frames must not wait for the acknowledgement of those before them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%address, %error, "connection went away while being accepted");
                    continue;
                }
                shared.tasks.spawn(http::serve(shared.clone(), stream, address));
            }
            Err(error) => {
                shared.metrics.accept_failed();
                warn!(%error, "can't accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
