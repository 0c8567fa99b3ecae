//! The thread that writes the journal, so that no loop waits for a disk: it takes what lies there, writes it at once, and
//! tells the loops. Knows neither the format nor what a record means.

use super::disk::JournalFile;
use super::keeper::Keeper;
use super::{JournalError, Owed, Pen, Submission, open};
use crate::journal::record::End;
use crate::mailbox::{Mail, Mailbox};
use crate::process::Process;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use ws_proto::Instant;

/// Records that are written together at most.
const BATCH: usize = 1024;
/// After a failure, how often it is tried again where nobody asks.
const RETRY: Duration = Duration::from_secs(1);
/// How often the log says that nothing can be written.
const COMPLAINT: Duration = Duration::from_secs(60);

/// What became of a thread's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// All up to this ticket are in the file,
    pub(crate) upto: u64,
    /// but for these, which could not be written.
    pub(crate) failed: Vec<u64>,
}

/// A journal that is open and not yet written by a thread.
#[derive(Debug)]
pub(crate) struct Writer {
    keeper: Keeper<JournalFile>,
    sender: Sender<Submission>,
    receiver: Receiver<Submission>,
}

impl Writer {
    /// Opens a journal; returns what is owed as well.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) fn open(path: &Path, lost: &End) -> Result<(Self, Vec<Owed>), JournalError> {
        let (keeper, owed) = open(path, lost)?;
        let (sender, receiver) = std::sync::mpsc::channel();
        let writer = Self {
            keeper,
            sender,
            receiver,
        };
        Ok((writer, owed))
    }

    /// Returns a thread's end of it.
    pub(crate) fn pen(&self, thread: u8) -> Pen {
        Pen::new(thread, self.sender.clone())
    }

    /// Writes until every pen is gone, then leaves a file that says only what is still owed.
    pub(crate) fn run(self, process: &Process, mailboxes: &Arc<[Mailbox]>) {
        let Self {
            mut keeper,
            sender,
            receiver,
        } = self;
        drop(sender);
        let mut log = Log {
            process,
            failing_since: None,
            quiet_until: Instant::at(0),
        };
        loop {
            let wait = if keeper.is_behind() {
                receiver.recv_timeout(RETRY)
            } else {
                receiver.recv().map_err(RecvTimeoutError::from)
            };
            let first = match wait {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let rest = std::iter::from_fn(|| receiver.try_recv().ok());
            let (mut records, mut answers) = (Vec::new(), vec![None; mailboxes.len()]);
            let mut tickets = Vec::new();
            for submission in first.into_iter().chain(rest).take(BATCH) {
                tickets.push((submission.thread, submission.ticket));
                records.push(submission.record);
            }
            let result = keeper.write(records);
            log.note(&result);
            for (thread, ticket) in tickets {
                if let Some(answer) = answers.get_mut(usize::from(thread)) {
                    let answer = answer.get_or_insert_with(Written::default);
                    answer.upto = ticket;
                    if result.is_err() {
                        answer.failed.push(ticket);
                    }
                }
            }
            for (mailbox, answer) in mailboxes.iter().zip(answers) {
                if let Some(answer) = answer {
                    mailbox.post(Mail::Written(answer));
                }
            }
            if result.is_ok() {
                let result = keeper.tidy();
                if let Err(error) = result {
                    log.complain(&error);
                }
            }
        }
        if let Err(error) = keeper.rewrite() {
            log.complain(&error);
        }
        if keeper.book.len() > 0 {
            tracing::info!(owed = keeper.book.len(), "closed hooks stay in the journal");
        }
    }
}

/// What is counted and said about a disk that does not do as it should.
struct Log<'a> {
    process: &'a Process,
    failing_since: Option<Instant>,
    quiet_until: Instant,
}

impl Log<'_> {
    fn note(&mut self, result: &io::Result<()>) {
        let now = self.process.clock.now();
        match (result, self.failing_since) {
            (Ok(()), None) => {}
            (Ok(()), Some(since)) => {
                self.failing_since = None;
                let seconds = now.since(since).as_secs();
                tracing::info!(seconds, "the journal can be written again");
            }
            (Err(error), since) => {
                self.failing_since = Some(since.unwrap_or(now));
                self.complain(error);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        let now = self.process.clock.now();
        self.process.counters.journal_errors.one();
        if self.quiet_until <= now {
            self.quiet_until = now + COMPLAINT;
            tracing::warn!(%error, "the journal cannot be written; said once a minute");
        }
    }
}
