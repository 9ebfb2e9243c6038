//! The output of the command: sentences for people on standard error, JSON for scripts, results on standard output.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::process::ExitCode;

/// The command's output: for people or for programs.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    is_json: bool,
    is_quiet: bool,
}

impl Report {
    pub(crate) const fn new(is_json: bool, is_quiet: bool) -> Self {
        Self { is_json, is_quiet }
    }

    /// Tells that something happened: a sentence, or an object with its name and facts.
    pub(crate) fn event(&self, name: &str, sentence: &str, facts: Value) {
        if self.is_json {
            let mut object = json!({ "event": name });
            if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
                object.extend(facts);
            }
            line(std::io::stderr(), &object.to_string());
        } else if !self.is_quiet {
            line(std::io::stderr(), sentence);
        }
    }

    /// Gives what was asked for, on standard output.
    pub(crate) fn result(&self, text: &str, facts: &Value) {
        let text = if self.is_json { facts.to_string() } else { text.to_owned() };
        line(std::io::stdout(), &text);
    }

    /// Returns whether progress is drawn.
    pub(crate) fn draws(&self) -> bool {
        !self.is_json && !self.is_quiet && std::io::stderr().is_terminal()
    }

    /// Tells why the program ends; returns its exit code.
    pub(crate) fn fail(&self, failure: &Failure) -> ExitCode {
        let text = failure.to_string();
        if self.is_json {
            line(
                std::io::stderr(),
                &json!({ "event": "failed", "kind": failure.name(), "error": text }).to_string(),
            );
        } else if !matches!(failure, Failure::Signal { .. }) {
            line(std::io::stderr(), &format!("tunnel: {text}"));
        }
        failure.code()
    }
}

/// Writes a line. Nobody is left to tell when nobody reads it.
fn line(mut to: impl std::io::Write, text: &str) {
    let _unread = writeln!(to, "{text}").and_then(|()| to.flush());
}
