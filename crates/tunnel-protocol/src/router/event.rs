//! The values that pass between a router and its owner.

use super::Instruct;
use super::slab::Key;
use crate::identity::StaticKey;
use crate::{CloseCode, ServerId};
use bytes::Bytes;
use std::fmt;

/// One peer's WebSocket at this router; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub Key);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}.{}", self.0 as u32, self.0 >> 32)
    }
}

/// The protocol of a peer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// Binary frames, [`SUBPROTOCOL`](crate::SUBPROTOCOL).
    Tunnel,
    /// The livecode dialect's JSON texts: no subprotocol was offered.
    Livecode,
}

/// The facts about a peer that the relay knows when its WebSocket opens.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its protocol.
    pub dialect: Dialect,
    /// Its address as told to other peers; at most 255 bytes.
    pub address: String,
    /// The relay's URL as the peer reached it: what proofs of registration are [bound to](crate::registration).
    pub url: String,
    /// A fresh key for this link, made from random numbers: proofs of registration are made for it.
    pub challenge: StaticKey,
}

impl Peer {
    /// The namespace that a livecode peer is in: the last part of the URL's path behind a `~`, as in `wss://relay.example/~tea`;
    /// empty if the path ends in no such part.
    #[must_use]
    pub fn namespace(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        path.rsplit('/').next().and_then(|last| last.strip_prefix('~')).unwrap_or_default()
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.dialect == other.dialect
            && self.address == other.address
            && self.url == other.url
            && self.challenge.public() == other.challenge.public()
    }
}

impl Eq for Peer {}

/// One WebSocket message to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transmit {
    /// A binary message.
    Binary(Bytes),
    /// A text message.
    Text(String),
}

impl Transmit {
    /// Length of the payload, in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Binary(message) => message.len(),
            Self::Text(message) => message.len(),
        }
    }

    /// Returns whether the payload is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Something that a [`Router`](super::Router) wants its owner to do or to know.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// [`Router::poll_transmit`](super::Router::poll_transmit) has something for the link. Comes again only after it
    /// returned `None`.
    Writable(LinkId),
    /// Send what is queued, then close the WebSocket and call
    /// [`Router::handle_link_closed`](super::Router::handle_link_closed). What the peer still sends has no effect.
    Close {
        /// The link.
        link: LinkId,
        /// For the WebSocket's close frame.
        code: CloseCode,
        /// For the WebSocket's close frame; at most 123 bytes.
        reason: String,
    },
    /// A link became the way to a server.
    Registered {
        /// The server's link.
        link: LinkId,
        /// The ID under which clients reach it.
        server_id: ServerId,
    },
    /// A server can't be reached any more.
    Unregistered {
        /// The link that led to it.
        link: LinkId,
        /// The ID under which clients reached it.
        server_id: ServerId,
    },
    /// A server's proof does not fit, and it says that it dialled another URL than the one under which it reached the relay:
    /// a proxy in between may have changed it.
    Misaddressed {
        /// Its link.
        link: LinkId,
        /// The URL as the owner of the router says that the peer reached it.
        reached: String,
        /// The URL that the server says it dialled.
        dialled: String,
    },
    /// A client waits for a server that is not registered here: another relay may have it. Only with
    /// [`Config::cluster`](super::Config::cluster).
    Wanted {
        /// The server.
        server_id: ServerId,
    },
    /// A link between two relays is in use: each has proven the cluster's secret to the other.
    NodeProven {
        /// The link.
        link: LinkId,
        /// The other relay's name.
        node: String,
    },
    /// A server accepted a client's channel.
    Opened {
        /// The client's link.
        client: LinkId,
        /// The server's link.
        server: LinkId,
    },
    /// The router ended a channel, or did not open it.
    Refused {
        /// The link of the peer that wanted it or that overfilled it.
        link: LinkId,
        /// The reason that the peer was told.
        code: CloseCode,
    },
    /// The engine has to run a command; [`Router::handle_said`](super::Router::handle_said) takes what comes of it. Only with
    /// [`Config::livecode_programs`](super::Config::livecode_programs).
    Instruct(Box<Instruct>),
    /// The engine has answered the link's command: [`Router::is_busy`](super::Router::is_busy) is over.
    Answered(LinkId),
    /// A link of which the engine knows is gone.
    Left(LinkId),
    /// [`Router::drain`](super::Router::drain) was called and the last link is gone.
    Drained,
}

/// The contents of a [`Router`](super::Router) now, and counters since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Links, those about to be closed included.
    pub links: usize,
    /// Servers that can be reached.
    pub registrations: usize,
    /// Ends of channels: two for each channel that is open or being opened, one for each that waits or whose CLOSE
    /// is still queued.
    pub channel_ends: usize,
    /// CONNECTs that wait for their server.
    pub waiting: usize,
    /// Bytes held for all links, overhead included.
    pub buffered: usize,
    /// Channels accepted since the start.
    pub channels_opened: u64,
    /// Channels refused or lost to a limit since the start.
    pub channels_refused: u64,
    /// Registrations since the start.
    pub registered: u64,
    /// Registrations that took a server ID over from an older link since the start.
    pub taken_over: u64,
    /// Links that broke the protocol since the start.
    pub violations: u64,
    /// PAUSE frames since the start.
    pub pauses: u64,
    /// Links to other relays that are in use, in either direction.
    pub node_links: usize,
    /// Channels of this relay's clients that were taken to another relay since the start.
    pub spliced_out: u64,
    /// Channels that other relays took here since the start.
    pub spliced_in: u64,
    /// DATA and ACCEPT frames that came from the servers' relays since the start.
    pub frames_from_owners: u64,
    /// DATA frames that came from the clients' relays since the start.
    pub frames_from_entries: u64,
    /// DATA and ACCEPT frames forwarded since the start.
    pub frames: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}
