//! The part of the benchmark about two relays with one address space: what is measured of them, as tables.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::table::{Goal, median};
use super::{UNLIMITED, Verdict};

/// The loads, as the example names them, and their names in the table.
const CASES: [(&str, &str); 4] = [
    ("1024x1x1", "1 KiB, 1 pair, one at a time"),
    ("1024x1x8", "1 KiB, 8 pairs, one at a time"),
    ("1024x16x8", "1 KiB, 8 pairs, 16 at a time"),
    ("16x16x8", "16 B, 8 pairs, 16 at a time"),
];

/// Most that two relays may take together, of what one takes for the same, in batches.
const CPU_GOAL: f64 = 2.2;

/// Most that a second relay may add to a round trip, in µs.
const ROUND_TRIP_GOAL: f64 = 60.0;

/// Most that a registration may take longer with the bus.
const REGISTRATION_GOAL: f64 = 1.1;

/// The commands of a relay and of a NATS server, for the example.
pub(super) fn plan(relay: &str, nats: &str) -> Value {
    // Many clients ask for many servers at once, each over one link.
    let more = ["--connect-rate=0", "--server-connect-rate=0", "--max-waiting-per-link=1_000_000"];
    let relay = [&[relay], UNLIMITED, &more].concat();
    json!([relay, [nats, "-a", "127.0.0.1", "-p", "{port}"]])
}

/// The figure at a path of keys: the median of the rounds.
fn figure(rounds: &[Value], path: &[&str]) -> Option<f64> {
    derived(rounds, |round| path.iter().fold(round, |value, key| &value[key]).as_f64())
}

/// The median of something that is made of each round's figures.
fn derived(rounds: &[Value], figure: impl Fn(&Value) -> Option<f64>) -> Option<f64> {
    let values: Option<Vec<_>> = rounds.iter().map(figure).collect();
    values.filter(|values| !values.is_empty()).map(median)
}

/// The cost of two relays as a multiple of one relay's.
fn ratio(rounds: &[Value], case: &str) -> Option<f64> {
    let cpu = |round: &Value, way: &str| round[case][way]["cpuMicros"].as_f64();
    derived(rounds, |round| Some(cpu(round, "spliced")? / cpu(round, "alone")?))
}

/// The goals that were measured.
pub(super) fn verdicts(clusters: &Value) -> Vec<Verdict> {
    let rounds = clusters.as_array().map_or(&[][..], Vec::as_slice);
    let mut verdicts = Vec::new();
    let mut add = |what: String, value: Option<f64>, unit, goal| {
        verdicts.extend(value.map(|value| Verdict { what, value, unit, goal }));
    };
    for (case, name) in &CASES[2..] {
        add(
            format!("CPU of two relays over that of one, {name}"),
            ratio(rounds, case),
            "",
            Goal::AtMost(CPU_GOAL),
        );
    }
    let (case, name) = CASES[0];
    let added = derived(rounds, |round| {
        let p50 = |way: &str| round[case][way]["roundTripP50Micros"].as_f64();
        Some(p50("spliced")? - p50("alone")?)
    });
    add(format!("round trip that a second relay adds, {name}"), added, " µs", Goal::AtMost(ROUND_TRIP_GOAL));
    let slower = derived(rounds, |round| {
        let p50 = |way: &str| round["registration"][way]["p50Micros"].as_f64();
        Some(p50("clustered")? / p50("alone")?)
    });
    add(
        "a registration with the bus over one without".to_owned(),
        slower,
        "",
        Goal::AtMost(REGISTRATION_GOAL),
    );
    verdicts
}

/// Tables of all figures; empty if none were taken.
pub(super) fn tables(clusters: &Value) -> String {
    let Some(rounds) = clusters.as_array().filter(|rounds| !rounds.is_empty()) else { return String::new() };
    let shown = |path: &[&str], digits: usize| {
        figure(rounds, path).map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
    };
    let mut text = String::from(
        "\n| CPU µs a message | one relay | entry | owner | both / one | round trip p50, µs | p99, µs |\n|---|---|---|---|---|---|---|\n",
    );
    for (case, name) in CASES {
        let both = ratio(rounds, case).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let [p50, p99] = ["roundTripP50Micros", "roundTripP99Micros"].map(|key| {
            format!("{} → {}", shown(&[case, "alone", key], 0), shown(&[case, "spliced", key], 0))
        });
        let [alone, entry, owner] =
            [["alone", "cpuMicros"], ["spliced", "entryMicros"], ["spliced", "ownerMicros"]]
                .map(|[way, key]| shown(&[case, way, key], 2));
        // Writing to a text does not fail.
        let _ = writeln!(text, "| {name} | {alone} | {entry} | {owner} | {both} | {p50} | {p99} |");
    }
    text.push_str("\n| servers | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    let find = |key| shown(&["find", key], 0);
    row(
        "CONNECT until INCOMING, server at the same relay, p50 / p99",
        format!("{} / {} µs", find("hereP50Micros"), find("hereP99Micros")),
    );
    row(
        "the same, server at another relay",
        format!("{} / {} µs", find("apartP50Micros"), find("apartP99Micros")),
    );
    row("servers of another relay found, 800 at once", format!("{} a second", find("perSecond")));
    row(
        "CPU for each: entry, owner, NATS server",
        format!("{}, {}, {} µs", find("entryMicros"), find("ownerMicros"), find("natsMicros")),
    );
    for (way, name) in [("alone", "without the bus"), ("clustered", "with the bus")] {
        let figure = |key| shown(&["registration", way, key], 0);
        row(
            &format!("a registration {name}, p50 / p99, CPU of the relay"),
            format!("{} / {} µs, {} µs", figure("p50Micros"), figure("p99Micros"), figure("cpuMicros")),
        );
    }
    let memory = |key| shown(&["memory", key], 0);
    row(
        &format!(
            "memory a registered server, {} of them: NATS server, entry, owner",
            memory("registrations")
        ),
        format!("{}, {}, {} B", memory("natsBytes"), memory("entryBytes"), memory("ownerBytes")),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_relays_are_judged_by_the_rounds_own_ratios_and_differences() {
        let round = |one: f64, two: f64| {
            let figures = json!({
                "alone": { "cpuMicros": one, "roundTripP50Micros": one },
                "spliced": { "cpuMicros": two, "roundTripP50Micros": two },
            });
            json!({ "1024x16x8": figures, "1024x1x1": figures })
        };
        let verdicts = verdicts(&json!([round(1.0, 2.0), round(10.0, 90.0), round(50.0, 100.0)]));
        let values: Vec<_> =
            verdicts.iter().map(|verdict| (verdict.value, verdict.goal.is_met(verdict.value))).collect();
        assert_eq!(values, [(2.0, true), (50.0, true)], "nothing is said of what was not measured");
    }

    #[test]
    fn what_was_not_measured_has_no_table() {
        assert_eq!(tables(&Value::Null), "");
        assert!(tables(&json!([{}])).contains("| – |"));
    }
}
