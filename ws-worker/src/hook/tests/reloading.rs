//! What is owed to apps of routes that are gone, and what a socket that goes over takes along.

use super::*;

impl World {
    /// Forgets what is owed to every route, as if it were gone for good.
    fn forget(&mut self) -> bool {
        self.pool.borrow_mut().forget_routes(|_| true)
    }
}

#[test]
fn a_start_that_is_owed_to_a_route_that_is_gone_does_not_hold_up_the_end() {
    let mut world = World::with(|hooks| hooks.started = true);
    world.app.stop();
    world.settle();
    assert!(!world.forget());
    let counters = &world.process.counters;
    assert_eq!(counters.closed_lost.get(), 0, "it is no closed");
    assert!(world.pool.borrow().is_idle());
    assert_eq!(world.pool.borrow().starts, 0);
}

#[test]
fn what_is_queued_goes_over_with_its_socket_and_is_counted_there() {
    let mut world = World::with(|hooks| hooks.concurrency = 1);
    world.open(1);
    for text in ["a", "b", "c"] {
        world.say(1, text);
    }
    let first = world.request();
    // The same route, and another app on it.
    let Target::Hooks(old) = &world.process.config.routes[0].target else {
        unreachable!()
    };
    let mut new = Hooks::clone(old);
    new.app = 1;
    let own = Route::new(RouteId(3), "/chat", Target::Hooks(Arc::new(new.clone())));
    let config = crate::config::Config {
        routes: vec![Arc::new(own.clone())],
        ..crate::config::Config::clone(&world.process.config)
    };
    let permits = Permits::of(&config);
    let breakers = crate::process::breakers(&world.process.breakers, &config);
    let process = world.process.with(Arc::new(config), breakers);
    world.pool.borrow_mut().reload(&process, &permits);
    world.handler = HookHandler::new(&world.pool, &own, &Arc::new(new));
    world.pool.borrow_mut().line_up_anew();
    let queued = |world: &World| {
        let pool = world.pool.borrow();
        let waiting = pool.members.waiting.iter();
        waiting.map(|waiting| waiting.messages).collect::<Vec<_>>()
    };
    world.settle();
    assert_eq!(queued(&world), [3]);
    world.app.write(first.connection, plain(200).as_bytes());
    assert_eq!(world.serve(&plain(200)).text(), "b");
    assert_eq!(world.request().text(), "c");
    assert_eq!(queued(&world), [0, 1]);
}
