//! The only reader of the machine's clocks. Everything else is told what time it is.

use std::time::{SystemTime, UNIX_EPOCH};
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

/// Returns the seconds since 1970, for signatures and for people.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
