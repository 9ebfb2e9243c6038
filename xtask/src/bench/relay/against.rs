//! `cargo xtask bench relay --against BINARY`: our relay beside another build of it, for example of an earlier commit, in turns.
//!
//! Both take turns, some seconds of ours and the same of the other's, and who comes first changes with each round. Machines that do
//! something else, too, get slower and faster within minutes, so only the ratios of such neighbours are compared.

use std::fmt::Write as _;
use std::path::{Path, absolute};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::table::median;
use super::{Arguments, CASES, Contestant, OURS, Part, UNLIMITED, ask, load};
use crate::process::output;
use crate::workspace::Workspace;

/// Name of the other build among the contestants.
const OTHER: &str = "the other";

/// The least speed, as a part of the other's, that counts as not slower.
const NOT_SLOWER: f64 = 0.95;

/// A figure of both.
struct Measure {
    name: String,
    /// As the example calls what it measures, and the figure.
    part: String,
    key: &'static str,
    is_rate: bool,
}

/// The costs of both: medians of the rounds, and of how many times as fast ours was in each.
#[derive(Debug, PartialEq)]
struct Row {
    ours: f64,
    other: f64,
    speed: f64,
    /// In 19 of 20 such series of rounds, the speed is between these.
    low: f64,
    high: f64,
}

/// Measures both, and prints a table. All figures of all rounds are in what is returned.
pub(super) fn compare(workspace: &Workspace, other: &Path, arguments: &Arguments) -> Result<Value> {
    let other = absolute(other)?;
    ensure!(other.is_file(), "{} is no program", other.display());
    let own_load = load(workspace)?;
    let other_load = match &arguments.against_load {
        Some(file) => absolute(file)?.to_string_lossy().into_owned(),
        None => own_load.clone(),
    };
    let relay = workspace.binary("release", "tunnel-relay")?;
    let contestants = [(OURS, relay.as_path(), &own_load), (OTHER, other.as_path(), &other_load)]
        .map(|(name, binary, load)| Ok((contestant(name, binary)?, load)));
    let contestants = contestants.into_iter().collect::<Result<Vec<_>>>()?;
    let mut rounds = Vec::new();
    for number in 0..arguments.rounds {
        println!("  round {} of {}", number + 1, arguments.rounds);
        let mut round = json!({ OURS: {}, OTHER: {} });
        for (part, cases) in turns(&arguments.parts) {
            let mut contestants: Vec<_> = contestants.iter().collect();
            if number % 2 == 1 {
                contestants.reverse();
            }
            for (contestant, load) in contestants {
                let plan = json!({
                    "contestants": [contestant.as_json()], "load": load, "cases": cases, "rounds": 1,
                    "parts": [part], "links": 0, "clients": 0,
                });
                let mut answer = ask(workspace, load, &plan)?;
                if let (Value::Object(all), Value::Object(new)) =
                    (&mut round[contestant.name], answer["rounds"][0][contestant.name].take())
                {
                    all.extend(new);
                }
            }
        }
        rounds.push(round);
    }
    print!("{}", table(&rounds));
    let mut report = json!({ "against": rounds });
    if arguments.parts.contains(&Part::Idle) {
        // Both at once. Idle links say HELLO only, which is the same in all builds so far.
        let both: Vec<_> = contestants.iter().map(|(contestant, _)| contestant.as_json()).collect();
        let plan = json!({
            "contestants": both, "load": own_load, "cases": [], "rounds": 0, "parts": ["idle"], "links": 0, "clients": 0,
        });
        report["idle"] = ask(workspace, &own_load, &plan)?["idle"].take();
    }
    Ok(report)
}

/// A part that is measured at one time, with the loads of it.
fn turns(parts: &[Part]) -> Vec<(&'static str, Vec<(usize, usize)>)> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let mut turns = Vec::new();
    if wanted(Part::Forward) {
        turns.extend(CASES.iter().map(|(size, batch, _)| ("forward", vec![(*size, *batch)])));
    }
    for (part, name) in
        [(Part::Connections, "connections"), (Part::Fairness, "fairness"), (Part::Cores, "cores")]
    {
        if wanted(part) {
            turns.push((name, Vec::new()));
        }
    }
    turns
}

/// A relay without limits, as far as this build of it has the settings for that.
fn contestant(name: &'static str, binary: &Path) -> Result<Contestant> {
    let help = output(Command::new(binary).args(["serve", "--help"]))
        .with_context(|| format!("{} is no relay", binary.display()))?;
    let has = |argument: &str| {
        let setting = argument.split('=').next().unwrap_or_default();
        !setting.starts_with("--") || help.split_whitespace().any(|word| word == setting)
    };
    let settings = UNLIMITED.iter().filter(|argument| has(argument)).map(|argument| (*argument).to_owned());
    let command = [binary.to_string_lossy().into_owned()].into_iter().chain(settings).collect();
    Ok(Contestant { name, wire: "tunnel", command })
}

fn measures() -> Vec<Measure> {
    let measure = |name: &str, part: &str, key, is_rate| Measure {
        name: name.to_owned(),
        part: part.to_owned(),
        key,
        is_rate,
    };
    let mut all = Vec::new();
    for (size, batch, name) in CASES {
        let part = format!("{size}x{batch}");
        all.push(measure(&format!("{name}: CPU µs a message"), &part, "cpuMicros", false));
        all.push(measure(&format!("{name}: round trip p50, µs"), &part, "roundTripP50Micros", false));
    }
    all.extend([
        measure("set-up of a connection, CPU µs", "connections", "setUpMicros", false),
        measure("idle connection, B", "connections", "idleBytes", false),
        measure("connection after 64 KiB, B", "connections", "usedBytes", false),
        measure("round trip of 64 B, quiet, p50 µs", "fairness", "quietP50Micros", false),
        measure("the same under a flood, p50 µs", "fairness", "floodedP50Micros", false),
        measure("the flood, MB/s", "fairness", "floodMegabytesPerSecond", true),
        measure("one thread, messages/s", "threads1", "messagesPerSecond", true),
        measure("two threads, messages/s", "threads2", "messagesPerSecond", true),
    ]);
    all
}

fn table(rounds: &[Value]) -> String {
    let mut text = format!(
        "\n{} rounds\n\n| relay | this one | the other | speed | in 19 of 20 series | at least {NOT_SLOWER} |\n|---|---|---|---|---|---|\n",
        rounds.len()
    );
    for Measure { name, part, key, is_rate } in measures() {
        let figures =
            |who: &str| rounds.iter().filter_map(|round| round[who][&*part][key].as_f64()).collect();
        let Some(row) = Row::of(figures(OURS), figures(OTHER), is_rate) else { continue };
        let Row { ours, other, speed, low, high } = row;
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "| {name} | {ours:.2} | {other:.2} | {speed:.2} | {low:.2} to {high:.2} | {} |",
            row.verdict()
        );
    }
    text
}

impl Row {
    fn of(ours: Vec<f64>, other: Vec<f64>, is_rate: bool) -> Option<Self> {
        let speed = |(ours, other): (&f64, &f64)| if is_rate { ours / other } else { other / ours };
        let mut speeds: Vec<_> = ours.iter().zip(&other).map(speed).collect();
        speeds.sort_by(f64::total_cmp);
        let outside = outside(speeds.len());
        let low = *speeds.get(outside)?;
        let high = *speeds.get(speeds.len() - 1 - outside)?;
        Some(Self { ours: median(ours), other: median(other), speed: median(speeds), low, high })
    }

    fn verdict(&self) -> &'static str {
        if self.speed >= NOT_SLOWER {
            "yes"
        } else if self.high >= 1.0 {
            "by chance not"
        } else {
            "no"
        }
    }
}

/// The number of sorted ratios, on each side, outside of the interval that has the true median in 19 of 20 series.
///
/// Each ratio is on either side of the true median with the same chance, so how many are below it is binomial. With fewer than six
/// rounds no interval is as sure: it is that of all ratios then.
fn outside(rounds: usize) -> usize {
    let (mut outside, mut chance) = (0, 0.0);
    let mut exactly = 0.5_f64.powi(i32::try_from(rounds).unwrap_or(i32::MAX));
    for count in 0..rounds / 2 {
        chance += exactly;
        if chance > 0.025 {
            break;
        }
        outside = count;
        exactly *= (rounds - count) as f64 / (count + 1) as f64;
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_leaves_out_as_many_ratios_as_chance_allows() {
        // As in tables of the sign test, for 5 % on both sides together: so many may be less than the others.
        for (rounds, expected) in [(1, 0), (5, 0), (6, 0), (9, 1), (11, 1), (12, 2), (15, 3), (25, 7)] {
            assert_eq!(outside(rounds), expected, "{rounds}");
        }
    }

    #[test]
    fn a_speed_is_above_one_when_ours_takes_less_or_does_more() {
        let row = Row::of(vec![2.0, 1.0, 4.0], vec![4.0, 1.0, 2.0], false).unwrap();
        assert_eq!(row, Row { ours: 2.0, other: 2.0, speed: 1.0, low: 0.5, high: 2.0 });
        let row = Row::of(vec![2.0, 1.0, 4.0], vec![4.0, 1.0, 1.0], true).unwrap();
        assert_eq!(row, Row { ours: 2.0, other: 1.0, speed: 1.0, low: 0.5, high: 4.0 });
        assert_eq!(Row::of(Vec::new(), Vec::new(), true), None, "nothing was measured");
    }

    #[test]
    fn a_speed_below_the_bound_is_chance_unless_nearly_all_rounds_agree() {
        let verdict = |speed, high| Row { ours: 1.0, other: 1.0, speed, low: 0.5, high }.verdict();
        assert_eq!(verdict(0.96, 0.99), "yes");
        assert_eq!(verdict(0.9, 1.01), "by chance not");
        assert_eq!(verdict(0.9, 0.99), "no");
    }

    #[test]
    fn the_table_compares_what_both_have() {
        let round = json!({
            OURS: { "16x1": { "cpuMicros": 10.0 }, "threads1": { "messagesPerSecond": 50.0 } },
            OTHER: { "16x1": { "cpuMicros": 9.0 } },
        });
        let table = table(&[round]);
        assert!(
            table.contains("| 16 B: CPU µs a message | 10.00 | 9.00 | 0.90 | 0.90 to 0.90 | no |\n"),
            "{table}"
        );
        assert!(!table.contains("threads"), "{table}");
    }
}
