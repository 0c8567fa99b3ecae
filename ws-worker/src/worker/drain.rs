//! The end of a life, spread over time: closes first, then who has not answered, then what apps are still owed.

use super::Worker;
use crate::client::{Drop, Phase, Verdict};
use crate::command::RouteId;
use crate::handler::ClosedBy;
use crate::timers::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ws_proto::{CloseCode, Instant};

/// The end of a life, spread over time.
pub(super) struct Drain {
    pub(super) began: Instant,
    pub(super) until: Instant,
    pub(super) waiting: Vec<Entry>,
    pub(super) total: usize,
    /// Accepted, but their heads are not whole. They may come in for a moment, to be sent away in order: an upgrade refuses
    /// nobody whose request is on its way.
    openings: Vec<Entry>,
}

/// How long that moment is.
const GRACE: Duration = Duration::from_secs(1);

impl Drain {
    fn new(now: Instant, limit: Duration, waiting: Vec<Entry>) -> Self {
        let total = waiting.len();
        Self {
            began: now,
            until: now + limit,
            waiting,
            total,
            openings: Vec::new(),
        }
    }

    /// Takes those whose turn it is: all of them within the first half of the time.
    fn take_due(&mut self, now: Instant) -> Vec<Entry> {
        let half = (self.until.since(self.began).as_millis() / 2).max(1);
        let elapsed = now.since(self.began).as_millis();
        let due = ((self.total as u128 * elapsed).div_ceil(half))
            .max(1)
            .min(self.total as u128) as usize;
        let left = self.total - due;
        self.waiting.split_off(left.min(self.waiting.len()))
    }

    /// Returns when who has not answered its close is dropped, so that there is time left for the apps to hear of it.
    fn last_quarter(&self) -> Instant {
        self.began + self.until.since(self.began) / 4 * 3
    }
}

/// The end of routes that a reload has taken out of the file: as the end of a life, for their sockets alone.
pub(super) struct Leaving {
    routes: Vec<RouteId>,
    drain: Drain,
}

impl Worker {
    pub(super) fn begin_drain(&mut self, at_once: bool) {
        self.finish_spreading(); // What was said before it is heard before it.
        let limit = if at_once {
            Duration::ZERO
        } else {
            self.process.config.drain
        };
        self.process.draining.store(true, Ordering::Relaxed);
        self.acceptors.clear();
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(self.common.now + limit);
            return;
        }
        let (mut openings, mut waiting) = (Vec::new(), Vec::new());
        for entry in self.clients.entries() {
            match self.clients.get_mut(entry).map(|client| &client.phase) {
                Some(Phase::Opening(opening)) if opening.is_evictable() => openings.push(entry),
                Some(Phase::Open(_) | Phase::Opening(_)) => waiting.push(entry),
                Some(Phase::Lingering { .. }) | None => {}
            }
        }
        self.leaving.clear(); // They leave with everybody.
        let mut drain = Drain::new(self.common.now, limit, waiting);
        drain.openings = openings;
        self.drain = Some(drain);
        self.drain_some();
    }

    /// Closes as many sockets as are due: all of them within the first half of the drain.
    pub(super) fn drain_some(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let mut closing = drain.take_due(self.common.now);
        let grace = GRACE.min(drain.until.since(drain.began) / 2);
        if drain.began + grace <= self.common.now {
            closing.append(&mut drain.openings);
        }
        for entry in closing {
            self.send_away(entry, CloseCode::RESTART, "restart");
        }
    }

    fn send_away(&mut self, entry: Entry, code: CloseCode, reason: &str) {
        if self.spreading.is_some() {
            self.catch_up(entry);
        }
        let is_opening = self
            .clients
            .get_mut(entry)
            .is_some_and(|client| matches!(client.phase, Phase::Opening(_)));
        self.step(entry, |client, cx| {
            let verdict = if is_opening {
                client.evict(cx)
            } else {
                client.close(cx, code, reason, ClosedBy::Worker)
            };
            ((), verdict)
        });
    }

    /// Returns whether the drain is over. Who has not answered its close by the last quarter is dropped, so that there
    /// is time left for the apps to hear of it.
    pub(super) fn drained(&mut self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let late = drain.until <= self.common.now;
        if drain.last_quarter() <= self.common.now && !self.clients.is_empty() {
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
            self.hooks.borrow_mut().stop(self.common.now);
        }
        if let Some(control) = &mut self.control
            && (late || idle)
        {
            control.stop();
        }
        late || idle
    }

    /// The sockets of these routes leave: their app is told as of any end, for as long as `drain` says.
    pub(super) fn begin_leaving(&mut self, routes: Vec<RouteId>) {
        if self.drain.is_some() {
            return;
        }
        let waiting = self.sockets_of(&routes);
        let limit = self.process.config.drain;
        let drain = Drain::new(self.common.now, limit, waiting);
        self.leaving.push(Leaving { routes, drain });
        self.leave_some();
    }

    /// Closes those whose turn it is. A route that another reload has brought back is left alone.
    pub(super) fn leave_some(&mut self) {
        for mut leaving in std::mem::take(&mut self.leaving) {
            let config = Arc::clone(&self.process.config);
            leaving.routes.retain(|route| {
                let route = config.routes.get(usize::from(route.0));
                route.is_some_and(|route| route.gone)
            });
            let is_leaving = |route: RouteId| leaving.routes.contains(&route);
            for entry in leaving.drain.take_due(self.common.now) {
                let client = self.clients.get_mut(entry);
                if client.is_some_and(|client| is_leaving(client.route)) {
                    self.send_away(entry, CloseCode::GOING_AWAY, "route removed");
                }
            }
            if leaving.drain.last_quarter() <= self.common.now {
                for entry in self.sockets_of(&leaving.routes) {
                    self.step(entry, |client, cx| {
                        client.drop_now(cx, Drop::Removed);
                        ((), Verdict::Leaves)
                    });
                }
            }
            let is_late = leaving.drain.until <= self.common.now;
            // What has an answer to come is forgotten with it, some ticks later.
            let stays = !is_late || self.hooks.borrow_mut().forget_routes(is_leaving);
            if stays && !leaving.routes.is_empty() {
                self.leaving.push(leaving);
            }
        }
    }

    /// Returns the sockets of these routes, open or about to be.
    fn sockets_of(&mut self, routes: &[RouteId]) -> Vec<Entry> {
        let mut entries = self.clients.entries();
        entries.retain(|entry| {
            let client = self.clients.get_mut(*entry);
            client.is_some_and(|client| {
                let has_route = match &client.phase {
                    Phase::Opening(opening) => opening.was_asked(),
                    Phase::Open(_) => true,
                    Phase::Lingering { .. } => false,
                };
                has_route && routes.contains(&client.route)
            })
        });
        entries
    }
}
