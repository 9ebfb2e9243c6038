//! The protocol of clients of iroh's relay: they prove who they are, and then send datagrams to each other's public keys.

use ed25519_dalek::{Signer as _, SigningKey};
use std::sync::atomic::{AtomicU32, Ordering};

/// Frames begin with their type.
const SERVER_CHALLENGE: u8 = 0;
const CLIENT_AUTH: u8 = 1;
const SERVER_CONFIRMS_AUTH: u8 = 2;
const CLIENT_TO_RELAY_DATAGRAM: u8 = 4;

/// The context for which keys are derived from challenges.
const PURPOSE: &str = "iroh-relay handshake v1 challenge signature";

/// Public key of a client: its address.
pub(crate) type EndpointId = [u8; 32];

/// A client's key.
pub(crate) struct Identity(SigningKey);

impl Identity {
    /// One that no other connection has: the relay lets go of the older of two.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        Self(SigningKey::from_bytes(&seed))
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.0.verifying_key().to_bytes()
    }

    /// The answer to the relay's first message: the public key, and a signature, which has its length before it.
    pub(crate) fn answer(&self, challenge: &[u8]) -> Vec<u8> {
        let challenge = challenge.strip_prefix(&[SERVER_CHALLENGE]).unwrap();
        let signature = self.0.sign(&blake3::derive_key(PURPOSE, challenge)).to_bytes();
        [&[CLIENT_AUTH], &self.id()[..], &[u8::try_from(signature.len()).unwrap()], &signature].concat()
    }
}

pub(crate) fn is_confirmation(message: &[u8]) -> bool {
    message == [SERVER_CONFIRMS_AUTH]
}

/// One datagram, without marks of congestion.
pub(crate) fn datagram(to: EndpointId, payload: &[u8]) -> Vec<u8> {
    [&[CLIENT_TO_RELAY_DATAGRAM], &to[..], &[0], payload].concat()
}
