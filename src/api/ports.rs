//! Who listens on which port.

use super::Error;
use std::ops::RangeInclusive;

/// A port or a range of ports, for [`Server::listen`](super::Server::listen).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
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

/// The claims on the ports of a server.
#[derive(Debug)]
pub(super) struct Claims<T> {
    claims: Vec<(Ports, T)>,
}

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self { claims: Vec::new() }
    }
}

impl<T> Claims<T> {
    /// Claims ports that nobody has.
    pub(super) fn claim(&mut self, ports: Ports, owner: T) -> Result<(), Error> {
        if ports.first > ports.last {
            return Err(Error::NoPorts(ports.first, ports.last));
        }
        let taken = |other: &Ports| other.first <= ports.last && ports.first <= other.last;
        if let Some((other, _)) = self.claims.iter().find(|(other, _)| taken(other)) {
            return Err(Error::PortTaken(other.first.max(ports.first)));
        }
        self.claims.push((ports, owner));
        Ok(())
    }

    /// Drops the claims of which this is not true.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.claims.retain(|(_, owner)| keep(owner));
    }

    /// The owner of a port.
    pub(super) fn owner(&mut self, port: u16) -> Option<&mut T> {
        self.claims.iter_mut().find(|(ports, _)| ports.contains(port)).map(|(_, owner)| owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_whoever_claimed_it_first() {
        let mut claims = Claims::default();
        claims.claim(80.into(), "web").unwrap();
        claims.claim((6000..=6009).into(), "display").unwrap();
        assert_eq!(claims.claim((6009..=7000).into(), "other"), Err(Error::PortTaken(6009)));
        assert_eq!(claims.claim((0..=65535).into(), "other"), Err(Error::PortTaken(80)));
        assert_eq!(claims.owner(6005), Some(&mut "display"));
        assert_eq!(claims.owner(81), None);
    }

    #[test]
    fn a_range_without_ports_is_refused() {
        let (first, last) = (2, 1);
        assert_eq!(Claims::default().claim(Ports { first, last }, ()), Err(Error::NoPorts(2, 1)));
    }

    #[test]
    fn ports_are_free_again_when_their_owner_goes() {
        let mut claims = Claims::default();
        claims.claim(80.into(), 1).unwrap();
        claims.retain(|owner| *owner != 1);
        claims.claim(80.into(), 2).unwrap();
        assert_eq!(claims.owner(80), Some(&mut 2));
    }
}
