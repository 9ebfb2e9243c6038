//! The room: a server in one page, sockets in the others.

use crate::Event;
use futures_channel::mpsc;
use futures_util::{FutureExt, StreamExt};
use tunnel_wasm::{Error, Message, Server, Socket};
use wasm_bindgen_futures::spawn_local;
use yew::Callback;

const PORT: u16 = 80;

/// Hosts a room until it ends; returns why it has.
pub async fn host(relay: String, events: Callback<Event>) -> Error {
    let server = match Server::builder(relay).host().await {
        Ok(server) => server,
        Err(error) => return error,
    };
    let mut guests = match server.listen(PORT) {
        Ok(guests) => guests,
        Err(error) => return error,
    };
    events.emit(Event::Open(server.id().to_string()));
    while let Some(guest) = guests.next().await {
        let events = events.clone();
        // Each guest in a task of its own: a slow one holds nobody up.
        spawn_local(async move {
            if let Ok(socket) = guest.accept("").await {
                let _ = talk(socket, events).await;
            }
        });
    }
    server.closed().await
}

/// Joins a room in another page until it ends; returns why it has.
pub async fn join(relay: String, room: String, events: Callback<Event>) -> Error {
    match Socket::builder(relay, room, PORT).connect().await {
        Ok(socket) => talk(socket, events).await,
        Err(error) => error,
    }
}

/// Carries lines both ways until the socket ends; returns why it has.
async fn talk(socket: Socket, events: Callback<Event>) -> Error {
    let closed = socket.closed();
    let (sender, mut receiver) = socket.split();
    let (connection, said) = mpsc::unbounded::<String>();
    events.emit(Event::Connected(connection));
    spawn_local(said.map(|line| Ok(Message::from(line))).forward(sender).map(drop));
    while let Some(Ok(message)) = receiver.next().await {
        if let Message::Text(line) = message {
            events.emit(Event::Heard(line));
        }
    }
    closed.await
}
