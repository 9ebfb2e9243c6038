//! `tunnel listen`: peers reach a TCP port.

use crate::arguments::Listen;
use crate::connect::{Pause, is_away};
use crate::failure::Failure;
use crate::id;
use crate::ping;
use crate::report::Report;
use crate::settings::Settings;
use futures_util::StreamExt as _;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tunnel_wasm::{CloseCode, Error, Incoming, STREAM_SUBPROTOCOL, Server, ServerBuilder, ServerId};

/// Time for a connection to the target.
const CONNECT: Duration = Duration::from_secs(10);

struct Door {
    to: String,
    /// Whom to let in; `None` is everybody.
    allowed: Option<Vec<ServerId>>,
    free: Arc<Semaphore>,
    report: Report,
}

pub(crate) async fn run(arguments: Listen, report: Report) -> Result<(), Failure> {
    let settings = Settings::read()?;
    if let Some(number) = arguments.allow.iter().find(|id| !matches!(id, ServerId::Key(_))) {
        return Err(Failure::Usage(format!(
            "--allow {number}: a number is no peer's ID: it proves nothing about who connects"
        )));
    }
    let identity = arguments.identity.as_deref().map(id::take).transpose()?;
    let builder = || {
        let builder = Server::builder(settings.relay.clone())
            .token(settings.token.clone())
            .max_clients(arguments.max_connections);
        match &identity {
            Some(identity) => builder.with_identity(identity.clone()),
            None => builder,
        }
    };
    let server = host(builder, arguments.patience.timeout, &report).await?;
    let target = format!("{}/{}", server.id(), arguments.port);
    let mut clients = server.listen(arguments.port)?;
    report.result(&target, &json!({ "event": "listening", "target": target, "to": arguments.to.as_str() }));
    watch(&server, report.clone());
    let door = Arc::new(Door {
        to: arguments.to.as_str().to_owned(),
        allowed: (!arguments.allow_anyone).then_some(arguments.allow),
        free: Arc::new(Semaphore::new(arguments.max_connections)),
        report,
    });
    while let Some(client) = clients.next().await {
        tokio::spawn(door.clone().answer(client));
    }
    Err(server.closed().await.into())
}

/// Registers a server. A relay that is not there is waited for.
pub(crate) async fn host(
    builder: impl Fn() -> ServerBuilder,
    patience: Duration,
    report: &Report,
) -> Result<Server, Failure> {
    report.event("registering", "registering at the relay …", json!({}));
    let attempts = async {
        let mut pause = Pause::default();
        loop {
            match builder().host().await {
                Err(Error::Failed { code, reason }) if is_away(code) => {
                    report.event("away", &format!("{reason}: trying again …"), json!({ "error": reason }));
                    pause.wait().await;
                }
                end => return end,
            }
        }
    };
    match timeout(patience, attempts).await {
        Ok(server) => Ok(server?),
        Err(_) => Err(Failure::Remote(format!(
            "no relay answered within {} s: check TUNNEL_RELAY, and try `tunnel-relay check` with it",
            patience.as_secs_f64()
        ))),
    }
}

/// Tells of the server's registration when it is lost and found.
pub(crate) fn watch(server: &Server, report: Report) {
    let mut events = server.path_events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                tunnel_wasm::PathEvent::Interrupted => {
                    report.event("interrupted", "the relay is away: trying again …", json!({}));
                }
                _ => report.event("resumed", "registered again", json!({})),
            }
        }
    });
}

impl Door {
    async fn answer(self: Arc<Self>, client: Incoming) {
        let who = client
            .remote()
            .map_or_else(|| "a peer without a key".to_owned(), |key| ServerId::Key(key).to_string());
        match self.serve(client, &who).await {
            Ok(()) => self.report.event("ended", &format!("{who}: done"), json!({ "peer": who })),
            Err(why) => {
                self.report.event("failed", &format!("{who}: {why}"), json!({ "peer": who, "error": why }))
            }
        }
    }

    async fn serve(&self, client: Incoming, who: &str) -> Result<(), String> {
        let is_allowed = |key: Option<tunnel_wasm::PublicKey>| match (&self.allowed, key) {
            (None, _) => true,
            (Some(allowed), Some(key)) => allowed.contains(&ServerId::Key(key)),
            (Some(_), None) => false,
        };
        if !is_allowed(client.remote()) {
            client.refuse("this peer is not among those that may connect");
            return Err("refused: it is not among those of --allow".to_owned());
        }
        let protocols = client.protocols();
        let speaks = |name: &str| protocols.iter().any(|offered| offered == name);
        if speaks(ping::SUBPROTOCOL) {
            let socket = client.accept(ping::SUBPROTOCOL).await.map_err(|error| error.to_string())?;
            return ping::answer(socket).await.map_err(|error| error.to_string());
        }
        let protocol = if speaks(STREAM_SUBPROTOCOL) { STREAM_SUBPROTOCOL } else { "" };
        if protocol.is_empty() && !protocols.is_empty() {
            let reason =
                format!("this is a stream of bytes: offer the subprotocol {STREAM_SUBPROTOCOL}, or none");
            client.refuse(&reason);
            return Err("refused: it speaks other subprotocols".to_owned());
        }
        let Ok(_place) = self.free.clone().try_acquire_owned() else {
            client.refuse_with(CloseCode::TRY_AGAIN_LATER, "there are as many connections as are allowed");
            return Err("refused: there are as many connections as --max-connections".to_owned());
        };
        let mut target = match timeout(CONNECT, TcpStream::connect(&self.to)).await {
            Ok(Ok(target)) => target,
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer within {} s", CONNECT.as_secs()),
                };
                client.refuse(&format!("the target does not take connections: {why}"));
                return Err(format!("{}: {why}", self.to));
            }
        };
        let _slower_without = target.set_nodelay(true);
        let socket = client.accept(protocol).await.map_err(|error: Error| error.to_string())?;
        if self.allowed.is_some() && !socket.remote().verified {
            return Err("its key is not proven".to_owned());
        }
        self.report.event("connected", &format!("{who}: connected to {}", self.to), json!({ "peer": who }));
        let mut stream = socket.into_stream();
        match copy_bidirectional(&mut stream, &mut target).await {
            Ok(_) => {
                stream.closed().await;
                Ok(())
            }
            Err(error) => {
                stream.abort(&format!("the connection was cut: {error}"));
                Err(error.to_string())
            }
        }
    }
}
