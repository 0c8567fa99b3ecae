//! What the journal is told of hooks, and who waits for it: before a handshake's first byte, before the 101, before each
//! closed. Knows nothing of files; without a journal all of it is one look at an `Option`.

use crate::command::{LateDecision, SocketId};
use crate::config::{JournalMode, Target};
use crate::handler::{Accept, ClosedBy};
use crate::hook::endpoint::{Block, Endpoint};
use crate::hook::member::{Key, Member, Phase, Wait};
use crate::hook::pool::Pool;
use crate::hook::settle::decide;
use crate::hook::{Ended, What};
use crate::journal::{self, End, Entry, Owed, Pen, Telling, Written};
use crate::source::Turn;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ws_proto::{CloseCode, Instant};

/// Nobody waits longer for the disk. A handshake is then answered 503, everything else goes on.
const PATIENCE: Duration = Duration::from_secs(2);
/// New clients wait so long at most until what an earlier life left has been tried once.
const FIRST_THE_OLD: Duration = Duration::from_secs(5);

/// A thread's end of the journal, and who waits for it.
#[derive(Debug)]
pub(super) struct Keeping {
    pen: Pen,
    /// In the order of their tickets.
    waiters: VecDeque<Waiter>,
    /// Handshakes that are not even handed in, since the disk has stalled.
    turned_away: Vec<Key>,
    /// What an earlier life left, to be lined up.
    owed: Vec<Key>,
    /// How much of it was never tried in this life.
    untried: usize,
    /// When new clients come in whatever is untried.
    open_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    key: Key,
    /// Set at the end of the turn.
    until: Option<Instant>,
}

/// What the journal knows of a member.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// It has the opening, so it must hear that nothing is owed any more.
    opened: bool,
    /// It will never have it: a best effort was made.
    unkept: bool,
    ended: bool,
    /// Left by an earlier life, and not tried in this one.
    untried: bool,
    /// Attempts at closed that it knows of.
    attempts: u32,
    /// Of the last record that must be written before anything else is sent.
    ticket: u64,
    /// The 101, which waits for it.
    accept: Option<Box<Accept>>,
}

/// How sockets ended that were open when the worker was killed.
pub(crate) fn lost() -> End {
    end(&Ended::unseen("worker lost"))
}

impl Pool {
    /// Has the journal keep what is owed from now on, and takes over what an earlier life left.
    pub(crate) fn keep(&mut self, pen: Pen, owed: Vec<Owed>) {
        let mut keeping = Keeping {
            pen,
            waiters: VecDeque::new(),
            turned_away: Vec::new(),
            owed: Vec::new(),
            untried: 0,
            open_at: None,
        };
        if !owed.is_empty() {
            keeping.open_at = Some(Instant::at(0));
        }
        let mut endpoints: Vec<Rc<Endpoint>> = Vec::new();
        let mut homeless = 0_usize;
        for Owed { id, entry } in owed {
            let known = |endpoint: &&Rc<Endpoint>| *endpoint.path() == entry.opening.route;
            let endpoint = match endpoints.iter().find(known) {
                Some(endpoint) => Rc::clone(endpoint),
                None => match self.endpoint(&entry.opening.route) {
                    Some(endpoint) => {
                        endpoints.push(Rc::clone(&endpoint));
                        endpoint
                    }
                    None => {
                        homeless += 1;
                        continue;
                    }
                },
            };
            let member = recovered(id, entry, &endpoint);
            keeping.owed.push(self.members.insert(member));
        }
        if homeless > 0 {
            tracing::warn!(
                homeless,
                "closed hooks are owed to routes that have no app any more; they stay in the journal"
            );
        }
        keeping.untried = keeping.owed.len();
        let recovered = keeping.owed.len() as u64;
        self.process.counters.closed_recovered.add(recovered);
        self.keeping = Some(Box::new(keeping));
    }

    fn endpoint(&self, path: &str) -> Option<Rc<Endpoint>> {
        let routes = &self.process.config.routes;
        let route = routes.iter().find(|route| route.path == path)?;
        let Target::Hooks(hooks) = &route.target else {
            return None;
        };
        Some(Rc::new(Endpoint::new(&self.process, route, hooks)))
    }

    /// Returns whether something is to be done at the end of the turn.
    pub(super) fn has_news_of_the_journal(&self) -> bool {
        let keeping = self.keeping.as_ref();
        keeping.is_some_and(|keeping| !keeping.owed.is_empty() || !keeping.turned_away.is_empty())
    }

    /// Returns when somebody has waited too long for the journal, or new clients for the old.
    pub(super) fn journal_timeout(&self) -> Option<Instant> {
        let keeping = self.keeping.as_ref()?;
        let waiter = keeping.waiters.front().and_then(|waiter| waiter.until);
        waiter.into_iter().chain(keeping.open_at).min()
    }

    /// Called before a hook gets in line: tells the journal what it must know first. Returns whether the hook waits for
    /// that; then it gets in line later.
    pub(super) fn waits_for_the_journal(&mut self, key: Key) -> bool {
        let Some(keeping) = &mut self.keeping else {
            return false;
        };
        let Some(member) = self.members.get_mut(key) else {
            return false;
        };
        let Some(id) = member.id else { return false };
        match member.due() {
            Some(What::Handshake { .. }) if !member.kept.opened && !member.kept.unkept => {
                if keeping.pen.is_stalled() {
                    member.wait = Wait::Journal;
                    keeping.turned_away.push(key);
                    return true;
                }
                let (text, path, query) = member.block.parts();
                let opening = journal::Opening {
                    route: member.endpoint.path().clone(),
                    text: text.clone(),
                    path,
                    query,
                };
                member.kept.ticket = keeping.pen.write(id, journal::What::Opening(opening));
                member.kept.opened = true;
            }
            Some(What::Closed { .. }) if member.kept.opened => {
                keeping.end(id, member);
                keeping.tell(id, member, member.attempt.saturating_add(1));
            }
            Some(_) => {}
            None => return false,
        }
        if keeping.pen.has_answered(member.kept.ticket) {
            return false;
        }
        keeping.wait(key, member);
        true
    }

    /// Lets a socket in that its app accepted, once the journal knows what its closed will say.
    pub(super) fn let_in(&mut self, turn: &mut Turn<'_>, key: Key, accept: Accept) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        if let (Some(keeping), Some(id)) = (&mut self.keeping, member.id)
            && member.kept.opened
            && !member.block.changing().is_empty()
        {
            keeping.change(id, member);
            member.kept.accept = Some(Box::new(accept));
            keeping.wait(key, member);
        } else {
            decide(turn.router, member.id, LateDecision::Accept(accept));
        }
    }

    /// What the app stores has changed.
    pub(super) fn keep_changes(&mut self, key: Key) {
        if let (Some(keeping), Some(member)) = (&mut self.keeping, self.members.get_mut(key))
            && let Some(id) = member.id
            && member.kept.opened
            && !matches!(member.due(), Some(What::Closed { .. }))
        {
            keeping.change(id, member);
        }
    }

    /// A socket has ended; what is queued for its app may take a while yet.
    pub(super) fn keep_end(&mut self, key: Key) {
        if let (Some(keeping), Some(member)) = (&mut self.keeping, self.members.get_mut(key))
            && let Some(id) = member.id
            && member.kept.opened
        {
            keeping.end(id, member);
            if matches!(member.due(), Some(What::Closed { .. })) {
                keeping.tell(id, member, 1); // Now, and not in a write of its own.
            }
        }
    }

    /// Nothing is owed any more.
    pub(super) fn keep_no_longer(&mut self, member: &Member) {
        if let (Some(keeping), Some(id)) = (&mut self.keeping, member.id)
            && member.kept.opened
        {
            keeping.pen.write(id, journal::What::Settled);
        }
        self.has_tried(member.kept.untried);
    }

    /// This life tells it no more. Returns whether another will, since the journal knows of it.
    pub(super) fn leave_to_the_journal(&mut self, member: &Member) -> bool {
        self.has_tried(member.kept.untried);
        self.keeping.is_some() && member.kept.opened
    }

    /// The first attempt of this life is over.
    pub(super) fn try_kept(&mut self, key: Key) {
        if let Some(member) = self.members.get_mut(key) {
            let untried = std::mem::take(&mut member.kept.untried);
            self.has_tried(untried);
        }
    }

    fn has_tried(&mut self, untried: bool) {
        if untried && let Some(keeping) = &mut self.keeping {
            keeping.untried -= 1;
        }
    }

    /// The journal says what became of records.
    pub(crate) fn written(&mut self, turn: &mut Turn<'_>, written: &Written) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        keeping.pen.note(written);
        let over = keeping
            .waiters
            .partition_point(|waiter| waiter.ticket <= written.upto);
        let over: Vec<Waiter> = keeping.waiters.drain(..over).collect();
        for waiter in over {
            let failed = written.failed.contains(&waiter.ticket);
            if failed && let Some(member) = self.members.get_mut(waiter.key) {
                // An opening that was not written is forgotten there.
                member.kept.opened &= !matches!(member.phase, Phase::Opening { .. });
            }
            self.go_on(turn, waiter.key, !failed);
        }
    }

    /// Returns whether the journal, or the end of this turn, will let a hook go on.
    #[cfg(test)]
    pub(super) fn is_heard_by_the_journal(&self, key: Key) -> bool {
        let keeping = self.keeping.as_ref();
        keeping.is_some_and(|keeping| {
            let mut waiters = keeping.waiters.iter();
            let at_the_end = [&keeping.turned_away, &keeping.owed];
            waiters.any(|waiter| waiter.key == key)
                || at_the_end.iter().any(|keys| keys.contains(&key))
        })
    }

    /// Does what the time demands of those who wait for the journal.
    pub(super) fn journal_is_late(&mut self, turn: &mut Turn<'_>) {
        let mut late = Vec::new();
        if let Some(keeping) = &mut self.keeping {
            while let Some(waiter) = keeping.waiters.front()
                && waiter.until.is_some_and(|until| until <= turn.now)
            {
                late.push(waiter.key);
                keeping.waiters.pop_front();
            }
        }
        for key in late {
            self.go_on(turn, key, false);
        }
    }

    /// The end of a turn: those who have begun to wait get their deadline, those who need not wait go on.
    pub(super) fn flush_journal(&mut self, turn: &mut Turn<'_>) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let until = turn.now + PATIENCE;
        for waiter in keeping.waiters.iter_mut().rev() {
            if waiter.until.is_some() {
                break;
            }
            waiter.until = Some(until);
        }
        let turned_away = std::mem::take(&mut keeping.turned_away);
        let owed = std::mem::take(&mut keeping.owed);
        if !owed.is_empty() {
            keeping.open_at = Some(turn.now + FIRST_THE_OLD);
        }
        if keeping
            .open_at
            .is_some_and(|at| at <= turn.now || keeping.untried == 0)
        {
            keeping.open_at = None;
            self.process.starting.store(false, Ordering::Relaxed);
        }
        for key in turned_away {
            self.go_on(turn, key, false);
        }
        for key in owed {
            self.line_up(key, false);
        }
    }

    /// Goes on with whoever waited. Without success a handshake may come in only where a best effort is enough.
    fn go_on(&mut self, turn: &mut Turn<'_>, key: Key, success: bool) {
        let is_strict = self.process.config.journal_mode == JournalMode::Strict;
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        if member.wait != Wait::Journal {
            return;
        }
        member.wait = Wait::Nothing;
        let is_refused = !success && is_strict;
        if !success {
            member.kept.ticket = 0; // It does not wait again for what cannot be had.
        }
        let accept = member.kept.accept.take();
        match (&member.phase, accept) {
            (Phase::Accepted(_), Some(_)) if is_refused => {
                self.process.counters.journal_refused.one();
                let answer = self.unavailable();
                self.refuse(turn, key, answer, Some("no room in the journal"));
            }
            (Phase::Accepted(_), Some(accept)) => {
                decide(turn.router, member.id, LateDecision::Accept(*accept));
            }
            (Phase::Opening { .. }, _) if !success => {
                self.process.counters.journal_refused.one();
                member.kept.unkept = !member.kept.opened;
                if is_refused {
                    let answer = self.unavailable();
                    self.refuse(turn, key, answer, None);
                } else {
                    self.line_up(key, false);
                }
            }
            (_, Some(_)) => self.wake(key), // It left before the 101.
            (_, None) if member.due().is_some() => self.line_up(key, false),
            (_, None) => {}
        }
    }
}

impl Keeping {
    fn wait(&mut self, key: Key, member: &mut Member) {
        member.wait = Wait::Journal;
        self.waiters.push_back(Waiter {
            ticket: member.kept.ticket,
            key,
            until: None,
        });
    }

    fn change(&mut self, id: SocketId, member: &mut Member) {
        let lines = member.block.changing().into();
        member.kept.ticket = self.pen.write(id, journal::What::Changed(lines));
    }

    fn end(&mut self, id: SocketId, member: &mut Member) {
        if let Phase::Ended(ended) = &member.phase
            && !member.kept.ended
        {
            member.kept.ended = true;
            member.kept.ticket = self.pen.write(id, journal::What::Ended(end(ended)));
        }
    }

    /// Announces the next attempts before they are made, twice as many each time: were it killed in between, the next life
    /// goes on with a number that the app has not seen.
    fn tell(&mut self, id: SocketId, member: &mut Member, next: u32) {
        if next <= member.kept.attempts {
            return;
        }
        member.kept.attempts = next.saturating_mul(2) - 1;
        let is_unknown = matches!(&member.phase, Phase::Ended(ended) if ended.is_unknown);
        let undelivered = (!is_unknown).then_some(member.undelivered);
        let telling = Telling {
            attempts: member.kept.attempts,
            undelivered,
        };
        member.kept.ticket = self.pen.write(id, journal::What::Telling(telling));
    }
}

fn end(ended: &Ended) -> End {
    End {
        clean: ended.clean,
        code: ended.code.map(CloseCode::get),
        reason: ended.reason.clone(),
        by: match ended.by {
            ClosedBy::Client => 0,
            ClosedBy::App => 1,
            ClosedBy::Worker => 2,
        },
    }
}

/// A socket of an earlier life, of which nothing is left but its closed.
fn recovered(id: SocketId, entry: Entry, endpoint: &Rc<Endpoint>) -> Member {
    let Entry {
        opening,
        lines,
        end,
        telling,
    } = entry;
    let end = end.unwrap_or_else(lost);
    let ended = Ended {
        clean: end.clean,
        code: end.code.and_then(code),
        reason: end.reason,
        by: match end.by {
            0 => ClosedBy::Client,
            1 => ClosedBy::App,
            _ => ClosedBy::Worker,
        },
        is_unknown: telling.undelivered.is_none(),
    };
    let block = Block::of(opening.text, opening.path, opening.query, &lines);
    let phase = Phase::Ended(Box::new(ended));
    let mut member = Member::new(Some(id), endpoint, block, phase);
    member.undelivered = telling.undelivered.unwrap_or(0);
    member.attempt = telling.attempts;
    member.kept = Kept {
        opened: true,
        ended: true,
        untried: true,
        attempts: telling.attempts.saturating_add(1),
        ..Kept::default()
    };
    member
}

/// Makes a code of its number; some are never on the wire.
fn code(number: u16) -> Option<CloseCode> {
    match number {
        1004 => Some(CloseCode::RESERVED_1004),
        1005 => Some(CloseCode::NO_STATUS),
        1006 => Some(CloseCode::ABNORMAL),
        _ => CloseCode::new(number),
    }
}
