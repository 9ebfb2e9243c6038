//! TLS: certificates from files, read again when they change, or from an ACME directory such as Let's Encrypt. `server` makes it, and `http`
//! accepts connections by it.

#[cfg(feature = "acme")]
mod acme;

use crate::Config;
use crate::certificate::Certificate;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

/// Interval at which the log repeats that a certificate ends, or has.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// Turns TCP streams into TLS streams.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    current: Arc<Current>,
    source: Source,
}

/// The source of the certificate.
enum Source {
    Files(Files),
    #[cfg_attr(not(feature = "acme"), expect(dead_code, reason = "a relay without ACME orders nothing"))]
    Acme(Order),
}

/// The certificate that is shown, with its key; `None` until an ACME directory has given one.
#[derive(Default)]
struct Current(RwLock<Option<Arc<CertifiedKey>>>);

/// A task that orders a certificate at an ACME directory, and renews it.
struct Order {
    task: tokio::task::JoinHandle<()>,
    /// Has the task order again now, if it rests after an order that failed.
    retry: Arc<Notify>,
}

/// The files of a certificate and its key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Hashes of what was in the files before they were read first.
    first: [Option<Vec<u8>>; 2],
}

impl Tls {
    /// As the configuration says; `None` if it names no certificate.
    ///
    /// # Errors
    ///
    /// The files can't be used; the text says which and why.
    pub(crate) fn new(config: &Config) -> io::Result<Option<Self>> {
        match (&config.tls_certificate, &config.tls_key) {
            (Some(certificate), Some(key)) => Self::of_files(certificate, key).map(Some),
            #[cfg(feature = "acme")]
            _ if !config.acme_domains.is_empty() => acme::order(config).map(Some),
            #[cfg(not(feature = "acme"))]
            _ if !config.acme_domains.is_empty() => Err(io::Error::other(crate::config::WITHOUT_ACME)),
            _ => Ok(None),
        }
    }

    /// With a certificate in files.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn of_files(certificate: &Path, key: &Path) -> io::Result<Self> {
        let first = contents(certificate, key);
        let current = Arc::new(Current::default());
        current.set(read(certificate, key)?);
        let acceptor = acceptor(current.clone(), &[b"http/1.1"])?;
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned(), first };
        Ok(Self { acceptor, current, source: Source::Files(files) })
    }

    /// Checks whether [`new`](Self::new) would succeed; returns what is wrong with the certificate all the same.
    pub(crate) fn check(config: &Config) -> io::Result<Vec<String>> {
        let mut warnings = Vec::new();
        if let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) {
            let problem = details(&read(certificate, key)?).and_then(|certificate| certificate.problem());
            warnings.extend(problem.map(|problem| format!("{}: {problem}", certificate.display())));
        }
        #[cfg(feature = "acme")]
        if !config.acme_domains.is_empty() {
            warnings.extend(acme::check(config)?);
        }
        Ok(warnings)
    }

    /// The certificate that is shown, if there is one yet.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        details(&*self.current.get()?)
    }

    /// Returns whether there is no certificate to show yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.current.get().is_none()
    }

    /// Logs what is wrong with the certificate; returns whether anything is.
    fn warn(&self) -> bool {
        let problem = self.certificate().and_then(|certificate| certificate.problem());
        if let Some(problem) = &problem {
            warn!(%problem, "TLS");
        }
        problem.is_some()
    }

    /// Reads the files again, or has the certificate ordered now that could not be ordered before. If the files can't be used, those of
    /// before stay in use.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn reload(&self) -> io::Result<()> {
        match &self.source {
            Source::Files(files) => {
                self.current.set(read(&files.certificate, &files.key)?);
                info!(certificate = %files.certificate.display(), "certificate read");
                self.warn();
            }
            Source::Acme(order) => order.retry.notify_waiters(),
        }
        Ok(())
    }

    /// Warns of a certificate that ends, and reads the files again whenever they have changed; never returns.
    pub(crate) async fn keep_fresh(&self, interval: Duration) {
        let mut seen = match &self.source {
            Source::Files(files) => files.first.clone(),
            Source::Acme(_) => [None, None],
        };
        let mut warned = None;
        loop {
            if warned.is_none_or(|at: tokio::time::Instant| at.elapsed() >= WARN_AGAIN) && self.warn() {
                warned = Some(tokio::time::Instant::now());
            }
            tokio::time::sleep(interval).await;
            let Source::Files(files) = &self.source else { continue };
            let now = contents(&files.certificate, &files.key);
            // Two files change one after the other: while they don't fit each other, it is tried again.
            if now != seen {
                match self.reload() {
                    Ok(()) => seen = now,
                    Err(error) => error!(%error, "the new certificate can't be used, the old one stays"),
                }
            }
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Source::Acme(order) = &self.source {
            order.task.abort();
        }
    }
}

impl Current {
    fn get(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, certified: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.get()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.get().and_then(|certified| details(&certified))).finish()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Returns whether a handshake failed because the peer does not speak TLS at all.
pub(crate) fn speaks_no_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

/// The cryptography, which is named explicitly: the process has no default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn acceptor(resolver: Arc<dyn ResolvesServerCert>, alpn: &[&[u8]]) -> io::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The settings of a client that checks certificates against the authorities in a file, or else against those that browsers trust.
#[cfg(feature = "cluster")]
pub(crate) fn client(authorities: Option<&Path>) -> io::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
                })?;
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Hashes of the files: their times may stay when the content changes, and the key must not be kept.
fn contents(certificate: &Path, key: &Path) -> [Option<Vec<u8>>; 2] {
    [certificate, key].map(|path| std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).to_vec()))
}

fn read(certificate: &Path, key: &Path) -> io::Result<CertifiedKey> {
    let explain = |path: &Path, error: &dyn fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let chain = certificates(certificate)?;
    let pem = std::fs::read(key).map_err(|error| explain(key, &error))?;
    if let Some(wrong) = wrong_kind(&pem) {
        return Err(explain(key, &wrong));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        explain(key, &format!("there is no private key in it, which has to be PEM: {error}"))
    })?;
    let signing_key = provider().key_provider.load_private_key(key_der).map_err(|error| {
        explain(
            key,
            &format!(
                "{error}; allowed are RSA of 2,048 bits and more, ECDSA with P-256 or P-384, and Ed25519"
            ),
        )
    })?;
    let certified = CertifiedKey::new(chain, signing_key);
    certified.keys_match().map_err(|error| {
        let error = format!("the key in {} is not the certificate's: {error}", key.display());
        explain(certificate, &error)
    })?;
    Ok(certified)
}

/// Names and dates of a certificate.
fn details(certified: &CertifiedKey) -> Option<Certificate> {
    Certificate::read(certified.cert.first()?).ok()
}

/// Names what is in a file instead of a private key that can be used.
fn wrong_kind(pem: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(pem);
    let has = |label: &str| text.contains(&format!("-----BEGIN {label}-----"));
    if has("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Some(
            "the key is encrypted with a passphrase, which nobody could enter: `openssl pkey -in FILE -out NEW` decrypts it",
        );
    }
    if has("OPENSSH PRIVATE KEY") {
        return Some("it is a key for SSH, which is none for TLS");
    }
    if has("PRIVATE KEY") || has("RSA PRIVATE KEY") || has("EC PRIVATE KEY") {
        return None;
    }
    if has("DSA PRIVATE KEY") {
        return Some("it is a DSA key, which TLS has no use for any more");
    }
    if has("PUBLIC KEY") || has("RSA PUBLIC KEY") {
        return Some("it is a public key: the private one is needed");
    }
    has("CERTIFICATE")
        .then_some("there is a certificate in it and no key: are tls-certificate and tls-key swapped?")
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let explain = |error: &dyn fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| explain(&error))?.collect();
    let chain = chain.map_err(|error| explain(&error))?;
    if chain.is_empty() {
        return Err(explain(&"there is no certificate in it: it has to be PEM"));
    }
    Ok(chain)
}
