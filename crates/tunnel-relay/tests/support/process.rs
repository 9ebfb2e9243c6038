//! The command `tunnel-relay` as a process.

use super::within;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A relay. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Log,
}

/// The output of a process so far, which grows line by line.
#[derive(Clone)]
pub(crate) struct Log(watch::Receiver<String>);

impl Log {
    /// The log of all that comes from these, up to their end.
    pub(crate) fn of(sources: impl IntoIterator<Item = impl AsyncRead + Send + Unpin + 'static>) -> Self {
        let (lines, log) = watch::channel(String::new());
        let lines = Arc::new(lines);
        for source in sources {
            tokio::spawn(keep(source, lines.clone()));
        }
        Self(log)
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until it holds this so many times. Its end before that is a failure.
    pub(crate) async fn has(&self, times: usize, what: &str) {
        let mut log = self.0.clone();
        let said = log.wait_for(|text| text.matches(what).count() >= times);
        let said = within(what, said).await.is_ok();
        assert!(said, "{what:?} was not said {times} times:\n{}", self.text());
    }

    /// Waits for its end.
    async fn end(&self) -> String {
        let mut log = self.0.clone();
        while within("the end of the log", log.changed()).await.is_ok() {}
        self.text()
    }
}

impl Process {
    /// Starts it; it has to say where it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut command(arguments)).await
    }

    /// Starts a command that was made by [`command`].
    pub(crate) async fn spawn(command: &mut Command) -> Self {
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = Log::of(child.stderr.take());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within("the line that says where it listens", stdout.read_line(&mut line)).await.unwrap();
        let url = line.trim_end().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let Some((_, address)) = url else {
            panic!("the relay said {line:?} and logged:\n{}", log.end().await);
        };
        Self { child, address: address.parse().unwrap(), log }
    }

    /// Starts `serve` with these arguments on the address, or any free port of 127.0.0.1.
    pub(crate) async fn serve(address: Option<SocketAddr>, arguments: &[&str]) -> Self {
        let listen = address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()).to_string();
        Self::start(&[&["serve", "--listen", &listen], arguments].concat()).await
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Returns its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has logged this so many times.
    pub(crate) async fn logged(&self, times: usize, what: &str) {
        self.log.has(times, what).await;
    }

    /// Waits until it has logged where it shows metrics.
    pub(crate) async fn metrics(&self) -> SocketAddr {
        self.logged(1, "metrics address=").await;
        let log = self.log();
        let (_, address) = log.split_once("metrics address=").unwrap();
        address.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits for its end: its exit code and what it logged.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let log = self.log.end().await;
        let status = within("the end of the relay", self.child.wait()).await.unwrap();
        (status.code(), log)
    }
}

async fn keep(from: impl AsyncRead + Unpin, to: Arc<watch::Sender<String>>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|len| len > 0) {
        // Not lossy: a log that is no UTF-8 is a fault.
        to.send_modify(|log| log.push_str(std::str::from_utf8(&line).unwrap()));
        line.clear();
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel-relay"));
    prepare(command.args(arguments));
    command
}

/// Gives a command of a relay its environment and its outputs.
pub(crate) fn prepare(command: &mut Command) {
    // The relay takes all that begins with TUNNEL_RELAY_ for settings of its own.
    command
        .env_remove("RUST_LOG")
        .env_remove("TUNNEL_RELAY_SIEGE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// Finds a program; those for administrators are not on everybody's PATH.
pub(crate) fn locate(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found =
        folders.find_map(|folder| Some(Path::new(folder).join(program)).filter(|path| path.is_file()));
    if found.is_none() {
        eprintln!(
            "there is no {program} here: what it is for is not tried (cargo xtask setup installs it on Debian, as root)"
        );
    }
    found
}
