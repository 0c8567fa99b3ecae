//! Carries commands to the threads whose sockets they are for, and outcomes back. Knows nothing of what a command does.

use crate::command::{Action, Broadcast, Command, Outcome, SocketId, Ticket};
use crate::mailbox::{Mail, Mailbox};
use crate::process::Process;
use std::collections::VecDeque;
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// Carries commands to the threads whose sockets they are for. Own commands are done at the end of the turn.
pub(crate) struct Router {
    /// This thread.
    pub(crate) thread: u8,
    /// How many there are.
    pub(crate) threads: u8,
    /// For this thread.
    pub(crate) own: VecDeque<Command>,
    /// Answers for this thread's control listener.
    pub(crate) outcomes: VecDeque<(Ticket, Outcome)>,
    /// For the others.
    pub(crate) mailboxes: Arc<[Mailbox]>,
    /// What the threads share.
    pub(crate) process: Arc<Process>,
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
