//! Proofs that a peer holds a server's key, so that instructions know whom they list.

use super::Engine;
use super::answers::threw;
use super::turns::Who;
use crate::clock::processor_time;
use crate::command::Members;
use crate::thrown::Thrown;
use serde_json::json;
use std::time::Duration;
use tunnel_protocol::livecode::Line;
use tunnel_protocol::router::LinkId;
use tunnel_protocol::{Instant, ServerId, registration};

/// Servers of one peer; the oldest is forgotten for a further one.
const MAX_PROVEN: usize = 64;

impl Engine {
    /// Tells a peer the challenge of its link, or, if it comes with a server's proof, checks that.
    ///
    /// The proof is the one of a registration: it is for this link and for the URL under which its peer reached the relay.
    pub(super) fn prove(&mut self, link: LinkId, members: &Members<'_>, now: Instant) {
        let Some(state) = self.links.get(&link) else { return };
        let peer = state.peer.clone();
        let (Some(server), proof) = (members.named::<String>("server"), members.named::<String>("proof"))
        else {
            let challenge = ServerId::Key(peer.challenge.public()).to_string();
            self.say(link, Line::Returned(&format!("challenge {challenge}")));
            let value = json!({ "returned": challenge }).to_string();
            return self.end_with(link, members, &value, Duration::ZERO);
        };
        let start = processor_time();
        let server_id = server.parse::<ServerId>().ok();
        let key = server_id.as_ref().and_then(ServerId::key);
        let is_proven = match (key, proof.as_deref().and_then(unhex)) {
            (Some(key), Some(proof)) => registration::verify(&peer.challenge, key, &peer.url, &proof),
            _ => false,
        };
        let spent = processor_time().saturating_sub(start);
        self.share.take(spent, now);
        self.turns.charge(Who::Link(link), spent, !is_proven, now);
        let (Some(server_id), true) = (server_id, is_proven) else {
            let thrown = Thrown::new(
                "the proof is not one of this server's key, for this link and this URL of the relay",
            );
            self.say(link, Line::Returned(&thrown.line()));
            return self.end_with(link, members, &threw(&thrown), spent);
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.proven.retain(|it| *it != server_id);
            if state.proven.len() >= MAX_PROVEN {
                state.proven.remove(0);
            }
            state.proven.push(server_id);
            let (number, proven) = (state.number, state.proven.clone());
            let about = self.about(&peer, number, &proven);
            if let Some(state) = self.links.get_mut(&link) {
                state.about = about;
            }
        }
        let text = server_id.to_string();
        self.say(link, Line::Returned(&format!("proven {text}")));
        self.end_with(link, members, &json!({ "returned": text }).to_string(), spent);
    }
}

/// Reads 32 bytes in hexadecimal digits.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
