//! What is counted: one set a process, relaxed atomics, touched at most once a turn on the hot path. Knows no format.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicUsize);

impl Gauge {
    /// Adds `count` and returns the new value.
    pub fn add(&self, count: usize) -> usize {
        self.0
            .fetch_add(count, Ordering::Relaxed)
            .wrapping_add(count)
    }

    /// Subtracts `count`, which was added before.
    pub fn subtract(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sockets accepted on a listener and not yet gone, in any state.
    pub connections: Gauge,
    /// Handshakes in flight: accepted, neither open nor refused.
    pub handshakes: Gauge,
    /// Bytes of all buffers that a peer can make grow: unread, unfinished, queued, unsent. Bounded by `memory`.
    pub memory: Gauge,
    /// Sockets whose compression remembers messages: context takeover was agreed. Bounded by `deflate_memory`.
    pub contexts: Gauge,
    /// Sockets opened.
    pub opened: Counter,
    /// Sockets ended after they were open.
    pub closed: Counter,
    /// Handshakes refused.
    pub refused: Counter,
    /// Messages from clients.
    pub messages_in: Counter,
    /// Messages to clients.
    pub messages_out: Counter,
    /// Binary messages of an app that did not ask what came of them, to versions that have none.
    pub unsupported: Counter,
    /// Sockets dropped because their output was full.
    pub full: Counter,
    /// Sockets dropped because they made no progress.
    pub stalled: Counter,
    /// Turns that panicked and cost their client.
    pub panics: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: Counter,
    /// Hook requests answered 2xx.
    pub hooks_taken: Counter,
    /// Hook requests refused by the app with a 4xx.
    pub hooks_refused: Counter,
    /// Hook attempts that failed and were repeated, or given up.
    pub hooks_failed: Counter,
    /// Times that an app had failed so often in a row that new handshakes were refused without asking it.
    pub breakers_opened: Counter,
    /// Handshakes refused so.
    pub breaker_refused: Counter,
    /// Messages that got no answer when their socket was closed, as `Ws-Undelivered` says.
    pub undelivered: Counter,
    /// Closed hooks that were still owed at the end and had no journal.
    pub closed_lost: Counter,
    /// Closed hooks that an earlier life left in the journal.
    pub closed_recovered: Counter,
    /// Writes to the journal that failed.
    pub journal_errors: Counter,
    /// Handshakes answered 503, or let in without the journal, because it could not be written.
    pub journal_refused: Counter,
}

/// What one thread counts between two turns of its loop, without atomics.
#[derive(Debug, Default)]
pub struct Totals {
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients.
    pub messages_out: u64,
}

impl Totals {
    /// Adds them up at the end of a turn.
    pub fn flush(&mut self, counters: &Counters) {
        if self.messages_in > 0 {
            counters
                .messages_in
                .add(std::mem::take(&mut self.messages_in));
        }
        if self.messages_out > 0 {
            counters
                .messages_out
                .add(std::mem::take(&mut self.messages_out));
        }
    }
}
