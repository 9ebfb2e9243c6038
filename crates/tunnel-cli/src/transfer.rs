//! `tunnel send` and `tunnel receive`: a file from peer to peer, whole or not at all, resumed where it ended.
//!
//! The subprotocol `tunnel.file.v1`. The receiver says the link's secret ([`Ask`]); the sender, the file's name and size
//! ([`Offer`]); the receiver, how many bytes it has already ([`From`](Begin)). Binary messages are what follows of the file, behind
//! which the sender says the SHA-256 of all of it ([`End`]), and the receiver that it has it ([`Got`]). All but the file's bytes are
//! texts, of JSON.

mod receive;
mod send;

pub(crate) use receive::run as receive;
pub(crate) use send::run as send;

use crate::failure::Failure;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tunnel_wasm::{Error, Message, Socket};

/// The subprotocol.
const SUBPROTOCOL: &str = "tunnel.file.v1";

/// The port: one for each peer that sends.
const PORT: u16 = 1;

/// Bytes of a file in a message.
const CHUNK: usize = 64 << 10;

/// Longest text, in bytes.
const MAX_TEXT: usize = 4 << 10;

#[derive(Debug, Deserialize, Serialize)]
struct Ask {
    secret: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Offer {
    name: String,
    size: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Begin {
    from: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct End {
    sha256: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Got {
    got: bool,
}

fn text(value: &impl Serialize) -> Message {
    Message::Text(serde_json::to_string(value).unwrap_or_default())
}

/// The next message, which has to be a text with this in it.
async fn next<T: DeserializeOwned>(socket: &mut Socket) -> Result<T, Failure> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) if text.len() <= MAX_TEXT => parse(&text),
        Some(Ok(_)) => Err(confused()),
        Some(Err(error)) => Err(error.into()),
        None => Err(ended(socket).await),
    }
}

/// The reason for which the other side has closed.
async fn ended(socket: &Socket) -> Failure {
    match socket.closed().await {
        Error::Closed { reason, .. } if !reason.is_empty() => Failure::Remote(reason),
        _ => Failure::Remote("the other side ended the transfer: run the same command to go on".to_owned()),
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| confused())
}

fn confused() -> Failure {
    Failure::Remote(
        "the other side does not speak the protocol of `tunnel send`: compare the versions".to_owned(),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A bar of bytes, where somebody looks.
fn bar(is_drawn: bool, size: u64, done: u64) -> ProgressBar {
    if !is_drawn {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size).with_position(done);
    let style = "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.reset_eta();
    bar
}
