//! Connections between peers and the relay: ordered, delayed, of limited capacity, and cut at any time.

use bytes::Bytes;
use std::collections::VecDeque;
use tunnel_protocol::endpoint::{LinkId, LinkMessage};
use tunnel_protocol::router;
use tunnel_protocol::time::{Duration, Instant};

/// Bytes that a connection takes before it has to be waited for, each way: a socket's buffer.
const CAPACITY: usize = 256 * 1024;

/// The delay of a connection that swallows everything.
pub(crate) const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// One WebSocket of a peer.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: usize,
    pub(crate) peer_link: LinkId,
    /// Its name at the relay, once it has arrived there.
    pub(crate) relay_link: Option<router::LinkId>,
    pub(crate) latency: Duration,
    /// Bytes a second, each way.
    pub(crate) rate: u64,
    pub(crate) to_relay: Lane<Parcel>,
    pub(crate) to_peer: Lane<Parcel>,
}

/// The parcels on their way in one direction.
#[derive(Debug)]
pub(crate) struct Lane<P> {
    pub(crate) queue: VecDeque<(Instant, P)>,
    in_flight: usize,
    /// The time at which the last byte has left.
    free_at: Instant,
}

/// Something that a lane carries.
pub(crate) trait Carried {
    /// Bytes that count for the lane's capacity and rate.
    fn len(&self) -> usize;
}

/// One thing that arrives.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// The WebSocket's handshake, with the frames that the peer put into it, or of which the relay says that it took
    /// them.
    Open {
        early: Vec<Bytes>,
    },
    Message(LinkMessage),
    /// The WebSocket's end.
    Close(u16, String),
}

impl Connection {
    pub(crate) fn is_black_hole(&self) -> bool {
        self.latency == NEVER
    }
}

impl<P: Carried> Lane<P> {
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight < CAPACITY
    }

    pub(crate) fn push(&mut self, parcel: P, latency: Duration, rate: u64, now: Instant) {
        let len = parcel.len();
        self.in_flight += len;
        self.free_at = self.free_at.max(now) + Duration::from_micros(len as u64 * 1_000_000 / rate);
        self.queue.push_back((self.free_at + latency, parcel));
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<P> {
        if self.next_at()? > now {
            return None;
        }
        let (_, parcel) = self.queue.pop_front()?;
        self.in_flight -= parcel.len();
        Some(parcel)
    }

    /// Loses all that is on its way.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.in_flight = 0;
    }
}

impl<P> Default for Lane<P> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), in_flight: 0, free_at: Instant::default() }
    }
}

impl Carried for Parcel {
    fn len(&self) -> usize {
        match self {
            Self::Message(LinkMessage::Binary(message)) => message.len(),
            Self::Message(LinkMessage::Text(message)) => message.len(),
            Self::Open { early } => early.iter().map(Bytes::len).sum(),
            Self::Close(..) => 0,
        }
    }
}
