//! The cipher of fields and records: the tag behind the ciphertext, and keys that follow one another.

use bytes::BytesMut;
use tunnel_cipher::{Cipher, TAG_LEN};
use zeroize::Zeroizing;

/// Bytes by which a ciphertext is longer than its plaintext: the authentication tag.
pub const OVERHEAD: usize = TAG_LEN;

/// A secret key; wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Encrypts and decrypts under one key; wiped when dropped.
pub(super) struct Aead(Cipher);

impl Aead {
    pub(super) const fn new(key: Key) -> Self {
        Self(Cipher::new(key))
    }

    /// Encrypts what lies behind the first `from` bytes of the buffer in place and appends the tag.
    pub(super) fn seal(&self, nonce: u64, associated: &[u8], buffer: &mut BytesMut, from: usize) {
        let from = from.min(buffer.len());
        let tag = self.0.seal(nonce, associated, &mut buffer[from..]);
        buffer.extend_from_slice(&tag);
    }

    /// Decrypts the buffer in place and cuts off the tag; `false` if it was not sealed so: the buffer is as it was.
    #[must_use]
    pub(super) fn open(&self, nonce: u64, associated: &[u8], buffer: &mut BytesMut) -> bool {
        let Some((ciphertext, tag)) = buffer.split_last_chunk_mut() else { return false };
        let len = ciphertext.len();
        let opened = self.0.open(nonce, associated, ciphertext, tag);
        if opened {
            buffer.truncate(len);
        }
        opened
    }

    /// The key that follows this one: `REKEY` in the Noise specification.
    pub(super) fn next(&self) -> Self {
        let mut key = Key::default();
        let _tag = self.0.seal(u64::MAX, &[], key.as_mut_slice());
        Self::new(key)
    }
}
