//! The question of a page why its WebSocket did not open: browsers know, and don't tell it.
//!
//! The answer is what the WebSocket's handshake would be told now, for pages of every origin to read. There is nothing in
//! it that the asker has not sent, or could not find out by dialling.

use crate::entrance;
use crate::files::{self, Answer};
use crate::remote::Remote;
use crate::shared::Shared;
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, request};

/// The media type that such a question accepts. `Accept` is one of the headers for which a browser needs no leave of the server.
const ACCEPTED: &str = "application/vnd.tunnel-relay";

/// True if a request is such a question.
pub(crate) fn is_one(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accepted| accepted == ACCEPTED)
}

/// Answers it.
pub(crate) fn answer(shared: &Shared, request: &request::Parts, remote: &Remote) -> Answer {
    let mut answer = match entrance::rejection(shared, request, remote) {
        Some(rejection) => rejection.answer(),
        None => files::text(StatusCode::OK, "this relay would let a WebSocket of this page in now\n"),
    };
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}
