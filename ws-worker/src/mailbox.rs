//! Commands from other threads: a queue and one wake-up a batch. Knows nothing of what a command does.

use crate::command::{Command, Outcome, Ticket};
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
    /// The process stops: close the sockets within the drain time, or now.
    Drain {
        /// A second signal came.
        now: bool,
    },
}

/// The sending end, shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    queue: Sender<Mail>,
    waker: Arc<Waker>,
    awake: Arc<AtomicBool>,
}

/// The receiving end, in its loop.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Receiver<Mail>,
    awake: Arc<AtomicBool>,
}

/// Makes both ends.
pub(crate) fn mailbox(waker: Arc<Waker>) -> (Mailbox, Inbox) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let awake = Arc::new(AtomicBool::new(false));
    (
        Mailbox {
            queue: sender,
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
        if self.queue.send(mail).is_ok() && !self.awake.swap(true, Ordering::AcqRel) {
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
        std::iter::from_fn(|| self.queue.try_recv().ok())
    }
}
