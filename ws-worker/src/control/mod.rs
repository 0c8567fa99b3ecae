//! The control API's listener and its connections: a source in the loop of the first thread. Which connection is served
//! when, and how many there may be; knows neither HTTP nor what a call does.

mod api;
mod connection;
mod guard;
mod http;
mod page;

use crate::command::{Outcome, Ticket};
use crate::forwarded::Peer;
use crate::listener::{Accepted, Acceptor, Listening};
use crate::process::Process;
use crate::source::{Part, Readiness, Turn, token};
use crate::stream::Stream;
use connection::{Connection, Fate, Shared, Standing};
use guard::Guard;
use mio::Registry;
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use ws_proto::Instant;

/// Connections that are served. A reverse proxy or an app's pool needs a few dozen. One that has not shown its right to be
/// here gives way to a new one.
const MAX_CONNECTIONS: usize = 256;
/// More that are told so with a 503; beyond them a connection is dropped without a word.
const MAX_TURNED_AWAY: usize = 32;
/// Connections accepted in one turn.
const MAX_ACCEPTS: usize = 64;
/// After an accept that failed, for want of descriptors most likely: no edge will come for what already waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control API. One a process, in the loop of the first thread.
pub(crate) struct Control {
    listener: Option<Acceptor>,
    connections: Slab<Connection>,
    /// Connections accepted so far.
    generation: u32,
    shared: Shared,
    /// Slots that have used up their share of the last turn.
    again: VecDeque<(usize, u32)>,
    /// When to accept again without an edge.
    accept_at: Option<Instant>,
    /// No connection's deadline is earlier.
    due: Option<Instant>,
}

impl Control {
    /// Registers the listener.
    ///
    /// # Errors
    /// The system's, or the operator's: TCP without a token.
    pub(crate) fn new(
        process: Arc<Process>,
        listener: Listening,
        registry: &Registry,
    ) -> io::Result<Self> {
        let token_wanted = process
            .config
            .control
            .as_ref()
            .and_then(|control| control.token.as_ref());
        if token_wanted.is_none() && matches!(listener, Listening::Tcp(_)) {
            let text = "the control API needs a token on TCP";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let guard = Guard::new(token_wanted);
        let mut listener = Acceptor::new(listener, false);
        listener.register(registry, token(Part::Control, 0))?;
        Ok(Self {
            listener: Some(listener),
            connections: Slab::new(),
            generation: 0,
            shared: Shared {
                process,
                guard,
                asked: 0,
                look: None,
                stopping: false,
                expected: Arc::default(),
            },
            again: VecDeque::new(),
            // What came between bind and register makes no edge on every system.
            accept_at: Some(Instant::at(0)),
            due: None,
        })
    }

    /// Takes another configuration: its bounds, its routes, its token.
    pub(crate) fn reload(&mut self, process: &Arc<Process>) {
        let control = process.config.control.as_ref();
        let token = control.and_then(|control| control.token.as_ref());
        self.shared.guard.replace(token);
        self.shared.process = Arc::clone(process);
    }

    /// Takes an event: `number` 0 is the listener.
    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>, number: usize, readiness: Readiness) {
        if number == 0 {
            return self.accept(turn);
        }
        let Some((slot, generation)) = slot_of(number) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return; // It left meanwhile.
        };
        if connection.generation == generation {
            connection.note(readiness);
            self.run(turn, slot, Connection::serve);
        }
    }

    /// Says what `turn.now` demands, and serves those that used up their share. Early and repeated calls are harmless.
    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        if self.accept_at.is_some_and(|at| at <= turn.now) {
            self.accept(turn);
        }
        for (slot, generation) in std::mem::take(&mut self.again) {
            let connection = self.connections.get(slot);
            if connection.is_some_and(|connection| connection.generation == generation) {
                self.run(turn, slot, Connection::serve);
            }
        }
        if self.due.is_some_and(|due| due <= turn.now) {
            self.due = None;
            let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                self.run(turn, slot, Connection::handle_timeout);
            }
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is to be called; a moment that has passed means at once.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::at(0));
        }
        [self.accept_at, self.due].into_iter().flatten().min()
    }

    /// Takes what came of a command on one thread. What nobody waits for any more is dropped.
    pub(crate) fn outcome(&mut self, turn: &mut Turn<'_>, ticket: Ticket, outcome: Outcome) {
        let slot = slot_of_ticket(ticket.number);
        self.run(turn, slot, |connection, turn, shared, slot| {
            connection.outcome(turn, shared, slot, ticket, outcome)
        });
    }

    /// Ends it: no accept, idle connections are closed, the others with their answer. Until the last one is gone
    /// ([`open`](Self::open)) the loop may go on calling.
    pub(crate) fn stop(&mut self) {
        self.listener = None;
        self.accept_at = None;
        self.shared.stopping = true;
        let memory = &self.shared.process.counters.memory;
        self.connections.retain(|_, connection| {
            let idle = connection.is_idle();
            if idle {
                connection.release(memory);
            }
            !idle
        });
    }

    /// Returns how many connections there are.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        self.connections.len()
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        self.accept_at = None;
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &mut self.listener else {
                return;
            };
            match listener.accept() {
                Accepted::Client(stream, peer) => self.admit(turn, stream, peer),
                Accepted::Nobody => return,
                Accepted::Again => {}
                Accepted::Exhausted(_) => {
                    self.shared.process.counters.accept_errors.one();
                    self.accept_at = Some(turn.now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_at = Some(turn.now); // There may be more, and no edge will tell.
    }

    fn admit(&mut self, turn: &mut Turn<'_>, mut stream: Stream, peer: Peer) {
        let is_served = self.has_room(turn);
        if !is_served && self.connections.len() >= MAX_CONNECTIONS + MAX_TURNED_AWAY {
            return;
        }
        self.generation = self.generation.wrapping_add(1) & GENERATIONS;
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let number = number(slot, self.generation);
        let token = token(Part::Control, number);
        if stream.register(turn.registry, token).is_err() {
            return;
        }
        let peer = match peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        };
        let mut connection = Connection::new(stream, self.generation, peer, turn.now);
        if !is_served {
            connection.turn_away(turn.now, &self.shared);
        }
        entry.insert(connection);
        self.run(turn, slot, Connection::serve);
    }

    /// Returns whether another connection can be served. If all places are taken, the oldest caller that has shown no right to
    /// its place gives it up, whatever it is about: else whoever reaches the listener could lock the app out by doing nothing.
    fn has_room(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.connections.len() < MAX_CONNECTIONS {
            return true;
        }
        let (mut served, mut oldest) = (0, None);
        for (slot, connection) in &self.connections {
            served += usize::from(connection.standing != Standing::TurnedAway);
            if connection.standing == Standing::Unknown {
                let own = (connection.accepted_at, slot);
                oldest = Some(oldest.map_or(own, |oldest| own.min(oldest)));
            }
        }
        if served >= MAX_CONNECTIONS
            && let Some((_, slot)) = oldest
        {
            self.run(turn, slot, |_, _, _, _| Fate::Over);
            served -= 1;
        }
        served < MAX_CONNECTIONS
    }

    /// Lets a connection do something, and sees to what becomes of it.
    fn run(
        &mut self,
        turn: &mut Turn<'_>,
        slot: usize,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut Shared, usize) -> Fate,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        match act(connection, turn, &mut self.shared, slot) {
            Fate::Over => {
                let mut connection = self.connections.remove(slot);
                connection.release(&self.shared.process.counters.memory);
                return;
            }
            Fate::Again => self.again.push_back((slot, connection.generation)),
            Fate::Waits => {}
        }
        let deadline = connection.deadline;
        self.due = Some(self.due.map_or(deadline, |due| due.min(deadline)));
    }
}

/// A connection's number among the tokens: 32 bits of slot and one, so that 0 is the listener, then 24 of generation.
const SLOT_BITS: u32 = 32;
const GENERATIONS: u32 = 0xFF_FFFF;

fn number(slot: usize, generation: u32) -> usize {
    (generation as usize) << SLOT_BITS | (slot + 1)
}

fn slot_of(number: usize) -> Option<(usize, u32)> {
    let slot = (number & ((1 << SLOT_BITS) - 1)).checked_sub(1)?;
    Some((slot, u32::try_from(number >> SLOT_BITS).ok()?))
}

/// A question's number: 16 bits of slot, then a count, so that the outcome finds its way back and a late one does not.
const TICKET_SLOT_BITS: u32 = 16;

fn ticket_number(count: u64, slot: usize) -> u64 {
    count << TICKET_SLOT_BITS | slot as u64 & ((1 << TICKET_SLOT_BITS) - 1)
}

fn slot_of_ticket(number: u64) -> usize {
    (number & ((1 << TICKET_SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests;
