//! Pieces of frames → messages: fragmentation, UTF-8, the limits of a message.
//! Knows no wire format, and collects what is compressed as it is. Holds nothing between messages.

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

/// What pieces came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    Message(Message<'static>),
    /// The payload of a compressed message, still compressed.
    Deflated {
        binary: bool,
        payload: Vec<u8>,
    },
}

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

/// A message's content as far as it came.
#[derive(Debug)]
pub(crate) enum Content {
    Text {
        text: String,
        carry: Carry,
    },
    /// Behind `filled` lies zeroed room for reading.
    Binary {
        bytes: Vec<u8>,
        filled: usize,
    },
    /// Likewise, compressed.
    Deflated {
        binary: bool,
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
        deflated: bool,
        length: u64,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        let content = match kind {
            Kind::Continuation => None,
            Kind::Text | Kind::Binary if deflated => Some(Content::Deflated {
                binary: kind == Kind::Binary,
                bytes: Vec::new(),
                filled: 0,
            }),
            Kind::Text => Some(Content::new(false)),
            Kind::LossyText => Some(Content::text(Carry::replacing())),
            Kind::Binary => Some(Content::new(true)),
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
        // An empty last one only says that the message is over; nobody can send two.
        let carries = length > 0 || !last;
        partial.fragments = partial.fragments.saturating_add(u32::from(carries));
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
    ) -> Result<Option<Assembled>, ProtocolError> {
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        partial.check_size(bytes.len() as u64, limits)?;
        partial.received += bytes.len();
        let most = partial.most(limits);
        partial.content.push(bytes, most)?;
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
    /// Text gets none: a `String` grows by proven text only, and making one of a `Vec` proves all of it again, at a tenth
    /// of the speed where it is not ASCII. One copy out of the caller's buffer, warm from the last read, costs less.
    pub(crate) fn room(&mut self, left: u64) -> Option<&mut [u8]> {
        if left <= LONG {
            return None;
        }
        let (bytes, filled) = self.partial.as_deref_mut()?.content.as_bytes_mut()?;
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
        let (bytes, filled) = partial.content.as_bytes_mut()?;
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
    pub(crate) fn end_frame(&mut self) -> Result<Option<Assembled>, ProtocolError> {
        match self.partial.take_if(|partial| partial.last) {
            Some(partial) => Ok(Some(partial.content.finish()?)),
            None => Ok(None),
        }
    }

    /// Returns how many bytes of payload came of the unfinished message.
    pub(crate) fn received(&self) -> usize {
        self.partial
            .as_deref()
            .map_or(0, |partial| partial.received)
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        self.partial.as_deref().map_or(0, |partial| {
            size_of::<Partial>()
                + match &partial.content {
                    Content::Text { text, .. } => text.capacity(),
                    Content::Binary { bytes, .. } | Content::Deflated { bytes, .. } => {
                        bytes.capacity()
                    }
                }
        })
    }
}

impl Partial {
    /// Checks that `more` bytes fit, before anything is done for them.
    fn check_size(&self, more: u64, limits: &Limits) -> Result<(), ProtocolError> {
        if more > self.most(limits).saturating_sub(self.received) as u64 {
            return Err(ProtocolError::TooBig);
        }
        Ok(())
    }

    /// Returns how many bytes of payload it may have.
    fn most(&self, limits: &Limits) -> usize {
        match self.content {
            Content::Text { .. } | Content::Binary { .. } => limits.max_message,
            Content::Deflated { .. } => most_deflated(limits.max_message, self.fragments),
        }
    }
}

/// Returns how many compressed bytes a message of the limit may take: what does not compress grows, by a thirtieth at
/// the worst, and by a few bytes in each fragment that is flushed by itself. What is larger only burns our time.
pub(crate) fn most_deflated(max_message: usize, fragments: u32) -> usize {
    max_message
        .saturating_add(max_message / 16)
        .saturating_add(64)
        .saturating_add((fragments as usize).saturating_mul(16))
}

impl Content {
    /// Begins a message of proven text, or of bytes.
    pub(crate) fn new(binary: bool) -> Self {
        if binary {
            Self::Binary {
                bytes: Vec::new(),
                filled: 0,
            }
        } else {
            Self::text(Carry::strict())
        }
    }

    const fn text(carry: Carry) -> Self {
        Self::Text {
            text: String::new(),
            carry,
        }
    }

    fn as_bytes_mut(&mut self) -> Option<(&mut Vec<u8>, &mut usize)> {
        match self {
            Self::Text { .. } => None,
            Self::Binary { bytes, filled } | Self::Deflated { bytes, filled, .. } => {
                Some((bytes, filled))
            }
        }
    }

    /// Appends a piece of a message that may have so many bytes.
    ///
    /// # Errors
    /// The peer's fault: invalid UTF-8.
    pub(crate) fn push(&mut self, piece: &[u8], most: usize) -> Result<(), ProtocolError> {
        match self {
            Self::Text { text, carry } => {
                // What is carried comes on top of the piece.
                let more = growth(text.len(), text.capacity(), piece.len() + 3, most);
                text.reserve_exact(more);
                carry.push(piece, text, |text, more| {
                    // What replaces a wrong byte takes three.
                    let most = most.saturating_mul(3);
                    text.reserve_exact(growth(text.len(), text.capacity(), more, most));
                })?;
            }
            Self::Binary { bytes, filled } | Self::Deflated { bytes, filled, .. } => {
                bytes.truncate(*filled);
                let more = growth(bytes.len(), bytes.capacity(), piece.len(), most);
                bytes.reserve_exact(more);
                bytes.extend_from_slice(piece);
                *filled = bytes.len();
            }
        }
        Ok(())
    }

    /// Ends the message.
    ///
    /// # Errors
    /// The peer's fault: the text ends inside a character.
    pub(crate) fn finish(self) -> Result<Assembled, ProtocolError> {
        Ok(match self {
            Self::Text {
                mut text,
                mut carry,
            } => {
                carry.finish(&mut text)?;
                Assembled::Message(Message::Text(Cow::Owned(text)))
            }
            Self::Binary { mut bytes, filled } => {
                bytes.truncate(filled);
                Assembled::Message(Message::Binary(Cow::Owned(bytes)))
            }
            Self::Deflated {
                binary,
                bytes: mut payload,
                filled,
            } => {
                payload.truncate(filled);
                Assembled::Deflated { binary, payload }
            }
        })
    }
}

/// Returns what to reserve for `more` bytes: four times what there was, but not beyond the largest message. Each growth may
/// copy all that came, and what is reserved and not written is not the system's memory yet.
fn growth(len: usize, capacity: usize, more: usize, most: usize) -> usize {
    let needed = len.saturating_add(more);
    if needed <= capacity {
        return 0;
    }
    let grown = capacity.saturating_mul(4).min(most);
    needed.max(grown).saturating_sub(len)
}

impl From<Invalid> for ProtocolError {
    fn from(_: Invalid) -> Self {
        Self::Utf8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_message: 10,
            max_fragments: 3,
            max_empty_fragments: 1,
            max_control_frames: 2,
            ..Limits::default()
        }
    }

    /// Gives frames, the last of them final, and returns the text.
    #[track_caller]
    fn check(frames: &[&str], expected: Result<&str, ProtocolError>) {
        let mut assembler = Assembler::default();
        let mut read = || {
            for (index, frame) in frames.iter().enumerate() {
                let kind = if index == 0 {
                    Kind::Text
                } else {
                    Kind::Continuation
                };
                let last = index + 1 == frames.len();
                assembler.begin(kind, last, false, frame.len() as u64, &limits())?;
                let assembled = assembler.push(frame.as_bytes(), true, &limits())?;
                if let Some(Assembled::Message(message)) = assembled {
                    assert!(last);
                    return Ok(message);
                }
            }
            panic!("no message");
        };
        assert_eq!(read(), expected.map(Message::text));
    }

    #[test]
    fn what_does_not_compress_may_be_a_thirtieth_longer() {
        for max in [1 << 10, 1 << 20] {
            assert!(most_deflated(max, 1) > max + max / 30);
        }
        assert_eq!(most_deflated(usize::MAX, 1), usize::MAX);
    }

    #[test]
    fn limits_hold_for_all_fragments_of_a_message_together() {
        check(&["12345", "67890"], Ok("1234567890"));
        check(&["12345", "678901"], Err(ProtocolError::TooBig));
        check(&["1", "2", "3"], Ok("123"));
        check(&["1", "2", "3", "4"], Err(ProtocolError::TooManyFrames));
        check(&["", "2", ""], Ok("2"));
        check(&["", "", "3"], Err(ProtocolError::TooManyFrames));
    }

    #[test]
    fn control_frames_are_counted_inside_a_message_only() {
        let mut assembler = Assembler::default();
        for _ in 0..9 {
            assert_eq!(assembler.count_control_frame(&limits()), Ok(()));
        }
        assert_eq!(
            assembler.begin(Kind::Binary, false, false, 1, &limits()),
            Ok(())
        );
        assert_eq!(assembler.count_control_frame(&limits()), Ok(()));
        assert_eq!(assembler.count_control_frame(&limits()), Ok(()));
        assert_eq!(
            assembler.count_control_frame(&limits()),
            Err(ProtocolError::TooManyFrames)
        );
    }

    #[test]
    fn only_much_of_a_binary_frame_is_worth_a_room() {
        let big = Limits::default();
        let mut assembler = Assembler::default();
        assert!(assembler.room(100_000).is_none());
        assert_eq!(
            assembler.begin(Kind::Binary, true, false, 100_000, &big),
            Ok(())
        );
        assert!(assembler.room(LONG).is_none());
        assert_eq!(
            assembler.room(LONG + 1).map(|room| room.len()),
            Some(16_385)
        );
        let mut assembler = Assembler::default();
        assert_eq!(
            assembler.begin(Kind::Text, true, false, 100_000, &big),
            Ok(())
        );
        assert!(assembler.room(100_000).is_none());
    }
}
