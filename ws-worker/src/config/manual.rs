//! The manual page of the file, ws-worker.toml(5), made of the table of keys so that it cannot miss one. Only tests run this: the
//! page lies in `deploy/man`, and is written anew by `UPDATE_PAGES=1 cargo test -p ws-worker page`.

use super::key::{Group, KEYS, Key, Scope};
use std::fmt::Write as _;
use std::path::Path;

const ABOVE: &str = r#".\" Made of the table of keys: UPDATE_PAGES=1 cargo test -p ws-worker page
.TH WS-WORKER.TOML 5 "" "ws-worker VERSION" "File formats"
.SH NAME
ws-worker.toml \- configuration of the WebSocket worker
.SH SYNOPSIS
.I /etc/ws-worker/ws-worker.toml
.SH DESCRIPTION
The file is TOML. What stands at the top, above the first table, holds for every route; a
.B [[route]]
may say otherwise unless a key concerns the whole worker. The longest
.B path
wins, at a segment's border. Durations and sizes have a unit: "100ms", "25s", "5m", "1h"; "128B", "64KiB", "1MiB", "2GiB".
.PP
.B ws-worker check \-\-config
.I FILE
says what a file means and changes nothing. A file that cannot be used stops the start with exit code 78, and is told with line,
key and what would be right. Most keys are flags too, with dashes for underscores, and a flag wins over the file.
.SH EXAMPLE
.nf
.RS
listen = ["127.0.0.1:9000"]
trusted_proxies = ["127.0.0.1"]

[control]
listen = "unix:/run/ws-worker/control.sock"

[[route]]
path = "/chat"
app = "http://127.0.0.1:8080/ws"
.RE
.fi
"#;

const BELOW: &str = r#".SH THE TABLE [control]
The API by which apps send, broadcast and close.
.TP
.B listen
"127.0.0.1:9001" or "unix:/path"; on a unix socket its mode, 0660, is the permission.
.TP
.B token_file
A file with the token that every request must carry. Required on TCP.
.SH SEE ALSO
.BR ws-worker (8).
The pages below
.I /usr/share/doc/ws-worker
explain every key, hook and call.
"#;

fn page() -> String {
    let mut page = ABOVE.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let groups = [
        ("THE WORKER", Group::Worker),
        ("ROUTES AND THE FILE ALONE", Group::FileOnly),
        ("HOOKS", Group::Hooks),
        ("TIME", Group::Time),
        ("LIMITS", Group::Limits),
    ];
    for (heading, group) in groups {
        let _ = writeln!(page, ".SH {heading}");
        for key in KEYS.iter().filter(|key| key.group == group) {
            describe(key, &mut page);
        }
    }
    page + BELOW
}

fn describe(key: &Key, page: &mut String) {
    let scope = match key.scope {
        Scope::Top => "At the top.",
        Scope::Anywhere => "At the top or in a route.",
        Scope::Route => "In a route.",
    };
    let default = match key.default {
        "" => String::new(),
        default => format!(" Default: {}.", escaped(default)),
    };
    let (name, help) = (escaped(key.name), escaped(key.help));
    let _ = writeln!(page, ".TP\n.B {name}\n{help}. {scope}{default}");
}

/// Dashes that are to be typed, and backslashes, have their own names in roff.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Compares a page below `deploy` with what it should be, or writes it.
fn compare(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "deploy/{name} is old: UPDATE_PAGES=1 cargo test -p ws-worker page"
    );
}

#[test]
fn the_page_of_the_file_has_every_key() {
    let page = page();
    for key in KEYS {
        assert!(page.contains(&format!(".B {}\n", key.name)), "{}", key.name);
    }
    compare("man/ws-worker.toml.5", &page);
}
