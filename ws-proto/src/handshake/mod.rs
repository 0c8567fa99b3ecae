//! What a request asks for, decided in one place, and whether it may be asked so; what an app may add to the 101.
//! Knows heads; knows neither who decides nor what follows the 101.

pub(crate) mod hixie;
pub(crate) mod hybi;
pub(crate) mod refusal;

use crate::error::{HeadError, Refusal};
use crate::head::{Request, RequestHead};
use crate::headers::{Headers, is_token};
use crate::limits::HeadLimits;
use crate::version::{Framing, Version, Versions};
use alloc::string::String;

/// What a valid request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    /// The numbers in hixie-76's two keys; zeros in all other versions.
    pub(crate) numbers: [u32; 2],
}

/// What an app adds to a 101.
///
/// ```
/// # use ws_proto::Answer;
/// let mut answer = Answer { protocol: Some("chat".into()), secure: true, ..Answer::default() };
/// answer.headers.add("Set-Cookie", "session=1; Secure")?;
/// # Ok::<(), ws_proto::InvalidHeader>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// One of the subprotocols offered.
    pub protocol: Option<String>,
    /// `Set-Cookie` and other end-to-end headers; hop-by-hop ones and `Sec-WebSocket-*` are refused.
    pub headers: Headers,
    /// Whether the client came over TLS: `wss` in the Location of 75 and 76.
    pub secure: bool,
    /// The host the client used, with its port if the URL has one, if not what `Host` says.
    pub host: Option<String>,
    /// Whether there is room for a context of [`CONTEXT`](crate::DeflateParameters::CONTEXT) bytes, should the client want
    /// one and [`takeover`](crate::DeflateLimits::takeover) allow it. [`Connection::deflate`](crate::Connection::deflate)
    /// says what was agreed.
    pub deflate_takeover: bool,
}

/// Headers that mean something here and may stand once. `Host` is checked with the syntax.
const SINGLE: [&str; 8] = [
    "content-length",
    "origin",
    "sec-websocket-draft",
    "sec-websocket-key",
    "sec-websocket-key1",
    "sec-websocket-key2",
    "sec-websocket-origin",
    "sec-websocket-version",
];

/// Checks all of a request that is not syntax.
pub(crate) fn check(head: RequestHead<'_>, limits: &HeadLimits) -> Result<Asked, Refusal> {
    let version = classify(&head, limits.versions)?;
    let fields = head.fields();
    fields.all_single(&SINGLE).map_err(Refusal::Head)?;
    let request = Request::new(head, version);
    check_body(&request)?;
    check_origin(&request)?;
    check_protocols(&request, limits.max_subprotocols)?;
    let numbers = match version {
        Version::Hixie75 => [0; 2],
        Version::Hixie76 => hixie::key_numbers(&request)?,
        Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => {
            hybi::check_key(&request)?;
            [0; 2]
        }
    };
    Ok(Asked { version, numbers })
}

/// Decides which protocol a request speaks.
///
/// A version header names it; a pair of keys means hixie-76; nothing at all, hixie-75. A key without
/// a version is a broken client of today, never an old one. `Sec-WebSocket-Draft: 0` is hixie-76, whose
/// drafts 1 to 3 no browser spoke. [RFC 6455, 4.2.1] [hixie-76, 5.2]
pub(crate) fn classify(head: &RequestHead<'_>, allowed: Versions) -> Result<Version, Refusal> {
    let single = |name| head.fields().single(name).map_err(Refusal::Head);
    if head.method() != "GET" || !asks_for_websocket(head) {
        return Err(Refusal::NotWebSocket);
    }
    let version = match single("sec-websocket-version")? {
        Some(b"13") => Version::Rfc6455,
        Some(b"8") => Version::Hybi08,
        Some(b"7") => Version::Hybi07,
        Some(_) => return Err(Refusal::Version(allowed)),
        None if single("sec-websocket-key")?.is_some() => return Err(Refusal::Version(allowed)),
        None => match (
            single("sec-websocket-draft")?,
            single("sec-websocket-key1")?,
            single("sec-websocket-key2")?,
        ) {
            (None, None, None) => Version::Hixie75,
            (None | Some(b"0"), Some(_), Some(_)) => Version::Hixie76,
            (None | Some(b"0"), _, _) => return Err(Refusal::Keys), // Half a challenge is never taken for none.
            (Some(_), _, _) => return Err(Refusal::Version(allowed)),
        },
    };
    if allowed.contains(version) {
        Ok(version)
    } else {
        Err(Refusal::Version(allowed))
    }
}

/// Returns whether `Connection` and `Upgrade` ask for it. Both are lists, and proxies write them in any case.
fn asks_for_websocket(head: &RequestHead<'_>) -> bool {
    let fields = head.fields();
    fields.lists("connection", "upgrade") && fields.lists("upgrade", "websocket")
}

/// Refuses a body: its bytes would be read as frames here and as a body by a proxy.
///
/// Apache with HTTP/2 in front says `Content-Length: 0`; some clients of hixie-76 count their eight bytes, and to say
/// that there are none would be wrong there.
fn check_body(request: &Request<'_>) -> Result<(), Refusal> {
    let fields = request.fields();
    let is_fine = fields.values("transfer-encoding").next().is_none()
        && match fields.single("content-length").map_err(Refusal::Head)? {
            None => true,
            Some(b"0") => request.version() != Version::Hixie76,
            Some(b"8") => request.version() == Version::Hixie76,
            Some(_) => false,
        };
    if is_fine {
        Ok(())
    } else {
        Err(Refusal::Head(HeadError::Body))
    }
}

/// Refuses an origin that cannot be echoed or shown: not UTF-8, or with a tab in it.
fn check_origin(request: &Request<'_>) -> Result<(), Refusal> {
    let is_fine = |name| request.fields().values(name).all(is_plain_text);
    if is_fine("origin") && is_fine("sec-websocket-origin") {
        Ok(())
    } else {
        Err(Refusal::Head(HeadError::Syntax))
    }
}

/// Checks the subprotocols offered: tokens, and not too many; in 75 and 76 one name, whatever it is.
///
/// RFC 6455, 4.1: "The elements that comprise this value MUST be non-empty strings [...] and MUST all be unique
/// strings". A name offered twice does no harm and is let through; so is an empty element, as in every other list.
fn check_protocols(request: &Request<'_>, max_subprotocols: usize) -> Result<(), Refusal> {
    let is_fine = match request.version().framing() {
        Framing::Hybi => {
            let mut elements = request.protocol_elements();
            elements
                .by_ref()
                .take(max_subprotocols)
                .all(|element| element.is_empty() || is_token(element))
                && elements.next().is_none()
        }
        Framing::Hixie => {
            let name = crate::head::protocol_header(request.version());
            let value = request.fields().single(name).map_err(Refusal::Head)?;
            value.is_none_or(is_plain_text)
        }
    };
    if is_fine {
        Ok(())
    } else {
        Err(Refusal::Head(HeadError::Subprotocols))
    }
}

/// Returns whether this is UTF-8 without control characters, C1 included.
pub(crate) fn is_plain_text(value: &[u8]) -> bool {
    core::str::from_utf8(value).is_ok_and(|text| !text.chars().any(char::is_control))
}
