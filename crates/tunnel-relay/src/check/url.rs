//! The URL of a relay, taken apart for `check`.

use std::str::FromStr;

/// A relay's URL, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RelayUrl {
    pub(crate) is_secure: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the query, if there is one.
    pub(crate) path: String,
    /// Host and port as browsers write them.
    pub(crate) origin: String,
}

impl RelayUrl {
    /// The URL without its query: what a registration is bound to.
    pub(crate) fn bound(&self) -> String {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{scheme}://{}{path}", self.origin)
    }

    /// Returns whether its name or address reaches beyond this machine or network, as far as it shows.
    pub(crate) fn is_public(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(address)) => !address.is_loopback() && !address.is_private(),
            Ok(std::net::IpAddr::V6(address)) => !address.is_loopback() && !address.is_unique_local(),
            Err(_) => {
                self.host.contains('.') && !self.host.ends_with(".local") && !self.host.ends_with(".test")
            }
        }
    }
}

impl FromStr for RelayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
        let is_secure = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            Some("https") => return Err(format!("{text:?}: write wss: instead of https:")),
            Some("http") => return Err(format!("{text:?}: write ws: instead of http:")),
            _ => return Err(format!("{text:?}: a relay's URL begins with wss:// or ws://")),
        };
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| format!("{text:?} names no host"))?;
        let host = host.to_ascii_lowercase();
        let usual = if is_secure { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let origin = if port == usual { host.clone() } else { format!("{host}:{port}") };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { is_secure, host, port, path, origin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_as_browsers_do() {
        for (text, host, port, path, bound) in [
            ("wss://Relay.example", "relay.example", 443, "/", "wss://relay.example/"),
            ("wss://relay.example:443/a?b=c", "relay.example", 443, "/a?b=c", "wss://relay.example/a"),
            ("ws://relay.example:8087/", "relay.example", 8087, "/", "ws://relay.example:8087/"),
            ("ws://[::1]:8087", "::1", 8087, "/", "ws://[::1]:8087/"),
        ] {
            let url: RelayUrl = text.parse().unwrap();
            assert_eq!(
                (&*url.host, url.port, &*url.path, &*url.bound()),
                (host, port, path, bound),
                "{text}"
            );
        }
        for (wrong, word) in [("https://a", "wss:"), ("a", "wss://"), ("wss://", "URL"), ("ws:///", "URL")] {
            let error = wrong.parse::<RelayUrl>().unwrap_err();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
