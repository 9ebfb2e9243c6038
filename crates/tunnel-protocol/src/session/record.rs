//! What a record holds once it is opened, and what the handshake carries.

use crate::CloseCode;
use crate::close::truncate_reason;
use crate::codec::{DecodeError, Reader, put_str8, put_str16, put_u16, put_u64};
use crate::text::text;
use bytes::{BufMut, Bytes, BytesMut};

/// Length of a STREAM frame's header: type, offset, length.
pub(super) const STREAM_HEADER: usize = 1 + 8 + 2;

/// Length of an ACK frame.
pub(super) const ACK_LEN: usize = 1 + 8 + 8;

/// Longest path (with query) of a tunnel URL, in bytes.
pub const MAX_PATH: usize = 16_384;

/// Most subprotocols that a client may offer.
pub const MAX_PROTOCOLS: usize = 64;

/// Longest subprotocol, in bytes.
pub const MAX_PROTOCOL: usize = 1_024;

/// Most bytes that the path and all subprotocols have together, so that they fit into a frame of 64 KiB with the rest.
pub const MAX_OFFER: usize = 61_440;

const PADDING: u8 = 0;
const STREAM: u8 = 1;
const ACK: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const CLOSE: u8 = 5;

/// One part of a record's plaintext.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SessionFrame {
    Stream { offset: u64, bytes: Bytes },
    Ack { received: u64, limit: u64 },
    Ping { nonce: u64 },
    Pong { nonce: u64 },
    Close { code: CloseCode, reason: String },
}

impl SessionFrame {
    /// Reads the next frame; `None` at the end of the record or where padding begins.
    pub(super) fn decode(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
        if reader.remaining() == 0 {
            return Ok(None);
        }
        let frame = match reader.u8("type") {
            PADDING => {
                let is_zero = reader.rest().iter().all(|&byte| byte == 0);
                reader.require(is_zero, "padding");
                return reader.check().map(|()| None);
            }
            STREAM => {
                let (offset, len) = (reader.u64("offset"), reader.u16("length"));
                Self::Stream { offset, bytes: reader.bytes(len.into(), "bytes") }
            }
            ACK => Self::Ack { received: reader.u64("received"), limit: reader.u64("limit") },
            PING => Self::Ping { nonce: reader.u64("nonce") },
            PONG => Self::Pong { nonce: reader.u64("nonce") },
            CLOSE => Self::Close { code: CloseCode(reader.u16("code")), reason: reader.str8("reason") },
            unknown => return Err(DecodeError::UnknownType(unknown)),
        };
        reader.check().map(|()| Some(frame))
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Stream { offset, bytes } => {
                put_stream_header(out, *offset, bytes.len());
                out.put_slice(bytes);
            }
            Self::Ack { received, limit } => {
                out.put_u8(ACK);
                put_u64(out, *received);
                put_u64(out, *limit);
            }
            Self::Ping { nonce } => {
                out.put_u8(PING);
                put_u64(out, *nonce);
            }
            Self::Pong { nonce } => {
                out.put_u8(PONG);
                put_u64(out, *nonce);
            }
            Self::Close { code, reason } => {
                out.put_u8(CLOSE);
                put_u16(out, code.0);
                put_str8(out, truncate_reason(reason));
            }
        }
    }
}

/// Begins a STREAM frame; `len` bytes of the stream must follow. `len` is at most 65,535.
pub(super) fn put_stream_header(out: &mut BytesMut, offset: u64, len: usize) {
    debug_assert!(len <= usize::from(u16::MAX), "records are shorter");
    out.put_u8(STREAM);
    put_u64(out, offset);
    put_u16(out, len as u16);
}

/// A session's name: drawn by the client, known to nobody but its two peers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub [u8; 16]);

/// A peer's page load. Another epoch under the same key means that the page was reloaded and knows nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch(pub u64);

/// Where a peer stands: what it received, and how far the other may go on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// Bytes of the other's stream received so far.
    pub received: u64,
    /// Offset up to which the other may send.
    pub limit: u64,
}

/// What the client says in the first handshake message: OPEN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// Which session.
    pub session_id: SessionId,
    /// The client's page load.
    pub epoch: Epoch,
    /// The server's page load, when the session is resumed; none when it is new.
    pub server_epoch: Option<Epoch>,
    /// Where the client stands.
    pub position: Position,
    /// Subprotocols offered, in order of preference.
    pub protocols: Vec<String>,
    /// Path and query of the tunnel URL, behind the port.
    pub path: String,
}

/// What the server says in the second handshake message: OPENED.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Opened {
    /// The session goes on from here.
    Accepted {
        /// The server's page load.
        epoch: Epoch,
        /// Where the server stands.
        position: Position,
        /// The subprotocol chosen, or empty.
        protocol: String,
    },
    /// There is no such session, or the application does not want it.
    Refused {
        /// Why.
        code: CloseCode,
        /// Why, in words.
        reason: String,
    },
}

/// Says why a client cannot offer these subprotocols and ask for this path; `None` if it can.
#[must_use]
pub fn offer_problem<'a>(protocols: impl Iterator<Item = &'a str>, path: &str) -> Option<String> {
    if path.len() > MAX_PATH {
        return Some(text![
            "path and query have ",
            path.len(),
            " bytes, at most ",
            MAX_PATH,
            " are possible"
        ]);
    }
    let (mut count, mut sum) = (0, path.len());
    for protocol in protocols {
        count += 1;
        sum += protocol.len();
        if protocol.len() > MAX_PROTOCOL {
            let len = protocol.len();
            return Some(text!["a subprotocol has ", len, " bytes, at most ", MAX_PROTOCOL, " are possible"]);
        }
    }
    if count > MAX_PROTOCOLS {
        return Some(text!["there are ", count, " subprotocols, at most ", MAX_PROTOCOLS, " are possible"]);
    }
    (sum > MAX_OFFER)
        .then(|| text!["path and subprotocols have ", sum, " bytes, at most ", MAX_OFFER, " are possible"])
}

impl Position {
    fn decode(reader: &mut Reader) -> Self {
        Self { received: reader.u64("received"), limit: reader.u64("limit") }
    }

    fn encode(self, out: &mut BytesMut) {
        put_u64(out, self.received);
        put_u64(out, self.limit);
    }
}

impl Open {
    /// Reads the payload of the first handshake message.
    ///
    /// # Errors
    ///
    /// What is malformed.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let session_id = SessionId(reader.array("session_id"));
        let epoch = Epoch(reader.u64("epoch"));
        let resume = reader.u8("resume");
        reader.require(resume <= 1, "resume");
        let server_epoch = (resume == 1).then(|| Epoch(reader.u64("server_epoch")));
        let position = Position::decode(&mut reader);
        let count = usize::from(reader.u8("protocol_count"));
        reader.require(count <= MAX_PROTOCOLS, "protocol_count");
        let protocols = (0..count).map(|_| reader.str16(MAX_PROTOCOL, "protocol")).collect();
        let path = reader.str16(MAX_PATH, "path");
        reader.end()?;
        Ok(Self { session_id, epoch, server_epoch, position, protocols, path })
    }

    /// Writes the payload. What is offered has passed [`offer_problem`].
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_slice(&self.session_id.0);
        put_u64(&mut out, self.epoch.0);
        match self.server_epoch {
            None => out.put_u8(0),
            Some(epoch) => {
                out.put_u8(1);
                put_u64(&mut out, epoch.0);
            }
        }
        self.position.encode(&mut out);
        out.put_u8(self.protocols.len() as u8);
        for protocol in &self.protocols {
            put_str16(&mut out, protocol);
        }
        put_str16(&mut out, &self.path);
        out.freeze()
    }
}

impl Opened {
    /// Reads the payload of the second handshake message.
    ///
    /// # Errors
    ///
    /// What is malformed.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let opened = match reader.u8("status") {
            0 => Self::Accepted {
                epoch: Epoch(reader.u64("epoch")),
                position: Position::decode(&mut reader),
                protocol: reader.str16(MAX_PROTOCOL, "protocol"),
            },
            status => {
                reader.require(status == 1, "status");
                Self::Refused { code: CloseCode(reader.u16("code")), reason: reader.str8("reason") }
            }
        };
        reader.end()?;
        Ok(opened)
    }

    /// Writes the payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Self::Accepted { epoch, position, protocol } => {
                out.put_u8(0);
                put_u64(&mut out, epoch.0);
                position.encode(&mut out);
                put_str16(&mut out, protocol);
            }
            Self::Refused { code, reason } => {
                out.put_u8(1);
                put_u16(&mut out, code.0);
                put_str8(&mut out, truncate_reason(reason));
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Changing a row changes the protocol: raise the version.
    #[test]
    fn every_session_frame_has_the_bytes_of_the_table() {
        let rows = [
            (
                SessionFrame::Stream { offset: 258, bytes: Bytes::from_static(b"abc") },
                "0100000000000001020003616263",
            ),
            (SessionFrame::Ack { received: 3, limit: 262_144 }, "0200000000000000030000000000040000"),
            (SessionFrame::Ping { nonce: 7 }, "030000000000000007"),
            (SessionFrame::Pong { nonce: 7 }, "040000000000000007"),
            (SessionFrame::Close { code: CloseCode::GOING_AWAY, reason: "bye".into() }, "0503e903627965"),
        ];
        for (frame, expected) in rows {
            let mut out = BytesMut::new();
            frame.encode(&mut out);
            assert_eq!(hex(&out), expected);
            out.put_bytes(0, 3);
            let mut reader = Reader::new(out.freeze());
            assert_eq!(SessionFrame::decode(&mut reader), Ok(Some(frame)));
            assert_eq!(SessionFrame::decode(&mut reader), Ok(None), "the rest is padding");
        }
    }

    #[test]
    fn the_handshake_payloads_have_the_bytes_of_the_table() {
        let open = Open {
            session_id: SessionId([0x11; 16]),
            epoch: Epoch(1),
            server_epoch: Some(Epoch(2)),
            position: Position { received: 3, limit: 4 },
            protocols: vec!["a".into(), "bc".into()],
            path: "/p?q".into(),
        };
        let expected = "11111111111111111111111111111111\
            0000000000000001010000000000000002\
            00000000000000030000000000000004\
            02000161000262630004\
            2f703f71";
        assert_eq!(hex(&open.encode()), expected);
        assert_eq!(Open::decode(open.encode()), Ok(open));
        let opened = Opened::Accepted {
            epoch: Epoch(2),
            position: Position { received: 3, limit: 4 },
            protocol: "a".into(),
        };
        assert_eq!(hex(&opened.encode()), "00000000000000000200000000000000030000000000000004000161");
        assert_eq!(Opened::decode(opened.encode()), Ok(opened));
        let refused = Opened::Refused { code: CloseCode::PORT_CLOSED, reason: "no".into() };
        assert_eq!(hex(&refused.encode()), "010e76026e6f");
        assert_eq!(Opened::decode(refused.encode()), Ok(refused));
    }

    #[test]
    fn what_a_client_offers_is_bounded_piece_by_piece_and_together() {
        let problem = |protocols: &[&str], path: &str| offer_problem(protocols.iter().copied(), path);
        let long = "a".repeat(MAX_PROTOCOL);
        let path = "/".repeat(MAX_PATH);
        assert_eq!(problem(&[&*long; 40], &path), None);
        for (protocols, path, expected) in [
            (&[&*(long.clone() + "a")][..], "", "a subprotocol has 1025 bytes, at most 1024 are possible"),
            (&["a"; 65], "", "there are 65 subprotocols, at most 64 are possible"),
            (&[], &*(path.clone() + "/"), "path and query have 16385 bytes, at most 16384 are possible"),
            (&[&*long; 60], &path, "path and subprotocols have 77824 bytes, at most 61440 are possible"),
        ] {
            assert_eq!(problem(protocols, path).as_deref(), Some(expected));
        }
        let open = Open {
            session_id: SessionId([0; 16]),
            epoch: Epoch(1),
            server_epoch: None,
            position: Position::default(),
            protocols: vec![long; 44],
            path,
        };
        assert_eq!(Open::decode(open.encode()), Ok(open));
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0, 0, 1]));
        assert_eq!(SessionFrame::decode(&mut reader), Err(DecodeError::InvalidValue { field: "padding" }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(bytes.clone().into());
            while let Ok(Some(_)) = SessionFrame::decode(&mut reader) {}
            let _ = Open::decode(bytes.clone().into());
            let _ = Opened::decode(bytes.into());
        }
    }
}
