//! How the worker is, in one value: for `GET /status` and the status page. Knows the counters; not
//! who asks. What clients said is in it only escaped, cut and without its query.

use crate::counters::{EVENTS, HookResult, Spread};
use crate::ends::Ended;
use crate::log::escaped;
use crate::metrics::{Figures, apps, routes};
use crate::process::Process;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use ws_proto::Version;

/// How the worker is.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    pub(crate) worker: String,
    pub(crate) version: &'static str,
    pub(crate) boot: String,
    /// `ready`, `starting`, `draining` or `over budget`, as `/readyz` says.
    pub(crate) state: &'static str,
    /// In seconds since 1970.
    pub(crate) since: u64,
    pub(crate) now: u64,
    pub(crate) sockets: Of,
    pub(crate) handshakes: Handshakes,
    pub(crate) buffer_bytes: Of,
    pub(crate) process: Cost,
    pub(crate) messages: Messages,
    pub(crate) ping: Percentiles,
    pub(crate) loop_lag: Percentiles,
    pub(crate) routes: Vec<Route>,
    pub(crate) apps: Vec<App>,
    pub(crate) closed: Vec<Closed>,
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    pub(crate) last: Vec<Last>,
}

/// How much there is of what there may be.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Of {
    pub(crate) now: u64,
    pub(crate) limit: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Handshakes {
    pub(crate) in_flight: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
    pub(crate) cpu_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Messages {
    pub(crate) received: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
}

/// In milliseconds, as upper bounds; absent where nothing was measured, or beyond 30 s.
#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p99_ms: Option<u64>,
}

impl Percentiles {
    fn of(spread: &Spread) -> Self {
        Self {
            count: spread.count(),
            p50_ms: spread.percentile(50),
            p99_ms: spread.percentile(99),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Route {
    pub(crate) path: String,
    /// Open sockets by version.
    pub(crate) sockets: BTreeMap<&'static str, u64>,
    pub(crate) opened: u64,
    pub(crate) messages: Messages,
}

impl Route {
    pub(crate) fn open(&self) -> u64 {
        self.sockets.values().sum()
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct App {
    pub(crate) app: String,
    pub(crate) breaker_open: bool,
    pub(crate) in_flight: Of,
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) retries: u64,
    pub(crate) duration: Percentiles,
    /// Attempts by event and result; only what has happened.
    pub(crate) attempts: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
}

impl App {
    /// Returns how many attempts ended so.
    pub(crate) fn results(&self, result: HookResult) -> u64 {
        let of_event = |results: &BTreeMap<_, _>| results.get(result.name()).copied().unwrap_or(0);
        self.attempts.values().map(of_event).sum()
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Closed {
    pub(crate) by: &'static str,
    pub(crate) code: &'static str,
    pub(crate) count: u64,
}

/// One of the last ends.
#[derive(Debug, Serialize)]
pub(crate) struct Last {
    pub(crate) id: String,
    pub(crate) at: u64,
    pub(crate) route: String,
    pub(crate) path: String,
    pub(crate) version: &'static str,
    pub(crate) peer: String,
    pub(crate) origin: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    pub(crate) by: &'static str,
    pub(crate) clean: bool,
}

impl Overview {
    /// Asks.
    pub(crate) fn of(process: &Process) -> Self {
        let counters = &process.counters;
        let bounds = &process.config.bounds;
        let figures = Figures::now();
        let routes: Vec<Route> = routes(process)
            .into_iter()
            .map(|(path, sums)| {
                let pairs = sums.opened.iter().zip(sums.closed);
                let open = pairs.map(|(opened, closed)| opened.saturating_sub(closed));
                let names = Version::ALL.iter().map(|version| version.name());
                Route {
                    path: path.to_owned(),
                    sockets: names.zip(open).collect(),
                    opened: sums.opened.iter().sum(),
                    messages: Messages {
                        received: sums.messages_in,
                        received_bytes: sums.bytes_in,
                        sent: sums.messages_out,
                        sent_bytes: sums.bytes_out,
                    },
                }
            })
            .collect();
        // Of routes that are gone, too: what is counted does not get less.
        let all = process.config.routes.iter();
        let messages =
            all.map(|route| counters.of_route(route.id))
                .fold(Messages::default(), |sum, more| Messages {
                    received: sum.received + more.messages_in,
                    received_bytes: sum.received_bytes + more.bytes_in,
                    sent: sum.sent + more.messages_out,
                    sent_bytes: sum.sent_bytes + more.bytes_out,
                });
        Self {
            worker: process.config.worker.clone(),
            version: env!("CARGO_PKG_VERSION"),
            boot: process.boot.clone(),
            state: state(process),
            since: process.started,
            now: crate::clock::unix_seconds(),
            sockets: Of {
                now: counters.connections.get() as u64,
                limit: bounds.max_connections as u64,
            },
            handshakes: Handshakes {
                in_flight: counters.handshakes.get() as u64,
                accepted: counters.opened(),
                refused: counters
                    .refusals()
                    .filter(|(_, count)| *count > 0)
                    .collect(),
            },
            buffer_bytes: Of {
                now: counters.memory.get() as u64,
                limit: bounds.memory as u64,
            },
            process: Cost {
                resident_bytes: figures.resident,
                open_fds: figures.open,
                max_fds: figures.limit,
                cpu_seconds: figures.processor.as_secs_f64(),
            },
            messages,
            ping: Percentiles::of(&counters.round_trips()),
            loop_lag: Percentiles::of(&counters.lags()),
            routes,
            apps: hooked(process),
            closed: counters
                .ends()
                .map(|(by, code, count)| Closed { by, code, count })
                .collect(),
            dropped: counters.drops().filter(|(_, count)| *count > 0).collect(),
            last: process.ends.last(|ended| last(process, ended)),
        }
    }
}

/// Returns `ready`, or why not.
pub(crate) fn state(process: &Process) -> &'static str {
    if process.draining.load(Ordering::Relaxed) {
        "draining"
    } else if process.starting.load(Ordering::Relaxed) {
        "starting"
    } else if process.is_short_of_memory() {
        "over budget"
    } else {
        "ready"
    }
}

fn hooked(process: &Process) -> Vec<App> {
    let apps = apps(process).into_iter();
    apps.map(|(name, hooks, sums)| {
        let breaker = process.breakers.get(hooks.app);
        let attempts = EVENTS.iter().zip(sums.results).map(|(event, results)| {
            let names = HookResult::ALL.iter().map(|result| result.name());
            (
                *event,
                names.zip(results).filter(|(_, count)| *count > 0).collect(),
            )
        });
        App {
            app: name,
            breaker_open: breaker.is_some_and(|breaker| breaker.is_open()),
            in_flight: Of {
                now: sums.in_flight,
                limit: hooks.concurrency as u64,
            },
            queued_messages: sums.queued,
            queued_bytes: sums.queued_bytes,
            retries: sums.retries,
            duration: Percentiles::of(&sums.durations),
            attempts: attempts
                .filter(|(_, results): &(_, BTreeMap<_, _>)| !results.is_empty())
                .collect(),
        }
    })
    .collect()
}

fn last(process: &Process, ended: &Ended) -> Last {
    let route = process.config.routes.get(usize::from(ended.route.0));
    Last {
        id: ended.id.to_string(),
        at: ended.at,
        route: route.map_or_else(String::new, |route| route.path.clone()),
        path: ended.about.path(),
        version: ended.version.name(),
        peer: escaped(&ended.about.peer()).to_string(),
        origin: ended
            .about
            .origin()
            .map(|origin| escaped(origin).to_string()),
        seconds: ended.lasted.as_secs_f64(),
        messages_in: ended.messages_in,
        bytes_in: ended.bytes_in,
        messages_out: ended.messages_out,
        bytes_out: ended.bytes_out,
        code: ended.code,
        reason: escaped(&ended.reason).to_string(),
        by: ended.by,
        clean: ended.clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::SocketId;
    use crate::ends::About;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::time::Duration;
    use ws_proto::Instant;

    /// The names of all fields, each with those that it is in.
    fn fields(value: &Value, above: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    let path = format!("{above}/{name}");
                    fields(value, &path, found);
                    found.insert(path);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| fields(item, above, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn the_page_shows_every_field_of_the_status_and_no_other() {
        let hooks = crate::hook::testing::hooks();
        let process = crate::hook::testing::process(&crate::hook::testing::route(hooks), 1);
        let counters = &process.counters;
        counters.refuse("origin");
        counters.end(0, Some(1000));
        for event in 1..=3 {
            let counts = counters.of_thread(0);
            counts.app(0).result(event, HookResult::Taken);
        }
        let ended = Ended {
            id: SocketId::from_bytes([7; 24]),
            route: crate::command::RouteId(0),
            version: Version::Rfc6455,
            about: About::new([Some("tcp:192.0.2.1"), Some("/"), None, None, None]),
            at: 0,
            lasted: Duration::ZERO,
            messages_in: 0,
            bytes_in: 0,
            messages_out: 0,
            bytes_out: 0,
            code: None,
            reason: String::new(),
            by: "client",
            clean: true,
            round_trip: None,
        };
        process.ends.note(Instant::at(0), ended, &process.config);
        let page = include_str!("../docs/control.md");
        let shown = page
            .split("```json\n")
            .filter_map(|block| block.split("```").next())
            .find(|block| block.contains("\"loop_lag\""))
            .unwrap();
        let (mut said, mut told) = (BTreeSet::new(), BTreeSet::new());
        let status = serde_json::to_value(Overview::of(&process)).unwrap();
        fields(&status, "", &mut said);
        fields(&serde_json::from_str(shown).unwrap(), "", &mut told);
        assert_eq!(said, told);
    }
}
