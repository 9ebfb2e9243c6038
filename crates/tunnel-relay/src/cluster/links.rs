//! Links between relays: who comes to `cluster-listen`, and dialling others.

use crate::complaints::complain;
use crate::config::{Config, NodeAddress};
use crate::shared::Shared;
use crate::stream::Stream;
use crate::tls::{self, Tls};
use crate::transport::Transport;
use crate::{connection, upgrade};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tracing::debug;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::node::NODE_SUBPROTOCOL;
use tunnel_protocol::router::{Dialect, NodeSide, Peer};

/// Longest time until a relay that is dialled has to have answered.
const DIAL: Duration = Duration::from_secs(3);

/// The number of connections at `cluster-listen`, twice that of relays: each of them dials once, and again when numbers run out.
const MAX_CONNECTIONS: usize = 2_048;

/// Pause after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The links between this relay and others.
pub(super) struct Links {
    pub(super) tls: Option<Tls>,
    connector: Option<TlsConnector>,
    is_plain_allowed: bool,
    /// The limits of one link, which stands for many peers.
    limits: Config,
}

impl Links {
    /// As the configuration says.
    ///
    /// # Errors
    ///
    /// The certificates can't be used; the text says which and why.
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let tls = match (&config.cluster_tls_certificate, &config.cluster_tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::of_files(certificate, key)?),
            _ => None,
        };
        let client = tls.as_ref().map(|_| tls::client(config.cluster_tls_ca.as_deref())).transpose()?;
        let limits = Config {
            link_frames_per_second: 0,
            link_bytes_per_second: 0,
            // The router pings such links, and gives them up, much earlier.
            websocket_ping_interval: Duration::from_secs(3_600),
            ..config.clone()
        };
        Ok(Self {
            tls,
            connector: client.map(|client| TlsConnector::from(Arc::new(client))),
            is_plain_allowed: config.cluster_plain == crate::config::Switch::On,
            limits,
        })
    }

    /// Lets other relays in; never returns.
    pub(super) async fn accept(self: Arc<Self>, shared: Arc<Shared>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    complain!(shared.complaints, Accept, %error, "can't accept links of other relays");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                complain!(shared.complaints, NodeLink, %address, "too many connections at cluster-listen: it should be on a private network");
                continue;
            };
            let (links, shared) = (self.clone(), shared.clone());
            shared.clone().tasks.spawn(async move {
                links.serve(&shared, stream, address).await;
                drop(place);
            });
        }
    }

    async fn serve(&self, shared: &Shared, stream: TcpStream, address: SocketAddr) {
        let opening = tokio::time::timeout(self.limits.handshake_timeout, self.open(stream));
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or_else(|_| Err("it took too long".into())),
            () = shared.killed() => return,
        };
        match opened {
            Ok(transport) => self.run(shared, transport, address.ip().to_string(), NodeSide::Accepted).await,
            Err(error) => {
                complain!(shared.complaints, NodeLink, %address, %error, "a connection to cluster-listen is refused");
            }
        }
    }

    /// Speaks TLS and HTTP until the connection is a WebSocket.
    async fn open(&self, stream: TcpStream) -> Result<Transport, BoxError> {
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            Some(tls) => Stream::Tls(Box::new(tls.acceptor.accept(stream).await?.into())),
            None => Stream::Plain(stream),
        };
        let is_opened = AtomicBool::new(false);
        let mut connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(self.limits.max_header_bytes)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(|request| Box::pin(answer(request, &is_opened))),
            );
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
        let parts = connection.into_parts();
        if !is_opened.load(Ordering::Relaxed) {
            return Err("it did not ask for a link between relays".into());
        }
        Ok(Transport::new(parts.io.into_inner(), Bytes::copy_from_slice(&parts.read_buf)))
    }

    /// Dials another relay, and runs the link until it ends.
    ///
    /// # Errors
    ///
    /// It is not reached; the text says why.
    pub(super) async fn dial(&self, shared: &Shared, node: String, address: &str) -> Result<(), String> {
        let opening = tokio::time::timeout(DIAL, self.reach(address));
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or_else(|_| Err("it takes too long".into())),
            () = shared.killed() => return Ok(()),
        };
        let transport = opened.map_err(|error| error.to_string())?;
        self.run(shared, transport, address.to_owned(), NodeSide::Dialled { node }).await;
        Ok(())
    }

    async fn reach(&self, address: &str) -> Result<Transport, BoxError> {
        let NodeAddress { host, port } = address.parse()?;
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let stream = match &self.connector {
            Some(connector) => {
                let name = ServerName::try_from(host)?;
                Stream::Tls(Box::new(connector.connect(name, stream).await?.into()))
            }
            None if self.is_plain_allowed || stream.peer_addr()?.ip().is_loopback() => Stream::Plain(stream),
            None => return Err("it is on another machine, and this relay has neither cluster-tls-certificate nor cluster-plain".into()),
        };
        ask(stream, address).await
    }

    async fn run(&self, shared: &Shared, transport: Transport, address: String, side: NodeSide) {
        let mut challenge = [0; 32];
        if let Err(error) = getrandom::fill(&mut challenge) {
            complain!(shared.complaints, NodeLink, %error, "the system has no random numbers");
            return;
        }
        let challenge = StaticKey::from_secret(challenge);
        let peer = Peer { dialect: Dialect::Tunnel, address: address.clone(), url: String::new(), challenge };
        debug!(%address, ?side, "link between relays opens");
        let _present = shared.metrics.web_socket();
        connection::run_node(shared, &self.limits, transport, &Arc::new(peer), side, &address).await;
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The answer to a request at `cluster-listen`.
async fn answer(
    request: Request<Incoming>,
    is_opened: &AtomicBool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (request, _body) = request.into_parts();
    let mut answer = Response::new(Full::default());
    let headers = if upgrade::is_wanted(&request.headers) { upgrade::of_node(&request).ok() } else { None };
    match headers {
        Some(headers) => {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *answer.headers_mut() = headers;
            is_opened.store(true, Ordering::Relaxed);
        }
        None => {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            *answer.body_mut() = Full::from("only other relays have something to say here\n");
            answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
    }
    Ok(answer)
}

/// Asks for a WebSocket of another relay.
async fn ask(stream: Stream, host: &str) -> Result<Transport, BoxError> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    let key = STANDARD.encode(key);
    let request = Request::get("/")
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, NODE_SUBPROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, mut connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut answer = pin!(sender.send_request(request));
    let mut is_over = false;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer?,
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)), if !is_over => {
                ended?;
                is_over = true;
            }
        }
    };
    let headers = answer.headers();
    let is_protocol =
        headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|value| value == NODE_SUBPROTOCOL);
    let is_proven = headers.get(header::SEC_WEBSOCKET_ACCEPT) == Some(&upgrade::accept(key.as_bytes()));
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS || !is_protocol || !is_proven {
        return Err(format!("there is no relay of a cluster: the answer is {}", answer.status()).into());
    }
    if !is_over {
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
    }
    let parts = connection.into_parts();
    Ok(Transport::new(parts.io.into_inner(), Bytes::copy_from_slice(&parts.read_buf)))
}
