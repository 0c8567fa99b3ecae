//! The loop: the only caller of `poll` and, through it, of the clock. Events, time, mail and commands come in here, and
//! whatever woke a client, the same steps follow. Knows who lives in the loop; not what they say.

use crate::client::{Client, Context, Drop, Phase, Verdict};
use crate::clients::{self, Clients};
use crate::command::{
    Action, Broadcast, Command, Counted, Found, ListQuery, Outcome, RouteId, Scope, Sent, SocketId,
};
use crate::config::Target;
use crate::control::Control;
use crate::counters::Totals;
use crate::forwarded::Peer;
use crate::groups::{Groups, Members};
use crate::handler::{ClosedBy, Handler, SendError};
use crate::hook::Pool;
use crate::listener::{Accepted, Acceptor, Spare, turn_away};
use crate::mailbox::{Inbox, Mail};
use crate::opening::Opening;
use crate::process::Process;
use crate::random::Random;
use crate::source::{self, Part, Readiness, Router, Turn};
use crate::stream::Stream;
use crate::timers::{Entry, Timers};
use mio::{Events, Poll};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ws_proto::{CloseCode, Framing, Instant, Message, Output, Variant};

/// The read buffer that all clients of the loop share.
const SCRATCH: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Clients accepted in one turn.
const ACCEPTS: usize = 256;
/// How often the log says that descriptors ran out.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(60);
/// How long accepting rests when descriptors ran out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How often the budget is looked at while it stops everybody, and how long one client is stopped at most.
const STARVED_TICK: Duration = Duration::from_millis(50);
const STARVED_LIMIT: Duration = Duration::from_millis(500);
/// How often a drain closes its next few sockets.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// Broadcasts that are written together.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// Lends everything but the clients to one of them.
macro_rules! context {
    ($self:ident) => {
        Context {
            now: $self.now,
            scratch: &mut $self.scratch,
            out: &mut $self.out,
            router: &mut $self.router,
            handlers: &mut $self.handlers,
            process: &$self.process,
            totals: &mut $self.totals,
            starved: $self.starved_since.is_some(),
        }
    };
}

/// Lends everything but themselves to hooks or the control API.
macro_rules! turn {
    ($self:ident) => {
        Turn {
            now: $self.now,
            registry: $self.poll.registry(),
            router: &mut $self.router,
            scratch: &mut $self.scratch,
        }
    };
}

/// One thread's loop and all that lives in it.
pub(crate) struct Worker {
    poll: Poll,
    process: Arc<Process>,
    now: Instant,
    clients: Clients,
    members: Vec<Members>,
    groups: Groups,
    handlers: Vec<Box<dyn Handler>>,
    hooks: Rc<RefCell<Pool>>,
    control: Option<Control>,
    /// Whether any route has an app.
    has_hooks: bool,
    max_handshakes: usize,
    acceptors: Vec<Acceptor>,
    /// Whether somebody may wait at one of them.
    accept_pending: bool,
    router: Router,
    inbox: Inbox,
    timers: Timers,
    due: Vec<Entry>,
    /// Clients whose share of a turn was used up.
    awake: VecDeque<Entry>,
    /// Handshakes in the order of their first byte, the oldest first to make room.
    openings: VecDeque<Entry>,
    audience: Vec<u32>,
    scratch: Vec<u8>,
    out: Output,
    totals: Totals,
    random: Random,
    spare: Spare,
    /// When accepting may be tried again after descriptors ran out.
    accept_at: Option<Instant>,
    /// Until when nothing more is said about that.
    quiet_until: Instant,
    /// Since when the memory budget stops all reading.
    starved_since: Option<Instant>,
    drain: Option<Drain>,
}

/// The end of a life, spread over time.
struct Drain {
    began: Instant,
    until: Instant,
    waiting: Vec<Entry>,
    total: usize,
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
        } = parts;
        for (number, acceptor) in acceptors.iter_mut().enumerate() {
            acceptor.register(poll.registry(), source::token(Part::Listener, number))?;
        }
        let now = process.clock.now();
        let has_hooks = process
            .config
            .routes
            .iter()
            .any(|route| matches!(route.target, Target::Hooks(_)));
        let members = process
            .config
            .routes
            .iter()
            .map(|_| Members::default())
            .collect();
        Ok(Self {
            poll,
            now,
            clients: Clients::default(),
            members,
            groups: Groups::default(),
            handlers,
            hooks,
            control,
            has_hooks,
            max_handshakes: process.config.bounds.max_handshakes,
            acceptors,
            accept_pending: false,
            router,
            inbox,
            timers: Timers::new(now),
            due: Vec::new(),
            awake: VecDeque::new(),
            openings: VecDeque::new(),
            audience: Vec::new(),
            scratch: vec![0; SCRATCH],
            out: Output::with_capacity(16 * 1024),
            totals: Totals::default(),
            random: Random::new(),
            spare,
            accept_at: None,
            quiet_until: now,
            starved_since: None,
            drain: None,
            process,
        })
    }

    /// Turns until the process stops.
    ///
    /// # Errors
    /// The system's: `poll` failed for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => result?,
            }
            self.now = self.process.clock.now();
            for event in &events {
                self.event(event);
            }
            self.time();
            for _ in 0..self.awake.len() {
                if let Some(entry) = self.awake.pop_front() {
                    self.serve(entry);
                }
            }
            self.commands();
            if self.starved_since.is_some() || self.process.is_out_of_memory() {
                self.watch_memory();
            }
            self.totals.flush(&self.process.counters);
            if self.drain.is_some() && self.drained() {
                return Ok(());
            }
        }
    }

    /// Returns how long `poll` may sleep.
    fn patience(&self) -> Option<Duration> {
        if !self.awake.is_empty() || (self.accept_pending && self.accept_at.is_none()) {
            return Some(Duration::ZERO);
        }
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
        consider(self.starved_since.map(|_| self.now + STARVED_TICK));
        consider(self.drain.as_ref().map(|_| self.now + DRAIN_TICK));
        deadline.map(|deadline| deadline.since(self.now))
    }

    fn event(&mut self, event: &mio::event::Event) {
        let (part, number) = source::split(event.token());
        match part {
            Part::Client => {
                let entry = clients::entry(number);
                let Some(client) = self.clients.get_mut(entry) else {
                    return;
                };
                let hangup = event.is_read_closed() || event.is_error();
                client.flags.readable |= event.is_readable() || hangup;
                client.flags.hangup |= hangup;
                client.outbound.writable |= event.is_writable();
                self.serve(entry);
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

    /// Does what the time demands.
    fn time(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.take_due(self.now, &mut due);
        for entry in due.drain(..) {
            if let Some(client) = self.clients.get_mut(entry)
                && self.timers.disarm(&mut client.armed)
            {
                client.flags.calm = false;
                self.serve(entry);
            }
        }
        self.due = due;
        if self.has_hooks {
            let at = self.hooks.borrow().poll_timeout();
            if at.is_some_and(|at| at <= self.now) {
                self.hooks.borrow_mut().handle_timeout(&mut turn!(self));
            }
        }
        if let Some(control) = &mut self.control
            && control.poll_timeout().is_some_and(|at| at <= self.now)
        {
            control.handle_timeout(&mut turn!(self));
        }
        if self.accept_at.is_some_and(|at| at <= self.now) {
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
    }

    /// Serves one client: bytes in, time, bytes out, next deadline. A panic costs that client.
    fn serve(&mut self, entry: Entry) {
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        client.flags.queued = false;
        if self.starved_since.is_none() && self.process.is_out_of_memory() {
            // Not at the end of the turn: until then everybody could take another share.
            self.starved_since = Some(self.now);
        }
        let mut cx = context!(self);
        let verdict = match catch_unwind(AssertUnwindSafe(|| client.serve(&mut cx))) {
            Ok(verdict) => verdict,
            Err(_) => self.panicked(entry),
        };
        self.finish(entry, verdict);
    }

    fn panicked(&mut self, entry: Entry) -> Verdict {
        self.process.counters.panics.one();
        tracing::error!("a client's turn panicked; the client is dropped");
        self.out.clear(0);
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
    fn finish(&mut self, entry: Entry, verdict: Verdict) {
        debug_assert!(self.out.is_empty(), "the next client would hear it");
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        if verdict == Verdict::Stays && client.flags.calm && client.is_calm() {
            return; // An open client had its turn, and nothing but its messages has changed.
        }
        let is_open = matches!(client.phase, Phase::Open(_)) && verdict != Verdict::Leaves;
        match (is_open, client.place) {
            (true, None) => {
                if let Some(members) = self.members.get_mut(usize::from(client.route.0)) {
                    client.place = Some(members.join(entry.slot));
                }
            }
            (false, Some(place)) => {
                client.place = None;
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
                self.process.counters.connections.subtract(1);
                self.accept_at = None; // A descriptor is free: who waits at the door may come in.
                return;
            }
            Verdict::Again => {
                if !client.flags.queued {
                    client.flags.queued = true;
                    self.awake.push_back(entry);
                }
            }
            Verdict::Stays => {}
        }
        let is_calm = client.is_calm();
        if !(is_calm && client.flags.calm) {
            client.flags.calm = is_calm;
            let deadline = client.poll_timeout(&self.process.config);
            self.timers.arm(entry, &mut client.armed, deadline);
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
            client.place = Some(place);
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

    /// Lists a handshake that has begun to speak; if it is one too many, somebody has to go.
    fn bound_handshakes(&mut self, entry: Entry) {
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
    fn make_room(&mut self, newcomer: Entry) {
        let mut leaves = newcomer;
        while let Some(entry) = self.openings.pop_front() {
            if is_evictable(&mut self.clients, entry) {
                leaves = entry;
                break;
            }
        }
        self.step(leaves, |client, cx| ((), client.evict(cx)));
    }

    fn accept(&mut self, number: usize) {
        if self.accept_at.is_some() {
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
                    if self.quiet_until <= self.now {
                        self.quiet_until = self.now + ACCEPT_COMPLAINT;
                        tracing::warn!(%error, "cannot accept, trying again every 100 ms and when a socket ends; said once a minute");
                    }
                    self.spare.turn_away(acceptor);
                    acceptor.pending = true; // The edge does not come back by itself.
                    self.accept_at = Some(self.now + ACCEPT_REST);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: Stream, peer: Peer, proxy_protocol: bool) {
        let counters = &self.process.counters;
        if counters.connections.add(1) > self.process.config.bounds.max_connections {
            counters.connections.subtract(1);
            counters.refused.one();
            turn_away(&mut stream);
            return;
        }
        let Ok(key) = self.random.key() else {
            counters.connections.subtract(1);
            return;
        };
        let opening = Opening::new(self.now, peer, proxy_protocol, &self.process.config);
        let entry = self
            .clients
            .insert(|entry| Client::new(stream, opening, entry, key));
        let Some(client) = self.clients.get_mut(entry) else {
            return;
        };
        if let Err(error) = client
            .stream
            .register(self.poll.registry(), clients::token(entry))
        {
            tracing::warn!(%error, "a socket cannot be registered");
            return self.finish(entry, Verdict::Leaves);
        }
        let deadline = client.poll_timeout(&self.process.config);
        self.timers.arm(entry, &mut client.armed, deadline);
    }

    fn mail(&mut self) {
        let mail: Vec<Mail> = self.inbox.take().collect();
        for mail in mail {
            match mail {
                Mail::Command(command) => self.router.own.push_back(command),
                Mail::Outcome(ticket, outcome) => self.router.outcomes.push_back((ticket, outcome)),
                Mail::Permit(app) => self.hooks.borrow_mut().permit(&mut turn!(self), app),
                Mail::Drain { now } => self.begin_drain(now),
            }
        }
    }

    /// Does all commands of this turn, and lets hooks and the control API say what came of them.
    #[inline]
    fn commands(&mut self) {
        if self.has_hooks || !self.router.own.is_empty() || !self.router.outcomes.is_empty() {
            self.do_commands();
        }
    }

    fn do_commands(&mut self) {
        loop {
            while let Some(command) = self.router.own.pop_front() {
                self.command(command);
            }
            while let Some((ticket, outcome)) = self.router.outcomes.pop_front() {
                if let Some(control) = &mut self.control {
                    control.outcome(&mut turn!(self), ticket, outcome);
                }
            }
            if self.has_hooks {
                self.hooks.borrow_mut().flush(&mut turn!(self));
            }
            if self.router.own.is_empty() && self.router.outcomes.is_empty() {
                return;
            }
        }
    }

    fn command(&mut self, command: Command) {
        let Command { action, reply } = command;
        let outcome = match action {
            Action::Send(ids, message) => Outcome::Sent(
                ids.into_iter()
                    .map(|id| {
                        (
                            id,
                            self.send_to(id, message.message().as_borrowed(), reply.is_some()),
                        )
                    })
                    .collect(),
            ),
            Action::Broadcast(scope, except, message) => {
                let mut batch = vec![message];
                if reply.is_none() && except.is_none() {
                    self.gather(&scope, &mut batch);
                }
                Outcome::Counted(self.broadcast(&scope, except, &batch))
            }
            Action::Join(id, group) => Outcome::Found(self.join(id, &group)),
            Action::Leave(id, group) => Outcome::Found(self.leave(id, &group)),
            Action::Close(id, code, reason) => Outcome::Found(self.close(id, code, &reason)),
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
            self.router.answer(ticket, outcome);
        }
    }

    /// Runs one step of a client on behalf of a command; a panic in it costs that client.
    fn step<T>(
        &mut self,
        entry: Entry,
        step: impl FnOnce(&mut Client, &mut Context<'_>) -> (T, Verdict),
    ) -> Option<T> {
        let client = self.clients.get_mut(entry)?;
        let mut cx = context!(self);
        match catch_unwind(AssertUnwindSafe(|| step(client, &mut cx))) {
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

    fn open_entry(&mut self, id: SocketId) -> Option<Entry> {
        let client = self.clients.find(id)?;
        match &client.phase {
            Phase::Open(connection) if !connection.is_closing() => Some(client.entry),
            Phase::Open(_) | Phase::Opening(_) | Phase::Lingering { .. } => None,
        }
    }

    /// Sends to one socket. Whoever asked what came of it is told that the output is full, and nothing changes; for whoever
    /// did not ask, the socket is dropped rather than left with a silent hole.
    fn send_to(&mut self, id: SocketId, message: Message<'_>, asked: bool) -> Sent {
        let Some(entry) = self.open_entry(id) else {
            return Sent::Gone;
        };
        // What is routed behind waiting commands would come back here for ever: this is the front of that queue.
        let waiting = std::mem::take(&mut self.router.own);
        let result = self.step(entry, |client, cx| client.send(cx, message));
        let new = std::mem::replace(&mut self.router.own, waiting);
        self.router.own.extend(new);
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
            Some(Err(SendError::NoBinary)) => Sent::Unsupported,
            Some(Err(SendError::Closed)) | None => Sent::Gone,
        }
    }

    /// Takes the broadcasts that follow to the same audience along, so that each client is written to once.
    fn gather(&mut self, scope: &Scope, batch: &mut Vec<Arc<Broadcast>>) {
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
        }) = self.router.own.front()
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
            self.router.own.pop_front();
        }
    }

    fn broadcast(
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
            except.is_some_and(|id| id.thread == self.router.thread)
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
            let (joined, frames) = framed.get(variant, &mut self.out);
            counted.queued += 1;
            self.step(entry, |client, cx| {
                ((), client.write_shared(cx, joined, frames))
            });
        }
        self.audience = audience;
        counted
    }

    fn gather_audience(&self, scope: &Scope, audience: &mut Vec<u32>) {
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

    fn join(&mut self, id: SocketId, group: &Arc<str>) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return Found::No;
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

    fn leave(&mut self, id: SocketId, group: &Arc<str>) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return Found::No;
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

    fn close(&mut self, id: SocketId, code: CloseCode, reason: &str) -> Found {
        let Some(entry) = self.open_entry(id) else {
            return Found::No;
        };
        self.step(entry, |client, cx| {
            ((), client.close(cx, code, reason, ClosedBy::App))
        });
        Found::Yes
    }

    fn set_meta(&mut self, id: SocketId, name: &Arc<str>, value: Option<Arc<str>>) {
        let Some(client) = self.clients.find(id) else {
            return;
        };
        let limit = self
            .process
            .config
            .routes
            .get(usize::from(client.route.0))
            .map_or(0, |route| route.max_meta);
        let Some(cold) = client.cold.as_mut() else {
            return;
        };
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

    fn list(&self, query: &ListQuery) -> Vec<crate::command::SocketInfo> {
        let thread = self.router.thread;
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
        ids.into_iter()
            .filter_map(|(_, id)| Some(self.clients.at(id.slot)?.info(id)))
            .collect()
    }

    /// Stops all reading while the budget is nearly used up. Who holds most of it gives way if that lasts.
    fn watch_memory(&mut self) {
        if !self.process.is_out_of_memory() {
            if self.starved_since.take().is_some() {
                for entry in self.clients.entries() {
                    self.serve(entry);
                }
            }
            return;
        }
        let since = *self.starved_since.get_or_insert(self.now);
        if since + STARVED_LIMIT <= self.now {
            self.give_way();
            self.starved_since = Some(since + STARVED_TICK); // One a tick: it may have been enough.
        }
    }

    /// Has the one go who holds most: unfinished messages may hold it all, and nobody is read who could finish one; or
    /// messages that an app does not take. Whoever holds less than everybody might is not to blame.
    fn give_way(&mut self) {
        let bounds = &self.process.config.bounds;
        let fair = bounds.memory / bounds.max_connections.max(1) / 2;
        let client = self
            .clients
            .iter()
            .map(|client| (client.held(), client.entry))
            .filter(|(held, _)| *held > fair)
            .max_by_key(|(held, _)| *held);
        let queue = self
            .hooks
            .borrow()
            .longest_queue()
            .filter(|(held, _)| *held > fair);
        match (client, queue) {
            (Some((held, entry)), queue) if queue.is_none_or(|(queued, _)| queued <= held) => {
                self.step(entry, |client, cx| {
                    client.drop_now(cx, Drop::Starved);
                    ((), Verdict::Leaves)
                });
            }
            (_, Some((_, key))) => self.hooks.borrow_mut().give_way(&mut turn!(self), key),
            (_, None) => {}
        }
    }

    fn begin_drain(&mut self, at_once: bool) {
        let limit = if at_once {
            Duration::ZERO
        } else {
            self.process.config.drain
        };
        self.process.draining.store(true, Ordering::Relaxed);
        self.acceptors.clear();
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(self.now + limit);
            return;
        }
        let mut waiting = Vec::new();
        for entry in self.clients.entries() {
            match self.clients.get_mut(entry).map(|client| &client.phase) {
                Some(Phase::Opening(opening)) if opening.is_evictable() => {
                    self.step(entry, |client, cx| ((), client.evict(cx)));
                }
                Some(Phase::Open(_) | Phase::Opening(_)) => waiting.push(entry),
                Some(Phase::Lingering { .. }) | None => {}
            }
        }
        let total = waiting.len();
        self.drain = Some(Drain {
            began: self.now,
            until: self.now + limit,
            waiting,
            total,
        });
        self.drain_some();
    }

    /// Closes as many sockets as are due: all of them within the first half of the drain.
    fn drain_some(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let half = (drain.until.since(drain.began).as_millis() / 2).max(1);
        let elapsed = self.now.since(drain.began).as_millis();
        let due = ((drain.total as u128 * elapsed).div_ceil(half))
            .max(1)
            .min(drain.total as u128) as usize;
        let left = drain.total - due;
        let closing = drain.waiting.split_off(left.min(drain.waiting.len()));
        for entry in closing {
            let is_opening = self
                .clients
                .get_mut(entry)
                .is_some_and(|client| matches!(client.phase, Phase::Opening(_)));
            if is_opening {
                self.step(entry, |client, cx| ((), client.evict(cx)));
            } else {
                self.step(entry, |client, cx| {
                    (
                        (),
                        client.close(cx, CloseCode::RESTART, "restart", ClosedBy::Worker),
                    )
                });
            }
        }
    }

    /// Returns whether the drain is over. Who has not answered its close by the last quarter is dropped, so that there
    /// is time left for the apps to hear of it.
    fn drained(&mut self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let late = drain.until <= self.now;
        let last_quarter = drain.began + drain.until.since(drain.began) / 4 * 3;
        if last_quarter <= self.now && !self.clients.is_empty() {
            for entry in self.clients.entries() {
                self.step(entry, |client, cx| {
                    client.drop_now(cx, Drop::Draining);
                    ((), Verdict::Leaves)
                });
            }
            self.commands();
        }
        let idle = self.clients.is_empty() && self.hooks.borrow().is_idle();
        if late && !idle {
            self.hooks.borrow_mut().stop(self.now);
        }
        if let Some(control) = &mut self.control
            && (late || idle)
        {
            control.stop();
        }
        late || idle
    }
}

fn is_evictable(clients: &mut Clients, entry: Entry) -> bool {
    clients.get_mut(entry).is_some_and(
        |client| matches!(&client.phase, Phase::Opening(opening) if opening.is_evictable()),
    )
}

/// A batch as it goes out in each variant, made when the first client of that variant hears it.
struct FramedBatch<'a> {
    messages: &'a [Arc<Broadcast>],
    binary: bool,
    /// The longest payload decides whether compression is worth it.
    longest: usize,
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
            longest: lengths.max().unwrap_or_default(),
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
