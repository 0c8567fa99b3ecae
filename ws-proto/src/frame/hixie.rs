//! Frames of hixie-75 and hixie-76: `00` text `FF`, and others that are read and discarded. [hixie-76, 5.3]
//! Knows what is counted against a limit, not what is done when it is reached.

use super::{Control, Kind, Piece};
use crate::error::ProtocolError;
use crate::input::Input;
use crate::limits::Limits;
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The closing frame of 76.
pub(crate) const CLOSE: [u8; 2] = [0xff, 0x00];

/// Where in a frame the input stands.
#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    /// After `00`.
    Text,
    /// After `01` to `7F`: discarded up to `FF`.
    Delimited,
    /// After `80` to `FF`, in the length.
    Length {
        /// Whether a length of nothing closes the connection.
        closes: bool,
        /// Digits so far, without leading zeros.
        digits: u8,
        length: u64,
    },
    /// Behind a length: so many bytes are discarded.
    Counted {
        left: u64,
    },
}

/// Takes frames apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    has_closing_handshake: bool,
    /// Bytes discarded since the last text. Discarding costs us time and the peer nothing, so it has an end:
    /// sixteen times the largest message, and 16 MiB at least.
    discarded: u64,
}

impl Decoder {
    pub(crate) const fn new(has_closing_handshake: bool) -> Self {
        Self {
            state: State::Between,
            has_closing_handshake,
            discarded: 0,
        }
    }

    #[inline]
    pub(crate) const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// Takes a text frame that lies whole in the input, the common case. Anything else is left to [`decode`](Self::decode).
    #[inline(always)] // One caller.
    pub(crate) fn whole<'b>(
        &mut self,
        input: &mut Input<'b>,
        max_message: usize,
    ) -> Option<&'b [u8]> {
        let (0, rest) = input.as_slice().split_first()? else {
            return None;
        };
        if !self.is_between_frames() {
            return None;
        }
        let length = find_end(rest)?;
        if length > max_message {
            return None;
        }
        self.discarded = 0;
        input.take(1);
        let text = input.take(length);
        input.take(1);
        Some(text)
    }

    /// Takes bytes up to the end of the next piece; `None` when more are needed.
    ///
    /// # Errors
    /// The peer's fault: a length beyond the limits, or more to discard than they allow.
    pub(crate) fn decode<'b>(
        &mut self,
        input: &mut Input<'b>,
        limits: &Limits,
    ) -> Result<Option<Piece<'b>>, ProtocolError> {
        loop {
            let Some(&first) = input.as_slice().first() else {
                return Ok(None);
            };
            match self.state {
                State::Between => {
                    input.take(1);
                    if first == 0 {
                        self.state = State::Text;
                        return Ok(Some(Piece::Begin {
                            kind: Kind::LossyText,
                            last: true,
                            deflated: false,
                            length: 0,
                        }));
                    }
                    self.discard(1, limits)?;
                    self.state = if first < 0x80 {
                        State::Delimited
                    } else {
                        State::Length {
                            closes: self.has_closing_handshake && first == 0xff,
                            digits: 0,
                            length: 0,
                        }
                    };
                }
                State::Text => {
                    let end = find_end(input.as_slice());
                    let bytes = input.take(end.unwrap_or(usize::MAX));
                    if end.is_some() {
                        input.take(1);
                        self.state = State::Between;
                        self.discarded = 0;
                    }
                    return Ok(Some(Piece::Payload {
                        bytes,
                        end: end.is_some(),
                    }));
                }
                State::Delimited => {
                    let end = find_end(input.as_slice());
                    let taken = input.take(end.map_or(usize::MAX, |at| at + 1));
                    self.discard(taken.len() as u64, limits)?;
                    if end.is_some() {
                        self.state = State::Between;
                    }
                }
                State::Length {
                    closes,
                    digits,
                    length,
                } => {
                    input.take(1);
                    self.discard(1, limits)?;
                    let length = length
                        .checked_mul(128)
                        .ok_or(ProtocolError::Length)?
                        .wrapping_add(u64::from(first & 0x7f));
                    // Zeros in front are legal and count for nothing.
                    let digits = digits.saturating_add(u8::from(length > 0));
                    if digits > limits.max_length_digits {
                        return Err(ProtocolError::Length);
                    }
                    self.state = State::Length {
                        closes,
                        digits,
                        length,
                    };
                    if first & 0x80 == 0 {
                        self.state = State::Between;
                        if length == 0 && closes {
                            return Ok(Some(Piece::Control {
                                control: Control::Close,
                                payload: Cow::Borrowed(&[]),
                            }));
                        }
                        self.begin_counted(length, limits)?;
                    }
                }
                State::Counted { left } => {
                    let taken = input.take(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left.saturating_sub(taken.len() as u64);
                    self.state = if left == 0 {
                        State::Between
                    } else {
                        State::Counted { left }
                    };
                }
            }
        }
    }

    fn begin_counted(&mut self, length: u64, limits: &Limits) -> Result<(), ProtocolError> {
        if length > limits.max_message as u64 {
            return Err(ProtocolError::TooBig);
        }
        self.discard(length, limits)?;
        if length > 0 {
            self.state = State::Counted { left: length };
        }
        Ok(())
    }

    /// Counts bytes that are, or will be, discarded.
    fn discard(&mut self, count: u64, limits: &Limits) -> Result<(), ProtocolError> {
        let allowed = (limits.max_message as u64)
            .saturating_mul(16)
            .max(16 * 1024 * 1024);
        self.discarded = self.discarded.saturating_add(count);
        if self.discarded > allowed {
            return Err(ProtocolError::TooManyFrames);
        }
        Ok(())
    }
}

/// Finds the `FF` that ends a frame. UTF-8 has none.
#[inline]
fn find_end(bytes: &[u8]) -> Option<usize> {
    #[cfg(feature = "simd")]
    return memchr::memchr(0xff, bytes);
    #[cfg(not(feature = "simd"))]
    return bytes.iter().position(|byte| *byte == 0xff);
}

/// Appends a whole text frame, in one piece.
#[inline]
pub(crate) fn encode(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(0x00);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0xff);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn limits() -> Limits {
        Limits {
            max_message: 1000,
            ..Limits::default()
        }
    }

    /// Says what came: texts joined by `|`, `#` for a close, the fault last.
    fn read(decoder: &mut Decoder, bytes: &[u8]) -> Result<String, ProtocolError> {
        let mut bytes = bytes.to_vec();
        let mut input = Input::new(&mut bytes);
        let mut found = String::new();
        while let Some(piece) = decoder.decode(&mut input, &limits())? {
            match piece {
                Piece::Begin { .. } => {}
                Piece::Payload { bytes, end } => {
                    found.push_str(core::str::from_utf8(bytes).unwrap());
                    if end {
                        found.push('|');
                    }
                }
                Piece::Control { .. } => found.push('#'),
            }
        }
        Ok(found)
    }

    fn check(bytes: &[u8], expected: Result<&str, ProtocolError>) {
        let found = read(&mut Decoder::new(true), bytes);
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{bytes:x?}");
    }

    #[test]
    fn only_frames_of_type_zero_are_text() {
        check(b"\x00a\xff\x00\xff\x00b\x00\xff", Ok("a||b\0|"));
        check(b"\x01a\xff\x7f\xff\x00b\xff", Ok("b|"));
        check(b"\x80\x02\xff\x00\xfe\x00\x00b\xff", Ok("b|"));
        check(b"\x80\x00\x00b\xff", Ok("b|"));
    }

    #[test]
    fn a_length_may_begin_with_zeros() {
        check(b"\x80\x80\x80\x01x\x00b\xff", Ok("b|"));
        check(b"\xff\x80\x80\x01x\x00b\xff", Ok("b|"));
        check(b"\xff\x80\x00", Ok("#"));
    }

    #[test]
    fn a_length_has_an_end() {
        check(b"\x80\x87\x68", Ok("")); // 1000
        check(b"\x80\x87\x69", Err(ProtocolError::TooBig));
        check(&[0x80, 0x81, 0x81, 0x81, 0x81], Ok(""));
        let mut endless = [0xff; 64];
        endless[0] = 0x80;
        check(&endless, Err(ProtocolError::Length));
    }

    #[test]
    fn the_closing_frame_is_known_in_76_and_discarded_in_75() {
        check(b"\xff\x00", Ok("#"));
        let mut hixie75 = Decoder::new(false);
        assert_eq!(
            read(&mut hixie75, b"\xff\x00\x00a\xff").as_deref(),
            Ok("a|")
        );
    }

    #[test]
    fn the_closing_frame_is_known_across_reads() {
        let mut decoder = Decoder::new(true);
        assert_eq!(read(&mut decoder, b"\x00a\xff\xff").as_deref(), Ok("a|"));
        assert_eq!(read(&mut decoder, b"\x00").as_deref(), Ok("#"));
    }

    #[test]
    fn a_length_has_as_many_digits_as_the_limit_says() {
        for (digits, expected) in [
            (2, Err(ProtocolError::Length)),
            (3, Ok(None)),
            (4, Ok(None)),
        ] {
            let limits = Limits {
                max_message: 1 << 20,
                max_length_digits: digits,
                ..Limits::default()
            };
            // Zeros in front do not count, zeros behind do.
            let mut bytes = *b"\x80\x80\x80\x81\x80\x80";
            let mut input = Input::new(&mut bytes);
            let found = Decoder::new(true).decode(&mut input, &limits);
            assert_eq!(found.map(|piece| piece.map(|_| ())), expected, "{digits}");
        }
    }

    #[test]
    fn what_is_counted_is_discarded_to_its_last_byte() {
        check(b"\x80\x01\x00\x00b\xff", Ok("b|"));
        check(b"\x80\x00\x00b\xff", Ok("b|"));
        let mut decoder = Decoder::new(true);
        assert_eq!(read(&mut decoder, b"\x80\x02\x00").as_deref(), Ok(""));
        assert!(!decoder.is_between_frames());
        assert_eq!(read(&mut decoder, b"\x00").as_deref(), Ok(""));
        assert!(decoder.is_between_frames());
        assert_eq!(read(&mut decoder, b"\x80\x00").as_deref(), Ok(""));
        assert!(decoder.is_between_frames());
    }

    #[test]
    fn every_byte_that_is_no_text_counts_as_discarded() {
        // A type, a byte up to its end, a digit of a length, what a length promises.
        for (bytes, room) in [
            (&b"\x01"[..], 0),
            (b"\x01a", 1),
            (b"\x80\x00", 1),
            (b"\x80\x03", 4),
        ] {
            let mut decoder = Decoder::new(false);
            decoder.discarded = 16 * 1024 * 1024 - room;
            assert_eq!(
                read(&mut decoder, bytes),
                Err(ProtocolError::TooManyFrames),
                "{bytes:x?}"
            );
            let mut decoder = Decoder::new(false);
            decoder.discarded = 16 * 1024 * 1024 - room - 1;
            assert_eq!(read(&mut decoder, bytes).as_deref(), Ok(""), "{bytes:x?}");
        }
    }

    #[test]
    fn discarding_has_an_end_that_a_message_moves() {
        let mut decoder = Decoder::new(true);
        // 32 MiB a byte at a time would take Miri hours: there most of them only count as discarded.
        let chunk = alloc::vec![0x41; if cfg!(miri) { 64 } else { 1024 * 1024 }];
        let counted = 16 * (1024 * 1024 - chunk.len() as u64);
        assert!(read(&mut decoder, b"\x01").is_ok());
        decoder.discarded += counted;
        for _ in 0..15 {
            assert!(read(&mut decoder, &chunk).is_ok());
        }
        assert_eq!(
            read(&mut decoder, b"\xff\x00a\xff\x01").as_deref(),
            Ok("a|")
        );
        decoder.discarded += counted;
        for _ in 0..15 {
            assert!(read(&mut decoder, &chunk).is_ok());
        }
        // With the first byte, exactly what is allowed; then one more.
        assert!(read(&mut decoder, &chunk[1..]).is_ok());
        assert_eq!(read(&mut decoder, b"a"), Err(ProtocolError::TooManyFrames));
    }
}
