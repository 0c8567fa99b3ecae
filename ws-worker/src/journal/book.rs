//! What the journal's records come to: which sockets' apps are owed a closed, and what it says. Pure; knows neither files
//! nor threads.

use crate::command::SocketId;
use crate::journal::record::{
    BARE, End, HEAD, NotOurs, Opening, Reader, Record, Telling, What, encode, judge,
};
use std::collections::{BTreeMap, btree_map};

/// A socket of which the journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) opening: Opening,
    /// Subprotocol and meta, as header lines.
    pub(crate) lines: Box<[u8]>,
    /// How it ended, if it did.
    pub(crate) end: Option<End>,
    pub(crate) telling: Telling,
}

/// All sockets for which a closed may be owed. In order, so that a file and what follows from it can be told again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    entries: BTreeMap<SocketId, Entry>,
    /// Bytes of the records that would say it all.
    size: usize,
}

/// What a journal says.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) book: Book,
    /// Bytes that were understood. What follows them is damaged.
    pub(crate) good: usize,
    /// The checksum on which the next record builds.
    pub(crate) chain: u32,
}

/// Reads a journal as far as it is not damaged.
///
/// # Errors
/// The operator's: it is something else.
pub(crate) fn replay(bytes: &[u8]) -> Result<Replay, NotOurs> {
    judge(bytes)?;
    let mut reader = Reader::new(bytes.get(HEAD..).unwrap_or_default());
    let mut book = Book::default();
    for record in reader.by_ref() {
        book.apply(record);
    }
    Ok(Replay {
        book,
        good: bytes.len().min(HEAD + reader.read),
        chain: reader.chain,
    })
}

impl Entry {
    fn new(opening: Opening) -> Self {
        Self {
            opening,
            lines: Box::default(),
            end: None,
            telling: Telling::default(),
        }
    }

    /// Calls `each` with everything but the opening and the lines, as far as there is something to say.
    fn later(&self, mut each: impl FnMut(&What)) {
        if let Some(end) = &self.end {
            each(&What::Ended(end.clone()));
        }
        if self.telling != Telling::default() {
            each(&What::Telling(self.telling));
        }
    }

    fn size(&self) -> usize {
        let lines = match self.lines.len() {
            0 => 0,
            length => BARE + length,
        };
        let telling = if self.telling == Telling::default() {
            0
        } else {
            Telling::SIZE
        };
        self.opening.size() + lines + self.end.as_ref().map_or(0, End::size) + telling
    }

    /// Appends the records that say it all.
    pub(crate) fn encode(&self, id: SocketId, chain: &mut u32, out: &mut Vec<u8>) {
        encode(id, &What::Opening(self.opening.clone()), chain, out);
        if !self.lines.is_empty() {
            encode(id, &What::Changed(self.lines.clone()), chain, out);
        }
        self.later(|what| encode(id, what, chain, out));
    }

    /// Likewise, where the opening stands in the file already, and perhaps lines that are no longer so.
    pub(crate) fn encode_later(&self, id: SocketId, chain: &mut u32, out: &mut Vec<u8>) {
        encode(id, &What::Changed(self.lines.clone()), chain, out);
        self.later(|what| encode(id, what, chain, out));
    }
}

impl Book {
    /// Takes note of a record. One about a socket that is not known says nothing.
    pub(crate) fn apply(&mut self, record: Record) {
        let Record { id, what } = record;
        let entry = match (self.entries.entry(id), what) {
            (entry, What::Opening(opening)) => {
                let new = Entry::new(opening);
                self.size += new.size();
                let old = match entry {
                    btree_map::Entry::Occupied(mut entry) => Some(entry.insert(new)),
                    btree_map::Entry::Vacant(entry) => {
                        entry.insert(new);
                        None
                    }
                };
                self.size -= old.map_or(0, |old| old.size());
                return;
            }
            (btree_map::Entry::Occupied(entry), What::Settled) => {
                self.size -= entry.remove().size();
                return;
            }
            (btree_map::Entry::Vacant(_), _) => return,
            (btree_map::Entry::Occupied(entry), what) => (entry.into_mut(), what),
        };
        let (entry, what) = entry;
        let before = entry.size();
        match what {
            What::Changed(lines) => entry.lines = lines,
            What::Ended(end) => entry.end = Some(end),
            What::Telling(telling) => entry.telling = telling,
            What::Opening(_) | What::Settled => {} // Done above.
        }
        self.size = self.size - before + entry.size();
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns how many bytes a journal has that says only this.
    pub(crate) fn size(&self) -> usize {
        HEAD + self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::head;
    use proptest::prelude::*;

    /// A journal as bytes, and what it said after each of its records.
    fn written(records: &[Record]) -> (Vec<u8>, Vec<(usize, Book)>) {
        let (mut bytes, mut chain) = (head().to_vec(), 0);
        let mut states = vec![(0, Book::default()), (bytes.len(), Book::default())];
        for record in records {
            record.encode(&mut chain, &mut bytes);
            let mut book = Book::default();
            let so_far = states.len() - 1;
            records
                .iter()
                .take(so_far)
                .for_each(|record| book.apply(record.clone()));
            states.push((bytes.len(), book));
        }
        (bytes, states)
    }

    fn id(number: u8) -> SocketId {
        SocketId::from_bytes([number; 24])
    }

    fn what() -> impl Strategy<Value = What> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let opening = ("[/a-z]{1,8}", bytes(), any::<u32>(), any::<u32>());
        let end = (any::<bool>(), any::<Option<u16>>(), ".{0,12}", any::<u8>());
        prop_oneof![
            4 => opening.prop_map(|(route, text, path, query)| What::Opening(Opening {
                route: route.into(),
                text: text.into(),
                path,
                query,
            })),
            1 => bytes().prop_map(|lines| What::Changed(lines.into())),
            1 => end.prop_map(|(clean, code, reason, by)| What::Ended(End {
                clean,
                code: code.filter(|code| *code != 0),
                reason: reason.into(),
                by,
            })),
            1 => (any::<u32>(), any::<Option<u32>>()).prop_map(|(attempts, count)| What::Telling(Telling {
                attempts,
                undelivered: count.map(u64::from),
            })),
            2 => Just(What::Settled),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (0..6u8, what()).prop_map(|(number, what)| Record {
            id: id(number),
            what,
        });
        prop::collection::vec(record, 0..12)
    }

    /// What a journal said at the last whole record before a damage at this byte.
    fn before(states: &[(usize, Book)], damaged: usize) -> &(usize, Book) {
        states
            .iter()
            .rev()
            .find(|(end, _)| *end <= damaged)
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_written_is_read(records in records()) {
            let (bytes, states) = written(&records);
            let replay = replay(&bytes).unwrap();
            prop_assert_eq!(replay.good, bytes.len());
            prop_assert_eq!(&replay.book, &states.last().unwrap().1);
        }

        #[test]
        fn a_cut_costs_what_is_behind_it(records in records()) {
            let (bytes, states) = written(&records);
            for cut in 0..bytes.len() {
                let replay = replay(bytes.get(..cut).unwrap()).unwrap();
                let (_, expected) = before(&states, cut);
                prop_assert_eq!(&replay.book, expected);
            }
        }

        #[test]
        fn a_flipped_bit_costs_its_record_and_what_is_behind_it(records in records()) {
            let (bytes, states) = written(&records);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let replay = replay(&damaged).unwrap();
                if bit / 8 < HEAD {
                    prop_assert_eq!(&replay.book, &states.last().unwrap().1); // A head costs nothing.
                    continue;
                }
                let (end, expected) = before(&states, bit / 8);
                prop_assert_eq!(replay.good, *end);
                prop_assert_eq!(&replay.book, expected);
            }
        }

        #[test]
        fn a_book_written_anew_is_as_long_as_it_says_and_reads_the_same(records in records()) {
            let mut book = Book::default();
            records.into_iter().for_each(|record| book.apply(record));
            let (mut bytes, mut chain) = (head().to_vec(), 0);
            for (id, entry) in book.iter() {
                entry.encode(id, &mut chain, &mut bytes);
            }
            prop_assert_eq!(bytes.len(), book.size());
            prop_assert_eq!(replay(&bytes).unwrap().book, book);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), behind_a_head: bool) {
            let mut file = if behind_a_head { head().to_vec() } else { Vec::new() };
            file.extend(bytes);
            if let Ok(replay) = replay(&file) {
                prop_assert!(replay.good <= file.len());
            }
        }

        #[test]
        fn bytes_of_an_older_write_are_not_taken_for_the_next_record(old in records(), new in records()) {
            // A failed write left its bytes; a shorter one was written over them.
            let (longer, _) = written(&old);
            let (shorter, states) = written(&new);
            let mut file = shorter.clone();
            file.extend(longer.get(shorter.len()..).unwrap_or_default());
            let replay = replay(&file).unwrap();
            if old.get(..new.len()) != Some(new.as_slice()) {
                prop_assert_eq!(&replay.book, &states.last().unwrap().1);
            }
        }
    }
}
