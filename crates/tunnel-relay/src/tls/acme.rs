//! Certificates from an ACME directory, by `rustls-acme`: `tls` orders them here.
//!
//! It brings an asynchronous stack of its own beside tokio's, so a relay whose certificates are in files can be built
//! without it: that is what the feature `acme` is for.

use super::{Ordering, Source, Tls, acceptor, certificates, provider};
use crate::Config;
use futures_core::Stream as _;
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, EventOk};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};
use tracing::{error, info};

/// ALPN name of the challenge by which a directory finds out who answers under a name (RFC 8737).
const CHALLENGE_ALPN: &[u8] = b"acme-tls/1";

/// Orders a certificate, and renews it, until the result is dropped.
pub(super) fn order(config: &Config) -> io::Result<Tls> {
    let contacts = config.acme_contacts.iter().map(|address| format!("mailto:{address}"));
    let mut state = AcmeConfig::new_with_client_config(&config.acme_domains, client(config)?)
        .contact(contacts)
        .cache_option(config.acme_cache.clone().map(DirCache::new))
        .directory(&config.acme_directory)
        .state();
    let acceptor = acceptor(state.resolver(), &[b"http/1.1", CHALLENGE_ALPN])?;
    let has_certificate = Arc::new(AtomicBool::new(false));
    let deployed = has_certificate.clone();
    let task = tokio::spawn(async move {
        while let Some(event) = poll_fn(|cx| Pin::new(&mut state).poll_next(cx)).await {
            match event {
                Ok(event) => {
                    if matches!(event, EventOk::DeployedCachedCert | EventOk::DeployedNewCert) {
                        deployed.store(true, atomic::Ordering::Relaxed);
                    }
                    info!(?event, "certificate");
                }
                // It tries again by itself, later and later.
                Err(error) => error!(%error, "no certificate from the ACME directory"),
            }
        }
    });
    Ok(Tls { acceptor, source: Source::Acme(Ordering { task, has_certificate }) })
}

/// Settings for connections to the directory.
pub(super) fn client(config: &Config) -> io::Result<Arc<rustls::ClientConfig>> {
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
