//! Hooks in flight to an app, counted for the whole process: threads take permits and hand them on in turn.
//! Knows nothing of what a permit is used for; who waits is told by a mail.

use crate::config::{Config, Target};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The permits of every app, by the apps' numbers.
pub(crate) type AllPermits = Arc<[Arc<Permits>]>;

/// The permits of one app. Taken and given back once a hook, so a lock held for a few instructions is cheap enough.
#[derive(Debug)]
pub(crate) struct Permits(Mutex<State>);

#[derive(Debug)]
struct State {
    /// How many there are.
    limit: usize,
    /// How many are out; more than there are, after a reload that took some away.
    taken: usize,
    /// Threads that found none, each at most once, in the order in which they asked.
    waiting: VecDeque<u8>,
}

impl Permits {
    /// Makes the permits of every app of a configuration; the place is the app's number.
    pub(crate) fn of(config: &Config) -> AllPermits {
        let limits = limits(config).into_iter();
        limits
            .map(|limit| Arc::new(Self::new(limit.unwrap_or(1))))
            .collect()
    }

    /// Carries the permits over to another configuration, where apps have kept their numbers. Also returns the threads that
    /// have got a permit by this, each with the app's number: they are to be told.
    pub(crate) fn follow(old: &[Arc<Self>], config: &Config) -> (AllPermits, Vec<(u8, usize)>) {
        let mut told = Vec::new();
        let limits = limits(config).into_iter().enumerate();
        let mut all: Vec<Arc<Self>> = limits
            .map(|(app, limit)| match (old.get(app), limit) {
                (Some(permits), Some(limit)) => {
                    let threads = permits.resize(limit).into_iter();
                    told.extend(threads.map(|thread| (thread, app)));
                    Arc::clone(permits)
                }
                (Some(permits), None) => Arc::clone(permits),
                (None, limit) => Arc::new(Self::new(limit.unwrap_or(1))),
            })
            .collect();
        all.extend(old.iter().skip(all.len()).map(Arc::clone));
        (all.into(), told)
    }

    fn new(limit: usize) -> Self {
        Self(Mutex::new(State {
            limit,
            taken: 0,
            waiting: VecDeque::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many there are.
    pub(crate) fn limit(&self) -> usize {
        self.state().limit
    }

    /// Takes a permit. Without one the thread is put in line, and gets one by mail when its turn comes.
    pub(crate) fn take(&self, thread: u8) -> bool {
        let mut state = self.state();
        if state.taken < state.limit {
            state.taken += 1;
            return true;
        }
        if !state.waiting.contains(&thread) {
            state.waiting.push_back(thread);
        }
        false
    }

    /// Returns how many nobody has.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        let state = self.state();
        state.limit.saturating_sub(state.taken)
    }

    /// Gives a permit back. One belongs to the returned thread from now on, if one waits: whoever gave it tells it.
    pub(crate) fn give(&self) -> Option<u8> {
        let mut state = self.state();
        state.taken = state.taken.saturating_sub(1);
        state.hand_out()
    }

    /// Changes how many there are; returns the threads that have got one by this. What is out stays out.
    fn resize(&self, limit: usize) -> Vec<u8> {
        let mut state = self.state();
        state.limit = limit;
        std::iter::from_fn(|| state.hand_out()).collect()
    }
}

impl State {
    fn hand_out(&mut self) -> Option<u8> {
        if self.taken >= self.limit {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.taken += 1;
        Some(next)
    }
}

/// Returns the limit of each app that a route has; of apps by the number.
fn limits(config: &Config) -> Vec<Option<usize>> {
    let mut limits: Vec<Option<usize>> = Vec::new();
    // What a reload has taken out of the file comes first: another route's word for the same app holds.
    let (gone, served): (Vec<_>, Vec<_>) = config.routes.iter().partition(|route| route.gone);
    for route in gone.into_iter().chain(served) {
        if let Target::Hooks(hooks) = &route.target {
            if limits.len() <= hooks.app {
                limits.resize(hooks.app + 1, None);
            }
            if let Some(limit) = limits.get_mut(hooks.app) {
                *limit = Some(hooks.concurrency);
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_goes_to_the_thread_that_waits_longest_and_to_nobody_else() {
        let permits = Permits::new(2);
        assert!(permits.take(0) && permits.take(0));
        assert!(!permits.take(0)); // Waits, though it holds two.
        assert!(!permits.take(1));
        assert!(!permits.take(1)); // In line once, however often it asks.
        assert_eq!(permits.give(), Some(0));
        assert!(!permits.take(0)); // What was handed on is not free; back in line, behind the other.
        assert_eq!(permits.give(), Some(1));
        assert_eq!(permits.give(), Some(0));
        assert_eq!(permits.give(), None);
        assert_eq!(permits.give(), None);
        assert!(permits.take(1) && permits.take(0) && !permits.take(1));
    }

    #[test]
    fn permits_that_are_added_go_to_who_waits_and_what_is_taken_away_is_missed_when_it_comes_back()
    {
        let permits = Permits::new(1);
        assert!(permits.take(0));
        assert!(!permits.take(1) && !permits.take(2) && !permits.take(3));
        assert_eq!(permits.resize(3), [1, 2]);
        assert!(permits.resize(1).is_empty());
        assert_eq!(permits.give(), None);
        assert_eq!(permits.give(), None);
        assert_eq!(permits.give(), Some(3));
        assert!(!permits.take(0));
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let permits = Permits::new(3);
        let held = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (permits, held) = (&permits, &held);
                scope.spawn(move || {
                    use std::sync::atomic::Ordering::SeqCst;
                    for _ in 0..1000 {
                        if permits.take(thread) {
                            assert!(held.fetch_add(1, SeqCst) < 3);
                            held.fetch_sub(1, SeqCst);
                            // Handed on: this test's threads do not read mail, so it comes straight back.
                            while permits.give().is_some() {}
                        }
                    }
                });
            }
        });
        assert_eq!(held.into_inner(), 0);
    }
}
