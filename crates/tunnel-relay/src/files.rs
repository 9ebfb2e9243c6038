//! Folders served as static files. `http` calls it for requests that are for nothing else.
//!
//! Not by tower-http's `ServeDir`: it follows links out of a folder and serves hidden files, tags files by time and length
//! alone, panics on times before 1970, and knows no `If-Range`.

mod answer;
mod tag;

use crate::Mount;
use crate::complaints::{Complaints, complain};
use answer::{FileBody, Regular, answer};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use percent_encoding::percent_decode_str;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tag::Tags;

/// An answer over HTTP.
pub(crate) type Answer = Response<Either<Full<Bytes>, FileBody>>;

/// The folders that are served.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Longest prefix first, so that the most special one wins.
    mounts: Arc<[Mount]>,
    tags: Arc<Tags>,
}

/// The result of looking for a path.
enum Found {
    File(Regular),
    Folder,
    Nothing,
    /// Something that the system does not let the relay read.
    Unreadable(PathBuf, io::Error),
}

impl Files {
    /// Fails when one of the folders isn't there, and says which.
    pub(crate) fn new(mounts: &[Mount]) -> io::Result<Self> {
        for Mount { folder, .. } in mounts {
            let explain = |error: io::Error| {
                io::Error::new(error.kind(), format!("the folder {folder:?} can't be served: {error}"))
            };
            if !fs::metadata(folder).map_err(explain)?.is_dir() {
                return Err(explain(io::ErrorKind::NotADirectory.into()));
            }
        }
        let mut mounts = mounts.to_vec();
        mounts.sort_by_key(|mount| usize::MAX - mount.prefix.len());
        Ok(Self { mounts: mounts.into(), tags: Arc::default() })
    }

    /// Answers a GET or HEAD request.
    pub(crate) async fn serve(
        &self,
        complaints: &Complaints,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Answer {
        let Some(path) = decode(uri.path()) else {
            return text(StatusCode::BAD_REQUEST, "the path is not UTF-8, or names what no file is called\n");
        };
        let Self { mounts, tags } = self.clone();
        match tokio::task::spawn_blocking(move || find(&mounts, &tags, &path)).await {
            Ok(Found::File(file)) => answer(file, method, headers),
            Ok(Found::Folder) => redirect_into_folder(uri),
            Ok(Found::Nothing) => text(StatusCode::NOT_FOUND, "nothing is here\n"),
            Ok(Found::Unreadable(path, error)) => {
                complain!(complaints, File, path = ?path, %error, "a file or folder that is asked for can't be read");
                text(StatusCode::FORBIDDEN, "the relay may not read this file\n")
            }
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

/// Returns whether a file or folder is hidden by its name.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != ".well-known"
}

fn find(mounts: &[Mount], tags: &Tags, path: &str) -> Found {
    let mut result = Found::Nothing;
    for mount in mounts {
        let within = match path.strip_prefix(&mount.prefix) {
            Some(within) => within,
            None if mount.prefix.strip_suffix('/') == Some(path) => return Found::Folder,
            None => continue,
        };
        match find_in(&mount.folder, tags, within) {
            Ok(Found::Nothing) => {}
            Ok(Found::Folder) => result = Found::Folder,
            Ok(found) => return found,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                result = Found::Unreadable(mount.folder.join(within.trim_start_matches('/')), error);
            }
            Err(_) => {} // it is not there, or its name is too long for any file
        }
    }
    result
}

fn find_in(folder: &Path, tags: &Tags, within: &str) -> io::Result<Found> {
    // For each request anew: the folder may be a symbolic link to the release that is current.
    let folder = match folder.canonicalize() {
        Ok(folder) => folder,
        Err(error) => return Ok(Found::Unreadable(folder.to_owned(), error)),
    };
    // `within` is made relative: an absolute path would replace the folder.
    let mut path = folder.join(within.trim_start_matches('/')).canonicalize()?;
    let names_a_folder = within.is_empty() || within.ends_with('/');
    if is_within(&folder, &path) && path.is_dir() {
        if !names_a_folder {
            return Ok(Found::Folder); // without the slash, the page's relative links would lead elsewhere
        }
        path = path.join("index.html").canonicalize()?;
    } else if names_a_folder {
        return Ok(Found::Nothing);
    }
    // A symbolic link may lead elsewhere, and opening a pipe would wait for its other end.
    if !is_within(&folder, &path) || !path.metadata()?.is_file() {
        return Ok(Found::Nothing);
    }
    match fs::File::open(&path).and_then(|file| Regular::new(file, &path, tags)) {
        Ok(file) => Ok(Found::File(file)),
        Err(error) => Ok(Found::Unreadable(path, error)),
    }
}

/// Returns whether a path without links is in the folder, and neither hidden nor in a hidden folder there.
fn is_within(folder: &Path, path: &Path) -> bool {
    let Ok(within) = path.strip_prefix(folder) else { return false };
    !within.iter().any(|name| is_hidden(&name.to_string_lossy()))
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
