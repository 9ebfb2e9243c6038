//! The errors of the API.

use tunnel_protocol::CloseCode;

/// The failure of a socket or a server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The relay's URL cannot be parsed, or has a scheme that a relay does not have. Nothing was dialled.
    #[error("'{0}' is no relay's URL: expected one that begins with ws:, wss:, http: or https:")]
    Url(String),
    /// The text is not a server ID. Nothing was dialled.
    #[error("'{id}' is not a server ID: {problem}")]
    ServerId {
        /// The text that was given.
        id: String,
        /// The fault of the text.
        problem: String,
    },
    /// A subprotocol is no token of HTTP, or is given twice. Nothing was dialled.
    #[error(
        "'{0}' is no subprotocol, or is given twice: expected letters, digits and some of !#$%&'*+-.^_`|~"
    )]
    Protocols(String),
    /// The path does not begin with a slash. Nothing was dialled.
    #[error("'{0}' is no path: expected one that begins with /")]
    Path(String),
    /// The socket should redial, and has no time for it. Nothing was dialled.
    #[error("a socket that redials needs a resume timeout that is not zero: it is how long it redials")]
    Redial,
    /// A text could not be parked, for example because the server has no identity.
    #[error("nothing was parked: {0}")]
    Parking(String),
    /// The client does not offer the subprotocol that the server chose, or offers some and the server chose none. The client
    /// was refused.
    #[error("the client offers the subprotocols {offered:?}, which '{chosen}' is not among")]
    NotOffered {
        /// The subprotocol that the server chose; empty if none.
        chosen: String,
        /// The subprotocols that the client offers.
        offered: Vec<String>,
    },
    /// Another listener of the server has the port. Nothing was claimed.
    #[error("port {0} is taken: drop its listener first")]
    PortTaken(u16),
    /// The range has no port.
    #[error("the port range {0} to {1} is empty")]
    NoPorts(u16, u16),
    /// The identity could not be taken, for example because another page, or another server of this page, uses it.
    #[error("the identity is not available: {0}")]
    Identity(String),
    /// The socket never opened, or the server was never registered.
    #[error("{}: {reason}", name(*.code))]
    Failed {
        /// The reason as a number.
        code: CloseCode,
        /// The reason in words.
        reason: String,
    },
    /// The socket or server has ended, and what was sent last may be lost unless `was_clean`.
    #[error("the connection ended with code {}: {reason}", .code.0)]
    Closed {
        /// The reason as a number.
        code: CloseCode,
        /// The reason in words.
        reason: String,
        /// True if both sides took part in closing.
        was_clean: bool,
    },
    /// There is no driver: the crate was compiled for a platform without one, or without its feature `native`.
    #[error("there is no driver here: compile for wasm32-unknown-unknown, or with the feature `native`")]
    Unsupported,
    /// The program runs no tokio runtime here, which the driver outside of browsers needs. Nothing was dialled.
    #[error("there is no tokio runtime here: call this from one of its tasks")]
    NoRuntime,
}

impl Error {
    /// The close code, where the network or the other side is the reason.
    #[must_use]
    pub const fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Failed { code, .. } | Self::Closed { code, .. } => Some(*code),
            _ => None,
        }
    }
}

fn name(code: CloseCode) -> &'static str {
    code.name().unwrap_or("closed")
}
