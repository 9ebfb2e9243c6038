//! The formats inside of encryption: frames of records, and payloads of the handshake.

use crate::CloseCode;
use crate::close::truncate_reason;
use crate::codec::{DecodeError, Reader, put_str8, put_str16, put_u16, put_u32, put_u64};
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

/// From this type on, frames carry their length, so that those of unknown types can be skipped.
const FIRST_SKIPPABLE: u8 = 0x40;

/// From this type on, an extension that is unknown must not be skipped.
const FIRST_CRITICAL: u8 = 0x80;

/// Features of the session protocol that this library has.
pub(crate) const FEATURES: u32 = 0;

/// Feature bits and an extension that nobody knows, as OPEN and OPENED of a later version may end with.
const GREASE: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 3, 1, 2, 3];

/// A session frame that nobody knows.
pub(super) const GREASE_FRAME: &[u8] = &[0xfe, 0, 2, 1, 2];

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
    /// Reads the next frame that is known; `None` at the end of the record or where padding begins.
    pub(super) fn decode(reader: &mut Reader) -> Result<Option<Self>, DecodeError> {
        let kind = loop {
            if reader.remaining() == 0 {
                return Ok(None);
            }
            let kind = reader.u8("type");
            if kind < FIRST_SKIPPABLE {
                break kind;
            }
            let len = reader.u16("length");
            reader.bytes(len.into(), "bytes");
            reader.check()?;
        };
        let frame = match kind {
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

/// A peer's position: the bytes that it received, and the limit up to which the other may send.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// Bytes of the other's stream received so far.
    pub received: u64,
    /// Offset up to which the other may send.
    pub limit: u64,
}

/// OPEN: the client's payload of the first handshake message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// The session.
    pub session_id: SessionId,
    /// The client's page load.
    pub epoch: Epoch,
    /// The server's page load, when the session is resumed; none when it is new.
    pub server_epoch: Option<Epoch>,
    /// The client's position.
    pub position: Position,
    /// Subprotocols offered, in order of preference.
    pub protocols: Vec<String>,
    /// Path and query of the tunnel URL, behind the port.
    pub path: String,
    /// Features of the session protocol that the client has, a bit each; none are defined yet.
    pub features: u32,
}

/// OPENED: the server's payload of the second handshake message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Opened {
    /// The session goes on from here.
    Accepted {
        /// The server's page load.
        epoch: Epoch,
        /// The server's position.
        position: Position,
        /// The subprotocol chosen, or empty.
        protocol: String,
        /// Features of the session protocol that the server has, a bit each; none are defined yet.
        features: u32,
    },
    /// There is no such session, or the application does not want it.
    Refused {
        /// The close code.
        code: CloseCode,
        /// The reason, in words.
        reason: String,
    },
}

/// Says why a client cannot offer these subprotocols and ask for this path; `None` if it can.
#[must_use]
pub fn offer_problem<'a>(protocols: impl Iterator<Item = &'a str>, path: &str) -> Option<String> {
    if path.len() > MAX_PATH {
        return Some(format!("path and query have {} bytes, at most {MAX_PATH} are possible", path.len()));
    }
    let (mut count, mut sum) = (0, path.len());
    for protocol in protocols {
        count += 1;
        sum += protocol.len();
        if protocol.len() > MAX_PROTOCOL {
            let len = protocol.len();
            return Some(format!("a subprotocol has {len} bytes, at most {MAX_PROTOCOL} are possible"));
        }
    }
    if count > MAX_PROTOCOLS {
        return Some(format!("there are {count} subprotocols, at most {MAX_PROTOCOLS} are possible"));
    }
    (sum > MAX_OFFER)
        .then(|| format!("path and subprotocols have {sum} bytes, at most {MAX_OFFER} are possible"))
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
    /// The bytes are malformed.
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
        let features = read_tail(&mut reader);
        reader.end()?;
        Ok(Self { session_id, epoch, server_epoch, position, protocols, path, features })
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
        put_u32(&mut out, self.features);
        out.freeze()
    }
}

impl Opened {
    /// Reads the payload of the second handshake message.
    ///
    /// # Errors
    ///
    /// The bytes are malformed.
    pub fn decode(payload: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let mut opened = match reader.u8("status") {
            0 => Self::Accepted {
                epoch: Epoch(reader.u64("epoch")),
                position: Position::decode(&mut reader),
                protocol: reader.str16(MAX_PROTOCOL, "protocol"),
                features: 0,
            },
            status => {
                reader.require(status == 1, "status");
                Self::Refused { code: CloseCode(reader.u16("code")), reason: reader.str8("reason") }
            }
        };
        let common = read_tail(&mut reader);
        reader.end()?;
        if let Self::Accepted { features, .. } = &mut opened {
            *features = common;
        }
        Ok(opened)
    }

    /// Writes the payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        let features = match self {
            Self::Accepted { epoch, position, protocol, features } => {
                out.put_u8(0);
                put_u64(&mut out, epoch.0);
                position.encode(&mut out);
                put_str16(&mut out, protocol);
                *features
            }
            Self::Refused { code, reason } => {
                out.put_u8(1);
                put_u16(&mut out, code.0);
                put_str8(&mut out, truncate_reason(reason));
                0
            }
        };
        put_u32(&mut out, features);
        out.freeze()
    }
}

/// Reads the end of OPEN and OPENED: feature bits, which are returned, and extensions. No extension is defined yet: all are
/// skipped but those that must not be.
fn read_tail(reader: &mut Reader) -> u32 {
    let features = reader.u32("features");
    while reader.remaining() > 0 {
        let (kind, len) = (reader.u8("extension"), reader.u16("extension"));
        reader.bytes(len.into(), "extension");
        if kind >= FIRST_CRITICAL {
            reader.fail(DecodeError::UnknownType(kind));
        }
    }
    features
}

/// OPEN or OPENED as a later version of the protocol may write it.
pub(super) fn greased(payload: &[u8]) -> Bytes {
    let features = payload.len().saturating_sub(4);
    [&payload[..features], GREASE].concat().into()
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
            features: 5,
        };
        let expected = "11111111111111111111111111111111\
            0000000000000001010000000000000002\
            00000000000000030000000000000004\
             02000161000262630004\
             2f703f7100000005";
        assert_eq!(hex(&open.encode()), expected);
        assert_eq!(Open::decode(open.encode()), Ok(open));
        let opened = Opened::Accepted {
            epoch: Epoch(2),
            position: Position { received: 3, limit: 4 },
            protocol: "a".into(),
            features: 4,
        };
        assert_eq!(hex(&opened.encode()), "0000000000000000020000000000000003000000000000000400016100000004");
        assert_eq!(Opened::decode(opened.encode()), Ok(opened));
        let refused = Opened::Refused { code: CloseCode::PORT_CLOSED, reason: "no".into() };
        assert_eq!(hex(&refused.encode()), "010e76026e6f00000000");
        assert_eq!(Opened::decode(refused.encode()), Ok(refused));
    }

    /// The rows of `docs/PROTOCOL.md`, section 2.7.
    const OPENED_WITH_AN_EXTENSION: &str = "010e76026e6f 00000004 7f 0003 010203";
    const OPENED_WITH_A_CRITICAL_EXTENSION: &str = "010e76026e6f 00000000 80 0000";
    const RECORD_WITH_AN_UNKNOWN_FRAME: &str = "40 0003 010203 03 0000000000000007 fe 0000";

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn the_examples_of_what_is_to_come_are_those_of_the_protocol_document() {
        let document = include_str!("../../../../docs/PROTOCOL.md");
        let section = document.split("### 2.7").nth(1).unwrap();
        for row in [OPENED_WITH_AN_EXTENSION, OPENED_WITH_A_CRITICAL_EXTENSION, RECORD_WITH_AN_UNKNOWN_FRAME]
        {
            assert!(section.contains(&format!("`{row}`")), "{row}");
        }
    }

    #[test]
    fn an_extension_that_is_unknown_is_skipped_unless_it_is_critical() {
        let refused = Opened::Refused { code: CloseCode::PORT_CLOSED, reason: "no".into() };
        assert_eq!(Opened::decode(bytes(OPENED_WITH_AN_EXTENSION)), Ok(refused.clone()));
        let critical = bytes(OPENED_WITH_A_CRITICAL_EXTENSION);
        assert_eq!(Opened::decode(critical), Err(DecodeError::UnknownType(0x80)));
        assert_eq!(Opened::decode(greased(&refused.encode())), Ok(refused));
    }

    #[test]
    fn an_extension_that_is_cut_short_is_refused() {
        let whole = bytes(OPENED_WITH_AN_EXTENSION);
        for len in [7, 9, 11, 12, 13, 15] {
            let cut = Opened::decode(whole.slice(..len));
            assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{len} bytes: {cut:?}");
        }
    }

    #[test]
    fn a_frame_that_is_unknown_and_tells_its_length_is_skipped() {
        let mut reader = Reader::new(bytes(RECORD_WITH_AN_UNKNOWN_FRAME));
        assert_eq!(SessionFrame::decode(&mut reader), Ok(Some(SessionFrame::Ping { nonce: 7 })));
        assert_eq!(SessionFrame::decode(&mut reader), Ok(None));
        for kind in 6..0x40 {
            let mut reader = Reader::new(Bytes::from(vec![kind, 0, 0]));
            assert_eq!(SessionFrame::decode(&mut reader), Err(DecodeError::UnknownType(kind)));
        }
        let mut reader = Reader::new(bytes("40 0002 01"));
        assert_eq!(SessionFrame::decode(&mut reader), Err(DecodeError::Truncated { field: "bytes" }));
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
            features: 0,
        };
        assert_eq!(Open::decode(open.encode()), Ok(open));
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0, 0, 1]));
        assert_eq!(SessionFrame::decode(&mut reader), Err(DecodeError::InvalidValue { field: "padding" }));
    }

    fn extensions() -> impl Strategy<Value = Vec<u8>> {
        let one = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20));
        prop::collection::vec(one, 0..5).prop_map(|extensions| {
            let mut out = Vec::new();
            for (kind, bytes) in extensions {
                out.extend([kind, 0, bytes.len() as u8]);
                out.extend(bytes);
            }
            out
        })
    }

    /// The types in what [`extensions`] makes.
    fn types(mut extensions: &[u8]) -> Vec<u8> {
        let mut types = Vec::new();
        while let [kind, 0, len, rest @ ..] = extensions {
            types.push(*kind);
            extensions = &rest[usize::from(*len)..];
        }
        types
    }

    proptest! {
        #[test]
        fn whatever_extensions_follow_the_payload_says_what_it_said(features: u32, extensions in extensions()) {
            let open = Open {
                session_id: SessionId([0x11; 16]),
                epoch: Epoch(1),
                server_epoch: None,
                position: Position { received: 3, limit: 4 },
                protocols: vec!["a".into()],
                path: "/".into(),
                features,
            };
            let decoded = Open::decode([&open.encode()[..], &extensions].concat().into());
            match types(&extensions).into_iter().find(|kind| *kind >= FIRST_CRITICAL) {
                None => prop_assert_eq!(decoded, Ok(open)),
                Some(kind) => prop_assert_eq!(decoded, Err(DecodeError::UnknownType(kind))),
            }
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(bytes.clone().into());
            while let Ok(Some(_)) = SessionFrame::decode(&mut reader) {}
            let _ = Open::decode(bytes.clone().into());
            let _ = Opened::decode(bytes.into());
        }
    }
}
