//! The livecode dialect: JSON text between a peer and a livecoding relay, the wire of 2017.
//!
//! A peer sends [commands](Command), the relay answers each with lines of text and tells the peers of a channel
//! about each other with [notifications](Notification). [`LivecodeClient`] is a peer's side as a machine;
//! a relay's side is [`Command::parse`] and [`Line`]. Encrypted sessions travel through it as
//! [packets](Packet). The normative text is section 3 of `docs/PROTOCOL.md`.

mod answer;
mod base64;
mod client;
mod command;
mod json;
mod link;
mod name;
mod packet;
mod transfer;

pub use answer::{Line, Notification};
pub use client::{Answer, CallId, LivecodeClient, LivecodeError, LivecodeEvent};
pub use command::{Command, MAX_COMMAND, MAX_CREDENTIAL, MalformedCommand, Request};
pub use json::Parameter;
pub use link::LivecodeLink;
pub use packet::{MARKER, MAX_PACKET, Packet, PacketError};
pub use transfer::{LinkCommand, decode_link_event, encode_link_event};

/// Names of the commands that manage injected instructions and take the relay's credential. A server of 2017 knows none.
pub const PRIVILEGED: [&str; 11] = [
    "hello",
    "instructions",
    "source",
    "roll back",
    "remove",
    "checkpoint",
    "restore",
    "globals",
    "watch",
    "unwatch",
    "quota",
];

/// Name of the command by which a peer proves that it holds a server's key. It takes no credential, and a server of 2017 does not know it.
pub const PROVE: &str = "prove";

/// The separator of a notification's parts, unless the relay's configurer chose another.
pub const DELIMITER: &str = " ";

/// An instruction of the tunnel, as a configurer injects it into a livecoding server and as our relay has it
/// built in.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Instruction {
    /// Makes the relay's tables, if there are none.
    Initialize,
    /// Takes a free server ID and sends it with a fresh credential.
    CreateServerCredential,
    /// Makes the sender the server with an ID.
    InstallServer,
    /// Connects the sender, as a client, to a server.
    ConnectToServer,
    /// Passes a server's data on to one of its clients.
    ForwardToClient,
    /// Passes a client's data on to its server.
    ForwardToServer,
}

impl Instruction {
    /// All of them, in the order in which a configurer adds them.
    pub const ALL: [Self; 6] = [
        Self::Initialize,
        Self::CreateServerCredential,
        Self::InstallServer,
        Self::ConnectToServer,
        Self::ForwardToClient,
        Self::ForwardToServer,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::CreateServerCredential => "create server credential",
            Self::InstallServer => "install server",
            Self::ConnectToServer => "connect to server",
            Self::ForwardToClient => "forward to client",
            Self::ForwardToServer => "forward to server",
        }
    }

    /// The JavaScript by which a configurer adds it; a livecoding server evaluates it.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Initialize => include_str!("livecode/instructions/initialize.js"),
            Self::CreateServerCredential => {
                include_str!("livecode/instructions/create_server_credential.js")
            }
            Self::InstallServer => include_str!("livecode/instructions/install_server.js"),
            Self::ConnectToServer => include_str!("livecode/instructions/connect_to_server.js"),
            Self::ForwardToClient => include_str!("livecode/instructions/forward_to_client.js"),
            Self::ForwardToServer => include_str!("livecode/instructions/forward_to_server.js"),
        }
    }

    /// The instruction of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|instruction| instruction.name() == name)
    }
}
