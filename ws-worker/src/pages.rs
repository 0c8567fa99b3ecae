//! A slab in pages. One that grows by moving would copy all that it holds in one turn, and leave its old place behind; pages
//! stay where they are, and one that nobody needs is given back. Knows not what it holds.

use slab::Slab;

/// Values in a page.
const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;

/// The pages.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Vec<Slab<T>>,
    /// The pages with room, the one to use next at the end.
    roomy: Vec<usize>,
    count: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            roomy: Vec::new(),
            count: 0,
        }
    }
}

/// Returns a slot's page and its place there.
#[inline]
fn split(slot: u32) -> (usize, usize) {
    ((slot >> PAGE_BITS) as usize, slot as usize % PAGE)
}

impl<T> Pages<T> {
    /// Adds the value that `make` makes of its slot.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32) -> T) {
        let number = self.roomy.last().copied().unwrap_or(self.pages.len());
        if number == self.pages.len() {
            self.pages.push(Slab::new());
            self.roomy.push(number);
        }
        let Some(page) = self.pages.get_mut(number) else {
            return; // There is one.
        };
        if page.capacity() == 0 {
            page.reserve_exact(PAGE);
        }
        let vacant = page.vacant_entry();
        let slot = (number << PAGE_BITS | vacant.key()) as u32;
        vacant.insert(make(slot));
        self.count += 1;
        if page.len() == PAGE {
            self.roomy.pop();
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let (page, place) = split(slot);
        self.pages.get(page)?.get(place)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (page, place) = split(slot);
        self.pages.get_mut(page)?.get_mut(place)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let (number, place) = split(slot);
        let page = self.pages.get_mut(number)?;
        let value = page.try_remove(place)?;
        self.count -= 1;
        if page.len() + 1 == PAGE {
            self.roomy.push(number);
        }
        if page.is_empty() && self.roomy.len() > 1 {
            *page = Slab::new(); // There is room elsewhere.
        }
        Some(value)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let pages = self.pages.iter();
        pages.flat_map(|page| page.iter().map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Holds everything that may be asked to what was put in and taken out.
    #[test]
    fn every_slot_holds_what_was_put_there_until_it_is_taken_out() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pages: Pages<u64> = Pages::default();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for step in 0..40_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // It fills, and empties, and fills.
            let grows = (step / 8000) % 2 == 0;
            if (random >> 33) % 10 < if grows { 7 } else { 3 } {
                let mut new = None;
                pages.insert(|slot| {
                    new = Some(slot);
                    step
                });
                assert_eq!(model.insert(new.unwrap(), step), None, "a slot of two");
            } else {
                let slot = (random >> 40) as u32 % 4096;
                assert_eq!(pages.remove(slot), model.remove(&slot));
            }
            assert_eq!(pages.is_empty(), model.is_empty());
        }
        assert!(model.len() > PAGE, "{}", model.len());
        for slot in 0..10_000 {
            assert_eq!(pages.get(slot), model.get(&slot));
            assert_eq!(pages.get_mut(slot), model.get_mut(&slot));
        }
        assert!(pages.iter().eq(model.values()), "in the order of slots");
    }

    #[test]
    fn pages_that_nobody_needs_are_given_back() {
        let mut pages: Pages<u32> = Pages::default();
        for _ in 0..10 * PAGE {
            pages.insert(|slot| slot);
        }
        assert_eq!(pages.pages.len(), 10);
        for slot in 0..10 * PAGE as u32 {
            assert_eq!(pages.remove(slot), Some(slot));
        }
        assert!(pages.is_empty());
        let kept = pages.pages.iter().filter(|page| page.capacity() > 0);
        assert_eq!(kept.count(), 1);
        for _ in 0..10 * PAGE {
            pages.insert(|slot| slot);
        }
        assert_eq!(pages.pages.len(), 10, "their numbers are used again");
        assert!(pages.roomy.is_empty());
    }
}
