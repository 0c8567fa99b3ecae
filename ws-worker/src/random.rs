//! Random keys for socket ids, from the system, fetched in batches so that a socket costs no call of its own.

/// A store of random bytes.
#[derive(Debug)]
pub(crate) struct Random {
    bytes: [u8; 1024],
    next: usize,
}

impl Random {
    pub(crate) fn new() -> Self {
        Self {
            bytes: [0; 1024],
            next: 1024,
        }
    }

    /// Returns 128 random bits.
    ///
    /// # Errors
    /// The system's: it has none to give.
    pub(crate) fn key(&mut self) -> Result<[u8; 16], getrandom::Error> {
        let (keys, _) = self.bytes.as_chunks_mut::<16>();
        if self.next >= keys.len() {
            getrandom::fill(keys.as_flattened_mut())?;
            self.next = 0;
        }
        let key = keys.get_mut(self.next).map(std::mem::take);
        self.next += 1;
        key.ok_or(getrandom::Error::UNSUPPORTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_comes_twice() {
        let mut random = Random::new();
        let keys: std::collections::HashSet<_> = (0..1000).map(|_| random.key().unwrap()).collect();
        assert_eq!(keys.len(), 1000);
    }
}
