//! Reaches the sockets of a running worker from any thread, by mail. Knows no socket; nothing here waits.

use crate::command::{
    Action, Broadcast, ClosedBy, Command, LateDecision, Scope, SendError, SocketId,
};
use crate::config::Changes;
use crate::counters::Counters;
use crate::mailbox::{Mail, Mailbox};
use crate::process::Process;
use crate::reload::{self, ReloadError, Reloader};
use crate::router::Router;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
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
        self.one(id, Action::Say(id, message.into_owned()));
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
        let reloader = self.process.reloader.get();
        let config = reloader.map_or_else(|| Arc::clone(&self.process.config), Reloader::config);
        match config.route_at(path) {
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
        self.one(
            id,
            Action::Close(id, code, reason.to_owned(), ClosedBy::App),
        );
    }

    /// Lets a socket be read again that its handler paused.
    pub fn resume(&self, id: SocketId) {
        self.one(id, Action::Resume(id));
    }

    /// Answers a handshake whose handler said [`Decision::Later`](crate::Decision::Later).
    pub fn decide(&self, id: SocketId, decision: LateDecision) {
        self.one(id, Action::Decide(id, Box::new(decision)));
    }

    /// Reads the configuration again and lets it take effect, without touching a socket; how it ended is logged as well.
    /// Blocks on files, names and the threads: not for a handler, which has [`reload_then`](Self::reload_then).
    ///
    /// # Errors
    /// The operator's: what was read cannot be used. Nobody's: the worker stops. Nothing has changed then.
    pub fn reload(&self) -> Result<Changes, ReloadError> {
        let process = &self.process;
        let is_stopping = || process.draining.load(Ordering::Relaxed);
        let Some(reloader) = process.reloader.get() else {
            return Err(ReloadError::NoSource);
        };
        reloader.in_turn(|| {
            if let Some(service) = process.service.get() {
                service.reloading();
            }
            let result = reloader.reload(&self.mailboxes, is_stopping);
            reload::tell(&result);
            if let Some(service) = process.service.get() {
                service.reloaded(result.is_ok(), process);
            }
            result
        })
    }

    /// Does the same on a thread of its own, and calls `then` there with what came of it.
    ///
    /// # Errors
    /// The system's: there is no other thread to have.
    pub fn reload_then(
        &self,
        then: impl FnOnce(Result<Changes, ReloadError>) + Send + 'static,
    ) -> std::io::Result<()> {
        let handle = self.clone();
        let thread = std::thread::Builder::new().name("reload".to_owned());
        thread.spawn(move || then(handle.reload())).map(drop)
    }

    /// Stops the worker: sockets are closed with 1012 over the first half of the drain time.
    pub fn stop(&self) {
        self.drain(false);
    }

    pub(crate) fn drain(&self, now: bool) {
        if let Some(service) = self.process.service.get() {
            let reloader = self.process.reloader.get();
            let drain = match reloader {
                _ if now => Duration::ZERO,
                Some(reloader) => reloader.config().drain,
                None => self.process.config.drain,
            };
            service.stopping(drain, &self.process);
        }
        for mailbox in self.mailboxes.iter() {
            mailbox.post(Mail::Drain { now });
        }
    }
}
