//! What a connection has beyond plain frames: masking keys, compression. In one place, and no larger than one of them, because
//! most have neither. Knows no frames.

use crate::deflate::Deflate;
use crate::mask::Keys;
use alloc::boxed::Box;

/// What a connection needs to write frames that are not plain.
#[derive(Debug)]
pub(crate) enum Gear {
    /// A server's, without compression.
    None,
    Deflate(Deflate),
    /// A client has masking keys, a server none.
    Client(Box<Masking>),
}

#[derive(Debug)]
pub(crate) struct Masking {
    keys: Keys,
    deflate: Option<Deflate>,
}

impl Gear {
    /// A client's; the seed is random.
    pub(crate) fn of_client(mask_seed: [u8; 16]) -> Self {
        Self::Client(Box::new(Masking {
            keys: Keys::new(mask_seed),
            deflate: None,
        }))
    }

    #[inline]
    pub(crate) const fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }

    pub(crate) fn next_key(&mut self) -> Option<[u8; 4]> {
        match self {
            Self::Client(masking) => Some(masking.keys.next()),
            Self::None | Self::Deflate(_) => None,
        }
    }

    #[inline]
    pub(crate) fn deflate(&self) -> Option<&Deflate> {
        match self {
            Self::None => None,
            Self::Deflate(deflate) => Some(deflate),
            Self::Client(masking) => masking.deflate.as_ref(),
        }
    }

    pub(crate) fn deflate_mut(&mut self) -> Option<&mut Deflate> {
        match self {
            Self::None => None,
            Self::Deflate(deflate) => Some(deflate),
            Self::Client(masking) => masking.deflate.as_mut(),
        }
    }

    pub(crate) fn set_deflate(&mut self, deflate: Option<Deflate>) {
        match self {
            Self::Client(masking) => masking.deflate = deflate,
            Self::None | Self::Deflate(_) => *self = deflate.map_or(Self::None, Self::Deflate),
        }
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        let masking = if self.is_client() {
            size_of::<Masking>()
        } else {
            0
        };
        masking + self.deflate().map_or(0, Deflate::memory)
    }
}
