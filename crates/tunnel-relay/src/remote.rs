//! The other end of a TCP connection: its address, and the places that it takes. `server` makes one for each connection, before a byte is read of it.

use crate::admission::{AddressPlace, NoPlace, Place};
use crate::client;
use crate::config::Config;
use crate::hosts::Way;
use crate::shared::Shared;
use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// The other end of a TCP connection, and the places that it takes.
#[derive(Debug)]
pub(crate) struct Remote {
    /// The peer's, or that of the trusted proxy before it.
    pub(crate) address: IpAddr,
    /// True for a trusted proxy, which has to say whose requests it passes on.
    pub(crate) is_proxy: bool,
    /// True if the relay speaks TLS with it.
    is_secure: bool,
    /// The relay's own address, which it came to.
    pub(crate) local: IpAddr,
    pub(crate) config: Arc<Config>,
    _place: Place,
    /// The address's own place; a trusted proxy has none.
    pub(crate) own: Option<AddressPlace>,
}

impl Remote {
    /// Finds places for a new connection.
    pub(crate) fn admit(shared: &Shared, address: SocketAddr) -> Result<Self, NoPlace> {
        let (config, now) = (shared.config(), Instant::now());
        let address = address.ip().to_canonical();
        let is_proxy = client::is_trusted(&config.trusted_proxies, address);
        // The address first: a flood from one does not use up the rate of all.
        let own = if is_proxy { None } else { Some(shared.admission.enter_from(address, now)?) };
        let (is_secure, local) = (shared.tls.is_some(), config.listen.ip());
        Ok(Self { address, is_proxy, is_secure, local, config, _place: shared.admission.enter(now)?, own })
    }

    /// The way by which it reached the relay.
    pub(crate) const fn way(&self) -> Way {
        Way { local: self.local, is_secure: self.is_secure, is_proxy: self.is_proxy }
    }

    /// The address of the peer that sent a request.
    pub(crate) fn seen_in(&self, config: &Config, headers: &HeaderMap) -> IpAddr {
        if !self.is_proxy {
            return self.address;
        }
        client::forwarded(config.client_address, &config.trusted_proxies, headers, self.address)
    }
}
