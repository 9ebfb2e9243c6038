//! Shares by address: something is taken from the shares of an address and of the networks around it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IPv4 address, or the first bits of IPv6 ones: what is likely to belong to one subscriber.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Network {
    first: Ipv6Addr,
    len: u8,
}

impl Network {
    /// The networks that a share is counted for, each with how many shares it has: one for an IPv4 address or a /64 of
    /// IPv6, two for a /56, four for a /48. A subscriber may have all the 256 or 65,536 networks in those.
    pub fn all_of(address: IpAddr) -> impl Iterator<Item = (Self, usize)> {
        let (bits, lens) = match address.to_canonical() {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), &[(128, 1)][..]),
            IpAddr::V6(address) => (address, &[(64, 1), (56, 2), (48, 4)][..]),
        };
        lens.iter().map(move |&(len, shares)| {
            let first = Ipv6Addr::from_bits(bits.to_bits() & (u128::MAX << (128 - u32::from(len))));
            (Self { first, len }, shares)
        })
    }

    /// Returns the networks of an address as peers are told it. All texts that are no address have one share together.
    pub(super) fn all_of_text(address: &str) -> impl Iterator<Item = (Self, usize)> {
        let parsed = address.parse::<IpAddr>();
        let parsed = parsed.or_else(|_| address.parse::<SocketAddr>().map(|address| address.ip()));
        Self::all_of(parsed.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
    }
}

/// Counts by network.
#[derive(Debug, Default)]
pub(super) struct Shares(BTreeMap<Network, usize>);

impl Shares {
    /// Returns whether one more fits into the shares of an address, which is `share` for its smallest network.
    pub(super) fn have_room(&self, address: &str, share: usize) -> bool {
        let has = |network| self.0.get(&network).copied().unwrap_or_default();
        Network::all_of_text(address).all(|(network, shares)| has(network) < share.saturating_mul(shares))
    }

    pub(super) fn add(&mut self, address: &str) {
        for (network, _) in Network::all_of_text(address) {
            *self.0.entry(network).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, address: &str) {
        for (network, _) in Network::all_of_text(address) {
            if let Some(count) = self.0.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(&network);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> &BTreeMap<Network, usize> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_shares_for_itself_and_for_those_around_it() {
        let mut shares = Shares::default();
        let mut taken = |subnet: u32| {
            let address = format!("2001:db8:0:{subnet:x}::1");
            let room = shares.have_room(&address, 10);
            if room {
                shares.add(&address);
            }
            room
        };
        assert_eq!((0..100).filter(|_| taken(0)).count(), 10, "a /64");
        assert_eq!((0..256).filter(|subnet| taken(*subnet)).count(), 10, "two shares for its /56");
        assert_eq!((0..65_536).filter(|subnet| taken(*subnet)).count(), 20, "four for its /48");
        for subnet in 0..65_536 {
            let address = format!("2001:db8:0:{subnet:x}::1");
            while shares.0.contains_key(&Network::all_of_text(&address).next().unwrap().0) {
                shares.remove(&address);
            }
        }
        assert!(shares.0.is_empty());
    }

    #[test]
    fn an_address_is_read_with_and_without_a_port() {
        let first = |text: &str| Network::all_of_text(text).collect::<Vec<_>>();
        assert_eq!(first("192.0.2.1:80"), first("192.0.2.1"));
        assert_eq!(first("::ffff:192.0.2.1"), first("192.0.2.1"));
        assert_eq!(first("[2001:db8::1]:80"), first("2001:db8::2"));
        assert_ne!(first("192.0.2.2"), first("192.0.2.1"));
        assert_eq!(first("nonsense"), first(""));
    }
}
