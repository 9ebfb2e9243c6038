//! Connections of pages to relays and of relays to each other.

use crate::network::{Carried, Lane};
use bytes::Bytes;
use tunnel_protocol::endpoint;
use tunnel_protocol::router::LinkId;
use tunnel_protocol::time::{Duration, Instant};

/// Bytes a second.
const RATE: u64 = 20_000_000;

/// One end of a wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Page(usize, endpoint::LinkId),
    /// A relay's process: its number, its incarnation, the link.
    Relay(usize, u64, LinkId),
}

/// One connection. The near end dialled, the far end is a relay.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) near: End,
    pub(super) far: Option<End>,
    /// The relay that was dialled.
    pub(super) relay: usize,
    latency: Duration,
    pub(super) to_far: Lane<Parcel>,
    pub(super) to_near: Lane<Parcel>,
    /// True if it swallows everything, and nobody is told.
    pub(super) is_dead: bool,
}

/// One thing that arrives.
#[derive(Clone, Debug)]
pub(super) enum Parcel {
    /// The WebSocket's handshake, and the relay that dialled, if it was one.
    Open(Option<usize>),
    Message(Bytes),
    Close,
}

impl End {
    pub(super) fn page_address(self) -> String {
        match self {
            Self::Page(page, _) => format!("192.0.2.{page}"),
            Self::Relay(number, ..) => super::address(number),
        }
    }

    const fn relay(self) -> Option<usize> {
        match self {
            Self::Page(..) => None,
            Self::Relay(number, ..) => Some(number),
        }
    }
}

impl Wire {
    pub(super) fn new(near: End, relay: usize, latency: u64) -> Self {
        let (to_far, to_near) = (Lane::default(), Lane::default());
        Self {
            near,
            far: None,
            relay,
            latency: Duration::from_micros(latency),
            to_far,
            to_near,
            is_dead: false,
        }
    }

    pub(super) fn send_far(&mut self, parcel: Parcel, now: Instant) {
        self.to_far.push(parcel, self.latency, RATE, now);
    }

    pub(super) fn send_near(&mut self, parcel: Parcel, now: Instant) {
        self.to_near.push(parcel, self.latency, RATE, now);
    }

    pub(super) const fn far_relay(&self) -> Option<usize> {
        Some(self.relay)
    }

    pub(super) const fn near_relay(&self) -> Option<usize> {
        self.near.relay()
    }

    pub(super) fn touches_relay(&self, relay: usize) -> bool {
        self.relay == relay || self.near_relay() == Some(relay)
    }
}

impl Carried for Parcel {
    fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Open(_) | Self::Close => 0,
        }
    }
}
