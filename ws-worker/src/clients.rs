//! All clients of a loop: a slab with generations, so that an event or a command for a client that left reaches nobody.

use crate::client::Client;
use crate::command::SocketId;
use crate::pages::Pages;
use crate::source::{self, Part};
use crate::timers::Entry;
use mio::Token;

/// Bits of a token that hold the slot; the generation lies above, the part above that.
const SLOT_BITS: u32 = 32;
const GENERATIONS: u32 = 1 << 24;

/// The slab.
#[derive(Default)]
pub(crate) struct Clients {
    slab: Pages<Client>,
    generation: u32,
}

impl Clients {
    /// Adds the client that `make` makes of its slot and generation.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Entry) -> Client) -> Entry {
        self.generation = (self.generation + 1) % GENERATIONS;
        let mut entry = Entry {
            slot: 0,
            generation: self.generation,
        };
        self.slab.insert(|slot| {
            entry.slot = slot;
            make(entry)
        });
        entry
    }

    pub(crate) fn get_mut(&mut self, entry: Entry) -> Option<&mut Client> {
        self.slab
            .get_mut(entry.slot)
            .filter(|client| client.entry == entry)
    }

    pub(crate) fn at(&self, slot: u32) -> Option<&Client> {
        self.slab.get(slot)
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut Client> {
        self.slab.get_mut(slot)
    }

    /// Finds a socket by its id: the slot says where, the key whether it is still the same.
    pub(crate) fn find(&mut self, id: SocketId) -> Option<&mut Client> {
        self.slab
            .get_mut(id.slot)
            .filter(|client| client.key == id.key)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Client> {
        self.slab.remove(slot)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.slab.iter().map(|client| client.entry).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slab.iter()
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
