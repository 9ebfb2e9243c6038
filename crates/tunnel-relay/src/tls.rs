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
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

/// How often the log repeats that a certificate ends, or has.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3_600);

/// What turns TCP streams into TLS streams.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    source: Source,
}

enum Source {
    Files(Arc<Files>),
    #[cfg_attr(not(feature = "acme"), expect(dead_code, reason = "a relay without ACME orders nothing"))]
    Acme(Ordering),
}

/// An order of a certificate at an ACME directory.
struct Ordering {
    task: tokio::task::JoinHandle<()>,
    /// Set as soon as there is a certificate, ordered or from the cache.
    has_certificate: Arc<AtomicBool>,
}

/// A certificate and its key, as last read.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
    /// What was in the files before they were read first.
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
            (Some(certificate), Some(key)) => {
                let files = Arc::new(Files::read(certificate, key)?);
                let acceptor = acceptor(files.clone(), &[b"http/1.1"])?;
                Ok(Some(Self { acceptor, source: Source::Files(files) }))
            }
            #[cfg(feature = "acme")]
            _ if !config.acme_domains.is_empty() => acme::order(config).map(Some),
            #[cfg(not(feature = "acme"))]
            _ if !config.acme_domains.is_empty() => Err(io::Error::other(crate::config::WITHOUT_ACME)),
            _ => Ok(None),
        }
    }

    /// Whether [`new`](Self::new) would succeed; what is wrong with the certificate all the same.
    pub(crate) fn check(config: &Config) -> io::Result<Vec<String>> {
        let mut warnings = Vec::new();
        if let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) {
            let files = Files::read(certificate, key)?;
            let problem = files.certificate().and_then(|certificate| certificate.problem());
            warnings.extend(problem.map(|problem| format!("{}: {problem}", certificate.display())));
        }
        #[cfg(feature = "acme")]
        if !config.acme_domains.is_empty() {
            acme::client(config)?;
        }
        Ok(warnings)
    }

    /// The certificate that is shown, if there is one yet.
    pub(crate) fn certificate(&self) -> Option<Certificate> {
        match &self.source {
            Source::Files(files) => files.certificate(),
            Source::Acme(_) => None,
        }
    }

    /// Whether there is no certificate to show yet.
    pub(crate) fn is_waiting(&self) -> bool {
        match &self.source {
            Source::Files(_) => false,
            Source::Acme(ordering) => !ordering.has_certificate.load(atomic::Ordering::Relaxed),
        }
    }

    /// Logs what is wrong with the certificate.
    fn warn(&self) {
        if let Some(problem) = self.certificate().and_then(|certificate| certificate.problem()) {
            warn!(%problem, "TLS");
        }
    }

    /// Reads the files again. If that fails, those of before stay in use.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn reload(&self) -> io::Result<()> {
        let Source::Files(files) = &self.source else { return Ok(()) };
        let current = read(&files.certificate, &files.key)?;
        *files.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        info!(certificate = %files.certificate.display(), "certificate read");
        self.warn();
        Ok(())
    }

    /// Reads the files again whenever they have changed; never returns.
    pub(crate) async fn keep_fresh(&self, interval: Duration) {
        let Source::Files(files) = &self.source else { return std::future::pending().await };
        let mut seen = files.first.clone();
        let mut warned = tokio::time::Instant::now();
        self.warn();
        loop {
            tokio::time::sleep(interval).await;
            if warned.elapsed() >= WARN_AGAIN {
                warned = tokio::time::Instant::now();
                self.warn();
            }
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
        if let Source::Acme(ordering) = &self.source {
            ordering.task.abort();
        }
    }
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let first = contents(certificate, key);
        let current = RwLock::new(Arc::new(read(certificate, key)?));
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), current, first })
    }

    fn certificate(&self) -> Option<Certificate> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        Certificate::read(current.cert.first()?).ok()
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Whether a handshake failed because what came is no TLS at all.
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

/// What is in the files, by its hash: their times may stay when it changes, and the key is nothing to keep.
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
