//! The decision about a request for a WebSocket, and what the WebSocket takes up.

use crate::admission::{AddressPlace, NoPlace};
use crate::client;
use crate::complaints::complain;
use crate::config::Config;
use crate::connection;
use crate::files::{self, Answer};
use crate::hosts::{self, UnknownHost};
use crate::http::Visitor;
use crate::metrics::Refused;
use crate::origins;
use crate::server::Shared;
use crate::transport::Transport;
use crate::upgrade::{Handshake, Refusal};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{StatusCode, request};
use std::borrow::Cow;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tracing::debug;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Dialect, Peer};

/// How many bytes of a header the log shows: its lines wait in memory.
const MAX_QUOTED: usize = 256;

/// A peer whose WebSocket may open.
pub(crate) struct Guest {
    config: Arc<Config>,
    peer: Arc<Peer>,
    /// What it said in its handshake.
    early: Vec<Bytes>,
    _places: Places,
}

/// What a WebSocket takes of what there is for all, as long as it is open.
struct Places {
    _connection: Arc<Visitor>,
    _own: Option<AddressPlace>,
}

/// Why a WebSocket does not open.
#[derive(Debug)]
pub(crate) enum Obstacle {
    Draining,
    Refused(Refusal),
    /// The request is for a host that is none of the relay's.
    Host(UnknownHost),
    /// So much is held for peers that no new ones are taken in.
    Buffers,
    NoPlace(NoPlace),
    NoRandomness(getrandom::Error),
}

/// Decides, and takes the places that are needed.
pub(crate) fn admit(
    shared: &Shared,
    request: &request::Parts,
    visitor: &Arc<Visitor>,
) -> Result<(Handshake, Guest), Obstacle> {
    let config = shared.config();
    if shared.is_draining() {
        return Err(Obstacle::Draining);
    }
    if !origins::admit(&config.allowed_origins, &request.headers) {
        return Err(Obstacle::Refused(Refusal::Origin));
    }
    let url = hosts::reached(&config, request, visitor.way()).map_err(Obstacle::Host)?;
    let handshake =
        Handshake::check(request, config.livecode_credential.is_some()).map_err(Obstacle::Refused)?;
    if shared.switchboard.is_full() {
        return Err(Obstacle::Buffers);
    }
    let address = visitor.seen_in(&config, &request.headers);
    if visitor.is_proxy()
        && let Some(missing) = client::missing(config.client_address, &request.headers)
    {
        complain!(
            shared,
            NoForwardedAddress,
            proxy = %address,
            %missing,
            seen = client::said_by_proxy(&request.headers),
            "a trusted proxy does not say whose WebSocket it passes on: all its peers count as one address; see client-address"
        );
    }
    // Behind a proxy each WebSocket counts for the peer that opens it, and not for the proxy.
    let own = visitor.is_proxy().then(|| shared.admission.enter_from(address, Instant::now())).transpose();
    let places = Places { _connection: visitor.clone(), _own: own.map_err(Obstacle::NoPlace)? };
    let peer = peer(handshake.dialect, url, address).map_err(Obstacle::NoRandomness)?;
    let origin = quoted(request.headers.get(header::ORIGIN));
    debug!(%address, ?origin, dialect = ?handshake.dialect, "WebSocket opens");
    let early = handshake.early.clone();
    Ok((handshake, Guest { config, peer: Arc::new(peer), early, _places: places }))
}

fn peer(dialect: Dialect, url: String, address: IpAddr) -> Result<Peer, getrandom::Error> {
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge)?;
    let address = address.to_string();
    let challenge = StaticKey::from_secret(challenge);
    Ok(Peer { dialect, address, url, challenge })
}

/// What a peer wrote, for the log, if it is not too long: its debug form escapes tabs, too, which a header value's own
/// does not.
pub(crate) fn quoted(value: Option<&HeaderValue>) -> Option<Cow<'_, str>> {
    let bytes = value?.as_bytes();
    let shown = &bytes[..bytes.len().min(MAX_QUOTED)];
    let text = String::from_utf8_lossy(shown);
    Some(if shown.len() < bytes.len() { Cow::Owned(text.into_owned() + "…") } else { text })
}

impl Guest {
    /// Runs the WebSocket until it is closed.
    pub(crate) async fn stay(&mut self, shared: &Shared, transport: Transport) {
        let _present = shared.metrics.web_socket();
        let early = mem::take(&mut self.early);
        connection::run(shared, &self.config, transport, &self.peer, early).await;
    }
}

impl Obstacle {
    /// What it is counted as.
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

    /// What the peer is told.
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
