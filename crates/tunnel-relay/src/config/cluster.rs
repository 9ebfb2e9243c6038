//! Settings of a relay that is one of several: their types, and what contradicts what.

use super::Config;
use super::kind::Written;
use std::fmt;
use std::str::FromStr;

/// Says that a relay was built without the feature `cluster`, and what to do.
#[cfg(not(feature = "cluster"))]
const WITHOUT_CLUSTER: &str = "this relay was built without clusters: leave the `cluster` settings out, or build the relay with its \
                               feature `cluster`";

/// The port of NATS servers whose URL names none.
const NATS_PORT: u16 = 4222;

/// Longest name of a node or of a cluster, and longest address, in bytes.
const MAX_NAME: usize = 64;
const MAX_ADDRESS: usize = 255;

/// The place of a NATS server, `nats://HOST:PORT` or, with TLS, `tls://HOST:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusUrl {
    /// True if it speaks TLS.
    pub is_secure: bool,
    /// The place.
    pub address: NodeAddress,
}

/// A host and a port, as one relay dials another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeAddress {
    /// A name or an IP address; of version 6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The name of a cluster, which begins the subjects of its messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterName(pub String);

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_secure { "tls" } else { "nats" }, self.address)
    }
}

impl FromStr for BusUrl {
    type Err = ParseClusterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(ParseClusterError::Url)?;
        let is_secure = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(ParseClusterError::Url),
        };
        // The log and the live page show it: it must not be a secret.
        if rest.contains('@') {
            return Err(ParseClusterError::Credentials);
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let address =
            rest.parse().or_else(|error| format!("{rest}:{NATS_PORT}").parse().map_err(|_| error))?;
        Ok(Self { is_secure, address })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for NodeAddress {
    type Err = ParseClusterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseClusterError::Address)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(ParseClusterError::Address)?;
        let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok().then_some(bare),
            None => Some(host).filter(|host| {
                let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                !host.is_empty() && host.bytes().all(is_fit)
            }),
        };
        let host = bare.filter(|_| text.len() <= MAX_ADDRESS).ok_or(ParseClusterError::Address)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = ParseClusterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_name = !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(is_fit);
        is_name.then(|| Self(text.to_owned())).ok_or(ParseClusterError::Name)
    }
}

/// A text is none of a cluster's settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseClusterError {
    /// It is no URL of a NATS server.
    #[error("it is no URL of a NATS server")]
    Url,
    /// It has a user or a token in it.
    #[error("a user or a token has no place in the URL: cluster-bus-credentials names a file with them")]
    Credentials,
    /// It is no host with a port.
    #[error("it is no host with a port")]
    Address,
    /// It is no name.
    #[error("a name has from 1 to {MAX_NAME} of letters, digits, - and _")]
    Name,
}

impl Written for BusUrl {
    const FORM: &'static str = "URL";
    const ALLOWED: &'static str = "nats://HOST:PORT, or tls://HOST:PORT";
}

impl Written for NodeAddress {
    const FORM: &'static str = "HOST:PORT";
    const ALLOWED: &'static str =
        "a name or an IP address, and a port, such as 10.0.0.7:8089 or relay-1.internal:8089";
}

impl Written for ClusterName {
    const FORM: &'static str = "NAME";
    const ALLOWED: &'static str = "letters, digits, - and _";
}

impl Config {
    /// Returns whether the relay is one of several.
    #[must_use]
    pub const fn is_clustered(&self) -> bool {
        !self.cluster.is_empty()
    }

    /// Returns whether links between relays have TLS.
    #[must_use]
    pub const fn has_cluster_tls(&self) -> bool {
        self.cluster_tls_certificate.is_some()
    }

    /// Settings of the cluster that contradict each other, or that are missing.
    pub(super) fn cluster_contradiction(&self) -> Option<(&'static str, String)> {
        let wrong = |field, why: &str| Some((field, why.to_owned()));
        if !self.is_clustered() {
            let given = [
                ("cluster_secret", self.cluster_secret.is_some()),
                ("cluster_listen", self.cluster_listen.is_some()),
                ("cluster_address", self.cluster_address.is_some()),
            ];
            let (field, _) = given.into_iter().find(|(_, is_given)| *is_given)?;
            return wrong(
                field,
                "cluster has to be set too: the NATS servers by which relays find each other",
            );
        }
        self.cluster_fault()
    }

    #[cfg(not(feature = "cluster"))]
    #[allow(clippy::unused_self, reason = "a relay with the feature looks at the settings")]
    fn cluster_fault(&self) -> Option<(&'static str, String)> {
        Some(("cluster", WITHOUT_CLUSTER.to_owned()))
    }

    #[cfg(feature = "cluster")]
    fn cluster_fault(&self) -> Option<(&'static str, String)> {
        use tunnel_protocol::node::MIN_CLUSTER_SECRET;
        let wrong = |field, why: &str| Some((field, why.to_owned()));
        if self.livecode_credential.is_some() {
            let why = "the servers of the livecode dialect have numbers, which are one relay's own: a relay with a cluster can't speak it";
            return wrong("livecode_credential", why);
        }
        if self.node.is_empty() || self.node.len() > MAX_NAME {
            let why =
                format!("a relay of a cluster needs a name of 1 to {MAX_NAME} bytes that no other one has");
            return wrong("node", &why);
        }
        match &self.cluster_secret {
            None => return wrong("cluster_secret", "it has to be set too: relays prove it to each other"),
            Some(secret) if secret.0.len() < MIN_CLUSTER_SECRET => {
                let why = format!(
                    "it needs at least {MIN_CLUSTER_SECRET} bytes, the same at each relay: `openssl rand -base64 32` makes one"
                );
                return wrong("cluster_secret", &why);
            }
            Some(_) => {}
        }
        let Some(listen) = self.cluster_listen else {
            return wrong("cluster_listen", "it has to be set too: other relays bring their clients there");
        };
        if listen.port() != 0 && (listen == self.listen || Some(listen) == self.metrics_listen) {
            return wrong("cluster_listen", "it has to be another address than listen and metrics-listen");
        }
        if listen.ip().is_unspecified() && self.cluster_address.is_none() {
            let why = "it has to be set too: cluster-listen is all of this machine's addresses, and others dial one of them";
            return wrong("cluster_address", why);
        }
        let tls = [
            ("cluster_tls_certificate", self.cluster_tls_certificate.is_some()),
            ("cluster_tls_key", self.cluster_tls_key.is_some()),
        ];
        if let [(_, true), (missing, false)] | [(missing, false), (_, true)] = tls {
            return wrong(missing, "it has to be set too: a certificate goes with its key");
        }
        if self.has_cluster_tls() && self.cluster_plain == super::Switch::On {
            return wrong("cluster_plain", "links between relays have TLS or are plain: leave one out");
        }
        let is_exposed = !listen.ip().is_loopback() && !self.has_cluster_tls();
        if is_exposed && self.cluster_plain == super::Switch::Off {
            let why = "it is not an address of this machine alone, and the links to it have no TLS: set cluster-tls-certificate and \
                       cluster-tls-key, or cluster-plain = \"on\" if nobody else can read or change what is on that network";
            return wrong("cluster_listen", why);
        }
        (self.cluster_buffer < self.channel_buffer || self.cluster_buffer > self.total_buffer).then(|| {
            ("cluster_buffer", "it has to be at least channel-buffer, and at most total-buffer".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_bus_has_a_scheme_a_host_and_no_secret() {
        for (text, expected) in [
            ("nats://bus:4222", "nats://bus:4222"),
            ("nats://10.0.0.1", "nats://10.0.0.1:4222"),
            ("tls://bus.example.org/", "tls://bus.example.org:4222"),
            ("nats://[::1]:4223", "nats://[::1]:4223"),
        ] {
            assert_eq!(text.parse::<BusUrl>().unwrap().to_string(), expected);
        }
        for text in
            ["", "bus:4222", "http://bus", "nats://", "nats://a b", "nats://bus:0", "nats://bus:99999"]
        {
            assert!(text.parse::<BusUrl>().is_err(), "{text:?}");
        }
        assert_eq!("nats://a:b@bus".parse::<BusUrl>(), Err(ParseClusterError::Credentials));
    }

    fn refusal(settings: &[(&str, &str)]) -> Option<String> {
        let flags = settings.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        let sources = super::super::Sources { flags: flags.collect(), ..super::super::Sources::default() };
        super::super::load(&sources).err().map(|problems| problems.to_string())
    }

    #[cfg(not(feature = "cluster"))]
    #[test]
    fn a_relay_without_clusters_refuses_the_setting_and_says_what_to_do() {
        let said = refusal(&[("cluster", "nats://bus")]).unwrap();
        assert_eq!(said, format!("--cluster: {WITHOUT_CLUSTER}"));
    }

    #[test]
    fn settings_of_a_cluster_without_one_are_refused() {
        let secret = "a secret of 32 random characters";
        for setting in
            [("cluster-secret", secret), ("cluster-listen", "127.0.0.1:1"), ("cluster-address", "a:1")]
        {
            let said = refusal(&[setting]).unwrap();
            assert!(said.starts_with(&format!("--{}: cluster has to be set too", setting.0)), "{said}");
        }
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn what_a_cluster_needs_and_what_it_excludes_is_said() {
        let good = [
            ("cluster", "nats://bus"),
            ("node", "a"),
            ("cluster-secret", "a secret of 32 random characters"),
            ("cluster-listen", "127.0.0.1:8089"),
        ];
        assert_eq!(refusal(&good), None);
        for (name, _) in &good[1..] {
            let rest: Vec<_> = good.iter().filter(|(other, _)| other != name).copied().collect();
            let said = refusal(&rest).unwrap();
            assert!(said.starts_with(&format!("{name} (default): ")), "{said}");
        }
        for (name, value, message) in [
            (
                "livecode-credential",
                "a secret of 32 random characters",
                "--livecode-credential: the servers of the livecode dialect have numbers, which are one relay's own",
            ),
            ("cluster-secret", "sixteen letters.", "--cluster-secret: it needs at least 32 bytes"),
            ("cluster-listen", "0.0.0.0:8089", "cluster-address (default): it has to be set too"),
            (
                "cluster-listen",
                "10.0.0.1:8089",
                "--cluster-listen: it is not an address of this machine alone, and the links to it have no TLS",
            ),
            (
                "cluster-listen",
                "127.0.0.1:8087",
                "--cluster-listen: it has to be another address than listen",
            ),
            ("cluster-tls-key", "key.pem", "cluster-tls-certificate (default): it has to be set too"),
            ("cluster-buffer", "1KiB", "--cluster-buffer: it has to be at least channel-buffer"),
            ("node", &"x".repeat(65), "--node: a relay of a cluster needs a name of 1 to 64 bytes"),
        ] {
            let mut settings: Vec<_> = good.iter().filter(|(other, _)| *other != name).copied().collect();
            settings.push((name, value));
            let said = refusal(&settings).unwrap_or_default();
            assert!(said.starts_with(message), "{name} = {value}: {said}");
        }
        let both = [
            ("cluster-tls-key", "key.pem"),
            ("cluster-tls-certificate", "cert.pem"),
            ("cluster-plain", "on"),
        ];
        let said = refusal(&[&good[..], &both].concat()).unwrap();
        assert!(said.starts_with("--cluster-plain: links between relays have TLS or are plain"), "{said}");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["relay-1.internal:8089", "10.0.0.1:1", "[2001:db8::1]:8089"] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":1",
            "a",
            "a:",
            "a:0",
            "a:70000",
            "::1:80",
            "[x]:80",
            "a/b:80",
            &format!("{}:80", "a".repeat(255)),
        ] {
            assert!(text.parse::<NodeAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cluster_s_name_is_one_word() {
        assert!("tea-2_x".parse::<ClusterName>().is_ok());
        for text in ["", "a.b", "a b", "*", ">", "é", &"x".repeat(65)] {
            assert!(text.parse::<ClusterName>().is_err(), "{text:?}");
        }
    }
}
