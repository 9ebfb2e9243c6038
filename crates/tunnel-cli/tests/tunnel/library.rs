//! The crate outside of browsers, as programs use it.

use crate::support::{TestRelay, within};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tunnel_wasm::{
    CloseCode, Error, Identity, Listener, Message, PathEvent, STREAM_SUBPROTOCOL, Server, Socket,
};

async fn pair(relay: &TestRelay, protocol: &str) -> (Server, Socket, Socket) {
    let server = Server::builder(relay.url()).host().await.unwrap();
    let mut clients = server.listen(7).unwrap();
    let connect = Socket::builder(relay.url(), server.id(), 7).protocols([protocol]).connect();
    let accept = async { clients.next().await.unwrap().accept(protocol).await };
    let (near, far) = within("both are open", async { tokio::join!(connect, accept) }).await;
    (server, near.unwrap(), far.unwrap())
}

#[tokio::test]
async fn sockets_and_servers_can_be_given_to_other_threads() {
    const fn send<T: Send>(_: &T) {}
    let relay = TestRelay::start().await;
    let (server, near, far) = pair(&relay, "a").await;
    let connect = Socket::builder(relay.url(), server.id(), 7).connect();
    send(&connect);
    send(&Server::builder(relay.url()).host());
    send(&(server, near, far));
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_sender_and_gets_all_when_it_goes_on() {
    let relay = TestRelay::start().await;
    let (_server, mut near, mut far) = pair(&relay, "a").await;
    let mut sent = 0_u64;
    let block = Bytes::from(vec![7; 16 << 10]);
    // The buffers are bounded, so that this ends by itself.
    while let Ok(fed) =
        tokio::time::timeout(std::time::Duration::from_millis(300), near.feed(Message::Binary(block.clone())))
            .await
    {
        fed.unwrap();
        sent += 1;
        assert!(sent < 1_000, "16 MB wait for a reader that reads nothing");
    }
    near.close(CloseCode::NORMAL, "");
    let mut received = 0;
    while let Some(message) = within("all", far.next()).await {
        assert_eq!(message.unwrap(), Message::Binary(block.clone()));
        received += 1;
    }
    assert_eq!(received, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sockets_open_at_once_and_each_gets_its_own_answer() {
    const SOCKETS: usize = 1_000;
    let relay = TestRelay::start().await;
    let server = Server::builder(relay.url()).max_clients(2 * SOCKETS).host().await.unwrap();
    let serve = async |mut clients: Listener| {
        while let Some(client) = clients.next().await {
            tokio::spawn(async move {
                let mut socket = client.accept("").await.unwrap();
                let hello = socket.next().await.unwrap().unwrap();
                socket.send(hello).await.unwrap();
                socket.closed().await;
            });
        }
    };
    tokio::spawn(serve(server.listen(7).unwrap()));
    let clients = (0..SOCKETS).map(|number| {
        let builder = Socket::builder(relay.url(), server.id(), 7);
        tokio::spawn(async move {
            // As many as wait to be accepted are refused, and come again.
            let mut socket = loop {
                match builder.clone().connect().await {
                    Err(error) if error.code() == Some(CloseCode::TRY_AGAIN_LATER) => {
                        tokio::task::yield_now().await
                    }
                    socket => break socket.unwrap(),
                }
            };
            socket.send(Message::Text(number.to_string())).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::Text(number.to_string()));
        })
    });
    for client in clients.collect::<Vec<_>>() {
        within("an answer", client).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_is_dropped_does_not_hold_up_the_peers_close() {
    let relay = TestRelay::start().await;
    let (_server, mut near, far) = pair(&relay, "a").await;
    let (sender, receiver) = far.split();
    drop(receiver);
    for _ in 0..100 {
        within("room", near.feed(Message::Binary(vec![0; 64 << 10].into()))).await.unwrap();
    }
    near.close(CloseCode(4000), "all sent");
    let end = within("the end", sender.closed()).await;
    assert!(matches!(end, Error::Closed { code: CloseCode(4000), was_clean: true, .. }), "{end}");
}

#[tokio::test]
async fn each_direction_of_a_stream_ends_by_itself_and_a_dropped_one_is_an_error() {
    let relay = TestRelay::start().await;
    let (_server, near, far) = pair(&relay, STREAM_SUBPROTOCOL).await;
    let (mut near, mut far) = (near.into_stream(), far.into_stream());
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    within("the end of one direction", far.read_to_string(&mut text)).await.unwrap();
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    within("the end of the other", near.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "questionanswer");
    let end = within("the end of the socket", near.closed()).await;
    assert!(matches!(end, Error::Closed { code: CloseCode::NORMAL, was_clean: true, .. }), "{end}");

    let (_server, near, far) = pair(&relay, STREAM_SUBPROTOCOL).await;
    let (mut near, mut far) = (near.into_stream(), far.into_stream());
    far.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    near.read_exact(&mut half).await.unwrap();
    drop(far);
    let error = within("the cut", near.read(&mut half)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

#[tokio::test]
async fn a_socket_tells_that_its_relay_was_killed_and_that_it_goes_on() {
    let mut relay = TestRelay::start().await;
    let (_server, mut near, mut far) = pair(&relay, "a").await;
    let mut events = near.path_events();
    relay.kill().await;
    assert_eq!(within("the loss", events.next()).await, Some(PathEvent::Interrupted));
    near.feed("while it is away".into()).await.unwrap();
    relay.restart().await;
    assert_eq!(within("the way back", events.next()).await, Some(PathEvent::Resumed));
    let message = within("the message", far.next()).await.unwrap().unwrap();
    assert_eq!(message, Message::Text("while it is away".to_owned()));
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_its_sockets_with_1001() {
    let relay = TestRelay::start().await;
    let (server, near, _far) = pair(&relay, "a").await;
    within("its end", server.close()).await;
    let end = within("the socket's end", near.closed()).await;
    assert_eq!(end.code(), Some(CloseCode::GOING_AWAY), "{end}");
}

#[tokio::test]
async fn a_program_has_one_server_under_an_identity_and_keeps_its_id() {
    let relay = TestRelay::start().await;
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::at(folder.path().join("peer.key")).unwrap();
    let builder = || Server::builder(relay.url()).with_identity(identity.clone());
    let server = builder().host().await.unwrap();
    assert_eq!(*server.id(), identity.id());
    let error = builder().host().await.unwrap_err();
    assert!(matches!(error, Error::Identity(_)), "{error}");
    server.close().await;
    assert_eq!(*builder().host().await.unwrap().id(), identity.id());
}

#[test]
fn a_runtime_that_ends_ends_its_sockets_for_those_who_wait_elsewhere() {
    let here = tokio::runtime::Runtime::new().unwrap();
    let relay = here.block_on(TestRelay::start());
    let other = tokio::runtime::Runtime::new().unwrap();
    let (_server, near, _far) = other.block_on(pair(&relay, "a"));
    let closed = near.closed();
    other.shutdown_background();
    let end = here.block_on(within("the end", closed));
    assert!(end.to_string().contains("runtime"), "{end}");
}

#[test]
fn nothing_is_dialled_outside_of_a_runtime() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let mut hosting = pin!(Server::builder("ws://127.0.0.1:1").host());
    let polled = hosting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(Error::NoRuntime))));
}
