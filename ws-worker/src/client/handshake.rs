//! A client until it is open: asked, accepted, refused or lost. Knows the decision, not how it was come to.

use super::{Client, Context, Flags, Phase, Share, Verdict, route};
use crate::clock;
use crate::command::{Command, LateDecision};
use crate::counters;
use crate::handler::{Accept, ClosedBy, Decision, End};
use crate::log::escaped;
use std::sync::Arc;
use ws_proto::{CloseCode, Refusal};

impl Client {
    /// The head is whole and valid: finds the route and asks its handler.
    pub(super) fn decide(&mut self, cx: &mut Context<'_>) {
        let id = self.id(cx);
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let process = cx.process;
        let asked = opening.ask(process, id, cx.handlers, &mut self.counted_peer);
        let (decision, id_of_route) = match asked {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(cx, refusal),
        };
        self.route = id_of_route;
        match decision {
            Decision::Accept(accept) => self.accept(cx, accept),
            Decision::Refuse(rejection) => {
                process.counters.refuse(counters::APP);
                let Phase::Opening(opening) = &mut self.phase else {
                    return;
                };
                opening.forget_asking();
                opening.reject(&rejection, &mut cx.common.out);
                self.linger(cx);
            }
            Decision::Later => opening.wait_for_decision(),
        }
    }

    /// Answers 101; hixie-76 waits for its eight bytes before it is open.
    pub(super) fn accept(&mut self, cx: &mut Context<'_>, accept: Accept) {
        let process = cx.process;
        let Some(limits) =
            route(&process.config, self.route).map(|route| Arc::clone(&route.limits))
        else {
            return;
        };
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let takeover = (limits.deflate).is_some_and(|deflate| deflate.takeover);
        self.flags
            .set(Flags::HAS_CONTEXT, takeover && process.take_context());
        let has_context = self.flags.has(Flags::HAS_CONTEXT);
        match opening.accept(
            cx.common.now,
            accept,
            limits,
            has_context,
            &mut cx.common.out,
        ) {
            Ok(true) => self.open(cx),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the answer to a handshake cannot be sent: 500");
                opening.reject(
                    &ws_proto::Rejection {
                        status: 500,
                        headers: ws_proto::Headers::default(),
                        body: Vec::new(),
                    },
                    &mut cx.common.out,
                );
                self.lose(
                    cx,
                    CloseCode::INTERNAL,
                    "bad handshake answer",
                    ClosedBy::Worker,
                );
                self.linger(cx);
            }
        }
    }

    /// Answers a handshake that its handler wanted to decide later.
    pub(crate) fn decide_late(&mut self, cx: &mut Context<'_>, decision: LateDecision) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        if !opening.is_deciding() {
            return;
        }
        opening.decided();
        match decision {
            LateDecision::Accept(accept) => self.accept(cx, accept),
            LateDecision::Reject(rejection) => {
                cx.process.counters.refuse(counters::APP);
                opening.forget_asking();
                opening.reject(&rejection, &mut cx.common.out);
                self.linger(cx);
            }
            LateDecision::Unavailable(retry_after) => {
                opening.forget_asking();
                opening.refuse(
                    Refusal::Unavailable,
                    Some(retry_after),
                    0,
                    &mut cx.common.out,
                );
                cx.process.counters.refuse(counters::APP_SILENT);
                self.linger(cx);
            }
        }
    }

    pub(super) fn open(&mut self, cx: &mut Context<'_>) {
        let until = cx.common.now;
        let phase = std::mem::replace(
            &mut self.phase,
            Phase::Lingering {
                until,
                dropped: 0,
                finished: false,
            },
        );
        let Phase::Opening(mut opening) = phase else {
            return;
        };
        let kept = opening.take_kept();
        let is_late = opening.was_decided_late();
        let (connection, about) = opening.into_connection(cx.common.now, cx.process);
        let Some(connection) = connection else {
            self.flags.set(Flags::BROKEN, true);
            return;
        };
        let deflate = connection.deflate();
        self.flags.set(Flags::DEFLATES, deflate.is_some());
        if !deflate.is_some_and(|deflate| deflate.has_context()) {
            self.return_context(cx.process);
        }
        cx.common
            .counts
            .route(self.route)
            .opened(connection.version());
        self.phase = Phase::Open(connection);
        self.about = about;
        self.opened_at = u32::try_from(clock::unix_seconds()).unwrap_or(u32::MAX);
        self.flags.set(Flags::OPENED, true);
        self.since = cx.common.now;
        let waiting = cx.common.router.own.len();
        self.lend(cx, |socket, handler| handler.on_open(socket));
        let kept = kept.into_iter();
        let own = &mut cx.common.router.own;
        own.extend(kept.map(|action| Command {
            action,
            reply: None,
        }));
        if is_late {
            own.rotate_left(waiting); // What waits was said after the decision, and what was kept before it.
        }
    }

    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, refusal: Refusal) {
        let [dice, ..] = self.key;
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        cx.process.counters.refuse(refusal.name());
        if tracing::enabled!(tracing::Level::DEBUG) {
            let about = opening.about();
            tracing::debug!(
                refusal = refusal.name(),
                path = about.path(),
                peer = escaped(&about.peer()).to_string(),
                origin = about.origin().map(|text| escaped(text).to_string()),
                request = about.request().map(|text| escaped(text).to_string()),
                "handshake refused"
            );
        }
        if !opening.serve_page(refusal, &cx.process.config, &mut cx.common.out) {
            opening.refuse(refusal, None, dice, &mut cx.common.out);
        }
        self.lose(cx, CloseCode::ABNORMAL, refusal.name(), ClosedBy::Worker);
        self.linger(cx);
    }

    /// Refuses a handshake for want of room, to make some.
    pub(crate) fn evict(&mut self, cx: &mut Context<'_>) -> Verdict {
        self.refuse(cx, Refusal::Unavailable);
        self.settle(
            cx,
            &Share {
                bytes: 1,
                messages: 1,
            },
        )
    }

    pub(super) fn linger(&mut self, cx: &Context<'_>) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.uncount(cx.process);
        }
        let limit = route(&cx.process.config, self.route)
            .map_or(std::time::Duration::from_secs(5), |route| {
                route.limits.close_timeout
            });
        self.phase = Phase::Lingering {
            until: cx.common.now + limit,
            dropped: 0,
            finished: false,
        };
        drop(self.take_all_unread());
    }

    /// The peer left before it was open.
    pub(super) fn leave_opening(&mut self, cx: &mut Context<'_>) {
        if let Phase::Opening(opening) = &self.phase
            && opening.is_deciding()
        {
            return; // It may have closed only its own direction; the answer will tell.
        }
        self.lose(
            cx,
            CloseCode::ABNORMAL,
            "left during the handshake",
            ClosedBy::Client,
        );
        self.linger(cx);
    }

    /// Tells the handler, if it knows of the handshake, that nothing will come of it.
    pub(super) fn lose(
        &mut self,
        cx: &mut Context<'_>,
        code: CloseCode,
        reason: &str,
        by: ClosedBy,
    ) {
        let id = self.id(cx);
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let asked = opening.was_asked();
        opening.forget_asking();
        opening.uncount(cx.process);
        if asked && let Some(handler) = cx.handlers.get_mut(usize::from(self.route.0)) {
            handler.on_lost(
                id,
                &End {
                    clean: false,
                    code: Some(code),
                    reason,
                    by,
                },
            );
        }
    }
}
