//! Whatever the relay understands of a connection's first bytes by itself, an HTTP server understands alike: nobody can
//! make the two disagree about what was asked for, or where the WebSocket begins.

#![no_main]

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use std::convert::Infallible;
use std::sync::Mutex;
use tokio::io::AsyncWriteExt as _;

// Its source, not the crate: nobody else sees it, and it needs no other part.
#[path = "../../src/direct/head.rs"]
mod head;

fuzz_target!(|bytes: &[u8]| {
    let Some((request, len)) = head::parse(bytes) else { return };
    assert!(len <= bytes.len() && head::has_empty_line(&bytes[..len], 0));
    let (again, _) = head::parse(&bytes[..len]).expect("what follows a head is no part of it");
    assert_eq!(again.headers, request.headers);
    let read = read(&bytes[..len]);
    assert_eq!(read, Some((request.method, request.uri, request.version, request.headers)));
});

/// What an HTTP server makes of it.
fn read(bytes: &[u8]) -> Option<(Method, Uri, Version, HeaderMap)> {
    let read = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, _) = request.into_parts();
        *read.lock().unwrap() = Some((parts.method, parts.uri, parts.version, parts.headers));
        async { Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new())) }
    });
    let serve = async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = http1::Builder::new().serve_connection(TokioIo::new(server), service).await;
    };
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(serve);
    read.into_inner().unwrap()
}
