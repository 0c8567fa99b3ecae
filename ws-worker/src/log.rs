//! Log lines: text for people, JSON for machines, and client strings made harmless. Knows nothing of what is logged.

use crate::config::{Address, Config, Target};
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

/// The variable whose filter overrules `--log-level`: `info,ws_worker::hook=debug`.
pub const FILTER_VARIABLE: &str = "WS_WORKER_LOG";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: what a terminal gets unless told otherwise.
    Text,
    /// One JSON object a line: what everything else gets.
    Json,
}

/// A filter that cannot be read, or a log that somebody else has started.
#[derive(Debug)]
pub struct LogError(String);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LogError {}

/// Starts the log on stderr, once a process. Without a format a terminal decides.
///
/// # Errors
/// The operator's: `WS_WORKER_LOG` holds no filter. The caller's: a log has already been started.
pub fn start(level: tracing::Level, format: Option<Format>) -> Result<(), LogError> {
    let (filter, is_fixed) = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => {
            let filter = EnvFilter::try_new(&text).map_err(|error| {
                LogError(format!("{FILTER_VARIABLE}={}: {error}", escaped(&text)))
            })?;
            (filter, true)
        }
        Ok(_) | Err(_) => (EnvFilter::new(level.as_str()), false),
    };
    let terminal = std::io::stderr().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format.unwrap_or(if terminal { Format::Text } else { Format::Json }) {
        Format::Text => {
            let lines = lines.with_ansi(terminal && !plain).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map(|()| setter(handle))
        }
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.try_init().map(|()| setter(handle))
        }
    };
    let setter = started.map_err(|error| LogError(error.to_string()))?;
    if !is_fixed {
        // A process starts its log once; `try_init` has said so.
        let _ = LEVEL.set(setter);
    }
    Ok(())
}

type Setter = Box<dyn Fn(tracing::Level) + Send + Sync>;

/// Sets another filter. Empty where `WS_WORKER_LOG` decides what is logged.
static LEVEL: OnceLock<Setter> = OnceLock::new();

fn setter<S: 'static>(handle: Handle<EnvFilter, S>) -> Setter {
    Box::new(move |level| {
        // It fails only when there is no log any more.
        let _ = handle.reload(EnvFilter::new(level.as_str()));
    })
}

/// Logs from another level on, unless `WS_WORKER_LOG` decides.
pub fn set_level(level: tracing::Level) {
    if let Some(set) = LEVEL.get() {
        set(level);
    }
}

/// Logs where the worker listens, once it does; `local` is the address as the system gave it (port 0 has become one).
pub fn listening(config: &Config, local: &Address) {
    let page = config
        .routes
        .iter()
        .any(|route| route.path == "/" && matches!(route.target, Target::Page(_)));
    match local {
        Address::Tcp(address) if page => {
            let host = match address.ip() {
                ip if ip.is_unspecified() && ip.is_ipv4() => "127.0.0.1".to_owned(),
                ip if ip.is_unspecified() => "[::1]".to_owned(),
                std::net::IpAddr::V4(ip) => ip.to_string(),
                std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            };
            tracing::info!(
                "listening on http://{host}:{}/ (the page; sockets at /echo, /chat and /version)",
                address.port()
            );
        }
        Address::Tcp(_) | Address::Unix(_) | Address::Systemd(_) | Address::Descriptor(_) => {
            tracing::info!("listening on {local}");
        }
    }
}

/// Bytes of a client's string that a log line takes.
const SHOWN: usize = 200;

/// Shows a client's string so that it can neither end a line nor look like another: control characters, backslashes and
/// everything outside ASCII as `\x0a`, cut after 200 bytes.
#[must_use]
pub fn escaped(text: &str) -> impl fmt::Display {
    Escaped(text)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for byte in self.0.bytes().take(SHOWN) {
            match byte {
                b'\\' => f.write_str("\\x5c")?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        if self.0.len() > SHOWN {
            f.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_string_cannot_break_a_line() {
        fn check(text: &str, expected: &str) {
            assert_eq!(escaped(text).to_string(), expected);
        }
        check("/chat?name=x", "/chat?name=x");
        check("a\nb\r\0\x1b[31m\x7f", r"a\x0ab\x0d\x00\x1b[31m\x7f");
        check("あ", r"\xe3\x81\x82");
        check(r"\x0a", r"\x5cx0a");
        check(&"a".repeat(200), &"a".repeat(200));
        check(&"a".repeat(201), &format!("{}...", "a".repeat(200)));
        check(
            &format!("{}あ", "a".repeat(199)),
            &format!(r"{}\xe3...", "a".repeat(199)),
        );
    }
}
