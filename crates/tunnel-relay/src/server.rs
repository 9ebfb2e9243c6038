//! Accepts connections, and ends them when the relay ends. The command starts it, and so do tests.

use crate::admission::NoPlace;
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::complaints::complain;
use crate::files::Files;
use crate::http;
use crate::monitor;
use crate::remote::Remote;
pub use crate::shared::ReloadError;
use crate::shared::{Phase, Shared, max_descriptors};
use crate::stream;
use crate::tls::Tls;
use crate::{Config, Secret};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info, warn};
use tunnel_protocol::router::{self, LivecodeConfig, Stats};

/// Most bytes that the kernel takes and has not sent yet, for each connection.
///
/// It would take up to 4 MiB, in which one channel's small frame then waits behind another's flood, and which no limit
/// of ours counts. Two of the largest frames keep the connection busy.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Pause after the system refused a connection: mostly, it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pause before an essential task is started again: a fault that comes back at once must not
/// fill the log.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Most newcomers that are told at one time that they are not let in. Others are not told.
const MAX_TOLD: usize = 64;

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
    keeping_certificates: JoinHandle<()>,
    #[cfg(feature = "livecode")]
    livecoding: Option<std::thread::JoinHandle<()>>,
    #[cfg(feature = "cluster")]
    cluster: Option<cluster::Cluster>,
}

impl Relay {
    /// Listens, and serves whoever comes, in tasks of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The address can't be listened on, or a folder can't be served; the text says which.
    pub async fn start(config: Config) -> io::Result<Self> {
        enough_descriptors(&config)?;
        let files = Files::new(&config.www)?;
        let tls = Tls::new(&config)?;
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("can't listen on {}: {error}", config.listen))
        };
        let listener = TcpListener::bind(config.listen).await.map_err(explain)?;
        let address = listener.local_addr()?;
        #[cfg(target_os = "linux")]
        tune(&listener)?;
        let watched = match config.metrics_listen {
            Some(address) => Some((monitor::listen(address).await?, address)),
            None => None,
        };
        let metrics_address = match &watched {
            Some((Some(listener), _)) => Some(listener.local_addr()?),
            Some((None, _)) | None => None,
        };
        let router = router_config(&config)?;
        #[cfg(feature = "cluster")]
        let prepared = cluster::Prepared::new(&config).await?;
        #[cfg(feature = "livecode")]
        let workshop =
            router.livecode_programs.then(|| crate::livecode::Workshop::new(&config)).transpose()?;
        let shared = Arc::new(Shared::new(config, router, files, tls));
        #[cfg(feature = "livecode")]
        let livecoding = workshop.map(|workshop| livecode(workshop, &shared)).transpose()?;
        #[cfg(feature = "cluster")]
        let cluster = prepared.map(|prepared| prepared.start(&shared)).transpose()?;
        let keeping_time = essential("keeping time", {
            let shared = shared.clone();
            move || {
                let shared = shared.clone();
                async move { shared.router.keep_time().await }
            }
        });
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &cluster {
            // New connections wait in the system's queue meanwhile.
            cluster.reached(shared.config().cluster_start_wait).await;
        }
        info!(%address, tls = shared.tls.is_some(), "listening");
        let listener = Arc::new(listener);
        let accepting = essential("accepting", {
            let shared = shared.clone();
            move || accept(shared.clone(), listener.clone())
        });
        let monitoring = watched
            .map(|(listener, address)| tokio::spawn(monitor::serve(shared.clone(), listener, address)));
        let keeping_certificates = tokio::spawn({
            let shared = shared.clone();
            async move {
                if let Some(tls) = &shared.tls {
                    tls.keep_fresh(shared.config().tls_watch_interval).await;
                }
            }
        });
        Ok(Self {
            address,
            shared,
            accepting,
            keeping_time,
            keeping_certificates,
            metrics_address,
            monitoring,
            #[cfg(feature = "livecode")]
            livecoding,
            #[cfg(feature = "cluster")]
            cluster,
        })
    }

    /// Checks whether a relay could [`start`](Self::start) with this configuration, as far as that can be told without
    /// listening: what may need a look all the same.
    ///
    /// # Errors
    ///
    /// The configuration can't be used; the text says why.
    pub fn check(config: &Config) -> io::Result<Vec<String>> {
        enough_descriptors(config)?;
        Files::new(&config.www)?;
        #[cfg(feature = "cluster")]
        cluster::check(config)?;
        Tls::check(config)
    }

    /// Takes over what can change while the relay runs, for those who come from now on, and reads certificates again.
    ///
    /// Returns the names of the settings that differ but wait for a restart.
    ///
    /// # Errors
    ///
    /// The configuration would let in whom that of before keeps out: nothing is taken over. Or the certificates can't
    /// be used: those of before stay in use, and all else is taken over.
    pub fn reload(&self, config: Config) -> Result<Vec<String>, ReloadError> {
        self.shared.reload(config)
    }

    /// The address at which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address at which metrics were shown from the start, if they were.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The address at which other relays of its cluster come in, if it is of one.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster_address(&self) -> Option<SocketAddr> {
        self.cluster.as_ref().map(cluster::Cluster::address)
    }

    /// Waits until the relay should end because it alone was cut off from the bus of its cluster: it has sent its peers to other relays,
    /// and the bus is back, so that a new process can take its place. Likewise if it has lost what it knows of other relays by a fault.
    pub async fn cut_off(&self) {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            return cluster.cut_off().await;
        }
        std::future::pending().await
    }

    /// The URL that peers connect to, such as `ws://127.0.0.1:8087`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.shared.tls.is_some() { "wss" } else { "ws" }, self.address)
    }

    /// Counts of what it holds and has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.router.stats()
    }

    /// Ends it: peers are told to go, those that remain after
    /// [`drain_timeout`](Config::drain_timeout) are closed, and those that don't answer to that are reset.
    ///
    /// Returns when the last connection has ended. Dropping the future ends the relay at once.
    #[cfg_attr(not(feature = "livecode"), allow(unused_mut, reason = "there is no thread to take"))]
    pub async fn shut_down(mut self) {
        let limits = self.shared.config();
        info!(links = self.stats().links, timeout = ?limits.drain_timeout, "draining");
        self.shared.enter(Phase::Draining);
        self.accepting.abort();
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.drain();
        }
        self.shared.router.drain(limits.drain_timeout);
        self.shared.tasks.close();
        // After the deadline the closing handshakes take their time.
        let bound = limits.drain_timeout + limits.close_timeout + Duration::from_millis(500);
        if tokio::time::timeout(bound, self.shared.tasks.wait()).await.is_err() {
            warn!(links = self.stats().links, "some connections did not end in time and are reset");
            self.shared.kill();
            self.shared.tasks.wait().await;
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.end().await;
        }
        #[cfg(feature = "livecode")]
        if let Some(thread) = self.livecoding.take() {
            self.shared.router.set_engine(None);
            // It saves what instructions keep.
            let _panicked = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        info!("ended");
    }
}

/// The router's settings: the livecode dialect's secret is drawn here.
fn router_config(config: &Config) -> io::Result<router::Config> {
    let mut router = config.router();
    #[cfg(feature = "cluster")]
    {
        router.cluster = cluster::router_config(config);
    }
    if let Some(Secret(credential)) = &config.livecode_credential {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let namespaces = config.livecode_namespaces.iter().map(|it| (it.name.clone(), it.credential));
        let livecode = LivecodeConfig::new(credential.clone(), secret);
        router.livecode = Some(LivecodeConfig { namespaces: namespaces.collect(), ..livecode });
    }
    Ok(router)
}

/// Starts the thread that runs injected instructions.
#[cfg(feature = "livecode")]
fn livecode(
    workshop: crate::livecode::Workshop,
    shared: &Arc<Shared>,
) -> io::Result<std::thread::JoinHandle<()>> {
    let (engine, inbox) = std::sync::mpsc::channel();
    shared.router.set_engine(Some(engine));
    crate::livecode::start(workshop, shared.clone(), inbox)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.keeping_time.abort();
        if let Some(monitoring) = &self.monitoring {
            monitoring.abort();
        }
        self.keeping_certificates.abort();
        self.shared.kill();
        self.shared.router.set_engine(None);
    }
}

/// Fails when the relay could let nobody in.
fn enough_descriptors(config: &Config) -> io::Result<()> {
    if max_descriptors(config) > 0 {
        return Ok(());
    }
    let reserve = config.descriptor_reserve;
    Err(io::Error::other(format!(
        "nobody could be let in: descriptor-reserve keeps {reserve} file descriptors, and there are no more; raise the limit \
         (LimitNOFILE= of the unit, `ulimit -n`), or set descriptor-reserve lower"
    )))
}

/// Makes the system forward at once, and keep little. Linux has connections do as the socket that they come from,
/// which spares each of them two calls.
#[cfg(target_os = "linux")]
fn tune(listener: &TcpListener) -> io::Result<()> {
    let socket = socket2::SockRef::from(listener);
    // Small frames must not wait for the acknowledgement of those before them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Runs what the relay is useless without. Should it panic, which is logged, it is started again.
fn essential<F>(what: &'static str, start: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        // In a set, so that the task ends together with this one.
        let mut running = JoinSet::new();
        loop {
            running.spawn(start());
            running.join_next().await;
            error!(task = what, "a task ended that the relay can't be without: it is started again");
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    })
}

async fn accept(shared: Arc<Shared>, listener: Arc<TcpListener>) {
    let telling = Arc::new(Semaphore::new(MAX_TOLD));
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                shared.metrics.accepted();
                #[cfg(not(target_os = "linux"))]
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%address, %error, "connection went away while being accepted");
                    continue;
                }
                match Remote::admit(&shared, address) {
                    Ok(remote) => {
                        let task = http::serve(shared.clone(), stream, remote);
                        shared.metrics.set_task_size(size_of_val(&task));
                        shared.tasks.spawn(task);
                    }
                    Err(full) => {
                        shared.metrics.refused.count(full.metric());
                        complain!(
                            shared.complaints,
                            NoPlace,
                            %address,
                            reason = full.text().trim_end(),
                            "connections are refused; if this is a reverse proxy's address, name it in trusted-proxies"
                        );
                        // A peer that waits for a TLS handshake understands nothing else.
                        if shared.tls.is_none()
                            && let Ok(turn) = telling.clone().try_acquire_owned()
                        {
                            tokio::spawn(async move {
                                // An error is the newcomer's affair.
                                let _ignored =
                                    tokio::time::timeout(stream::LAST_WORDS, tell(stream, full)).await;
                                drop(turn);
                            });
                        }
                    }
                }
            }
            Err(error) => {
                shared.metrics.accept_failed();
                complain!(shared.complaints, Accept, %error, "can't accept connections: mostly, no file descriptor is left (LimitNOFILE, `ulimit -n`)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Tells a newcomer that it is not let in.
async fn tell(mut stream: TcpStream, full: NoPlace) -> io::Result<()> {
    let text = full.text();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
         content-type: text/plain; charset=utf-8\r\naccess-control-allow-origin: *\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream::close_after_answer(stream).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn what_the_relay_is_useless_without_is_started_again_after_a_panic_and_ends_when_it_is_told_to() {
        let (starts, (started, mut seen)) = (AtomicUsize::new(0), mpsc::unbounded_channel());
        let task = essential("a test", move || {
            let (start, started) = (starts.fetch_add(1, Ordering::Relaxed), started.clone());
            async move {
                started.send(start).unwrap();
                assert!(start >= 2, "as the test wants it");
                std::future::pending().await
            }
        });
        for start in 0..3 {
            assert_eq!(seen.recv().await, Some(start));
        }
        assert!(!task.is_finished());
        task.abort();
        assert_eq!(seen.recv().await, None, "it is gone with all that it held");
    }
}
