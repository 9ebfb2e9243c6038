//! Headings, durations and the closing line of commands with several steps.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs steps under headings and sums them up.
#[derive(Debug)]
pub(crate) struct Report {
    started: Instant,
    steps: Vec<(String, Duration)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), steps: Vec::new() }
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

    /// Prints the closing line.
    pub(crate) fn finish(self) {
        println!("\nAll {} steps ok in {}:", self.steps.len(), Seconds(self.started.elapsed()));
        for (name, took) in &self.steps {
            println!("  {:>8}  {name}", Seconds(*took).to_string());
        }
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
}
