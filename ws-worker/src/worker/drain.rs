//! The end of a life, spread over time: closes first, then who has not answered, then what apps are still owed.

use super::Worker;
use crate::client::{Drop, Phase, Verdict};
use crate::handler::ClosedBy;
use crate::timers::Entry;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ws_proto::{CloseCode, Instant};

/// The end of a life, spread over time.
pub(super) struct Drain {
    pub(super) began: Instant,
    pub(super) until: Instant,
    pub(super) waiting: Vec<Entry>,
    pub(super) total: usize,
}

impl Worker {
    pub(super) fn begin_drain(&mut self, at_once: bool) {
        let limit = if at_once {
            Duration::ZERO
        } else {
            self.process.config.drain
        };
        self.process.draining.store(true, Ordering::Relaxed);
        self.acceptors.clear();
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(self.now + limit);
            return;
        }
        let mut waiting = Vec::new();
        for entry in self.clients.entries() {
            match self.clients.get_mut(entry).map(|client| &client.phase) {
                Some(Phase::Opening(opening)) if opening.is_evictable() => {
                    self.step(entry, |client, cx| ((), client.evict(cx)));
                }
                Some(Phase::Open(_) | Phase::Opening(_)) => waiting.push(entry),
                Some(Phase::Lingering { .. }) | None => {}
            }
        }
        let total = waiting.len();
        self.drain = Some(Drain {
            began: self.now,
            until: self.now + limit,
            waiting,
            total,
        });
        self.drain_some();
    }

    /// Closes as many sockets as are due: all of them within the first half of the drain.
    pub(super) fn drain_some(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let half = (drain.until.since(drain.began).as_millis() / 2).max(1);
        let elapsed = self.now.since(drain.began).as_millis();
        let due = ((drain.total as u128 * elapsed).div_ceil(half))
            .max(1)
            .min(drain.total as u128) as usize;
        let left = drain.total - due;
        let closing = drain.waiting.split_off(left.min(drain.waiting.len()));
        for entry in closing {
            let is_opening = self
                .clients
                .get_mut(entry)
                .is_some_and(|client| matches!(client.phase, Phase::Opening(_)));
            if is_opening {
                self.step(entry, |client, cx| ((), client.evict(cx)));
            } else {
                self.step(entry, |client, cx| {
                    (
                        (),
                        client.close(cx, CloseCode::RESTART, "restart", ClosedBy::Worker),
                    )
                });
            }
        }
    }

    /// Returns whether the drain is over. Who has not answered its close by the last quarter is dropped, so that there
    /// is time left for the apps to hear of it.
    pub(super) fn drained(&mut self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let late = drain.until <= self.now;
        let last_quarter = drain.began + drain.until.since(drain.began) / 4 * 3;
        if last_quarter <= self.now && !self.clients.is_empty() {
            for entry in self.clients.entries() {
                self.step(entry, |client, cx| {
                    client.drop_now(cx, Drop::Draining);
                    ((), Verdict::Leaves)
                });
            }
            self.commands();
        }
        // Whoever holds the control API stays as long as any thread has sockets: it is asked how far things are.
        let is_asked = self.control.is_some() && self.process.counters.connections.get() > 0;
        let idle = self.clients.is_empty() && self.hooks.borrow().is_idle() && !is_asked;
        if late || idle {
            // Even idle it holds connections to apps, whose memory is counted.
            self.hooks.borrow_mut().stop(self.now);
        }
        if let Some(control) = &mut self.control
            && (late || idle)
        {
            control.stop();
        }
        late || idle
    }
}
