//! Time as an argument: milliseconds since any start the caller likes. Knows no clock.

use core::ops::Add;
use core::time::Duration;

/// A moment, in milliseconds since a start that the caller chose once and keeps.
///
/// ```
/// # use std::time::Duration;
/// # use ws_proto::Instant;
/// let start = std::time::Instant::now();
/// let now = || Instant::at(start.elapsed().as_millis() as u64);
/// let deadline = now() + Duration::from_secs(5);
/// assert!(deadline.since(now()) <= Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Names the moment `milliseconds` after the start.
    #[must_use]
    pub const fn at(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Returns the milliseconds since the start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns how long ago `earlier` was, zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Adds a duration, rounded up to the next millisecond so that no deadline comes early.
    #[inline]
    fn add(self, duration: Duration) -> Self {
        let fraction = duration.subsec_nanos().div_ceil(1_000_000);
        Self(
            duration
                .as_secs()
                .saturating_mul(1_000)
                .saturating_add(fraction.into())
                .saturating_add(self.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_never_makes_a_deadline_early() {
        assert_eq!(Instant::at(5) + Duration::from_micros(1), Instant::at(6));
        assert_eq!(Instant::at(5) + Duration::from_millis(2), Instant::at(7));
        assert_eq!(Instant::at(5) + Duration::MAX, Instant::at(u64::MAX));
    }
}
