//! `tunnel connect`: a port of a peer, from a local port or with standard input and output.

use crate::arguments::{Connect, Patience};
use crate::failure::Failure;
use crate::id;
use crate::report::Report;
use crate::settings::Settings;
use crate::target::Target;
use futures_util::StreamExt as _;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, split, stdin, stdout};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tunnel_wasm::{ByteStream, CloseCode, Error, Identity, STREAM_SUBPROTOCOL, Socket};

/// A peer, and how to get there.
pub(crate) struct Way {
    pub(crate) settings: Settings,
    pub(crate) target: Target,
    pub(crate) identity: Option<Identity>,
    pub(crate) patience: Duration,
}

impl Way {
    /// The way that the settings and the arguments of a command name.
    pub(crate) fn to(target: Target, identity: Option<&str>, patience: &Patience) -> Result<Self, Failure> {
        let identity = identity.map(id::take).transpose()?;
        Ok(Self { settings: Settings::read()?, target, identity, patience: patience.timeout })
    }

    /// Connects with one subprotocol on offer. A relay or a peer that is not there is waited for.
    pub(crate) async fn connect(&self, protocol: &str, path: &str) -> Result<Socket, Failure> {
        let Target { id, port } = &self.target;
        let builder = || {
            let mut builder = Socket::builder(self.settings.relay.clone(), id, *port)
                .token(self.settings.token.clone())
                .protocols([protocol])
                .path(path)
                .absent_timeout(self.patience);
            if let Some(identity) = &self.identity {
                builder = builder.with_identity(identity.clone());
            }
            builder
        };
        let attempts = async {
            let mut pause = Pause::default();
            loop {
                match builder().connect().await {
                    Err(Error::Failed { code, .. }) if is_away(code) => pause.wait().await,
                    end => return end,
                }
            }
        };
        match timeout(self.patience, attempts).await {
            Ok(socket) => Ok(socket?),
            // For the error of a last attempt.
            Err(_) => match timeout(LAST_PAUSE, builder().connect()).await {
                Ok(socket) => Ok(socket?),
                Err(_) => Err(Failure::Remote(format!(
                    "neither the relay nor {} answered within {} s: check TUNNEL_RELAY, and that the peer runs",
                    self.target,
                    self.patience.as_secs_f64()
                ))),
            },
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The time between two attempts, which grows.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LAST_PAUSE);
    }
}

/// Returns whether a relay or a peer may come back.
pub(crate) fn is_away(code: CloseCode) -> bool {
    [
        CloseCode::RELAY_UNREACHABLE,
        CloseCode::SERVER_NOT_FOUND,
        CloseCode::DRAINING,
        CloseCode::TRY_AGAIN_LATER,
    ]
    .contains(&code)
}

pub(crate) async fn run(arguments: Connect, report: Report) -> Result<(), Failure> {
    let way = Way::to(arguments.target, arguments.identity.as_deref(), &arguments.patience)?;
    match arguments.listen {
        None => through_standard(&way, &report).await,
        Some(address) => through_port(Arc::new(way), address, report).await,
    }
}

async fn through_standard(way: &Way, report: &Report) -> Result<(), Failure> {
    let socket = way.connect(STREAM_SUBPROTOCOL, "").await?;
    watch(&socket, report.clone());
    let stream = socket.into_stream();
    let closed = stream.closed();
    let (mut from_peer, mut to_peer) = split(stream);
    {
        let down = async {
            let mut output = stdout();
            copy(&mut from_peer, &mut output).await.map_err(|error| broken(&error))?;
            output.shutdown().await.map_err(|error| Failure::Local(format!("standard output: {error}")))
        };
        let up = async {
            copy(&mut stdin(), &mut to_peer).await.map_err(|error| broken(&error))?;
            to_peer.shutdown().await.map_err(|error| broken(&error))
        };
        tokio::pin!(down, up);
        let mut has_input = true;
        loop {
            tokio::select! {
                result = &mut up, if has_input => {
                    result?;
                    has_input = false;
                }
                // All of the answer is there. An input that is kept open, as by a terminal, is not waited for.
                result = &mut down => {
                    result?;
                    break;
                }
            }
        }
    }
    to_peer.shutdown().await.map_err(|error| broken(&error))?;
    match closed.await {
        Error::Closed { was_clean: true, .. } => Ok(()),
        error => Err(error.into()),
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::Remote(error.to_string())
}

async fn through_port(way: Arc<Way>, address: SocketAddr, report: Report) -> Result<(), Failure> {
    let failed = |error| Failure::Local(format!("{address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    report.result(
        &at.to_string(),
        &json!({ "event": "listening", "address": at, "target": way.target.to_string() }),
    );
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, for example: those that are open go on.
                report.event("failed", &format!("{at}: {error}"), json!({ "error": error.to_string() }));
                tokio::time::sleep(FIRST_PAUSE).await;
                continue;
            }
        };
        let (way, report) = (way.clone(), report.clone());
        tokio::spawn(async move {
            let from = from.to_string();
            match carry(&way, stream, &from, &report).await {
                Ok(()) => report.event("ended", &format!("{from}: done"), json!({ "from": from })),
                Err(why) => {
                    let why = why.to_string();
                    report.event("failed", &format!("{from}: {why}"), json!({ "from": from, "error": why }));
                }
            }
        });
    }
}

async fn carry(way: &Way, mut local: TcpStream, from: &str, report: &Report) -> Result<(), Failure> {
    let _slower_without = local.set_nodelay(true);
    let socket = way.connect(STREAM_SUBPROTOCOL, "").await?;
    report.event("connected", &format!("{from}: connected to {}", way.target), json!({ "from": from }));
    let mut stream: ByteStream = socket.into_stream();
    match copy_bidirectional(&mut local, &mut stream).await {
        Ok(_) => {
            stream.closed().await;
            Ok(())
        }
        Err(error) => {
            stream.abort(&format!("the connection was cut: {error}"));
            // Dropped with what is unread or with no linger, the local side sees a reset, and no clean end.
            let _best_effort = local.set_zero_linger();
            Err(broken(&error))
        }
    }
}

/// Tells of the path when it is lost and found.
pub(crate) fn watch(socket: &Socket, report: Report) {
    let mut events = socket.path_events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                tunnel_wasm::PathEvent::Interrupted => {
                    report.event("interrupted", "the connection is lost: seeking it …", json!({}));
                }
                _ => report.event("resumed", "connected again, nothing lost", json!({})),
            }
        }
    });
}
