//! Request and response heads through httparse, and the only way into a response: names and values that cannot
//! hold a control character. Knows nothing of keys and versions but the version a request was found to speak.

use crate::version::Version;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Deref;

/// A header name that is a token. [RFC 9110, 5.6.2]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(String);

/// A header value without control characters (tab excepted), without white space at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue(Vec<u8>);

/// A name or value that would break a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader;

/// Headers for an answer, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Adds one; the same name may stand more than once.
    ///
    /// # Errors
    /// The caller's fault: the name is no token, or the value holds a control character.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidHeader> {
        let _ = (name, value.as_ref());
        todo!()
    }

    /// Walks through them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.0.as_str(), value.0.as_slice()))
    }
}

/// An answer of the app's own that is no 101: status, headers, body. `Connection: close` and `Content-Length` are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 200 to 599; anything else becomes 502.
    pub status: u16,
    /// End-to-end headers; hop-by-hop ones, `Content-Length` and `Sec-WebSocket-*` are left out.
    pub headers: Headers,
    /// The body; `Content-Type` is among the headers.
    pub body: Vec<u8>,
}

/// A whole request head: syntax and `Host` are checked, nothing else is.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    #[expect(dead_code, reason = "skeleton")]
    text: &'a [u8],
}

impl<'a> RequestHead<'a> {
    /// Returns the method, such as `GET`.
    #[must_use]
    pub fn method(&self) -> &'a str {
        todo!()
    }

    /// Returns path and query exactly as they came.
    #[must_use]
    pub fn target(&self) -> &'a str {
        todo!()
    }

    /// Returns the path exactly as it came, percent-encoded.
    #[must_use]
    pub fn path(&self) -> &'a str {
        todo!()
    }

    /// Returns what follows the first `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        todo!()
    }

    /// Returns the `Host` header exactly as it came.
    #[must_use]
    pub fn host(&self) -> &'a str {
        todo!()
    }

    /// Returns the first value under this name (any case), if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let _ = name;
        todo!()
    }

    /// Walks through all headers in the order in which they came, values as bytes.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        core::iter::empty()
    }

    /// Returns the value of a cookie, over all `Cookie` lines and both joiners, `; ` and `, `.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let _ = name;
        todo!()
    }
}

/// A request that asks for a WebSocket in a version that is on: all of the handshake but the app's decision.
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
    /// Returns the version it speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the origin exactly as it came: `Origin`, or in 7 and 8 `Sec-WebSocket-Origin` before it.
    #[must_use]
    pub fn origin(&self) -> Option<&'a str> {
        todo!()
    }

    /// Walks through the subprotocols offered. In 75 and 76 the value is one name as a whole.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        core::iter::empty()
    }

    /// Returns the URL the client used: `ws` or `wss`, `host` or else `Host`, and the target, byte for byte.
    #[must_use]
    pub fn location(&self, secure: bool, host: Option<&str>) -> String {
        let _ = (secure, host);
        todo!()
    }
}
