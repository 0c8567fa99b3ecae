//! A circuit breaker an app, for the whole process: an app that fails ten times in a row is spared new handshakes, and who asks
//! to come in hears so at once. Time is an argument; what a failure is, is the caller's affair.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ws_proto::Instant;

/// So many failures in a row open it.
const ROW: u32 = 10;
/// The first handshake is let through as a probe after so long; after each probe that fails, twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And never longer: an app that is back is noticed by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An app that fails ten times and answers once, over and over, does not fill the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// The breaker of one app.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Failures in a row: zero while all is well, and then nobody takes the lock.
    row: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// There while it is open.
    open: Option<Open>,
    /// Probes so far.
    probes: u64,
    /// When its opening was last logged.
    said: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    is_said: bool,
    probe: Probe,
    pause: Duration,
}

/// Names a probe: what becomes of an older one says nothing of the one that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeId(u64);

#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// The next handshake from this moment on is one.
    Due(Instant),
    /// One is under way; should nothing be heard of it, another may go at this moment.
    UnderWay(ProbeId, Instant),
}

/// Whether a handshake may go to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may.
    Free,
    /// It may, and shows whether the app is back: exactly one of [`Breaker::succeed`], [`Breaker::fail`] and
    /// [`Breaker::release`] is owed for it.
    Probe(ProbeId),
    /// It is refused at once.
    Refused,
}

/// What a failure or a success has changed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Since when it was open; zero when it opens.
    pub(crate) after: Duration,
    /// Whether it may be logged: at most every ten seconds, but what was opened aloud is closed aloud.
    pub(crate) is_said: bool,
}

impl Probe {
    fn is(&self, id: ProbeId) -> bool {
        matches!(self, Self::UnderWay(own, _) if *own == id)
    }
}

impl Breaker {
    /// Returns whether new handshakes are refused. Any thread may ask.
    pub(crate) fn is_open(&self) -> bool {
        self.failures() >= ROW && self.state().open.is_some()
    }

    /// Returns how often the app has failed since its last answer. Any thread may ask.
    pub(crate) fn failures(&self) -> u32 {
        self.row.load(Ordering::Relaxed)
    }

    /// A handshake has come. As a probe it is forgotten at `give_up_at` at the latest.
    pub(crate) fn admit(&self, now: Instant, give_up_at: Instant) -> Admission {
        if self.failures() < ROW {
            return Admission::Free;
        }
        let mut state = self.state();
        let State { open, probes, .. } = &mut *state;
        let Some(open) = open else {
            return Admission::Free;
        };
        match open.probe {
            Probe::Due(at) | Probe::UnderWay(_, at) if now < at => Admission::Refused,
            Probe::Due(_) | Probe::UnderWay(..) => {
                *probes += 1;
                let id = ProbeId(*probes);
                open.probe = Probe::UnderWay(id, give_up_at);
                Admission::Probe(id)
            }
        }
    }

    /// The app has answered, whatever was asked. Returns what to log if this closed it.
    pub(crate) fn succeed(&self, now: Instant) -> Option<Change> {
        if self.failures() == 0 {
            return None;
        }
        let mut state = self.state();
        self.row.store(0, Ordering::Relaxed);
        let open = state.open.take()?;
        Some(Change {
            after: now.since(open.since),
            is_said: open.is_said,
        })
    }

    /// The app has failed, perhaps a probe. Returns what to log if this opened it.
    pub(crate) fn fail(&self, now: Instant, probe: Option<ProbeId>) -> Option<Change> {
        let mut state = self.state();
        let row = self.failures().saturating_add(1);
        self.row.store(row, Ordering::Relaxed);
        match &mut state.open {
            Some(open) => {
                if probe.is_some_and(|id| open.probe.is(id)) {
                    open.pause = (open.pause * 2).min(LONGEST_PAUSE);
                    open.probe = Probe::Due(now + open.pause);
                }
                None
            }
            None if row < ROW => None,
            None => {
                let is_said = state.said.is_none_or(|said| said + SAID_EVERY <= now);
                if is_said {
                    state.said = Some(now);
                }
                state.open = Some(Open {
                    since: now,
                    is_said,
                    probe: Probe::Due(now + FIRST_PAUSE),
                    pause: FIRST_PAUSE,
                });
                Some(Change {
                    after: Duration::ZERO,
                    is_said,
                })
            }
        }
    }

    /// A probe has ended without a word from the app, and without its fault: the next may go at once.
    pub(crate) fn release(&self, probe: ProbeId) {
        if let Some(open) = &mut self.state().open
            && open.probe.is(probe)
        {
            open.probe = Probe::Due(Instant::at(0));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(milliseconds: u64) -> Instant {
        Instant::at(milliseconds)
    }

    fn opened(breaker: &Breaker, now: u64) -> Change {
        for _ in 1..ROW {
            assert_eq!(breaker.fail(at(now), None), None);
            assert_eq!(breaker.admit(at(now), at(now + MINUTE)), Admission::Free);
        }
        breaker.fail(at(now), None).unwrap()
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_any_answer_closes_it() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            for _ in 1..ROW {
                assert_eq!(breaker.fail(at(0), None), None);
            }
            assert_eq!(breaker.succeed(at(0)), None);
        }
        assert!(opened(&breaker, 0).is_said && breaker.is_open());
        assert_eq!(breaker.admit(at(0), at(MINUTE)), Admission::Refused);
        let change = breaker.succeed(at(700)).unwrap();
        assert_eq!(change.after, Duration::from_millis(700));
        assert!(change.is_said && !breaker.is_open());
        assert_eq!(breaker.admit(at(700), at(MINUTE)), Admission::Free);
        assert_eq!(breaker.succeed(at(701)), None);
    }

    #[track_caller]
    fn probe(breaker: &Breaker, now: u64, give_up_at: u64) -> ProbeId {
        match breaker.admit(at(now), at(give_up_at)) {
            Admission::Probe(id) => id,
            other @ (Admission::Free | Admission::Refused) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refuses(breaker: &Breaker, now: u64) {
        assert_eq!(
            breaker.admit(at(now), at(now + MINUTE)),
            Admission::Refused,
            "{now}"
        );
    }

    #[test]
    fn probes_go_one_at_a_time_with_longer_and_longer_pauses() {
        let breaker = Breaker::default();
        opened(&breaker, 0);
        let mut now = 0;
        for pause in [1000, 2000, 4000, 5000, 5000] {
            refuses(&breaker, now + pause - 1);
            now += pause;
            let id = probe(&breaker, now, now + MINUTE);
            now += 10_000; // However long it takes.
            refuses(&breaker, now);
            breaker.fail(at(now), None); // Of another hook: says nothing of the probe.
            refuses(&breaker, now);
            assert_eq!(breaker.fail(at(now), Some(id)), None);
        }
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_the_next() {
        let breaker = Breaker::default();
        opened(&breaker, 0);
        let first = probe(&breaker, 1000, 11_000);
        breaker.release(first);
        let second = probe(&breaker, 1500, 11_500);
        breaker.release(first); // No longer its to give.
        refuses(&breaker, 11_499);
        probe(&breaker, 11_500, MINUTE);
        breaker.succeed(at(11_600));
        breaker.release(second); // Too late, and harmless.
        assert_eq!(breaker.admit(at(11_600), at(MINUTE)), Admission::Free);
    }

    #[test]
    fn a_probe_of_an_earlier_outage_says_nothing_of_the_one_under_way() {
        let breaker = Breaker::default();
        opened(&breaker, 0);
        let old = probe(&breaker, 1000, MINUTE);
        breaker.succeed(at(2000)); // Of an open socket's message.
        opened(&breaker, 3000);
        let new = probe(&breaker, 4000, MINUTE);
        breaker.fail(at(5000), Some(old));
        breaker.release(old);
        refuses(&breaker, 20_000);
        breaker.fail(at(20_000), Some(new));
        refuses(&breaker, 21_999);
        probe(&breaker, 22_000, MINUTE);
    }

    #[test]
    fn flapping_is_said_every_ten_seconds_and_what_was_said_is_taken_back() {
        let breaker = Breaker::default();
        let mut said = Vec::new();
        for now in 0..30 {
            if opened(&breaker, now * 1000).is_said {
                said.push(now);
                assert!(breaker.succeed(at(now * 1000 + 1)).unwrap().is_said);
            } else {
                assert!(!breaker.succeed(at(now * 1000 + 1)).unwrap().is_said);
            }
        }
        assert_eq!(said, [0, 10, 20]);
    }
}
