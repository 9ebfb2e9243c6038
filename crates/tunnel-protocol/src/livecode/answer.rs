//! The texts of a livecoding relay: the lines of its answers, and notifications about a channel's other side.

use super::DELIMITER;
use crate::ServerId;
use std::fmt;

/// The beginning of every line of the relay's own. Texts that instructions send have no such prefix.
const SERVER: &str = "server: ";

/// The beginning of its answer to a text that is no command; the text follows.
const MALFORMED: &str = "rejected malformed command";

/// The bytes of a peer's text that the relay repeats at most: enough for every name, too few to flood a log.
const MAX_ECHO: usize = 256;

/// One line of an answer, as a text message: `to_string()` is the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line<'a> {
    /// A command has come; the first line of every answer but [`Malformed`](Self::Malformed).
    Received(&'a str),
    /// An instruction of this name is added; the answer's last line.
    Adding(&'a str),
    /// The added instruction of this name runs. What it sends comes next, then [`Returned`](Self::Returned).
    Evaluating(&'a str),
    /// The value that the instruction returned; the answer's last line.
    Returned(&'a str),
    /// No instruction of this name was added, or it takes a credential; the answer's last line.
    Rejected(&'a str),
    /// This text is no command; the answer's only line.
    Malformed(&'a str),
    /// Source is evaluated; the answer's last line. (The original is spelt like that.)
    EvaluatingSource,
    /// A package is being installed; the answer's last line.
    Requiring(&'a str),
    /// A JSON array of the modules comes next, and ends the answer.
    EnumeratingModules,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received(name) => write!(f, "{SERVER}received command '{}'", echo(name)),
            Self::Adding(name) => write!(f, "{SERVER}adding instruction '{}'", echo(name)),
            Self::Evaluating(name) => write!(f, "{SERVER}evaluating added instruction '{}'", echo(name)),
            Self::Returned(value) => write!(f, "{SERVER}{value}"),
            Self::Rejected(name) => write!(f, "{SERVER}rejected command '{}'", echo(name)),
            Self::Malformed(text) => write!(f, "{SERVER}{MALFORMED}{}", echo(text)),
            Self::EvaluatingSource => write!(f, "{SERVER}evaluting code"),
            Self::Requiring(package) => write!(f, "{SERVER}received require for {}", echo(package)),
            Self::EnumeratingModules => write!(f, "{SERVER}enumerating modules"),
        }
    }
}

fn echo(text: &str) -> &str {
    let mut end = text.len().min(MAX_ECHO);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl<'a> Line<'a> {
    /// Returns the relay's line in this text; `None` if the text is not the relay's.
    ///
    /// A [`Returned`](Self::Returned) can look like any other line: only what came before tells.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let line = text.strip_prefix(SERVER)?;
        let quoted = |start| line.strip_prefix(start).and_then(|rest: &str| rest.strip_suffix('\''));
        Some(if let Some(name) = quoted("received command '") {
            Self::Received(name)
        } else if let Some(name) = quoted("adding instruction '") {
            Self::Adding(name)
        } else if let Some(name) = quoted("evaluating added instruction '") {
            Self::Evaluating(name)
        } else if let Some(name) = quoted("rejected command '") {
            Self::Rejected(name)
        } else if let Some(text) = line.strip_prefix(MALFORMED) {
            Self::Malformed(text)
        } else if line == "evaluting code" {
            Self::EvaluatingSource
        } else if let Some(package) = line.strip_prefix("received require for ") {
            Self::Requiring(package)
        } else if line == "enumerating modules" {
            Self::EnumeratingModules
        } else {
            Self::Returned(line)
        })
    }

    /// Returns whether a text can be the answer to a frame: what tells that the relay speaks this dialect and no other.
    #[must_use]
    pub fn is_refusal_of_hello(text: &str) -> bool {
        text.strip_prefix(SERVER).is_some_and(|line| line.starts_with(MALFORMED))
    }

    /// A line of the relay's, without the prefix that tells that it is the relay's.
    pub(super) fn parse_words(text: &str) -> &str {
        text.strip_prefix(SERVER).unwrap_or(text)
    }

    /// The answer of `create server credential`: `"<serverID> <credential>"`, always with a space.
    #[must_use]
    pub fn server_credential(server: u32, credential: &str) -> String {
        format!("{server} {credential}")
    }

    /// Reads the answer of `create server credential`.
    #[must_use]
    pub fn parse_server_credential(text: &str) -> Option<(u32, &str)> {
        let (server, credential) = text.split_once(' ')?;
        match server.parse() {
            Ok(ServerId::Number(server)) => Some((server, credential)),
            _ => None,
        }
    }
}

/// A message about the other side of a channel, which a peer gets unasked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notification<'a> {
    /// To a server: a client has connected.
    Connected {
        /// The client's channel.
        channel: u32,
        /// The port that it wants.
        port: u16,
        /// Its address as the relay sees it.
        address: &'a str,
    },
    /// To either: data from the other side.
    Data {
        /// The number of the client's channel, at a server; the server ID, at a client.
        ///
        /// The wire of 2017 has numbers only; our relay also forwards from servers that are known by their keys.
        from: ServerId,
        /// The data.
        data: &'a str,
    },
}

const CONNECTED: &str = "connected:atPort:for: ";
const DATA: &str = "from:data: ";

impl<'a> Notification<'a> {
    /// The notification as text.
    #[must_use]
    pub fn encode(&self, delimiter: &str) -> String {
        match self {
            Self::Connected { channel, port, address } => {
                format!("{CONNECTED}{channel}{delimiter}{port}{delimiter}{address}")
            }
            Self::Data { from, data } => format!("{DATA}{from}{delimiter}{data}"),
        }
    }

    /// Reads a notification, split at the first delimiters only; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &'a str, delimiter: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(CONNECTED) {
            let (channel, rest) = rest.split_once(delimiter)?;
            let (port, address) = rest.split_once(delimiter)?;
            Some(Self::Connected { channel: channel.parse().ok()?, port: port.parse().ok()?, address })
        } else {
            let (from, data) = text.strip_prefix(DATA)?.split_once(delimiter)?;
            Some(Self::Data { from: sender(from)?, data })
        }
    }

    /// Returns whether a text begins as a notification does, whatever the delimiter.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(CONNECTED) || text.starts_with(DATA)
    }

    /// The delimiter that another configurer chose, seen in a notification: what stands between the numbers, or
    /// between the number and a [packet](super::Packet). `None` if the text does not tell.
    #[must_use]
    pub fn delimiter_in(text: &'a str) -> Option<&'a str> {
        let number = |text: &'a str| text.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if let Some(numbers) = text.strip_prefix(CONNECTED) {
            let rest = number(numbers);
            let delimiter = &rest[..rest.find(|digit: char| digit.is_ascii_digit())?];
            (rest.len() < numbers.len() && number(&rest[delimiter.len()..]).starts_with(delimiter))
                .then_some(delimiter)
        } else {
            let sender = text.strip_prefix(DATA)?;
            let rest = number(sender);
            rest.find(super::MARKER).filter(|_| rest.len() < sender.len()).map(|end| &rest[..end])
        }
        .filter(|delimiter| !delimiter.is_empty() && delimiter.len() <= MAX_DELIMITER)
    }
}

/// Reads a channel's number, of which there are more than of servers, or a server ID.
fn sender(text: &str) -> Option<ServerId> {
    text.parse().map(ServerId::Number).ok().or_else(|| text.parse().ok())
}

/// Longest delimiter that is recognised, in bytes.
const MAX_DELIMITER: usize = 64;

impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode(DELIMITER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server_id::PublicKey;
    use proptest::prelude::*;

    #[test]
    fn each_line_has_the_words_of_the_original() {
        for (line, text) in [
            (Line::Received("eval"), "server: received command 'eval'"),
            (Line::Adding("initialize"), "server: adding instruction 'initialize'"),
            (Line::Evaluating("initialize"), "server: evaluating added instruction 'initialize'"),
            (Line::Returned("1"), "server: 1"),
            (Line::Returned(""), "server: "),
            (Line::Rejected("x"), "server: rejected command 'x'"),
            (Line::Malformed("null"), "server: rejected malformed commandnull"),
            (Line::EvaluatingSource, "server: evaluting code"),
            (Line::Requiring("ws"), "server: received require for ws"),
            (Line::EnumeratingModules, "server: enumerating modules"),
        ] {
            assert_eq!(line.to_string(), text);
            assert_eq!(Line::parse(text), Some(line));
        }
        assert_eq!(Line::parse("1"), None);
        assert_eq!(Line::parse("from:data: 1 server: x"), None);
    }

    #[test]
    fn a_long_name_is_not_repeated_in_full() {
        let line = Line::Rejected(&"ü".repeat(1_000)).to_string();
        assert_eq!(line, format!("server: rejected command '{}'", "ü".repeat(128)));
    }

    #[test]
    fn each_notification_has_one_text() {
        for (notification, delimiter, text) in [
            (
                Notification::Connected { channel: 2, port: 1337, address: "::1" },
                " ",
                "connected:atPort:for: 2 1337 ::1",
            ),
            (
                Notification::Connected { channel: 2, port: 0, address: "a||b" },
                "||",
                "connected:atPort:for: 2||0||a||b",
            ),
            (Notification::Data { from: 7.into(), data: "a b c" }, " ", "from:data: 7 a b c"),
            (Notification::Data { from: 7.into(), data: "" }, " ", "from:data: 7 "),
        ] {
            assert_eq!(notification.encode(delimiter), text);
            assert_eq!(Notification::parse(text, delimiter), Some(notification));
        }
    }

    #[test]
    fn what_is_no_notification_is_none() {
        for text in [
            "",
            "1",
            "server: 1",
            "from:data:",
            "from:data: ",
            "from:data: 1",
            "from:data: x y",
            "from:data: -1 y",
            "connected:atPort:for: 1 2",
            "connected:atPort:for: 1 65536 ::1",
            "connected:atPort:for: 4294967296 1 ::1",
        ] {
            assert_eq!(Notification::parse(text, " "), None, "{text:?}");
        }
    }

    #[test]
    fn another_configurers_delimiter_is_seen_in_a_notification() {
        for (text, delimiter) in [
            ("connected:atPort:for: 1~2~::1", Some("~")),
            ("connected:atPort:for: 1<>2<>", Some("<>")),
            ("connected:atPort:for: 1~2", None),
            ("connected:atPort:for: ~2~::1", None),
            ("connected:atPort:for: 12", None),
            ("from:data: 1, tunnel.v1:AA", Some(", ")),
            ("from:data: 1tunnel.v1:AA", None),
            ("from:data: 1~hello", None),
            ("from:data: tunnel.v1:AA", None),
            ("from:data: x tunnel.v1:AA", None),
            ("hello", None),
        ] {
            assert_eq!(Notification::delimiter_in(text), delimiter, "{text:?}");
        }
    }

    #[test]
    fn a_server_credential_reads_back() {
        assert_eq!(Line::server_credential(4, "a1"), "4 a1");
        assert_eq!(Line::parse_server_credential("4 a1"), Some((4, "a1")));
        assert_eq!(Line::parse_server_credential("4"), None);
        assert_eq!(Line::parse_server_credential("a1 4"), None);
    }

    proptest! {
        #[test]
        fn data_reads_back_whatever_it_is(from: u32, key: Option<[u8; 32]>, data in "(?s:.*)", delimiter in " |\\|\\||~|<->") {
            let from = key.map_or(ServerId::Number(from), |key| ServerId::Key(PublicKey(key)));
            let notification = Notification::Data { from, data: &data };
            let text = notification.encode(&delimiter);
            prop_assert!(Notification::is_one(&text));
            prop_assert_eq!(Notification::parse(&text, &delimiter), Some(notification));
        }

        #[test]
        fn a_seen_delimiter_is_the_one_used(channel: u32, port: u16, delimiter in "[^0-9]{1,4}", address: String) {
            let text = Notification::Connected { channel, port, address: &address }.encode(&delimiter);
            prop_assert_eq!(Notification::delimiter_in(&text), Some(delimiter.as_str()));
        }

        #[test]
        fn any_text_is_read_without_harm(text in "(server: |from:data: |connected:atPort:for: )?[0-9]{0,3}\\PC*") {
            let _ = (Line::parse(&text), Notification::parse(&text, DELIMITER), Notification::delimiter_in(&text));
        }
    }
}
