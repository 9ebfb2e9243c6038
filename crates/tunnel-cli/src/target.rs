//! The forms in which users name peers and machines: `ID/PORT`, links of files, `HOST:PORT`.

use std::fmt;
use std::str::FromStr;
use tunnel_wasm::ServerId;

/// A port of a peer: `ID/PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) id: ServerId,
    pub(crate) port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.id, self.port)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, port) = text
            .split_once('/')
            .ok_or_else(|| "expected ID/PORT: 56 characters, a slash and a port's number".to_owned())?;
        Ok(Self { id: peer(id)?, port: self::port(port)? })
    }
}

fn peer(text: &str) -> Result<ServerId, String> {
    match text.parse::<ServerId>() {
        Ok(id @ ServerId::Key(_)) => Ok(id),
        Ok(_) => Err("a number is no peer's ID: it proves nothing about who answers".to_owned()),
        Err(error) => Err(format!("'{text}' is no ID: {error}")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("'{text}' is no port: expected a number from 1 to 65535"))
}

/// A file that is offered: `ID/PORT/SECRET`. Whoever has the link may fetch the file; the relay sees the ID and the port only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) target: Target,
    pub(crate) secret: String,
}

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.target, self.secret)
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let [id, port, secret] = parts[..] else {
            return Err("expected the link that `tunnel send` has printed: ID/PORT/SECRET".to_owned());
        };
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("the link's last part is no secret: copy the whole link".to_owned());
        }
        Ok(Self { target: Target { id: peer(id)?, port: self::port(port)? }, secret: secret.to_owned() })
    }
}

/// A host and a port that connections are passed on to. The host is looked up for each connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Forward(String);

impl Forward {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT, for example 127.0.0.1:22")?;
        self::port(port)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(address) => {
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("'{address}' is no IPv6 address"))?;
            }
            None if host.is_empty() => {
                return Err("the host is missing: for this machine, write 127.0.0.1".to_owned());
            }
            None if host.contains([':', '/', '[', ']', ' ']) => {
                return Err(format!(
                    "'{host}' is no host: an IPv6 address goes into brackets, and there is no scheme or path"
                ));
            }
            None => {}
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunnel_wasm::PublicKey;

    fn id() -> String {
        ServerId::Key(PublicKey([7; 32])).to_string()
    }

    #[test]
    fn a_target_is_an_id_and_a_port() {
        let text = format!("{}/22", id());
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        for (text, word) in [
            ("", "ID/PORT"),
            (&*id(), "ID/PORT"),
            ("1/22", "number"),
            ("nobody/22", "no ID"),
            (&format!("{}/0", id()), "port"),
            (&format!("{}/65536", id()), "port"),
            (&format!("{}/ssh", id()), "port"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_mistyped_id_is_refused_with_the_position() {
        let mut wrong = id();
        wrong.replace_range(10..11, "!");
        let error = format!("{wrong}/22").parse::<Target>().unwrap_err();
        assert!(error.contains("11"), "{error}");
    }

    #[test]
    fn a_link_has_a_secret_behind_the_port() {
        let text = format!("{}/1/abcDEF123", id());
        assert_eq!(text.parse::<Link>().unwrap().to_string(), text);
        for wrong in [
            format!("{}/1", id()),
            format!("{}/1/", id()),
            format!("{}/1/a b", id()),
            format!("{}/1/a/b", id()),
        ] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_forwarded_to_is_a_host_and_a_port() {
        for right in ["127.0.0.1:22", "localhost:5900", "[::1]:80", "db.internal:5432"] {
            assert!(right.parse::<Forward>().is_ok(), "{right}");
        }
        for wrong in [
            "22",
            ":22",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "::1:80",
            "[::1:80",
            "http://a:80",
            "a/b:80",
        ] {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }
}
