//! Keeps the file up to date with the book, whatever the disk does: appends, catches up after failures, writes anew what
//! has grown too long. Knows no thread, no time and no app.

use crate::command::SocketId;
use crate::journal::book::Book;
use crate::journal::disk::Disk;
use crate::journal::record::{HEAD, Record, What, encode, head};
use std::collections::BTreeSet;
use std::io;

/// A file shorter than this is never written anew; 64 KiB.
const SMALL: usize = 64 * 1024;
/// The file may grow to so many times what it says.
const SLACK: usize = 4;
/// Bytes handed to the disk at once while a file is written anew.
const PIECE: usize = 64 * 1024;

/// The book and its file.
#[derive(Debug)]
pub(crate) struct Keeper<D> {
    pub(crate) book: Book,
    disk: D,
    chain: u32,
    /// Sockets of which the file does not say what the book says: a write failed.
    behind: BTreeSet<SocketId>,
    /// The file has no head.
    headless: bool,
    /// After a failure the file is not written anew before it is so long.
    patience: usize,
}

impl<D: Disk> Keeper<D> {
    /// Takes over a file and what was read of it: so many good bytes, with this checksum.
    pub(crate) fn new(book: Book, disk: D, chain: u32) -> Self {
        Self {
            book,
            chain,
            behind: BTreeSet::new(),
            headless: disk.len() < HEAD,
            patience: 0,
            disk,
        }
    }

    /// Writes records. Those of the kind [`What::Opening`] are forgotten if they cannot be written; everything else is kept
    /// in mind and written with the next that can.
    ///
    /// # Errors
    /// The system's: nothing of it is in the file.
    pub(crate) fn write(&mut self, records: Vec<Record>) -> io::Result<()> {
        let (mut bytes, mut chain) = (Vec::new(), self.chain);
        if self.headless {
            bytes.extend_from_slice(&head());
        }
        for id in &self.behind {
            match self.book.get(*id) {
                Some(entry) => entry.encode_later(*id, &mut chain, &mut bytes),
                None => encode(*id, &What::Settled, &mut chain, &mut bytes),
            }
        }
        for record in &records {
            record.encode(&mut chain, &mut bytes);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let result = self.disk.append(&bytes);
        match &result {
            Ok(()) => {
                self.chain = chain;
                self.headless = false;
                self.behind = BTreeSet::new();
                records
                    .into_iter()
                    .for_each(|record| self.book.apply(record));
            }
            Err(_) => self.fall_behind(records),
        }
        result
    }

    fn fall_behind(&mut self, records: Vec<Record>) {
        let mut unopened = BTreeSet::new();
        for record in records {
            if let What::Opening(_) = record.what {
                unopened.insert(record.id);
            } else if !unopened.contains(&record.id) {
                // Who is not in the book was settled before, and has nothing more to say.
                if self.book.get(record.id).is_some() {
                    self.behind.insert(record.id);
                }
                self.book.apply(record);
            }
        }
    }

    /// Writes the file anew if it is much longer than it need be. Costs what is owed, however long the file is.
    ///
    /// # Errors
    /// The system's: the old file stays, and is tried again when it has grown by a quarter.
    pub(crate) fn tidy(&mut self) -> io::Result<()> {
        let length = self.disk.len();
        if length < SMALL.max(self.patience) || length < self.book.size().saturating_mul(SLACK) {
            return Ok(());
        }
        self.rewrite()
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// The system's: the old file stays as it was.
    pub(crate) fn rewrite(&mut self) -> io::Result<()> {
        let (book, mut chain) = (&self.book, 0);
        let result = self.disk.replace(&mut |out| {
            chain = 0;
            let mut piece = head().to_vec();
            for (id, entry) in book.iter() {
                entry.encode(id, &mut chain, &mut piece);
                if piece.len() >= PIECE {
                    out.write_all(&piece)?;
                    piece.clear();
                }
            }
            out.write_all(&piece)
        });
        match result {
            Ok(()) => {
                self.chain = chain;
                self.headless = false;
                self.behind = BTreeSet::new();
                self.patience = 0;
                Ok(())
            }
            Err(error) => {
                let length = self.disk.len();
                self.patience = length.saturating_add(length / 4);
                Err(error)
            }
        }
    }

    /// Says that the book was changed without the file.
    pub(crate) fn changed(&mut self, id: SocketId) {
        self.behind.insert(id);
    }

    /// Returns whether something waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.disk.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::book::{Entry, replay};
    use crate::journal::disk::WriteAll;
    use crate::journal::record::{End, Opening, Telling};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::io::ErrorKind;

    /// A disk that fails when it is told to, and says how often it wrote all.
    #[derive(Debug, Default)]
    struct Fake {
        bytes: Vec<u8>,
        is_full: bool,
        replaced: usize,
    }

    impl Disk for Fake {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(bytes);
            Ok(())
        }

        fn replace(&mut self, write: &mut WriteAll<'_>) -> io::Result<()> {
            let mut bytes = Vec::new();
            write(&mut bytes)?;
            if self.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            self.replaced += 1;
            self.bytes = bytes;
            Ok(())
        }

        fn keep(&mut self, good: usize) {
            self.bytes.truncate(good);
        }

        fn len(&self) -> usize {
            self.bytes.len()
        }
    }

    fn id(number: u8) -> SocketId {
        SocketId::from_bytes([number; 24])
    }

    fn opening(number: u8) -> Record {
        let what = What::Opening(Opening {
            route: "/chat".into(),
            text: vec![number; 300].into(),
            path: 1,
            query: 2,
        });
        let id = id(number);
        Record { id, what }
    }

    fn about(number: u8, what: What) -> Record {
        let id = id(number);
        Record { id, what }
    }

    fn keeper() -> Keeper<Fake> {
        Keeper::new(Book::default(), Fake::default(), 0)
    }

    fn read(keeper: &Keeper<Fake>) -> Book {
        let replay = replay(&keeper.disk.bytes).unwrap();
        assert_eq!(replay.good, keeper.disk.bytes.len());
        replay.book
    }

    #[test]
    fn a_full_disk_costs_openings_and_nothing_else() {
        let mut keeper = keeper();
        keeper.write(vec![opening(1), opening(2)]).unwrap();
        keeper.disk.is_full = true;
        let lines: Box<[u8]> = b"Ws-Meta-A: b\r\n".as_slice().into();
        let missed = vec![
            opening(3),
            about(1, What::Settled),
            about(2, What::Changed(lines.clone())),
            about(3, What::Settled),
        ];
        assert!(keeper.write(missed).is_err());
        assert!(keeper.is_behind() && keeper.write(Vec::new()).is_err());
        assert_eq!(read(&keeper).len(), 2); // As it was.
        keeper.disk.is_full = false;
        keeper.write(Vec::new()).unwrap();
        assert!(!keeper.is_behind());
        let book = read(&keeper);
        assert_eq!(book.len(), 1);
        assert_eq!(book.get(id(2)).unwrap().lines, lines);
    }

    #[test]
    fn a_file_does_not_grow_without_bound_and_is_not_written_anew_all_the_time() {
        let mut keeper = keeper();
        for number in 0..20 {
            keeper.write(vec![opening(100 + number)]).unwrap();
        }
        for _ in 0..10_000 {
            let records = vec![opening(1), about(1, What::Settled)];
            keeper.write(records).unwrap();
            keeper.tidy().unwrap();
            assert!(keeper.len() < SMALL + 1000);
        }
        // 4 MB went through a file of 64 KiB.
        assert!(
            (50..100).contains(&keeper.disk.replaced),
            "{}",
            keeper.disk.replaced
        );
        assert_eq!(read(&keeper).len(), 20);
    }

    #[test]
    fn a_file_that_cannot_be_written_anew_is_not_tried_at_every_turn() {
        let mut keeper = keeper();
        let mut failures = 0;
        for _ in 0..2_000 {
            keeper.disk.is_full = false;
            keeper
                .write(vec![opening(1), about(1, What::Settled)])
                .unwrap();
            keeper.disk.is_full = true;
            failures += usize::from(keeper.tidy().is_err());
        }
        assert!((2..20).contains(&failures), "{failures}");
        keeper.disk.is_full = false;
        keeper.rewrite().unwrap();
        assert_eq!(keeper.len(), HEAD);
    }

    fn step() -> impl Strategy<Value = (u8, u8, bool, bool)> {
        (0..5u8, 0..6u8, prop::bool::weighted(0.3), any::<bool>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The book of the keeper, and after the disk has recovered its file too, is what it would be if failed openings had
        /// never been tried; at any moment the file says nothing that was not so once.
        #[test]
        fn whatever_the_disk_does_the_file_catches_up(steps in prop::collection::vec(step(), 0..60)) {
            let mut keeper = keeper();
            let mut model: HashMap<SocketId, Entry> = HashMap::new();
            for (number, kind, is_full, tidies) in steps {
                keeper.disk.is_full = is_full;
                let what = match kind {
                    0 | 1 if !model.contains_key(&id(number)) => opening(number).what,
                    0..=2 => What::Changed(vec![kind; kind.into()].into()),
                    3 => What::Ended(End { clean: true, code: Some(1000), reason: "x".into(), by: 1 }),
                    4 => What::Telling(Telling { attempts: 3, undelivered: Some(1) }),
                    _ => What::Settled,
                };
                let result = keeper.write(vec![about(number, what.clone())]);
                prop_assert_eq!(result.is_err(), is_full);
                match (what, model.get_mut(&id(number))) {
                    (What::Opening(opening), _) if !is_full => {
                        let mut book = Book::default();
                        book.apply(about(number, What::Opening(opening)));
                        model.insert(id(number), book.get(id(number)).unwrap().clone());
                    }
                    (What::Changed(lines), Some(entry)) => entry.lines = lines,
                    (What::Ended(end), Some(entry)) => entry.end = Some(end),
                    (What::Telling(telling), Some(entry)) => entry.telling = telling,
                    (What::Settled, Some(_)) => {
                        model.remove(&id(number));
                    }
                    _ => {}
                }
                if tidies {
                    let _ = keeper.rewrite();
                }
                if !is_full {
                    prop_assert_eq!(read(&keeper), Book::default_with(&model));
                }
            }
            keeper.disk.is_full = false;
            keeper.write(Vec::new()).unwrap();
            prop_assert_eq!(&read(&keeper), &keeper.book);
            prop_assert_eq!(read(&keeper), Book::default_with(&model));
        }
    }

    impl Book {
        fn default_with(entries: &HashMap<SocketId, Entry>) -> Self {
            let (mut bytes, mut chain) = (head().to_vec(), 0);
            for (id, entry) in entries {
                entry.encode(*id, &mut chain, &mut bytes);
            }
            replay(&bytes).unwrap().book
        }
    }
}
