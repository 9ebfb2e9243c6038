//! A participant of the bus that is no relay: it says what it is told to say.

use crate::support::within;
use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tunnel_protocol::node::ClusterSecret;
use tunnel_protocol::presence::{self, Moment, Presence, Subject};
use tunnel_protocol::router::LinkId;
use tunnel_protocol::server_id::PublicKey;
use tunnel_protocol::{Instant, ServerId};

/// Type of a sign of life.
const BEAT: u8 = 0x04;

/// The behaviour of a ghost.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    pub(crate) node: &'static str,
    /// The address of its links that it names.
    pub(crate) address: String,
    pub(crate) secret: String,
    /// True if it hears questions.
    pub(crate) hears: bool,
    /// True if it gives signs of life.
    pub(crate) beats: bool,
    /// The server that it says it has.
    pub(crate) server: Option<ServerId>,
}

/// It haunts the bus until it is dropped.
pub(crate) struct Ghost(JoinHandle<()>);

impl Drop for Ghost {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ghost {
    pub(crate) async fn start(nats: &str, character: Character) -> Self {
        let client = async_nats::connect(nats).await.unwrap();
        let incarnation = 0x6_6057;
        let find = client.subscribe("tunnel.find").await.unwrap();
        let claim = client.subscribe("tunnel.claim").await.unwrap();
        let own = client.subscribe(format!("tunnel.node.{incarnation:016x}")).await.unwrap();
        client.flush().await.unwrap();
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(haunt(client, [find, claim, own], incarnation, character, ready));
        within("a ghost on the bus", is_ready).await.unwrap();
        Self(task)
    }
}

async fn haunt(
    client: Client,
    [mut find, mut claim, mut own]: [Subscriber; 3],
    incarnation: u64,
    character: Character,
    ready: oneshot::Sender<()>,
) {
    let secret = ClusterSecret::new(character.secret.as_bytes()).unwrap();
    let address = character.address.clone();
    let config = presence::Config {
        beat_interval: std::time::Duration::from_millis(200),
        ..presence::Config::new(character.node.to_owned(), address, incarnation, secret)
    };
    let start = tokio::time::Instant::now();
    let time = || Moment {
        now: Instant::from_micros(start.elapsed().as_micros() as u64),
        wall: std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64,
    };
    let mut presence = Presence::new(config, time().now);
    presence.handle_bus_up(time());
    if let Some(ServerId::Key(PublicKey(key))) = character.server {
        presence.handle_registered(PublicKey(key), LinkId(1), time());
    }
    let mut ready = Some(ready);
    loop {
        while let Some(publication) = presence.poll_publish(time()) {
            let subject = match publication.subject {
                Subject::Find => "tunnel.find".to_owned(),
                Subject::Claim => "tunnel.claim".to_owned(),
                Subject::Node(incarnation) => format!("tunnel.node.{incarnation:016x}"),
            };
            if character.beats || publication.payload.get(1) != Some(&BEAT) {
                client.publish(subject, publication.payload).await.unwrap();
            }
        }
        client.flush().await.unwrap();
        if let Some(ready) = ready.take() {
            ready.send(()).unwrap();
        }
        while presence.poll_event().is_some() {}
        let due = presence.poll_timeout().expect("it beats, again and again");
        let due = start + std::time::Duration::from_micros(due.as_micros());
        let mut take = |subject, payload: Bytes| presence.handle_message(subject, &payload, time());
        tokio::select! {
            Some(message) = find.next() => if character.hears { take(Subject::Find, message.payload) },
            Some(message) = claim.next() => take(Subject::Claim, message.payload),
            Some(message) = own.next() => take(Subject::Node(incarnation), message.payload),
            () = tokio::time::sleep_until(due) => presence.handle_timeout(time()),
        }
    }
}
