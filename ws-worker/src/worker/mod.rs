//! The loop: the only caller of `poll` and, through it, of the clock. Events, time, mail and commands come in here, and
//! whatever woke a client, the same steps follow. Knows who lives in the loop; not what they say.

use crate::client::{Common, Context, Drop, Flags, Phase, Verdict};
use crate::clients::{self, Clients};
use crate::clock::Tick;
use crate::command::RouteId;
use crate::control::Control;
use crate::counters::Totals;
use crate::groups::{Groups, Members};
use crate::handler::Handler;
use crate::hook::Pool;
use crate::listener::{Acceptor, Spare};
use crate::mailbox::{Inbox, Mail, Reload};
use crate::process::Process;
use crate::random::Random;
use crate::source::{self, Part, Readiness, Router, Turn};
use crate::timers::{Armed, Entry, Timers};
use memory::TurnedAway;
use mio::{Events, Poll};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{Instant, Output};

/// The read buffer that all clients of the loop share.
const SCRATCH: usize = 256 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// A loop that is so late may have been stopped, after it was told what has come.
const LATE: Duration = Duration::from_millis(100);
/// How often the budget is looked at while it stops everybody, and how long one client is stopped at most.
const STARVED_TICK: Duration = Duration::from_millis(50);
/// How often the loop sees how late it is, while there are messages; otherwise by the clients' deadlines alone.
const PROBE_TICK: Duration = Duration::from_millis(100);
/// After how long the loop sees whether ends of connections are still to be told.
const ENDS_TOLD: Duration = Duration::from_secs(1);
/// The entry of the loop's own deadline: no client has this slot.
const PROBE: Entry = Entry {
    slot: u32::MAX,
    generation: u32::MAX,
};
/// How often a drain closes its next few sockets.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// Lends everything but the clients to one of them.
macro_rules! context {
    ($self:ident) => {
        Context {
            common: &mut $self.common,
            handlers: &mut $self.handlers,
            process: &$self.process,
        }
    };
}

/// Lends everything but themselves to hooks or the control API.
macro_rules! turn {
    ($self:ident) => {
        Turn {
            now: $self.common.now,
            registry: $self.poll.registry(),
            router: &mut $self.common.router,
            scratch: &mut $self.common.scratch,
        }
    };
}

mod admission;
mod broadcast;
mod commands;
mod drain;
mod memory;
mod reload;

use broadcast::{Owed, Spreading};
use drain::{Drain, Leaving};
pub(crate) use reload::handler;

/// Makes the read buffer. Memory that is fresh from the system costs nothing until it is read into.
pub(crate) fn scratch() -> Box<[u8]> {
    vec![0; SCRATCH].into_boxed_slice()
}

/// One thread's loop and all that lives in it.
pub(crate) struct Worker {
    poll: Poll,
    process: Arc<Process>,
    common: Common,
    tick: Tick,
    clients: Clients,
    members: Vec<Members>,
    groups: Groups,
    handlers: Vec<Box<dyn Handler>>,
    hooks: Rc<RefCell<Pool>>,
    control: Option<Control>,
    /// Whether any route has an app.
    has_hooks: bool,
    /// Whether there is anything that every turn must look after: apps or the control API.
    is_busy: bool,
    /// Whether a service manager wants to know that the loop turns.
    is_watched: bool,
    max_handshakes: usize,
    acceptors: Vec<Acceptor>,
    /// Whether somebody may wait at one of them.
    accept_pending: bool,
    inbox: Inbox,
    timers: Timers,
    due: Vec<u32>,
    /// Clients whose share of a turn was used up.
    awake: VecDeque<Entry>,
    /// Handshakes in the order of their first byte, the oldest first to make room.
    openings: VecDeque<Entry>,
    audience: Vec<u32>,
    /// A broadcast that is not done, who has not heard it, and what may be done of it in this turn.
    spreading: Option<Box<Spreading>>,
    owed: Owed,
    share: usize,
    /// The loop's own deadline, by which it sees how late it is, and the messages that had come when it was armed.
    probe: Armed,
    probed: u64,
    random: Random,
    spare: Spare,
    /// When accepting may be tried again after descriptors ran out.
    accept_at: Option<Instant>,
    /// Until when nothing more is said about that.
    quiet_until: Instant,
    /// When somebody last gave way to the others.
    gave_way: Option<Instant>,
    /// Handshakes that are refused for want of memory.
    turned_away: TurnedAway,
    drain: Option<Drain>,
    /// Sockets of routes that reloads have taken out of the file.
    leaving: Vec<Leaving>,
    /// Another configuration, for the next turn: all of a turn happens under one.
    coming: Option<Box<Reload>>,
}

/// What a loop is made of.
pub(crate) struct Parts {
    pub(crate) poll: Poll,
    pub(crate) process: Arc<Process>,
    pub(crate) handlers: Vec<Box<dyn Handler>>,
    pub(crate) hooks: Rc<RefCell<Pool>>,
    pub(crate) control: Option<Control>,
    pub(crate) acceptors: Vec<Acceptor>,
    pub(crate) router: Router,
    pub(crate) inbox: Inbox,
    pub(crate) spare: Spare,
    pub(crate) scratch: Box<[u8]>,
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts {
            poll,
            process,
            handlers,
            hooks,
            control,
            mut acceptors,
            router,
            inbox,
            spare,
            scratch,
        } = parts;
        for (number, acceptor) in acceptors.iter_mut().enumerate() {
            acceptor.register(poll.registry(), source::token(Part::Listener, number))?;
        }
        let now = process.clock.now();
        let counts = process.counters.of_thread(router.thread);
        let has_hooks = reload::has_hooks(&process.config);
        let members = process
            .config
            .routes
            .iter()
            .map(|_| Members::default())
            .collect();
        Ok(Self {
            poll,
            common: Common {
                now,
                scratch,
                out: Output::with_capacity(16 * 1024),
                router,
                counts,
                totals: Totals::default(),
                starved_since: None,
            },
            tick: Tick::new(&process.clock),
            clients: Clients::default(),
            members,
            groups: Groups::default(),
            handlers,
            hooks,
            has_hooks,
            is_busy: has_hooks || control.is_some(),
            is_watched: process.service.get().is_some(),
            control,
            max_handshakes: process.config.bounds.max_handshakes,
            acceptors,
            accept_pending: false,
            inbox,
            timers: Timers::new(now),
            due: Vec::new(),
            awake: VecDeque::new(),
            openings: VecDeque::new(),
            audience: Vec::new(),
            spreading: None,
            owed: Owed::default(),
            share: 0,
            probe: Armed::NEVER,
            probed: 0,
            random: Random::new(),
            spare,
            accept_at: None,
            quiet_until: now,
            gave_way: None,
            turned_away: TurnedAway::default(),
            drain: None,
            leaving: Vec::new(),
            coming: None,
            process,
        })
    }

    /// Turns until the process stops.
    ///
    /// # Errors
    /// The system's: `poll` failed for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut has_errands = self.has_errands();
        loop {
            self.wait(&mut events, self.patience(has_errands))?;
            self.common.now = self.tick.now();
            if self.coming.is_some()
                && let Some(reload) = self.coming.take()
            {
                self.reload(*reload);
            }
            for event in &events {
                self.event(event);
            }
            if self.timers.is_due(self.common.now) {
                self.serve_due(events.iter().count() >= EVENTS);
            }
            has_errands = self.has_errands();
            let is_over = has_errands && self.do_errands();
            has_errands = has_errands && self.has_errands();
            if self.is_watched {
                self.show_signs_of_life(is_over);
            }
            if is_over {
                self.process.ends.flush(self.common.now, true);
                return Ok(());
            }
        }
    }

    /// Waits for events. A process that was stopped goes on in here, and without any: what came meanwhile is looked for once
    /// more, before its deadlines are.
    fn wait(&mut self, events: &mut Events, patience: Option<Duration>) -> io::Result<()> {
        for patience in [patience, Some(Duration::ZERO)] {
            match self.poll.poll(events, patience) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
        Ok(())
    }

    /// Tells the service manager, by way of what all threads say, that a whole turn is over.
    #[inline(never)]
    fn show_signs_of_life(&self, is_over: bool) {
        if let Some(service) = self.process.service.get() {
            let thread = self.common.router.thread;
            service.turned(thread, self.common.now, &self.process);
            if is_over {
                service.left(thread);
            }
        }
    }

    /// Returns whether a turn has more to do, or to wait for, than events and the clients' deadlines.
    #[inline]
    fn has_errands(&self) -> bool {
        self.is_busy
            || self.is_watched
            || self.accept_pending
            || !self.awake.is_empty()
            || !self.common.router.own.is_empty()
            || !self.common.router.outcomes.is_empty()
            || self.spreading.is_some()
            || self.accept_at.is_some()
            || self.common.starved_since.is_some()
            || self.drain.is_some()
            || !self.leaving.is_empty()
            || self.coming.is_some()
    }

    /// Does all but events and the clients' deadlines; returns whether a drain is over.
    #[inline(never)]
    fn do_errands(&mut self) -> bool {
        self.time();
        for _ in 0..self.awake.len() {
            if let Some(entry) = self.awake.pop_front() {
                // Only here: whom an event serves as well still stands in the queue, once.
                if let Some(client) = self.clients.get_mut(entry) {
                    client.flags.set(Flags::QUEUED, false);
                }
                self.serve(entry);
            }
        }
        self.commands();
        if self.common.starved_since.is_some() || self.process.is_out_of_memory() {
            self.watch_memory();
        } else if self.process.is_short_of_memory() {
            self.watch_the_door();
        }
        self.drain.is_some() && self.drained()
    }

    /// Returns how long `poll` may sleep.
    #[inline]
    fn patience(&self, has_errands: bool) -> Option<Duration> {
        let deadline = if has_errands {
            // Who is served by an errand may say something that this turn does no more.
            if !self.awake.is_empty()
                || !self.common.router.own.is_empty()
                || !self.common.router.outcomes.is_empty()
                || self.spreading.is_some()
                || self.coming.is_some()
                || (self.accept_pending && self.accept_at.is_none())
            {
                return Some(Duration::ZERO);
            }
            self.next_errand()
        } else {
            self.timers.poll_timeout()
        };
        deadline.map(|deadline| deadline.since(self.common.now))
    }

    /// Returns the next deadline of all.
    #[inline(never)]
    fn next_errand(&self) -> Option<Instant> {
        let mut deadline = self.timers.poll_timeout();
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                deadline = Some(deadline.map_or(at, |deadline| deadline.min(at)));
            }
        };
        if self.has_hooks {
            consider(self.hooks.borrow().poll_timeout());
        }
        if let Some(control) = &self.control {
            consider(control.poll_timeout());
        }
        consider(self.accept_at);
        consider(
            self.common
                .starved_since
                .map(|_| self.common.now + STARVED_TICK),
        );
        if let Some(service) = self.process.service.get() {
            let patience = service.patience(self.common.router.thread);
            consider(patience.map(|patience| self.common.now + patience));
        }
        let is_draining = self.drain.is_some() || !self.leaving.is_empty();
        consider(is_draining.then(|| self.common.now + DRAIN_TICK));
        deadline
    }

    fn event(&mut self, event: &mio::event::Event) {
        let (part, number) = source::split(event.token());
        match part {
            Part::Client => {
                let hangup = event.is_read_closed() || event.is_error();
                let readable = event.is_readable() || hangup;
                let entry = clients::entry(number);
                self.serve_woken(entry, readable, hangup, event.is_writable());
            }
            Part::Listener => {
                if let Some(acceptor) = self.acceptors.get_mut(number) {
                    acceptor.pending = true;
                    self.accept_pending = true;
                }
            }
            Part::Waker => self.mail(),
            Part::Hook | Part::Control => {
                let readiness = Readiness {
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable(),
                    closed: event.is_read_closed() || event.is_error(),
                };
                if part == Part::Hook {
                    self.hooks
                        .borrow_mut()
                        .ready(&mut turn!(self), number, readiness);
                } else if let Some(control) = &mut self.control {
                    control.ready(&mut turn!(self), number, readiness);
                }
            }
        }
    }

    /// Does what the time demands of all but clients.
    fn time(&mut self) {
        if self.has_hooks {
            let at = self.hooks.borrow().poll_timeout();
            if at.is_some_and(|at| at <= self.common.now) {
                self.hooks.borrow_mut().handle_timeout(&mut turn!(self));
            }
        }
        if let Some(control) = &mut self.control
            && control
                .poll_timeout()
                .is_some_and(|at| at <= self.common.now)
        {
            control.handle_timeout(&mut turn!(self));
        }
        if self.accept_at.is_some_and(|at| at <= self.common.now) {
            self.accept_at = None;
        }
        if self.accept_pending && self.accept_at.is_none() {
            for number in 0..self.acceptors.len() {
                self.accept(number);
            }
            self.accept_pending = self.acceptors.iter().any(|acceptor| acceptor.pending);
        }
        if self.drain.is_some() {
            self.drain_some();
        }
        if !self.leaving.is_empty() {
            self.leave_some();
        }
    }

    /// Serves those whose deadline may have come. A client of which the kernel may still have something to tell is listened
    /// to before it is called silent.
    #[inline(never)]
    fn serve_due(&mut self, more_came: bool) {
        let mut is_late = more_came;
        if let Some(earliest) = self.timers.poll_timeout() {
            let lag = self.common.now.since(earliest);
            is_late |= lag >= LATE;
            self.common.counts.lag.add(lag);
        }
        let mut due = std::mem::take(&mut self.due);
        self.timers.take_due(self.common.now, &mut due);
        for slot in due.drain(..) {
            if let Some(client) = self.clients.at_mut(slot)
                && self.timers.disarm(&mut client.armed)
            {
                client.flags.set(Flags::CALM, false);
                client.flags.raise(Flags::READABLE, is_late);
                let entry = client.entry;
                self.serve(entry);
            }
        }
        self.due = due;
        self.timers.disarm(&mut self.probe);
        let messages = self.common.counts.messages_in();
        self.process.ends.flush(self.common.now, false);
        if std::mem::replace(&mut self.probed, messages) != messages || self.process.ends.owes() {
            let deadline = Some(self.common.now + PROBE_TICK);
            self.timers
                .arm(self.common.now, PROBE, &mut self.probe, deadline);
        }
    }

    /// Serves one client: bytes in, time, bytes out, next deadline. A panic costs that client.
    #[inline(never)]
    fn serve(&mut self, entry: Entry) {
        self.serve_woken(entry, false, false, false);
    }

    /// The same, for one whose socket can do what it could not.
    #[inline(always)] // Two callers, and in one of them all messages come.
    fn serve_woken(&mut self, entry: Entry, readable: bool, hangup: bool, writable: bool) {
        if self.spreading.is_some() {
            self.catch_up(entry);
        }
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        client.flags.raise(Flags::READABLE, readable);
        client.flags.raise(Flags::HANGUP, hangup);
        if writable && !client.outbound.note_writable() && !readable {
            return; // It waits for nothing.
        }
        if self.common.starved_since.is_none() && self.process.is_out_of_memory() {
            // Not at the end of the turn: until then everybody could take another share.
            self.common.starved_since = Some(self.common.now);
        }
        let mut cx = context!(self);
        let served = catch_unwind(AssertUnwindSafe(|| client.serve(&mut cx)));
        let counts = self.common.counts.route(client.route);
        self.common.totals.flush(counts);
        let verdict = match served {
            Ok(Verdict::Rests) => {
                debug_assert!(self.common.out.is_empty(), "the next client would hear it");
                return;
            }
            Ok(verdict) => verdict,
            Err(_) => self.panicked(entry),
        };
        self.finish(entry, verdict);
    }

    #[cold]
    fn panicked(&mut self, entry: Entry) -> Verdict {
        self.process.counters.panics.one();
        tracing::error!("a client's turn panicked; the client is dropped");
        self.common.out.clear(0);
        if self.common.scratch.is_empty() {
            self.common.scratch = scratch(); // It was lent, and went with the turn.
        }
        if let Some(client) = self.clients.get_mut(entry) {
            let mut cx = context!(self);
            // The handler may panic again when it is told.
            let told = catch_unwind(AssertUnwindSafe(|| {
                client.drop_now(&mut cx, Drop::Panicked)
            }));
            if told.is_err() {
                tracing::error!("and again when its end was told");
            }
        }
        Verdict::Leaves
    }

    /// What follows every turn of a client: its place among the members, its next turn, its next deadline.
    #[inline(never)]
    fn finish(&mut self, entry: Entry, verdict: Verdict) {
        debug_assert!(self.common.out.is_empty(), "the next client would hear it");
        if verdict == Verdict::Rests {
            return;
        }
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        let is_open = matches!(client.phase, Phase::Open(_)) && verdict != Verdict::Leaves;
        match (is_open, client.place()) {
            (true, None) => {
                if let Some(members) = self.members.get_mut(usize::from(client.route.0)) {
                    client.set_place(Some(members.join(entry.slot)));
                }
            }
            (false, Some(place)) => {
                client.set_place(None);
                let route = client.route;
                self.leave_all(entry, route, place);
            }
            (true, Some(_)) | (false, None) => {}
        }
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        match verdict {
            Verdict::Leaves => {
                client.settle_accounts(&self.process);
                self.clients.remove(entry.slot);
                self.owed.take(entry.slot); // Whoever has its slot next was not meant.
                self.process.counters.connections.subtract(1);
                // Ends beyond those that a second may log are told when it is over.
                let told = Some(self.common.now + ENDS_TOLD);
                self.timers
                    .arm(self.common.now, PROBE, &mut self.probe, told);
                self.accept_at = None; // A descriptor is free: who waits at the door may come in.
                return;
            }
            Verdict::Again => {
                if !client.flags.has(Flags::QUEUED) {
                    client.flags.set(Flags::QUEUED, true);
                    debug_assert!(!self.awake.contains(&entry), "each in turn");
                    self.awake.push_back(entry);
                }
            }
            Verdict::Rests | Verdict::Stays => {}
        }
        if client.outbound.has_backlog() && !client.flags.has(Flags::WATCHED) {
            // Where the system cannot, it is asked again after the next turn, and a stall has its deadline.
            let watched =
                (client.stream).watch_writing(self.poll.registry(), clients::token(entry));
            client.flags.set(Flags::WATCHED, watched.is_ok());
        }
        let is_calm = client.is_calm();
        if !(is_calm && client.flags.has(Flags::CALM)) {
            client.flags.set(Flags::CALM, is_calm);
            let deadline = client.poll_timeout(&self.process.config);
            self.timers
                .arm(self.common.now, entry, &mut client.armed, deadline);
        }
        if let Phase::Opening(_) = client.phase {
            self.bound_handshakes(entry);
        }
    }

    /// Takes a client that is no longer open out of its route and its groups.
    fn leave_all(&mut self, entry: Entry, route: RouteId, place: u32) {
        if let Some(members) = self.members.get_mut(usize::from(route.0))
            && let Some(moved) = members.leave(place)
            && let Some(client) = self.clients.at_mut(moved)
        {
            client.set_place(Some(place));
        }
        let groups = self
            .clients
            .get_mut(entry)
            .and_then(|client| client.cold.as_mut());
        let groups = groups
            .map(|cold| std::mem::take(&mut cold.groups))
            .unwrap_or_default();
        for (group, place) in groups {
            self.leave_group(&group, place);
        }
    }

    fn leave_group(&mut self, group: &Arc<str>, place: u32) {
        if let Some(moved) = self.groups.leave(group, place)
            && let Some(cold) = self
                .clients
                .at_mut(moved)
                .and_then(|client| client.cold.as_mut())
            && let Some((_, kept)) = cold.groups.iter_mut().find(|(name, _)| name == group)
        {
            *kept = place;
        }
    }

    fn mail(&mut self) {
        let mail: Vec<Mail> = self.inbox.take().collect();
        for mail in mail {
            match mail {
                Mail::Command(command) => self.common.router.own.push_back(command),
                Mail::Outcome(ticket, outcome) => {
                    self.common.router.outcomes.push_back((ticket, outcome))
                }
                Mail::Permit(app) => self.hooks.borrow_mut().permit(&mut turn!(self), app),
                Mail::Written(written) => {
                    self.hooks.borrow_mut().written(&mut turn!(self), &written)
                }
                Mail::Drain { now } => self.begin_drain(now),
                Mail::Reload(reload) => self.coming = Some(reload),
            }
        }
    }

    /// Does all commands of this turn, and lets hooks and the control API say what came of them.
    #[inline]
    fn commands(&mut self) {
        if self.has_hooks
            || !self.common.router.own.is_empty()
            || !self.common.router.outcomes.is_empty()
            || self.spreading.is_some()
        {
            self.do_commands();
        }
    }
}
