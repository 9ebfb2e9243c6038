//! The address of a peer behind reverse proxies, by headers or the PROXY protocol. `remote`, `http` and `entrance` ask for it.

use crate::complaints::quoted;
use crate::config::AddressSource;
use http::HeaderMap;
use http::header::{self, HeaderName};
use ipnet::IpNet;
use ppp::{HeaderResult, v1, v2};
use std::io;
use std::net::IpAddr;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The first bytes of PROXY headers of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Length of `PROXY UNKNOWN` and its line's end.
const SHORTEST: usize = 15;

/// The longest line of version 1.
const LONGEST_LINE: usize = 107;

/// Most bytes of a header of version 2 behind its first 16: addresses, and some hundred bytes of the proxy's own.
const MAX_REST: usize = 1_024;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns whether an address is that of a reverse proxy that is trusted to say who is behind it.
pub(crate) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The peer's address by the headers of a request that came from a trusted proxy.
///
/// Each proxy adds the address that it got the request from to the end. What is left of the last address that is no
/// trusted proxy's was written by a stranger.
pub(crate) fn forwarded(
    source: AddressSource,
    trusted: &[IpNet],
    headers: &HeaderMap,
    proxy: IpAddr,
) -> IpAddr {
    let name = match source {
        AddressSource::XForwardedFor => X_FORWARDED_FOR,
        AddressSource::Forwarded => header::FORWARDED,
        AddressSource::ProxyProtocol => return proxy,
    };
    let values: Vec<_> =
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    let mut address = proxy;
    for element in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let node = match source {
            AddressSource::Forwarded => element.split(';').find_map(for_parameter).unwrap_or_default(),
            AddressSource::XForwardedFor | AddressSource::ProxyProtocol => element.trim(),
        };
        // An element that hides the address, or makes no sense: the last one that is known counts.
        let Some(found) = node_address(node) else { break };
        address = found;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    address
}

/// The node of `for=node`, without quotes.
fn for_parameter(pair: &str) -> Option<&str> {
    let (name, value) = pair.trim().split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
}

/// The address of a node such as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`.
fn node_address(node: &str) -> Option<IpAddr> {
    let bare = match node.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if node.matches(':').count() == 1 => node.split_once(':')?.0,
        None => node,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Returns whether bytes begin like a header of the PROXY protocol.
pub(crate) fn is_proxy_header(start: &[u8]) -> bool {
    start.starts_with(SIGNATURE) || start.starts_with(b"PROXY ")
}

/// The header that has to be there by which proxies are believed, if it is not: its name.
pub(crate) fn missing(source: AddressSource, headers: &HeaderMap) -> Option<HeaderName> {
    let name = match source {
        AddressSource::XForwardedFor => X_FORWARDED_FOR,
        AddressSource::Forwarded => header::FORWARDED,
        AddressSource::ProxyProtocol => return None,
    };
    (!headers.contains_key(&name)).then_some(name)
}

/// The headers of a request by which proxies say whose it is.
pub(crate) fn said_by_proxy(headers: &HeaderMap) -> String {
    let names = [X_FORWARDED_FOR, header::FORWARDED, HeaderName::from_static("x-real-ip"), header::VIA];
    let seen =
        names.into_iter().filter_map(|name| Some(format!("{name}: {:?}", quoted(headers.get(&name))?)));
    let seen: Vec<_> = seen.collect();
    if seen.is_empty() { "none".to_owned() } else { seen.join(", ") }
}

/// Reads a header of the PROXY protocol, version 1 or 2, and not a byte more: the address of the peer, or `None` if the
/// proxy itself is the peer.
pub(crate) async fn read_proxy_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let malformed = |text: &str| io::Error::new(io::ErrorKind::InvalidData, format!("PROXY header: {text}"));
    // The shortest header there is; the next byte may belong to somebody else.
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if rest > MAX_REST {
            return Err(malformed("it is too long"));
        }
        header.resize(16 + rest, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else {
        while header.starts_with(b"PROXY ") && !header.ends_with(b"\n") && header.len() < LONGEST_LINE {
            header.push(stream.read_u8().await?);
        }
    }
    if !is_proxy_header(&header) {
        return Err(malformed(&format!("the connection begins with \"{}\" instead", header.escape_ascii())));
    }
    match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(addresses) => Ok(Some(addresses.source_address.into())),
            v1::Addresses::Tcp6(addresses) => Ok(Some(addresses.source_address.into())),
            v1::Addresses::Unknown => Ok(None),
        },
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(addresses) => Ok(Some(addresses.source_address.into())),
            v2::Addresses::IPv6(addresses) => Ok(Some(addresses.source_address.into())),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Ok(None),
        },
        HeaderResult::V1(Err(error)) => Err(malformed(&error.to_string())),
        HeaderResult::V2(Err(error)) => Err(malformed(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(source: AddressSource, lines: &[(&'static str, &'static str)]) -> String {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        forwarded(source, &trusted, &headers, "127.0.0.1".parse().unwrap()).to_string()
    }

    #[test]
    fn x_forwarded_for_counts_from_its_end_up_to_the_first_stranger() {
        for (lines, address) in [
            (&[][..], "127.0.0.1"),
            (&["192.0.2.7"], "192.0.2.7"),
            (&["192.0.2.7:4711"], "192.0.2.7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
            (&["6.6.6.6, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
            (&["6.6.6.6", "192.0.2.7", "10.1.2.3,127.0.0.9"], "192.0.2.7"),
            (&["10.1.2.3"], "10.1.2.3"),
            (&["6.6.6.6, nonsense, 10.1.2.3"], "10.1.2.3"),
            (&["6.6.6.6, unknown"], "127.0.0.1"),
            (&[""], "127.0.0.1"),
        ] {
            let lines: Vec<_> = lines.iter().map(|value| ("x-forwarded-for", *value)).collect();
            assert_eq!(seen(AddressSource::XForwardedFor, &lines), address, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_likewise() {
        for (value, address) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"[2001:db8::7]:4711\";proto=https;by=10.0.0.1", "2001:db8::7"),
            ("for=6.6.6.6, proto=https;for=192.0.2.7, for=10.0.0.3", "192.0.2.7"),
            ("for=6.6.6.6, for=_hidden", "127.0.0.1"),
            ("for=6.6.6.6, by=10.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(seen(AddressSource::Forwarded, &[("forwarded", value)]), address, "{value}");
        }
    }

    #[test]
    fn only_the_header_that_was_chosen_counts() {
        let both = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")];
        assert_eq!(seen(AddressSource::XForwardedFor, &both), "192.0.2.7");
        assert_eq!(seen(AddressSource::Forwarded, &both), "192.0.2.8");
        assert_eq!(seen(AddressSource::ProxyProtocol, &both), "127.0.0.1");
    }
}
