//! What must hold at every moment of a simulation, and what its logs must prove at the end.

use super::app::{Hook, TOO_MUCH};
use super::file::{self, File};
use super::{Guest, Hooks, Stage, World};
use crate::command::SocketId;
use crate::config::Retry;
use crate::hook::What;
use crate::hook::member::{Key, Line, Wait};
use std::collections::HashMap;
use std::rc::Rc;
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
        let mut in_flight = vec![0; self.permits.len()];
        let mut probes = Vec::new();
        let mut lined = HashMap::new();
        for (number, thread) in self.threads.iter().enumerate() {
            let pool = thread.pool.borrow();
            let mut jobs: Vec<(usize, Key)> = Vec::new();
            for (index, connection) in &pool.connections {
                if let Some(key) = connection.job {
                    jobs.push((index, key));
                    in_flight[connection.app] += 1;
                }
            }
            for (index, key) in &jobs {
                let member = pool
                    .members
                    .get(*key)
                    .expect("a hook of somebody who is gone");
                assert_eq!(member.wait, Wait::Answer(*index), "two hooks of one socket");
            }
            for (own, sum) in pool.apps.iter().zip(&mut in_flight) {
                *sum += own.granted;
            }
            let next = pool.poll_timeout();
            let mut is_owed = false;
            for (key, member) in pool.members.iter() {
                let app = &pool.apps[member.endpoint.hooks.app];
                if member.probe.is_some() {
                    probes.push((member.id, member.endpoint.hooks.app));
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
                let timeout = thread.process.config.head.handshake_timeout;
                let patience = member.patience(timeout);
                if let (Some(at), Wait::Permit) = (patience, member.wait) {
                    // By rules that are new to it, its time may have been over when it got in line.
                    let place = (member.id, member.attempt);
                    let since = self.lined.get(&place).copied().unwrap_or(self.now);
                    lined.insert(place, since);
                    let latest = at.max(since).max(thread.came_at) + Duration::from_millis(1100);
                    assert!(
                        self.now <= latest || thread.busy_until > self.now,
                        "waits beyond its patience: {:?}",
                        member.id
                    );
                }
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
        self.lined = lined;
        for (number, permits) in self.permits.iter().enumerate() {
            if is_anybody_busy {
                break;
            }
            // Above a limit that was lowered there may be more, and then none is free.
            let missing = permits.limit().saturating_sub(in_flight[number]);
            assert_eq!(permits.free(), missing, "a permit of app {number} is lost");
            // Who waits for a permit waits while there is none.
            let waits = self.threads.iter().any(|thread| {
                let pool = thread.pool.borrow();
                let mut members = pool.members.iter();
                let is_waiting = members.any(|(_, member)| {
                    member.wait == Wait::Permit && member.endpoint.hooks.app == number
                });
                is_waiting && pool.apps[number].fresh.len() < 4 // Nor is it held up by connections that are new.
            });
            assert!(
                !waits || permits.free() == 0,
                "there is a permit of app {number}, and somebody waits for one"
            );
        }
        // One that hung since an earlier outage is no probe any more, nor is one whose time is over.
        for (id, app) in probes {
            let Some(id) = id else { continue };
            let outage = self.process.counters.of_app(app).outages;
            let (_, since, _) = *self.probes.entry(id).or_insert((outage, self.now, app));
            let others = self.probes.iter().filter(|(other, began)| {
                **other != id
                    && began.0 == outage
                    && began.1 <= since
                    && began.2 == app
                    && self.is_a_probe(**other)
            });
            let is_over = |at: Instant| at + Duration::from_secs(11) <= self.now;
            assert_eq!(
                others.filter(|(_, (_, at, _))| !is_over(*at)).count(),
                0,
                "two probes"
            );
        }
        for guest in &self.guests {
            if guest.stage == Stage::Open && guest.paused && !is_anybody_busy {
                let pool = self.threads[guest.thread].pool.borrow();
                let member = pool.find(guest.id).and_then(|key| pool.members.get(key));
                let member = member.unwrap();
                // What a reload has made longer is seen with the next answer.
                let shortest = self.rules_of(guest).map(|hooks| hooks.queue_messages).min();
                let is_longer = shortest.is_some_and(|most| member.queue_len() > most / 2);
                assert!(
                    !member.has_room() || is_longer,
                    "not read, though there is room"
                );
            }
        }
    }

    /// Looks at the attempts of a thread at the end of its turn: one under way stays with the rules by which it was begun, and
    /// who begins one does so by the rules, and at the house, of what its thread has come to.
    pub(super) fn follow_the_attempts(&mut self, number: usize) {
        let thread = &mut self.threads[number];
        let pool = thread.pool.borrow();
        let generation = file::generation(&thread.process.config);
        let mut attempts = HashMap::new();
        for (index, connection) in &pool.connections {
            let Some(member) = connection
                .job
                .and_then(|key| Some((key, pool.members.get(key)?)))
            else {
                continue;
            };
            let (key, member) = member;
            let rules = &member.endpoint;
            let of = match member.due() {
                Some(What::Message { seq, .. }) => seq,
                Some(What::Handshake { .. } | What::Started) | None => 0,
                Some(What::Closed { .. }) => u64::MAX,
            };
            let attempt = (key, of, member.attempt);
            if let Some((which, began)) = thread.attempts.remove(&index)
                && which == attempt
            {
                assert!(Rc::ptr_eq(&began, rules), "it went over in an attempt");
                attempts.insert(index, (attempt, began));
                continue;
            }
            attempts.insert(index, (attempt, Rc::clone(rules)));
            let route = usize::from(rules.route.0);
            let now = &thread.handlers[route].endpoint;
            if !Rc::ptr_eq(now, rules) {
                let is_left = member.probe.is_some() || !now.can_follow(rules);
                assert!(is_left, "an attempt was begun by rules that hold no more");
                continue;
            }
            if thread.process.config.routes[route].gone {
                continue; // Its house is the last that was known.
            }
            let number = (connection.serial as usize) << 24 | index;
            let net = self.net.borrow();
            let mut lines = net.lines.iter();
            let line = lines
                .rfind(|line| line.number == Some(number) && line.thread == thread.router.thread);
            let url: usize = rules.hooks.url.host["app".len()..].parse().unwrap();
            let house = self.history[generation].house(url);
            assert_eq!(
                line.unwrap().house,
                house,
                "it went where the app is no more"
            );
        }
        drop(pool);
        thread.attempts = attempts;
    }

    /// Returns what was said of a guest's route since it came.
    fn rules_of(&self, guest: &Guest) -> impl Iterator<Item = &Hooks> {
        let path = guest.path;
        let files = self.history[guest.since..].iter();
        files.filter_map(move |file| file.hooks(path))
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
            1011 if self.may_be_at_most_once(guest) => {}
            1011 => assert!(
                last.is_some_and(|hook| is_final(hook) && !is_taken(hook) && !is_refused(hook)),
                "1011 without an answer that makes no sense"
            ),
            1013 => {
                let answered = self.answered(&name);
                let (_, said_at) = &guest.said[answered as usize];
                let waited = self.now.since(*said_at);
                assert!(
                    guest.gave_way || waited >= self.give_up(guest),
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

    fn may_be_at_most_once(&self, guest: &Guest) -> bool {
        self.rules_of(guest)
            .any(|hooks| hooks.retry == Retry::Unsent)
    }

    /// Returns the shortest time after which what it said may have been given up.
    fn give_up(&self, guest: &Guest) -> Duration {
        let all = self.rules_of(guest).map(|hooks| hooks.give_up);
        all.min().unwrap()
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
        self.judge_counts();
    }

    /// Whether no socket was ever let in that the journal did not know.
    fn is_always_kept(&self) -> bool {
        self.has_sure_journal() || self.history.iter().all(File::is_strict)
    }

    /// What was lost was counted.
    fn judge_counts(&self) {
        let processes = || self.lives.iter().chain([&self.process]);
        let lost: u64 = processes().map(|p| p.counters.closed_lost.get()).sum();
        let undelivered: u64 = processes().map(|p| p.counters.undelivered.get()).sum();
        if self.kills > 0 {
            return; // Nobody counts what a kill took along.
        }
        let said: u64 = self.guests.iter().map(|g| g.said.len() as u64).sum();
        let answered = self.guests.iter().map(|g| self.answered(&g.id.to_string()));
        let answered: u64 = answered.sum();
        assert!(
            answered + undelivered >= said,
            "{said} were said, {answered} answered, and {undelivered} not delivered"
        );
        if self.lives.is_empty() {
            assert_eq!(answered + undelivered, said, "more than was said");
        }
        let untold = self.guests.iter().filter(|guest| {
            let name = guest.id.to_string();
            let mut of_it = self.hooks.iter().filter(|hook| hook.socket == name);
            let mut is_in = false;
            let is_told = of_it.any(|hook| {
                let may_be_in = matches!(hook.status(), None | Some(200..=299 | TOO_MUCH));
                is_in |= hook.event == "handshake" && may_be_in;
                hook.event == "closed" && is_final(hook)
            });
            is_in && !is_told
        });
        let untold = untold.count() as u64;
        assert!(untold <= lost, "{untold} were not told, and {lost} counted");
        let is_kept = self.journal.is_some() && self.is_always_kept();
        assert!(
            !is_kept || lost == 0,
            "{lost} lost, in spite of the journal"
        );
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
        let is_unkept = self.journal.is_none() || !self.is_always_kept();
        let is_over = guest.life < self.lives.len() || guest.is_forgotten;
        let is_lost = is_unkept && is_over;
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
        for pair in messages.windows(2) {
            let rules = self.history[pair[0].generation].hooks(guest.path).unwrap();
            let is_at_most_once = rules.retry == Retry::Unsent;
            assert!(
                pair[0].key != pair[1].key || !is_at_most_once,
                "guest {place}: twice"
            );
        }
        for hook in hooks {
            self.judge_house(hook, guest.path);
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

    /// A hook comes where its app was by the rules that it was sent by, or is since.
    fn judge_house(&self, hook: &Hook, path: usize) {
        let url = self.history[hook.generation].url(path);
        let url = url.expect("hooks of a route that is gone go by its last rules");
        let mut files = self.history[hook.generation..=hook.newest].iter();
        assert!(
            files.any(|file| file.house(url) == hook.house),
            "{} came to the wrong house",
            hook.key
        );
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
                let latest = said_at + self.give_up(guest);
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
