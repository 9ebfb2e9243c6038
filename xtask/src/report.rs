//! Headings, durations and the closing line of commands with several steps.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs steps under headings and sums them up.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    steps: Vec<(String, Duration)>,
    /// Checks that were left out, and why.
    left_out: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), steps: Vec::new(), left_out: Vec::new() }
    }

    /// Runs one step under its name; a failure carries the name.
    pub(crate) fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n==> {name}");
        let started = Instant::now();
        let result = run();
        let took = started.elapsed();
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("<== {name}: {verdict}, {}", Seconds(took));
        self.steps.push((name.to_owned(), took));
        result.with_context(|| format!("step \"{name}\" failed"))
    }

    /// Says that something is not checked, now and at the end.
    pub(crate) fn leave_out(&mut self, what: String) {
        println!("\n{what}");
        self.left_out.push(what);
    }

    /// Prints the closing lines.
    pub(crate) fn finish(self) {
        println!("\n{}", self.summary());
    }

    pub(crate) fn summary(&self) -> String {
        let steps =
            self.steps.iter().map(|(name, took)| format!("\n  {:>8}  {name}", Seconds(*took).to_string()));
        let left_out = self.left_out.iter().map(|what| format!("\n{what}"));
        let total = Seconds(self.started.elapsed());
        format!("All {} steps ok in {total}:", self.steps.len()) + &steps.chain(left_out).collect::<String>()
    }
}

/// A duration in seconds, with a tenth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failing_step_is_named_in_the_error() {
        let error = Report::new().step("format", || Err::<(), _>(anyhow!("line 3"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "step \"format\" failed: line 3");
    }

    #[test]
    fn what_was_not_checked_is_said_again_at_the_end() {
        let mut report = Report::new();
        report.step("format", || Ok(())).expect("it is ok");
        report.leave_out("the moon is not checked".to_owned());
        let summary = report.summary();
        assert!(summary.starts_with("All 1 steps ok"), "{summary}");
        assert!(summary.ends_with("\nthe moon is not checked"), "{summary}");
    }
}
