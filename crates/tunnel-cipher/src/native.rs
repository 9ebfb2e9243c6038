//! The key stream of the `chacha20` crate, which has SIMD for the processors that run relays and tests.

use crate::Nonce;
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use zeroize::Zeroizing;

/// The key stream of one nonce.
pub(crate) struct Keystream {
    cipher: ChaCha20,
    authenticator_key: Zeroizing<[u8; 32]>,
}

impl Keystream {
    pub(crate) fn new(key: &[u8; 32], nonce: &Nonce) -> Self {
        let mut cipher = ChaCha20::new(key.into(), nonce.into());
        let mut authenticator_key = Zeroizing::new([0; 32]);
        cipher.apply_keystream(&mut *authenticator_key);
        cipher.seek(64_u32);
        Self { cipher, authenticator_key }
    }

    /// The key for the tag: the first half of block 0.
    pub(crate) fn authenticator_key(&self) -> &[u8; 32] {
        &self.authenticator_key
    }

    /// Encrypts or decrypts `data` with block 1 and those that follow; possible once.
    pub(crate) fn apply(&mut self, data: &mut [u8]) {
        self.cipher.apply_keystream(data);
    }
}
