//! One message, or the batch of a turn, to many sockets: framed once a variant, written once a client.
//! Knows no order but that of its batch.

use super::Worker;
use crate::client::{Drop, Phase, Verdict};
use crate::command::{Action, Broadcast, Command, Counted, Scope, SocketId};
use crate::groups::Members;
use std::sync::Arc;
use ws_proto::{Framing, Output, Variant};

/// Broadcasts that are written together.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

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

    pub(super) fn broadcast(
        &mut self,
        scope: &Scope,
        except: Option<SocketId>,
        batch: &[Arc<Broadcast>],
    ) -> Counted {
        let mut audience = std::mem::take(&mut self.audience);
        audience.clear();
        self.gather_audience(scope, &mut audience);
        let except = except.map(|id| (id.slot, id.key)).filter(|_| {
            // A slot says nothing on another thread.
            except.is_some_and(|id| id.thread == self.common.router.thread)
        });
        let mut counted = Counted::default();
        let mut framed = FramedBatch::new(batch);
        for &slot in &audience {
            let Some(client) = self.clients.at_mut(slot) else {
                continue;
            };
            if except == Some((slot, client.key)) {
                continue;
            }
            let Phase::Open(connection) = &client.phase else {
                continue;
            };
            let variant = match connection.admits(framed.binary, framed.longest) {
                Ok(variant) => variant,
                Err(ws_proto::SendError::NoBinary) => {
                    counted.unsupported += 1;
                    continue;
                }
                Err(_) => continue,
            };
            let entry = client.entry;
            let max_output = self
                .process
                .config
                .routes
                .get(usize::from(client.route.0))
                .map(|route| route.max_output);
            if max_output.is_some_and(|max| client.outbound.len() >= max) {
                counted.full += 1;
                self.process.counters.full.one();
                self.step(entry, |client, cx| {
                    client.drop_now(cx, Drop::Full);
                    ((), Verdict::Leaves)
                });
                continue;
            }
            let payloads = framed.payloads;
            let (joined, frames) = framed.get(variant, &mut self.common.out);
            counted.queued += 1;
            self.step(entry, |client, cx| {
                ((), client.write_shared(cx, joined, frames, payloads))
            });
        }
        self.audience = audience;
        counted
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

/// A batch as it goes out in each variant, made when the first client of that variant hears it.
struct FramedBatch<'a> {
    messages: &'a [Arc<Broadcast>],
    binary: bool,
    /// The longest payload decides whether compression is worth it.
    longest: usize,
    /// All payloads together.
    payloads: u64,
    hybi: Option<Framed>,
    hixie: Option<Framed>,
    deflated: Option<Framed>,
}

struct Framed {
    frames: Vec<Arc<[u8]>>,
    joined: Vec<u8>,
}

impl<'a> FramedBatch<'a> {
    fn new(messages: &'a [Arc<Broadcast>]) -> Self {
        let binary = messages
            .first()
            .is_some_and(|message| message.message().is_binary());
        let lengths = messages
            .iter()
            .map(|message| message.message().payload().len());
        Self {
            messages,
            binary,
            longest: lengths.clone().max().unwrap_or_default(),
            payloads: lengths.map(|length| length as u64).sum(),
            hybi: None,
            hixie: None,
            deflated: None,
        }
    }

    /// Returns all bytes, and the frames they are made of.
    fn get(&mut self, variant: Variant, out: &mut Output) -> (&[u8], &[Arc<[u8]>]) {
        let messages = self.messages;
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
