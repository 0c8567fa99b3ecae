//! An app that fails ten times in a row is spared new handshakes, one at a time excepted, until it answers.

use super::*;

/// Has ten handshakes answered by this; the breaker is open then.
#[track_caller]
fn fails(world: &mut World, answer: &str) {
    for slot in 100..110 {
        world.connect(slot);
        assert_eq!(world.serve(answer).event(), "handshake");
        assert!(matches!(world.decision(), LateDecision::Reject(_)));
    }
}

#[track_caller]
fn is_refused_at_once(world: &mut World, slot: u32) {
    world.connect(slot);
    assert!(matches!(world.decision(), LateDecision::Unavailable(1..=5)));
    world.settle();
    assert!(world.app.got.is_empty(), "{:?}", world.app.got);
}

#[test]
fn ten_failures_in_a_row_refuse_new_handshakes_without_asking_the_app() {
    let mut world = World::new();
    assert!(!world.process.breakers[0].is_open());
    fails(&mut world, &plain(500));
    assert!(world.process.breakers[0].is_open());
    for slot in 1..20 {
        is_refused_at_once(&mut world, slot);
    }
    let sums = world.process.counters.of_app(0);
    assert_eq!((sums.outages, sums.spared), (1, 19));
    let text = crate::metrics::render(&world.process);
    let told = |name: &str, value: &str| {
        let name = format!("ws_worker_hook_breaker_{name}_total{{");
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(&name) && line.ends_with(value))
    };
    assert!(told("opened", " 1") && told("refused", " 19"), "{text}");
}

#[test]
fn refusals_redirections_and_wishes_to_be_asked_again_are_answers() {
    for status in [301, 403, 404, 408, 425, 429] {
        let mut world = World::new();
        fails(&mut world, &plain(status));
        world.open(1);
        assert_eq!(world.process.breakers[0].failures(), 0);
    }
    let mut world = World::new();
    for slot in 1..20 {
        world.connect(slot);
        world.serve(&plain(if slot % 10 == 0 { 404 } else { 503 }));
        world.decision();
    }
    assert_eq!(world.process.counters.of_app(0).spared, 0);
}

#[test]
fn one_probe_at_a_time_asks_whether_the_app_is_back() {
    let mut world = World::new();
    fails(&mut world, &plain(503));
    world.advance(1000);
    world.connect(1);
    let probe = world.request();
    is_refused_at_once(&mut world, 2);
    world.app.write(probe.connection, plain(502).as_bytes());
    assert!(matches!(world.decision(), LateDecision::Reject(_)));
    world.advance(1999);
    is_refused_at_once(&mut world, 3);
    world.advance(1);
    world.open(4);
    assert!(!world.process.breakers[0].is_open());
    world.open(5);
}

#[test]
fn a_probe_that_leaves_makes_room_for_the_next() {
    let mut world = World::with(|hooks| hooks.concurrency = 1);
    world.open(1);
    fails(&mut world, &plain(503));
    world.say(1, "takes the only permit");
    let message = world.request();
    world.advance(1000);
    world.connect(2);
    world.settle();
    let gone = world.id(2);
    world.handler.on_lost(gone, &END); // While it waits for a permit.
    world.connect(3);
    world.settle();
    assert!(world.said.is_empty(), "{:?}", world.said);
    world.app.write(message.connection, plain(503).as_bytes());
    assert_eq!(
        world.serve(&plain(200)).header("Ws-Socket"),
        Some(&*world.id(3).to_string())
    );
    assert!(matches!(world.decision(), LateDecision::Accept(_)));
}

#[test]
fn a_probe_that_cannot_connect_does_not_keep_its_client_waiting() {
    let mut world = World::new();
    world.app.stop();
    for slot in 101..=110 {
        world.connect(slot);
    }
    world.until("breaker", |world| {
        world.process.breakers[0].is_open().then_some(())
    });
    // Whoever was there before has the second that an app may take to restart.
    assert!(world.said.is_empty());
    world.advance(1000);
    for _ in 0..10 {
        assert!(matches!(world.decision(), LateDecision::Unavailable(_)));
    }
    let failed = world.attempts(HookResult::Connection);
    world.connect(1);
    assert!(matches!(world.decision(), LateDecision::Unavailable(_)));
    assert_eq!(world.attempts(HookResult::Connection), failed + 1);
    assert_eq!(world.process.counters.of_app(0).spared, 0);
}

#[test]
fn what_open_sockets_say_keeps_its_own_pace_and_closes_the_breaker() {
    let mut world = World::new();
    world.open(1);
    world.open(2);
    fails(&mut world, &plain(500));
    world.say(1, "a");
    world.serve(&plain(500));
    world.leave(2);
    assert_eq!(world.serve(&plain(500)).event(), "closed");
    world.connect(3);
    assert!(matches!(world.decision(), LateDecision::Unavailable(_)));
    let again = world.request_later();
    world.app.write(again.connection, plain(404).as_bytes()); // A refusal is an answer.
    world.until("answer", |world| {
        (!world.process.breakers[0].is_open()).then_some(())
    });
}

#[test]
fn what_fails_on_one_thread_is_spared_on_all() {
    let app = App::new();
    let mut hooks = hooks();
    hooks.url.address = AppAddress::Tcp(vec![app.address]);
    let route = route(hooks);
    let process = process(&route, 2);
    let permits = Permits::of(&process.config);
    let mut worlds = World::threads(&process, &permits, app, 2);
    fails(&mut worlds[0], &plain(500));
    is_refused_at_once(&mut worlds[1], 1);
}
