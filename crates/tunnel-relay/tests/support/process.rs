//! The command `tunnel-relay` as a process.

use super::within;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// A relay. Dropping it kills it.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    logging: JoinHandle<()>,
}

impl Process {
    /// Starts it; it has to say where it listens.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut command(arguments)).await
    }

    /// Starts a command that was made by [`command`].
    pub(crate) async fn spawn(command: &mut Command) -> Self {
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let log = Arc::default();
        let logging = tokio::spawn(keep(child.stderr.take().unwrap(), Arc::clone(&log)));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within("the line that says where it listens", stdout.read_line(&mut line)).await.unwrap();
        let url = line.trim_end().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let Some((_, address)) = url else {
            within("the end of the log", logging).await.unwrap();
            panic!("the relay said {line:?} and logged:\n{}", log.lock().unwrap());
        };
        Self { child, address: address.parse().unwrap(), log, logging }
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

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for its end: its exit code and what it logged.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        within("the end of the log", self.logging).await.unwrap();
        let status = within("the end of the relay", self.child.wait()).await.unwrap();
        (status.code(), self.log.lock().unwrap().clone())
    }
}

async fn keep(from: impl AsyncRead + Unpin, to: Arc<Mutex<String>>) {
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|len| len > 0) {
        // Not lossy: a log that is no UTF-8 is a fault.
        to.lock().unwrap().push_str(std::str::from_utf8(&line).unwrap());
        line.clear();
    }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel-relay"));
    // The relay takes all that begins with TUNNEL_RELAY_ for settings of its own.
    command
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("TUNNEL_RELAY_SIEGE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Where a program is; those for administrators are not on everybody's PATH.
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
