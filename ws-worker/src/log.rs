//! Log lines: text for people, JSON for machines, and client strings made harmless. Knows nothing of what is logged.

use crate::config::{Address, Config, Target};
use std::fmt;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::reload;
use writer::Lines;

mod writer;

/// The variable whose filter overrules `--log-level`: `info,ws_worker::hook=debug`.
pub const FILTER_VARIABLE: &str = "WS_WORKER_LOG";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: what a terminal gets unless told otherwise.
    Text,
    /// One JSON object a line: what everything else gets.
    Json,
    /// Fields of the system's journal, each line's own: what systemd gets that has bound stderr to it.
    Journal,
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

/// Starts the log, once a process. Without a format a terminal gets text, the journal its fields, everything else JSON.
///
/// # Errors
/// The operator's: `WS_WORKER_LOG` holds no filter, or there is no journal where one is wanted. The caller's: a log has already
/// been started.
pub fn start(level: tracing::Level, format: Option<Format>) -> Result<(), LogError> {
    let (filter, is_fixed) = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => {
            let filter = parse(&text).map_err(|error| {
                LogError(format!("{FILTER_VARIABLE}={}: {error}", escaped(&text)))
            })?;
            (filter, true)
        }
        Ok(_) | Err(_) => (Targets::new().with_default(level), false),
    };
    let terminal = std::io::stderr().is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let (filter, handle) = reload::Layer::new(filter);
    let log = tracing_subscriber::registry().with(filter);
    let writer = Lines::start(std::io::stderr())
        .map_err(|error| LogError(format!("there is no thread for the log: {error}")))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer.clone())
        .with_target(false);
    let journal = match format {
        None if !terminal && is_the_journal() => tracing_journald::layer().ok(),
        Some(Format::Journal) => Some(
            tracing_journald::layer()
                .map_err(|error| LogError(format!("the journal cannot be reached: {error}")))?,
        ),
        Some(Format::Text | Format::Json) | None => None,
    };
    let started = if let Some(journal) = journal {
        let journal = journal
            .with_syslog_identifier("ws-worker".to_owned())
            .with_field_prefix(Some("WS".to_owned()));
        log.with(journal).try_init()
    } else if format == Some(Format::Text) || (format.is_none() && terminal) {
        log.with(lines.with_ansi(terminal && !plain)).try_init()
    } else {
        log.with(lines.json().flatten_event(true)).try_init()
    };
    started.map_err(|error| LogError(error.to_string()))?;
    let _ = LINES.set(writer); // As below.
    if !is_fixed {
        // A process starts its log once; `try_init` has said so.
        let _ = LEVEL.set(Box::new(move |level: tracing::Level| {
            // It fails only when there is no log any more.
            let _ = handle.reload(Targets::new().with_default(level));
        }));
    }
    Ok(())
}

/// Reads a filter: levels, each of all or of a part, with commas between them. One too many, or a space, means nothing.
fn parse(text: &str) -> Result<Targets, tracing_subscriber::filter::ParseError> {
    let parts = text.split(',').map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(",").parse()
}

static LINES: OnceLock<Lines> = OnceLock::new();

/// Waits until what was logged is written, but not longer than a second: for the end of a process.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(Duration::from_secs(1));
    }
}

type Setter = Box<dyn Fn(tracing::Level) + Send + Sync>;

/// Sets another filter. Empty where `WS_WORKER_LOG` decides what is logged.
static LEVEL: OnceLock<Setter> = OnceLock::new();

/// Logs from another level on, unless `WS_WORKER_LOG` decides.
pub fn set_level(level: tracing::Level) {
    if let Some(set) = LEVEL.get() {
        set(level);
    }
}

/// Returns whether stderr is the stream that systemd has opened to the journal: a redirected one is not. [systemd.exec(5)]
fn is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let is_it = |stderr: std::fs::Metadata| format!("{}:{}", stderr.dev(), stderr.ino()) == stream;
    std::fs::metadata("/proc/self/fd/2").is_ok_and(is_it)
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
    use tracing::Level;

    #[test]
    fn a_filter_says_it_for_all_and_for_single_parts() {
        fn check(text: &str, hooks: Option<Level>, others: Option<Level>) {
            let filter = parse(text).unwrap();
            for (target, expected) in [("ws_worker::hook::pool", hooks), ("ws_worker", others)] {
                let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
                let mut logged = levels.into_iter().rev();
                let most = logged.find(|level| filter.would_enable(target, level));
                assert_eq!(most, expected, "{text:?} {target}");
            }
        }
        use Level as L;
        check("info", Some(L::INFO), Some(L::INFO));
        check("WARN", Some(L::WARN), Some(L::WARN));
        check("info,ws_worker::hook=debug", Some(L::DEBUG), Some(L::INFO));
        check(" info, ws_worker::hook=off,", None, Some(L::INFO));
        check("ws_worker::hook=debug", Some(L::DEBUG), None);
        check("off", None, None);
        for wrong in ["ws_worker=loud", "ws_worker=info=debug"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

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
