//! What a page asks for, as `js/sockets.js` and `js/server.js` have checked it.

use crate::link::Relay;
use tunnel_protocol::endpoint::ConnectOptions;
use tunnel_protocol::time::Duration;

/// Where a client, or a server, wants to go.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) relay: Relay,
    pub(crate) server_id: &'a str,
    path: &'a str,
    protocols: &'a str,
}

impl<'a> Place<'a> {
    /// Reads what `toPlace` of `js/common.js` writes: lines, of which the last, the token, may have any character.
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut lines = text.splitn(6, '\n');
        let mut line = || lines.next().unwrap_or_default();
        let (url, host, server_id, path, protocols, token) = (line(), line(), line(), line(), line(), line());
        let relay = Relay { url: url.to_owned(), host: host.to_owned(), token: token.to_owned() };
        Self { relay, server_id, path, protocols }
    }

    /// How a client connects; its key is to be filled in. Times are milliseconds.
    pub(crate) fn connect_options(&self, resume: f64, absent: f64, allow_plain: bool) -> ConnectOptions {
        ConnectOptions {
            // No subprotocol contains a comma.
            protocols: self.protocols.split_terminator(',').map(str::to_owned).collect(),
            path: self.path.to_owned(),
            key: None,
            resume_timeout: milliseconds(resume),
            absent_timeout: milliseconds(absent),
            allow_plain,
        }
    }
}

/// The cast saturates: `Infinity` is some centuries.
fn milliseconds(milliseconds: f64) -> Duration {
    Duration::from_millis(milliseconds as u64)
}
