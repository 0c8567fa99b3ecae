//! When a hook is tried again. Pure: the random number is an argument; knows neither clock nor hook.

use std::time::Duration;

/// The first pause may be so long.
const FIRST: Duration = Duration::from_millis(100);
/// And none is longer.
const LONGEST: Duration = Duration::from_secs(5);
/// An app may ask for so much.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// Returns the pause after the attempt of this number (from 1): 100 ms · 2ⁿ with full jitter, at most 5 s, and not
/// less than the app asked for, up to 30 s.
pub(crate) fn pause(attempt: u32, asked: Option<Duration>, random: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let millis = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    let jittered = Duration::from_millis(random % (millis + 1));
    // Those who were told the same moment still come one by one.
    asked
        .map_or(jittered, |asked| asked.min(LONGEST_ASKED) + jittered)
        .min(LONGEST_ASKED)
}

/// Returns seconds for a `Retry-After` to a client: 1 to 5.
pub(crate) fn retry_after(random: u64) -> u32 {
    1 + u32::try_from(random % 5).unwrap_or(0)
}

/// A stream of numbers that need not be secret (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins anywhere.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds() {
        let longest = |attempt| {
            (0..20_000)
                .map(|random| pause(attempt, None, random))
                .max()
                .unwrap()
        };
        assert_eq!(longest(1), Duration::from_millis(100));
        assert_eq!(longest(2), Duration::from_millis(200));
        assert_eq!(longest(6), Duration::from_millis(3200));
        assert_eq!(longest(7), LONGEST);
        assert_eq!(longest(u32::MAX), LONGEST);
        assert_eq!(pause(3, None, 0), Duration::ZERO);
    }

    #[test]
    fn what_the_app_asked_for_is_honoured_up_to_thirty_seconds() {
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(pause(1, asked(2), 0), Duration::from_secs(2));
        assert_eq!(pause(1, asked(2), 50), Duration::from_millis(2050));
        assert_eq!(pause(1, asked(3600), 7), LONGEST_ASKED);
    }
}
