//! What a reload changes for a thread's hooks: apps that come and move, where each route's hooks go, and what is owed to
//! apps that nobody is to be told of any more. Knows not why it is called.

use super::{App, Pool};
use crate::command::RouteId;
use crate::config::{AppAddress, Scheme, Target};
use crate::hook::endpoint::Endpoint;
use crate::hook::member::{Key, Member, Wait};
use crate::permits::Permits;
use crate::process::Process;
use std::rc::Rc;
use std::sync::Arc;

impl Pool {
    /// Takes another configuration. Apps have kept their numbers.
    pub(crate) fn reload(&mut self, process: &Arc<Process>, permits: &Arc<[Arc<Permits>]>) {
        self.process = Arc::clone(process);
        self.permits = Arc::clone(permits);
        self.set_apps();
    }

    /// Makes the apps what the configuration says of them.
    pub(super) fn set_apps(&mut self) {
        let process = Arc::clone(&self.process);
        let threads = usize::from(process.config.threads.max(1));
        self.apps
            .resize_with(self.permits.len().max(self.apps.len()), App::new);
        self.complaints.resize(self.apps.len());
        for (app, permits) in self.apps.iter_mut().zip(self.permits.iter()) {
            app.max_idle = permits.limit().div_ceil(threads);
        }
        for route in &process.config.routes {
            let Target::Hooks(hooks) = &route.target else {
                continue;
            };
            let Some(app) = self.apps.get_mut(hooks.app).filter(|_| !route.gone) else {
                continue;
            };
            app.scheme = hooks.url.scheme;
            if app.address == hooks.url.address && app.tls == hooks.tls {
                continue; // What is remembered of TLS's sessions goes on as well.
            }
            // The name stands for other addresses than it did, or others are believed that it is the app.
            app.address = hooks.url.address.clone();
            app.tls.clone_from(&hooks.tls);
            for (_, connection) in &mut self.connections {
                if connection.app == hooks.app {
                    connection.retire();
                }
            }
            for index in std::mem::take(&mut app.idle) {
                self.discard(index);
            }
        }
    }

    /// Remembers where a route's hooks go from now on.
    pub(crate) fn lead(&mut self, endpoint: &Rc<Endpoint>) {
        let place = usize::from(endpoint.route.0);
        if self.endpoints.len() <= place {
            self.endpoints.resize(place + 1, None);
        }
        if let Some(current) = self.endpoints.get_mut(place) {
            *current = Some(Rc::clone(endpoint));
        }
    }

    /// Between two attempts, and only there, a socket moves over to where its route's hooks go now. A probe is of the app that
    /// it was admitted to.
    pub(super) fn move_over(&mut self, key: Key) {
        let Some(member) = self.members.get_mut(key) else {
            return;
        };
        let place = usize::from(member.endpoint.route.0);
        if let Some(Some(now)) = self.endpoints.get(place)
            && member.probe.is_none()
            && !Rc::ptr_eq(now, &member.endpoint)
            && now.can_follow(&member.endpoint)
        {
            member.endpoint = Rc::clone(now);
            self.members.recount(key); // What it has queued waits for another app now.
        }
    }

    /// Lets everybody who waits for a permit wait where they belong now, in the order in which they came.
    pub(crate) fn line_up_anew(&mut self) {
        let mut waiting: Vec<Key> = Vec::new();
        for app in &mut self.apps {
            for line in &mut app.lines {
                waiting.extend(std::mem::take(line));
            }
        }
        for key in waiting {
            let is_waiting = |member: &Member| member.wait == Wait::Permit;
            if self.members.get(key).is_some_and(is_waiting) {
                self.line_up(key, false);
            }
        }
    }

    /// Forgets what is owed to the apps of routes that are gone, logs and counts it. Returns whether anything is still under
    /// way there, which is to be forgotten as well once it has its answer.
    pub(crate) fn forget_routes(&mut self, is_gone: impl Fn(RouteId) -> bool) -> bool {
        let (mut under_way, mut closed, mut lost, mut messages) = (false, 0, 0, 0);
        let owed: Vec<Key> = self
            .members
            .iter()
            .filter(|(_, member)| is_gone(member.endpoint.route))
            .map(|(key, _)| key)
            .collect();
        for key in owed {
            let Some(member) = self.members.get(key) else {
                continue;
            };
            if matches!(member.wait, Wait::Answer(_)) {
                under_way = true;
            } else if member.id.is_none() {
                self.forget(key); // News of a start, which nobody counts on.
            } else if let Some(member) = self.remove(key) {
                closed += 1;
                lost += u64::from(!self.leave_to_the_journal(&member));
                messages += member.queue_len() as u64;
            }
        }
        if closed > 0 {
            self.process.counters.closed_lost.add(lost);
            self.process.counters.undelivered.add(messages);
            tracing::warn!(
                closed,
                lost,
                messages,
                "hooks were still owed to the app of a route that is gone"
            );
        }
        self.charge();
        under_way
    }
}

impl App {
    fn new() -> Self {
        Self {
            address: AppAddress::Tcp(Vec::new()),
            scheme: Scheme::Http,
            tls: None,
            idle: Vec::new(),
            fresh: Vec::new(),
            max_idle: 1,
            lines: Default::default(),
            turn: 0,
            granted: 0,
        }
    }
}
