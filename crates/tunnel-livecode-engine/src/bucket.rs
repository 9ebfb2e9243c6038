//! A budget of processor time. `engine.rs` keeps one for all links, `turns.rs` one for each.

use std::time::Duration;
use tunnel_protocol::Instant;

/// Processor time that may be used: refilled at a share of one processor, at most to what it holds after a rest.
///
/// It may become negative, since a call's time is known only when the call has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    share: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one; `share` is of one processor, 0.2 for a fifth.
    pub(crate) fn new(share: f64, most: Duration, now: Instant) -> Self {
        Self { share, most: most.as_secs_f64(), left: most.as_secs_f64(), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_since(self.at).as_secs_f64();
        self.left = (self.left + since * self.share).min(self.most);
        self.at = self.at.max(now);
    }

    pub(crate) fn take(&mut self, spent: Duration, now: Instant) {
        self.refill(now);
        self.left -= spent.as_secs_f64();
    }

    /// The time at which there is something in it; `now` or earlier if there is.
    pub(crate) fn ready_at(&mut self, now: Instant) -> Instant {
        self.refill(now);
        if self.left > 0.0 {
            return now;
        }
        now + Duration::from_secs_f64((-self.left / self.share).min(3_600.0)) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_used_beyond_the_rest_is_waited_for() {
        let start = Instant::ORIGIN;
        let mut bucket = Bucket::new(0.5, 100 * MILLIS, start);
        assert_eq!(bucket.ready_at(start), start);
        bucket.take(150 * MILLIS, start);
        assert_eq!(bucket.ready_at(start), start + 101 * MILLIS);
        assert_eq!(bucket.ready_at(start + 102 * MILLIS), start + 102 * MILLIS);
    }

    #[test]
    fn a_rest_fills_it_to_the_brim_and_no_further() {
        let mut bucket = Bucket::new(1.0, 100 * MILLIS, Instant::ORIGIN);
        let later = Instant::ORIGIN + 10_000 * MILLIS;
        bucket.take(100 * MILLIS, later);
        assert!(bucket.ready_at(later) > later);
    }
}
