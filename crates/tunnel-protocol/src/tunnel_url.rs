//! The address of a server's port in one text: the relay's URL, `/SERVER_ID/PORT`, then the path and query that reach
//! the server.
//!
//! The relay's URL is kept as it is, with its path and query, so that it also works behind a gateway. A reader finds the
//! end of it by the server ID: a segment between two slashes, anywhere behind the host. It reads each URL in one way, or
//! refuses it. Otherwise one who hands out URLs could show a person one server and connect the page to another.

use crate::ServerId;
use crate::server_id::{KEY_ID_LEN, ParseServerIdError};

/// A tunnel URL, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TunnelUrl<'a> {
    /// The relay's URL. Its path may be missing, which a URL parser reads as `/`.
    pub relay: &'a str,
    /// The server.
    pub server: ServerId,
    /// The server's port.
    pub port: u16,
    /// Path and query for the server, beginning with a slash; empty if the URL has none.
    pub path: String,
}

/// A URL is no tunnel's, or could be read in two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTunnelUrlError {
    /// There is no server ID in it.
    #[error("expected the relay's URL, then /SERVER_ID/PORT")]
    NoServer,
    /// The server ID has no port behind it.
    #[error("expected a port, 0 to 65535, behind the server ID")]
    NoPort,
    /// There are two server IDs in it or, without any, two numbers that could be a server's.
    #[error("it could name more than one server")]
    Ambiguous,
    /// It names a server by a number, which is not allowed here.
    #[error(
        "it names a server of a livecoding relay by its number, which the option {{ livecode: true }} allows"
    )]
    Number,
    /// The server ID was mistyped.
    #[error(transparent)]
    ServerId(#[from] ParseServerIdError),
}

/// A piece of a URL between two slashes.
struct Segment<'a> {
    /// Its place in the URL, in bytes.
    at: usize,
    text: &'a str,
}

impl Segment<'_> {
    /// The key's server ID that it is; an error if it has the look of one.
    fn server_id(&self) -> Option<Result<ServerId, ParseServerIdError>> {
        let is_one = self.text.len() == KEY_ID_LEN
            && self.text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'2'..=b'7'));
        is_one.then(|| self.text.parse())
    }

    /// The server's number that it is.
    fn number(&self) -> Option<ServerId> {
        is_canonical_number(self.text).then(|| self.text.parse().ok()).flatten()
    }

    /// The port that it is, and how many bytes of it are that: a query may follow.
    fn port(&self) -> Option<(u16, usize)> {
        let digits = self.text.split('?').next().unwrap_or_default();
        is_canonical_number(digits).then(|| Some((digits.parse().ok()?, digits.len()))).flatten()
    }
}

/// Returns whether these are digits, with no zeros before them: each number has one form.
fn is_canonical_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

impl<'a> TunnelUrl<'a> {
    /// Takes a URL apart. It has to be as a URL parser writes it: absolute, normalised, and without a fragment.
    ///
    /// The ID of a server's key always counts. A number counts only if there is no ID and `numbers` allows it: it proves
    /// nothing about the server.
    ///
    /// # Errors
    ///
    /// There is no server and port in it, or more than one possible server.
    pub fn parse(url: &'a str, numbers: bool) -> Result<Self, ParseTunnelUrlError> {
        let segments = segments(url);
        let is_before_port = |index: usize| segments.get(index + 1).is_some_and(|next| next.port().is_some());

        let ids = segments.iter().enumerate().filter_map(|(index, one)| Some((index, one.server_id()?)));
        let (valid, mistyped): (Vec<_>, Vec<_>) = ids.partition(|(_, id)| id.is_ok());
        let found = match (&valid[..], &mistyped[..]) {
            ([(index, Ok(id))], _) => Some((*index, *id)),
            ([_, ..], _) => return Err(ParseTunnelUrlError::Ambiguous),
            // Better no server at all than the one whose number happens to be there, too.
            ([], [(_, Err(problem)), ..]) => return Err((*problem).into()),
            ([], _) => None,
        };
        let (index, server) = match found {
            Some(found) => found,
            None => {
                let mut found = segments
                    .iter()
                    .enumerate()
                    .filter_map(|(index, one)| Some((index, one.number()?)))
                    .filter(|(index, _)| is_before_port(*index));
                match (found.next(), found.next()) {
                    (None, _) => return Err(ParseTunnelUrlError::NoServer),
                    (Some(_), _) if !numbers => return Err(ParseTunnelUrlError::Number),
                    (Some(_), Some(_)) => return Err(ParseTunnelUrlError::Ambiguous),
                    (Some(only), None) => only,
                }
            }
        };
        let Some((port, (number, len))) = segments.get(index + 1).and_then(|next| Some((next, next.port()?)))
        else {
            return Err(ParseTunnelUrlError::NoPort);
        };
        let rest = url.get(port.at + len..).unwrap_or_default();
        let slash = if rest.starts_with('?') { "/" } else { "" };
        let relay = segments.get(index).and_then(|id| url.get(..id.at - 1)).unwrap_or_default();
        Ok(Self { relay, server, port: number, path: format!("{slash}{rest}") })
    }
}

/// Returns the pieces behind the host, between slashes.
fn segments(url: &str) -> Vec<Segment<'_>> {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let Some(path) = url.get(authority..).and_then(|rest| rest.find('/')) else { return Vec::new() };
    let mut at = authority + path + 1;
    let rest = url.get(at..).unwrap_or_default();
    let segment = |text| {
        let segment = Segment { at, text };
        at += text.len() + 1;
        segment
    };
    rest.split('/').map(segment).collect()
}

/// The URL of a server, as [`TunnelUrl::parse`] reads it when `/PORT` is appended. The relay's URL has to be as a URL parser
/// writes it.
#[must_use]
pub fn server_url(relay: &str, server: &ServerId) -> String {
    // Of a relay without path and query, the URL ends with the slash behind the host.
    let is_bare = relay.matches('/').count() == 3 && relay.ends_with('/');
    let relay = if is_bare { relay.trim_end_matches('/') } else { relay };
    format!("{relay}/{server}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_id::PublicKey;
    use proptest::prelude::*;

    const fn key(byte: u8) -> ServerId {
        ServerId::Key(PublicKey([byte; 32]))
    }

    fn read(url: &str) -> Result<(&str, ServerId, u16, String), ParseTunnelUrlError> {
        TunnelUrl::parse(url, false).map(|found| (found.relay, found.server, found.port, found.path))
    }

    fn read_with_numbers(url: &str) -> Result<(&str, ServerId, u16, String), ParseTunnelUrlError> {
        TunnelUrl::parse(url, true).map(|found| (found.relay, found.server, found.port, found.path))
    }

    #[test]
    fn a_server_id_wins_over_numbers_that_look_like_a_server_and_its_port() {
        let id = key(7);
        for base in
            ["wss://evil/1/1", "wss://relay/2026/11", "wss://relay/1/80/2/81", "wss://relay/1/80?1/80"]
        {
            for read in [read, read_with_numbers] {
                assert_eq!(read(&format!("{base}/{id}/443")), Ok((base, id, 443, String::new())));
            }
        }
        let behind = format!("wss://relay/{id}/443/1/80");
        assert_eq!(read_with_numbers(&behind), Ok(("wss://relay", id, 443, "/1/80".to_owned())));
    }

    #[test]
    fn numbers_name_servers_only_where_that_is_allowed() {
        assert_eq!(read("wss://relay/1/80"), Err(ParseTunnelUrlError::Number));
        let server = ServerId::Number(1);
        assert_eq!(read_with_numbers("wss://relay/1/80"), Ok(("wss://relay", server, 80, String::new())));
        assert_eq!(
            read_with_numbers("wss://relay/base/1/80?x"),
            Ok(("wss://relay/base", server, 80, "/?x".to_owned()))
        );
    }

    #[test]
    fn what_could_name_two_servers_is_refused() {
        let (one, two) = (key(1), key(2));
        for url in [
            format!("wss://relay/{one}/80/{two}/80"),
            format!("wss://relay/{one}/{two}/80"),
            format!("wss://relay/{one}/80/{two}"),
            format!("wss://relay/{one}/80/{one}"),
            format!("wss://relay/{one}/80?next=/{two}/80"),
            format!("wss://relay/?via=/{one}/80/{two}/80"),
        ] {
            for read in [read, read_with_numbers] {
                assert_eq!(read(&url), Err(ParseTunnelUrlError::Ambiguous), "{url}");
            }
        }
        for url in ["wss://relay/1/80/81", "wss://relay/2026/11/1/80", "wss://relay/1/80/room/2/80"] {
            assert_eq!(read_with_numbers(url), Err(ParseTunnelUrlError::Ambiguous), "{url}");
        }
    }

    #[test]
    fn a_mistyped_server_id_is_told_and_never_gives_way_to_a_number() {
        let mistyped = "a".repeat(56);
        for read in [read, read_with_numbers] {
            let url = format!("wss://relay/1/1/{mistyped}/80");
            assert!(matches!(read(&url), Err(ParseTunnelUrlError::ServerId(_))));
        }
    }

    #[test]
    fn a_server_id_without_a_port_behind_it_is_refused() {
        let id = key(7);
        for end in ["", "/", "/x", "/65536", "/-1", "/+1", "/ 1", "/080", "/1a", "/?80", "?/80"] {
            let url = format!("wss://relay/{id}{end}");
            assert!(read(&url).is_err(), "{url}");
        }
        for url in ["", "wss://", "wss://relay", "wss://relay/", "wss://relay/x/80", "wss://relay/01/80"] {
            assert_eq!(read_with_numbers(url), Err(ParseTunnelUrlError::NoServer), "{url}");
        }
        assert_eq!(
            read(&format!("wss://{id}/80")),
            Err(ParseTunnelUrlError::NoServer),
            "a host is no server"
        );
    }

    #[test]
    fn a_server_id_is_read_in_either_case() {
        let upper = key(7).to_string().to_uppercase();
        assert_eq!(read(&format!("wss://relay/{upper}/1")).map(|found| found.1), Ok(key(7)));
    }

    /// A relay's URL as a URL parser writes it.
    fn any_relay() -> impl Strategy<Value = String> {
        let path = proptest::collection::vec("[a-z0-9.%~-]{0,8}", 0..4).prop_map(|path| path.join("/"));
        let query = prop_oneof![Just(String::new()), "\\?[a-z0-9=&/?%-]{0,20}"];
        ("wss?://[a-z]{1,8}(:[1-9][0-9]{1,3})?/", path, query)
            .prop_map(|(start, path, query)| format!("{start}{path}{query}"))
    }

    /// The text that the application appends to the port.
    fn any_rest() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), "[/?][a-z0-9=&/?%-]{0,20}"]
    }

    proptest! {
        #[test]
        fn a_servers_url_is_read_as_the_relays_url_and_the_server(
            relay in any_relay(), bytes: [u8; 32], port: u16, rest in any_rest(), numbers: bool,
        ) {
            let server = ServerId::Key(PublicKey(bytes));
            let url = format!("{}/{port}{rest}", server_url(&relay, &server));
            let found = TunnelUrl::parse(&url, numbers).unwrap();
            // A URL parser puts the slash back that a relay without a path ends with.
            let is_same = found.relay == relay || format!("{}/", found.relay) == relay;
            prop_assert!(is_same, "{} is not {relay}", found.relay);
            prop_assert_eq!((found.server, found.port), (server, port));
            let path = if rest.starts_with('?') { format!("/{rest}") } else { rest };
            prop_assert_eq!(found.path, path);
        }

        #[test]
        fn what_is_read_as_a_number_has_no_server_id_in_it(url in "wss://[a-z]{1,3}(/([0-9]{1,3}|[a-z2-7]{56}|x))*") {
            if let Ok(TunnelUrl { server: ServerId::Number(_), .. }) = TunnelUrl::parse(&url, true) {
                prop_assert!(url.split('/').all(|segment| segment.len() != KEY_ID_LEN));
            }
        }

        #[test]
        fn any_text_is_a_tunnels_url_or_an_error(url: String, numbers: bool) {
            let _ = TunnelUrl::parse(&url, numbers);
        }
    }
}
