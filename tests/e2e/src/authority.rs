//! A certificate authority that only one test's browser trusts.

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Whose certificates a test's browser takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// Everybody's, in pages.
    Everybody,
    /// Also in WebSockets and workers, this one's.
    Also(&'a Authority),
    /// Those that it takes from people.
    Usual,
}

/// An authority, and the certificate that it has signed for 127.0.0.1.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    pin: String,
}

impl Authority {
    /// Makes both.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let pin = STANDARD.encode(Sha256::digest(issuer.key().subject_public_key_info()));
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
        let folder = tempfile::tempdir().context("no folder for certificates")?;
        let authority = Self { folder, pin };
        std::fs::write(authority.key(), key.serialize_pem())?;
        std::fs::write(authority.certificate(), certificate.pem() + &issuer.pem())?;
        Ok(authority)
    }

    /// The file with the certificate, and the authority's behind it.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The file with the certificate's key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// The hash of the authority's key.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }
}
