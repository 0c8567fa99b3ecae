//! A thread's connections to apps and all that is owed to them: who is next, on which connection, by when.
//! Knows sockets of clients only by their ids; what an answer means is `settle`'s affair.

mod dial;
mod patience;
mod reload;
mod sparing;

use crate::clock::unix_seconds;
use crate::command::SocketId;
use crate::config::{AppAddress, Scheme, Target};
use crate::counters::ThreadCounts;
use crate::handler::{End, Socket};
use crate::hook::backoff::Random;
use crate::hook::complaints::{Complaints, Kind};
use crate::hook::connection::{Cause, Connection, Failure};
use crate::hook::endpoint::{Block, Endpoint};
use crate::hook::kept::Keeping;
use crate::hook::member::{Key, Line, Member, Members, Phase, Wait};
use crate::hook::settle::Outcome;
use crate::hook::{Ended, HookEvent, dialect};
use crate::mailbox::Mail;
use crate::permits::Permits;
use crate::process::Process;
use crate::source::{Readiness, Turn};
use crate::tls::Tls;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{Instant, Message};

/// An idle connection is kept so long.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// A body above this is lent to the system from where it lies, in bytes; a shorter one is copied behind its head.
const LENT: usize = 1024;
/// Bits of a token's number that say which connection; those above tell its uses apart.
const INDEX_BITS: u32 = 24;

/// Everything that hooks need on one thread.
pub(crate) struct Pool {
    pub(super) process: Arc<Process>,
    pub(super) members: Members,
    pub(super) complaints: Complaints,
    pub(super) random: Random,
    /// Those whose next hook has just become due: lined up at the end of the turn.
    pub(super) newcomers: Vec<Key>,
    /// Pauses before another attempt; an entry whose member waits no longer for this moment is stale.
    pub(super) pauses: BinaryHeap<Reverse<(Instant, Key)>>,
    /// The journal, if there is one.
    pub(super) keeping: Option<Box<Keeping>>,
    /// What this thread counts.
    pub(super) counts: Arc<ThreadCounts>,
    permits: Arc<[Arc<Permits>]>,
    thread: u8,
    pub(super) apps: Vec<App>,
    /// Where each route's hooks go now; a reload changes that under sockets that are open.
    endpoints: Vec<Option<Rc<Endpoint>>>,
    pub(super) connections: Slab<Connection>,
    /// Where the member of a socket is, by the socket's slot.
    slots: Vec<usize>,
    /// No connection's deadline is earlier.
    deadline: Option<Instant>,
    /// When all who wait in line were last looked at.
    looked: Instant,
    serial: u32,
    /// Members without a socket.
    pub(super) starts: usize,
    /// Bytes held by connections, and bytes that the process was told of.
    held: usize,
    charged: usize,
}

/// What belongs to one app on one thread.
pub(super) struct App {
    address: AppAddress,
    scheme: Scheme,
    tls: Option<Tls>,
    /// Idle connections; the warmest is last, and is used first.
    pub(super) idle: Vec<usize>,
    max_idle: usize,
    /// Connections that the app may not have accepted yet.
    pub(super) fresh: Vec<usize>,
    /// Who waits for a permit, by [`Line`].
    pub(super) lines: [VecDeque<Key>; 3],
    /// The line that is served next.
    turn: usize,
    /// Permits handed to this thread and not yet used.
    pub(super) granted: usize,
}

impl App {
    /// Returns whether somebody stands in line for it, if only to find that he need not.
    fn is_waited_for(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    /// Returns whether the end of a turn has nothing to do for it.
    fn is_quiet(&self) -> bool {
        !self.is_waited_for()
            && self.granted == 0
            && self.fresh.is_empty()
            && self.idle.len() <= self.max_idle
    }
}

impl Pool {
    /// Prepares the pool of a thread. The first also tells the apps that the worker has started.
    pub(crate) fn new(process: Arc<Process>, permits: Arc<[Arc<Permits>]>, thread: u8) -> Self {
        let mut seed = [0; 8];
        // Jitter need not be secret: without random bytes the thread's number must do.
        let _ = getrandom::fill(&mut seed);
        let mut pool = Self {
            members: Members::default(),
            complaints: Complaints::new(0),
            random: Random::new(u64::from_ne_bytes(seed) ^ u64::from(thread)),
            newcomers: Vec::new(),
            pauses: BinaryHeap::new(),
            keeping: None,
            counts: process.counters.of_thread(thread),
            permits,
            thread,
            apps: Vec::new(),
            endpoints: Vec::new(),
            connections: Slab::new(),
            slots: Vec::new(),
            deadline: None,
            looked: Instant::at(0),
            serial: 0,
            starts: 0,
            held: 0,
            charged: 0,
            process,
        };
        pool.set_apps();
        if thread == 0 {
            pool.tell_of_the_start();
        }
        pool
    }

    fn tell_of_the_start(&mut self) {
        let process = Arc::clone(&self.process);
        let mut told = Vec::new();
        for route in &process.config.routes {
            let Target::Hooks(hooks) = &route.target else {
                continue;
            };
            if !hooks.started || told.contains(&hooks.app) {
                continue;
            }
            told.push(hooks.app);
            let endpoint = Rc::new(Endpoint::new(&process, route, hooks));
            let member = Member::new(None, &endpoint, Block::default(), Phase::Started);
            let key = self.members.insert(member);
            self.newcomers.push(key);
        }
        self.starts = told.len();
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    // What handlers say. Nothing is sent before the end of the turn.

    /// A client asks to come in.
    pub(super) fn connect(
        &mut self,
        id: SocketId,
        endpoint: &Rc<Endpoint>,
        block: Block,
        protocols: Box<[Box<str>]>,
    ) {
        let phase = Phase::Opening {
            protocols,
            left: None,
        };
        let key = self
            .members
            .insert(Member::new(Some(id), endpoint, block, phase));
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, usize::MAX);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = key.index;
        }
        self.newcomers.push(key);
    }

    /// A client said something.
    pub(super) fn message(&mut self, socket: &mut Socket<'_>, message: Message<'_>) {
        let id = socket.id();
        let Some(index) = self.slots.get(id.slot as usize) else {
            return;
        };
        let Some((key, member)) = self.members.find_mut(*index, id) else {
            return;
        };
        if member.failed {
            member.undelivered += 1;
            self.process.counters.undelivered.one();
            return;
        }
        let is_full = member.push(message.into_owned()) || self.process.is_pressed();
        if is_full && !member.paused {
            member.paused = true;
            socket.pause();
        }
        if member.wait == Wait::Nothing {
            self.newcomers.push(key);
        }
        self.members.recount(key);
        self.charge(); // At once: in one turn everybody may say much.
    }

    /// A client is gone, whether or not it was ever open.
    pub(super) fn close(&mut self, id: SocketId, end: &End<'_>) {
        let Some(key) = self.find(id) else { return };
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let end = Ended::of(end);
        match &mut member.phase {
            Phase::Opening { left, .. } => {
                // Once a byte may have left, only the answer says whether a closed is owed.
                match member.wait {
                    Wait::Answer(_) => *left = Some(Box::new(end)),
                    Wait::Nothing | Wait::Permit | Wait::Until(_) | Wait::Journal => {
                        self.forget(key);
                    }
                }
            }
            Phase::Accepted(_) | Phase::Open => {
                member.phase = Phase::Ended(Box::new(end));
                self.keep_end(key);
                let Some(member) = self.members.get(key) else {
                    return;
                };
                if member.wait == Wait::Nothing {
                    self.newcomers.push(key);
                }
                self.members.recount(key);
            }
            Phase::Started | Phase::Ended(_) => {}
        }
    }

    pub(super) fn find(&self, id: SocketId) -> Option<Key> {
        let index = *self.slots.get(id.slot as usize)?;
        self.members.find(index, id)
    }

    // What the loop says.

    /// A group that an app put a socket into has no room for it.
    pub(crate) fn refused_group(&mut self, now: Instant, id: SocketId, group: &str) {
        if let Some(key) = self.find(id) {
            let what = "a Ws-Join beyond max_groups or max_group_name is left out";
            self.say(now, key, Kind::Header, what, group.as_bytes());
        }
    }

    /// A connection is ready. Late events of an earlier use of its place are dropped.
    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>, number: usize, readiness: Readiness) {
        let index = number & ((1 << INDEX_BITS) - 1);
        if let Some(connection) = self.connections.get_mut(index)
            && connection.serial as usize == number >> INDEX_BITS
        {
            connection.note(readiness);
            self.drive(turn, index);
        }
    }

    /// A permit of this app was handed to this thread; it is used, or handed on, at the end of the turn.
    pub(crate) fn permit(&mut self, _turn: &mut Turn<'_>, app: usize) {
        if let Some(app) = self.apps.get_mut(app) {
            app.granted += 1;
        }
    }

    /// Does what `now` demands. Early and repeated calls are harmless.
    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        while let Some(Reverse((at, key))) = self.pauses.peek().copied()
            && at <= now
        {
            self.pauses.pop();
            if self
                .members
                .get(key)
                .is_some_and(|member| member.wait == Wait::Until(at))
            {
                self.line_up(key, false);
            }
        }
        if self.deadline.is_some_and(|at| at <= now) {
            let late: Vec<usize> = self
                .connections
                .iter()
                .filter(|(_, connection)| connection.deadline <= now)
                .map(|(index, _)| index)
                .collect();
            for index in late {
                self.expire(turn, index);
            }
            self.deadline = self
                .connections
                .iter()
                .map(|(_, connection)| connection.deadline)
                .min();
        }
        self.journal_is_late(turn);
        self.tire(turn);
    }

    /// Returns the next deadline; a moment long past if something is to be started at once.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.newcomers.is_empty() || self.has_news_of_the_journal() {
            return Some(Instant::at(0));
        }
        let mut next = self.deadline;
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        };
        consider(self.pauses.peek().map(|Reverse((at, _))| *at));
        consider(self.journal_timeout());
        for app in self.apps.iter().filter(|app| app.is_waited_for()) {
            consider(self.next_tired(app));
            consider(self.next_dial(app));
        }
        next
    }

    /// Starts what became due in this turn, as far as there are permits. Called at the end of every turn, before the
    /// turn's own commands are done: it may add some.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        // What becomes due by this is started in the next turn, which `poll_timeout` then wants at once.
        let mut newcomers = std::mem::take(&mut self.newcomers);
        for key in newcomers.drain(..) {
            if let Some(member) = self.members.get_mut(key)
                && member.wait == Wait::Nothing
                && member.due().is_some()
            {
                member.since = turn.now;
                member.attempt = 0;
                self.move_over(key);
                if self.admit(turn, key) {
                    self.stand_in_line(key, false);
                }
            }
        }
        if self.newcomers.is_empty() {
            self.newcomers = newcomers; // Its room, that is: somebody comes in nearly every turn.
        }
        self.flush_journal(turn);
        for app in 0..self.apps.len() {
            if self.apps.get(app).is_some_and(App::is_quiet) {
                continue;
            }
            self.age(app, turn.now);
            self.pump(turn, app);
            self.trim(app);
        }
        self.charge();
        self.count_queues();
    }

    /// Tells the process how many bytes are held.
    fn charge(&mut self) {
        let held = self.members.held + self.held;
        if held == self.charged {
            return;
        }
        let memory = &self.process.counters.memory;
        if held >= self.charged {
            memory.add(held - self.charged);
        } else {
            memory.subtract(self.charged - held);
        }
        self.charged = held;
    }

    /// Counts what waits for each app: once a turn, since there may be many apps.
    fn count_queues(&self) {
        for (app, waiting) in self.members.waiting.iter().enumerate() {
            let counts = self.counts.app(app);
            counts.queued.set(waiting.messages as u64);
            counts.queued_bytes.set(waiting.bytes as u64);
        }
    }

    /// Returns who has most bytes of messages queued, and how many.
    pub(crate) fn longest_queue(&self) -> Option<(usize, Key)> {
        let queues = self.members.iter();
        queues
            .map(|(key, member)| (member.abandonable(), key))
            .max_by_key(|(bytes, _)| *bytes)
    }

    /// Returns whether nothing is owed to any app but news of a start.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.len() == self.starts
    }

    /// The time is up: what is still owed is logged and counted, and forgotten.
    pub(crate) fn stop(&mut self, now: Instant) {
        let (mut closed, mut lost, mut messages, mut app) = (0, 0, 0, 0);
        let members: Vec<_> = self.members.drain().collect();
        for member in members {
            let is_owed = match (&member.phase, member.wait) {
                (Phase::Started, _) => false,
                (Phase::Opening { .. }, Wait::Answer(index)) => self
                    .connections
                    .get(index)
                    .is_some_and(Connection::has_sent),
                (Phase::Opening { .. }, _) => false,
                (Phase::Accepted(_) | Phase::Open | Phase::Ended(_), _) => true,
            };
            messages += member.queue_len() as u64;
            if is_owed {
                closed += 1;
                lost += u64::from(!self.leave_to_the_journal(&member));
                app = member.endpoint.hooks.app;
            } else {
                self.keep_no_longer(&member);
            }
        }
        self.starts = 0;
        self.connections.clear();
        for app in &mut self.apps {
            app.idle.clear();
            app.fresh.clear();
            app.lines.iter_mut().for_each(VecDeque::clear);
        }
        self.newcomers.clear();
        self.pauses.clear();
        self.deadline = None;
        self.process.counters.memory.subtract(self.charged);
        self.charged = 0;
        self.held = 0;
        self.process.counters.closed_lost.add(lost);
        self.process.counters.undelivered.add(messages);
        if closed > 0 && self.complaints.may_say(now, app, Kind::Lost).is_some() {
            tracing::warn!(
                closed,
                lost,
                messages,
                "hooks were still owed when the time was up"
            );
        }
    }

    // Who is next.

    /// Puts a member in its line; in front if it was there before.
    pub(super) fn line_up(&mut self, key: Key, in_front: bool) {
        self.move_over(key);
        self.stand_in_line(key, in_front);
    }

    /// Likewise, one who has just moved over to where his hooks go.
    fn stand_in_line(&mut self, key: Key, in_front: bool) {
        if self.waits_for_the_journal(key) {
            return;
        }
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        member.wait = Wait::Permit;
        let (app, line) = (member.endpoint.hooks.app, member.line());
        if let Some(line) = self
            .apps
            .get_mut(app)
            .and_then(|app| app.lines.get_mut(line as usize))
        {
            if in_front {
                line.push_front(key);
            } else {
                line.push_back(key);
            }
        }
    }

    /// Starts attempts while somebody waits and there are permits.
    fn pump(&mut self, turn: &mut Turn<'_>, app: usize) {
        while let Some((key, line)) = self.next_in_line(app) {
            if self.take_permit(app) {
                if self.start(turn, key) {
                    continue;
                }
                self.give_permit(turn, app);
            }
            if let Some(line) = self
                .apps
                .get_mut(app)
                .and_then(|app| app.lines.get_mut(line as usize))
            {
                line.push_front(key);
            }
            break;
        }
        // Nobody here can use what was handed to this thread: it is for others.
        while let Some(own) = self.apps.get_mut(app)
            && own.granted > 0
        {
            own.granted -= 1;
            self.give_permit(turn, app);
        }
    }

    /// Takes the next member out of the lines, which are served in turn.
    fn next_in_line(&mut self, app: usize) -> Option<(Key, Line)> {
        let app = self.apps.get_mut(app)?;
        for _ in Line::ALL {
            let line = *Line::ALL.get(app.turn)?;
            app.turn = (app.turn + 1) % Line::ALL.len();
            let waiting = app.lines.get_mut(line as usize)?;
            while let Some(key) = waiting.pop_front() {
                let member = self.members.get(key);
                if member.is_some_and(|member| member.waits_in(line)) {
                    return Some((key, line));
                }
            }
        }
        None
    }

    fn take_permit(&mut self, number: usize) -> bool {
        let Some(app) = self.apps.get_mut(number) else {
            return false;
        };
        if app.granted > 0 {
            app.granted -= 1;
            return true;
        }
        self.permits
            .get(number)
            .is_some_and(|permits| permits.take(self.thread))
    }

    fn give_permit(&mut self, turn: &mut Turn<'_>, app: usize) {
        match self.permits.get(app).and_then(|permits| permits.give()) {
            Some(thread) if thread == self.thread => {
                if let Some(app) = self.apps.get_mut(app) {
                    app.granted += 1;
                }
            }
            Some(thread) => {
                if let Some(mailbox) = turn.router.mailboxes.get(usize::from(thread)) {
                    mailbox.post(Mail::Permit(app));
                }
            }
            None => {}
        }
    }

    // On which connection.

    /// Begins an attempt; its permit is held from here to `detach`. Returns `false`, and has done nothing, if it has to wait
    /// for a connection.
    fn start(&mut self, turn: &mut Turn<'_>, key: Key) -> bool {
        let handshake_timeout = self.process.config.head.handshake_timeout;
        let Some(member) = self.members.get_mut(key) else {
            return false; // `next_in_line` has just seen it.
        };
        let endpoint = Rc::clone(&member.endpoint);
        let number = endpoint.hooks.app;
        let line = member.line();
        let answer_by = match line {
            Line::Handshakes => member.patience(handshake_timeout),
            Line::Messages | Line::Patient => None,
        }
        .unwrap_or(turn.now + endpoint.hooks.hook_timeout);
        // Where nothing may be repeated, a kept connection is looked at before it is trusted.
        let is_careful = line == Line::Handshakes
            || (line == Line::Messages && endpoint.hooks.retry == crate::config::Retry::Unsent);
        let kept = if member.afresh {
            None
        } else {
            self.warmest(turn, number, is_careful)
        };
        let is_kept = kept.is_some();
        if !is_kept && !self.may_dial(number) {
            return false;
        }
        let index = match kept.map_or_else(|| self.dial_anew(turn, number), Ok) {
            Ok(index) => index,
            Err(kind) => {
                self.give_permit(turn, number);
                if let Some(member) = self.members.get_mut(key) {
                    member.afresh = false;
                    member.attempt += 1;
                    member.wait = Wait::Nothing;
                }
                let failure = Failure {
                    cause: Cause::Connection(kind),
                    sent: false,
                };
                self.settle(turn, key, Outcome::Failed(failure));
                return true;
            }
        };
        let (Some(member), Some(connection)) =
            (self.members.get_mut(key), self.connections.get_mut(index))
        else {
            return true;
        };
        member.afresh = false;
        member.attempt += 1;
        member.wait = Wait::Answer(index);
        let member = &*member;
        connection.answer_by = answer_by;
        connection.since = turn.now;
        let counts = self.counts.app(number);
        counts.begun.add(1);
        counts.retries.add(u64::from(member.attempt > 1));
        let hooks = &endpoint.hooks;
        connection.begin(key, hooks.max_hook_answer, hooks.keep, |out| {
            let Some(what) = member.due() else { return 0 };
            let event = HookEvent {
                what,
                block: &member.block,
                attempt: member.attempt,
                timestamp: if endpoint.signer.is_empty() {
                    0
                } else {
                    unix_seconds()
                },
            };
            let body = dialect::encode(&endpoint, &event, out);
            if body.len() > LENT {
                return body.len();
            }
            out.extend_from_slice(body); // One piece is sent for less than two.
            0
        });
        if is_kept {
            connection.deadline = answer_by;
            self.deadline = Some(self.deadline.map_or(answer_by, |at| at.min(answer_by)));
            self.drive(turn, index);
        } else {
            self.await_connection(index, turn.now);
        }
        true
    }

    /// Does what a connection is ready for.
    fn drive(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let Some(key) = connection.job else {
            if connection.is_stale(turn.scratch) {
                self.discard(index);
            }
            return;
        };
        let Some(member) = self.members.get(key) else {
            return;
        };
        if !connection.is_connected() {
            match connection.connect(turn.now) {
                Ok(true) => connection.deadline = connection.answer_by,
                Ok(false) if connection.is_reached() => {
                    // TLS is the app's work already: it has the time that an answer has.
                    connection.deadline = connection.answer_by;
                    return;
                }
                Ok(false) => return,
                Err(cause) => return self.redial(turn, index, cause),
            }
            if let Phase::Opening { left: Some(_), .. } = member.phase {
                // The client left before a byte was sent: the app need not know.
                self.forget(key);
                self.detach(turn, index, false);
                return;
            }
        }
        let mut reusable = false;
        let outcome = match connection.exchange(member.body(), turn.scratch) {
            Ok(None) => {
                let now = connection.memory();
                self.held = self.held - connection.counted + now;
                connection.counted = now;
                return;
            }
            Ok(Some(answer)) => {
                reusable = answer.reusable;
                Outcome::of(member, &answer)
            }
            Err(failure) => Outcome::Failed(failure),
        };
        self.detach(turn, index, reusable);
        self.settle(turn, key, outcome);
    }

    /// A connection's deadline has passed.
    fn expire(&mut self, turn: &mut Turn<'_>, index: usize) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let Some(key) = connection.job else {
            self.discard(index);
            return;
        };
        if !connection.is_reached() {
            let cause = Cause::Connection(ErrorKind::TimedOut);
            return self.redial(turn, index, cause);
        }
        let failure = connection.failure(Cause::Timeout);
        self.detach(turn, index, false);
        self.settle(turn, key, Outcome::Failed(failure));
    }

    /// Ends an attempt: the permit goes back, and the connection is kept if it can be.
    fn detach(&mut self, turn: &mut Turn<'_>, index: usize, reusable: bool) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let app = connection.app;
        if let Some(key) = connection.job
            && !connection.errors().is_empty()
        {
            let errors = connection.errors().to_vec();
            let what = "the app wrote to its standard error";
            self.say(turn.now, key, Kind::Errors, what, &errors);
        }
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if let Some(key) = connection.job.take() {
            let counts = self.counts.app(app);
            counts.ended.add(1);
            counts.durations.add(turn.now.since(connection.since));
            if let Some(member) = self.members.get_mut(key) {
                member.wait = Wait::Nothing;
            }
        }
        if let Some(own) = self.apps.get_mut(app)
            && reusable
            && connection.is_fit()
        {
            connection.deadline = turn.now + KEEP_ALIVE;
            connection.rest();
            let now = connection.memory();
            self.held = self.held - connection.counted + now;
            connection.counted = now;
            own.idle.push(index);
        } else {
            self.discard(index);
        }
        self.give_permit(turn, app);
    }

    /// Drops the coldest of more idle connections than this thread's share of the permits: they may pin an app's workers.
    fn trim(&mut self, app: usize) {
        while let Some(app) = self.apps.get(app)
            && app.idle.len() > app.max_idle
            && let Some(coldest) = app.idle.first().copied()
        {
            self.discard(coldest);
        }
    }

    fn discard(&mut self, index: usize) {
        if let Some(connection) = self.connections.try_remove(index) {
            self.held -= connection.counted;
            if let Some(app) = self.apps.get_mut(connection.app) {
                app.idle.retain(|idle| *idle != index);
                app.fresh.retain(|fresh| *fresh != index);
            }
        }
    }
}
