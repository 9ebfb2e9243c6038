//! The names under which pages reach the relay. `http`, `entrance` and `monitor` refuse requests for others.
//!
//! A server's registration is bound to the relay's URL. If a relay answered under any name, another relay could pass
//! on a request to it under its own, and the server's proof with it. It would answer pages whose name has been pointed
//! to its address, too (DNS rebinding).

use http::header::{self, HeaderMap, HeaderName};
use http::request;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A name of the relay, or a whole URL under which pages reach it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// True for a `wss:` URL; `None` if only the host is known.
    is_secure: Option<bool>,
    name: Name,
    /// The port; `None` is any, or the scheme's own if there is a scheme.
    port: Option<u16>,
    /// The beginning of the path that a proxy takes off; no slash at its end.
    prefix: String,
}

/// A host in the form in which it is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Name {
    Address(IpAddr),
    /// Lower case, without a dot at its end.
    Domain(String),
}

/// The names that the relay is told, by its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    pub(crate) hosts: &'a [Host],
    /// Domains of the certificate that it orders.
    pub(crate) acme_domains: &'a [String],
}

/// The way by which a connection reached the relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The relay's own address.
    pub(crate) local: IpAddr,
    /// True if the relay itself speaks TLS on it.
    pub(crate) is_secure: bool,
    /// True if a trusted proxy is at its other end.
    pub(crate) is_proxy: bool,
}

/// The host of a request is none of the relay's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "this relay does not know itself as {0:?}: its operator can set `hosts` to the names under which pages reach it"
)]
pub(crate) struct UnknownHost(pub(crate) String);

/// The URL under which a request reached the relay, without its query: what a registration is bound to.
pub(crate) fn reached(names: Names<'_>, request: &request::Parts, way: Way) -> Result<String, UnknownHost> {
    let text = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let unknown = || UnknownHost(text.chars().take(100).collect());
    let (name, port) = authority(text).ok_or_else(unknown)?;
    let named = names.hosts.iter().find(|host| host.covers(&name, port));
    if named.is_none() && !is_own(names, &name, way.local) {
        return Err(unknown());
    }
    let is_secure =
        named.and_then(|host| host.is_secure).unwrap_or_else(|| was_secure(&request.headers, way));
    let prefix = named.map_or("", |host| &host.prefix);
    // As the page wrote it: a dot at its end is a part of its URL.
    let dot = if matches!(name, Name::Domain(_)) && without_port(text).ends_with('.') { "." } else { "" };
    let port =
        port.filter(|port| *port != usual_port(is_secure)).map_or_else(String::new, |p| format!(":{p}"));
    let scheme = if is_secure { "wss" } else { "ws" };
    let path = match request.uri.path() {
        path if path.starts_with('/') => path,
        _ => "/",
    };
    Ok(format!("{scheme}://{name}{dot}{port}{prefix}{path}"))
}

/// Returns whether the relay has the name without being told: a certificate's from ACME, its address, one of this machine's.
fn is_own(names: Names<'_>, name: &Name, local: IpAddr) -> bool {
    match name {
        Name::Address(address) => address.is_loopback() || *address == local,
        Name::Domain(domain) => {
            domain == "localhost"
                || domain.ends_with(".localhost")
                || names.acme_domains.iter().any(|acme| acme.eq_ignore_ascii_case(domain))
        }
    }
}

/// Returns whether the page dialled a `wss:` URL: what a trusted proxy says, or else what the relay itself speaks.
fn was_secure(headers: &HeaderMap, way: Way) -> bool {
    let told = || {
        let last = headers.get_all(X_FORWARDED_PROTO).iter().next_back()?.to_str().ok()?;
        match last.rsplit(',').next()?.trim().to_ascii_lowercase().as_str() {
            "https" | "wss" => Some(true),
            "http" | "ws" => Some(false),
            _ => None,
        }
    };
    let told = if way.is_proxy { told() } else { None };
    told.unwrap_or(way.is_secure)
}

const fn usual_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// Host and port of a `Host` header.
fn authority(text: &str) -> Option<(Name, Option<u16>)> {
    let host = without_port(text);
    let port = match text[host.len()..].strip_prefix(':') {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    Some((host.parse().ok()?, port))
}

fn without_port(text: &str) -> &str {
    let after_address = text.rfind(']').map_or(0, |end| end + 1);
    text[after_address..].find(':').map_or(text, |colon| &text[..after_address + colon])
}

impl FromStr for Name {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = address.parse().map_err(|_| ParseHostError)?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_domain = domain.split('.').all(|label| !label.is_empty())
            && domain.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if is_domain { Ok(Self::Domain(domain)) } else { Err(ParseHostError) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Domain(domain) => f.write_str(domain),
        }
    }
}

impl Host {
    fn covers(&self, name: &Name, port: Option<u16>) -> bool {
        let fits = match self.is_secure {
            Some(is_secure) => {
                let usual = usual_port(is_secure);
                self.port.unwrap_or(usual) == port.unwrap_or(usual)
            }
            None => self.port.is_none() || self.port == port,
        };
        fits && self.name == *name
    }
}

impl FromStr for Host {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_secure, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "https" | "wss" => (Some(true), rest),
                "http" | "ws" => (Some(false), rest),
                _ => return Err(ParseHostError),
            },
        };
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let prefix = path.trim_end_matches('/');
        if path.contains(['?', '#', ' ']) || is_secure.is_none() && !path.is_empty() {
            return Err(ParseHostError);
        }
        let (name, port) = authority(host).ok_or(ParseHostError)?;
        Ok(Self { is_secure, name, port, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.is_secure {
            None => "",
            Some(true) => "wss://",
            Some(false) => "ws://",
        };
        write!(f, "{scheme}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str(&self.prefix)
    }
}

/// A text is no host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no host: write HOST, HOST:PORT, or the URL that pages dial, such as wss://HOST/PATH/")]
pub struct ParseHostError;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const DIRECT: Way =
        Way { local: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), is_secure: false, is_proxy: false };

    fn reach(hosts: &[&str], host: &str, path: &str, proto: Option<&str>, way: Way) -> Option<String> {
        let hosts: Vec<Host> = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let names = Names { hosts: &hosts, acme_domains: &["Acme.example".into()] };
        let mut request = Request::get(path).header("host", host);
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        reached(names, &request.body(()).unwrap().into_parts().0, way).ok()
    }

    #[test]
    fn a_relay_knows_its_acme_names_its_address_and_those_of_its_machine() {
        for (host, url) in [
            ("localhost:8087", Some("ws://localhost:8087/")),
            ("a.LOCALHOST", Some("ws://a.localhost/")),
            ("127.0.0.1:80", Some("ws://127.0.0.1/")),
            ("[::1]:8087", Some("ws://[::1]:8087/")),
            ("[0:0:0:0:0:0:0:1]:8087", Some("ws://[::1]:8087/")),
            ("192.0.2.1:8087", Some("ws://192.0.2.1:8087/")),
            ("acme.example", Some("ws://acme.example/")),
            ("ACME.example.", Some("ws://acme.example./")),
            ("192.0.2.2:8087", None),
            ("acme.example.evil.example", None),
            ("evil.example", None),
            ("localhost.evil.example", None),
            ("", None),
            ("localhost:port", None),
            ("user@localhost", None),
            ("[::1", None),
        ] {
            assert_eq!(reach(&[], host, "/", None, DIRECT).as_deref(), url, "{host:?}");
        }
    }

    #[test]
    fn an_operator_names_hosts_or_the_whole_url_that_pages_dial() {
        let proxy = Way { is_proxy: true, ..DIRECT };
        let tls = Way { is_secure: true, ..DIRECT };
        for (named, host, path, proto, way, url) in [
            ("relay.example", "Relay.Example", "/", None, DIRECT, Some("ws://relay.example/")),
            ("relay.example", "relay.example:443", "/", None, tls, Some("wss://relay.example/")),
            ("relay.example", "relay.example:80", "/", None, tls, Some("wss://relay.example:80/")),
            ("relay.example:81", "relay.example:81", "/", None, DIRECT, Some("ws://relay.example:81/")),
            ("relay.example:81", "relay.example", "/", None, DIRECT, None),
            ("relay.example", "relay.example", "/a/b?c=d", None, DIRECT, Some("ws://relay.example/a/b")),
            // A proxy says which scheme it was dialled with; a stranger is not believed.
            ("relay.example", "relay.example", "/", Some("https"), proxy, Some("wss://relay.example/")),
            ("relay.example", "relay.example", "/", Some("http, wss"), proxy, Some("wss://relay.example/")),
            ("relay.example", "relay.example", "/", Some("https"), DIRECT, Some("ws://relay.example/")),
            ("relay.example", "relay.example", "/", Some("gopher"), proxy, Some("ws://relay.example/")),
            // Or the operator does, with what the proxy takes off the path.
            ("wss://relay.example", "relay.example:443", "/", None, DIRECT, Some("wss://relay.example/")),
            (
                "https://relay.example:8/",
                "relay.example:8",
                "/",
                None,
                DIRECT,
                Some("wss://relay.example:8/"),
            ),
            ("https://relay.example/t/", "relay.example", "/a", None, proxy, Some("wss://relay.example/t/a")),
            ("https://relay.example", "relay.example:8087", "/", None, DIRECT, None),
            ("[2001:DB8:0::1]", "[2001:db8::1]:9", "/", None, DIRECT, Some("ws://[2001:db8::1]:9/")),
        ] {
            assert_eq!(reach(&[named], host, path, proto, way).as_deref(), url, "{named}, {host}, {proto:?}");
        }
    }

    #[test]
    fn a_host_is_written_as_it_is_read() {
        for text in ["relay.example", "relay.example:81", "wss://relay.example/t", "ws://[2001:db8::1]:9"] {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), text);
        }
        for wrong in ["", "a b", "ftp://a", "a/b", "https://a/?b", "a:b", "a:70000", ":80", "a..b", "*.a"] {
            assert_eq!(wrong.parse::<Host>(), Err(ParseHostError), "{wrong}");
        }
    }
}
