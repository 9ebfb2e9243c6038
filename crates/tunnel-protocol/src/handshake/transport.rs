//! Sealing and opening records once the handshake is done.

use super::MAX_MESSAGE;
use super::aead::{Aead, OVERHEAD};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Each direction changes its key after this many records, so that a stolen key does not open what was before.
pub const REKEY_INTERVAL: u64 = 1 << 16;

/// The two ciphers of a finished handshake.
///
/// Records carry no number: they open in the order in which they were sealed, and none may be missing. Each
/// direction changes its key by itself after every [`REKEY_INTERVAL`] records.
pub struct Transport {
    sender: CipherState,
    receiver: CipherState,
    handshake_hash: [u8; 32],
}

/// A record was not sealed; the plaintext is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The sealed record would be longer than [`MAX_MESSAGE`].
    #[error("a record of {len} bytes exceeds the limit of {MAX_MESSAGE} bytes")]
    TooLong {
        /// Length that the sealed record would have, in bytes.
        len: usize,
    },
    /// All 2^64 - 1 nonces are used up: a new handshake is needed.
    #[error("all nonces are used up: make a new handshake")]
    Exhausted,
}

/// A record was not opened. The next record that the peer has sealed still opens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The record is shorter than an authentication tag.
    #[error("a record of {len} bytes is shorter than its tag of {OVERHEAD} bytes")]
    Truncated {
        /// Its length, in bytes.
        len: usize,
    },
    /// The record is longer than [`MAX_MESSAGE`].
    #[error("a record of {len} bytes exceeds the limit of {MAX_MESSAGE} bytes")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The record is not the one that the peer sealed next: changed, repeated, out of order, or of another session.
    #[error("the record is not the next one that the peer sealed")]
    Decrypt,
    /// All 2^64 - 1 nonces are used up: a new handshake is needed.
    #[error("all nonces are used up: make a new handshake")]
    Exhausted,
}

impl Transport {
    pub(super) fn new(sender: Aead, receiver: Aead, handshake_hash: [u8; 32]) -> Self {
        let (sender, receiver) = (CipherState::new(sender), CipherState::new(receiver));
        Self { sender, receiver, handshake_hash }
    }

    /// Seals a record, which is [`OVERHEAD`] bytes longer than `plaintext`.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Bytes, SealError> {
        let mut record = BytesMut::with_capacity(plaintext.len().saturating_add(OVERHEAD));
        record.put_slice(plaintext);
        self.seal_in_place(&mut record, 0)?;
        Ok(record.freeze())
    }

    /// Seals what lies behind the first `from` bytes of `buffer`, in place, and appends the tag.
    ///
    /// The first `from` bytes, such as a frame's header, stay as they are and are not authenticated. A buffer with
    /// [`OVERHEAD`] bytes of spare capacity is not moved.
    pub fn seal_in_place(&mut self, buffer: &mut BytesMut, from: usize) -> Result<(), SealError> {
        let len = buffer.len().saturating_sub(from) + OVERHEAD;
        if len > MAX_MESSAGE {
            return Err(SealError::TooLong { len });
        }
        let sender = &mut self.sender;
        if sender.nonce == u64::MAX {
            return Err(SealError::Exhausted);
        }
        sender.aead.seal(sender.nonce, &[], buffer, from);
        sender.advance();
        Ok(())
    }

    /// Opens the next record of the peer, in place if nothing else holds on to its bytes.
    pub fn open(&mut self, record: impl Into<BytesMut>) -> Result<Bytes, OpenError> {
        self.open_in_place(record.into())
    }

    fn open_in_place(&mut self, mut record: BytesMut) -> Result<Bytes, OpenError> {
        match record.len() {
            len @ ..OVERHEAD => return Err(OpenError::Truncated { len }),
            len if len > MAX_MESSAGE => return Err(OpenError::TooLong { len }),
            _ => {}
        }
        let receiver = &mut self.receiver;
        if receiver.nonce == u64::MAX {
            return Err(OpenError::Exhausted);
        }
        if !receiver.aead.open(receiver.nonce, &[], &mut record) {
            return Err(OpenError::Decrypt);
        }
        receiver.advance();
        Ok(record.freeze())
    }

    /// The hash of the whole handshake: the same on both sides and in no other session.
    #[must_use]
    pub const fn handshake_hash(&self) -> &[u8; 32] {
        &self.handshake_hash
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("sealed", &self.sender.nonce)
            .field("opened", &self.receiver.nonce)
            .finish_non_exhaustive()
    }
}

/// One direction: `CipherState` in the Noise specification.
struct CipherState {
    aead: Aead,
    /// The number of records this direction has had; never reset, not by a change of keys either.
    nonce: u64,
}

impl CipherState {
    const fn new(aead: Aead) -> Self {
        Self { aead, nonce: 0 }
    }

    /// Moves on after a record that was sealed or opened.
    fn advance(&mut self) {
        self.nonce += 1;
        if self.nonce.is_multiple_of(REKEY_INTERVAL) {
            self.aead = self.aead.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::aead::Key;

    /// Both ends of one direction, with one nonce left.
    fn nearly_exhausted() -> (Transport, Transport) {
        let key = || Key::new([1; 32]);
        let [mut sealer, mut opener] =
            [(); 2].map(|()| Transport::new(Aead::new(key()), Aead::new(key()), [0; 32]));
        sealer.sender.nonce = u64::MAX - 1;
        opener.receiver.nonce = u64::MAX - 1;
        (sealer, opener)
    }

    #[test]
    fn the_last_nonce_is_never_used_for_a_record() {
        let (mut sealer, mut opener) = nearly_exhausted();
        let record = sealer.seal(b"last").unwrap();
        assert_eq!(opener.open(record.clone()).unwrap(), "last");
        let mut buffer = BytesMut::from("one too many".as_bytes());
        assert_eq!(sealer.seal_in_place(&mut buffer, 0), Err(SealError::Exhausted));
        assert_eq!(buffer, "one too many", "the plaintext is as it was");
        assert_eq!(opener.open(record), Err(OpenError::Exhausted));
    }

    #[test]
    fn a_record_that_does_not_open_changes_neither_nonce_nor_key() {
        let (mut sealer, mut opener) = nearly_exhausted();
        sealer.sender.nonce = REKEY_INTERVAL - 1;
        opener.receiver.nonce = REKEY_INTERVAL - 1;
        for text in ["last under the first key", "first under the second key"] {
            let record = sealer.seal(text.as_bytes()).unwrap();
            for _ in 0..3 {
                assert_eq!(opener.open([0; 40].as_slice()), Err(OpenError::Decrypt));
            }
            assert_eq!(opener.open(record).unwrap(), text);
        }
    }
}
