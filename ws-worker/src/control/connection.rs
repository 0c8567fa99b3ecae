//! One caller of the control API: bytes in, request by request, answers out in the same order, each step with its deadline.
//! Knows no other connection, and not what a call does.

use super::api::{self, Call, Question};
use super::guard::Guard;
use super::http::{self, Answer, Body, Head, Kind, Method, Scan};
use super::page::{self, Look};
use crate::command::{Command, Outcome, Ticket};
use crate::counters::Gauge;
use crate::handle::Handle;
use crate::mailbox::Mail;
use crate::overview::Overview;
use crate::process::Process;
use crate::source::{Readiness, Turn};
use crate::stream::Stream;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::Instant;

/// From accept, or from its first byte, until a head is whole; not moved by bytes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the head until the body is whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Until all threads have said what came of a command.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a reload is over: files and names are asked for.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Until an answer is taken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// After our FIN, for theirs: what they still send is thrown away, so that no RST overtakes the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read in one turn; a request costs [`REQUEST_COST`] of them. Then it is the others' turn.
const TURN_SHARE: usize = 256 * 1024;
const REQUEST_COST: usize = 8 * 1024;
/// Bytes read at once while a head is awaited.
const HEAD_READ: usize = http::MAX_HEAD;
/// An input buffer larger than this is given back between requests.
const KEPT_INPUT: usize = 4 * 1024;

/// What all connections share.
pub(super) struct Shared {
    pub(super) process: Arc<Process>,
    pub(super) guard: Guard,
    /// Questions asked so far.
    pub(super) asked: u64,
    /// What the status page last said, so that it can tell rates.
    pub(super) look: Option<Look>,
    /// Every answer is the last of its connection.
    pub(super) stopping: bool,
    /// Bytes that may come of what is asked, and that nobody has counted yet.
    pub(super) expected: Arc<Gauge>,
}

/// A part of [`Shared::expected`], given back when dropped.
struct Expected {
    bytes: usize,
    all: Arc<Gauge>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.all.subtract(self.bytes);
    }
}

impl Shared {
    /// Writes the status page. Rates are since an earlier look, if that was not too short ago to tell.
    fn page(&mut self, now: Instant) -> Answer {
        let status = Overview::of(&self.process);
        let milliseconds = now.as_millis();
        let body = page::render(&status, milliseconds, self.look.as_ref());
        let is_old = self.look.is_none_or(|look| look.at + 1_000 <= milliseconds);
        if is_old {
            self.look = Some(Look {
                at: milliseconds,
                messages: status.messages,
                accepted: status.handshakes.accepted,
            });
        }
        Answer::of(Kind::Page, body)
    }

    /// Above all of it nothing is asked of the threads, nor what would come to more together with what others have asked.
    fn has_room_for(&self, bytes: usize) -> bool {
        let memory = self.process.config.bounds.memory;
        let held = self.process.counters.memory.get();
        let expected = self.expected.get();
        let is_alone = bytes == 0 || expected == 0;
        held <= memory && (is_alone || held + expected + bytes <= memory)
    }

    fn expect(&self, bytes: usize) -> Expected {
        self.expected.add(bytes);
        Expected {
            bytes,
            all: Arc::clone(&self.expected),
        }
    }
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits: for readiness, an outcome or its deadline.
    Waits,
    /// It has used up its share of the turn.
    Again,
    /// It is over.
    Over,
}

/// What is known of a caller; in the order in which they give way where there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has shown no right to be here: a probe of `/healthz`, or one that says nothing at all.
    Unknown,
    /// Has made a call that it was allowed to make.
    Known,
    /// Is one too many, and hears so.
    TurnedAway,
}

/// One accepted connection.
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// Tells late events of an earlier connection in the same slot apart.
    pub(super) generation: u32,
    /// When its state is to end.
    pub(super) deadline: Instant,
    pub(super) accepted_at: Instant,
    pub(super) standing: Standing,
    peer: Option<IpAddr>,
    readable: bool,
    writable: bool,
    /// Read and not yet taken: a head's beginning, or what was sent ahead. At most a head and one read.
    input: Vec<u8>,
    scan: Scan,
    /// At most one answer.
    output: Vec<u8>,
    written: usize,
    state: State,
    /// Nothing has been answered yet.
    fresh: bool,
    /// Of the request at hand.
    head_only: bool,
    keep_alive: bool,
    /// Bytes of memory reported to the counters.
    counted: usize,
}

enum State {
    /// Waits for a whole head.
    Head,
    /// Waits for a whole body.
    Body {
        call: Call,
        binary: bool,
        body: Body,
    },
    /// Waits for what the threads say.
    Asking {
        question: Question,
        number: u64,
        left: usize,
        #[expect(dead_code, reason = "given back with the state")]
        expected: Expected,
    },
    /// Waits until the answer is written.
    Answering { close: bool },
    /// Said everything; waits for the peer's end.
    Lingering,
}

/// What a read came to.
enum Taken {
    Bytes(usize),
    /// Nothing there.
    Blocked,
    /// The peer's end, or an error.
    End,
}

impl Connection {
    /// `serve` it at once: it may be readable already.
    pub(super) fn new(stream: Stream, generation: u32, peer: Option<IpAddr>, now: Instant) -> Self {
        Self {
            stream,
            generation,
            deadline: now + HEAD_TIMEOUT,
            accepted_at: now,
            standing: Standing::Unknown,
            peer,
            readable: true,
            writable: true,
            input: Vec::new(),
            scan: Scan::default(),
            output: Vec::new(),
            written: 0,
            state: State::Head,
            fresh: true,
            head_only: false,
            keep_alive: false,
            counted: 0,
        }
    }

    /// Answers without having been asked: there are too many connections.
    pub(super) fn turn_away(&mut self, now: Instant, shared: &Shared) {
        self.standing = Standing::TurnedAway;
        let answer = Answer::fatal(503, "too many control connections").with("Retry-After", "1");
        self.answer(now, shared, &answer);
    }

    /// Remembers readiness.
    pub(super) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable || readiness.closed;
        self.writable |= readiness.writable || readiness.closed;
    }

    /// Returns whether it is between two requests.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.input.is_empty() && self.output.is_empty()
    }

    /// Goes on as far as it can.
    pub(super) fn serve(&mut self, turn: &mut Turn<'_>, shared: &mut Shared, slot: usize) -> Fate {
        let fate = self.advance(turn, shared, slot);
        self.account(&shared.process.counters.memory);
        fate
    }

    /// Says what `now` demands. Early and repeated calls are harmless.
    pub(super) fn handle_timeout(
        &mut self,
        turn: &mut Turn<'_>,
        shared: &mut Shared,
        slot: usize,
    ) -> Fate {
        if turn.now < self.deadline {
            return Fate::Waits;
        }
        match &self.state {
            State::Head if self.input.is_empty() => return Fate::Over,
            State::Head | State::Body { .. } => {
                let answer = Answer::fatal(408, "the request took too long");
                self.answer(turn.now, shared, &answer);
            }
            State::Asking { .. } => {
                let answer = Answer::error(503, "a thread of the worker did not answer in time");
                self.answer(turn.now, shared, &answer);
            }
            State::Answering { .. } | State::Lingering => return Fate::Over,
        }
        self.serve(turn, shared, slot)
    }

    /// Takes an outcome, if it is still waited for.
    pub(super) fn outcome(
        &mut self,
        turn: &mut Turn<'_>,
        shared: &mut Shared,
        slot: usize,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Fate {
        match &mut self.state {
            State::Asking {
                question,
                number,
                left,
                ..
            } if *number == ticket.number => {
                question.take(outcome);
                *left = left.saturating_sub(1);
                self.serve(turn, shared, slot)
            }
            State::Asking { .. }
            | State::Head
            | State::Body { .. }
            | State::Answering { .. }
            | State::Lingering => Fate::Waits, // It came too late.
        }
    }

    /// Gives back what it held of the budget.
    pub(super) fn release(&mut self, memory: &Gauge) {
        memory.subtract(self.counted);
        self.counted = 0;
    }

    fn account(&mut self, memory: &Gauge) {
        let state = match &self.state {
            State::Body { body, .. } => body.memory(),
            State::Asking { question, .. } => question.memory(),
            State::Head | State::Answering { .. } | State::Lingering => 0,
        };
        let held = self.input.capacity() + self.output.capacity() + state;
        memory.add(held);
        memory.subtract(self.counted);
        self.counted = held;
    }

    fn advance(&mut self, turn: &mut Turn<'_>, shared: &mut Shared, slot: usize) -> Fate {
        let mut share = TURN_SHARE;
        loop {
            match self.flush() {
                Taken::Bytes(_) => {}
                Taken::Blocked => return Fate::Waits,
                Taken::End => return Fate::Over,
            }
            if share == 0 {
                return Fate::Again;
            }
            let now = turn.now;
            match &mut self.state {
                State::Head => match self.scan.find_end(&self.input) {
                    Err(answer) => self.answer(now, shared, &answer),
                    Ok(Some(length)) => {
                        share = share.saturating_sub(REQUEST_COST);
                        self.begin(now, shared, length);
                    }
                    Ok(None) => {
                        let was_empty = self.input.is_empty();
                        let room = turn.scratch.len().min(HEAD_READ);
                        let buffer = turn.scratch.get_mut(..room).unwrap_or_default();
                        match self.read(buffer, &mut share) {
                            Taken::Bytes(count) => {
                                let bytes = buffer.get(..count).unwrap_or_default();
                                self.input.extend_from_slice(bytes);
                                // The first head's time runs since accept.
                                if was_empty && !self.fresh {
                                    self.deadline = now + HEAD_TIMEOUT;
                                }
                            }
                            Taken::Blocked => return Fate::Waits,
                            Taken::End => return Fate::Over,
                        }
                    }
                },
                State::Body { body, .. } if body.is_whole() => self.ask(turn, shared, slot),
                State::Body { body, .. } if !self.input.is_empty() => {
                    match body.receive(&self.input) {
                        Ok(count) => {
                            self.input.drain(..count);
                        }
                        Err(answer) => self.answer(now, shared, &answer),
                    }
                }
                State::Body { .. } if shared.process.is_out_of_memory() => {
                    let answer = Answer::fatal(503, "over budget").with("Retry-After", "1");
                    self.answer(now, shared, &answer);
                }
                State::Body { .. } => match self.read(turn.scratch, &mut share) {
                    Taken::Bytes(count) => {
                        let bytes = turn.scratch.get(..count).unwrap_or_default();
                        self.fill(now, shared, bytes);
                    }
                    Taken::Blocked => return Fate::Waits,
                    Taken::End => return Fate::Over,
                },
                State::Asking { left: 0, .. } => {
                    if let State::Asking { question, .. } = self.take_state() {
                        let answer = question.answer(&shared.process.config);
                        self.answer(now, shared, &answer);
                    }
                }
                State::Asking { .. } => return Fate::Waits,
                State::Answering { close: false } => self.next_request(now),
                State::Answering { close: true } => {
                    self.stream.finish();
                    self.input = Vec::new();
                    self.output = Vec::new();
                    self.state = State::Lingering;
                    self.deadline = now + LINGER_TIMEOUT;
                }
                State::Lingering => match self.read(turn.scratch, &mut share) {
                    Taken::Bytes(_) => {}
                    Taken::Blocked => return Fate::Waits,
                    Taken::End => return Fate::Over,
                },
            }
        }
    }

    /// Takes a whole head: refuses it, or waits for its body, which may be whole already.
    fn begin(&mut self, now: Instant, shared: &mut Shared, length: usize) {
        (self.keep_alive, self.head_only) = (false, false);
        let head = http::parse(self.input.get(..length).unwrap_or_default());
        self.input.drain(..length);
        let head = match head {
            Ok(head) => head,
            Err(answer) => return self.answer(now, shared, &answer),
        };
        self.keep_alive = head.keep_alive;
        self.head_only = head.method == Method::Head;
        match self.admit(now, shared, &head) {
            Ok((call, body)) => {
                // A caller that did not wait needs no word.
                if head.expects_continue && !body.is_whole() && self.input.is_empty() {
                    self.output.extend_from_slice(http::CONTINUE);
                }
                self.state = State::Body {
                    call,
                    binary: head.binary,
                    body,
                };
                self.deadline = now + BODY_TIMEOUT;
            }
            Err(mut answer) => {
                // Its body is not read, so where the next request begins is not known.
                answer.close |= head.has_body();
                self.answer(now, shared, &answer);
            }
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        shared: &mut Shared,
        head: &Head,
    ) -> Result<(Call, Body), Answer> {
        let is_page = api::is_page(head);
        if head.browser && !(is_page && head.visit) {
            return Err(Answer::error(403, "this is not for browsers"));
        }
        // Behind a tunnel to a unix socket a page could give its own name this address, and be asked for no token.
        if head.rebound && !shared.guard.wants_token() {
            let words = "without a token a browser comes by localhost or an address";
            return Err(Answer::error(403, words));
        }
        if !api::is_public(&head.target) {
            let shown = head.authorization.as_deref();
            shared.guard.admit(now, self.peer, shown, is_page)?;
            self.standing = Standing::Known;
        }
        let config = &shared.process.config;
        let call = api::call(head, config)?;
        let limit = call.body_limit(head, config)?;
        Ok((call, Body::new(head.length, limit)?))
    }

    /// Takes bytes of a body straight from the read buffer; what was sent ahead is kept.
    fn fill(&mut self, now: Instant, shared: &Shared, bytes: &[u8]) {
        if let State::Body { body, .. } = &mut self.state {
            match body.receive(bytes) {
                Ok(count) => self
                    .input
                    .extend_from_slice(bytes.get(count..).unwrap_or_default()),
                Err(answer) => self.answer(now, shared, &answer),
            }
        }
    }

    /// The request is whole: sends the commands it asks for.
    fn ask(&mut self, turn: &mut Turn<'_>, shared: &mut Shared, slot: usize) {
        let State::Body { call, binary, body } = self.take_state() else {
            return;
        };
        if matches!(call, Call::Page) {
            let answer = shared.page(turn.now);
            return self.answer(turn.now, shared, &answer);
        }
        if matches!(call, Call::Reload) {
            return self.reload(turn, shared, slot);
        }
        if matches!(call, Call::Drain) {
            tracing::info!("stopping: the control API asked for it");
            Handle::of(turn.router).stop();
            return self.answer(turn.now, shared, &Answer::json(202, "{}"));
        }
        match call.ask(binary, body.into_bytes(), &shared.process) {
            Err(answer) => self.answer(turn.now, shared, &answer),
            // Mail that nobody takes: no more is put on the heap, or a caller with patience could.
            Ok((question, actions))
                if !actions.is_empty()
                    && !shared.has_room_for(question.expected(turn.router.mailboxes.len())) =>
            {
                let answer = Answer::error(503, "over budget").with("Retry-After", "1");
                self.answer(turn.now, shared, &answer);
            }
            Ok((question, actions)) => {
                shared.asked = shared.asked.wrapping_add(1);
                let number = super::ticket_number(shared.asked, slot);
                let thread = turn.router.thread;
                let mut left = 0;
                for action in actions {
                    let reply = Some(Ticket { thread, number });
                    left += turn.router.route(Command { action, reply });
                }
                self.deadline = turn.now + QUESTION_TIMEOUT;
                let expected = shared.expect(question.expected(turn.router.mailboxes.len()));
                self.state = State::Asking {
                    question,
                    number,
                    left,
                    expected,
                };
            }
        }
    }

    /// Has the configuration read on a thread of its own, which brings the outcome by mail.
    fn reload(&mut self, turn: &mut Turn<'_>, shared: &mut Shared, slot: usize) {
        shared.asked = shared.asked.wrapping_add(1);
        let number = super::ticket_number(shared.asked, slot);
        let thread = turn.router.thread;
        let ticket = Ticket { thread, number };
        let mailbox = turn.router.mailboxes.get(usize::from(thread)).cloned();
        let started = Handle::of(turn.router).reload_then(move |result| {
            if let Some(mailbox) = mailbox {
                mailbox.post(Mail::Outcome(ticket, Outcome::Reloaded(Box::new(result))));
            }
        });
        if started.is_err() {
            let answer = Answer::error(503, "there is no thread to be had for it");
            return self.answer(turn.now, shared, &answer);
        }
        self.deadline = turn.now + RELOAD_TIMEOUT;
        self.state = State::Asking {
            question: Question::Reload(None),
            number,
            left: 1,
            expected: shared.expect(0),
        };
    }

    fn answer(&mut self, now: Instant, shared: &Shared, answer: &Answer) {
        let close = answer.close || !self.keep_alive || shared.stopping;
        answer.encode(self.head_only, close, &mut self.output);
        self.state = State::Answering { close };
        self.deadline = now + ANSWER_TIMEOUT;
    }

    /// The answer is out: what was sent ahead is next.
    fn next_request(&mut self, now: Instant) {
        (self.keep_alive, self.head_only) = (false, false);
        self.state = State::Head;
        self.fresh = false;
        self.output = Vec::new();
        if self.input.is_empty() {
            if self.input.capacity() > KEPT_INPUT {
                self.input = Vec::new();
            }
            self.deadline = now + IDLE_TIMEOUT;
        } else {
            self.deadline = now + HEAD_TIMEOUT;
        }
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Head)
    }

    /// Writes what is unsent. `Bytes` is: all of it is out.
    fn flush(&mut self) -> Taken {
        loop {
            let unsent = self.output.get(self.written..).unwrap_or_default();
            if unsent.is_empty() {
                self.output.clear();
                self.written = 0;
                return Taken::Bytes(0);
            }
            if !self.writable {
                return Taken::Blocked;
            }
            match self.stream.write(unsent) {
                Ok(0) => return Taken::End,
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return Taken::End,
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8], share: &mut usize) -> Taken {
        if !self.readable {
            return Taken::Blocked;
        }
        match self.stream.read(buffer) {
            Ok(0) => Taken::End,
            Ok(count) => {
                *share = share.saturating_sub(count);
                Taken::Bytes(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Taken::Blocked
            }
            Err(_) => Taken::End,
        }
    }
}
