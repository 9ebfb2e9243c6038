//! Halves, and what is left when something is dropped.

use crate::{RELAY, accept_one, serve, text};
use futures_util::future::{Either, join, select};
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::pin::pin;
use std::time::Duration;
use tunnel_wasm::{CloseCode, Error, Message, Server, Socket};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen(module = "/tests/web/native.js")]
extern "C" {
    #[wasm_bindgen(js_name = isHeld)]
    async fn is_held(name: &str) -> JsValue;
}

/// More than two sockets and the links between them hold.
const MUCH: usize = 16 * 1024 * 1024;
const PIECE: usize = 65_536;

#[wasm_bindgen_test]
async fn a_socket_lasts_until_both_halves_are_dropped() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let mut peer = accepted.await.unwrap();
    let (mut sender, mut receiver) = socket.split();
    sender.send(text("from one half")).await.unwrap();
    assert_eq!(peer.next().await, Some(Ok(text("from one half"))));
    peer.send(text("to the other")).await.unwrap();
    assert_eq!(receiver.next().await, Some(Ok(text("to the other"))));
    assert!(receiver.stats().is_some_and(|stats| stats.session.messages_received == 1));

    drop(receiver);
    sender.send(text("still here")).await.unwrap();
    assert_eq!(peer.next().await, Some(Ok(text("still here"))));
    drop(sender);
    assert_eq!(peer.next().await, None);
    let closed = Error::Closed { code: CloseCode::NORMAL, reason: String::new(), was_clean: true };
    assert_eq!(peer.send(text("late")).await, Err(closed));
}

/// Sends [`MUCH`], and then closes.
async fn send_much(mut peer: Socket) -> Result<(), Error> {
    for _ in 0..MUCH / PIECE {
        peer.feed(Message::from(vec![7; PIECE])).await?;
    }
    SinkExt::close(&mut peer).await
}

#[wasm_bindgen_test]
async fn who_drops_the_receiving_half_holds_nobody_up() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let peer = accepted.await.unwrap();
    let (mut sender, receiver) = socket.split();
    drop(receiver);
    assert_eq!(send_much(peer).await, Ok(()));
    assert!(matches!(sender.send(text("late")).await, Err(Error::Closed { was_clean: true, .. })));
}

#[wasm_bindgen_test]
async fn a_socket_that_is_dropped_holds_no_sender_up() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let peer = accepted.await.unwrap();
    let drop_it = async move {
        // The peer has begun, and sends more than fits.
        socket.next().await.unwrap().unwrap();
        drop(socket);
    };
    let (sent, ()) = join(send_much(peer), drop_it).await;
    // It depends on when the peer hears of the close.
    let closed = Error::Closed { code: CloseCode::NORMAL, reason: String::new(), was_clean: true };
    assert!(sent == Ok(()) || sent == Err(closed), "{sent:?}");
}

#[wasm_bindgen_test]
async fn a_server_that_is_dropped_closes_its_clients_with_1001_and_one_that_is_closed_waits_for_that() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let _peer = accepted.await.unwrap();
    let closed = server.closed();
    drop(server);
    assert_eq!(socket.next().await, None);
    let end = socket.send(text("late")).await.unwrap_err();
    assert!(matches!(end, Error::Closed { code: CloseCode::GOING_AWAY, was_clean: true, .. }), "{end}");
    let end = closed.await;
    assert!(matches!(end, Error::Closed { was_clean: true, .. }), "{end}");

    let (server, mut clients) = serve(7).await;
    let (id, closed) = (*server.id(), server.closed());
    server.close().await;
    assert!(closed.now_or_never().is_some());
    assert!(clients.next().await.is_none());
    let gone =
        Socket::builder(RELAY, id, 7).absent_timeout(Duration::from_millis(1)).connect().await.unwrap_err();
    assert_eq!(gone.code(), Some(CloseCode::SERVER_NOT_FOUND));
}

/// Waits until nobody is registered under the ID.
async fn until_gone(id: &str) {
    for _ in 0..100 {
        let builder = Socket::builder(RELAY, id, 7).absent_timeout(Duration::from_millis(1));
        if builder.connect().await.unwrap_err().code() == Some(CloseCode::SERVER_NOT_FOUND) {
            return;
        }
    }
    panic!("somebody answers under {id}");
}

#[wasm_bindgen_test]
async fn a_server_that_nobody_waits_for_is_not_hosted_and_its_identity_is_free() {
    let name = "nobody waits";
    let builder = || Server::builder(RELAY).identity(name);
    let server = builder().host().await.unwrap();
    let id = server.id().to_string();
    server.close().await;
    // Dropped while the identity is taken.
    assert!(builder().host().now_or_never().is_none());
    until_gone(&id).await;
    // Dropped while the server is registered, or a little before or after that.
    for others in 1..4 {
        let others = async {
            for _ in 0..others {
                Server::builder(RELAY).host().await.unwrap();
            }
        };
        match select(pin!(builder().host()), pin!(others)).await {
            Either::Left((server, _)) => drop(server.unwrap()),
            Either::Right(_) => {}
        }
        until_gone(&id).await;
    }
    // Its memory is given back in a task of its own: each try lets some pass.
    for tries in 0.. {
        if is_held(name).await == JsValue::FALSE {
            break;
        }
        assert!(tries < 100, "the identity is held");
        until_gone(&id).await;
    }
}
