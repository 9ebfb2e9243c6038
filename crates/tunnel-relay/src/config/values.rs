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

/// A namespace of injected instructions, and the SHA-256 of its credential.
///
/// Written `NAME sha256:HASH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// As the URLs of its peers have it behind `~`.
    pub name: String,
    /// The hash of its credential.
    pub credential: [u8; 32],
}

/// The name under which files of the namespace without a name are kept; so no other one may have it.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// Longest name of a namespace, in bytes.
const MAX_NAMESPACE: usize = 32;

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sha256:", self.name)?;
        self.credential.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Namespace {
    type Err = ParseNamespaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.trim().split_once(' ').ok_or(ParseNamespaceError::Hash)?;
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty()
            || name.len() > MAX_NAMESPACE
            || !name.bytes().all(is_letter)
            || name == DEFAULT_NAMESPACE
        {
            return Err(ParseNamespaceError::Name);
        }
        let hex = rest.trim().strip_prefix("sha256:").ok_or(ParseNamespaceError::Hash)?;
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseNamespaceError::Hash);
        }
        let mut credential = [0; 32];
        for (byte, at) in credential.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| ParseNamespaceError::Hash)?;
        }
        Ok(Self { name: name.to_owned(), credential })
    }
}

/// A text is no namespace.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseNamespaceError {
    /// It begins with no name.
    #[error(
        "a namespace's name has at most {MAX_NAMESPACE} of a-z, 0-9 and -, and is not `{DEFAULT_NAMESPACE}`"
    )]
    Name,
    /// It has no hash.
    #[error("the SHA-256 of its credential is missing: `printf %s CREDENTIAL | sha256sum` prints it")]
    Hash,
}

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
    fn a_namespace_is_a_name_and_a_hash() {
        let hash = "0f".repeat(32);
        let namespace: Namespace = format!("tea-2 sha256:{hash}").parse().unwrap();
        assert_eq!((namespace.name.as_str(), namespace.credential), ("tea-2", [15; 32]));
        assert_eq!(namespace.to_string().parse(), Ok(namespace));
        for name in ["Tea", "a/b", "..", "default", "é", &"x".repeat(33)] {
            let parsed = format!("{name} sha256:{hash}").parse::<Namespace>();
            assert_eq!(parsed, Err(ParseNamespaceError::Name), "{name}");
        }
        for wrong in ["tea", "tea sha256:", "tea secret", &format!("tea sha256:{}", "+f".repeat(32))] {
            assert_eq!(wrong.parse::<Namespace>(), Err(ParseNamespaceError::Hash), "{wrong}");
        }
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
