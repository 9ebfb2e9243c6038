//! The adapter for links through relays that speak the livecode dialect, which the endpoint's owner brings.

use crate::frame::ChannelId;
use crate::link::{LinkError, LinkEvent};
use crate::server_id::PublicKey;
use crate::{CloseCode, Instant};
use bytes::Bytes;
use std::fmt;

/// `Send` wherever there are threads: an [`Endpoint`](super::Endpoint) can then change its own. A page's JavaScript objects can't.
#[cfg(not(target_family = "wasm"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_family = "wasm"))]
impl<T: Send> MaybeSend for T {}
/// Asks for nothing, where there are no threads.
#[cfg(target_family = "wasm")]
pub trait MaybeSend {}
#[cfg(target_family = "wasm")]
impl<T> MaybeSend for T {}

/// Protocol state of one WebSocket to a livecoding relay: a [`LivecodeLink`](crate::livecode::LivecodeLink), or something that stands for one.
///
/// Few relays speak the dialect, so a page loads what reads and writes it when its relay turns out to.
pub trait Translator: MaybeSend {
    /// Installs this peer as a server: under its old number, if [`installation`](Self::installation) was not empty on the link before.
    fn register(&mut self, key: PublicKey, installation: &str);
    /// The server's number and the credential that gets it back, as the relay said them; or empty.
    fn installation(&self) -> String;
    /// Connects to a server. [`LinkEvent::ServerKey`] tells for whom the handshake has to be.
    fn connect(&mut self, number: u32, port: u16) -> ChannelId;
    /// Sends the client's handshake message.
    fn initiate(&mut self, channel: ChannelId, message: Bytes);
    /// Sends the server's handshake message.
    fn respond(&mut self, channel: ChannelId, message: Bytes);
    /// Sends one record.
    fn send_record(&mut self, channel: ChannelId, record: Bytes);
    /// Sends text to a peer that does not encrypt.
    fn send_plain(&mut self, channel: ChannelId, text: &str);
    /// Ends a channel.
    fn close(&mut self, channel: ChannelId, code: CloseCode, reason: &str);
    /// Takes in one text message.
    ///
    /// # Errors
    ///
    /// The link has to end for the reason returned.
    fn handle_text(&mut self, text: &str, now: Instant) -> Result<(), LinkError>;
    /// Acts on the clock.
    ///
    /// # Errors
    ///
    /// The link has to end for the reason returned.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError>;
    /// The next text message to send.
    fn poll_transmit(&mut self, now: Instant) -> Option<String>;
    /// Returns the next event, in order; [`LinkEvent::Ready`] first.
    fn poll_event(&mut self) -> Option<LinkEvent>;
    /// The time at which to call [`handle_timeout`](Self::handle_timeout).
    fn poll_timeout(&self) -> Option<Instant>;
    /// Returns whether the channel is open and the relay keeps up; after a `false`, [`LinkEvent::Writable`] tells when it does.
    fn may_send(&mut self, channel: ChannelId) -> bool;
}

/// Prints only the type's name, so that `Debug` of an `Endpoint` does not need `Debug` of the implementation.
impl fmt::Debug for dyn Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Translator")
    }
}
