//! What commands do to the sockets of this thread, and what is said of it to who asked. Knows not where they come from.

use super::Worker;
use super::broadcast::SHARE;
use crate::client::{Client, Context, Drop, Phase, Verdict};
use crate::command::{Action, Command, Found, ListQuery, MAX_PAGE_BYTES, Outcome, Sent, SocketId};
use crate::handler::{ClosedBy, SendError};
use crate::source::Turn;
use crate::timers::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

/// Commands, and bytes of messages in them, that may wait for a broadcast to be done in its own time.
const BACKLOG: usize = 64;
const BACKLOG_BYTES: usize = 1024 * 1024;

impl Worker {
    pub(super) fn do_commands(&mut self) {
        self.share = SHARE;
        loop {
            // Before our own share of a broadcast, so that the other loops do theirs meanwhile.
            self.common.router.ring();
            self.go_on_spreading();
            while self.may_command()
                && let Some(command) = self.common.router.own.pop_front()
            {
                self.command(command);
            }
            while let Some((ticket, outcome)) = self.common.router.outcomes.pop_front() {
                if let Some(control) = &mut self.control {
                    control.outcome(&mut turn!(self), ticket, outcome);
                }
            }
            if self.has_hooks {
                self.hooks.borrow_mut().flush(&mut turn!(self));
            }
            let has_more = !self.common.router.own.is_empty() && self.spreading.is_none();
            if !has_more && self.common.router.outcomes.is_empty() {
                self.common.router.ring();
                return;
            }
        }
    }

    /// Returns whether commands may go on: not before the broadcast in front of them is done. What comes faster than
    /// broadcasts are done is not heaped up: whoever says it has to wait.
    fn may_command(&mut self) -> bool {
        if self.spreading.is_some() {
            let backlog = &self.common.router.own;
            let bytes = |command: &Command| match &command.action {
                Action::Broadcast(_, _, message) | Action::Send(_, message) => {
                    message.message().payload().len()
                }
                Action::Say(_, message) => message.payload().len(),
                Action::Join(..) | Action::Leave(..) | Action::Close(..) | Action::Resume(_) => 0,
                Action::Decide(..) | Action::SetMeta(..) | Action::List(_) | Action::Inspect(_) => {
                    0
                }
            };
            if self.drain.is_some()
                || backlog.len() > BACKLOG
                || backlog.iter().map(bytes).sum::<usize>() > BACKLOG_BYTES
            {
                self.finish_spreading();
            }
        }
        self.spreading.is_none()
    }

    pub(super) fn command(&mut self, command: Command) {
        let Command { action, reply } = command;
        let outcome = match action {
            Action::Say(id, message) if reply.is_none() => {
                let action = || Action::Say(id, message.clone());
                self.send_to(id, &message, false, action);
                return;
            }
            Action::Say(id, message) => {
                let action = || Action::Say(id, message.clone());
                Outcome::Sent(vec![(id, self.send_to(id, &message, true, action))])
            }
            Action::Send(ids, shared) => {
                let mut outcomes = Vec::new();
                for id in ids {
                    let action = || Action::Send(vec![id], Arc::clone(&shared));
                    let sent = self.send_to(id, shared.message(), reply.is_some(), action);
                    if reply.is_some() {
                        outcomes.push((id, sent));
                    }
                }
                Outcome::Sent(outcomes)
            }
            Action::Broadcast(scope, except, message) => {
                let mut batch = vec![message];
                if reply.is_none() && except.is_none() {
                    self.gather(&scope, &mut batch);
                }
                self.broadcast(&scope, except, batch, reply);
                return;
            }
            Action::Join(id, group) => {
                let found = self.join(id, &group);
                if found == Found::Full && reply.is_none() {
                    let mut hooks = self.hooks.borrow_mut();
                    hooks.refused_group(self.common.now, id, &group);
                }
                Outcome::Found(found)
            }
            Action::Leave(id, group) => Outcome::Found(self.leave(id, &group)),
            Action::Close(id, code, reason, by) => {
                Outcome::Found(self.close(id, code, &reason, by))
            }
            Action::Resume(id) => {
                if let Some(client) = self.clients.find(id).filter(|client| client.is_paused()) {
                    client.resume();
                    let entry = client.entry;
                    self.serve(entry);
                }
                return;
            }
            Action::Decide(id, decision) => {
                if let Some(entry) = self.clients.find(id).map(|client| client.entry) {
                    self.step(entry, |client, cx| {
                        client.decide_late(cx, *decision);
                        ((), client.serve(cx))
                    });
                }
                return;
            }
            Action::SetMeta(id, name, value) => {
                self.set_meta(id, &name, value);
                return;
            }
            Action::List(query) => Outcome::Listed(self.list(&query)),
            Action::Inspect(id) => {
                let client = self
                    .clients
                    .find(id)
                    .filter(|client| matches!(client.phase, Phase::Open(_)));
                Outcome::Inspected(client.map(|client| Box::new(client.info(id))))
            }
        };
        if let Some(ticket) = reply {
            self.common.router.answer(ticket, outcome);
        }
    }

    /// Runs one step of a client on behalf of a command; a panic in it costs that client.
    pub(super) fn step<T>(
        &mut self,
        entry: Entry,
        step: impl FnOnce(&mut Client, &mut Context<'_>) -> (T, Verdict),
    ) -> Option<T> {
        let client = self.clients.get_mut(entry)?;
        let mut cx = context!(self);
        let done = catch_unwind(AssertUnwindSafe(|| step(client, &mut cx)));
        self.common
            .totals
            .flush(self.common.counts.route(client.route));
        match done {
            Ok((value, verdict)) => {
                self.finish(entry, verdict);
                Some(value)
            }
            Err(_) => {
                let verdict = self.panicked(entry);
                self.finish(entry, verdict);
                None
            }
        }
    }

    pub(super) fn open_entry(&mut self, id: SocketId) -> Option<Entry> {
        let client = self.clients.find(id)?;
        match &client.phase {
            Phase::Open(connection) if !connection.is_closing() => Some(client.entry),
            Phase::Open(_) | Phase::Opening(_) | Phase::Lingering { .. } => None,
        }
    }

    /// Sends to one socket. Whoever asked what came of it is told that the output is full, and nothing changes; for whoever
    /// did not ask, the socket is dropped rather than left with a silent hole. `action` says it once more, for a socket that is
    /// not open yet.
    fn send_to(
        &mut self,
        id: SocketId,
        message: &Message<'static>,
        asked: bool,
        action: impl FnOnce() -> Action,
    ) -> Sent {
        let Some(entry) = self.open_entry(id) else {
            return self.keep(id, action, message.payload().len());
        };
        let message = message.as_borrowed();
        // What is routed behind waiting commands would come back here for ever: this is the front of that queue.
        self.common.router.put_aside();
        let result = self.step(entry, |client, cx| client.send(cx, message));
        self.common.router.take_back();
        match result {
            Some(Ok(())) => Sent::Queued,
            Some(Err(SendError::Full)) => {
                self.process.counters.full.one();
                if !asked {
                    self.step(entry, |client, cx| {
                        client.drop_now(cx, Drop::Full);
                        ((), Verdict::Leaves)
                    });
                }
                Sent::Full
            }
            Some(Err(SendError::NoBinary)) => {
                if !asked {
                    self.process.counters.unsupported.one();
                    tracing::debug!(%id, "a binary message for a version without them");
                }
                Sent::Unsupported
            }
            Some(Err(SendError::Closed | SendError::NoPing)) | None => Sent::Gone,
        }
    }

    /// Keeps a command for a socket whose handshake is not over: the app knows its id since it was asked.
    fn keep(&mut self, id: SocketId, action: impl FnOnce() -> Action, bytes: usize) -> Sent {
        let routes = &self.process.config.routes;
        let Some(client) = self.clients.find(id) else {
            return Sent::Gone;
        };
        let limit = routes
            .get(usize::from(client.route.0))
            .map_or(0, |route| route.max_output);
        match &mut client.phase {
            Phase::Opening(opening) => {
                let kept = opening.keep(action(), bytes, limit);
                kept.unwrap_or(Sent::Gone)
            }
            Phase::Open(_) | Phase::Lingering { .. } => Sent::Gone,
        }
    }

    /// Likewise, for what is answered by whether the socket is there.
    fn keep_found(&mut self, id: SocketId, action: Action) -> Found {
        match self.keep(id, || action, 0) {
            Sent::Queued => Found::Yes,
            Sent::Full => Found::Full,
            Sent::Gone | Sent::Unsupported => Found::No,
        }
    }

    pub(super) fn join(&mut self, id: SocketId, group: &Arc<str>) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return self.keep_found(id, Action::Join(id, Arc::clone(group)));
        };
        let Some(client) = self.clients.get_mut(entry) else {
            return Found::No;
        };
        let route = self.process.config.routes.get(usize::from(client.route.0));
        let cold = client.cold.get_or_insert_default();
        if cold.groups.iter().any(|(name, _)| name == group) {
            return Found::Yes;
        }
        if route.is_none_or(|route| {
            cold.groups.len() >= route.max_groups || group.len() > route.max_group_name
        }) {
            return Found::Full;
        }
        cold.groups
            .push((Arc::clone(group), self.groups.join(group, entry.slot)));
        Found::Yes
    }

    pub(super) fn leave(&mut self, id: SocketId, group: &Arc<str>) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return self.keep_found(id, Action::Leave(id, Arc::clone(group)));
        };
        let cold = self
            .clients
            .get_mut(entry)
            .and_then(|client| client.cold.as_mut());
        let place = cold.and_then(|cold| {
            let index = cold.groups.iter().position(|(name, _)| name == group)?;
            Some(cold.groups.swap_remove(index).1)
        });
        if let Some(place) = place {
            self.leave_group(group, place);
        }
        Found::Yes
    }

    pub(super) fn close(
        &mut self,
        id: SocketId,
        code: CloseCode,
        reason: &str,
        by: ClosedBy,
    ) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return self.keep_found(id, Action::Close(id, code, reason.to_owned(), by));
        };
        self.step(entry, |client, cx| ((), client.close(cx, code, reason, by)));
        Found::Yes
    }

    pub(super) fn set_meta(&mut self, id: SocketId, name: &Arc<str>, value: Option<Arc<str>>) {
        let Some(client) = self.clients.find(id) else {
            return;
        };
        let limit = self
            .process
            .config
            .routes
            .get(usize::from(client.route.0))
            .map_or(0, |route| route.max_meta);
        if client.cold.is_none() && value.is_none() {
            return;
        }
        let cold = client.cold.get_or_insert_default();
        cold.meta.retain(|(kept, _)| kept != name);
        if let Some(value) = value {
            let used: usize = cold
                .meta
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum();
            if used + name.len() + value.len() <= limit {
                cold.meta.push((Arc::clone(name), value));
            }
        }
    }

    pub(super) fn list(&self, query: &ListQuery) -> Vec<crate::command::SocketInfo> {
        let thread = self.common.router.thread;
        let after = query.after.map(|id| id.to_string());
        let mut ids: Vec<(String, SocketId)> = self
            .clients
            .iter()
            .filter(|client| matches!(client.phase, Phase::Open(_)))
            .filter(|client| query.route.is_none_or(|route| client.route == route))
            .filter(|client| {
                query.group.as_ref().is_none_or(|group| {
                    client
                        .cold
                        .as_ref()
                        .is_some_and(|cold| cold.groups.iter().any(|(name, _)| name == group))
                })
            })
            .map(|client| {
                let id = SocketId {
                    boot: self.process.boot_mark,
                    thread,
                    slot: client.entry.slot,
                    key: client.key,
                };
                (id.to_string(), id)
            })
            .filter(|(text, _)| after.as_ref().is_none_or(|after| text > after))
            .collect();
        ids.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        ids.truncate(query.limit);
        let (mut page, mut bytes) = (Vec::new(), 0);
        for (_, id) in ids {
            let Some(client) = self.clients.at(id.slot) else {
                continue;
            };
            let info = client.info(id);
            let is_beyond = bytes >= MAX_PAGE_BYTES;
            bytes += info.text();
            page.push(info);
            if is_beyond {
                break; // It tells that there is a next page.
            }
        }
        page
    }
}
