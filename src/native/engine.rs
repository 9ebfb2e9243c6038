//! The driver as the engine of the API. Called by `src/api/`.

use super::Identity;
use super::dial::Relay;
use super::driver::Driver;
use crate::api::{Engine, Error, Guard, Server, ServerPlan, ServerState, Socket, SocketPlan, SocketState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tunnel_protocol::endpoint::{Endpoint, SocketId, SocketStats};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::{CloseCode, Message, ServerId};

/// Connects as planned to the server that the plan names.
pub(crate) async fn connect(server: ServerId, plan: SocketPlan) -> Result<Socket, Error> {
    let relay = Relay::new(&plan.relay, plan.token)?;
    let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let identity = identity(plan.identity, plan.taken)?;
    let key = identity.as_ref().map(Identity::key);
    let guard: Option<Box<dyn Guard>> = Some(Box::new(identity));
    let mut options = plan.options;
    options.key = key;
    let (state, opening) = SocketState::new(guard);
    let driver = Driver::shared(&relay, &runtime, random());
    let id = driver.connect(server, plan.port, options, plan.max_message, state.clone());
    opening.socket(driver, id, state).await
}

/// Hosts as planned.
pub(crate) async fn host(plan: ServerPlan) -> Result<Server, Error> {
    let relay = Relay::new(&plan.relay, plan.token)?;
    let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
    let identity = identity(plan.identity, plan.taken)?;
    let claim = identity.as_ref().map(|identity| Claim::take(identity, &relay)).transpose()?;
    let key = identity.as_ref().map(Identity::key);
    let guard: Option<Box<dyn Guard>> = Some(Box::new((identity, claim)));
    let (state, hosting) = ServerState::new(guard, None, plan.max_message);
    let driver = Driver::new(&relay, &runtime, Some(state.clone()), plan.max_clients, random());
    let key = key.unwrap_or_else(|| StaticKey::from_secret(random()));
    driver.with(|endpoint, now| endpoint.host(key, now));
    state.server(hosting, driver).await
}

/// The identity that a plan names.
fn identity(name: Option<String>, taken: Option<Identity>) -> Result<Option<Identity>, Error> {
    match (taken, name) {
        (None, Some(name)) => {
            let identity = Identity::named(&name).map_err(|error| Error::Identity(error.to_string()))?;
            Ok(Some(identity))
        }
        (taken, _) => Ok(taken),
    }
}

/// The identities that servers of this process are under, and their relays: two servers under one would take the server ID from
/// each other.
static CLAIMED: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());

/// The right to be the only server under an identity at a relay, until this is dropped.
struct Claim(PathBuf, String);

impl Claim {
    fn take(identity: &Identity, relay: &Relay) -> Result<Self, Error> {
        let (path, relay) = (identity.path().to_owned(), relay.bound());
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.iter().any(|other| other.0 == path && other.1 == relay) {
            return Err(Error::Identity(format!(
                "this program has a server under {} already: use that one, or close it first",
                path.display()
            )));
        }
        claimed.push((path.clone(), relay.clone()));
        Ok(Self(path, relay))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|other| other.0 != self.0 || other.1 != self.1);
    }
}

/// Bytes from the system.
///
/// # Panics
///
/// If the system has none. No key can be made then, and no program that has started has ever seen that.
pub(super) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

impl Engine for Driver {
    fn send(&self, id: SocketId, _: Arc<SocketState>, message: Message) {
        self.send(id, message);
    }

    fn consume(&self, id: SocketId, bytes: usize) {
        self.with(|endpoint, now| endpoint.consume(id, bytes, now));
    }

    fn buffered_amount(&self, id: SocketId) -> usize {
        self.read(|endpoint| endpoint.buffered_amount(id))
    }

    fn close(&self, id: SocketId, code: Option<CloseCode>, reason: &str) {
        self.with(|endpoint, now| endpoint.close(id, code, reason, now));
    }

    fn abort(&self, id: SocketId, code: CloseCode, reason: &str) {
        self.with(|endpoint, now| endpoint.abort(id, code, reason, now));
    }

    fn stats(&self, id: SocketId) -> Option<SocketStats> {
        self.read(|endpoint| endpoint.stats(id))
    }

    fn accept(&self, id: SocketId, state: Arc<SocketState>, protocol: &str, max_message: u64) -> bool {
        self.accept(id, state, protocol, max_message)
    }

    fn refuse(&self, id: SocketId, code: CloseCode, reason: &str) {
        self.with(|endpoint, now| endpoint.refuse(id, code, reason, now));
    }

    fn greet(&self, id: SocketId) {
        self.with(|endpoint, _| endpoint.greet(id));
    }

    fn flush(&self, id: SocketId) {
        self.with(|endpoint, _| endpoint.flush(id));
    }

    fn take_unacknowledged(&self, id: SocketId) -> Vec<Message> {
        self.with(|endpoint, _| endpoint.take_unacknowledged(id))
    }

    fn unhost(&self) {
        self.with(Endpoint::unhost);
    }
}
