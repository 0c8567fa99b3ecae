//! The only reader of the machine's clocks. Everything else is told what time it is.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ws_proto::Instant;

/// Monotonic milliseconds since this clock was made; one a process, so that threads agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }

    /// Returns the time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let elapsed = self.start.elapsed();
        Instant::at(elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis()))
    }
}

/// A loop's last look at the clock. Within a millisecond it is a comparison: a turn is some microseconds, and the difference of
/// two times is not cheap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    start: std::time::Instant,
    now: Instant,
    /// When the next millisecond begins, or a little earlier.
    until: std::time::Instant,
}

impl Tick {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            start: clock.start,
            now: clock.now(),
            until: clock.start,
        }
    }

    /// Returns the time now.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        let time = std::time::Instant::now();
        if time >= self.until {
            self.advance(time);
        }
        self.now
    }

    #[inline(never)]
    fn advance(&mut self, time: std::time::Instant) {
        let elapsed = time.saturating_duration_since(self.start);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.now = Instant::at(millis);
        self.until = self.start + Duration::from_millis(millis.saturating_add(1));
    }
}

/// Returns the microseconds of the machine's monotonic clock, which a service manager compares with its own.
pub(crate) fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanos / 1_000
}

/// Returns the seconds since 1970, for signatures and for people.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Returns the processor time that all threads have used so far.
#[must_use]
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_tells_what_the_clock_tells() {
        let clock = Clock::start();
        let mut tick = Tick::new(&clock);
        while clock.now() < Instant::at(5) {
            let (before, told, after) = (clock.now(), tick.now(), clock.now());
            assert!(before <= told && told <= after, "{told:?}");
        }
    }
}
