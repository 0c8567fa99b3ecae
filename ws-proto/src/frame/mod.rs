//! Frames of either framing, taken apart into pieces and put together again.
//! Knows neither messages nor roles beyond the masking key.

pub(crate) mod hixie;
pub(crate) mod hybi;

use crate::error::ProtocolError;
use crate::input::Input;
use crate::limits::Limits;
use crate::version::{Framing, Version};
use alloc::borrow::Cow;

/// What a data frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// More of the message before.
    Continuation,
    /// UTF-8.
    Text,
    /// UTF-8, with U+FFFD for what is not.
    LossyText,
    /// Bytes.
    Binary,
}

/// What a control frame wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Close,
    Ping,
    Pong,
}

/// What frames come apart into.
#[derive(Debug)]
pub(crate) enum Piece<'b> {
    /// A data frame begins.
    Begin {
        kind: Kind,
        /// Whether it is the last of its message.
        last: bool,
        /// Whether it begins a compressed message.
        deflated: bool,
        /// Bytes announced, zero if none are.
        length: u64,
    },
    /// Payload of the data frame that began, unmasked; `end` says that the frame is whole.
    Payload { bytes: &'b [u8], end: bool },
    /// A whole control frame, at most 125 bytes. Hixie has one, an empty close.
    Control {
        control: Control,
        payload: Cow<'b, [u8]>,
    },
}

/// One of the two framings. The set is closed, so an enum: the compiler checks every match.
#[derive(Debug)]
pub(crate) enum Decoder {
    Hybi(hybi::Decoder),
    Hixie(hixie::Decoder),
}

impl Decoder {
    /// Begins between frames. `masked` says whether frames must be, or must not be.
    pub(crate) const fn new(version: Version, masked: bool) -> Self {
        match version.framing() {
            Framing::Hybi => Self::Hybi(hybi::Decoder::new(masked)),
            Framing::Hixie => Self::Hixie(hixie::Decoder::new(version.has_closing_handshake())),
        }
    }

    /// Takes compressed messages from now on. Only hybi has them.
    pub(crate) const fn allow_deflate(&mut self) {
        if let Self::Hybi(decoder) = self {
            decoder.allow_deflate();
        }
    }

    /// Takes bytes up to the end of the next piece; `None` when more are needed.
    ///
    /// # Errors
    /// The peer's fault. Nothing can be decoded any more.
    pub(crate) fn decode<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<Piece<'b>>, ProtocolError> {
        match self {
            Self::Hybi(decoder) => decoder.decode(input),
            Self::Hixie(decoder) => decoder.decode(input, limits),
        }
    }

    /// Returns whether the last frame is whole and not a byte of the next has come.
    #[inline]
    pub(crate) const fn is_between_frames(&self) -> bool {
        match self {
            Self::Hybi(decoder) => decoder.is_between_frames(),
            Self::Hixie(decoder) => decoder.is_between_frames(),
        }
    }

    /// Returns how many bytes of heap it holds.
    #[inline]
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Hybi(decoder) => decoder.memory(),
            Self::Hixie(_) => 0,
        }
    }
}
