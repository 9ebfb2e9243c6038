//! News for peers that watch: lines of the log, errors with their places, and changes of instructions.

use super::Engine;
use super::run::Outcome;
use serde_json::{Value, json};

impl Engine {
    /// Tells of an error, if there was one.
    pub(super) fn note_thrown(&mut self, outcome: &Outcome) {
        if let Some(thrown) = &outcome.thrown {
            let at = &thrown.json()["at"];
            self.tell_watchers(&json!({ "level": "error", "text": thrown.line(), "at": at }));
        }
    }

    /// Tells that an instruction has another source now, or none, unless the command failed.
    pub(super) fn note_change(&mut self, name: &str, outcome: &Outcome) {
        if outcome.thrown.is_some() {
            return;
        }
        let answer: Value =
            outcome.answer.as_deref().and_then(|it| serde_json::from_str(it).ok()).unwrap_or_default();
        let version = &answer["version"];
        let text = if version.is_null() {
            format!("'{name}' is gone")
        } else {
            format!("'{name}' has the version {version}")
        };
        let change = json!({ "level": "change", "text": text, "instruction": name, "version": version });
        self.tell_watchers(&change);
    }

    /// Tells of a line of the log: its level, a space, and its text.
    pub(super) fn log(&mut self, text: &str) {
        let (level, text) = text.split_once(' ').unwrap_or((text, ""));
        self.tell_watchers(&json!({ "level": level, "text": text }));
    }

    pub(super) fn tell_watchers(&mut self, entry: &Value) {
        if self.watchers.is_empty() {
            return;
        }
        let line = format!("server: log {entry}");
        for link in self.watchers.clone() {
            self.notice(link, line.clone());
        }
    }
}
