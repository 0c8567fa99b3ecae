//! A configuration that takes the place of another while sockets are open: what keeps its number, what is gone, and what
//! stays as it was until the next start. Knows no socket.

use super::{Config, Control, Route, RouteId, Target};
use std::mem;
use std::sync::Arc;

/// What a reload changed, and what it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths of routes that are new.
    pub added: Vec<String>,
    /// Paths of routes that are gone, or that something of another kind answers on: their sockets are closed.
    pub removed: Vec<String>,
    /// Keys that say something else than they did and take effect at the next start.
    pub at_next_start: Vec<&'static str>,
    /// Warnings that are new.
    pub warnings: Vec<String>,
}

/// More routes than a [`RouteId`] can tell apart.
const MAX_ROUTES: usize = u16::MAX as usize;

impl Config {
    /// Takes the place of `old`. Routes and apps keep their numbers, since sockets know them by these; what is gone keeps
    /// its place.
    ///
    /// # Errors
    /// The operator's: since the start there have been more routes than can be told apart.
    pub(crate) fn follow(mut self, old: &Self) -> Result<(Self, Changes), String> {
        let mut changes = Changes {
            at_next_start: self.keep_what_cannot_change(old),
            ..Changes::default()
        };
        let is_new = |warning: &&String| !old.warnings.contains(warning);
        changes.warnings = self.warnings.iter().filter(is_new).cloned().collect();
        let numbers = self.number_apps(&old.apps);
        let mut routes = old.routes.clone();
        let mut has_place = vec![false; routes.len()];
        for mut route in mem::take(&mut self.routes) {
            let is_it =
                |old: &Arc<Route>| old.path == route.path && is_same(&old.target, &route.target);
            let place = routes.iter().position(is_it).unwrap_or(routes.len());
            let new = Arc::make_mut(&mut route);
            new.id = RouteId(u16::try_from(place).map_err(|_| too_many())?);
            if let Target::Hooks(hooks) = &mut new.target {
                let hooks = Arc::make_mut(hooks);
                hooks.app = numbers.get(hooks.app).copied().unwrap_or(hooks.app);
            }
            match routes.get_mut(place) {
                Some(old) => {
                    if old.gone {
                        changes.added.push(route.path.clone());
                    }
                    *old = route;
                    if let Some(has_place) = has_place.get_mut(place) {
                        *has_place = true;
                    }
                }
                None => {
                    changes.added.push(route.path.clone());
                    routes.push(route);
                }
            }
        }
        if routes.len() > MAX_ROUTES {
            return Err(too_many());
        }
        for (route, has_place) in routes.iter_mut().zip(has_place) {
            if !has_place && !route.gone {
                changes.removed.push(route.path.clone());
                Arc::make_mut(route).gone = true;
            }
        }
        self.routes = routes;
        Ok((self, changes))
    }

    /// Puts back what only a start can change. Returns the keys that say something else.
    fn keep_what_cannot_change(&mut self, old: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let mut keep = |key, is_same: bool| {
            if !is_same {
                keys.push(key);
            }
        };
        keep("listen", self.listeners == old.listeners);
        self.listeners.clone_from(&old.listeners);
        keep("threads", self.threads == old.threads);
        self.threads = old.threads;
        keep("journal", self.journal == old.journal);
        self.journal.clone_from(&old.journal);
        let address =
            |control: &Option<Control>| control.as_ref().map(|control| control.address.clone());
        if address(&self.control) != address(&old.control) {
            keep("control.listen", false);
            self.control.clone_from(&old.control);
        }
        keys
    }

    /// Lets apps that were there keep their numbers; returns the number of each of ours.
    fn number_apps(&mut self, old: &[String]) -> Vec<usize> {
        let mut apps = old.to_vec();
        let own = mem::take(&mut self.apps).into_iter();
        let numbers = own
            .map(|url| {
                let known = apps.iter().position(|known| *known == url);
                known.unwrap_or_else(|| {
                    apps.push(url);
                    apps.len() - 1
                })
            })
            .collect();
        self.apps = apps;
        numbers
    }
}

fn too_many() -> String {
    format!(
        "there have been more than {MAX_ROUTES} routes since the start; only a restart frees their places"
    )
}

/// Returns whether sockets of the one can go on with the other.
fn is_same(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Handler(one), Target::Handler(other)) => one == other,
        _ => mem::discriminant(one) == mem::discriminant(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::{KEYS, Reload};
    use crate::config::{Overrides, error, mean, raw};

    fn read(text: &str) -> Config {
        let source = error::Source(None);
        let table = raw::Table::parse(text).unwrap();
        let flags = Overrides::default();
        mean::config(&source, &table, &flags.0, mean::Routes::Written).unwrap()
    }

    fn follow(old: &Config, text: &str) -> (Config, Changes) {
        read(text).follow(old).unwrap()
    }

    fn route(path: &str, what: &str) -> String {
        let key = if what.contains(':') { "app" } else { "handler" };
        format!("[[route]]\npath = '{path}'\n{key} = '{what}'\n")
    }

    fn places(config: &Config) -> Vec<(&str, u16, bool)> {
        let routes = config.routes.iter();
        routes
            .map(|route| (route.path.as_str(), route.id.0, route.gone))
            .collect()
    }

    const ECHO: &str = "[[route]]\npath = '/'\nhandler = 'echo'\n";

    #[test]
    fn what_only_a_start_can_change_is_named_and_stays() {
        let control = "[control]\nlisten = 'unix:/run/a.sock'\n";
        let old = read(&format!("threads = 1\n{control}{ECHO}"));
        let changed = [
            ("listen", "listen = '127.0.0.1:9001'\n", control),
            (
                "listen",
                "listen = { addr = '127.0.0.1:9000', proxy_protocol = true }\n",
                control,
            ),
            ("threads", "threads = 2\n", control),
            (
                "control.listen",
                "",
                "[control]\nlisten = 'unix:/run/b.sock'\n",
            ),
            ("control.listen", "", ""),
        ];
        for (key, top, control) in changed {
            let threads = if top.contains("threads") {
                ""
            } else {
                "threads = 1\n"
            };
            let (new, changes) = follow(&old, &format!("{threads}{top}{control}{ECHO}"));
            assert_eq!(changes.at_next_start, [key]);
            assert_eq!(new.listeners, old.listeners);
            assert_eq!(new.threads, 1);
            assert_eq!(format!("{:?}", new.control), format!("{:?}", old.control));
        }
    }

    #[test]
    fn every_key_that_wants_a_start_is_compared() {
        let wanted: Vec<_> = KEYS
            .iter()
            .filter(|key| key.reload == Reload::Restart)
            .map(|key| key.name)
            .collect();
        // `started` says nothing to a worker that has started.
        assert_eq!(wanted, ["listen", "threads", "journal", "started"]);
    }

    #[test]
    fn routes_keep_their_numbers_whatever_their_order() {
        let old = read(&(route("/a", "echo") + &route("/b", "echo")));
        let text = route("/c", "echo") + &route("/b", "echo") + &route("/a", "echo");
        let (new, changes) = follow(&old, &text);
        assert_eq!(
            places(&new),
            [("/a", 0, false), ("/b", 1, false), ("/c", 2, false)]
        );
        assert_eq!(
            (changes.added, changes.removed),
            (vec!["/c".to_owned()], vec![])
        );
    }

    #[test]
    fn a_route_that_is_gone_keeps_its_place_and_may_come_back() {
        let old = read(&(route("/a", "echo") + &route("/b", "echo")));
        let (new, changes) = follow(&old, &route("/b", "echo"));
        assert_eq!(places(&new), [("/a", 0, true), ("/b", 1, false)]);
        assert_eq!(changes.removed, ["/a"]);
        assert!(new.route_for("/a").is_none());
        assert!(new.route_at("/a").is_some_and(|route| route.gone));
        let (again, changes) = follow(&new, &(route("/b", "echo") + &route("/a", "echo")));
        assert_eq!(places(&again), [("/a", 0, false), ("/b", 1, false)]);
        assert_eq!(
            (changes.added, changes.removed),
            (vec!["/a".to_owned()], vec![])
        );
    }

    #[test]
    fn something_of_another_kind_on_a_path_is_another_route() {
        let old = read(&route("/a", "echo"));
        let (new, changes) = follow(&old, &route("/a", "http://127.0.0.1:1/"));
        assert_eq!(places(&new), [("/a", 0, true), ("/a", 1, false)]);
        assert_eq!(
            (changes.added, changes.removed),
            (vec!["/a".to_owned()], vec!["/a".to_owned()])
        );
        assert_eq!(new.route_for("/a").map(|route| route.id), Some(RouteId(1)));
        assert_eq!(new.route_at("/a").map(|route| route.id), Some(RouteId(1)));
    }

    #[test]
    fn apps_keep_their_numbers_too() {
        let numbers = |config: &Config| -> Vec<usize> {
            let routes = config.routes.iter();
            routes
                .map(|route| {
                    let Target::Hooks(hooks) = &route.target else {
                        panic!("{route:?}")
                    };
                    hooks.app
                })
                .collect()
        };
        let (one, two, three) = (
            "http://127.0.0.1:1/",
            "http://127.0.0.1:2/",
            "http://127.0.0.1:3/",
        );
        let old = read(&(route("/a", one) + &route("/b", two)));
        assert_eq!(numbers(&old), [0, 1]);
        let (new, _) = follow(&old, &(route("/a", three) + &route("/b", two)));
        assert_eq!(numbers(&new), [2, 1]);
        let (again, _) = follow(&new, &(route("/b", one) + &route("/a", one)));
        assert_eq!(numbers(&again), [0, 0]);
    }

    #[test]
    fn a_warning_is_new_once() {
        let text = format!("heartbeat = 'off'\n{ECHO}");
        let (new, changes) = follow(&read(ECHO), &text);
        assert_eq!(changes.warnings.len(), 1);
        assert!(follow(&new, &text).1.warnings.is_empty());
    }

    /// The table of the page for operators, as the keys say it.
    fn table() -> String {
        let row = |what: &str, reload: Reload, more: &str| {
            let keys: Vec<_> = KEYS
                .iter()
                .filter(|key| key.reload == reload)
                .map(|key| format!("`{}`", key.name))
                .collect();
            format!("| {what} | {}{more} |\n", keys.join(", "))
        };
        row(
            "at once, or with the next hook",
            Reload::Now,
            ", `token_file` of `[control]`",
        ) + &row("for new sockets", Reload::NewSockets, "")
            + &row(
                "at the next start",
                Reload::Restart,
                ", `listen` of `[control]`",
            )
    }

    #[test]
    fn the_page_for_operators_says_what_a_reload_does_with_each_key() {
        let page = include_str!("../../docs/configuration.md");
        let table = table();
        assert!(
            page.contains(&table),
            "docs/configuration.md wants:\n{table}"
        );
    }
}
