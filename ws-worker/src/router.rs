//! Carries commands to the threads whose sockets they are for, and outcomes back. Knows nothing of what a command does.

use crate::command::{Action, ClosedBy, Command, Outcome, SocketId, Ticket};
use crate::mailbox::{Mail, Mailbox};
use crate::process::Process;
use std::collections::VecDeque;
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// Carries commands to the threads whose sockets they are for. Own commands are done at the end of the turn.
pub(crate) struct Router {
    /// This thread.
    pub(crate) thread: u8,
    /// For this thread.
    pub(crate) own: VecDeque<Command>,
    /// Where they lie while one of them is done that has nothing in front of it.
    aside: VecDeque<Command>,
    /// Answers for this thread's control listener.
    pub(crate) outcomes: VecDeque<(Ticket, Outcome)>,
    /// Every thread's; what is for this one stays in `own`.
    pub(crate) mailboxes: Arc<[Mailbox]>,
    /// Something lies in all of them that nobody was told of.
    pub(crate) must_ring: bool,
    /// What the threads share.
    pub(crate) process: Arc<Process>,
}

impl Router {
    /// Begins with nothing to carry.
    pub(crate) fn new(thread: u8, mailboxes: Arc<[Mailbox]>, process: Arc<Process>) -> Self {
        Self {
            thread,
            own: VecDeque::new(),
            aside: VecDeque::new(),
            outcomes: VecDeque::new(),
            mailboxes,
            must_ring: false,
            process,
        }
    }

    /// Sends a command where its sockets are: to their thread, or to every thread. Returns how many outcomes will come.
    pub(crate) fn route(&mut self, command: Command) -> usize {
        let to = match &command.action {
            Action::Send(ids, _) => match ids.first() {
                Some(id) => id.thread,
                None => return 0,
            },
            Action::Broadcast(..) | Action::List(_) => {
                // Without a word: a turn may make many. What it put into `own` sees to it that the loop comes to `ring`.
                for mailbox in self.others() {
                    mailbox.leave(Mail::Command(command.clone()));
                }
                self.must_ring = self.mailboxes.len() > 1;
                self.own.push_back(command);
                return self.mailboxes.len();
            }
            Action::Say(id, _)
            | Action::Join(id, _)
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

    /// Puts what waits aside, so that a message goes out in front of it; [`take_back`](Self::take_back) follows.
    pub(crate) fn put_aside(&mut self) {
        std::mem::swap(&mut self.own, &mut self.aside);
    }

    /// What came meanwhile stands behind what waited.
    pub(crate) fn take_back(&mut self) {
        std::mem::swap(&mut self.own, &mut self.aside);
        if !self.aside.is_empty() {
            self.own.append(&mut self.aside);
        }
    }

    /// Tells the other threads of the broadcasts of this turn: one wake-up each, however many there are.
    #[inline]
    pub(crate) fn ring(&mut self) {
        if std::mem::take(&mut self.must_ring) {
            self.others().for_each(Mailbox::ring);
        }
    }

    fn others(&self) -> impl Iterator<Item = &Mailbox> {
        let own = usize::from(self.thread);
        let all = self.mailboxes.iter().enumerate();
        all.filter_map(move |(thread, mailbox)| (thread != own).then_some(mailbox))
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
        self.own.push_back(Command {
            action: Action::Say(id, message),
            reply: None,
        });
    }

    /// Closes one socket of this thread, behind the commands that wait.
    pub(crate) fn close_behind(&mut self, id: SocketId, code: CloseCode, reason: &str) {
        self.own.push_back(Command {
            action: Action::Close(id, code, reason.to_owned(), ClosedBy::App),
            reply: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Broadcast, Scope};
    use crate::config::Config;
    use crate::mailbox::mailbox;
    use mio::{Events, Poll, Token, Waker};
    use std::time::Duration;

    #[test]
    fn the_broadcasts_of_a_turn_wake_another_loop_once() {
        let process = Process::new(Arc::new(Config::default())).unwrap();
        let mut polls = [Poll::new().unwrap(), Poll::new().unwrap()];
        let ends = polls.each_ref().map(|poll| {
            let waker = Waker::new(poll.registry(), Token(0)).unwrap();
            mailbox(Arc::clone(&process), Arc::new(waker))
        });
        let (mailboxes, inboxes): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
        let mut router = Router::new(0, mailboxes.into(), process);
        let mut woken = || {
            let mut events = Events::with_capacity(4);
            polls.each_mut().map(|poll| {
                poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
                events.iter().count()
            })
        };
        for turn in 0..2 {
            for number in 0..16 {
                let message = Message::text("hello").into_owned();
                let message = Arc::new(Broadcast::new(message));
                router.route(Command {
                    action: Action::Broadcast(Scope::All, None, message),
                    reply: None,
                });
                // The other loop is awake for something else and takes what lies there: the next one would wake it again.
                if number == 7 {
                    assert_eq!(inboxes[1].take().count(), 8, "turn {turn}");
                }
            }
            assert_eq!((woken(), router.own.len()), ([0, 0], 16 * (turn + 1)));
            router.ring();
            router.ring();
            assert_eq!(woken(), [0, 1], "turn {turn}");
            assert_eq!(inboxes[1].take().count(), 8);
        }
    }
}
