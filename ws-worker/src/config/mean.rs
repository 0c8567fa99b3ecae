//! From what is written, in a file and in flags, to what is meant: defaults, checks of one key against another, files
//! that hold secrets, names that are resolved. A flag wins over the file, at the top and in every route.

use super::error::{Place, Source, Wrong};
use super::key::{KEYS, Key, Scope};
use super::layers::Layers;
use super::raw::{Data, Entry, Table, Value};
use super::secret::{self, Kept};
use super::{
    Address, Config, Control, Hooks, Listener, Route, Scheme, Target, Tls, app_url, read, warn,
};
use crate::config::RouteId;
use crate::tls::Trust;
use std::sync::Arc;

/// Where the routes come from.
pub(crate) enum Routes {
    /// The file, or one route for the app that a flag names.
    Written,
    /// A program: path and what answers.
    Given(Vec<(&'static str, Target)>),
}

/// Means a file and flags; either may be empty.
pub(crate) fn config(
    source: &Source<'_>,
    file: &Table,
    flags: &Table,
    routes: Routes,
) -> Result<Config, Wrong> {
    check_keys(file)?;
    let mut meaning = Meaning {
        source,
        file,
        flags,
        apps: Vec::new(),
        system: None,
        warnings: Vec::new(),
    };
    let top = meaning.layers(None);
    let listeners = top.listeners()?;
    let control = meaning.control(&listeners)?;
    let routes = match routes {
        Routes::Written => meaning.written_routes()?,
        Routes::Given(routes) => routes
            .into_iter()
            .zip(0..)
            .map(|((path, target), id)| top.route(RouteId(id), path, target))
            .collect::<Result<_, _>>()?,
    };
    let versions = routes
        .iter()
        .flat_map(|route| route.versions.newest_first())
        .collect();
    let defaults = Config::default();
    let mut config = Config {
        listeners,
        threads: top.count("threads")?.unwrap_or(defaults.threads),
        worker: top.worker()?.unwrap_or(defaults.worker),
        trusted_proxies: top.trusted_proxies()?,
        control,
        routes: routes.into_iter().map(Arc::new).collect(),
        head: top.head(versions)?,
        bounds: top.bounds()?,
        drain: top.duration("drain")?.unwrap_or(defaults.drain),
        journal: top.journal()?,
        journal_mode: top.journal_mode()?,
        log_level: top.log_level()?.unwrap_or(defaults.log_level),
        warnings: meaning.warnings,
        apps: meaning.apps.into_iter().map(|app| app.url).collect(),
    };
    config.warnings.extend(warn::of(&config));
    Ok(config)
}

/// Refuses keys that are unknown or stand where they mean nothing, then values of the wrong kind.
fn check_keys(file: &Table) -> Result<(), Wrong> {
    let top = || {
        let keys = KEYS.iter().filter(|key| key.scope != Scope::Route);
        keys.map(|key| key.name).chain(["control", "route"])
    };
    for entry in &file.entries {
        match (entry.key.as_str(), &entry.value.data) {
            ("control", Data::Table(table)) => check_control_keys(table)?,
            ("control", _) => return Err(no_table(&entry.place)),
            ("route", Data::List(routes)) => routes.iter().try_for_each(check_route_keys)?,
            ("route", _) => {
                return Err(Wrong::new(&entry.place, "there can be many routes")
                    .help("write [[route]], with two brackets"));
            }
            (name, _) => match Key::find(name) {
                Some(key) if key.scope == Scope::Route => {
                    return Err(
                        Wrong::new(&entry.place, format!("`{name}` stands in a route"))
                            .help("write it below [[route]]"),
                    );
                }
                Some(key) => key.check(&entry.value).map_err(|wrong| wrong.of(name))?,
                None => {
                    return Err(Wrong::new(&entry.place, format!("unknown key `{name}`"))
                        .help(read::nearest(name, top())));
                }
            },
        }
    }
    Ok(())
}

/// Means `[control]` alone, for who speaks to a worker that runs: no name is resolved, and no secret read but the token, if
/// that is wanted.
pub(crate) fn control(file: &Table, wants_token: bool) -> Result<Option<Control>, Wrong> {
    let Some(entry) = file.get("control") else {
        return Ok(None);
    };
    let Data::Table(keys) = &entry.value.data else {
        return Err(no_table(&entry.place));
    };
    check_control_keys(keys)?;
    let listen = keys.get("listen").ok_or_else(|| nowhere(&entry.place))?;
    let address = read::address(&listen.value).map_err(|wrong| wrong.of("listen"))?;
    let token = match keys.get("token_file") {
        Some(token) if wants_token => {
            let kept = secret::read(&token.value, read::text(&token.value)?)?;
            Some(secret::token(&token.value, kept, &mut Vec::new())?)
        }
        Some(_) | None => None,
    };
    Ok(Some(Control { address, token }))
}

fn no_table(place: &Place) -> Wrong {
    Wrong::new(place, "`control` is a table")
        .help("write [control] and below it listen = \"unix:/run/ws-worker/control.sock\"")
}

fn nowhere(place: &Place) -> Wrong {
    Wrong::new(place, "[control] does not say where to listen")
        .help("write listen = \"unix:/run/ws-worker/control.sock\"")
}

const CONTROL_KEYS: [&str; 2] = ["listen", "token_file"];

fn check_control_keys(table: &Table) -> Result<(), Wrong> {
    for entry in &table.entries {
        if !CONTROL_KEYS.contains(&entry.key.as_str()) && Key::find(&entry.key).is_some() {
            let message = format!("`{}` is no key of [control]", entry.key);
            return Err(Wrong::new(&entry.place, message)
                .help("what concerns the whole worker stands above the first [table]"));
        }
    }
    read::only(table, &CONTROL_KEYS, "[control]")
}

fn check_route_keys(route: &Value) -> Result<(), Wrong> {
    let Data::Table(table) = &route.data else {
        return Err(Wrong::new(&route.place, "a route is a table").help("write [[route]]"));
    };
    let known = || {
        let keys = KEYS.iter().filter(|key| key.scope != Scope::Top);
        keys.map(|key| key.name)
    };
    for entry in &table.entries {
        let name = entry.key.as_str();
        match Key::find(name) {
            Some(key) if key.scope == Scope::Top => {
                let message = format!("`{name}` concerns the whole worker, not a route");
                return Err(
                    Wrong::new(&entry.place, message).help("write it above the first [table]")
                );
            }
            Some(key) => key.check(&entry.value).map_err(|wrong| wrong.of(name))?,
            None => {
                return Err(
                    Wrong::new(&entry.place, format!("unknown key `{name}` in a route"))
                        .help(read::nearest(name, known())),
                );
            }
        }
    }
    Ok(())
}

/// What is collected on the way.
struct Meaning<'a> {
    source: &'a Source<'a>,
    file: &'a Table,
    flags: &'a Table,
    apps: Vec<App>,
    /// Whom the machine trusts, read when the first app needs it.
    system: Option<Trust>,
    warnings: Vec<String>,
}

/// An app: all routes with the same URL.
struct App {
    url: String,
    meant: super::AppUrl,
    concurrency: usize,
    ca_file: Option<String>,
    tls: Option<Tls>,
    place: Place,
}

impl<'a> Meaning<'a> {
    fn layers(&self, route: Option<&'a Table>) -> Layers<'a> {
        Layers {
            flags: self.flags,
            route,
            top: self.file,
        }
    }

    fn kept(&mut self, value: &Value, path: &str) -> Result<Kept, Wrong> {
        let kept = secret::read(value, path)?;
        if kept.readable_by_all {
            self.warnings
                .push(format!("{path} can be read by every user of this machine"));
        }
        Ok(kept)
    }

    fn control(&mut self, listeners: &[Listener]) -> Result<Option<Control>, Wrong> {
        let table = self.file.get("control");
        let keys = match table.map(|entry| &entry.value.data) {
            Some(Data::Table(keys)) => Some(keys),
            Some(_) | None => None,
        };
        let written = |flag: &str, key: &str| {
            let flag = self.flags.get(flag);
            flag.or_else(|| keys?.get(key)).map(|entry| &entry.value)
        };
        let (listen, token_file) = (
            written("control", "listen"),
            written("token_file", "token_file"),
        );
        let Some(listen) = listen else {
            return match (table, token_file) {
                (Some(table), _) => Err(nowhere(&table.place)),
                (None, Some(token)) => {
                    Err(Wrong::new(&token.place, "there is no control API to guard")
                        .help("add --control ADDR"))
                }
                (None, None) => Ok(None),
            };
        };
        let address = read::address(listen).map_err(|wrong| wrong.of("listen"))?;
        if listeners.iter().any(|listener| listener.address == address) {
            return Err(Wrong::new(&listen.place, "clients come in at this address")
                .help("the control API has a listener of its own"));
        }
        let token = match token_file {
            Some(value) => {
                let kept = self.kept(value, read::text(value)?)?;
                Some(secret::token(value, kept, &mut self.warnings)?)
            }
            None => None,
        };
        let needs_token = match &address {
            Address::Unix(_) => None,
            Address::Tcp(_) => Some("a control API on TCP needs a token"),
            // What is inherited may be TCP.
            Address::Systemd(_) | Address::Descriptor(_) => {
                Some("a control API on an inherited socket needs a token")
            }
        };
        match needs_token {
            Some(message) if token.is_none() => Err(Wrong::new(&listen.place, message).help(
                "add token_file = \"/etc/ws-worker/control.token\", or listen on \"unix:/run/ws-worker/control.sock\"",
            )),
            Some(_) | None => Ok(Some(Control { address, token })),
        }
    }

    fn written_routes(&mut self) -> Result<Vec<Route>, Wrong> {
        let values = match self.file.get("route").map(|entry| &entry.value.data) {
            Some(Data::List(values)) => values.as_slice(),
            Some(_) | None => &[],
        };
        if values.is_empty() {
            let top = self.layers(None);
            let target = self.target(&top, None)?.ok_or_else(|| {
                Wrong::new(&Place::Whole, "there is no route").help(
                    "write [[route]] with path = \"/\" and app = \"http://127.0.0.1:8080/ws\", or use --app URL",
                )
            })?;
            return Ok(vec![top.route(RouteId(0), "/", target)?]);
        }
        if values.len() > usize::from(u16::MAX) {
            return Err(Wrong::new(
                &Place::Whole,
                "there are more than 65535 routes",
            ));
        }
        let mut routes: Vec<(Route, &Place)> = Vec::new();
        for (value, id) in values.iter().zip(0..) {
            let Data::Table(table) = &value.data else {
                continue; // Refused by `check_keys`.
            };
            let entry = table.get("path").ok_or_else(|| {
                Wrong::new(&value.place, "the route has no path")
                    .help("write path = \"/\" for everything")
            })?;
            let path = route_path(&entry.value).map_err(|wrong| wrong.of("path"))?;
            if let Some((_, other)) = routes.iter().find(|(route, _)| route.path == path) {
                let message = format!(
                    "the route `{path}` is already at {}",
                    self.source.line(other)
                );
                return Err(Wrong::new(&entry.value.place, message));
            }
            let layers = self.layers(Some(table));
            let target = self.target(&layers, Some(table))?.ok_or_else(|| {
                Wrong::new(&entry.value.place, format!("nothing answers on `{path}`")).help(
                    "write app = \"http://127.0.0.1:8080/ws\", or handler = \"echo\" or \"chat\"",
                )
            })?;
            routes.push((layers.route(RouteId(id), path, target)?, &entry.value.place));
        }
        Ok(routes.into_iter().map(|(route, _)| route).collect())
    }

    /// Decides what answers: the route's own word before what stands at the top; the flag replaces any app, no handler.
    fn target(
        &mut self,
        layers: &Layers<'_>,
        route: Option<&Table>,
    ) -> Result<Option<Target>, Wrong> {
        let either = |table: &'a Table| one_of(table.get("app"), table.get("handler"));
        let own = match route {
            Some(table) => one_of(table.get("app"), table.get("handler"))?,
            None => None,
        };
        let entry = match own.or(either(self.file)?) {
            Some(entry) if entry.key == "handler" && own.is_some() => Some(entry),
            entry => self.flags.get("app").or(entry),
        };
        let Some(Entry { key, value, .. }) = entry else {
            return Ok(None);
        };
        if key == "app" {
            let hooks = self.hooks(layers, value)?;
            return Ok(Some(Target::Hooks(Arc::new(hooks))));
        }
        match read::word(value, &["echo", "chat"]).map_err(|wrong| wrong.of("handler"))? {
            "chat" => Ok(Some(Target::Chat)),
            _ => Ok(Some(Target::Echo)),
        }
    }

    fn hooks(&mut self, layers: &Layers<'_>, value: &Value) -> Result<Hooks, Wrong> {
        let written = read::text(value)?;
        let concurrency_value = layers.value("concurrency");
        let usual = if written.starts_with("fcgi") {
            Hooks::FASTCGI_CONCURRENCY
        } else {
            Hooks::CONCURRENCY
        };
        let concurrency = layers.count("concurrency")?.unwrap_or(usual);
        let ca_file = layers.read("ca_file", |value| Ok(read::text(value)?.to_owned()))?;
        let known = self.apps.iter().position(|app| app.url == written);
        let number = match known {
            Some(number) => number,
            None => {
                let meant = app_url::parse(value).map_err(|wrong| wrong.of("app"))?;
                let tls = self.tls(layers, value, &meant)?;
                self.apps.push(App {
                    url: written.to_owned(),
                    tls,
                    meant,
                    concurrency,
                    ca_file: ca_file.clone(),
                    place: value.place.clone(),
                });
                self.apps.len() - 1
            }
        };
        let Some(app) = self.apps.get(number) else {
            return Err(Wrong::new(&value.place, "this app is unknown"));
        };
        if app.concurrency != concurrency {
            let place = concurrency_value.map_or(&value.place, |value| &value.place);
            let message = format!(
                "one app has one concurrency: it is {concurrency} here and {} for the same URL at {}",
                app.concurrency,
                self.source.line(&app.place)
            );
            return Err(Wrong::new(place, message)
                .help("write it once, at the top, or give the routes different URLs"));
        }
        if app.ca_file != ca_file && app.tls.is_some() {
            let place = layers
                .value("ca_file")
                .map_or(&value.place, |value| &value.place);
            let message = format!(
                "one app is believed on one authority: another is named for the same URL at {}",
                self.source.line(&app.place)
            );
            return Err(Wrong::new(place, message)
                .help("write `ca_file` once, at the top, or give the routes different URLs"));
        }
        let mut hooks = Hooks::new(number, app.meant.clone());
        hooks.concurrency = concurrency;
        hooks.tls.clone_from(&app.tls);
        layers.fill_hooks(&mut hooks)?;
        if hooks.url.scheme == Scheme::FastCgi && hooks.docroot.is_none() {
            app_url::check_script(value, &hooks.url).map_err(|wrong| wrong.of("app"))?;
        }
        if let Some(value) = layers.value("secret_file") {
            let files = read::texts(value)?;
            if files.len() > 2 {
                return Err(
                    Wrong::new(&value.place, "at most two secrets are used at once")
                        .help("the first signs, the second is the one it replaces"),
                );
            }
            for (path, value) in files {
                let kept = self.kept(value, path)?;
                hooks
                    .secrets
                    .push(secret::signing_key(value, kept, &mut self.warnings)?);
            }
        }
        Ok(hooks)
    }
}

impl Meaning<'_> {
    /// Reads whom to believe that an `https://` app is itself.
    fn tls(
        &mut self,
        layers: &Layers<'_>,
        value: &Value,
        url: &super::AppUrl,
    ) -> Result<Option<Tls>, Wrong> {
        if url.scheme != Scheme::Https {
            return Ok(None);
        }
        let trust = match layers.read("ca_file", authorities)? {
            Some(trust) => trust,
            None => match &self.system {
                Some(trust) => trust.clone(),
                None => {
                    let trust = Trust::of_the_system().map_err(|error| {
                        Wrong::new(&value.place, error).help(
                            "install the system's certificates (Debian: ca-certificates), or name the app's authority by `ca_file`",
                        )
                    })?;
                    self.system.insert(trust).clone()
                }
            },
        };
        Ok(Tls::new(url.host_name(), &trust))
    }
}

/// Reads the certificates that a `ca_file` holds.
fn authorities(value: &Value) -> Result<Trust, Wrong> {
    let path = read::text(value)?;
    let wrong = |what: String| {
        Wrong::new(&value.place, format!("{path} {what}"))
            .help("it holds one or more certificates of authorities: -----BEGIN CERTIFICATE-----")
    };
    let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_CA_FILE {
        return Err(wrong("is no file of certificates".to_owned()));
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    Trust::of_file(&pem).map_err(wrong)
}

/// Bytes of a `ca_file`; 4 MiB. The store of a whole system has a quarter of a megabyte.
const MAX_CA_FILE: u64 = 4 * 1024 * 1024;

fn one_of<'a>(
    app: Option<&'a Entry>,
    handler: Option<&'a Entry>,
) -> Result<Option<&'a Entry>, Wrong> {
    match (app, handler) {
        (Some(_), Some(handler)) => Err(Wrong::new(
            &handler.place,
            "an app and a handler cannot both answer",
        )
        .help("leave one of them out")),
        (entry, None) | (None, entry) => Ok(entry),
    }
}

/// Checks a route's path.
fn route_path(value: &Value) -> Result<&str, Wrong> {
    let path = read::text(value)?;
    let wrong = |message: &str, help: String| Err(Wrong::new(&value.place, message).help(help));
    if !path.starts_with('/') {
        return wrong(
            "a route's path begins with a slash",
            format!("write \"/{path}\""),
        );
    }
    if path.contains(['?', '#']) {
        return wrong(
            "a route's path has no query",
            "leave out what begins with `?` or `#`".to_owned(),
        );
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return wrong(
            "a route's path is printable ASCII without blanks",
            "write other characters percent-encoded, as browsers send them".to_owned(),
        );
    }
    if path == "/" {
        return Ok(path);
    }
    if path.ends_with('/') {
        return wrong(
            "a route's path ends without a slash",
            format!(
                "write \"{}\": it holds what lies below it",
                path.trim_end_matches('/')
            ),
        );
    }
    if path
        .split('/')
        .skip(1)
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return wrong(
            "a route's path has no empty or dotted segment",
            "browsers never send one".to_owned(),
        );
    }
    Ok(path)
}
