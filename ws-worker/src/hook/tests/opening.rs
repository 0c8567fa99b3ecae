//! Handshakes: yes, no, silence, and who must be told that a socket is gone.

use super::*;

#[test]
fn a_yes_opens_the_socket_and_its_greeting_is_heard_first() {
    let mut world = World::new();
    world.connect(1);
    let got = world.serve(
        "HTTP/1.1 200 OK\r\nWs-Protocol: chat.v1\r\nWs-Join: room\r\nWs-To: self, room\r\nWs-Set-Meta-User: 7\r\nContent-Length: 5\r\nDate: x\r\nSet-Cookie: a=1\r\nContent-Type: text/plain\r\nConnection: keep-alive, X-Hop\r\nX-Hop: y\r\nSec-WebSocket-Accept: z\r\nWebSocket-Location: ws://a/\r\nHTTP2-Settings: z\r\n\r\nhello",
    );
    assert_eq!(got.header("Ws-Protocols"), Some("chat.v2, chat.v1"));
    assert_eq!(
        got.header("Idempotency-Key"),
        Some(&*format!("{}/handshake", id(1)))
    );
    let LateDecision::Accept(accept) = world.decision() else {
        panic!("not accepted")
    };
    assert_eq!(accept.protocol.as_deref(), Some("chat.v1"));
    let names: Vec<_> = accept.headers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Date", "Set-Cookie"]);
    world.settle();
    assert!(world.said.is_empty() && world.heard.is_empty());
    world.with_socket(1, |handler, socket| handler.on_open(socket));
    assert_eq!(world.heard, ["hello"]);
    assert!(matches!(world.said(), Action::SetMeta(..)));
    assert!(matches!(world.said(), Action::Join(..)));
    assert!(matches!(world.said(), Action::Broadcast(_, Some(_), _)));
    world.say(1, "x");
    let message = world.serve(&plain(200));
    assert_eq!(message.header("Ws-Protocol"), Some("chat.v1"));
    assert_eq!(message.header("Ws-Meta-user"), Some("7"));
}

#[test]
fn a_no_reaches_the_client_as_it_is_and_nothing_more_is_owed() {
    for status in [302, 401, 403, 404, 429, 500, 503] {
        let mut world = World::new();
        world.connect(1);
        world.serve(&format!(
            "HTTP/1.1 {status} X\r\nWWW-Authenticate: Basic\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nKeep-Alive: x\r\nWs-Join: x\r\n\r\nno"
        ));
        let LateDecision::Reject(rejection) = world.decision() else {
            panic!("not rejected")
        };
        assert_eq!(
            (rejection.status, &rejection.body[..]),
            (status, &b"no"[..])
        );
        let names: Vec<_> = rejection.headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["WWW-Authenticate", "Content-Type"]);
        world.is_over();
        assert!(world.said.is_empty());
    }
}

#[track_caller]
fn rejected(answer: &str, expected: u16, closed: bool) {
    let mut world = World::new();
    world.connect(1);
    world.serve(answer);
    match world.decision() {
        LateDecision::Reject(rejection) => assert_eq!(rejection.status, expected, "{answer}"),
        other => panic!("{answer}: {other:?}"),
    }
    // That the handshake is lost is no news.
    world.handler.on_lost(id(1), &END);
    if closed {
        let got = world.serve(&plain(200));
        assert_eq!(got.event(), "closed", "{answer}");
        assert_eq!(got.header("Ws-Close-Code"), Some("1006"));
        assert_eq!(got.header("Ws-Closed-By"), Some("worker"));
    }
    world.is_over();
}

#[test]
fn nonsense_becomes_a_5xx_and_a_yes_that_is_not_followed_is_taken_back() {
    rejected(&plain(101), 502, false);
    rejected(&plain(103), 502, false);
    rejected(&plain(666), 502, false);
    rejected("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, true);
    rejected(
        "HTTP/1.1 200 OK\r\nWs-Protocol: other\r\nContent-Length: 0\r\n\r\n",
        500,
        true,
    );
}

#[track_caller]
fn is_unavailable(world: &mut World) {
    match world.decision() {
        LateDecision::Unavailable(seconds) => assert!((1..=5).contains(&seconds)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_app_costs_503_at_the_deadline_and_hears_that_the_socket_is_gone() {
    let mut world = World::new();
    world.connect(1);
    let got = world.request();
    world.advance(9_999);
    world.settle();
    assert!(world.said.is_empty());
    world.advance(1);
    is_unavailable(&mut world);
    assert!(world.app.got.iter().all(|got| got.event() != "handshake"));
    let closed = world.serve(&plain(200));
    assert_eq!(closed.event(), "closed");
    assert_ne!(closed.connection, got.connection);
    world.is_over();
}

#[test]
fn a_handshake_is_not_repeated_once_it_was_sent() {
    let mut world = World::new();
    world.connect(1);
    let got = world.request();
    world.app.close(got.connection);
    is_unavailable(&mut world);
    assert_eq!(world.serve(&plain(200)).event(), "closed");
    world.is_over();
}

#[test]
fn an_app_that_is_down_for_a_moment_is_waited_for_and_one_that_stays_down_is_not() {
    let mut world = World::new();
    world.app.stop();
    world.connect(1);
    world.settle();
    world.app.start();
    let got = world.request_later();
    assert_eq!(got.event(), "handshake");
    world.app.write(got.connection, plain(403).as_bytes());
    assert!(matches!(world.decision(), LateDecision::Reject(_)));
    world.app.stop();
    world.connect(2);
    world.settle();
    world.advance(999);
    world.settle();
    assert!(world.said.is_empty());
    world.advance(1);
    is_unavailable(&mut world);
    world.app.start();
    world.is_over(); // No byte was sent: nothing is owed.
}

#[test]
fn a_client_that_leaves_is_reported_if_the_app_had_said_yes() {
    // Before anything was sent: no trace.
    let mut world = World::new();
    world.connect(1);
    world.handler.on_lost(id(1), &END);
    world.is_over();
    // While the app thinks: its answer decides.
    for (answer, is_told) in [(200, true), (403, false)] {
        world.connect(2);
        let got = world.request();
        world.handler.on_lost(id(2), &END);
        world.settle();
        world.app.write(got.connection, plain(answer).as_bytes());
        if is_told {
            let closed = world.serve(&plain(200));
            assert_eq!(closed.event(), "closed");
            assert_eq!(closed.header("Ws-Closed-By"), Some("client"));
        }
        world.is_over();
        assert!(world.said.is_empty());
    }
    // After the yes, before it was open.
    world.connect(3);
    world.serve(&plain(200));
    assert!(matches!(world.decision(), LateDecision::Accept(_)));
    world.handler.on_lost(id(3), &END);
    assert_eq!(world.serve(&plain(200)).event(), "closed");
    world.is_over();
}

#[test]
fn a_slot_that_is_used_again_is_not_mistaken_for_its_last_user() {
    let mut world = World::new();
    world.connect(1);
    let got = world.request();
    world.handler.on_lost(id(1), &END);
    let other = SocketId {
        key: [8; 16],
        ..id(1)
    };
    let facts = Facts {
        id: other,
        ..facts()
    };
    world.handler.connect(&facts);
    let second = world.request();
    world.app.write(got.connection, plain(200).as_bytes());
    assert_eq!(world.serve(&plain(200)).event(), "closed");
    world.app.write(second.connection, plain(200).as_bytes());
    match world.said() {
        Action::Decide(id, decision) => {
            assert_eq!(id, other);
            assert!(matches!(*decision, LateDecision::Accept(_)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_that_climbs_is_refused_without_asking() {
    let mut world = World::with(|hooks| hooks.url.path = "/ws/{path}".into());
    let facts = Facts {
        path: "/chat/../admin",
        ..facts()
    };
    match world.handler.connect(&facts) {
        Decision::Refuse(rejection) => assert_eq!(rejection.status, 400),
        other => panic!("{other:?}"),
    }
    world.is_over();
}
