//! Two other implementations of Noise behind one face, to compare ours with.

use clatter::bytearray::{ByteArray, SensitiveByteArray};
use clatter::crypto::cipher::ChaChaPoly;
use clatter::crypto::dh::X25519;
use clatter::crypto::hash::Sha256;
use clatter::handshakepattern::noise_ik;
use clatter::traits::{Dh, Handshaker};
use clatter::{KeyPair, NqHandshake};

/// The inputs of one side of a handshake.
pub(crate) struct Start<'a> {
    pub(crate) prologue: &'a [u8],
    /// Secret static key.
    pub(crate) key: &'a [u8; 32],
    /// Secret ephemeral key.
    pub(crate) ephemeral: &'a [u8; 32],
    /// The responder's public key, at the initiator.
    pub(crate) remote: Option<&'a [u8; 32]>,
}

/// A handshake of another implementation. Panics where that returns an error, except for `open`.
pub(crate) trait Handshake: Sized {
    type Transport: Transport;
    const NAME: &'static str;

    fn start(start: &Start<'_>) -> Self;
    fn write(&mut self, payload: &[u8]) -> Vec<u8>;
    fn read(&mut self, message: &[u8]) -> Vec<u8>;
    fn remote(&self) -> [u8; 32];
    fn finish(self) -> (Self::Transport, [u8; 32]);
}

/// The records after it.
pub(crate) trait Transport {
    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8>;
    fn open(&mut self, record: &[u8]) -> Option<Vec<u8>>;
    fn rekey_sender(&mut self);
    fn rekey_receiver(&mut self);
}

const OVERHEAD: usize = 16;

impl Handshake for snow::HandshakeState {
    type Transport = snow::TransportState;
    const NAME: &'static str = "snow";

    fn start(start: &Start<'_>) -> Self {
        let builder = snow::Builder::new("Noise_IK_25519_ChaChaPoly_SHA256".parse().unwrap())
            .prologue(start.prologue)
            .unwrap()
            .local_private_key(start.key)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(start.ephemeral);
        match start.remote {
            Some(remote) => builder.remote_public_key(remote).unwrap().build_initiator().unwrap(),
            None => builder.build_responder().unwrap(),
        }
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        filled(payload.len() + 96, |message| self.write_message(payload, message).unwrap())
    }

    fn read(&mut self, message: &[u8]) -> Vec<u8> {
        filled(message.len(), |payload| self.read_message(message, payload).unwrap())
    }

    fn remote(&self) -> [u8; 32] {
        self.get_remote_static().unwrap().try_into().unwrap()
    }

    fn finish(self) -> (Self::Transport, [u8; 32]) {
        let hash = self.get_handshake_hash().try_into().unwrap();
        (self.into_transport_mode().unwrap(), hash)
    }
}

impl Transport for snow::TransportState {
    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        filled(plaintext.len() + OVERHEAD, |record| self.write_message(plaintext, record).unwrap())
    }

    fn open(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let mut plaintext = vec![0; record.len()];
        let len = self.read_message(record, &mut plaintext).ok()?;
        plaintext.truncate(len);
        Some(plaintext)
    }

    fn rekey_sender(&mut self) {
        self.rekey_outgoing();
    }

    fn rekey_receiver(&mut self) {
        self.rekey_incoming();
    }
}

impl Handshake for NqHandshake<X25519, ChaChaPoly, Sha256> {
    type Transport = clatter::transportstate::TransportState<ChaChaPoly, Sha256>;
    const NAME: &'static str = "clatter";

    fn start(start: &Start<'_>) -> Self {
        let pair = |secret: &[u8; 32]| {
            let secret = SensitiveByteArray::from_slice(secret);
            KeyPair { public: X25519::pubkey(&secret), secret }
        };
        let (key, ephemeral) = (Some(pair(start.key)), Some(pair(start.ephemeral)));
        let remote = start.remote.copied();
        Self::new(noise_ik(), start.prologue, remote.is_some(), key, ephemeral, remote, None).unwrap()
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        filled(payload.len() + 96, |message| self.write_message(payload, message).unwrap())
    }

    fn read(&mut self, message: &[u8]) -> Vec<u8> {
        filled(message.len(), |payload| self.read_message(message, payload).unwrap())
    }

    fn remote(&self) -> [u8; 32] {
        self.get_remote_static().unwrap()
    }

    fn finish(self) -> (Self::Transport, [u8; 32]) {
        let transport = self.finalize().unwrap();
        let hash = transport.get_handshake_hash().as_slice().try_into().unwrap();
        (transport, hash)
    }
}

impl Transport for clatter::transportstate::TransportState<ChaChaPoly, Sha256> {
    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        filled(plaintext.len() + OVERHEAD, |record| self.send(plaintext, record).unwrap())
    }

    fn open(&mut self, record: &[u8]) -> Option<Vec<u8>> {
        let mut plaintext = vec![0; record.len()];
        let len = self.receive(record, &mut plaintext).ok()?;
        plaintext.truncate(len);
        Some(plaintext)
    }

    fn rekey_sender(&mut self) {
        Self::rekey_sender(self).unwrap();
    }

    fn rekey_receiver(&mut self) {
        Self::rekey_receiver(self).unwrap();
    }
}

/// A buffer of at most `len` bytes that `fill` fills and says how far.
fn filled(len: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let len = fill(&mut buffer);
    buffer.truncate(len);
    buffer
}
