//! Reads one value as what it is meant to be, or says what would be right. Knows no key.

use super::error::Wrong;
use super::raw::{Data, Table, Value};
use super::unit::{self, NoUnit, Size};
use super::{Address, HeartbeatText, Listener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use ws_proto::{Version, Versions};

/// Longest path of a unix socket, in bytes: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = 107;

fn wrong(value: &Value, message: impl Into<String>) -> Wrong {
    Wrong::new(&value.place, message)
}

fn unexpected(value: &Value, wanted: &str, help: &str) -> Wrong {
    wrong(value, format!("wanted {wanted}, not {}", value.data.name())).help(help)
}

/// Reads `"25s"`.
pub(crate) fn duration(value: &Value) -> Result<Duration, Wrong> {
    match &value.data {
        Data::Text(text) if text == "off" => Err(wrong(value, "this cannot be off")),
        Data::Text(text) => unit::duration(text).map_err(|error| without_unit(value, error)),
        Data::Integer(number) => Err(unit::duration(&number.to_string()).map_or_else(
            |error| without_unit(value, error),
            |_| wrong(value, "a duration needs its unit"),
        )),
        Data::Boolean(_) | Data::List(_) | Data::Table(_) | Data::Other => Err(unexpected(
            value,
            "a duration",
            "write a string with its unit, such as \"25s\" (units: ms, s, m, h)",
        )),
    }
}

/// Reads `"1MiB"`; bytes.
pub(crate) fn size(value: &Value, min: usize) -> Result<usize, Wrong> {
    let size = match &value.data {
        Data::Text(text) => unit::size(text).map_err(|error| without_unit(value, error))?,
        Data::Integer(number) => {
            return Err(unit::size(&number.to_string()).map_or_else(
                |error| without_unit(value, error),
                |_| wrong(value, "a size needs its unit"),
            ));
        }
        Data::Boolean(_) | Data::List(_) | Data::Table(_) | Data::Other => {
            return Err(unexpected(
                value,
                "a size",
                "write a string with its unit, such as \"1MiB\" (units: B, KiB, MiB, GiB)",
            ));
        }
    };
    if size < min {
        return Err(
            wrong(value, "this is too small").help(format!("write at least \"{}\"", Size(min)))
        );
    }
    Ok(size)
}

fn without_unit(value: &Value, error: NoUnit) -> Wrong {
    wrong(value, error.message).help(error.help)
}

/// Reads a whole number within bounds.
pub(crate) fn count(value: &Value, bounds: &RangeInclusive<u64>) -> Result<u64, Wrong> {
    let help = match (*bounds.start(), *bounds.end()) {
        (min, u64::MAX) => format!("write a whole number from {min}"),
        (min, max) => format!("write a whole number from {min} to {max}"),
    };
    match &value.data {
        Data::Integer(number) => u64::try_from(*number)
            .ok()
            .filter(|number| bounds.contains(number))
            .ok_or_else(|| {
                let number = if *number == i64::MAX {
                    "this".to_owned()
                } else {
                    number.to_string()
                };
                wrong(value, format!("{number} is out of bounds")).help(help)
            }),
        Data::Text(_) | Data::Boolean(_) | Data::List(_) | Data::Table(_) | Data::Other => {
            Err(unexpected(value, "a number", &help))
        }
    }
}

/// Reads `true` or `false`.
pub(crate) fn switch(value: &Value) -> Result<bool, Wrong> {
    match &value.data {
        Data::Boolean(boolean) => Ok(*boolean),
        Data::Text(_) | Data::Integer(_) | Data::List(_) | Data::Table(_) | Data::Other => Err(
            unexpected(value, "a switch", "write true or false, without quotes"),
        ),
    }
}

/// Reads `"off"` as `None`, and everything else by `read`.
pub(crate) fn off_or<T>(
    value: &Value,
    read: impl FnOnce(&Value) -> Result<T, Wrong>,
) -> Result<Option<T>, Wrong> {
    match &value.data {
        Data::Text(text) if text == "off" => Ok(None),
        Data::Boolean(false) => {
            Err(wrong(value, "this is switched off by a word").help("write \"off\""))
        }
        Data::Text(_)
        | Data::Boolean(true)
        | Data::Integer(_)
        | Data::List(_)
        | Data::Table(_)
        | Data::Other => read(value).map(Some),
    }
}

/// Reads a string that is not empty.
pub(crate) fn text(value: &Value) -> Result<&str, Wrong> {
    match &value.data {
        Data::Text(text) if text.is_empty() => Err(wrong(value, "this is empty")),
        Data::Text(text) => Ok(text),
        Data::Integer(_) | Data::Boolean(_) | Data::List(_) | Data::Table(_) | Data::Other => Err(
            unexpected(value, "a string", "put it between double quotes"),
        ),
    }
}

/// Reads one of a few words.
pub(crate) fn word(value: &Value, words: &[&'static str]) -> Result<&'static str, Wrong> {
    let written = text(value)?;
    words
        .iter()
        .find(|word| **word == written)
        .copied()
        .ok_or_else(|| {
            let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            wrong(value, format!("unknown word `{written}`"))
                .help(format!("write {}", quoted.join(" or ")))
        })
}

/// Reads a string, or a list of strings; each with its place.
pub(crate) fn texts(value: &Value) -> Result<Vec<(&str, &Value)>, Wrong> {
    value
        .each()
        .iter()
        .map(|value| text(value).map(|text| (text, value)))
        .collect()
}

/// Reads `[75, 76, 7, 8, 13]`.
pub(crate) fn versions(value: &Value) -> Result<Versions, Wrong> {
    let numbers = "the versions are 75, 76, 7, 8 and 13";
    let mut versions = Versions::NONE;
    for value in value.each() {
        let Data::Integer(number) = value.data else {
            return Err(unexpected(value, "a version's number", numbers));
        };
        let version = u8::try_from(number).ok().and_then(Version::from_number);
        versions =
            versions.with(version.ok_or_else(|| {
                wrong(value, format!("there is no version {number}")).help(numbers)
            })?);
    }
    if versions == Versions::NONE {
        return Err(wrong(value, "no version is on").help(numbers));
    }
    Ok(versions)
}

/// Reads `{ receive = "Heartbeat", answer = "…" }`.
pub(crate) fn heartbeat_text(value: &Value) -> Result<HeartbeatText, Wrong> {
    let help = "write { receive = \"Heartbeat\" }, with answer = \"…\" if it is to be answered, or \"off\"";
    let Data::Table(table) = &value.data else {
        return Err(unexpected(value, "a table", help));
    };
    only(table, &["receive", "answer"], "heartbeat_text")?;
    let receive = table
        .get("receive")
        .ok_or_else(|| wrong(value, "`receive` is missing").help(help))?;
    let answer = table.get("answer").map(|entry| text(&entry.value));
    Ok(HeartbeatText {
        receive: text(&receive.value)?.to_owned(),
        answer: answer.transpose()?.map(str::to_owned),
    })
}

/// Reads `"127.0.0.1:9000"` or `{ addr = "…", proxy_protocol = true }`.
pub(crate) fn listener(value: &Value) -> Result<Listener, Wrong> {
    let Data::Table(table) = &value.data else {
        return Ok(Listener {
            address: address(value)?,
            proxy_protocol: false,
        });
    };
    only(table, &["addr", "proxy_protocol"], "listen")?;
    let addr = table.get("addr").ok_or_else(|| {
        wrong(value, "`addr` is missing")
            .help("write { addr = \"127.0.0.1:9000\", proxy_protocol = true }")
    })?;
    let proxy_protocol = table
        .get("proxy_protocol")
        .map(|entry| switch(&entry.value))
        .transpose()?
        .unwrap_or(false);
    Ok(Listener {
        address: address(&addr.value)?,
        proxy_protocol,
    })
}

/// Reads `127.0.0.1:9000`, `unix:/path`, `systemd:NAME` or `fd:0`.
pub(crate) fn address(value: &Value) -> Result<Address, Wrong> {
    let written = text(value)?;
    if let Some(path) = written.strip_prefix("unix:") {
        return socket_path(value, path).map(Address::Unix);
    }
    if let Some(name) = written.strip_prefix("systemd:") {
        // What systemd takes for FileDescriptorName=.
        let good = (1..=255).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':');
        return good
            .then(|| Address::Systemd(name.to_owned()))
            .ok_or_else(|| {
                wrong(value, "no unit's socket has such a name")
                    .help("write \"systemd:NAME\", the FileDescriptorName= of the .socket unit")
            });
    }
    if let Some(number) = written.strip_prefix("fd:") {
        return number
            .parse()
            .ok()
            .filter(|number| *number >= 0)
            .map(Address::Descriptor)
            .ok_or_else(|| wrong(value, "this is no descriptor").help("write \"fd:0\""));
    }
    written.parse().map(Address::Tcp).map_err(|_| {
        let port = written.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
        wrong(value, "this is no address").help(match port {
            Some(port) => format!(
                "write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" or \"[::]:{port}\" for all"
            ),
            None => "write \"127.0.0.1:9000\", \"[::1]:9000\", \"unix:/path\", \"systemd:NAME\" or \"fd:0\"".to_owned(),
        })
    })
}

/// Checks the path of a unix socket.
pub(crate) fn socket_path(value: &Value, path: &str) -> Result<PathBuf, Wrong> {
    if !path.starts_with('/') {
        return Err(
            wrong(value, "a unix socket is named by its whole path").help(format!(
                "write \"unix:/run/ws-worker/{}\"",
                if path.is_empty() { "ws.sock" } else { path }
            )),
        );
    }
    if path.len() > MAX_SOCKET_PATH || path.contains('\0') {
        return Err(wrong(value, "no unix socket can have this path")
            .help(format!("at most {MAX_SOCKET_PATH} bytes fit")));
    }
    Ok(PathBuf::from(path))
}

/// Refuses keys that a small table does not know.
pub(crate) fn only(table: &Table, known: &[&str], name: &str) -> Result<(), Wrong> {
    match table
        .entries
        .iter()
        .find(|entry| !known.contains(&entry.key.as_str()))
    {
        Some(entry) => Err(Wrong::new(
            &entry.place,
            format!("unknown key `{}` in {name}", entry.key),
        )
        .help(nearest(&entry.key, known.iter().copied()))),
        None => Ok(()),
    }
}

/// Says which known key was probably meant; all of them if none comes near and they are few.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let lower = key.to_ascii_lowercase().replace('-', "_");
    let best = known
        .clone()
        .map(|known| (strsim::jaro_winkler(&lower, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, known)) if likeness > 0.8 => format!("did you mean `{known}`?"),
        Some(_) | None if known.clone().count() <= 4 => {
            let known: Vec<_> = known.map(|known| format!("`{known}`")).collect();
            format!("the keys here are {}", known.join(" and "))
        }
        Some(_) | None => {
            "`ws-worker serve --help` and docs/configuration.md list all keys".to_owned()
        }
    }
}
