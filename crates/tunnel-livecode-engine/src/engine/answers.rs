//! Answers that wait for a promise. Used by `engine.rs`.

use crate::thrown::Thrown;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tunnel_protocol::Instant;
use tunnel_protocol::router::LinkId;

/// The time that a promise may take to become an answer.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The number of answers of one link that may wait for a promise.
const MAX_PENDING: usize = 64;

/// Answers that wait for a promise of an instruction's.
///
/// The sandbox tells of a settled promise by the link alone, and in the order in which they settle; so each has a number, which goes
/// to the sandbox as a part of the link's command and comes back with the value.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeMap<(LinkId, u64), Instant>,
}

impl Pending {
    /// Notes that an answer is due. Whether it is waited for.
    pub(super) fn expect(&mut self, link: LinkId, answer: u64, now: Instant) -> bool {
        let of_link = self.waiting.range((link, 0)..=(link, u64::MAX)).count();
        if of_link >= MAX_PENDING {
            return false;
        }
        self.waiting.insert((link, answer), now + MAX_WAIT);
        true
    }

    /// Returns whether the answer was still waited for.
    pub(super) fn settle(&mut self, link: LinkId, answer: u64) -> bool {
        self.waiting.remove(&(link, answer)).is_some()
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.waiting.retain(|(it, _), _| *it != link);
    }

    /// One answer whose promise took too long.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(LinkId, u64)> {
        let key = self.waiting.iter().find(|(_, at)| **at <= now).map(|(key, _)| *key)?;
        self.waiting.remove(&key);
        Some(key)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }
}

/// The line that ends an answer for those who want to tell answers apart.
pub(super) fn answered(answer: u64, value: &str, ms: Duration) -> String {
    let ms = ms.as_micros() as f64 / 1_000.0;
    let members = value.strip_suffix('}').unwrap_or("{");
    let comma = if members == "{" { "" } else { "," };
    format!("server: answered {answer} {members}{comma}\"ms\":{ms}}}")
}

/// The value of such an answer, of what was thrown.
pub(super) fn threw(thrown: &Thrown) -> String {
    json!({ "threw": thrown.json() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_after_its_number() {
        let ms = Duration::from_micros(1_500);
        assert_eq!(answered(17, r#"{"returned":1}"#, ms), r#"server: answered 17 {"returned":1,"ms":1.5}"#);
        assert_eq!(answered(0, "{}", ms), r#"server: answered 0 {"ms":1.5}"#);
    }

    #[test]
    fn an_answer_is_given_once() {
        let mut pending = Pending::default();
        let link = LinkId(1);
        assert!(pending.expect(link, 3, Instant::ORIGIN));
        let later = pending.next_timeout().expect("a deadline");
        assert_eq!(pending.expired(later), Some((link, 3)));
        assert!(!pending.settle(link, 3));
    }
}
