//! A whole message framed apart from any connection: for many peers at once, or around a payload that its driver writes.
//! Knows no state, no masking key, and not whether anybody may still be sent something.

use crate::deflate::compress_broadcast;
use crate::error::SendError;
use crate::frame::hybi::Opcode;
use crate::frame::{hixie, hybi};
use crate::input::Output;
use crate::message::Message;
use crate::version::Framing;
use alloc::vec::Vec;

/// What stands before and behind a payload, for a driver that writes the payload from where it lies.
///
/// ```
/// # use std::sync::Arc;
/// # use ws_proto::{Connection, Instant, Limits, Message, Role, Version};
/// let mut connection = Connection::new(Instant::at(0), Version::Hixie75, Role::Server, Arc::<Limits>::default());
/// let framed = connection.frame(Instant::at(1), &Message::text("hi")).unwrap();
/// assert_eq!((framed.head(), framed.tail()), (&b"\0"[..], &b"\xff"[..]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Framed {
    head: [u8; 10],
    head_len: u8,
    tail: &'static [u8],
}

impl Framed {
    #[inline]
    pub(crate) fn new(framing: Framing, message: &Message<'_>) -> Self {
        match framing {
            Framing::Hybi => {
                let opcode = Opcode::of_message(message.is_binary());
                let (head, head_len) = hybi::head(opcode, message.payload().len());
                Self {
                    head,
                    head_len,
                    tail: &[],
                }
            }
            Framing::Hixie => Self {
                head: [0; 10],
                head_len: 1,
                tail: &[0xff],
            },
        }
    }

    /// Returns the bytes before the payload.
    #[must_use]
    #[inline]
    pub fn head(&self) -> &[u8] {
        self.head
            .get(..usize::from(self.head_len))
            .unwrap_or_default()
    }

    /// Returns the bytes behind the payload.
    #[must_use]
    pub const fn tail(&self) -> &'static [u8] {
        self.tail
    }
}

/// Appends a whole message as a server sends it in this framing, for many receivers at once.
///
/// # Errors
/// Our fault: binary in the hixie framing.
///
/// ```
/// # use ws_proto::{Framing, Message, encode};
/// let mut bytes = Vec::new();
/// encode(Framing::Hybi, &Message::text("hi"), &mut bytes).unwrap();
/// encode(Framing::Hixie, &Message::text("hi"), &mut bytes).unwrap();
/// assert_eq!(bytes, b"\x81\x02hi\0hi\xff");
/// ```
#[inline(always)] // What is left of it is a comparison and copies.
pub fn encode(
    framing: Framing,
    message: &Message<'_>,
    bytes: &mut Vec<u8>,
) -> Result<(), SendError> {
    match (framing, message) {
        (Framing::Hybi, _) => {
            let opcode = Opcode::of_message(message.is_binary());
            hybi::encode(opcode, message.payload(), None, bytes);
        }
        (Framing::Hixie, Message::Text(text)) => hixie::encode(text, bytes),
        (Framing::Hixie, Message::Binary(_)) => return Err(SendError::NoBinary),
    }
    Ok(())
}

/// Which bytes of a broadcast are for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The message in this framing, as [`encode`] makes it.
    Plain(Framing),
    /// The message compressed, as [`Output::deflate`] makes it; plain in hybi where that is not smaller.
    Deflated,
}

impl Output {
    /// Appends to `bytes` a whole message as a server sends it to all peers that take [`Variant::Deflated`], and returns
    /// true; or appends nothing, as compression does not make it smaller.
    pub fn deflate(&mut self, message: &Message<'_>, bytes: &mut Vec<u8>) -> bool {
        let Some(compressed) = compress_broadcast(message.payload(), &mut self.codec) else {
            return false;
        };
        hybi::encode_deflated(message.is_binary(), compressed, None, bytes);
        true
    }
}
