//! The crate as a Rust page uses it, in a browser, with a relay at `TUNNEL_RELAY_URL`. Server and client are in one page.

#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod ends;
mod messages;
mod paths;
mod reloads;

use futures_util::{SinkExt, StreamExt};
use tunnel_wasm::{CloseCode, Error, Listener, Message, Server, Socket};
use wasm_bindgen_futures::spawn_local;
use wasm_bindgen_test::wasm_bindgen_test;

const RELAY: &str = match option_env!("TUNNEL_RELAY_URL") {
    Some(url) => url,
    None => "ws://127.0.0.1:8087",
};

/// Hosts a server and listens on a port.
async fn serve(port: u16) -> (Server, Listener) {
    let server = Server::builder(RELAY).host().await.unwrap();
    let clients = server.listen(port).unwrap();
    (server, clients)
}

/// Lets the next client in.
fn accept_one(mut clients: Listener) -> futures_channel::oneshot::Receiver<Socket> {
    let (sender, accepted) = futures_channel::oneshot::channel();
    spawn_local(async move {
        let socket = clients.next().await.unwrap().accept("").await.unwrap();
        sender.send(socket).unwrap();
    });
    accepted
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

#[wasm_bindgen_test]
async fn messages_travel_both_ways_and_a_clean_close_ends_both_streams() {
    let (server, clients) = serve(7).await;
    let accepted = accept_one(clients);
    let mut socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    let mut peer = accepted.await.unwrap();

    socket.send(text("hello")).await.unwrap();
    assert_eq!(peer.next().await, Some(Ok(text("hello"))));
    peer.send(Message::Binary(vec![0, 1, 255].into())).await.unwrap();
    assert_eq!(socket.next().await, Some(Ok(Message::Binary(vec![0, 1, 255].into()))));
    assert!(socket.stats().is_some_and(|stats| stats.session.messages_sent == 1));

    let told = (socket.closed(), peer.closed());
    socket.close(CloseCode(4000), "done");
    assert_eq!(peer.next().await, None);
    assert_eq!(socket.next().await, None);
    let closed = Error::Closed { code: CloseCode(4000), reason: "done".into(), was_clean: true };
    assert_eq!(peer.send(text("late")).await, Err(closed.clone()));
    assert_eq!((told.0.await, told.1.await), (closed.clone(), closed.clone()));
    assert_eq!(socket.closed().await, closed);
}

#[wasm_bindgen_test]
async fn a_server_sees_what_a_client_wants_and_chooses() {
    let (server, mut clients) = serve(80).await;
    spawn_local(async move {
        let first = clients.next().await.unwrap();
        assert_eq!((first.port(), first.path()), (80, "/room?name=x"));
        first.accept("chat").await.unwrap().close(CloseCode::NORMAL, "");
        clients.next().await.unwrap().refuse("not today");
        drop(clients.next().await.unwrap());
        for chosen in ["", "song"] {
            let (offered, chosen) = (vec!["talk".into(), "chat".into()], chosen.to_owned());
            let error = clients.next().await.unwrap().accept(&chosen).await.unwrap_err();
            assert_eq!(error, Error::NotOffered { chosen, offered });
        }
    });
    let builder = || Socket::builder(RELAY, server.id(), 80).protocols(["talk", "chat"]).path("/room?name=x");
    let socket = builder().connect().await.unwrap();
    assert_eq!(socket.protocol(), "chat");
    assert!(socket.remote().encrypted && socket.remote().verified);
    let speaks_none = "the server speaks none of the subprotocols offered";
    for reason in ["not today", "the server did not accept the connection", speaks_none, speaks_none] {
        let refused = builder().connect().await.unwrap_err();
        assert_eq!(refused.code(), Some(CloseCode::REFUSED));
        assert!(refused.to_string().ends_with(reason), "{refused}");
    }
}

#[wasm_bindgen_test]
async fn ports_without_a_listener_are_closed_and_free_again_when_it_is_dropped() {
    let (server, clients) = serve(80).await;
    assert_eq!(server.listen(70..=90).unwrap_err(), Error::PortTaken(80));
    drop(clients);
    let refused = Socket::builder(RELAY, server.id(), 80).connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(CloseCode::PORT_CLOSED));
    let clients = server.listen(70..=90).unwrap();
    let accepted = accept_one(clients);
    Socket::builder(RELAY, server.id(), 81).connect().await.unwrap();
    accepted.await.unwrap();
}

#[wasm_bindgen_test]
async fn a_sender_waits_for_its_reader() {
    const MESSAGES: usize = 256;
    let (server, clients) = serve(9).await;
    let accepted = accept_one(clients);
    let (mut sink, _stream) = Socket::builder(RELAY, server.id(), 9).connect().await.unwrap().split();
    let mut peer = accepted.await.unwrap();
    let sent = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = sent.clone();
    // 16 MiB: more than sockets and links hold.
    let all = async move {
        for _ in 0..MESSAGES {
            sink.send(Message::Binary(vec![7; 65_536].into())).await.unwrap();
            count.set(count.get() + 1);
        }
    };
    let mut all = Box::pin(all);
    let mut received = 0;
    // The first message has come: the sender is stuck, or will be, before it has sent all.
    futures_util::future::select(&mut all, peer.next()).await;
    assert!(sent.get() < MESSAGES, "{} messages were taken before any was read", sent.get());
    received += 1;
    let read = async {
        while received < MESSAGES {
            assert_eq!(peer.next().await.unwrap().unwrap().len(), 65_536);
            received += 1;
        }
    };
    futures_util::future::join(all, read).await;
    assert_eq!((sent.get(), received), (MESSAGES, MESSAGES));
}

#[wasm_bindgen_test]
async fn a_server_takes_as_many_clients_as_it_says() {
    let server = Server::builder(RELAY).max_clients(1).host().await.unwrap();
    let accepted = accept_one(server.listen(7).unwrap());
    let socket = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap();
    // Its place is taken as long as the server keeps it.
    let _peer = accepted.await.unwrap();
    let refused = Socket::builder(RELAY, server.id(), 7).connect().await.unwrap_err();
    assert_eq!(refused.code(), Some(CloseCode::TRY_AGAIN_LATER));
    drop(socket);
}

#[wasm_bindgen_test]
async fn a_message_that_is_longer_than_the_receiver_takes_ends_both_sockets_with_1009() {
    let server = Server::builder(RELAY).max_message_size(2_000).host().await.unwrap();
    let mut clients = server.listen(7).unwrap();
    let mut connect = async || {
        let builder = Socket::builder(RELAY, server.id(), 7).max_message_size(1_000);
        let (client, served) = futures_util::future::join(builder.connect(), async {
            clients.next().await.unwrap().accept("").await.unwrap()
        })
        .await;
        (client.unwrap(), served)
    };
    let of_len = |len| Message::Binary(vec![7; len].into());
    let ended = |heard: Option<Result<Message, Error>>| heard.unwrap().unwrap_err().code();

    let (mut client, mut served) = connect().await;
    client.send(of_len(2_000)).await.unwrap();
    assert_eq!(served.next().await, Some(Ok(of_len(2_000))));
    client.feed(of_len(2_001)).await.unwrap();
    assert_eq!(ended(served.next().await), Some(CloseCode::TOO_BIG));
    assert_eq!(ended(client.next().await), Some(CloseCode::TOO_BIG));

    let (mut client, mut served) = connect().await;
    served.send(of_len(1_000)).await.unwrap();
    assert_eq!(client.next().await, Some(Ok(of_len(1_000))));
    served.feed(of_len(1_001)).await.unwrap();
    assert_eq!(ended(client.next().await), Some(CloseCode::TOO_BIG));
    assert_eq!(ended(served.next().await), Some(CloseCode::TOO_BIG));
}

#[wasm_bindgen_test]
async fn an_identity_is_kept_until_the_server_is_gone() {
    let name = "pages";
    let server = Server::builder(RELAY).identity(name).host().await.unwrap();
    let id = *server.id();
    drop(server);
    // It is released when the server has ended, and the next one waits for that.
    let again = Server::builder(RELAY).identity(name).host().await.unwrap();
    assert_eq!(*again.id(), id);
}

#[wasm_bindgen_test]
async fn what_cannot_be_dialled_is_an_error_at_once() {
    let id = Server::builder(RELAY).host().await.unwrap().id().to_string();
    let url = Socket::builder("ftp://relay.example", &id, 1).connect().await.unwrap_err();
    assert_eq!(url, Error::Url("ftp://relay.example".into()));
    let none = Socket::builder(RELAY, "nobody", 1).connect().await.unwrap_err();
    assert!(matches!(none, Error::ServerId { .. }), "{none}");
}
