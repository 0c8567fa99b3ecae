//! The journal: which closed hooks are owed, in a file that outlives the worker. Loops hand in records and never wait for a
//! disk; one thread writes, and says what is written. Knows hooks only as what it is given to remember.

mod book;
mod disk;
mod keeper;
mod record;
mod writer;

pub(crate) use book::Entry;
pub(crate) use disk::Disk;
#[cfg(test)]
pub(crate) use disk::WriteAll;
pub(crate) use keeper::Keeper;
pub(crate) use record::{End, Opening, Record, Telling, What};
pub(crate) use writer::{Writer, Written};

use crate::command::SocketId;
use book::Replay;
use disk::JournalFile;
use record::NotOurs;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::mpsc::Sender;

/// Records of a thread that are not written yet; with more, the disk is taken for stalled. Only openings are refused then:
/// everything else waits for its own record, so a socket has no more than a few.
const MAX_UNWRITTEN: u64 = 8192;

/// A closed that an earlier life left.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    pub(crate) id: SocketId,
    /// As it stood; of [`Telling`], what may have been heard before this life.
    pub(crate) entry: Entry,
}

/// Why there is no journal to write to.
#[derive(Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process writes to it.
    Busy,
    /// Another program's file lies there.
    Foreign,
    /// It was written by a version of the worker that is not known here.
    Version(u16),
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another worker has it; give each a journal of its own"),
            Self::Foreign => f.write_str("it is no journal; name another file, or remove it"),
            Self::Version(version) => write!(
                f,
                "it has version {version}, which is not known here; start the worker that wrote it, and stop it by SIGTERM"
            ),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<NotOurs> for JournalError {
    fn from(fault: NotOurs) -> Self {
        match fault {
            NotOurs::Foreign => Self::Foreign,
            NotOurs::Version(version) => Self::Version(version),
        }
    }
}

/// Opens a journal and reads what is owed. Those that were open have ended `lost`.
///
/// # Errors
/// The operator's: another worker has it, or it is something else. The system's: it cannot be read or written.
pub(crate) fn open(
    path: &Path,
    lost: &End,
) -> Result<(Keeper<JournalFile>, Vec<Owed>), JournalError> {
    let (file, bytes) = JournalFile::open(path).map_err(|error| {
        if error.kind() == ErrorKind::ResourceBusy {
            JournalError::Busy
        } else {
            JournalError::System(error)
        }
    })?;
    Ok(take_over(file, &bytes, lost)?)
}

/// Reads what is owed from what an earlier life left on a disk.
///
/// # Errors
/// The operator's: it is something else.
pub(crate) fn take_over<D: Disk>(
    mut file: D,
    bytes: &[u8],
    lost: &End,
) -> Result<(Keeper<D>, Vec<Owed>), NotOurs> {
    let Replay {
        mut book,
        good,
        chain,
    } = book::replay(bytes)?;
    if good < bytes.len() {
        tracing::warn!(
            good,
            damaged = bytes.len() - good,
            "the journal is damaged or was cut short: what its last bytes said is lost"
        );
    }
    file.keep(good);
    let owed = adopt(&mut book, lost);
    let mut keeper = Keeper::new(book, file, chain);
    // What was owed is owed now by this life, and is told with a higher number of attempts than any before.
    if let Err(error) = keeper.rewrite() {
        tracing::warn!(%error, "the journal cannot be written yet");
        owed.iter().for_each(|owed| keeper.changed(owed.id));
    }
    if !owed.is_empty() {
        tracing::info!(owed = owed.len(), "an earlier life left closed hooks");
    }
    Ok((keeper, owed))
}

/// Ends who is still open, and counts the attempt that this life begins with.
fn adopt(book: &mut book::Book, lost: &End) -> Vec<Owed> {
    let mut owed: Vec<Owed> = book
        .iter()
        .map(|(id, entry)| Owed {
            id,
            entry: entry.clone(),
        })
        .collect();
    for Owed { id, entry } in &mut owed {
        let id = *id;
        if entry.end.is_none() {
            entry.end = Some(lost.clone());
            let what = What::Ended(lost.clone());
            book.apply(Record { id, what });
        }
        let what = What::Telling(Telling {
            attempts: entry.telling.attempts.saturating_add(1),
            ..entry.telling
        });
        book.apply(Record { id, what });
    }
    owed
}

/// A thread's end of the journal.
#[derive(Debug)]
pub(crate) struct Pen {
    thread: u8,
    /// Of the last record.
    last: u64,
    /// All up to this one were written, or could not be.
    answered: u64,
    submissions: Sender<Submission>,
}

/// A record on its way to the file.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) thread: u8,
    pub(crate) ticket: u64,
    pub(crate) record: Record,
}

impl Pen {
    /// Makes a thread's end of whatever takes its records.
    pub(crate) fn new(thread: u8, submissions: Sender<Submission>) -> Self {
        Self {
            thread,
            last: 0,
            answered: 0,
            submissions,
        }
    }

    /// Makes a thread's end of a journal that a test writes, or does not.
    #[cfg(test)]
    pub(crate) fn test() -> (Self, std::sync::mpsc::Receiver<Submission>) {
        let (submissions, receiver) = std::sync::mpsc::channel();
        (Self::new(0, submissions), receiver)
    }

    /// Hands in a record; returns its ticket, which [`Written`] speaks of.
    pub(crate) fn write(&mut self, id: SocketId, what: What) -> u64 {
        self.last += 1;
        let submission = Submission {
            thread: self.thread,
            ticket: self.last,
            record: Record { id, what },
        };
        // Without a writer nothing is ever answered, and who waits for it has a deadline.
        let _ = self.submissions.send(submission);
        self.last
    }

    /// Returns whether so much is not written that the disk must have stalled.
    pub(crate) fn is_stalled(&self) -> bool {
        self.last - self.answered > MAX_UNWRITTEN
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, written: &Written) {
        self.answered = self.answered.max(written.upto);
    }

    /// Returns whether a ticket was answered.
    pub(crate) fn has_answered(&self, ticket: u64) -> bool {
        ticket <= self.answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> End {
        End {
            clean: false,
            code: Some(1006),
            reason: "worker lost".into(),
            by: 2,
        }
    }

    fn id(number: u8) -> SocketId {
        SocketId::from_bytes([number; 24])
    }

    fn opening(number: u8) -> Record {
        let what = What::Opening(Opening {
            route: "/chat".into(),
            text: vec![number; 30].into(),
            path: 1,
            query: 2,
        });
        let id = id(number);
        Record { id, what }
    }

    /// Lives, and dies without a word.
    fn live(path: &Path, records: Vec<Record>) -> Vec<Owed> {
        let (mut keeper, mut owed) = open(path, &lost()).unwrap();
        keeper.write(records).unwrap();
        owed.sort_by_key(|owed| owed.id.to_bytes());
        owed
    }

    #[test]
    fn what_one_life_owed_the_next_one_knows_until_it_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let end = End {
            clean: true,
            code: Some(1000),
            reason: "bye".into(),
            by: 0,
        };
        let told = Telling {
            attempts: 3,
            undelivered: Some(2),
        };
        let about = |number, what| Record {
            id: id(number),
            what,
        };
        assert!(live(&path, vec![opening(1), opening(2), opening(3)]).is_empty());
        let more = vec![
            about(2, What::Settled),
            about(3, What::Ended(end.clone())),
            about(3, What::Telling(told)),
        ];
        let owed = live(&path, more);
        let ends: Vec<_> = owed.iter().map(|owed| owed.entry.end.clone()).collect();
        assert_eq!(ends, [Some(lost()), Some(lost()), Some(lost())]);
        let owed = live(&path, vec![about(1, What::Settled)]);
        let [first, second] = owed.as_slice() else {
            panic!("{owed:?}");
        };
        assert_eq!((first.id, second.id), (id(1), id(3)));
        assert_eq!(first.entry.telling.attempts, 1); // The life before may have told it once.
        assert_eq!(second.entry.end, Some(end));
        assert_eq!(second.entry.telling, told);
        let owed = live(&path, Vec::new());
        let [only] = owed.as_slice() else {
            panic!("{owed:?}");
        };
        assert_eq!(only.entry.telling.attempts, 4);
        assert_eq!(only.entry.telling.undelivered, Some(2));
    }

    #[test]
    fn another_programs_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        std::fs::write(&path, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
        assert!(matches!(open(&path, &lost()), Err(JournalError::Foreign)));
        assert_eq!(
            std::fs::read(&path).unwrap(),
            b"root:x:0:0:root:/root:/bin/bash\n"
        );
    }
}
