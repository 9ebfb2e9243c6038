//! The values that pass between an endpoint and its owner.

use super::socket::{Incoming, Remote};
use crate::server_id::PublicKey;
use crate::session::SessionStats;
#[cfg(feature = "tracing")]
use crate::trace::event;
use crate::{CloseCode, Message, ServerId};
use bytes::Bytes;

/// One WebSocket to the relay, as numbered by the endpoint that asked for it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LinkId(pub u64);

/// One socket of an endpoint.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(pub u64);

/// One WebSocket message between an endpoint and the relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkMessage {
    /// A binary message: `tunnel.v1`.
    Binary(Bytes),
    /// A text message: the livecode dialect.
    Text(String),
}

/// Something that an endpoint tells its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Open a WebSocket to the relay, offering the subprotocol [`SUBPROTOCOL`](crate::SUBPROTOCOL).
    Dial {
        /// Its name from now on.
        link: LinkId,
    },
    /// Close that WebSocket. It is forgotten: nothing more needs to be said about it.
    HangUp {
        /// The WebSocket.
        link: LinkId,
        /// The close code.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
    /// The relay speaks the livecode dialect: call [`Endpoint::speak_livecode`](super::Endpoint::speak_livecode), or
    /// [`Endpoint::handle_link_closed`](super::Endpoint::handle_link_closed) when that can't be.
    Livecode {
        /// On which WebSocket.
        link: LinkId,
    },
    /// The relay registered the server.
    Hosting {
        /// The ID under which clients reach it.
        server_id: ServerId,
        /// True if it was registered before and had lost its link.
        again: bool,
    },
    /// The server's link is gone; a new one is being dialled.
    HostInterrupted,
    /// The server is no longer hosted, or never was.
    HostClosed {
        /// The close code.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
    /// A client wants in: answer with [`Endpoint::accept`](super::Endpoint::accept) or [`Endpoint::refuse`](super::Endpoint::refuse).
    Incoming {
        /// The socket that it gets.
        socket: SocketId,
        /// The client, and what it wants.
        incoming: Incoming,
    },
    /// The socket is open.
    Opened {
        /// The socket.
        socket: SocketId,
        /// The subprotocol chosen, or empty.
        protocol: String,
        /// The peer on the other side.
        remote: Remote,
    },
    /// A message arrived; when the application has taken it in, call [`Endpoint::consume`](super::Endpoint::consume).
    Message {
        /// On which socket.
        socket: SocketId,
        /// The message.
        message: Message,
    },
    /// The socket's path is gone; a new one is being sought.
    Interrupted {
        /// The socket.
        socket: SocketId,
    },
    /// The socket goes on where it was; nothing was lost.
    Resumed {
        /// The socket.
        socket: SocketId,
    },
    /// The server has lost the session, by a reload for example, and the socket has begun a new one with the same server, as
    /// [`ConnectOptions::redial`](super::ConnectOptions::redial) wants it. [`Endpoint::take_unacknowledged`] has what may be
    /// lost. Call [`Endpoint::greet`] before the application hears of it, and [`Endpoint::flush`] when it has.
    ///
    /// [`Endpoint::take_unacknowledged`]: super::Endpoint::take_unacknowledged
    /// [`Endpoint::greet`]: super::Endpoint::greet
    /// [`Endpoint::flush`]: super::Endpoint::flush
    Reopened {
        /// The socket.
        socket: SocketId,
        /// The subprotocol chosen now, or empty.
        protocol: String,
    },
    /// The socket, which would have redialled, ends with the next event. This is not known to have arrived.
    Unacknowledged {
        /// The socket.
        socket: SocketId,
        /// The messages, oldest first.
        messages: Vec<Message>,
    },
    /// The socket has ended; nothing follows about it.
    Closed {
        /// The socket.
        socket: SocketId,
        /// The peer's close code, or why this side gave up.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
        /// True if both sides agreed to the end.
        was_clean: bool,
        /// True if the socket never opened.
        failed: bool,
        /// The counters until then.
        stats: SessionStats,
    },
    /// A key that is held elsewhere is needed: answer with [`Endpoint::handle_diffie_hellman`](super::Endpoint::handle_diffie_hellman).
    NeedsDiffieHellman {
        /// The public half of the key.
        ours: PublicKey,
        /// The other public key.
        theirs: PublicKey,
    },
}

impl Event {
    /// Tells whoever looks for a fault.
    #[cfg(feature = "tracing")]
    pub(super) fn trace(&self) {
        match self {
            Self::Dial { link } => event!(DEBUG, link = link.0, "dialling the relay"),
            Self::HangUp { link, code, reason } => {
                event!(DEBUG, link = link.0, %code, reason, "closing the link");
            }
            Self::Livecode { link } => event!(DEBUG, link = link.0, "the relay speaks the livecode dialect"),
            Self::Hosting { server_id, again } => event!(INFO, %server_id, again, "the server is registered"),
            Self::HostInterrupted => event!(DEBUG, "the server has lost its link"),
            Self::HostClosed { code, reason } => event!(INFO, %code, reason, "the server has ended"),
            Self::Incoming { socket, incoming } => {
                let Incoming { port, path, address, .. } = incoming;
                event!(DEBUG, socket = socket.0, port, path, address, "a client wants in");
            }
            Self::Opened { socket, protocol, .. } => {
                event!(DEBUG, socket = socket.0, protocol, "the socket is open");
            }
            Self::Interrupted { socket } => event!(DEBUG, socket = socket.0, "the socket has lost its path"),
            Self::Resumed { socket } => event!(DEBUG, socket = socket.0, "the socket goes on"),
            Self::Reopened { socket, .. } => event!(DEBUG, socket = socket.0, "the socket has a new session"),
            Self::Unacknowledged { socket, messages } => {
                event!(DEBUG, socket = socket.0, messages = messages.len(), "not known to have arrived");
            }
            Self::Closed { socket, code, reason, was_clean, .. } => {
                event!(DEBUG, socket = socket.0, %code, reason, was_clean, "the socket has ended");
            }
            Self::Message { .. } | Self::NeedsDiffieHellman { .. } => {}
        }
    }
}

/// A message was not queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The socket has not opened yet.
    #[error("the socket is still connecting")]
    Connecting,
    /// The socket is closing or closed, or there is none of that name.
    #[error("the socket is closing or closed")]
    NotOpen,
}
