//! The handshake by which two peers agree on keys: `Noise_IK_25519_ChaChaPoly_SHA256` (Noise specification, revision 34).
//!
//! The initiator (a client) knows the responder's (a server's) static key, since the server ID is that key. There is
//! one pattern and nothing is negotiated, so nothing can be downgraded.
//!
//! ```text
//! -> e, es, s, ss    message 1: ephemeral key (32), sealed static key (48), sealed payload (16 more)
//! <- e, ee, se       message 2: ephemeral key (32), sealed payload (16 more)
//! ```
//!
//! The payload of message 1 can be replayed by whoever saw it, and is not protected against a later theft of the
//! responder's static key: put nothing into it that does harm when it comes twice. The initiator is who it says
//! once its first record has opened.
//!
//! ```
//! use tunnel_protocol::handshake::{Initiator, Responder};
//! use tunnel_protocol::identity::StaticKey;
//!
//! // Use fresh random bytes instead.
//! let (client, server) = (StaticKey::from_secret([1; 32]), StaticKey::from_secret([2; 32]));
//!
//! let mut initiator = Initiator::new(b"prologue", server.public(), [3; 32]);
//! let message = initiator.write_message(&client, b"who is there?")?;
//!
//! let (responder, who, payload) = Responder::read_message(b"prologue", &server, &message)?;
//! assert_eq!(who, client.public());
//! assert_eq!(payload, "who is there?");
//! let (message, mut at_server) = responder.write_message([4; 32], b"the server")?;
//!
//! let (payload, mut at_client) = initiator.read_message(&client, &message)?;
//! assert_eq!(payload, "the server");
//! let record = at_client.seal(b"hello")?;
//! assert_eq!(at_server.open(record)?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aead;
mod symmetric;
mod transport;

pub use aead::OVERHEAD;
pub use transport::{OpenError, REKEY_INTERVAL, SealError, Transport};

use crate::identity::{DhError, StaticKey};
use crate::server_id::PublicKey;
use bytes::{Bytes, BytesMut};
use std::fmt;
use symmetric::Symmetric;

/// Longest handshake message or record, in bytes: the limit of the Noise specification.
pub const MAX_MESSAGE: usize = 65_535;

/// Bytes by which message 1 is longer than its payload.
pub const MESSAGE_1_OVERHEAD: usize = KEY_LEN + SEALED_KEY_LEN + OVERHEAD;

/// Bytes by which message 2 is longer than its payload.
pub const MESSAGE_2_OVERHEAD: usize = KEY_LEN + OVERHEAD;

const KEY_LEN: usize = 32;
const SEALED_KEY_LEN: usize = KEY_LEN + OVERHEAD;

/// A step of the handshake failed; the state is as it was before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The message is shorter than one with an empty payload.
    #[error("a handshake message of {len} bytes is shorter than the {min} bytes of an empty one")]
    Truncated {
        /// Its length, in bytes.
        len: usize,
        /// The least length, in bytes.
        min: usize,
    },
    /// The message, read or to be written, is longer than [`MAX_MESSAGE`].
    #[error("a handshake message of {len} bytes exceeds the limit of {MAX_MESSAGE} bytes")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// A Diffie-Hellman computation gave no result: see the inner error for whether to repeat the step.
    #[error("no shared secret for the handshake: {0}")]
    Dh(#[from] DhError),
    /// The message was changed, or the other side has another key, prologue or handshake in mind.
    #[error(
        "the handshake message does not decrypt: it is meant for another key or prologue, or was changed"
    )]
    Decrypt,
    /// An initiator writes once, then reads once.
    #[error("this step of the handshake is not the next one: an initiator writes once, then reads once")]
    OutOfOrder,
}

/// The side that opens the handshake, and knows whom it wants to reach.
pub struct Initiator {
    symmetric: Symmetric,
    ephemeral: StaticKey,
    remote: PublicKey,
    next: Step,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Write,
    Read,
    Nothing,
}

impl Initiator {
    /// Starts a handshake with the holder of `remote`.
    ///
    /// `ephemeral` is a fresh key, or 32 fresh random bytes, never used for anything else. The handshake fails unless the other side
    /// uses the same `prologue`.
    #[must_use]
    pub fn new(prologue: &[u8], remote: PublicKey, ephemeral: impl Into<StaticKey>) -> Self {
        let symmetric = Symmetric::new(prologue, &remote);
        Self { symmetric, ephemeral: ephemeral.into(), remote, next: Step::Write }
    }

    /// Message 1 around `payload`. `key` is who we are.
    ///
    /// Possible once. [`DhError::Pending`] asks for the Diffie-Hellman of `key` and `remote`.
    pub fn write_message(&mut self, key: &StaticKey, payload: &[u8]) -> Result<Bytes, HandshakeError> {
        self.expect(Step::Write)?;
        let mut message = new_message(MESSAGE_1_OVERHEAD, payload)?;
        let mut symmetric = self.symmetric.clone();
        write_key(&mut symmetric, &self.ephemeral, &mut message);
        let field_key = symmetric.mix_key(&self.ephemeral.diffie_hellman(&self.remote)?);
        symmetric.seal(field_key, &key.public().0, &mut message);
        let field_key = symmetric.mix_key(&key.diffie_hellman(&self.remote)?);
        symmetric.seal(field_key, payload, &mut message);
        self.symmetric = symmetric;
        self.next = Step::Read;
        Ok(message.freeze())
    }

    /// Reads message 2: its payload, and the ciphers for the records.
    ///
    /// Possible once; after an error another message may be tried. `key` is the key that wrote message 1.
    /// [`DhError::Pending`] asks for the Diffie-Hellman of `key` and the responder's ephemeral key.
    pub fn read_message(
        &mut self,
        key: &StaticKey,
        message: &[u8],
    ) -> Result<(Bytes, Transport), HandshakeError> {
        self.expect(Step::Read)?;
        let mut symmetric = self.symmetric.clone();
        let (ephemeral, payload) = read_key(&mut symmetric, MESSAGE_2_OVERHEAD, message)?;
        symmetric.mix_key(&self.ephemeral.diffie_hellman(&ephemeral)?);
        let field_key = symmetric.mix_key(&key.diffie_hellman(&ephemeral)?);
        let payload = symmetric.open(field_key, payload).ok_or(HandshakeError::Decrypt)?;
        self.next = Step::Nothing;
        let (to_responder, to_initiator, hash) = symmetric.split();
        Ok((payload.freeze(), Transport::new(to_responder, to_initiator, hash)))
    }

    fn expect(&self, step: Step) -> Result<(), HandshakeError> {
        if self.next == step { Ok(()) } else { Err(HandshakeError::OutOfOrder) }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Initiator");
        debug.field("remote", &self.remote).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The side that answers, having read message 1.
pub struct Responder {
    symmetric: Symmetric,
    /// The initiator's ephemeral key.
    ephemeral: PublicKey,
    remote: PublicKey,
}

impl Responder {
    /// Reads message 1: who sent it, and its payload. `key` is who we are.
    ///
    /// [`DhError::Pending`] asks for the Diffie-Hellman of `key` and the initiator's ephemeral key and, when called
    /// again, of `key` and the initiator's static key.
    pub fn read_message(
        prologue: &[u8],
        key: &StaticKey,
        message: &[u8],
    ) -> Result<(Self, PublicKey, Bytes), HandshakeError> {
        let mut symmetric = Symmetric::new(prologue, &key.public());
        let (ephemeral, rest) = read_key(&mut symmetric, MESSAGE_1_OVERHEAD, message)?;
        let (sealed_key, payload) = rest.split_at(SEALED_KEY_LEN);
        let field_key = symmetric.mix_key(&key.diffie_hellman(&ephemeral)?);
        let remote = symmetric.open(field_key, sealed_key).ok_or(HandshakeError::Decrypt)?;
        let remote = PublicKey(<[u8; KEY_LEN]>::try_from(&*remote).map_err(|_| HandshakeError::Decrypt)?);
        let field_key = symmetric.mix_key(&key.diffie_hellman(&remote)?);
        let payload = symmetric.open(field_key, payload).ok_or(HandshakeError::Decrypt)?;
        Ok((Self { symmetric, ephemeral, remote }, remote, payload.freeze()))
    }

    /// Message 2 around `payload`, and the ciphers for the records.
    ///
    /// `ephemeral` is a fresh key, or 32 fresh random bytes, never used for anything else.
    pub fn write_message(
        mut self,
        ephemeral: impl Into<StaticKey>,
        payload: &[u8],
    ) -> Result<(Bytes, Transport), HandshakeError> {
        let mut message = new_message(MESSAGE_2_OVERHEAD, payload)?;
        let ephemeral = ephemeral.into();
        write_key(&mut self.symmetric, &ephemeral, &mut message);
        self.symmetric.mix_key(&ephemeral.diffie_hellman(&self.ephemeral)?);
        let field_key = self.symmetric.mix_key(&ephemeral.diffie_hellman(&self.remote)?);
        self.symmetric.seal(field_key, payload, &mut message);
        let (to_responder, to_initiator, hash) = self.symmetric.split();
        Ok((message.freeze(), Transport::new(to_initiator, to_responder, hash)))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("remote", &self.remote).finish_non_exhaustive()
    }
}

fn new_message(overhead: usize, payload: &[u8]) -> Result<BytesMut, HandshakeError> {
    match payload.len().saturating_add(overhead) {
        len if len > MAX_MESSAGE => Err(HandshakeError::TooLong { len }),
        len => Ok(BytesMut::with_capacity(len)),
    }
}

fn write_key(symmetric: &mut Symmetric, key: &StaticKey, message: &mut BytesMut) {
    message.extend_from_slice(&key.public().0);
    symmetric.mix_hash(&key.public().0);
}

/// The ephemeral key that a message begins with, and what follows it, if the message has a length that is possible.
fn read_key<'a>(
    symmetric: &mut Symmetric,
    min: usize,
    message: &'a [u8],
) -> Result<(PublicKey, &'a [u8]), HandshakeError> {
    let len = message.len();
    if len > MAX_MESSAGE {
        return Err(HandshakeError::TooLong { len });
    }
    match message.split_first_chunk() {
        Some((key, rest)) if len >= min => {
            symmetric.mix_hash(key);
            Ok((PublicKey(*key), rest))
        }
        _ => Err(HandshakeError::Truncated { len, min }),
    }
}
