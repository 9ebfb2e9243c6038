//! Token buckets: rate limits for new connections (`admission`) and for what a link sends (`connection`).

use crate::Config;
use std::time::{Duration, Instant};

/// Fills with so many tokens a second, up to its size, and lets happen what it has tokens for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// The speed at which a bucket fills, and its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    /// Tokens a second; none: there is no limit.
    pub(crate) per_second: f64,
    /// Tokens that a full bucket holds.
    pub(crate) burst: f64,
}

impl Rate {
    /// So many a second, and those of `seconds` at once; 0 is no limit.
    pub(crate) fn new(per_second: u64, seconds: u32) -> Self {
        let per_second = per_second as f64;
        Self { per_second, burst: per_second * f64::from(seconds) }
    }

    /// So many times as much.
    pub(crate) fn times(self, factor: usize) -> Self {
        let factor = factor as f64;
        Self { per_second: self.per_second * factor, burst: self.burst * factor }
    }

    pub(crate) fn is_limit(self) -> bool {
        self.per_second > 0.0
    }
}

/// The allowance of one link for what it sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    frames: Bucket,
    bytes: Bucket,
}

/// For how many seconds' worth a link may send at once: what a hidden tab has saved up.
const BURST_SECONDS: u32 = 2;

impl Allowance {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let [frames, bytes] = Self::rates(config).map(|rate| Bucket::new(rate, now));
        Self { frames, bytes }
    }

    /// Counts what was read; how long nothing more should be.
    pub(crate) fn charge(
        &mut self,
        config: &Config,
        (frames, bytes): (usize, usize),
        now: Instant,
    ) -> Option<Duration> {
        let [frame_rate, byte_rate] = Self::rates(config);
        let waits = [self.frames.charge(frame_rate, frames, now), self.bytes.charge(byte_rate, bytes, now)];
        waits.into_iter().flatten().max()
    }

    fn rates(config: &Config) -> [Rate; 2] {
        [config.link_frames_per_second, config.link_bytes_per_second]
            .map(|rate| Rate::new(rate, BURST_SECONDS))
    }
}

impl Bucket {
    /// Returns a full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, filled: now }
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        if !rate.is_limit() {
            return true;
        }
        self.fill(rate, now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// Takes tokens for what has happened already. What is missing has to be waited for.
    pub(crate) fn charge(&mut self, rate: Rate, tokens: usize, now: Instant) -> Option<Duration> {
        if !rate.is_limit() {
            return None;
        }
        self.fill(rate, now);
        self.tokens -= tokens as f64;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / rate.per_second))
    }

    /// Returns whether the bucket is full.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        self.tokens >= rate.burst
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = passed.mul_add(rate.per_second, self.tokens).min(rate.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_happen_at_once_and_then_so_many_a_second() {
        let (rate, start) = (Rate::new(10, 2), Instant::now());
        let mut bucket = Bucket::new(rate, start);
        let taken = |bucket: &mut Bucket, now| (0..1_000).filter(|_| bucket.take(rate, now)).count();
        assert_eq!(taken(&mut bucket, start), 20);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(1_550)), 15);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1_000)), 20, "it does not overflow");
    }

    #[test]
    fn what_was_too_much_is_waited_for() {
        let (rate, start) = (Rate::new(100, 1), Instant::now());
        let mut bucket = Bucket::new(rate, start);
        assert_eq!(bucket.charge(rate, 100, start), None);
        assert_eq!(bucket.charge(rate, 50, start), Some(Duration::from_millis(500)));
        assert_eq!(bucket.charge(rate, 0, start + Duration::from_millis(500)), None);
    }

    #[test]
    fn a_link_has_an_allowance_of_frames_and_one_of_bytes() {
        let now = Instant::now();
        let config =
            Config { link_frames_per_second: 100, link_bytes_per_second: 1 << 20, ..Config::default() };
        for (batch, wait) in [
            ((200, 0), None),
            ((250, 0), Some(Duration::from_millis(500))),
            ((1, 4 << 20), Some(Duration::from_secs(2))),
            ((250, 4 << 20), Some(Duration::from_secs(2))),
        ] {
            assert_eq!(Allowance::new(&config, now).charge(&config, batch, now), wait, "{batch:?}");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let (rate, now) = (Rate::new(0, 4), Instant::now());
        let mut bucket = Bucket::new(rate, now);
        assert!((0..1_000).all(|_| bucket.take(rate, now)));
        assert_eq!(bucket.charge(rate, usize::MAX, now), None);
        let later = now + Duration::from_secs(1);
        assert!(
            bucket.take(Rate::new(1, 1), later),
            "it holds none of that against a limit that comes later"
        );
    }
}
