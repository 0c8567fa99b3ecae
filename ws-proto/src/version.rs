//! Every difference between the versions is a method here; after the handshake nobody compares versions.

use crate::close::CloseCode;
use core::fmt;

/// A protocol that some browser shipped, as decided by the handshake.
///
/// ```
/// # use ws_proto::Version;
/// let version = Version::from_number(76).unwrap();
/// assert_eq!((version, version.name()), (Version::Hixie76, "hixie-76"));
/// assert!(version.has_closing_handshake() && !version.has_ping());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// draft-hixie-thewebsocketprotocol-75: no challenge. Chrome 4 and 5, Safari 5.0.0.
    Hixie75,
    /// draft-hixie-thewebsocketprotocol-76 = hybi-00: two keys and eight bytes. Chrome 6 to 13, Safari 5.0.1 to 5.1, iOS 4.2 to 5.
    Hixie76,
    /// draft-ietf-hybi-thewebsocketprotocol-07. Firefox 6.
    Hybi07,
    /// hybi-08 to -12. Chrome 14 and 15, Firefox 7 to 10.
    Hybi08,
    /// RFC 6455. Everything since.
    Rfc6455,
}

/// How frames look on the wire.
///
/// ```
/// # use ws_proto::{Framing, Version};
/// assert_eq!(Version::Hixie75.framing(), Framing::Hixie);
/// assert_eq!(Version::Hybi07.framing(), Framing::Hybi);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// `00` text `FF`, and length frames that are discarded.
    Hixie,
    /// Opcode, length, masking key, payload.
    Hybi,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [
        Self::Hixie75,
        Self::Hixie76,
        Self::Hybi07,
        Self::Hybi08,
        Self::Rfc6455,
    ];

    /// Returns how frames look.
    #[must_use]
    pub const fn framing(self) -> Framing {
        match self {
            Self::Hixie75 | Self::Hixie76 => Framing::Hixie,
            Self::Hybi07 | Self::Hybi08 | Self::Rfc6455 => Framing::Hybi,
        }
    }

    /// Returns whether pings exist. In 75 and 76 no invisible keepalive exists at all.
    #[must_use]
    pub const fn has_ping(self) -> bool {
        matches!(self.framing(), Framing::Hybi)
    }

    /// Returns whether binary messages exist.
    #[must_use]
    pub const fn has_binary(self) -> bool {
        matches!(self.framing(), Framing::Hybi)
    }

    /// Returns whether a closing handshake exists: 75 knows only the end of the TCP stream.
    #[must_use]
    pub const fn has_closing_handshake(self) -> bool {
        !matches!(self, Self::Hixie75)
    }

    /// Returns whether the closing handshake carries a code and a reason.
    #[must_use]
    pub const fn has_close_code(self) -> bool {
        matches!(self.framing(), Framing::Hybi)
    }

    /// Returns the code that stands for `code` on the wire: 7 and 8 know neither 1008 nor 1010 to 1014, 7 not even 1007,
    /// and both call "too large" 1004. `None` where the version has no codes.
    #[must_use]
    pub const fn close_code(self, code: CloseCode) -> Option<CloseCode> {
        match self {
            Self::Hixie75 | Self::Hixie76 => None,
            Self::Rfc6455 => Some(code),
            Self::Hybi07 | Self::Hybi08 => Some(match code.get() {
                1007 if matches!(self, Self::Hybi07) => CloseCode::PROTOCOL_ERROR,
                1008 | 1010 => CloseCode::PROTOCOL_ERROR,
                1009 => CloseCode::RESERVED_1004,
                1011..=1014 => CloseCode::GOING_AWAY,
                _ => code,
            }),
        }
    }

    /// Returns whether 1004 may be received: "too large" in the drafts, reserved in RFC 6455.
    pub(crate) const fn takes_1004(self) -> bool {
        matches!(self, Self::Hybi07 | Self::Hybi08)
    }

    /// Returns the number: 75, 76, or the value of `Sec-WebSocket-Version`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Hixie75 => 75,
            Self::Hixie76 => 76,
            Self::Hybi07 => 7,
            Self::Hybi08 => 8,
            Self::Rfc6455 => 13,
        }
    }

    /// Finds the version of a number as [`Version::number`] gives it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.number() == number)
    }

    /// Returns the name used in hooks and logs: `hixie-75`, `hixie-76`, `hybi-07`, `hybi-08`, `rfc6455`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hixie75 => "hixie-75",
            Self::Hixie76 => "hixie-76",
            Self::Hybi07 => "hybi-07",
            Self::Hybi08 => "hybi-08",
            Self::Rfc6455 => "rfc6455",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of versions: those that an operator leaves on.
///
/// ```
/// # use ws_proto::{Version, Versions};
/// let versions = Versions::NONE.with(Version::Hybi08).with(Version::Rfc6455);
/// assert!(!versions.contains(Version::Hixie75));
/// assert!(versions.newest_first().eq([Version::Rfc6455, Version::Hybi08]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// All five.
    pub const ALL: Self = Self(0b1_1111);
    /// None.
    pub const NONE: Self = Self(0);

    /// Returns the set with `version` added.
    #[must_use]
    pub const fn with(self, version: Version) -> Self {
        Self(self.0 | 1 << version as u8)
    }

    /// Returns whether `version` is in the set.
    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        self.0 & 1 << version as u8 != 0
    }

    /// Returns the versions in the set, newest first, as a refusal lists them.
    pub fn newest_first(self) -> impl Iterator<Item = Version> {
        Version::ALL
            .into_iter()
            .rev()
            .filter(move |version| self.contains(*version))
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<I: IntoIterator<Item = Version>>(versions: I) -> Self {
        versions.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_names_one_version() {
        for version in Version::ALL {
            assert_eq!(Version::from_number(version.number()), Some(version));
            assert!(Versions::ALL.contains(version) && !Versions::NONE.contains(version));
            assert_eq!(Versions::ALL.with(version), Versions::ALL);
        }
        assert_eq!(Version::from_number(14), None);
    }

    #[test]
    fn a_code_that_a_draft_does_not_know_is_said_in_its_own_words() {
        let on_wire =
            |version: Version, code: CloseCode| version.close_code(code).map(CloseCode::get);
        assert_eq!(on_wire(Version::Rfc6455, CloseCode::POLICY), Some(1008));
        assert_eq!(on_wire(Version::Hybi08, CloseCode::POLICY), Some(1002));
        assert_eq!(
            on_wire(Version::Hybi08, CloseCode::INVALID_PAYLOAD),
            Some(1007)
        );
        assert_eq!(
            on_wire(Version::Hybi07, CloseCode::INVALID_PAYLOAD),
            Some(1002)
        );
        assert_eq!(on_wire(Version::Hybi07, CloseCode::TOO_BIG), Some(1004));
        assert_eq!(
            on_wire(Version::Hybi07, CloseCode::TRY_AGAIN_LATER),
            Some(1001)
        );
        assert_eq!(on_wire(Version::Hixie76, CloseCode::NORMAL), None);
    }
}
