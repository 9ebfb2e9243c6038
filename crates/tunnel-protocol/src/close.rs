//! Close codes: the WebSocket protocol's own and those of the tunnel.

use std::fmt;

/// The reason for the end of a channel, a link or a session: a WebSocket close code (RFC 6455, section 7.4).
///
/// The tunnel's own codes lie in 3700 to 3799, within the range that the RFC leaves to libraries, so that they never
/// collide with an application's (4000 to 4999).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(pub u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $constant: Self = Self($code);)*

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
    NORMAL = 1000, "normal";
    /// A tab closes, a page navigates away, a server is closed.
    GOING_AWAY = 1001, "going-away";
    /// The peer broke the protocol.
    PROTOCOL_ERROR = 1002, "protocol-error";
    /// A close without a code; never on the wire.
    NO_STATUS = 1005, "no-status";
    /// Ended without a close; never on the wire.
    ABNORMAL = 1006, "abnormal";
    /// A limit of the relay was exceeded, or its policy forbids it.
    POLICY = 1008, "policy";
    /// A message is larger than the receiver takes.
    TOO_BIG = 1009, "too-big";
    /// The relay or the peer failed.
    INTERNAL = 1011, "internal";
    /// The relay has no room now.
    TRY_AGAIN_LATER = 1013, "try-again-later";
    /// Another link proved possession of the same key more recently.
    ID_TAKEN_OVER = 3700, "id-taken-over";
    /// No server is registered under the server ID.
    SERVER_NOT_FOUND = 3701, "server-not-found";
    /// The server does not listen on the port.
    PORT_CLOSED = 3702, "port-closed";
    /// The server's application refused the connection.
    REFUSED = 3703, "refused";
    /// The session could not be resumed in time.
    EXPIRED = 3704, "timeout";
    /// The peer no longer has the session: its page was reloaded or crashed.
    PEER_RELOADED = 3705, "peer-reloaded";
    /// The receiver or the relay ran out of the memory set aside for this channel.
    OVERFLOW = 3706, "overflow";
    /// The relay wants an access token, and the one given is missing, wrong or expired, or does not allow this.
    BAD_CREDENTIAL = 3707, "bad-credential";
    /// The relay is being shut down or restarted.
    DRAINING = 3708, "draining";
    /// A step of the handshake did not come in time.
    TIMEOUT = 3709, "timeout";
    /// The handshake failed: the peer does not hold the key that it should.
    HANDSHAKE_FAILED = 3710, "handshake-failed";
    /// The other peer's link to the relay is gone.
    PEER_GONE = 3711, "peer-gone";
    /// The relay can't be reached.
    RELAY_UNREACHABLE = 3712, "relay-unreachable";
    /// The application gave up: through `abort()`, an `AbortSignal` or a close while connecting.
    ABORTED = 3713, "aborted";
    /// The relay speaks the livecode dialect, which the application did not ask for.
    LIVECODE_RELAY = 3714, "livecode-relay";
}

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
