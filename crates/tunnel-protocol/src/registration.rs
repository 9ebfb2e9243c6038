//! The proof by which a server shows the relay that it holds the key that it registers.
//!
//! The relay's challenge is a fresh public key. Only the holders of either private half can compute the shared
//! secret, so a keyed hash under it proves possession to the relay and to nobody else. The hash covers the relay's
//! URL as the server dialled it, so that a relay cannot use a proof made for it at another relay.

use crate::identity::{DhError, StaticKey};
use crate::server_id::PublicKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The purpose of the hash: no other use of the same keys hashes anything that begins like this.
const CONTEXT: &[u8] = b"tunnel.v1 register\0";

/// Proves to whoever holds the private half of `challenge` that `key`'s private half is held here.
///
/// `url` is the relay's URL as dialled, without its query, in the form of the URL standard: scheme `ws` or `wss`, lower case, no
/// port that is the scheme's own, and a path: `wss://relay.example/`.
///
/// An external key answers with [`DhError::Pending`] first; a challenge of low order is refused.
pub fn prove(key: &StaticKey, challenge: &PublicKey, url: &str) -> Result<[u8; 32], DhError> {
    let mac = proof(key, challenge, challenge, &key.public(), url)?;
    Ok(mac.finalize().into_bytes().into())
}

/// Returns whether `proof` was made for `challenge` and `url` by a holder of `key`'s private half.
///
/// Takes the same time whether and wherever the proof is wrong. Keys of low order are refused.
#[must_use]
pub fn verify(challenge: &StaticKey, key: &PublicKey, url: &str, proof: &[u8; 32]) -> bool {
    let mac = self::proof(challenge, key, &challenge.public(), key, url);
    mac.is_ok_and(|mac| mac.verify(proof.into()).is_ok())
}

fn proof(
    ours: &StaticKey,
    theirs: &PublicKey,
    challenge: &PublicKey,
    key: &PublicKey,
    url: &str,
) -> Result<Hmac<Sha256>, DhError> {
    let shared = ours.diffie_hellman(theirs)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(shared.as_bytes()).expect("HMAC takes keys of any length");
    for part in [CONTEXT, &challenge.0, &key.0, url.as_bytes()] {
        mac.update(part);
    }
    Ok(mac)
}
