//! The interface between the API and the owner of an endpoint, which does its I/O: in a page, the driver.

use super::SocketState;
use std::rc::Rc;
use tunnel_protocol::endpoint::{SocketId, SocketStats};
use tunnel_protocol::{CloseCode, Message};

/// Commands for sockets and servers. All return at once; what comes of them comes as events.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only pages have an engine yet"))]
pub(crate) trait Engine {
    /// Sends a message. A socket that has ended drops it.
    fn send(&self, id: SocketId, state: Rc<SocketState>, message: Message);
    /// Lets the peer send as many bytes again.
    fn consume(&self, id: SocketId, bytes: usize);
    /// Bytes that were sent and have not left.
    fn buffered_amount(&self, id: SocketId) -> usize;
    /// Closes behind what has been sent.
    fn close(&self, id: SocketId, code: Option<CloseCode>, reason: &str);
    /// The counters, while the socket lives.
    fn stats(&self, id: SocketId) -> Option<SocketStats>;
    /// Lets a client in, whose messages may be `max_message` bytes long; its events go to `state`.
    fn accept(&self, id: SocketId, state: Rc<SocketState>, protocol: &str, max_message: u64);
    /// Turns a client away.
    fn refuse(&self, id: SocketId, code: CloseCode, reason: &str);
    /// Closes the clients of the server with 1001, then unregisters it.
    fn unhost(&self);
}
