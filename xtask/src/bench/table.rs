//! The figures of two tabs as a table: medians, ratios of the rounds, and whether they meet their goals.
//!
//! Called by `bench.rs` with what the pages of `tests/bench` report.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One thing that is measured.
pub(super) struct Measure {
    /// As the pages name it.
    key: &'static str,
    name: &'static str,
    unit: Unit,
    goal: Option<Goal>,
}

/// In what a measure counts, and so which direction is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    Milliseconds,
    MegabytesPerSecond,
    PerSecond,
}

impl Unit {
    fn shown(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::MegabytesPerSecond => "MB/s",
            Self::PerSecond => "1/s",
        }
    }

    fn figure(self, value: f64) -> String {
        let digits = if self == Self::PerSecond { 0 } else { 2 };
        format!("{value:.digits$} {}", self.shown())
    }

    /// The speed of `ours` as a multiple of that of `theirs`.
    fn speed(self, ours: f64, theirs: f64) -> f64 {
        if self == Self::Milliseconds { theirs / ours } else { ours / theirs }
    }
}

/// A bound for our figure divided by the forwarder's.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    pub(super) fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(bound) => ratio <= bound,
            Self::AtLeast(bound) => ratio >= bound,
        }
    }

    pub(super) fn shown(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound:.1}"),
            Self::AtLeast(bound) => format!("≥ {bound:.1}"),
        }
    }
}

pub(super) const MEASURES: [Measure; 8] = [
    Measure { key: "initMs", name: "import and init()", unit: Unit::Milliseconds, goal: None },
    Measure {
        key: "promptEchoMs",
        name: "first echo of a page, at once after init()",
        unit: Unit::Milliseconds,
        goal: Some(Goal::AtMost(1.5)),
    },
    Measure {
        key: "firstEchoMs",
        name: "first echo of a page, 0.3 s after init()",
        unit: Unit::Milliseconds,
        goal: Some(Goal::AtMost(1.4)),
    },
    Measure {
        key: "laterEchoMs",
        name: "first echo of its later sockets",
        unit: Unit::Milliseconds,
        goal: Some(Goal::AtMost(1.2)),
    },
    Measure {
        key: "roundTripP50Ms",
        name: "round trip of 64 B, p50",
        unit: Unit::Milliseconds,
        goal: Some(Goal::AtMost(1.2)),
    },
    Measure { key: "roundTripP99Ms", name: "round trip of 64 B, p99", unit: Unit::Milliseconds, goal: None },
    Measure {
        key: "bulkMegabytesPerSecond",
        name: "messages of 64 KiB",
        unit: Unit::MegabytesPerSecond,
        goal: Some(Goal::AtLeast(0.8)),
    },
    Measure {
        key: "smallMessagesPerSecond",
        name: "messages of 64 B",
        unit: Unit::PerSecond,
        goal: Some(Goal::AtLeast(10.0)),
    },
];

/// The least speed, as a part of the other package's, that counts as not slower: rounds differ by so much.
const NOT_SLOWER: f64 = 0.95;

/// The result of one measure: medians of all rounds.
pub(super) struct Row {
    measure: &'static Measure,
    tunnel: f64,
    forwarder: f64,
    /// Median of the rounds' own ratios to the forwarder; none if the forwarder has nothing of the kind.
    ratio: Option<f64>,
    /// The other package's figure, and the median of how many times as fast ours was in each round.
    against: Option<(f64, f64)>,
}

/// The row of one measure, of a report of all rounds.
pub(super) fn row(measure: &'static Measure, report: &Value) -> Result<Row> {
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
    let has_other = rounds.first().is_some_and(|round| round.get("against").is_some());
    let against = if has_other {
        let other = of("against")?;
        let speeds = tunnel.iter().zip(&other).map(|(a, b)| measure.unit.speed(*a, *b)).collect();
        Some((median(other), median(speeds)))
    } else {
        None
    };
    Ok(Row { measure, tunnel: median(tunnel), forwarder: median(forwarder), ratio, against })
}

/// The middle one; of an even number, the mean of the middle two.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    values.get((values.len() / 2).wrapping_sub(1)).map_or(upper, |lower| f64::midpoint(*lower, upper))
}

pub(super) fn as_json(row: &Row) -> Value {
    let Measure { key, unit, goal, .. } = row.measure;
    let met = goal.zip(row.ratio).map(|(goal, ratio)| goal.is_met(ratio));
    let goal = goal.map(Goal::shown);
    json!({
        "measure": key, "unit": unit.shown(), "tunnel": row.tunnel, "forwarder": row.forwarder, "ratio": row.ratio,
        "goal": goal, "met": met, "against": row.against.map(|(figure, _)| figure),
        "speed": row.against.map(|(_, speed)| speed),
    })
}

pub(super) fn print(rows: &[Row], rounds: u32, versions: &Value) {
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
        let goal = goal.zip(row.ratio);
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            unit.figure(row.tunnel),
            unit.figure(row.forwarder),
            row.ratio.map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
            goal.map_or_else(|| "–".into(), |(goal, _)| goal.shown()),
            goal.map_or("–", |(goal, ratio)| yes_or_no(goal.is_met(ratio))),
        );
    }
    if rows.iter().all(|row| row.against.is_none()) {
        return;
    }
    println!("\n| two tabs | this package | the other | speed | at least {NOT_SLOWER} |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let Some((other, speed)) = row.against else { continue };
        let Measure { name, unit, .. } = row.measure;
        let (ours, theirs) = (unit.figure(row.tunnel), unit.figure(other));
        println!("| {name} | {ours} | {theirs} | {speed:.2} | {} |", yes_or_no(speed >= NOT_SLOWER));
    }
}

pub(super) fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "no" }
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
    fn the_speed_beside_another_package_is_above_one_when_times_are_shorter_or_rates_higher() {
        let round = |key: &str| json!([{ "tunnel": { key: 2.0 }, "forwarder": { key: 1.0 }, "against": { key: 4.0 } }]);
        let time = row(&MEASURES[2], &round("firstEchoMs")).unwrap();
        assert_eq!(time.against, Some((4.0, 2.0)));
        let rate = row(&MEASURES[7], &round("smallMessagesPerSecond")).unwrap();
        assert_eq!(rate.against, Some((4.0, 0.5)));
    }

    #[test]
    fn a_report_that_lacks_a_figure_is_refused_by_name() {
        let error = row(&MEASURES[2], &json!([{ "tunnel": {} }])).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("a round lacks firstEchoMs of tunnel"));
    }
}
