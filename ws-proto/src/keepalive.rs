//! Heartbeat and idle deadlines. Any byte proves the peer alive, only messages end idleness.
//! Knows no frames: it says what is due, the connection does it.

use crate::limits::Limits;
use crate::time::Instant;
use core::time::Duration;

/// What the time demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// A ping with this payload.
    Ping([u8; 4]),
    /// Nothing came since the ping: the peer is gone.
    PongMissed,
    /// No message came for too long.
    Idle,
}

/// What happened last; deadlines follow from it when asked for, so that a byte or a message costs one store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// The last byte.
    heard: Instant,
    /// The last message.
    messaged: Instant,
    /// The last ping. It waits for an answer if it is later than `heard`.
    pinged: Instant,
    /// Pings so far: the payload of the next.
    pings: u32,
    /// Whether the pong to the last ping would tell how long the way is.
    times_pong: bool,
    is_paused: bool,
    has_ping: bool,
}

impl Keepalive {
    /// Begins as if a message had just come. Without pings there is no heartbeat.
    pub(crate) const fn new(now: Instant, has_ping: bool) -> Self {
        Self {
            heard: now,
            messaged: now,
            pinged: now,
            pings: 0,
            times_pong: false,
            is_paused: false,
            has_ping,
        }
    }

    /// Notes that bytes came.
    #[inline]
    pub(crate) const fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Notes that a message came.
    #[inline]
    pub(crate) const fn note_message(&mut self, now: Instant) {
        self.messaged = now;
    }

    /// Returns how long the last ping took, if this is the first pong to it.
    pub(crate) fn take_pong(&mut self, now: Instant, payload: &[u8]) -> Option<Duration> {
        if self.times_pong && payload == self.pings.to_be_bytes() {
            self.times_pong = false;
            return Some(now.since(self.pinged));
        }
        None
    }

    /// Stops the pong and idle deadlines: who does not listen calls nobody silent.
    pub(crate) const fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Starts them again in full.
    pub(crate) fn resume(&mut self, now: Instant) {
        if !self.is_paused {
            return;
        }
        self.is_paused = false;
        self.messaged = now;
        if self.awaits_answer() {
            self.pinged = now;
            self.times_pong = false; // It would tell how long we paused.
        }
    }

    /// Says what `now` demands. Early and repeated calls are harmless.
    pub(crate) fn due(&mut self, now: Instant, limits: &Limits) -> Due {
        if self.idle_at(limits).is_some_and(|at| at <= now) {
            return Due::Idle;
        }
        match self.heartbeat(limits) {
            Heartbeat::PingAt(at) if at <= now => {
                self.pinged = now;
                Due::Ping(self.next_ping())
            }
            Heartbeat::PongBy(at) if at <= now => Due::PongMissed,
            Heartbeat::Off | Heartbeat::PingAt(_) | Heartbeat::PongBy(_) => Due::Nothing,
        }
    }

    /// Notes a ping that the driver asked for, and returns its payload. Who owes an answer already gets no more time for it.
    pub(crate) fn ping(&mut self, now: Instant) -> [u8; 4] {
        if !self.awaits_answer() {
            self.pinged = now;
        }
        self.next_ping()
    }

    fn next_ping(&mut self) -> [u8; 4] {
        self.pings = self.pings.wrapping_add(1);
        self.times_pong = true;
        self.pings.to_be_bytes()
    }

    /// Returns when something will be due.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let heartbeat = match self.heartbeat(limits) {
            Heartbeat::Off => None,
            Heartbeat::PingAt(at) | Heartbeat::PongBy(at) => Some(at),
        };
        match (heartbeat, self.idle_at(limits)) {
            (Some(heartbeat), Some(idle)) => Some(heartbeat.min(idle)),
            (heartbeat, idle) => heartbeat.or(idle),
        }
    }

    /// In the same millisecond as the ping a byte counts as its answer: better kind than wrong.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.pinged > self.heard
    }

    fn heartbeat(&self, limits: &Limits) -> Heartbeat {
        let Some(heartbeat) = limits.heartbeat.filter(|_| self.has_ping) else {
            return Heartbeat::Off;
        };
        if !self.awaits_answer() {
            Heartbeat::PingAt(self.heard + at_least_a_tick(heartbeat))
        } else if self.is_paused {
            Heartbeat::PingAt(self.pinged + at_least_a_tick(heartbeat))
        } else {
            Heartbeat::PongBy(self.pinged + at_least_a_tick(limits.pong_timeout))
        }
    }

    fn idle_at(&self, limits: &Limits) -> Option<Instant> {
        let timeout = limits.idle_timeout.filter(|_| !self.is_paused)?;
        Some(self.messaged + at_least_a_tick(timeout))
    }
}

enum Heartbeat {
    Off,
    PingAt(Instant),
    PongBy(Instant),
}

/// Keeps a deadline set now from being due now, or a timer would never come to rest.
pub(crate) fn at_least_a_tick(duration: Duration) -> Duration {
    duration.max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            heartbeat: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(60)),
            ..Limits::default()
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::at(seconds * 1000)
    }

    #[track_caller]
    fn check(keepalive: &mut Keepalive, now: u64, expected: Due, next: u64) {
        assert_eq!(keepalive.due(at(now), &limits()), expected);
        assert_eq!(keepalive.deadline(&limits()), Some(at(next)));
    }

    const PING: Due = Due::Ping([0, 0, 0, 1]);

    #[test]
    fn a_silent_peer_is_pinged_then_given_up() {
        let mut keepalive = Keepalive::new(at(0), true);
        check(&mut keepalive, 19, Due::Nothing, 20);
        check(&mut keepalive, 20, PING, 30);
        check(&mut keepalive, 20, Due::Nothing, 30);
        assert_eq!(keepalive.due(at(30), &limits()), Due::PongMissed);
    }

    #[test]
    fn any_byte_proves_life() {
        let mut keepalive = Keepalive::new(at(0), true);
        check(&mut keepalive, 20, PING, 30);
        keepalive.hear(at(29));
        check(&mut keepalive, 30, Due::Nothing, 49);
    }

    #[test]
    fn only_messages_end_idleness() {
        let mut keepalive = Keepalive::new(at(0), true);
        keepalive.hear(at(59));
        check(&mut keepalive, 59, Due::Nothing, 60);
        keepalive.note_message(at(59));
        check(&mut keepalive, 60, Due::Nothing, 79);
        keepalive.hear(at(118));
        assert_eq!(keepalive.due(at(119), &limits()), Due::Idle);
    }

    #[test]
    fn while_paused_pings_go_out_and_nobody_is_called_silent() {
        let mut keepalive = Keepalive::new(at(0), true);
        keepalive.pause();
        check(&mut keepalive, 20, PING, 40);
        check(&mut keepalive, 40, Due::Ping([0, 0, 0, 2]), 60);
        check(&mut keepalive, 100, Due::Ping([0, 0, 0, 3]), 120);
        keepalive.resume(at(105));
        check(&mut keepalive, 105, Due::Nothing, 115);
        assert_eq!(keepalive.due(at(115), &limits()), Due::PongMissed);
        keepalive.hear(at(110));
        keepalive.note_message(at(100));
        assert_eq!(keepalive.due(at(160), &limits()), Due::Idle);
    }

    #[test]
    fn resuming_what_was_not_paused_moves_nothing() {
        let mut keepalive = Keepalive::new(at(0), true);
        keepalive.resume(at(50));
        check(&mut keepalive, 59, PING, 60);
    }

    #[test]
    fn without_pings_only_idleness_counts() {
        let mut keepalive = Keepalive::new(at(0), false);
        check(&mut keepalive, 59, Due::Nothing, 60);
    }

    #[test]
    fn only_the_pong_to_the_last_ping_tells_the_time() {
        let mut keepalive = Keepalive::new(at(0), true);
        assert_eq!(keepalive.take_pong(at(1), &[0, 0, 0, 0]), None);
        check(&mut keepalive, 20, PING, 30);
        assert_eq!(keepalive.take_pong(at(21), b"else"), None);
        let pong = [0, 0, 0, 1];
        assert_eq!(
            keepalive.take_pong(at(22), &pong),
            Some(Duration::from_secs(2))
        );
        assert_eq!(keepalive.take_pong(at(23), &pong), None);
    }

    #[test]
    fn a_ping_that_was_asked_for_wants_its_answer_as_the_heartbeats_does() {
        let mut keepalive = Keepalive::new(at(0), true);
        assert_eq!(keepalive.ping(at(5)), [0, 0, 0, 1]);
        check(&mut keepalive, 5, Due::Nothing, 15);
        assert_eq!(keepalive.ping(at(10)), [0, 0, 0, 2]);
        check(&mut keepalive, 14, Due::Nothing, 15);
        assert_eq!(
            keepalive.take_pong(at(14), &[0, 0, 0, 2]),
            Some(Duration::from_secs(9))
        );
        assert_eq!(keepalive.due(at(15), &limits()), Due::PongMissed);
    }

    #[test]
    fn deadlines_of_no_length_still_lie_ahead() {
        let limits = Limits {
            heartbeat: Some(Duration::ZERO),
            pong_timeout: Duration::ZERO,
            idle_timeout: Some(Duration::ZERO),
            ..Limits::default()
        };
        let mut keepalive = Keepalive::new(at(0), true);
        assert_eq!(keepalive.due(at(0), &limits), Due::Nothing);
        assert_eq!(keepalive.deadline(&limits), Some(Instant::at(1)));
    }
}
