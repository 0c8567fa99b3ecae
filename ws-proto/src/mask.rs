//! Masking: XOR with a four-byte key, and a client's supply of keys. [RFC 6455, 5.3]
//! Knows no frames; randomness is passed in.

use sha1::{Digest, Sha1};

/// Masks or unmasks `bytes` in place, the first byte with the key's first.
#[inline]
pub(crate) fn apply(key: [u8; 4], bytes: &mut [u8]) {
    let key = u32::from_ne_bytes(key);
    let word = u64::from(key) << 32 | u64::from(key);
    // Fixed lengths become vector instructions; a loop over words would for short payloads remain one.
    let (blocks, rest) = bytes.as_chunks_mut::<64>();
    for block in blocks {
        xor(block, word);
    }
    let rest = split(rest, |block: &mut [u8; 32]| xor(block, word));
    let rest = split(rest, |block: &mut [u8; 16]| xor(block, word));
    let rest = split(rest, |block: &mut [u8; 8]| xor(block, word));
    let rest = split(rest, |half: &mut [u8; 4]| {
        *half = (u32::from_ne_bytes(*half) ^ key).to_ne_bytes();
    });
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[inline(always)]
fn xor(block: &mut [u8], key: u64) {
    for word in block.as_chunks_mut::<8>().0 {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
}

/// Does something with the first `N` bytes, if there are so many; returns the rest.
#[inline(always)]
fn split<const N: usize>(bytes: &mut [u8], act: impl FnOnce(&mut [u8; N])) -> &mut [u8] {
    if bytes.len() < N {
        return bytes;
    }
    match bytes.split_first_chunk_mut() {
        Some((block, rest)) => {
            act(block);
            rest
        }
        None => &mut [],
    }
}

/// Returns the key as it stands `count` bytes further on.
#[inline]
pub(crate) const fn rotated(key: [u8; 4], count: usize) -> [u8; 4] {
    u32::from_le_bytes(key)
        .rotate_right(8 * (count & 3) as u32)
        .to_le_bytes()
}

/// A client's masking keys: key n is the beginning of SHA-1(seed, n), so that none tells the next. [RFC 6455, 10.3]
#[derive(Debug)]
pub(crate) struct Keys {
    seed: [u8; 16],
    used: u64,
}

impl Keys {
    /// Begins with a seed of sixteen random bytes.
    pub(crate) const fn new(seed: [u8; 16]) -> Self {
        Self { seed, used: 0 }
    }

    /// Returns a key that was not used before.
    pub(crate) fn next(&mut self) -> [u8; 4] {
        let digest = Sha1::new()
            .chain_update(self.seed)
            .chain_update(self.used.to_be_bytes())
            .finalize();
        self.used = self.used.wrapping_add(1);
        let [a, b, c, d, ..] = digest.0;
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn masking_agrees_with_the_definition_at_every_length_and_offset() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let longest = if cfg!(miri) { 20 } else { 70_usize };
        for length in 0..longest {
            let plain: Vec<u8> = (0..length).map(|i| (i * 37) as u8).collect();
            let expected: Vec<u8> = (0..length).map(|i| plain[i] ^ key[i % 4]).collect();
            for at in 0..=length {
                let mut bytes = plain.clone();
                let (front, back) = bytes.split_at_mut(at);
                apply(key, front);
                apply(rotated(key, at), back);
                assert_eq!(bytes, expected, "split at {at} of {length}");
            }
        }
    }

    #[test]
    fn keys_follow_from_the_seed_and_differ() {
        let mut keys = Keys::new([7; 16]);
        let first: Vec<_> = (0..100).map(|_| keys.next()).collect();
        let mut again = Keys::new([7; 16]);
        assert!(first.iter().all(|key| *key == again.next()));
        let mut distinct = first;
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 100);
    }
}
