//! Messages and closed: order, repetition, refusal, giving up.

use super::*;
use crate::config::Retry;

#[test]
fn messages_come_one_by_one_in_order_on_one_connection() {
    let mut world = World::new();
    world.open(1);
    for text in ["a", "b", "c"] {
        world.say(1, text);
    }
    let key = id(1);
    for (seq, text) in [(1, "a"), (2, "b"), (3, "c")] {
        let got = world.request();
        world.settle();
        assert!(world.app.got.is_empty(), "one in flight");
        assert_eq!((got.event(), got.text()), ("message", text));
        assert_eq!(
            got.header("Idempotency-Key"),
            Some(&*format!("{key}/{seq}"))
        );
        assert_eq!((got.connection, got.header("Ws-Attempt")), (0, None));
        world.app.write(
            0,
            format!("HTTP/1.1 200 OK\r\nWs-To: self\r\nContent-Length: 1\r\n\r\n{text}").as_bytes(),
        );
        match world.said() {
            Action::Say(id, message) => {
                assert_eq!((id, message), (key, Message::text(text)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.app.connections.len(), 1);
    assert_eq!(world.attempts(HookResult::Taken), 4);
}

#[test]
fn every_way_to_end_an_answer_is_understood() {
    let mut world = World::new();
    world.open(1);
    for (answer, is_kept) in [
        (
            "HTTP/1.1 200 OK\r\nWs-To: self\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nWs-To: self\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nWs-To: self\r\n\r\nhi", false),
        (
            "HTTP/1.0 200 OK\r\nWs-To: self\r\nContent-Length: 2\r\n\r\nhi",
            false,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nWs-To: self\r\nContent-Length: 2\r\n\r\nhi",
            true,
        ),
    ] {
        world.say(1, "x");
        let got = world.request();
        world.app.write(got.connection, answer.as_bytes());
        if !is_kept {
            world.app.close(got.connection);
        }
        match world.said() {
            Action::Say(_, message) => assert_eq!(message, Message::text("hi")),
            other => panic!("{other:?}"),
        }
        let failed = HookResult::FAILED.map(|result| world.attempts(result));
        assert_eq!(failed, [0, 0, 0]);
    }
    // Byte by byte it is the same.
    world.say(1, "x");
    let got = world.request();
    for byte in b"HTTP/1.1 200 OK\r\nWs-Close: 4000 so\r\nContent-Length: 0\r\n\r\n" {
        world.app.write(got.connection, &[*byte]);
        world.turn();
    }
    assert_eq!(world.closed_with(), 4000);
}

#[test]
fn an_unhappy_app_is_asked_again_with_the_same_key_and_body() {
    let mut world = World::new();
    world.open(1);
    world.say(1, "x");
    let first = world.request();
    assert_eq!(first.header("Ws-Attempt"), None);
    let mut last = first.clone();
    for (attempt, status) in (2..).zip([503, 500, 429, 408, 425]) {
        world.app.write(last.connection, plain(status).as_bytes());
        last = world.request_later();
        assert_eq!(
            last.header("Ws-Attempt"),
            Some(attempt.to_string().as_str())
        );
        assert_eq!(
            last.header("Idempotency-Key"),
            first.header("Idempotency-Key")
        );
        assert_eq!(last.body, first.body);
    }
    // Cut in the middle of the answer: unknown, so again.
    world.app.write(last.connection, b"HTTP/1.1 200 O");
    world.app.close(last.connection);
    last = world.request_later();
    assert_eq!(last.header("Ws-Attempt"), Some("7"));
    // Silence: the attempt's deadline.
    world.advance(30_000);
    last = world.request_later();
    assert_eq!(last.header("Ws-Attempt"), Some("8"));
    world.app.write(last.connection, plain(200).as_bytes());
    world.say(1, "y");
    let next = world.serve(&plain(200));
    assert_eq!((next.text(), next.header("Ws-Attempt")), ("y", None));
    let failed = HookResult::FAILED.map(|result| world.attempts(result));
    assert_eq!((world.attempts(HookResult::Again), failed), (5, [1, 1, 0]));
}

#[test]
fn an_answer_that_cannot_be_understood_leaves_the_outcome_unknown() {
    for nonsense in [
        "220 smtp.example ESMTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let mut world = World::new();
        world.open(1);
        world.say(1, "x");
        world.serve(nonsense);
        let again = world.request_later();
        assert_eq!(again.header("Ws-Attempt"), Some("2"), "{nonsense}");
        world.app.write(again.connection, plain(200).as_bytes());
        world.settle();
    }
}

#[test]
fn retry_after_is_waited_for() {
    let mut world = World::new();
    world.open(1);
    world.say(1, "x");
    world.serve("HTTP/1.1 503 X\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n");
    world.until("pause", |world| {
        (!world.pool.borrow().pauses.is_empty()).then_some(())
    });
    world.advance(19_999);
    world.settle();
    assert!(world.app.got.is_empty());
    world.advance(101);
    assert_eq!(world.serve(&plain(200)).text(), "x");
}

#[test]
fn an_app_that_is_down_gets_everything_when_it_is_back() {
    let mut world = World::new();
    world.open(1);
    world.app.stop();
    for text in ["a", "b"] {
        world.say(1, text);
    }
    for _ in 0..30 {
        world.turn();
        world.advance(1000);
    }
    assert!(world.said.is_empty());
    world.app.start();
    for text in ["a", "b"] {
        let got = world.request_later();
        assert_eq!(got.text(), text);
        world.app.write(got.connection, plain(200).as_bytes());
    }
    world.leave(1);
    assert_eq!(world.serve(&plain(200)).header("Ws-Undelivered"), Some("0"));
    world.is_over();
}

#[test]
fn a_message_is_given_up_after_a_while_and_closed_says_so() {
    let mut world = World::new();
    world.open(1);
    world.app.stop();
    for text in ["a", "b", "c"] {
        world.say(1, text);
    }
    let (code, by) = world.until("close", |world| {
        world.advance(500);
        match world.said.pop_front() {
            Some(Action::Close(_, code, _, by)) => Some((code, by)),
            _ => None,
        }
    });
    assert_eq!(code, CloseCode::TRY_AGAIN_LATER);
    assert_eq!(by, ClosedBy::Worker);
    assert!(world.now.since(Instant::at(1000)) >= Duration::from_secs(60));
    world.say(1, "too late");
    world.with_socket(1, |handler, socket| {
        let end = End {
            code: Some(CloseCode::TRY_AGAIN_LATER),
            by,
            ..END
        };
        handler.on_close(socket, &end);
    });
    world.app.start();
    let closed = world.request_later();
    assert_eq!(closed.event(), "closed");
    assert_eq!(closed.header("Ws-Undelivered"), Some("4"));
    assert_eq!(closed.header("Ws-Closed-By"), Some("worker"));
    world.app.write(closed.connection, plain(200).as_bytes());
    world.is_over();
    assert_eq!(world.process.counters.undelivered.get(), 4);
}

#[track_caller]
fn refused(answer: &str, expected: u16, undelivered: &str) {
    let mut world = World::new();
    world.open(1);
    for text in ["a", "b"] {
        world.say(1, text);
    }
    world.serve(answer);
    assert_eq!(world.closed_with(), expected, "{answer}");
    world.leave(1);
    let closed = world.serve(&plain(200));
    assert_eq!(closed.event(), "closed", "{answer}");
    assert_eq!(
        closed.header("Ws-Undelivered"),
        Some(undelivered),
        "{answer}"
    );
    world.is_over();
}

#[test]
fn refusals_and_answers_that_would_come_again_close_the_socket() {
    for status in [400, 401, 403, 404, 413, 422] {
        refused(&plain(status), 1008, "1"); // The refused one was answered.
    }
    for status in [101, 103, 301, 302, 307, 304, 600] {
        refused(&plain(status), 1011, "2");
    }
    refused(
        "HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n",
        1011,
        "2",
    );
}

#[test]
fn a_body_that_is_no_text_is_the_apps_fault() {
    let mut world = World::new();
    world.open(1);
    world.say(1, "a");
    let got = world.request();
    world.app.write(
        got.connection,
        b"HTTP/1.1 200 OK\r\nWs-To: self, all\r\nContent-Length: 1\r\n\r\n\xff",
    );
    assert_eq!(world.closed_with(), 1011);
    assert_eq!(world.process.counters.undelivered.get(), 0);
}

#[test]
fn closed_comes_after_every_queued_message_and_is_repeated_until_it_is_taken() {
    let mut world = World::with(|hooks| hooks.give_up = Duration::from_secs(3600 * 24));
    world.open(1);
    for text in ["a", "b"] {
        world.say(1, text);
    }
    world.leave(1);
    for text in ["a", "b"] {
        assert_eq!(world.serve(&plain(200)).text(), text);
    }
    let closed = world.request();
    assert_eq!(closed.header("Ws-Close-Code"), Some("1000"));
    assert_eq!(closed.header("Ws-Close-Reason"), Some("bye"));
    assert_eq!(closed.header("Ws-Clean"), Some("1"));
    assert_eq!(closed.header("Ws-Closed-By"), Some("client"));
    world.app.write(closed.connection, plain(500).as_bytes());
    world.app.stop();
    for _ in 0..100 {
        world.turn();
        world.advance(10_000);
    }
    world.app.start();
    let again = world.request_later();
    assert_eq!(
        again.header("Idempotency-Key"),
        closed.header("Idempotency-Key")
    );
    assert!(!world.pool.borrow().is_idle());
    world.app.write(
        again.connection,
        b"HTTP/1.1 200 OK\r\nWs-To: self, all\r\nWs-Join: x\r\nWs-Close: 1000\r\nContent-Length: 4\r\n\r\nleft",
    );
    // Himself is nobody now.
    match world.said() {
        Action::Broadcast(crate::command::Scope::Route(_), None, message) => {
            assert_eq!(message.message(), &Message::text("left"));
        }
        other => panic!("{other:?}"),
    }
    world.is_over();
    assert!(world.said.is_empty());
}

#[test]
fn a_full_queue_pauses_its_socket_and_a_half_empty_one_lets_it_go_on() {
    let mut world = World::with(|hooks| hooks.queue_messages = 8);
    world.open(1);
    for number in 0..7 {
        world.say(1, &number.to_string());
    }
    assert!(!world.paused);
    world.say(1, "7");
    assert!(world.paused);
    world.say(1, "8"); // One more may be under way.
    for number in 0..9 {
        assert_eq!(world.paused, number < 5, "{number}");
        assert_eq!(world.serve(&plain(200)).text(), number.to_string());
        if number == 4 {
            assert!(matches!(world.said(), Action::Resume(_)));
        }
    }
    world.settle();
    assert!(world.said.is_empty());
}

#[test]
fn at_most_once_means_that_what_may_have_arrived_is_not_repeated() {
    for answer in [None, Some(plain(503))] {
        let mut world = World::with(|hooks| hooks.retry = Retry::Unsent);
        world.open(1);
        world.say(1, "a");
        let got = world.request();
        match &answer {
            None => world.app.close(got.connection),
            Some(answer) => world.app.write(got.connection, answer.as_bytes()),
        }
        assert_eq!(world.closed_with(), 1011);
        world.leave(1);
        let closed = world.serve(&plain(200));
        assert_eq!(closed.header("Ws-Undelivered"), Some("1"));
        world.is_over();
    }
    // What cannot have arrived is.
    let mut world = World::with(|hooks| hooks.retry = Retry::Unsent);
    world.open(1);
    world.app.stop();
    world.say(1, "a");
    world.settle();
    world.app.start();
    assert_eq!(world.request_later().text(), "a");
}

#[test]
fn what_an_answer_says_is_done_in_order() {
    let mut world = World::new();
    world.open(1);
    world.say(1, "a");
    world.serve(
        "HTTP/1.1 200 OK\r\nWs-Close: 4001 enough\r\nWs-To: self, room\r\nWs-Set-Meta-User: 7\r\nWs-Leave: old\r\nWs-Join: room\r\nWs-Except: nobody\r\nContent-Length: 2\r\n\r\nhi",
    );
    let said: Vec<String> = (0..6).map(|_| format!("{:?}", world.said())).collect();
    for (said, expected) in said.iter().zip([
        "SetMeta(",
        "Join(",
        "Leave(",
        "Send(",
        "Broadcast(Group(\"room\"), Some(",
        "Close(",
    ]) {
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }
    world.say(1, "b");
    assert_eq!(world.serve(&plain(200)).header("Ws-Meta-User"), Some("7"));
}

#[test]
fn large_messages_and_answers_pass() {
    let mut world = World::new();
    world.open(1);
    let text = "x".repeat(1024 * 1024);
    world.say(1, &text);
    let got = world.request();
    assert_eq!(got.body.len(), text.len());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nWs-To: self\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    for piece in answer.as_bytes().chunks(50_000) {
        world.app.write(got.connection, piece);
        world.turn();
    }
    match world.said() {
        Action::Say(_, message) => assert_eq!(message.payload().len(), text.len()),
        other => panic!("{other:?}"),
    }
    world.settle();
    assert!(world.process.counters.memory.get() < 64 * 1024);
}

#[test]
fn an_answer_before_the_end_of_the_request_counts() {
    let mut world = World::new();
    world.open(1);
    world.app.deaf = true;
    let text = "x".repeat(1024 * 1024 * 16);
    world.say(1, &text);
    world.settle();
    world
        .app
        .write(0, b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(world.closed_with(), 1008);
    world.app.deaf = false;
    world.app.close(0); // Half a request lies there; ours was given up as well.
    world.leave(1);
    assert_eq!(world.serve(&plain(200)).event(), "closed");
    world.is_over();
}
