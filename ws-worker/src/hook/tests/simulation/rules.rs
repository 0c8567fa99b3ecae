//! What must hold at every moment of a simulation, and what its logs must prove at the end.

use super::app::{Hook, TOO_MUCH};
use super::{Guest, Stage, World};
use crate::command::SocketId;
use crate::hook::member::{Key, Line, Wait};
use std::collections::HashMap;
use std::time::Duration;
use ws_proto::Instant;

fn is_taken(hook: &Hook) -> bool {
    matches!(hook.status(), Some(200..=299))
}

fn is_refused(hook: &Hook) -> bool {
    matches!(hook.status(), Some(400..=499)) && !matches!(hook.status(), Some(408 | 425 | 429))
}

/// An answer after which nothing is repeated.
fn is_final(hook: &Hook) -> bool {
    matches!(hook.status(), Some(status) if !matches!(status, 408 | 425 | 429 | 500..=599))
}

impl World {
    /// Nobody waits for nothing, no permit is lost, one hook a socket is in flight, one probe goes at a time.
    pub(super) fn hold_invariants(&mut self) {
        let is_anybody_busy = self.threads.iter().any(|t| t.busy_until > self.now);
        let mut in_flight = 0;
        let mut probes = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            let pool = thread.pool.borrow();
            let jobs: Vec<(usize, Key)> = (pool.connections.iter())
                .filter_map(|(index, connection)| Some((index, connection.job?)))
                .collect();
            let app = &pool.apps[0];
            for (index, key) in &jobs {
                let member = pool
                    .members
                    .get(*key)
                    .expect("a hook of somebody who is gone");
                assert_eq!(member.wait, Wait::Answer(*index), "two hooks of one socket");
            }
            in_flight += jobs.len() + app.granted;
            let next = pool.poll_timeout();
            let mut is_owed = false;
            for (key, member) in pool.members.iter() {
                if member.probe.is_some() {
                    probes.push(member.id);
                }
                if member.due().is_none() {
                    assert_eq!(member.wait, Wait::Nothing, "waits, and nothing is due");
                    continue;
                }
                let is_heard = match member.wait {
                    Wait::Nothing => {
                        pool.newcomers.contains(&key) || pool.is_heard_by_the_journal(key)
                    }
                    Wait::Permit => app.lines[member.line() as usize].contains(&key),
                    Wait::Until(at) => next.is_some_and(|next| next <= at),
                    Wait::Answer(index) => jobs.contains(&(index, key)),
                    Wait::Journal => pool.is_heard_by_the_journal(key),
                };
                assert!(is_heard, "forgotten: {:?} {:?}", member.id, member.wait);
                // Without a deadline is only who waits for a permit that another holds.
                is_owed |= member.line() != Line::Patient || member.wait != Wait::Permit;
            }
            // In the midst of a turn a line may begin with somebody who has left: its end drops them.
            let is_busy = thread.busy_until > self.now;
            assert!(
                next.is_some() || !is_owed || is_busy,
                "thread {number} waits without a deadline"
            );
        }
        if !is_anybody_busy {
            let permits = &self.permits[0];
            assert_eq!(
                in_flight + permits.free(),
                permits.limit(),
                "a permit is lost"
            );
            // Who waits for a permit waits while there is none.
            let waits = self.threads.iter().any(|thread| {
                let pool = thread.pool.borrow();
                let app = &pool.apps[0];
                let mut members = pool.members.iter();
                members.any(|(_, member)| member.wait == Wait::Permit) && app.fresh.len() < 4 // Nor is it held up by connections that are new.
            });
            assert!(
                !waits || permits.free() == 0,
                "there is a permit, and somebody waits for one"
            );
        }
        // One that hung since an earlier outage is no probe any more, nor is one whose time is over.
        let outage = self.process.counters.of_app(0).outages;
        for id in probes.into_iter().flatten() {
            let (_, since) = *self.probes.entry(id).or_insert((outage, self.now));
            let others = self.probes.iter().filter(|(other, began)| {
                **other != id && began.0 == outage && began.1 <= since && self.is_a_probe(**other)
            });
            let is_over = |at: Instant| at + Duration::from_secs(11) <= self.now;
            assert_eq!(
                others.filter(|(_, (_, at))| !is_over(*at)).count(),
                0,
                "two probes"
            );
        }
        for guest in &self.guests {
            if guest.stage == Stage::Open && guest.paused && !is_anybody_busy {
                let pool = self.threads[guest.thread].pool.borrow();
                let member = pool.find(guest.id).and_then(|key| pool.members.get(key));
                assert!(
                    !member.unwrap().has_room(),
                    "not read, though there is room"
                );
            }
        }
    }

    fn is_a_probe(&self, id: SocketId) -> bool {
        let pool = self.threads[usize::from(id.thread)].pool.borrow();
        let member = pool.find(id).and_then(|key| pool.members.get(key));
        member.is_some_and(|member| member.probe.is_some())
    }

    /// A socket is closed only for a reason.
    pub(super) fn closed_with(&self, place: usize, code: u16) {
        let guest = &self.guests[place];
        let name = guest.id.to_string();
        let last = self
            .hooks
            .iter()
            .rfind(|hook| hook.socket == name && hook.event == "message");
        match code {
            1008 => assert!(last.is_some_and(is_refused), "1008 without a refusal"),
            // What may have arrived is not repeated, whatever became of it.
            1011 if self.is_at_most_once() => {}
            1011 => assert!(
                last.is_some_and(|hook| is_final(hook) && !is_taken(hook) && !is_refused(hook)),
                "1011 without an answer that makes no sense"
            ),
            1013 => {
                let answered = self.answered(&name);
                let (_, said_at) = &guest.said[answered as usize];
                let waited = self.now.since(*said_at);
                assert!(
                    guest.gave_way || waited >= self.give_up(),
                    "given up after {waited:?}"
                );
            }
            other => panic!("closed with {other}"),
        }
    }

    /// Whether all that was announced to the journal is in it. On a disk that is full hooks go on without.
    fn has_sure_journal(&self) -> bool {
        let journal = self.journal.as_ref();
        journal.is_none_or(|journal| !journal.has_failed)
    }

    fn is_at_most_once(&self) -> bool {
        let crate::config::Target::Hooks(hooks) = &self.process.config.routes[0].target else {
            unreachable!()
        };
        hooks.retry == crate::config::Retry::Unsent
    }

    fn give_up(&self) -> Duration {
        let crate::config::Target::Hooks(hooks) = &self.process.config.routes[0].target else {
            unreachable!()
        };
        hooks.give_up
    }

    /// Messages that got an answer.
    fn answered(&self, name: &str) -> u64 {
        let of_it = |hook: &&Hook| hook.socket == name && hook.event == "message";
        let hooks = self.hooks.iter().filter(of_it);
        hooks
            .filter(|hook| is_taken(hook) || is_refused(hook))
            .count() as u64
    }

    /// The logs of clients and app, held against the rules of delivery.
    pub(super) fn judge(&self) {
        let mut by_socket: HashMap<&str, Vec<&Hook>> = HashMap::new();
        for hook in &self.hooks {
            by_socket.entry(&hook.socket).or_default().push(hook);
        }
        for (place, guest) in self.guests.iter().enumerate() {
            let name = guest.id.to_string();
            let hooks = by_socket.remove(&*name).unwrap_or_default();
            self.judge_one(place, guest, &name, &hooks);
        }
        let started = by_socket.remove("").unwrap_or_default();
        assert!(by_socket.is_empty(), "hooks of nobody");
        attempts(&started, self.has_sure_journal());
    }

    fn judge_one(&self, place: usize, guest: &Guest, name: &str, hooks: &[&Hook]) {
        attempts(hooks, self.has_sure_journal());
        let of = |event: &str| -> Vec<&Hook> {
            let all = hooks.iter().copied();
            all.filter(|hook| hook.event == event).collect()
        };
        let (opening, messages, closed) = (of("handshake"), of("message"), of("closed"));
        assert!(
            opening.len() <= 1,
            "guest {place}: {} handshakes",
            opening.len()
        );
        if let Some(first) = opening.first()
            && first.heard.is_some()
        // One that timed out may arrive behind its closed, on another connection.
        {
            assert!(
                std::ptr::eq(hooks[0], *first),
                "guest {place}: before its handshake"
            );
        }
        let answer = opening.first().map(|hook| hook.status());
        let is_in = matches!(answer, Some(Some(200..=299)));
        assert!(messages.is_empty() || is_in, "guest {place}: not let in");
        assert!(
            guest.said.is_empty() || is_in,
            "guest {place}: in without a yes"
        );
        let may_be_in = is_in || matches!(answer, Some(None | Some(TOO_MUCH)));
        let is_out = matches!(answer, Some(Some(_))) && !may_be_in;
        let is_told = closed.iter().any(|hook| is_final(hook));
        // Without a journal it is lost with the life to which it was owed.
        let is_lost = self.journal.is_none() && guest.life < self.lives.len();
        assert!(is_told || !may_be_in || is_lost, "guest {place}: no closed");
        // The answer may have come when nobody was there to read it.
        let of_later = closed.iter().all(|hook| hook.life > guest.life);
        assert!(
            closed.is_empty() || !is_out || of_later,
            "guest {place}: closed, though {answer:?}"
        );

        // Order: a prefix, each answered before the next.
        let mut next = 1;
        let mut before: Option<&Hook> = None;
        for hook in &messages {
            let seq: usize = hook.key[name.len() + 1..].parse().unwrap();
            if seq == next {
                assert!(
                    before.is_none_or(is_taken),
                    "guest {place}: {seq}, though the one before was not taken"
                );
                next += 1;
            } else {
                assert_eq!(seq + 1, next, "guest {place}: out of order");
            }
            let (text, _) = &guest.said[seq - 1];
            assert!(
                hook.body
                    .as_ref()
                    .is_none_or(|body| body == text.as_bytes()),
                "guest {place}: {seq} is something else"
            );
            before = Some(hook);
        }
        self.wishes(guest, name, &messages);
        if self.is_at_most_once() {
            for pair in messages.windows(2) {
                assert_ne!(pair[0].key, pair[1].key, "guest {place}: twice");
            }
        }

        // Nothing is lost in silence.
        let Some(last) = closed.last() else {
            return;
        };
        let first = hooks
            .iter()
            .position(|hook| hook.event == "closed")
            .unwrap();
        let told_in = hooks[first].life;
        let is_late = |hook: &Hook| {
            let is_unheard = hook.event == "handshake" && hook.heard.is_none();
            is_unheard || hook.life < told_in // It lay in the app's buffers when the worker was killed.
        };
        assert!(
            hooks[first..]
                .iter()
                .all(|hook| hook.event == "closed" || is_late(hook)),
            "guest {place}: after closed"
        );
        let counts: Vec<_> = closed.iter().map(|hook| hook.undelivered).collect();
        let is_sure = self.has_sure_journal();
        assert!(
            !is_sure || counts.iter().all(|count| *count == last.undelivered),
            "guest {place}: one number, and then another"
        );
        assert!(
            !is_sure || closed.iter().all(|hook| hook.end == last.end),
            "guest {place}: one end, and then another"
        );
        match last.undelivered {
            Some(lost) => assert_eq!(
                self.answered(name) + lost,
                guest.said.len() as u64,
                "guest {place}: answered and undelivered, and what was said"
            ),
            None => assert!(
                last.life > guest.life,
                "guest {place}: unknown to its own life"
            ),
        }

        // What it heard is in order and without a hole; all of it, if it stayed.
        let echoes = messages.iter().filter(|hook| hook.echoes && is_taken(hook));
        let stayed = |hook: &&&Hook| {
            let (_, at) = hook.heard.unwrap();
            guest
                .gone_at
                .is_none_or(|gone| at + Duration::from_millis(200) < gone)
        };
        let all: Vec<&str> = echoes.clone().map(|hook| text(hook)).collect();
        let sure: Vec<&str> = echoes.filter(stayed).map(|hook| text(hook)).collect();
        let heard: Vec<&str> = guest.heard.iter().map(String::as_str).collect();
        assert!(
            heard.len() <= all.len() && heard[..] == all[..heard.len()],
            "guest {place}: heard something else"
        );
        assert!(heard.len() >= sure.len(), "guest {place}: did not hear all");
    }

    /// A `Retry-After` is waited for, as long as there is time.
    fn wishes(&self, guest: &Guest, name: &str, messages: &[&Hook]) {
        for pair in messages.windows(2) {
            let [one, two] = pair else { continue };
            if let (Some(asks), Some((_, at))) = (one.asks, one.heard)
                && one.key == two.key
            {
                let seq: usize = one.key[name.len() + 1..].parse().unwrap();
                let (_, said_at): (_, Instant) = guest.said[seq - 1];
                let wished = at + Duration::from_secs(asks.min(30));
                let latest = said_at + self.give_up();
                assert!(two.at >= wished.min(latest), "too early for {asks} s");
            }
        }
    }
}

fn text(hook: &Hook) -> &str {
    std::str::from_utf8(hook.body.as_deref().unwrap()).unwrap()
}

/// A repetition has a higher attempt and the same body, and what was answered is not repeated.
fn attempts(hooks: &[&Hook], is_sure: bool) {
    let mut last: HashMap<&str, &Hook> = HashMap::new();
    for hook in hooks {
        if let Some(before) = last.get(&*hook.key)
            && hook.life < before.life
        {
            continue; // It lay in the app's buffers when the worker was killed, and the next life's went by another way.
        }
        if let Some(before) = last.insert(&hook.key, hook) {
            let is_unsure = !is_sure && before.life < hook.life;
            let is_more = hook.attempt > before.attempt;
            assert!(is_more || is_unsure, "{} again", hook.key);
            assert!(
                !is_final(before) || before.life < hook.life,
                "{} again, though answered {:?}",
                hook.key,
                before.status()
            );
            if let (Some(one), Some(two)) = (&before.body, &hook.body) {
                assert_eq!(one, two, "{} is something else now", hook.key);
            }
        }
    }
}
