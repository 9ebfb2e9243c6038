//! Fresh keys, and the randomness that they come from.

use crate::entropy::Entropy;
use crate::identity::StaticKey;

/// The source of an endpoint's keys, names and jitter.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) entropy: Entropy,
    /// Keys that nothing has used, made while nobody waited.
    spare: Vec<StaticKey>,
}

impl Keys {
    pub(super) const fn new(entropy: Entropy) -> Self {
        Self { entropy, spare: Vec::new() }
    }

    /// Takes keys that nothing else uses.
    pub(super) fn stock(&mut self, keys: Vec<StaticKey>) {
        self.spare = keys;
    }

    /// Makes a key for the next handshake if there is none in stock.
    pub(super) fn make_spare(&mut self) {
        if self.spare.is_empty() {
            self.spare.push(StaticKey::from_secret(self.entropy.bytes()));
        }
    }

    /// A key that nothing has used.
    pub(super) fn fresh(&mut self) -> StaticKey {
        self.spare.pop().unwrap_or_else(|| StaticKey::from_secret(self.entropy.bytes()))
    }
}
