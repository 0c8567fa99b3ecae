//! What happens when the memory budget is nearly used up: nobody comes in, then nobody is read, and if that lasts, who holds most
//! gives way.

use super::{STARVED_TICK, Worker};
use crate::client::{Drop, Verdict};
use crate::source::Turn;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ws_proto::Instant;

/// How long everybody may be stopped before somebody gives way, and for how long after that the next one follows at once:
/// a budget that fills up again is not waited for again.
const STARVED_LIMIT: Duration = Duration::from_millis(500);
const PRESSED_FOR: Duration = Duration::from_secs(5);

/// New clients are refused for so long because of what others hold; then those make room.
const DOOR_LIMIT: Duration = Duration::from_millis(500);
/// Refusals that are farther apart are no siege: each is the first again.
const DOOR_MEMORY: Duration = Duration::from_secs(10);
/// How many give way at most for one who is refused.
const MADE_WAY: usize = 8;

/// Handshakes that are refused for want of memory, as this thread has noticed.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    seen: u64,
    /// Of the latest row of them, the first and the last.
    row: Option<(Instant, Instant)>,
}

impl TurnedAway {
    /// Takes note of how many there were; returns whether somebody has to make room for the one who has just come.
    fn note(&mut self, now: Instant, count: u64) -> bool {
        if std::mem::replace(&mut self.seen, count) == count {
            return false;
        }
        let row = self.row.filter(|(_, last)| *last + DOOR_MEMORY > now);
        let first = row.map_or(now, |(first, _)| first);
        self.row = Some((first, now));
        first + DOOR_LIMIT <= now
    }
}

impl Worker {
    /// Has those give way who hold most, where new clients are refused for longer than a moment: what an app that hangs leaves
    /// in the queues of a few would else keep all others out until `give_up`.
    #[inline(never)]
    pub(super) fn watch_the_door(&mut self) {
        let count = self.process.turned_away.load(Ordering::Relaxed);
        if !self.turned_away.note(self.common.now, count) {
            return;
        }
        for _ in 0..MADE_WAY {
            if !self.process.is_short_of_memory() {
                break;
            }
            self.give_way();
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_for_who_comes_half_a_second_after_the_first_refusal() {
        let mut door = TurnedAway::default();
        assert!(!door.note(Instant::at(0), 0));
        assert!(!door.note(Instant::at(1000), 1));
        assert!(!door.note(Instant::at(1499), 2));
        assert!(!door.note(Instant::at(1600), 2), "nobody came");
        assert!(door.note(Instant::at(1600), 3));
        assert!(door.note(Instant::at(1601), 5));
        // After a while without any it begins anew.
        assert!(!door.note(Instant::at(11_700), 6));
        assert!(door.note(Instant::at(12_200), 7));
    }
}
