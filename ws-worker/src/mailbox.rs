//! Commands from other threads: a queue and one wake-up a batch. Knows nothing of what a command does.
//!
//! The queue has no bound of its own, since nobody may wait for it and nothing in it may be lost. What lies in it counts in
//! the memory budget, from the post until it is taken, and that bounds it: above nine tenths of the budget no client and no
//! body of a control call is read, and a [`Handle`](crate::Handle) takes no message; above all of it the control API asks
//! nothing. What may still be posted then was begun before: one answer each of the hooks in flight (`concurrency`,
//! `max_hook_answer`), one outcome a question and thread, as many permits as there are, one answer a batch of the journal,
//! and a drain or a reload a signal.

use crate::command::{Action, Command, Outcome, Scope, SocketInfo, Ticket};
use crate::config::Config;
use crate::journal::Written;
use crate::permits::AllPermits;
use crate::process::{Breakers, Process};
use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};

/// What lies in a mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    /// To be done here.
    Command(Command),
    /// The answer to a question asked here.
    Outcome(Ticket, Outcome),
    /// A permit for this app has come free (hooks wait for them).
    Permit(usize),
    /// What became of records for the journal.
    Written(Written),
    /// The process stops: close the sockets within the drain time, or now.
    Drain {
        /// A second signal came.
        now: bool,
    },
    /// Another configuration holds from now on.
    Reload(Box<Reload>),
}

/// Another configuration, for one thread.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) config: Arc<Config>,
    pub(crate) permits: AllPermits,
    pub(crate) breakers: Breakers,
    /// Hears that the thread has taken it.
    pub(crate) taken: Sender<()>,
}

impl Mail {
    /// Returns what it is counted with, in bytes. A message that many threads share counts in full for each, as it does in
    /// the output of many clients.
    fn weight(&self) -> usize {
        let scope = |scope: &Scope| match scope {
            Scope::Union(scopes) => scopes.len() * size_of::<Scope>(),
            Scope::All | Scope::Route(_) | Scope::Group(_) => 0,
        };
        size_of::<Letter>()
            + match self {
                Self::Command(command) => match &command.action {
                    Action::Send(ids, message) => {
                        size_of_val(ids.as_slice()) + message.message().payload().len()
                    }
                    Action::Say(_, message) => message.payload().len(),
                    Action::Broadcast(to, _, message) => {
                        scope(to) + message.message().payload().len()
                    }
                    Action::Close(_, _, reason, _) => reason.len(),
                    Action::SetMeta(_, name, value) => {
                        name.len() + value.as_ref().map_or(0, |value| value.len())
                    }
                    Action::Join(_, group) | Action::Leave(_, group) => group.len(),
                    Action::Decide(..)
                    | Action::Resume(_)
                    | Action::List(_)
                    | Action::Inspect(_) => 0,
                },
                Self::Outcome(_, Outcome::Sent(sent)) => size_of_val(sent.as_slice()),
                Self::Outcome(_, Outcome::Listed(infos)) => {
                    infos.iter().map(SocketInfo::memory).sum()
                }
                Self::Outcome(_, Outcome::Inspected(Some(one))) => one.memory(),
                Self::Written(written) => size_of_val(written.failed.as_slice()),
                Self::Outcome(..) | Self::Permit(_) | Self::Drain { .. } | Self::Reload(_) => 0,
            }
    }
}

/// Mail, and what it weighs in the budget as long as it lies here.
type Letter = (Mail, Weight);

#[derive(Debug)]
struct Weight {
    bytes: usize,
    process: Arc<Process>,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.process.counters.memory.subtract(self.bytes);
    }
}

/// The sending end, shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    queue: Sender<Letter>,
    process: Arc<Process>,
    waker: Arc<Waker>,
    awake: Arc<AtomicBool>,
}

/// The receiving end, in its loop.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Receiver<Letter>,
    awake: Arc<AtomicBool>,
}

/// Makes both ends.
pub(crate) fn mailbox(process: Arc<Process>, waker: Arc<Waker>) -> (Mailbox, Inbox) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let awake = Arc::new(AtomicBool::new(false));
    (
        Mailbox {
            queue: sender,
            process,
            waker,
            awake: Arc::clone(&awake),
        },
        Inbox {
            queue: receiver,
            awake,
        },
    )
}

impl Mailbox {
    /// Puts mail in; wakes the loop unless it is awake for earlier mail already.
    pub(crate) fn post(&self, mail: Mail) {
        if self.leave(mail) {
            self.ring();
        }
    }

    /// Puts mail in without a word: whoever does so [rings](Self::ring) before it goes to sleep. Returns whether there is
    /// somebody to find it.
    pub(crate) fn leave(&self, mail: Mail) -> bool {
        let bytes = mail.weight();
        let process = Arc::clone(&self.process);
        process.counters.memory.add(bytes);
        let weight = Weight { bytes, process };
        self.queue.send((mail, weight)).is_ok()
    }

    /// Wakes the loop unless it is awake for earlier mail already.
    pub(crate) fn ring(&self) {
        if !self.awake.swap(true, Ordering::AcqRel) {
            // A loop that is gone has dropped its poll; there is nobody to tell.
            let _ = self.waker.wake();
        }
    }
}

impl Inbox {
    /// Takes everything that lies there. The flag falls first: mail posted from now on wakes again.
    pub(crate) fn take(&self) -> impl Iterator<Item = Mail> + '_ {
        // A swap and no store: a store may be seen after the look into the queue, and mail posted in between would
        // find the loop awake and lie there. Whoever posted before the swap is seen by it.
        self.awake.swap(false, Ordering::AcqRel);
        std::iter::from_fn(|| self.queue.try_recv().ok().map(|(mail, _)| mail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Broadcast;
    use crate::config::Config;
    use ws_proto::Message;

    #[test]
    fn what_lies_in_a_mailbox_counts_until_it_is_taken_or_nobody_can_take_it() {
        let poll = mio::Poll::new().unwrap();
        let process = Process::new(Arc::new(Config::default())).unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mailbox, inbox) = mailbox(Arc::clone(&process), waker);
        let memory = || process.counters.memory.get();
        let broadcast = || {
            let message = Arc::new(Broadcast::new(Message::text("x").into_owned()));
            let action = Action::Broadcast(Scope::All, None, message);
            Mail::Command(Command {
                action,
                reply: None,
            })
        };
        mailbox.post(Mail::Permit(0));
        let small = memory();
        assert!(small > 0);
        mailbox.post(broadcast());
        assert_eq!(memory(), 2 * small + 1);
        assert_eq!(inbox.take().count(), 2);
        assert_eq!(memory(), 0);
        mailbox.post(broadcast());
        drop(inbox);
        assert_eq!(memory(), 0);
        mailbox.post(broadcast());
        assert_eq!(memory(), 0);
    }
}
