//! HTTP/1.1 requests of the control API, sans-IO: bytes → head and body, answer → bytes. Stricter than the standard wherever
//! leniency would help only a smuggler. Knows no socket, no clock and no call.

use crate::forwarded::is_host;
use std::borrow::Cow;
use std::net::Ipv4Addr;

/// Bytes of a head.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 100;
/// Hexadecimal digits of a chunk's size: far more than any body may have, and no overflow.
const MAX_SIZE_DIGITS: u8 = 12;

/// What is asked for, as far as the control API has a use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Other,
}

/// How long a request's body says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// It says nothing: there is none.
    Absent,
    Fixed(usize),
    Chunked,
}

/// A request head, as much of it as is needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: Method,
    /// Path and query as they came, visible ASCII; begins with a slash.
    pub(super) target: String,
    pub(super) length: Length,
    pub(super) authorization: Option<Vec<u8>>,
    /// `X-TyphoonAE-WebSocket`: the socket that a message is for.
    pub(super) socket: Option<String>,
    /// `X-TyphoonAE-ServerName`: whose sockets hear a broadcast.
    pub(super) server_name: Option<String>,
    /// The body is binary.
    pub(super) binary: bool,
    /// The body has a `Content-Encoding`.
    pub(super) encoded: bool,
    /// A browser sends it: `Origin` or `Sec-Fetch-Site` is there.
    pub(super) browser: bool,
    /// And it is a person who opens the address: no `Origin`, and no other site has sent him.
    pub(super) visit: bool,
    /// A browser sends it, to a name that anybody may have given this machine: `Host` is neither an address nor without a dot.
    pub(super) rebound: bool,
    pub(super) expects_continue: bool,
    pub(super) keep_alive: bool,
}

impl Head {
    /// Returns whether a body follows.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.length, Length::Absent | Length::Fixed(0))
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    /// The Prometheus text format.
    Metrics,
    /// The status page.
    Page,
}

impl Kind {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Page => "text/html; charset=utf-8",
        }
    }
}

/// An answer. Header values are ours and constant, so nothing a peer sent can break a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) header: Option<(&'static str, &'static str)>,
    /// The connection cannot go on: where the next request begins is not known, or not worth reading on to.
    pub(super) close: bool,
}

impl Answer {
    pub(super) fn json(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            body: body.into(),
            kind: Kind::Json,
            header: None,
            close: false,
        }
    }

    pub(super) fn of(kind: Kind, body: String) -> Self {
        Self {
            kind,
            ..Self::json(200, body)
        }
    }

    /// Makes `{"error":"…"}` of a text of ours.
    pub(super) fn error(status: u16, text: &'static str) -> Self {
        Self::json(status, serde_json::json!({ "error": text }).to_string())
    }

    /// The same, with what the caller wrote. It is bounded by the head that it came in.
    pub(super) fn error_about(status: u16, text: &'static str, what: &str) -> Self {
        Self::json(
            status,
            serde_json::json!({ "error": format!("{text}: {what}") }).to_string(),
        )
    }

    /// The same, and the end of the connection.
    pub(super) fn fatal(status: u16, text: &'static str) -> Self {
        Self {
            close: true,
            ..Self::error(status, text)
        }
    }

    pub(super) fn with(self, name: &'static str, value: &'static str) -> Self {
        Self {
            header: Some((name, value)),
            ..self
        }
    }

    /// Appends it to `out`, without its body if only the head was asked for.
    pub(super) fn encode(&self, head_only: bool, close: bool, out: &mut Vec<u8>) {
        let head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        out.extend_from_slice(head.as_bytes());
        if self.status != 204 {
            let head = format!(
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.kind.content_type(),
                self.body.len()
            );
            out.extend_from_slice(head.as_bytes());
        }
        out.extend_from_slice(b"Cache-Control: no-store\r\n");
        if self.kind == Kind::Page {
            let policy = &*super::page::POLICY;
            let lines = format!(
                "Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
            );
            out.extend_from_slice(lines.as_bytes());
        }
        if let Some((name, value)) = self.header {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if self.status != 204 && !head_only {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// What goes out before the body of a request that waits for it.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Looks for the end of a head, each byte once, however it comes.
#[derive(Debug, Default)]
pub(super) struct Scan {
    seen: usize,
    line: usize,
    carriage_return: bool,
}

impl Scan {
    /// Takes all bytes of the head so far and returns its length once it is whole.
    ///
    /// # Errors
    /// The caller's fault: a NUL, a bare CR or LF, or too many bytes.
    pub(super) fn find_end(&mut self, input: &[u8]) -> Result<Option<usize>, Answer> {
        for (at, &byte) in input.iter().enumerate().skip(self.seen) {
            if at >= MAX_HEAD {
                return Err(Answer::fatal(431, "the head is too long"));
            }
            match (self.carriage_return, byte) {
                (true, b'\n') if self.line == 0 => {
                    *self = Self::default();
                    return Ok(Some(at + 1));
                }
                (true, b'\n') => (self.line, self.carriage_return) = (0, false),
                (true, _) | (false, b'\n' | 0) => {
                    return Err(Answer::fatal(400, "NUL, or a bare CR or LF, in the head"));
                }
                (false, b'\r') => self.carriage_return = true,
                (false, _) => self.line += 1,
            }
        }
        self.seen = input.len();
        Ok(None)
    }
}

/// Parses a whole head.
///
/// # Errors
/// The caller's fault. Where the head ends is certain, but what follows it is not, so the connection ends.
pub(super) fn parse(text: &[u8]) -> Result<Head, Answer> {
    let bad = |text| Answer::fatal(400, text);
    if text.first() == Some(&b'\r') {
        return Err(bad("an empty line before the request"));
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(text) {
        Ok(httparse::Status::Complete(length)) if length == text.len() => {}
        Ok(_) => return Err(bad("not a request")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Answer::fatal(431, "too many headers"));
        }
        Err(_) => return Err(bad("not an HTTP/1 request")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(bad("not a request"));
    };
    if !target.starts_with('/')
        || !target
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err(bad("the target is not a path"));
    }
    let fields = Fields::collect(request.headers)?;
    match fields.host {
        Some(host) if std::str::from_utf8(host).is_ok_and(is_host) => {}
        // Health checks of HAProxy come without.
        None if minor == 0 => {}
        Some(_) | None => return Err(bad("Host is missing or no host")),
    }
    let length = match (fields.transfer_encoding, fields.content_length) {
        (None, None) => Length::Absent,
        (None, Some(digits)) => Length::Fixed(decimal(digits)?),
        (Some(_), Some(_)) => return Err(bad("both Content-Length and Transfer-Encoding")),
        (Some(coding), None) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Length::Chunked
        }
        (Some(_), None) => return Err(bad("a transfer coding other than chunked")),
    };
    let expects_continue = match fields.expect {
        _ if minor == 0 => false, // [RFC 9110, 10.1.1]
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => true,
        Some(_) => return Err(Answer::fatal(417, "an expectation other than 100-continue")),
    };
    let binary = fields.content_type.is_some_and(|value| {
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii()
            .eq_ignore_ascii_case(b"application/octet-stream")
    });
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            _ => Method::Other,
        },
        target: target.to_owned(),
        length,
        authorization: fields.authorization.map(<[u8]>::to_vec),
        socket: fields.socket.map(name).transpose()?,
        server_name: fields.server_name.map(name).transpose()?,
        binary,
        encoded: fields.encoded,
        browser: fields.browser,
        visit: fields.visit && !fields.origin,
        rebound: (fields.browser || fields.likely) && fields.host.is_some_and(is_foreign),
        expects_continue,
        keep_alive: minor == 1 && !fields.close,
    })
}

/// The headers that mean something here. Each may stand once, but for `Connection`, which is a list.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    socket: Option<&'a [u8]>,
    server_name: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    encoded: bool,
    browser: bool,
    likely: bool,
    visit: bool,
    origin: bool,
    close: bool,
}

impl<'a> Fields<'a> {
    fn collect(headers: &[httparse::Header<'a>]) -> Result<Self, Answer> {
        let mut fields = Self::default();
        for header in headers {
            let slot = match header.name.to_ascii_lowercase().as_str() {
                "host" => &mut fields.host,
                "content-length" => &mut fields.content_length,
                "transfer-encoding" => &mut fields.transfer_encoding,
                "content-type" => &mut fields.content_type,
                "authorization" => &mut fields.authorization,
                "x-typhoonae-websocket" => &mut fields.socket,
                "x-typhoonae-servername" => &mut fields.server_name,
                "expect" => &mut fields.expect,
                other => {
                    match other {
                        "content-encoding" => fields.encoded = true,
                        "origin" => (fields.browser, fields.origin) = (true, true),
                        "sec-fetch-site" => {
                            fields.browser = true;
                            fields.visit = matches!(header.value, b"none" | b"same-origin");
                        }
                        // Every browser sends it, and no script can keep it from that.
                        "accept-language" => fields.likely = true,
                        "connection" => {
                            fields.close |= header
                                .value
                                .split(|byte| *byte == b',')
                                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
                        }
                        _ => {}
                    }
                    continue;
                }
            };
            if slot.replace(header.value).is_some() {
                return Err(Answer::fatal(400, "a header stands twice that may not"));
            }
        }
        Ok(fields)
    }
}

/// Returns whether a host is a name with a dot: whoever owns such a name can have it mean this machine.
fn is_foreign(host: &[u8]) -> bool {
    let text = std::str::from_utf8(host).unwrap_or_default();
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => text,
    };
    name.trim_end_matches('.').contains('.') && name.parse::<Ipv4Addr>().is_err()
}

/// Reads a value that is a name.
fn name(value: &[u8]) -> Result<String, Answer> {
    let text = std::str::from_utf8(value.trim_ascii());
    text.map(str::to_owned)
        .map_err(|_| Answer::fatal(400, "a header is no text"))
}

/// Reads a length: digits alone. What does not fit is too large in any case.
fn decimal(digits: &[u8]) -> Result<usize, Answer> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Answer::fatal(400, "Content-Length is no number"));
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(too_large)
}

fn too_large() -> Answer {
    Answer::fatal(413, "the body is too large")
}

/// A body as it comes, never larger than its limit. It grows with what came, not with what was announced.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    limit: usize,
    left: Left,
}

/// What is still to come.
#[derive(Clone, Copy, Debug)]
enum Left {
    Nothing,
    Bytes(usize),
    /// The line with a chunk's size.
    Size {
        value: usize,
        digits: u8,
        carriage_return: bool,
    },
    /// A chunk's bytes.
    Chunk(usize),
    /// The line end behind a chunk, or (`last`) the empty line that stands for the trailers we do not take.
    LineEnd {
        last: bool,
        carriage_return: bool,
    },
}

const SIZE: Left = Left::Size {
    value: 0,
    digits: 0,
    carriage_return: false,
};

impl Body {
    /// # Errors
    /// The caller's fault: it announces more than `limit` bytes.
    pub(super) fn new(length: Length, limit: usize) -> Result<Self, Answer> {
        let left = match length {
            Length::Absent | Length::Fixed(0) => Left::Nothing,
            Length::Fixed(length) if length > limit => return Err(too_large()),
            Length::Fixed(length) => Left::Bytes(length),
            Length::Chunked => SIZE,
        };
        Ok(Self {
            bytes: Vec::new(),
            limit,
            left,
        })
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }

    /// Returns how many bytes of heap it holds.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what belongs to the body and returns how many bytes that were.
    ///
    /// # Errors
    /// The caller's fault: the chunks are no chunks, or too large. Extensions and trailers are refused: nobody sends them
    /// but to confuse a proxy.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<usize, Answer> {
        let bad = || Answer::fatal(400, "a malformed chunk");
        let mut rest = input;
        loop {
            self.left = match self.left {
                Left::Nothing => break,
                Left::Bytes(left) => match self.take(left, &mut rest) {
                    0 => Left::Nothing,
                    left => {
                        self.left = Left::Bytes(left);
                        break;
                    }
                },
                Left::Chunk(left) => match self.take(left, &mut rest) {
                    0 => Left::LineEnd {
                        last: false,
                        carriage_return: false,
                    },
                    left => {
                        self.left = Left::Chunk(left);
                        break;
                    }
                },
                Left::Size {
                    value,
                    digits,
                    carriage_return,
                } => {
                    let Some((&byte, behind)) = rest.split_first() else {
                        break;
                    };
                    rest = behind;
                    let digit = char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| usize::try_from(digit).ok());
                    match (carriage_return, byte, digit) {
                        (true, b'\n', _) if value == 0 => Left::LineEnd {
                            last: true,
                            carriage_return: false,
                        },
                        (true, b'\n', _) => Left::Chunk(value),
                        (false, b'\r', _) if digits > 0 => Left::Size {
                            value,
                            digits,
                            carriage_return: true,
                        },
                        (false, _, Some(digit)) if digits < MAX_SIZE_DIGITS => {
                            let value = value
                                .checked_mul(16)
                                .and_then(|value| value.checked_add(digit))
                                .filter(|value| *value <= self.limit - self.bytes.len())
                                .ok_or_else(too_large)?;
                            Left::Size {
                                value,
                                digits: digits + 1,
                                carriage_return: false,
                            }
                        }
                        _ => return Err(bad()),
                    }
                }
                Left::LineEnd {
                    last,
                    carriage_return,
                } => {
                    let Some((&byte, behind)) = rest.split_first() else {
                        break;
                    };
                    rest = behind;
                    match (carriage_return, byte, last) {
                        (false, b'\r', _) => Left::LineEnd {
                            last,
                            carriage_return: true,
                        },
                        (true, b'\n', true) => Left::Nothing,
                        (true, b'\n', false) => SIZE,
                        _ => return Err(bad()),
                    }
                }
            };
        }
        Ok(input.len() - rest.len())
    }

    /// Moves at most `left` bytes and returns how many are left then.
    fn take(&mut self, left: usize, rest: &mut &[u8]) -> usize {
        let (taken, behind) = rest.split_at(left.min(rest.len()));
        self.bytes.extend_from_slice(taken);
        *rest = behind;
        left - taken.len()
    }
}

/// Decodes a path segment, or (`plus`) a piece of a query, where a plus is a space.
///
/// # Errors
/// The caller's fault: a `%` without two digits, no UTF-8, or a control character.
pub(super) fn decode(text: &str, plus: bool) -> Result<String, Answer> {
    let bad = || Answer::error(400, "the percent-encoding is broken");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
                rest = behind;
                let value = |digit: u8| char::from(digit).to_digit(16);
                match digits.map(value) {
                    [Some(high), Some(low)] => u8::try_from(high << 4 | low).map_err(|_| bad())?,
                    _ => return Err(bad()),
                }
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    if text.chars().any(char::is_control) {
        return Err(Answer::error(400, "a control character in the target"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
