//! What happens when the memory budget is nearly used up: nobody is read, and if that lasts, who holds most gives way.

use super::{STARVED_TICK, Worker};
use crate::client::{Drop, Verdict};
use crate::source::Turn;
use std::time::Duration;

/// How long everybody may be stopped before somebody gives way, and for how long after that the next one follows at once:
/// a budget that fills up again is not waited for again.
const STARVED_LIMIT: Duration = Duration::from_millis(500);
const PRESSED_FOR: Duration = Duration::from_secs(5);

impl Worker {
    /// Stops all reading while the budget is nearly used up. Who holds most of it gives way if that lasts.
    pub(super) fn watch_memory(&mut self) {
        if !self.process.is_out_of_memory() {
            if self.common.starved_since.take().is_some() {
                for entry in self.clients.entries() {
                    self.serve(entry);
                }
            }
            return;
        }
        let since = *self.common.starved_since.get_or_insert(self.common.now);
        let is_pressed = self
            .gave_way
            .is_some_and(|at| at + PRESSED_FOR > self.common.now);
        let limit = if is_pressed {
            STARVED_TICK
        } else {
            STARVED_LIMIT
        };
        if since + limit <= self.common.now {
            self.gave_way = Some(self.common.now);
            self.give_way();
            self.common.starved_since = Some(since + STARVED_TICK); // One a tick: it may have been enough.
        }
    }

    /// Has the one go who holds most: unfinished messages may hold it all, and nobody is read who could finish one; or
    /// messages that an app does not take. Whoever holds less than everybody might is not to blame.
    pub(super) fn give_way(&mut self) {
        let bounds = &self.process.config.bounds;
        let fair = bounds.memory / bounds.max_connections.max(1) / 2;
        let client = self
            .clients
            .iter()
            .map(|client| (client.held(), client.entry))
            .filter(|(held, _)| *held > fair)
            .max_by_key(|(held, _)| *held);
        let queue = self
            .hooks
            .borrow()
            .longest_queue()
            .filter(|(held, _)| *held > fair);
        match (client, queue) {
            (Some((held, entry)), queue) if queue.is_none_or(|(queued, _)| queued <= held) => {
                self.step(entry, |client, cx| {
                    client.drop_now(cx, Drop::Starved);
                    ((), Verdict::Leaves)
                });
            }
            (_, Some((_, key))) => self.hooks.borrow_mut().give_way(&mut turn!(self), key),
            (_, None) => {}
        }
    }
}
