//! The files in which injected instructions outlive the relay, for each namespace: an image of the sandbox, for when that can't be used
//! the sources, and the key of the server that the namespace may be.

use crate::config::DEFAULT_NAMESPACE;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tunnel_livecode_engine::Image;

const IMAGE: &str = "image";
const SOURCES: &str = "sources.json";
const KEY: &str = "key";

/// The folder of all. Nobody else should be able to read it: what instructions keep is in the image.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path).map_err(|error| named(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    /// The image that was saved last; `None` if there is none.
    pub(crate) fn image(&self, namespace: &str) -> io::Result<Option<Image>> {
        let path = self.path(namespace, IMAGE);
        match fs::read(&path) {
            Ok(bytes) => Image::from_bytes(&bytes).map(Some).map_err(|error| named(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&path, &error)),
        }
    }

    /// The sources that were saved last, as names and bodies.
    pub(crate) fn sources(&self, namespace: &str) -> io::Result<Vec<(String, String)>> {
        let path = self.path(namespace, SOURCES);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| named(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(named(&path, &error)),
        }
    }

    /// The secret key of the server that the namespace may be; made if there is none. A file that is no key is an error: its server's ID
    /// must not change unnoticed.
    pub(crate) fn key(&self, namespace: &str) -> io::Result<[u8; 32]> {
        let path = self.path(namespace, KEY);
        match fs::read(&path) {
            Ok(bytes) => {
                bytes.try_into().map_err(|_| named(&path, &"it does not have the 32 bytes of a key"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                getrandom::fill(&mut secret).map_err(io::Error::other)?;
                self.write(namespace, KEY, &secret)?;
                Ok(secret)
            }
            Err(error) => Err(named(&path, &error)),
        }
    }

    fn path(&self, namespace: &str, kind: &str) -> PathBuf {
        let name = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
        self.0.join(format!("{name}.{kind}"))
    }

    pub(crate) fn save(
        &self,
        namespace: &str,
        image: &Image,
        sources: &[(String, String)],
    ) -> io::Result<()> {
        let sources = serde_json::to_vec(sources).map_err(io::Error::other)?;
        self.write(namespace, SOURCES, &sources)?;
        self.write(namespace, IMAGE, &image.to_bytes())
    }

    /// Replaces a file in one step: a relay that ends while it writes leaves the older one.
    fn write(&self, namespace: &str, kind: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.path(namespace, kind), self.path(namespace, &format!("{kind}.new")));
        let write = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| named(&path, &error))
    }
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
