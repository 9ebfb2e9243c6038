//! Answers that both ports give: health, the refusal of unknown hosts, and headers of every answer. `http` and `monitor` call it.

use crate::complaints::complain;
use crate::files::{self, Answer};
use crate::hosts::UnknownHost;
use crate::shared::Shared;
use crate::upgrade;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request};

/// The answer to `/healthz` and `/readyz`, wherever and under whatever name they are asked for: load balancers make names
/// up, and the answer tells nothing that is worth a secret.
pub(crate) fn health(shared: &Shared, request: &request::Parts) -> Option<Answer> {
    if !matches!(request.method, Method::GET | Method::HEAD) || upgrade::is_wanted(&request.headers) {
        return None;
    }
    match request.uri.path() {
        "/healthz" => Some(files::text(StatusCode::OK, "ok\n")),
        "/readyz" => Some(match shared.not_ready() {
            Some(why) => files::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            None => files::text(StatusCode::OK, "ready\n"),
        }),
        _ => None,
    }
}

/// The answer to a request for a host that is none of the relay's, which is logged.
pub(crate) fn unknown_host(shared: &Shared, error: &UnknownHost) -> Answer {
    complain!(shared.complaints, Host, host = ?error.0, "a request is refused: {error}");
    files::text(StatusCode::MISDIRECTED_REQUEST, format!("{error}\n"))
}

/// Headers that no page needs to go without.
pub(crate) fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "base-uri 'self'; frame-ancestors 'self'; object-src 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
