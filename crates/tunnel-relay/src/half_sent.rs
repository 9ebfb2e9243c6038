//! The memory budget for messages of which only a part has arrived, shared out by address. Each `connection` has a part of it.

use crate::Config;
use crate::websocket::{self, Part as _};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tunnel_protocol::router::Network;

/// Bytes that are held for messages of which a part has come, in all and for each network.
#[derive(Clone, Debug)]
pub(crate) struct HalfSent(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    total: usize,
    networks: HashMap<Network, usize>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    total: usize,
    per_address: usize,
}

/// The part of the budget that one WebSocket holds; dropping it gives that back.
#[derive(Debug)]
pub(crate) struct Part {
    budget: HalfSent,
    address: IpAddr,
    held: usize,
}

impl HalfSent {
    pub(crate) fn new(config: &Config) -> Self {
        let (total, networks, limits) = (0, HashMap::new(), Limits::new(config));
        Self(Arc::new(Mutex::new(State { total, networks, limits })))
    }

    /// Other limits; what is held is kept.
    pub(crate) fn configure(&self, config: &Config) {
        self.lock().limits = Limits::new(config);
    }

    /// Nothing yet, for a WebSocket of a peer at this address.
    pub(crate) fn part(&self, address: IpAddr) -> Part {
        Part { budget: self.clone(), address, held: 0 }
    }

    /// Bytes held in all.
    #[cfg(test)]
    pub(crate) fn total(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl websocket::Part for Part {
    fn resize(&mut self, bytes: usize) -> bool {
        let mut state = self.budget.lock();
        if bytes > self.held && !state.has_room(self.address, bytes - self.held) {
            return false;
        }
        state.total = state.total - self.held + bytes;
        for (network, _) in Network::all_of(self.address) {
            let held = state.networks.entry(network).or_default();
            *held = *held - self.held + bytes;
            if *held == 0 {
                state.networks.remove(&network);
            }
        }
        self.held = bytes;
        true
    }

    fn clear(&mut self) {
        if self.held > 0 {
            self.resize(0);
        }
    }
}

impl State {
    fn has_room(&self, address: IpAddr, more: usize) -> bool {
        let held = |network| self.networks.get(&network).copied().unwrap_or_default();
        let share = self.limits.per_address;
        self.total.saturating_add(more) <= self.limits.total
            && Network::all_of(address)
                .all(|(network, shares)| held(network).saturating_add(more) <= share.saturating_mul(shares))
    }
}

impl Limits {
    const fn new(config: &Config) -> Self {
        Self { total: config.half_sent_buffer, per_address: config.half_sent_buffer_per_address }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_share_and_all_together_no_more_than_there_is() {
        let config =
            Config { half_sent_buffer: 1_000, half_sent_buffer_per_address: 300, ..Config::default() };
        let budget = HalfSent::new(&config);
        let part = |address: &str| budget.part(address.parse().unwrap());
        let (mut a, mut b) = (part("192.0.2.1"), part("192.0.2.1"));
        assert!(a.resize(200) && !b.resize(200) && b.resize(100));
        assert!(a.resize(50) && b.resize(250) && !a.resize(51), "what is given back is there for others");
        let mut sixes: Vec<_> = (0..4).map(|subnet| part(&format!("2001:db8:0:{subnet:x}::1"))).collect();
        let held = sixes.iter_mut().map(|part| part.resize(300)).collect::<Vec<_>>();
        assert_eq!(held, [true, true, false, false], "a /56 has two shares");
        assert!(!part("192.0.2.2").resize(101) && part("192.0.2.2").resize(100), "all that there is");
        assert_eq!(budget.total(), 900);
        drop((a, b, sixes));
        assert_eq!(budget.total(), 0);
        assert!(budget.lock().networks.is_empty());
    }
}
