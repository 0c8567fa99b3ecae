//! What the worker said, for people. What clients said is in it: everything is escaped once more before it reaches a terminal.

use super::Command;
use crate::log::escaped;
use serde_json::Value;
use std::fmt::Write as _;
use ws_proto::Version;

/// Writes an answer.
pub(super) fn answer(command: &Command, answer: &Value) -> String {
    match command {
        Command::Status => status(answer),
        Command::List { .. } => list(answer),
        Command::Send { .. } => "queued\n".to_owned(),
        Command::Broadcast { .. } => {
            let of = |name| number(answer, &[name]);
            let mut text = format!("queued for {}\n", of("queued"));
            if of("full") > 0 {
                let _ = writeln!(text, "dropped {}: their output was full", of("full"));
            }
            if of("unsupported") > 0 {
                let _ = writeln!(
                    text,
                    "left out {}: their version has no binary",
                    of("unsupported")
                );
            }
            text
        }
        Command::Close { .. } => "closing\n".to_owned(),
        Command::Drain => "draining\n".to_owned(),
        Command::Reload => reload(answer),
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

fn number(value: &Value, path: &[&str]) -> u64 {
    at(value, path).and_then(Value::as_u64).unwrap_or_default()
}

fn text(value: &Value, path: &[&str]) -> String {
    match at(value, path) {
        Some(Value::String(text)) => escaped(text).to_string(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => escaped(&other.to_string()).to_string(),
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    match value.get(name) {
        Some(Value::Array(items)) => items,
        Some(_) | None => &[],
    }
}

/// Columns, as wide as what stands in them.
fn table(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn status(answer: &Value) -> String {
    let of = |path: &[&str]| text(answer, path);
    let up = number(answer, &["now"]).saturating_sub(number(answer, &["since"]));
    let mut out = format!(
        "{} is {}, up {up} s, ws-worker {}\n",
        of(&["worker"]),
        of(&["state"]),
        of(&["version"])
    );
    let _ = write!(
        out,
        "sockets     {} of {}, {} accepted in all, {} handshakes in flight\n\
         messages    {} in ({} bytes), {} out ({} bytes)\n\
         buffers     {} of {} bytes; memory {} bytes, {} of {} descriptors\n\
         ping        half below {} ms, 99 of 100 below {} ms; loop lag {} ms, {} ms\n",
        of(&["sockets", "now"]),
        of(&["sockets", "limit"]),
        of(&["handshakes", "accepted"]),
        of(&["handshakes", "in_flight"]),
        of(&["messages", "received"]),
        of(&["messages", "received_bytes"]),
        of(&["messages", "sent"]),
        of(&["messages", "sent_bytes"]),
        of(&["buffer_bytes", "now"]),
        of(&["buffer_bytes", "limit"]),
        of(&["process", "resident_bytes"]),
        of(&["process", "open_fds"]),
        of(&["process", "max_fds"]),
        of(&["ping", "p50_ms"]),
        of(&["ping", "p99_ms"]),
        of(&["loop_lag", "p50_ms"]),
        of(&["loop_lag", "p99_ms"]),
    );
    let tables = [routes(answer), apps(answer), last(answer)];
    for rows in tables.iter().filter(|rows| rows.len() > 1) {
        let _ = write!(out, "\n{}", table(rows));
    }
    out
}

fn routes(answer: &Value) -> Vec<Vec<String>> {
    let versions = Version::ALL.map(Version::name);
    let mut head = row(&["route"]);
    head.extend(row(&versions));
    let mut rows = vec![head];
    for route in items(answer, "routes") {
        let mut cells = vec![text(route, &["path"])];
        cells.extend(versions.map(|version| number(route, &["sockets", version]).to_string()));
        rows.push(cells);
    }
    rows
}

fn apps(answer: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "app",
        "p50 ms",
        "p99 ms",
        "in flight",
        "queued",
        "retries",
        "breaker",
    ])];
    for app in items(answer, "apps") {
        let is_open = at(app, &["breaker_open"]) == Some(&Value::Bool(true));
        rows.push(vec![
            text(app, &["app"]),
            text(app, &["duration", "p50_ms"]),
            text(app, &["duration", "p99_ms"]),
            format!(
                "{} of {}",
                text(app, &["in_flight", "now"]),
                text(app, &["in_flight", "limit"])
            ),
            text(app, &["queued_messages"]),
            text(app, &["retries"]),
            if is_open { "open" } else { "closed" }.to_owned(),
        ]);
    }
    rows
}

fn last(answer: &Value) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        "closed", "code", "by", "version", "client", "path", "reason",
    ])];
    for last in items(answer, "last").iter().take(10) {
        let ago = number(answer, &["now"]).saturating_sub(number(last, &["at"]));
        rows.push(vec![
            format!("{ago} s ago"),
            text(last, &["code"]),
            text(last, &["by"]),
            text(last, &["version"]),
            text(last, &["peer"]),
            text(last, &["path"]),
            text(last, &["reason"]),
        ]);
    }
    rows
}

fn list(answer: &Value) -> String {
    let mut rows = vec![row(&[
        "id", "route", "version", "client", "in", "out", "queue", "resource",
    ])];
    let sockets = items(answer, "sockets");
    for socket in sockets {
        let columns = [
            "id",
            "route",
            "version",
            "peer",
            "messages_in",
            "messages_out",
            "queue",
            "resource",
        ];
        rows.push(columns.map(|name| text(socket, &[name])).to_vec());
    }
    let count = sockets.len();
    let more = if answer.get("next").is_some_and(|next| !next.is_null()) {
        ", and more"
    } else {
        ""
    };
    let sockets = if count == 1 { "socket" } else { "sockets" };
    format!("{}{count} {sockets}{more}\n", table(&rows))
}

fn reload(answer: &Value) -> String {
    let mut out = "reloaded\n".to_owned();
    for (name, words) in [
        ("added", "added"),
        ("removed", "removed"),
        ("at_next_start", "takes effect at the next start"),
        ("warnings", "warning"),
    ] {
        for item in items(answer, name) {
            let _ = writeln!(out, "{words}: {}", text(item, &[]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_moved_by_what_clients_say() {
        let answer = serde_json::json!({ "sockets": [{
            "id": "abc", "route": "/", "version": "rfc6455", "peer": "tcp:192.0.2.1:1", "messages_in": 1, "messages_out": 2,
            "queue": 0, "resource": "/\u{1b}[2J\n\u{202e}x" }], "next": "abc" });
        assert_eq!(
            list(&answer),
            "id   route  version  client           in  out  queue  resource\n\
             abc  /      rfc6455  tcp:192.0.2.1:1  1   2    0      /\\x1b[2J\\x0a\\xe2\\x80\\xaex\n\
             1 socket, and more\n"
        );
    }
}
