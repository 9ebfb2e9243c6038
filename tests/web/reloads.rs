//! Servers that come back, and sockets that redial them.

use crate::{RELAY, accept_one, text};
use futures_util::{SinkExt, StreamExt};
use std::cell::RefCell;
use std::rc::Rc;
use tunnel_wasm::{CloseCode, Error, PathEvent, Server, Socket};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen(module = "/tests/web/native.js")]
extern "C" {
    #[wasm_bindgen(js_name = hasTabStorage)]
    fn has_tab_storage() -> bool;
}

async fn host(identity: &str) -> Server {
    Server::builder(RELAY).identity(identity).host().await.unwrap()
}

#[wasm_bindgen_test]
async fn a_socket_that_redials_greets_the_server_that_is_back_and_then_sends_what_has_waited() {
    let server = host("redialled").await;
    let accepted = accept_one(server.listen(7).unwrap());
    let builder = Socket::builder(RELAY, server.id(), 7).redial(true);
    let mut socket = builder.connect().await.unwrap();
    let mut peer = accepted.await.unwrap();
    let mut events = socket.path_events();
    let protocols = Rc::new(RefCell::new(Vec::new()));
    let seen = protocols.clone();
    socket.on_reopened(move |session| {
        seen.borrow_mut().push(session.protocol().to_owned());
        session.send("hello again");
        for message in session.unacknowledged() {
            session.send(message);
        }
    });
    socket.send(text("one")).await.unwrap();
    assert_eq!(peer.next().await, Some(Ok(text("one"))));

    server.close().await;
    assert_eq!(events.next().await, Some(PathEvent::Interrupted));
    socket.feed(text("two")).await.unwrap();
    let server = host("redialled").await;
    let mut peer = accept_one(server.listen(7).unwrap()).await.unwrap();
    assert_eq!(peer.next().await, Some(Ok(text("hello again"))));
    assert_eq!(peer.next().await, Some(Ok(text("two"))));
    assert_eq!(events.next().await, Some(PathEvent::Reopened));
    assert_eq!(*protocols.borrow(), [""]);
    peer.send(text("welcome back")).await.unwrap();
    assert_eq!(socket.next().await, Some(Ok(text("welcome back"))));
    assert!(socket.unacknowledged().is_empty());
}

#[wasm_bindgen_test]
async fn a_socket_that_ends_while_it_redials_hands_back_what_was_not_sent() {
    let server = host("gone").await;
    let accepted = accept_one(server.listen(7).unwrap());
    let mut socket = Socket::builder(RELAY, server.id(), 7).redial(true).connect().await.unwrap();
    let _peer = accepted.await.unwrap();
    let mut events = socket.path_events();
    server.close().await;
    assert_eq!(events.next().await, Some(PathEvent::Interrupted));
    socket.feed(text("in vain")).await.unwrap();
    socket.close(CloseCode::NORMAL, "");
    let end = socket.closed().await;
    assert_eq!(end.code(), Some(CloseCode::ABORTED), "{end}");
    assert_eq!(socket.unacknowledged(), [text("in vain")]);
    assert_eq!(socket.unacknowledged(), []);
}

#[wasm_bindgen_test]
async fn a_second_server_of_a_page_under_one_identity_is_refused_and_the_first_stays() {
    let server = host("twice").await;
    let accepted = accept_one(server.listen(7).unwrap());
    let refused = Server::builder(RELAY).identity("twice").host().await.unwrap_err();
    assert!(matches!(&refused, Error::Identity(why) if why.contains("close it first")), "{refused}");
    Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    accepted.await.unwrap();
    // One that waits gets the identity when the first has ended.
    let ((), next) = futures_util::future::join(server.close(), host("twice")).await;
    drop(next);
}

#[wasm_bindgen_test]
async fn what_a_server_parks_is_there_for_the_next_one_under_its_identity() {
    let server = host("parks").await;
    assert_eq!(server.parked(), None);
    let parked = server.park("the game so far");
    if !has_tab_storage() {
        // A worker.
        assert!(matches!(parked, Err(Error::Parking(_))), "{parked:?}");
        return;
    }
    parked.unwrap();
    assert_eq!(server.parked().as_deref(), Some("the game so far"));
    server.close().await;
    assert_eq!(host("parks").await.parked().as_deref(), Some("the game so far"));
    assert_eq!(host("parks beside it").await.parked(), None);

    let nameless = Server::builder(RELAY).host().await.unwrap();
    let refused = nameless.park("in vain").unwrap_err();
    assert!(matches!(&refused, Error::Parking(why) if why.contains("identity")), "{refused}");
    assert_eq!(nameless.parked(), None);
}
