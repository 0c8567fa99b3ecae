//! Commands from other threads: a queue and one wake-up a batch. Knows nothing of what a command does.

use crate::command::{Action, Broadcast, Command, Outcome, SocketId, Ticket};
use crate::source::Router;
use mio::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use ws_proto::{CloseCode, Message};

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

impl Router {
    /// Sends a command where its sockets are: to their thread, or to every thread. Returns how many outcomes will come.
    pub(crate) fn route(&mut self, command: Command) -> usize {
        let to = match &command.action {
            Action::Send(ids, _) => match ids.first() {
                Some(id) => id.thread,
                None => return 0,
            },
            Action::Broadcast(..) | Action::List(_) => {
                for (thread, mailbox) in self.mailboxes.iter().enumerate() {
                    if thread != usize::from(self.thread) {
                        mailbox.post(Mail::Command(command.clone()));
                    }
                }
                self.own.push_back(command);
                return usize::from(self.threads);
            }
            Action::Join(id, _)
            | Action::Leave(id, _)
            | Action::Close(id, ..)
            | Action::Resume(id)
            | Action::Decide(id, _)
            | Action::SetMeta(id, ..)
            | Action::Inspect(id) => id.thread,
        };
        if to == self.thread {
            self.own.push_back(command);
            return 1;
        }
        match self.mailboxes.get(usize::from(to)) {
            Some(mailbox) => {
                mailbox.post(Mail::Command(command));
                1
            }
            None => 0, // No such thread: an id of another worker, or made up. The asker answers "gone".
        }
    }

    /// Brings an outcome to the one who asked.
    pub(crate) fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        if ticket.thread == self.thread {
            self.outcomes.push_back((ticket, outcome));
        } else if let Some(mailbox) = self.mailboxes.get(usize::from(ticket.thread)) {
            mailbox.post(Mail::Outcome(ticket, outcome));
        }
    }

    /// A message to one socket of this thread, behind the commands that wait.
    pub(crate) fn send_behind(&mut self, id: SocketId, message: Message<'static>) {
        let action = Action::Send(vec![id], Arc::new(Broadcast::new(message)));
        self.own.push_back(Command {
            action,
            reply: None,
        });
    }

    /// Closes one socket of this thread, behind the commands that wait.
    pub(crate) fn close_behind(&mut self, id: SocketId, code: CloseCode, reason: &str) {
        self.own.push_back(Command {
            action: Action::Close(id, code, reason.to_owned()),
            reply: None,
        });
    }
}
