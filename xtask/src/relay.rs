//! The relay, as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{run, shown};
use crate::workspace::Workspace;

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
        let mut command = Command::new(workspace.binary(profile, "tunnel-relay")?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", log]);
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
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself, which is not for us to report here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Cargo profile of the demo's relay.
pub(crate) const DEMO_PROFILE: &str = "demo";

/// Builds a relay for the demo: quickly, and without what only a public one needs.
pub(crate) fn build_for_demo(workspace: &Workspace) -> Result<()> {
    let arguments = ["build", "-p", "tunnel-relay", "--no-default-features", "--profile", DEMO_PROFILE];
    run(workspace.cargo().args(arguments))
}

/// Builds the relay, for tests or (`release`) for people.
pub(crate) fn build(workspace: &Workspace, release: bool) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "-p", "tunnel-relay"]);
    if release {
        command.arg("--release");
    }
    run(&mut command)
}
