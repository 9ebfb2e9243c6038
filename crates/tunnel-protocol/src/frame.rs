//! The frames of the link protocol: what a peer and the relay say to each other.

use crate::close::{MAX_REASON, truncate_reason};
use crate::codec::{DecodeError, Reader, put_str8, put_str16, put_u16, put_u32, put_u64};
use crate::server_id::PublicKey;
use crate::{CloseCode, ServerId};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::time::Duration;

/// Length of the header of every frame: its type and its channel.
pub const HEADER_LEN: usize = 5;

/// Longest frame by default, header included, in bytes.
///
/// Chromium sends WebSocket messages of up to 64 KiB in one piece, and cuts longer ones into fragments. Much data comes in
/// pieces of just that length, whose receiver gets the memory of a frame that is as long.
pub const DEFAULT_MAX_FRAME: u32 = 65_536;

/// Smallest `max_frame` that a relay may advertise, in bytes: a handshake with the longest payload fits.
pub const MIN_MAX_FRAME: u32 = 8_192;

/// Longest access token, in bytes.
pub const MAX_TOKEN: usize = 1_024;

/// Longest URL in [`Frame::Register`], in bytes; a longer one is cut.
pub const MAX_URL: usize = 2_048;

/// One forwarded client-server pair, as numbered on one link; never used twice on it.
///
/// The peer numbers the channels that it opens with odd numbers, the relay those that it opens with even ones.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelId(pub u32);

impl ChannelId {
    /// The link itself, in frames that concern no channel.
    pub const LINK: Self = Self(0);
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {}", self.0)
    }
}

/// The kind of a channel: what its DATA frames hold.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChannelKind {
    /// An encrypted session: the payloads are handshake messages and records.
    Session,
    /// A plain peer of the livecode dialect: the payloads are its UTF-8 texts.
    Plain,
    /// A kind that a later version of the protocol added, by its number. This version refuses such channels.
    Unknown(u8),
}

/// The relay's limits, and the challenge for registrations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The version that the relay chose.
    pub version: u16,
    /// The features that both have; none are defined yet.
    pub features: u32,
    /// Longest frame that the relay takes or sends, header included, in bytes.
    pub max_frame: u32,
    /// The number of channels the link may have at once.
    pub max_channels: u32,
    /// The number of bytes the relay holds back for one channel before it drops the channel.
    pub channel_buffer: u32,
    /// The time that the link may be silent before the relay ends it.
    pub idle_timeout: Duration,
    /// The relay's ephemeral public key: what a registration is proven against.
    pub challenge: PublicKey,
    /// The peer's address as the relay sees it.
    pub address: String,
    /// The relay's name for itself.
    pub node: String,
}

/// One protocol frame. It fills one binary WebSocket message.
///
/// ```text
/// +----------+-----------------+--------------------------+
/// | type: u8 | channel: u32 BE | fields of the frame type |
/// +----------+-----------------+--------------------------+
/// ```
///
/// The highest bit of the type is the critical bit: a receiver that does not know the type ignores the frame when
/// the bit is clear and ends the link when it is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// Peer to relay, first: what the peer speaks.
    Hello {
        /// Oldest version that the peer speaks.
        min_version: u16,
        /// Newest version that the peer speaks.
        max_version: u16,
        /// Features that the peer has.
        features: u32,
        /// Access token, or empty.
        token: String,
    },
    /// Relay to peer, the answer to [`Frame::Hello`].
    Welcome(Box<Welcome>),
    /// Server to relay: reach me under this key.
    Register {
        /// The server's static key.
        key: PublicKey,
        /// Proof that the server holds the key's private half; see `docs/PROTOCOL.md`.
        proof: [u8; 32],
        /// The relay's URL as the server dialled it. It proves nothing: it is there for the words in which a relay says that
        /// it is reached under another one.
        url: String,
    },
    /// Relay to server: registered.
    Registered {
        /// Under which clients reach the server.
        server_id: ServerId,
    },
    /// Client to relay: forward this channel to a server.
    Connect {
        /// Chosen by the client, odd, greater than any before it on the link.
        channel: ChannelId,
        /// The server to reach.
        server_id: ServerId,
        /// The port of the server.
        port: u16,
        /// The kind of the channel.
        kind: ChannelKind,
        /// The first handshake message, or empty on a plain channel.
        payload: Bytes,
    },
    /// Relay to server: a client wants in.
    Incoming {
        /// Chosen by the relay, even, greater than any before it on the link.
        channel: ChannelId,
        /// The port that the client wants.
        port: u16,
        /// The kind of the channel.
        kind: ChannelKind,
        /// The client's address as the relay sees it.
        address: String,
        /// The first handshake message, from the client's [`Frame::Connect`].
        payload: Bytes,
    },
    /// Server to client: the second handshake message, or empty on a plain channel.
    Accept {
        /// The channel.
        channel: ChannelId,
        /// The second handshake message.
        payload: Bytes,
    },
    /// Both ways: one record, opaque to the relay.
    Data {
        /// The channel.
        channel: ChannelId,
        /// One record, or one text on a plain channel.
        payload: Bytes,
    },
    /// Either way: the end of a channel, or of the link ([`ChannelId::LINK`]).
    Close {
        /// The channel.
        channel: ChannelId,
        /// The close code.
        code: CloseCode,
        /// The reason, in words; at most 123 bytes.
        reason: String,
    },
    /// Relay to sender: stop sending on the channel, its receiver is behind.
    Pause {
        /// The channel.
        channel: ChannelId,
    },
    /// Relay to sender: go on, the receiver has caught up.
    Resume {
        /// The channel.
        channel: ChannelId,
    },
    /// Either way: answer with [`Frame::Pong`].
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// The answer to [`Frame::Ping`].
    Pong {
        /// From the ping.
        nonce: u64,
    },
    /// Relay to peer: this relay ends soon.
    GoAway {
        /// The time that the links are still served.
        deadline: Duration,
    },
    /// Relay to peer: what the peer did wrong; the link ends.
    Error {
        /// The kind of error.
        code: CloseCode,
        /// The error in words: what was wrong, where, and what to do.
        text: String,
    },
}

/// Type of [`Frame::Hello`] on the wire.
pub const HELLO: u8 = 0x81;
const WELCOME: u8 = 0x82;
/// Type of [`Frame::Register`] on the wire.
pub const REGISTER: u8 = 0x83;
/// Type of [`Frame::Registered`] on the wire.
pub const REGISTERED: u8 = 0x84;
/// Type of [`Frame::Connect`] on the wire.
pub const CONNECT: u8 = 0x85;
/// Type of [`Frame::Incoming`] on the wire.
pub const INCOMING: u8 = 0x86;
/// Type of [`Frame::Accept`] on the wire.
pub const ACCEPT: u8 = 0x87;
/// Type of [`Frame::Data`] on the wire.
pub const DATA: u8 = 0x88;
/// Type of [`Frame::Close`] on the wire.
pub const CLOSE: u8 = 0x89;
const PAUSE: u8 = 0x8a;
const RESUME: u8 = 0x8b;
const PING: u8 = 0x0c;
pub(crate) const PONG: u8 = 0x0d;
const GOAWAY: u8 = 0x0e;
const ERROR: u8 = 0x8f;
const CRITICAL: u8 = 0x80;

impl Frame {
    /// Reads a frame from one WebSocket message.
    ///
    /// `None` is a frame of an unknown type that may be ignored. Payloads are shared with `message`, not copied.
    ///
    /// # Errors
    ///
    /// The frame is malformed. The link can't go on after that.
    pub fn decode(message: Bytes) -> Result<Option<Self>, DecodeError> {
        Self::read::<true>(message)
    }

    /// The same for what a relay sends: types that only peers send are unknown, and their code is not in a page.
    pub(crate) fn decode_from_relay(message: Bytes) -> Result<Option<Self>, DecodeError> {
        Self::read::<false>(message)
    }

    fn read<const FROM_PEERS: bool>(message: Bytes) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(message);
        let kind = reader.u8("type");
        let channel = ChannelId(reader.u32("channel"));
        let is_link = channel == ChannelId::LINK;
        reader.require(
            !(is_about_a_channel(kind) && is_link || is_about_the_link(kind) && !is_link),
            "channel",
        );
        let frame = match kind {
            HELLO if FROM_PEERS => {
                let (min_version, max_version) = (reader.u16("min_version"), reader.u16("max_version"));
                reader.require(min_version <= max_version, "max_version");
                let features = reader.u32("features");
                Self::Hello { min_version, max_version, features, token: reader.str16(MAX_TOKEN, "token") }
            }
            WELCOME => Self::Welcome(Box::new(Welcome::decode(&mut reader))),
            REGISTER if FROM_PEERS => {
                let (key, proof) = (PublicKey(reader.array("key")), reader.array("proof"));
                Self::Register { key, proof, url: reader.str16(MAX_URL, "url") }
            }
            REGISTERED => Self::Registered { server_id: server_id(&mut reader) },
            CONNECT if FROM_PEERS => Self::Connect {
                channel,
                server_id: server_id(&mut reader),
                port: reader.u16("port"),
                kind: channel_kind(&mut reader),
                payload: reader.rest(),
            },
            INCOMING => Self::Incoming {
                channel,
                port: reader.u16("port"),
                kind: channel_kind(&mut reader),
                address: reader.str8("address"),
                payload: reader.rest(),
            },
            ACCEPT => Self::Accept { channel, payload: reader.rest() },
            DATA => Self::Data { channel, payload: reader.rest() },
            CLOSE => {
                let (code, reason) = (CloseCode(reader.u16("code")), reader.str8("reason"));
                reader.require(reason.len() <= MAX_REASON, "reason");
                Self::Close { channel, code, reason }
            }
            PAUSE => Self::Pause { channel },
            RESUME => Self::Resume { channel },
            PING => Self::Ping { nonce: reader.u64("nonce") },
            PONG => Self::Pong { nonce: reader.u64("nonce") },
            GOAWAY => Self::GoAway { deadline: Duration::from_millis(reader.u32("deadline").into()) },
            ERROR => Self::Error { code: CloseCode(reader.u16("code")), text: reader.str8("text") },
            unknown => {
                reader.check()?;
                return if unknown & CRITICAL == 0 {
                    Ok(None)
                } else {
                    Err(DecodeError::UnknownType(unknown))
                };
            }
        };
        reader.end()?;
        Ok(Some(frame))
    }

    /// Writes the frame as one WebSocket message.
    ///
    /// Texts that are longer than the format allows are cut between characters.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.write::<true>()
    }

    /// The same for what a peer sends: others have no fields.
    pub(crate) fn encode_from_peer(&self) -> Bytes {
        self.write::<false>()
    }

    fn write<const FROM_RELAYS: bool>(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_LEN + self.body_hint());
        out.put_u8(self.kind());
        put_u32(&mut out, self.channel().0);
        match self {
            Self::Hello { min_version, max_version, features, token } => {
                put_u16(&mut out, *min_version);
                put_u16(&mut out, *max_version);
                put_u32(&mut out, *features);
                put_str16(&mut out, token);
            }
            Self::Welcome(welcome) if FROM_RELAYS => welcome.encode(&mut out),
            Self::Register { key, proof, url } => {
                out.put_slice(&key.0);
                out.put_slice(proof);
                put_str16(&mut out, &url[..url.floor_char_boundary(MAX_URL)]);
            }
            Self::Registered { server_id } if FROM_RELAYS => put_str8(&mut out, &server_id.to_string()),
            Self::Connect { server_id, port, kind, payload, .. } => {
                put_str8(&mut out, &server_id.to_string());
                put_u16(&mut out, *port);
                out.put_u8(kind.to_byte());
                out.put_slice(payload);
            }
            Self::Incoming { port, kind, address, payload, .. } if FROM_RELAYS => {
                put_u16(&mut out, *port);
                out.put_u8(kind.to_byte());
                put_str8(&mut out, address);
                out.put_slice(payload);
            }
            Self::Accept { payload, .. } | Self::Data { payload, .. } => out.put_slice(payload),
            Self::Close { code, reason, .. } => {
                put_u16(&mut out, code.0);
                put_str8(&mut out, truncate_reason(reason));
            }
            Self::Ping { nonce } | Self::Pong { nonce } => put_u64(&mut out, *nonce),
            Self::GoAway { deadline } if FROM_RELAYS => put_u32(&mut out, millis(*deadline)),
            Self::Error { code, text } if FROM_RELAYS => {
                put_u16(&mut out, code.0);
                put_str8(&mut out, text);
            }
            _ => debug_assert!(FROM_RELAYS || !self.is_from_relays(), "only relays send {}", self.name()),
        }
        out.freeze()
    }

    /// The channel that the frame is about.
    #[must_use]
    pub const fn channel(&self) -> ChannelId {
        match self {
            Self::Connect { channel, .. }
            | Self::Incoming { channel, .. }
            | Self::Accept { channel, .. }
            | Self::Data { channel, .. }
            | Self::Close { channel, .. }
            | Self::Pause { channel }
            | Self::Resume { channel } => *channel,
            _ => ChannelId::LINK,
        }
    }

    /// The frame's name in `docs/PROTOCOL.md`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::Welcome(_) => "WELCOME",
            Self::Register { .. } => "REGISTER",
            Self::Registered { .. } => "REGISTERED",
            Self::Connect { .. } => "CONNECT",
            Self::Incoming { .. } => "INCOMING",
            Self::Accept { .. } => "ACCEPT",
            Self::Data { .. } => "DATA",
            Self::Close { .. } => "CLOSE",
            Self::Pause { .. } => "PAUSE",
            Self::Resume { .. } => "RESUME",
            Self::Ping { .. } => "PING",
            Self::Pong { .. } => "PONG",
            Self::GoAway { .. } => "GOAWAY",
            Self::Error { .. } => "ERROR",
        }
    }

    /// Returns whether no peer sends it.
    const fn is_from_relays(&self) -> bool {
        matches!(
            self,
            Self::Welcome(_)
                | Self::Registered { .. }
                | Self::Incoming { .. }
                | Self::Pause { .. }
                | Self::Resume { .. }
                | Self::GoAway { .. }
                | Self::Error { .. }
        )
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Welcome(_) => WELCOME,
            Self::Register { .. } => REGISTER,
            Self::Registered { .. } => REGISTERED,
            Self::Connect { .. } => CONNECT,
            Self::Incoming { .. } => INCOMING,
            Self::Accept { .. } => ACCEPT,
            Self::Data { .. } => DATA,
            Self::Close { .. } => CLOSE,
            Self::Pause { .. } => PAUSE,
            Self::Resume { .. } => RESUME,
            Self::Ping { .. } => PING,
            Self::Pong { .. } => PONG,
            Self::GoAway { .. } => GOAWAY,
            Self::Error { .. } => ERROR,
        }
    }

    const fn body_hint(&self) -> usize {
        match self {
            Self::Connect { payload, .. } | Self::Incoming { payload, .. } => payload.len() + 128,
            Self::Accept { payload, .. } | Self::Data { payload, .. } => payload.len(),
            _ => 64,
        }
    }
}

/// The bytes before a record that make it a [`Frame::Data`], for those who build records in place.
#[must_use]
pub const fn data_header(channel: ChannelId) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = channel.0.to_be_bytes();
    [DATA, a, b, c, d]
}

/// Changes the channel of an encoded frame in place: all that the relay changes in what it forwards.
///
/// Does nothing to a message that is too short to be a frame.
pub fn restamp(message: &mut [u8], channel: ChannelId) {
    if let Some(field) = message.get_mut(1..HEADER_LEN) {
        field.copy_from_slice(&channel.0.to_be_bytes());
    }
}

impl Welcome {
    fn decode(reader: &mut Reader) -> Self {
        let welcome = Self {
            version: reader.u16("version"),
            features: reader.u32("features"),
            max_frame: reader.u32("max_frame"),
            max_channels: reader.u32("max_channels"),
            channel_buffer: reader.u32("channel_buffer"),
            idle_timeout: Duration::from_millis(reader.u32("idle_timeout").into()),
            challenge: PublicKey(reader.array("challenge")),
            address: reader.str8("address"),
            node: reader.str8("node"),
        };
        reader.require(welcome.max_frame >= MIN_MAX_FRAME, "max_frame");
        welcome
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.version);
        out.put_u32(self.features);
        out.put_u32(self.max_frame);
        out.put_u32(self.max_channels);
        out.put_u32(self.channel_buffer);
        out.put_u32(millis(self.idle_timeout));
        out.put_slice(&self.challenge.0);
        put_str8(out, &self.address);
        put_str8(out, &self.node);
    }
}

impl ChannelKind {
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Session => 0,
            Self::Plain => 1,
            Self::Unknown(kind) => kind,
        }
    }
}

const fn is_about_a_channel(kind: u8) -> bool {
    matches!(kind, CONNECT | INCOMING | ACCEPT | DATA | PAUSE | RESUME)
}

const fn is_about_the_link(kind: u8) -> bool {
    matches!(kind, HELLO | WELCOME | REGISTER | REGISTERED | PING | PONG | GOAWAY | ERROR)
}

pub(crate) fn channel_kind(reader: &mut Reader) -> ChannelKind {
    match reader.u8("kind") {
        0 => ChannelKind::Session,
        1 => ChannelKind::Plain,
        kind => ChannelKind::Unknown(kind),
    }
}

pub(crate) fn server_id(reader: &mut Reader) -> ServerId {
    let id = reader.str8("server_id").parse();
    reader.require(id.is_ok(), "server_id");
    id.unwrap_or(ServerId::Number(0))
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
