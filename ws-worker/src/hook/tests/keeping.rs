//! What the journal is told, when, and who waits for it. The test writes the journal, or does not.

use super::*;
use crate::config::{Config, JournalMode};
use crate::journal::{Entry, Opening, Owed, Pen, Submission, Telling, What as Said, Written};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

/// A world with a journal.
struct Kept {
    world: World,
    journal: Receiver<Submission>,
}

fn kept() -> Kept {
    with(JournalMode::Strict, Vec::new())
}

fn with(mode: JournalMode, owed: Vec<Owed>) -> Kept {
    let app = App::new();
    let mut hooks = hooks();
    hooks.url.address = AppAddress::Tcp(vec![app.address]);
    let mut process = process(&route(hooks), 1);
    let sole = Arc::get_mut(&mut process).unwrap();
    sole.config = Arc::new(Config {
        journal_mode: mode,
        ..Config::clone(&sole.config)
    });
    process.starting.store(!owed.is_empty(), Ordering::Relaxed);
    let permits = Permits::of(&process.config);
    let world = World::threads(&process, &permits, app, 1).remove(0);
    let (pen, journal) = Pen::test();
    world.pool.borrow_mut().keep(pen, owed);
    Kept { world, journal }
}

impl Kept {
    /// Waits for the next record.
    #[track_caller]
    fn record(&mut self) -> Submission {
        let journal = &self.journal;
        self.world.until("record", |_| journal.try_recv().ok())
    }

    fn answer(&self, ticket: u64, success: bool) {
        let written = Written {
            upto: ticket,
            failed: if success { Vec::new() } else { vec![ticket] },
        };
        self.world.router.mailboxes[0].post(Mail::Written(written));
    }

    /// Waits for the next record and says that it was written.
    #[track_caller]
    fn written(&mut self) -> Said {
        let Submission { ticket, record, .. } = self.record();
        self.answer(ticket, true);
        assert_eq!(record.id, id(1));
        record.what
    }

    /// What comes before this is written.
    #[track_caller]
    fn nothing_is_sent(&mut self) {
        self.world.settle();
        assert!(self.world.app.got.is_empty(), "{:?}", self.world.app.got);
        assert!(self.world.said.is_empty(), "{:?}", self.world.said);
    }

    /// Brings the socket in.
    #[track_caller]
    fn open(&mut self) {
        self.world.connect(1);
        assert!(matches!(self.written(), Said::Opening(_)));
        assert_eq!(self.world.serve(&plain(200)).event(), "handshake");
        assert!(matches!(self.world.decision(), LateDecision::Accept(_)));
        let world = &mut self.world;
        world.with_socket(1, |handler, socket| handler.on_open(socket));
    }

    /// Waits for the refusal of a handshake that the app has not seen.
    #[track_caller]
    fn is_refused(&mut self) {
        let decision = self.world.decision();
        assert!(
            matches!(decision, LateDecision::Unavailable(1..)),
            "{decision:?}"
        );
        assert_eq!(self.world.process.counters.journal_refused.get(), 1);
        self.world.is_over();
    }
}

fn told(attempts: u32) -> Said {
    Said::Telling(Telling {
        attempts,
        undelivered: Some(0),
    })
}

#[test]
fn no_byte_of_a_handshake_leaves_before_the_journal_has_it() {
    let mut kept = kept();
    kept.world.connect(1);
    let Submission { ticket, record, .. } = kept.record();
    let Said::Opening(Opening { route, text, .. }) = record.what else {
        panic!("{record:?}");
    };
    assert_eq!((record.id, &*route), (id(1), "/chat"));
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("Ws-Resource: /chat/room?x=1\r\n"), "{text}");
    kept.nothing_is_sent();
    assert_eq!(kept.world.app.connections.len(), 0);
    kept.answer(ticket, true);
    kept.world.serve(&plain(403));
    assert!(matches!(kept.world.decision(), LateDecision::Reject(_)));
    assert_eq!(kept.written(), Said::Settled);
    kept.world.is_over();
}

#[test]
fn no_101_leaves_before_the_journal_has_what_the_app_stored() {
    let mut kept = kept();
    kept.world.connect(1);
    kept.written();
    kept.world.serve(
        "HTTP/1.1 200 OK\r\nWs-Set-Meta-User: maki\r\nWs-Protocol: chat.v1\r\nContent-Length: 0\r\n\r\n",
    );
    let Submission { ticket, record, .. } = kept.record();
    let lines = b"Ws-Protocol: chat.v1\r\nWs-Meta-user: maki\r\n";
    assert_eq!(record.what, Said::Changed(lines.as_slice().into()));
    kept.nothing_is_sent();
    kept.answer(ticket, true);
    assert!(matches!(kept.world.decision(), LateDecision::Accept(_)));
}

#[test]
fn a_client_that_leaves_before_its_101_is_told_of_once() {
    let mut kept = kept();
    kept.world.connect(1);
    kept.written();
    kept.world
        .serve("HTTP/1.1 200 OK\r\nWs-Set-Meta-A: b\r\nContent-Length: 0\r\n\r\n");
    let Submission { ticket, .. } = kept.record();
    let own = kept.world.id(1);
    kept.world.handler.on_lost(own, &END);
    assert!(matches!(kept.written(), Said::Ended(_)));
    assert_eq!(kept.written(), told(1));
    kept.answer(ticket, true);
    let closed = kept.world.serve(&plain(200));
    assert_eq!(
        (closed.event(), closed.header("Ws-Attempt")),
        ("closed", None)
    );
    assert_eq!(kept.written(), Said::Settled);
    kept.world.is_over();
}

#[test]
fn closed_is_announced_before_it_is_tried_and_settled_when_it_is_taken() {
    let mut kept = kept();
    kept.open();
    kept.world.leave(1);
    let Said::Ended(end) = kept.written() else {
        panic!("no end");
    };
    assert_eq!(
        (end.code, &*end.reason, end.clean),
        (Some(1000), "bye", true)
    );
    let Submission { ticket, record, .. } = kept.record();
    assert_eq!(record.what, told(1));
    kept.nothing_is_sent();
    kept.answer(ticket, true);
    kept.world.serve(&plain(503));
    // Twice as many attempts are announced each time.
    for (attempt, announced) in [(2, Some(3)), (3, None), (4, Some(7)), (5, None)] {
        if let Some(announced) = announced {
            let journal = &kept.journal;
            let record = kept.world.until("record", |world| {
                world.advance(50);
                journal.try_recv().ok()
            });
            assert_eq!(record.record.what, told(announced));
            kept.nothing_is_sent();
            kept.answer(record.ticket, true);
        }
        let got = kept.world.request_later();
        assert_eq!(got.header("Ws-Attempt"), Some(&*attempt.to_string()));
        kept.world.app.write(
            got.connection,
            plain(if attempt == 5 { 200 } else { 503 }).as_bytes(),
        );
    }
    assert_eq!(kept.written(), Said::Settled);
    kept.world.is_over();
}

#[test]
fn the_end_is_kept_at_once_where_messages_wait_before_it() {
    let mut kept = kept();
    kept.open();
    kept.world.say(1, "a");
    let message = kept.world.request();
    kept.world.leave(1);
    assert!(matches!(kept.written(), Said::Ended(_)));
    kept.world.settle();
    assert!(kept.journal.try_recv().is_err());
    // What a late answer stores is part of closed too.
    kept.world.app.write(
        message.connection,
        b"HTTP/1.1 200 OK\r\nWs-Set-Meta-A: b\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(kept.written(), told(1));
    let closed = kept.world.serve(&plain(200));
    assert_eq!(closed.header("Ws-Meta-a"), Some("b"));
    assert_eq!(kept.written(), Said::Settled);
}

#[test]
fn the_next_hook_waits_for_what_the_last_one_stored() {
    let mut kept = kept();
    kept.open();
    kept.world.say(1, "a");
    kept.world.say(1, "b");
    kept.world
        .serve("HTTP/1.1 200 OK\r\nWs-Set-Meta-A: b\r\nContent-Length: 0\r\n\r\n");
    let Submission { ticket, .. } = kept.record();
    kept.world.settle();
    assert!(kept.world.app.got.is_empty());
    kept.answer(ticket, true);
    assert_eq!(kept.world.serve(&plain(200)).text(), "b");
}

#[test]
fn a_full_disk_refuses_handshakes_and_lets_everything_else_go_on() {
    let mut kept = kept();
    kept.world.connect(1);
    let Submission { ticket, .. } = kept.record();
    kept.answer(ticket, false);
    kept.is_refused();
    assert!(kept.journal.try_recv().is_err()); // What was never written need not be settled.
    kept.open();
    kept.world.leave(1);
    for _ in 0..2 {
        let Submission { ticket, .. } = kept.record();
        kept.answer(ticket, false);
    }
    assert_eq!(kept.world.serve(&plain(200)).event(), "closed");
    assert_eq!(kept.written(), Said::Settled);
}

#[test]
fn a_best_effort_lets_handshakes_in() {
    let mut kept = with(JournalMode::BestEffort, Vec::new());
    kept.world.connect(1);
    let Submission { ticket, .. } = kept.record();
    kept.answer(ticket, false);
    assert_eq!(kept.world.serve(&plain(200)).event(), "handshake");
    assert!(matches!(kept.world.decision(), LateDecision::Accept(_)));
    kept.world.leave(1);
    assert_eq!(kept.world.serve(&plain(200)).event(), "closed");
    assert!(kept.journal.try_recv().is_err());
    assert_eq!(kept.world.process.counters.journal_refused.get(), 1);
}

#[test]
fn a_disk_that_stalls_costs_a_handshake_two_seconds_and_a_503() {
    let mut kept = kept();
    kept.world.connect(1);
    let opening = kept.record();
    kept.world.advance(1_900);
    kept.nothing_is_sent();
    kept.world.advance(200);
    kept.is_refused();
    // It may be written yet.
    assert_eq!(kept.record().record.what, Said::Settled);
    kept.answer(opening.ticket, true);
    kept.nothing_is_sent();
}

#[test]
fn a_disk_that_stalls_holds_up_closed_for_no_longer_either() {
    let mut kept = kept();
    kept.open();
    kept.world.leave(1);
    kept.record();
    kept.nothing_is_sent();
    kept.world.advance(2_100);
    assert_eq!(kept.world.serve(&plain(200)).event(), "closed");
}

fn owed(slot: u32, attempts: u32, undelivered: Option<u64>) -> Owed {
    let endpoint = endpoint_with(hooks());
    let facts = Facts {
        id: id(slot),
        ..facts()
    };
    let block = Block::new(&endpoint, &facts).unwrap();
    let (text, path, query) = block.parts();
    Owed {
        id: id(slot),
        entry: Entry {
            opening: Opening {
                route: "/chat".into(),
                text: Arc::clone(text),
                path,
                query,
            },
            lines: b"Ws-Meta-user: maki\r\n".as_slice().into(),
            end: None,
            telling: Telling {
                attempts,
                undelivered,
            },
        },
    }
}

#[test]
fn what_an_earlier_life_owed_is_told_with_its_own_id_and_a_higher_attempt() {
    let earlier = vec![owed(1, 0, None), owed(2, 3, Some(5))];
    let mut kept = with(JournalMode::Strict, earlier);
    let key = |slot| format!("{}/closed", id(slot));
    let first = kept.world.serve(&plain(200));
    assert_eq!(first.event(), "closed");
    assert_eq!(first.header("Idempotency-Key"), Some(&*key(1)));
    assert_eq!(first.header("Ws-Close-Code"), Some("1006"));
    assert_eq!(first.header("Ws-Close-Reason"), Some("worker%20lost"));
    assert_eq!(first.header("Ws-Closed-By"), Some("worker"));
    assert_eq!(first.header("Ws-Meta-user"), Some("maki"));
    assert_eq!(first.header("Ws-Undelivered"), None);
    assert_eq!(first.header("Ws-Attempt"), None);
    assert_eq!(first.header("Ws-Resource"), Some("/chat/room?x=1"));
    let second = kept.world.serve(&plain(200));
    assert_eq!(second.header("Idempotency-Key"), Some(&*key(2)));
    assert_eq!(second.header("Ws-Undelivered"), Some("5"));
    assert_eq!(second.header("Ws-Attempt"), Some("4"));
    for slot in [1, 2] {
        let record = kept.record().record;
        assert_eq!((record.id, record.what), (id(slot), Said::Settled));
    }
    kept.world.is_over();
    assert_eq!(kept.world.process.counters.closed_recovered.get(), 2);
}

#[test]
fn nobody_comes_in_before_what_is_owed_was_tried_or_five_seconds_have_passed() {
    let starting = |kept: &Kept| kept.world.process.starting.load(Ordering::Relaxed);
    let mut kept = with(JournalMode::Strict, vec![owed(1, 0, None)]);
    let got = kept.world.request();
    assert!(starting(&kept));
    kept.world.app.write(got.connection, plain(503).as_bytes());
    kept.world.until("start", |world| {
        (!world.process.starting.load(Ordering::Relaxed)).then_some(())
    });

    let mut kept = with(JournalMode::Strict, vec![owed(1, 0, None)]);
    kept.world.request();
    kept.world.advance(4_900);
    kept.world.settle();
    assert!(starting(&kept));
    kept.world.advance(200);
    kept.world.settle();
    assert!(!starting(&kept));
}

#[test]
fn what_is_owed_to_a_route_that_is_gone_stays_in_the_journal() {
    let mut other = owed(1, 0, None);
    other.entry.opening.route = "/elsewhere".into();
    let mut kept = with(JournalMode::Strict, vec![other]);
    kept.nothing_is_sent();
    assert!(!kept.world.process.starting.load(Ordering::Relaxed));
    assert!(kept.journal.try_recv().is_err());
    kept.world.is_over();
}

#[test]
fn the_end_of_a_life_leaves_in_the_journal_what_is_owed_and_nothing_else() {
    let mut kept = kept();
    kept.open();
    kept.world.app.stop();
    kept.world.leave(1);
    kept.written();
    kept.written();
    kept.world.connect(2);
    let opening = kept.record();
    assert!(matches!(opening.record.what, Said::Opening(_)));
    kept.world.settle();
    let now = kept.world.now;
    kept.world.pool.borrow_mut().stop(now);
    let last = kept.record().record;
    assert_eq!((last.id, last.what), (id(2), Said::Settled));
    assert!(kept.journal.try_recv().is_err());
    assert_eq!(kept.world.process.counters.closed_lost.get(), 0);
}

#[test]
fn what_an_earlier_life_owed_a_route_that_is_gone_keeps_nobody_waiting() {
    let mut kept = with(JournalMode::Strict, vec![owed(1, 0, None)]);
    kept.world.app.stop();
    let process = Arc::clone(&kept.world.process);
    assert!(!kept.world.pool.borrow_mut().forget_routes(|_| true));
    kept.world.settle();
    assert!(!process.starting.load(Ordering::Relaxed));
    assert!(kept.journal.try_recv().is_err()); // It stays in the journal,
    assert_eq!(process.counters.closed_lost.get(), 0); // and is not lost.
}

#[test]
fn what_a_best_effort_did_not_keep_is_counted_as_lost_at_the_end() {
    let mut kept = with(JournalMode::BestEffort, Vec::new());
    kept.world.connect(1);
    let Submission { ticket, .. } = kept.record();
    kept.answer(ticket, false);
    kept.world.serve(&plain(200));
    assert!(matches!(kept.world.decision(), LateDecision::Accept(_)));
    kept.world.app.stop();
    let id = kept.world.id(1);
    kept.world.handler.on_lost(id, &END);
    let now = kept.world.now;
    kept.world.pool.borrow_mut().stop(now);
    assert_eq!(kept.world.process.counters.closed_lost.get(), 1);
}
