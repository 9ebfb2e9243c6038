//! The part of an endpoint that the machine of one socket sees, and the actions that it returns.
//!
//! A machine changes its own socket only. For all else it returns [`Action`]s, which the endpoint performs in order, so
//! that frames leave in the order in which they were decided on.

use super::carrier::Carrier;
use super::keys::Keys;
use super::socket::Path;
use super::table::Table;
use super::{Event, LinkId};
use crate::handshake::Initiator;
use crate::server_id::PublicKey;
use crate::session::Epoch;
use crate::{CloseCode, Instant, ServerId};
use bytes::Bytes;

/// Something that a socket's machine wants done.
#[derive(Debug)]
pub(super) enum Action {
    /// Tell the application.
    Tell(Event),
    /// Dial the relay, if something needs a link and it is time.
    Dial,
    /// Dial the relay for this socket alone, as the livecode dialect wants it.
    DialOwnLink,
    /// Ask the holder of a key for a Diffie-Hellman.
    Ask { ours: PublicKey, theirs: PublicKey },
    /// Open a channel with CONNECT and report its path to [`ClientSide::handle_connecting`](super::client::ClientSide::handle_connecting).
    Connect {
        link: LinkId,
        server: ServerId,
        port: u16,
        handshake: Handshake,
        /// The time at which to give up waiting for the answer.
        give_up_at: Instant,
    },
    /// Livecode dialect: open a channel, on which the server says who it is, and report its path to
    /// [`ClientSide::handle_asking`](super::client::ClientSide::handle_asking).
    ConnectByNumber { link: LinkId, number: u32, port: u16 },
    /// Livecode dialect: send the first handshake message on a channel that is open.
    Initiate { path: Path, message: Bytes },
    /// Take what arrives on a path for the socket's.
    Route(Path),
    /// Answer the client's first handshake message on this path.
    Accept { path: Path, message: Bytes },
    /// Let a plain peer in on this path.
    AcceptPlain(Path),
    /// Give all channels of the socket back, but for the one that it uses.
    CloseOtherPaths,
    /// End sessions of clients that are away, if they hold too much.
    EvictAway,
    /// Give a channel back.
    Close { path: Path, code: CloseCode, reason: String },
    /// Forget the socket.
    Remove,
}

/// A client's first handshake message, and who reads the answer to it.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) initiator: Box<Initiator>,
    pub(super) message: Bytes,
}

/// The part of an endpoint that the machine of a socket works with.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    /// This page load.
    pub(super) epoch: Epoch,
    pub(super) keys: &'a mut Keys,
    pub(super) links: &'a Table<LinkId, Carrier>,
    /// The link that all sockets share, if it has been dialled.
    pub(super) main: Option<LinkId>,
    /// True if the relay spoke the livecode dialect when it last said something.
    pub(super) is_livecode: bool,
    /// True if there is a server that is not being closed.
    pub(super) is_hosting: bool,
    pub(super) actions: Vec<Action>,
}

impl Context<'_> {
    /// Asks for something to be done after all that was asked for before.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Gives a channel back.
    pub(super) fn close(&mut self, path: Path, code: CloseCode, reason: &str) {
        self.act(Action::Close { path, code, reason: reason.to_owned() });
    }

    /// The shared link, if it speaks `tunnel.v1` and the relay has said WELCOME on it.
    pub(super) fn ready_link(&self) -> Option<LinkId> {
        self.main
            .filter(|link| matches!(self.links.get(*link), Some(Carrier::Tunnel(link)) if link.is_ready()))
    }
}
