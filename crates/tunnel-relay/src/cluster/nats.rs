//! Brings the messages of the bus to NATS servers: core NATS alone, which keeps nothing.
//!
//! The client library would dial again by itself, and then send what it has queued meanwhile, which would be late. So each connection
//! is a client of its own, and the next one is made here.

use super::bus::{BusEvent, Outgoing, Server};
use crate::complaints::{Complaints, complain};
use crate::config::{BusUrl, Config};
use crate::{shared::Shared, tls};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures_util::StreamExt as _;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};
use tunnel_protocol::presence::{Publication, Subject};

/// Longest time that a server may take to answer a new connection. One that is frozen costs as much.
const DIAL: Duration = Duration::from_secs(1);

/// Interval of pings: the library gives a server up that has left three unanswered.
const PING: Duration = Duration::from_secs(1);

/// Pause before all servers are tried once more.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// The number of messages that the library keeps, either way.
const CAPACITY: usize = 1_024;

/// The settings of the bus.
pub(super) struct Nats {
    servers: Vec<BusUrl>,
    name: String,
    node: String,
    incarnation: u64,
    credentials: Option<Credentials>,
    tls: Option<rustls::ClientConfig>,
}

/// Credentials for NATS servers.
enum Credentials {
    User(String, String),
    Token(String),
}

/// One connection.
struct Session {
    client: Client,
    lost: mpsc::Receiver<Lost>,
    find: Subscriber,
    claim: Subscriber,
    own: Subscriber,
}

/// The end of a connection, or a word about it.
enum Lost {
    Connection(&'static str),
    Messages,
    Refused(String),
}

impl Nats {
    /// As the configuration says.
    ///
    /// # Errors
    ///
    /// A file can't be used; the text says which and why.
    pub(super) fn new(config: &Config, incarnation: u64) -> io::Result<Self> {
        let is_secure = config.cluster.iter().any(|url| url.is_secure);
        Ok(Self {
            servers: config.cluster.clone(),
            name: config.cluster_name.0.clone(),
            node: config.node.clone(),
            incarnation,
            credentials: config.cluster_bus_credentials.as_deref().map(Credentials::read).transpose()?,
            tls: is_secure.then(|| tls::client(config.cluster_bus_ca.as_deref())).transpose()?,
        })
    }

    fn subject(&self, subject: Subject) -> String {
        match subject {
            Subject::Find => format!("{}.find", self.name),
            Subject::Claim => format!("{}.claim", self.name),
            Subject::Node(incarnation) => format!("{}.node.{incarnation:016x}", self.name),
        }
    }

    /// Serves the bus; never returns, but when the relay's end of it is gone.
    pub(super) async fn serve(self, shared: Arc<Shared>, mut server: Server) {
        // Relays that start together do not all take the first one.
        let mut turn = usize::try_from(self.incarnation % self.servers.len().max(1) as u64).unwrap_or(0);
        let mut failures = 0_usize;
        while !server.events.is_closed() {
            let url = &self.servers[turn % self.servers.len()];
            turn += 1;
            match self.connect(url).await {
                Ok(session) => {
                    failures = 0;
                    info!(server = %url, "the bus is reached");
                    server.forget();
                    if server.events.send(BusEvent::Up).await.is_err() {
                        return;
                    }
                    let why = self.bring(session, &mut server, &shared.complaints).await;
                    warn!(server = %url, %why, "the bus is away");
                    if server.events.send(BusEvent::Down).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    failures += 1;
                    complain!(
                        shared.complaints,
                        Bus,
                        server = %url,
                        %error,
                        "a server of the bus is not reached: clients of servers at other relays have to wait meanwhile"
                    );
                }
            }
            if failures >= self.servers.len() {
                let pause = PAUSES[usize::from(failures >= 4 * self.servers.len())];
                self.rest(pause, &mut server).await;
            }
        }
    }

    /// Waits, and lets nothing pile up meanwhile.
    async fn rest(&self, pause: Duration, server: &mut Server) {
        let over = tokio::time::Instant::now() + pause;
        while let Ok(Some(outgoing)) = tokio::time::timeout_at(over, server.out.recv()).await {
            server.forget_one(outgoing);
        }
    }

    async fn connect(&self, url: &BusUrl) -> Result<Session, String> {
        let (to_lost, lost) = mpsc::channel(16);
        let mut options = ConnectOptions::new()
            .name(&self.node)
            .connection_timeout(DIAL)
            .ping_interval(PING)
            .max_reconnects(1)
            .ignore_discovered_servers()
            .no_echo()
            .subscription_capacity(CAPACITY)
            .client_capacity(CAPACITY)
            .event_callback(move |event| {
                let to_lost = to_lost.clone();
                async move {
                    let lost = match event {
                        Event::Disconnected => Lost::Connection("its connection is lost"),
                        Event::Closed => Lost::Connection("its connection is closed"),
                        Event::LameDuckMode => Lost::Connection("it is about to end"),
                        Event::SlowConsumer(_) => Lost::Messages,
                        Event::ServerError(error) => Lost::Refused(error.to_string()),
                        Event::Connected | Event::Draining | Event::ClientError(_) => return,
                    };
                    // Sixteen words about one connection are enough.
                    let _full = to_lost.try_send(lost);
                }
            });
        if let Some(tls) = self.tls.clone().filter(|_| url.is_secure) {
            options = options.require_tls(true).tls_client_config(tls);
        }
        options = match &self.credentials {
            Some(Credentials::User(user, password)) => {
                options.user_and_password(user.clone(), password.clone())
            }
            Some(Credentials::Token(token)) => options.token(token.clone()),
            None => options,
        };
        let opening = async {
            let client = options.connect(url.to_string()).await.map_err(|error| text(&error))?;
            let subscribe =
                async |subject| client.subscribe(self.subject(subject)).await.map_err(|error| text(&error));
            let find = subscribe(Subject::Find).await?;
            let claim = subscribe(Subject::Claim).await?;
            let own = subscribe(Subject::Node(self.incarnation)).await?;
            client.flush().await.map_err(|error| text(&error))?;
            Ok(Session { client, lost, find, claim, own })
        };
        // The library's time is for each address of a name.
        tokio::time::timeout(4 * DIAL, opening).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
    }

    /// Brings messages both ways until the connection is lost; returns why.
    async fn bring(&self, session: Session, server: &mut Server, complaints: &Complaints) -> String {
        let Session { client, mut lost, mut find, mut claim, mut own } = session;
        loop {
            tokio::select! {
                word = lost.recv() => match word {
                    Some(Lost::Connection(why)) => return why.to_owned(),
                    Some(Lost::Messages) => server.lost(),
                    Some(Lost::Refused(error)) => {
                        complain!(complaints, Bus, %error, "a server of the bus complains");
                    }
                    None => return "its connection is closed".to_owned(),
                },
                message = find.next() => match message {
                    Some(message) => server.deliver(Subject::Find, message.payload),
                    None => return "it has ended a subscription".to_owned(),
                },
                message = claim.next() => match message {
                    Some(message) => server.deliver(Subject::Claim, message.payload),
                    None => return "it has ended a subscription".to_owned(),
                },
                message = own.next() => match message {
                    Some(message) => server.deliver(Subject::Node(self.incarnation), message.payload),
                    None => return "it has ended a subscription".to_owned(),
                },
                outgoing = server.out.recv() => match outgoing {
                    Some(Outgoing::Publication(Publication { subject, payload })) => {
                        if let Err(error) = client.publish(self.subject(subject), payload).await {
                            return text(&error);
                        }
                    }
                    Some(Outgoing::Flush(done)) => {
                        if let Err(error) = client.flush().await {
                            return text(&error);
                        }
                        let _nobody_waits = done.send(());
                    }
                    None => return "the relay ends".to_owned(),
                },
            }
        }
    }
}

impl Credentials {
    fn read(path: &Path) -> io::Result<Self> {
        let explain =
            |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| explain(&error))?;
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err(explain(&"it has to have one line, USER:PASSWORD or a token"));
        }
        Ok(match text.split_once(':') {
            Some((user, password)) => Self::User(user.to_owned(), password.to_owned()),
            None => Self::Token(text.to_owned()),
        })
    }
}

/// The text of an error and of what it is made of.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
