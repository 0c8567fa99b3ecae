//! How a client ends, in which words its handler hears of it, and by whom.

use super::{Client, Context, Flags, Phase, Share, Verdict};
use crate::clock::unix_seconds;
use crate::ends::Ended;
use crate::handler::{ClosedBy, End};
use std::time::Duration;
use ws_proto::{Cause, CloseCode, Version};

#[derive(Debug)]
pub(super) struct Closing {
    pub(super) by: ClosedBy,
    pub(super) code: CloseCode,
    pub(super) reason: String,
}

/// Why the worker ends a socket without a closing handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    Full,
    Stalled,
    Panicked,
    Draining,
    Removed,
    Starved,
}

impl Drop {
    /// Its place in [`counters::DROPS`](crate::counters::DROPS), which has the same order.
    const fn place(self) -> usize {
        self as usize
    }

    const fn words(self) -> (CloseCode, &'static str) {
        match self {
            Self::Full => (CloseCode::TRY_AGAIN_LATER, "output full"),
            Self::Stalled => (CloseCode::TRY_AGAIN_LATER, "no progress"),
            Self::Panicked => (CloseCode::INTERNAL, "internal error"),
            Self::Draining => (CloseCode::RESTART, "restart"),
            Self::Removed => (CloseCode::GOING_AWAY, "route removed"),
            Self::Starved => (CloseCode::TRY_AGAIN_LATER, "out of memory"),
        }
    }
}

impl Client {
    /// The connection has ended: tells its handler how, then says no more.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) {
        let Phase::Open(connection) = &self.phase else {
            return;
        };
        let version = connection.version();
        let Some(closed) = connection.closed().cloned() else {
            return;
        };
        let ours = self.cold.as_mut().and_then(|cold| cold.closing.take());
        let reason;
        let end = match (&ours, closed.cause) {
            (
                Some(ours),
                Cause::ClosedByUs | Cause::CloseTimeout | Cause::ClosedByPeer | Cause::Eof,
            ) => {
                reason = ours.reason.as_str();
                // 75 has no closing handshake: our FIN is all there can be.
                let clean = closed.clean || version == Version::Hixie75;
                End {
                    clean,
                    code: Some(ours.code),
                    reason,
                    by: ours.by,
                }
            }
            (_, Cause::ClosedByPeer) => End {
                clean: closed.clean,
                code: closed.code,
                reason: &closed.reason,
                by: ClosedBy::Client,
            },
            (_, Cause::Eof) => {
                // The client vanished, or a proxy cut a socket that was silent for too long.
                let (code, reason) = match closed.clean {
                    true => (None, ""),
                    false => (Some(CloseCode::ABNORMAL), "no closing handshake"),
                };
                End {
                    clean: closed.clean,
                    code,
                    reason,
                    by: ClosedBy::Client,
                }
            }
            (_, Cause::Protocol(error)) => End {
                clean: false,
                code: Some(error.close_code()),
                reason: error.reason(),
                by: ClosedBy::Worker,
            },
            (_, Cause::PongMissed) => End {
                clean: false,
                code: Some(CloseCode::ABNORMAL),
                reason: "pong missed",
                by: ClosedBy::Worker,
            },
            (_, Cause::Idle) => End {
                clean: closed.clean,
                code: Some(CloseCode::GOING_AWAY),
                reason: "idle",
                by: ClosedBy::Worker,
            },
            (_, _) => End {
                clean: closed.clean,
                code: closed.code,
                reason: &closed.reason,
                by: ClosedBy::Worker,
            },
        };
        self.tell(cx, &end);
        if matches!(closed.cause, Cause::PongMissed | Cause::CloseTimeout) {
            self.flags.set(Flags::BROKEN, true); // Nobody is there to read on, or to wait for any longer.
        }
    }

    /// Ends an open socket without a closing handshake.
    pub(super) fn drop_open(&mut self, cx: &mut Context<'_>, why: Drop) {
        let (code, reason) = why.words();
        if let Phase::Open(connection) = &mut self.phase {
            connection.handle_eof(cx.common.now); // Whoever is told can send nothing any more.
        }
        cx.process.counters.drop_client(why.place());
        let end = End {
            clean: false,
            code: Some(code),
            reason,
            by: ClosedBy::Worker,
        };
        self.tell(cx, &end);
        self.flags.set(Flags::BROKEN, true);
    }

    /// The end of an open socket: counts it, tells its handler, and says no more.
    fn tell(&mut self, cx: &mut Context<'_>, end: &End<'_>) {
        if let Phase::Open(connection) = &self.phase
            && self.flags.take(Flags::OPENED)
        {
            let version = connection.version();
            cx.common.counts.route(self.route).closed(version);
            let code = end.code.map(CloseCode::get);
            cx.process.counters.end(end.by as usize, code);
            let has_pinged = self.round_trip != u32::MAX;
            let id = self.id(cx);
            let ended = Ended {
                id,
                route: self.route,
                version,
                about: std::mem::take(&mut self.about),
                at: unix_seconds(),
                lasted: cx.common.now.since(self.since),
                messages_in: self.messages_in,
                bytes_in: self.bytes_in,
                messages_out: self.messages_out,
                bytes_out: self.bytes_out,
                code,
                reason: end.reason.to_owned(),
                by: end.by.name(),
                clean: end.clean,
                round_trip: has_pinged.then(|| Duration::from_millis(self.round_trip.into())),
            };
            cx.process
                .ends
                .note(cx.common.now, ended, &cx.process.config);
        }
        self.lend(cx, |socket, handler| handler.on_close(socket, end));
        self.return_context(cx.process); // The connection has forgotten already.
        self.linger(cx);
    }

    /// Ends it at once, in whatever state it is: a panic, the end of a drain, a full queue.
    pub(crate) fn drop_now(&mut self, cx: &mut Context<'_>, why: Drop) {
        let (code, reason) = why.words();
        self.lose(cx, code, reason, ClosedBy::Worker);
        if let Phase::Open(_) = &self.phase {
            self.drop_open(cx, why);
        }
        self.flags.set(Flags::BROKEN, true);
    }

    /// Keeps who began to close, and with what words.
    pub(super) fn note_closing(&mut self, by: ClosedBy, code: CloseCode, reason: &str) {
        self.cold.get_or_insert_default().closing = Some(Box::new(Closing {
            by,
            code,
            reason: reason.to_owned(),
        }));
    }

    /// Begins the closing handshake after what is queued, and writes it.
    pub(crate) fn close(
        &mut self,
        cx: &mut Context<'_>,
        code: CloseCode,
        reason: &str,
        by: ClosedBy,
    ) -> Verdict {
        if let Phase::Open(connection) = &mut self.phase
            && !connection.is_closing()
        {
            connection.close(cx.common.now, code, reason, &mut cx.common.out);
            self.note_closing(by, code, reason);
        }
        self.settle(
            cx,
            &Share {
                bytes: 1,
                messages: 1,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Drop;
    use crate::counters::{Counters, DROPS};

    #[test]
    fn every_drop_is_counted_under_its_own_name() {
        let all = [
            (Drop::Full, "output-full"),
            (Drop::Stalled, "no-progress"),
            (Drop::Panicked, "panic"),
            (Drop::Draining, "drain-over"),
            (Drop::Removed, "route-removed"),
            (Drop::Starved, "out-of-memory"),
        ];
        for (why, name) in all {
            let counters = Counters::default();
            counters.drop_client(why.place());
            let counted: Vec<_> = counters.drops().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(name, 1)], "{why:?}");
        }
        assert_eq!(DROPS.len(), all.len());
    }
}
