//! Pieces of frames → messages: fragmentation, UTF-8, the limits of a message.
//! Knows no wire format. Holds nothing between messages.

use crate::error::ProtocolError;
use crate::frame::Kind;
use crate::limits::Limits;
use crate::message::Message;
use crate::utf8::{Carry, Invalid};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// The first room offered for reading straight into a message; later ones are as large as what came already.
const FIRST_ROOM: usize = 64 * 1024;
/// A frame with less than this to come is not worth a read of its own.
const LONG: u64 = 16 * 1024;

/// Puts messages together. The state lies in a box, so that a connection between messages is small.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    partial: Option<Box<Partial>>,
}

/// A message of which something came.
#[derive(Debug)]
struct Partial {
    content: Content,
    /// Bytes of payload so far, as they came.
    received: usize,
    /// Whether the frame that is being read is the last one.
    last: bool,
    fragments: u32,
    empty_fragments: u32,
    control_frames: u32,
}

#[derive(Debug)]
enum Content {
    Text {
        text: String,
        carry: Carry,
    },
    /// Behind `filled` lies zeroed room for reading.
    Binary {
        bytes: Vec<u8>,
        filled: usize,
    },
}

impl Assembler {
    /// Returns whether no message is unfinished.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.partial.is_none()
    }

    /// Begins a frame.
    ///
    /// # Errors
    /// The peer's fault: a fragment out of place, too many, or more bytes announced than the message may have.
    pub(crate) fn begin(
        &mut self,
        kind: Kind,
        last: bool,
        length: u64,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let content = match kind {
            Kind::Continuation => None,
            Kind::Text => Some(Content::text(Carry::strict())),
            Kind::LossyText => Some(Content::text(Carry::replacing())),
            Kind::Binary => Some(Content::Binary {
                bytes: Vec::new(),
                filled: 0,
            }),
        };
        let partial = match (content, &mut self.partial) {
            (None, Some(partial)) => partial,
            (Some(content), empty @ None) => empty.insert(Box::new(Partial {
                content,
                received: 0,
                last,
                fragments: 0,
                empty_fragments: 0,
                control_frames: 0,
            })),
            (None, None) | (Some(_), Some(_)) => return Err(ProtocolError::Fragmentation),
        };
        partial.last = last;
        partial.fragments = partial.fragments.saturating_add(1);
        partial.empty_fragments += u32::from(length == 0 && !last);
        if partial.fragments > limits.max_fragments
            || partial.empty_fragments > limits.max_empty_fragments
        {
            return Err(ProtocolError::TooManyFrames);
        }
        partial.check_size(length, limits)
    }

    /// Appends payload of the frame that began; returns the message if it is whole.
    ///
    /// # Errors
    /// The peer's fault: invalid UTF-8, or more than the message may have.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        end: bool,
        limits: &Limits,
    ) -> Result<Option<Message<'static>>, ProtocolError> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        partial.check_size(bytes.len() as u64, limits)?;
        partial.received += bytes.len();
        partial.content.push(bytes, limits.max_message)?;
        if end { self.end_frame() } else { Ok(None) }
    }

    /// Counts a control frame, which costs something only inside a message: between messages anyone may ping.
    ///
    /// # Errors
    /// The peer's fault: too many.
    pub(crate) fn count_control_frame(&mut self, limits: &Limits) -> Result<(), ProtocolError> {
        let Some(partial) = &mut self.partial else {
            return Ok(());
        };
        partial.control_frames = partial.control_frames.saturating_add(1);
        if partial.control_frames > limits.max_control_frames {
            return Err(ProtocolError::TooManyFrames);
        }
        Ok(())
    }

    /// Returns zeroed room at the end of a binary message of whose frame `left` bytes, and not few, are to come.
    ///
    /// Text gets none: a `String` grows by proven text only, so it is copied once in any case, and the caller's own
    /// buffer, warm from the last read, is the better place to copy from.
    pub(crate) fn room(&mut self, left: u64) -> Option<&mut [u8]> {
        if left <= LONG {
            return None;
        }
        let Content::Binary { bytes, filled } = &mut self.partial.as_deref_mut()?.content else {
            return None;
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let worthwhile = left.min(LONG as usize);
        if bytes.len().saturating_sub(*filled) < worthwhile {
            let room = left.min(FIRST_ROOM.max(*filled));
            bytes.reserve_exact((*filled + room).saturating_sub(bytes.len()));
            bytes.resize(*filled + room, 0);
        }
        bytes.get_mut(*filled..)
    }

    /// Counts `count` bytes that were read into the [`room`](Self::room), and returns them.
    pub(crate) fn fill(&mut self, count: usize) -> Option<&mut [u8]> {
        let partial = self.partial.as_deref_mut()?;
        let Content::Binary { bytes, filled } = &mut partial.content else {
            return None;
        };
        let before = *filled;
        let count = count.min(bytes.len().saturating_sub(before));
        *filled += count;
        partial.received += count;
        bytes.get_mut(before..before + count)
    }

    /// Ends a frame whose payload is complete; returns the message if that was the last one.
    ///
    /// # Errors
    /// The peer's fault: the text ends inside a character.
    pub(crate) fn end_frame(&mut self) -> Result<Option<Message<'static>>, ProtocolError> {
        match self.partial.take_if(|partial| partial.last) {
            Some(partial) => Ok(Some(partial.content.finish()?)),
            None => Ok(None),
        }
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        self.partial.as_deref().map_or(0, |partial| {
            size_of::<Partial>()
                + match &partial.content {
                    Content::Text { text, .. } => text.capacity(),
                    Content::Binary { bytes, .. } => bytes.capacity(),
                }
        })
    }
}

impl Partial {
    /// Checks that `more` bytes fit, before anything is done for them.
    fn check_size(&self, more: u64, limits: &Limits) -> Result<(), ProtocolError> {
        if more > limits.max_message.saturating_sub(self.received) as u64 {
            return Err(ProtocolError::TooBig);
        }
        Ok(())
    }
}

impl Content {
    const fn text(carry: Carry) -> Self {
        Self::Text {
            text: String::new(),
            carry,
        }
    }

    fn push(&mut self, piece: &[u8], max_message: usize) -> Result<(), ProtocolError> {
        match self {
            Self::Text { text, carry } => {
                // What is carried comes on top of the piece.
                let more = growth(text.len(), text.capacity(), piece.len() + 3, max_message);
                text.reserve_exact(more);
                carry.push(piece, text)?;
            }
            Self::Binary { bytes, filled } => {
                bytes.truncate(*filled);
                let more = growth(bytes.len(), bytes.capacity(), piece.len(), max_message);
                bytes.reserve_exact(more);
                bytes.extend_from_slice(piece);
                *filled = bytes.len();
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Message<'static>, ProtocolError> {
        Ok(match self {
            Self::Text {
                mut text,
                mut carry,
            } => {
                carry.finish(&mut text)?;
                Message::Text(Cow::Owned(text))
            }
            Self::Binary { mut bytes, filled } => {
                bytes.truncate(filled);
                Message::Binary(Cow::Owned(bytes))
            }
        })
    }
}

/// Returns what to reserve for `more` bytes: a buffer doubles, but not beyond the largest message.
fn growth(len: usize, capacity: usize, more: usize, max_message: usize) -> usize {
    let needed = len.saturating_add(more);
    if needed <= capacity {
        return 0;
    }
    let doubled = capacity.saturating_mul(2).min(max_message);
    needed.max(doubled).saturating_sub(len)
}

impl From<Invalid> for ProtocolError {
    fn from(_: Invalid) -> Self {
        Self::Utf8
    }
}
