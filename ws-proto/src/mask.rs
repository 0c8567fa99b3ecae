//! Masking: XOR with a four-byte key, and a client's supply of keys. [RFC 6455, 5.3]
//! Knows no frames; randomness is passed in.

use sha1::{Digest, Sha1};

type Block = [u8; 16];
/// From this length on text is proven by vectors, wherever it lies.
const VECTOR: usize = 64;

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

/// Returns by how much a short payload, which lies behind the first `head` bytes, had to be moved to the left, over these, so
/// that it begins where a word does, if that is worth it: text of less than a vector is proven by words there, and byte by byte
/// anywhere else.
#[inline(always)]
pub(crate) fn shift(frame: &[u8], head: usize) -> Option<usize> {
    let payload = frame.get(head..)?;
    let shift = payload.as_ptr().addr() % size_of::<u64>();
    let is_worth_it = payload.len() < VECTOR && payload.len() >= size_of::<Block>();
    (is_worth_it && shift != 0 && shift <= head).then_some(shift)
}

/// Unmasks the payload behind the first `head` bytes, and moves it by `shift` to the left, over these. It has the length of a
/// block at least.
#[inline(never)]
pub(crate) fn apply_shifted(
    key: [u8; 4],
    frame: &mut [u8],
    head: usize,
    shift: usize,
) -> &mut [u8] {
    let length = frame.len().saturating_sub(head);
    let start = head.saturating_sub(shift);
    // Blocks, and a last one that overlaps them: it is read before they are written over it.
    let last = frame.last_chunk().copied();
    let end = start + length.saturating_sub(size_of::<Block>());
    for at in (start..end).step_by(size_of::<Block>()) {
        if let Some(&block) = frame.get(at + shift..).and_then(<[u8]>::first_chunk)
            && let Some(to) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
        {
            *to = unmasked(block, key);
        }
    }
    let payload = frame.get_mut(start..start + length).unwrap_or_default();
    if let (Some(end), Some(last)) = (payload.last_chunk_mut(), last) {
        *end = unmasked(last, rotated(key, length));
    }
    payload
}

#[inline(always)]
fn unmasked(mut block: Block, key: [u8; 4]) -> Block {
    let key = u32::from_ne_bytes(key);
    xor(&mut block, u64::from(key) << 32 | u64::from(key));
    block
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
    fn a_payload_moved_to_a_word_is_the_one_unmasked_where_it_lies() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let mut moves = 0;
        for length in 0..VECTOR + 3 {
            for (head, offset) in (0..15).flat_map(|head| (0..8).map(move |offset| (head, offset)))
            {
                let mut moved: Vec<u8> = (0..offset + head + length)
                    .map(|i| (i * 37) as u8)
                    .collect();
                let mut lying = moved.clone();
                apply(key, &mut lying[offset + head..]);
                let (before, frame) = moved.split_at_mut(offset);
                if let Some(shift) = shift(frame, head) {
                    let payload = apply_shifted(key, frame, head, shift);
                    assert_eq!(payload.as_ptr().addr() % 8, 0);
                    assert_eq!(
                        payload,
                        &lying[offset + head..],
                        "{length} behind {head} at {offset}"
                    );
                    assert_eq!(before, &lying[..offset]);
                    moves += 1;
                }
            }
        }
        assert!(moves > 1000, "{moves}");
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
