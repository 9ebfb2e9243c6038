//! The back-off between dials of the relay.

use crate::Instant;
use crate::time::Duration;

/// The upper end of the first wait.
const FIRST: Duration = Duration::from_millis(50);

/// The upper end of the longest.
const LONGEST: Duration = Duration::from_secs(10);

/// The time that a link has to live after WELCOME before it counts as one that worked. A relay that breaks each link right after
/// WELCOME would have a page dial without end otherwise.
const WORKED_AFTER: Duration = Duration::from_secs(1);

/// Exponential back-off with full jitter: each wait is drawn evenly from zero to a bound that doubles, so that
/// thousands of pages that lost the same relay do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Redial {
    /// Links since the last that worked.
    failures: u32,
    /// The last WebSocket could not be opened, or got no WELCOME.
    refused: bool,
    /// The time at which the last WELCOME came.
    ready_at: Option<Instant>,
    at: Option<Instant>,
    stopped: bool,
}

impl Redial {
    /// The relay has said WELCOME. If the link works is seen when it ends.
    pub(super) const fn succeed(&mut self, now: Instant) {
        self.refused = false;
        self.ready_at = Some(now);
        self.at = None;
    }

    /// The link is lost, or did not come about. The first try after a link that had its WELCOME is at once, but only if
    /// that or one before it lived for a while.
    pub(super) fn fail(&mut self, was_ready: bool, random: u64, now: Instant) {
        let ready_at = self.ready_at.take().unwrap_or(now);
        if was_ready && ready_at + WORKED_AFTER <= now {
            self.failures = 0;
        }
        let at_once = was_ready && self.failures == 0;
        self.at = Some(if at_once { now } else { now + wait(self.failures, random) });
        self.refused = !was_ready;
        self.failures = self.failures.saturating_add(1);
    }

    /// The link did not come about, perhaps for what was said in its handshake: the next try is at once.
    pub(super) const fn fail_at_once(&mut self, now: Instant) {
        if self.failures == 0 {
            self.failures = 1;
        }
        self.refused = true;
        self.at = Some(now);
    }

    /// Returns whether the last link did not come about.
    pub(super) const fn was_refused(&self) -> bool {
        self.refused
    }

    /// Dial as soon as possible.
    pub(super) const fn hurry(&mut self, now: Instant) {
        if self.at.is_some() {
            self.at = Some(now);
            self.failures = 0;
        }
    }

    /// Never dial again.
    pub(super) const fn stop(&mut self) {
        self.stopped = true;
    }

    /// Returns whether the time has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.stopped && self.at.is_none_or(|at| at <= now)
    }

    /// The time at which it comes, if a link was lost.
    pub(super) fn at(&self) -> Instant {
        self.at.filter(|_| !self.stopped).unwrap_or(Instant::NEVER)
    }
}

/// A wait after so many failures, drawn by `random`.
pub(super) fn wait(failures: u32, random: u64) -> Duration {
    let bound = FIRST.saturating_mul(1 << failures.min(20)).min(LONGEST);
    Duration::from_micros(random % (bound.as_micros() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_try_after_a_working_link_is_at_once() {
        let mut redial = Redial::default();
        let now = Instant::from_micros(5);
        redial.fail(true, u64::MAX, now);
        assert!(redial.is_due(now));
    }

    #[test]
    fn a_second_link_that_breaks_right_after_welcome_is_followed_by_growing_waits() {
        let (mut redial, now) = (Redial::default(), Instant::from_micros(5));
        let mut waits = Vec::new();
        for _ in 0..12 {
            redial.succeed(now);
            redial.fail(true, 49_999, now);
            waits.push(redial.at() - now);
        }
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1..].iter().all(|wait| *wait >= Duration::from_micros(49_999)), "{waits:?}");
        redial.succeed(now);
        redial.fail(true, 49_999, now + WORKED_AFTER);
        assert!(redial.is_due(now + WORKED_AFTER), "a link that lived for a while worked");
    }

    #[test]
    fn waits_grow_to_ten_seconds_and_no_further() {
        for failures in 0..100 {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                assert!(wait(failures, random) <= LONGEST);
            }
        }
        assert!((0..1_000).any(|random| wait(9, random * 7_919_791) > Duration::from_secs(5)));
        assert!((0..1_000).all(|random| wait(0, random * 7_919) <= FIRST));
    }
}
