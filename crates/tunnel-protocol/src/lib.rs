//! The tunnel protocols as state machines without I/O, clock, randomness, threads or `async`.
//!
//! | layer | between | types |
//! |---|---|---|
//! | link | peer and relay, one WebSocket | [`Frame`], [`Link`](link::Link), [`Router`](router::Router) |
//! | session | peer and peer | [`Session`](session::Session), [`handshake`] |
//! | socket | application and session | [`Message`], [`Endpoint`](endpoint::Endpoint) |
//!
//! Every machine is fed with `handle_*`, commanded with verbs and drained with `poll_*`; the owner brings the
//! clock ([`Instant`]) and the randomness. The byte layouts are normative in `docs/PROTOCOL.md`.

pub mod close;
pub mod codec;
pub mod early;
pub mod endpoint;
mod entropy;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod livecode;
pub mod message;
pub mod node;
pub mod presence;
pub mod registration;
pub mod router;
pub mod server_id;
pub mod session;
pub mod sorted;
pub mod time;
mod trace;
pub mod tunnel_url;

pub use close::CloseCode;
pub use frame::{ChannelId, Frame};
pub use message::Message;
pub use server_id::ServerId;
pub use time::Instant;

/// The WebSocket subprotocol that a peer offers and the relay accepts.
pub const SUBPROTOCOL: &str = "tunnel.v1";

/// The version of the link protocol that this crate speaks.
pub const VERSION: u16 = 1;
