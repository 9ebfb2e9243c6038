//! Two tabs through our relay, beside two tabs with native WebSockets through a plain forwarder, in turns. On demand also
//! beside two tabs with another build of the package.
//!
//! The pages in `tests/bench` measure themselves and report at the end: a WebDriver session, or any other that is
//! attached to a tab, gets a copy of every frame, which costs more than what is measured.

mod cpu;
mod machine;
pub(crate) mod native;
mod plot;
pub(crate) mod relay;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::process::{output, run, shown};
use crate::relay::Relay;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;
use crate::{build, config};

/// Longest silence of the pages: one pair of tabs takes 6 s on an idle machine.
const SILENCE: Duration = Duration::from_secs(60);

/// Options of a run with two tabs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Number of times that each is measured, in turns
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The file for the results; the default is bench/tabs.json in the target folder
    #[arg(long)]
    json: Option<PathBuf>,
    /// Folder of another build of the package, for example of an earlier commit, which takes turns with this one
    #[arg(long)]
    against: Option<PathBuf>,
    /// Relay of the other package, if that speaks a protocol of its own; by default both packages have the same relay
    #[arg(long, requires = "against")]
    against_relay: Option<PathBuf>,
}

/// Builds what is measured, measures, prints tables and writes the results.
pub(crate) fn bench(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if let Some(other) = &arguments.against {
        let entry = other.join(build::MAIN.entry());
        ensure!(entry.is_file(), "{} is no package: it has no {}", other.display(), build::MAIN.entry());
    }
    setup::setup(workspace, &Needs::for_tests(&[config::Browser::Chromium]))?;
    build::build(workspace, build::Form::Release)?;
    crate::relay::build(workspace, true)?;
    let folder = workspace.target()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let report = measure(workspace, &folder, arguments)?;
    let rows =
        table::MEASURES.iter().map(|measure| table::row(measure, &report)).collect::<Result<Vec<_>>>()?;
    let versions = versions(workspace)?;
    table::print(&rows, arguments.rounds, &versions);
    let file = arguments.json.clone().unwrap_or_else(|| folder.join("tabs.json"));
    let results = json!({
        "versions": versions,
        "medians": rows.iter().map(table::as_json).collect::<Vec<_>>(),
        "rounds": report,
    });
    fs::write(&file, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

/// Builds the site and a relay as the demo has it, and runs `tests/e2e/examples/pages.rs`, which prints a table.
pub(crate) fn pages(workspace: &Workspace, rounds: u32) -> Result<()> {
    setup::setup(workspace, &Needs::for_tests(&[config::Browser::Chromium]))?;
    build::build(workspace, build::Form::Release)?;
    crate::relay::build(workspace, false)?;
    let program = ["run", "--quiet", "--package", "tunnel-e2e", "--example", "pages", "--"];
    run(workspace
        .cargo()
        .args(program)
        .arg(rounds.to_string())
        .env("TUNNEL_RELAY_BINARY", workspace.binary("debug", "tunnel-relay")?))?;
    println!("\n{}", serde_json::to_string(&versions(workspace)?)?);
    Ok(())
}

/// Runs relays, forwarder and browser; returns what the pages report.
fn measure(workspace: &Workspace, folder: &Path, arguments: &Arguments) -> Result<Value> {
    let relay = Relay::start(workspace, "release", "warn")?;
    let others =
        arguments.against_relay.as_deref().map(|binary| Relay::start_binary(&absolute(binary)?, "warn"));
    let others = others.transpose()?;
    let mut forwarder = workspace.command("node");
    forwarder.arg("tests/bench/forwarder.mjs");
    let mut query = format!("rounds={}&relay={}", arguments.rounds, relay.url);
    if let Some(package) = &arguments.against {
        forwarder.arg(absolute(package)?);
        query += &format!("&against={}", others.as_ref().unwrap_or(&relay).url);
    }
    let (_forwarder, lines) = Background::start(forwarder)?;
    let line = || lines.recv_timeout(SILENCE).context("the pages of the benchmark are silent");
    let address = line()?;
    let address = address.strip_prefix("listening on ").with_context(|| format!("unexpected: {address}"))?;

    let profile = folder.join("profile");
    remove(&profile)?;
    let url = format!("http://{address}/bench/control.html?{query}");
    let (browser, _) = Background::start(chromium(workspace, &profile, &url)?)?;
    let report = loop {
        let line = line()?;
        match line.split_once(' ') {
            Some(("progress", what)) => println!("  {what}"),
            Some(("report", report)) => {
                break serde_json::from_str(report).context("the report is no JSON")?;
            }
            _ => bail!("the benchmark failed: {line}"),
        }
    };
    drop(browser);
    // The browser may still be writing into it; the next run removes what is left.
    let _ = fs::remove_dir_all(&profile);
    Ok(report)
}

/// A browser without anybody attached to its tabs; their windows count as seen, though there are many.
fn chromium(workspace: &Workspace, profile: &Path, url: &str) -> Result<Command> {
    let settings = fs::read_to_string(workspace.root.join("tests/webdriver.json"))?;
    let settings: Value = serde_json::from_str(&settings).context("tests/webdriver.json")?;
    let arguments = settings["goog:chromeOptions"]["args"].as_array();
    let arguments =
        arguments.context("tests/webdriver.json has no args")?.iter().filter_map(Value::as_str).chain([
            "--disable-popup-blocking",
            "--disable-backgrounding-occluded-windows",
            "--disable-renderer-backgrounding",
        ]);
    let mut command = workspace.command("chromium");
    command.args(arguments).arg(format!("--user-data-dir={}", profile.display())).arg(url);
    command.stderr(Stdio::null());
    Ok(command)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

fn versions(workspace: &Workspace) -> Result<Value> {
    let of = |program: &str| output(workspace.command(program).arg("--version"));
    let lock = fs::read_to_string(workspace.root.join("tests/package-lock.json"))?;
    let lock: Value = serde_json::from_str(&lock).context("tests/package-lock.json")?;
    let first_line = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
    Ok(json!({
        "browser": first_line(of("chromium")?),
        "node": first_line(of("node")?),
        "ws": lock["packages"]["node_modules/ws"]["version"],
        "processors": thread::available_parallelism().map_or(0, usize::from),
    }))
}

/// A program that runs beside us. Dropping it ends it.
struct Background(Child);

impl Background {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Starts it; the other half gives the lines that it prints.
    fn start(mut command: Command) -> Result<(Self, Receiver<String>)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
        let printed = child.stdout.take();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in
                printed.into_iter().flat_map(|printed| BufReader::new(printed).lines()).map_while(Result::ok)
            {
                // Read to the end though nobody listens any more: the program never waits for us.
                let _ = sender.send(line);
            }
        });
        Ok((Self(child), lines))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
