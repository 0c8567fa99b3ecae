//! Who has waited in line for longer than he may: the first of a line is seen at that moment, who stands behind him soon after.
//! Knows no answer, and what becomes of him is `settle`'s affair.

use super::{App, Pool};
use crate::hook::connection::{Cause, Failure};
use crate::hook::member::{Key, Line, Member};
use crate::hook::settle::Outcome;
use crate::source::Turn;
use std::time::Duration;
use ws_proto::Instant;

/// Lines in which nobody waits for ever.
const LINES: [Line; 2] = [Line::Handshakes, Line::Messages];
/// As a rule the first in a line is the first to give up. He is not where routes of one app have patience of their own, or
/// where a message that was tried before has come back: so often a whole line is looked through.
const LOOK: Duration = Duration::from_secs(1);

impl Pool {
    /// Settles who has waited too long for a permit.
    pub(super) fn tire(&mut self, turn: &mut Turn<'_>) {
        let looks = self.looked + LOOK <= turn.now;
        if looks {
            self.looked = turn.now;
        }
        for app in 0..self.apps.len() {
            for line in LINES {
                while let Some(key) = self.first_tired(app, line, turn.now) {
                    self.wait_no_longer(turn, key, line);
                }
                if looks {
                    for key in self.tired(app, line, turn.now) {
                        self.wait_no_longer(turn, key, line);
                    }
                }
            }
        }
    }

    /// Returns when somebody who waits for this app is to be seen to.
    pub(super) fn next_tired(&self, app: &App) -> Option<Instant> {
        let handshake_timeout = self.process.config.head.handshake_timeout;
        let of_line = |line: Line| {
            let waiting = app.lines.get(line as usize)?;
            let mut members = waiting.iter().filter_map(|key| self.members.get(*key));
            let first = members.find(|member| member.waits_in(line))?;
            let look = (waiting.len() > 1).then(|| self.looked + LOOK);
            first
                .patience(handshake_timeout)
                .into_iter()
                .chain(look)
                .min()
        };
        LINES.into_iter().filter_map(of_line).min()
    }

    fn wait_no_longer(&mut self, turn: &mut Turn<'_>, key: Key, line: Line) {
        let member = self.members.get(key);
        if member.is_some_and(|member| member.waits_in(line)) {
            let failure = Failure {
                cause: Cause::Timeout,
                sent: false,
            };
            self.settle(turn, key, Outcome::WaitedTooLong(failure));
        }
    }

    /// Takes the first out of a line, if he has waited there for longer than he may.
    fn first_tired(&mut self, app: usize, line: Line, now: Instant) -> Option<Key> {
        let handshake_timeout = self.process.config.head.handshake_timeout;
        let waiting = self.apps.get_mut(app)?.lines.get_mut(line as usize)?;
        loop {
            let key = *waiting.front()?;
            let member = self.members.get(key);
            let member = member.filter(|member| member.waits_in(line));
            let is_over = member.map(|member| member.patience(handshake_timeout));
            if let Some(at) = is_over
                && at.is_none_or(|at| now < at)
            {
                return None;
            }
            waiting.pop_front();
            if member.is_some() {
                return Some(key);
            }
        }
    }

    /// Returns all in a line who have waited there for longer than they may. Their places are left: nobody's any more.
    fn tired(&self, app: usize, line: Line, now: Instant) -> Vec<Key> {
        let handshake_timeout = self.process.config.head.handshake_timeout;
        let is_tired = |member: &Member| {
            let at = member.patience(handshake_timeout);
            member.waits_in(line) && at.is_some_and(|at| at <= now)
        };
        let waiting = self
            .apps
            .get(app)
            .and_then(|app| app.lines.get(line as usize));
        let waiting = waiting.into_iter().flatten();
        waiting
            .copied()
            .filter(|key| self.members.get(*key).is_some_and(is_tired))
            .collect()
    }
}
