//! Random bytes for one machine, from one seed that its owner drew.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A generator that can't be run backwards: what it gave stays secret when its state becomes known.
///
/// Each output is SHA-256 of the state under one label, each next state that under another. With the same seed it
/// gives the same bytes, which is what makes a simulation replay. The state is wiped when dropped.
pub(crate) struct Entropy {
    state: Zeroizing<[u8; 32]>,
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { state: Zeroizing::new(seed) }
    }

    /// 32 bytes that nobody can tell from random ones.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let hash = |label: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(label).chain_update(*self.state).finalize().into()
        };
        let output = hash(b"output");
        *self.state = hash(b"state");
        output
    }

    /// The first bytes of 32.
    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes()[..N]);
        array
    }

    /// A number from 0 to 2^64-1.
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        let (mut a, mut b, mut c) = (Entropy::new([1; 32]), Entropy::new([1; 32]), Entropy::new([2; 32]));
        let first = a.bytes();
        assert_eq!(first, b.bytes());
        assert_ne!(first, c.bytes());
        assert_ne!(first, a.bytes());
    }
}
