//! Every key of the file and of the command line in one table: name, where it may stand, what it holds, what it is for.
//! The file's checks, the flags and their help are made of it, so that none of them can miss one.

use super::error::Place;
use super::error::Wrong;
use super::raw::{Data, Entry, Table, Value};
use super::read;
use std::ops::RangeInclusive;

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) group: Group,
    pub(crate) kind: Kind,
    pub(crate) reload: Reload,
    /// As it would be written; empty where there is none.
    pub(crate) default: &'static str,
    /// One line for `--help`.
    pub(crate) help: &'static str,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// At the top alone: it concerns the process, or holds before the route is known.
    Top,
    /// At the top for every route, or in a route.
    Anywhere,
    /// In a route alone.
    Route,
}

/// What a key is about: headings of `--help`, and which flags there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Of `demo` and `serve`.
    Worker,
    /// Of `demo` and `serve`.
    Time,
    /// Of `demo` and `serve`.
    Limits,
    /// Of `serve`.
    Hooks,
    /// No flag.
    FileOnly,
}

/// What a reload does with a key that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// It takes effect at once, or with the next hook.
    Now,
    /// Sockets that are open keep what they were opened with.
    NewSockets,
    /// It is said, and left as it was.
    Restart,
}

/// What a key holds.
pub(crate) enum Kind {
    /// `"25s"`; whether `"0s"` is one.
    Duration { zero: bool },
    /// `"25s"` or `"off"`.
    DurationOrOff,
    /// `"1MiB"`, at least so many bytes.
    Size { min: usize },
    /// A whole number.
    Count(RangeInclusive<u64>),
    /// A whole number or `"off"`.
    CountOrOff(RangeInclusive<u64>),
    /// `true` or `false`.
    Switch,
    /// A string, checked where its meaning is known.
    Text,
    /// One string or a list of them, checked where their meaning is known.
    Texts,
    /// `[7, 8, 13]`.
    Versions,
    /// One listener or a list of them.
    Listeners,
    /// `{ receive = "…", answer = "…" }` or `"off"`.
    HeartbeatText,
}

/// Any number that a `u32` holds.
const U32: RangeInclusive<u64> = 0..=u32::MAX as u64;
/// Any number of things, but one at least.
const SOME: RangeInclusive<u64> = 1..=u32::MAX as u64;

const fn key(
    name: &'static str,
    scope: Scope,
    group: Group,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Key {
    Key {
        name,
        scope,
        group,
        kind,
        reload: Reload::Now,
        default,
        help,
    }
}

impl Key {
    const fn new_sockets(mut self) -> Self {
        self.reload = Reload::NewSockets;
        self
    }

    const fn restart(mut self) -> Self {
        self.reload = Reload::Restart;
        self
    }
}

/// All keys but the tables `control` and `route`.
#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = {
    use Group::{FileOnly, Hooks, Limits, Time, Worker};
    use Kind::{
        Count, CountOrOff, Duration, DurationOrOff, HeartbeatText, Listeners, Size, Switch, Text, Texts,
    };
    use Scope::{Anywhere, Route, Top};
    &[
        key("listen", Top, Worker, Listeners, "127.0.0.1:9000", "Where clients come in: 127.0.0.1:9000, unix:/path, systemd:NAME, fd:0").restart(),
        key("threads", Top, Worker, Count(1..=255), "one a processor", "Loops, one a thread").restart(),
        key("worker", Top, Worker, Text, "the host's name", "The name apps see as Ws-Worker"),
        key("trusted_proxies", Top, Worker, Texts, "none", "Addresses and networks whose forwarding headers are believed; unix sockets always are").new_sockets(),
        key("allowed_origins", Anywhere, Worker, Texts, "the app decides", "Origins that may come in: https://www.example.org, https://*.example.org, null, absent").new_sockets(),
        key("versions", Anywhere, Worker, Kind::Versions, "75,76,7,8,13", "Protocol versions that are on").new_sockets(),
        key("journal", Top, FileOnly, Text, "off", "A file in which closed hooks survive the worker").restart(),
        key("journal_mode", Top, FileOnly, Text, "strict", "A journal that cannot be written: handshakes get 503, or with \"best-effort\" go on without"),

        key("log_level", Top, FileOnly, Text, "info", "What is logged: error, warn, info, debug or trace; --log-level wins"),

        key("app", Anywhere, Hooks, Text, "", "Where hooks go: http://HOST:PORT/PATH, https://HOST/PATH, http+unix:///SOCKET:/PATH, fcgi://HOST:PORT/SCRIPT, fcgi+unix:///SOCKET:/SCRIPT"),
        key("dialect", Anywhere, Hooks, Text, "plain", "How hooks look to the app: \"plain\", or \"typhoonae\" as in 2010"),
        key("secret_file", Anywhere, Hooks, Texts, "none", "File with the key that signs hooks; two while one replaces the other"),
        key("ca_file", Anywhere, Hooks, Text, "the system's", "https: file with the certificates of authorities (PEM) that are believed instead of the system's"),
        key("concurrency", Anywhere, Hooks, Count(SOME), "32, over FastCGI 4", "Hooks in flight to an app"),
        key("hook_timeout", Anywhere, Hooks, Duration { zero: false }, "30s", "One attempt of a hook may take so long"),
        key("give_up", Anywhere, Hooks, Duration { zero: false }, "60s", "A message is repeated for so long, then its socket is closed with 1013"),
        key("retry", Anywhere, Hooks, Text, "unknown", "What is repeated: hooks whose outcome is \"unknown\", or only those surely \"unsent\""),
        key("answer_to", Anywhere, Hooks, Texts, "nobody", "plain: whom an answer to a message is for that has a body and no Ws-To: self, all, groups"),
        key("forward_headers", Anywhere, Hooks, Texts, FORWARDED_LIST, "Headers of the handshake that every hook carries").new_sockets(),
        key("started", Anywhere, Hooks, Switch, "false", "Whether the app is told of every start").restart(),
        key("server_name", Anywhere, Hooks, Text, "", "typhoonae: the scope of its broadcast; FastCGI: SERVER_NAME"),

        key("keep", Anywhere, Hooks, Switch, "false", "FastCGI: keep connections, which pins a child of php-fpm each"),
        key("docroot", Anywhere, Hooks, Text, "none", "FastCGI: a folder; /foo/bar is its file foo/bar_wsh.php").new_sockets(),
        key("docroot_suffix", Anywhere, Hooks, Text, "_wsh.php", "FastCGI: what such a file's name ends with").new_sockets(),

        key("handshake_timeout", Top, Time, Duration { zero: false }, "10s", "From accept until open").new_sockets(),
        key("heartbeat", Anywhere, Time, DurationOrOff, "25s", "Ping when nothing came for so long, or off").new_sockets(),
        key("pong_timeout", Anywhere, Time, Duration { zero: false }, "20s", "Without any byte for so long after a ping: dropped").new_sockets(),
        key("idle_timeout", Anywhere, Time, DurationOrOff, "off", "Without a message for so long: closed with 1001").new_sockets(),
        key("heartbeat_text", Anywhere, Time, HeartbeatText, "off", "A text from clients that is swallowed; { receive = \"…\", answer = \"…\" } answers it"),
        key("close_timeout", Anywhere, Time, Duration { zero: false }, "5s", "The closing handshake may take so long").new_sockets(),
        key("stall_timeout", Anywhere, Time, Duration { zero: false }, "30s", "Unsent bytes and no progress for so long: dropped"),
        key("drain", Top, Time, Duration { zero: true }, "20s", "After SIGTERM: time to close all sockets"),

        key("max_head", Top, Limits, Size { min: 256 }, "16KiB", "A handshake's request line and headers").new_sockets(),
        key("max_headers", Top, Limits, Count(1..=65_535), "100", "Headers of a handshake").new_sockets(),
        key("max_subprotocols", Top, Limits, Count(1..=65_535), "32", "Subprotocols that a handshake offers").new_sockets(),
        key("max_message", Anywhere, Limits, Size { min: 1 }, "1MiB", "A message, whole or put together").new_sockets(),
        key("max_fragments", Anywhere, Limits, Count(SOME), "16384", "Fragments of a message").new_sockets(),
        key("max_empty_fragments", Anywhere, Limits, Count(U32), "256", "Empty fragments of a message").new_sockets(),
        key("max_control_frames", Anywhere, Limits, Count(U32), "1024", "Control frames inside a fragmented message").new_sockets(),
        key("max_length_digits", Anywhere, Limits, Count(1..=9), "9", "Digits of a length in 75 and 76").new_sockets(),
        key("max_output", Anywhere, Limits, Size { min: 1 }, "1MiB", "Bytes queued for a socket"),
        key("queue_messages", Anywhere, Limits, Count(SOME), "64", "Messages that a socket queues for the app, then it is not read"),
        key("queue_bytes", Anywhere, Limits, Size { min: 1 }, "1MiB", "Bytes that a socket queues for the app, then it is not read"),
        key("max_hook_answer", Anywhere, Limits, Size { min: 1 }, "1MiB", "An app's answer to a hook"),
        key("max_groups", Anywhere, Limits, Count(U32), "64", "Groups that a socket is in"),
        key("max_group_name", Anywhere, Limits, Size { min: 1 }, "128B", "A group's name"),
        key("max_meta", Anywhere, Limits, Size { min: 0 }, "8KiB", "What an app stores for a socket"),
        key("max_connections", Top, Limits, Count(SOME), "65536, or what the descriptor limit leaves", "Sockets in any state").new_sockets(),
        key("max_handshakes", Top, Limits, Count(SOME), "1024", "Handshakes in flight").new_sockets(),
        key("max_per_peer", Top, Limits, CountOrOff(SOME), "off", "Sockets of one peer address").new_sockets(),
        key("memory", Top, Limits, Size { min: 1024 * 1024 }, "256MiB", "All buffers of all sockets together"),
        key("max_control_body", Top, Limits, Size { min: 1 }, "16MiB", "A control request's body"),
        key("deflate", Anywhere, Limits, Switch, "true", "Compression, where a client offers it").new_sockets(),
        key("deflate_min", Anywhere, Limits, Size { min: 0 }, "128B", "Smaller messages are not compressed").new_sockets(),
        key("deflate_takeover", Anywhere, Limits, Switch, "false", "Whether a socket's messages are remembered to compress the next ones").new_sockets(),
        key("deflate_memory", Top, Limits, Size { min: 0 }, "64MiB", "What is remembered of all sockets together").new_sockets(),

        key("path", Route, FileOnly, Text, "", "A path and what lies below it"),
        key("handler", Anywhere, FileOnly, Text, "", "What answers instead of an app: \"echo\" or \"chat\""),
    ]
};

/// Headers that every hook carries unless the configuration names others.
pub(crate) const FORWARDED: [&str; 6] = [
    "cookie",
    "authorization",
    "user-agent",
    "accept-language",
    "x-request-id",
    "traceparent",
];
const FORWARDED_LIST: &str =
    "Cookie,Authorization,User-Agent,Accept-Language,X-Request-Id,traceparent";

impl Key {
    /// Finds a key.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Returns the flag's name without its dashes.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Reads what a flag says, written as in the file but without quotes, lists with commas.
    pub(crate) fn of_flag(&self, written: &str) -> Result<Value, Wrong> {
        let flag = self.flag();
        let text = |text: &str| Data::Text(text.to_owned());
        let number = |text: &str| {
            text.parse()
                .map_or_else(|_| Data::Text(text.to_owned()), Data::Integer)
        };
        let list = |item: &dyn Fn(&str) -> Data| {
            let items = written
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Data::List(
                items
                    .map(|text| Value::of_flag(&flag, item(text)))
                    .collect(),
            )
        };
        let data = match &self.kind {
            Kind::Count(_) | Kind::CountOrOff(_) => number(written),
            Kind::Switch => written
                .parse()
                .map_or_else(|_| text(written), Data::Boolean),
            Kind::Texts => list(&text),
            Kind::Versions => list(&number),
            Kind::HeartbeatText if written.starts_with('{') => {
                let table = Table::parse(&format!("flag = {written}"))
                    .map_err(|wrong| Wrong::new(&Place::Flag(flag.clone()), wrong.in_a_line()))?;
                let table = table
                    .entries
                    .into_iter()
                    .next()
                    .map(|entry| entry.value.data);
                at_flag(&flag, table.unwrap_or(Data::Other))
            }
            Kind::HeartbeatText if written != "off" => {
                let mut table = Table::default();
                table.set("receive", Value::of_flag(&flag, text(written)));
                Data::Table(table)
            }
            Kind::HeartbeatText
            | Kind::Duration { .. }
            | Kind::DurationOrOff
            | Kind::Size { .. }
            | Kind::Text
            | Kind::Listeners => text(written),
        };
        let value = Value::of_flag(&flag, data);
        self.check(&value)?;
        Ok(value)
    }

    /// Checks what can be checked without knowing the key's meaning.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Wrong> {
        match &self.kind {
            Kind::Duration { zero } => {
                let duration = read::duration(value)?;
                if duration.is_zero() && !zero {
                    return Err(Wrong::new(&value.place, "this cannot be zero")
                        .help("write at least \"1ms\""));
                }
            }
            Kind::DurationOrOff => {
                if read::off_or(value, read::duration)?.is_some_and(|duration| duration.is_zero()) {
                    return Err(
                        Wrong::new(&value.place, "this cannot be zero").help("write \"off\"")
                    );
                }
            }
            Kind::Size { min } => {
                read::size(value, *min)?;
            }
            Kind::Count(bounds) => {
                read::count(value, bounds)?;
            }
            Kind::CountOrOff(bounds) => {
                read::off_or(value, |value| read::count(value, bounds))?;
            }
            Kind::Switch => {
                read::switch(value)?;
            }
            Kind::Text => {
                read::text(value)?;
            }
            Kind::Texts => {
                read::texts(value)?;
            }
            Kind::Versions => {
                read::versions(value)?;
            }
            Kind::Listeners => {
                for value in value.each() {
                    read::listener(value)?;
                }
            }
            Kind::HeartbeatText => {
                read::off_or(value, read::heartbeat_text)?;
            }
        }
        Ok(())
    }

    /// Returns what `--help` calls the value.
    pub(crate) fn value_name(&self) -> &'static str {
        match self.kind {
            Kind::Duration { .. } | Kind::DurationOrOff => "TIME",
            Kind::Size { .. } => "SIZE",
            Kind::Count(_) | Kind::CountOrOff(_) => "N",
            Kind::Switch => "true|false",
            Kind::Versions => "N,…",
            Kind::Listeners => "ADDR",
            Kind::HeartbeatText => "TEXT",
            Kind::Text | Kind::Texts => match self.name {
                "app" => "URL",
                "secret_file" => "FILE,…",
                "ca_file" => "FILE",
                "docroot" => "FOLDER",
                "docroot_suffix" => "TEXT",
                "trusted_proxies" => "NET,…",
                "allowed_origins" => "ORIGIN,…",
                "answer_to" => "WHO,…",
                "forward_headers" => "NAME,…",
                "retry" => "unknown|unsent",
                "dialect" => "plain|typhoonae",
                _ => "NAME",
            },
        }
    }

    /// Returns whether the flag may be given more than once, each time adding to the list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::Texts | Kind::Versions | Kind::Listeners)
    }
}

/// Lets a value that was parsed from a flag's text be at the flag.
fn at_flag(flag: &str, data: Data) -> Data {
    let place = Place::Flag(flag.to_owned());
    let moved = |value: Value| Value {
        data: at_flag(flag, value.data),
        place: place.clone(),
    };
    match data {
        Data::List(values) => Data::List(values.into_iter().map(moved).collect()),
        Data::Table(table) => Data::Table(Table {
            entries: table
                .entries
                .into_iter()
                .map(|entry| Entry {
                    key: entry.key,
                    place: place.clone(),
                    value: moved(entry.value),
                })
                .collect(),
        }),
        Data::Text(_) | Data::Integer(_) | Data::Boolean(_) | Data::Other => data,
    }
}
