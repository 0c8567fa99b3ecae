//! What is owed to an app about one socket: its queue, how far it is, what it waits for. Knows no connection and no time
//! but the moments it is told to keep.

use crate::breaker::ProbeId;
use crate::command::SocketId;
use crate::hook::dialect::Reply;
use crate::hook::endpoint::{Block, Endpoint};
use crate::hook::kept::Kept;
use crate::hook::{Ended, What};
use slab::Slab;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{Instant, Message};

/// Finds a member, or notices that it is gone: the serial is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) serial: u64,
    pub(crate) index: usize,
}

/// One socket as hooks see it, from its handshake until the app knows that it is gone; or the start of a worker.
pub(crate) struct Member {
    /// Of a socket; `None` for a start.
    pub(crate) id: Option<SocketId>,
    pub(crate) endpoint: Rc<Endpoint>,
    pub(crate) block: Block,
    pub(crate) phase: Phase,
    pub(crate) wait: Wait,
    /// Attempts at the hook that is due.
    pub(crate) attempt: u32,
    /// Since when it is due.
    pub(crate) since: Instant,
    /// The next attempt wants a new connection: a kept one was closed under the last.
    pub(crate) afresh: bool,
    /// A handshake that shows whether an app that failed is back.
    pub(crate) probe: Option<ProbeId>,
    /// Its socket is not read until the queue has drained.
    pub(crate) paused: bool,
    /// Nothing more is delivered.
    pub(crate) failed: bool,
    /// Messages that will get no answer.
    pub(crate) undelivered: u64,
    /// What the journal knows of it.
    pub(crate) kept: Kept,
    queue: VecDeque<Message<'static>>,
    queued: usize,
    answered: u64,
    protocol: Option<Box<str>>,
    meta: Vec<(Arc<str>, Arc<str>)>,
    serial: u64,
    counted: usize,
    /// What of it was counted as waiting, and for which app: it may have gone over to another since.
    counted_waiting: (usize, Waiting),
}

/// Where a socket is in its life.
pub(crate) enum Phase {
    /// No socket at all: the worker's own beginning.
    Started,
    /// The app has not yet said whether it may come in; it may have left meanwhile.
    Opening {
        protocols: Box<[Box<str>]>,
        left: Option<Box<Ended>>,
    },
    /// It may, and hears this when it is open.
    Accepted(Box<Reply>),
    /// It is.
    Open,
    /// It is gone; the app is told after everything else.
    Ended(Box<Ended>),
}

/// What the hook that is due waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// No hook is due.
    Nothing,
    /// A permit, in line.
    Permit,
    /// The pause before another attempt.
    Until(Instant),
    /// What the journal must know before.
    Journal,
    /// The answer, on this connection.
    Answer(usize),
}

/// The lines for permits; served in turn, so that none holds up another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Handshakes,
    Messages,
    /// What has no deadline: closed and started.
    Patient,
}

impl Line {
    /// All, in the order in which they are served.
    pub(crate) const ALL: [Self; 3] = [Self::Handshakes, Self::Messages, Self::Patient];
}

impl Member {
    pub(crate) fn new(
        id: Option<SocketId>,
        endpoint: &Rc<Endpoint>,
        block: Block,
        phase: Phase,
    ) -> Self {
        Self {
            id,
            endpoint: Rc::clone(endpoint),
            block,
            phase,
            wait: Wait::Nothing,
            attempt: 0,
            since: Instant::at(0),
            afresh: false,
            probe: None,
            paused: false,
            failed: false,
            undelivered: 0,
            kept: Kept::default(),
            queue: VecDeque::new(),
            queued: 0,
            answered: 0,
            protocol: None,
            meta: Vec::new(),
            serial: 0,
            counted: 0,
            counted_waiting: (endpoint.hooks.app, Waiting::default()),
        }
    }

    /// Returns the name of what was taken last, where nothing is due any more.
    pub(crate) fn settled(&self) -> &'static str {
        match self.phase {
            Phase::Started => "started",
            Phase::Opening { .. } | Phase::Accepted(_) => "handshake",
            Phase::Open => "message",
            Phase::Ended(_) => "closed",
        }
    }

    /// Returns the hook that is due, whether or not it is under way.
    pub(crate) fn due(&self) -> Option<What<'_>> {
        match (&self.phase, self.queue.front()) {
            (Phase::Started, _) => Some(What::Started),
            (Phase::Opening { protocols, .. }, _) => Some(What::Handshake { protocols }),
            (Phase::Open | Phase::Accepted(_) | Phase::Ended(_), Some(message)) => {
                Some(What::Message {
                    seq: self.answered + 1,
                    message,
                })
            }
            (Phase::Ended(end), None) => Some(What::Closed {
                end,
                undelivered: (!end.is_unknown).then_some(self.undelivered),
            }),
            (Phase::Open | Phase::Accepted(_), None) => None,
        }
    }

    /// Returns the line in which what is due waits.
    pub(crate) fn line(&self) -> Line {
        match self.due() {
            Some(What::Handshake { .. }) => Line::Handshakes,
            Some(What::Message { .. }) | None => Line::Messages,
            Some(What::Closed { .. } | What::Started) => Line::Patient,
        }
    }

    /// Returns whether a place in this line is still its own: it may have left, or wait elsewhere for something else.
    pub(crate) fn waits_in(&self, line: Line) -> bool {
        self.wait == Wait::Permit && self.line() == line
    }

    /// Returns until when what is due may wait for its first or another attempt.
    pub(crate) fn patience(&self, handshake_timeout: Duration) -> Option<Instant> {
        let hooks = &self.endpoint.hooks;
        match self.line() {
            Line::Handshakes => Some(self.since + hooks.hook_timeout.min(handshake_timeout)),
            Line::Messages => Some(self.since + hooks.give_up),
            Line::Patient => None,
        }
    }

    /// Returns the body of what is due.
    pub(crate) fn body(&self) -> &[u8] {
        match self.due() {
            Some(What::Message { message, .. }) => message.payload(),
            Some(What::Handshake { .. } | What::Closed { .. } | What::Started) | None => &[],
        }
    }

    /// Queues a message. Returns whether the queue is full now.
    pub(crate) fn push(&mut self, message: Message<'static>) -> bool {
        self.queued += message.payload().len();
        self.queue.push_back(message);
        let hooks = &self.endpoint.hooks;
        self.queue.len() >= hooks.queue_messages || self.queued >= hooks.queue_bytes
    }

    /// Takes the message that was answered out of the queue.
    pub(crate) fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.queued -= message.payload().len();
            self.answered += 1;
        }
        if self.queue.is_empty() && self.queue.capacity() > 8 {
            self.queue = VecDeque::new(); // Given back after a burst.
        }
    }

    /// Returns whether so much of the queue is gone that its socket may be read again.
    pub(crate) fn has_room(&self) -> bool {
        let hooks = &self.endpoint.hooks;
        self.queue.len() <= hooks.queue_messages / 2 && self.queued <= hooks.queue_bytes / 2
    }

    /// Gives up on everything queued but what is on its way. Returns how many messages that were.
    pub(crate) fn abandon(&mut self) -> u64 {
        let rest = self.queue.split_off(self.on_its_way());
        let count = rest.len() as u64;
        self.queued -= rest.iter().map(|m| m.payload().len()).sum::<usize>();
        self.queue.shrink_to_fit();
        self.undelivered += count;
        self.failed = true;
        count
    }

    /// Returns how many bytes [`abandon`](Self::abandon) would give back.
    pub(crate) fn abandonable(&self) -> usize {
        let kept = self.queue.iter().take(self.on_its_way());
        self.queued - kept.map(|message| message.payload().len()).sum::<usize>()
    }

    /// Returns how many messages an answer is awaited for: none or one.
    fn on_its_way(&self) -> usize {
        usize::from(matches!(self.wait, Wait::Answer(_))).min(self.queue.len())
    }

    /// Returns how many messages wait.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Stores the subprotocol.
    pub(crate) fn choose(&mut self, protocol: Option<&str>) {
        self.protocol = protocol.map(Into::into);
        self.block.change(self.protocol.as_deref(), &self.meta);
    }

    /// Stores what the app says, or removes it. Returns `false`, and does nothing, if that were more than may be stored.
    pub(crate) fn set_meta(&mut self, name: &Arc<str>, value: Option<&Arc<str>>) -> bool {
        let others = self.meta.iter().filter(|(known, _)| known != name);
        let size: usize = others.map(|(name, value)| name.len() + value.len()).sum();
        let added = value.map_or(0, |value| name.len() + value.len());
        if size + added > self.endpoint.max_meta {
            return false;
        }
        self.meta.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.meta.push((Arc::clone(name), Arc::clone(value)));
        }
        self.block.change(self.protocol.as_deref(), &self.meta);
        true
    }

    fn memory(&self) -> usize {
        let meta: usize = self
            .meta
            .iter()
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum();
        size_of::<Self>()
            + self.block.memory()
            + meta
            + self.queued
            + self.queue.capacity() * size_of::<Message<'_>>()
    }
}

/// All members of a thread, and the bytes they hold.
#[derive(Default)]
pub(crate) struct Members {
    slab: Slab<Box<Member>>,
    serial: u64,
    /// Bytes of heap of all.
    pub(crate) held: usize,
    /// What waits, by app.
    pub(crate) waiting: Vec<Waiting>,
}

/// Messages that wait for an app, and the bytes of their payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Members {
    pub(crate) fn insert(&mut self, mut member: Member) -> Key {
        self.serial += 1;
        member.serial = self.serial;
        let index = self.slab.insert(Box::new(member));
        let key = Key {
            serial: self.serial,
            index,
        };
        self.recount(key);
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Member> {
        let member = self.slab.get(key.index)?;
        (member.serial == key.serial).then_some(member)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Member> {
        let member = self.slab.get_mut(key.index)?;
        (member.serial == key.serial).then_some(member)
    }

    /// Finds the member of a socket at a place where it may be.
    pub(crate) fn find(&self, index: usize, id: SocketId) -> Option<Key> {
        let member = self.slab.get(index)?;
        (member.id == Some(id)).then_some(Key {
            serial: member.serial,
            index,
        })
    }

    /// The same, with the member.
    pub(crate) fn find_mut(&mut self, index: usize, id: SocketId) -> Option<(Key, &mut Member)> {
        let member = self.slab.get_mut(index)?;
        let serial = member.serial;
        (member.id == Some(id)).then_some((Key { serial, index }, member))
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Box<Member>> {
        self.get(key)?;
        let member = self.slab.try_remove(key.index)?;
        self.held -= member.counted;
        self.wait(member.counted_waiting, Waiting::default());
        Some(member)
    }

    /// Counts a member's heap again, after it changed.
    pub(crate) fn recount(&mut self, key: Key) {
        if let Some(member) = self.slab.get_mut(key.index) {
            let now = member.memory();
            self.held = self.held - member.counted + now;
            member.counted = now;
            let waits = Waiting {
                messages: member.queue.len(),
                bytes: member.queued,
            };
            let app = member.endpoint.hooks.app;
            let (before, waited) = std::mem::replace(&mut member.counted_waiting, (app, waits));
            if before == app {
                self.wait((app, waited), waits);
            } else {
                self.wait((before, waited), Waiting::default());
                self.wait((app, Waiting::default()), waits);
            }
        }
    }

    fn wait(&mut self, (app, before): (usize, Waiting), now: Waiting) {
        if self.waiting.len() <= app {
            self.waiting.resize(app + 1, Waiting::default());
        }
        if let Some(sum) = self.waiting.get_mut(app) {
            sum.messages = sum.messages - before.messages + now.messages;
            sum.bytes = sum.bytes - before.bytes + now.bytes;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Member)> {
        self.slab.iter().map(|(index, member)| {
            let serial = member.serial;
            (Key { serial, index }, &**member)
        })
    }

    /// Takes them all.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Box<Member>> + '_ {
        self.held = 0;
        self.waiting.fill(Waiting::default());
        self.slab.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::testing::{endpoint_with, hooks, id};

    fn member() -> Member {
        let mut hooks = hooks();
        hooks.queue_messages = 4;
        hooks.queue_bytes = 10;
        let endpoint = Rc::new(endpoint_with(hooks));
        Member::new(Some(id(1)), &endpoint, Block::default(), Phase::Open)
    }

    #[test]
    fn a_queue_is_full_by_count_or_bytes_and_has_room_again_at_half() {
        let mut member = member();
        for _ in 0..3 {
            assert!(!member.push(Message::text("x").into_owned()));
        }
        assert!(member.push(Message::text("x").into_owned()));
        assert!(!member.has_room());
        member.pop();
        assert!(!member.has_room());
        member.pop();
        assert!(member.has_room());
        assert!(member.push(Message::text("eight...").into_owned()));
        assert!(!member.has_room());
    }

    #[test]
    fn closed_is_due_after_every_message_and_numbers_do_not_jump() {
        let mut member = member();
        assert!(member.due().is_none());
        for text in ["a", "b"] {
            member.push(Message::text(text).into_owned());
        }
        member.phase = Phase::Ended(Box::new(Ended::unseen("")));
        for expected in 1..=2 {
            assert!(matches!(member.due(), Some(What::Message { seq, .. }) if seq == expected));
            member.pop();
        }
        assert!(matches!(
            member.due(),
            Some(What::Closed {
                undelivered: Some(0),
                ..
            })
        ));
    }

    #[test]
    fn meta_is_stored_up_to_its_limit() {
        let mut member = member();
        let value: Arc<str> = "x".repeat(8 * 1024 - 4).into();
        assert!(member.set_meta(&"name".into(), Some(&value)));
        assert!(!member.set_meta(&"b".into(), Some(&"".into())));
        assert!(member.set_meta(&"name".into(), Some(&"y".into())));
        assert!(member.set_meta(&"b".into(), Some(&"z".into())));
        assert!(member.set_meta(&"name".into(), None));
        assert_eq!(member.meta, [("b".into(), "z".into())]);
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let mut members = Members::default();
        let key = members.insert(member());
        let before = members.held;
        let text = "x".repeat(1000);
        members
            .get_mut(key)
            .unwrap()
            .push(Message::text(&text).into_owned());
        members.recount(key);
        assert!(members.held >= before + 1000);
        let one = Waiting {
            messages: 1,
            bytes: 1000,
        };
        assert_eq!(members.waiting, [one]);
        // It goes over to another app, and what it has queued goes along.
        let mut other = hooks();
        other.app = 1;
        members.get_mut(key).unwrap().endpoint = Rc::new(endpoint_with(other));
        members.recount(key);
        assert_eq!(members.waiting, [Waiting::default(), one]);
        assert!(members.remove(key).is_some() && members.remove(key).is_none());
        assert_eq!(members.held, 0);
        assert_eq!(members.waiting, [Waiting::default(); 2]);
    }
}
