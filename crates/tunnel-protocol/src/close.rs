//! Close codes: the WebSocket protocol's own and those of the tunnel.

use std::fmt;

/// The reason for the end of a channel, a link or a session: a WebSocket close code (RFC 6455, section 7.4).
///
/// The tunnel's own codes lie in 3700 to 3799, within the range that the RFC leaves to libraries, so that they never
/// collide with an application's (4000 to 4999).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(pub u16);

/// One row of the table of codes, which docs and TypeScript's types are made of.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// The close code, if there is one.
    pub code: Option<CloseCode>,
    /// The stable name, as in a `TunnelError`'s `code`.
    pub name: &'static str,
    /// The event.
    pub meaning: &'static str,
    /// The operation.
    pub remedy: &'static str,
    /// The use of another attempt.
    pub again: Again,
}

/// The use of doing the same once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Again {
    /// It is likely to work.
    Yes,
    /// It may work when something elsewhere has changed: with pauses that grow.
    Later,
    /// It ends in the same way, or nothing is left to do.
    No,
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])* $constant:ident = $code:literal, $name:literal, $again:ident, $remedy:literal;)*) => {
        impl CloseCode {
            $($(#[doc = $doc])* pub const $constant: Self = Self($code);)*

            /// All codes with a name.
            pub const TABLE: &[Described] = &[$(Described {
                code: Some(Self($code)),
                name: $name,
                meaning: concat!($($doc),*),
                remedy: $remedy,
                again: Again::$again,
            }),*];

            /// The stable name of the code, as in a `TunnelError`'s `code`; `None` for codes without one.
            // Once in a page, not in each function that asks.
            #[must_use]
            #[inline(never)]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

close_codes! {
    /// The purpose has been fulfilled.
    NORMAL = 1000, "normal", No,
        "Nothing.";
    /// A tab closes, a page navigates away, a server is closed.
    GOING_AWAY = 1001, "going-away", Later,
        "Connect again when the server is back; the option `redial` does so.";
    /// The peer broke the protocol.
    PROTOCOL_ERROR = 1002, "protocol-error", No,
        "Look for different versions of the package in the two pages, or report a bug.";
    /// A close without a code; never on the wire.
    NO_STATUS = 1005, "no-status", No,
        "Nothing.";
    /// Ended without a close; never on the wire.
    ABNORMAL = 1006, "abnormal", Yes,
        "Connect again. With the option `resumeTimeout: 0` any lost connection ends like this.";
    /// A limit of the relay was exceeded, or its policy forbids it.
    POLICY = 1008, "policy", No,
        "Ask the operator of the relay; its log names the limit.";
    /// A message is larger than the receiver takes.
    TOO_BIG = 1009, "too-big", No,
        "Send less in one message, or raise `maxMessageSize` of the receiver.";
    /// The relay or the peer failed.
    INTERNAL = 1011, "internal", Later,
        "Look at the other side's console, or the relay's log.";
    /// The relay has no room now.
    TRY_AGAIN_LATER = 1013, "try-again-later", Later,
        "Try again later; a server may raise `maxClients`.";
    /// Another link proved possession of the same key more recently.
    ID_TAKEN_OVER = 3700, "id-taken-over", No,
        "Host under one `identity` in one page at a time. Where nothing locks (an insecure context) use `https:`.";
    /// No server is registered under the server ID.
    SERVER_NOT_FOUND = 3701, "server-not-found", Later,
        "Check the server ID, and whether its page is open. `absentTimeout` is how long an open socket waits for it.";
    /// The server does not listen on the port.
    PORT_CLOSED = 3702, "port-closed", No,
        "Have the server `listen` on the port.";
    /// The server's application refused the connection.
    REFUSED = 3703, "refused", No,
        "The server's `accept`, its subprotocols or the relay turned the client away: the message says which.";
    /// The session could not be resumed in time.
    EXPIRED = 3704, "timeout", Yes,
        "Connect again; raise `resumeTimeout` if pages should survive longer cuts.";
    /// The peer no longer has the session: its page was reloaded or crashed.
    PEER_RELOADED = 3705, "peer-reloaded", Yes,
        "Connect again; the option `redial` does so.";
    /// The receiver or the relay ran out of the memory set aside for this channel.
    OVERFLOW = 3706, "overflow", Yes,
        "Send more slowly (`bufferedAmount`), read what arrives, and take what `unacknowledged()` hands back.";
    /// The relay wants an access token, and the one given is missing, wrong or expired, or does not allow this.
    BAD_CREDENTIAL = 3707, "bad-credential", No,
        "Give the option `token` a token that the relay knows; a function for tokens that expire.";
    /// The relay is being shut down or restarted.
    DRAINING = 3708, "draining", Later,
        "Nothing: open sockets move to the next relay by themselves. Connect again if one was not open yet.";
    /// A step of the handshake did not come in time.
    TIMEOUT = 3709, "timeout", Yes,
        "Try again; look for a page that is frozen or very busy.";
    /// The handshake failed: the peer does not hold the key that it should.
    HANDSHAKE_FAILED = 3710, "handshake-failed", No,
        "Check the server ID. If it is right, somebody in the middle pretends to be the server.";
    /// The other peer's link to the relay is gone.
    PEER_GONE = 3711, "peer-gone", Later,
        "Connect again.";
    /// The relay can't be reached.
    RELAY_UNREACHABLE = 3712, "relay-unreachable", Later,
        "The message says what is known: a relay that does not run, an origin that it does not allow, a wrong scheme, a Content Security Policy without it in `connect-src`, the application's own `token` that failed.";
    /// The application gave up: through `abort()`, an `AbortSignal` or a close while connecting.
    ABORTED = 3713, "aborted", No,
        "Nothing: the application of this side or of the other one wanted it.";
    /// The relay speaks the livecode dialect, which the application did not ask for.
    LIVECODE_RELAY = 3714, "livecode-relay", No,
        "Use a relay that speaks `tunnel.v1`, or the option `livecode`, where servers prove nothing.";
}

/// The errors of the browser library that have no close code.
pub const LIBRARY_ERRORS: &[Described] = &[
    Described {
        code: None,
        name: "bad-server-id",
        meaning: "The text is no server ID.",
        remedy: "Copy the 56 characters again; the message says what is wrong with them.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "build-mismatch",
        meaning: "The package's JavaScript and WebAssembly are of two builds.",
        remedy: "Load both from one copy of the package, and look for a cache that has one of another version.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "closed",
        meaning: "The socket or server has been closed, perhaps with a code of the application.",
        remedy: "`closeCode` and `reason` have what was said.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "identity-in-use",
        meaning: "Another page, or another server of this page, is under the `identity`.",
        remedy: "Use that server, or close it first: the second waits 3 seconds for that.",
        again: Again::Later,
    },
    Described {
        code: None,
        name: "instruction-threw",
        meaning: "An instruction of the relay ended with an error, or was stopped at a limit.",
        remedy: "`cause` has its name, message and place; change the instruction, or what it is given.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "livecode-unavailable",
        meaning: "The module that speaks the livecode dialect can't be loaded.",
        remedy: "A service worker imports `tunnel-wasm/livecode` and gives it to `useLivecode`.",
        again: Again::Later,
    },
    Described {
        code: None,
        name: "no-identity",
        meaning: "A key can't be kept here: the page's storage is denied, or there is none.",
        remedy: "Do without `identity` there.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "no-such-channel",
        meaning: "The server has no open socket of that number.",
        remedy: "Look among `server.clients`.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "not-initialised",
        meaning: "A class was used before the module was loaded.",
        remedy: "`await init()`, the package's default export, first.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "port-taken",
        meaning: "Another listener of the server has the port.",
        remedy: "Close that `Listener` first.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "rejected",
        meaning: "The livecoding server has no such instruction.",
        remedy: "Send the instruction again.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "source",
        meaning: "A source of an instruction does not compile; nothing was changed.",
        remedy: "`cause` has the line and the column.",
        again: Again::No,
    },
    Described {
        code: None,
        name: "unsupported",
        meaning: "The livecoding server is one of 2017, or runs no programs.",
        remedy: "Look at `capabilities` first; on a relay of ours, `livecode-programs` turns it on.",
        again: Again::No,
    },
];

impl CloseCode {
    /// Returns whether the code may be passed to `close()` by an application: 1000, or 3000 to 4999.
    #[must_use]
    pub const fn is_for_applications(self) -> bool {
        matches!(self.0, 1000 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Longest close reason, in bytes of UTF-8: a WebSocket control frame holds 125 bytes, two of them the code.
pub const MAX_REASON: usize = 123;

/// The longest prefix of `reason` that fits into [`MAX_REASON`] bytes and ends between words; between characters if the
/// last word is longer than half of that.
#[must_use]
pub fn truncate_reason(reason: &str) -> &str {
    if reason.len() <= MAX_REASON {
        return reason;
    }
    let mut end = MAX_REASON;
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    // The space may be the first byte that does not fit.
    match reason.as_bytes()[..=end].iter().rposition(|&byte| byte == b' ') {
        Some(space) if space > MAX_REASON / 2 => &reason[..space],
        _ => &reason[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(truncate_reason("short"), "short");
        assert_eq!(truncate_reason(&"a".repeat(200)).len(), 123);
        assert_eq!(truncate_reason(&"ü".repeat(200)).len(), 122);
    }

    #[test]
    fn a_long_reason_is_cut_between_words() {
        assert_eq!(truncate_reason(&"relay ".repeat(40)), "relay ".repeat(20).trim_end());
        let exact = "a".repeat(MAX_REASON);
        assert_eq!(truncate_reason(&(exact.clone() + " b")), exact, "the word that just fits stays");
        assert_eq!(
            truncate_reason(&("a ".to_owned() + &"b".repeat(200))).len(),
            MAX_REASON,
            "a long word is cut"
        );
    }

    #[test]
    fn applications_may_use_1000_and_3000_to_4999_only() {
        for (code, allowed) in [
            (999, false),
            (1000, true),
            (1001, false),
            (2999, false),
            (3000, true),
            (4999, true),
            (5000, false),
        ] {
            assert_eq!(CloseCode(code).is_for_applications(), allowed, "{code}");
        }
    }
}
