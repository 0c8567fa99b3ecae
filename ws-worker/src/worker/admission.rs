//! Who is let in: accepting, without spinning and without sleeping for ever when descriptors run out, and the bounds on
//! sockets and handshakes. Knows nothing of what is spoken.

use super::Worker;
use crate::client::Opening;
use crate::client::{Client, Phase, Verdict};
use crate::clients::{self, Clients};
use crate::forwarded::Peer;
use crate::listener::{Accepted, turn_away};
use crate::stream::Stream;
use crate::timers::Entry;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Clients accepted in one turn.
const ACCEPTS: usize = 256;
/// How often the log says that descriptors ran out.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(60);
/// How long accepting rests when descriptors ran out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often accepting is tried while apps hear of what an earlier life left.
const STARTING_REST: Duration = Duration::from_millis(20);

impl Worker {
    /// Lists a handshake that has begun to speak; if it is one too many, somebody has to go.
    pub(super) fn bound_handshakes(&mut self, entry: Entry) {
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        let Phase::Opening(opening) = &mut client.phase else {
            return;
        };
        if !opening.list() {
            return;
        }
        while let Some(first) = self.openings.front()
            && !is_evictable(&mut self.clients, *first)
        {
            self.openings.pop_front();
        }
        self.openings.push_back(entry);
        if self.process.counters.handshakes.get() > self.max_handshakes {
            self.make_room(entry);
        }
    }

    /// Refuses the oldest handshake whose head is not whole, since who speaks at once shall not wait behind who does not; if
    /// all heads are whole, the newcomer.
    pub(super) fn make_room(&mut self, newcomer: Entry) {
        let mut leaves = newcomer;
        while let Some(entry) = self.openings.pop_front() {
            if is_evictable(&mut self.clients, entry) {
                leaves = entry;
                break;
            }
        }
        self.step(leaves, |client, cx| ((), client.evict(cx)));
    }

    pub(super) fn accept(&mut self, number: usize) {
        if self.accept_at.is_some() {
            return;
        }
        if self.process.starting.load(Ordering::Relaxed) {
            self.accept_at = Some(self.common.now + STARTING_REST);
            return;
        }
        for _ in 0..ACCEPTS {
            let Some(acceptor) = self
                .acceptors
                .get_mut(number)
                .filter(|acceptor| acceptor.pending)
            else {
                return;
            };
            self.spare.refill();
            match acceptor.accept() {
                Accepted::Client(stream, peer) => {
                    let proxy_protocol = acceptor.proxy_protocol;
                    self.admit(stream, peer, proxy_protocol);
                }
                Accepted::Nobody => return,
                Accepted::Again => {}
                Accepted::Exhausted(error) => {
                    self.process.counters.accept_errors.one();
                    if self.quiet_until <= self.common.now {
                        self.quiet_until = self.common.now + ACCEPT_COMPLAINT;
                        tracing::warn!(%error, "cannot accept, trying again every 100 ms and when a socket ends; said once a minute");
                    }
                    self.spare.turn_away(acceptor);
                    acceptor.pending = true; // The edge does not come back by itself.
                    self.accept_at = Some(self.common.now + ACCEPT_REST);
                    return;
                }
            }
        }
    }

    pub(super) fn admit(&mut self, mut stream: Stream, peer: Peer, proxy_protocol: bool) {
        let counters = &self.process.counters;
        if counters.connections.add(1) > self.process.config.bounds.max_connections {
            counters.connections.subtract(1);
            counters.refuse(crate::counters::CONNECTIONS);
            turn_away(&mut stream);
            return;
        }
        let Ok(key) = self.random.key() else {
            counters.connections.subtract(1);
            return;
        };
        let opening = Opening::new(self.common.now, peer, proxy_protocol, &self.process.config);
        let entry = self
            .clients
            .insert(|entry| Client::new(stream, opening, entry, key));
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        if let Err(error) = client
            .stream
            .register_reading(self.poll.registry(), clients::token(entry))
        {
            tracing::warn!(%error, "a socket cannot be registered");
            return self.finish(entry, Verdict::Leaves);
        }
        let deadline = client.poll_timeout(&self.process.config);
        self.timers
            .arm(self.common.now, entry, &mut client.armed, deadline);
    }
}

fn is_evictable(clients: &mut Clients, entry: Entry) -> bool {
    clients.get_mut(entry).is_some_and(
        |client| matches!(&client.phase, Phase::Opening(opening) if opening.is_evictable()),
    )
}
