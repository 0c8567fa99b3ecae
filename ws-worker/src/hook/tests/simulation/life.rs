//! A life of the worker in a simulation: its threads and its journal, how it ends, and how the next one begins with what the file
//! says. The file is bytes in memory: what was written survives a kill, as the kernel's pages do.

use super::file::Leaving;
use super::*;
use crate::config::Config;
use crate::hook::member::Key;
use crate::journal::{self, Disk, Keeper, Owed, Pen, Submission, WriteAll, Written};
use crate::mailbox::Reload;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Whose attempt it is, at which hook, and which.
pub(super) type Attempt = (Key, u64, u32);

/// One thread of the worker.
pub(super) struct Thread {
    pub(super) pool: Rc<RefCell<Pool>>,
    /// The process as it knows it, and what answers on each route.
    pub(super) process: Arc<Process>,
    pub(super) handlers: Vec<HookHandler>,
    pub(super) router: Router,
    pub(super) inbox: Inbox,
    pub(super) poll: Poll,
    pub(super) scratch: Vec<u8>,
    /// It does something else until then.
    pub(super) busy_until: Instant,
    /// What it is told in its next turn.
    pub(super) edges: Vec<(usize, Readiness)>,
    /// The next configuration, and sockets of routes that are gone.
    pub(super) coming: Option<Box<Reload>>,
    /// When it came to the one it has.
    pub(super) came_at: Instant,
    pub(super) leaving: Vec<Leaving>,
    /// Attempts under way, by their connection, and the rules by which they were begun.
    pub(super) attempts: HashMap<usize, (Attempt, Rc<Endpoint>)>,
}

impl Thread {
    /// Returns when it has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let leaving = self.leaving.iter().map(Leaving::next).min();
        let pool = self.pool.borrow().poll_timeout();
        leaving.into_iter().chain(pool).min()
    }
}

/// A file that outlives the worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Paper {
    bytes: Rc<RefCell<Vec<u8>>>,
    pub(super) is_full: Rc<Cell<bool>>,
}

impl Disk for Paper {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.get() {
            return Err(ErrorKind::StorageFull.into());
        }
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn replace(&mut self, write: &mut WriteAll<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        if self.is_full.get() {
            return Err(ErrorKind::StorageFull.into());
        }
        *self.bytes.borrow_mut() = bytes;
        Ok(())
    }

    fn keep(&mut self, good: usize) {
        self.bytes.borrow_mut().truncate(good);
    }

    fn len(&self) -> usize {
        self.bytes.borrow().len()
    }
}

/// What the journal's own thread has.
pub(super) struct Journal {
    pub(super) paper: Paper,
    keeper: Keeper<Paper>,
    sender: Sender<Submission>,
    receiver: Receiver<Submission>,
    /// Handed in, and not yet written.
    pending: VecDeque<Submission>,
    is_awaited: bool,
    /// It could not be written at some time, or not while anybody waited: then hooks went on without it.
    pub(super) has_failed: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self::read(Paper::default()).0
    }
}

impl Journal {
    /// Begins a life with what the paper says.
    fn read(paper: Paper) -> (Self, Vec<Owed>) {
        let bytes = paper.bytes.borrow().clone();
        let lost = lost();
        let (keeper, owed) = journal::take_over(paper.clone(), &bytes, &lost).unwrap();
        let (sender, receiver) = channel();
        let journal = Self {
            paper,
            keeper,
            sender,
            receiver,
            pending: VecDeque::new(),
            is_awaited: false,
            has_failed: false,
        };
        (journal, owed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && !self.keeper.is_behind()
    }

    /// Returns how many sockets it knows of.
    pub(super) fn owed(&self) -> usize {
        self.keeper.book.len()
    }

    /// Writes so many records, and tells the threads. Returns what is left.
    pub(super) fn write(&mut self, count: usize, threads: &[Thread]) -> &VecDeque<Submission> {
        self.pending.extend(self.receiver.try_iter());
        let batch: Vec<_> = self
            .pending
            .drain(..count.min(self.pending.len()))
            .collect();
        let tickets: Vec<_> = batch.iter().map(|one| (one.thread, one.ticket)).collect();
        let records = batch.into_iter().map(|one| one.record).collect();
        let result = self.keeper.write(records);
        self.has_failed |= result.is_err();
        let mut answers: BTreeMap<u8, Written> = BTreeMap::new();
        for (thread, ticket) in tickets {
            let answer = answers.entry(thread).or_default();
            answer.upto = ticket;
            if result.is_err() {
                answer.failed.push(ticket);
            }
        }
        for (thread, answer) in answers {
            if let Some(thread) = threads.get(usize::from(thread)) {
                let mailbox = &thread.router.mailboxes[usize::from(thread.router.thread)];
                mailbox.post(Mail::Written(answer));
            }
        }
        if result.is_ok() {
            let _ = self.keeper.tidy();
        }
        &self.pending
    }
}

pub(super) fn process_of(config: Config, life: usize) -> Arc<Process> {
    let mut process = Process::new(Arc::new(config)).unwrap();
    let sole = Arc::get_mut(&mut process).unwrap();
    sole.rename(&format!("BOOT{life}"));
    process
}

impl World {
    /// Starts the threads of a life; the first tells what the last one left.
    pub(super) fn begin(&mut self, seed: u64, owed: Vec<Owed>) {
        let count = self.process.config.threads;
        let polls: Vec<Poll> = (0..count).map(|_| Poll::new().unwrap()).collect();
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = polls
            .iter()
            .map(|poll| {
                let token = Token(crate::source::token(Part::Waker, 0).0);
                let waker = Arc::new(Waker::new(poll.registry(), token).unwrap());
                mailbox(Arc::clone(&self.process), waker)
            })
            .unzip();
        let mailboxes: Arc<[_]> = mailboxes.into();
        self.process
            .starting
            .store(!owed.is_empty(), Ordering::Relaxed);
        let mut owed = Some(owed);
        let pens = self.journal.as_ref().map(|journal| journal.sender.clone());
        self.threads = (0..)
            .zip(polls.into_iter().zip(inboxes))
            .map(|(thread, (poll, inbox))| {
                let process = Arc::clone(&self.process);
                let mut pool = Pool::new(process, Arc::clone(&self.permits), thread);
                pool.random = Random::new(seed ^ u64::from(thread) << 32);
                if let Some(pens) = &pens {
                    pool.keep(
                        Pen::new(thread, pens.clone()),
                        owed.take().unwrap_or_default(),
                    );
                }
                let pool = Rc::new(RefCell::new(pool));
                let routes = self.process.config.routes.iter();
                let handlers = routes.map(|route| match &route.target {
                    Target::Hooks(hooks) => HookHandler::new(&pool, route, hooks),
                    other => panic!("{other:?}"),
                });
                Thread {
                    handlers: handlers.collect(),
                    process: Arc::clone(&self.process),
                    coming: None,
                    came_at: self.now,
                    leaving: Vec::new(),
                    attempts: HashMap::new(),
                    pool,
                    router: Router::new(thread, Arc::clone(&mailboxes), Arc::clone(&self.process)),
                    inbox,
                    poll,
                    scratch: vec![0; 4096],
                    busy_until: Instant::at(0),
                    edges: Vec::new(),
                }
            })
            .collect();
    }

    /// Has the journal written soon, if somebody has handed something in.
    pub(super) fn collect(&mut self) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        journal.pending.extend(journal.receiver.try_iter());
        if journal.is_idle() || std::mem::replace(&mut journal.is_awaited, true) {
            return;
        }
        let soon = if self.has_stalls && !self.is_calm() && self.chance(3) {
            self.below(4000) // The disk stalls, perhaps for longer than anybody waits.
        } else {
            self.below(4)
        };
        if let Some(journal) = &mut self.journal {
            journal.has_failed |= soon > 1500;
        }
        self.later(soon, Event::Write);
    }

    pub(super) fn write_journal(&mut self) {
        let count = 1 + self.below(50) as usize;
        let Some(journal) = &mut self.journal else {
            return;
        };
        journal.is_awaited = false;
        journal.write(count, &self.threads);
        if journal.keeper.is_behind() {
            journal.is_awaited = true;
            self.later(1000, Event::Write);
        }
    }

    pub(super) fn change_disk(&mut self) {
        if let Some(journal) = &self.journal {
            let is_full = !journal.paper.is_full.get();
            journal.paper.is_full.set(is_full);
            trace!(self, "the disk is full: {is_full}");
            let next = self.below(5000);
            self.later(next, Event::Disk);
        }
    }

    /// Whether this is the turn before which the worker is killed; then it was.
    pub(super) fn is_killed_now(&mut self) -> bool {
        match self.kill_in {
            None => false,
            Some(0) => {
                self.kill_in = None;
                self.kill();
                true
            }
            Some(turns) => {
                self.kill_in = Some(turns - 1);
                false
            }
        }
    }

    /// SIGKILL: of what was handed to the journal's thread some is written, the last of it perhaps in part.
    fn kill(&mut self) {
        trace!(self, "the worker is killed");
        self.kills += 1;
        let some = self.below(20) as usize;
        let cut = self.random.next();
        if let Some(journal) = &mut self.journal {
            journal.pending.extend(journal.receiver.try_iter());
            let before = journal.paper.len();
            journal.write(some, &[]);
            let after = journal.paper.len();
            if after > before && cut.is_multiple_of(2) {
                let good = before + (cut / 2) as usize % (after - before);
                journal.paper.keep(good);
            }
        }
        self.end_life();
    }

    /// The drain's time is up.
    pub(super) fn stop(&mut self) {
        trace!(self, "the worker's time is up");
        for thread in &mut self.threads {
            thread.pool.borrow_mut().stop(self.now);
            thread.inbox.take().for_each(drop); // Mail that comes too late is counted as well.
        }
        let held = self.process.counters.memory.get();
        assert_eq!(held, 0, "bytes are still counted at the end of a life");
        if let Some(journal) = &mut self.journal {
            let left = journal.write(usize::MAX, &[]);
            assert!(left.is_empty());
            let _ = journal.keeper.rewrite();
        }
        self.end_life();
    }

    /// All that the worker held is gone; the next one begins at once.
    fn end_life(&mut self) {
        self.kill_in = None;
        self.threads.clear();
        self.net.borrow_mut().edges.clear();
        for guest in &mut self.guests {
            if guest.stage != Stage::Gone {
                guest.stage = Stage::Gone;
                guest.gone_at = Some(self.now);
                guest.outlived = true;
            }
        }
        let life = self.lives.len() + 1;
        let generation = self.history.len() - 1;
        let config = self.file.read(self.process.config.threads, generation);
        let next = process_of(config, life);
        self.lives.push(std::mem::replace(&mut self.process, next));
        self.permits = Permits::of(&self.process.config);
        self.reloader = Reloader::new(None, &self.process, Arc::clone(&self.permits));
        self.taken = None;
        self.untaken = 0;
        let mut owed = Vec::new();
        if let Some(journal) = &mut self.journal {
            let has_failed = journal.has_failed;
            (*journal, owed) = Journal::read(journal.paper.clone());
            journal.has_failed = has_failed;
        }
        trace!(self, "life {life} begins; {} are owed", owed.len());
        let seed = self.random.next();
        self.begin(seed, owed);
    }
}
