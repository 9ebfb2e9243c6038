//! The end of a program that has sockets. In a process of its own: it ends all sockets of its process.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

mod support;

use futures_util::StreamExt as _;
use support::{TestRelay, within};
use tunnel_wasm::{CloseCode, Server, Socket};

#[tokio::test]
async fn peers_hear_at_once_that_the_program_leaves() {
    let relay = TestRelay::start().await;
    let server = Server::builder(relay.url()).host().await.unwrap();
    let mut clients = server.listen(7).unwrap();
    let connect = Socket::builder(relay.url(), server.id(), 7).connect();
    let accept = async { clients.next().await.unwrap().accept("").await };
    let (near, far) = within("both are open", async { tokio::join!(connect, accept) }).await;
    within("leaving", tunnel_wasm::leave()).await;
    for socket in [near.unwrap(), far.unwrap()] {
        let end = within("the end", socket.closed()).await;
        assert_eq!(end.code(), Some(CloseCode::GOING_AWAY), "{end}");
    }
}
