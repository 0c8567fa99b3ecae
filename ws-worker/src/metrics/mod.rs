//! What `/metrics` says: every number of the process in the Prometheus text format. `docs/metrics.md` lists them, and a
//! test holds the two together. Knows the counters; not who asks.

mod figures;
mod text;

pub(crate) use figures::Figures;
pub(crate) use text::Seconds;

use crate::config::{AppAddress, AppUrl, Config, Hooks, Route, Scheme, Target};
use crate::counters::{AppSums, EVENTS, HookResult, RouteSums};
use crate::process::Process;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use text::Text;
use ws_proto::Version;

/// Writes it all.
pub(crate) fn render(process: &Process) -> String {
    let mut text = Text::default();
    sockets(&mut text, process);
    messages(&mut text, process);
    let apps = apps(process);
    hooks(&mut text, &apps);
    breakers(&mut text, process, &apps);
    owed(&mut text, process);
    worker(&mut text, process);
    figures(&mut text, process);
    text.into_string()
}

fn sockets(text: &mut Text, process: &Process) {
    let counters = &process.counters;
    let routes = routes(process);
    text.gauge("ws_worker_connections", "Open sockets.", |family| {
        for (path, sums) in &routes {
            for (place, version) in Version::ALL.iter().enumerate() {
                let of = |counts: &[u64]| counts.get(place).copied().unwrap_or_default();
                // A close may be seen before its opening.
                let open = of(&sums.opened).saturating_sub(of(&sums.closed));
                family.sample(&[("route", path), ("version", version.name())], open);
            }
        }
    });
    text.counter(
        "ws_worker_handshakes_accepted_total",
        "Sockets opened.",
        |family| {
            for (path, sums) in &routes {
                for (version, opened) in Version::ALL.iter().zip(sums.opened) {
                    family.sample(&[("route", path), ("version", version.name())], opened);
                }
            }
        },
    );
    text.counter(
        "ws_worker_handshakes_refused_total",
        "Handshakes refused.",
        |family| {
            for (reason, count) in counters.refusals() {
                family.sample(&[("reason", reason)], count);
            }
        },
    );
    text.counter(
        "ws_worker_connections_closed_total",
        "Open sockets that ended.",
        |family| {
            for (by, code, count) in counters.ends() {
                family.sample(&[("by", by), ("code", code)], count);
            }
        },
    );
    text.counter(
        "ws_worker_clients_dropped_total",
        "Sockets dropped without a closing handshake.",
        |family| {
            for (reason, count) in counters.drops() {
                family.sample(&[("reason", reason)], count);
            }
        },
    );
    text.gauge(
        "ws_worker_sockets",
        "Accepted sockets in any state.",
        |family| family.sample(&[], counters.connections.get()),
    );
    text.gauge(
        "ws_worker_sockets_limit",
        "How many there may be: max_connections.",
        |family| family.sample(&[], process.config.bounds.max_connections),
    );
    text.gauge(
        "ws_worker_handshakes_in_flight",
        "Handshakes begun and not yet decided.",
        |family| family.sample(&[], counters.handshakes.get()),
    );
}

fn messages(text: &mut Text, process: &Process) {
    let counters = &process.counters;
    let routes = routes(process);
    let mut by_route = |name: &str, help: &str, of: fn(&RouteSums) -> u64| {
        text.counter(name, help, |family| {
            for (path, sums) in &routes {
                family.sample(&[("route", path)], of(sums));
            }
        });
    };
    by_route(
        "ws_worker_messages_received_total",
        "Messages from clients.",
        |sums| sums.messages_in,
    );
    by_route(
        "ws_worker_messages_sent_total",
        "Messages to clients.",
        |sums| sums.messages_out,
    );
    by_route(
        "ws_worker_message_received_bytes_total",
        "Payloads of messages from clients.",
        |sums| sums.bytes_in,
    );
    by_route(
        "ws_worker_message_sent_bytes_total",
        "Payloads of messages to clients.",
        |sums| sums.bytes_out,
    );
    text.counter(
        "ws_worker_messages_full_total",
        "Messages for a client whose output was full.",
        |family| family.sample(&[], counters.full.get()),
    );
    text.counter(
        "ws_worker_messages_unsupported_total",
        "Binary messages of apps for versions that have none.",
        |family| family.sample(&[], counters.unsupported.get()),
    );
    text.histogram(
        "ws_worker_ping_round_trip_seconds",
        "From a ping to its pong.",
        |family| family.spread(&[], &counters.round_trips()),
    );
}

fn hooks(text: &mut Text, apps: &[NamedApp]) {
    text.histogram(
        "ws_worker_hook_duration_seconds",
        "From the beginning of an attempt at a hook to its end, connecting included.",
        |family| {
            for (app, _, sums) in apps {
                family.spread(&[("app", app)], &sums.durations);
            }
        },
    );
    text.counter(
        "ws_worker_hook_attempts_total",
        "Attempts at hooks.",
        |family| {
            for (app, _, sums) in apps {
                for (event, results) in EVENTS.iter().zip(sums.results) {
                    for (result, count) in HookResult::ALL.iter().zip(results) {
                        let labels = [
                            ("app", app.as_str()),
                            ("event", *event),
                            ("result", result.name()),
                        ];
                        family.sample(&labels, count);
                    }
                }
            }
        },
    );
    text.counter(
        "ws_worker_hook_retries_total",
        "Attempts at hooks after the first.",
        |family| {
            for (app, _, sums) in apps {
                family.sample(&[("app", app)], sums.retries);
            }
        },
    );
    let mut by_app = |name: &str, help: &str, of: fn(&Hooks, &AppSums) -> u64| {
        text.gauge(name, help, |family| {
            for (app, hooks, sums) in apps {
                family.sample(&[("app", app)], of(hooks, sums));
            }
        });
    };
    by_app(
        "ws_worker_hooks_in_flight",
        "Hooks whose answer is awaited.",
        |_, sums| sums.in_flight,
    );
    by_app(
        "ws_worker_hooks_in_flight_limit",
        "How many there may be: concurrency.",
        |hooks, _| hooks.concurrency as u64,
    );
    by_app(
        "ws_worker_hook_queue_messages",
        "Messages whose hook is not answered yet.",
        |_, sums| sums.queued,
    );
    by_app(
        "ws_worker_hook_queue_bytes",
        "Payloads of these messages.",
        |_, sums| sums.queued_bytes,
    );
}

fn breakers(text: &mut Text, process: &Process, apps: &[NamedApp]) {
    text.gauge(
        "ws_worker_hook_breaker_open",
        "1 while new handshakes are refused without asking the app.",
        |family| {
            for (app, hooks, _) in apps {
                let breaker = process.breakers.get(hooks.app);
                let is_open = breaker.is_some_and(|breaker| breaker.is_open());
                family.sample(&[("app", app)], u8::from(is_open));
            }
        },
    );
    text.counter(
        "ws_worker_hook_breaker_opened_total",
        "Times that an app had failed so often in a row that it was spared new handshakes.",
        |family| {
            for (app, _, sums) in apps {
                family.sample(&[("app", app)], sums.outages);
            }
        },
    );
    text.counter(
        "ws_worker_hook_breaker_refused_total",
        "Handshakes refused without asking the app.",
        |family| {
            for (app, _, sums) in apps {
                family.sample(&[("app", app)], sums.spared);
            }
        },
    );
}

fn owed(text: &mut Text, process: &Process) {
    let counters = &process.counters;
    text.counter(
        "ws_worker_messages_undelivered_total",
        "Messages from clients that no app answered.",
        |family| family.sample(&[], counters.undelivered.get()),
    );
    text.counter(
        "ws_worker_closed_hooks_lost_total",
        "Closed hooks still owed when the time was up.",
        |family| family.sample(&[], counters.closed_lost.get()),
    );
    text.counter(
        "ws_worker_closed_hooks_recovered_total",
        "Closed hooks that an earlier life left in the journal.",
        |family| family.sample(&[], counters.closed_recovered.get()),
    );
    text.counter(
        "ws_worker_journal_errors_total",
        "Writes to the journal that failed.",
        |family| family.sample(&[], counters.journal_errors.get()),
    );
    text.counter(
        "ws_worker_journal_handshakes_total",
        "Handshakes answered 503, or let in without the journal, because it could not be written.",
        |family| family.sample(&[], counters.journal_refused.get()),
    );
}

fn worker(text: &mut Text, process: &Process) {
    let counters = &process.counters;
    text.gauge(
        "ws_worker_buffer_bytes",
        "Buffers that peers can make grow: unread, unfinished, queued, unsent.",
        |family| family.sample(&[], counters.memory.get()),
    );
    text.gauge(
        "ws_worker_buffer_limit_bytes",
        "How large they may be together: memory.",
        |family| family.sample(&[], process.config.bounds.memory),
    );
    text.histogram(
        "ws_worker_loop_lag_seconds",
        "How late a loop was for a deadline; ten times a second while there are messages.",
        |family| family.spread(&[], &counters.lags()),
    );
    text.counter(
        "ws_worker_accept_errors_total",
        "Accepts that failed for want of descriptors or memory.",
        |family| family.sample(&[], counters.accept_errors.get()),
    );
    text.counter(
        "ws_worker_panics_total",
        "Turns that panicked and cost their client.",
        |family| family.sample(&[], counters.panics.get()),
    );
    text.gauge("ws_worker_draining", "1 from SIGTERM on.", |family| {
        family.sample(&[], u8::from(process.draining.load(Ordering::Relaxed)))
    });
    text.gauge("ws_worker_info", "Always 1.", |family| {
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("worker", process.config.worker.as_str()),
            ("boot", process.boot.as_str()),
        ];
        family.sample(&labels, 1);
    });
}

fn figures(text: &mut Text, process: &Process) {
    let figures = Figures::now();
    let mut known = |name: &str, help: &str, value: Option<u64>| {
        if let Some(value) = value {
            text.gauge(name, help, |family| family.sample(&[], value));
        }
    };
    known(
        "process_resident_memory_bytes",
        "Memory that lies in RAM.",
        figures.resident,
    );
    known("process_open_fds", "Open descriptors.", figures.open);
    known(
        "process_max_fds",
        "Descriptors that may be open.",
        figures.limit,
    );
    text.counter(
        "process_cpu_seconds_total",
        "Processor time of all threads.",
        |family| family.sample(&[], figures.processor.as_secs_f64()),
    );
    text.gauge(
        "process_start_time_seconds",
        "When it was started, since 1970.",
        |family| family.sample(&[], process.started),
    );
}

/// Returns what is counted of each route, under its path, which may have had others before a reload. Those that a reload has
/// taken out are there as long as they have sockets.
pub(crate) fn routes(process: &Process) -> Vec<(&str, RouteSums)> {
    let mut routes: Vec<(&str, RouteSums)> = Vec::new();
    for route in &process.config.routes {
        let sums = process.counters.of_route(route.id);
        match routes.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, before)) => before.add(&sums),
            None => routes.push((route.path.as_str(), sums)),
        }
    }
    let served = |path: &str| {
        let mut routes = process.config.routes.iter();
        routes.any(|route| !route.gone && route.path == path)
    };
    routes.retain(|(path, sums)| sums.open() > 0 || served(path));
    routes
}

/// An app's name, what its routes say of it, and what is counted of it.
type NamedApp = (String, Arc<Hooks>, AppSums);

/// Returns what is counted of each app, under its name; of one whose routes are gone, as long as something is owed to it.
pub(crate) fn apps(process: &Process) -> Vec<NamedApp> {
    named_apps(&process.config)
        .into_iter()
        .map(|(name, hooks)| {
            let sums = process.counters.of_app(hooks.app);
            (name, hooks, sums)
        })
        .filter(|(_, hooks, sums)| {
            let served = |route: &Arc<Route>| {
                matches!(&route.target, Target::Hooks(own) if !route.gone && own.app == hooks.app)
            };
            sums.in_flight + sums.queued > 0 || process.config.routes.iter().any(served)
        })
        .collect()
}

/// Names every app once: its URL without a query, and its number where two would be called the same.
fn named_apps(config: &Config) -> Vec<(String, Arc<Hooks>)> {
    let mut apps: Vec<(String, Arc<Hooks>)> = Vec::new();
    for route in &config.routes {
        if let Target::Hooks(hooks) = &route.target
            && !apps.iter().any(|(_, known)| known.app == hooks.app)
        {
            let mut name = name(&hooks.url);
            if apps.iter().any(|(known, _)| *known == name) {
                name += &format!("#{}", hooks.app);
            }
            apps.push((name, Arc::clone(hooks)));
        }
    }
    apps
}

fn name(url: &AppUrl) -> String {
    let scheme = match url.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::FastCgi => "fcgi",
    };
    let path = url.path.split('?').next().unwrap_or_default();
    match &url.address {
        AppAddress::Tcp(addresses) => {
            let host = url.host.as_str();
            let port = addresses
                .first()
                .map(|address| format!(":{}", address.port()));
            let port = port.filter(|port| !host.ends_with(port.as_str()));
            format!("{scheme}://{host}{}{path}", port.unwrap_or_default())
        }
        AppAddress::Unix(socket) => format!("{scheme}+unix://{}:{path}", socket.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::collections::BTreeSet;

    fn process(text: &str) -> Arc<Process> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ws-worker.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, &Overrides::default()).unwrap();
        Process::new(Arc::new(config)).unwrap()
    }

    const APPS: &str = r#"
        [[route]]
        path = "/a"
        app = "http://127.0.0.1:8080/ws?token=secret"
        [[route]]
        path = "/b"
        app = "http://127.0.0.1:8080/ws?token=other"
        [[route]]
        path = "/c"
        app = "http+unix:///run/app.sock:/ws"
        [[route]]
        path = "/d"
        handler = "echo"
    "#;

    #[test]
    fn apps_are_named_by_their_url_without_its_query() {
        let process = process(APPS);
        let names: Vec<String> = apps(&process).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(
            names,
            [
                "http://127.0.0.1:8080/ws",
                "http://127.0.0.1:8080/ws#1",
                "http+unix:///run/app.sock:/ws"
            ]
        );
        assert!(!render(&process).contains("secret"));
    }

    #[test]
    fn no_two_lines_are_the_same_sample() {
        let text = render(&process(APPS));
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let sample = line.rsplit_once(' ').unwrap().0;
            assert!(seen.insert(sample), "{sample} twice");
        }
    }

    /// Names, types and help as the page tells them: `| name | type | labels | help |`.
    fn told() -> BTreeSet<(String, String, String)> {
        let page = include_str!("../../docs/metrics.md");
        page.lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let [_, name, kind, _, help, _] = cells.as_slice() else {
                    return None;
                };
                let name = name.strip_prefix('`')?.strip_suffix('`')?;
                Some((name.to_owned(), (*kind).to_owned(), help.replace('`', "")))
            })
            .collect()
    }

    #[test]
    fn the_page_tells_every_metric_as_it_is() {
        let text = render(&process(APPS));
        let mut found = BTreeSet::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                let kind = lines.next().unwrap().rsplit_once(' ').unwrap().1;
                found.insert((name.to_owned(), kind.to_owned(), help.to_owned()));
            }
        }
        assert_eq!(found, told());
    }
}
