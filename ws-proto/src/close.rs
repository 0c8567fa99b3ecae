//! Close codes, the close frame's payload, and how a connection ended. Knows no framing.

use crate::error::ProtocolError;
use alloc::string::String;
use core::fmt;

/// A close code. [RFC 6455, 7.4]
///
/// ```
/// # use ws_proto::CloseCode;
/// assert_eq!(CloseCode::new(4_000).map(CloseCode::get), Some(4_000));
/// assert_eq!(CloseCode::new(1_000), Some(CloseCode::NORMAL));
/// assert_eq!(CloseCode::new(1_006), None); // Never on the wire.
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a page is left or a server stops.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: data of a kind that is not taken.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1004: reserved in RFC 6455, "too large" in hybi-07 to -11.
    pub const RESERVED_1004: Self = Self(1004);
    /// 1005: said of a close frame without a code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: said of an end without a close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy is violated.
    pub const POLICY: Self = Self(1008);
    /// 1009: a message larger than the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client wanted an extension.
    pub const EXTENSION: Self = Self(1010);
    /// 1011: the server failed.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: the server restarts.
    pub const RESTART: Self = Self(1012);
    /// 1013: the server is overloaded, try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad answer.
    pub const BAD_GATEWAY: Self = Self(1014);

    /// Makes a code that may be sent: 1000 to 1003, 1007 to 1014, 3000 to 4999.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Makes a code as it may be received, where 1004 is also taken in the drafts.
    pub(crate) const fn received(code: u16, takes_1004: bool) -> Option<Self> {
        match code {
            1004 if takes_1004 => Some(Self(code)),
            _ => Self::new(code),
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What a close frame says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code, absent if the payload was empty or the version has none.
    pub code: Option<CloseCode>,
    /// The reason, at most 123 bytes, often empty.
    pub reason: String,
}

impl CloseFrame {
    /// Parses the payload of a close frame: nothing, or a code and a reason. [RFC 6455, 5.5.1]
    ///
    /// # Errors
    /// The peer's fault: one byte, a code that must not be sent, a reason that is not UTF-8.
    pub(crate) fn parse(payload: &[u8], takes_1004: bool) -> Result<Self, ProtocolError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return match payload {
                [] => Ok(Self::default()),
                _ => Err(ProtocolError::CloseFrame),
            };
        };
        let code = CloseCode::received(u16::from_be_bytes(*code), takes_1004)
            .ok_or(ProtocolError::CloseFrame)?;
        let reason = core::str::from_utf8(reason).map_err(|_| ProtocolError::Utf8)?;
        Ok(Self {
            code: Some(code),
            reason: String::from(reason),
        })
    }
}

/// Returns the longest prefix of `reason` that fits a close frame (123 bytes) and ends between characters. [RFC 6455, 5.5]
#[must_use]
pub(crate) fn fitting_reason(reason: &str) -> &str {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

/// How a connection ended: a state to be asked for, not an event to be missed.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Cause, CloseCode, Connection, Input, Instant, Limits, Output, Role, Version};
/// # let mut out = Output::default();
/// let mut connection = Connection::new(Instant::at(0), Version::Rfc6455, Role::Server, Arc::<Limits>::default());
/// let mut bytes = *b"\x88\x85\0\0\0\0\x03\xe9bye"; // 1001, "bye"
/// assert_eq!(connection.receive(Instant::at(1), &mut Input::new(&mut bytes), &mut out), None);
/// let closed = connection.closed().unwrap();
/// assert_eq!((closed.cause, closed.clean), (Cause::ClosedByPeer, true));
/// assert_eq!((closed.code, &*closed.reason), (Some(CloseCode::GOING_AWAY), "bye"));
/// assert_eq!(out.as_slice(), b"\x88\x02\x03\xe9");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub cause: Cause,
    /// Whether the closing handshake was completed (hixie-75: whether the peer's stream ended in order).
    pub clean: bool,
    /// The code of this end: the peer's, or ours, or the cause's; absent if there was none.
    pub code: Option<CloseCode>,
    /// The reason that came with it.
    pub reason: String,
}

impl Closed {
    /// Describes an end that no closing handshake made clean, with the cause's own code and words.
    pub(crate) fn by(cause: Cause) -> Self {
        let (code, reason) = match cause {
            Cause::Protocol(error) => (Some(error.close_code()), error.reason()),
            Cause::Idle => (Some(CloseCode::GOING_AWAY), "idle"),
            Cause::ClosedByPeer
            | Cause::ClosedByUs
            | Cause::Eof
            | Cause::PongMissed
            | Cause::CloseTimeout => (None, ""),
        };
        Self {
            cause,
            clean: false,
            code,
            reason: String::from(reason),
        }
    }
}

/// Why a connection ended.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Cause, Connection, Input, Instant, Limits, Output, ProtocolError, Role, Version};
/// # let mut out = Output::default();
/// let mut connection = Connection::new(Instant::at(0), Version::Rfc6455, Role::Server, Arc::<Limits>::default());
/// let mut bytes = *b"\x81\x02hi"; // A client has to mask.
/// connection.receive(Instant::at(1), &mut Input::new(&mut bytes), &mut out);
/// assert_eq!(connection.closed().unwrap().cause, Cause::Protocol(ProtocolError::Masking));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The peer began the closing handshake.
    ClosedByPeer,
    /// We did, by [`Connection::close`](crate::Connection::close).
    ClosedByUs,
    /// The peer's stream ended without a closing handshake.
    Eof,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// No byte came within the pong timeout of a ping.
    PongMissed,
    /// No message came within the idle timeout.
    Idle,
    /// The peer did not answer our close within the close timeout.
    CloseTimeout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_for_the_wire_can_be_made() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(CloseCode::new(code).map(CloseCode::get), Some(code));
        }
    }

    #[test]
    fn a_close_frame_says_nothing_or_a_code_and_a_reason() {
        fn check(payload: &[u8], expected: Result<(Option<u16>, &str), ProtocolError>) {
            let frame = CloseFrame::parse(payload, false);
            let found = frame
                .as_ref()
                .map(|frame| (frame.code.map(CloseCode::get), frame.reason.as_str()))
                .map_err(|error| *error);
            assert_eq!(found, expected, "{payload:?}");
        }
        check(b"", Ok((None, "")));
        check(b"\x03\xe8", Ok((Some(1000), "")));
        check(b"\x0f\xa0bye", Ok((Some(4000), "bye")));
        check(b"\x03", Err(ProtocolError::CloseFrame));
        check(b"\x03\xec", Err(ProtocolError::CloseFrame)); // 1004
        check(b"\x03\xed", Err(ProtocolError::CloseFrame)); // 1005
        check(b"\x03\xe8\xff", Err(ProtocolError::Utf8));
        assert!(CloseFrame::parse(b"\x03\xec", true).is_ok());
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "あ".repeat(42); // 126 bytes
        assert_eq!(fitting_reason(&reason).len(), 123);
        let shifted = alloc::format!("x{reason}");
        assert_eq!(fitting_reason(&shifted).len(), 121);
    }
}
