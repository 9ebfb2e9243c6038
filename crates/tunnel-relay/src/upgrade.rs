//! The WebSocket handshake (RFC 6455, section 4.2), as a decision without I/O. `entrance` asks for it.

use crate::metrics::Refused;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, Version, request};
use sha1_smol::Sha1;
use tunnel_protocol::node::NODE_SUBPROTOCOL;
use tunnel_protocol::router::Dialect;
use tunnel_protocol::{SUBPROTOCOL, early};

/// The text that every server appends to the key (RFC 6455).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that the relay agrees to.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) dialect: Dialect,
    /// The frames that came with it, if there are any.
    pub(crate) early: Vec<Bytes>,
    /// The value of `Sec-WebSocket-Accept`.
    accept: HeaderValue,
}

/// The reason why a handshake is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    NotGet,
    /// There is a body, or a header that announces one.
    Body,
    /// There is no `Host` header, or more than one.
    Host,
    /// There is more than one `Origin` header.
    Origins,
    /// The page's origin is none of those that are allowed.
    Origin,
    Version,
    Connection,
    Key,
    Subprotocol,
    LivecodeIsOff,
}

impl Refusal {
    /// The label under which it is counted.
    pub(crate) const fn metric(self) -> Refused {
        match self {
            Self::NotGet
            | Self::Body
            | Self::Host
            | Self::Origins
            | Self::Version
            | Self::Connection
            | Self::Key => Refused::Handshake,
            Self::Origin => Refused::Origin,
            Self::Subprotocol => Refused::Subprotocol,
            Self::LivecodeIsOff => Refused::LivecodeIsOff,
        }
    }

    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Body
            | Self::Host
            | Self::Origins
            | Self::Connection
            | Self::Key
            | Self::Subprotocol
            | Self::LivecodeIsOff => StatusCode::BAD_REQUEST,
        }
    }

    /// The text that the peer gets.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NotGet => "a WebSocket handshake is a GET request of HTTP/1.1\n",
            Self::Body => "a WebSocket handshake has no body\n",
            Self::Host => "a WebSocket handshake has one Host header\n",
            Self::Origins => "a WebSocket handshake has at most one Origin header\n",
            Self::Origin => "pages of this origin may not use this relay: its operator has not allowed it\n",
            Self::Version => "this relay speaks version 13 of the WebSocket protocol\n",
            Self::Connection => "Connection: Upgrade is missing from the WebSocket handshake\n",
            Self::Key => "Sec-WebSocket-Key has to be 16 bytes in base64\n",
            Self::Subprotocol => "none of the subprotocols offered is known here: offer tunnel.v1\n",
            Self::LivecodeIsOff => {
                "no subprotocol was offered: offer tunnel.v1 (the livecode dialect is turned off on this relay)\n"
            }
        }
    }
}

/// Returns whether the request wants to become a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, header::UPGRADE, "websocket")
}

impl Handshake {
    /// Agrees to the request or says why not.
    pub(crate) fn check(request: &request::Parts, livecode: bool) -> Result<Self, Refusal> {
        let (headers, key) = (&request.headers, key(request)?);
        let dialect = if has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
            Dialect::Tunnel
        } else if headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
            return Err(Refusal::Subprotocol);
        } else if livecode {
            Dialect::Livecode
        } else {
            return Err(Refusal::LivecodeIsOff);
        };
        let early = if dialect == Dialect::Tunnel { early_frames(headers) } else { None };
        Ok(Self { dialect, early: early.unwrap_or_default(), accept: accept(key) })
    }

    /// Makes `headers` those of the 101 response.
    pub(crate) fn answer(&self, headers: &mut HeaderMap) {
        let chosen = if self.early.is_empty() { SUBPROTOCOL } else { early::SUBPROTOCOL };
        open(headers, self.accept.clone(), (self.dialect == Dialect::Tunnel).then_some(chosen));
    }
}

/// Agrees to another relay's request: returns the headers of the 101 response.
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "there are no other relays"))]
pub(crate) fn of_node(request: &request::Parts) -> Result<HeaderMap, Refusal> {
    let accept = accept(key(request)?);
    if !has_token(&request.headers, header::SEC_WEBSOCKET_PROTOCOL, NODE_SUBPROTOCOL) {
        return Err(Refusal::Subprotocol);
    }
    let mut headers = HeaderMap::new();
    open(&mut headers, accept, Some(NODE_SUBPROTOCOL));
    Ok(headers)
}

/// Adds the headers of a 101 response.
fn open(headers: &mut HeaderMap, accept: HeaderValue, subprotocol: Option<&'static str>) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(chosen) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
}

/// The key of a handshake of RFC 6455, if it is one.
fn key(request: &request::Parts) -> Result<&[u8], Refusal> {
    let headers = &request.headers;
    if request.method != Method::GET || request.version != Version::HTTP_11 {
        return Err(Refusal::NotGet);
    }
    if has_body(headers) {
        return Err(Refusal::Body);
    }
    // A proxy and the relay could each believe another one of two.
    if headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Refusal::Host);
    }
    if headers.get_all(header::ORIGIN).iter().count() > 1 {
        return Err(Refusal::Origins);
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::Connection);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?.as_bytes();
    if STANDARD.decode(key).map_err(|_| Refusal::Key)?.len() != 16 {
        return Err(Refusal::Key);
    }
    Ok(key)
}

/// The proof that a key was read.
pub(crate) fn accept(key: &[u8]) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID.as_bytes());
    HeaderValue::try_from(STANDARD.encode(hash.digest().bytes())).expect("base64 is visible ASCII")
}

/// The frames that a peer put among the subprotocols. Malformed ones are ignored: the peer sends them again as messages, and gets the
/// error then.
fn early_frames(headers: &HeaderMap) -> Option<Vec<Bytes>> {
    if !has_token(headers, header::SEC_WEBSOCKET_PROTOCOL, early::SUBPROTOCOL) {
        return None;
    }
    let frames = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|token| token.strip_prefix(early::PREFIX.as_bytes()))?;
    early::decode(URL_SAFE_NO_PAD.decode(frames).ok()?.into())
}

/// Returns whether bytes that belong to the request may follow its head: the WebSocket would take them for its own.
fn has_body(headers: &HeaderMap) -> bool {
    let is_empty = |len: &HeaderValue| len == "0";
    headers.contains_key(header::TRANSFER_ENCODING)
        || !headers.get_all(header::CONTENT_LENGTH).iter().all(is_empty)
}

/// Returns whether one of the comma-separated lists under `name` holds `token`, in any case of its letters.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of the comma-separated lists under `name`.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use tunnel_protocol::Frame;

    /// A browser's handshake, with some headers changed, added or, where empty, left out.
    fn check(changes: &[(&str, &str)], livecode: bool) -> Result<Handshake, Refusal> {
        let mut request = Request::get("/any/path?at=all").body(()).unwrap();
        let usual = [
            ("host", "relay.example"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "tunnel.v1"),
        ];
        for (name, value) in usual.iter().chain(changes) {
            request.headers_mut().remove(*name);
            if !value.is_empty() {
                let name = header::HeaderName::try_from(*name).unwrap();
                request.headers_mut().insert(name, HeaderValue::try_from(*value).unwrap());
            }
        }
        Handshake::check(&request.into_parts().0, livecode)
    }

    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        let mut headers = HeaderMap::new();
        check(&[], false).unwrap().answer(&mut headers);
        assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455, section 1.3");
        assert_eq!(headers["sec-websocket-protocol"], "tunnel.v1");
    }

    #[test]
    fn the_subprotocol_chooses_the_dialect() {
        for (offered, livecode, expected) in [
            ("tunnel.v1", false, Ok(Dialect::Tunnel)),
            ("tunnel.v1", true, Ok(Dialect::Tunnel)),
            ("mqtt, tunnel.v1", false, Ok(Dialect::Tunnel)),
            ("", true, Ok(Dialect::Livecode)),
            ("", false, Err(Refusal::LivecodeIsOff)),
            ("mqtt", true, Err(Refusal::Subprotocol)),
            ("tunnel.v10", false, Err(Refusal::Subprotocol)),
            ("tunnel.v1 tunnel.v2", false, Err(Refusal::Subprotocol)),
        ] {
            let dialect =
                check(&[("sec-websocket-protocol", offered)], livecode).map(|handshake| handshake.dialect);
            assert_eq!(dialect, expected, "{offered:?}, livecode {livecode}");
        }
    }

    #[test]
    fn frames_are_taken_from_the_handshake_or_left_to_be_said_again() {
        let token = "key".to_owned();
        let hello = Frame::Hello { min_version: 1, max_version: 2, features: 5, token }.encode();
        let document = include_str!("../../../docs/PROTOCOL.md");
        let example = URL_SAFE_NO_PAD.encode(early::encode([&hello]).0);
        assert!(document.contains(&format!("`early.{example}`")), "{example}");
        let (encoded, _) = early::encode([&hello, &hello]);
        let text = URL_SAFE_NO_PAD.encode(encoded);
        for (offered, taken) in [
            (format!("tunnel.v1, tunnel.v1.early, early.{text}"), true),
            (format!("early.{text},tunnel.v1.early,tunnel.v1"), true),
            (format!("tunnel.v1, early.{text}"), false),
            (format!("tunnel.v1, tunnel.v1.early, early.{text}A"), false),
            (format!("tunnel.v1, tunnel.v1.early, early.{text}="), false),
            ("tunnel.v1, tunnel.v1.early, early.".to_owned(), false),
            ("tunnel.v1, tunnel.v1.early".to_owned(), false),
        ] {
            let handshake = check(&[("sec-websocket-protocol", &offered)], true).unwrap();
            let frames = if taken { vec![hello.clone(), hello.clone()] } else { Vec::new() };
            assert_eq!(handshake.early, frames, "{offered}");
            let mut headers = HeaderMap::new();
            handshake.answer(&mut headers);
            let chosen = if taken { "tunnel.v1.early" } else { "tunnel.v1" };
            assert_eq!(headers["sec-websocket-protocol"], chosen, "{offered}");
        }
    }

    #[test]
    fn only_the_tunnel_dialect_is_echoed() {
        let mut headers = HeaderMap::new();
        check(&[("sec-websocket-protocol", "")], true).unwrap().answer(&mut headers);
        assert!(!headers.contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        for (change, refusal) in [
            (("sec-websocket-version", "8"), Refusal::Version),
            (("sec-websocket-version", ""), Refusal::Version),
            (("connection", "close"), Refusal::Connection),
            (("sec-websocket-key", ""), Refusal::Key),
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25j"), Refusal::Key),
            (("sec-websocket-key", "????????????????????????"), Refusal::Key),
            (("host", ""), Refusal::Host),
            (("content-length", "1"), Refusal::Body),
            (("content-length", "00"), Refusal::Body),
            (("transfer-encoding", "chunked"), Refusal::Body),
        ] {
            assert_eq!(check(&[change], true).map(drop), Err(refusal), "{change:?}");
        }
    }
}
