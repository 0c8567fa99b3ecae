//! `ws-worker ctl`: an operator's words to a running worker, over its control listener. Knows what is asked and what the answers
//! mean; `call.rs` carries them, `show.rs` prints them.

mod call;
mod show;

use crate::config::{Address, Config, DEFAULT_FILE, unit};
use call::{Caller, Failure};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the process ends with.
pub mod exit {
    /// It is done.
    pub const DONE: u8 = 0;
    /// The worker refused: no such socket, its output is full, a configuration that cannot be used.
    pub const REFUSED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// Nobody is there, or the connection was lost.
    pub const NOBODY: u8 = 3;
    /// No permission: the token is missing or wrong, or the socket's file mode does not allow it.
    pub const TOKEN: u8 = 4;
    /// It did not answer in time.
    pub const TIMEOUT: u8 = 124;
    /// Where the worker listens cannot be found out: the configuration cannot be read, or has no control API.
    pub const CONFIGURATION: u8 = 78;
}

/// Sockets a page.
const PAGE: usize = 1000;
/// A message from stdin, at most.
const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// What to tell a worker, and where it is.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) control: Option<String>,
    /// File with the token [default: as the configuration says]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The worker's configuration [default: /etc/ws-worker/ws-worker.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the worker's answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Time for the worker to answer
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub(crate) timeout: Duration,
}

/// What to tell it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Show how the worker is: sockets, messages, hooks, the last closes
    Status,
    /// List the open sockets
    List {
        /// Only those of this route
        #[arg(long, value_name = "PATH")]
        route: Option<String>,
        /// Only those in this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Not more than this number
        #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
        limit: usize,
    },
    /// Send a message to one socket
    Send {
        /// The socket
        id: String,
        /// What to send [default: stdin]
        text: Option<String>,
        /// Send it as binary
        #[arg(long)]
        binary: bool,
    },
    /// Send a message to many sockets
    Broadcast {
        /// What to send [default: stdin]
        text: Option<String>,
        /// Only to this route
        #[arg(long, value_name = "PATH", conflicts_with = "group")]
        route: Option<String>,
        /// Only to this group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Not to this socket
        #[arg(long, value_name = "ID")]
        except: Option<String>,
        /// Send it as binary
        #[arg(long)]
        binary: bool,
    },
    /// Close a socket
    Close {
        /// The socket
        id: String,
        /// The close code
        #[arg(long, value_name = "CODE", default_value_t = 1000)]
        code: u16,
        /// The reason, at most 123 bytes
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Close all sockets and end, as SIGTERM does
    Drain,
    /// Read the configuration again, as SIGHUP does
    Reload,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = unit::duration(text).map_err(|no| format!("{}; {}", no.message, no.help))?;
    if duration.is_zero() {
        return Err("nobody answers within no time; write 5s or 500ms".to_owned());
    }
    Ok(duration)
}

/// Tells it, and returns the exit code.
#[must_use]
pub fn run(options: &Options) -> u8 {
    let (code, why) = match tell(options) {
        Ok(text) => {
            // A reader that went away wants no more of it.
            let _ = io::stdout().write_all(text.as_bytes());
            return exit::DONE;
        }
        Err(failure) => failure.words(),
    };
    eprintln!("ws-worker: {why}");
    code
}

fn tell(options: &Options) -> Result<String, Failure> {
    let caller = find(options)?;
    let answer = match &options.command {
        Command::Status => caller.get("/status")?,
        Command::List {
            route,
            group,
            limit,
        } => list(&caller, route.as_deref(), group.as_deref(), *limit)?,
        Command::Send { id, text, binary } => {
            let body = body(text.as_deref())?;
            caller.post(&format!("/sockets/{}", call::encoded(id)), &body, *binary)?
        }
        Command::Broadcast {
            text,
            route,
            group,
            except,
            binary,
        } => {
            let path = match group {
                Some(group) => format!("/groups/{}", call::encoded(group)),
                None => "/broadcast".to_owned(),
            };
            let query = [("route", route.as_deref()), ("except", except.as_deref())];
            let body = body(text.as_deref())?;
            caller.post(&call::target(&path, &query), &body, *binary)?
        }
        Command::Close { id, code, reason } => {
            let code = code.to_string();
            let query = [("code", Some(code.as_str())), ("reason", reason.as_deref())];
            let path = format!("/sockets/{}", call::encoded(id));
            caller.delete(&call::target(&path, &query))?
        }
        Command::Drain => caller.post("/drain", b"", false)?,
        Command::Reload => caller.post("/reload", b"", false)?,
    };
    if options.json {
        return Ok(format!("{answer}\n"));
    }
    Ok(show::answer(&options.command, &answer))
}

/// Asks for page after page.
fn list(
    caller: &Caller,
    route: Option<&str>,
    group: Option<&str>,
    limit: usize,
) -> Result<Value, Failure> {
    let mut sockets: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    while sockets.len() < limit {
        let page = PAGE.min(limit - sockets.len()).to_string();
        let query = [
            ("route", route),
            ("group", group),
            ("limit", Some(page.as_str())),
            ("after", after.as_deref()),
        ];
        let mut answer = caller.get(&call::target("/sockets", &query))?;
        if let Some(Value::Array(more)) = answer.get_mut("sockets") {
            sockets.append(more);
        }
        after = answer
            .get("next")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    Ok(serde_json::json!({ "sockets": sockets, "next": after }))
}

fn body(text: Option<&str>) -> Result<Vec<u8>, Failure> {
    if let Some(text) = text {
        return Ok(text.as_bytes().to_vec());
    }
    let mut body = Vec::new();
    let read = io::stdin().take(MAX_INPUT + 1).read_to_end(&mut body);
    read.map_err(|error| Failure::Usage(format!("cannot read stdin: {error}")))?;
    if body.len() as u64 > MAX_INPUT {
        return Err(Failure::Usage(
            "stdin holds more than 64 MiB, which is no message".to_owned(),
        ));
    }
    Ok(body)
}

/// Finds out where the worker listens and what it wants to be shown: flags win over the file.
fn find(options: &Options) -> Result<Caller, Failure> {
    let mut token = options.token_file.as_deref().map(read_token).transpose()?;
    let address = match &options.control {
        Some(text) => address(text)?,
        None => {
            let path = options.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
            let control = Config::load_control(path, token.is_none()).map_err(|error| {
                Failure::Configuration(format!(
                    "{error}\n--control says where a worker listens without its file, and --token-file names the token's"
                ))
            })?;
            let control = control.ok_or_else(|| {
                Failure::Configuration(format!(
                    "{} has no [control], so the worker cannot be told anything",
                    path.display()
                ))
            })?;
            token = token.or_else(|| control.token.map(|token| token.0));
            control.address
        }
    };
    Ok(Caller {
        address,
        token,
        patience: options.timeout,
    })
}

fn address(text: &str) -> Result<Address, Failure> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Address::Unix(path.into()));
    }
    let parsed: Result<SocketAddr, _> = text.parse();
    parsed.map(Address::Tcp).map_err(|_| {
        Failure::Usage(format!(
            "--control {text:?} is no address; write 127.0.0.1:9001 or unix:/run/ws-worker/control.sock"
        ))
    })
}

fn read_token(path: &Path) -> Result<Vec<u8>, Failure> {
    let token = std::fs::read(path)
        .map_err(|error| Failure::Configuration(format!("{}: {error}", path.display())))?;
    Ok(token.trim_ascii().to_vec())
}
