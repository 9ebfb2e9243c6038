//! State that all tasks of a relay share: settings, limits, the router, what is counted, and the phase of its life. `server` makes it.

use crate::Config;
use crate::admission::Admission;
use crate::complaints::Complaints;
use crate::files::Files;
use crate::half_sent::HalfSent;
use crate::metrics::Metrics;
use crate::shared_router::SharedRouter;
use crate::tls::Tls;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tunnel_protocol::router;

/// State that all connections' tasks share.
pub(crate) struct Shared {
    config: RwLock<Arc<Config>>,
    pub(crate) admission: Admission,
    pub(crate) half_sent: HalfSent,
    pub(crate) tls: Option<Tls>,
    pub(crate) files: Files,
    pub(crate) router: SharedRouter,
    pub(crate) metrics: Metrics,
    pub(crate) complaints: Complaints,
    /// One for each connection.
    pub(crate) tasks: TaskTracker,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Phase {
    Running,
    /// Nobody is let in any more.
    Draining,
    Killed,
}

/// The reason why a configuration was not taken over, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It would let in whom that of before keeps out. That takes a restart: a file that was cut off, or a last token
    /// that was taken back, must not open the relay.
    #[error("{0}; a restart does that")]
    Opens(&'static str),
    /// All but the certificates was taken over.
    #[error("{0}")]
    Certificates(io::Error),
}

impl Shared {
    /// Nothing is held or counted yet.
    pub(crate) fn new(config: Config, router: router::Config, files: Files, tls: Option<Tls>) -> Self {
        Self {
            files,
            router: SharedRouter::new(router),
            metrics: Metrics::new(),
            complaints: Complaints::default(),
            tasks: TaskTracker::new(),
            phase: watch::Sender::new(Phase::Running),
            half_sent: HalfSent::new(&config),
            admission: Admission::new(&config, max_descriptors(&config)),
            tls,
            config: RwLock::new(Arc::new(config)),
        }
    }

    /// The configuration for whoever comes now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Relay::reload`](crate::Relay::reload).
    pub(crate) fn reload(&self, new: Config) -> Result<Vec<String>, ReloadError> {
        if let Some(why) = self.config().opened_by(&new) {
            return Err(ReloadError::Opens(why));
        }
        let (mut config, mut waiting) = self.config().reloaded(new);
        // Other relays know it by its name.
        let node = &self.config().node;
        if config.is_clustered() && config.node != *node {
            config.node.clone_from(node);
            waiting.push("node".to_owned());
        }
        self.admission.configure(&config, max_descriptors(&config));
        self.half_sent.configure(&config);
        self.router.configure(config.router());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.tls.as_ref().map_or(Ok(()), Tls::reload).map_err(ReloadError::Certificates)?;
        Ok(waiting)
    }

    /// Returns when the relay is about to end.
    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Returns when the relay ends without ado.
    pub(crate) async fn killed(&self) {
        self.reached(Phase::Killed).await;
    }

    /// The reason why newcomers should go elsewhere, if they should.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        if self.is_draining() {
            Some("this relay is about to end")
        } else if self.tls.as_ref().is_some_and(Tls::is_waiting) {
            Some("there is no certificate yet: the ACME directory has not given one; the log says why")
        } else if self.router.is_full() {
            Some("so much waits for slow peers that no new ones are taken in: see total-buffer")
        } else {
            None
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // It would fail when the sender is gone, which lives as long as `self`.
        let _never_fails = phases.wait_for(|now| *now >= phase).await;
    }

    /// Begins a phase, and has all know who wait for it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Ends all connections at once.
    pub(crate) fn kill(&self) {
        self.enter(Phase::Killed);
        self.router.kill();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config()).finish_non_exhaustive()
    }
}

/// Number of connections for which there are descriptors.
pub(crate) fn max_descriptors(config: &Config) -> usize {
    #[cfg(unix)]
    if let Ok((soft, _hard)) = rlimit::getrlimit(rlimit::Resource::NOFILE) {
        return usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(config.descriptor_reserve);
    }
    let _elsewhere = config;
    usize::MAX
}
