//! Messages, and what a client and a server know of each other.

use crate::{RELAY, accept_one, serve, text};
use futures_util::future::{join, join_all};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tunnel_wasm::{CloseCode, Message, Server, Socket};
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
async fn messages_of_any_length_keep_their_order_and_their_bytes() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let mut peer = accepted.await.unwrap();
    let lengths = [65_536, 65_536, 65_535, 65_536, 65_537, 65_536, 10, 65_536, 131_072, 0, 65_536];
    let binary = |(index, length)| Message::from(vec![index as u8; length]);
    let sent =
        || lengths.into_iter().enumerate().map(binary).chain(["grün", "", "\u{1f980}"].map(Message::from));
    let send = async {
        for message in sent() {
            socket.feed(message).await.unwrap();
        }
    };
    let receive = async {
        for message in sent() {
            assert!(peer.next().await == Some(Ok(message)));
        }
    };
    join(send, receive).await;
}

#[wasm_bindgen_test]
async fn what_is_sent_is_buffered_at_once_and_flushed_when_it_has_left() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let _peer = accepted.await.unwrap();
    assert_eq!(socket.buffered_amount(), 0);
    socket.feed(text("grün")).now_or_never().unwrap().unwrap();
    socket.feed(Message::from(vec![7; 100_000])).now_or_never().unwrap().unwrap();
    assert_eq!(socket.buffered_amount(), 100_005);
    socket.flush().await.unwrap();
    assert_eq!(socket.buffered_amount(), 0);
}

#[wasm_bindgen_test]
async fn sockets_do_not_mix_their_messages() {
    let (server, mut clients) = serve(7).await;
    let echo = async {
        // The last one first.
        let mut sockets = Vec::new();
        while sockets.len() < 3 {
            sockets.push(clients.next().await.unwrap().accept("").await.unwrap());
        }
        for mut socket in sockets.into_iter().rev() {
            let heard = socket.next().await.unwrap().unwrap();
            socket.send(heard).await.unwrap();
            assert_eq!(socket.next().await, None);
        }
    };
    let ask = join_all((0..3).map(async |n| {
        let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
        socket.send(text(&format!("from {n}"))).await.unwrap();
        assert_eq!(socket.next().await, Some(Ok(text(&format!("from {n}")))));
    }));
    join(echo, ask).await;
}

#[wasm_bindgen_test]
async fn a_named_client_is_the_same_for_the_server_each_time() {
    let (server, mut clients) = serve(7).await;
    let mut keys = Vec::new();
    for name in [Some("friend"), Some("friend"), None] {
        let mut builder = Socket::builder(RELAY, server.id(), 7);
        if let Some(name) = name {
            builder = builder.identity(name);
        }
        let accept = async { clients.next().await.unwrap().accept("").await.unwrap() };
        let (socket, peer) = join(builder.connect(), accept).await;
        assert_eq!(socket.unwrap().remote().key.as_ref(), server.id().key());
        assert!(peer.remote().verified);
        keys.push(peer.remote().key);
    }
    assert!(keys[0].is_some() && keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[wasm_bindgen_test]
async fn a_server_under_a_name_is_reached_by_whoever_knows_its_id() {
    let server = Server::builder(RELAY).identity("known").host().await.unwrap();
    let accepted = accept_one(server.listen(7).unwrap());
    let id = server.id().to_string();
    assert_eq!(id.len(), 56);
    let socket = Socket::builder(RELAY, id, 7).connect().await.unwrap();
    accepted.await.unwrap().close(CloseCode(4321), "enough");
    let mut socket = socket;
    assert_eq!(socket.next().await, None);
}
