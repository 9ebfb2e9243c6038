//! The relay, as a process: for the tests, the demo, and the trial of what `dist` packs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::livecode;
use crate::process::{run, shown};
use crate::workspace::Workspace;

/// Cargo feature of the relay for several with the same servers. It brings a client for the bus between them, which the demo can do without.
pub(crate) const CLUSTER: &str = "cluster";

/// Longest time to wait for each part of the answer whether a relay is ready.
const READY_WAIT: Duration = Duration::from_secs(10);

/// A relay on a free port of this machine. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Relay {
    process: Child,
    /// `ws://ADDR:PORT`.
    pub(crate) url: String,
    /// Open as long as the relay runs, so that it can go on printing.
    output: BufReader<ChildStdout>,
}

impl Relay {
    /// Starts the relay that was built with the `debug` or `release` profile, and waits until it listens.
    ///
    /// `log` is the least that it logs.
    pub(crate) fn start(workspace: &Workspace, profile: &str, log: &str) -> Result<Self> {
        Self::start_binary(&workspace.binary(profile, "tunnel-relay")?, log)
    }

    /// Starts a relay that was built elsewhere, as [`start`](Self::start) does.
    pub(crate) fn start_binary(binary: &Path, log: &str) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", log]);
        Self::launch(command)
    }

    /// Runs a command that starts a relay, and waits until the relay listens.
    pub(crate) fn launch(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
        let output = process.stdout.take().context("the relay has no output")?;
        let mut relay = Self { process, url: String::new(), output: BufReader::new(output) };
        relay.url = loop {
            let mut line = String::new();
            if relay.output.read_line(&mut line).context("cannot read what the relay prints")? == 0 {
                bail!("the relay ended before it said `listening on ws://…`: see its output above");
            }
            if let Some(url) = line.trim().strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        Ok(relay)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails unless the relay says on `/readyz` that it is ready.
    pub(crate) fn check_ready(&self) -> Result<()> {
        let address = self.url.strip_prefix("ws://").context("the relay was started with TLS")?;
        get(address.parse()?, "/readyz", READY_WAIT).map(drop)
    }

    /// Sends SIGTERM, as service managers do, and fails unless the relay ends with the exit code 0.
    pub(crate) fn end(mut self) -> Result<()> {
        run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait().context("cannot wait for the relay")?;
        ensure!(status.success(), "the relay ended with {status} after SIGTERM");
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself, which is not for us to report here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The answer of a relay on this machine to a request, with its head; an error if the status is no success.
pub(crate) fn get(address: SocketAddr, path: &str, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(patience)).context("a time-out is not accepted")?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("cannot read the answer to {path}"))?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{path} answered {answer:?}");
    Ok(answer)
}

/// Builds a relay for several on one machine, as quickly as for the demo.
pub(crate) fn build_for_cluster(workspace: &Workspace) -> Result<()> {
    run(workspace.cargo().args([
        "build",
        "-p",
        "tunnel-relay",
        "--no-default-features",
        "--features",
        CLUSTER,
    ]))
}

/// Builds a relay for the demo: quickly, and without what only a public one needs, such as ACME. Returns whether it runs programs, which
/// takes a C compiler.
///
/// In the `dev` profile, whose dependencies this program has been built with, and which optimises ciphers and protocol: that is
/// fast enough for a few tabs.
pub(crate) fn build_for_demo(workspace: &Workspace) -> Result<bool> {
    let module = livecode::build_if_possible(workspace)?;
    let mut command = workspace.cargo();
    command.args(["build", "-p", "tunnel-relay", "--no-default-features"]);
    run(livecode::turn_on(&mut command, "", module.as_ref()))?;
    Ok(module.is_some())
}

/// Builds the relay, for tests or (`release`) for people.
pub(crate) fn build(workspace: &Workspace, release: bool) -> Result<()> {
    let module = livecode::build_if_possible(workspace)?;
    let mut command = workspace.cargo();
    command.args(["build", "-p", "tunnel-relay", "--features", CLUSTER]);
    livecode::turn_on(&mut command, "", module.as_ref());
    if release {
        command.arg("--release");
    }
    run(&mut command)
}
