//! The values that pass between the machine and its owner.

use super::Subject;
use crate::router::LinkId;
use crate::server_id::PublicKey;
use crate::{CloseCode, Instant};
use bytes::Bytes;

/// The time, by two clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// The clock that only goes on.
    pub now: Instant,
    /// The time of day in microseconds since 1970.
    pub wall: u64,
}

/// A message for the bus.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Its receivers.
    pub subject: Subject,
    /// Its bytes.
    pub payload: Bytes,
}

/// Something that a [`Presence`](super::Presence) wants its owner to do or to know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Take the clients that wait for a server to another relay, which is on the roster.
    Route {
        /// The server's key.
        key: PublicKey,
        /// The other relay's name.
        node: String,
        /// The address of its links between relays.
        address: String,
    },
    /// End a server's link: another relay has a registration that counts more.
    Fence {
        /// The server's key.
        key: PublicKey,
        /// The link.
        link: LinkId,
        /// 3700 if its page has lost for good, 3708 if it should register again.
        code: CloseCode,
    },
    /// Tell the clients that have waited as long as they may.
    Absent {
        /// The server's key.
        key: PublicKey,
        /// True if all relays have said that they don't have it.
        is_certain: bool,
    },
    /// A relay is on the roster, for the first time or again.
    Joined {
        /// Its name.
        node: String,
        /// The address of its links between relays.
        address: String,
    },
    /// A relay has been silent for too long.
    Lost {
        /// Its name.
        node: String,
    },
    /// A relay has ended in order.
    Left {
        /// Its name.
        node: String,
    },
    /// Another relay has this relay's name.
    Clash {
        /// The address of its links between relays.
        address: String,
    },
    /// The bus has been away for long. If another relay says that it is well, this one is cut off and should end.
    CutOff,
}

/// Counters since the machine was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Relays on the roster that are heard.
    pub alive: usize,
    /// Relays on the roster that are silent.
    pub lost: usize,
    /// Servers that are asked for now.
    pub wanted: usize,
    /// FINDs and ROLLs sent.
    pub finds: u64,
    /// FINDs and ROLLs that were not sent because there were too many.
    pub suppressed: u64,
    /// Servers that another relay has.
    pub found: u64,
    /// Servers that all relays have said they don't have.
    pub absent: u64,
    /// Servers of which that could not be found out.
    pub uncertain: u64,
    /// Keys claimed just after their proof.
    pub claims_fresh: u64,
    /// Keys claimed again.
    pub claims_audit: u64,
    /// Registrations that were ended with 3700.
    pub fenced: u64,
    /// Registrations that were ended with 3708.
    pub asked_again: u64,
    /// Messages that were not of a relay of this cluster, or malformed.
    pub garbage: u64,
    /// Answers of relays that are not on the roster.
    pub off_roster: u64,
    /// Claims whose time is too far ahead.
    pub ahead: u64,
}
