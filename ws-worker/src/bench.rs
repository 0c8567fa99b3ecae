//! What `benches/inside.rs` measures and no public interface shows: a broadcast on its way, the wheel, hooks as bytes.
//! Only there with the feature `bench`; it promises nothing, and nothing in the worker knows it.

pub use crate::hook::bench::Hook;

use crate::command::Broadcast;
use crate::outbound::Outbound;
use crate::stream::Stream;
use crate::timers::{Armed, Entry, Timers};
use std::io;
use std::sync::Arc;
use ws_proto::{Framing, Instant, Message, Output, Variant};

const NOW: Instant = Instant::at(1_000);

/// A wheel and all whose deadlines lie in it.
#[derive(Debug)]
pub struct Wheel {
    timers: Timers,
    armed: Vec<Armed>,
    due: Vec<u32>,
    now: u64,
}

impl Wheel {
    /// Makes one for so many sockets, none of which has a deadline.
    #[must_use]
    pub fn new(sockets: usize) -> Self {
        Self {
            timers: Timers::new(NOW),
            armed: vec![Armed::NEVER; sockets],
            due: Vec::new(),
            now: NOW.as_millis(),
        }
    }

    /// Gives every socket a deadline between `after` and `after` + 25,000 milliseconds from now. Who has a nearer one keeps it.
    pub fn arm(&mut self, after: u64) {
        for (slot, armed) in (0..).zip(&mut self.armed) {
            let entry = Entry {
                slot,
                generation: 0,
            };
            let now = Instant::at(self.now);
            let deadline = Instant::at(self.now + after + u64::from(slot) % 25_000);
            self.timers.arm(now, entry, armed, Some(deadline));
        }
    }

    /// Lets time pass, a tick a turn, until nobody has a deadline; returns how many were asked.
    pub fn expire(&mut self) -> usize {
        let mut asked = 0;
        while let Some(at) = self.timers.poll_timeout() {
            self.now = at.as_millis();
            self.timers.take_due(at, &mut self.due);
            for slot in self.due.drain(..) {
                if let Some(armed) = self.armed.get_mut(slot as usize) {
                    asked += usize::from(self.timers.disarm(armed));
                }
            }
        }
        asked
    }
}

/// Clients that take nothing: whatever is written to them waits by reference.
#[derive(Debug)]
pub struct Crowd {
    stream: Stream,
    clients: Vec<Outbound>,
}

impl Crowd {
    /// Makes so many.
    ///
    /// # Errors
    /// The system's: there is one socket behind them all.
    pub fn new(clients: usize) -> io::Result<Self> {
        let (stream, _) = mio::net::UnixStream::pair()?;
        Ok(Self {
            stream: Stream::Unix(stream),
            clients: (0..clients).map(|_| Outbound::full(NOW)).collect(),
        })
    }

    /// Queues a frame to all; returns how many bytes wait at the last.
    pub fn queue(&mut self, frame: &[Arc<[u8]>]) -> usize {
        let joined = frame.first().map_or(&[][..], |frame| frame);
        let mut waits = 0;
        for client in &mut self.clients {
            // Nothing is written, so nothing can fail.
            let _ = client.write_shared(NOW, &mut self.stream, joined, frame);
            waits = client.len();
        }
        waits
    }
}

/// Frames a text for all clients of RFC 6455 and the drafts before it, as the first of them makes a broadcast do.
#[must_use]
pub fn frame(text: &str, deflated: bool, out: &mut Output) -> Arc<[u8]> {
    let variant = if deflated {
        Variant::Deflated
    } else {
        Variant::Plain(Framing::Hybi)
    };
    let broadcast = Broadcast::new(Message::text(text).into_owned());
    Arc::clone(broadcast.bytes(variant, out))
}
