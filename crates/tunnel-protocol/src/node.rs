//! The relays of one cluster: the frames that only they say to each other, and the proof that each knows the cluster's secret.
//!
//! A link between two relays is a `tunnel.v1` link on which the relay that dialled, the *entry*, is a client of the other one, the
//! *owner*. The byte layouts are normative in `docs/PROTOCOL.md`, section 1.11.

use crate::ServerId;
use crate::codec::{DecodeError, Reader, put_str8, put_u16, put_u32};
use crate::frame::{ChannelId, ChannelKind, HEADER_LEN, channel_kind, server_id};
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The WebSocket subprotocol of a link between two relays.
pub const NODE_SUBPROTOCOL: &str = "tunnel.node.v1";

/// Shortest secret of a cluster, in bytes: who can pretend to be a relay's address could look for a shorter one at home.
pub const MIN_CLUSTER_SECRET: usize = 32;

/// The number of bytes by which a FORWARD may be longer than other frames: the client's address.
pub const FORWARD_OVERHEAD: usize = 256;

/// The secret that the relays of a cluster share. Wiped when dropped; `Debug` does not print it.
#[derive(Clone)]
pub struct ClusterSecret(Arc<Zeroizing<[u8; 32]>>);

/// The two ends of a link between relays: each proves something else, so that neither can hand back what it was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeRole {
    /// The relay that dialled: its clients want servers of the other one.
    Entry,
    /// The relay that was dialled: its servers are wanted.
    Owner,
}

/// The facts about a link between relays that both proofs cover.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeLinkFacts<'a> {
    /// The name of the relay that dialled.
    pub entry: &'a str,
    /// Its challenge: 32 random bytes.
    pub entry_challenge: &'a [u8; 32],
    /// The name of the relay that was dialled.
    pub owner: &'a str,
    /// Its challenge: 32 random bytes.
    pub owner_challenge: &'a [u8; 32],
}

/// A frame that only relays say to each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeFrame {
    /// Owner to entry, first.
    Challenge {
        /// Longest frame that the owner takes or sends, in bytes.
        max_frame: u32,
        /// 32 random bytes.
        challenge: [u8; 32],
        /// The owner's name.
        node: String,
    },
    /// Entry to owner, the answer.
    Proof {
        /// 32 random bytes.
        challenge: [u8; 32],
        /// Proof that the entry knows the cluster's secret.
        proof: [u8; 32],
        /// The entry's name.
        node: String,
    },
    /// Owner to entry: the link is in use.
    Proven {
        /// Proof that the owner knows the cluster's secret.
        proof: [u8; 32],
    },
    /// Entry to owner: a client's CONNECT and its address.
    Forward {
        /// Chosen by the entry, odd, greater than any before it on the link.
        channel: ChannelId,
        /// The server to reach.
        server_id: ServerId,
        /// The port of the server.
        port: u16,
        /// The kind of the channel.
        kind: ChannelKind,
        /// The client's address as the entry sees it.
        address: String,
        /// The first handshake message.
        payload: Bytes,
    },
    /// Either way: whether its sender can reach the bus between the relays.
    Bus {
        /// True if it can.
        is_well: bool,
    },
}

/// Type of [`NodeFrame::Bus`] on the wire.
const BUS: u8 = 0x10;
const FORWARD: u8 = 0x90;
const CHALLENGE: u8 = 0x91;
const PROOF: u8 = 0x92;
const PROVEN: u8 = 0x93;

impl ClusterSecret {
    /// A secret of at least [`MIN_CLUSTER_SECRET`] bytes; `None` if it is shorter.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let hash = Sha256::new().chain_update(b"tunnel cluster secret").chain_update(secret).finalize();
        (secret.len() >= MIN_CLUSTER_SECRET).then(|| Self(Arc::new(Zeroizing::new(hash.into()))))
    }

    /// Proves, in a role, to the other end of a link that the secret is known here.
    #[must_use]
    pub fn prove(&self, role: NodeRole, facts: &NodeLinkFacts<'_>) -> [u8; 32] {
        self.node_mac(role, facts).finalize().into_bytes().into()
    }

    /// Returns whether a proof was made in a role by a relay that knows the secret. Takes the same time wherever it is wrong.
    #[must_use]
    pub fn verify(&self, role: NodeRole, facts: &NodeLinkFacts<'_>, proof: &[u8; 32]) -> bool {
        self.node_mac(role, facts).verify(proof.into()).is_ok()
    }

    fn node_mac(&self, role: NodeRole, facts: &NodeLinkFacts<'_>) -> Hmac<Sha256> {
        let context: &[u8] = match role {
            NodeRole::Entry => b"tunnel.node.v1 entry",
            NodeRole::Owner => b"tunnel.node.v1 owner",
        };
        let mut mac = self.mac(context);
        mac.update(facts.owner_challenge);
        mac.update(facts.entry_challenge);
        for name in [facts.owner, facts.entry] {
            mac.update(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(name.as_bytes());
        }
        mac
    }

    /// A keyed hash for one purpose: no other use hashes anything that begins with `context`.
    pub(crate) fn mac(&self, context: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&**self.0).expect("HMAC takes keys of any length");
        mac.update(context);
        mac.update(&[0]);
        mac
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl NodeFrame {
    /// Reads a frame from one WebSocket message; `None`: it is none of these.
    ///
    /// # Errors
    ///
    /// The frame is malformed. The link can't go on after that.
    pub fn decode(message: &Bytes) -> Result<Option<Self>, DecodeError> {
        let Some(kind @ (BUS | FORWARD..=PROVEN)) = message.first().copied() else { return Ok(None) };
        let mut reader = Reader::new(message.slice(1..));
        let channel = ChannelId(reader.u32("channel"));
        reader.require((channel == ChannelId::LINK) == (kind != FORWARD), "channel");
        let frame = match kind {
            CHALLENGE => Self::Challenge {
                max_frame: reader.u32("max_frame"),
                challenge: reader.array("challenge"),
                node: reader.str8("node"),
            },
            PROOF => Self::Proof {
                challenge: reader.array("challenge"),
                proof: reader.array("proof"),
                node: reader.str8("node"),
            },
            PROVEN => Self::Proven { proof: reader.array("proof") },
            FORWARD => Self::Forward {
                channel,
                server_id: server_id(&mut reader),
                port: reader.u16("port"),
                kind: channel_kind(&mut reader),
                address: reader.str8("address"),
                payload: reader.rest(),
            },
            _ => {
                let is_well = reader.u8("is_well");
                reader.require(is_well <= 1, "is_well");
                Self::Bus { is_well: is_well == 1 }
            }
        };
        reader.end()?;
        Ok(Some(frame))
    }

    /// Writes the frame as one WebSocket message. Texts that are longer than the format allows are cut between characters.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, channel, hint) = match self {
            Self::Challenge { .. } => (CHALLENGE, ChannelId::LINK, 64),
            Self::Proof { .. } => (PROOF, ChannelId::LINK, 128),
            Self::Proven { .. } => (PROVEN, ChannelId::LINK, 32),
            Self::Forward { channel, payload, .. } => (FORWARD, *channel, payload.len() + 128),
            Self::Bus { .. } => (BUS, ChannelId::LINK, 1),
        };
        let mut out = BytesMut::with_capacity(HEADER_LEN + hint);
        out.put_u8(kind);
        put_u32(&mut out, channel.0);
        match self {
            Self::Challenge { max_frame, challenge, node } => {
                put_u32(&mut out, *max_frame);
                out.put_slice(challenge);
                put_str8(&mut out, node);
            }
            Self::Proof { challenge, proof, node } => {
                out.put_slice(challenge);
                out.put_slice(proof);
                put_str8(&mut out, node);
            }
            Self::Proven { proof } => out.put_slice(proof),
            Self::Forward { server_id, port, kind, address, payload, .. } => {
                put_str8(&mut out, &server_id.to_string());
                put_u16(&mut out, *port);
                out.put_u8(kind.to_byte());
                put_str8(&mut out, address);
                out.put_slice(payload);
            }
            Self::Bus { is_well } => out.put_u8(u8::from(*is_well)),
        }
        out.freeze()
    }

    /// The frame's name in `docs/PROTOCOL.md`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Challenge { .. } => "CHALLENGE",
            Self::Proof { .. } => "PROOF",
            Self::Proven { .. } => "PROVEN",
            Self::Forward { .. } => "FORWARD",
            Self::Bus { .. } => "BUS",
        }
    }
}

#[cfg(test)]
mod tests;
