//! Connections and permits: how many, which, and what happens when they die.

use super::*;

#[test]
fn no_more_hooks_are_in_flight_than_there_are_permits() {
    let mut world = World::with(|hooks| hooks.concurrency = 2);
    for slot in 1..=4 {
        world.open(slot);
    }
    for slot in 1..=4 {
        world.say(slot, &slot.to_string());
    }
    let first = world.request();
    let second = world.request();
    world.settle();
    assert!(world.app.got.is_empty());
    assert_ne!(first.connection, second.connection);
    let mut texts = vec![first.text().to_owned(), second.text().to_owned()];
    for got in [first, second] {
        world.app.write(got.connection, plain(200).as_bytes());
    }
    for _ in 0..2 {
        texts.push(world.serve(&plain(200)).text().to_owned());
    }
    texts.sort(); // Between sockets nothing is promised.
    assert_eq!(texts, ["1", "2", "3", "4"]);
    assert_eq!(world.app.connections.len(), 2);
}

#[test]
fn a_thread_that_waits_for_a_permit_is_woken_by_mail() {
    let app = App::new();
    let mut hooks = hooks();
    hooks.url.address = AppAddress::Tcp(vec![app.address]);
    hooks.concurrency = 1;
    let route = route(hooks);
    let process = process(&route, 2);
    let permits = Permits::of(&process.config);
    let mut worlds = World::threads(&process, &permits, app, 2);
    let mut other = worlds.pop().unwrap();
    let mut world = worlds.pop().unwrap();
    world.connect(1);
    let got = world.request();
    other.connect(1);
    other.settle();
    world.connect(2);
    world.settle();
    assert!(world.app.got.is_empty());
    world.app.write(got.connection, plain(403).as_bytes());
    assert!(matches!(world.decision(), LateDecision::Reject(_)));
    // It is the other's turn, though this one waits as well.
    let got = world.until("request", |world| {
        other.turn();
        world.app.got.pop_front()
    });
    assert_eq!(got.header("Ws-Socket"), Some(&*other.id(1).to_string()));
    world.app.write(got.connection, plain(403).as_bytes());
    assert!(matches!(other.decision(), LateDecision::Reject(_)));
    assert_eq!(
        world.request().header("Ws-Socket"),
        Some(&*id(2).to_string())
    );
    world.is_over_soon();
}

impl World {
    /// Answers whatever comes until nothing is owed.
    fn is_over_soon(&mut self) {
        let mut pending: Vec<usize> = (0..self.app.connections.len()).collect();
        while let Some(connection) = pending.pop() {
            self.app.close(connection);
        }
        self.until("end", |world| {
            world.advance(50);
            if let Some(got) = world.app.got.pop_front() {
                world.app.write(got.connection, plain(200).as_bytes());
            }
            world.pool.borrow().is_idle().then_some(())
        });
    }
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced_at_once() {
    let mut world = World::new();
    world.open(1);
    world.say(1, "a");
    let got = world.request();
    world.app.write(got.connection, plain(200).as_bytes());
    world.until("answer", |world| {
        (world.attempts(HookResult::Taken) == 2).then_some(())
    });
    // Closed under the request: the app read it and went away.
    world.say(1, "b");
    let got = world.request();
    world.app.close(got.connection);
    let again = world.request();
    assert_eq!((again.text(), again.header("Ws-Attempt")), ("b", Some("2")));
    assert_ne!(again.connection, got.connection);
    world.app.write(again.connection, plain(200).as_bytes());
    assert_eq!(world.attempts(HookResult::Connection), 1);
    // Closed while idle: noticed, and not used.
    world.settle();
    world.app.close(again.connection);
    world.settle();
    world.say(1, "c");
    let got = world.serve(&plain(200));
    assert_eq!((got.text(), got.header("Ws-Attempt")), ("c", None));
}

#[test]
fn a_handshake_does_not_trust_a_dead_connection() {
    let mut world = World::new();
    world.open(1);
    world.app.close(0); // Not noticed yet.
    world.connect(2);
    let mut pool = world.pool.borrow_mut();
    let mut turn = Turn {
        now: world.now,
        registry: world.poll.registry(),
        router: &mut world.router,
        scratch: &mut world.scratch,
    };
    pool.flush(&mut turn);
    drop(pool);
    assert_eq!(world.serve(&plain(200)).event(), "handshake");
    assert!(matches!(world.decision(), LateDecision::Accept(_)));
}

#[test]
fn the_warmest_connection_is_used_and_idle_ones_are_given_up() {
    let mut world = World::with(|hooks| hooks.concurrency = 4);
    for slot in 1..=3 {
        world.open(slot);
    }
    for slot in 1..=3 {
        world.say(slot, "x");
    }
    let got: Vec<Got> = (0..3).map(|_| world.request()).collect();
    for got in &got {
        world.app.write(got.connection, plain(200).as_bytes());
        world.settle();
    }
    // Two threads share four permits: two idle connections each.
    assert_eq!(world.app.open_connections(), 2);
    for _ in 0..3 {
        world.say(1, "y");
        let warm = world.serve(&plain(200));
        assert_eq!(warm.connection, got[2].connection);
    }
    world.settle();
    world.advance(60_000);
    world.settle();
    assert_eq!(world.app.open_connections(), 0);
    world.say(1, "z");
    assert_eq!(world.serve(&plain(200)).text(), "z");
}

#[test]
fn a_few_connections_are_made_at_a_time() {
    let mut world = World::with(|hooks| hooks.concurrency = 32);
    for slot in 1..=14 {
        world.open(slot);
    }
    for slot in 1..=14 {
        world.say(slot, "x");
    }
    world.settle();
    assert_eq!(world.app.open_connections(), 1 + 4); // One was warm.
    // What the app answers, it has accepted; its connection serves the next as well.
    for _ in 0..2 {
        let got = world.request();
        world.app.write(got.connection, plain(200).as_bytes());
    }
    world.settle();
    assert!((6..=7).contains(&world.app.open_connections()));
    // What it does not answer, it will have accepted after a while.
    let before = world.app.open_connections();
    let at = world.pool.borrow().poll_timeout().unwrap();
    assert!(world.now < at && at <= world.now + Duration::from_millis(10));
    world.advance(10);
    world.settle();
    assert_eq!(world.app.open_connections(), before + 4);
    for _ in 0..12 {
        world.serve(&plain(200));
        world.advance(10);
    }
    for slot in 1..=14 {
        world.leave(slot);
    }
    for _ in 1..=14 {
        world.serve(&plain(200));
    }
    world.is_over();
}

#[test]
fn a_connection_that_speaks_out_of_turn_is_dropped() {
    let mut world = World::new();
    world.open(1);
    world.app.write(0, &plain(200).into_bytes());
    world.settle();
    assert_eq!(world.app.open_connections(), 0);
    world.say(1, "a");
    world.serve(&format!("{}{}", plain(200), plain(403)));
    world.settle();
    assert_eq!(world.app.open_connections(), 0);
    world.say(1, "b");
    assert_eq!(world.serve(&plain(200)).text(), "b");
    assert!(world.said.is_empty());
}

#[test]
fn another_address_is_tried() {
    let dead = App::new().address; // Its listener is gone.
    let mut world = World::with(|hooks| {
        let AppAddress::Tcp(addresses) = &mut hooks.url.address else {
            unreachable!()
        };
        addresses.insert(0, dead);
    });
    world.open(1);
    assert_eq!(world.attempts(HookResult::Connection), 0);
}

#[test]
fn a_unix_socket_is_as_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let mut world = World::with(|hooks| hooks.url.address = AppAddress::Unix(path.clone()));
    world.connect(1);
    world.settle();
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let app = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        stream.write_all(plain(200).as_bytes()).unwrap();
        bytes
    });
    let decision = world.until("decision", |world| {
        world.advance(20);
        world.said.pop_front()
    });
    assert!(
        matches!(decision, Action::Decide(_, decision) if matches!(*decision, LateDecision::Accept(_)))
    );
    assert!(
        app.join()
            .unwrap()
            .starts_with(b"POST /ws?x=1 HTTP/1.1\r\n")
    );
}

#[test]
fn a_start_is_told_once_and_until_it_is_heard() {
    let mut world = World::with(|hooks| hooks.started = true);
    assert!(world.pool.borrow().is_idle());
    world.serve(&plain(503));
    world.app.stop();
    for _ in 0..100 {
        world.turn();
        world.advance(10_000);
    }
    world.app.start();
    let got = world.request_later();
    assert_eq!(got.event(), "started");
    assert_eq!(got.header("Idempotency-Key"), Some("BOOT/started"));
    assert_eq!(got.header("Ws-Socket"), None);
    world.app.write(got.connection, plain(200).as_bytes());
    world.is_over();
    assert_eq!(world.pool.borrow().starts, 0);
}

#[test]
fn a_message_that_never_gets_a_permit_is_given_up() {
    let mut world = World::with(|hooks| {
        hooks.concurrency = 1;
        hooks.hook_timeout = Duration::from_secs(3600);
    });
    world.open(1);
    world.open(2);
    world.say(1, "a");
    world.request();
    world.say(2, "b");
    world.settle();
    let at = world.pool.borrow().poll_timeout().unwrap();
    assert!(at <= world.now + Duration::from_secs(60));
    world.advance(60_000);
    assert_eq!(world.closed_with(), 1013);
    assert_eq!(world.process.counters.undelivered.get(), 1);
}

#[test]
fn who_gives_up_sooner_is_not_held_up_by_who_stands_in_front() {
    let mut world = World::with(|hooks| {
        hooks.concurrency = 1;
        hooks.hook_timeout = Duration::from_secs(3600);
    });
    world.open(1);
    world.open(2);
    // Another route of the same app.
    let Target::Hooks(patient) = &world.process.config.routes[0].target else {
        unreachable!()
    };
    let mut hooks = Hooks::clone(patient);
    hooks.give_up = Duration::from_secs(3);
    let target = Target::Hooks(Arc::new(hooks.clone()));
    let own = Route::new(RouteId(4), "/news", target);
    world.handler = HookHandler::new(&world.pool, &own, &Arc::new(hooks));
    world.open(3);
    world.say(1, "takes the only permit");
    world.request();
    world.say(2, "waits for a minute");
    world.settle();
    world.say(3, "does not");
    world.settle();
    world.advance(2900);
    world.settle();
    assert!(world.said.is_empty(), "{:?}", world.said);
    let at = world.pool.borrow().poll_timeout().unwrap();
    assert!(at <= world.now + Duration::from_millis(1100), "{at:?}");
    world.advance(1100);
    let id = world.id(3);
    let said = world.said();
    assert!(
        matches!(said, Action::Close(one, code, ..) if one == id && code.get() == 1013),
        "{said:?}"
    );
    world.settle();
    assert!(world.said.is_empty(), "{:?}", world.said);
}

#[test]
fn what_is_owed_when_the_time_is_up_is_counted() {
    let mut world = World::new();
    for slot in 1..=3 {
        world.open(slot);
    }
    world.say(1, "a");
    world.say(1, "b");
    world.request();
    world.leave(2);
    assert_eq!(world.request().event(), "closed");
    world.connect(4);
    world.request();
    world.connect(5);
    assert!(world.process.counters.memory.get() > 0);
    world.pool.borrow_mut().stop(world.now);
    let counters = &world.process.counters;
    assert_eq!(counters.closed_lost.get(), 4); // 5 was never heard of.
    assert_eq!(counters.undelivered.get(), 2);
    assert_eq!(counters.memory.get(), 0);
    assert!(world.pool.borrow().is_idle());
    world.settle();
    assert_eq!(world.app.open_connections(), 0);
}

#[test]
fn memory_returns_when_everybody_is_gone() {
    let mut world = World::new();
    for slot in 1..=8 {
        world.open(slot);
    }
    for slot in 1..=8 {
        world.say(slot, &"x".repeat(100_000));
    }
    world.settle();
    assert!(world.process.counters.memory.get() > 800_000);
    for slot in 1..=8 {
        world.leave(slot);
    }
    for _ in 0..16 {
        world.serve(&plain(200));
    }
    world.is_over();
    assert!(world.process.counters.memory.get() < 16 * 1024);
}
