//! All clients of a loop: a slab with generations, so that an event or a command for a client that left reaches nobody.

use crate::client::Client;
use crate::command::SocketId;
use crate::source::{self, Part};
use crate::timers::Entry;
use mio::Token;
use slab::Slab;

/// Bits of a token that hold the slot; the generation lies above, the part above that.
const SLOT_BITS: u32 = 32;
const GENERATIONS: u32 = 1 << 24;

/// The slab.
#[derive(Default)]
pub(crate) struct Clients {
    slab: Slab<Client>,
    generation: u32,
}

impl Clients {
    /// Adds the client that `make` makes of its slot and generation.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Entry) -> Client) -> Entry {
        self.generation = (self.generation + 1) % GENERATIONS;
        let vacant = self.slab.vacant_entry();
        let entry = Entry {
            slot: vacant.key() as u32,
            generation: self.generation,
        };
        vacant.insert(make(entry));
        entry
    }

    pub(crate) fn get_mut(&mut self, entry: Entry) -> Option<&mut Client> {
        self.slab
            .get_mut(entry.slot as usize)
            .filter(|client| client.entry == entry)
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Client> {
        self.slab.get(slot as usize)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Client> {
        self.slab.get_mut(slot as usize)
    }

    /// Finds a socket by its id: the slot says where, the key whether it is still the same.
    pub(crate) fn find(&mut self, id: SocketId) -> Option<&mut Client> {
        self.slab
            .get_mut(id.slot as usize)
            .filter(|client| client.key == id.key)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Client> {
        self.slab.try_remove(slot as usize)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.slab.iter().map(|(_, client)| client.entry).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slab.iter().map(|(_, client)| client)
    }
}

/// Makes the token of a client.
pub(crate) fn token(entry: Entry) -> Token {
    source::token(
        Part::Client,
        (entry.generation as usize) << SLOT_BITS | entry.slot as usize,
    )
}

/// Reads it back.
pub(crate) fn entry(number: usize) -> Entry {
    Entry {
        slot: number as u32,
        generation: (number >> SLOT_BITS) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back() {
        let original = Entry {
            slot: u32::MAX,
            generation: GENERATIONS - 1,
        };
        let (part, number) = source::split(token(original));
        assert_eq!((part, entry(number)), (Part::Client, original));
    }
}
