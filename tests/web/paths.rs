//! Sockets and servers whose connection breaks.

use crate::{RELAY, accept_one, serve, text};
use futures_util::{SinkExt, StreamExt};
use tunnel_wasm::{PathEvent, Socket};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen(module = "/tests/web/native.js")]
extern "C" {
    fn cut();
}

#[wasm_bindgen_test]
async fn a_broken_connection_is_an_event_on_both_sides_and_of_the_server_and_loses_nothing() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let peer = accepted.await.unwrap();
    let mut events = (socket.path_events(), peer.path_events(), server.path_events());
    // The events go on when the socket is split.
    let (mut sender, _receiver) = peer.split();
    sender.send(text("before")).await.unwrap();
    assert_eq!(socket.next().await, Some(Ok(text("before"))));
    assert_eq!(socket.stats().map(|stats| stats.session.resumptions), Some(0));

    cut();
    sender.send(text("into the gap")).await.unwrap();
    assert_eq!(events.0.next().await, Some(PathEvent::Interrupted));
    assert_eq!(events.1.next().await, Some(PathEvent::Interrupted));
    assert_eq!(events.2.next().await, Some(PathEvent::Interrupted));
    assert_eq!(events.2.next().await, Some(PathEvent::Resumed));
    assert_eq!(events.0.next().await, Some(PathEvent::Resumed));
    assert_eq!(events.1.next().await, Some(PathEvent::Resumed));
    assert_eq!(socket.next().await, Some(Ok(text("into the gap"))));

    drop((sender, _receiver));
    assert_eq!(socket.next().await, None);
    assert_eq!(events.0.next().await, None);
    assert_eq!(events.1.next().await, None);
    drop(server);
    assert_eq!(events.2.next().await, None);
}
