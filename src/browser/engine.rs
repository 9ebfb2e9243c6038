//! The driver as the engine of the API for Rust pages. Called by `src/api/`.

use crate::api::{
    Engine, Error, Guard, Parking, Server, ServerPlan, ServerState, Socket, SocketPlan, SocketState,
};
use crate::browser::claim::Claim;
use crate::browser::driver::{Driver, ServerSink, SocketSink};
use crate::browser::identity::TakenIdentity;
use crate::browser::link::{Relay, Token, bound_url};
use crate::browser::page;
use crate::browser::parked::Parked;
use crate::browser::platform::random;
use futures_channel::oneshot;
use std::rc::Rc;
use tunnel_protocol::endpoint::{Endpoint, Event, SocketId, SocketStats};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{CloseCode, Message, ServerId};
use wasm_bindgen_futures::spawn_local;
use web_sys::Url;

/// Connects as planned to the server that the plan names.
pub(crate) async fn connect(server: ServerId, plan: SocketPlan) -> Result<Socket, Error> {
    page::start();
    let relay = relay(plan.relay, plan.token)?;
    let (key, guard) = take(plan.identity).await?;
    let mut options = plan.options;
    options.key = key;
    let (state, opening) = SocketState::new(guard);
    let driver = Driver::shared(relay);
    let id = driver.connect(server, plan.port, options, plan.max_message, state.clone());
    opening.socket(driver, id, state).await
}

/// Hosts as planned.
pub(crate) async fn host(plan: ServerPlan) -> Result<Server, Error> {
    page::start();
    let relay = relay(plan.relay, plan.token)?;
    let at = relay.url.clone().unwrap_or_default();
    let claim = match &plan.identity {
        Some(identity) => Some(Claim::take(identity, &at).await?),
        None => None,
    };
    let (key, kept) = take(plan.identity.clone()).await?;
    let parking = plan
        .identity
        .map(|identity| -> Box<dyn Parking> { Box::new(Parked::take(&identity, &at, plan.absent_timeout)) });
    let (state, hosting) = ServerState::new(Some(Box::new((kept, claim))), parking, plan.max_message);
    let driver = Driver::new(relay, Some(state.clone()), false, plan.max_clients);
    let key = key.unwrap_or_else(|| StaticKey::from_secret(random()));
    driver.with(|endpoint, now| endpoint.host(key, now));
    state.server(hosting, driver).await
}

fn relay(text: String, token: String) -> Result<Relay, Error> {
    let Ok(url) = Url::new(&text) else { return Err(Error::Url(text)) };
    match url.protocol().as_str() {
        "http:" => url.set_protocol("ws:"),
        "https:" => url.set_protocol("wss:"),
        "ws:" | "wss:" => {}
        _ => return Err(Error::Url(text)),
    }
    if !url.hash().is_empty() {
        return Err(Error::Url(text));
    }
    Ok(Relay { bound: bound_url(&url), url: Some(url.href()), token: Token::Text(token), livecode: false })
}

/// The key of an identity, and what keeps it.
async fn take(name: Option<String>) -> Result<(Option<StaticKey>, Option<Box<dyn Guard>>), Error> {
    let Some(name) = name else { return Ok((None, None)) };
    let (sender, taken) = oneshot::channel();
    // To its end even if nobody waits any more: who takes an identity has to release it.
    spawn_local(async move {
        let identity = TakenIdentity::take(&name).await.map(Kept).map_err(Error::Identity);
        let _ = sender.send(identity);
    });
    let identity = taken.await.unwrap_or(Err(Error::Unsupported))?;
    Ok((identity.0.static_key(), Some(Box::new(identity))))
}

/// Keeps an identity for a socket or a server until it has ended.
struct Kept(TakenIdentity);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl SocketSink for SocketState {
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, id: SocketId, event: Event) {
        let unread = Self::handle(&self, &**driver, id, event);
        if unread > 0 {
            driver.consume(id, unread);
        }
    }

    fn add_buffered(&self, len: usize) -> bool {
        self.shown_buffered(|shown| shown + len) == 0
    }

    fn buffered(&self) -> usize {
        self.shown_buffered(|shown| shown)
    }

    fn is_watched(&self) -> bool {
        self.has_writer()
    }

    fn settle_buffered(&self, id: SocketId, driver: &Driver) -> bool {
        let now = driver.read(|endpoint| endpoint.buffered_amount(id));
        if now < self.shown_buffered(|_| now) {
            self.wake_writer();
        }
        now > 0
    }
}

impl ServerSink for ServerState {
    fn handle(self: Rc<Self>, driver: &Rc<Driver>, event: Event) {
        Self::handle(&self, driver.clone(), event);
    }
}

impl Engine for Driver {
    fn send(&self, id: SocketId, state: Rc<SocketState>, message: Message) {
        self.send(id, state, message);
    }

    fn consume(&self, id: SocketId, bytes: usize) {
        self.consume(id, bytes);
    }

    fn buffered_amount(&self, id: SocketId) -> usize {
        self.read(|endpoint| endpoint.buffered_amount(id))
    }

    fn close(&self, id: SocketId, code: Option<CloseCode>, reason: &str) {
        self.with_later(|endpoint, now| endpoint.close(id, code, reason, now));
    }

    fn stats(&self, id: SocketId) -> Option<SocketStats> {
        self.read(|endpoint| endpoint.stats(id))
    }

    fn abort(&self, id: SocketId, code: CloseCode, reason: &str) {
        self.with_later(|endpoint, now| endpoint.abort(id, code, reason, now));
    }

    fn accept(&self, id: SocketId, state: Rc<SocketState>, protocol: &str, max_message: u64) -> bool {
        if self.stats(id).is_none() {
            return false;
        }
        self.insert(id, state);
        self.with_later(|endpoint, now| {
            endpoint.limit_messages(id, max_message);
            endpoint.accept(id, protocol, now);
        });
        true
    }

    fn refuse(&self, id: SocketId, code: CloseCode, reason: &str) {
        self.with_later(|endpoint, now| endpoint.refuse(id, code, reason, now));
    }

    fn greet(&self, id: SocketId) {
        self.with_later(|endpoint, _| endpoint.greet(id));
    }

    fn flush(&self, id: SocketId) {
        self.with_later(|endpoint, _| endpoint.flush(id));
    }

    fn take_unacknowledged(&self, id: SocketId) -> Vec<Message> {
        self.with_later(|endpoint, _| endpoint.take_unacknowledged(id))
    }

    fn unhost(&self) {
        self.with_later(Endpoint::unhost);
    }
}
