//! One file as an answer: whole, in part, or not again (RFC 9110, sections 13 and 14).

use super::tag::Tags;
use super::{Answer, text};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::{Either, Full};
use http_range_header::{RangeUnsatisfiableError, parse_range_header};
use hyper::body::{Body, Frame, SizeHint};
use std::fs;
use std::io::{self, Seek as _, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::fs::File;
use tokio::io::{AsyncRead as _, ReadBuf};

/// Most bytes of a file in memory at once, for each download.
const CHUNK: usize = 64 << 10;

/// The last date that HTTP can write, the year 9999, in seconds since 1970.
const LAST_DATE: u64 = 253_402_300_799;

/// A file that can be sent.
pub(super) struct Regular {
    file: fs::File,
    len: u64,
    /// In whole seconds, as HTTP's dates are; `None` if it is none that HTTP can write.
    modified: Option<SystemTime>,
    tag: String,
    content_type: &'static str,
}

/// The part of a file that is asked for.
enum Part {
    Whole,
    Range(RangeInclusive<u64>),
    /// Nothing that there is.
    None,
}

impl Regular {
    pub(super) fn new(file: fs::File, path: &Path, tags: &Tags) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let since =
            metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let seconds = since.map(|since| since.as_secs()).filter(|seconds| *seconds <= LAST_DATE);
        Ok(Self {
            tag: tags.tag(path, &file, &metadata)?,
            file,
            len: metadata.len(),
            modified: seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            content_type: content_type(path),
        })
    }
}

pub(super) fn answer(mut file: Regular, method: &Method, request: &HeaderMap) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, HeaderValue::try_from(&file.tag).expect("digits are visible ASCII"));
    if let Some(modified) = file.modified {
        let date = HeaderValue::try_from(httpdate::fmt_http_date(modified)).expect("a date is visible ASCII");
        headers.insert(header::LAST_MODIFIED, date);
    }
    if is_unchanged(request, &file) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return answer;
    }
    let content_range = |range: &str| {
        HeaderValue::try_from(format!("bytes {range}/{}", file.len)).expect("digits are visible ASCII")
    };
    let (start, len) = match part(request, &file) {
        Part::Whole => (0, file.len),
        Part::Range(range) => {
            headers
                .insert(header::CONTENT_RANGE, content_range(&format!("{}-{}", range.start(), range.end())));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            (*range.start(), range.end() - range.start() + 1)
        }
        Part::None => {
            let mut answer = text(StatusCode::RANGE_NOT_SATISFIABLE, "the file is shorter than that\n");
            answer.headers_mut().insert(header::CONTENT_RANGE, content_range("*"));
            return answer;
        }
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CONTENT_LENGTH, len.into());
    if method != Method::HEAD {
        if file.file.seek(SeekFrom::Start(start)).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the file can't be read\n");
        }
        *answer.body_mut() = Either::Right(FileBody { file: File::from_std(file.file), left: len });
    }
    answer
}

/// Returns whether the browser has the file already.
fn is_unchanged(request: &HeaderMap, file: &Regular) -> bool {
    if let Some(tags) = request.get(header::IF_NONE_MATCH) {
        let mut tags = tags.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        return tags.any(|one| one == b"*" || one.strip_prefix(b"W/").unwrap_or(one) == file.tag.as_bytes());
    }
    // Not any later date: an older release, deployed again, is a change, too.
    is_date_of(request.get(header::IF_MODIFIED_SINCE), file)
}

fn is_date_of(value: Option<&HeaderValue>, file: &Regular) -> bool {
    let date =
        value.and_then(|date| date.to_str().ok()).and_then(|date| httpdate::parse_http_date(date).ok());
    date.is_some() && date == file.modified
}

/// The range that the request asks for: one, or all, since an answer with several parts has no readers.
fn part(request: &HeaderMap, file: &Regular) -> Part {
    let Some(range) = request.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Part::Whole;
    };
    // A part of what the browser has the beginning of is of no use if that has changed.
    if let Some(condition) = request.get(header::IF_RANGE)
        && condition.as_bytes() != file.tag.as_bytes()
        && !is_date_of(Some(condition), file)
    {
        return Part::Whole;
    }
    match parse_range_header(range).and_then(|ranges| ranges.validate(file.len)).as_deref() {
        Ok([range]) => Part::Range(range.clone()),
        Err(RangeUnsatisfiableError::Unsatisfiable) => Part::None,
        _ => Part::Whole,
    }
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
