//! The configuration as meant: checked values, ready to use. How it is written in a file is `raw`'s affair, how the
//! one becomes the other `mean`'s.

mod app_url;
mod error;
mod flags;
mod key;
mod layers;
#[cfg(test)]
mod manual;
mod mean;
mod origin;
mod place;
mod raw;
mod read;
mod secret;
mod succession;
#[cfg(test)]
mod tests;
pub(crate) mod unit;
mod warn;

pub use crate::tls::Tls;
pub use error::ConfigError;
pub use flags::{BadFlag, Flags, Overrides};
pub use origin::{Origin, origin_allowed};
pub use succession::Changes;

use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{HeadLimits, Limits, Versions};

/// The file that is read unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/ws-worker/ws-worker.toml";

/// Which route, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// Everything a worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in; at least one.
    pub listeners: Vec<Listener>,
    /// Loops, one a thread; 1 to 255.
    pub threads: u8,
    /// The name sent as `Ws-Worker`.
    pub worker: String,
    /// Whose forwarding headers are believed. Unix-socket peers always are.
    pub trusted_proxies: Vec<IpNet>,
    /// The control API, if it is on.
    pub control: Option<Control>,
    /// The routes, in the order of the file; [`RouteId`] is the place.
    pub routes: Vec<Arc<Route>>,
    /// Bounds of the opening handshake (`versions`: the union of all routes').
    pub head: HeadLimits,
    /// Bounds of the whole process.
    pub bounds: Bounds,
    /// SIGTERM: time to close all sockets; 20 s.
    pub drain: Duration,
    /// A file in which closed hooks survive; `None` is off.
    pub journal: Option<PathBuf>,
    /// What becomes of handshakes while it cannot be written.
    pub journal_mode: JournalMode,
    /// What is logged, unless `WS_WORKER_LOG` says it; `info`.
    pub log_level: tracing::Level,
    /// One line for each option that weakens the worker, to be logged at start.
    pub warnings: Vec<String>,
    /// Apps by their number, as their URLs are written.
    pub(crate) apps: Vec<String>,
}

/// What becomes of handshakes while the journal cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JournalMode {
    /// 503: no app accepts a socket whose end it might not hear of.
    #[default]
    Strict,
    /// They go on, and a SIGKILL before the disk has recovered costs their closed.
    BestEffort,
}

impl Default for Config {
    /// No listeners and no routes: what an embedding program fills in.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            threads: std::thread::available_parallelism()
                .map_or(1, |n| u8::try_from(n.get()).unwrap_or(u8::MAX)),
            worker: host_name(),
            trusted_proxies: Vec::new(),
            control: None,
            routes: Vec::new(),
            head: HeadLimits::default(),
            bounds: Bounds::default(),
            drain: Duration::from_secs(20),
            journal: None,
            journal_mode: JournalMode::Strict,
            log_level: tracing::Level::INFO,
            warnings: Vec::new(),
            apps: Vec::new(),
        }
    }
}

impl Config {
    /// Returns how many apps there are; their numbers are below this.
    pub(crate) fn apps(&self) -> usize {
        let apps = self.routes.iter().filter_map(|route| match &route.target {
            Target::Hooks(hooks) => Some(hooks.app + 1),
            Target::Echo
            | Target::Chat
            | Target::Page(_)
            | Target::Version
            | Target::Handler(_) => None,
        });
        apps.max().unwrap_or(0)
    }

    /// Reads a file; flags win over it.
    ///
    /// # Errors
    /// The operator's: the file cannot be read, or says something that cannot be meant.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        let source = error::Source(Some((path, &text)));
        raw::Table::parse(&text)
            .and_then(|file| mean::config(&source, &file, &overrides.0, mean::Routes::Written))
            .map_err(|wrong| source.error(wrong))
    }

    /// Reads of a file where the control API listens, and its token if that is wanted; nothing else need make sense.
    ///
    /// # Errors
    /// The operator's: the file cannot be read or is no TOML, or its `[control]` or token cannot be meant.
    pub(crate) fn load_control(
        path: &Path,
        wants_token: bool,
    ) -> Result<Option<Control>, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        let source = error::Source(Some((path, &text)));
        raw::Table::parse(&text)
            .and_then(|file| mean::control(&file, wants_token))
            .map_err(|wrong| source.error(wrong))
    }

    /// Takes flags alone: one route, `/`, whose hooks go to `--app`.
    ///
    /// # Errors
    /// The operator's: a flag says something that cannot be meant, or there is no app.
    pub fn from_flags(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::without_file(overrides, mean::Routes::Written)
    }

    /// Makes the demo: its page at `/`, and what the page talks to.
    ///
    /// # Errors
    /// The operator's: a flag says something that cannot be meant.
    pub fn demo(overrides: &Overrides) -> Result<Self, ConfigError> {
        let routes = vec![
            ("/", Target::Page(DEMO_PAGE)),
            ("/echo", Target::Echo),
            ("/chat", Target::Chat),
            ("/version", Target::Version),
        ];
        Self::without_file(overrides, mean::Routes::Given(routes))
    }

    fn without_file(overrides: &Overrides, routes: mean::Routes) -> Result<Self, ConfigError> {
        let source = error::Source(None);
        mean::config(&source, &raw::Table::default(), &overrides.0, routes)
            .map_err(|wrong| source.error(wrong))
    }

    /// Finds the route of a request's path: the longest prefix, at a segment's border. A query is not looked at.
    #[must_use]
    pub fn route_for(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes
            .iter()
            .filter(|route| !route.gone && route.holds(path))
            .max_by_key(|route| route.path.len())
    }

    /// Finds a route by its own path; one that a reload has taken out of the file only if there is no other.
    pub(crate) fn route_at(&self, path: &str) -> Option<&Arc<Route>> {
        let routes = self.routes.iter().filter(|route| route.path == path);
        routes.min_by_key(|route| route.gone)
    }
}

/// One file, no other assets.
const DEMO_PAGE: &str = include_str!("../demo/page.html");

/// Returns what the host calls itself, as far as that can stand in a header.
fn host_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_str() {
        Ok(name) if layers::is_worker_name(name) => name.to_owned(),
        Ok(_) | Err(_) => "ws-worker".to_owned(),
    }
}

/// Bounds of the whole process.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Sockets in any state; 65 536 or what the descriptor limit leaves.
    pub max_connections: usize,
    /// Handshakes in flight; 1 024.
    pub max_handshakes: usize,
    /// Bytes in all buffers that peers can make grow; 256 MiB. Above 75 % no handshake, above 90 % no reading.
    pub memory: usize,
    /// Sockets of one peer address; `None` is off.
    pub max_per_peer: Option<usize>,
    /// A control request's body, bytes; 16 MiB.
    pub max_control_body: usize,
    /// Bytes that compression with context takeover may remember of all sockets; 64 MiB. A socket that finds no room is
    /// compressed without.
    pub deflate_memory: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_connections: descriptor_limit().map_or(65_536, |limit| {
                let reserved = RESERVED_DESCRIPTORS.min(limit / 2);
                (limit - reserved).clamp(1, 65_536)
            }),
            max_handshakes: 1_024,
            memory: 256 * 1024 * 1024,
            max_per_peer: None,
            max_control_body: 16 * 1024 * 1024,
            deflate_memory: 64 * 1024 * 1024,
        }
    }
}

/// Descriptors that are no client's: listeners, wakers, connections to apps, files.
const RESERVED_DESCRIPTORS: usize = 64;

/// Returns how many descriptors the process may have once the soft limit is raised; `None`: no limit.
fn descriptor_limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit
        .maximum
        .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// One address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// Whether every connection begins with a PROXY protocol head, which is then required.
    pub proxy_protocol: bool,
}

/// A place to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:9000`, `[::1]:9000`.
    Tcp(SocketAddr),
    /// `unix:/run/ws-worker/ws.sock`.
    Unix(PathBuf),
    /// `systemd:NAME`: an inherited socket of that name.
    Systemd(String),
    /// `fd:0`: an inherited socket.
    Descriptor(i32),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
        }
    }
}

/// The control API's listener.
#[derive(Clone, Debug)]
pub struct Control {
    /// Where.
    pub address: Address,
    /// What a caller must show; required on TCP.
    pub token: Option<Secret>,
}

/// Something that never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A path prefix with what happens there.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its place.
    pub id: RouteId,
    /// `/chat`: this path and what lies below it. The longest prefix wins, at a segment's border. `/` is everything.
    pub path: String,
    /// What answers.
    pub target: Target,
    /// Bounds and timeouts of its connections.
    pub limits: Arc<Limits>,
    /// Versions that are on here.
    pub versions: Versions,
    /// Origins that may come in; `None`: the app decides.
    pub allowed_origins: Option<Vec<Origin>>,
    /// Bytes queued for one socket; 1 MiB. Tested before a message is queued, so that one message always fits.
    pub max_output: usize,
    /// Unsent bytes and no progress for so long: dropped; 30 s.
    pub stall_timeout: Duration,
    /// A text that is swallowed, and answered if so configured.
    pub heartbeat_text: Option<HeartbeatText>,
    /// Groups a socket may be in; 64.
    pub max_groups: usize,
    /// Bytes of a group's name; 128.
    pub max_group_name: usize,
    /// Bytes of what an app stores for a socket, names and values; 8 KiB.
    pub max_meta: usize,
    /// A reload has taken it out of the file: nobody comes in any more, and who is there is closed.
    pub(crate) gone: bool,
}

impl Route {
    /// Makes a route with the defaults of every limit.
    #[must_use]
    pub fn new(id: RouteId, path: impl Into<String>, target: Target) -> Self {
        Self {
            id,
            path: path.into(),
            target,
            limits: Arc::new(Limits::default()),
            versions: Versions::ALL,
            allowed_origins: None,
            max_output: 1024 * 1024,
            stall_timeout: Duration::from_secs(30),
            heartbeat_text: None,
            max_groups: 64,
            max_group_name: 128,
            max_meta: 8 * 1024,
            gone: false,
        }
    }

    /// Returns whether a request's path is this route's or lies below it.
    fn holds(&self, path: &str) -> bool {
        let prefix = self.path.trim_end_matches('/');
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }
}

/// Returns whether a text can name a group: something without control characters, commas and white space at its ends,
/// since names stand in comma lists, and neither `self` nor `all`, which are no names. Its length is for the route to bound.
#[must_use]
pub fn is_group_name(text: &str) -> bool {
    !matches!(text, "" | "self" | "all")
        && text.trim() == text
        && !text.contains(|c: char| c == ',' || c.is_control())
}

/// What answers on a route.
#[derive(Clone, Debug)]
pub enum Target {
    /// Every message goes back.
    Echo,
    /// Every message goes to all sockets of the route.
    Chat,
    /// A handler that an embedding program registered under this number.
    Handler(usize),
    /// The demo's page, for browsers that ask without a WebSocket; sockets of this path get 404.
    Page(&'static str),
    /// The version's name is sent on open, then every message goes back: how the demo's page learns what it speaks.
    Version,
    /// An app is told by hooks.
    Hooks(Arc<Hooks>),
}

/// A text heartbeat, the way of 75 and 76.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatText {
    /// Such a text from a client never reaches the app.
    pub receive: String,
    /// What is sent back.
    pub answer: Option<String>,
}

/// Where a route's hooks go, and how.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// A number a distinct app, for pools and permits: routes with the same URL have the same app.
    pub app: usize,
    /// The app's address and path template.
    pub url: AppUrl,
    /// How events look.
    pub dialect: Dialect,
    /// Hooks in flight to this app, for the whole process; 32.
    pub concurrency: usize,
    /// One attempt may take so long; 30 s.
    pub hook_timeout: Duration,
    /// A message is repeated for so long, then the socket is closed with 1013; 60 s.
    pub give_up: Duration,
    /// What is repeated.
    pub retry: Retry,
    /// Whom the body of an answer to a message is for that has no `Ws-To`, in its words; empty: nobody. The dialect `plain` alone.
    pub answer_to: Vec<String>,
    /// Headers of the client's handshake that every hook carries, lower case.
    pub forward_headers: Vec<String>,
    /// Whether the app is told of every boot.
    pub started: bool,
    /// Scope of broadcasts in the `typhoonae` dialect.
    pub server_name: Option<String>,
    /// Signing keys, at most two.
    pub secrets: Vec<Secret>,
    /// Messages a socket may queue for the app; 64.
    pub queue_messages: usize,
    /// Bytes a socket may queue for the app; 1 MiB.
    pub queue_bytes: usize,
    /// Bytes of an app's answer; 1 MiB.
    pub max_hook_answer: usize,
    /// FastCGI: whether connections are kept, which pins a child of php-fpm each.
    pub keep: bool,
    /// FastCGI: clients choose a script by their path, instead of the one that the URL names.
    pub docroot: Option<Docroot>,
    /// `https://`: who the app is, and whom to believe that it is. Without, such an app is never connected to.
    pub tls: Option<Tls>,
}

/// A folder whose files are endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docroot {
    /// The folder, an absolute path.
    pub root: PathBuf,
    /// What a file's name has behind the client's path; `_wsh.php`.
    pub suffix: String,
}

impl Hooks {
    /// Hooks in flight to an app unless it says otherwise.
    const CONCURRENCY: usize = 32;
    /// The same over FastCGI: less than the 5 children of a php-fpm that nobody has configured, so that one is left.
    const FASTCGI_CONCURRENCY: usize = 4;

    /// Makes hooks to an app with all defaults.
    #[must_use]
    pub fn new(app: usize, url: AppUrl) -> Self {
        let concurrency = match url.scheme {
            Scheme::Http | Scheme::Https => Self::CONCURRENCY,
            Scheme::FastCgi => Self::FASTCGI_CONCURRENCY,
        };
        Self {
            app,
            url,
            dialect: Dialect::Plain,
            concurrency,
            hook_timeout: Duration::from_secs(30),
            give_up: Duration::from_secs(60),
            retry: Retry::Unknown,
            answer_to: Vec::new(),
            forward_headers: layers::forwarded(),
            started: false,
            server_name: None,
            secrets: Vec::new(),
            queue_messages: 64,
            queue_bytes: 1024 * 1024,
            max_hook_answer: 1024 * 1024,
            keep: false,
            docroot: None,
            tls: None,
        }
    }
}

/// `http://127.0.0.1:8080/ws/{event}/{path}`, `https://app.example/ws`, `http+unix:///run/app.sock:/ws`, `fcgi://127.0.0.1:9000/srv/www/ws.php` or
/// `fcgi+unix:///run/php/php-fpm.sock:/srv/www/ws.php/{event}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppUrl {
    /// What is spoken.
    pub scheme: Scheme,
    /// Where to connect, in the order to try: resolved at start.
    pub address: AppAddress,
    /// The `Host` header; of FastCGI, the host alone.
    pub host: String,
    /// The path, with `{event}` and `{path}` as they stand; begins with a slash. May hold a query. FastCGI: the script's
    /// file, and what follows it.
    pub path: String,
}

/// What an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1.
    Http,
    /// The same inside TLS.
    Https,
    /// FastCGI, as php-fpm does.
    FastCgi,
}

impl AppUrl {
    /// Returns the host without port and brackets: whom a certificate has to be for.
    pub(crate) fn host_name(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.host.split(':').next().unwrap_or(&self.host),
        }
    }

    /// Splits FastCGI's path behind the script: `.php` at a segment's end, or all of it; then `PATH_INFO` and query.
    pub(crate) fn script(&self) -> (&str, &str) {
        let path_end = self.path.find('?').unwrap_or(self.path.len());
        let end = self.path.find(".php/").map_or(path_end, |at| at + 4);
        let end = end.min(path_end);
        self.path.split_at_checked(end).unwrap_or((&self.path, ""))
    }
}

impl fmt::Display for AppUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::FastCgi => "fcgi",
        };
        let (host, path) = (&self.host, &self.path);
        match (&self.address, self.scheme) {
            (AppAddress::Tcp(found), Scheme::FastCgi) => {
                let port = found.first().map_or(0, SocketAddr::port);
                write!(f, "{scheme}://{host}:{port}{path}")
            }
            (AppAddress::Tcp(_), Scheme::Http | Scheme::Https) => {
                write!(f, "{scheme}://{host}{path}")
            }
            (AppAddress::Unix(socket), _) => {
                write!(f, "{scheme}+unix://{}:{path}", socket.display())
            }
        }
    }
}

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// One or more addresses of a name.
    Tcp(Vec<SocketAddr>),
    /// A unix socket.
    Unix(PathBuf),
}

/// How events look to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One POST an event, the message as its body.
    Plain,
    /// One POST an event to a URL that names it, the message in a form: the service of 2010.
    TyphoonAe,
}

/// What is repeated when an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Everything: at least once.
    Unknown,
    /// Only what certainly did not arrive: at most once.
    Unsent,
}
