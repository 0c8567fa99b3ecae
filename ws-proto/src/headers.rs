//! The only way into a head that we write: names that are tokens, and values that cannot hold a control character.
//! Knows no meaning but one: which headers belong to the hop or to the handshake itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A header name that is a token. [RFC 9110, 5.6.2]
///
/// ```
/// # use ws_proto::HeaderName;
/// assert!(HeaderName::new("Set-Cookie").unwrap().is_end_to_end());
/// assert!(!HeaderName::new("Connection").unwrap().is_end_to_end());
/// assert!(HeaderName::new("two words").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

impl HeaderName {
    /// Makes one; upper and lower case are kept as given.
    ///
    /// # Errors
    /// The caller's fault: it is empty, or some character is not one of a token's.
    pub fn new(name: &str) -> Result<Self, InvalidHeader> {
        if is_token(name.as_bytes()) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidHeader)
        }
    }

    /// Returns the name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether an app may set it on an answer: `false` for what belongs to the hop, to the framing of the
    /// body, or to the WebSocket handshake itself. [RFC 9110, 7.6.1]
    #[must_use]
    pub fn is_end_to_end(&self) -> bool {
        is_end_to_end(&self.0)
    }
}

/// A header value without control characters (tab excepted), and without white space at its ends.
///
/// ```
/// # use ws_proto::HeaderValue;
/// assert_eq!(HeaderValue::new(b"a b").unwrap().as_bytes(), b"a b");
/// assert!(HeaderValue::new(b"a\r\nInjected: b").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(Vec<u8>);

impl HeaderValue {
    /// Makes one. Spaces and tabs at the ends are refused, never trimmed in silence: a reader would not see them.
    ///
    /// # Errors
    /// The caller's fault: a control character, or white space at an end.
    pub fn new(value: &[u8]) -> Result<Self, InvalidHeader> {
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_blank(value.first()) || is_blank(value.last()) || !value.iter().all(is_value_byte) {
            return Err(InvalidHeader);
        }
        Ok(Self(value.into()))
    }

    /// Returns the bytes as they were given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A name or value that would break a head.
///
/// ```
/// # use ws_proto::{Headers, InvalidHeader};
/// assert_eq!(Headers::default().add("X", " padded"), Err(InvalidHeader));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader;

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header's name is no token, or its value holds a control character or white space at an end")
    }
}

impl core::error::Error for InvalidHeader {}

/// Headers for an answer, in the order in which they were added.
///
/// ```
/// # use ws_proto::Headers;
/// let mut headers = Headers::default();
/// headers.add("Set-Cookie", "a=1")?;
/// headers.add("Set-Cookie", "b=2")?;
/// assert_eq!(headers.add_end_to_end("Upgrade", "h2c"), Ok(false));
/// assert_eq!(headers.iter().count(), 2);
/// # Ok::<(), ws_proto::InvalidHeader>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Adds one; the same name may stand more than once.
    ///
    /// # Errors
    /// The caller's fault: the name is no token, or the value holds a control character or white space at an end.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let entry = (HeaderName::new(name)?, HeaderValue::new(value.as_ref())?);
        self.0.push(entry);
        Ok(())
    }

    /// Adds one if it is end-to-end, and returns whether it was: for a driver that copies what an app answered.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_end_to_end(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<bool, InvalidHeader> {
        let is_wanted = is_end_to_end(name);
        if is_wanted {
            self.add(name, value)?;
        }
        Ok(is_wanted)
    }

    /// Walks through them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.0.as_str(), value.0.as_slice()))
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An answer of the app's own that is no 101: status, headers, body. `Connection: close` and `Content-Length` are added.
///
/// ```
/// # use ws_proto::{Handshake, HeadLimits, Input, Instant, Output, Headers, Rejection};
/// # let (now, heads, mut out) = (Instant::at(0), HeadLimits::default(), Output::default());
/// let mut handshake = Handshake::new(now, &heads);
/// let mut bytes = *b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Cookie: session=7; theme=dark\r\nSec-WebSocket-Protocol: talk, shout\r\nOrigin: https://example.com\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// handshake.receive(now, &heads, &mut Input::new(&mut bytes), &mut out).unwrap();
///
/// let mut headers = Headers::default();
/// headers.add("Location", "/login").unwrap();
/// handshake.reject(&Rejection { status: 302, headers, body: Vec::new() }, &mut out);
/// assert!(out.as_slice().starts_with(b"HTTP/1.1 302 Found\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 200 to 599; anything else becomes 502.
    pub status: u16,
    /// End-to-end headers; hop-by-hop ones, `Content-Length` and `Sec-WebSocket-*` are left out.
    pub headers: Headers,
    /// The body; `Content-Type` is among the headers. 204, 205 and 304 have none, and no answer to `HEAD` has.
    pub body: Vec<u8>,
}

/// Appends one header line. Both parts have been proved clean by whoever calls.
pub(crate) fn write_line(name: &str, value: &[u8], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

pub(crate) fn is_end_to_end(name: &str) -> bool {
    const OURS: [&str; 11] = [
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let starts_with = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
        && !starts_with("sec-websocket-")
        && !starts_with("websocket-")
}

/// Returns whether this is a token. [RFC 9110, 5.6.2]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Returns whether a value may hold this byte: everything but control characters, and tab. [RFC 9110, 5.5]
fn is_value_byte(byte: &u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xFF)
}

/// Returns whether this is `host` or `host:port` in the grammar of URLs, and nothing more: no user, no path, no list.
/// [RFC 3986, 3.2.2]
pub(crate) fn is_host(bytes: &[u8]) -> bool {
    let is_port = |bytes: &[u8]| {
        let digits = bytes.iter().try_fold(0, |port: u16, byte| {
            let digit = u16::from(byte.wrapping_sub(b'0'));
            (digit < 10).then(|| port.checked_mul(10)?.checked_add(digit))?
        });
        bytes.len() <= 5 && digits.is_some()
    };
    if let Some(literal) = bytes.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at(end);
        return address.len() >= 2
            && address
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
            && match rest.strip_prefix(b"]") {
                Some([]) => true,
                Some([b':', port @ ..]) => is_port(port),
                _ => false,
            };
    }
    let mut parts = bytes.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default();
    // The comma, though a URL may hold one, is how two hosts look that somebody joined.
    let is_name_byte = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            )
    };
    !name.is_empty() && name.iter().all(is_name_byte) && parts.next().is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_gets_into_a_head() {
        let mut headers = Headers::default();
        assert!(headers.is_empty());
        for byte in (0..=31).chain([127]).filter(|&byte| byte != b'\t') {
            assert_eq!(headers.add("X", [b'a', byte, b'b']), Err(InvalidHeader));
            let name = alloc::format!("X{}", char::from(byte));
            assert_eq!(headers.add(&name, "a"), Err(InvalidHeader));
        }
        assert_eq!(headers.add("", "a"), Err(InvalidHeader));
        assert_eq!(headers.add("X:", "a"), Err(InvalidHeader));
        assert_eq!(headers.add("X ", "a"), Err(InvalidHeader));
        assert!(headers.is_empty());
        assert_eq!(headers.add("X", "a\tb"), Ok(()));
        assert_eq!(headers.add("X", b"\xff\x80"), Ok(()));
        assert!(!headers.is_empty());
    }

    #[test]
    fn white_space_at_an_end_is_refused_and_not_trimmed() {
        for value in [" a", "a ", "\ta", "a\t", " "] {
            assert!(HeaderValue::new(value.as_bytes()).is_err(), "{value:?}");
        }
        assert!(HeaderValue::new(b"").is_ok());
    }

    #[test]
    fn what_belongs_to_the_hop_or_the_handshake_is_not_end_to_end() {
        for name in [
            "Connection",
            "UPGRADE",
            "content-length",
            "Transfer-Encoding",
            "Sec-WebSocket-Accept",
            "sec-websocket-anything",
            "WebSocket-Location",
            "Keep-Alive",
        ] {
            assert!(!is_end_to_end(name), "{name}");
        }
        for name in ["Set-Cookie", "X-Sec-WebSocket-Key", "WWW-Authenticate", "é"] {
            assert!(is_end_to_end(name), "{name}");
        }
        let mut headers = Headers::default();
        assert_eq!(headers.add_end_to_end("Upgrade", "x"), Ok(false));
        assert_eq!(headers.add_end_to_end("Server", "x"), Ok(true));
        assert_eq!(headers.iter().count(), 1);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "a",
            "a.example",
            "A_b.example:8080",
            "127.0.0.1:80",
            "[::1]",
            "[::ffff:1.2.3.4]:443",
            "xn--bcher-kva.example",
            "a:",
            "a:0",
            "a:65535",
            "[::1]:00443",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "user@a",
            "a/b",
            "a b",
            "a,b",
            "a:b",
            "a:80:80",
            "a:8:8",
            "a:123456",
            "a:65536",
            "a:99999",
            "a:+80",
            "[::1]:65536",
            "[::1",
            "[]",
            "[::1]x",
            "a\\b",
            "a?b",
            "a#b",
            "\"a\"",
            "<a>",
            "b\u{fc}cher",
            "a\tb",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
