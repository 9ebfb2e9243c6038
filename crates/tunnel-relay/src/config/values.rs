//! Types of settings that no other module has: `config` names them, and `kind` reads and writes them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use tunnel_protocol::livecode::MAX_CREDENTIAL;

/// The people who may use the relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessMode {
    /// Everybody who reaches it.
    Open,
    /// Everybody who shows an access token; without any that it takes, nobody.
    Tokens,
}

/// The place where a trusted proxy says which address a peer has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressSource {
    /// The header `X-Forwarded-For`.
    XForwardedFor,
    /// The header `Forwarded` (RFC 7239).
    Forwarded,
    /// The PROXY protocol's header, version 1 or 2, before anything else on the connection.
    ProxyProtocol,
}

/// True if something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

/// A folder and the URL path under which its files are served.
///
/// Written `DIR` (served under `/`) or `/prefix=DIR`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Begins and ends with a slash.
    pub prefix: String,
    /// The folder.
    pub folder: PathBuf,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Always with its path: a folder's name may look like one.
        write!(f, "{}={}", self.prefix, self.folder.display())
    }
}

impl FromStr for Mount {
    type Err = ParseMountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, folder) = match text.split_once('=') {
            Some((prefix, folder)) if prefix.starts_with('/') => (prefix, folder),
            _ => ("/", text),
        };
        if folder.is_empty() {
            return Err(ParseMountError);
        }
        let path = prefix.trim_matches('/');
        let prefix = if path.is_empty() { "/".to_owned() } else { format!("/{path}/") };
        Ok(Self { prefix, folder: folder.into() })
    }
}

/// A text is neither `DIR` nor `/prefix=DIR`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no folder is named: write DIR, or /prefix=DIR to serve it under a path")]
pub struct ParseMountError;

/// A text that never shows in logs.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = (MIN_SECRET..=MAX_CREDENTIAL).contains(&text.len());
        if is_fit { Ok(Self(text.to_owned())) } else { Err(ParseSecretError) }
    }
}

/// Shortest secret, in bytes: what can be guessed in an afternoon is none.
const MIN_SECRET: usize = 16;

/// A secret is so short that it can be guessed, or longer than what is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a secret has from {MIN_SECRET} to {MAX_CREDENTIAL} bytes: what is shorter can be guessed")]
pub struct ParseSecretError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_folder_with_or_without_a_prefix() {
        for (text, prefix, folder) in [
            ("www", "/", "www"),
            ("/srv/www", "/", "/srv/www"),
            ("/pkg=pkg", "/pkg/", "pkg"),
            ("/a/b/=c=d", "/a/b/", "c=d"),
            ("odd=name", "/", "odd=name"),
            ("/=www", "/", "www"),
        ] {
            let mount: Mount = text.parse().unwrap();
            assert_eq!((mount.prefix.as_str(), &mount.folder), (prefix, &PathBuf::from(folder)), "{text}");
            assert_eq!(mount.to_string().parse(), Ok(mount), "{text}");
        }
        assert_eq!("".parse::<Mount>(), Err(ParseMountError));
        assert_eq!("/pkg=".parse::<Mount>(), Err(ParseMountError));
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret: Secret = "hunter2, hunter2".parse().unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        for wrong in ["".to_owned(), "x".to_owned(), "hunter2".to_owned(), "x".repeat(15), "x".repeat(1_025)]
        {
            assert_eq!(wrong.parse::<Secret>(), Err(ParseSecretError), "{wrong}");
        }
    }
}
