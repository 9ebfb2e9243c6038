//! What nearly every connection begins with, by hand: a WebSocket handshake that is agreed to.
//!
//! An HTTP server takes a task and buffers of its own for it, a fifth of all that a connection costs to set up. It has
//! all the rest, from its first byte: whatever is not understood here, is not a handshake or is to be refused.

mod head;

use crate::entrance::{self, Guest};
use crate::http::Visitor;
use crate::server::Shared;
use crate::stream::Stream;
use crate::upgrade;
use bytes::Bytes;
use http::StatusCode;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// As much as a browser's handshake takes, mostly.
const USUAL_HEAD: usize = 1 << 10;

/// What the first request is.
pub(crate) enum First {
    /// A handshake, answered. The bytes behind it belong to the WebSocket.
    WebSocket(Guest, Bytes),
    /// Something else; these bytes have been read of it.
    Http(Bytes),
}

/// Reads the head of the first request, and answers it if a WebSocket opens.
pub(crate) async fn first(shared: &Shared, stream: &mut Stream, visitor: &Arc<Visitor>) -> io::Result<First> {
    let read = read_head(stream, visitor.max_header_bytes()).await?;
    let Some((request, len)) = head::parse(&read) else { return Ok(First::Http(read.into())) };
    if !upgrade::is_wanted(&request.headers) {
        return Ok(First::Http(read.into()));
    }
    // Whatever is in the way will be there for the HTTP server, too, which says so.
    let Ok((handshake, guest)) = entrance::admit(shared, &request, visitor) else {
        return Ok(First::Http(read.into()));
    };
    stream.write_all(&handshake.response()).await?;
    stream.flush().await?;
    shared.metrics.answered(StatusCode::SWITCHING_PROTOCOLS);
    Ok(First::WebSocket(guest, Bytes::copy_from_slice(&read[len..])))
}

/// Reads until an empty line, the end, or more than a head may have.
async fn read_head(stream: &mut Stream, max: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(USUAL_HEAD);
    loop {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 || head::has_empty_line(&read, before) || read.len() > max {
            return Ok(read);
        }
    }
}
