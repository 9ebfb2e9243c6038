//! The decision about a request for a WebSocket, and the places that the WebSocket takes. `http` asks for it.

use crate::admission::{AddressPlace, NoPlace};
use crate::client;
use crate::complaints::{complain, quoted};
use crate::config::Config;
use crate::connection;
use crate::files::{self, Answer};
use crate::hosts::{self, UnknownHost};
use crate::metrics::Refused;
use crate::origins;
use crate::remote::Remote;
use crate::shared::Shared;
use crate::transport::Transport;
use crate::upgrade::{Handshake, Refusal};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{StatusCode, request};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tracing::debug;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Dialect, Peer};

/// A request for a WebSocket that was let in.
pub(crate) struct Admitted {
    config: Arc<Config>,
    peer: Arc<Peer>,
    /// Frames that came in its handshake.
    early: Vec<Bytes>,
    _places: Places,
}

/// The places that a WebSocket takes as long as it is open.
struct Places {
    _connection: Arc<Remote>,
    _own: Option<AddressPlace>,
}

/// The reason why a WebSocket does not open.
#[derive(Debug)]
pub(crate) enum Rejection {
    Draining,
    Refused(Refusal),
    /// The request is for a host that is none of the relay's.
    Host(UnknownHost),
    /// So much is held for peers that no new ones are taken in.
    Buffers,
    NoPlace(NoPlace),
    NoRandomness(getrandom::Error),
}

/// Finds out why a WebSocket would not open, without taking a place.
pub(crate) fn rejection(shared: &Shared, request: &request::Parts, remote: &Remote) -> Option<Rejection> {
    let config = shared.config();
    let address = remote.seen_in(&config, &request.headers);
    let place = || match remote.is_proxy.then(|| shared.admission.enter_from(address, Instant::now())) {
        Some(Err(full)) => Err(Rejection::NoPlace(full)),
        _ => Ok(()),
    };
    look(shared, &config, request, remote).and_then(|_| place()).err()
}

/// Checks what does not need the handshake; returns the URL under which the relay was reached.
fn look(
    shared: &Shared,
    config: &Config,
    request: &request::Parts,
    remote: &Remote,
) -> Result<String, Rejection> {
    if shared.is_draining() {
        return Err(Rejection::Draining);
    }
    if !origins::admit(&config.allowed_origins, &request.headers) {
        return Err(Rejection::Refused(Refusal::Origin));
    }
    let url = hosts::reached(config.names(), request, remote.way()).map_err(Rejection::Host)?;
    if shared.router.is_full() { Err(Rejection::Buffers) } else { Ok(url) }
}

/// Decides, and takes the places that are needed.
pub(crate) fn admit(
    shared: &Shared,
    request: &request::Parts,
    remote: &Arc<Remote>,
) -> Result<(Handshake, Admitted), Rejection> {
    let config = shared.config();
    let url = look(shared, &config, request, remote)?;
    let handshake =
        Handshake::check(request, config.livecode_credential.is_some()).map_err(Rejection::Refused)?;
    let address = remote.seen_in(&config, &request.headers);
    if remote.is_proxy
        && let Some(missing) = client::missing(config.client_address, &request.headers)
    {
        complain!(
            shared.complaints,
            NoForwardedAddress,
            proxy = %address,
            %missing,
            seen = client::said_by_proxy(&request.headers),
            "a trusted proxy does not say whose WebSocket it passes on: all its peers count as one address; see client-address"
        );
    }
    // Behind a proxy each WebSocket counts for the peer that opens it, and not for the proxy.
    let own = remote.is_proxy.then(|| shared.admission.enter_from(address, Instant::now())).transpose();
    let places = Places { _connection: remote.clone(), _own: own.map_err(Rejection::NoPlace)? };
    let peer = peer(handshake.dialect, url, address).map_err(Rejection::NoRandomness)?;
    let origin = quoted(request.headers.get(header::ORIGIN));
    debug!(%address, ?origin, dialect = ?handshake.dialect, "WebSocket opens");
    let early = handshake.early.clone();
    Ok((handshake, Admitted { config, peer: Arc::new(peer), early, _places: places }))
}

fn peer(dialect: Dialect, url: String, address: IpAddr) -> Result<Peer, getrandom::Error> {
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge)?;
    let address = address.to_string();
    let challenge = StaticKey::from_secret(challenge);
    Ok(Peer { dialect, address, url, challenge })
}

impl Admitted {
    /// Runs the WebSocket until it is closed.
    pub(crate) async fn run(&mut self, shared: &Shared, transport: Transport) {
        let _present = shared.metrics.web_socket();
        let early = mem::take(&mut self.early);
        connection::run(shared, &self.config, transport, &self.peer, early).await;
    }
}

impl Rejection {
    /// The label under which it is counted.
    pub(crate) const fn metric(&self) -> Refused {
        match self {
            Self::Draining => Refused::Draining,
            Self::Refused(refusal) => refusal.metric(),
            Self::Host(_) => Refused::Host,
            Self::Buffers => Refused::Buffers,
            Self::NoPlace(full) => full.metric(),
            Self::NoRandomness(_) => Refused::NoRandomness,
        }
    }

    /// The answer that the peer gets.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Draining => unavailable("this relay is about to end: try again later\n"),
            Self::Refused(refusal) => refused(*refusal),
            Self::Host(error) => files::text(StatusCode::MISDIRECTED_REQUEST, format!("{error}\n")),
            Self::Buffers => unavailable("this relay holds as much as it may for others: try again later\n"),
            Self::NoPlace(full) => unavailable(full.text()),
            Self::NoRandomness(_) => {
                files::text(StatusCode::SERVICE_UNAVAILABLE, "this relay has no random numbers\n")
            }
        }
    }
}

fn unavailable(text: &'static str) -> Answer {
    let mut answer = files::text(StatusCode::SERVICE_UNAVAILABLE, text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn refused(refusal: Refusal) -> Answer {
    let mut answer = files::text(refusal.status(), refusal.text());
    let headers = answer.headers_mut();
    match refusal {
        Refusal::NotGet => headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")),
        Refusal::Version => headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        _ => None,
    };
    answer
}
