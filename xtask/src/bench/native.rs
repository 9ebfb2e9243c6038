//! `cargo xtask bench native`: a TCP connection through the command `tunnel`, and through other forwarders, in turns.
//!
//! Both ends of the connection are in this program. It measures with threads and blocking sockets: they cost less than what is
//! measured.

mod contestants;
mod ends;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::contestants::Contestant;
use self::ends::{Ends, Figures};
use super::machine::Machine;
use super::table::{Goal, median, yes_or_no};
use crate::relay;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Number of rounds, in which each is measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Amount that is sent each way, in MiB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
    megabytes: u64,
    /// Measure these only, by their names in the table
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The file for the results; the default is bench/native.json in the target folder
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Names in the table.
const TUNNEL: &str = "tunnel";
const SSH: &str = "OpenSSH";
const NODE: &str = "Node ws";

/// Lines of the table: what is measured, its unit, digits behind the point, and its name in the results.
const MEASURES: [(&str, &str, usize, &str); 7] = [
    ("first byte of a connection, p50", "ms", 2, "firstByteMs"),
    ("round trip of 64 B, p50", "µs", 0, "roundTripP50Us"),
    ("round trip of 64 B, p99", "µs", 0, "roundTripP99Us"),
    ("to the far end", "MB/s", 0, "upMegabytesPerSecond"),
    ("from the far end", "MB/s", 0, "downMegabytesPerSecond"),
    ("CPU a MB, to the far end", "ms", 2, "upCpuMsPerMegabyte"),
    ("CPU a MB, from the far end", "ms", 2, "downCpuMsPerMegabyte"),
];

/// Goals: a measure of ours, and the contestant whose own it is divided by.
const GOALS: [(&str, &str, Goal); 3] = [
    ("roundTripP50Us", NODE, Goal::AtMost(1.5)),
    ("upMegabytesPerSecond", SSH, Goal::AtLeast(1.0)),
    ("downMegabytesPerSecond", SSH, Goal::AtLeast(1.0)),
];

/// Builds what is measured, measures, prints tables and writes the results.
pub(crate) fn bench(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("this reads processes' CPU time from /proc, which only Linux has");
    }
    setup::setup(workspace, &Needs::for_tests(&[]))?;
    relay::build(workspace, true)?;
    crate::process::run(workspace.cargo().args(["build", "--release", "-p", "tunnel-cli"]))?;
    let folder = workspace.target()?.join("bench/native");
    crate::dist::empty(&folder)?;
    let ends = Ends::open()?;
    let mut all = contestants::all(workspace, &folder, ends.address())?;
    if !arguments.only.is_empty() {
        all.retain(|contestant| arguments.only.iter().any(|name| name == contestant.name));
    }
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let mut round = json!({});
        for contestant in &all {
            println!("  round {number}: {}", contestant.name);
            let figures = ends.measure(contestant, arguments.megabytes << 20);
            round[contestant.name] = figures.with_context(|| contestant.name.to_owned())?.as_json();
        }
        rounds.push(round);
    }
    let machine = Machine::look(workspace)?;
    let versions =
        format!("{machine}, ws {}, {}", machine.npm_version("ws"), contestants::versions(workspace));
    println!("\n{} rounds, medians; {versions}\n", arguments.rounds);
    print!("{}", table(&rounds, &all));
    print!("\n{}", goals(&rounds));
    let file = arguments.json.clone().unwrap_or_else(|| folder.with_extension("json"));
    let results = json!({ "machine": versions, "megabytes": arguments.megabytes, "rounds": rounds });
    fs::write(&file, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

impl Figures {
    fn as_json(&self) -> Value {
        let Self { first_byte, round_trip_p50, round_trip_p99, up, down } = self;
        json!({
            "firstByteMs": first_byte.as_secs_f64() * 1e3,
            "roundTripP50Us": round_trip_p50.as_secs_f64() * 1e6,
            "roundTripP99Us": round_trip_p99.as_secs_f64() * 1e6,
            "upMegabytesPerSecond": up.megabytes_per_second,
            "downMegabytesPerSecond": down.megabytes_per_second,
            "upCpuMsPerMegabyte": up.cpu_ms_per_megabyte,
            "downCpuMsPerMegabyte": down.cpu_ms_per_megabyte,
        })
    }
}

/// A figure of each round.
fn all_of(rounds: &[Value], who: &str, key: &str) -> Vec<f64> {
    rounds.iter().filter_map(|round| round[who][key].as_f64()).collect()
}

/// A row for each measure, a column for each contestant.
fn table(rounds: &[Value], contestants: &[Contestant]) -> String {
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    let columns = "|---".repeat(names.len() + 1);
    let mut text = format!("| a TCP connection | {} |\n{columns}|\n", names.join(" | "));
    for (name, unit, digits, key) in MEASURES {
        let cells: Vec<_> =
            names.iter().map(|who| format!("{:.digits$}", median(all_of(rounds, who, key)))).collect();
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {name}, {unit} | {} |", cells.join(" | "));
    }
    text
}

/// The goals that what was measured says something about: medians of the rounds' own ratios.
fn goals(rounds: &[Value]) -> String {
    let mut text = "| goal | ours over theirs | wanted | met |\n|---|---|---|---|\n".to_owned();
    for (key, other, goal) in GOALS {
        let (ours, theirs) = (all_of(rounds, TUNNEL, key), all_of(rounds, other, key));
        if ours.is_empty() || theirs.is_empty() {
            continue;
        }
        let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
        let name = MEASURES.iter().find(|measure| measure.3 == key).map_or(key, |measure| measure.0);
        let met = yes_or_no(goal.is_met(ratio));
        let _ = writeln!(text, "| {name}, beside {other} | {ratio:.2} | {} | {met} |", goal.shown());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_the_rounds_own_ratios() {
        let round = |ours: f64, node: f64| json!({ TUNNEL: { "roundTripP50Us": ours }, NODE: { "roundTripP50Us": node } });
        let text = goals(&[round(100.0, 100.0), round(900.0, 300.0), round(140.0, 100.0)]);
        assert!(text.contains("| round trip of 64 B, p50, beside Node ws | 1.40 | ≤ 1.5 | yes |"), "{text}");
        assert_eq!(text.lines().count(), 3, "nothing is said of what was not measured: {text}");
    }
}
