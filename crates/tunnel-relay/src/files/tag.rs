//! `ETag`s: they change when the content of a file does.

use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Up to how many bytes a file is named by what is in it; to read more for each change would take too long.
const MAX_READ: u64 = 8 << 20;

/// For how many files the tags are remembered.
const MAX_KNOWN: usize = 1_024;

/// Age that a change of a file needs for its tag to be remembered: two changes at once may leave the same
/// marks in the file system.
const SETTLED: Duration = Duration::from_secs(2);

/// The tags of files that have been asked for.
#[derive(Debug, Default)]
pub(super) struct Tags(Mutex<HashMap<PathBuf, (Marks, String)>>);

/// The file system's data about a file, which changes when its content does: device, number, length, and when the file
/// and its marks were changed, in nanoseconds.
type Marks = (u64, u64, u64, i128, i128);

impl Tags {
    /// The `ETag` of a file. Time and length are not enough: a deploy may keep both.
    pub(super) fn tag(&self, path: &Path, mut file: &File, metadata: &Metadata) -> io::Result<String> {
        let marks = marks(metadata);
        if metadata.len() > MAX_READ {
            let (device, number, len, modified, changed) = marks;
            return Ok(format!("\"{device:x}-{number:x}-{len:x}-{modified:x}-{changed:x}\""));
        }
        let known = self.lock().get(path).filter(|(before, _)| *before == marks).map(|(_, tag)| tag.clone());
        if let Some(tag) = known {
            return Ok(tag);
        }
        let mut content = Vec::new();
        file.take(MAX_READ + 1).read_to_end(&mut content)?;
        file.rewind()?;
        let hash = Sha256::digest(&content);
        let hash: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = format!("\"{hash}\"");
        if is_settled(&marks) {
            let mut known = self.lock();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(path.to_owned(), (marks, tag.clone()));
        }
        Ok(tag)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Marks, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_settled((.., modified, changed): &Marks) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let then = i128::try_from(now.saturating_sub(SETTLED).as_nanos()).unwrap_or_default();
    modified.max(changed) < &then
}

#[cfg(unix)]
fn marks(metadata: &Metadata) -> Marks {
    use std::os::unix::fs::MetadataExt as _;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let modified = nanos(metadata.mtime(), metadata.mtime_nsec());
    (metadata.dev(), metadata.ino(), metadata.len(), modified, nanos(metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn marks(metadata: &Metadata) -> Marks {
    let nanos = |time: io::Result<SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        i128::try_from(since.unwrap_or_default().as_nanos()).unwrap_or_default()
    };
    (0, 0, metadata.len(), nanos(metadata.modified()), nanos(metadata.created()))
}
