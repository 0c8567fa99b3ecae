//! Three types for three faults: a request that cannot become a WebSocket, a peer that breaks the framing, and our own misuse.

use crate::close::CloseCode;
use crate::version::Versions;
use core::fmt;

/// Why a request cannot become a WebSocket: the peer's fault, or our lack of room.
///
/// ```
/// # use ws_proto::{Handshake, HeadLimits, Input, Instant, Output, Refusal};
/// let (now, heads, mut out) = (Instant::at(0), HeadLimits::default(), Output::default());
/// let mut handshake = Handshake::new(now, &heads);
/// let mut bytes = *b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";
/// let refusal = handshake.receive(now, &heads, &mut Input::new(&mut bytes), &mut out).unwrap_err();
/// assert_eq!((refusal, refusal.status()), (Refusal::NotWebSocket, Some(426)));
/// handshake.refuse(refusal, None, &mut out);
/// assert!(out.as_slice().starts_with(b"HTTP/1.1 426 Upgrade Required\r\n"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The head is not a proper HTTP/1.1 request head: 400, or 431 where it is only too large.
    Head(HeadError),
    /// A whole, proper request that does not ask for a WebSocket: 426.
    NotWebSocket,
    /// A version that is unknown or switched off: 426, naming those that are on.
    Version(Versions),
    /// The keys are missing, doubled or wrong: 400.
    Keys,
    /// The origin is not allowed: 403.
    Origin,
    /// No handler for this path: 404.
    NotFound,
    /// No whole head in time: 408.
    Timeout,
    /// No room, or the app is silent: 503.
    Unavailable,
    /// The stream ended, or a deadline passed, where no answer can be given any more (hixie-76 after its 101).
    Silent,
}

impl Refusal {
    /// Returns the HTTP status: 400, 403, 404, 408, 426, 431 or 503; `None` where nothing may be answered.
    #[must_use]
    pub const fn status(self) -> Option<u16> {
        Some(match self {
            Self::Head(HeadError::TooLarge | HeadError::TooManyHeaders) => 431,
            Self::Head(_) | Self::Keys => 400,
            Self::Origin => 403,
            Self::NotFound => 404,
            Self::Timeout => 408,
            Self::NotWebSocket | Self::Version(_) => 426,
            Self::Unavailable => 503,
            Self::Silent => return None,
        })
    }

    /// Returns a short, stable word for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Head(error) => error.name(),
            Self::NotWebSocket => "not-websocket",
            Self::Version(_) => "version",
            Self::Keys => "keys",
            Self::Origin => "origin",
            Self::NotFound => "not-found",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Silent => "silent",
        }
    }
}

/// What is wrong with a request head.
///
/// ```
/// # use ws_proto::{HeadError, Refusal};
/// assert_eq!(Refusal::Head(HeadError::TooLarge).status(), Some(431));
/// assert_eq!(HeadError::TooLarge.name(), "head-too-large");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// Not HTTP: a bad request line, a bad header, a control character, a bare CR or LF, a folded line.
    Syntax,
    /// Larger than `max_head`.
    TooLarge,
    /// More headers than `max_headers`.
    TooManyHeaders,
    /// The request line says HTTP/1.0, as nginx does without `proxy_http_version 1.1`, or something newer than 1.1.
    HttpVersion,
    /// No `Host`, or one that is no host.
    Host,
    /// A header that may stand once stands more often.
    Duplicate,
    /// A body is declared: `Content-Length` other than 0 (hixie-76: 8), or `Transfer-Encoding`.
    Body,
    /// More subprotocols than `max_subprotocols`, or something that is no token.
    Subprotocols,
    /// The request target is neither a path nor an `http` or `https` URL with one, or it has a fragment.
    Target,
}

impl HeadError {
    /// Returns a short, stable word for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "head-too-large",
            Self::TooManyHeaders => "too-many-headers",
            Self::HttpVersion => "http-version",
            Self::Host => "host",
            Self::Duplicate => "duplicate-header",
            Self::Body => "body",
            Self::Subprotocols => "subprotocols",
            Self::Target => "target",
        }
    }
}

/// How a peer broke the framing. The connection is failed with [`ProtocolError::close_code`].
///
/// ```
/// # use ws_proto::{CloseCode, ProtocolError, Version};
/// let code = ProtocolError::TooBig.close_code();
/// assert_eq!(code, CloseCode::TOO_BIG);
/// assert_eq!(Version::Hybi07.close_code(code).map(CloseCode::get), Some(1_004));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set that no extension gave a meaning. [RFC 6455, 5.2]
    ReservedBits,
    /// An opcode that is not defined. [RFC 6455, 5.2]
    Opcode,
    /// A client's frame without, or a server's frame with a masking key. [RFC 6455, 5.1]
    Masking,
    /// A length with its top bit set, or longer than need be. [RFC 6455, 5.2]
    Length,
    /// A control frame over 125 bytes, or fragmented. [RFC 6455, 5.5]
    ControlFrame,
    /// A continuation of nothing, or a new message inside a fragmented one. [RFC 6455, 5.4]
    Fragmentation,
    /// A close frame of one byte, or with a code that must not be sent. [RFC 6455, 7.4]
    CloseFrame,
    /// Text that is not UTF-8. [RFC 6455, 8.1]
    Utf8,
    /// A compressed message that cannot be inflated. [RFC 7692, 7.2.2]
    Deflate,
    /// A message larger than the limit.
    TooBig,
    /// More fragments, empty fragments or control frames in a message than the limits allow.
    TooManyFrames,
}

impl ProtocolError {
    /// Returns the code that names the fault; a version may say it differently on the wire.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::Opcode
            | Self::Masking
            | Self::Length
            | Self::ControlFrame
            | Self::Fragmentation
            | Self::CloseFrame => CloseCode::PROTOCOL_ERROR,
            Self::Utf8 | Self::Deflate => CloseCode::INVALID_PAYLOAD,
            Self::TooBig => CloseCode::TOO_BIG,
            Self::TooManyFrames => CloseCode::POLICY,
        }
    }

    /// Returns the reason for the close frame, and a stable phrase for logs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bits set",
            Self::Opcode => "unknown opcode",
            Self::Masking => "wrong masking",
            Self::Length => "bad length",
            Self::ControlFrame => "bad control frame",
            Self::Fragmentation => "bad fragmentation",
            Self::CloseFrame => "bad close frame",
            Self::Utf8 => "invalid UTF-8",
            Self::Deflate => "bad compressed data",
            Self::TooBig => "message too big",
            Self::TooManyFrames => "too many frames in a message",
        }
    }
}

/// Our own misuse: what we asked for cannot be sent, and nothing was.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Connection, Instant, Limits, Message, Output, Role, SendError, Version};
/// let mut connection = Connection::new(Instant::at(0), Version::Hixie75, Role::Server, Arc::<Limits>::default());
/// let mut out = Output::default();
/// let result = connection.send(Instant::at(1), Message::binary(&[1, 2]), &mut out);
/// assert_eq!(result, Err(SendError::NoBinary));
/// assert!(out.is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is closing or closed.
    Closed,
    /// This version has no binary messages.
    NoBinary,
    /// This version has no pings.
    NoPing,
    /// The app chose a subprotocol that was not offered.
    Subprotocol,
    /// A header that belongs to the handshake itself, or to the hop.
    Header,
    /// The handshake is not at the point where this can be done, or the client role cannot do it: what it sends is masked.
    State,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection is closed",
            Self::NoBinary => "this version has no binary messages",
            Self::NoPing => "this version has no pings",
            Self::Subprotocol => "the subprotocol was not offered",
            Self::Header => "this header may not be set",
            Self::State => "not possible in this state",
        })
    }
}

impl core::error::Error for Refusal {}
impl core::error::Error for ProtocolError {}
impl core::error::Error for SendError {}
