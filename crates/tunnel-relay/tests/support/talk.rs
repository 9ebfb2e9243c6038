//! Numbered messages both ways between a server's page and a client's: a message that is lost, doubled or out of order fails the test.

use super::page::Page;
use super::{key, server_id, within};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tunnel_protocol::Instant;
use tunnel_protocol::endpoint::{ConnectOptions, Endpoint, Event, SocketId};
use tunnel_protocol::message::Message;

/// The bytes of message number `number`: all of them differ, and so do their lengths, from 4 to about 20,000 bytes.
fn message(number: u32) -> Bytes {
    let len = (number.wrapping_mul(2_654_435_761) >> 18) as usize % 20_000;
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|at| (at as u32 ^ number) as u8));
    bytes.into()
}

/// One page's end of the conversation: it sends all messages, and counts those that come.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    socket: Option<SocketId>,
    pub(crate) sent: u32,
    pub(crate) received: u32,
    pub(crate) interrupted: u32,
    /// The time from each interruption until the session went on.
    pub(crate) resumed: Vec<Duration>,
    away_since: Option<Instant>,
}

impl Talk {
    /// Sends while there is room.
    fn step(&mut self, endpoint: &mut Endpoint, allowed: u32) {
        let Some(socket) = self.socket else { return };
        while self.sent < allowed && endpoint.buffered_amount(socket) < 512 << 10 {
            if endpoint.send(socket, Message::Binary(message(self.sent))).is_err() {
                break;
            }
            self.sent += 1;
        }
    }

    fn handle(&mut self, endpoint: &mut Endpoint, event: Event, now: Instant) {
        match event {
            Event::Incoming { socket, .. } => endpoint.accept(socket, "", now),
            Event::Opened { socket, .. } => {
                assert_eq!(self.socket.replace(socket), None, "one socket for the whole conversation");
            }
            Event::Message { socket, message: Message::Binary(bytes) } => {
                assert!(bytes == message(self.received), "message {} is another one", self.received);
                self.received += 1;
                endpoint.consume(socket, Message::Binary(bytes).cost(), now);
            }
            Event::Interrupted { .. } => {
                self.interrupted += 1;
                self.away_since = Some(now);
            }
            Event::Resumed { .. } => {
                let since = self.away_since.take().expect("what goes on was interrupted");
                self.resumed.push(now.saturating_since(since));
            }
            Event::HostInterrupted | Event::Hosting { .. } => {}
            event => panic!("{event:?} after {self:?}"),
        }
    }

    /// Checks that so many messages went each way, and that every interruption is over.
    pub(crate) fn check(&self, messages: u32) {
        assert_eq!((self.sent, self.received), (messages, messages));
        assert_eq!(self.interrupted as usize, self.resumed.len(), "{self:?}");
    }
}

/// Two pages that talk, each in a task of its own.
pub(crate) struct Conversation {
    allow: watch::Sender<u32>,
    finish: watch::Sender<bool>,
    received: [watch::Receiver<u32>; 2],
    tasks: [JoinHandle<Talk>; 2],
}

impl Conversation {
    /// Has one page host the key of `secret`, and the other one connect to it. They send nothing yet.
    pub(crate) fn start(mut server: Page, client: Page, secret: u8) -> Self {
        let now = server.now();
        server.endpoint.host(key(secret), now);
        Self::with_host(server, client, secret)
    }

    /// The same, if the server's page hosts already.
    pub(crate) fn with_host(server: Page, mut client: Page, secret: u8) -> Self {
        let now = client.now();
        client.endpoint.connect(server_id(secret), 1, ConnectOptions::default(), now);
        let (allow, allowed) = watch::channel(0);
        let (finish, done) = watch::channel(false);
        let (to_server, at_server) = watch::channel(0);
        let (to_client, at_client) = watch::channel(0);
        let server = tokio::spawn(talk(server, allowed.clone(), to_server, done.clone()));
        let client = tokio::spawn(talk(client, allowed, to_client, done));
        Self { allow, finish, received: [at_server, at_client], tasks: [server, client] }
    }

    /// Lets each page send so many messages in all.
    pub(crate) fn allow(&self, messages: u32) {
        self.allow.send_replace(messages);
    }

    /// Waits until each page has so many messages in all.
    pub(crate) async fn reach(&mut self, messages: u32) {
        for received in &mut self.received {
            let enough = received.wait_for(|received| *received >= messages);
            let ended = within("messages that may be sent", enough).await.is_err();
            assert!(!ended, "a page's task has failed: see above");
        }
    }

    /// Has each page send so many messages in all, waits until they have arrived, and returns what the server's page and the client's saw.
    pub(crate) async fn end(mut self, messages: u32) -> [Talk; 2] {
        self.allow(messages);
        self.reach(messages).await;
        self.finish.send_replace(true);
        let [server, client] = self.tasks;
        let talks = [server.await.unwrap(), client.await.unwrap()];
        talks.iter().for_each(|talk| talk.check(messages));
        talks
    }
}

/// Runs a page until it is told to end. It sends as far as `allowed`, and says how much it has received.
async fn talk(
    mut page: Page,
    mut allowed: watch::Receiver<u32>,
    progress: watch::Sender<u32>,
    mut done: watch::Receiver<bool>,
) -> Talk {
    let mut talk = Talk::default();
    loop {
        let limit = *allowed.borrow_and_update();
        let step = page.run(|endpoint, event, now| {
            if let Some(event) = event {
                talk.handle(endpoint, event, now);
            }
            talk.step(endpoint, limit);
            progress.send_if_modified(|known| std::mem::replace(known, talk.received) != talk.received);
            ControlFlow::<()>::Continue(())
        });
        tokio::select! {
            () = step => {}
            _ = allowed.changed() => {}
            _ = done.wait_for(|done| *done) => return talk,
        }
    }
}
