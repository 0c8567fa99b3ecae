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
        key("listen", Top, Worker, Listeners, "127.0.0.1:9000", "Where clients connect: 127.0.0.1:9000, unix:/path, systemd:NAME, fd:0").restart(),
        key("threads", Top, Worker, Count(1..=255), "one a processor", "Threads, each with a loop of its own").restart(),
        key("worker", Top, Worker, Text, "the host's name", "The name apps see as Ws-Worker"),
        key("trusted_proxies", Top, Worker, Texts, "none", "Addresses and networks of proxies whose forwarding headers are believed; peers on unix sockets always are").new_sockets(),
        key("allowed_origins", Anywhere, Worker, Texts, "the app decides", "Origins that may connect: https://www.example.org, https://*.example.org, null, absent").new_sockets(),
        key("versions", Anywhere, Worker, Kind::Versions, "75,76,7,8,13", "Protocol versions that are spoken").new_sockets(),
        key("journal", Top, FileOnly, Text, "off", "A file that keeps the closed hooks owed to apps across a crash or SIGKILL").restart(),
        key("journal_mode", Top, FileOnly, Text, "strict", "While the journal cannot be written: \"strict\" answers handshakes with 503, \"best-effort\" accepts them without it"),

        key("log_level", Top, FileOnly, Text, "info", "What is logged: error, warn, info, debug or trace; --log-level wins"),

        key("app", Anywhere, Hooks, Text, "", "Where hooks go: http://HOST:PORT/PATH, https://HOST/PATH, http+unix:///SOCKET:/PATH, fcgi://HOST:PORT/SCRIPT, fcgi+unix:///SOCKET:/SCRIPT"),
        key("dialect", Anywhere, Hooks, Text, "plain", "How hooks look to the app: \"plain\", or \"typhoonae\" as in 2010"),
        key("secret_file", Anywhere, Hooks, Texts, "none", "File with the key that signs hooks; two files while one key replaces the other"),
        key("ca_file", Anywhere, Hooks, Text, "the system's", "https: PEM file with the certificate authorities to trust instead of the system's"),
        key("concurrency", Anywhere, Hooks, Count(SOME), "32, over FastCGI 4", "Hooks to one app in flight at the same time, in the whole process"),
        key("hook_timeout", Anywhere, Hooks, Duration { zero: false }, "30s", "Time for one attempt at a hook"),
        key("give_up", Anywhere, Hooks, Duration { zero: false }, "60s", "How long a message is repeated before its socket is closed with 1013"),
        key("retry", Anywhere, Hooks, Text, "unknown", "\"unknown\" repeats hooks whose outcome is unknown (at least once), \"unsent\" only those that surely did not arrive (at most once)"),
        key("answer_to", Anywhere, Hooks, Texts, "nobody", "plain: who hears the answer to a message if it has no Ws-To: self, all, groups"),
        key("forward_headers", Anywhere, Hooks, Texts, FORWARDED_LIST, "Headers of the client's handshake that every hook carries").new_sockets(),
        key("started", Anywhere, Hooks, Switch, "false", "Tell the app about every start of the worker").restart(),
        key("server_name", Anywhere, Hooks, Text, "", "typhoonae: the scope of its broadcast; FastCGI: SERVER_NAME"),

        key("keep", Anywhere, Hooks, Switch, "false", "FastCGI: keep connections open between hooks; each occupies a child of php-fpm"),
        key("docroot", Anywhere, Hooks, Text, "none", "FastCGI: a folder with a script for each path; /foo/bar is its file foo/bar_wsh.php").new_sockets(),
        key("docroot_suffix", Anywhere, Hooks, Text, "_wsh.php", "FastCGI: the end of these scripts' names").new_sockets(),

        key("handshake_timeout", Top, Time, Duration { zero: false }, "10s", "Time from accept until the socket is open").new_sockets(),
        key("heartbeat", Anywhere, Time, DurationOrOff, "25s", "Ping a client after so long without a byte from it, or off").new_sockets(),
        key("pong_timeout", Anywhere, Time, Duration { zero: false }, "20s", "Drop a client that sends no byte for so long after a ping").new_sockets(),
        key("idle_timeout", Anywhere, Time, DurationOrOff, "off", "Close a socket with 1001 after so long without a message from it, or off").new_sockets(),
        key("heartbeat_text", Anywhere, Time, HeartbeatText, "off", "A text from clients that never reaches the app; { receive = \"…\", answer = \"…\" } answers it"),
        key("close_timeout", Anywhere, Time, Duration { zero: false }, "5s", "Time for the closing handshake, then the socket is dropped").new_sockets(),
        key("stall_timeout", Anywhere, Time, Duration { zero: false }, "30s", "Drop a client that for so long takes nothing of what waits for it"),
        key("drain", Top, Time, Duration { zero: true }, "20s", "Time to close all sockets after SIGTERM"),

        key("max_head", Top, Limits, Size { min: 256 }, "16KiB", "Size of a handshake's request line and headers").new_sockets(),
        key("max_headers", Top, Limits, Count(1..=65_535), "100", "Number of headers in a handshake").new_sockets(),
        key("max_subprotocols", Top, Limits, Count(1..=65_535), "32", "Number of subprotocols that a handshake offers").new_sockets(),
        key("max_message", Anywhere, Limits, Size { min: 1 }, "1MiB", "Size of a message, all its fragments together").new_sockets(),
        key("max_fragments", Anywhere, Limits, Count(SOME), "16384", "Number of fragments of a message").new_sockets(),
        key("max_empty_fragments", Anywhere, Limits, Count(U32), "256", "Number of empty fragments of a message").new_sockets(),
        key("max_control_frames", Anywhere, Limits, Count(U32), "1024", "Number of control frames between the fragments of a message").new_sockets(),
        key("max_length_digits", Anywhere, Limits, Count(1..=9), "9", "Number of digits of a length in 75 and 76").new_sockets(),
        key("max_output", Anywhere, Limits, Size { min: 1 }, "1MiB", "Bytes that may wait for one client"),
        key("queue_messages", Anywhere, Limits, Count(SOME), "64", "Messages of one socket that may wait for the app; then the socket is not read"),
        key("queue_bytes", Anywhere, Limits, Size { min: 1 }, "1MiB", "Bytes of one socket that may wait for the app; then the socket is not read"),
        key("max_hook_answer", Anywhere, Limits, Size { min: 1 }, "1MiB", "Size of an app's answer to a hook"),
        key("max_groups", Anywhere, Limits, Count(U32), "64", "Number of groups that one socket may be in"),
        key("max_group_name", Anywhere, Limits, Size { min: 1 }, "128B", "Length of a group's name"),
        key("max_meta", Anywhere, Limits, Size { min: 0 }, "8KiB", "Size of what an app stores for one socket"),
        key("max_connections", Top, Limits, Count(SOME), "65536, or what the descriptor limit leaves", "Sockets in any state").new_sockets(),
        key("max_handshakes", Top, Limits, Count(SOME), "1024", "Handshakes in flight at the same time").new_sockets(),
        key("max_per_peer", Top, Limits, CountOrOff(SOME), "off", "Sockets from one peer address, or off; the peer is the proxy unless it is trusted").new_sockets(),
        key("memory", Top, Limits, Size { min: 1024 * 1024 }, "256MiB", "Size of all buffers of all sockets together"),
        key("max_control_body", Top, Limits, Size { min: 1 }, "16MiB", "Size of a control request's body"),
        key("deflate", Anywhere, Limits, Switch, "true", "Compress (permessage-deflate) where a client offers it").new_sockets(),
        key("deflate_min", Anywhere, Limits, Size { min: 0 }, "128B", "Messages smaller than this are not compressed").new_sockets(),
        key("deflate_takeover", Anywhere, Limits, Switch, "false", "Remember the last messages of each socket to compress the next ones better").new_sockets(),
        key("deflate_memory", Top, Limits, Size { min: 0 }, "64MiB", "Memory for what is remembered so, of all sockets together").new_sockets(),

        key("path", Route, FileOnly, Text, "", "The route serves this path and everything below it"),
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
