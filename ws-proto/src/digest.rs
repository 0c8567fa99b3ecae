//! The two digests of the opening handshakes: the accept key of hybi and RFC 6455, and hixie-76's sixteen bytes.
//! Knows no heads: bytes in, bytes out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::{Digest as _, Sha1};

/// What every server appends to the key. [RFC 6455, 1.3]
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Computes `Sec-WebSocket-Accept` from the key as it stands in the header. [RFC 6455, 4.2.2]
pub(crate) fn accept_key(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    // Twenty bytes are always 28 characters, so the only error there is, lack of room, cannot come.
    let _ = STANDARD.encode_slice(digest, &mut accept);
    accept
}

/// Computes hixie-76's answer to its two key numbers and eight bytes. [hixie-76, 5.2, steps 8 to 10]
pub(crate) fn challenge_answer(numbers: [u32; 2], bytes: [u8; 8]) -> [u8; 16] {
    let [first, second] = numbers.map(u32::to_be_bytes);
    Md5::new()
        .chain_update(first)
        .chain_update(second)
        .chain_update(bytes)
        .finalize()
        .into()
}

/// Encodes sixteen bytes as a key: 24 characters. [RFC 6455, 4.1]
pub(crate) fn encode_key(bytes: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    let _ = STANDARD.encode_slice(bytes, &mut key);
    key
}

/// Returns whether a key is base64 of sixteen bytes, padded and canonical.
pub(crate) fn is_sixteen_bytes(key: &[u8]) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    // Twenty-one times six bits, the last two of 128, and four that are zero.
    let [sixes @ .., b'A' | b'Q' | b'g' | b'w', b'=', b'='] = key else {
        return false;
    };
    // None is skipped, so that many are looked at together.
    sixes.len() == 21 && sixes.iter().fold(true, |all, &byte| all & is_base64(byte))
}

/// Stretches a seed: as many bytes as wanted, the same ones for the same seed. For a client's keys, which have to
/// look random and keep no secret.
#[derive(Clone, Debug)]
pub(crate) struct Dice<'a> {
    seed: &'a [u8],
    block: [u8; 20],
    used: usize,
    blocks: u32,
}

impl<'a> Dice<'a> {
    pub(crate) fn new(seed: &'a [u8]) -> Self {
        Self {
            seed,
            block: [0; 20],
            used: 20,
            blocks: 0,
        }
    }

    fn byte(&mut self) -> u8 {
        loop {
            if let Some(&byte) = self.block.get(self.used) {
                self.used += 1;
                return byte;
            }
            self.block = Sha1::new()
                .chain_update(self.blocks.to_be_bytes())
                .chain_update(self.seed)
                .finalize()
                .into();
            self.blocks = self.blocks.wrapping_add(1);
            self.used = 0;
        }
    }

    /// Draws a number from 0 to `last`, both included. The bias of one in 2^32 does not matter here.
    pub(crate) fn up_to(&mut self, last: u32) -> u32 {
        let drawn = (0..8).fold(0_u64, |sum, _| sum << 8 | u64::from(self.byte()));
        (drawn % (u64::from(last) + 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_are_digests_of_the_seed_one_after_another_and_a_number_takes_eight_bytes() {
        let mut dice = Dice::new(b"seed");
        for block in 0..3_u32 {
            let digest = Sha1::new()
                .chain_update(block.to_be_bytes())
                .chain_update(b"seed");
            for byte in digest.finalize() {
                assert_eq!(dice.byte(), byte);
            }
        }
        let (mut bytes, mut numbers) = (Dice::new(b"seed"), Dice::new(b"seed"));
        for _ in 0..5 {
            let drawn = u64::from_be_bytes(core::array::from_fn(|_| bytes.byte()));
            assert_eq!(numbers.up_to(999), (drawn % 1000) as u32);
        }
    }

    #[test]
    fn the_sample_key_gives_the_sample_answer() {
        // [RFC 6455, 1.3]
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_sample_challenge_gives_the_sample_answer() {
        // [hixie-76, 1.3]
        let answer = challenge_answer([829_309_203, 259_970_620], *b"^n:ds[4U");
        assert_eq!(&answer, b"8jKS'y:G*Co,Wxa-");
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_nothing_else() {
        assert!(is_sixteen_bytes(&encode_key([7; 16])));
        assert!(is_sixteen_bytes(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for key in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",       // no padding
            b"dGhlIHNhbXBsZSBub25jZR==",     // not canonical: bits left over
            b"dGhlIHNhbXBsZSBub25jZSE=",     // 17 bytes
            b"OC0xMzMzMzMzMzMzMzMz",         // 15 bytes, as npm ws 1.x sends
            b"dGhlIHNhbXBsZSBub25jZQ== ",    // a space
            b"dGhlIHNhbXBsZSBub25j-Q==",     // the alphabet of URLs
            b"dGhlIHNhbXBsZSBub25jZQ====",   // too much padding
            b"dGhlIHNhbXBsZSBub25jZQ==dGhl", // something behind
        ] {
            assert!(!is_sixteen_bytes(key), "{key:?}");
        }
    }

    #[test]
    fn a_key_is_what_base64_decodes_to_sixteen_bytes() {
        let mut dice = Dice::new(b"key");
        let decodes = |key: &[u8]| STANDARD.decode_slice(key, &mut [0; 18]) == Ok(16);
        for _ in 0..if cfg!(miri) { 10 } else { 1000 } {
            let mut key = encode_key(core::array::from_fn(|_| dice.byte()));
            assert!(is_sixteen_bytes(&key));
            // Any byte in any place.
            let (place, byte) = (dice.up_to(23) as usize, dice.byte());
            if let Some(character) = key.get_mut(place) {
                *character = byte;
            }
            assert_eq!(is_sixteen_bytes(&key), decodes(&key), "{key:?}");
        }
        let last = |last: u8| {
            let mut key = *b"dGhlIHNhbXBsZSBub25jZQ==";
            key[21] = last;
            key
        };
        for byte in 0..=255 {
            assert_eq!(is_sixteen_bytes(&last(byte)), decodes(&last(byte)));
        }
    }

    #[test]
    fn dice_fall_within_their_bounds_and_the_same_way_twice() {
        let (mut one, mut other) = (Dice::new(b"seed"), Dice::new(b"seed"));
        let step = if cfg!(miri) { 50 } else { 1 };
        for last in (0..500).step_by(step).chain([u32::MAX]) {
            let drawn = one.up_to(last);
            assert!(drawn <= last);
            assert_eq!(drawn, other.up_to(last));
        }
    }
}
