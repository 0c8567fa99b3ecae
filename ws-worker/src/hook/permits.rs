//! Hooks in flight to an app, counted for the whole process: threads take permits and hand them on in turn.
//! Knows nothing of what a permit is used for; who waits is told by a mail.

use crate::config::{Config, Target};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The permits of one app. Taken and given back once a hook, so a lock held for a few instructions is cheap enough.
#[derive(Debug)]
pub(crate) struct Permits {
    /// How many there are.
    pub(crate) limit: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Threads that found none, each at most once, in the order in which they asked.
    waiting: VecDeque<u8>,
}

impl Permits {
    /// Makes the permits of every app of a configuration; the place is the app's number.
    pub(crate) fn of(config: &Config) -> Arc<[Self]> {
        let mut limits: Vec<usize> = Vec::new();
        for route in &config.routes {
            if let Target::Hooks(hooks) = &route.target {
                if limits.len() <= hooks.app {
                    limits.resize(hooks.app + 1, 1);
                }
                if let Some(limit) = limits.get_mut(hooks.app) {
                    *limit = (*limit).max(hooks.concurrency);
                }
            }
        }
        limits.into_iter().map(Self::new).collect()
    }

    fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State {
                free: limit,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Takes a permit. Without one the thread is put in line, and gets one by mail when its turn comes.
    pub(crate) fn take(&self, thread: u8) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.free > 0 {
            state.free -= 1;
            return true;
        }
        if !state.waiting.contains(&thread) {
            state.waiting.push_back(thread);
        }
        false
    }

    /// Gives a permit back. It belongs to the returned thread from now on, if one waits: whoever gave it tells it.
    pub(crate) fn give(&self) -> Option<u8> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.free += 1;
        }
        next
    }
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
