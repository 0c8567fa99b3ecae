//! Another configuration for this thread: what is looked up in it holds at once, routes that are new get their handlers, and
//! the sockets of routes that are gone begin to leave. Knows not where it comes from.

use super::Worker;
use crate::client::Flags;
use crate::config::{Config, Route, Target};
use crate::groups::Members;
use crate::handler::{Chat, Echo, Handler, SaysVersion};
use crate::hook::{HookHandler, Pool};
use crate::mailbox::Reload;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Makes what answers on a route; `own` makes the handlers of a program that embeds us, by their numbers.
pub(crate) fn handler(
    route: &Route,
    hooks: &Rc<RefCell<Pool>>,
    own: impl FnOnce(usize) -> Option<Box<dyn Handler>>,
) -> Box<dyn Handler> {
    match &route.target {
        Target::Echo | Target::Page(_) => Box::new(Echo),
        Target::Chat => Box::new(Chat),
        Target::Version => Box::new(SaysVersion),
        Target::Handler(number) => own(*number).unwrap_or_else(|| Box::new(Echo)),
        Target::Hooks(app) => Box::new(HookHandler::new(hooks, route, app)),
    }
}

/// Returns whether any route has an app.
pub(super) fn has_hooks(config: &Config) -> bool {
    let mut routes = config.routes.iter();
    routes.any(|route| matches!(route.target, Target::Hooks(_)))
}

impl Worker {
    /// Takes another configuration, in which routes and apps have kept their numbers.
    pub(super) fn reload(&mut self, reload: Reload) {
        self.finish_spreading(); // Under the limits with which it began.
        let old = Arc::clone(&self.process.config);
        let process = self.process.with(reload.config, reload.breakers);
        self.process = Arc::clone(&process);
        self.common.router.process = Arc::clone(&process);
        self.hooks.borrow_mut().reload(&process, &reload.permits);
        if let Some(control) = &mut self.control {
            control.reload(&process);
        }
        let config = &process.config;
        self.has_hooks = has_hooks(config);
        self.is_busy = self.has_hooks || self.control.is_some();
        self.max_handshakes = config.bounds.max_handshakes;
        self.members
            .resize_with(config.routes.len(), Members::default);
        for (number, route) in config.routes.iter().enumerate() {
            match self.handlers.get_mut(number) {
                // Who is gone ends as it was, and what keeps no settings of its own goes on as it is.
                Some(_) if route.gone || !matches!(route.target, Target::Hooks(_)) => {}
                Some(current) => *current = handler(route, &self.hooks, |_| None),
                None => self.handlers.push(handler(route, &self.hooks, |_| None)),
            }
        }
        self.hooks.borrow_mut().line_up_anew();
        let was_served = |number: usize| old.routes.get(number).is_some_and(|route| !route.gone);
        let routes = config.routes.iter().enumerate();
        let gone = routes.filter(|(number, route)| route.gone && was_served(*number));
        let gone: Vec<_> = gone.map(|(_, route)| route.id).collect();
        if !gone.is_empty() {
            self.begin_leaving(gone);
        }
        self.rearm();
        // Whoever asked may have stopped waiting.
        let _ = reload.taken.send(());
    }

    /// Asks everybody for the deadline anew whose deadline is looked up in the configuration: it may have come nearer.
    fn rearm(&mut self) {
        for entry in self.clients.entries() {
            if let Some(client) = self.clients.get_mut(entry)
                && !client.flags.has(Flags::CALM)
            {
                let deadline = client.poll_timeout(&self.process.config);
                self.timers
                    .arm(self.common.now, entry, &mut client.armed, deadline);
            }
        }
    }
}
