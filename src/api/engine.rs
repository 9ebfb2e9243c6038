//! The interface between the API and the owner of an endpoint, which does its I/O: in a page, the driver.

use super::SocketState;
use super::sync::{MaybeSync, Shared};
use tunnel_protocol::endpoint::{MaybeSend, SocketId, SocketStats};
use tunnel_protocol::{CloseCode, Message};

/// Commands for sockets and servers. All return at once; what comes of them comes as events.
#[cfg_attr(
    not(any(target_family = "wasm", feature = "native")),
    allow(dead_code, reason = "there is no driver without the feature `native`")
)]
pub(crate) trait Engine: MaybeSync {
    /// Sends a message. A socket that has ended drops it.
    fn send(&self, id: SocketId, state: Shared<SocketState>, message: Message);
    /// Lets the peer send as many bytes again.
    fn consume(&self, id: SocketId, bytes: usize);
    /// Bytes that were sent and have not left.
    fn buffered_amount(&self, id: SocketId) -> usize;
    /// Closes behind what has been sent.
    fn close(&self, id: SocketId, code: Option<CloseCode>, reason: &str);
    /// Ends a socket at once.
    fn abort(&self, id: SocketId, code: CloseCode, reason: &str);
    /// The counters, while the socket lives.
    fn stats(&self, id: SocketId) -> Option<SocketStats>;
    /// Lets a client in, whose messages may be `max_message` bytes long; its events go to `state`. Returns whether it is still
    /// there.
    fn accept(&self, id: SocketId, state: Shared<SocketState>, protocol: &str, max_message: u64) -> bool;
    /// Turns a client away.
    fn refuse(&self, id: SocketId, code: CloseCode, reason: &str);
    /// Messages sent from now on go out before those that wait for the socket's new session.
    fn greet(&self, id: SocketId);
    /// Sends what has waited for the new session.
    fn flush(&self, id: SocketId);
    /// Takes out what is not known to have arrived, of sessions that are lost, while the socket lives.
    fn take_unacknowledged(&self, id: SocketId) -> Vec<Message>;
    /// Closes the clients of the server with 1001, then unregisters it.
    fn unhost(&self);
}

/// A text that outlives the page, for the next server under the identity. It is kept for a while from when this is dropped.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages can park anything"))]
pub(crate) trait Parking: MaybeSend {
    /// The text that was parked last, by this page or by the one before it.
    fn text(&self) -> Option<String>;
    /// Parks a text. An error is a sentence.
    fn set(&self, text: &str) -> Result<(), String>;
}
