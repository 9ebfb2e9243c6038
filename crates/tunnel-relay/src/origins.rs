//! The pages whose scripts may open WebSockets, by the header `Origin`. `entrance` asks for each request.

use http::header::{self, HeaderMap};
use std::fmt;
use std::str::FromStr;

/// A pattern that an `Origin` header has to match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A page's origin, or those of all hosts below one.
    Page {
        /// `https`, `http` or an extension's scheme.
        scheme: String,
        /// True if it stands for all hosts below `host`, and not for `host` itself.
        below: bool,
        /// The host, lower case.
        host: String,
        /// The port, unless it is the scheme's own.
        port: Option<u16>,
    },
    /// A page without an origin, such as a file or a sandboxed frame.
    Null,
    /// No header: a program that is no browser.
    Absent,
    /// Matches every header, and a request without one.
    Any,
}

/// Returns whether a request may open a WebSocket; an empty list lets nobody in.
pub(crate) fn admit(allowed: &[Origin], headers: &HeaderMap) -> bool {
    if allowed.contains(&Origin::Any) {
        return true;
    }
    let mut values = headers.get_all(header::ORIGIN).iter();
    let found = match (values.next(), values.next()) {
        (None, _) => Some(Origin::Absent),
        (Some(value), None) => value.to_str().ok().and_then(|text| match text {
            "absent" | "any" => None,
            text => text.parse().ok().filter(|origin| !matches!(origin, Origin::Page { below: true, .. })),
        }),
        (Some(_), Some(_)) => None, // no browser sends two
    };
    found.is_some_and(|found| allowed.iter().any(|one| one.covers(&found)))
}

impl Origin {
    fn covers(&self, found: &Self) -> bool {
        match (self, found) {
            (
                Self::Page { scheme, below: true, host, port },
                Self::Page { scheme: found_scheme, host: found_host, port: found_port, .. },
            ) => {
                let label = found_host.strip_suffix(host.as_str()).and_then(|rest| rest.strip_suffix('.'));
                label.is_some_and(|label| !label.is_empty()) && scheme == found_scheme && port == found_port
            }
            _ => self == found,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page { scheme, below, host, port } => {
                write!(f, "{scheme}://{}{host}", if *below { "*." } else { "" })?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Null => f.write_str("null"),
            Self::Absent => f.write_str("absent"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "null" => return Ok(Self::Null),
            "absent" => return Ok(Self::Absent),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").ok_or(ParseOriginError::Malformed)?;
        if scheme == "file" {
            return Err(ParseOriginError::File);
        }
        let (below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
        let after_address = rest.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match rest[after_address..].rfind(':') {
            Some(colon) => {
                let (host, port) = rest.split_at(after_address + colon);
                (host, Some(port[1..].parse::<u16>().map_err(|_| ParseOriginError::Malformed)?))
            }
            None => (rest, None),
        };
        let is_name = |text: &str, extra: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        let is_host = is_name(host, "-._") || host.starts_with('[') && is_name(host, "[]:.");
        if !is_name(scheme, "+-.") || !is_host {
            return Err(ParseOriginError::Malformed);
        }
        let usual = match scheme {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        };
        let port = port.filter(|port| Some(*port) != usual);
        Ok(Self::Page { scheme: scheme.to_owned(), below, host: host.to_owned(), port })
    }
}

/// A text is no origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseOriginError {
    /// It is none at all.
    #[error("it is no origin: write SCHEME://HOST or SCHEME://HOST:PORT, without a path")]
    Malformed,
    /// Pages from files have none.
    #[error("pages from files have no origin of their own, and browsers send null for them: write null")]
    File,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(texts: &[&str]) -> Vec<Origin> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admits(allowed: &[&str], found: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in found {
            headers.append(header::ORIGIN, value.parse().unwrap());
        }
        admit(&origins(allowed), &headers)
    }

    #[test]
    fn only_the_origins_that_are_named_are_let_in() {
        let allowed = ["https://example.org", "http://localhost:8080", "https://*.example.net"];
        for good in [
            "https://example.org",
            "https://EXAMPLE.org",
            "https://example.org:443",
            "http://localhost:8080",
            "https://a.example.net",
            "https://a.b.example.net",
        ] {
            assert!(admits(&allowed, &[good]), "{good}");
        }
        for bad in [
            "null",
            "absent",
            "any",
            "",
            "*",
            "https://",
            "http://example.org",
            "https://example.org:444",
            "https://example.org.evil.com",
            "https://evilexample.org",
            "https://evil.com/https://example.org",
            "https://example.org/",
            "https://example.org@evil.com",
            "https://sub.example.org",
            "https://example.net",
            "https://evilexample.net",
            "https://.example.net",
            "https://*.example.net",
            "https://a.example.net.evil.com",
            "https://example.org https://evil.com",
            "http://localhost",
            "http://localhost:80800",
        ] {
            assert!(!admits(&allowed, &[bad]), "{bad}");
        }
        assert!(!admits(&allowed, &[]), "no header");
        assert!(!admits(&allowed, &["https://example.org", "https://evil.com"]), "two headers");
    }

    #[test]
    fn pages_and_programs_without_an_origin_are_let_in_when_they_are_named() {
        assert!(admits(&["null"], &["null"]));
        assert!(!admits(&["null"], &[]));
        assert!(admits(&["absent"], &[]));
        assert!(!admits(&["absent"], &["absent"]), "a header is not none");
        assert!(!admits(&["absent"], &["null"]));
    }

    #[test]
    fn any_lets_all_in_and_an_empty_list_nobody() {
        for found in [&[][..], &["null"], &["https://example.org"], &["nonsense"], &["any"]] {
            assert!(admits(&["any"], found), "{found:?}");
            assert!(!admits(&[], found), "{found:?}");
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_no_more() {
        for text in
            ["https://example.org", "https://[::1]:8080", "http://*.a.example:81", "null", "absent", "any"]
        {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        for wrong in
            ["", "*", "example.org", "https://", "https://a/", "https://a b", "https://a:x", "https://*"]
        {
            assert_eq!(wrong.parse::<Origin>(), Err(ParseOriginError::Malformed), "{wrong}");
        }
        assert_eq!("file:///page.html".parse::<Origin>(), Err(ParseOriginError::File));
        assert_eq!("file://".parse::<Origin>(), Err(ParseOriginError::File));
    }
}
