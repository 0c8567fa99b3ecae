//! Frames of hybi-07, hybi-08 and RFC 6455, which look the same: opcode, length, masking key, payload. [RFC 6455, 5.2]
//! Knows the rules of one frame; those of a message (fragments, limits) lie above.

use super::{Control, Kind, Piece};
use crate::error::ProtocolError;
use crate::input::Input;
use crate::mask;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The reserved bit that permessage-deflate gave a meaning. [RFC 7692, 6]
const DEFLATED: u8 = 0x40;
const MASKED: u8 = 0x80;
/// Two bytes, a 64-bit length, a masking key.
const LONGEST_HEAD: usize = 14;
/// A long payload is taken in pieces that stay in the first cache while they are unmasked, proven and copied.
const PIECE: usize = 16 * 1024;

/// The opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Data(Kind),
    Control(Control),
}

impl Opcode {
    const fn parse(nibble: u8) -> Option<Self> {
        Some(match nibble {
            0x0 => Self::Data(Kind::Continuation),
            0x1 => Self::Data(Kind::Text),
            0x2 => Self::Data(Kind::Binary),
            0x8 => Self::Control(Control::Close),
            0x9 => Self::Control(Control::Ping),
            0xa => Self::Control(Control::Pong),
            _ => return None,
        })
    }

    /// Returns the first byte of a frame that is not fragmented.
    #[inline]
    const fn first_byte(self) -> u8 {
        FIN | match self {
            Self::Data(Kind::Continuation) => 0x0,
            Self::Data(Kind::Text | Kind::LossyText) => 0x1,
            Self::Data(Kind::Binary) => 0x2,
            Self::Control(Control::Close) => 0x8,
            Self::Control(Control::Ping) => 0x9,
            Self::Control(Control::Pong) => 0xa,
        }
    }

    /// Returns the opcode of a message.
    #[inline]
    pub(crate) const fn of_message(binary: bool) -> Self {
        Self::Data(if binary { Kind::Binary } else { Kind::Text })
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    opcode: Opcode,
    last: bool,
    /// Whether it begins a compressed message.
    deflated: bool,
    length: u64,
    /// Zero if the frame is not masked: XOR with it changes nothing.
    key: [u8; 4],
    /// Bytes of the head itself.
    size: usize,
}

/// Where in a frame the input stands.
#[derive(Debug)]
enum State {
    /// Between frames, or in a head that a read cut: the bytes of it that came.
    Head { bytes: [u8; LONGEST_HEAD], len: u8 },
    /// In the payload of a data frame; the key stands where the payload does.
    Data { left: u64, key: [u8; 4] },
    /// In the payload of a control frame that a read cut.
    Control(Box<CutControl>),
}

#[derive(Debug)]
struct CutControl {
    control: Control,
    length: usize,
    key: [u8; 4],
    payload: Vec<u8>,
}

const BETWEEN: State = State::Head {
    bytes: [0; LONGEST_HEAD],
    len: 0,
};

/// Takes frames apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    rules: Rules,
}

/// What holds for all frames of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// Whether frames must be masked, or must not be.
    masked: bool,
    /// Whether messages may be compressed.
    deflates: bool,
}

impl Decoder {
    pub(crate) const fn new(masked: bool) -> Self {
        let deflates = false;
        Self {
            state: BETWEEN,
            rules: Rules { masked, deflates },
        }
    }

    /// Takes compressed messages from now on.
    pub(crate) const fn allow_deflate(&mut self) {
        self.rules.deflates = true;
    }

    #[inline]
    pub(crate) const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head { len: 0, .. })
    }

    /// Takes a whole data message that is one frame and lies in the input, the common case; returns whether it is
    /// binary and its payload, unmasked. Anything else, faults too, is left to [`decode`](Self::decode).
    #[inline(always)] // One hot caller, as above it.
    pub(crate) fn whole<'b>(
        &self,
        input: &mut Input<'b>,
        max_message: usize,
    ) -> Option<(bool, &'b [u8])> {
        self.whole_frame([0x81, 0x82], input, max_message)
    }

    /// Takes a whole compressed message that is one frame and lies in the input; as [`whole`](Self::whole).
    pub(crate) fn whole_deflated<'b>(
        &self,
        input: &mut Input<'b>,
        max_payload: usize,
    ) -> Option<(bool, &'b [u8])> {
        self.whole_frame([0xc1, 0xc2], input, max_payload)
    }

    #[inline(always)]
    fn whole_frame<'b>(
        &self,
        [text, binary]: [u8; 2],
        input: &mut Input<'b>,
        max_payload: usize,
    ) -> Option<(bool, &'b [u8])> {
        if !self.is_between_frames() {
            return None;
        }
        let bytes = input.as_slice();
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        if first != text && first != binary {
            return None;
        }
        let masked = self.rules.masked;
        let second = if masked { second ^ MASKED } else { second };
        let (length, rest) = match second {
            0..=125 => (usize::from(second), rest),
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = usize::from(u16::from_be_bytes(*length));
                if length < 126 {
                    return None;
                }
                (length, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                let length = u64::from_be_bytes(*length);
                if length <= u64::from(u16::MAX) {
                    return None;
                }
                (usize::try_from(length).ok()?, rest)
            }
            _ => return None, // Masked where it must not be, or the other way round.
        };
        let (key, rest) = if masked {
            let (key, rest) = rest.split_first_chunk()?;
            (Some(*key), rest)
        } else {
            (None, rest)
        };
        if length > rest.len() || length > max_payload {
            return None;
        }
        let head = bytes.len() - rest.len();
        let frame = input.take(head + length);
        let Some(key) = key else {
            return Some((first == binary, frame.get(head..)?));
        };
        if first == text
            && let Some(shift) = mask::shift(frame, head)
        {
            return Some((false, mask::apply_shifted(key, frame, head, shift)));
        }
        let payload = frame.get_mut(head..)?;
        mask::apply(key, payload);
        Some((first == binary, payload))
    }

    /// Takes bytes up to the end of the next piece; `None` when more are needed.
    ///
    /// # Errors
    /// The peer's fault.
    pub(crate) fn decode<'b>(
        &mut self,
        input: &mut Input<'b>,
    ) -> Result<Option<Piece<'b>>, ProtocolError> {
        match &mut self.state {
            State::Head { bytes, len } => {
                let Some(head) = take_head(input, bytes, len, self.rules)? else {
                    return Ok(None);
                };
                Ok(self.begin(head, input))
            }
            State::Data { left: 0, .. } => {
                self.state = BETWEEN;
                Ok(Some(Piece::Payload {
                    bytes: &[],
                    end: true,
                }))
            }
            State::Data { left, .. } => {
                if input.is_empty() {
                    return Ok(None);
                }
                let left = usize::try_from(*left).unwrap_or(usize::MAX);
                let bytes = input.take(left.min(PIECE));
                let end = self.unmask(bytes);
                Ok(Some(Piece::Payload { bytes, end }))
            }
            State::Control(cut) => {
                let bytes = input.take(cut.length - cut.payload.len());
                mask::apply(mask::rotated(cut.key, cut.payload.len()), bytes);
                cut.payload.extend_from_slice(bytes);
                if cut.payload.len() < cut.length {
                    return Ok(None);
                }
                let (control, payload) = (cut.control, core::mem::take(&mut cut.payload));
                self.state = BETWEEN;
                Ok(Some(Piece::Control {
                    control,
                    payload: Cow::Owned(payload),
                }))
            }
        }
    }

    /// Returns how many bytes of a data frame's payload are still to come.
    pub(crate) const fn left(&self) -> u64 {
        match self.state {
            State::Data { left, .. } => left,
            State::Head { .. } | State::Control(_) => 0,
        }
    }

    /// Unmasks the next bytes of a data frame's payload, wherever they lie, at most [`left`](Self::left); returns
    /// whether the frame is whole.
    pub(crate) fn unmask(&mut self, bytes: &mut [u8]) -> bool {
        let State::Data { left, key } = &mut self.state else {
            return false;
        };
        if self.rules.masked {
            mask::apply(*key, bytes);
            *key = mask::rotated(*key, bytes.len());
        }
        *left = left.saturating_sub(bytes.len() as u64);
        let end = *left == 0;
        if end {
            self.state = BETWEEN;
        }
        end
    }

    #[inline]
    pub(crate) fn memory(&self) -> usize {
        match &self.state {
            State::Control(cut) => size_of::<CutControl>() + cut.payload.capacity(),
            State::Head { .. } | State::Data { .. } => 0,
        }
    }

    /// Begins the payload behind `head`; a control frame that came whole is a piece at once.
    fn begin<'b>(&mut self, head: Head, input: &mut Input<'b>) -> Option<Piece<'b>> {
        let control = match head.opcode {
            Opcode::Control(control) => control,
            Opcode::Data(kind) => {
                self.state = State::Data {
                    left: head.length,
                    key: head.key,
                };
                return Some(Piece::Begin {
                    kind,
                    last: head.last,
                    deflated: head.deflated,
                    length: head.length,
                });
            }
        };
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let payload = input.take(length);
        mask::apply(head.key, payload);
        if payload.len() < length {
            self.state = State::Control(Box::new(CutControl {
                control,
                length,
                key: head.key,
                payload: payload.to_vec(),
            }));
            return None;
        }
        self.state = BETWEEN;
        Some(Piece::Control {
            control,
            payload: Cow::Borrowed(payload),
        })
    }
}

/// Takes a head, or spills what there is of it into `spilled`.
fn take_head(
    input: &mut Input<'_>,
    spilled: &mut [u8; LONGEST_HEAD],
    len: &mut u8,
    rules: Rules,
) -> Result<Option<Head>, ProtocolError> {
    let before = usize::from(*len);
    if before == 0
        && let Some(head) = parse(input.as_slice(), rules)?
    {
        input.take(head.size);
        return Ok(Some(head));
    }
    let room = spilled.get_mut(before..).unwrap_or_default();
    let count = room.len().min(input.len());
    for (to, from) in room.iter_mut().zip(input.as_slice()) {
        *to = *from;
    }
    let bytes = spilled.get(..before + count).unwrap_or_default();
    let Some(head) = parse(bytes, rules)? else {
        // No head is longer than the room, so this is all there was.
        input.take(count);
        *len = (before + count) as u8;
        return Ok(None);
    };
    input.take(head.size.saturating_sub(before));
    Ok(Some(head))
}

/// Parses a head; `None` while bytes are missing. Each byte is judged as soon as it is there, in order, so that
/// the verdict does not depend on how the bytes were cut.
fn parse(bytes: &[u8], rules: Rules) -> Result<Option<Head>, ProtocolError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    // Continuations and control frames never carry the bit. [RFC 7692, 6.1]
    let deflated = rules.deflates && matches!(first & !FIN, 0x41 | 0x42);
    if first & RESERVED != 0 && !deflated {
        return Err(ProtocolError::ReservedBits);
    }
    let opcode = Opcode::parse(first & 0x0f).ok_or(ProtocolError::Opcode)?;
    let last = first & FIN != 0;
    let is_control = matches!(opcode, Opcode::Control(_));
    if is_control && !last {
        return Err(ProtocolError::ControlFrame);
    }
    let Some((&second, rest)) = rest.split_first() else {
        return Ok(None);
    };
    if (second & MASKED != 0) != rules.masked {
        return Err(ProtocolError::Masking);
    }
    let short = second & !MASKED;
    if is_control && short > 125 {
        return Err(ProtocolError::ControlFrame);
    }
    let (length, rest) = match short {
        126 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let length = u16::from_be_bytes(*length);
            if length < 126 {
                return Err(ProtocolError::Length);
            }
            (u64::from(length), rest)
        }
        127 => {
            let Some((length, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*length);
            if length >> 63 != 0 || length <= u64::from(u16::MAX) {
                return Err(ProtocolError::Length);
            }
            (length, rest)
        }
        _ => (u64::from(short), rest),
    };
    let (key, rest) = if rules.masked {
        let Some((key, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        (*key, rest)
    } else {
        ([0; 4], rest)
    };
    Ok(Some(Head {
        opcode,
        last,
        deflated,
        length,
        key,
        size: bytes.len() - rest.len(),
    }))
}

/// Returns what stands before an unmasked payload of `length` bytes, and how many bytes of it count.
#[inline]
pub(crate) fn head(opcode: Opcode, length: usize) -> ([u8; 10], u8) {
    head_behind(opcode.first_byte(), length)
}

#[inline]
fn head_behind(first: u8, length: usize) -> ([u8; 10], u8) {
    match length {
        0..=125 => ([first, length as u8, 0, 0, 0, 0, 0, 0, 0, 0], 2),
        126..=0xffff => {
            let [a, b] = (length as u16).to_be_bytes();
            ([first, 126, a, b, 0, 0, 0, 0, 0, 0], 4)
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (length as u64).to_be_bytes();
            ([first, 127, a, b, c, d, e, f, g, h], 10)
        }
    }
}

/// Appends a whole frame, masked if there is a key.
#[inline(always)]
pub(crate) fn encode(opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>, bytes: &mut Vec<u8>) {
    encode_behind(opcode.first_byte(), payload, key, bytes);
}

/// Appends a whole message whose payload is compressed.
pub(crate) fn encode_deflated(
    binary: bool,
    payload: &[u8],
    key: Option<[u8; 4]>,
    bytes: &mut Vec<u8>,
) {
    let first = Opcode::of_message(binary).first_byte() | DEFLATED;
    encode_behind(first, payload, key, bytes);
}

#[inline(always)] // What is left of it for a server's frame are two copies.
fn encode_behind(first: u8, payload: &[u8], key: Option<[u8; 4]>, bytes: &mut Vec<u8>) {
    if let Some(key) = key {
        return encode_masked(first, payload, key, bytes);
    }
    match payload.len() {
        length @ 0..=125 => bytes.extend_from_slice(&[first, length as u8]),
        length => {
            let (head, len) = head_behind(first, length);
            let start = bytes.len();
            // All ten bytes and then a cut: a copy of fixed length is two instructions.
            bytes.extend_from_slice(&head);
            bytes.truncate(start + usize::from(len));
        }
    }
    bytes.extend_from_slice(payload);
}

#[inline(never)]
fn encode_masked(first: u8, payload: &[u8], key: [u8; 4], bytes: &mut Vec<u8>) {
    bytes.reserve(payload.len() + LONGEST_HEAD);
    let (mut head, len) = head_behind(first, payload.len());
    let [_, second, ..] = &mut head;
    *second |= MASKED;
    bytes.extend_from_slice(head.get(..usize::from(len)).unwrap_or_default());
    bytes.extend_from_slice(&key);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask::apply(key, bytes.get_mut(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Rules = Rules {
        masked: false,
        deflates: false,
    };

    fn check(bytes: &[u8], expected: Result<Option<(Opcode, bool, u64)>, ProtocolError>) {
        let found =
            parse(bytes, PLAIN).map(|head| head.map(|head| (head.opcode, head.last, head.length)));
        assert_eq!(found, expected, "{bytes:x?}");
    }

    const TEXT: Opcode = Opcode::Data(Kind::Text);

    #[test]
    fn a_length_has_one_spelling() {
        check(&[0x81, 125], Ok(Some((TEXT, true, 125))));
        check(&[0x81, 126, 0, 126], Ok(Some((TEXT, true, 126))));
        check(&[0x81, 126, 0, 125], Err(ProtocolError::Length));
        check(
            &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0],
            Ok(Some((TEXT, true, 0x1_0000))),
        );
        check(
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            Err(ProtocolError::Length),
        );
        check(
            &[0x81, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255],
            Ok(Some((TEXT, true, u64::MAX >> 1))),
        );
        check(
            &[0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0],
            Err(ProtocolError::Length),
        );
    }

    #[test]
    fn a_byte_is_judged_as_soon_as_it_is_there() {
        check(&[], Ok(None));
        check(&[0x81], Ok(None));
        check(&[0xc1], Err(ProtocolError::ReservedBits));
        check(&[0x83], Err(ProtocolError::Opcode));
        check(&[0x09], Err(ProtocolError::ControlFrame));
        check(&[0x89, 126], Err(ProtocolError::ControlFrame));
        check(&[0x81, 0x80], Err(ProtocolError::Masking));
        let masked = Rules {
            masked: true,
            ..PLAIN
        };
        assert_eq!(parse(&[0x81, 0], masked), Err(ProtocolError::Masking));
    }

    #[test]
    fn the_bit_of_a_compressed_message_stands_where_it_was_agreed_and_begins() {
        let agreed = Rules {
            deflates: true,
            ..PLAIN
        };
        for first in 0..=u8::MAX {
            let may_stand = matches!(first, 0x01 | 0x02 | 0x41 | 0x42 | 0x81 | 0x82 | 0xc1 | 0xc2);
            let deflated = matches!(parse(&[first, 0], agreed), Ok(Some(head)) if head.deflated);
            assert_eq!(deflated, may_stand && first & DEFLATED != 0, "{first:x}");
            if first & RESERVED != 0 {
                let refused = Err(ProtocolError::ReservedBits);
                assert_eq!(parse(&[first, 0], PLAIN), refused, "{first:x}");
                assert_eq!(parse(&[first], agreed).is_err(), !may_stand, "{first:x}");
            }
        }
    }

    #[test]
    fn a_frame_written_is_a_frame_read() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            if cfg!(miri) && length > 1_000 {
                continue; // It takes minutes there.
            }
            for key in [None, Some([1, 2, 3, 4])] {
                let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
                let mut bytes = Vec::new();
                encode(Opcode::of_message(true), &payload, key, &mut bytes);
                let mut input = Input::new(&mut bytes);
                let decoder = Decoder::new(key.is_some());
                let whole = decoder.whole(&mut input, length);
                assert_eq!(whole, Some((true, payload.as_slice())));
                assert!(input.is_empty());
            }
        }
    }

    #[test]
    fn the_short_way_leaves_to_the_long_one_what_is_not_whole_or_not_allowed() {
        let short_way = |bytes: &[u8], max_message| {
            let mut bytes = bytes.to_vec();
            let mut input = Input::new(&mut bytes);
            let taken = Decoder::new(false).whole(&mut input, max_message).is_some();
            assert!(taken || input.len() == bytes.len());
            taken
        };
        assert!(short_way(&[0x81, 1, b'a'], 1));
        assert!(!short_way(&[0x81, 1], 1));
        assert!(!short_way(&[0x81, 2, b'a', b'b'], 1));
        assert!(!short_way(&[0x81, 0x81, 0, 0, 0, 0, b'a'], 1));
        assert!(!short_way(&[0x01, 1, b'a'], 1));
        assert!(!short_way(&[0x89, 1, b'a'], 1));
        assert!(!short_way(&[0x81, 126, 0, 1, b'a'], 1));
    }
}
