//! Keys that outlive a program: files of the user's. Taken by sockets and servers, and by programs that have to know an ID.

use etcetera::BaseStrategy as _;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tunnel_protocol::ServerId;
use tunnel_protocol::identity::StaticKey;
use zeroize::Zeroizing;

/// Longest name, in bytes: file systems take 255.
const MAX_NAME: usize = 128;

/// A key file: `tunnel-key-1` and 64 hexadecimal digits, on a line each.
const HEADER: &str = "tunnel-key-1";

/// Bytes that are read of a key file at most.
const MAX_FILE: u64 = 1_024;

/// The identities that this process has taken, by the path of the file.
static TAKEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Taken>>>> = LazyLock::new(Mutex::default);

/// A key pair in a file, which this process has taken: while any clone of this lives, other processes are refused.
///
/// Its public half is the ID that peers see and connect to.
#[derive(Clone, Debug)]
pub struct Identity {
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    key: StaticKey,
    path: PathBuf,
    /// Locked; the lock ends with it.
    _file: File,
}

/// An identity could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The name would not be a file's own name everywhere.
    #[error(
        "'{0}' is no name for an identity: expected 1 to 128 letters, digits, blanks and some of _-.@+, without a dot at its beginning"
    )]
    Name(String),
    /// The platform says of no folder that it is for configuration.
    #[error("there is no folder for identities: set HOME, or TUNNEL_IDENTITIES to a folder")]
    NoFolder,
    /// Another process has it.
    #[error("{}: another process uses this identity: end that one, or choose another name", .0.display())]
    InUse(PathBuf),
    /// Others than its owner may read or write the file.
    #[error("{}: others may read this key (mode {mode:03o}): run `chmod 600` on it, and take a new one if somebody has", .path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{}: this is no key file: its first line is not '{HEADER}', or no 64 hexadecimal digits follow", .0.display())]
    Malformed(PathBuf),
    /// Reading, making or locking the file failed.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The key file or its folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl Identity {
    /// Takes the identity of a name, and makes it if there is none: the file `NAME.key` in the folder that
    /// `TUNNEL_IDENTITIES` names, or `tunnel/identities` in the platform's folder for configuration (`~/.config` on Linux).
    ///
    /// # Errors
    ///
    /// All of [`IdentityError`].
    pub fn named(name: &str) -> Result<Self, IdentityError> {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+ ".contains(&byte) || !byte.is_ascii();
        let has_control = name.chars().any(char::is_control);
        if name.is_empty()
            || name.len() > MAX_NAME
            || name.starts_with('.')
            || has_control
            || !name.bytes().all(allowed)
        {
            return Err(IdentityError::Name(name.to_owned()));
        }
        let folder = match std::env::var_os("TUNNEL_IDENTITIES").filter(|folder| !folder.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => {
                let home = etcetera::choose_base_strategy().map_err(|_| IdentityError::NoFolder)?;
                home.config_dir().join("tunnel").join("identities")
            }
        };
        Self::at(folder.join(format!("{name}.key")))
    }

    /// Takes the identity in a file, and makes the file (mode 600) and its folders (mode 700) if there is none.
    ///
    /// # Errors
    ///
    /// All of [`IdentityError`] but those about names and folders.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let failed = |error| IdentityError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(|error| IdentityError::Io { path: folder.to_owned(), error })?;
        }
        let path = std::path::absolute(path).map_err(failed)?;
        let failed = |error| IdentityError::Io { path: path.clone(), error };
        let mut all = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, taken| taken.strong_count() > 0);
        if let Some(taken) = all.get(&path).and_then(Weak::upgrade) {
            return Ok(Self { taken });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::InUse(path)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        check_mode(&file, &path)?;
        let mut text = Zeroizing::new(String::new());
        match (&mut file).take(MAX_FILE).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(IdentityError::Malformed(path));
            }
            Err(error) => return Err(failed(error)),
        }
        let key = if text.is_empty() {
            // A file that was left empty by a process that was killed is as good as none.
            let secret = Zeroizing::new(crate::native::engine::random());
            file.rewind().and_then(|()| write(&mut file, &secret)).map_err(failed)?;
            StaticKey::from_secret(*secret)
        } else {
            read(&text).ok_or_else(|| IdentityError::Malformed(path.clone()))?
        };
        let taken = Arc::new(Taken { key, path: path.clone(), _file: file });
        all.insert(path, Arc::downgrade(&taken));
        Ok(Self { taken })
    }

    /// The ID of the identity in a file, which any process may have taken.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Io`] and [`IdentityError::Malformed`].
    pub fn look_at(path: impl AsRef<Path>) -> Result<ServerId, IdentityError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| IdentityError::Io { path: path.to_owned(), error })?;
        let key = read(&text).ok_or_else(|| IdentityError::Malformed(path.to_owned()))?;
        Ok(ServerId::Key(key.public()))
    }

    /// The ID that peers see, and under which a server with this identity is reached.
    #[must_use]
    pub fn id(&self) -> ServerId {
        ServerId::Key(self.taken.key.public())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.taken.path
    }

    pub(crate) fn key(&self) -> StaticKey {
        self.taken.key.clone()
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn check_mode(file: &File, path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|error| IdentityError::Io { path: path.to_owned(), error })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
fn check_mode(_: &File, _: &Path) -> Result<(), IdentityError> {
    Ok(())
}

fn write(file: &mut File, secret: &[u8; 32]) -> io::Result<()> {
    let mut text = Zeroizing::new(format!("{HEADER}\n"));
    for byte in secret {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(text: &str) -> Option<StaticKey> {
    let digits = text.strip_prefix(HEADER)?.trim();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (index, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(StaticKey::from_secret(*secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn an_identity_is_the_same_each_time_it_is_taken() {
        let folder = folder();
        let path = folder.path().join("a/b/peer.key");
        let first = Identity::at(&path).unwrap();
        let id = first.id();
        assert_eq!(Identity::at(&path).unwrap().id(), id, "taken twice by one process");
        drop(first);
        assert_eq!(Identity::at(&path).unwrap().id(), id);
        assert_ne!(Identity::at(folder.path().join("other.key")).unwrap().id(), id);
    }

    #[test]
    fn an_identity_that_another_process_has_is_refused() {
        let folder = folder();
        let path = folder.path().join("peer.key");
        let id = Identity::at(&path).unwrap().id();
        // A lock belongs to an open file, so that another opening stands for another process.
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        assert!(matches!(Identity::at(&path), Err(IdentityError::InUse(found)) if found == path));
        assert_eq!(Identity::look_at(&path).unwrap(), id, "its ID may be known");
        drop(other);
        assert!(Identity::at(&path).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder();
        let path = folder.path().join("peer.key");
        drop(Identity::at(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::at(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: 0o644, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let folder = folder();
        let path = folder.path().join("notes.txt");
        for text in
            ["hello", "tunnel-key-1\n00", &format!("tunnel-key-1\n{}", "zz".repeat(32)), &"é".repeat(2000)]
        {
            drop(Identity::at(&path).ok());
            fs::write(&path, text).unwrap();
            assert!(matches!(Identity::at(&path), Err(IdentityError::Malformed(_))), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        for name in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", "a\0b", &"x".repeat(129)] {
            assert!(matches!(Identity::named(name), Err(IdentityError::Name(_))), "{name:?}");
        }
    }
}
