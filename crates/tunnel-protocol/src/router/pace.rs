//! A bound for the rate of something.

use crate::Instant;
use std::time::Duration;

/// A bound for how often something happens in a second. After a rest, more may happen at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The time at which all that has happened will be paid for.
    paid_at: Instant,
}

impl Pace {
    /// Counts one more and returns whether it may happen: `rate` a second, after a rest as many as in `burst`. A rate of 0 is
    /// no limit. One that may not happen is not counted.
    pub(crate) fn allows(&mut self, rate: u32, burst: Duration, now: Instant) -> bool {
        if rate == 0 {
            return true;
        }
        let paid_at = self.paid_at.max(now) + Duration::from_secs(1) / rate;
        let allowed = paid_at <= now + burst;
        if allowed {
            self.paid_at = paid_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_comes_first_and_then_so_many_a_second() {
        let mut pace = Pace::default();
        let mut now = Instant::from_micros(5_000_000);
        let mut allowed =
            |now, times: u32| (0..times).filter(|_| pace.allows(10, Duration::from_secs(3), now)).count();
        assert_eq!(allowed(now, 100), 30);
        now += Duration::from_secs(1);
        assert_eq!(allowed(now, 100), 10);
        now += Duration::from_secs(100);
        assert_eq!(allowed(now, 100), 30, "no more is saved up");
        assert!((0..100).all(|_| Pace::default().allows(0, Duration::ZERO, now)), "no limit");
    }
}
