//! State and counters for whoever looks on: `getStats()` of the classes, and the inspector.

use super::carrier::Carrier;
use super::host::Host;
use super::socket::Side;
use super::{Endpoint, LinkId, SocketId};
use crate::time::Duration;

/// State of a link. Its owner counts the messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkStats {
    /// True once the relay has answered.
    pub is_ready: bool,
    /// True if the relay speaks the livecode dialect.
    pub is_livecode: bool,
    /// The number of channels in use.
    pub channels: usize,
    /// The number of channels on which the relay takes nothing now.
    pub paused: usize,
    /// The time that the relay took to answer the last ping; `None` until it has answered one. A link pings when nothing
    /// else is said.
    pub round_trip: Option<Duration>,
}

/// State and counters of the server that an endpoint hosts. After its end, the last ones.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HostStats {
    /// True while the relay has it registered, as far as is known.
    pub is_registered: bool,
    /// Clients that are in, also those that are away.
    pub clients: usize,
    /// Clients that the application has not answered yet, or that have not taken its answer.
    pub incoming: usize,
    /// Clients that ever were in.
    pub admitted: u64,
    /// Clients that the application refused.
    pub refused: u64,
    /// The number of times that the link was lost while the server was registered.
    pub interruptions: u64,
}

/// An endpoint's counts of its server, which the server's end does not reset.
#[derive(Debug, Default)]
pub(super) struct HostCounts {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    pub(super) interruptions: u64,
}

impl Endpoint {
    /// Returns the state of a link; `None` when it is gone.
    #[must_use]
    pub fn link_stats(&self, id: LinkId) -> Option<LinkStats> {
        let carrier = self.links.get(id)?;
        let (paused, round_trip) = match carrier {
            Carrier::Tunnel(link) => (link.paused(), link.round_trip()),
            _ => (0, None),
        };
        Some(LinkStats {
            is_ready: carrier.is_ready(),
            is_livecode: carrier.is_livecode(),
            channels: self.by_path.keys().filter(|path| path.link == id).count(),
            paused,
            round_trip,
        })
    }

    /// Returns the link that a socket runs over now.
    #[must_use]
    pub fn link_of(&self, socket: SocketId) -> Option<LinkId> {
        self.sockets.get(socket)?.socket.path.map(|path| path.link)
    }

    /// Returns the link that the server is registered on, or is about to be.
    #[must_use]
    pub fn link_of_host(&self) -> Option<LinkId> {
        self.host.as_ref().and(self.main)
    }

    /// Returns the state and the counters of the server.
    #[must_use]
    pub fn host_stats(&self) -> HostStats {
        let HostCounts { admitted, refused, interruptions } = self.host_counts;
        let served = self.sockets.values().filter(|entry| matches!(entry.side, Side::Server(_)));
        let (clients, incoming) = served.fold((0, 0), |(clients, incoming), entry| {
            if entry.socket.opened { (clients + 1, incoming) } else { (clients, incoming + 1) }
        });
        let is_registered = self.host.as_ref().is_some_and(Host::is_confirmed);
        HostStats { is_registered, clients, incoming, admitted, refused, interruptions }
    }

    /// A socket is open for the first time.
    pub(super) fn count_opened(&mut self, id: SocketId) {
        if self.sockets.get(id).is_some_and(|entry| matches!(entry.side, Side::Server(_))) {
            self.host_counts.admitted += 1;
        }
    }
}
