//! What an app's answer, or its silence, means for a socket: the rules of delivery, as commands and as what is owed next.
//! Knows no connection and no bytes.

use crate::clock::unix_seconds;
use crate::command::{Action, Broadcast, Command, LateDecision, Scope, SocketId};
use crate::config::Retry;
use crate::counters::HookResult;
use crate::handler::{ClosedBy, Socket};
use crate::hook::complaints::{Escaped, Kind};
use crate::hook::connection::{Cause, Failure};
use crate::hook::dialect::{self, Complaint, Opening, Reply, Targets, Verdict};
use crate::hook::http::{Answer, Fault};
use crate::hook::member::{Key, Member, Phase, Wait};
use crate::hook::pool::Pool;
use crate::hook::{Ended, What, backoff};
use crate::source::{Router, Turn};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{CloseCode, Headers, Instant, Message, Rejection};

/// A handshake whose app cannot be reached is tried again for so long: a restart is bridged, an outage is admitted.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// How an attempt ended.
pub(super) enum Outcome {
    /// A handshake has its answer.
    Opening(Opening),
    /// Another hook was answered 2xx.
    Taken(Reply),
    /// It was answered otherwise, with this status.
    Answered(Verdict, u16),
    /// There is no answer.
    Failed(Failure),
    /// It was not even tried: no permit came in time.
    WaitedTooLong(Failure),
}

impl Outcome {
    /// Reads an answer to what is due.
    pub(super) fn of(member: &Member, answer: &Answer<'_>) -> Self {
        if let Some(What::Handshake { protocols }) = member.due() {
            return Self::Opening(dialect::decode_opening(&member.endpoint, protocols, answer));
        }
        match Verdict::of(answer, unix_seconds) {
            Verdict::Taken => {
                let is_message = matches!(member.due(), Some(What::Message { .. }));
                let reply = dialect::decode(&member.endpoint, answer, is_message);
                Self::Taken(reply)
            }
            verdict @ (Verdict::Again(_) | Verdict::Refused | Verdict::Misconfigured) => {
                Self::Answered(verdict, answer.status)
            }
        }
    }
}

impl Outcome {
    /// Returns its word for the counters.
    fn result(&self) -> HookResult {
        match self {
            Self::Opening(Opening::Accept(..)) | Self::Taken(_) => HookResult::Taken,
            Self::Opening(Opening::Reject(rejection, _)) if rejection.status >= 500 => {
                HookResult::Again
            }
            Self::Opening(Opening::Reject(..)) | Self::Answered(Verdict::Refused, _) => {
                HookResult::Refused
            }
            Self::Answered(Verdict::Again(_), _) => HookResult::Again,
            Self::Opening(Opening::Broken(_) | Opening::Misconfigured(_))
            | Self::Answered(Verdict::Taken | Verdict::Misconfigured, _) => HookResult::Invalid,
            Self::Failed(failure) | Self::WaitedTooLong(failure) => match failure.cause {
                Cause::Timeout => HookResult::Timeout,
                Cause::Connection(_) | Cause::Stale | Cause::Tls(_) => HookResult::Connection,
                Cause::Fault(_) => HookResult::Invalid,
            },
        }
    }
}

/// What is due, without what it carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Handshake,
    Message,
    /// Closed or started: repeated for as long as there is time.
    Patient,
}

impl Pool {
    /// Draws the consequences.
    pub(super) fn settle(&mut self, turn: &mut Turn<'_>, key: Key, outcome: Outcome) {
        self.try_kept(key);
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        member.wait = Wait::Nothing;
        let due = match member.due() {
            Some(What::Handshake { .. }) => Due::Handshake,
            Some(What::Message { .. }) => Due::Message,
            Some(What::Closed { .. } | What::Started) => Due::Patient,
            None => return,
        };
        let event = match due {
            Due::Handshake => 1,
            Due::Message => 2,
            Due::Patient if member.id.is_some() => 3,
            Due::Patient => 0,
        };
        let counts = self.counts.app(member.endpoint.hooks.app);
        counts.result(event, outcome.result());
        let was_probe = self.judge(turn.now, key, &outcome);
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        // A kept connection that its app closed at the wrong moment: at once again, on a new one.
        if let Outcome::Failed(failure) = &outcome
            && failure.cause == Cause::Stale
            && (!failure.sent || may_repeat(due, member.endpoint.hooks.retry))
        {
            member.afresh = true;
            self.line_up(key, true);
            return;
        }
        match due {
            Due::Handshake => self.settle_handshake(turn, key, outcome, was_probe),
            Due::Message => self.settle_message(turn, key, outcome),
            Due::Patient => self.settle_patient(turn, key, outcome),
        }
        self.members.recount(key);
    }

    fn settle_handshake(
        &mut self,
        turn: &mut Turn<'_>,
        key: Key,
        outcome: Outcome,
        was_probe: bool,
    ) {
        match outcome {
            Outcome::Opening(Opening::Accept(accept, reply)) => {
                self.grumble(turn.now, key, &reply.complaints);
                if let Some(member) = self.members.get_mut(key) {
                    member.choose(accept.protocol.as_deref());
                }
                self.store(turn.now, key, &reply);
                let Some(member) = self.members.get_mut(key) else {
                    return;
                };
                if let Phase::Opening {
                    left: Some(end), ..
                } = &mut member.phase
                {
                    member.phase = Phase::Ended(Box::new((**end).clone()));
                    self.keep_end(key);
                    self.wake(key);
                } else {
                    member.phase = Phase::Accepted(reply);
                    self.let_in(turn, key, accept);
                }
            }
            Outcome::Opening(Opening::Reject(rejection, complaints)) => {
                let status = rejection.status;
                self.say_answer(turn.now, key, status);
                self.grumble(turn.now, key, &complaints);
                self.refuse(turn, key, LateDecision::Reject(rejection), None);
            }
            Outcome::Opening(Opening::Broken(complaint)) => {
                let words = if complaint.kind == Kind::Protocol {
                    "The application chose what was not offered.\n"
                } else {
                    "The application's answer makes no sense.\n"
                };
                self.grumble(turn.now, key, &[complaint]);
                let answer = rejection(500, words);
                self.refuse(turn, key, answer, Some("broken handshake answer"));
            }
            Outcome::Opening(Opening::Misconfigured(status)) => {
                self.say_answer(turn.now, key, status);
                let answer = rejection(502, "The application's answer makes no sense.\n");
                self.refuse(turn, key, answer, None);
            }
            Outcome::Failed(failure) => self.settle_no_handshake(turn, key, failure, was_probe),
            Outcome::WaitedTooLong(failure) => {
                self.say_failure(turn.now, key, failure);
                let answer = self.unavailable();
                self.refuse(turn, key, answer, None);
            }
            Outcome::Taken(_) | Outcome::Answered(..) => {} // Of other events.
        }
    }

    fn settle_no_handshake(
        &mut self,
        turn: &mut Turn<'_>,
        key: Key,
        failure: Failure,
        was_probe: bool,
    ) {
        self.say_failure(turn.now, key, failure);
        let Some(member) = self.members.get(key) else {
            return;
        };
        if !failure.sent {
            let has_left = matches!(member.phase, Phase::Opening { left: Some(_), .. });
            let patience = member.since + CONNECT_PATIENCE.min(member.endpoint.hooks.hook_timeout);
            // A probe has shown what it should: the next may come sooner than this could be repeated.
            let may_wait = !has_left && !was_probe && turn.now < patience;
            if failure.cause != Cause::Timeout && may_wait {
                self.pause(turn.now, key, None, Some(patience));
                return;
            }
            let answer = self.unavailable();
            self.refuse(turn, key, answer, None);
            return;
        }
        // The app may have said yes; nobody will ever know. It is told that the socket is gone.
        let answer = match failure.cause {
            Cause::Fault(Fault::Cut)
            | Cause::Connection(_)
            | Cause::Tls(_)
            | Cause::Stale
            | Cause::Timeout => self.unavailable(),
            Cause::Fault(_) => rejection(502, "The application's answer makes no sense.\n"),
        };
        self.refuse(turn, key, answer, Some("no answer to the handshake"));
    }

    /// Ends a handshake without a 101. If the app may have accepted it, a closed is owed.
    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        key: Key,
        decision: LateDecision,
        owed: Option<&str>,
    ) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let left = match &mut member.phase {
            Phase::Opening { left, .. } => left.take(),
            Phase::Started | Phase::Accepted(_) | Phase::Open | Phase::Ended(_) => None,
        };
        if left.is_none() {
            decide(turn.router, member.id, decision);
        }
        match owed {
            Some(reason) => {
                let end = left.unwrap_or_else(|| Box::new(Ended::unseen(reason)));
                member.phase = Phase::Ended(end);
                self.keep_end(key);
                self.wake(key);
            }
            None => self.forget(key),
        }
    }

    pub(super) fn unavailable(&mut self) -> LateDecision {
        LateDecision::Unavailable(backoff::retry_after(self.random.next()))
    }

    fn settle_message(&mut self, turn: &mut Turn<'_>, key: Key, outcome: Outcome) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let retry = member.endpoint.hooks.retry;
        match outcome {
            Outcome::Taken(reply) => {
                self.grumble(turn.now, key, &reply.complaints); // While it is known of which event.
                if let Some(member) = self.members.get_mut(key) {
                    member.pop();
                }
                self.apply(turn, key, reply);
                self.resume(turn.router, key);
                self.wake(key);
            }
            Outcome::Answered(Verdict::Refused, status) => {
                self.say_answer(turn.now, key, status); // While it is known of which event.
                if let Some(member) = self.members.get_mut(key) {
                    member.pop(); // A refusal is an answer.
                }
                let reason = "refused by the application";
                self.fail(turn.router, key, CloseCode::POLICY, reason, ClosedBy::App);
            }
            Outcome::Answered(Verdict::Again(asked), status) => {
                self.say_answer(turn.now, key, status);
                // It arrived, so with `unsent` it is not repeated, whatever the app says.
                match retry {
                    Retry::Unknown => self.again(turn, key, asked),
                    Retry::Unsent => self.fail_internal(turn.router, key),
                }
            }
            Outcome::Answered(Verdict::Taken | Verdict::Misconfigured, status) => {
                self.say_answer(turn.now, key, status);
                self.fail_internal(turn.router, key);
            }
            Outcome::Failed(failure) => {
                self.say_failure(turn.now, key, failure);
                let is_nonsense = matches!(failure.cause, Cause::Fault(fault) if fault.is_final());
                if is_nonsense || (failure.sent && retry == Retry::Unsent) {
                    self.fail_internal(turn.router, key);
                } else {
                    self.again(turn, key, None);
                }
            }
            Outcome::WaitedTooLong(failure) => {
                self.say_failure(turn.now, key, failure);
                self.give_up(turn, key);
            }
            Outcome::Opening(_) => {} // Of a handshake.
        }
    }

    fn settle_patient(&mut self, turn: &mut Turn<'_>, key: Key, outcome: Outcome) {
        match outcome {
            Outcome::Taken(reply) => {
                self.grumble(turn.now, key, &reply.complaints);
                self.apply(turn, key, reply);
                self.forget(key);
            }
            Outcome::Answered(Verdict::Again(asked), status) => {
                self.say_answer(turn.now, key, status);
                self.pause(turn.now, key, asked, None);
            }
            Outcome::Answered(_, status) => {
                self.say_answer(turn.now, key, status);
                self.forget(key);
            }
            Outcome::Failed(failure) | Outcome::WaitedTooLong(failure) => {
                self.say_failure(turn.now, key, failure);
                match failure.cause {
                    // It was answered, if not as it should be; the next answer would be no better.
                    Cause::Fault(fault) if fault.is_final() => self.forget(key),
                    Cause::Fault(_)
                    | Cause::Connection(_)
                    | Cause::Tls(_)
                    | Cause::Stale
                    | Cause::Timeout => {
                        self.pause(turn.now, key, None, None);
                    }
                }
            }
            Outcome::Opening(_) => {} // Of a handshake.
        }
    }

    /// Repeats a message after a pause, if there is time left.
    fn again(&mut self, turn: &mut Turn<'_>, key: Key, asked: Option<Duration>) {
        let Some(member) = self.members.get(key) else {
            return;
        };
        let last = member.since + member.endpoint.hooks.give_up;
        if turn.now >= last {
            self.give_up(turn, key);
        } else {
            self.pause(turn.now, key, asked, Some(last));
        }
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, key: Key) {
        self.say(turn.now, key, Kind::GivenUp, "a message was given up", b"");
        let reason = "the application does not answer";
        let code = CloseCode::TRY_AGAIN_LATER;
        self.fail(turn.router, key, code, reason, ClosedBy::Worker);
    }

    /// Gives up what a socket has queued, since memory is short.
    pub(crate) fn give_way(&mut self, turn: &mut Turn<'_>, key: Key) {
        if let Some(member) = self.members.get_mut(key)
            && !matches!(member.wait, Wait::Answer(_))
        {
            member.wait = Wait::Nothing; // Its place in line, or its pause, was for what is given up.
        }
        let code = CloseCode::TRY_AGAIN_LATER;
        self.fail(turn.router, key, code, "out of memory", ClosedBy::Worker);
        self.members.recount(key);
    }

    fn fail_internal(&mut self, router: &mut Router, key: Key) {
        let reason = "the application failed";
        self.fail(router, key, CloseCode::INTERNAL, reason, ClosedBy::Worker);
    }

    /// Closes a socket whose messages cannot be delivered any more.
    fn fail(&mut self, router: &mut Router, key: Key, code: CloseCode, reason: &str, by: ClosedBy) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let undelivered = member.abandon();
        self.process.counters.undelivered.add(undelivered);
        if let (Some(id), Phase::Open | Phase::Accepted(_)) = (member.id, &member.phase) {
            command(router, Action::Close(id, code, reason.to_owned(), by));
        }
        self.resume(router, key);
        self.wake(key);
    }

    /// Waits before another attempt, not beyond `latest`.
    fn pause(&mut self, now: Instant, key: Key, asked: Option<Duration>, latest: Option<Instant>) {
        let random = self.random.next();
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let at = now + backoff::pause(member.attempt, asked, random);
        let at = latest.map_or(at, |latest| at.min(latest));
        member.wait = Wait::Until(at);
        self.pauses.push(Reverse((at, key)));
    }

    /// Has the next hook of a member started, if one is due.
    pub(super) fn wake(&mut self, key: Key) {
        if let Some(member) = self.members.get(key)
            && member.wait == Wait::Nothing
            && member.due().is_some()
        {
            self.newcomers.push(key);
        }
    }

    /// Lets a socket be read again once there is room for what it says.
    fn resume(&mut self, router: &mut Router, key: Key) {
        if let Some(member) = self.members.get_mut(key)
            && member.paused
            && member.has_room()
        {
            member.paused = false;
            if let (Some(id), Phase::Open) = (member.id, &member.phase) {
                command(router, Action::Resume(id));
            }
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        let Some(member) = self.remove(key) else {
            return;
        };
        if let Phase::Started = member.phase {
            self.starts -= 1;
        }
        self.keep_no_longer(&member);
    }

    // What an app says, as commands.

    /// The socket is open: what the answer to its handshake said happens now, its own greeting first.
    pub(super) fn open(&mut self, socket: &mut Socket<'_>) {
        let Some(key) = self.find(socket.id()) else {
            return;
        };
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let Phase::Accepted(reply) = std::mem::replace(&mut member.phase, Phase::Open) else {
            return;
        };
        let route = member.endpoint.route;
        let is_greeted = (reply.to.itself || reply.to.all) && !reply.to.but_itself;
        if is_greeted && let Some(message) = &reply.message {
            // Full it cannot be, and binary to a version without it is the app's own loss.
            let _ = socket.send(message.as_borrowed());
        }
        let id = socket.id();
        let router = socket.inner.router();
        for (name, value) in &reply.meta {
            command(router, Action::SetMeta(id, Arc::clone(name), value.clone()));
        }
        change_groups(router, id, &reply);
        let Reply {
            to, message, close, ..
        } = *reply;
        spread(
            router,
            Scope::Route(route),
            &to,
            message,
            is_greeted,
            Some(id),
        );
        if let Some((code, reason)) = &close {
            socket.close(*code, reason);
        }
        self.members.recount(key);
    }

    /// Does what the answer to a message or a closed says.
    fn apply(&mut self, turn: &mut Turn<'_>, key: Key, reply: Reply) {
        let stored = self.store(turn.now, key, &reply);
        if !stored.is_empty() {
            self.keep_changes(key);
        }
        let Some(member) = self.members.get(key) else {
            return;
        };
        let is_open = matches!(member.phase, Phase::Open);
        let id = member.id.filter(|_| is_open);
        let scope = Scope::Route(member.endpoint.route);
        if let Some(id) = id {
            for (name, value) in stored {
                command(turn.router, Action::SetMeta(id, name, value));
            }
            change_groups(turn.router, id, &reply);
        }
        spread(turn.router, scope, &reply.to, reply.message, false, id);
        if let (Some(id), Some((code, reason))) = (id, reply.close) {
            let close = Action::Close(id, code, reason, ClosedBy::App);
            command(turn.router, close);
        }
        if reply.is_broken {
            self.fail_internal(turn.router, key);
        }
    }

    /// Stores what the app says about a socket, as far as there is room. Returns what was stored.
    fn store(
        &mut self,
        now: Instant,
        key: Key,
        reply: &Reply,
    ) -> Vec<(Arc<str>, Option<Arc<str>>)> {
        let mut stored = Vec::new();
        for (name, value) in &reply.meta {
            let Some(member) = self.members.get_mut(key) else {
                break;
            };
            if member.set_meta(name, value.as_ref()) {
                stored.push((Arc::clone(name), value.clone()));
            } else {
                let what = "more Ws-Set-Meta- than max_meta";
                self.say(now, key, Kind::Header, what, name.as_bytes());
            }
        }
        stored
    }

    // What is logged.

    fn say_answer(&mut self, now: Instant, key: Key, status: u16) {
        let (kind, what) = match status {
            408 | 425 | 429 | 500..=599 => (Kind::Again, "the app asks to be asked again"),
            400..=499 => (Kind::Refused, "the app refuses"),
            _ => (Kind::Misconfigured, "the app's status makes no sense here"),
        };
        // That a handshake is refused or sent elsewhere is the app's daily business.
        let is_handshake = matches!(
            self.members.get(key).and_then(Member::due),
            Some(What::Handshake { .. })
        );
        if !is_handshake || !(200..500).contains(&status) {
            self.say(now, key, kind, what, status.to_string().as_bytes());
        }
    }

    fn say_failure(&mut self, now: Instant, key: Key, failure: Failure) {
        match failure.cause {
            Cause::Timeout => {
                self.say(
                    now,
                    key,
                    Kind::Timeout,
                    "the app does not answer in time",
                    b"",
                );
            }
            Cause::Fault(fault) => self.say(now, key, Kind::Answer, fault.name(), b""),
            Cause::Tls(fault) => self.say(now, key, Kind::Connection, fault.name(), b""),
            Cause::Stale => {
                let what = "the app closed a connection that was kept alive";
                self.say(now, key, Kind::Answer, what, b"");
            }
            Cause::Connection(kind) => {
                let what = "no connection to the app";
                self.say(
                    now,
                    key,
                    Kind::Connection,
                    what,
                    kind.to_string().as_bytes(),
                );
            }
        }
    }

    fn grumble(&mut self, now: Instant, key: Key, complaints: &[Complaint]) {
        for complaint in complaints {
            self.say(now, key, complaint.kind, complaint.what, &complaint.value);
        }
    }

    pub(super) fn say(&mut self, now: Instant, key: Key, kind: Kind, what: &str, detail: &[u8]) {
        let Some(member) = self.members.get(key) else {
            return;
        };
        let hooks = &member.endpoint.hooks;
        if let Some(swallowed) = self.complaints.may_say(now, hooks.app, kind) {
            let socket = member.id.map(|id| id.to_string()).unwrap_or_default();
            tracing::warn!(
                app = %hooks.url.host,
                socket,
                event = member.due().map_or(member.settled(), |what| what.name()),
                detail = %Escaped(detail),
                swallowed,
                "hook: {what}"
            );
        }
    }
}

fn may_repeat(due: Due, retry: Retry) -> bool {
    match due {
        Due::Handshake => false,
        Due::Message => retry == Retry::Unknown,
        Due::Patient => true,
    }
}

fn rejection(status: u16, text: &str) -> LateDecision {
    LateDecision::Reject(Rejection {
        status,
        headers: Headers::default(),
        body: text.as_bytes().to_vec(),
    })
}

pub(super) fn decide(router: &mut Router, id: Option<SocketId>, decision: LateDecision) {
    if let Some(id) = id {
        command(router, Action::Decide(id, Box::new(decision)));
    }
}

fn command(router: &mut Router, action: Action) {
    router.route(Command {
        action,
        reply: None,
    });
}

fn change_groups(router: &mut Router, id: SocketId, reply: &Reply) {
    for group in &reply.join {
        command(router, Action::Join(id, Arc::clone(group)));
    }
    for group in &reply.leave {
        command(router, Action::Leave(id, Arc::clone(group)));
    }
}

/// Sends a reply's body to whom it is for. `itself` is nobody once it is gone, and may have heard it already.
fn spread(
    router: &mut Router,
    route: Scope,
    to: &Targets,
    message: Option<Message<'static>>,
    has_heard: bool,
    itself: Option<SocketId>,
) {
    let Some(message) = message else {
        return;
    };
    let alone = itself.filter(|_| to.itself && !(to.all || to.but_itself || has_heard));
    if to.groups.is_empty() && !to.all {
        if let Some(id) = alone {
            command(router, Action::Say(id, message));
        }
        return;
    }
    let message = Arc::new(Broadcast::new(message));
    if let Some(id) = alone {
        command(router, Action::Send(vec![id], Arc::clone(&message)));
    }
    // Who is in several of these hears it once.
    let mut scopes: Vec<Scope> = to
        .groups
        .iter()
        .map(|group| Scope::Group(Arc::clone(group)))
        .collect();
    if to.all {
        scopes.push(route);
    }
    let scope = match scopes.pop() {
        None => return,
        Some(only) if scopes.is_empty() => only,
        Some(last) => {
            scopes.push(last);
            Scope::Union(scopes.into())
        }
    };
    // Who was named or greeted by itself has it already.
    let except = itself.filter(|_| to.but_itself || has_heard || (to.itself && !to.all));
    command(router, Action::Broadcast(scope, except, message));
}
