//! A bound for wrong credentials, by network. Called by the router's livecode dialect.

use super::network::Network;
use crate::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// The number of networks that are remembered. Should more be wrong at once, strangers have to wait.
const MAX_NETWORKS: usize = 8_192;

/// Wrong credentials, by the networks that they came from.
#[derive(Debug)]
pub(super) struct Guesses {
    /// The number of credentials that may be wrong at once.
    burst: u32,
    /// The time after which one more may be wrong.
    interval: Duration,
    /// The time at which all that was wrong is forgotten.
    until: BTreeMap<Network, Instant>,
}

impl Guesses {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, until: BTreeMap::new() }
    }

    /// Returns whether a credential from this address is looked at. The answer to one that is not is that it is wrong.
    pub(super) fn may_try(&mut self, address: &str, now: Instant) -> bool {
        if self.until.len() >= MAX_NETWORKS {
            self.until.retain(|_, until| *until > now);
        }
        let is_crowded = self.until.len() >= MAX_NETWORKS;
        let most = self.interval * (self.burst - 1);
        Network::all_of_text(address).all(|(network, shares)| match self.until.get(&network) {
            Some(until) => until.saturating_since(now) <= most * u32::try_from(shares).unwrap_or(1),
            None => !is_crowded,
        })
    }

    /// Notes a wrong credential.
    pub(super) fn note_wrong(&mut self, address: &str, now: Instant) {
        for (network, _) in Network::all_of_text(address) {
            let until = self.until.entry(network).or_insert(now);
            *until = (*until).max(now) + self.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_wrong_at_once_and_then_one_in_each_interval() {
        let (mut guesses, start) = (Guesses::new(5, Duration::from_secs(10)), Instant::ORIGIN);
        let mut wrong = |address: &str, now| {
            let tried = (0..100).take_while(|_| {
                let may = guesses.may_try(address, now);
                if may {
                    guesses.note_wrong(address, now);
                }
                may
            });
            tried.count()
        };
        assert_eq!(wrong("192.0.2.1", start), 5);
        assert_eq!(wrong("192.0.2.2", start), 5, "another address");
        assert_eq!(wrong("192.0.2.1", start + Duration::from_secs(25)), 2);
        assert_eq!(wrong("192.0.2.1", start + Duration::from_secs(3_600)), 5);
    }

    #[test]
    fn no_more_networks_are_remembered_than_there_is_room_for() {
        let mut guesses = Guesses::new(5, Duration::from_secs(10));
        for number in 0..20_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(number).to_string();
            if guesses.may_try(&address, Instant::ORIGIN) {
                guesses.note_wrong(&address, Instant::ORIGIN);
            }
        }
        assert_eq!(guesses.until.len(), MAX_NETWORKS);
        assert!(guesses.may_try("192.0.2.1", Instant::ORIGIN + Duration::from_secs(60)));
    }
}
