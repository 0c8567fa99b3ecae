//! The configuration as meant: checked values, ready to use. How it is written in a file is `raw`'s affair.

use crate::command::RouteId;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use ws_proto::{HeadLimits, Limits, Versions};

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
    /// Where closed hooks survive; `None` is off.
    pub journal: Option<PathBuf>,
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
}

/// One address that is listened on.
#[derive(Clone, Debug)]
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

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
    /// An app is told by hooks.
    Hooks(Arc<Hooks>),
}

/// An origin that may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `https://www.example.org`, lower case, default port left out.
    Exact(String),
    /// `https://*.example.org`: scheme (absent: any), suffix with its dot, port text (`:8443` or empty).
    Subdomains {
        /// `https`, or any.
        scheme: Option<String>,
        /// `.example.org`.
        suffix: String,
        /// `:8443`, or empty.
        port: String,
    },
    /// The literal `null`.
    Null,
    /// No origin at all.
    Absent,
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
    /// A number a distinct app, for pools and permits.
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
}

/// `http://127.0.0.1:8080/ws/{event}/{path}` or `http+unix:///run/app.sock:/ws`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppUrl {
    /// Where to connect, in the order to try: resolved at start.
    pub address: AppAddress,
    /// The `Host` header.
    pub host: String,
    /// The path, with `{event}` and `{path}` as they stand; begins with a slash. May hold a query.
    pub path: String,
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
}

/// What is repeated when an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Everything: at least once.
    Unknown,
    /// Only what certainly did not arrive: at most once.
    Unsent,
}
