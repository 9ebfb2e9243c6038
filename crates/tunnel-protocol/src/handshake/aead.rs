//! ChaCha20-Poly1305 (RFC 8439) as Noise uses it: 64-bit nonces, the tag behind the ciphertext.

use bytes::BytesMut;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use zeroize::Zeroizing;

/// How much longer a ciphertext is than its plaintext, in bytes: the authentication tag.
pub const OVERHEAD: usize = 16;

/// A secret key; wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Encrypts and decrypts under one key; wiped when dropped.
pub(super) struct Aead(ChaCha20Poly1305);

impl Aead {
    pub(super) fn new(key: &Key) -> Self {
        Self(ChaCha20Poly1305::new((&**key).into()))
    }

    /// Encrypts what lies behind the first `from` bytes of the buffer in place and appends the tag.
    pub(super) fn seal(&self, nonce: u64, associated: &[u8], buffer: &mut BytesMut, from: usize) {
        let from = from.min(buffer.len());
        let tag = self
            .0
            .encrypt_inout_detached(&nonce_bytes(nonce), associated, (&mut buffer[from..]).into())
            .expect("only plaintexts of 256 GiB and more are refused");
        buffer.extend_from_slice(&tag);
    }

    /// Decrypts the buffer in place and cuts off the tag; `false` if it was not sealed so: the buffer is as it was.
    #[must_use]
    pub(super) fn open(&self, nonce: u64, associated: &[u8], buffer: &mut BytesMut) -> bool {
        let Some(len) = buffer.len().checked_sub(OVERHEAD) else { return false };
        let (ciphertext, tag) = buffer.split_at_mut(len);
        let Ok(tag) = <&Tag>::try_from(&*tag) else { return false };
        let opened =
            self.0.decrypt_inout_detached(&nonce_bytes(nonce), associated, ciphertext.into(), tag).is_ok();
        if opened {
            buffer.truncate(len);
        }
        opened
    }

    /// The key that follows this one: `REKEY` in the Noise specification.
    pub(super) fn next(&self) -> Self {
        let mut key = Key::default();
        let _tag = self.0.encrypt_inout_detached(&nonce_bytes(u64::MAX), &[], key.as_mut_slice().into());
        Self::new(&key)
    }
}

fn nonce_bytes(nonce: u64) -> Nonce {
    let mut bytes = Nonce::default();
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    bytes
}
