//! The file that the operator of a simulation has written, what he writes next, and how threads come to what it says: as the
//! worker does it, with its own succession of configurations, permits and breakers. Names lead to houses: an app moves to
//! another by its URL, or by where its name leads.

use super::*;
use crate::config::{AppUrl, Config, JournalMode, Retry, Route};
use crate::hook::member::{Member, Wait};
use crate::mailbox::Reload;
use std::fmt;

/// Paths that may have a route.
pub(super) const PATHS: [&str; 2] = ["/chat", "/news"];
/// URLs that a route may name.
const URLS: usize = 3;
/// Each URL's name leads to one of two.
pub(super) const HOUSES: usize = 2 * URLS;
/// Who waits for answers of a route that is gone is looked after again after so long.
const TICK: Duration = Duration::from_millis(20);

/// What is written.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// By the place in [`PATHS`]: the number of the URL, and what else is said of its hooks.
    routes: [Option<(usize, Hooks)>; PATHS.len()],
    /// Of each URL.
    houses: [usize; URLS],
    concurrency: [usize; URLS],
    is_fastcgi: [bool; URLS],
    keep: bool,
    /// How many addresses each house has.
    addresses: usize,
    drain: Duration,
    journal_mode: JournalMode,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, route) in PATHS.iter().zip(&self.routes) {
            let Some((url, hooks)) = route else { continue };
            let Hooks {
                queue_messages,
                give_up,
                hook_timeout,
                retry,
                ..
            } = hooks;
            write!(
                f,
                "{path} app{url} in {} by {}, {queue_messages} {give_up:?} {hook_timeout:?} {retry:?}; ",
                self.houses[*url], self.concurrency[*url],
            )?;
        }
        write!(f, "{:?} {:?}", self.drain, self.journal_mode)
    }
}

impl File {
    /// One route, and more if it is ever read again.
    pub(super) fn new(hooks: &Hooks, is_fastcgi: bool, addresses: usize) -> Self {
        Self {
            routes: [Some((0, hooks.clone())), None],
            houses: std::array::from_fn(|url| 2 * url),
            concurrency: [hooks.concurrency; URLS],
            is_fastcgi: [is_fastcgi; URLS],
            keep: hooks.keep,
            addresses,
            drain: Duration::from_secs(20),
            journal_mode: JournalMode::Strict,
        }
    }

    /// Returns what is said of a path's hooks.
    pub(super) fn hooks(&self, path: usize) -> Option<&Hooks> {
        self.routes[path].as_ref().map(|(_, hooks)| hooks)
    }

    /// Returns where a path's hooks go.
    pub(super) fn url(&self, path: usize) -> Option<usize> {
        self.routes[path].as_ref().map(|(url, _)| *url)
    }

    pub(super) fn house(&self, url: usize) -> usize {
        self.houses[url]
    }

    pub(super) fn speaks_fastcgi(&self, house: usize) -> bool {
        self.is_fastcgi[house / 2]
    }

    /// Returns whether this URL has the client's path in it: then only who came since goes there.
    pub(super) fn has_path(&self, url: usize) -> bool {
        url == 2 && !self.is_fastcgi[url]
    }

    pub(super) fn is_strict(&self) -> bool {
        self.journal_mode == JournalMode::Strict
    }

    /// Reads it, for the first time or again.
    pub(super) fn read(&self, threads: u8, generation: usize) -> Config {
        let mut config = Config {
            threads,
            worker: format!("web{generation}"),
            drain: self.drain,
            journal_mode: self.journal_mode,
            ..Config::default()
        };
        for (path, written) in PATHS.iter().zip(&self.routes) {
            let Some((url, hooks)) = written else {
                continue;
            };
            let mut hooks = hooks.clone();
            let name = format!("app{url}");
            let known = config.apps.iter().position(|app| *app == name);
            hooks.app = known.unwrap_or(config.apps.len());
            let address = SocketAddr::from(([192, 0, 2, self.houses[*url] as u8], 80));
            hooks.url = AppUrl {
                scheme: if self.is_fastcgi[*url] {
                    Scheme::FastCgi
                } else {
                    Scheme::Http
                },
                address: AppAddress::Tcp(vec![address; self.addresses]),
                path: match (self.is_fastcgi[*url], self.has_path(*url)) {
                    (true, _) => "/srv/www/ws.php".into(),
                    (false, true) => "/ws/{path}".into(),
                    (false, false) => "/ws".into(),
                },
                host: name.as_str().into(),
            };
            hooks.keep = self.keep;
            hooks.started &= *path == PATHS[0]; // Each app hears it under the same key.
            hooks.concurrency = self.concurrency[*url];
            if known.is_none() {
                config.apps.push(name);
            }
            let id = RouteId(config.routes.len() as u16);
            let target = Target::Hooks(Arc::new(hooks));
            let route = Route::new(id, *path, target);
            config.routes.push(Arc::new(route));
        }
        config
    }
}

/// Returns how many files were read before the one that says this.
pub(super) fn generation(config: &Config) -> usize {
    config.worker["web".len()..].parse().unwrap()
}

/// Sockets of routes that are gone leave a thread.
pub(super) struct Leaving {
    routes: Vec<RouteId>,
    /// Who is closed when, the next one last.
    waiting: Vec<(Instant, usize)>,
    last_quarter: Option<Instant>,
    until: Instant,
}

impl Leaving {
    /// Returns when it is to be looked after.
    pub(super) fn next(&self) -> Instant {
        let waiting = self.waiting.last().map(|(at, _)| *at);
        let soonest = waiting.into_iter().chain(self.last_quarter).min();
        soonest.map_or(self.until, |at| at.min(self.until))
    }
}

impl World {
    /// The file is written anew, and read; not before all threads have come to the last one.
    pub(super) fn reload(&mut self) {
        if self.is_reloading() {
            return self.later(20, Event::Reload);
        }
        for _ in 0..self.below(4) {
            self.change_the_file();
        }
        self.read_the_file();
        let next = match self.below(3) {
            0 => self.below(50),
            _ => self.below(10_000),
        };
        self.later(next, Event::Reload);
    }

    /// Returns whether a thread has not come to the last file.
    pub(super) fn is_reloading(&mut self) -> bool {
        let taken = self.taken.iter().flat_map(|taken| taken.try_iter()).count();
        self.untaken -= taken;
        self.untaken > 0
    }

    fn change_the_file(&mut self) {
        let (path, url) = (self.below(2) as usize, self.below(URLS as u64) as usize);
        let (what, which) = (self.below(12), self.below(3) as usize);
        let anew = self.file.routes.iter().flatten().next().cloned();
        let anew = anew.unwrap_or_else(|| (url, self.hooks_at_first.clone()));
        let file = &mut self.file;
        let Some((own, hooks)) = &mut file.routes[path] else {
            file.routes[path] = Some((url, anew.1)); // It is new, or comes back.
            return;
        };
        match what {
            0 | 1 => file.routes[path] = None,
            2 | 3 => *own = url,
            4 => file.houses[*own] ^= 1,
            5 => hooks.queue_messages = [2, 8, 64][which],
            6 => hooks.give_up = Duration::from_secs([3, 20, 60][which]),
            7 => hooks.retry = [Retry::Unknown, Retry::Unsent, Retry::Unknown][which],
            8 => file.concurrency[*own] = 1 + which,
            9 => hooks.hook_timeout = Duration::from_secs([2, 30, 30][which]),
            10 => file.drain = Duration::from_secs([0, 2, 20][which]),
            _ => {
                file.journal_mode = [
                    JournalMode::Strict,
                    JournalMode::BestEffort,
                    JournalMode::Strict,
                ][which];
            }
        }
    }

    /// All routes are in the file, whether or not they were.
    pub(super) fn restore_the_file(&mut self) {
        for route in &mut self.file.routes {
            route.get_or_insert_with(|| (0, self.hooks_at_first.clone()));
        }
    }

    /// Has the threads come to what the file says now.
    pub(super) fn read_the_file(&mut self) {
        let generation = self.history.len();
        self.history.push(self.file.clone());
        let old = self.reloader.config();
        let read = self.file.read(old.threads, generation);
        let (config, changes) = read.follow(&old).unwrap();
        trace!(
            self,
            "file {generation} is read: {}; it adds {:?}, removes {:?}",
            self.file,
            changes.added,
            changes.removed
        );
        let mailboxes = &self.threads[0].router.mailboxes;
        self.taken = Some(self.reloader.post(mailboxes, Arc::new(config)));
        self.untaken = self.threads.len();
    }

    /// A thread comes to another configuration: the steps of `Worker::reload`.
    pub(super) fn come_to(&mut self, number: usize, reload: Reload) {
        let own = &mut self.threads[number];
        let old = Arc::clone(&own.process.config);
        let process = own.process.with(reload.config, reload.breakers);
        own.process = Arc::clone(&process);
        own.came_at = self.now;
        own.router.process = Arc::clone(&process);
        own.pool.borrow_mut().reload(&process, &reload.permits);
        for (place, route) in process.config.routes.iter().enumerate() {
            let Target::Hooks(hooks) = &route.target else {
                unreachable!()
            };
            match own.handlers.get_mut(place) {
                Some(_) if route.gone => {}
                Some(current) => *current = HookHandler::new(&own.pool, route, hooks),
                None => own.handlers.push(HookHandler::new(&own.pool, route, hooks)),
            }
        }
        own.pool.borrow_mut().line_up_anew();
        let was_served = |place: usize| old.routes.get(place).is_some_and(|route| !route.gone);
        let routes = process.config.routes.iter().enumerate();
        let gone = routes.filter(|(place, route)| route.gone && was_served(*place));
        let gone: Vec<_> = gone.map(|(_, route)| route.id).collect();
        if !gone.is_empty() {
            self.begin_leaving(number, gone);
        }
        trace!(
            self,
            "thread {number} has come to {}", process.config.worker
        );
        self.permits = reload.permits;
        self.process = process;
        let _ = reload.taken.send(());
    }

    fn begin_leaving(&mut self, number: usize, routes: Vec<RouteId>) {
        let drain = self.threads[number].process.config.drain;
        let half = drain.as_millis() as u64 / 2;
        let mut waiting = Vec::new();
        for place in self.guests_of(number, &routes) {
            let after = Duration::from_millis(self.below(half));
            waiting.push((self.now + after, place));
        }
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        self.threads[number].leaving.push(Leaving {
            routes,
            waiting,
            last_quarter: Some(self.now + drain / 4 * 3),
            until: self.now + drain,
        });
        self.leave_some(number);
    }

    fn guests_of(&self, number: usize, routes: &[RouteId]) -> Vec<usize> {
        let guests = self.guests.iter().enumerate();
        let of_them = guests.filter(|(_, guest)| {
            guest.thread == number && guest.stage != Stage::Gone && routes.contains(&guest.route)
        });
        of_them.map(|(place, _)| place).collect()
    }

    /// Sends away whose turn it is, and forgets what is owed when the time is up: the steps of `Worker::leave_some`.
    pub(super) fn leave_some(&mut self, number: usize) {
        for mut leaving in std::mem::take(&mut self.threads[number].leaving) {
            let config = Arc::clone(&self.threads[number].process.config);
            leaving
                .routes
                .retain(|route| config.routes[usize::from(route.0)].gone);
            while let Some((_, place)) = leaving.waiting.pop_if(|(at, _)| *at <= self.now) {
                self.send_away(place, &leaving.routes);
            }
            if leaving.last_quarter.is_some_and(|at| at <= self.now) {
                leaving.last_quarter = None;
                for place in self.guests_of(number, &leaving.routes) {
                    self.leave(place);
                }
            }
            let is_late = leaving.until <= self.now;
            let stays = !is_late || self.forget(number, &leaving.routes);
            if is_late {
                leaving.until = self.now + TICK;
            }
            if stays && !leaving.routes.is_empty() {
                self.threads[number].leaving.push(leaving);
            }
        }
    }

    fn send_away(&mut self, place: usize, routes: &[RouteId]) {
        let guest = &mut self.guests[place];
        if !routes.contains(&guest.route) {
            return; // Its route has come back.
        }
        match guest.stage {
            Stage::Open if guest.codes.is_empty() => {
                guest.codes.push(1001);
                trace!(self, "guest {place} is sent away");
                if self.chance(80) {
                    let soon = self.below(200);
                    self.later(soon, Event::Leave(place));
                }
            }
            Stage::Asking | Stage::Accepted => self.leave(place),
            Stage::Open | Stage::Gone => {}
        }
    }

    fn forget(&mut self, number: usize, routes: &[RouteId]) -> bool {
        let mut pool = self.threads[number].pool.borrow_mut();
        let of_them = |route: RouteId| routes.contains(&route);
        let members = pool.members.iter().map(|(_, member)| member);
        let members = members.filter(|member| of_them(member.endpoint.route));
        let (left, forgotten): (Vec<&Member>, Vec<&Member>) =
            members.partition(|member| matches!(member.wait, Wait::Answer(_)));
        let is_left = !left.is_empty();
        let forgotten: Vec<SocketId> = forgotten.iter().filter_map(|m| m.id).collect();
        let stays = pool.forget_routes(of_them);
        assert_eq!(stays, is_left, "what is under way is waited for");
        drop(pool);
        trace!(self, "thread {number} forgets {forgotten:?}");
        for id in forgotten {
            let guest = self.guests.iter_mut().rfind(|guest| guest.id == id);
            let guest = guest.expect("who is forgotten was there");
            assert_eq!(guest.stage, Stage::Gone, "forgotten, and still there");
            guest.is_forgotten = true;
        }
        stays
    }
}
