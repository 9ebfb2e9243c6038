//! The rights of peers.

use crate::ServerId;
use std::fmt;
use std::ops::RangeInclusive;

/// Decides what the access tokens in HELLO are worth.
///
/// It is asked once for each link, and may look at a clock.
pub trait Access: fmt::Debug + Send + Sync {
    /// The rights of the token's holders.
    ///
    /// # Errors
    ///
    /// The holder may do nothing. The text is told to the peer: it must not help to guess.
    fn check(&self, token: &str) -> Result<Grant, String>;
}

/// The rights of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// True if it may register a server.
    pub host: bool,
    /// True if it may connect to servers.
    pub connect: bool,
    /// The only server that it may register or connect to; `None`: any.
    pub server: Option<ServerId>,
    /// The ports that it may connect to.
    pub ports: RangeInclusive<u16>,
}

impl Grant {
    /// Everything.
    pub const ALL: Self = Self { host: true, connect: true, server: None, ports: 0..=u16::MAX };

    fn is_about(&self, server_id: &ServerId) -> bool {
        self.server.is_none_or(|only| only == *server_id)
    }

    /// Returns the reason if it may not register a server.
    pub(super) fn forbids_host(&self, server_id: &ServerId) -> Option<&'static str> {
        if !self.host {
            Some("the access token does not allow to host a server")
        } else if !self.is_about(server_id) {
            Some("the access token allows to host another server only")
        } else {
            None
        }
    }

    /// Returns the reason if it may not connect to a server.
    pub(super) fn forbids_connect(&self, server_id: &ServerId, port: u16) -> Option<&'static str> {
        if !self.connect {
            Some("the access token does not allow to connect")
        } else if !self.is_about(server_id) {
            Some("the access token allows to connect to another server only")
        } else if !self.ports.contains(&port) {
            Some("the access token does not allow to connect to this port")
        } else {
            None
        }
    }
}
