//! The files in which injected instructions outlive the relay: an image of the sandbox, and, for when that can't be used, the sources.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tunnel_livecode_engine::Image;

const IMAGE: &str = "default.image";
const SOURCES: &str = "default.sources.json";

/// The folder of both. Nobody else should be able to read it: what instructions keep is in the image.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path).map_err(|error| named(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    /// The image that was saved last; `None` if there is none.
    pub(crate) fn image(&self) -> io::Result<Option<Image>> {
        let path = self.0.join(IMAGE);
        match fs::read(&path) {
            Ok(bytes) => Image::from_bytes(&bytes).map(Some).map_err(|error| named(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&path, &error)),
        }
    }

    /// The sources that were saved last, as names and bodies.
    pub(crate) fn sources(&self) -> io::Result<Vec<(String, String)>> {
        let path = self.0.join(SOURCES);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| named(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(named(&path, &error)),
        }
    }

    pub(crate) fn save(&self, image: &Image, sources: &[(String, String)]) -> io::Result<()> {
        let sources = serde_json::to_vec(sources).map_err(io::Error::other)?;
        self.write(SOURCES, &sources)?;
        self.write(IMAGE, &image.to_bytes())
    }

    /// Replaces a file in one step: a relay that ends while it writes leaves the older one.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
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
