//! New sessions of sockets that redial.

use super::sync::Shared;
use super::{Engine, SocketState};
use tunnel_protocol::Message;
use tunnel_protocol::endpoint::SocketId;

/// A socket's new session with a server that was reloaded, as the function hears of it that
/// [`Socket::on_reopened`](super::Socket::on_reopened) was given.
pub struct Reopened<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) id: SocketId,
    pub(super) state: &'a Shared<SocketState>,
    pub(super) protocol: String,
}

impl Reopened<'_> {
    /// The subprotocol that the server has chosen this time, or empty.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Sends a message before all that has waited for the new session.
    pub fn send(&self, message: impl Into<Message>) {
        self.engine.send(self.id, self.state.clone(), message.into());
    }

    /// Takes out what is not known to have arrived, as [`Socket::unacknowledged`](super::Socket::unacknowledged) does.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<Message> {
        self.state.take_unacknowledged(self.engine, self.id)
    }
}

impl std::fmt::Debug for Reopened<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reopened").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
