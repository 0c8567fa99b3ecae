//! Reaches the sockets of a running worker from any thread, by mail. Knows no socket; nothing here waits.

use crate::command::{Action, Broadcast, Command, LateDecision, Scope, SocketId};
use crate::counters::Counters;
use crate::handler::SendError;
use crate::mailbox::{Mail, Mailbox};
use crate::process::Process;
use crate::router::Router;
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// Reaches the sockets of a running worker from any thread. Nothing here waits; what is for nobody is dropped. Messages
/// that its loops have not taken yet count in the `memory` budget, and above nine tenths of it no more are accepted; the
/// other calls always are, and it is for the program not to make them without end.
#[derive(Clone)]
pub struct Handle {
    mailboxes: Arc<[Mailbox]>,
    pub(crate) process: Arc<Process>,
}

impl Handle {
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>, process: Arc<Process>) -> Self {
        Self { mailboxes, process }
    }

    pub(crate) fn of(router: &Router) -> Self {
        Self {
            mailboxes: Arc::clone(&router.mailboxes),
            process: Arc::clone(&router.process),
        }
    }

    /// Returns what is counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.process.counters
    }

    /// Refuses a message where it would only lie about.
    fn has_room(&self) -> Result<(), SendError> {
        if self.process.is_out_of_memory() {
            return Err(SendError::Full);
        }
        Ok(())
    }

    fn one(&self, id: SocketId, action: Action) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(id.thread)) {
            mailbox.post(Mail::Command(Command {
                action,
                reply: None,
            }));
        }
    }

    fn all(&self, scope: &Scope, message: Message<'_>) -> Result<(), SendError> {
        self.has_room()?;
        let message = Arc::new(Broadcast::new(message.into_owned()));
        for mailbox in self.mailboxes.iter() {
            let action = Action::Broadcast(scope.clone(), None, Arc::clone(&message));
            mailbox.post(Mail::Command(Command {
                action,
                reply: None,
            }));
        }
        Ok(())
    }

    /// Sends a message to one socket.
    ///
    /// # Errors
    /// [`SendError::Full`]: the worker's memory is nearly used up, and nothing was sent.
    pub fn send(&self, id: SocketId, message: Message<'_>) -> Result<(), SendError> {
        self.has_room()?;
        let message = Arc::new(Broadcast::new(message.into_owned()));
        self.one(id, Action::Send(vec![id], message));
        Ok(())
    }

    /// Sends a message to every open socket.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn broadcast(&self, message: Message<'_>) -> Result<(), SendError> {
        self.all(&Scope::All, message)
    }

    /// Sends a message to every open socket of the route with this path.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn broadcast_to_route(&self, path: &str, message: Message<'_>) -> Result<(), SendError> {
        let mut routes = self.process.config.routes.iter();
        match routes.find(|route| route.path == path) {
            Some(route) => self.all(&Scope::Route(route.id), message),
            None => Ok(()),
        }
    }

    /// Sends a message to every member of a group.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_to_group(&self, group: &str, message: Message<'_>) -> Result<(), SendError> {
        self.all(&Scope::Group(group.into()), message)
    }

    /// Adds a socket to a group.
    pub fn join(&self, id: SocketId, group: &str) {
        self.one(id, Action::Join(id, group.into()));
    }

    /// Takes a socket out of a group.
    pub fn leave(&self, id: SocketId, group: &str) {
        self.one(id, Action::Leave(id, group.into()));
    }

    /// Begins the closing handshake of a socket, after what is queued for it.
    pub fn close(&self, id: SocketId, code: CloseCode, reason: &str) {
        self.one(id, Action::Close(id, code, reason.to_owned()));
    }

    /// Lets a socket be read again that its handler paused.
    pub fn resume(&self, id: SocketId) {
        self.one(id, Action::Resume(id));
    }

    /// Answers a handshake whose handler said [`Decision::Later`](crate::Decision::Later).
    pub fn decide(&self, id: SocketId, decision: LateDecision) {
        self.one(id, Action::Decide(id, Box::new(decision)));
    }

    /// Stops the worker: sockets are closed with 1012 over the first half of the drain time.
    pub fn stop(&self) {
        self.drain(false);
    }

    pub(crate) fn drain(&self, now: bool) {
        for mailbox in self.mailboxes.iter() {
            mailbox.post(Mail::Drain { now });
        }
    }
}
