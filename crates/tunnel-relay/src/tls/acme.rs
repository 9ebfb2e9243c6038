//! Certificates from an ACME directory, by `rustls-acme`: `tls` orders them here.
//!
//! That crate brings an asynchronous stack of its own beside tokio's, so a relay whose certificates are in files can be built
//! without it, by leaving out the feature `acme`. After orders that failed it would rest for up to 18 hours, and can't be told to try
//! again: so each order that fails ends its state machine here, and a new one begins when it is time.

use super::{Current, Order, Source, Tls, acceptor, certificates, details, provider};
use crate::Config;
use async_trait::async_trait;
use futures_core::Stream as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_acme::caches::DirCache;
use rustls_acme::{
    AccountCache, AcmeConfig, AcmeState, CertCache, EventError, EventOk, ResolvesServerCertAcme,
    is_tls_alpn_challenge,
};
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// ALPN name of the challenge by which a directory finds out who answers under a name (RFC 8737).
const CHALLENGE_ALPN: &[u8] = b"acme-tls/1";

/// Pause after the first order that failed, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// The state machine that orders and renews, until an order fails.
type Orders = AcmeState<io::Error>;

/// Orders a certificate, and renews it, until the result is dropped.
pub(super) fn order(config: &Config) -> io::Result<Tls> {
    let current = Arc::new(Current::default());
    let store = Store(Arc::new(Kept {
        current: current.clone(),
        folder: config.acme_cache.clone().map(DirCache::new),
        certificate: Mutex::default(),
        account: Mutex::default(),
    }));
    let (client, domains, directory) =
        (client(config)?, config.acme_domains.clone(), config.acme_directory.clone());
    let contacts: Vec<_> = config.acme_contacts.iter().map(|address| format!("mailto:{address}")).collect();
    let begin = move || {
        AcmeConfig::new_with_client_config(&domains, client.clone())
            .contact(&contacts)
            .cache(store.clone())
            .directory(&directory)
            .state()
    };
    let orders = begin();
    let challenges = Arc::new(RwLock::new(orders.resolver()));
    let resolver = Resolver { challenges: challenges.clone(), current: current.clone() };
    let acceptor = acceptor(Arc::new(resolver), &[b"http/1.1", CHALLENGE_ALPN])?;
    let retry = Arc::new(Notify::new());
    let task = tokio::spawn(keep_ordering(orders, begin, challenges, retry.clone()));
    Ok(Tls { acceptor, current, source: Source::Acme(Order { task, retry }) })
}

/// Checks whether orders could be made; returns what an operator should know of the cache all the same.
pub(super) fn check(config: &Config) -> io::Result<Option<String>> {
    client(config)?;
    let Some(folder) = config.acme_cache.clone() else {
        let text = "acme-cache is not set: each start orders a certificate, and directories limit how often";
        return Ok(Some(text.to_owned()));
    };
    let shown = folder.display().to_string();
    let Some(pem) = cached(folder, config)? else { return Ok(None) };
    let problem = certified(&pem).map_or_else(
        |error| Some(error.to_string()),
        |certified| Some(details(&certified)?.problem()?.to_string()),
    );
    Ok(problem.map(|problem| format!("{shown}: {problem}")))
}

/// The certificate in the cache, read in a thread: a caller may run inside of tokio, and the cache is asynchronous.
fn cached(folder: PathBuf, config: &Config) -> io::Result<Option<Vec<u8>>> {
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(DirCache::new(folder).load_cert(&config.acme_domains, &config.acme_directory))
    };
    std::thread::scope(|scope| scope.spawn(read).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that reads acme-cache panicked")))
}

/// Orders, rests after orders that failed, and begins anew.
async fn keep_ordering(
    mut orders: Orders,
    begin: impl Fn() -> Orders,
    challenges: Arc<RwLock<Arc<ResolvesServerCertAcme>>>,
    retry: Arc<Notify>,
) {
    let mut pauses = Pauses::default();
    while let Some(event) = poll_fn(|cx| Pin::new(&mut orders).poll_next(cx)).await {
        let error = match event {
            Ok(event) => {
                if matches!(event, EventOk::DeployedNewCert) {
                    pauses = Pauses::default();
                }
                info!(?event, "certificate");
                continue;
            }
            Err(error @ (EventError::Order(_) | EventError::NewCertParse(_))) => error,
            Err(error) => {
                warn!(%error, "the folder acme-cache can't be used");
                continue;
            }
        };
        let pause = pauses.next();
        // From here on it hears of a SIGHUP, so that one that comes right after the line of the log counts.
        let told = retry.notified();
        error!(%error, next_try = ?pause, "no certificate from the ACME directory; SIGHUP tries again at once");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = told => info!("the certificate is ordered again, as told"),
        }
        orders = begin();
        *challenges.write().unwrap_or_else(PoisonError::into_inner) = orders.resolver();
    }
}

/// Pauses after orders that fail: twice as long each time, up to an hour.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Shows the directory what it asks for, and everybody else the certificate.
#[derive(Debug)]
struct Resolver {
    challenges: Arc<RwLock<Arc<ResolvesServerCertAcme>>>,
    current: Arc<Current>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !is_tls_alpn_challenge(&hello) {
            return self.current.get();
        }
        let challenges = self.challenges.read().unwrap_or_else(PoisonError::into_inner).clone();
        challenges.resolve(hello)
    }
}

/// Keeps certificate and account for the next state machine, and in the folder `acme-cache` for the next process.
#[derive(Clone)]
struct Store(Arc<Kept>);

struct Kept {
    current: Arc<Current>,
    folder: Option<DirCache<PathBuf>>,
    certificate: Mutex<Option<Vec<u8>>>,
    account: Mutex<Option<Vec<u8>>>,
}

impl Kept {
    /// Shows a certificate from now on.
    fn show(&self, pem: &[u8]) {
        match certified(pem) {
            Ok(certified) => self.current.set(certified),
            Err(error) => {
                error!(%error, "the certificate from the ACME directory, or from acme-cache, can't be used")
            }
        }
        keep(&self.certificate, pem);
    }
}

fn keep(place: &Mutex<Option<Vec<u8>>>, bytes: &[u8]) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
}

fn kept(place: &Mutex<Option<Vec<u8>>>) -> Option<Vec<u8>> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[async_trait]
impl CertCache for Store {
    type EC = io::Error;

    async fn load_cert(&self, domains: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        if let Some(pem) = kept(&self.0.certificate) {
            return Ok(Some(pem));
        }
        let Some(folder) = &self.0.folder else { return Ok(None) };
        let pem = folder.load_cert(domains, directory).await?;
        if let Some(pem) = &pem {
            self.0.show(pem);
        }
        Ok(pem)
    }

    async fn store_cert(&self, domains: &[String], directory: &str, pem: &[u8]) -> io::Result<()> {
        self.0.show(pem);
        let Some(folder) = &self.0.folder else { return Ok(()) };
        folder.store_cert(domains, directory, pem).await
    }
}

#[async_trait]
impl AccountCache for Store {
    type EA = io::Error;

    async fn load_account(&self, contacts: &[String], directory: &str) -> io::Result<Option<Vec<u8>>> {
        if let Some(account) = kept(&self.0.account) {
            return Ok(Some(account));
        }
        let Some(folder) = &self.0.folder else { return Ok(None) };
        folder.load_account(contacts, directory).await
    }

    async fn store_account(&self, contacts: &[String], directory: &str, account: &[u8]) -> io::Result<()> {
        keep(&self.0.account, account);
        let Some(folder) = &self.0.folder else { return Ok(()) };
        folder.store_account(contacts, directory, account).await
    }
}

/// Reads a key and the certificates behind it from one text, as the crate writes them.
fn certified(pem: &[u8]) -> io::Result<CertifiedKey> {
    let invalid =
        |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| invalid(&error))?;
    let key = provider().key_provider.load_private_key(key).map_err(|error| invalid(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    Ok(CertifiedKey::new(chain.map_err(|error| invalid(&error))?, key))
}

/// Settings for connections to the directory.
fn client(config: &Config) -> io::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    match &config.acme_root {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_orders_grow_to_an_hour_and_no_further() {
        let mut pauses = Pauses::default();
        let seconds: Vec<_> = (0..15).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600, 3_600]);
    }
}
