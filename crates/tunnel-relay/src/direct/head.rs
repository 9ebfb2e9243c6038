//! The head of a request: where it ends, and what it says if it is a plain one.

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, request};
use httparse::{EMPTY_HEADER, Status};

/// Browsers send some fifteen.
const MAX_HEADERS: usize = 64;

/// Whether there is one that ends behind `before`.
pub(crate) fn has_empty_line(bytes: &[u8], before: usize) -> bool {
    let new = &bytes[before.saturating_sub(2)..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// A GET request without a body, and the length of its head.
pub(crate) fn parse(bytes: &[u8]) -> Option<(request::Parts, usize)> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(Status::Complete(len)) = head.parse(bytes) else { return None };
    if head.method != Some("GET") || head.version != Some(1) {
        return None;
    }
    // Method and version are those that a new request has.
    let (mut request, ()) = Request::new(()).into_parts();
    request.uri = head.path?.parse().ok()?;
    for header in head.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            return None;
        }
        request.headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some((request, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method, Response, Uri, Version};
    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use std::sync::Mutex;
    use tokio::io::AsyncWriteExt as _;

    const HANDSHAKE: &str = "GET /any?path HTTP/1.1\r\nHost: Relay.example\r\nConnection: keep-alive\r\n\
        connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn a_handshake_is_read_with_all_its_headers_and_what_follows_is_left() {
        let bytes = [HANDSHAKE.as_bytes(), b"\x82\x80"].concat();
        let (request, len) = parse(&bytes).unwrap();
        assert_eq!(len, HANDSHAKE.len());
        assert_eq!((request.method, request.version), (Method::GET, Version::HTTP_11));
        assert_eq!(request.uri, "/any?path");
        assert_eq!(request.headers["host"], "Relay.example");
        assert_eq!(request.headers.get_all("connection").iter().count(), 2);
        assert_eq!(request.headers.len(), 5);
    }

    #[test]
    fn what_is_no_simple_handshake_is_left_to_the_http_server() {
        for (part, instead) in [
            ("GET", "POST"),
            ("/any", ":any"),
            ("GET", "HEAD"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "HTTP/2.0"),
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

    /// What the HTTP server understands of the same bytes.
    fn as_hyper_reads(bytes: &[u8]) -> Option<(Method, Uri, Version, HeaderMap)> {
        let read = Mutex::new(None);
        let service = service_fn(|request: Request<_>| {
            let (parts, _body): (_, hyper::body::Incoming) = request.into_parts();
            read.lock().unwrap().get_or_insert((parts.method, parts.uri, parts.version, parts.headers));
            async { Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new())) }
        });
        let serve = async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            // That the bytes end early, or make no sense, is an error here and none of the test's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
        };
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(serve);
        read.into_inner().unwrap()
    }

    /// Lines of a head, good and bad ones, with good and bad ends, now and then with a wrong byte.
    fn head() -> impl Strategy<Value = Vec<u8>> {
        let first = prop::sample::select(vec![
            "GET / HTTP/1.1",
            "GET /?a=b#c HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.0",
            "POST / HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET * HTTP/1.1",
            "\r\nGET / HTTP/1.1",
        ]);
        let line = prop::sample::select(vec![
            "Host: relay.example",
            "Connection: keep-alive, Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: \ttunnel.v1 ",
            "Content-Length: 0",
            "Content-Length: 7",
            "Transfer-Encoding: chunked",
            "X-Forwarded-For: 192.0.2.1",
            "Expect: 100-continue",
            "a:",
            ": a",
            " folded",
            "no colon",
            "tr\u{e4}ge: \u{fc}",
            "",
        ]);
        let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
        let lines = prop::collection::vec((line, end.clone()), 0..12);
        let wrong = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
        (first, end, lines, any::<bool>(), wrong).prop_map(|(first, end, lines, whole, wrong)| {
            let mut bytes = [first, end].concat();
            lines.iter().for_each(|(line, end)| bytes.extend([*line, *end]));
            bytes.push_str(if whole { "\r\n" } else { "" });
            let mut bytes = bytes.into_bytes();
            if let Some((at, byte)) = wrong {
                *at.get_mut(&mut bytes) = byte;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_is_understood_here_is_what_the_http_server_understands(bytes in head()) {
            if let Some((request, len)) = parse(&bytes) {
                prop_assert!(len <= bytes.len() && has_empty_line(&bytes[..len], 0));
                prop_assert_eq!(as_hyper_reads(&bytes), Some((request.method, request.uri, request.version, request.headers)));
            }
        }
    }
}
