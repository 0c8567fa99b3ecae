//! Heads as they come: collected up to a bound, searched once for their end, parsed once through httparse.
//! Knows no keys, and of versions only how they name the origin and the subprotocol.

use crate::error::HeadError;
use crate::headers::{is_host, is_token_byte};
use crate::input::Input;
use crate::version::{Framing, Version};
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::Deref;
use httparse::Status;

/// A whole request head: syntax, target and `Host` are checked, nothing else is.
///
/// ```
/// # use ws_proto::{Handshake, HeadLimits, Input, Instant, Output, Version};
/// # let (now, heads, mut out) = (Instant::at(0), HeadLimits::default(), Output::default());
/// let mut handshake = Handshake::new(now, &heads);
/// let mut bytes = *b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Cookie: session=7; theme=dark\r\nSec-WebSocket-Protocol: talk, shout\r\nOrigin: https://example.com\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// handshake.receive(now, &heads, &mut Input::new(&mut bytes), &mut out).unwrap();
///
/// let head = handshake.head().unwrap();
/// assert_eq!((head.method(), head.path(), head.query()), ("GET", "/chat", Some("room=1")));
/// assert_eq!((head.host(), head.cookie("session")), ("example.com", Some("7")));
/// assert_eq!(head.header("upgrade"), Some("websocket"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    bytes: &'a [u8],
    layout: &'a RequestLayout,
}

impl<'a> RequestHead<'a> {
    pub(crate) const fn new(bytes: &'a [u8], layout: &'a RequestLayout) -> Self {
        Self { bytes, layout }
    }

    /// Returns the method, such as `GET`.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.layout.method.text(self.bytes)
    }

    /// Returns path and query exactly as they came; it begins with a slash.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.layout.target.text(self.bytes)
    }

    /// Returns the path exactly as it came, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// Returns what follows the first `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Returns the `Host` header exactly as it came.
    #[must_use]
    pub fn host(&self) -> &'a str {
        self.layout.host.text(self.bytes)
    }

    /// Returns the first value under this name (any case), if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let value = self.fields().values(name).next()?;
        core::str::from_utf8(value).ok()
    }

    /// Walks through all headers in the order in which they came, values as bytes.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields().iter()
    }

    /// Returns the value of a cookie, over all `Cookie` lines and both joiners, `; ` and `, `: some proxies join two
    /// lines with a comma. The first one wins; quotes are part of the value.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.fields()
            .values("cookie")
            .flat_map(cookie_pairs)
            .find_map(|pair| {
                let sign = pair.iter().position(|&byte| byte == b'=')?;
                let (found, value) = pair.split_at_checked(sign)?;
                if found.trim_ascii() != name.as_bytes() {
                    return None;
                }
                core::str::from_utf8(value.get(1..)?.trim_ascii()).ok()
            })
    }

    pub(crate) fn fields(&self) -> Fields<'a> {
        self.layout.lines.of(self.bytes)
    }
}

/// Splits a line of cookies at every semicolon, and at commas that are followed by a space.
fn cookie_pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    core::iter::from_fn(move || {
        let text = rest?;
        let mut neighbours = text.iter().zip(text.iter().skip(1).chain(&[0]));
        let end = neighbours
            .position(|(&byte, &next)| byte == b';' || (byte == b',' && next == b' '))
            .unwrap_or(text.len());
        rest = text.get(end + 1..);
        text.get(..end)
    })
}

/// A request that asks for a WebSocket in a version that is on: all of the handshake but the app's decision.
///
/// ```
/// # use ws_proto::{Handshake, HeadLimits, Input, Instant, Output, Version};
/// # let (now, heads, mut out) = (Instant::at(0), HeadLimits::default(), Output::default());
/// let mut handshake = Handshake::new(now, &heads);
/// let mut bytes = *b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Cookie: session=7; theme=dark\r\nSec-WebSocket-Protocol: talk, shout\r\nOrigin: https://example.com\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// handshake.receive(now, &heads, &mut Input::new(&mut bytes), &mut out).unwrap();
///
/// let request = handshake.request().unwrap();
/// assert_eq!(request.version(), Version::Rfc6455);
/// assert_eq!(request.origin(), Some("https://example.com"));
/// assert!(request.protocols().eq(["talk", "shout"]));
/// assert_eq!(request.location(true, None), "wss://example.com/chat?room=1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: RequestHead<'a>,
    version: Version,
}

impl<'a> Deref for Request<'a> {
    type Target = RequestHead<'a>;

    fn deref(&self) -> &RequestHead<'a> {
        &self.head
    }
}

impl<'a> Request<'a> {
    pub(crate) const fn new(head: RequestHead<'a>, version: Version) -> Self {
        Self { head, version }
    }

    /// Returns the version it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the origin exactly as it came: `Origin`, or in 7 and 8 `Sec-WebSocket-Origin` before it.
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        match self.version {
            Version::Hybi07 | Version::Hybi08 => self.header("sec-websocket-origin"),
            Version::Hixie75 | Version::Hixie76 | Version::Rfc6455 => None,
        }
        .or_else(|| self.header("origin"))
    }

    /// Walks through the subprotocols offered. In 75 and 76 the value is one name as a whole.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.protocol_elements()
            .filter(|element| !element.is_empty())
            .filter_map(|element| core::str::from_utf8(element).ok())
    }

    /// Walks through the elements of the subprotocol list as bytes, empty ones included.
    pub(crate) fn protocol_elements(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let is_list = self.version.framing() == Framing::Hybi;
        self.fields()
            .values(protocol_header(self.version))
            .flat_map(move |value| value.split(move |&byte| is_list && byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    /// Returns the URL the client used: `ws` or `wss`, `host` or else `Host`, and the target, byte for byte.
    #[must_use]
    pub fn location(&self, secure: bool, host: Option<&str>) -> String {
        self.location_parts(secure, host).concat()
    }

    pub(crate) fn location_parts<'b>(&self, secure: bool, host: Option<&'b str>) -> [&'b str; 3]
    where
        'a: 'b,
    {
        let scheme = if secure { "wss://" } else { "ws://" };
        [scheme, host.unwrap_or(self.host()), self.target()]
    }
}

/// Returns the name of the header in which a version speaks of subprotocols, both ways.
pub(crate) const fn protocol_header(version: Version) -> &'static str {
    match version {
        Version::Hixie75 => "WebSocket-Protocol",
        Version::Hixie76 | Version::Hybi07 | Version::Hybi08 | Version::Rfc6455 => {
            "Sec-WebSocket-Protocol"
        }
    }
}

/// The header lines of a head, without its first line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    lines: &'a Lines,
}

impl<'a> Fields<'a> {
    /// Walks through all of them in the order in which they came.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let fields = self.lines.fields.iter();
        fields.map(move |field| (field.name.text(self.bytes), field.value.of(self.bytes)))
    }

    /// Walks through the values under a name, any case, in the order in which they came.
    #[inline]
    pub(crate) fn values<'n>(self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let fields = match self.lines.marks & mark(name.as_bytes()) {
            0 => &[],
            _ => &*self.lines.fields,
        };
        fields
            .iter()
            .filter(move |field| {
                field.name.len() == name.len()
                    && (field.name.of(self.bytes)).eq_ignore_ascii_case(name.as_bytes())
            })
            .map(move |field| field.value.of(self.bytes))
    }

    /// Returns the value of a header that may stand once.
    #[inline]
    pub(crate) fn single(self, name: &str) -> Result<Option<&'a [u8]>, HeadError> {
        let mut values = self.values(name);
        let first = values.next();
        if self.lines.repeated & mark(name.as_bytes()) != 0 && values.next().is_some() {
            return Err(HeadError::Duplicate);
        }
        Ok(first)
    }

    /// Checks that none of these names stands twice.
    pub(crate) fn all_single(self, names: &[&str]) -> Result<(), HeadError> {
        if self.lines.repeated != 0 {
            for name in names {
                self.single(name)?;
            }
        }
        Ok(())
    }

    /// Returns whether one of the comma lists under `name` holds `token`, any case.
    pub(crate) fn lists(self, name: &str, token: &str) -> bool {
        let is_it = |element: &[u8]| element.eq_ignore_ascii_case(token.as_bytes());
        self.values(name).any(|value| {
            // As nearly always, it is all there is.
            is_it(value) || (value.split(|&byte| byte == b',')).any(|part| is_it(part.trim_ascii()))
        })
    }
}

/// Collects a head and not one byte more.
#[derive(Debug, Default)]
pub(crate) struct HeadBuffer {
    bytes: Vec<u8>,
}

impl HeadBuffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) const fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Takes bytes up to the empty line that ends the head, and returns whether it came. Every byte is looked at once,
    /// however the head is cut; what cannot become a head is refused as soon as it is seen.
    pub(crate) fn collect(
        &mut self,
        input: &mut Input<'_>,
        max_head: usize,
    ) -> Result<bool, HeadError> {
        let room = max_head.saturating_sub(self.bytes.len());
        let new = input.as_slice();
        let new = new.get(..room).unwrap_or(new);
        // An empty line, TLS, a PROXY preamble nobody told us of: no need to wait for more.
        if self.bytes.is_empty() && new.first().is_some_and(|&byte| !is_token_byte(byte)) {
            return Err(HeadError::Syntax);
        }
        let end = self.find_end(new)?;
        let count = end.unwrap_or(new.len());
        if end.is_none() && count == room {
            return Err(HeadError::TooLarge);
        }
        self.grow(count, max_head);
        self.bytes.extend_from_slice(input.take(count));
        Ok(end.is_some())
    }

    /// Returns how many of the new bytes belong to the head, if its end is among them.
    fn find_end(&self, new: &[u8]) -> Result<Option<usize>, HeadError> {
        // The byte so many before `new[at]`, which may be one of an earlier read.
        let before = |at: usize, count: usize| match at.checked_sub(count) {
            Some(at) => new.get(at),
            None => (self.bytes.len() + at)
                .checked_sub(count)
                .and_then(|at| self.bytes.get(at)),
        };
        let mut from = 0;
        while let Some(found) = find_line_feed(new.get(from..).unwrap_or_default()) {
            let at = from + found;
            if before(at, 1) != Some(&b'\r') {
                return Err(HeadError::Syntax);
            }
            if before(at, 2) == Some(&b'\n') && before(at, 3) == Some(&b'\r') {
                return Ok(Some(at + 1));
            }
            from = at + 1;
        }
        Ok(None)
    }

    /// Makes room for a head that comes in pieces: twice as much each time, and never more than a head may have.
    fn grow(&mut self, count: usize, max_head: usize) {
        let needed = self.bytes.len() + count;
        if needed > self.bytes.capacity() {
            let wanted = self.bytes.capacity().saturating_mul(2).min(max_head);
            self.bytes
                .reserve_exact(wanted.max(needed) - self.bytes.len());
        }
    }
}

#[cfg(feature = "simd")]
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

#[cfg(not(feature = "simd"))]
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n')
}

/// A part of a head.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Finds where `part`, which httparse cut out of `whole`, begins and ends.
    fn find(whole: &[u8], part: &[u8]) -> Result<Self, HeadError> {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        let narrow = |at: usize| u32::try_from(at).map_err(|_| HeadError::TooLarge);
        Ok(Self {
            start: narrow(start)?,
            end: narrow(start.wrapping_add(part.len()))?,
        })
    }

    fn of(self, whole: &[u8]) -> &[u8] {
        whole
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Returns a part that was proved to be UTF-8.
    fn text(self, whole: &[u8]) -> &str {
        core::str::from_utf8(self.of(whole)).unwrap_or_default()
    }

    const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// Where a header line has its name and its value, without the white space around it.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// Where the header lines are.
#[derive(Debug)]
struct Lines {
    fields: Vec<Field>,
    /// The [marks](mark) of their names. Most names that are asked for did not come, and here one look says so.
    marks: u64,
    /// Those of them that came more than once.
    repeated: u64,
}

impl Lines {
    fn find(bytes: &[u8], headers: &[httparse::Header<'_>]) -> Result<Self, HeadError> {
        let mut lines = Self {
            fields: Vec::with_capacity(headers.len()),
            marks: 0,
            repeated: 0,
        };
        for header in headers {
            let name = header.name.as_bytes();
            lines.repeated |= lines.marks & mark(name);
            lines.marks |= mark(name);
            lines.fields.push(Field {
                name: Span::find(bytes, name)?,
                value: Span::find(bytes, header.value)?,
            });
        }
        Ok(lines)
    }

    const fn of<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, lines: self }
    }

    const fn memory(&self) -> usize {
        self.fields.capacity() * size_of::<Field>()
    }
}

/// Returns one bit of 64 for a name, the same in any case. Those of a handshake and of what browsers and proxies add to it
/// have one each; names that share one cost a look at the lines.
#[inline]
fn mark(name: &[u8]) -> u64 {
    let (before, last) = match name {
        [.., before, last] => (before | 0x20, last | 0x20),
        _ => (0, 0),
    };
    1 << ((26 * name.len() + 14 * usize::from(before) + usize::from(last)) % 64)
}

/// Where everything is in a request head.
#[derive(Debug)]
pub(crate) struct RequestLayout {
    method: Span,
    target: Span,
    host: Span,
    lines: Lines,
}

impl RequestLayout {
    /// Parses a whole head. [RFC 9112, 3] [RFC 9112, 5]
    pub(crate) fn parse(bytes: &[u8], max_headers: usize) -> Result<Self, HeadError> {
        with_header_room(max_headers, |room| {
            let mut parsed = httparse::Request::new(&mut []);
            match parsed.parse_with_uninit_headers(bytes, room) {
                Ok(Status::Complete(length)) if length == bytes.len() => {}
                Ok(_) => return Err(HeadError::Syntax),
                Err(httparse::Error::Version) if names_http_version(bytes) => {
                    return Err(HeadError::HttpVersion);
                }
                Err(error) => return Err(head_error(error)),
            }
            if parsed.version != Some(1) {
                return Err(HeadError::HttpVersion);
            }
            let (authority, target) = target(parsed.path.unwrap_or_default())?;
            let lines = Lines::find(bytes, parsed.headers)?;
            let host = lines
                .of(bytes)
                .single("host")?
                .filter(|host| is_host(host))
                .filter(|host| authority.is_none_or(|named| named.eq_ignore_ascii_case(host)))
                .ok_or(HeadError::Host)?;
            Ok(Self {
                method: Span::find(bytes, parsed.method.unwrap_or_default().as_bytes())?,
                target: Span::find(bytes, target.as_bytes())?,
                host: Span::find(bytes, host)?,
                lines,
            })
        })
    }

    pub(crate) const fn memory(&self) -> usize {
        self.lines.memory()
    }
}

/// Where everything is in a response head.
#[derive(Debug)]
pub(crate) struct ResponseLayout {
    status: u16,
    lines: Lines,
}

impl ResponseLayout {
    /// Parses a whole head. [RFC 9112, 4]
    pub(crate) fn parse(bytes: &[u8], max_headers: usize) -> Result<Self, HeadError> {
        with_header_room(max_headers, |room| {
            let mut parsed = httparse::Response::new(&mut []);
            let config = httparse::ParserConfig::default();
            match config.parse_response_with_uninit_headers(&mut parsed, bytes, room) {
                Ok(Status::Complete(length)) if length == bytes.len() => {}
                Ok(_) => return Err(HeadError::Syntax),
                Err(error) => return Err(head_error(error)),
            }
            if parsed.version != Some(1) {
                return Err(HeadError::HttpVersion);
            }
            Ok(Self {
                status: parsed.code.unwrap_or_default(),
                lines: Lines::find(bytes, parsed.headers)?,
            })
        })
    }

    pub(crate) const fn status(&self) -> u16 {
        self.status
    }

    pub(crate) const fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        self.lines.of(bytes)
    }
}

/// Calls back with room for so many headers: on the stack, unless somebody configured very many.
fn with_header_room<'b, T>(
    max_headers: usize,
    parse: impl FnOnce(&mut [MaybeUninit<httparse::Header<'b>>]) -> T,
) -> T {
    let mut few = [const { MaybeUninit::uninit() }; 128];
    if let Some(room) = few.get_mut(..max_headers) {
        return parse(room);
    }
    let mut many = Vec::new();
    many.resize_with(max_headers, MaybeUninit::uninit);
    parse(&mut many)
}

const fn head_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => HeadError::Syntax,
    }
}

/// Returns whether the request line is three words, the last of them an HTTP version: then nothing else is wrong with it.
fn names_http_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next();
    let mut words = line.unwrap_or_default().split(|&byte| byte == b' ');
    words.nth(2).is_some_and(|word| word.starts_with(b"HTTP/")) && words.next().is_none()
}

/// Splits a target: the host, if it is an absolute URL, and path and query. The URL's host stands in `Host` too, or somebody in
/// between believes in another than we do. [RFC 6455, 4.2.1, 1] [RFC 9112, 3.2.1] [RFC 9112, 3.2.2]
fn target(text: &str) -> Result<(Option<&[u8]>, &str), HeadError> {
    let is_bad = |character: char| character == '#' || character.is_control();
    if text.contains(is_bad) {
        return Err(HeadError::Target);
    }
    if text.starts_with('/') {
        return Ok((None, text));
    }
    let (scheme, rest) = text.split_once("://").ok_or(HeadError::Target)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(HeadError::Target);
    }
    let path = rest.find('/').ok_or(HeadError::Target)?;
    let (authority, path) = rest.split_at(path);
    Ok((Some(authority.as_bytes()), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a head from lines that end in LF here and in CRLF there.
    fn parse(text: &str) -> Result<(Vec<u8>, RequestLayout), HeadError> {
        let bytes = text.replace('\n', "\r\n").into_bytes();
        let layout = RequestLayout::parse(&bytes, 8)?;
        Ok((bytes, layout))
    }

    fn collect(buffer: &mut HeadBuffer, bytes: &[u8]) -> Result<bool, HeadError> {
        buffer.collect(&mut Input::new(&mut bytes.to_vec()), 64)
    }

    #[test]
    fn a_head_is_lent_as_it_came() {
        let (bytes, layout) =
            parse("GET /a%20b?c=/?d HTTP/1.1\nhOST: h:80\nEmpty:\nX:\t a  b \t\nx: \u{e9}\n\n")
                .expect("a proper head");
        let head = RequestHead::new(&bytes, &layout);
        assert_eq!((head.method(), head.host()), ("GET", "h:80"));
        assert_eq!((head.path(), head.query()), ("/a%20b", Some("c=/?d")));
        assert_eq!(head.header("X"), Some("a  b"));
        assert_eq!(head.header("empty"), Some(""));
        assert_eq!(head.header("absent"), None);
        let names: Vec<_> = head.headers().map(|(name, _)| name).collect();
        assert_eq!(names, ["hOST", "Empty", "X", "x"]);
    }

    #[test]
    fn every_name_that_may_be_asked_for_has_a_mark_of_its_own_in_any_case() {
        let mut seen = 0;
        for name in [
            "accept-encoding",
            "accept-language",
            "cache-control",
            "connection",
            "content-length",
            "cookie",
            "forwarded",
            "host",
            "origin",
            "pragma",
            "sec-websocket-draft",
            "sec-websocket-extensions",
            "sec-websocket-key",
            "sec-websocket-key1",
            "sec-websocket-key2",
            "sec-websocket-origin",
            "sec-websocket-protocol",
            "sec-websocket-version",
            "transfer-encoding",
            "upgrade",
            "user-agent",
            "websocket-protocol",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id",
        ] {
            let mark = mark(name.as_bytes());
            assert_eq!(seen & mark, 0, "{name}");
            seen |= mark;
            assert_eq!(super::mark(name.to_ascii_uppercase().as_bytes()), mark);
        }
    }

    #[test]
    fn names_that_share_a_mark_are_told_apart() {
        // All lengths up to a hundred meet in 64 bits.
        let names: Vec<_> = (1..=100).map(|length| "x".repeat(length)).collect();
        let lines = names
            .iter()
            .map(|name| alloc::format!("{name}: {}\r\n", name.len()));
        let lines: String = lines.collect();
        let bytes = alloc::format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
        let layout = RequestLayout::parse(&bytes, 101).expect("a proper head");
        let head = RequestHead::new(&bytes, &layout);
        for name in &names {
            let value = alloc::format!("{}", name.len());
            assert_eq!(head.header(name), Some(&*value));
            assert_eq!(head.fields().single(name), Ok(Some(value.as_bytes())));
        }
        assert_eq!(head.header(&"x".repeat(101)), None);
    }

    #[test]
    fn what_a_head_holds_is_counted() {
        let mut buffer = HeadBuffer::default();
        assert_eq!(
            collect(&mut buffer, b"GET / HTTP/1.1\r\nHost: h"),
            Ok(false)
        );
        assert!(buffer.memory() >= 23 && buffer.memory() <= 64);
        let (_, layout) = parse("GET / HTTP/1.1\nHost: h\nA: b\nC: d\n\n").expect("a proper head");
        assert!(layout.memory() >= 3 * size_of::<Field>());
        assert_eq!(layout.memory() % size_of::<Field>(), 0);
    }

    #[test]
    fn a_cookie_is_found_over_lines_and_joiners() {
        let (bytes, layout) = parse(
            "GET / HTTP/1.1\nHost: h\nCookie: a=1; b = 2 ,c=3,4, d=5;e\nCookie: f=\"6\"; a=7; g=8=9; =; h=\n\n",
        )
        .expect("a proper head");
        let head = RequestHead::new(&bytes, &layout);
        for (name, value) in [
            ("a", Some("1")),
            ("c", None),
            ("b", Some("2 ,c=3,4")),
            ("d", Some("5")),
            ("e", None),
            ("f", Some("\"6\"")),
            ("g", Some("8=9")),
            ("h", Some("")),
            ("A", None),
        ] {
            assert_eq!(head.cookie(name), value, "{name}");
        }
    }

    #[test]
    fn a_head_is_taken_to_its_end_and_no_further() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 0..text.len() {
            let mut buffer = HeadBuffer::default();
            let (first, second) = text.split_at(cut);
            assert_eq!(collect(&mut buffer, first), Ok(false));
            let mut second = [second, b"\r\n\r\nrest"].concat();
            let mut input = Input::new(&mut second);
            assert_eq!(buffer.collect(&mut input, 64), Ok(true));
            assert_eq!(input.as_slice(), b"\r\n\r\nrest");
            assert_eq!(buffer.as_slice(), text);
        }
    }

    #[test]
    fn a_head_may_fill_its_limit_and_not_exceed_it() {
        let mut text = b"GET /".to_vec();
        text.resize(60, b'a');
        for piece in [1, 7, 60] {
            let mut buffer = HeadBuffer::default();
            for bytes in text.chunks(piece) {
                assert_eq!(collect(&mut buffer, bytes), Ok(false));
            }
            assert_eq!(collect(&mut buffer, b"\r\n\r\n"), Ok(true));
            assert!(buffer.memory() <= 64);
        }
        text.push(b'a');
        for piece in [1, 7, 61] {
            let mut buffer = HeadBuffer::default();
            let results = text.chunks(piece).chain([&b"\r\n\r\n"[..]]);
            let results: Vec<_> = results.map(|bytes| collect(&mut buffer, bytes)).collect();
            assert_eq!(results.last(), Some(&Err(HeadError::TooLarge)), "{piece}");
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_at_once() {
        for bytes in [
            &b"\r\n"[..],
            b"\n",
            b" GET",
            b"\x16\x03\x01",
            b"GET /\n",
            b"\0",
        ] {
            assert_eq!(
                collect(&mut HeadBuffer::default(), bytes),
                Err(HeadError::Syntax)
            );
        }
    }

    #[test]
    fn a_line_of_any_length_costs_no_more_than_the_limit() {
        let mut line = alloc::vec![b'a'; 1 << 20];
        let mut input = Input::new(&mut line);
        let mut buffer = HeadBuffer::default();
        assert_eq!(
            buffer.collect(&mut input, 16 * 1024),
            Err(HeadError::TooLarge)
        );
        assert_eq!(buffer.memory(), 0);
    }

    #[test]
    fn a_limit_of_headers_holds_on_both_sides_of_the_stack_room() {
        for limit in [1, 2, 127, 128, 129, 200] {
            let head = |count: usize| {
                let more = "X: y\r\n".repeat(count - 1);
                alloc::format!("GET / HTTP/1.1\r\nHost: h\r\n{more}\r\n").into_bytes()
            };
            assert!(RequestLayout::parse(&head(limit), limit).is_ok());
            let error = RequestLayout::parse(&head(limit + 1), limit).err();
            assert_eq!(error, Some(HeadError::TooManyHeaders));
        }
    }
}
