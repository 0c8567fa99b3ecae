//! An app that fails is spared new handshakes: what the app's breaker is asked and told. Knows which outcome shows what;
//! when a breaker opens is the breaker's affair.

use super::Pool;
use crate::breaker::Admission;
use crate::hook::connection::Cause;
use crate::hook::dialect::{Opening, Verdict};
use crate::hook::member::{Key, Line, Member};
use crate::hook::settle::Outcome;
use crate::source::Turn;
use std::time::Duration;
use ws_proto::Instant;

/// A probe that is not heard of so long after its deadline is taken for lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// What an attempt shows about its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// It answers, if only to refuse.
    Works,
    /// It cannot be reached, does not answer in time, answers nonsense, or with a 5xx.
    Fails,
    /// The attempt was never made.
    Nothing,
    /// It is made once more, at once.
    NothingYet,
}

impl Shown {
    fn by(outcome: &Outcome) -> Self {
        let status = |status: u16| {
            if (500..=599).contains(&status) {
                Self::Fails
            } else {
                Self::Works
            }
        };
        match outcome {
            Outcome::Taken(_) | Outcome::Opening(Opening::Accept(..) | Opening::Broken(_)) => {
                Self::Works
            }
            Outcome::Opening(Opening::Reject(rejection, _)) => status(rejection.status),
            Outcome::Opening(Opening::Misconfigured(code)) => status(*code),
            Outcome::Answered(Verdict::Taken | Verdict::Refused | Verdict::Misconfigured, _) => {
                Self::Works
            }
            Outcome::Answered(Verdict::Again(_), code) => status(*code),
            // That an app closes connections which nobody uses is its right.
            Outcome::Failed(failure) if failure.cause == Cause::Stale => {
                if failure.sent {
                    Self::Nothing
                } else {
                    Self::NothingYet
                }
            }
            Outcome::Failed(_) => Self::Fails,
            Outcome::WaitedTooLong(_) => Self::Nothing,
        }
    }
}

impl Pool {
    /// Asks whether a hook that has just become due may line up. A handshake of an app that fails is refused at once, but
    /// for one at a time; sockets that are open keep their own pace, since what they said is owed to the app.
    pub(super) fn admit(&mut self, turn: &mut Turn<'_>, key: Key) -> bool {
        let handshake_timeout = self.process.config.head.handshake_timeout;
        let Some(member) = self.members.get_mut(key) else {
            return false;
        };
        let Some(give_up_at) = member
            .patience(handshake_timeout)
            .filter(|_| member.line() == Line::Handshakes)
        else {
            return true;
        };
        let breaker = self.process.breakers.get(member.endpoint.hooks.app);
        match breaker.map(|breaker| breaker.admit(turn.now, give_up_at + LOST_AFTER)) {
            Some(Admission::Free) | None => true,
            Some(Admission::Probe(id)) => {
                member.probe = Some(id);
                true
            }
            Some(Admission::Refused) => {
                self.counts.app(member.endpoint.hooks.app).spared.add(1);
                let answer = self.unavailable();
                self.refuse(turn, key, answer, None);
                false
            }
        }
    }

    /// Tells the app's breaker what an attempt has shown. Returns whether it was a probe.
    pub(in crate::hook) fn judge(&mut self, now: Instant, key: Key, outcome: &Outcome) -> bool {
        let Some(member) = self.members.get_mut(key) else {
            return false;
        };
        let hooks = &member.endpoint.hooks;
        let Some(breaker) = self.process.breakers.get(hooks.app) else {
            return false;
        };
        let shown = Shown::by(outcome);
        if shown == Shown::NothingYet {
            return member.probe.is_some();
        }
        let probe = member.probe.take();
        match shown {
            Shown::Works => {
                if let Some(change) = breaker.succeed(now)
                    && change.is_said
                {
                    let after = change.after.as_secs_f64();
                    tracing::info!(app = %hooks.url.host, after, "hook: the app answers again; handshakes go to it");
                }
            }
            Shown::Fails => {
                if let Some(change) = breaker.fail(now, probe) {
                    self.counts.app(hooks.app).outages.add(1);
                    if change.is_said {
                        tracing::warn!(app = %hooks.url.host, "hook: the app has failed ten times in a row; new handshakes get 503 until it answers");
                    }
                }
            }
            Shown::Nothing | Shown::NothingYet => {
                if let Some(probe) = probe {
                    breaker.release(probe);
                }
            }
        }
        probe.is_some()
    }

    /// Forgets a member.
    pub(in crate::hook) fn remove(&mut self, key: Key) -> Option<Box<Member>> {
        let member = self.members.remove(key)?;
        let breaker = self.process.breakers.get(member.endpoint.hooks.app);
        if let (Some(probe), Some(breaker)) = (member.probe, breaker) {
            breaker.release(probe);
        }
        Some(member)
    }
}
