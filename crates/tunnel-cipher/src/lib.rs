//! ChaCha20-Poly1305 (RFC 8439) with the 64-bit nonces of the Noise specification.
//!
//! A crate of its own for two reasons: it is compiled for speed where the rest of the browser library is compiled
//! for size, which costs ciphers a factor of 30; and its key stream uses the SIMD of WebAssembly, which no other
//! implementation does. Elsewhere the key stream is the `chacha20` crate's; the authenticator always is `poly1305`'s.
//! `docs/CRYPTO.md` has the numbers.

#[cfg(any(test, target_arch = "wasm32"))]
mod keystream;
#[cfg(any(test, target_arch = "wasm32"))]
mod lanes;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(test)]
mod wycheproof_tests;

#[cfg(target_arch = "wasm32")]
use keystream::Keystream;
#[cfg(not(target_arch = "wasm32"))]
use native::Keystream;

use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Poly1305};
use std::fmt;
use zeroize::Zeroizing;

/// Length of the authentication tag, in bytes.
pub const TAG_LEN: usize = 16;

/// A nonce as RFC 8439 has it.
type Nonce = [u8; 12];

/// Encrypts and decrypts under one key, which is wiped when dropped.
pub struct Cipher {
    key: Zeroizing<[u8; 32]>,
}

impl Cipher {
    /// Takes a key that nothing else uses.
    #[must_use]
    pub const fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self { key }
    }

    /// Encrypts `data` in place and gives its tag, which covers `associated` as well.
    ///
    /// `data` has less than 256 GiB. No two calls under one key may have the same nonce.
    #[must_use]
    pub fn seal(&self, nonce: u64, associated: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        self.seal_under(&noise_nonce(nonce), associated, data)
    }

    fn seal_under(&self, nonce: &Nonce, associated: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let mut keystream = Keystream::new(&self.key, nonce);
        let authenticator = Poly1305::new(keystream.authenticator_key().into());
        keystream.apply(data);
        authenticate(authenticator, associated, data).finalize().into()
    }

    /// Decrypts `data` in place if `tag` was made for it, `associated`, the nonce and the key.
    ///
    /// Otherwise gives `false` and leaves `data` as it was. Takes the same time wherever the tag differs.
    #[must_use]
    pub fn open(&self, nonce: u64, associated: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        self.open_under(&noise_nonce(nonce), associated, data, tag)
    }

    fn open_under(&self, nonce: &Nonce, associated: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        let mut keystream = Keystream::new(&self.key, nonce);
        let authenticator = Poly1305::new(keystream.authenticator_key().into());
        let valid = authenticate(authenticator, associated, data).verify(tag.into()).is_ok();
        if valid {
            keystream.apply(data);
        }
        valid
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

/// A nonce as the Noise specification makes it of a number: four zeros, then the number.
fn noise_nonce(number: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    nonce
}

fn authenticate(mut authenticator: Poly1305, associated: &[u8], ciphertext: &[u8]) -> Poly1305 {
    authenticator.update_padded(associated);
    authenticator.update_padded(ciphertext);
    let mut lengths = Block::default();
    lengths[..8].copy_from_slice(&(associated.len() as u64).to_le_bytes());
    lengths[8..].copy_from_slice(&(ciphertext.len() as u64).to_le_bytes());
    authenticator.update(&[lengths]);
    authenticator
}
