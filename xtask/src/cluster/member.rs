//! One process of the cluster: it is started again when it has ended, and its log tells what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::shown;
use crate::relay::get;

/// Time after which a process that ended is started again: long enough to see how the others get on without it.
pub(super) const REST: Duration = Duration::from_secs(10);

/// A process that lives for less does not run at all.
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// Time that a process has to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest time to wait for a relay's metrics: one that is frozen never answers.
const METRICS_WAIT: Duration = Duration::from_millis(300);

/// A relay or a NATS server.
pub(super) struct Member {
    pub(super) name: String,
    command: Box<dyn Fn() -> Command>,
    log: File,
    log_path: PathBuf,
    started: Instant,
    state: State,
    /// A relay's addresses, for pages and for metrics.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    knowledge: Arc<Mutex<Knowledge>>,
}

enum State {
    Runs(Child),
    Ended(Instant),
}

/// The servers that a relay knows, as its log has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Knowledge {
    /// IDs of those that are registered there.
    pub(super) servers: BTreeSet<String>,
    /// IDs of those that its clients wanted, and the names of the relays that had them.
    pub(super) found: BTreeMap<String, String>,
}

impl Member {
    pub(super) fn start(
        name: &str,
        logs: &Path,
        command: impl Fn() -> Command + 'static,
        addresses: Option<(SocketAddr, SocketAddr)>,
    ) -> Result<Self> {
        let log_path = logs.join(format!("{name}.log"));
        let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
        let mut member = Self {
            name: name.to_owned(),
            command: Box::new(command),
            log,
            log_path,
            started: Instant::now(),
            state: State::Ended(Instant::now()),
            addresses,
            knowledge: Arc::default(),
        };
        member.spawn()?;
        Ok(member)
    }

    fn spawn(&mut self) -> Result<()> {
        let mut command = (self.command)();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
        let errors = child.stderr.take().context("a process has no standard error")?;
        let log = self.log.try_clone().context("cannot write logs")?;
        // The state of the process before it is gone.
        self.knowledge = Arc::default();
        let knowledge = self.knowledge.clone();
        std::thread::spawn(move || keep(errors, log, &knowledge));
        (self.state, self.started) = (State::Runs(child), Instant::now());
        Ok(())
    }

    /// Starts it again if it has ended some time ago. One that ends at once is an error: nobody has killed it.
    pub(super) fn look_after(&mut self) -> Result<()> {
        match &mut self.state {
            State::Runs(child) => {
                if let Some(status) = child.try_wait().context("cannot look after a process")? {
                    if self.started.elapsed() < AT_ONCE {
                        let (name, log) = (&self.name, self.log_path.display());
                        bail!("{name} ended as soon as it was started ({status}): {log} says why");
                    }
                    self.state = State::Ended(Instant::now());
                }
            }
            State::Ended(at) if at.elapsed() >= REST => self.spawn()?,
            State::Ended(_) => {}
        }
        Ok(())
    }

    /// Its number among the processes, if it runs.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.state {
            State::Runs(child) => Some(child.id()),
            State::Ended(_) => None,
        }
    }

    /// The servers that it knows; none if it does not run.
    pub(super) fn knowledge(&self) -> Knowledge {
        match self.state {
            State::Runs(_) => lock(&self.knowledge).clone(),
            State::Ended(_) => Knowledge::default(),
        }
    }

    /// Its metrics in Prometheus's text form, if it answers.
    pub(super) fn metrics(&self) -> Option<String> {
        let (_, metrics) = self.addresses.filter(|_| self.process().is_some())?;
        get(metrics, "/metrics", METRICS_WAIT).ok()
    }

    /// Asks it to end and waits for that; dropping it ends it in any case.
    pub(super) fn end(mut self) {
        let State::Runs(child) = &mut self.state else { return };
        // It may have ended by itself: whoever types Ctrl-C tells all.
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).stderr(Stdio::null()).status();
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let State::Runs(child) = &mut self.state {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Knowledge {
    /// Takes in a line of a relay's log, one JSON object.
    fn learn(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        let field = |name: &str| line[name].as_str().map(str::to_owned);
        let (Some(message), Some(server)) = (field("message"), field("server_id")) else { return };
        match (message.as_str(), field("node")) {
            ("server registered", _) => drop(self.servers.insert(server)),
            ("server gone", _) => drop(self.servers.remove(&server)),
            ("server found", Some(node)) => drop(self.found.insert(server, node)),
            _ => {}
        }
    }
}

/// Writes all that comes to the log, and learns from it.
fn keep(from: impl Read, mut log: File, knowledge: &Mutex<Knowledge>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
        // A log that can't be written is no reason to stop a relay.
        let _ = log.write_all(&line);
        lock(knowledge).learn(&line);
        line.clear();
    }
}

fn lock(knowledge: &Mutex<Knowledge>) -> MutexGuard<'_, Knowledge> {
    knowledge.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relays_log_tells_which_servers_it_has_and_where_others_are() {
        let mut knowledge = Knowledge::default();
        let mut log = |message: &str, rest: &str| {
            let line = format!(r#"{{"level":"INFO","message":"{message}","server_id":"s1"{rest}}}"#);
            knowledge.learn(line.as_bytes());
            knowledge.clone()
        };
        assert!(log("server registered", "").servers.contains("s1"));
        assert!(log("server gone", "").servers.is_empty());
        assert_eq!(log("server found", r#","node":"b""#).found["s1"], "b");
        knowledge.learn(b"thread panicked\n");
        knowledge.learn(b"[]\n");
    }

    #[test]
    fn a_process_that_ends_at_once_is_an_error_that_names_its_log() {
        let logs = std::env::temp_dir().join(format!("tunnel-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&logs).unwrap();
        let mut member = Member::start("short", &logs, || Command::new("false"), None).unwrap();
        let error = loop {
            match member.look_after() {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("short ended") && error.contains("short.log"), "{error}");
        std::fs::remove_dir_all(&logs).unwrap();
    }
}
