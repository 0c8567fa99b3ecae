//! Where the journal lies: whether a file can be written there, seen before anything is started. Writes nothing.

use super::error::Wrong;
use super::raw::Value;
use super::read;
use rustix::fs::{Access, access};
use std::path::{Path, PathBuf};

/// Reads where the journal is to be; nowhere, if it is off.
pub(crate) fn journal(value: &Value) -> Result<Option<PathBuf>, Wrong> {
    let text = read::text(value)?;
    if text == "off" {
        return Ok(None);
    }
    let wrong = |message: String| Wrong::new(&value.place, message);
    if text == "best-effort" {
        return Err(wrong("this says how, and not where".to_owned()).help(
            "write journal = \"/var/lib/ws-worker/journal\" and journal_mode = \"best-effort\"",
        ));
    }
    if !text.contains('/') || text.ends_with('/') {
        return Err(wrong("this is no path of a file".to_owned())
            .help("write \"/var/lib/ws-worker/journal\", or \"off\""));
    }
    let path = Path::new(text);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(wrong(format!("there is no folder {}", folder.display())).help(
            "make it, owned by the worker's user and mode 0700; systemd does so with StateDirectory=ws-worker",
        ));
    }
    // A new file is put in place of the old one, so it is the folder that must be writable.
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
        wrong(format!(
            "files cannot be made in {}: {errno}",
            folder.display()
        ))
        .help("let the worker's user own the folder, mode 0700")
    })?;
    match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(wrong(format!("{text} is a folder"))
            .help(format!("name a file in it: \"{text}/journal\""))),
        Ok(there) if !there.is_file() => {
            Err(wrong(format!("{text} is no file"))
                .help("name a file that the worker alone writes"))
        }
        Ok(_) => access(path, Access::READ_OK | Access::WRITE_OK)
            .map_err(|errno| {
                wrong(format!("{text} cannot be read and written: {errno}"))
                    .help("let the worker's user own the file, mode 0600")
            })
            .map(|()| Some(path.to_owned())),
        Err(_) => Ok(Some(path.to_owned())), // It is made at the start.
    }
}
