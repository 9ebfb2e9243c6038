//! The values that a link passes to its owner.

use crate::codec::DecodeError;
use crate::frame::{ChannelId, ChannelKind};
use crate::server_id::PublicKey;
use crate::time::Duration;
use crate::{CloseCode, ServerId};
use bytes::Bytes;

/// Something that happened on a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkEvent {
    /// The relay said WELCOME.
    Ready,
    /// The relay registered this server: under the ID of its own key or, in the livecode dialect, under a number.
    Registered(ServerId),
    /// A client wants in.
    Incoming {
        /// The channel that the relay chose.
        channel: ChannelId,
        /// The port that the client wants.
        port: u16,
        /// The kind of the channel.
        kind: ChannelKind,
        /// The client's address as the relay sees it.
        address: String,
        /// The client's first handshake message.
        payload: Bytes,
    },
    /// Livecode dialect only: the key of the server at the other end, unproven.
    ServerKey {
        /// The channel that this peer opened.
        channel: ChannelId,
        /// The key that the server says is its own.
        key: PublicKey,
    },
    /// The server answered the handshake.
    Accepted {
        /// The channel that this peer opened.
        channel: ChannelId,
        /// The second handshake message.
        payload: Bytes,
    },
    /// One record.
    Data {
        /// Its channel.
        channel: ChannelId,
        /// The record.
        payload: Bytes,
    },
    /// The channel is gone.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// The close code.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
    /// A paused channel may be sent on again.
    Writable(ChannelId),
    /// The relay ends soon.
    GoAway {
        /// The time that it still serves the link.
        deadline: Duration,
    },
}

/// The link can't go on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The relay sent a message that is no frame.
    #[error("the relay sent a malformed frame: {0}")]
    Malformed(#[from] DecodeError),
    /// The relay sent a frame that has no place there.
    #[error("the relay sent {frame} out of turn")]
    OutOfTurn {
        /// The frame's name.
        frame: &'static str,
    },
    /// The relay speaks no version that this library does.
    #[error("the relay chose version {0} of the link protocol, which was not offered")]
    Version(u16),
    /// The relay ended the link.
    #[error("the relay ended the link: {code} {reason}")]
    Ended {
        /// The close code.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
    /// The relay said nothing in time.
    #[error("the relay does not answer")]
    Silent,
    /// The relay sent a message that is longer than its frames may be.
    #[error("the relay sent a message of {len} bytes, and its limit is {max} bytes")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The relay announces clients, and does not take the answers.
    #[error("the relay announces clients and does not read the answers")]
    Unread,
    /// The relay registered this server under an ID that does not belong to its key, or that it did not have before.
    #[error("the relay registered this server under an ID that is not its own")]
    WrongServerId,
    /// The relay speaks the livecode dialect where the application has not asked for it, or a server would lose its ID.
    #[error("{reason}")]
    UnwantedDialect {
        /// The reason, and what to do about it.
        reason: &'static str,
    },
    /// The [`Translator`](crate::endpoint::Translator) of the livecode dialect can't go on.
    #[error("{reason}")]
    Livecode {
        /// The code that goes with it.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
}

impl LinkError {
    /// The code that goes with it.
    #[must_use]
    pub const fn code(&self) -> CloseCode {
        match self {
            Self::Malformed(_) | Self::OutOfTurn { .. } | Self::Version(_) | Self::WrongServerId => {
                CloseCode::PROTOCOL_ERROR
            }
            Self::Ended { code, .. } | Self::Livecode { code, .. } => *code,
            Self::Silent => CloseCode::TIMEOUT,
            Self::UnwantedDialect { .. } => CloseCode::LIVECODE_RELAY,
            Self::TooLong { .. } => CloseCode::TOO_BIG,
            Self::Unread => CloseCode::OVERFLOW,
        }
    }
}
