//! Requests → commands, outcomes → answers, without a socket.

use super::*;
use crate::control::tests::{id, info, process};
use std::sync::atomic::Ordering;

fn head(method: &str, target: &str) -> Head {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    super::super::http::parse(text.as_bytes()).unwrap()
}

/// The commands that a request leads to, in words, or the status of its refusal.
fn asks(method: &str, target: &str) -> Result<Vec<String>, u16> {
    let process = process(None);
    let call = call(&head(method, target), &process.config).map_err(|answer| answer.status)?;
    let asked = call.ask(false, b"hi".to_vec(), &process);
    let (_, actions) = asked.map_err(|answer| answer.status)?;
    Ok(actions
        .iter()
        .map(|action| {
            let said = |message: &Broadcast| assert_eq!(message.message(), &Message::text("hi"));
            if let Action::Send(ids, message) = action {
                said(message);
                format!("send {ids:?}")
            } else if let Action::Broadcast(scope, except, message) = action {
                said(message);
                format!("broadcast {scope:?} {except:?}")
            } else {
                format!("{action:?}")
            }
        })
        .collect())
}

fn check(method: &str, target: &str, expected: &[&str]) {
    let expected = expected.iter().map(ToString::to_string).collect();
    assert_eq!(asks(method, target), Ok(expected), "{method} {target}");
}

fn refused(method: &str, target: &str, status: u16) {
    assert_eq!(asks(method, target), Err(status), "{method} {target}");
}

#[test]
fn every_call_has_its_command() {
    let (a, b, far) = (id(0, 1), id(0, 2), id(1, 1));
    check("POST", &format!("/sockets/{a}"), &[&format!("send [{a}]")]);
    check(
        "POST",
        &format!("/sockets?id={a}&id={far}&id={b}&id={a}"),
        &[&format!("send [{a}, {b}]"), &format!("send [{far}]")],
    );
    check("POST", "/broadcast", &["broadcast All None"]);
    check(
        "POST",
        &format!("/broadcast?route=%2Fchat&except={a}"),
        &[&format!("broadcast Route(RouteId(1)) Some({a})")],
    );
    check("POST", "/broadcast?except=", &["broadcast All None"]);
    check(
        "POST",
        &format!("/groups/room%2F1?except={a}"),
        &[&format!("broadcast Group(\"room/1\") Some({a})")],
    );
    check(
        "PUT",
        &format!("/groups/g/sockets/{a}"),
        &[&format!("Join({a}, \"g\")")],
    );
    check(
        "DELETE",
        &format!("/groups/g/sockets/{a}"),
        &[&format!("Leave({a}, \"g\")")],
    );
    check(
        "DELETE",
        &format!("/sockets/{a}"),
        &[&format!("Close({a}, CloseCode(1000), \"\", App)")],
    );
    check(
        "DELETE",
        &format!("/sockets/{a}?code=4000&reason=see+you%21"),
        &[&format!("Close({a}, CloseCode(4000), \"see you!\", App)")],
    );
    check("GET", &format!("/sockets/{a}"), &[&format!("Inspect({a})")]);
    check(
        "GET",
        &format!("/sockets?route=/&group=g&after={a}&limit=7"),
        &[&format!(
            "List(ListQuery {{ route: Some(RouteId(0)), group: Some(\"g\"), after: Some({a}), limit: 8 }})"
        )],
    );
    for (target, limit) in [("/sockets", 101), ("/sockets?limit=99999", 1001)] {
        let query =
            format!("List(ListQuery {{ route: None, group: None, after: None, limit: {limit} }})");
        check("HEAD", target, &[&query]);
    }
}

#[test]
fn the_calls_of_2010_name_their_scope_in_headers() {
    let asked = |target: &str, headers: &str| {
        let text =
            format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{headers}\r\n");
        let head = super::super::http::parse(text.as_bytes()).unwrap();
        let mut config = Config::default();
        for (place, name) in [
            (0, Some("www.example.org")),
            (1, None),
            (2, Some("b.example")),
            (3, Some("www.example.org")),
        ] {
            let url = crate::config::AppUrl {
                scheme: crate::config::Scheme::Http,
                address: crate::config::AppAddress::Tcp(Vec::new()),
                host: String::new(),
                path: String::new(),
            };
            let mut hooks = crate::config::Hooks::new(0, url);
            hooks.server_name = name.map(str::to_owned);
            let target = Target::Hooks(Arc::new(hooks));
            let route = Route::new(RouteId(place), "/", target);
            config.routes.push(Arc::new(route));
        }
        match call(&head, &config) {
            Ok(Call::Send { ids, one, .. }) => Ok(format!("send {ids:?} {one:?}")),
            Ok(Call::Broadcast(scope, except)) => Ok(format!("{scope:?} {except:?}")),
            Ok(call) => Ok(format!("{call:?}")),
            Err(answer) => Err(answer.status),
        }
    };
    let a = id(0, 1);
    let to = |id: &str| asked("/message", &format!("X-TyphoonAE-WebSocket: {id}\r\n"));
    assert_eq!(to(&a.to_string()), Ok(format!("send [{a}] Some(200)")));
    assert_eq!(
        (to("17"), to(""), to("a b")),
        (Err(404), Err(400), Err(400))
    );
    assert_eq!(asked("/message", ""), Err(400));
    let all = |name: &str| asked("/broadcast", &format!("X-TyphoonAE-ServerName: {name}\r\n"));
    assert_eq!(all("b.example"), Ok("Route(RouteId(2)) None".to_owned()));
    assert_eq!(
        all("WWW.example.org:8888"),
        Ok("Union([Route(RouteId(0)), Route(RouteId(3))]) None".to_owned())
    );
    assert_eq!(
        (all("c.example"), all(""), all(":80")),
        (Err(404), Err(400), Err(400))
    );
    let both = "X-TyphoonAE-ServerName: b.example\r\n";
    assert_eq!(asked("/broadcast?route=/", both), Err(400));
}

#[test]
fn what_is_no_call_is_refused() {
    let a = id(0, 1);
    for (method, target, status) in [
        ("GET", "//", 404),
        ("GET", "/nothing", 404),
        ("GET", "/healthz/", 404),
        ("POST", "//sockets", 404),
        ("GET", "/sockets/", 400),
        ("GET", "/sockets/x", 404), // somebody else's, for all we know
        ("GET", "/sockets/x%20y", 400),
        ("POST", "/sockets/..%2f..%2fhealthz", 400),
        ("POST", "/sockets", 400), // nobody
        ("POST", "/sockets?id=", 400),
        ("POST", "/sockets?id=%20", 400),
        ("POST", "/broadcast?route=", 404), // an empty variable is not everybody
        ("POST", "/broadcast?route=/nothing", 404),
        ("POST", "/broadcast?route=/chat&route=/", 400),
        ("POST", "/broadcast?except=x", 400),
        ("POST", "/broadcast?exept=", 400), // a slip is told
        ("POST", "/groups/", 400),
        ("POST", "/groups/self", 400),
        ("POST", "/groups/all", 400),
        ("POST", "/groups/a,b", 400),
        ("POST", "/groups/a%20", 400),
        ("POST", "/groups/a%00", 400),
        ("POST", "/groups/%zz", 400),
        ("GET", "/sockets?limit=0", 400),
        ("GET", "/sockets?limit=+1", 400),
        ("GET", "/sockets?limit=x", 400),
        ("GET", "/sockets?after=x", 400),
        ("GET", "/sockets?group=", 400),
        ("GET", "/sockets?route=/nothing", 404),
    ] {
        refused(method, target, status);
    }
    refused("POST", &format!("/groups/{}", "x".repeat(129)), 400);
    assert!(asks("POST", &format!("/groups/{}", "x".repeat(128))).is_ok());
    for query in [
        "code=1005",
        "code=999",
        "code=x",
        "code=%2B1000",
        "code=",
        "reason=%0a",
    ] {
        refused("DELETE", &format!("/sockets/{a}?{query}"), 400);
    }
    let reason = |length: usize| format!("/sockets/{a}?reason={}", "x".repeat(length));
    refused("DELETE", &reason(124), 400);
    assert!(asks("DELETE", &reason(123)).is_ok());
}

#[test]
fn another_method_is_told_which_ones_there_are() {
    let a = id(0, 1);
    for (method, target, allow) in [
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("PUT", "/sockets", "GET, HEAD, POST"),
        ("PATCH", &format!("/sockets/{a}"), "GET, HEAD, POST, DELETE"),
        ("GET", "/broadcast", "POST"),
        ("GET", "/groups/g", "POST"),
        ("POST", &format!("/groups/g/sockets/{a}"), "PUT, DELETE"),
    ] {
        let answer = call(&head(method, target), &process(None).config).unwrap_err();
        assert_eq!(
            (answer.status, answer.header),
            (405, Some(("Allow", allow)))
        );
    }
}

#[test]
fn a_message_has_a_length_and_a_kind() {
    let process = process(None);
    let limit = |text: &str| {
        let head = super::super::http::parse(text.as_bytes()).unwrap();
        let call = call(&head, &process.config).unwrap();
        call.body_limit(&head, &process.config)
            .map_err(|answer| answer.status)
    };
    assert_eq!(
        limit("POST /broadcast HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(411)
    );
    let encoded =
        "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Encoding: br\r\n\r\n";
    assert_eq!(limit(encoded), Err(415));
    let plain = "POST /broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(limit(plain), Ok(process.config.bounds.max_control_body));
    assert_eq!(limit("GET /sockets HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(0));

    let ask = |binary, body: &[u8]| {
        let call = Call::Broadcast(Scope::All, None);
        match call.ask(binary, body.to_vec(), &process) {
            Ok((_, actions)) => match actions.as_slice() {
                [Action::Broadcast(_, _, message)] => Ok(message.message().is_binary()),
                other => panic!("{other:?}"),
            },
            Err(answer) => Err(answer.status),
        }
    };
    assert_eq!(ask(true, b"\xff"), Ok(true));
    assert_eq!(ask(false, b"\xff"), Err(400));
    assert_eq!(ask(false, b""), Ok(false));
}

fn answer(method: &str, target: &str, outcomes: Vec<Outcome>) -> (u16, String) {
    let process = process(None);
    let call = call(&head(method, target), &process.config).unwrap();
    let (mut question, _) = call.ask(false, Vec::new(), &process).unwrap();
    for outcome in outcomes {
        question.take(outcome);
    }
    let answer = question.answer(&process.config);
    (answer.status, answer.body.into_owned())
}

#[test]
fn one_send_is_answered_by_its_status() {
    let a = id(0, 1);
    for (sent, status) in [
        (Sent::Queued, 202),
        (Sent::Gone, 404),
        (Sent::Full, 429),
        (Sent::Unsupported, 409),
    ] {
        let outcomes = vec![Outcome::Sent(vec![(a, sent)])];
        assert_eq!(answer("POST", &format!("/sockets/{a}"), outcomes).0, status);
    }
    // A thread that does not exist.
    assert_eq!(answer("POST", &format!("/sockets/{a}"), vec![]).0, 404);
    let outcomes = vec![Outcome::Sent(vec![(a, Sent::Full)])];
    let (_, body) = answer("POST", &format!("/sockets/{a}"), outcomes);
    assert_eq!(body, r#"{"error":"full"}"#);
}

#[test]
fn many_sends_are_answered_in_the_order_asked() {
    let (a, b, c, far) = (id(0, 1), id(0, 2), id(0, 3), id(1, 1));
    let outcomes = vec![
        Outcome::Sent(vec![(far, Sent::Queued)]),
        Outcome::Sent(vec![(c, Sent::Full), (a, Sent::Queued)]),
    ];
    let target = format!("/sockets?id={far}&id={c}&id={b}&id={a}");
    let expected =
        format!(r#"{{"queued":["{far}","{a}"],"gone":["{b}"],"full":["{c}"],"unsupported":[]}}"#);
    assert_eq!(answer("POST", &target, outcomes), (200, expected));
}

#[test]
fn the_threads_counts_are_added_up() {
    let counted = |queued, full, unsupported| {
        Outcome::Counted(Counted {
            queued,
            full,
            unsupported,
        })
    };
    let outcomes = vec![counted(1, 2, 3), counted(10, 20, 30)];
    let expected = r#"{"queued":11,"full":22,"unsupported":33}"#.to_owned();
    assert_eq!(answer("POST", "/broadcast", outcomes), (200, expected));
}

#[test]
fn a_socket_is_found_or_not() {
    let a = id(0, 1);
    for (method, target, found, status) in [
        ("PUT", format!("/groups/g/sockets/{a}"), Found::Yes, 204),
        ("PUT", format!("/groups/g/sockets/{a}"), Found::No, 404),
        ("PUT", format!("/groups/g/sockets/{a}"), Found::Full, 409),
        ("DELETE", format!("/groups/g/sockets/{a}"), Found::Yes, 204),
        ("DELETE", format!("/sockets/{a}"), Found::Yes, 202),
        ("DELETE", format!("/sockets/{a}"), Found::No, 404),
    ] {
        let found = answer(method, &target, vec![Outcome::Found(found)]);
        assert_eq!(found.0, status, "{method} {target}");
    }
    assert_eq!(answer("GET", &format!("/sockets/{a}"), vec![]).0, 404);
}

#[test]
fn a_socket_is_told_of_in_full() {
    let a = id(0, 1);
    let mut info = info(a);
    info.groups = vec!["g".into(), "h".into()];
    info.meta = vec![("user".into(), "\"anna\"".into())];
    info.origin = Some("https://www.example.org".to_owned());
    let outcomes = vec![Outcome::Inspected(Some(Box::new(info)))];
    let expected = format!(
        r#"{{"id":"{a}","route":"/chat","version":"rfc6455","peer":"tcp:192.0.2.1:4711","origin":"https://www.example.org","resource":"/chat?x=y","protocol":null,"groups":["g","h"],"meta":{{"user":"\"anna\""}},"since":1700000000,"messages_in":1,"messages_out":2,"queue":3}}"#
    );
    assert_eq!(
        answer("GET", &format!("/sockets/{a}"), outcomes),
        (200, expected)
    );
}

#[test]
fn a_page_is_merged_sorted_and_cut() {
    let ids: Vec<SocketId> = (0..4).map(|slot| id(slot as u8 % 2, slot)).collect();
    let mut texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.sort();
    let page = |limit: usize| {
        let of = |thread| {
            let own = ids.iter().filter(|id| id.thread == thread);
            Outcome::Listed(own.map(|id| info(*id)).collect())
        };
        let (status, body) = answer(
            "GET",
            &format!("/sockets?limit={limit}"),
            vec![of(1), of(0)],
        );
        assert_eq!(status, 200);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let sockets = body["sockets"].as_array().unwrap();
        let shown = sockets
            .iter()
            .map(|socket| socket["id"].as_str().unwrap().to_owned());
        let next = body["next"].as_str().map(str::to_owned);
        (shown.collect::<Vec<_>>(), next)
    };
    assert_eq!(page(3), (texts[..3].to_vec(), Some(texts[2].clone())));
    assert_eq!(page(4), (texts.clone(), None));
    assert_eq!(
        answer("GET", "/sockets", vec![]).1,
        r#"{"sockets":[],"next":null}"#
    );
}

#[test]
fn a_page_has_a_bound_in_bytes() {
    let sockets = (0..200).map(|slot| {
        let mut info = info(id(0, slot));
        info.resource = "x".repeat(16 * 1024);
        info
    });
    let outcome = Outcome::Listed(sockets.collect());
    let (_, body) = answer("GET", "/sockets?limit=1000", vec![outcome]);
    assert!(body.len() < MAX_PAGE_BYTES + 20 * 1024);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sockets = body["sockets"].as_array().unwrap();
    assert!(!sockets.is_empty() && sockets.len() < 200);
    assert_eq!(body["next"], sockets[sockets.len() - 1]["id"]);
}

#[test]
fn readiness_is_told_apart_from_life() {
    let process = process(None);
    let status = |target: &str| {
        let call = call(&head("GET", target), &process.config).unwrap();
        call.ask(false, Vec::new(), &process).unwrap_err().status
    };
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
    process.starting.store(true, Ordering::Relaxed);
    assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    process.starting.store(false, Ordering::Relaxed);
    let budget = process.config.bounds.memory;
    process.counters.memory.add(budget / 4 * 3 + 1);
    assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    process.counters.memory.subtract(budget / 4 * 3 + 1);
    assert_eq!(status("/readyz"), 200);
    process.draining.store(true, Ordering::Relaxed);
    assert_eq!((status("/healthz"), status("/readyz")), (200, 503));
    assert!(is_public("/healthz") && is_public("/readyz?x") && !is_public("/healthz/x"));
}
