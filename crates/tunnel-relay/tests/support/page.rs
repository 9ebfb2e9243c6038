//! A page without a browser: an endpoint with native WebSockets.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_websockets::{ClientBuilder, Message, WebSocketStream};
use tunnel_protocol::endpoint::{Config, Endpoint, Event, LinkId, LinkMessage};
use tunnel_protocol::{CloseCode, Instant, early};

/// As much as a page leaves in a WebSocket before it waits.
const BUFFERED: usize = 256 << 10;

/// An endpoint and the owner of its I/O.
pub(crate) struct Page {
    pub(crate) endpoint: Endpoint,
    relays: Vec<SocketAddr>,
    /// Number of dials so far.
    dials: usize,
    host: String,
    start: tokio::time::Instant,
    links: BTreeMap<LinkId, Link>,
    news: mpsc::UnboundedReceiver<(LinkId, News)>,
    to_news: mpsc::UnboundedSender<(LinkId, News)>,
}

struct Link {
    to_writer: mpsc::UnboundedSender<LinkMessage>,
    buffered: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

enum News {
    Opened { greeted: bool },
    Message(LinkMessage),
    Written,
    Closed(CloseCode, String),
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Page {
    pub(crate) fn new(relay: SocketAddr, seed: u8) -> Self {
        Self::through(vec![relay], relay.to_string(), seed)
    }

    /// A page whose dials come to one of these after the other, beginning with the first, as a balancer with one name for all would have it.
    pub(crate) fn among(relays: Vec<SocketAddr>, seed: u8) -> Self {
        Self::through(relays, "localhost".to_owned(), seed)
    }

    fn through(relays: Vec<SocketAddr>, host: String, seed: u8) -> Self {
        let (to_news, news) = mpsc::unbounded_channel();
        let config = Config { relay_url: format!("ws://{host}/"), ..Config::default() };
        let start = tokio::time::Instant::now();
        let endpoint = Endpoint::new(config, [seed; 32]);
        Self { endpoint, relays, dials: 0, host, start, links: BTreeMap::new(), news, to_news }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Runs until the application breaks off. It is told every event, and asked again after each step with `None`.
    pub(crate) async fn run<T>(
        &mut self,
        mut application: impl FnMut(&mut Endpoint, Option<Event>, Instant) -> ControlFlow<T>,
    ) -> T {
        loop {
            loop {
                while let Some(event) = self.endpoint.poll_event() {
                    let now = self.now();
                    match event {
                        Event::Dial { link } => self.dial(link),
                        Event::HangUp { link, .. } => drop(self.links.remove(&link)),
                        event => {
                            if let ControlFlow::Break(result) =
                                application(&mut self.endpoint, Some(event), now)
                            {
                                return result;
                            }
                        }
                    }
                }
                let now = self.now();
                if let ControlFlow::Break(result) = application(&mut self.endpoint, None, now) {
                    return result;
                }
                self.transmit();
                // Sending can make room, and so events.
                let Some(event) = self.endpoint.poll_event() else { break };
                match event {
                    Event::Dial { link } => self.dial(link),
                    Event::HangUp { link, .. } => drop(self.links.remove(&link)),
                    event => {
                        if let ControlFlow::Break(result) = application(&mut self.endpoint, Some(event), now)
                        {
                            return result;
                        }
                    }
                }
            }
            let timeout = self.endpoint.poll_timeout();
            let due = timeout.map(|at| self.start + std::time::Duration::from_micros(at.as_micros()));
            tokio::select! {
                news = self.news.recv() => {
                    let (link, news) = news.expect("this page has a sender, too");
                    self.take(link, news);
                    while let Ok((link, news)) = self.news.try_recv() {
                        self.take(link, news);
                    }
                }
                () = async { tokio::time::sleep_until(due.unwrap()).await }, if due.is_some() => {
                    let now = self.now();
                    self.endpoint.handle_timeout(now);
                }
            }
        }
    }

    fn take(&mut self, link: LinkId, news: News) {
        if !self.links.contains_key(&link) {
            return;
        }
        let now = self.now();
        match news {
            News::Opened { greeted } => self.endpoint.handle_link_opened(link, greeted, now),
            News::Message(message) => self.endpoint.handle_message(link, message, now),
            News::Written => {}
            News::Closed(code, reason) => {
                self.links.remove(&link);
                self.endpoint.handle_link_closed(link, code, &reason, now);
            }
        }
    }

    fn transmit(&mut self) {
        let now = self.now();
        for (id, link) in &self.links {
            while link.buffered.load(Ordering::Relaxed) < BUFFERED
                && let Some(message) = self.endpoint.poll_transmit(*id, now)
            {
                let len = match &message {
                    LinkMessage::Binary(message) => message.len(),
                    LinkMessage::Text(message) => message.len(),
                };
                link.buffered.fetch_add(len, Ordering::Relaxed);
                // Its end is told soon.
                let _ended = link.to_writer.send(message);
            }
        }
    }

    fn dial(&mut self, id: LinkId) {
        let (to_writer, from_page) = mpsc::unbounded_channel();
        let buffered = Arc::new(AtomicUsize::new(0));
        let now = self.now();
        let early = self.endpoint.early_frames(id, now);
        let relay = self.relays[self.dials % self.relays.len()];
        self.dials += 1;
        let (host, news, counted) = (self.host.clone(), self.to_news.clone(), buffered.clone());
        let task = tokio::spawn(run_link(id, (relay, host), early, news, from_page, counted));
        self.links.insert(id, Link { to_writer, buffered, task });
    }
}

async fn run_link(
    id: LinkId,
    (relay, host): (SocketAddr, String),
    early: Vec<u8>,
    news: mpsc::UnboundedSender<(LinkId, News)>,
    from_page: mpsc::UnboundedReceiver<LinkMessage>,
    buffered: Arc<AtomicUsize>,
) {
    let (code, reason) = match open_as(relay, &host, &early).await {
        None => (CloseCode::ABNORMAL, String::new()),
        Some((socket, greeted)) => {
            // The page may be gone: then nobody minds.
            let _gone = news.send((id, News::Opened { greeted }));
            let (sink, stream) = socket.split();
            tokio::select! {
                end = read(id, stream, &news) => end,
                end = write(id, sink, from_page, &news, &buffered) => end,
            }
        }
    };
    let _gone = news.send((id, News::Closed(code, reason)));
}

/// A WebSocket, and whether the relay took what was said in its handshake.
pub(crate) async fn open(relay: SocketAddr, early: &[u8]) -> Option<(WebSocketStream<TcpStream>, bool)> {
    open_as(relay, &relay.to_string(), early).await
}

/// The same at a relay that is known under a name.
async fn open_as(relay: SocketAddr, host: &str, early: &[u8]) -> Option<(WebSocketStream<TcpStream>, bool)> {
    let stream = TcpStream::connect(relay).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let header = HeaderName::from_static("sec-websocket-protocol");
    let builder = ClientBuilder::from_uri(format!("ws://{host}/").parse().unwrap());
    let early = URL_SAFE_NO_PAD.encode(early);
    let offered = format!("tunnel.v1, {}, {}{early}", early::SUBPROTOCOL, early::PREFIX);
    let builder = builder.add_header(header.clone(), HeaderValue::try_from(offered).unwrap()).unwrap();
    let (socket, answer) = builder.connect_on(stream).await.ok()?;
    Some((socket, answer.headers()[header] == early::SUBPROTOCOL))
}

async fn read(
    id: LinkId,
    mut stream: SplitStream<WebSocketStream<TcpStream>>,
    news: &mpsc::UnboundedSender<(LinkId, News)>,
) -> (CloseCode, String) {
    while let Some(Ok(message)) = stream.next().await {
        if let Some((code, reason)) = message.as_close() {
            return (CloseCode(code.into()), reason.to_owned());
        }
        if message.is_binary() {
            let message = LinkMessage::Binary(BytesMut::from(message.into_payload()).freeze());
            let _gone = news.send((id, News::Message(message)));
        }
    }
    (CloseCode::ABNORMAL, String::new())
}

async fn write(
    id: LinkId,
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut from_page: mpsc::UnboundedReceiver<LinkMessage>,
    news: &mpsc::UnboundedSender<(LinkId, News)>,
    buffered: &AtomicUsize,
) -> (CloseCode, String) {
    while let Some(message) = from_page.recv().await {
        let (len, message) = match message {
            LinkMessage::Binary(message) => (message.len(), Message::binary(message)),
            LinkMessage::Text(message) => (message.len(), Message::text(message)),
        };
        if sink.send(message).await.is_err() {
            break;
        }
        buffered.fetch_sub(len, Ordering::Relaxed);
        let _gone = news.send((id, News::Written));
    }
    (CloseCode::ABNORMAL, String::new())
}
