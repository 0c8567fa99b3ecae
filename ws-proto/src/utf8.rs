//! UTF-8, whole or in pieces that may end inside a character. Each byte is proved once, as it comes.
//! Knows no messages, only where a piece of text is appended.

use alloc::borrow::Cow;
use alloc::string::String;
use core::str::Utf8Chunk;

/// The bytes are not UTF-8, and no further bytes can make them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Proves that `bytes` are UTF-8.
#[inline(always)] // A call of another crate's, and no more.
pub(crate) fn prove(bytes: &[u8]) -> Result<&str, Invalid> {
    #[cfg(feature = "simd")]
    return simdutf8::basic::from_utf8(bytes).map_err(|_| Invalid);
    #[cfg(not(feature = "simd"))]
    return core::str::from_utf8(bytes).map_err(|_| Invalid);
}

/// Reads `bytes` as UTF-8, with U+FFFD for what is not.
#[inline(always)] // Two callers; a comparison for what is UTF-8.
pub(crate) fn replace(bytes: &[u8]) -> Cow<'_, str> {
    match prove(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(Invalid) => Cow::Owned(replaced(bytes)),
    }
}

#[cold]
fn replaced(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(replaced_len(bytes));
    push_replaced(bytes, &mut text);
    text
}

/// Counts the bytes of text that [`push_replaced`] makes of `bytes`: three for one, at the worst.
fn replaced_len(bytes: &[u8]) -> usize {
    let len = |chunk: Utf8Chunk<'_>| match chunk.invalid() {
        [] => chunk.valid().len(),
        _ => chunk.valid().len() + char::REPLACEMENT_CHARACTER.len_utf8(),
    };
    bytes.utf8_chunks().map(len).sum()
}

/// Appends `bytes`, with U+FFFD for what is not UTF-8.
fn push_replaced(bytes: &[u8], text: &mut String) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// A character that began in one piece and ends in the next: at most three bytes, valid as far as they go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carry {
    bytes: [u8; 4],
    len: u8,
    replaces: bool,
}

impl Carry {
    /// Begins a text whose invalid bytes are an error.
    pub(crate) fn strict() -> Self {
        Self::default()
    }

    /// Begins a text whose invalid bytes become U+FFFD, just as many as [`replace`] makes of the whole.
    pub(crate) fn replacing() -> Self {
        Self {
            replaces: true,
            ..Self::default()
        }
    }

    /// Appends a piece, all but the beginning of a last character. There is room for the piece and three bytes; where
    /// what replaces it takes more, `reserve` makes room for so many.
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        text: &mut String,
        reserve: impl FnOnce(&mut String, usize),
    ) -> Result<(), Invalid> {
        let piece = self.complete(piece, text)?;
        if piece.is_empty() {
            return Ok(()); // Whatever is carried stays.
        }
        let (whole, tail) = piece.split_at(piece.len() - unfinished(piece));
        if let Ok(proven) = prove(whole)
            && self.begin(tail)
        {
            text.push_str(proven);
            return Ok(());
        }
        if !self.replaces {
            return Err(Invalid);
        }
        // What is wrong may lie in the tail, which then begins nothing: it is replaced with the rest.
        let piece = if self.begin(tail) { whole } else { piece };
        reserve(text, replaced_len(piece));
        push_replaced(piece, text);
        Ok(())
    }

    /// Ends the text, which must not end inside a character.
    pub(crate) fn finish(&mut self, text: &mut String) -> Result<(), Invalid> {
        if self.len == 0 {
            return Ok(());
        }
        self.len = 0;
        if self.replaces {
            text.reserve_exact(char::REPLACEMENT_CHARACTER.len_utf8());
            text.push(char::REPLACEMENT_CHARACTER);
            return Ok(());
        }
        Err(Invalid)
    }

    fn carried(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Carries `tail` if it is the beginning of a character, or empty.
    fn begin(&mut self, tail: &[u8]) -> bool {
        let begins = match core::str::from_utf8(tail) {
            Ok(_) => tail.is_empty(),
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
        };
        if let Some(bytes) = self.bytes.get_mut(..tail.len())
            && begins
        {
            bytes.copy_from_slice(tail);
            self.len = tail.len() as u8;
        }
        begins
    }

    /// Moves bytes from `piece` to the carried ones until these are a character; returns the others.
    fn complete<'p>(
        &mut self,
        mut piece: &'p [u8],
        text: &mut String,
    ) -> Result<&'p [u8], Invalid> {
        while self.len > 0
            && let Some((&byte, rest)) = piece.split_first()
        {
            let Some(next) = self.bytes.get_mut(usize::from(self.len)) else {
                return Err(Invalid);
            };
            *next = byte;
            self.len += 1;
            match core::str::from_utf8(self.carried()) {
                Ok(character) => {
                    text.push_str(character);
                    self.len = 0;
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) if self.replaces => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.len = 0;
                    break; // The byte belongs to what follows.
                }
                Err(_) => return Err(Invalid),
            }
            piece = rest;
        }
        Ok(piece)
    }
}

/// Returns how many bytes at the end look like a character that is not whole, by its first byte alone.
fn unfinished(bytes: &[u8]) -> usize {
    for (behind, byte) in bytes.iter().rev().take(3).enumerate() {
        let width = match byte {
            0x00..=0x7f => return 0,
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
        };
        return if behind + 1 < width { behind + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [&[u8]; 13] = [
        b"plain",
        "a\u{e9}\u{3042}\u{10348}z".as_bytes(),
        b"\xff",
        b"a\xc0\xafb",             // overlong
        b"\xed\xa0\x80",           // a surrogate
        b"\xf4\x90\x80\x80",       // beyond U+10FFFF
        b"\xe3\x81",               // cut
        b"\xe3\x81A",              // cut by another
        b"\xe3\x81A\xf0\x90\x8d",  // cut, twice
        b"\xe0\x80\x80",           // overlong, three bytes
        b"\x80\x80\xf0\x9f\x98a",  // continuations of nothing
        b"\xf0\x9f\x98\x80\xf5zz", // a character, then a byte that never occurs
        b"",
    ];

    fn in_pieces(mut carry: Carry, pieces: [&[u8]; 3]) -> Result<String, Invalid> {
        let mut text = String::new();
        for piece in pieces {
            carry.push(piece, &mut text, String::reserve)?;
        }
        carry.finish(&mut text)?;
        Ok(text)
    }

    #[test]
    fn pieces_are_judged_as_the_whole_is() {
        for sample in SAMPLES {
            for second in 0..=sample.len() {
                for first in 0..=second {
                    let pieces = [&sample[..first], &sample[first..second], &sample[second..]];
                    assert_eq!(
                        in_pieces(Carry::strict(), pieces).ok().as_deref(),
                        core::str::from_utf8(sample).ok(),
                        "{pieces:x?}"
                    );
                    assert_eq!(
                        in_pieces(Carry::replacing(), pieces).as_deref(),
                        Ok(&*String::from_utf8_lossy(sample)),
                        "{pieces:x?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_fault_is_told_with_the_first_byte_that_cannot_be_right() {
        let mut text = String::new();
        let mut carry = Carry::strict();
        assert_eq!(carry.push(b"\xf4", &mut text, String::reserve), Ok(()));
        assert_eq!(
            carry.push(b"\x90", &mut text, String::reserve),
            Err(Invalid)
        );
        assert_eq!(
            Carry::strict().push(b"\xed\xa0", &mut text, String::reserve),
            Err(Invalid)
        );
    }
}
