//! The packets of an encrypted session's peers in the livecode dialect, as text.

use super::base64;
use crate::close::{CloseCode, MAX_REASON, truncate_reason};
use crate::server_id::PublicKey;
use bytes::{Buf, Bytes};

/// The beginning of every packet, so that a plain peer's data is told apart.
pub const MARKER: &str = "tunnel.v1:";

/// Longest body of a packet, in bytes.
pub const MAX_PACKET: usize = 65_536;

/// One unit of an encrypted session: the data of one forwarded text.
///
/// ```text
/// "tunnel.v1:" base64(kind: u8 ‖ body)
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// The client asks for the server's static key.
    Who,
    /// The server's static key: what the client's first handshake message is made for.
    Key(PublicKey),
    /// The client's handshake message.
    Initiation(Bytes),
    /// The server's handshake message.
    Response(Bytes),
    /// One session record.
    Record(Bytes),
    /// The channel ends.
    End {
        /// The close code.
        code: CloseCode,
        /// The reason, in words: at most 123 bytes of UTF-8.
        reason: String,
    },
}

/// A text has the marker, but is no packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The text behind the marker is not canonical base64 without padding.
    #[error("the packet is not base64 in canonical form, without padding")]
    Base64,
    /// The body is longer than [`MAX_PACKET`].
    #[error("the packet is longer than {MAX_PACKET} bytes")]
    TooLong,
    /// There is no kind, or an unknown one.
    #[error("the packet's kind is missing or unknown")]
    Kind,
    /// The body does not have the form that the kind gives it.
    #[error("the body of a packet of kind {0} is malformed")]
    Body(u8),
}

const WHO: u8 = 0;
const KEY: u8 = 1;
const INITIATION: u8 = 2;
const RESPONSE: u8 = 3;
const RECORD: u8 = 4;
const END: u8 = 5;

impl Packet {
    /// The packet as text.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Who => encode(WHO, &[], &[]),
            Self::Key(key) => encode(KEY, &key.0, &[]),
            Self::Initiation(message) => encode(INITIATION, message, &[]),
            Self::Response(message) => encode(RESPONSE, message, &[]),
            Self::Record(record) => encode(RECORD, record, &[]),
            Self::End { code, reason } => {
                encode(END, &code.0.to_be_bytes(), truncate_reason(reason).as_bytes())
            }
        }
    }

    /// Reads a packet; `None` if the text lacks the marker and comes from a plain peer.
    #[must_use]
    pub fn decode(text: &str) -> Option<Result<Self, PacketError>> {
        text.strip_prefix(MARKER).map(decode)
    }
}

fn encode(kind: u8, head: &[u8], tail: &[u8]) -> String {
    let len = base64::encoded_len(1 + head.len() + tail.len());
    let mut text = String::with_capacity(MARKER.len() + len);
    text.push_str(MARKER);
    base64::encode([&[kind], head, tail].into_iter().flatten().copied(), &mut text);
    text
}

fn decode(digits: &str) -> Result<Packet, PacketError> {
    if digits.len() > base64::encoded_len(1 + MAX_PACKET) {
        return Err(PacketError::TooLong);
    }
    let mut body = Bytes::from(base64::decode(digits).ok_or(PacketError::Base64)?);
    let kind = body.try_get_u8().map_err(|_| PacketError::Kind)?;
    let malformed = PacketError::Body(kind);
    match kind {
        WHO if body.is_empty() => Ok(Packet::Who),
        KEY => Ok(Packet::Key(PublicKey(body[..].try_into().map_err(|_| malformed)?))),
        INITIATION => Ok(Packet::Initiation(body)),
        RESPONSE => Ok(Packet::Response(body)),
        RECORD => Ok(Packet::Record(body)),
        END => {
            let code = CloseCode(body.try_get_u16().map_err(|_| malformed)?);
            let reason = std::str::from_utf8(&body).map_err(|_| malformed)?;
            if reason.len() > MAX_REASON {
                return Err(malformed);
            }
            Ok(Packet::End { code, reason: reason.to_owned() })
        }
        WHO => Err(malformed),
        _ => Err(PacketError::Kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_packet_has_one_text() {
        for (packet, text) in [
            (Packet::Who, "tunnel.v1:AA"),
            (Packet::Key(PublicKey([0x5a; 32])), "tunnel.v1:AVpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpa"),
            (Packet::Initiation(Bytes::from_static(b"one")), "tunnel.v1:Am9uZQ"),
            (Packet::Response(Bytes::from_static(b"two")), "tunnel.v1:A3R3bw"),
            (Packet::Record(Bytes::from_static(&[0xff; 4])), "tunnel.v1:BP////8"),
            (Packet::Record(Bytes::new()), "tunnel.v1:BA"),
            (Packet::End { code: CloseCode::NORMAL, reason: "bye".to_owned() }, "tunnel.v1:BQPoYnll"),
            (Packet::End { code: CloseCode::PEER_GONE, reason: String::new() }, "tunnel.v1:BQ5/"),
        ] {
            assert_eq!(packet.encode(), text);
            assert_eq!(Packet::decode(text), Some(Ok(packet)));
        }
    }

    #[test]
    fn a_text_without_the_marker_is_a_plain_peers() {
        for text in ["", "hello", "tunnel.v1", "Tunnel.v1:AA", " tunnel.v1:AA"] {
            assert_eq!(Packet::decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_malformed_packet_is_an_error_that_says_what_is_wrong() {
        let long = format!("{MARKER}{}", "A".repeat(base64::encoded_len(MAX_PACKET + 1) + 1));
        for (text, error) in [
            ("tunnel.v1:", PacketError::Kind),
            ("tunnel.v1:AA==", PacketError::Base64),
            ("tunnel.v1:AAA", PacketError::Body(0)),
            ("tunnel.v1:AQ", PacketError::Body(1)),
            ("tunnel.v1:BQ", PacketError::Body(5)),
            ("tunnel.v1:BQPo/w", PacketError::Body(5)),
            ("tunnel.v1:Bg", PacketError::Kind),
            (&long, PacketError::TooLong),
        ] {
            assert_eq!(Packet::decode(text), Some(Err(error)), "{text:.40}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_to_what_a_close_frame_holds() {
        let packet = Packet::End { code: CloseCode::GOING_AWAY, reason: "ü".repeat(100) };
        let cut = Packet::End { code: CloseCode::GOING_AWAY, reason: "ü".repeat(61) };
        assert_eq!(Packet::decode(&packet.encode()), Some(Ok(cut)));
    }

    proptest! {
        #[test]
        fn records_read_back(record: Vec<u8>) {
            let packet = Packet::Record(record.into());
            prop_assert_eq!(Packet::decode(&packet.encode()), Some(Ok(packet)));
        }

        #[test]
        fn any_text_behind_the_marker_is_a_packet_or_an_error(text in "\\PC*|[A-Za-z0-9+/]{0,60}") {
            if let Some(Ok(packet)) = Packet::decode(&format!("{MARKER}{text}")) {
                prop_assert_eq!(packet.encode(), format!("{MARKER}{text}"));
            }
        }
    }
}
