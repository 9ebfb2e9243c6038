//! The hashing half of the handshake: `SymmetricState` in the Noise specification.

use super::aead::{Aead, Key};
use crate::identity::SharedSecret;
use crate::server_id::PublicKey;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// 32 bytes, so that it is its own hash.
const NAME: &[u8; 32] = b"Noise_IK_25519_ChaChaPoly_SHA256";

/// The state that both sides have agreed on so far.
#[derive(Clone)]
pub(super) struct Symmetric {
    chaining_key: Key,
    hash: [u8; 32],
}

/// In this pattern every key of the handshake encrypts exactly one field, so it is used up by that and its nonce is 0.
pub(super) struct FieldKey(Key);

impl Symmetric {
    /// The state before message 1 to the holder of `responder`.
    pub(super) fn new(prologue: &[u8], responder: &PublicKey) -> Self {
        let mut symmetric = Self { chaining_key: Zeroizing::new(*NAME), hash: *NAME };
        symmetric.mix_hash(prologue);
        symmetric.mix_hash(&responder.0);
        symmetric
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = Sha256::new().chain_update(self.hash).chain_update(data).finalize().into();
    }

    pub(super) fn mix_key(&mut self, shared: &SharedSecret) -> FieldKey {
        let (chaining_key, key) = derive(&self.chaining_key, shared.as_bytes());
        self.chaining_key = chaining_key;
        FieldKey(key)
    }

    /// Appends `field`, sealed.
    pub(super) fn seal(&mut self, key: FieldKey, field: &[u8], message: &mut BytesMut) {
        let from = message.len();
        message.extend_from_slice(field);
        Aead::new(key.0).seal(0, &self.hash, message, from);
        self.mix_hash(&message[from..]);
    }

    /// Opens a sealed field; `None` if it was not sealed by someone in the same state.
    pub(super) fn open(&mut self, key: FieldKey, sealed: &[u8]) -> Option<BytesMut> {
        let mut field = BytesMut::from(sealed);
        if !Aead::new(key.0).open(0, &self.hash, &mut field) {
            return None;
        }
        self.mix_hash(sealed);
        Some(field)
    }

    /// The keys from the initiator to the responder and back, and the hash of the whole handshake.
    pub(super) fn split(&self) -> (Aead, Aead, [u8; 32]) {
        let (initiator, responder) = derive(&self.chaining_key, &[]);
        (Aead::new(initiator), Aead::new(responder), self.hash)
    }
}

/// `HKDF` in the Noise specification, with two outputs.
fn derive(chaining_key: &Key, input: &[u8]) -> (Key, Key) {
    let secret = hmac(chaining_key, &[input]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&*first, &[2]]);
    (first, second)
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(&**key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}
