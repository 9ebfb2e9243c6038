//! The claims of listeners on ports, for both faces of a server: [`api::server`](super::server) and the classes of the npm
//! package.

use super::Error;
use std::ops::RangeInclusive;
use tunnel_protocol::CloseCode;

/// Clients that wait to be taken by one who accepts them; more are refused, as a full `listen` backlog does.
pub(crate) const MAX_BACKLOG: usize = 128;

/// The close code and the reason that a refused client gets.
pub(crate) type Refusal = (CloseCode, String);

/// The refusal of a client that wants a port without a listener.
pub(crate) fn nobody_listens(port: u16) -> Refusal {
    (CloseCode::PORT_CLOSED, format!("nobody listens on port {port}"))
}

/// The refusal of a client when [`MAX_BACKLOG`] others wait.
pub(crate) fn backlog_is_full(port: u16) -> Refusal {
    (CloseCode::TRY_AGAIN_LATER, format!("too many connections wait to be accepted on port {port}"))
}

/// A port or a range of ports, for [`Server::listen`](super::Server::listen).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// From the first port to the last. A range whose last port is below its first has none, and cannot be claimed.
    #[cfg_attr(
        not(all(target_family = "wasm", feature = "npm")),
        allow(dead_code, reason = "the classes of the npm package have ranges of this form")
    )]
    pub(crate) const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), last: *range.end() }
    }
}

/// The claims on the ports of a server: each has an owner, and ports that no other claim has.
#[derive(Debug)]
pub(crate) struct Claims<T> {
    claims: Vec<(Vec<Ports>, T)>,
}

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self { claims: Vec::new() }
    }
}

impl<T> Claims<T> {
    /// Claims ports that nobody has: all of them or, with an error, none.
    pub(crate) fn claim(&mut self, ports: Vec<Ports>, owner: T) -> Result<(), Error> {
        for (index, range) in ports.iter().enumerate() {
            if range.first > range.last {
                return Err(Error::NoPorts(range.first, range.last));
            }
            let mut taken = self.claims.iter().flat_map(|(ports, _)| ports).chain(ports.iter().take(index));
            if let Some(other) = taken.find(|other| other.overlaps(*range)) {
                return Err(Error::PortTaken(other.first.max(range.first)));
            }
        }
        self.claims.push((ports, owner));
        Ok(())
    }

    /// Drops the claims of which this is not true.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.claims.retain(|(_, owner)| keep(owner));
    }

    /// The owner of a port.
    pub(crate) fn owner(&mut self, port: u16) -> Option<&mut T> {
        let mut claims = self.claims.iter_mut();
        claims.find(|(ports, _)| ports.iter().any(|range| range.contains(port))).map(|(_, owner)| owner)
    }

    /// Returns whether nobody has claimed anything.
    #[cfg_attr(
        not(all(target_family = "wasm", feature = "npm")),
        allow(dead_code, reason = "the classes of the npm package have a default owner")
    )]
    pub(crate) const fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_whoever_claimed_it_first() {
        let mut claims = Claims::default();
        claims.claim(vec![80.into()], "web").unwrap();
        claims.claim(vec![(6000..=6009).into(), 7100.into()], "display").unwrap();
        assert_eq!(claims.claim(vec![(6009..=7000).into()], "other"), Err(Error::PortTaken(6009)));
        assert_eq!(claims.claim(vec![(0..=65535).into()], "other"), Err(Error::PortTaken(80)));
        assert_eq!(claims.owner(6005), Some(&mut "display"));
        assert_eq!(claims.owner(7100), Some(&mut "display"));
        assert_eq!(claims.owner(81), None);
    }

    #[test]
    fn a_claim_whose_ports_are_taken_in_part_claims_none() {
        let mut claims = Claims::default();
        claims.claim(vec![80.into()], "web").unwrap();
        assert_eq!(claims.claim(vec![90.into(), 80.into()], "other"), Err(Error::PortTaken(80)));
        assert_eq!(claims.claim(vec![90.into(), (90..=91).into()], "other"), Err(Error::PortTaken(90)));
        assert_eq!(claims.owner(90), None);
    }

    #[test]
    fn a_range_without_ports_is_refused() {
        let mut claims = Claims::default();
        assert_eq!(claims.claim(vec![Ports::new(2, 1)], ()), Err(Error::NoPorts(2, 1)));
        assert!(claims.is_empty());
    }

    #[test]
    fn ports_are_free_again_when_their_owner_goes() {
        let mut claims = Claims::default();
        claims.claim(vec![80.into()], 1).unwrap();
        claims.retain(|owner| *owner != 1);
        claims.claim(vec![80.into()], 2).unwrap();
        assert_eq!(claims.owner(80), Some(&mut 2));
    }
}
