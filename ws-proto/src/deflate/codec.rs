//! The two transforms, through zlib-rs: one pair a loop, begun anew for every message, with what is remembered of
//! earlier ones as its dictionary. Knows no connection.

use super::{RECEIVED, WindowBits};
use crate::error::ProtocolError;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use zlib_rs::{DeflateConfig, DeflateFlush, InflateFlush, Status};

/// What a sender flushes with and takes off again. [RFC 7692, 7.2.1]
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// What a receiver puts back, and an empty final block behind it: only a message that ended where blocks end, ends there.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Final blocks inside a message. Each costs a new beginning; senders write one or none.
const MAX_FINALS: u32 = 1024;
/// Room for what is inflated: a window that stays, and as much or twice as much behind it.
const ROOM: usize = 3 * RECEIVED;
/// Compressors with smaller tables for what has not yet been written; no test text came out larger.
const MEM_LEVEL: i32 = 5;

/// What all connections of a loop compress and inflate with. Nothing is made before it is needed, and what is in use is
/// taken out: a panic costs it.
#[derive(Default)]
pub(crate) struct Codec {
    /// At most one for each size of window; nearly always one.
    compressors: Vec<Compressor>,
    compressed: Vec<u8>,
    decompressor: Option<Decompressor>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

struct Compressor {
    deflate: zlib_rs::Deflate,
    level: i32,
    bits: WindowBits,
}

struct Decompressor {
    inflate: zlib_rs::Inflate,
    /// The last bytes that were inflated, and room for more.
    room: Vec<u8>,
}

impl Codec {
    /// Gives back what a large message took, down to `keep` bytes.
    #[inline]
    pub(crate) fn shrink(&mut self, keep: usize) {
        if self.compressed.capacity() > keep {
            self.compressed = Vec::new();
        }
    }

    /// Compresses a message behind `history`. `None` if the result is not smaller.
    pub(crate) fn compress(
        &mut self,
        payload: &[u8],
        level: i32,
        bits: WindowBits,
        history: &[u8],
    ) -> Option<&[u8]> {
        let mut compressor = self.take_compressor(bits, level);
        let deflate = &mut compressor.deflate;
        deflate.reset();
        if compressor.level != level {
            deflate.set_level(level).ok()?;
            compressor.level = level;
        }
        if !history.is_empty() {
            deflate.set_dictionary(history).ok()?;
        }
        // As much as the worst takes, nine bits for each byte.
        let room = payload.len() + payload.len() / 8 + 64;
        self.compressed.clear();
        self.compressed.resize(room, 0);
        let result = deflate.compress(payload, &mut self.compressed, DeflateFlush::SyncFlush);
        let length = usize::try_from(deflate.total_out()).ok()?;
        if result.is_err() || deflate.total_in() != payload.len() as u64 || length >= room {
            // zlib-rs 0.6.8 keeps its place in an output that was not fetched, and panics after a reset.
            return None;
        }
        self.compressors.push(compressor);
        let compressed = self.compressed.get(..length)?.strip_suffix(&FLUSHED)?;
        (compressed.len() < payload.len()).then_some(compressed)
    }

    /// Inflates a message of at most `max` bytes behind `history`; returns the last bytes of both, as many as a window has.
    pub(crate) fn inflate(
        &mut self,
        payload: &[u8],
        max: usize,
        history: &[u8],
        push: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<&[u8], ProtocolError> {
        let mut decompressor = (self.decompressor.take()).unwrap_or_else(|| Decompressor {
            inflate: zlib_rs::Inflate::new(false, WindowBits::FULL.get()),
            room: vec![0; ROOM],
        });
        let end = decompressor.inflate(payload, max, history, push);
        let decompressor = self.decompressor.insert(decompressor);
        Ok(recent(&decompressor.room, end?))
    }

    /// Finds or makes the compressor for a window.
    fn take_compressor(&mut self, bits: WindowBits, level: i32) -> Compressor {
        let found = (self.compressors.iter()).position(|found| found.bits == bits);
        if let Some(at) = found {
            return self.compressors.swap_remove(at);
        }
        Compressor {
            deflate: zlib_rs::Deflate::new_with_config(DeflateConfig {
                level,
                window_bits: -i32::from(bits.get()),
                mem_level: MEM_LEVEL,
                ..DeflateConfig::default()
            }),
            level,
            bits,
        }
    }
}

impl Decompressor {
    /// Inflates a message, and returns where in the room its last byte ends.
    fn inflate(
        &mut self,
        payload: &[u8],
        max: usize,
        history: &[u8],
        push: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        let Self { inflate, room } = self;
        // Where in the room the last byte ends.
        let mut at = history.len();
        if let Some(front) = room.get_mut(..at) {
            front.copy_from_slice(history);
        }
        if payload.is_empty() {
            return Ok(at); // No block at all: an empty message, for those who send it so.
        }
        begin(inflate, history)?;
        let mut rest = payload;
        let mut end = &END[..];
        let mut left = max;
        let mut finals = 0;
        loop {
            if room.len() - at < RECEIVED {
                room.copy_within(at - RECEIVED..at, 0);
                at = RECEIVED;
            }
            let source = if rest.is_empty() { &mut end } else { &mut rest };
            let (taken, given) = (inflate.total_in(), inflate.total_out());
            let space = room.get_mut(at..).unwrap_or_default();
            let status = inflate
                .decompress(source, space, InflateFlush::NoFlush)
                .map_err(|_| ProtocolError::Deflate)?;
            let taken = (inflate.total_in() - taken) as usize;
            let given = (inflate.total_out() - given) as usize;
            *source = source.get(taken..).unwrap_or_default();
            left = left.checked_sub(given).ok_or(ProtocolError::TooBig)?;
            push(room.get(at..at + given).unwrap_or_default())?;
            at += given;
            match status {
                Status::StreamEnd if rest.is_empty() && is_end(end) => return Ok(at),
                // "BFINAL" ends a block and not the message. [RFC 7692, 7.2.3.4]
                Status::StreamEnd if finals < MAX_FINALS => {
                    finals += 1;
                    begin(inflate, recent(room, at))?;
                }
                Status::Ok | Status::BufError if taken > 0 || given > 0 => {}
                Status::StreamEnd | Status::Ok | Status::BufError => {
                    return Err(ProtocolError::Deflate);
                }
            }
        }
    }
}

/// Begins a stream behind what is remembered.
fn begin(inflate: &mut zlib_rs::Inflate, history: &[u8]) -> Result<(), ProtocolError> {
    inflate.reset(false);
    if !history.is_empty() {
        inflate
            .set_dictionary(history)
            .map_err(|_| ProtocolError::Deflate)?;
    }
    Ok(())
}

fn recent(room: &[u8], at: usize) -> &[u8] {
    room.get(at.saturating_sub(RECEIVED)..at)
        .unwrap_or_default()
}

/// Returns whether a message may end where a final block has ended and so much of [`END`] is left: all of it was needed;
/// the sender's last block was final and he took its end off; or it was final and he took off nothing.
fn is_end(left: &[u8]) -> bool {
    [0, END.len() - FLUSHED.len(), END.len()].contains(&left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough words for levels and windows to differ.
    const WORDS: usize = if cfg!(miri) { 150 } else { 2_000 };

    /// Words in no order, so that levels differ.
    fn text(count: usize) -> Vec<u8> {
        let words = ["one ", "two ", "three ", "fourteen ", "five hundred "];
        let mut dice = 1_u32;
        let next = |_| {
            dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            words[dice as usize / 65_536 % words.len()]
        };
        (0..count).map(next).collect::<String>().into_bytes()
    }

    #[test]
    fn what_a_large_message_took_is_given_back() {
        let mut codec = Codec::default();
        assert!(
            codec
                .compress(&text(WORDS), 1, WindowBits::FULL, &[])
                .is_some()
        );
        let took = codec.compressed.capacity();
        assert!(took >= text(WORDS).len());
        codec.shrink(took);
        assert_eq!(codec.compressed.capacity(), took);
        codec.shrink(1024);
        assert_eq!(codec.compressed.capacity(), 0);
    }

    #[test]
    fn a_message_is_compressed_behind_its_history_and_at_its_own_level() {
        let mut codec = Codec::default();
        let mut compress = |level, history: &[u8]| {
            let compressed = codec.compress(&text(WORDS), level, WindowBits::FULL, history);
            compressed.map(<[u8]>::to_vec).expect("it is smaller")
        };
        let (quick, behind, best) = (
            compress(1, &[]),
            compress(1, &text(WORDS)),
            compress(9, &[]),
        );
        assert!(behind.len() < quick.len());
        assert_ne!(quick, best);
        let fresh = Codec::default()
            .compress(&text(WORDS), 9, WindowBits::FULL, &[])
            .map(<[u8]>::to_vec);
        assert_eq!(fresh, Some(best));
    }

    fn inflated(payload: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let mut whole = Vec::new();
        Codec::default().inflate(payload, 100, &[], &mut |piece| {
            whole.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(whole)
    }

    #[test]
    fn what_is_appended_ends_a_block_and_is_no_content() {
        // A stored block, and the first byte of an empty one, or of an empty final one, whose other four were taken off.
        for first in [0, 1] {
            let payload = [&b"\0\x02\0\xfd\xffab"[..], &[first]].concat();
            assert_eq!(inflated(&payload), Ok(b"ab".to_vec()));
        }
        // A final block of four bytes, of which two came.
        let cut = b"\x01\x04\0\xfb\xffab";
        assert_eq!(inflated(cut), Err(ProtocolError::Deflate));
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of bytes, each borrowed anew")]
    fn what_is_remembered_of_a_long_message_is_its_end() {
        let long = text(40_000);
        assert!(long.len() > 2 * ROOM);
        let mut codec = Codec::default();
        let compressed = codec.compress(&long, 1, WindowBits::FULL, &[]);
        let compressed = compressed.map(<[u8]>::to_vec).expect("it is smaller");
        let mut whole = Vec::new();
        let recent = codec.inflate(&compressed, long.len(), &[], &mut |piece| {
            whole.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!(recent, Ok(&long[long.len() - RECEIVED..]));
        assert!(whole == long);
    }

    #[test]
    fn windows_are_not_mixed_up() {
        let mut codec = Codec::default();
        let compress = |codec: &mut Codec, bits| {
            let compressed = codec.compress(&text(WORDS), 1, bits, &[]);
            compressed.map(<[u8]>::to_vec)
        };
        let small = compress(&mut Codec::default(), WindowBits::SMALLEST_TO_SEND);
        let large = compress(&mut codec, WindowBits::FULL);
        assert!(small.is_some() && small != large);
        for (bits, expected) in [
            (WindowBits::SMALLEST_TO_SEND, &small),
            (WindowBits::FULL, &large),
            (WindowBits::SMALLEST_TO_SEND, &small),
        ] {
            assert_eq!(compress(&mut codec, bits), *expected);
        }
    }
}
