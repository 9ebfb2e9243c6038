//! A real relay, which can be killed, and the command as a process.

#![allow(dead_code, reason = "each file of tests uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::runtime::Runtime;
use tunnel_relay::{Config, Relay};

/// Long enough for the slowest machine; only a test that hangs waits for it.
const PATIENCE: Duration = Duration::from_secs(100);

/// Names what did not happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A relay on threads of its own, which end with all of its connections as those of a process that is killed.
pub(crate) struct TestRelay {
    runtime: Option<Runtime>,
    pub(crate) address: SocketAddr,
    is_secure: bool,
}

impl TestRelay {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::ephemeral()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let is_secure = config.tls_certificate.is_some();
        let (runtime, address) = run(config).await;
        Self { runtime: Some(runtime), address, is_secure }
    }

    pub(crate) fn url(&self) -> String {
        match self.is_secure {
            true => format!("wss://localhost:{}/", self.address.port()),
            false => format!("ws://{}/", self.address),
        }
    }

    /// Ends it without a word. Its port is free when this returns.
    pub(crate) async fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let threads_end = move || runtime.shutdown_timeout(PATIENCE);
            tokio::task::spawn_blocking(threads_end).await.unwrap();
        }
    }

    /// Starts another one on the port of the one that was killed.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        let config = Config { listen: self.address, ..Config::ephemeral() };
        let (runtime, _) = run(config).await;
        self.runtime = Some(runtime);
    }
}

impl Drop for TestRelay {
    fn drop(&mut self) {
        // A runtime that is dropped inside another one panics.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run(config: Config) -> (Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let relay = runtime.spawn(Relay::start(config)).await.unwrap().unwrap();
    let url: http::Uri = relay.url().parse().unwrap();
    let address = url.authority().unwrap().as_str().parse().unwrap();
    // Alive as long as its runtime.
    runtime.spawn(async move {
        std::future::pending::<()>().await;
        drop(relay);
    });
    (runtime, address)
}

/// A user: folders for keys and files, and a relay.
pub(crate) struct User {
    pub(crate) folder: TempDir,
    pub(crate) relay: String,
}

impl User {
    pub(crate) fn of(relay: &TestRelay) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), relay: relay.url() }
    }

    /// The command, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tunnel"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("TUNNEL_RELAY", &self.relay)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        within(&arguments.join(" "), self.command(arguments).output()).await.unwrap()
    }

    /// Starts it, and waits for the first line of its standard output.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments)).await
    }

    pub(crate) async fn id(&self, name: &str) -> String {
        let output = self.run(&["id", name]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The command while it runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) first_line: String,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) async fn start(mut command: Command) -> Self {
        // Its sentences for people go to the test's own output.
        let mut child = command.stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first_line = within("the first line", lines.next_line()).await.unwrap().unwrap_or_default();
        Self { child, first_line, lines }
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// The exit code, when it has ended.
    pub(crate) async fn code(&mut self) -> Option<i32> {
        within("the end of the command", self.child.wait()).await.unwrap().code()
    }
}

/// A TCP server that hands each connection to `serve`.
pub(crate) async fn target<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
