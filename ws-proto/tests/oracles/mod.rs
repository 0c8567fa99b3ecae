//! What must hold whatever comes, as functions of plain bytes: shared by the tests here (properties, seed corpora) and by
//! the targets in `fuzz/`. Each panics where something does not hold.
//!
//! The first bytes of an input choose role, version, limits and cuts; [`Dials`] reads them. The rest is what the peer sends.

#![allow(dead_code, reason = "each test binary uses its own part")]

#[cfg(feature = "deflate")]
pub(crate) mod deflate;
pub(crate) mod differential;
pub(crate) mod handshake;
pub(crate) mod operations;
pub(crate) mod streams;

/// Small choices made from an input's first bytes.
#[derive(Clone, Copy)]
pub(crate) struct Dials {
    flags: u8,
    seed: u64,
}

impl Dials {
    /// Takes two bytes off the front: eight flags, and the seed of the cuts.
    pub(crate) fn take(data: &[u8]) -> Option<(Self, &[u8])> {
        let (&[flags, seed], rest) = data.split_first_chunk()?;
        let seed = u64::from(seed);
        Some((Self { flags, seed }, rest))
    }

    /// Tells one flag.
    pub(crate) const fn is_set(self, bit: u8) -> bool {
        self.flags >> bit & 1 == 1
    }

    /// Tells the number in `count` bits from `bit` up.
    pub(crate) const fn number(self, bit: u8, count: u8) -> usize {
        (self.flags >> bit) as usize & ((1 << count) - 1)
    }

    /// Makes lengths to cut an input into. Seed 0 cuts at every byte, and so do all where `bytes` are few.
    pub(crate) fn cuts(self, bytes: usize) -> Vec<usize> {
        if self.seed == 0 && bytes <= 4_096 {
            return vec![1];
        }
        let mut random = Random::new(self.seed);
        let largest = [3, 17, 200, 5_000][random.below(4)];
        (0..7).map(|_| 1 + random.below(largest)).collect()
    }
}

/// Random numbers that repeat. [Vigna, xorshift64*]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    pub(crate) const fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub(crate) const fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }
}
