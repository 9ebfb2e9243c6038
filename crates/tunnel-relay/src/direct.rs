//! What nearly every connection begins with, by hand: a WebSocket handshake that is agreed to.
//!
//! An HTTP server takes a task and buffers of its own for it, a fifth of all that a connection costs to set up. It has
//! all the rest, from its first byte: whatever is not understood here, is not a handshake or is to be refused.

use crate::entrance::{self, Guest};
use crate::http::Visitor;
use crate::server::Shared;
use crate::stream::Stream;
use crate::upgrade;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, StatusCode, request};
use httparse::{EMPTY_HEADER, Status};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// As much as a browser's handshake takes, mostly.
const USUAL_HEAD: usize = 1 << 10;

/// Browsers send some fifteen.
const MAX_HEADERS: usize = 64;

/// What the first request is.
pub(crate) enum First {
    /// A handshake, answered. The bytes behind it belong to the WebSocket.
    WebSocket(Guest, Bytes),
    /// Something else; these bytes have been read of it.
    Http(Bytes),
}

/// Reads the head of the first request, and answers it if a WebSocket opens.
pub(crate) async fn first(shared: &Shared, stream: &mut Stream, visitor: &Arc<Visitor>) -> io::Result<First> {
    let read = read_head(stream, visitor.max_header_bytes()).await?;
    let Some((request, len)) = parse(&read) else { return Ok(First::Http(read.into())) };
    // Whatever is in the way will be there for the HTTP server, too, which says so.
    let Ok((handshake, guest)) = entrance::admit(shared, &request, visitor) else {
        return Ok(First::Http(read.into()));
    };
    stream.write_all(&handshake.response()).await?;
    stream.flush().await?;
    shared.metrics.answered(StatusCode::SWITCHING_PROTOCOLS);
    Ok(First::WebSocket(guest, Bytes::copy_from_slice(&read[len..])))
}

/// Reads until an empty line, the end, or more than a head may have.
async fn read_head(stream: &mut Stream, max: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(USUAL_HEAD);
    loop {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 || has_empty_line(&read, before) || read.len() > max {
            return Ok(read);
        }
    }
}

/// Whether there is one that ends behind `before`.
fn has_empty_line(bytes: &[u8], before: usize) -> bool {
    let new = &bytes[before.saturating_sub(2)..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// A request for a WebSocket, and the length of its head.
fn parse(bytes: &[u8]) -> Option<(request::Parts, usize)> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(Status::Complete(len)) = head.parse(bytes) else { return None };
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    // Method and version are those that a new request has; the path leads everywhere to the same.
    let (mut request, ()) = Request::new(()).into_parts();
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            return None;
        }
        request.headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    upgrade::is_wanted(&request.headers).then_some((request, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Version};

    const HANDSHAKE: &str = "GET /any?path HTTP/1.1\r\nHost: Relay.example\r\nConnection: keep-alive\r\n\
        connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn a_handshake_is_read_with_all_its_headers_and_what_follows_is_left() {
        let bytes = [HANDSHAKE.as_bytes(), b"\x82\x80"].concat();
        let (request, len) = parse(&bytes).unwrap();
        assert_eq!(len, HANDSHAKE.len());
        assert_eq!((request.method, request.version), (Method::GET, Version::HTTP_11));
        assert_eq!(request.headers["host"], "Relay.example");
        assert_eq!(request.headers.get_all("connection").iter().count(), 2);
        assert_eq!(request.headers.len(), 5);
    }

    #[test]
    fn what_is_no_simple_handshake_is_left_to_the_http_server() {
        for (part, instead) in [
            ("GET", "POST"),
            ("GET", "HEAD"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2.0"),
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Upgrade: websocket", "Upgrade : websocket"),
            ("Host: ", "Content-Length: 5\r\nHost: "),
            ("Host: ", "Transfer-Encoding: chunked\r\nHost: "),
            ("Host: ", " Host: "),
            ("\r\n\r\n", "\r\n"),
            ("Relay", "Re\0lay"),
        ] {
            let changed = HANDSHAKE.replacen(part, instead, 1);
            assert_ne!(changed, HANDSHAKE, "{part} is there");
            assert!(parse(changed.as_bytes()).is_none(), "{changed}");
        }
        let many = "a: b\r\n".repeat(MAX_HEADERS);
        assert!(parse(HANDSHAKE.replace("Host: ", &format!("{many}Host: ")).as_bytes()).is_none());
    }

    #[test]
    fn the_end_of_a_head_is_seen_wherever_it_is_cut() {
        for head in ["GET / HTTP/1.1\r\na: b\r\n\r\n", "GET / HTTP/1.1\na: b\n\n", "\r\n\r\n"] {
            for cut in 0..head.len() {
                let whole = (cut..=head.len()).find(|len| has_empty_line(&head.as_bytes()[..*len], cut));
                // Of the last one, the first line is empty already.
                assert!(whole.is_some_and(|len| len == head.len()), "{head:?} cut at {cut}: {whole:?}");
            }
        }
        assert!(!has_empty_line(b"GET / HTTP/1.1\r\na: b\r\n", 0));
    }
}
