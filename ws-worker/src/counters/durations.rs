//! How often something lasted how long: sorted by one thread, added up for who looks. Knows no clock.

use super::Tally;
use std::time::Duration;

/// Upper ends of what durations are sorted into, in milliseconds. What is longer than the last is counted as well.
pub const BOUNDS: [u64; 14] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000,
];

/// How often something lasted how long; one thread adds.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    buckets: [Tally; BOUNDS.len()],
    longer: Tally,
    milliseconds: Tally,
}

impl Durations {
    /// Adds one.
    pub(crate) fn add(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < milliseconds);
        self.buckets.get(place).unwrap_or(&self.longer).add(1);
        self.milliseconds.add(milliseconds);
    }
}

/// How often something lasted how long, added up over all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many lasted at most so long as the bound at the same place, and longer than the one before.
    pub buckets: [u64; BOUNDS.len()],
    /// How many lasted longer than the last bound.
    pub longer: u64,
    /// How long all of them lasted, in milliseconds.
    pub milliseconds: u64,
}

impl Spread {
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Durations>) -> Self {
        let mut sum = Self::default();
        for one in all {
            for (sum, more) in sum.buckets.iter_mut().zip(&one.buckets) {
                *sum += more.get();
            }
            sum.longer += one.longer.get();
            sum.milliseconds = sum.milliseconds.wrapping_add(one.milliseconds.get());
        }
        sum
    }

    /// Returns how many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.longer
    }

    /// Returns a duration in milliseconds that so many of a hundred did not exceed: the bound of the bucket where it lies.
    /// `None` if there were none, or it lies beyond the last bound.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (count, bound) in self.buckets.iter().zip(BOUNDS) {
            seen += count;
            if seen >= wanted {
                return Some(bound);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_stands_in_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        for milliseconds in [0, 1, 2, 3, 30_000, 30_001, 90_000] {
            durations.add(Duration::from_millis(milliseconds));
        }
        let spread = Spread::of([&durations].into_iter());
        assert_eq!(spread.buckets, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((spread.longer, spread.count()), (2, 7));
        assert_eq!(spread.milliseconds, 150_007);
        assert_eq!(spread.percentile(50), Some(5));
        assert_eq!(spread.percentile(99), None);
        assert_eq!(Spread::default().percentile(50), None);
    }
}
