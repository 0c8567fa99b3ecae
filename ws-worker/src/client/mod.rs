//! One accepted socket: its handshake or connection, its way out, its readiness. Whatever wakes it (bytes, time, a
//! command) the same steps follow: read, time, write. Knows its handler; not the loop, nor other clients.

use crate::command::{RouteId, SocketId, SocketInfo};
use crate::config::{Config, HeartbeatText, Route};
use crate::counters::{ThreadCounts, Totals};
use crate::ends::About;
use crate::handler::{ClosedBy, Handler, SendError, Socket};
use crate::outbound::{HIGH_MARK, Outbound};
use crate::process::Process;
use crate::source::Router;
use crate::stream::Stream;
use crate::timers::{Armed, Entry};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use ws_proto::{CloseCode, Connection, Event, Input, Instant, Message, Output, Version};

mod account;
mod ending;
mod flags;
mod handshake;
mod lending;
mod opening;

pub(crate) use ending::Drop;
pub(crate) use flags::Flags;
pub(crate) use opening::{Cold, Opening};

use account::Held;
use opening::Step;

/// Bytes a client may have read in one turn before others have theirs.
const TURN_BYTES: usize = 512 * 1024;
/// Where in the shared buffer is read to: behind two bytes and the six of a short frame's head its payload lies where a
/// word begins, and is proved as text by words.
const SCRATCH_OFFSET: usize = 2;
/// Messages likewise, and pings and pongs.
const TURN_MESSAGES: usize = 1024;
/// A message of which so much came is finished all the same: pieces of many clients' messages push each other out of the
/// caches, which costs a third of the CPU time of 1 MiB.
const FINISHED: Range<usize> = 64 * 1024..1024 * 1024;
/// Commands that may wait for the end of the turn before nobody's share is more than one message: each may be a broadcast,
/// which costs as much as there are sockets.
const TURN_COMMANDS: usize = 256;
/// Payloads from this size are written from where they lie.
const LARGE: usize = 16 * 1024;
/// Bytes that are dropped of a client that was refused or has ended, before the socket is dropped as well.
const LINGER_BYTES: usize = 1024 * 1024;

/// What all clients of a loop share, each in its turn.
pub(crate) struct Common {
    pub(crate) now: Instant,
    /// What is read comes here first.
    pub(crate) scratch: Box<[u8]>,
    /// What a turn has to say.
    pub(crate) out: Output,
    pub(crate) router: Router,
    pub(crate) counts: Arc<ThreadCounts>,
    pub(crate) totals: Totals,
    /// Since when the memory budget is nearly used up, and nobody is read.
    pub(crate) starved_since: Option<Instant>,
}

/// What the loop lends to a client for its turn.
pub(crate) struct Context<'a> {
    pub(crate) common: &'a mut Common,
    /// By the routes' numbers.
    pub(crate) handlers: &'a mut [Box<dyn Handler>],
    pub(crate) process: &'a Process,
}

/// One accepted socket: four cache lines, of which a message touches the first three. With thousands of them that is most of what
/// it costs here.
#[repr(C, align(64))]
pub(crate) struct Client {
    pub(crate) flags: Flags,
    pub(crate) route: RouteId,
    /// Place among the route's members, while open; the largest number if it has none.
    place: u32,
    pub(crate) entry: Entry,
    pub(crate) stream: Stream,
    pub(crate) outbound: Outbound,
    /// What of it counts in the memory gauge, where anything does.
    held: Option<Box<Held>>,
    pub(crate) phase: Phase,
    /// Payloads from the client, and to it.
    bytes_in: u64,
    bytes_out: u64,
    messages_in: u64,
    messages_out: u64,
    /// What it said when it came, where somebody may ask for it.
    about: About,
    /// What the app said of it, or we at its end.
    pub(crate) cold: Option<Box<Cold>>,
    pub(crate) key: [u8; 16],
    pub(crate) armed: Armed,
    /// Since when it is open; the same in seconds since 1970.
    since: Instant,
    opened_at: u32,
    /// Of the last ping, in milliseconds; the largest number if there was none.
    round_trip: u32,
    /// Its address, if sockets of an address are counted.
    counted_peer: Option<Box<std::net::IpAddr>>,
}

#[cfg(not(any(test, debug_assertions)))] // Their sockets are larger.
const _: () = assert!(size_of::<Client>() <= 256);

/// Where it stands.
pub(crate) enum Phase {
    Opening(Box<Opening>),
    Open(Connection),
    /// Nothing more is said; what the peer still sends is dropped until its end, so that close is no reset.
    Lingering {
        until: Instant,
        dropped: usize,
        finished: bool,
    },
}

/// Whether the client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing but its messages has changed, and its deadline can still only move away.
    Rests,
    Stays,
    /// It wants another turn: its share is used up.
    Again,
    /// Nothing is left to do: drop the socket.
    Leaves,
}

struct Share {
    bytes: usize,
    messages: usize,
}

impl Share {
    fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.messages == 0
    }
}

fn route(config: &Config, id: RouteId) -> Option<&Arc<Route>> {
    config.routes.get(usize::from(id.0))
}

impl Client {
    pub(crate) fn new(stream: Stream, opening: Opening, entry: Entry, key: [u8; 16]) -> Self {
        Self {
            stream,
            outbound: Outbound::default(),
            phase: Phase::Opening(Box::new(opening)),
            held: None,
            about: About::default(),
            cold: None,
            key,
            entry,
            armed: Armed::NEVER,
            bytes_in: 0,
            bytes_out: 0,
            messages_in: 0,
            messages_out: 0,
            round_trip: u32::MAX,
            since: Instant::at(0),
            opened_at: 0,
            route: RouteId(0),
            place: u32::MAX,
            counted_peer: None,
            flags: Flags::default(),
        }
    }

    pub(crate) fn id(&self, cx: &Context<'_>) -> SocketId {
        self.id_in(cx.process, &cx.common.router)
    }

    fn id_in(&self, process: &Process, router: &Router) -> SocketId {
        SocketId {
            boot: process.boot_mark,
            thread: router.thread,
            slot: self.entry.slot,
            key: self.key,
        }
    }

    /// Serves it: bytes in, time, bytes out.
    #[inline]
    pub(crate) fn serve(&mut self, cx: &mut Context<'_>) -> Verdict {
        let mut share = Share {
            bytes: TURN_BYTES,
            messages: TURN_MESSAGES,
        };
        if self
            .flags
            .are(Flags::CALLED, Flags::READABLE.and(Flags::CALM))
            && self.holds_nothing()
            && cx.common.starved_since.is_none()
        {
            // As nearly always: nothing but bytes can have come.
            self.read_shared(cx, &mut share);
            if self.flags.has(Flags::READABLE) {
                self.read(cx, &mut share);
            }
            // To answer it may have remembered what it compressed.
            let holds_nothing = !self.flags.has(Flags::DEFLATES) || self.holds_nothing();
            return self.settle_after(cx, &share, holds_nothing);
        }
        self.serve_otherwise(cx, &mut share);
        self.settle(cx, &share)
    }

    /// Serves one that something hinders, waits for, or has called that is not its socket.
    #[inline(never)]
    fn serve_otherwise(&mut self, cx: &mut Context<'_>, share: &mut Share) {
        if self.outbound.has_backlog() {
            let drained = self.outbound.drain(cx.common.now, &mut self.stream);
            self.flags.raise(Flags::BROKEN, drained.is_err());
        }
        self.update_pause(cx);
        self.read(cx, share);
        if !self.flags.has(Flags::CALM) {
            self.handle_timeout(cx); // After the bytes: a pong already here is not late.
        }
    }

    /// Ends a turn: the connection's end is told, the turn's output written, the next step decided.
    fn settle(&mut self, cx: &mut Context<'_>, share: &Share) -> Verdict {
        let holds_nothing = self.holds_nothing();
        self.settle_after(cx, share, holds_nothing)
    }

    /// The same for one of which is known whether it holds nothing, but for what [`Flags::PIECES`] tells.
    #[inline(always)] // Two callers, and in one of them all messages come.
    fn settle_after(
        &mut self,
        cx: &mut Context<'_>,
        share: &Share,
        holds_nothing: bool,
    ) -> Verdict {
        if let Phase::Open(connection) = &self.phase
            && connection.closed().is_some()
        {
            self.end(cx);
        }
        if !self.flags.has(Flags::BROKEN) {
            let flushed = self
                .outbound
                .flush(cx.common.now, &mut self.stream, &mut cx.common.out);
            self.flags.raise(Flags::BROKEN, flushed.is_err());
        }
        if self.flags.has(Flags::BROKEN) {
            return self.leave(cx);
        }
        if holds_nothing
            && self.flags.are(Flags::CALLED, Flags::CALM)
            && cx.common.starved_since.is_none()
            && self.is_calm()
        {
            return Verdict::Rests; // As nearly always: there is nothing of which the rest would have to take note.
        }
        self.settle_otherwise(cx, share)
    }

    /// Returns whether it is open and holds no bytes, in either direction, of which anybody had to take note.
    #[inline]
    fn holds_nothing(&self) -> bool {
        self.held.is_none()
            && !self.outbound.has_backlog()
            && matches!(&self.phase, Phase::Open(connection) if connection.memory() == 0)
    }

    #[inline(never)]
    fn settle_otherwise(&mut self, cx: &mut Context<'_>, share: &Share) -> Verdict {
        self.flags.set(Flags::PIECES, false);
        self.update_pause(cx);
        self.account(cx);
        if let Phase::Lingering { .. } = &self.phase
            && self.outbound.len() == 0
            && self.finish_writing()
        {
            return Verdict::Leaves;
        }
        let more = self.flags.has(Flags::READABLE) || self.has_unread();
        if more && self.may_take(cx) && share.is_used_up() {
            Verdict::Again
        } else {
            Verdict::Stays
        }
    }

    /// Ends with a socket that failed: nothing can be written any more.
    #[cold]
    fn leave(&mut self, cx: &mut Context<'_>) -> Verdict {
        cx.common.out.clear(crate::outbound::KEEP);
        if let Phase::Open(connection) = &mut self.phase {
            connection.handle_eof(cx.common.now);
            self.end(cx);
        }
        self.lose(cx, CloseCode::ABNORMAL, "connection lost", ClosedBy::Client);
        Verdict::Leaves
    }

    /// All is written that was to be: says so to the peer, once. Returns whether the peer's stream has ended as well.
    fn finish_writing(&mut self) -> bool {
        if let Phase::Lingering { finished, .. } = &mut self.phase
            && !self.flags.has(Flags::EOF)
            && !std::mem::replace(finished, true)
        {
            self.stream.finish();
        }
        self.flags.has(Flags::EOF)
    }

    #[inline]
    fn may_take(&self, cx: &Context<'_>) -> bool {
        match &self.phase {
            Phase::Opening(opening) => !opening.is_deciding(),
            Phase::Open(_) => !self.is_stopped(cx),
            Phase::Lingering { .. } => true,
        }
    }

    #[inline]
    fn is_stopped(&self, cx: &Context<'_>) -> bool {
        self.flags.has(Flags::STOPPED) || cx.common.starved_since.is_some()
    }

    /// Returns whether its deadlines can only move away: it is open, we listen, no ping is unanswered, and nothing waits in
    /// either direction. As long as that holds from turn to turn, only the wheel need ask for the time.
    #[inline(always)] // Two callers, and one of them after all messages.
    pub(crate) fn is_calm(&self) -> bool {
        match &self.phase {
            Phase::Open(connection) => {
                !connection.is_closing()
                    && !connection.awaits_pong()
                    && !self.flags.has(Flags::SUSPENDED)
                    && self.outbound.len() == 0
            }
            Phase::Opening(_) | Phase::Lingering { .. } => false,
        }
    }

    /// Tells the connection when we stop and start listening, so that nobody is called silent meanwhile.
    #[inline]
    fn update_pause(&mut self, cx: &Context<'_>) {
        if self.flags.has(Flags::HINDERED)
            || self.outbound.has_backlog()
            || cx.common.starved_since.is_some()
        {
            self.change_pause(cx);
        }
    }

    #[inline(never)]
    fn change_pause(&mut self, cx: &Context<'_>) {
        if self.flags.has(Flags::BLOCKED) {
            self.flags
                .set(Flags::BLOCKED, !self.outbound.is_below_low_mark());
        } else if self.outbound.is_above_high_mark() {
            self.flags.set(Flags::BLOCKED, true);
        }
        self.flags
            .set(Flags::STARVED, cx.common.starved_since.is_some());
        let suspend = self.flags.has(Flags::PAUSED)
            || self.flags.has(Flags::BLOCKED)
            || self.flags.has(Flags::STARVED);
        if suspend != self.flags.has(Flags::SUSPENDED)
            && let Phase::Open(connection) = &mut self.phase
        {
            self.flags.set(Flags::SUSPENDED, suspend);
            if suspend {
                connection.pause(cx.common.now);
            } else {
                connection.resume(cx.common.now);
            }
        }
    }

    #[inline(never)]
    fn read(&mut self, cx: &mut Context<'_>, share: &mut Share) {
        if self.has_unread() && self.may_take(cx) {
            self.take_unread(cx, share);
        }
        let mut finished = FINISHED;
        while self.flags.has(Flags::READABLE)
            && !self.has_unread()
            && !self.flags.has(Flags::BROKEN)
            && self.may_take(cx)
        {
            if share.bytes == 0
                && let Phase::Open(connection) = &self.phase
                && finished.contains(&connection.unfinished())
            {
                share.bytes = 1; // For one more read. Where less came then, it is of the next message.
                finished.start = connection.unfinished();
            }
            if share.is_used_up() {
                break;
            }
            if let Phase::Open(connection) = &mut self.phase
                && let Some(room) = connection.read_into()
            {
                let size = room.len();
                let result = self.stream.read(room);
                let Some(count) = self.after_read(cx, result, size, share) else {
                    continue;
                };
                let Phase::Open(connection) = &mut self.phase else {
                    continue;
                };
                let event = connection.received(cx.common.now, count, &mut cx.common.out);
                self.event(cx, event, share);
                continue;
            }
            self.read_shared(cx, share);
        }
    }

    /// Reads once into the buffer that all share, and takes what came.
    #[inline(always)] // Two callers, and in one of them nearly all messages come.
    fn read_shared(&mut self, cx: &mut Context<'_>, share: &mut Share) {
        // The buffer leaves the context for as long as messages borrow it.
        let mut scratch = std::mem::take(&mut cx.common.scratch);
        let Some((_, room)) = scratch.split_first_chunk_mut::<SCRATCH_OFFSET>() else {
            return; // It is never so small.
        };
        let size = room.len();
        let result = self.stream.read(room);
        if let Some(count) = self.after_read(cx, result, size, share) {
            let (bytes, _) = room.split_at_mut(count);
            let mut input = Input::new(bytes);
            self.take(cx, &mut input, share);
            if !input.is_empty() {
                self.keep_unread(input.as_slice().to_vec());
                self.flags.set(Flags::PIECES, true);
            }
        }
        cx.common.scratch = scratch;
    }

    /// Takes what an earlier turn left.
    #[inline(never)]
    fn take_unread(&mut self, cx: &mut Context<'_>, share: &mut Share) {
        let mut bytes = self.take_all_unread();
        let mut input = Input::new(&mut bytes);
        self.take(cx, &mut input, share);
        let left = input.len();
        if left > 0 {
            bytes.drain(..bytes.len() - left);
            self.keep_unread(bytes);
        }
    }

    /// Remembers what a read says of the socket; returns how many bytes came.
    #[inline(always)] // Two callers, and one of them before all messages.
    fn after_read(
        &mut self,
        cx: &mut Context<'_>,
        result: std::io::Result<usize>,
        size: usize,
        share: &mut Share,
    ) -> Option<usize> {
        match result {
            Ok(count) if count > 0 => {
                if count < size && !self.flags.has(Flags::HANGUP) {
                    self.flags.set(Flags::READABLE, false);
                }
                share.bytes = share.bytes.saturating_sub(count);
                Some(count)
            }
            result => {
                self.read_nothing(cx, result);
                None
            }
        }
    }

    /// Nothing came, the stream's end or an error.
    #[inline(never)]
    fn read_nothing(&mut self, cx: &mut Context<'_>, result: std::io::Result<usize>) {
        self.flags.set(Flags::READABLE, false);
        match result {
            Ok(_) => {
                self.flags.set(Flags::EOF, true);
                match &mut self.phase {
                    Phase::Open(connection) => connection.handle_eof(cx.common.now),
                    Phase::Opening(_) => self.leave_opening(cx),
                    Phase::Lingering { .. } => {}
                }
            }
            Err(error) => self
                .flags
                .raise(Flags::BROKEN, error.kind() != ErrorKind::WouldBlock),
        }
    }

    /// Takes bytes until none is left or nothing more may be taken now.
    #[inline(always)] // Two callers, and in one of them all messages come.
    fn take(&mut self, cx: &mut Context<'_>, input: &mut Input<'_>, share: &mut Share) {
        // At least once: a handshake may have had its last byte in an earlier turn.
        loop {
            if let Phase::Open(connection) = &mut self.phase {
                if let Some(message) =
                    connection.receive_whole(cx.common.now, input, &mut cx.common.out)
                {
                    self.message(cx, message);
                    share.messages = share.messages.saturating_sub(1);
                    self.bound(cx, share);
                } else {
                    self.flags.set(Flags::PIECES, true);
                    let event = connection.receive(cx.common.now, input, &mut cx.common.out);
                    if event.is_none() {
                        return;
                    }
                    self.event(cx, event, share);
                }
                if input.is_empty() || share.is_used_up() || self.is_stopped(cx) {
                    return;
                }
            } else if !self.take_otherwise(cx, input) {
                return;
            }
        }
    }

    /// What [`take`](Self::take) does before and after a client is open; returns whether it may go on.
    #[inline(never)]
    fn take_otherwise(&mut self, cx: &mut Context<'_>, input: &mut Input<'_>) -> bool {
        match &mut self.phase {
            Phase::Opening(opening) => {
                opening.count(cx.process);
                match opening.receive(
                    cx.common.now,
                    &cx.process.config.head,
                    input,
                    &mut cx.common.out,
                ) {
                    Step::More => return false,
                    Step::Request => self.decide(cx),
                    Step::Open => self.open(cx),
                    Step::Refused(refusal) => self.refuse(cx, refusal),
                }
                self.may_take(cx)
            }
            Phase::Lingering { dropped, .. } => {
                *dropped += input.take(usize::MAX).len();
                self.flags.raise(Flags::BROKEN, *dropped > LINGER_BYTES);
                false
            }
            Phase::Open(_) => true,
        }
    }

    #[inline(never)]
    fn event(&mut self, cx: &mut Context<'_>, event: Option<Event<'_>>, share: &mut Share) {
        share.messages = share.messages.saturating_sub(usize::from(event.is_some()));
        match event {
            Some(Event::Message(message)) => {
                if self.flags.has(Flags::DEFLATES) {
                    // A few bytes may have become many: its share is of what others wait for.
                    share.bytes = share.bytes.saturating_sub(message.payload().len());
                }
                self.message(cx, message);
            }
            Some(Event::Pong(round_trip)) => {
                cx.common.counts.round_trip.add(round_trip);
                self.round_trip = u32::try_from(round_trip.as_millis()).unwrap_or(u32::MAX);
                self.lend(cx, |socket, handler| handler.on_pong(socket, round_trip));
            }
            Some(_) | None => {}
        }
        self.bound(cx, share);
    }

    /// Ends its turn after too many commands, and writes where there is too much to say.
    #[inline(always)]
    fn bound(&mut self, cx: &mut Context<'_>, share: &mut Share) {
        if cx.common.router.own.len() >= TURN_COMMANDS {
            share.messages = 0;
        }
        if cx.common.out.len() > HIGH_MARK {
            self.flush_early(cx);
        }
    }

    /// Writes before the turn is over: the turn's output is no place for more than a socket takes.
    #[inline(never)]
    fn flush_early(&mut self, cx: &mut Context<'_>) {
        let flushed = self
            .outbound
            .flush(cx.common.now, &mut self.stream, &mut cx.common.out);
        self.flags.raise(Flags::BROKEN, flushed.is_err());
        self.flags
            .raise(Flags::BLOCKED, self.outbound.is_above_high_mark());
    }

    #[inline(always)]
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        let bytes = message.payload().len() as u64;
        self.messages_in = self.messages_in.wrapping_add(1);
        self.bytes_in = self.bytes_in.wrapping_add(bytes);
        cx.common.totals.messages_in += 1;
        cx.common.totals.bytes_in += bytes;
        let process = cx.process;
        let Some(route) = route(&process.config, self.route) else {
            return;
        };
        if let Some(heartbeat) = &route.heartbeat_text
            && self.is_heartbeat(cx, heartbeat, &message)
        {
            return;
        }
        if let Some(handler) = cx.handlers.get_mut(usize::from(self.route.0))
            && let Phase::Open(_) = self.phase
        {
            let inner = &mut self.lending(cx.common, process, route);
            handler.on_message(&mut Socket { inner }, message);
        }
    }

    /// Answers a message that is the route's heartbeat, if this is one.
    #[inline(never)]
    fn is_heartbeat(
        &mut self,
        cx: &mut Context<'_>,
        heartbeat: &HeartbeatText,
        message: &Message<'_>,
    ) -> bool {
        let is_heartbeat = matches!(message, Message::Text(text) if *text == heartbeat.receive);
        if is_heartbeat && let Some(answer) = &heartbeat.answer {
            self.lend(cx, |socket, _| {
                // A client that takes no answers is over its mark and learns it that way.
                let _ = socket.send(Message::text(answer));
            });
        }
        is_heartbeat
    }

    #[inline(never)]
    fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Opening(opening) => {
                if let Err(refusal) = opening.handle_timeout(cx.common.now) {
                    self.refuse(cx, refusal);
                }
            }
            Phase::Open(connection) => {
                connection.handle_timeout(cx.common.now, &mut cx.common.out);
                let stall = route(&cx.process.config, self.route).map(|route| route.stall_timeout);
                if let (Some(since), Some(stall)) = (self.outbound.stalled_since(), stall)
                    && since + stall <= cx.common.now
                {
                    self.drop_open(cx, Drop::Stalled);
                }
            }
            Phase::Lingering { until, .. } => {
                if *until <= cx.common.now {
                    self.flags.set(Flags::BROKEN, true);
                }
            }
        }
    }

    /// Returns the next deadline.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Instant> {
        match &self.phase {
            Phase::Opening(opening) => opening.poll_timeout(),
            Phase::Open(connection) => {
                let stall = self.outbound.stalled_since().and_then(|since| {
                    let stall = route(config, self.route)?.stall_timeout;
                    Some(since + stall)
                });
                match (connection.poll_timeout(), stall) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                }
            }
            Phase::Lingering { until, .. } => Some(*until),
        }
    }

    /// Sends a command's message, and writes it.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        message: Message<'_>,
    ) -> (Result<(), SendError>, Verdict) {
        let mut result = Err(SendError::Closed);
        self.lend(cx, |socket, _| result = socket.send(message));
        (
            result,
            self.settle(
                cx,
                &Share {
                    bytes: 1,
                    messages: 1,
                },
            ),
        )
    }

    /// Writes a batch of shared frames, all admitted.
    pub(crate) fn write_shared(
        &mut self,
        cx: &mut Context<'_>,
        joined: &[u8],
        frames: &[Arc<[u8]>],
        payloads: u64,
    ) -> Verdict {
        self.count_out(cx.common, frames.len() as u64, payloads);
        if self
            .outbound
            .write_shared(cx.common.now, &mut self.stream, joined, frames)
            .is_err()
        {
            self.flags.set(Flags::BROKEN, true);
        }
        self.settle(
            cx,
            &Share {
                bytes: 1,
                messages: 1,
            },
        )
    }

    #[inline]
    fn count_out(&mut self, common: &mut Common, messages: u64, bytes: u64) {
        self.messages_out = self.messages_out.wrapping_add(messages);
        self.bytes_out = self.bytes_out.wrapping_add(bytes);
        common.totals.messages_out += messages;
        common.totals.bytes_out += bytes;
    }

    /// Lets it be read again that its handler paused.
    pub(crate) fn resume(&mut self) {
        self.flags.set(Flags::PAUSED, false);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.flags.has(Flags::PAUSED)
    }

    /// Returns its place among the route's members, if it has one.
    pub(crate) fn place(&self) -> Option<u32> {
        (self.place != u32::MAX).then_some(self.place)
    }

    pub(crate) fn set_place(&mut self, place: Option<u32>) {
        self.place = place.unwrap_or(u32::MAX);
    }

    pub(crate) fn info(&self, id: SocketId) -> SocketInfo {
        let cold = self.cold.as_deref();
        SocketInfo {
            id,
            route: self.route,
            version: match &self.phase {
                Phase::Open(connection) => connection.version(),
                Phase::Opening(_) | Phase::Lingering { .. } => Version::Rfc6455,
            },
            peer: self.about.peer(),
            resource: self.about.resource().to_owned(),
            origin: self.about.origin().map(str::to_owned),
            protocol: self.about.protocol().map(str::to_owned),
            groups: cold.map_or_else(Vec::new, |cold| {
                cold.groups
                    .iter()
                    .map(|(name, _)| Arc::clone(name))
                    .collect()
            }),
            meta: cold.map_or_else(Vec::new, |cold| cold.meta.clone()),
            since: u64::from(self.opened_at),
            messages_in: self.messages_in,
            messages_out: self.messages_out,
            queue: self.outbound.len(),
        }
    }
}
