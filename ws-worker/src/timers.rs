//! Who wants to be asked when: a wheel of lazy entries. An entry may come early and is asked again; it never comes late
//! by more than a tick. Knows nothing of what a deadline means.

use ws_proto::Instant;

/// Milliseconds a tick.
const TICK: u64 = 16;
/// Ticks the wheel reaches ahead (65 s); what lies further is asked at its edge and armed anew.
const SLOTS: usize = 4096;
/// Entries whose memory an empty wheel keeps.
const KEPT: usize = 1024;

/// A client's slot and generation. The wheel keeps the slot alone: whoever has it next waits for an entry of its own, and is not
/// asked by this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The earliest tick at which a client's entry lies in the wheel; kept in the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Armed(u64);

impl Armed {
    /// No entry.
    pub(crate) const NEVER: Self = Self(u64::MAX);
}

/// An entry, and the one that was put into the same tick before it, by its number.
#[derive(Clone, Copy, Debug)]
struct Link {
    slot: u32,
    before: u32,
}

/// The wheel. An entry takes eight bytes wherever it lies, and a tick without entries four.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The number of each tick's last entry, counted from one: zero, which costs nothing to write, is none.
    last: Vec<u32>,
    entries: Vec<Link>,
    /// The last of the entries that are free, likewise.
    free: u32,
    occupied: [u64; SLOTS / 64],
    /// The next tick that was not handed out.
    next: u64,
    /// The tick of the earliest entry, so that a turn in which nothing is due looks at one number.
    earliest: u64,
}

impl Timers {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last: vec![0; SLOTS],
            entries: Vec::new(),
            free: 0,
            occupied: [0; SLOTS / 64],
            next: now.as_millis() / TICK,
            earliest: u64::MAX,
        }
    }

    /// Makes sure that the entry comes no later than `deadline`; one that has passed counts from `now`. An earlier entry is
    /// left where it is.
    #[inline]
    pub(crate) fn arm(
        &mut self,
        now: Instant,
        entry: Entry,
        armed: &mut Armed,
        deadline: Option<Instant>,
    ) {
        let Some(deadline) = deadline else { return };
        // Rounded up: at its tick a deadline has passed.
        let wanted = deadline.as_millis().div_ceil(TICK);
        if wanted >= armed.0 {
            return;
        }
        // Nobody moves the wheel on while nothing is due: an idle hour would count as lag. What lies in it is not skipped.
        let current = now.as_millis() / TICK;
        self.next = self.next.max(current.min(self.earliest));
        let tick = wanted
            .max(current)
            .clamp(self.next, self.next + SLOTS as u64 - 1);
        if tick >= armed.0 {
            return;
        }
        armed.0 = tick;
        self.earliest = self.earliest.min(tick);
        let slot = tick as usize % SLOTS;
        if let (Some(last), Some(word)) =
            (self.last.get_mut(slot), self.occupied.get_mut(slot / 64))
        {
            let link = Link {
                slot: entry.slot,
                before: *last,
            };
            match self.entries.get_mut(self.free.wrapping_sub(1) as usize) {
                Some(free) => {
                    *last = self.free;
                    self.free = free.before;
                    *free = link;
                }
                None => {
                    self.entries.push(link);
                    *last = self.entries.len() as u32;
                }
            }
            *word |= 1 << (slot % 64);
        }
    }

    /// Returns when the next entry comes.
    #[inline]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (self.earliest != u64::MAX).then(|| Instant::at(self.earliest * TICK))
    }

    /// Searches the rim for the earliest entry.
    fn search(&self) -> u64 {
        let start = self.next as usize % SLOTS;
        let words = self.occupied.len();
        for step in 0..=words {
            let index = (start / 64 + step) % words;
            let mut word = self.occupied.get(index).copied().unwrap_or(0);
            if step == 0 {
                word &= u64::MAX << (start % 64);
            } else if step == words {
                word &= !(u64::MAX << (start % 64));
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return self.next + ahead as u64;
            }
        }
        u64::MAX
    }

    /// Returns whether an entry that was handed out is the one its owner waits for; if so it is armed no longer. Others are
    /// left over from before an earlier one was put in, and armed again they would never end.
    pub(crate) fn disarm(&self, armed: &mut Armed) -> bool {
        let is_out = armed.0 < self.next;
        if is_out {
            *armed = Armed::NEVER;
        }
        is_out
    }

    /// Returns whether there is an entry to [take](Self::take_due).
    #[inline]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.earliest <= now.as_millis() / TICK
    }

    /// Moves the slots of all entries up to `now` into `due`, in their order. Each has left the wheel: its owner asks
    /// [`disarm`](Self::disarm) and arms again.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<u32>) {
        let current = now.as_millis() / TICK;
        while self.earliest <= current {
            let slot = self.earliest as usize % SLOTS;
            if let (Some(last), Some(word)) =
                (self.last.get_mut(slot), self.occupied.get_mut(slot / 64))
            {
                let begin = due.len();
                let mut number = std::mem::take(last);
                while let Some(link) = self.entries.get_mut(number.wrapping_sub(1) as usize) {
                    due.push(link.slot);
                    let before = std::mem::replace(&mut link.before, self.free);
                    self.free = std::mem::replace(&mut number, before);
                }
                due.get_mut(begin..).unwrap_or_default().reverse();
                *word &= !(1 << (slot % 64));
            }
            self.next = self.earliest + 1;
            self.earliest = self.search();
        }
        self.next = self.next.max(current);
        if self.earliest == u64::MAX && self.entries.len() > KEPT {
            self.entries = Vec::new(); // What many needed at once is given back when nobody is left.
            self.free = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32) -> Entry {
        Entry {
            slot,
            generation: 0,
        }
    }

    fn arm(timers: &mut Timers, now: u64, slot: u32, armed: &mut Armed, deadline: u64) {
        let (now, deadline) = (Instant::at(now), Instant::at(deadline));
        timers.arm(now, entry(slot), armed, Some(deadline));
    }

    fn due_at(timers: &mut Timers, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        timers.take_due(Instant::at(now), &mut due);
        due
    }

    #[test]
    fn whatever_comes_and_goes_every_entry_comes_once_and_in_its_order() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut timers = Timers::new(Instant::at(0));
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        let mut most = 0;
        for slot in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let now = u64::from(slot) * 5;
            let deadline = now + (random >> 33) % 3_000;
            arm(&mut timers, now, slot, &mut Armed::NEVER.clone(), deadline);
            waiting.push((deadline.div_ceil(TICK).max(now / TICK), slot));
            most = most.max(waiting.len());
            if slot % 50 == 0 {
                let tick = now / TICK;
                let mut due: Vec<_> = waiting.iter().filter(|(at, _)| *at <= tick).collect();
                due.sort();
                let due: Vec<u32> = due.into_iter().map(|(_, slot)| *slot).collect();
                assert_eq!(due_at(&mut timers, now), due);
                waiting.retain(|(at, _)| *at > tick);
            }
        }
        assert!(timers.entries.len() <= most, "what is free is used again");
        timers.entries.resize(KEPT + 1, Link { slot: 0, before: 0 });
        assert!(!due_at(&mut timers, 1_000_000).is_empty());
        assert_eq!((timers.entries.capacity(), timers.free), (0, 0));
    }

    #[test]
    fn an_entry_never_comes_before_its_tick_and_never_late() {
        let mut timers = Timers::new(Instant::at(1_000));
        let mut armed = Armed::NEVER;
        arm(&mut timers, 1_000, 1, &mut armed, 1_100);
        assert!(due_at(&mut timers, 1_099).is_empty());
        let at = timers.poll_timeout().unwrap();
        assert!(at >= Instant::at(1_100) && at < Instant::at(1_100 + TICK));
        assert_eq!(due_at(&mut timers, at.as_millis()), [1]);
        assert_eq!(timers.poll_timeout(), None);
    }

    #[test]
    fn a_later_deadline_costs_no_entry_and_a_nearer_one_does() {
        let mut timers = Timers::new(Instant::at(0));
        let mut armed = Armed::NEVER;
        arm(&mut timers, 0, 1, &mut armed, 1_000);
        arm(&mut timers, 0, 1, &mut armed, 2_000);
        arm(&mut timers, 0, 1, &mut armed, 500);
        assert_eq!(due_at(&mut timers, 600), [1]);
        assert_eq!(due_at(&mut timers, 3_000), [1]); // The first one, stale.
    }

    #[test]
    fn what_an_earlier_entry_overtook_is_not_armed_again() {
        let mut timers = Timers::new(Instant::at(0));
        let mut armed = Armed::NEVER;
        for round in 0..20 {
            // Every second brings an earlier deadline, which is met, and then the late one again.
            let now = round * 1_000;
            arm(&mut timers, now, 1, &mut armed, now + 30_000);
            arm(&mut timers, now, 1, &mut armed, now + 500);
            let mut due = Vec::new();
            timers.take_due(Instant::at(now + 600), &mut due);
            assert_eq!(due.len(), 1);
            assert!(timers.disarm(&mut armed) && armed == Armed::NEVER);
        }
        arm(&mut timers, 19_600, 1, &mut armed, 60_000);
        let mut genuine = 0;
        for _ in due_at(&mut timers, 59_000) {
            genuine += u32::from(timers.disarm(&mut armed));
        }
        assert_eq!(genuine, 0);
        for _ in due_at(&mut timers, 60_016) {
            genuine += u32::from(timers.disarm(&mut armed));
        }
        assert_eq!((genuine, timers.poll_timeout()), (1, None));
    }

    #[test]
    fn what_lies_beyond_the_wheel_is_asked_at_its_edge() {
        let mut timers = Timers::new(Instant::at(0));
        let mut armed = Armed::NEVER;
        arm(&mut timers, 0, 1, &mut armed, 10_000_000);
        let edge = timers.poll_timeout().unwrap();
        assert!(edge.as_millis() <= SLOTS as u64 * TICK);
        assert_eq!(due_at(&mut timers, edge.as_millis()), [1]);
    }

    #[test]
    fn what_is_armed_after_a_long_idleness_is_not_late() {
        let mut timers = Timers::new(Instant::at(0));
        let now = 3_600_000;
        let mut armed = Armed::NEVER;
        arm(&mut timers, now, 1, &mut armed, 3_610_000);
        let at = timers.poll_timeout().unwrap();
        assert!(at >= Instant::at(3_610_000) && at < Instant::at(3_610_000 + TICK));
        assert!(due_at(&mut timers, 3_609_999).is_empty());
        assert!(!timers.disarm(&mut armed));
        assert_eq!(due_at(&mut timers, at.as_millis()), [1]);
        assert!(timers.disarm(&mut armed));
    }

    #[test]
    fn a_deadline_that_passed_long_ago_comes_at_once_and_counts_from_now() {
        let mut timers = Timers::new(Instant::at(0));
        arm(&mut timers, 0, 1, &mut Armed::NEVER.clone(), 60_000);
        let now = 50_000;
        arm(&mut timers, now, 2, &mut Armed::NEVER.clone(), 10_000);
        let at = timers.poll_timeout().unwrap();
        assert!(at <= Instant::at(now) && at > Instant::at(now - TICK));
        assert_eq!(due_at(&mut timers, now), [2]);
        assert_eq!(due_at(&mut timers, 60_000), [1]);
    }

    #[test]
    fn what_is_due_is_not_skipped_by_what_is_armed_meanwhile() {
        let mut timers = Timers::new(Instant::at(0));
        let (mut due, mut far, mut passed) = (Armed::NEVER, Armed::NEVER, Armed::NEVER);
        arm(&mut timers, 0, 1, &mut due, 30_000);
        // The loop was away for longer than the wheel reaches.
        let now = 3_600_000;
        arm(&mut timers, now, 2, &mut far, 3_700_000);
        arm(&mut timers, now, 3, &mut passed, 1);
        assert_eq!(timers.poll_timeout(), Some(Instant::at(30_000)));
        assert!(!timers.disarm(&mut due));
        assert_eq!(due_at(&mut timers, now), [1, 2, 3]);
        assert!(timers.disarm(&mut due) && timers.disarm(&mut far) && timers.disarm(&mut passed));
        assert_eq!(timers.poll_timeout(), None);
    }

    #[test]
    fn a_deadline_that_has_passed_comes_at_once_and_all_slots_are_found_around_the_rim() {
        let mut timers = Timers::new(Instant::at(SLOTS as u64 * TICK * 3 - 5 * TICK));
        let now = SLOTS as u64 * TICK * 3 - 5 * TICK;
        for (slot, delay) in [
            (1, 0),
            (2, 6 * TICK),
            (3, 70 * TICK),
            (4, (SLOTS as u64 - 1) * TICK),
        ] {
            arm(
                &mut timers,
                now,
                slot,
                &mut Armed::NEVER.clone(),
                now + delay,
            );
        }
        arm(&mut timers, now, 0, &mut Armed::NEVER.clone(), 1);
        let mut seen = Vec::new();
        while let Some(at) = timers.poll_timeout() {
            seen.extend(due_at(&mut timers, at.as_millis()));
        }
        assert_eq!(seen, [1, 0, 2, 3, 4]);
    }
}
