//! Two tabs through our relay, beside two tabs with native WebSockets through a plain forwarder, in turns.
//!
//! The pages in `tests/bench` measure themselves and report at the end: a WebDriver session, or any other that is
//! attached to a tab, gets a copy of every frame, which costs more than what is measured.

mod plot;
pub(crate) mod relay;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::{output, shown};
use crate::relay::Relay;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;
use crate::{build, config};

/// Longest silence of the pages: one pair of tabs takes 6 s on an idle machine.
const SILENCE: Duration = Duration::from_secs(60);

/// One thing that is measured.
struct Measure {
    /// As the pages name it.
    key: &'static str,
    name: &'static str,
    unit: &'static str,
    goal: Option<Goal>,
}

/// A bound for our figure divided by the forwarder's.
#[derive(Clone, Copy)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(bound) => ratio <= bound,
            Self::AtLeast(bound) => ratio >= bound,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound:.1}"),
            Self::AtLeast(bound) => format!("≥ {bound:.1}"),
        }
    }
}

const MEASURES: [Measure; 8] = [
    Measure { key: "initMs", name: "import and init()", unit: "ms", goal: None },
    Measure {
        key: "promptEchoMs",
        name: "first echo of a page, at once after init()",
        unit: "ms",
        goal: Some(Goal::AtMost(1.5)),
    },
    Measure {
        key: "firstEchoMs",
        name: "first echo of a page, 0.3 s after init()",
        unit: "ms",
        goal: Some(Goal::AtMost(1.5)),
    },
    Measure {
        key: "laterEchoMs",
        name: "first echo of its later sockets",
        unit: "ms",
        goal: Some(Goal::AtMost(1.5)),
    },
    Measure {
        key: "roundTripP50Ms",
        name: "round trip of 64 B, p50",
        unit: "ms",
        goal: Some(Goal::AtMost(1.3)),
    },
    Measure { key: "roundTripP99Ms", name: "round trip of 64 B, p99", unit: "ms", goal: None },
    Measure {
        key: "bulkMegabytesPerSecond",
        name: "messages of 64 KiB",
        unit: "MB/s",
        goal: Some(Goal::AtLeast(1.0)),
    },
    Measure {
        key: "smallMessagesPerSecond",
        name: "messages of 64 B",
        unit: "1/s",
        goal: Some(Goal::AtLeast(10.0)),
    },
];

/// What came of one measure: medians of all rounds.
struct Row {
    measure: &'static Measure,
    tunnel: f64,
    forwarder: f64,
    /// Median of the rounds' own ratios; none if the forwarder has nothing of the kind.
    ratio: Option<f64>,
}

/// Builds what is measured, measures, prints a table and writes the results.
pub(crate) fn bench(workspace: &Workspace, rounds: u32, file: Option<PathBuf>) -> Result<()> {
    setup::setup(workspace, &Needs::for_tests(&[config::Browser::Chromium]))?;
    build::build(workspace, build::Form::Release)?;
    crate::relay::build(workspace, true)?;
    let folder = workspace.target()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let report = measure(workspace, &folder, rounds)?;
    let rows = MEASURES.iter().map(|measure| row(measure, &report)).collect::<Result<Vec<_>>>()?;
    let versions = versions(workspace)?;
    print(&rows, rounds, &versions);
    let file = file.unwrap_or_else(|| folder.join("tabs.json"));
    let results = json!({
        "versions": versions,
        "medians": rows.iter().map(as_json).collect::<Vec<_>>(),
        "rounds": report,
    });
    fs::write(&file, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

/// Runs relay, forwarder and browser; returns what the pages report.
fn measure(workspace: &Workspace, folder: &Path, rounds: u32) -> Result<Value> {
    let relay = Relay::start(workspace, "release", "warn")?;
    let mut forwarder = workspace.command("node");
    forwarder.arg("tests/bench/forwarder.mjs");
    let (_forwarder, lines) = Background::start(forwarder)?;
    let line = || lines.recv_timeout(SILENCE).context("the pages of the benchmark are silent");
    let address = line()?;
    let address = address.strip_prefix("listening on ").with_context(|| format!("unexpected: {address}"))?;

    let profile = folder.join("profile");
    remove(&profile)?;
    let url = format!("http://{address}/bench/control.html?rounds={rounds}&relay={}", relay.url);
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

fn row(measure: &'static Measure, report: &Value) -> Result<Row> {
    let rounds = report.as_array().context("the report is not a list of rounds")?;
    let of = |via: &str| {
        rounds
            .iter()
            .map(|round| round[via][measure.key].as_f64())
            .collect::<Option<Vec<_>>>()
            .with_context(|| format!("a round lacks {} of {via}", measure.key))
    };
    let (tunnel, forwarder) = (of("tunnel")?, of("forwarder")?);
    let ratios =
        tunnel.iter().zip(&forwarder).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect::<Vec<_>>();
    let ratio = (!ratios.is_empty()).then(|| median(ratios));
    Ok(Row { measure, tunnel: median(tunnel), forwarder: median(forwarder), ratio })
}

/// The middle one; of an even number, the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    values.get((values.len() / 2).wrapping_sub(1)).map_or(upper, |lower| f64::midpoint(*lower, upper))
}

fn as_json(row: &Row) -> Value {
    let Measure { key, unit, goal, .. } = row.measure;
    let met = goal.zip(row.ratio).map(|(goal, ratio)| goal.is_met(ratio));
    let goal = goal.map(Goal::shown);
    json!({
        "measure": key, "unit": unit, "tunnel": row.tunnel, "forwarder": row.forwarder, "ratio": row.ratio,
        "goal": goal, "met": met,
    })
}

fn print(rows: &[Row], rounds: u32, versions: &Value) {
    let text = |name: &str| versions[name].as_str().unwrap_or("?").to_owned();
    println!(
        "\n{rounds} rounds, medians; {}, Node {}, ws {}, {} processors\n",
        text("browser"),
        text("node"),
        text("ws"),
        versions["processors"]
    );
    println!("| two tabs | tunnel-wasm | forwarder | ratio | goal | met |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let Measure { name, unit, goal, .. } = row.measure;
        let figure = |value: f64| if *unit == "1/s" { format!("{value:.0}") } else { format!("{value:.2}") };
        let goal = goal.zip(row.ratio);
        println!(
            "| {name} | {} {unit} | {} {unit} | {} | {} | {} |",
            figure(row.tunnel),
            figure(row.forwarder),
            row.ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
            goal.map_or_else(|| "–".into(), |(goal, _)| goal.shown()),
            goal.map_or("–", |(goal, ratio)| if goal.is_met(ratio) { "yes" } else { "no" }),
        );
    }
}

/// A program that runs beside us. Dropping it ends it.
struct Background(Child);

impl Background {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_own() {
        let round = |tunnel: f64, forwarder: f64| json!({ "tunnel": { "firstEchoMs": tunnel }, "forwarder": { "firstEchoMs": forwarder } });
        let report = json!([round(10.0, 10.0), round(40.0, 20.0), round(9.0, 3.0)]);
        let row = row(&MEASURES[2], &report).unwrap();
        assert_eq!((row.tunnel, row.forwarder, row.ratio), (10.0, 10.0, Some(2.0)));
        assert_eq!(as_json(&row)["met"], json!(false));
    }

    #[test]
    fn a_report_that_lacks_a_figure_is_refused_by_name() {
        let error = row(&MEASURES[2], &json!([{ "tunnel": {} }])).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("a round lacks firstEchoMs of tunnel"));
    }
}
