//! Folders served as static files.

use crate::Mount;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use percent_encoding::percent_decode_str;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

/// What the relay answers over HTTP.
pub(crate) type Answer = Response<Either<Full<Bytes>, FileBody>>;

/// How much of a file is in memory at once, for each download.
const CHUNK: usize = 64 << 10;

/// The folders that are served.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Longest prefix first, so that the most special one wins; the folders are canonical.
    mounts: Arc<[Mount]>,
}

/// What is under a path.
enum Found {
    File(Regular),
    Folder,
    Nothing,
}

/// A file that can be sent.
struct Regular {
    file: fs::File,
    len: u64,
    modified: Option<SystemTime>,
    content_type: &'static str,
}

impl Files {
    /// Fails when one of the folders isn't there, and says which.
    pub(crate) fn new(mounts: &[Mount]) -> io::Result<Self> {
        let canonical = |mount: &Mount| {
            let folder = &mount.folder;
            let explain = |error: io::Error| {
                io::Error::new(error.kind(), format!("the folder {folder:?} can't be served: {error}"))
            };
            if !fs::metadata(folder).map_err(explain)?.is_dir() {
                return Err(explain(io::ErrorKind::NotADirectory.into()));
            }
            Ok(Mount { prefix: mount.prefix.clone(), folder: folder.canonicalize().map_err(explain)? })
        };
        let mut mounts = mounts.iter().map(canonical).collect::<io::Result<Vec<_>>>()?;
        mounts.sort_by_key(|mount| usize::MAX - mount.prefix.len());
        Ok(Self { mounts: mounts.into() })
    }

    /// Answers a GET or HEAD request.
    pub(crate) async fn serve(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Answer {
        let Some(path) = decode(uri.path()) else {
            return text(StatusCode::BAD_REQUEST, "the path is not UTF-8, or names what no file is called\n");
        };
        let mounts = self.mounts.clone();
        let found = tokio::task::spawn_blocking(move || find(&mounts, &path)).await;
        match found {
            Ok(Found::File(file)) => answer(file, method, headers),
            Ok(Found::Folder) => redirect_into_folder(uri),
            Ok(Found::Nothing) => text(StatusCode::NOT_FOUND, "nothing is here\n"),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the file can't be read\n"),
        }
    }
}

/// A short text as an answer.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(text.into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The path without its percent signs; `None` if it could lead out of a folder or to a hidden file on any system.
fn decode(path: &str) -> Option<String> {
    let path = percent_decode_str(path).decode_utf8().ok()?;
    let odd = |char: char| char.is_control() || matches!(char, '\\' | ':');
    let harmless = path.starts_with('/') && !path.split('/').any(is_hidden) && !path.contains(odd);
    harmless.then(|| path.into_owned())
}

/// Whether a file or folder of this name is not for others to see.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != ".well-known"
}

/// Whether a path that has no symbolic links any more is of something that the folder shows.
fn is_shown(path: &Path, folder: &Path) -> bool {
    let hidden = |name: &OsStr| is_hidden(&name.to_string_lossy());
    path.strip_prefix(folder).is_ok_and(|within| !within.iter().any(hidden))
}

fn find(mounts: &[Mount], path: &str) -> Found {
    let mut result = Found::Nothing;
    for mount in mounts {
        let within = match path.strip_prefix(&mount.prefix) {
            Some(within) => within,
            None if mount.prefix.strip_suffix('/') == Some(path) => return Found::Folder,
            None => continue,
        };
        match find_in(&mount.folder, within) {
            Ok(Found::Nothing) | Err(_) => {}
            Ok(Found::Folder) => result = Found::Folder,
            Ok(file) => return file,
        }
    }
    result
}

fn find_in(folder: &Path, within: &str) -> io::Result<Found> {
    // `within` is made relative: an absolute path would replace the folder.
    let mut path = folder.join(within.trim_start_matches('/')).canonicalize()?;
    let names_a_folder = within.is_empty() || within.ends_with('/');
    if is_shown(&path, folder) && path.is_dir() {
        if !names_a_folder {
            return Ok(Found::Folder); // without the slash, the page's relative links would lead elsewhere
        }
        path = path.join("index.html").canonicalize()?;
    } else if names_a_folder {
        return Ok(Found::Nothing);
    }
    // A symbolic link may lead out of the folder or to a hidden file, and opening a pipe would wait for its other end.
    let metadata = path.metadata()?;
    if !is_shown(&path, folder) || !metadata.is_file() {
        return Ok(Found::Nothing);
    }
    Ok(Found::File(Regular {
        file: fs::File::open(&path)?,
        len: metadata.len(),
        modified: metadata.modified().ok(),
        content_type: content_type(&path),
    }))
}

fn answer(file: Regular, method: &Method, request: &HeaderMap) -> Answer {
    let Regular { file, len, modified, content_type } = file;
    let age = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    let tag = format!("\"{:x}-{len:x}\"", age.as_nanos());

    let mut answer = Response::new(Either::Left(Full::default()));
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, HeaderValue::try_from(&tag).expect("digits are visible ASCII"));
    if let Some(modified) = modified {
        let date = HeaderValue::try_from(httpdate::fmt_http_date(modified)).expect("a date is visible ASCII");
        headers.insert(header::LAST_MODIFIED, date);
    }
    if is_unchanged(request, &tag, modified) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, len.into());
    if method != Method::HEAD {
        *answer.body_mut() = Either::Right(FileBody { file: File::from_std(file), left: len });
    }
    answer
}

/// Whether the browser has the file already (RFC 9110, section 13).
fn is_unchanged(request: &HeaderMap, tag: &str, modified: Option<SystemTime>) -> bool {
    if let Some(tags) = request.get(header::IF_NONE_MATCH) {
        let mut tags = tags.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        return tags.any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == tag.as_bytes());
    }
    let since = request.get(header::IF_MODIFIED_SINCE).and_then(|date| date.to_str().ok());
    match (since.and_then(|date| httpdate::parse_http_date(date).ok()), modified) {
        // HTTP's dates have no fractions of a second.
        (Some(since), Some(modified)) => modified < since + Duration::from_secs(1),
        _ => false,
    }
}

fn redirect_into_folder(uri: &Uri) -> Answer {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // One slash in front: two would name another host.
    let location = format!("/{}/{query}", uri.path().trim_matches('/'));
    let Ok(location) = HeaderValue::try_from(location) else {
        return text(StatusCode::NOT_FOUND, "nothing is here\n");
    };
    let mut answer = text(StatusCode::PERMANENT_REDIRECT, "the folder's address ends with a slash\n");
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

/// By the file's extension. Browsers refuse modules and streaming compilation with the wrong one.
fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "mp3" => "audio/mpeg",
        _ => "application/octet-stream",
    }
}

/// A file on its way to the peer, a part at a time.
pub(crate) struct FileBody {
    file: File,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        let mut chunk = BytesMut::zeroed(len);
        let mut buf = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.file).poll_read(cx, &mut buf))?;
        let filled = buf.filled().len();
        if filled == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))); // it was shortened meanwhile
        }
        chunk.truncate(filled);
        self.left -= filled as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_lead_out_of_the_folder_is_refused() {
        for path in [
            "/../secret",
            "/a/../../secret",
            "/%2e%2e/secret",
            "/%2e%2e%2fsecret",
            "/..%5csecret",
            "/a\\b",
            "/c:/windows",
            "/.git/config",
            "/%00",
            "/a%0d%0ab",
            "/%ff",
            "no/slash",
        ] {
            assert_eq!(decode(path), None, "{path}");
        }
    }

    #[test]
    fn an_ordinary_path_is_decoded_once() {
        for (path, decoded) in [
            ("/", "/"),
            ("/a/b.html", "/a/b.html"),
            ("/a%20b", "/a b"),
            ("/%2541", "/%41"),
            ("/%C3%BC", "/ü"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a..b", "/a..b"),
        ] {
            assert_eq!(decode(path).as_deref(), Some(decoded));
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        let answer = redirect_into_folder(&"//evil.example/x?a=b".parse().unwrap());
        assert_eq!(answer.headers()[header::LOCATION], "/evil.example/x/?a=b");
    }
}
