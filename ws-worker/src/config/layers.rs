//! Typed answers to "what is written for this key": by a flag, in the route, at the top, and the default where nothing
//! is. Knows every key, and no second key's value.

use super::error::Wrong;
use super::key::{FORWARDED, Key, Kind};
use super::raw::{Data, Table, Value};
use super::{
    Bounds, Dialect, Docroot, Hooks, JournalMode, Listener, Origin, Retry, Route, Scheme, Target,
    is_group_name, place, read,
};
use crate::config::RouteId;
use ipnet::IpNet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{DeflateLimits, HeadLimits, Limits, Versions};

/// Where a worker listens unless told otherwise.
const LISTEN: &str = "127.0.0.1:9000";

/// What is written for one route, or for the top alone; the first that says something holds.
pub(crate) struct Layers<'a> {
    pub(crate) flags: &'a Table,
    pub(crate) route: Option<&'a Table>,
    pub(crate) top: &'a Table,
}

impl<'a> Layers<'a> {
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        debug_assert!(Key::find(name).is_some(), "{name} is no key");
        let entry = self
            .flags
            .get(name)
            .or_else(|| self.route.and_then(|route| route.get(name)))
            .or_else(|| self.top.get(name));
        entry.map(|entry| &entry.value)
    }

    pub(crate) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'a Value) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        let value = self.value(name).map(read).transpose();
        value.map_err(|wrong| wrong.of(name))
    }

    pub(crate) fn duration(&self, name: &str) -> Result<Option<Duration>, Wrong> {
        self.read(name, read::duration)
    }

    pub(crate) fn size(&self, name: &str) -> Result<Option<usize>, Wrong> {
        self.read(name, |value| read::size(value, 0))
    }

    pub(crate) fn count<N: TryFrom<u64>>(&self, name: &str) -> Result<Option<N>, Wrong> {
        self.read(name, |value| {
            let any = 0..=u64::MAX;
            let bounds = match Key::find(name).map(|key| &key.kind) {
                Some(Kind::Count(bounds) | Kind::CountOrOff(bounds)) => bounds,
                Some(_) | None => &any,
            };
            N::try_from(read::count(value, bounds)?)
                .map_err(|_| Wrong::new(&value.place, "this is too large"))
        })
    }

    pub(crate) fn listeners(&self) -> Result<Vec<Listener>, Wrong> {
        let default = Value::of_flag("listen", Data::Text(LISTEN.to_owned()));
        let value = self.value("listen").unwrap_or(&default);
        let mut listeners: Vec<Listener> = Vec::new();
        for value in value.each() {
            let listener = read::listener(value)?;
            if listeners
                .iter()
                .any(|other| other.address == listener.address)
            {
                let message = format!("{} is named twice", listener.address);
                return Err(Wrong::new(&value.place, message));
            }
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Err(Wrong::new(&value.place, "clients have nowhere to come in")
                .help(format!("write \"{LISTEN}\"")));
        }
        Ok(listeners)
    }

    pub(crate) fn worker(&self) -> Result<Option<String>, Wrong> {
        self.read("worker", |value| {
            let name = read::text(value)?;
            is_worker_name(name)
                .then(|| name.to_owned())
                .ok_or_else(|| {
                    Wrong::new(&value.place, "this name cannot stand in a header")
                        .help("write at most 64 printable ASCII characters without blanks")
                })
        })
    }

    pub(crate) fn log_level(&self) -> Result<Option<tracing::Level>, Wrong> {
        const WORDS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        let word = self.read("log_level", |value| read::word(value, &WORDS))?;
        Ok(word.and_then(|word| word.parse().ok()))
    }

    pub(crate) fn journal(&self) -> Result<Option<PathBuf>, Wrong> {
        self.read("journal", place::journal).map(Option::flatten)
    }

    pub(crate) fn journal_mode(&self) -> Result<JournalMode, Wrong> {
        let word = self.read("journal_mode", |value| {
            read::word(value, &["strict", "best-effort"])
        })?;
        Ok(match word {
            Some("best-effort") => JournalMode::BestEffort,
            Some(_) | None => JournalMode::Strict,
        })
    }

    pub(crate) fn trusted_proxies(&self) -> Result<Vec<IpNet>, Wrong> {
        let networks = self.read("trusted_proxies", |value| {
            let texts = read::texts(value)?.into_iter();
            texts
                .map(|(text, value)| {
                    let alone = text.parse::<IpAddr>().map(IpNet::from);
                    alone.or_else(|_| text.parse()).map_err(|_| {
                        Wrong::new(&value.place, "this is no address and no network")
                            .help("write \"192.0.2.1\", \"10.0.0.0/8\" or \"2001:db8::/32\"; unix sockets are trusted anyway")
                    })
                })
                .collect()
        })?;
        Ok(networks.unwrap_or_default())
    }

    pub(crate) fn head(&self, versions: Versions) -> Result<HeadLimits, Wrong> {
        let defaults = HeadLimits::default();
        Ok(HeadLimits {
            max_head: self.size("max_head")?.unwrap_or(defaults.max_head),
            max_headers: self.count("max_headers")?.unwrap_or(defaults.max_headers),
            max_subprotocols: self
                .count("max_subprotocols")?
                .unwrap_or(defaults.max_subprotocols),
            handshake_timeout: self
                .duration("handshake_timeout")?
                .unwrap_or(defaults.handshake_timeout),
            versions,
        })
    }

    pub(crate) fn bounds(&self) -> Result<Bounds, Wrong> {
        let defaults = Bounds::default();
        Ok(Bounds {
            max_connections: self
                .count("max_connections")?
                .unwrap_or(defaults.max_connections),
            max_handshakes: self
                .count("max_handshakes")?
                .unwrap_or(defaults.max_handshakes),
            memory: self.size("memory")?.unwrap_or(defaults.memory),
            max_per_peer: match self.value("max_per_peer") {
                Some(value) => read::off_or(value, |_| self.count("max_per_peer"))?.flatten(),
                None => None,
            },
            max_control_body: self
                .size("max_control_body")?
                .unwrap_or(defaults.max_control_body),
            deflate_memory: self
                .size("deflate_memory")?
                .unwrap_or(defaults.deflate_memory),
        })
    }

    pub(crate) fn route(&self, id: RouteId, path: &str, target: Target) -> Result<Route, Wrong> {
        let defaults = Route::new(id, path, target);
        let text = self.read("heartbeat_text", |value| {
            read::off_or(value, read::heartbeat_text)
        })?;
        Ok(Route {
            limits: Arc::new(self.limits()?),
            versions: self
                .read("versions", read::versions)?
                .unwrap_or(defaults.versions),
            allowed_origins: self.read("allowed_origins", origins)?,
            max_output: self.size("max_output")?.unwrap_or(defaults.max_output),
            stall_timeout: self
                .duration("stall_timeout")?
                .unwrap_or(defaults.stall_timeout),
            heartbeat_text: text.flatten(),
            max_groups: self.count("max_groups")?.unwrap_or(defaults.max_groups),
            max_group_name: self
                .size("max_group_name")?
                .unwrap_or(defaults.max_group_name),
            max_meta: self.size("max_meta")?.unwrap_or(defaults.max_meta),
            ..defaults
        })
    }

    fn limits(&self) -> Result<Limits, Wrong> {
        let defaults = Limits::default();
        let off_or = |name, default| match self.value(name) {
            Some(value) => read::off_or(value, read::duration),
            None => Ok(default),
        };
        Ok(Limits {
            max_message: self.size("max_message")?.unwrap_or(defaults.max_message),
            max_fragments: self
                .count("max_fragments")?
                .unwrap_or(defaults.max_fragments),
            max_empty_fragments: self
                .count("max_empty_fragments")?
                .unwrap_or(defaults.max_empty_fragments),
            max_control_frames: self
                .count("max_control_frames")?
                .unwrap_or(defaults.max_control_frames),
            max_length_digits: self
                .count("max_length_digits")?
                .unwrap_or(defaults.max_length_digits),
            heartbeat: off_or("heartbeat", defaults.heartbeat)?,
            pong_timeout: self
                .duration("pong_timeout")?
                .unwrap_or(defaults.pong_timeout),
            idle_timeout: off_or("idle_timeout", defaults.idle_timeout)?,
            close_timeout: self
                .duration("close_timeout")?
                .unwrap_or(defaults.close_timeout),
            deflate: self.deflate()?,
        })
    }

    fn deflate(&self) -> Result<Option<DeflateLimits>, Wrong> {
        let defaults = DeflateLimits::default();
        let limits = DeflateLimits {
            min: self.size("deflate_min")?.unwrap_or(defaults.min),
            takeover: self
                .read("deflate_takeover", read::switch)?
                .unwrap_or(defaults.takeover),
        };
        let is_on = self.read("deflate", read::switch)?.unwrap_or(true);
        Ok(is_on.then_some(limits))
    }

    pub(crate) fn fill_hooks(&self, hooks: &mut Hooks) -> Result<(), Wrong> {
        if let Some(dialect) = self.read("dialect", dialect)? {
            hooks.dialect = dialect;
        }
        if let Some(timeout) = self.duration("hook_timeout")? {
            hooks.hook_timeout = timeout;
        }
        if let Some(time) = self.duration("give_up")? {
            hooks.give_up = time;
        }
        if let Some(word) = self.read("retry", |value| read::word(value, &["unknown", "unsent"]))? {
            hooks.retry = if word == "unsent" {
                Retry::Unsent
            } else {
                Retry::Unknown
            };
        }
        let longest = self.size("max_group_name")?.unwrap_or(128);
        if let Some(words) = self.read("answer_to", |value| targets(value, longest))? {
            hooks.answer_to = words;
        }
        if let Some(names) = self.read("forward_headers", header_names)? {
            hooks.forward_headers = names;
        }
        if let Some(started) = self.read("started", read::switch)? {
            hooks.started = started;
        }
        hooks.server_name = self.read("server_name", server_name)?;
        if let Some(messages) = self.count("queue_messages")? {
            hooks.queue_messages = messages;
        }
        if let Some(bytes) = self.size("queue_bytes")? {
            hooks.queue_bytes = bytes;
        }
        if let Some(bytes) = self.size("max_hook_answer")? {
            hooks.max_hook_answer = bytes;
        }
        if let Some(keep) = self.read("keep", read::switch)? {
            hooks.keep = keep;
        }
        hooks.docroot = self.docroot(hooks)?;
        complete_path(hooks);
        Ok(())
    }
}

/// What a script's name ends with below a `docroot`.
const SUFFIX: &str = "_wsh.php";

impl Layers<'_> {
    fn docroot(&self, hooks: &Hooks) -> Result<Option<Docroot>, Wrong> {
        let suffix = self.read("docroot_suffix", |value| {
            let suffix = read::text(value)?;
            let good = suffix.len() <= 64
                && suffix
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'/');
            good.then(|| suffix.to_owned()).ok_or_else(|| {
                Wrong::new(&value.place, "no file's name ends like this")
                    .help(format!("write \"{SUFFIX}\""))
            })
        })?;
        self.read("docroot", |value| {
            let root = PathBuf::from(read::text(value)?);
            let wrong = |message: &str, help: &str| Err(Wrong::new(&value.place, message).help(help));
            if hooks.url.scheme != Scheme::FastCgi {
                return wrong(
                    "scripts are run by FastCGI alone",
                    "write app = \"fcgi+unix:///run/php/php-fpm.sock:\", or leave `docroot` out",
                );
            }
            if hooks.url.path != "/" {
                return wrong(
                    "the app's URL names a script already",
                    "end it with the address, \"fcgi+unix:///run/php/php-fpm.sock:\", or leave `docroot` out",
                );
            }
            if !root.is_absolute() || root.to_str().is_none_or(|root| root.contains(char::is_control)) {
                return wrong("a folder is named by its whole path", "write \"/srv/www\"");
            }
            if !root.is_dir() {
                return wrong("there is no such folder", "clients would find nothing there");
            }
            let suffix = suffix.unwrap_or_else(|| SUFFIX.to_owned());
            Ok(Docroot { root, suffix })
        })
    }
}

fn origins(value: &Value) -> Result<Vec<Origin>, Wrong> {
    let texts = read::texts(value)?;
    if texts.is_empty() {
        return Err(Wrong::new(&value.place, "no origin could come in")
            .help("name the origins, or leave `allowed_origins` out and let the app decide"));
    }
    let origins = texts.into_iter().map(|(text, value)| {
        Origin::parse(text).map_err(|no| Wrong::new(&value.place, no.0).help(no.1))
    });
    origins.collect()
}

/// Reads words of `Ws-To`.
fn targets(value: &Value, longest: usize) -> Result<Vec<String>, Wrong> {
    let words = read::texts(value)?.into_iter();
    words
        .map(|(word, value)| {
            let is_group = word.len() <= longest && is_group_name(word);
            let good = matches!(word, "self" | "all") || is_group;
            good.then(|| word.to_owned()).ok_or_else(|| {
                Wrong::new(&value.place, "nobody can be meant by this")
                    .help("write \"self\", \"all\" or a group's name, or a list of them")
            })
        })
        .collect()
}

fn dialect(value: &Value) -> Result<Dialect, Wrong> {
    Ok(match read::word(value, &["plain", "typhoonae"])? {
        "typhoonae" => Dialect::TyphoonAe,
        _ => Dialect::Plain,
    })
}

/// Where the apps of 2010 expect their hooks, unless the URL says where events go.
fn complete_path(hooks: &mut Hooks) {
    let path = &mut hooks.url.path;
    if hooks.dialect == Dialect::TyphoonAe && hooks.docroot.is_none() && !path.contains('{') {
        let end = path.find('?').unwrap_or(path.len());
        let query = path.split_off(end);
        path.truncate(path.trim_end_matches('/').len());
        path.push_str("/_ah/websocket/{event}/{path}");
        path.push_str(&query);
    }
}

fn server_name(value: &Value) -> Result<String, Wrong> {
    let name = read::text(value)?;
    let good = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    good.then(|| name.to_ascii_lowercase()).ok_or_else(|| {
        Wrong::new(&value.place, "this is no host name")
            .help("write \"www.example.org\", without a port")
    })
}

/// Reads names of headers, lower case; refuses those that are a hook's own or that end at each hop.
fn header_names(value: &Value) -> Result<Vec<String>, Wrong> {
    const OWN: [&str; 15] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    const OWN_PREFIXES: [&str; 4] = ["ws-", "webhook-", "x-typhoonae-", "sec-websocket-"];
    let mut names: Vec<String> = Vec::new();
    for (text, value) in read::texts(value)? {
        let name = text.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.bytes().all(token) {
            return Err(Wrong::new(&value.place, "this is no header's name")
                .help("write names such as \"Cookie\" or \"Accept-Language\""));
        }
        if OWN.contains(&name.as_str())
            || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        {
            return Err(Wrong::new(
                &value.place,
                format!("a client's `{text}` never reaches an app"),
            )
            .help("hooks have a header of that name themselves, or it ends at each hop"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the headers that every hook carries unless the configuration names others.
pub(crate) fn forwarded() -> Vec<String> {
    FORWARDED.map(str::to_owned).to_vec()
}

/// Returns whether a name may be sent as `Ws-Worker`.
pub(crate) fn is_worker_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}
