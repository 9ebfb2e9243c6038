//! Figures of a relay that is one of several.

use super::page::{Kind, Page};
use super::traffic::Histogram;
use std::sync::Arc;
use tunnel_protocol::presence;
use tunnel_protocol::router::Stats;

/// Counters and state of the task that knows of other relays.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterStats {
    pub(crate) presence: presence::Stats,
    /// True if the bus is reached.
    pub(crate) is_on: bool,
    /// Messages of the bus, either way, for which there was no room.
    pub(crate) messages_lost: u64,
    /// Relays that could not be dialled.
    pub(crate) dials_failed: u64,
    /// Times from a client's CONNECT to the answer of its server's relay.
    pub(crate) found: Histogram,
    /// Name, address and standing of the other relays: whether each is lost.
    pub(crate) roster: Arc<[(String, String, bool)]>,
}

impl ClusterStats {
    pub(super) fn write(&self, page: &mut Page, router: &Stats) {
        let presence = &self.presence;
        page.gauge(
            "tunnel_relay_cluster_connected",
            "1, or 0 while no server of the bus between relays is reached; 1 without a cluster, too.",
            u8::from(self.is_on),
        );
        page.labelled(
            "tunnel_relay_cluster_nodes",
            Kind::Gauge,
            "Other relays of the cluster that are heard, and that are silent.",
            "state",
            [("alive", presence.alive), ("lost", presence.lost)],
        );
        page.gauge(
            "tunnel_relay_cluster_wanted",
            "Servers that clients of this relay wait for, and other relays are asked for.",
            presence.wanted,
        );
        page.labelled(
            "tunnel_relay_cluster_questions_total",
            Kind::Counter,
            "Questions for servers, asked on the bus, and not asked because of cluster-finds-per-second.",
            "sent",
            [("yes", presence.finds), ("no", presence.suppressed)],
        );
        page.labelled(
            "tunnel_relay_cluster_finds_total",
            Kind::Counter,
            "Servers that were asked for: found, at no relay (3701), or not to be found out (1013).",
            "result",
            [("found", presence.found), ("absent", presence.absent), ("uncertain", presence.uncertain)],
        );
        self.found.write(
            page,
            "tunnel_relay_cluster_find_seconds",
            "Time until another relay said that it has the server, in seconds.",
        );
        page.labelled(
            "tunnel_relay_cluster_claims_total",
            Kind::Counter,
            "Servers claimed on the bus: just registered, and again.",
            "kind",
            [("fresh", presence.claims_fresh), ("audit", presence.claims_audit)],
        );
        page.labelled(
            "tunnel_relay_cluster_fenced_total",
            Kind::Counter,
            "Registrations that ended because another relay has a newer one, by the code that the page was given.",
            "code",
            [("3700", presence.fenced), ("3708", presence.asked_again)],
        );
        page.labelled(
            "tunnel_relay_cluster_messages_skipped_total",
            Kind::Counter,
            "Messages of the bus that did not count: not of this cluster or malformed, of relays that are not known, from the far \
             future, or without room.",
            "why",
            [
                ("garbage", presence.garbage),
                ("off-roster", presence.off_roster),
                ("ahead", presence.ahead),
                ("no-room", self.messages_lost),
            ],
        );
        page.gauge(
            "tunnel_relay_cluster_node_links",
            "Links to other relays, either way.",
            router.node_links,
        );
        page.counter(
            "tunnel_relay_cluster_node_dials_failed_total",
            "Other relays that were not reached at the address of their links.",
            self.dials_failed,
        );
        page.labelled(
            "tunnel_relay_cluster_spliced_total",
            Kind::Counter,
            "Channels by way of two relays: this one has the client (entry) or the server (owner).",
            "role",
            [("entry", router.spliced_out), ("owner", router.spliced_in)],
        );
        page.labelled(
            "tunnel_relay_cluster_spliced_frames_total",
            Kind::Counter,
            "Frames that came from other relays, by this one's role.",
            "role",
            [("entry", router.frames_from_owners), ("owner", router.frames_from_entries)],
        );
    }
}
