//! Privileged commands that a server of 2017 does not have.

use super::run::{Command, Outcome};
use super::{Engine, MAX_KEPT};
use crate::command::Members;
use crate::sandbox::Op;
use crate::thrown::Thrown;
use serde_json::json;
use tunnel_protocol::Instant;
use tunnel_protocol::livecode::Line;

/// Longest label of a checkpoint, in bytes.
const MAX_LABEL: usize = 128;

impl Engine {
    pub(super) fn manage(&mut self, caller: Command<'_>, members: &Members<'_>, now: Instant) {
        let link = caller.link;
        let op = match caller.name {
            "instructions" => Some(Op::List),
            "source" => Some(Op::Source),
            "roll back" => Some(Op::RollBack),
            "remove" => Some(Op::Remove),
            "globals" => Some(Op::Globals),
            _ => None,
        };
        if let Some(op) = op {
            let outcome = self.command(op, caller, members, now);
            self.finish_privileged(link, members, &outcome, true);
            if matches!(op, Op::RollBack | Op::Remove) {
                self.note_change(&members.named::<String>("name").unwrap_or_default(), &outcome);
            }
            return;
        }
        let done = match caller.name {
            "hello" => {
                self.say(link, Line::Returned("hello livecode 1"));
                return self.end_with(link, members, r#"{"returned":1}"#, Default::default());
            }
            "checkpoint" => self.keep(members),
            "restore" => self.restore(members, now),
            "watch" => {
                self.watchers.insert(link);
                Ok(json!(true))
            }
            "unwatch" => Ok(json!(self.watchers.remove(&link))),
            _ => Ok(self.quota()),
        };
        let outcome = match done {
            Ok(value) => {
                if caller.name == "restore" {
                    self.tell_watchers(&json!({ "level": "change", "text": format!("restored {value}") }));
                }
                Outcome { answer: Some(value.to_string()), ..Outcome::default() }
            }
            Err(message) => Outcome { thrown: Some(Thrown::new(message)), ..Outcome::default() },
        };
        self.finish_privileged(link, members, &outcome, true);
    }

    /// Keeps a checkpoint under a label; of the oldest there are too many.
    fn keep(&mut self, members: &Members<'_>) -> Result<serde_json::Value, &'static str> {
        let label: String = members.named("label").unwrap_or_default();
        if label.len() > MAX_LABEL {
            return Err("the label of a checkpoint is longer than 128 bytes");
        }
        self.kept.retain(|(it, _)| *it != label);
        self.kept.push_back((label, self.image()));
        while self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
        Ok(json!(self.kept.iter().map(|(label, _)| label).collect::<Vec<_>>()))
    }

    fn restore(&mut self, members: &Members<'_>, now: Instant) -> Result<serde_json::Value, &'static str> {
        let label: String = members.named("label").unwrap_or_default();
        let kept = self.kept.iter().find(|(it, _)| *it == label).map(|(_, image)| image.clone());
        let image = kept.ok_or("there is no checkpoint of this label; the last 4 are kept")?;
        self.sandbox.bring_back(&image).map_err(|_| "the checkpoint does not fit into the memory")?;
        self.resume(now);
        Ok(json!(label))
    }

    fn quota(&mut self) -> serde_json::Value {
        let limits = self.program.limits;
        json!({
            "callTime": limits.soft.as_millis() as u64,
            "share": self.settings.share,
            "heap": self.sandbox.heap(),
            "maxHeap": limits.heap,
            "maxSources": limits.kept.sources,
            "maxInstructions": limits.kept.instructions,
            "maxVersions": limits.kept.versions,
            "maxTimers": limits.kept.timers,
            "maxOutput": limits.output,
            "memory": self.sandbox.size(),
            "calls": self.stats.calls,
            "errors": self.stats.errors,
            "stopped": self.stats.interrupted + self.stats.dropped,
            "spent": self.stats.spent.as_millis() as u64,
            "links": self.links.len(),
            "timers": self.timers.len(),
            "checkpoints": self.kept.iter().map(|(label, _)| label).collect::<Vec<_>>(),
            "serverId": self.service.server_id().to_string(),
            "clients": self.service.clients(),
            "maxClients": self.settings.max_clients,
        })
    }
}
