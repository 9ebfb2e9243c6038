//! `cargo xtask bench relay`: the cost of forwarding, of the relay and of others, in turns.
//!
//! The measuring is done by the relay's example `load`: this starts it, and makes tables, a plot and a file of what
//! it says.

mod against;
mod cluster;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};

use super::machine::Machine;
use super::plot;
use super::table::{Goal, median};
use crate::nats;
use crate::process::{output, run, shown};
use crate::relay;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;

/// Our relay's name among the contestants.
const OURS: &str = "tunnel-relay";

/// The floor's.
const SPLICE: &str = "TCP splice";

/// A load: bytes of payload, and the number of messages before an answer is awaited.
///
/// The last makes frames of 60,000 bytes with their headers.
const CASES: [(usize, usize, &str); 5] = [
    (16, 1, "16 B"),
    (16, 16, "16 B × 16"),
    (1_024, 1, "1 KiB"),
    (1_024, 16, "1 KiB × 16"),
    (59_990, 1, "60,000 B"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Number of rounds, in which each is measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure these only
    #[arg(long, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Compare with the floor only
    #[arg(long)]
    alone: bool,
    /// Compare with this other build of the relay only, for example of an earlier commit
    #[arg(long, conflicts_with = "alone")]
    against: Option<PathBuf>,
    /// The example `load` of the other build, if it speaks another wire; by default both are measured by the same
    #[arg(long, requires = "against")]
    against_load: Option<PathBuf>,
    /// Number of idle links that are held at once, as far as the system's limit of descriptors lets us
    #[arg(long, default_value_t = 20_000)]
    links: u32,
    /// The file for the results; the default is bench/relay.json in the target folder
    #[arg(long)]
    json: Option<PathBuf>,
    /// The file for the plot; the default is bench/relay.svg in the target folder
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// Things that can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    /// CPU time, messages a second and latency
    Forward,
    /// CPU time of setting up, and memory
    Connections,
    /// The latency of one while others flood
    Fairness,
    /// One core and two
    Cores,
    /// Very many at once
    Hold,
    /// Two relays with one address space beside one: CPU time, latency, and how servers are found
    Cluster,
    /// CPU time for links on which nothing is said: six minutes, only if it is named
    Idle,
}

/// One of those that are measured.
struct Contestant {
    name: &'static str,
    /// As the example calls it.
    wire: &'static str,
    command: Vec<String>,
}

impl Contestant {
    fn as_json(&self) -> Value {
        let Self { name, wire, command } = self;
        json!({ "name": name, "wire": wire, "command": command })
    }
}

/// Medians of all rounds.
struct Results<'a> {
    report: &'a Value,
}

/// A line of the table of goals.
struct Verdict {
    what: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

/// Builds what is measured, measures, prints tables, draws a plot and writes the results.
pub(crate) fn bench(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("this reads processes' CPU time and memory from /proc, which only Linux has");
    }
    setup::setup(workspace, &Needs::for_tests(&[]))?;
    relay::build(workspace, true)?;
    run(workspace.cargo().args(["build", "--release", "-p", "tunnel-relay", "--example", "load"]))?;
    let folder = workspace.target()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    if let Some(other) = &arguments.against {
        let report = against::compare(workspace, other, arguments)?;
        print!("{}", idle_table(&report["idle"]));
        return save(&folder, arguments, &report);
    }
    let mut contestants = contestants(workspace)?;
    if arguments.alone {
        contestants.truncate(2);
    }
    let report = measure(workspace, &contestants, arguments)?;
    let machine = machine(workspace, &contestants)?;
    let results = Results { report: &report };
    println!("\n{} rounds, medians; {}\n", arguments.rounds, machine["summary"].as_str().unwrap_or_default());
    print!("{}", tables(&results, &contestants));
    print!("{}", cluster::tables(&report["clusters"]));
    let mut verdicts = results.verdicts();
    verdicts.extend(cluster::verdicts(&report["clusters"]));
    println!("\n| goal | figure | at most/at least | met |\n|---|---|---|---|");
    for Verdict { what, value, unit, goal } in &verdicts {
        let met = if goal.is_met(*value) { "yes" } else { "no" };
        println!("| {what} | {value:.2}{unit} | {} | {met} |", goal.shown());
    }

    print!("{}", idle_table(&report["idle"]));

    let verdicts: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            let Verdict { what, value, unit, goal } = verdict;
            json!({ "what": what, "value": value, "unit": unit, "goal": goal.shown(), "met": goal.is_met(*value) })
        })
        .collect();
    let all = json!({ "machine": machine, "goals": verdicts, "results": report });
    save(&folder, arguments, &all)?;
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    let groups: Vec<_> = CASES
        .iter()
        .map(|(size, batch, name)| {
            let cost = |who| results.median(who, &format!("{size}x{batch}"), "cpuMicros");
            (*name, names.iter().map(|who| cost(who)).collect::<Vec<_>>())
        })
        .collect();
    if groups.iter().any(|(_, values)| values.iter().any(Option::is_some)) {
        let svg_file = arguments.svg.clone().unwrap_or_else(|| folder.join("relay.svg"));
        let title = "CPU time of the forwarding process for each message, in µs";
        write(&svg_file, &plot::bars(title, &names, &groups))?;
        println!("Plot: {}", svg_file.display());
    }
    Ok(())
}

/// Writes all figures to a file.
fn save(folder: &Path, arguments: &Arguments, figures: &Value) -> Result<()> {
    let file = arguments.json.clone().unwrap_or_else(|| folder.join("relay.json"));
    write(&file, &(serde_json::to_string_pretty(figures)? + "\n"))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

/// Makes the table of what idle links cost each relay; empty if that was not measured.
fn idle_table(idle: &Value) -> String {
    let Some(relays) = idle.as_object() else { return String::new() };
    let head = "| relay | links opened | CPU µs a link and second | PINGs a link and minute | WebSocket pings |\n|---|---|---|---|---|\n";
    let mut text = format!("\n{head}");
    for (pace, opened) in [("oneByOne", "one by one"), ("atOnce", "at once")] {
        for (name, figures) in relays {
            let [cpu, pings, web_socket_pings] = ["cpuMicros", "pingsEachMinute", "webSocketPingsEachMinute"]
                .map(|key| figures[pace][key].as_f64().unwrap_or(f64::NAN));
            // Writing to a text does not fail.
            let _ = writeln!(text, "| {name} | {opened} | {cpu:.2} | {pings:.2} | {web_socket_pings:.2} |");
        }
    }
    text
}

/// Our relay's arguments: all of a benchmark's peers have one address, come at once and send what they can.
pub(super) const UNLIMITED: &[&str] = &[
    "serve",
    "--listen=127.0.0.1:0",
    "--log=warn",
    "--max-connections=1_000_000",
    "--max-connections-per-address=1_000_000",
    "--accept-rate=0",
    "--accept-rate-per-address=0",
    "--max-registrations-per-address=1_000_000",
    "--max-waiting-per-address=1_000_000",
    "--half-sent-buffer-per-address=128MiB",
    "--link-frames-per-second=0",
    "--link-bytes-per-second=0",
];

/// Those that are installed; ours first, then the floor.
fn contestants(workspace: &Workspace) -> Result<Vec<Contestant>> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let contestant = |name, wire, command: &[&str]| {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        Contestant { name, wire, command }
    };
    let relay = text(&workspace.binary("release", "tunnel-relay")?);
    let load = load(workspace)?;
    let node = text(&workspace.locate("node").context("node is not installed")?);
    let script = |path: &str| text(&workspace.root.join(path));
    let mut all = vec![
        contestant(OURS, "tunnel", &[&[relay.as_str()], UNLIMITED].concat()),
        contestant(SPLICE, "raw", &[&load, "splice"]),
        contestant("Node ws", "websocket", &[&node, &script("tests/bench/forwarder.mjs")]),
        contestant("Socket.IO", "socket.io", &[&node, &script("tests/bench/socketio.mjs")]),
        contestant("livecoding", "livecode", &[&node, &script("tests/livecode-fixture/server.mjs")]),
    ];
    let nats =
        nats::program(workspace).context("there is no nats-server: `cargo xtask setup` installs it")?;
    all.push(contestant("NATS", "nats", &[&text(&nats), "-a", "127.0.0.1", "-p", "{port}"]));
    match workspace.locate("iroh-relay") {
        Some(relay) => {
            // It takes its port from a file only.
            let file = text(&workspace.target()?.join("bench/iroh-relay.toml"));
            let script = format!(
                "printf 'http_bind_addr = \"127.0.0.1:{{port}}\"\nenable_metrics = false\n' > '{file}' && \
                 exec '{}' --dev --config-path '{file}'",
                text(&relay)
            );
            all.push(contestant("iroh-relay", "iroh", &["sh", "-c", &script]));
        }
        None => println!(
            "iroh-relay is not on PATH: measured without it (`cargo install iroh-relay --features server`)"
        ),
    }
    Ok(all)
}

/// The example, which measures, and is the floors.
fn load(workspace: &Workspace) -> Result<String> {
    Ok(workspace.target()?.join("release/examples/load").to_string_lossy().into_owned())
}

/// Has the example measure.
fn measure(workspace: &Workspace, contestants: &[Contestant], arguments: &Arguments) -> Result<Value> {
    let contestants: Vec<_> = contestants.iter().map(Contestant::as_json).collect();
    let parts: Vec<_> = arguments
        .parts
        .iter()
        .filter_map(|part| part.to_possible_value().map(|value| value.get_name().to_owned()))
        .collect();
    let load = load(workspace)?;
    let nats =
        nats::program(workspace).context("there is no nats-server: `cargo xtask setup` installs it")?;
    let relay = workspace.binary("release", "tunnel-relay")?;
    let plan = json!({
        "contestants": contestants,
        "load": load,
        "cases": CASES.map(|(size, batch, _)| (size, batch)),
        "rounds": arguments.rounds,
        "parts": if parts.is_empty() { Value::Null } else { json!(parts) },
        "links": arguments.links,
        "clients": 5_000,
        "cluster": cluster::plan(&relay.to_string_lossy(), &nats.to_string_lossy()),
    });
    ask(workspace, &load, &plan)
}

/// Gives a plan to the example, and returns what it says when it has measured.
fn ask(workspace: &Workspace, load: &str, plan: &Value) -> Result<Value> {
    let mut command = workspace.command(load);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().with_context(|| format!("cannot start `{}`", shown(&command)))?;
    let mut input = process.stdin.take().context("the example has no input")?;
    input.write_all(plan.to_string().as_bytes()).context("cannot tell the example what to measure")?;
    drop(input);
    let result = process.wait_with_output().context("cannot read what the example says")?;
    if !result.status.success() {
        bail!("`{}` failed ({}): see its output above", shown(&command), result.status);
    }
    serde_json::from_slice(&result.stdout).context("what the example says is no JSON")
}

/// The machine, and the versions of all programs.
fn machine(workspace: &Workspace, contestants: &[Contestant]) -> Result<Value> {
    let machine = Machine::look(workspace)?;
    let nats = match contestants.iter().find(|contestant| contestant.wire == "nats") {
        Some(nats) => output(workspace.command(&nats.command[0]).arg("--version"))?.trim().to_owned(),
        None => "no nats-server".to_owned(),
    };
    let iroh = match workspace.locate("iroh-relay") {
        Some(_) => output(workspace.command("iroh-relay").arg("--version"))?.trim().to_owned(),
        None => "no iroh-relay".to_owned(),
    };
    let (ws, socket_io) = (machine.npm_version("ws"), machine.npm_version("socket.io"));
    let summary = format!("{machine}, ws {ws}, Socket.IO {socket_io}, {nats}, {iroh}");
    let Machine { date, processors, cpu, kernel, rust, node, .. } = machine;
    Ok(json!({
        "summary": summary, "date": date, "processors": processors, "cpu": cpu, "kernel": kernel, "rust": rust,
        "node": node, "ws": ws, "socketIo": socket_io, "nats": nats, "iroh": iroh,
    }))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

impl Results<'_> {
    /// A figure of each round.
    fn all(&self, who: &str, part: &str, key: &str) -> Vec<f64> {
        let rounds = self.report["rounds"].as_array().map_or(&[][..], Vec::as_slice);
        rounds.iter().filter_map(|round| round[who][part][key].as_f64()).collect()
    }

    fn median(&self, who: &str, part: &str, key: &str) -> Option<f64> {
        let values = self.all(who, part, key);
        (!values.is_empty()).then(|| median(values))
    }

    /// The median of the rounds' own ratios.
    fn ratio(&self, over: (&str, &str, &str), under: (&str, &str, &str)) -> Option<f64> {
        let (over, under) = (self.all(over.0, over.1, over.2), self.all(under.0, under.1, under.2));
        let ratios: Vec<_> = over.iter().zip(&under).map(|(over, under)| over / under).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    /// The goals that what was measured says something about.
    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let mut add = |what: &str, value: Option<f64>, unit, goal| {
            verdicts.extend(value.map(|value| Verdict { what: what.to_owned(), value, unit, goal }));
        };
        for (case, name, most) in
            [("1024x1", "1 KiB", 1.1), ("1024x16", "1 KiB × 16", 1.5), ("59990x1", "60,000 B", 1.5)]
        {
            let ratio = self.ratio(cpu(OURS, case), cpu(SPLICE, case));
            add(&format!("CPU over the splice's, {name}"), ratio, "", Goal::AtMost(most));
        }
        for (size, batch, name) in CASES {
            let case = format!("{size}x{batch}");
            let node = self.ratio(cpu("Node ws", &case), cpu(OURS, &case));
            add(&format!("Node ws' CPU over ours, {name}"), node, "", Goal::AtLeast(4.0));
            if size <= 1_024 {
                let livecoding = self.ratio(cpu("livecoding", &case), cpu(OURS, &case));
                add(
                    &format!("the livecoding server's CPU over ours, {name}"),
                    livecoding,
                    "",
                    Goal::AtLeast(15.0),
                );
            }
        }
        let kib = |key| self.median(OURS, "connections", key).map(|bytes| bytes / 1_024.0);
        add("memory of an idle connection", kib("idleBytes"), " KiB", Goal::AtMost(8.0));
        add("memory after 64 KiB went through", kib("usedBytes"), " KiB", Goal::AtMost(12.0));
        let set_up = self.median(OURS, "connections", "setUpMicros");
        add("CPU of a connection's set-up", set_up, " µs", Goal::AtMost(60.0));
        let fairness = |key| (OURS, "fairness", key);
        let flooded = self.ratio(fairness("floodedP50Micros"), fairness("quietP50Micros"));
        add(
            "round trip while four clients flood the server, over the quiet one",
            flooded,
            "",
            Goal::AtMost(3.0),
        );
        let cores = self.ratio(cpu(OURS, "threads1"), cpu(OURS, "threads2")).map(|ratio| 2.0 * ratio);
        add("work of two cores over that of one", cores, "", Goal::AtLeast(1.8));
        let held = &self.report["held"][0];
        add("idle links held", held["idleLinks"].as_f64(), "", Goal::AtLeast(20_000.0));
        add("clients of one server held", held["clientsOfOneServer"].as_f64(), "", Goal::AtLeast(5_000.0));
        let idle = &self.report["idle"][OURS]["atOnce"]["cpuMicros"];
        add("CPU of an idle link in a second", idle.as_f64(), " µs", Goal::AtMost(1.23));
        verdicts
    }
}

/// A row for each figure, a column for each contestant.
fn tables(results: &Results<'_>, contestants: &[Contestant]) -> String {
    let mut text = String::new();
    let mut table = |title: &str, rows: &[(String, String, &str, f64, usize)]| {
        let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
        let mut lines = String::new();
        for (name, part, key, unit, digits) in rows {
            let values: Vec<_> = names.iter().map(|who| results.median(who, part, key)).collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            let cells = values.iter().map(|value| match value {
                Some(value) => format!("{:.*}", digits, value / unit),
                None => "–".to_owned(),
            });
            // Writing to a text does not fail.
            let _ = writeln!(lines, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        if !lines.is_empty() {
            let columns = "|---".repeat(names.len() + 1);
            let _ = writeln!(text, "| {title} | {} |\n{columns}|\n{lines}", names.join(" | "));
        }
    };
    let of_cases = |key: &'static str, unit: f64, digits: usize| -> Vec<_> {
        CASES
            .iter()
            .map(|(size, batch, name)| ((*name).to_owned(), format!("{size}x{batch}"), key, unit, digits))
            .collect()
    };
    table("CPU µs a message", &of_cases("cpuMicros", 1.0, 2));
    table("1,000 messages a second", &of_cases("messagesPerSecond", 1_000.0, 1));
    table("round trip p50, µs", &of_cases("roundTripP50Micros", 1.0, 0));
    table("round trip p99, µs", &of_cases("roundTripP99Micros", 1.0, 0));
    let row =
        |name: &str, part: &str, key, unit, digits| (name.to_owned(), part.to_owned(), key, unit, digits);
    table(
        "a connection",
        &[
            row("set-up, CPU µs", "connections", "setUpMicros", 1.0, 0),
            row("of which for fixed answers, CPU µs", "connections", "setUpFloorMicros", 1.0, 0),
            row("idle, KiB", "connections", "idleBytes", 1_024.0, 1),
            row("after 64 KiB went through, KiB", "connections", "usedBytes", 1_024.0, 1),
        ],
    );
    table(
        "others",
        &[
            row("round trip of 64 B, quiet, p50 µs", "fairness", "quietP50Micros", 1.0, 0),
            row("the same under a flood, p50 µs", "fairness", "floodedP50Micros", 1.0, 0),
            row("the same under a flood, p99 µs", "fairness", "floodedP99Micros", 1.0, 0),
            row("the flood, MB/s", "fairness", "floodMegabytesPerSecond", 1.0, 0),
            row("one thread, 1,000 messages/s", "threads1", "messagesPerSecond", 1_000.0, 0),
            row("two threads, 1,000 messages/s", "threads2", "messagesPerSecond", 1_000.0, 0),
        ],
    );
    text
}

/// Names the CPU time of a case.
const fn cpu<'a>(who: &'a str, case: &'a str) -> (&'a str, &'a str, &'a str) {
    (who, case, "cpuMicros")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_the_rounds_own_ratios() {
        let round = |ours: f64, splice: f64| json!({ OURS: { "1024x1": { "cpuMicros": ours } }, SPLICE: { "1024x1": { "cpuMicros": splice } } });
        let report = json!({ "rounds": [round(2.0, 2.0), round(9.0, 3.0), round(1.05, 1.0)], "held": [] });
        let verdicts = Results { report: &report }.verdicts();
        assert_eq!(verdicts.len(), 1, "nothing is said of what was not measured");
        assert_eq!(verdicts[0].value, 1.05);
        assert!(verdicts[0].goal.is_met(verdicts[0].value));
    }

    #[test]
    fn who_was_not_measured_has_a_dash_in_the_table() {
        let report = json!({ "rounds": [{ OURS: { "connections": { "idleBytes": 2_048.0 } } }] });
        let contestant = |name| Contestant { name, wire: "raw", command: Vec::new() };
        let tables = tables(&Results { report: &report }, &[contestant(OURS), contestant(SPLICE)]);
        assert_eq!(
            tables,
            "| a connection | tunnel-relay | TCP splice |\n|---|---|---|\n| idle, KiB | 2.0 | – |\n\n"
        );
    }
}
