//! Limits for connections: how many there may be, in all and from one address, and how fast they may come. `remote` and `entrance` take places here.

use crate::Config;
use crate::bucket::{Bucket, Rate};
use crate::metrics::Refused;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tunnel_protocol::router::Network;

/// For how many seconds' worth of connections may come at once: a class that opens a page, a relay that was restarted.
const BURST_SECONDS: u32 = 4;

/// Counts connections.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limits: Limits,
    connections: usize,
    bucket: Bucket,
    networks: HashMap<Network, Taken>,
    /// At how many networks those that say nothing any more are forgotten.
    forget_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    per_address: usize,
    rate: Rate,
    rate_per_address: Rate,
}

/// The connections of a network.
#[derive(Debug)]
struct Taken {
    connections: usize,
    bucket: Bucket,
    /// Number of shares that it has.
    shares: usize,
}

/// The reason why a connection is not let in now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoPlace {
    /// The relay has all the connections that it may have.
    Connections,
    /// The address has all the connections that it may have.
    Address,
    /// Too many come at once.
    Rate,
    /// Too many come from the address at once.
    AddressRate,
}

impl NoPlace {
    /// The label under which it is counted.
    pub(crate) const fn metric(self) -> Refused {
        match self {
            Self::Connections => Refused::Connections,
            Self::Address => Refused::Address,
            Self::Rate => Refused::Rate,
            Self::AddressRate => Refused::AddressRate,
        }
    }

    /// The text that the peer gets.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Connections => "this relay has as many connections as it takes: try again later\n",
            Self::Address => "this relay takes no more connections from your address: close some\n",
            Self::Rate => "too many connect to this relay at once: try again later\n",
            Self::AddressRate => "too many connect from your address at once: try again later\n",
        }
    }
}

/// One connection's place; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place(Admission);

/// One of an address's places; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    /// `max_descriptors` is how many connections the system has room for.
    pub(crate) fn new(config: &Config, max_descriptors: usize) -> Self {
        let limits = Limits::new(config, max_descriptors);
        Self(Arc::new(Mutex::new(State {
            limits,
            connections: 0,
            bucket: Bucket::new(limits.rate, Instant::now()),
            networks: HashMap::new(),
            forget_at: 1_024,
        })))
    }

    /// Other limits; who is in stays in.
    pub(crate) fn configure(&self, config: &Config, max_descriptors: usize) {
        self.lock().limits = Limits::new(config, max_descriptors);
    }

    /// Lets a connection in.
    pub(crate) fn enter(&self, now: Instant) -> Result<Place, NoPlace> {
        let mut state = self.lock();
        let limits = state.limits;
        if state.connections >= limits.connections {
            return Err(NoPlace::Connections);
        }
        if !state.bucket.take(limits.rate, now) {
            return Err(NoPlace::Rate);
        }
        state.connections += 1;
        Ok(Place(self.clone()))
    }

    /// Lets a peer at this address in.
    pub(crate) fn enter_from(&self, address: IpAddr, now: Instant) -> Result<AddressPlace, NoPlace> {
        let mut state = self.lock();
        let limits = state.limits;
        state.forget(now);
        for (network, shares) in Network::all_of(address) {
            let rate = limits.rate_per_address.times(shares);
            let new = || Taken { connections: 0, bucket: Bucket::new(rate, now), shares };
            let taken = state.networks.entry(network).or_insert_with(new);
            if taken.connections >= limits.per_address.saturating_mul(shares) {
                return Err(NoPlace::Address);
            }
            // The smaller network keeps what it has taken from its rate when a larger one refuses: it would have had to wait, too.
            if !taken.bucket.take(rate, now) {
                return Err(NoPlace::AddressRate);
            }
        }
        for (network, _) in Network::all_of(address) {
            if let Some(taken) = state.networks.get_mut(&network) {
                taken.connections += 1;
            }
        }
        Ok(AddressPlace { admission: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets addresses that are treated as new ones anyway, now and then.
    fn forget(&mut self, now: Instant) {
        if self.networks.len() < self.forget_at {
            return;
        }
        let rate = self.limits.rate_per_address;
        self.networks
            .retain(|_, taken| taken.connections > 0 || !taken.bucket.is_full(rate.times(taken.shares), now));
        self.forget_at = (2 * self.networks.len()).max(1_024);
    }
}

impl Limits {
    fn new(config: &Config, max_descriptors: usize) -> Self {
        Self {
            connections: config.max_connections.min(max_descriptors),
            per_address: config.max_connections_per_address,
            rate: Rate::new(config.accept_rate, BURST_SECONDS),
            rate_per_address: Rate::new(config.accept_rate_per_address, BURST_SECONDS),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().connections -= 1;
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        for (network, _) in Network::all_of(self.address) {
            if let Some(taken) = state.networks.get_mut(&network) {
                taken.connections -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;
    use std::time::Duration;

    fn admission(change: impl FnOnce(&mut Config)) -> Admission {
        let mut config = Config { accept_rate: 0, accept_rate_per_address: 0, ..Config::default() };
        change(&mut config);
        Admission::new(&config, usize::MAX)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_connections_get_in_and_a_place_that_is_left_is_free() {
        let (admission, now) = (admission(|config| config.max_connections = 2), Instant::now());
        let first = admission.enter(now).unwrap();
        let _second = admission.enter(now).unwrap();
        assert_eq!(admission.enter(now).unwrap_err(), NoPlace::Connections);
        drop(first);
        assert!(admission.enter(now).is_ok());
    }

    #[test]
    fn descriptors_bound_connections_too() {
        let admission = Admission::new(&Config::default(), 1);
        let _only = admission.enter(Instant::now()).unwrap();
        assert_eq!(admission.enter(Instant::now()).unwrap_err(), NoPlace::Connections);
    }

    #[test]
    fn an_address_is_what_one_subscriber_has() {
        let now = Instant::now();
        for (first, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8:0:0:ffff::9", "2001:db8:0:1::1"),
        ] {
            let admission = admission(|config| config.max_connections_per_address = 1);
            let place = admission.enter_from(ip(first), now).unwrap();
            assert_eq!(admission.enter_from(ip(same), now).unwrap_err(), NoPlace::Address);
            assert!(admission.enter_from(ip(other), now).is_ok());
            drop(place);
            assert!(admission.enter_from(ip(same), now).is_ok());
        }
    }

    #[test]
    fn a_subscriber_with_many_networks_does_not_fill_everything() {
        let now = Instant::now();
        let admission = admission(|config| config.max_connections_per_address = 10);
        let mut places = Vec::new();
        let mut fill = |networks: u32| {
            let before = places.len();
            for network in 0..networks {
                let address = Ipv6Addr::new(0x2001, 0xdb8, 0, network as u16, 0, 0, 0, 1);
                places.extend(std::iter::from_fn(|| admission.enter_from(address.into(), now).ok()));
            }
            places.len() - before
        };
        assert_eq!(fill(1), 10, "a /64");
        assert_eq!(fill(256), 10, "a /56 has as much as two");
        assert_eq!(fill(65_536), 20, "a /48 has as much as four");
        drop(places);
        assert!(admission.enter_from(ip("2001:db8::1"), now).is_ok());
    }

    #[test]
    fn a_flood_from_one_address_uses_up_its_own_rate_only() {
        let (admission, now) = (admission(|config| config.accept_rate_per_address = 5), Instant::now());
        let let_in = (0..100).filter(|_| admission.enter_from(ip("192.0.2.1"), now).is_ok()).count();
        assert_eq!(let_in, 20);
        assert_eq!(admission.enter_from(ip("192.0.2.1"), now).unwrap_err(), NoPlace::AddressRate);
        assert!(admission.enter_from(ip("192.0.2.2"), now).is_ok());
        assert!(admission.enter_from(ip("192.0.2.1"), now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_flood_of_all_has_a_rate() {
        let (admission, now) = (admission(|config| config.accept_rate = 5), Instant::now());
        let let_in = (0..100).filter(|_| admission.enter(now).is_ok()).count();
        assert_eq!(let_in, 20);
        assert_eq!(admission.enter(now).unwrap_err(), NoPlace::Rate);
    }

    #[test]
    fn addresses_that_left_are_forgotten() {
        let (admission, start) = (admission(|config| config.accept_rate_per_address = 5), Instant::now());
        let stays = admission.enter_from(ip("192.0.2.1"), start).unwrap();
        for number in 0..100_000_u32 {
            let address = Ipv6Addr::from_bits(u128::from(number) << 80);
            let now = start + Duration::from_millis(number.into());
            drop(admission.enter_from(address.into(), now).unwrap());
        }
        let known = admission.lock().networks.len();
        assert!(known < 6_000, "{known}");
        drop(stays);
    }

    #[test]
    fn other_limits_hold_for_newcomers() {
        let (admission, now) = (admission(|config| config.max_connections = 1), Instant::now());
        let _first = admission.enter(now).unwrap();
        admission.configure(&Config { accept_rate: 0, ..Config::default() }, usize::MAX);
        assert!(admission.enter(now).is_ok());
    }
}
