//! A page without a browser, for `check`: an endpoint that hosts a server and connects to it through the relay.

use super::Failure;
use super::dial::{Dialled, Transcript};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_websockets::Message as Text;
use tunnel_protocol::endpoint::{Config, ConnectOptions, Endpoint, Event, LinkId, LinkMessage, SocketId};
use tunnel_protocol::frame::Welcome;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{CloseCode, Frame, Instant, Message};

/// Number of messages that go to this program and back.
const MESSAGES: usize = 8;

/// Findings about the relay.
pub(crate) struct Report {
    pub(crate) greeted_early: bool,
    pub(crate) welcome: Box<Welcome>,
    pub(crate) round_trips: Vec<Duration>,
}

pub(crate) struct Page {
    transcript: Transcript,
    endpoint: Endpoint,
    start: tokio::time::Instant,
    links: HashMap<LinkId, Link>,
    news: mpsc::UnboundedReceiver<(LinkId, News)>,
    to_news: mpsc::UnboundedSender<(LinkId, News)>,
    greeted_early: bool,
    welcome: Option<Box<Welcome>>,
    client: Option<SocketId>,
    sent: Option<tokio::time::Instant>,
    round_trips: Vec<Duration>,
}

struct Link {
    to_writer: mpsc::UnboundedSender<Bytes>,
    task: JoinHandle<()>,
}

enum News {
    Opened { greeted: bool },
    Message(Bytes),
    Closed(CloseCode, String),
    Failed(Failure),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Page {
    pub(crate) fn new(transcript: Transcript, token: String) -> Result<Self, Failure> {
        let (to_news, news) = mpsc::unbounded_channel();
        let config = Config { relay_url: transcript.bound_url(), token, ..Config::default() };
        let endpoint = Endpoint::new(config, random()?);
        let start = tokio::time::Instant::now();
        Ok(Self {
            transcript,
            endpoint,
            start,
            links: HashMap::new(),
            news,
            to_news,
            greeted_early: false,
            welcome: None,
            client: None,
            sent: None,
            round_trips: Vec::new(),
        })
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Registers a server, connects to it through the relay, and has messages echoed.
    pub(crate) async fn echo(&mut self) -> Result<Report, Failure> {
        self.endpoint.host(StaticKey::from_secret(random()?), self.now());
        while self.round_trips.len() < MESSAGES {
            while let Some(event) = self.endpoint.poll_event() {
                self.handle(event)?;
            }
            self.transmit();
            if self.round_trips.len() == MESSAGES {
                break;
            }
            let due = self.endpoint.poll_timeout();
            let due = due.map(|at| self.start + Duration::from_micros(at.as_micros()));
            tokio::select! {
                news = self.news.recv() => {
                    let Some((link, news)) = news else { break };
                    self.take(link, news)?;
                }
                () = async { tokio::time::sleep_until(due.unwrap_or(self.start)).await }, if due.is_some() => {
                    self.endpoint.handle_timeout(self.now());
                }
            }
        }
        let Some(welcome) = self.welcome.take() else {
            return Err(Failure::new("tunnel", "the relay did not say WELCOME", "check that it is a relay"));
        };
        Ok(Report {
            greeted_early: self.greeted_early,
            welcome,
            round_trips: std::mem::take(&mut self.round_trips),
        })
    }

    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        let now = self.now();
        match event {
            Event::Dial { link } => self.dial(link),
            Event::HangUp { link, .. } => drop(self.links.remove(&link)),
            Event::Hosting { server_id, again: false } => {
                self.client = Some(self.endpoint.connect(server_id, 1, ConnectOptions::default(), now));
            }
            Event::HostClosed { code, reason } => {
                return Err(Failure::new("registration", format!("{reason} ({code})"), remedy(code)));
            }
            Event::Incoming { socket, .. } => self.endpoint.accept(socket, "", now),
            Event::Opened { socket, .. } if Some(socket) == self.client => self.ask(),
            Event::Message { socket, message } => {
                self.endpoint.consume(socket, message.len(), now);
                if Some(socket) != self.client {
                    // It is told when it is lost.
                    let _ignored = self.endpoint.send(socket, message);
                } else if let Some(sent) = self.sent.take() {
                    self.round_trips.push(sent.elapsed());
                    if self.round_trips.len() < MESSAGES {
                        self.ask();
                    }
                }
            }
            Event::Closed { socket, code, reason, .. } if Some(socket) == self.client => {
                return Err(Failure::new("connection to itself", format!("{reason} ({code})"), remedy(code)));
            }
            Event::Livecode { .. } => {
                let remedy = "this relay speaks the livecode dialect: use one that speaks tunnel.v1";
                return Err(Failure::new("tunnel", "the relay speaks another dialect", remedy));
            }
            _ => {}
        }
        Ok(())
    }

    fn ask(&mut self) {
        let Some(client) = self.client else { return };
        self.sent = Some(tokio::time::Instant::now());
        let _told_when_it_closes = self.endpoint.send(client, Message::Binary(Bytes::from_static(b"echo")));
    }

    fn take(&mut self, link: LinkId, news: News) -> Result<(), Failure> {
        let now = self.now();
        match news {
            News::Opened { greeted } => {
                self.greeted_early |= greeted;
                self.endpoint.handle_link_opened(link, greeted, now);
            }
            News::Message(message) => {
                match Frame::decode(message.clone()) {
                    Ok(Some(Frame::Welcome(welcome))) => self.welcome = Some(welcome),
                    Ok(Some(Frame::Error { code, text })) => {
                        return Err(Failure::new("tunnel", format!("{text} ({code})"), remedy(code)));
                    }
                    _ => {}
                }
                self.endpoint.handle_message(link, LinkMessage::Binary(message), now);
            }
            News::Closed(code, reason) => {
                self.links.remove(&link);
                self.endpoint.handle_link_closed(link, code, &reason, now);
            }
            News::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    fn transmit(&mut self) {
        let now = self.now();
        for (id, link) in &self.links {
            while let Some(message) = self.endpoint.poll_transmit(*id, now) {
                if let LinkMessage::Binary(message) = message {
                    // Its end is told soon.
                    let _ended = link.to_writer.send(message);
                }
            }
        }
    }

    fn dial(&mut self, id: LinkId) {
        let (to_writer, from_page) = mpsc::unbounded_channel();
        let early = self.endpoint.early_frames(id, self.now());
        let task =
            tokio::spawn(run_link(id, self.transcript.clone(), early, self.to_news.clone(), from_page));
        self.links.insert(id, Link { to_writer, task });
    }
}

async fn run_link(
    id: LinkId,
    transcript: Transcript,
    early: Vec<u8>,
    news: mpsc::UnboundedSender<(LinkId, News)>,
    mut from_page: mpsc::UnboundedReceiver<Bytes>,
) {
    // Nobody minds when the page is gone.
    let tell = |one| drop(news.send((id, one)));
    let Dialled { mut socket, greeted } = match transcript.dial(&early).await {
        Ok(dialled) => dialled,
        Err(failure) => return tell(News::Failed(failure)),
    };
    tell(News::Opened { greeted });
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message)) if message.is_binary() => {
                    tell(News::Message(BytesMut::from(message.into_payload()).freeze()));
                }
                Some(Ok(message)) => {
                    if let Some((code, reason)) = message.as_close() {
                        return tell(News::Closed(CloseCode(code.into()), reason.to_owned()));
                    }
                }
                Some(Err(_)) | None => return tell(News::Closed(CloseCode::ABNORMAL, String::new())),
            },
            message = from_page.recv() => {
                let Some(message) = message else { return };
                if socket.send(Text::binary(BytesMut::from(message))).await.is_err() {
                    return tell(News::Closed(CloseCode::ABNORMAL, String::new()));
                }
            }
        }
    }
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Misuse(error.to_string()))?;
    Ok(bytes)
}

/// Advice for a close code of the relay's.
fn remedy(code: CloseCode) -> &'static str {
    match code {
        CloseCode::BAD_CREDENTIAL => {
            "give an access token with --token-file; \"proof\" means that the Host header that reaches the relay is not \
             the name in this URL: have the proxy keep it"
        }
        CloseCode::TRY_AGAIN_LATER => "a limit of the relay refuses: its log and metrics say which",
        CloseCode::DRAINING => "the relay is about to end: try again",
        _ => "look at the relay's log at the level debug",
    }
}
