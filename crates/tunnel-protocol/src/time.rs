//! The clock of the state machines: it stands still until the owner passes a later [`Instant`].

use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

/// A point in time: microseconds since an origin that the owner chooses, the same for all calls on one machine.
///
/// It is not `std::time::Instant` because that cannot be read on `wasm32-unknown-unknown`, cannot be made from
/// a number in a simulation and cannot be written into a trace.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the owner's clock.
    pub const ORIGIN: Self = Self(0);

    /// Later than any other instant: the sentinel for "no deadline".
    pub const NEVER: Self = Self(u64::MAX);

    /// This instant while it lies ahead of `now`, then never.
    #[must_use]
    pub fn or_never(self, now: Self) -> Self {
        if self > now { self } else { Self::NEVER }
    }

    /// The instant that lies `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    // A function of its own, in small arithmetic, because deadlines are set everywhere.
    #[inline(never)]
    fn add(self, duration: Duration) -> Self {
        let micros = duration.as_secs().saturating_mul(1_000_000);
        Self(self.0.saturating_add(micros).saturating_add(duration.subsec_micros().into()))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}
