//! Whole conversations of both roles, from the first byte of the handshake to the end, on a made-up clock: says, closes,
//! pauses, waits, lost lines, lost ends, changed bytes. What arrives is a prefix of what was said unless bytes were changed;
//! at most one close goes out and nothing after it; after each moment every deadline lies ahead; memory stays within the
//! limits; and both sides come to an end.

use super::streams::check_memory;
use crate::common::{at, count_closes, feed, feed_into};
use arbitrary::{Arbitrary, Unstructured};
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{
    Answer, ClientHandshake, ClientOptions, CloseCode, Connection, Event, Handshake, HeadLimits,
    Input, Instant, Limits, Message, Nonce, Output, Ready, Refusal, SendError, Version, encode,
};

/// A conversation.
#[derive(Debug)]
pub(crate) struct Plan {
    version: u8,
    nonce: u8,
    /// Bit 0: the server decides late; 1: an origin; 2: a subprotocol; 3 and 4: the largest message; 5: short timeouts;
    /// 6: bytes may be changed.
    flags: u8,
    steps: Vec<Step>,
}

/// One thing that happens. `who`: the server.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Say {
        who: bool,
        binary: bool,
        length: u16,
        prepared: bool,
    },
    /// If `chance` is small, so that it is seldom.
    Close {
        who: bool,
        code: u16,
        reason: u8,
        chance: u8,
    },
    Pause {
        who: bool,
    },
    Resume {
        who: bool,
    },
    Wait {
        milliseconds: u16,
    },
    /// The server decides, if it has not.
    Decide {
        accept: bool,
    },
    /// Bytes come through, from `who`.
    Carry {
        who: bool,
        count: u16,
        own_room: bool,
    },
    CarryAll {
        who: bool,
    },
    Change {
        who: bool,
        at: u16,
        byte: u8,
    },
    /// So many bytes still come through, both ways together; then nothing does, not even an end.
    Cut {
        after: u16,
    },
    /// One end is gone, if `chance` is small; of what it sent so much is lost.
    Vanish {
        who: bool,
        lost: u16,
        chance: u8,
    },
}

impl Plan {
    /// Reads a plan: three bytes, then steps as far as they go. (A `Vec` of its own making would end at every odd byte.)
    fn read(data: &[u8]) -> Option<Self> {
        let (&[version, nonce, flags], rest) = data.split_first_chunk()?;
        let mut bytes = Unstructured::new(rest);
        let mut steps = Vec::new();
        while !bytes.is_empty() && steps.len() < 200 {
            steps.push(Step::arbitrary(&mut bytes).ok()?);
        }
        Some(Self {
            version,
            nonce,
            flags,
            steps,
        })
    }
}

/// Plays the conversation that these bytes describe.
pub(crate) fn operations(data: &[u8]) {
    if let Some(plan) = Plan::read(data) {
        play(&plan);
    }
}

/// As [`operations`], in this version.
pub(crate) fn operations_in(version: Version, data: &[u8]) {
    if let Some(plan) = Plan::read(data) {
        play(&Plan {
            version: version as u8,
            ..plan
        });
    }
}

/// Plays one fixed conversation in which, after so many bytes, the line is cut (nothing more comes through, not even an
/// end) or one end vanishes. Returns whether it came to that.
pub(crate) fn lose_after(version: Version, server: bool, vanishes: bool, after: usize) -> bool {
    let say = |who, binary, length| Step::Say {
        who,
        binary,
        length,
        prepared: false,
    };
    let steps = [
        say(true, false, 32),
        say(false, false, 48),
        say(true, true, 160),
        Step::Close {
            who: server,
            code: 4000,
            reason: 3,
            chance: 0,
        },
    ];
    let plan = Plan {
        version: version as u8,
        nonce: 7,
        flags: 0b110,
        steps: Vec::new(),
    };
    let mut pair = Pair::new(&plan);
    let mut steps = steps.into_iter().peekable();
    let mut carried = 0;
    loop {
        let is_open = |end: &End| matches!(end.phase, Phase::Open(_));
        if pair.ends.iter().all(is_open)
            && let Some(step) = steps.next()
        {
            pair.take(step);
        }
        let mut has_moved = false;
        for who in [0, 1] {
            let count = pair.ends[who].pipe.len();
            for _ in 0..count {
                if carried == after {
                    if vanishes {
                        pair.take(Step::Vanish {
                            who: server,
                            lost: 0,
                            chance: 0,
                        });
                    } else {
                        pair.line = Some(0);
                    }
                    pair.finish();
                    return true;
                }
                pair.carry(who, 1, false);
                carried += 1;
                has_moved = true;
            }
        }
        pair.tick();
        if !has_moved && steps.peek().is_none() {
            pair.finish();
            return false;
        }
    }
}

fn play(plan: &Plan) {
    let mut pair = Pair::new(plan);
    for step in &plan.steps {
        pair.take(*step);
        pair.tick();
    }
    pair.finish();
}

enum Phase {
    Asking(ClientHandshake),
    Answering(Handshake),
    Open(Connection),
    /// The handshake failed, or this end is gone.
    Over,
}

/// One end, and the pipe that leads away from it.
struct End {
    phase: Phase,
    limits: Arc<Limits>,
    unread: Vec<u8>,
    pipe: Vec<u8>,
    /// All that was sent since the handshake.
    sent: Vec<u8>,
    said: Vec<Message<'static>>,
    heard: Vec<Message<'static>>,
    is_paused: bool,
    decides_late: bool,
}

impl End {
    fn new(phase: Phase, limits: &Arc<Limits>) -> Self {
        Self {
            phase,
            limits: Arc::clone(limits),
            unread: Vec::new(),
            pipe: Vec::new(),
            sent: Vec::new(),
            said: Vec::new(),
            heard: Vec::new(),
            is_paused: false,
            decides_late: false,
        }
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.phase {
            Phase::Open(connection) => Some(connection),
            Phase::Asking(_) | Phase::Answering(_) | Phase::Over => None,
        }
    }

    fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Open(connection) => connection.closed().is_some(),
            Phase::Asking(_) | Phase::Answering(_) => false,
            Phase::Over => true,
        }
    }

    /// Sends what an open connection owes.
    fn push(&mut self, out: &mut Output) {
        let bytes = out.take();
        self.sent.extend(&bytes);
        self.pipe.extend(bytes);
    }

    fn say(&mut self, now: Instant, binary: bool, length: u16, prepared: bool) {
        let Some(connection) = self.connection() else {
            return;
        };
        // Mostly short: its last bits say how much shorter.
        let length = usize::from(length >> (length & 0xf));
        let message = if binary {
            let mut bytes = std::array::from_fn::<u8, 251, _>(|i| i as u8).repeat(length / 251 + 1);
            bytes.truncate(length);
            Message::Binary(bytes.into())
        } else {
            // By the copy, not by the character: a fuzzer counts every step.
            let [times, more] = [length / 2 / 5, length / 2 % 5];
            let mut text = "aé日😀\0".repeat(times);
            text.extend("aé日😀\0".chars().take(more));
            Message::Text(text.into())
        };
        let mut out = Output::default();
        let was_closing = connection.is_closing();
        let admitted = connection.admits(binary, 0).err();
        let result = if prepared {
            write_prepared(connection, now, &message, &mut out)
        } else {
            connection.send(now, message.as_borrowed(), &mut out)
        };
        let expected = match (was_closing, binary && !connection.version().has_binary()) {
            (true, _) => Err(SendError::Closed),
            (false, true) => Err(SendError::NoBinary),
            (false, false) => Ok(()),
        };
        assert_eq!(result, expected);
        // What is framed for many is not for a client, which masks.
        assert!(admitted == expected.err() || admitted == Some(SendError::State));
        match result {
            Ok(()) => self.said.push(message),
            Err(_) => assert!(out.is_empty(), "what cannot be sent leaves nothing"),
        }
        self.push(&mut out);
    }

    fn hear(&mut self, now: Instant, bytes: &[u8], own_room: bool) {
        let Phase::Open(connection) = &mut self.phase else {
            self.unread.extend_from_slice(bytes);
            self.shake(now);
            return;
        };
        let mut out = Output::default();
        let feed = if own_room { feed_into } else { feed };
        for event in feed(connection, now, bytes, &mut out) {
            if let Event::Message(message) = event {
                self.heard.push(message);
            }
        }
        check_memory(connection, &self.limits);
        self.push(&mut out);
    }

    /// Goes on with the handshake, as far as the bytes go.
    fn shake(&mut self, now: Instant) {
        let mut out = Output::default();
        let mut bytes = std::mem::take(&mut self.unread);
        let mut input = Input::new(&mut bytes);
        let head_limits = HeadLimits::default();
        let mut is_open = false;
        loop {
            let result = match &mut self.phase {
                Phase::Asking(client) => match client.receive(now, &mut input, &mut out) {
                    Ok(ready) => Ok(ready),
                    Err(_) => Err(Refusal::Silent),
                },
                Phase::Answering(server) => server.receive(now, &head_limits, &mut input, &mut out),
                Phase::Open(_) | Phase::Over => return,
            };
            match result {
                Ok(None) => break,
                Ok(Some(Ready::Request)) if self.decides_late => break,
                Ok(Some(Ready::Request)) => {
                    self.pipe.extend(out.take());
                    self.decide(now, true);
                }
                Ok(Some(Ready::Open)) => {
                    is_open = true;
                    break;
                }
                Err(refusal) => {
                    if let Phase::Answering(server) = &mut self.phase {
                        server.refuse(refusal, None, &mut out);
                    }
                    self.phase = Phase::Over;
                    break;
                }
            }
        }
        let rest = input.as_slice().to_vec();
        self.pipe.extend(out.take());
        if !is_open {
            self.unread = rest;
            return;
        }
        let limits = Arc::clone(&self.limits);
        let connection = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Asking(client) => client.into_connection(now, limits),
            Phase::Answering(server) => server.into_connection(now),
            Phase::Open(_) | Phase::Over => None,
        };
        self.phase = Phase::Open(connection.expect("it is open"));
        self.hear(now, &rest, false);
    }

    fn decide(&mut self, now: Instant, accept: bool) {
        let limits = Arc::clone(&self.limits);
        let Phase::Answering(server) = &mut self.phase else {
            return;
        };
        let Some(request) = server.request() else {
            return;
        };
        let mut out = Output::default();
        let answer = Answer {
            protocol: request.protocols().next().map(str::to_owned),
            ..Answer::default()
        };
        if accept {
            // An error: it is accepted already, and waits for the eight bytes.
            let result = server.accept(now, &answer, limits, &mut out);
            assert_eq!(result.is_err(), out.is_empty());
        } else {
            server.refuse(Refusal::Origin, None, &mut out);
            self.phase = Phase::Over;
        }
        self.pipe.extend(out.take());
    }

    fn end_of_stream(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Asking(client) => {
                assert!(client.handle_eof(now).is_err());
                self.phase = Phase::Over;
            }
            Phase::Answering(server) => {
                assert_eq!(server.handle_eof(now), Err(Refusal::Silent));
                self.phase = Phase::Over;
            }
            Phase::Open(connection) => connection.handle_eof(now),
            Phase::Over => {}
        }
    }

    fn tick(&mut self, now: Instant) {
        let mut out = Output::default();
        let next = match &mut self.phase {
            Phase::Asking(client) => {
                let is_late = client.handle_timeout(now).is_err();
                let next = client.poll_timeout();
                if is_late {
                    self.phase = Phase::Over;
                }
                next
            }
            Phase::Answering(server) => {
                let late = server.handle_timeout(now);
                let next = server.poll_timeout();
                if let Err(refusal) = late {
                    server.refuse(refusal, None, &mut out);
                    self.phase = Phase::Over;
                }
                self.pipe.extend(out.take());
                next
            }
            Phase::Open(connection) => {
                connection.handle_timeout(now, &mut out);
                let owed = out.len();
                connection.handle_timeout(now, &mut out);
                assert_eq!(out.len(), owed, "done already");
                connection.poll_timeout()
            }
            Phase::Over => None,
        };
        assert!(next.is_none_or(|next| next > now), "a deadline is behind");
        self.push(&mut out);
    }
}

/// Sends a message as a loop does that frames once for many.
fn write_prepared(
    connection: &mut Connection,
    now: Instant,
    message: &Message<'_>,
    out: &mut Output,
) -> Result<(), SendError> {
    match connection.frame(now, message) {
        Ok(framed) => {
            let mut bytes = Vec::new();
            let framing = connection.version().framing();
            assert_eq!(encode(framing, message, &mut bytes), Ok(()));
            let parts = [framed.head(), message.payload(), framed.tail()];
            assert!(parts.concat() == bytes, "two ways, two frames");
            out.extend_from_slice(&bytes);
            Ok(())
        }
        // A client masks.
        Err(SendError::State) => connection.send(now, message.as_borrowed(), out),
        Err(error) => Err(error),
    }
}

struct Pair {
    /// The server, the client.
    ends: [End; 2],
    version: Version,
    now: u64,
    /// Bytes that still come through, if the line is to break.
    line: Option<usize>,
    is_honest: bool,
    may_change: bool,
}

impl Pair {
    fn new(plan: &Plan) -> Self {
        let version = Version::ALL[usize::from(plan.version) % 5];
        let is_set = |bit: u8| plan.flags >> bit & 1 == 1;
        let mut limits = Limits {
            max_message: [300_000, 70_000, 1_000, 100][usize::from(plan.flags >> 3 & 3)],
            idle_timeout: Some(Duration::from_secs(60)),
            ..Limits::default()
        };
        if is_set(5) {
            limits.heartbeat = Some(Duration::from_millis(700));
            limits.pong_timeout = Duration::from_millis(300);
            limits.close_timeout = Duration::ZERO;
        }
        let limits = Arc::new(limits);
        let mut options = ClientOptions::new(version, "example.com:8080", "/a?b=c");
        options.origin = is_set(1).then(|| "http://example.com".into());
        if is_set(2) {
            options.protocols.push("chat".into());
        }
        let nonce = Nonce([plan.nonce; 64]);
        let mut client = ClientHandshake::new(at(0), options, &nonce).expect("clean options");
        let mut out = Output::default();
        client.start(&mut out);
        let mut client = End::new(Phase::Asking(client), &limits);
        client.pipe.extend(out.take());
        let server = Handshake::new(at(0), &HeadLimits::default());
        let mut server = End::new(Phase::Answering(server), &limits);
        server.decides_late = is_set(0);
        Self {
            ends: [server, client],
            version,
            now: 0,
            line: None,
            is_honest: true,
            may_change: is_set(6),
        }
    }

    fn take(&mut self, step: Step) {
        let now = at(self.now);
        let end = |who: bool| usize::from(!who);
        match step {
            Step::Say {
                who,
                binary,
                length,
                prepared,
            } => {
                self.ends[end(who)].say(now, binary, length, prepared);
            }
            Step::Close {
                who,
                code,
                reason,
                chance,
            } if chance < 64 => {
                let end = &mut self.ends[end(who)];
                let reason = "é".repeat(usize::from(reason));
                let code = CloseCode::new(code).unwrap_or(CloseCode::NO_STATUS);
                if let Some(connection) = end.connection() {
                    let mut out = Output::default();
                    connection.close(now, code, &reason, &mut out);
                    assert!(connection.is_closing());
                    end.push(&mut out);
                }
            }
            Step::Pause { who } => {
                let end = &mut self.ends[end(who)];
                if let Some(connection) = end.connection() {
                    connection.pause(now);
                    end.is_paused = true;
                }
            }
            Step::Resume { who } => self.resume(end(who)),
            Step::Wait { milliseconds } => self.now += u64::from(milliseconds),
            Step::Decide { accept } => {
                self.ends[0].decides_late = false;
                self.ends[0].decide(now, accept);
                self.ends[0].shake(now);
            }
            Step::Carry {
                who,
                count,
                own_room,
            } => {
                self.carry(end(who), usize::from(count), own_room);
            }
            Step::CarryAll { who } => self.carry(end(who), usize::MAX, false),
            Step::Change { who, at, byte } => {
                let pipe = &mut self.ends[end(who)].pipe;
                if self.may_change && !pipe.is_empty() {
                    let at = usize::from(at) % pipe.len();
                    self.is_honest &= pipe[at] == byte;
                    pipe[at] = byte;
                }
            }
            Step::Cut { after } => self.line = self.line.or(Some(usize::from(after))),
            Step::Vanish { who, lost, chance } if chance < 32 => {
                let end = &mut self.ends[end(who)];
                end.phase = Phase::Over;
                let left = end.pipe.len().saturating_sub(usize::from(lost));
                end.pipe.truncate(left);
            }
            Step::Close { .. } | Step::Vanish { .. } => {}
        }
    }

    fn resume(&mut self, who: usize) {
        let now = at(self.now);
        let end = &mut self.ends[who];
        end.is_paused = false;
        if let Some(connection) = end.connection() {
            connection.resume(now);
        }
    }

    /// Moves bytes from one end to the other; the end of the stream too.
    fn carry(&mut self, from: usize, count: usize, own_room: bool) {
        let now = at(self.now);
        let [one, two] = &mut self.ends;
        let (from, to) = if from == 0 { (one, two) } else { (two, one) };
        if to.is_paused {
            return;
        }
        let count = count.min(from.pipe.len());
        let mut bytes = from.pipe.clone();
        from.pipe.drain(..count);
        bytes.truncate(count);
        if let Some(left) = &mut self.line {
            bytes.truncate(*left);
            *left -= bytes.len();
            to.hear(now, &bytes, own_room);
            if *left == 0 {
                return; // Not even the end comes through.
            }
        } else {
            to.hear(now, &bytes, own_room);
        }
        if from.pipe.is_empty() && from.is_over() {
            to.end_of_stream(now);
        }
    }

    fn tick(&mut self) {
        for end in &mut self.ends {
            end.tick(at(self.now));
        }
    }

    fn finish(&mut self) {
        let is_whole = self.line.is_none();
        self.ends[0].decides_late = false;
        self.ends[0].decide(at(self.now), true);
        self.ends[0].shake(at(self.now));
        for who in [0, 1] {
            self.resume(who);
        }
        for _ in 0..60 {
            for who in [0, 1] {
                self.carry(who, usize::MAX, false);
            }
            self.now += 2_000;
            self.tick();
        }
        let [one, two] = &self.ends;
        for (from, to) in [(one, two), (two, one)] {
            assert!(from.is_over(), "not at an end");
            assert!(count_closes(self.version, &from.sent) <= 1);
            let is_prefix = from.said.starts_with(&to.heard);
            assert!(is_prefix || !self.is_honest, "heard what was not said");
        }
        // Where both agreed to close, each has heard the other out. 75 cannot agree.
        let agreed = self.ends.iter().all(|end| match &end.phase {
            Phase::Open(connection) => connection.closed().is_some_and(|closed| closed.clean),
            Phase::Asking(_) | Phase::Answering(_) | Phase::Over => false,
        });
        if is_whole && agreed && self.is_honest && self.version.has_closing_handshake() {
            assert!(one.said == two.heard && two.said == one.heard, "a hole");
        }
    }
}
