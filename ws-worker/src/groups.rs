//! Who on this thread hears what: for every route and group a dense list of slots. Knows no socket.

use std::collections::HashMap;
use std::sync::Arc;

/// A set of slots with a place for each, so that joining and leaving cost the same whatever the size.
#[derive(Debug, Default)]
pub(crate) struct Members(Vec<u32>);

impl Members {
    /// Adds a slot and returns its place, which the client keeps.
    pub(crate) fn join(&mut self, slot: u32) -> u32 {
        self.0.push(slot);
        (self.0.len() - 1) as u32
    }

    /// Takes out the slot at `place`; returns the slot that moved there, whose client must be told.
    pub(crate) fn leave(&mut self, place: u32) -> Option<u32> {
        if place as usize >= self.0.len() {
            return None;
        }
        self.0.swap_remove(place as usize);
        self.0.get(place as usize).copied()
    }

    /// Returns all slots.
    pub(crate) fn slots(&self) -> &[u32] {
        &self.0
    }
}

/// All groups of this thread. Names come from apps, never from clients, and the map's hash is keyed at random.
#[derive(Debug, Default)]
pub(crate) struct Groups(HashMap<Arc<str>, Members>);

impl Groups {
    /// Adds a slot; the place is kept beside the name.
    pub(crate) fn join(&mut self, group: &Arc<str>, slot: u32) -> u32 {
        self.0.entry(Arc::clone(group)).or_default().join(slot)
    }

    /// Takes it out; an empty group is forgotten.
    pub(crate) fn leave(&mut self, group: &str, place: u32) -> Option<u32> {
        let members = self.0.get_mut(group)?;
        let moved = members.leave(place);
        if members.slots().is_empty() {
            self.0.remove(group);
        }
        moved
    }

    /// Returns the slots in a group.
    pub(crate) fn slots(&self, group: &str) -> &[u32] {
        self.0.get(group).map_or(&[], Members::slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_moves_the_last_into_the_gap() {
        let mut members = Members::default();
        let places: Vec<u32> = [10, 20, 30]
            .into_iter()
            .map(|slot| members.join(slot))
            .collect();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!(members.leave(0), Some(30));
        assert_eq!(members.leave(1), None);
        assert_eq!(members.slots(), [30]);
        assert_eq!(members.leave(7), None);
    }

    #[test]
    fn whatever_the_order_every_place_names_its_slot() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut groups = Groups::default();
        let name: Arc<str> = "room".into();
        let mut places: HashMap<u32, u32> = HashMap::new();
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let slot = (random >> 33) as u32 % 40;
            // As the loop does it: who is in leaves, and whoever moved is told its new place.
            if let Some(place) = places.remove(&slot) {
                if let Some(moved) = groups.leave(&name, place) {
                    places.insert(moved, place);
                }
            } else {
                places.insert(slot, groups.join(&name, slot));
            }
            assert_eq!(groups.slots(&name).len(), places.len());
            for (slot, place) in &places {
                assert_eq!(groups.slots(&name).get(*place as usize), Some(slot));
            }
        }
    }

    #[test]
    fn an_empty_group_costs_nothing() {
        let mut groups = Groups::default();
        let name: Arc<str> = "room".into();
        let place = groups.join(&name, 1);
        assert_eq!(groups.slots("room"), [1]);
        groups.leave("room", place);
        assert!(groups.0.is_empty());
    }
}
