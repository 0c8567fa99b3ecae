//! Files that hold what nobody else may know: the control API's token and the keys that sign hooks. Their content never
//! reaches a message.

use super::Secret;
use super::error::Wrong;
use super::raw::Value;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::os::unix::fs::PermissionsExt as _;

/// Fewer characters can be guessed.
const MIN_TOKEN: usize = 16;
/// What Standard Webhooks asks of a key.
const MIN_KEY: usize = 24;
/// Longer files are no secrets but mistakes.
const MAX_FILE: u64 = 4_096;

/// Base64 with or without its padding, as keys are handed around.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret's file, read.
pub(crate) struct Kept {
    /// Without white space at the ends: editors leave a line end.
    pub(crate) content: Vec<u8>,
    pub(crate) readable_by_all: bool,
    path: String,
}

/// What begins the name of a secret that the service manager hands over, in place of a path.
const CREDENTIAL: &str = "credential:";

/// Returns the path of what is written: itself, or that of a credential. [systemd.exec(5), LoadCredential=]
fn path_of(value: &Value, written: &str) -> Result<String, Wrong> {
    let Some(name) = written.strip_prefix(CREDENTIAL) else {
        return Ok(written.to_owned());
    };
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(Wrong::new(&value.place, "this is no credential's name")
            .help("write \"credential:hook.secret\", as LoadCredential= names it"));
    }
    match std::env::var("CREDENTIALS_DIRECTORY") {
        Ok(folder) if !folder.is_empty() => Ok(format!("{folder}/{name}")),
        Ok(_) | Err(_) => Err(Wrong::new(
            &value.place,
            "no credentials were handed over (CREDENTIALS_DIRECTORY is not set)",
        )
        .help(format!(
            "write LoadCredential={name}:/etc/ws-worker/{name} in the unit"
        ))),
    }
}

/// Reads a file that must not be empty.
pub(crate) fn read(value: &Value, path: &str) -> Result<Kept, Wrong> {
    let path = &path_of(value, path)?;
    let unreadable =
        |error: std::io::Error| Wrong::new(&value.place, format!("{path} cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(Wrong::new(
            &value.place,
            format!("{path} is no file that holds a secret"),
        )
        .help(format!("at most {MAX_FILE} bytes are read")));
    }
    let content = std::fs::read(path).map_err(unreadable)?;
    let content = content.trim_ascii().to_vec();
    if content.is_empty() {
        return Err(Wrong::new(&value.place, format!("{path} is empty"))
            .help("one way to fill it: openssl rand -hex 32"));
    }
    Ok(Kept {
        content,
        readable_by_all: metadata.permissions().mode() & 0o004 != 0,
        path: path.to_owned(),
    })
}

/// Takes a control token: what can stand behind `Authorization: Bearer`.
pub(crate) fn token(
    value: &Value,
    kept: Kept,
    warnings: &mut Vec<String>,
) -> Result<Secret, Wrong> {
    if !kept.content.iter().all(u8::is_ascii_graphic) {
        return Err(Wrong::new(
            &value.place,
            format!("{} holds more than one printable word", kept.path),
        )
        .help("one way to fill it: openssl rand -hex 32"));
    }
    if kept.content.len() < MIN_TOKEN {
        warnings.push(format!(
            "the token in {} is short: {MIN_TOKEN} characters are hard to guess",
            kept.path
        ));
    }
    Ok(Secret(kept.content))
}

/// Takes a signing key: `whsec_` and base64, or the bytes themselves.
pub(crate) fn signing_key(
    value: &Value,
    kept: Kept,
    warnings: &mut Vec<String>,
) -> Result<Secret, Wrong> {
    let key = match kept.content.strip_prefix(b"whsec_") {
        Some(encoded) => BASE64.decode(encoded).map_err(|_| {
            Wrong::new(
                &value.place,
                format!("what follows whsec_ in {} is no base64", kept.path),
            )
        })?,
        None => kept.content,
    };
    if key.is_empty() {
        return Err(Wrong::new(&value.place, format!("{} is empty", kept.path)));
    }
    if key.len() < MIN_KEY {
        warnings.push(format!(
            "the key in {} is short: Standard Webhooks asks for {MIN_KEY} bytes",
            kept.path
        ));
    }
    Ok(Secret(key))
}
