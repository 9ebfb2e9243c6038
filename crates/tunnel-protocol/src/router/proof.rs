//! The proof in a REGISTER, which the owner may check outside of the router: it takes as long as forwarding a hundred messages.

use super::link::{LinkState, Stage};
use super::{Dialect, Drain, LinkId, Peer, Router, Violation};
use crate::frame::{Frame, HEADER_LEN};
use crate::server_id::PublicKey;
use crate::{CloseCode, ServerId, registration};

/// A REGISTER and whether its proof is right.
///
/// Checking takes a key agreement, as long as forwarding a hundred messages. An owner that has the router behind a
/// lock asks [`Router::wants_proof`](super::Router::wants_proof) first, checks without the lock, and calls
/// [`Router::handle_registration`](super::Router::handle_registration).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    pub(super) server_id: ServerId,
    pub(super) proof: [u8; 32],
    pub(super) is_proven: bool,
    /// The URL that the server says it dialled, if the proof is wrong.
    pub(super) dialled: String,
    len: usize,
}

impl Registration {
    /// Length of the message, in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no message is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Checks a message of a peer, if it is a REGISTER.
    #[must_use]
    pub fn of_message(message: &[u8], peer: &Peer) -> Option<Self> {
        let (key, proof, url) = read(message, peer)?;
        Some(Self::check(key, proof, url, peer))
    }

    pub(super) fn check(key: PublicKey, proof: [u8; 32], url: String, peer: &Peer) -> Self {
        let is_proven = registration::verify(&peer.challenge, &key, &peer.url, &proof);
        let len = HEADER_LEN + 66 + url.len();
        let dialled = if is_proven { String::new() } else { url };
        Self { server_id: ServerId::Key(key), proof, is_proven, dialled, len }
    }
}

/// The key, the proof and the URL of a REGISTER; `None` if the message is another one.
fn read(message: &[u8], peer: &Peer) -> Option<(PublicKey, [u8; 32], String)> {
    if peer.dialect != Dialect::Tunnel || message.first() != Some(&crate::frame::REGISTER) {
        return None;
    }
    match Frame::decode(message.to_vec().into()) {
        Ok(Some(Frame::Register { key, proof, url })) => Some((key, proof, url)),
        _ => None,
    }
}

impl Router {
    /// Returns whether the message is a REGISTER whose proof is all that is left to check: its link has said HELLO, may host
    /// this server, and there is room for it. What [`handle_message`](Self::handle_message) refuses for another
    /// reason, or answers again, costs no key agreement.
    #[must_use]
    pub fn wants_proof(&self, link: LinkId, message: &[u8]) -> bool {
        let is_ready = |state: &&LinkState| state.stage == Stage::Ready && state.node.is_none();
        let Some(state) = self.links.get(link.0).filter(is_ready) else { return false };
        read(message, &state.peer).is_some_and(|(key, ..)| {
            state.registered.is_none()
                && self.drain == Drain::No
                && self.forbids(link, &ServerId::Key(key)).is_none()
        })
    }

    /// Returns the reason if a link may not register a server, whatever its proof is.
    pub(super) fn forbids(&self, link: LinkId, server_id: &ServerId) -> Option<Violation> {
        let state = self.links.get(link.0)?;
        if let Some(text) = state.grant.as_ref().and_then(|grant| grant.forbids_host(server_id)) {
            return Some(Violation { code: CloseCode::BAD_CREDENTIAL, text: text.to_owned() });
        }
        if self.registrations.contains_key(server_id) {
            return None;
        }
        let text = if self.registrations.len() >= self.config.max_registrations {
            "the relay has as many servers as it takes: try again later"
        } else if !self
            .registered_from
            .have_room(&state.peer.address, self.config.max_registrations_per_address)
        {
            "the relay has as many servers from this address as it takes: try again later"
        } else {
            return None;
        };
        Some(Violation { code: CloseCode::TRY_AGAIN_LATER, text: text.to_owned() })
    }
}
