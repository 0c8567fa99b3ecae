//! What is given up when memory is short, and that nothing else is.

use super::*;

/// Has whoever has most queued give way; returns how many bytes that was.
fn give_way(world: &mut World) -> usize {
    let (bytes, key) = world.pool.borrow().longest_queue().unwrap();
    let mut turn = Turn {
        now: world.now,
        registry: world.poll.registry(),
        router: &mut world.router,
        scratch: &mut world.scratch,
    };
    world.pool.borrow_mut().give_way(&mut turn, key);
    bytes
}

/// The first socket is closed, and its app hears how many messages it did not get.
#[track_caller]
fn is_told(world: &mut World, undelivered: &str) {
    let id = world.id(1);
    assert!(
        matches!(world.said(), Action::Close(who, CloseCode::TRY_AGAIN_LATER, ..) if who == id)
    );
    world.leave(1);
    let closed = world.request_later();
    assert_eq!(closed.event(), "closed");
    assert_eq!(closed.header("Ws-Undelivered"), Some(undelivered));
}

#[test]
fn the_longest_queue_gives_way_but_for_the_message_on_its_way() {
    let mut world = World::new();
    for slot in [1, 2] {
        world.open(slot);
        world.say(slot, "on its way");
        assert_eq!(world.request().text(), "on its way");
    }
    for text in ["two", "three"] {
        world.say(1, text);
    }
    world.say(2, "four");
    assert_eq!(give_way(&mut world), 8);
    world.app.write(0, plain(200).as_bytes());
    is_told(&mut world, "2");
}

#[test]
fn messages_that_wait_for_another_attempt_are_given_up() {
    let mut world = World::new();
    world.open(1);
    world.app.stop();
    for text in ["a", "b", "c"] {
        world.say(1, text);
    }
    world.settle();
    assert_eq!(give_way(&mut world), 3);
    world.app.start();
    is_told(&mut world, "3");
}

#[test]
fn while_memory_is_half_used_a_socket_queues_one_message_and_waits() {
    let mut world = World::new();
    world.open(1);
    let others = world.process.config.bounds.memory / 2;
    world.process.counters.memory.add(others);
    world.say(1, "one");
    assert!(world.paused);
    let got = world.request();
    assert!(world.said.is_empty() && world.paused);
    world.app.write(got.connection, plain(200).as_bytes());
    assert!(matches!(world.said(), Action::Resume(_)));
    world.say(1, "two");
    assert!(world.paused);
    world.process.counters.memory.subtract(others);
    world.serve(&plain(200));
    assert!(matches!(world.said(), Action::Resume(_)));
    for text in ["three", "four"] {
        world.say(1, text);
        assert!(!world.paused);
    }
}

#[test]
fn who_gave_way_in_line_hides_nobody_behind() {
    let mut world = World::with(|hooks| {
        hooks.concurrency = 1;
        hooks.hook_timeout = Duration::from_secs(30);
        hooks.give_up = Duration::from_secs(3);
    });
    for slot in [1, 2, 3, 4] {
        world.open(slot);
    }
    world.say(1, "has the permit");
    assert_eq!(world.request().text(), "has the permit");
    world.say(2, "first in line");
    world.settle();
    world.say(3, "the longest of all, which gives way");
    world.settle();
    world.advance(100);
    world.say(4, "behind it");
    world.settle();
    assert_eq!(give_way(&mut world), 35);
    world.leave(3); // Its closed waits for the permit as well, in another line.
    assert_eq!(world.closed_with(), 1013);
    world.advance(2950);
    assert_eq!(world.closed_with(), 1013); // The first.
    world.settle();
    let latest = world.now + Duration::from_millis(50);
    let next = world.pool.borrow().poll_timeout();
    assert!(next.is_some_and(|at| at <= latest), "{next:?}");
    world.advance(51);
    let last = world.id(4);
    assert!(
        matches!(world.said(), Action::Close(who, CloseCode::TRY_AGAIN_LATER, ..) if who == last)
    );
}
