//! Static keys: what a peer is known by.

use crate::ServerId;
use crate::server_id::PublicKey;
use std::fmt;
use x25519_dalek::x25519;
use zeroize::Zeroizing;

/// The number of answers an external key remembers; a handshake needs two.
const MAX_ANSWERS: usize = 64;

/// A peer's static X25519 key: its bytes, or the public half of a key that is held elsewhere.
///
/// A key held elsewhere (a non-extractable WebCrypto key) computes Diffie-Hellman asynchronously. An operation that
/// needs a result which is not there yet changes nothing and fails with [`DhError::Pending`]; the owner computes the
/// result, passes it to [`answer`](Self::answer) and repeats the operation.
///
/// Secrets are wiped when the key is dropped; `Debug` prints the public half only.
#[derive(Clone)]
pub struct StaticKey {
    public: PublicKey,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Here(Zeroizing<[u8; 32]>),
    Elsewhere { answers: Vec<(PublicKey, SharedSecret)> },
}

/// The result of a Diffie-Hellman computation; never all zeros, wiped when dropped.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<[u8; 32]>);

/// A Diffie-Hellman computation gave no shared secret; nothing has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DhError {
    /// The key is held elsewhere: compute its Diffie-Hellman with this public key, pass the result to
    /// [`StaticKey::answer`] and repeat the operation.
    #[error("the key is held elsewhere: its Diffie-Hellman with {} is needed first", ServerId::Key(*.0))]
    Pending(PublicKey),
    /// The other public key is a point of low order: the result would be the same for every secret key.
    #[error("the other public key is of low order: it is not a key that X25519 generates")]
    LowOrder,
}

impl StaticKey {
    /// A key whose secret half is at hand: any 32 bytes of good randomness, clamped as RFC 7748 says when used.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        Self { public: PublicKey(public_half(*secret)), secret: Secret::Here(secret) }
    }

    /// A key whose secret half is held elsewhere.
    ///
    /// It remembers the newest 64 answers; a clone has its own memory, so one clone for each handshake never
    /// forgets too early.
    #[must_use]
    pub const fn external(public: PublicKey) -> Self {
        Self { public, secret: Secret::Elsewhere { answers: Vec::new() } }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The secret shared with the holder of `theirs`.
    pub fn diffie_hellman(&self, theirs: &PublicKey) -> Result<SharedSecret, DhError> {
        match &self.secret {
            Secret::Here(secret) => SharedSecret::new(x25519(**secret, theirs.0)),
            Secret::Elsewhere { answers } => {
                let answer = answers.iter().find(|(key, _)| key == theirs);
                let (_, shared) = answer.ok_or(DhError::Pending(*theirs))?;
                SharedSecret::new(*shared.0)
            }
        }
    }

    /// Takes in the result of the computation that [`DhError::Pending`] asked for.
    ///
    /// Pass 32 zeros if the holder of the key refuses `theirs`: the operation then fails with
    /// [`DhError::LowOrder`]. Does nothing if the secret half is at hand.
    pub fn answer(&mut self, theirs: PublicKey, shared: [u8; 32]) {
        let shared = SharedSecret(Zeroizing::new(shared));
        let Secret::Elsewhere { answers } = &mut self.secret else { return };
        answers.retain(|(key, _)| *key != theirs);
        if answers.len() == MAX_ANSWERS {
            answers.remove(0);
        }
        answers.push((theirs, shared));
    }

    /// Wipes all answers: call it when the handshake or registration that needed them is over.
    pub fn forget_answers(&mut self) {
        if let Secret::Elsewhere { answers } = &mut self.secret {
            answers.clear();
        }
    }
}

impl From<[u8; 32]> for StaticKey {
    fn from(secret: [u8; 32]) -> Self {
        Self::from_secret(secret)
    }
}

/// By tables of 30 KB, in a third of the time.
#[cfg(feature = "precomputed-tables")]
fn public_half(secret: [u8; 32]) -> [u8; 32] {
    curve25519_dalek::EdwardsPoint::mul_base_clamped(secret).to_montgomery().to_bytes()
}

#[cfg(not(feature = "precomputed-tables"))]
fn public_half(secret: [u8; 32]) -> [u8; 32] {
    x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES)
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SharedSecret {
    /// Refuses the result of a point of low order.
    fn new(bytes: [u8; 32]) -> Result<Self, DhError> {
        let shared = Self(Zeroizing::new(bytes));
        // Without a branch on any single byte: how far a secret is zero is nobody's business.
        match shared.0.iter().fold(0, |bits, byte| bits | byte) {
            0 => Err(DhError::LowOrder),
            _ => Ok(shared),
        }
    }

    /// The secret's bytes: hash them before using them as a key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x25519_dalek::X25519_BASEPOINT_BYTES;

    #[test]
    fn the_public_half_is_the_secret_times_the_base_point_however_it_is_computed() {
        for byte in 0..=255 {
            let secret = [byte; 32];
            assert_eq!(public_half(secret), x25519(secret, X25519_BASEPOINT_BYTES), "{byte}");
        }
    }
}
