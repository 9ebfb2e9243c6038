use super::{Dialect, Peer};
use crate::frame::{Frame, HEADER_LEN};
use crate::server_id::PublicKey;
use crate::{ServerId, registration};

/// A REGISTER and whether its proof is right.
///
/// Checking takes a key agreement, as long as forwarding a hundred messages. An owner that has the router behind a
/// lock checks before it takes the lock and calls
/// [`Router::handle_registration`](super::Router::handle_registration).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registration {
    pub(super) server_id: ServerId,
    pub(super) proof: [u8; 32],
    pub(super) is_proven: bool,
}

impl Registration {
    /// Length of the message, in bytes: a header, a key and a proof.
    pub const LEN: usize = HEADER_LEN + 64;

    /// Checks a message of a peer, if it is a REGISTER. `known` is the last one of the same peer that was checked:
    /// the same question again costs nothing.
    #[must_use]
    pub fn of_message(message: &[u8], peer: &Peer, known: Option<&Self>) -> Option<Self> {
        if peer.dialect != Dialect::Tunnel || message.first() != Some(&crate::frame::REGISTER) {
            return None;
        }
        let Ok(Some(Frame::Register { key, proof })) = Frame::decode(message.to_vec().into()) else {
            return None;
        };
        let known = known.filter(|known| known.server_id == ServerId::Key(key) && known.proof == proof);
        Some(known.copied().unwrap_or_else(|| Self::check(key, proof, peer)))
    }

    pub(super) fn check(key: PublicKey, proof: [u8; 32], peer: &Peer) -> Self {
        let is_proven = registration::verify(&peer.challenge, &key, &peer.origin, &proof);
        Self { server_id: ServerId::Key(key), proof, is_proven }
    }
}
