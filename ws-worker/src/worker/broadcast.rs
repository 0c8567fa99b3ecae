//! One message, or the batch of a turn, to many sockets: framed once a variant, written once a client. A large audience is
//! told in several turns, so that nobody waits for all of it; the commands that follow do. Knows no order but that of its batch.

use super::Worker;
use crate::client::{Client, Drop, Phase, Verdict};
use crate::command::{Action, Broadcast, Command, Counted, Outcome, Scope, SocketId, Ticket};
use crate::groups::Members;
use crate::timers::Entry;
use std::sync::Arc;
use ws_proto::{Framing, Output, Variant};

/// Broadcasts that are written together.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;
/// What all broadcasts together may do in a turn before everybody else has one: some milliseconds, as a turn full of events
/// takes. 8 MiB, where each delivery counts for 6 KiB more than it is long: 1,300 short ones, eight of 1 MiB.
pub(super) const SHARE: usize = 8 * 1024 * 1024;
const COST: usize = 6 * 1024;

impl Worker {
    /// Takes the broadcasts that follow to the same audience along, so that each client is written to once.
    pub(super) fn gather(&mut self, scope: &Scope, batch: &mut Vec<Arc<Broadcast>>) {
        let binary = batch
            .first()
            .is_some_and(|message| message.message().is_binary());
        let mut bytes: usize = batch
            .iter()
            .map(|message| message.message().payload().len())
            .sum();
        while let Some(Command {
            action: Action::Broadcast(next, None, message),
            reply: None,
        }) = self.common.router.own.front()
        {
            bytes += message.message().payload().len();
            if next != scope
                || message.message().is_binary() != binary
                || batch.len() == BATCH
                || bytes > BATCH_BYTES
            {
                return;
            }
            batch.push(Arc::clone(message));
            self.common.router.own.pop_front();
        }
    }

    /// Begins a broadcast: as much of it as this turn may do, the rest in the next ones.
    pub(super) fn broadcast(
        &mut self,
        scope: &Scope,
        except: Option<SocketId>,
        batch: Vec<Arc<Broadcast>>,
        reply: Option<Ticket>,
    ) {
        let mut audience = std::mem::take(&mut self.audience);
        audience.clear();
        self.gather_audience(scope, &mut audience);
        // A slot says nothing on another thread.
        let except = except.filter(|id| id.thread == self.common.router.thread);
        if let Some(except) = except {
            let is_except = |client: &Client| client.key == except.key;
            audience.retain(|slot| {
                *slot != except.slot || !self.clients.at(*slot).is_some_and(is_except)
            });
        }
        let spreading = Spreading {
            batch: FramedBatch::new(batch),
            audience,
            next: 0,
            counted: Counted::default(),
            reply,
        };
        self.spread(spreading);
    }

    /// Goes on with the broadcast that earlier turns have begun.
    pub(super) fn go_on_spreading(&mut self) {
        if let Some(spreading) = self.spreading.take() {
            self.spread(*spreading);
        }
    }

    /// Ends what was begun, however long it takes.
    pub(super) fn finish_spreading(&mut self) {
        while self.spreading.is_some() {
            self.share = SHARE;
            self.go_on_spreading();
        }
    }

    fn spread(&mut self, mut spreading: Spreading) {
        let is_begun = !self.owed.is_empty();
        while self.share > 0
            && let Some(&slot) = spreading.audience.get(spreading.next)
        {
            spreading.next += 1;
            if !is_begun || self.owed.take(slot) {
                self.share = self.share.saturating_sub(spreading.batch.cost);
                self.deliver(&mut spreading, slot);
            }
        }
        let rest = spreading.audience.get(spreading.next..).unwrap_or_default();
        if rest.is_empty() {
            self.owed.clear();
            self.audience = spreading.audience;
            if let Some(ticket) = spreading.reply {
                let outcome = Outcome::Counted(spreading.counted);
                self.common.router.answer(ticket, outcome);
            }
            return;
        }
        if !is_begun {
            self.owed.fill(rest);
        }
        self.spreading = Some(Box::new(spreading));
    }

    /// Whoever has its turn hears first what is on its way to it: nothing it is told directly may overtake a broadcast.
    #[cold]
    pub(super) fn catch_up(&mut self, entry: Entry) {
        if self.clients.get_mut(entry).is_some()
            && self.owed.take(entry.slot)
            && let Some(mut spreading) = self.spreading.take()
        {
            self.deliver(&mut spreading, entry.slot);
            self.spreading = Some(spreading);
        }
    }

    #[inline(always)] // Of two callers one has the crowd.
    fn deliver(&mut self, spreading: &mut Spreading, slot: u32) {
        let Spreading { batch, counted, .. } = spreading;
        let Some(client) = self.clients.at_mut(slot) else {
            return;
        };
        let Phase::Open(connection) = &client.phase else {
            return;
        };
        let variant = match connection.admits(batch.binary, batch.longest) {
            Ok(variant) => variant,
            Err(ws_proto::SendError::NoBinary) => {
                counted.unsupported += 1;
                return;
            }
            Err(_) => return,
        };
        let entry = client.entry;
        let routes = &self.process.config.routes;
        let max_output = routes
            .get(usize::from(client.route.0))
            .map(|route| route.max_output);
        if max_output.is_some_and(|max| client.outbound.len() >= max) {
            counted.full += 1;
            self.process.counters.full.one();
            self.step(entry, |client, cx| {
                client.drop_now(cx, Drop::Full);
                ((), Verdict::Leaves)
            });
            return;
        }
        let payloads = batch.payloads;
        let (joined, frames) = batch.get(variant, &mut self.common.out);
        counted.queued += 1;
        self.step(entry, |client, cx| {
            ((), client.write_shared(cx, joined, frames, payloads))
        });
    }

    pub(super) fn gather_audience(&self, scope: &Scope, audience: &mut Vec<u32>) {
        match scope {
            Scope::All => self
                .members
                .iter()
                .for_each(|members| audience.extend_from_slice(members.slots())),
            Scope::Route(route) => {
                audience.extend_from_slice(
                    self.members
                        .get(usize::from(route.0))
                        .map_or(&[], Members::slots),
                );
            }
            Scope::Group(group) => audience.extend_from_slice(self.groups.slots(group)),
            Scope::Union(scopes) => {
                scopes
                    .iter()
                    .for_each(|scope| self.gather_audience(scope, audience));
                audience.sort_unstable();
                audience.dedup();
            }
        }
    }
}

/// A broadcast under way.
pub(super) struct Spreading {
    batch: FramedBatch,
    /// Slots; of those from `next` on only who is in `Worker::owed` is still the one that was meant, and has not heard it.
    audience: Vec<u32>,
    next: usize,
    counted: Counted,
    reply: Option<Ticket>,
}

/// Slots, as bits.
#[derive(Debug, Default)]
pub(super) struct Owed(Vec<u64>);

impl Owed {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn fill(&mut self, slots: &[u32]) {
        let words = slots.iter().max().map_or(0, |last| *last as usize / 64 + 1);
        self.0.clear();
        self.0.resize(words, 0);
        for slot in slots {
            if let Some(word) = self.0.get_mut(*slot as usize / 64) {
                *word |= 1 << (slot % 64);
            }
        }
    }

    /// Takes a slot out; returns whether it was in.
    pub(super) fn take(&mut self, slot: u32) -> bool {
        let Some(word) = self.0.get_mut(slot as usize / 64) else {
            return false;
        };
        let bit = 1 << (slot % 64);
        let was_in = *word & bit != 0;
        *word &= !bit;
        was_in
    }
}

/// A batch as it goes out in each variant, made when the first client of that variant hears it.
struct FramedBatch {
    messages: Vec<Arc<Broadcast>>,
    binary: bool,
    /// The longest payload decides whether compression is worth it.
    longest: usize,
    /// All payloads together.
    payloads: u64,
    /// What one delivery takes of a turn's share.
    cost: usize,
    hybi: Option<Framed>,
    hixie: Option<Framed>,
    deflated: Option<Framed>,
}

struct Framed {
    frames: Vec<Arc<[u8]>>,
    joined: Vec<u8>,
}

impl FramedBatch {
    fn new(messages: Vec<Arc<Broadcast>>) -> Self {
        let binary = messages
            .first()
            .is_some_and(|message| message.message().is_binary());
        let lengths = messages
            .iter()
            .map(|message| message.message().payload().len());
        let longest = lengths.clone().max().unwrap_or_default();
        let payloads = lengths.sum::<usize>();
        Self {
            binary,
            longest,
            payloads: payloads as u64,
            cost: COST + payloads,
            hybi: None,
            hixie: None,
            deflated: None,
            messages,
        }
    }

    /// Returns all bytes, and the frames they are made of.
    fn get(&mut self, variant: Variant, out: &mut Output) -> (&[u8], &[Arc<[u8]>]) {
        let messages = &self.messages;
        let cell = match variant {
            Variant::Plain(Framing::Hybi) => &mut self.hybi,
            Variant::Plain(Framing::Hixie) => &mut self.hixie,
            Variant::Deflated => &mut self.deflated,
        };
        let framed = cell.get_or_insert_with(|| {
            let frames: Vec<Arc<[u8]>> = messages
                .iter()
                .map(|message| Arc::clone(message.bytes(variant, out)))
                .collect();
            let joined = if frames.len() > 1 {
                frames.concat()
            } else {
                Vec::new()
            };
            Framed { frames, joined }
        });
        match framed.frames.as_slice() {
            [only] => (only, &framed.frames),
            _ => (&framed.joined, &framed.frames),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Owed;

    #[test]
    fn a_slot_is_owed_once_and_only_if_it_was_meant() {
        let mut owed = Owed::default();
        assert!(owed.is_empty() && !owed.take(0));
        owed.fill(&[0, 63, 64, 1000]);
        assert!(!owed.is_empty());
        for slot in [0, 63, 64, 1000] {
            assert!(owed.take(slot), "{slot}");
            assert!(!owed.take(slot), "{slot} again");
        }
        for slot in [1, 62, 65, 999, 1001, u32::MAX] {
            assert!(!owed.take(slot), "{slot}");
        }
        assert!(!owed.is_empty(), "a broadcast is under way until its end");
        owed.clear();
        assert!(owed.is_empty());
    }
}
