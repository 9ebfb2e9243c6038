//! The numbers and bytes that pass between the WebAssembly module that speaks the dialect and the main one.
//!
//! The second asks by a [command](LinkCommand), with two numbers and bytes; the answer is bytes, empty for nothing.

use crate::frame::{ChannelId, ChannelKind};
use crate::link::LinkEvent;
use crate::server_id::PublicKey;
use crate::{CloseCode, ServerId};
use bytes::Bytes;

macro_rules! link_commands {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A call of a [`Translator`](crate::endpoint::Translator), by its method's name. Of the numbers the first is a
        /// channel or a server, the second is a port, a close code, or the time in microseconds.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum LinkCommand {
            $($(#[$doc])* $name,)*
        }

        impl LinkCommand {
            /// The command of this number, which is `self as u8`.
            #[must_use]
            pub fn numbered(number: u8) -> Option<Self> {
                [$(Self::$name,)*].get(usize::from(number)).copied()
            }
        }
    };
}

link_commands! {
    /// With a key's 32 bytes, and behind them what `Installation` answered before.
    Register,
    /// Answered with the server's number and credential, as text.
    Installation,
    /// With server and port; answered with the channel, four bytes.
    Connect,
    /// With channel and message.
    Initiate,
    /// With channel and message.
    Respond,
    /// With channel and record.
    SendRecord,
    /// With channel and text.
    SendPlain,
    /// With channel, code and reason.
    Close,
    /// With time and text; answered with why the link has to end, as two bytes of code and the reason.
    HandleText,
    /// With the time; answered with the same.
    HandleTimeout,
    /// With the time; answered with a text.
    PollTransmit,
    /// Answered as [`encode_link_event`] writes it.
    PollEvent,
    /// Answered with the time, eight bytes.
    PollTimeout,
    /// With the channel; answered with something if it may.
    MaySend,
}

const READY: u8 = 0;
const REGISTERED: u8 = 1;
const INCOMING: u8 = 2;
const INCOMING_PLAIN: u8 = 3;
const SERVER_KEY: u8 = 4;
const ACCEPTED: u8 = 5;
const DATA: u8 = 6;
const CLOSED: u8 = 7;
const WRITABLE: u8 = 8;

/// Writes an event; `None` for those that a [`LivecodeLink`](super::LivecodeLink) doesn't have: the notice of a relay's end, and a
/// server that is known by its key. A text is cut at 65,535 bytes.
///
/// ```text
/// kind: u8 ‖ channel: u32 ‖ number: u32 ‖ text: u16 length and UTF-8 ‖ payload
/// ```
#[must_use]
pub fn encode_link_event(event: &LinkEvent) -> Option<Vec<u8>> {
    let none = ChannelId(0);
    let (kind, channel, number, text, payload) = match event {
        LinkEvent::Registered(ServerId::Number(number)) => (REGISTERED, none, *number, "", &[][..]),
        LinkEvent::Incoming { channel, port, kind, address, payload } => {
            let kind = if *kind == ChannelKind::Plain { INCOMING_PLAIN } else { INCOMING };
            (kind, *channel, u32::from(*port), address.as_str(), &payload[..])
        }
        LinkEvent::ServerKey { channel, key } => (SERVER_KEY, *channel, 0, "", &key.0[..]),
        LinkEvent::Accepted { channel, payload } => (ACCEPTED, *channel, 0, "", &payload[..]),
        LinkEvent::Data { channel, payload } => (DATA, *channel, 0, "", &payload[..]),
        LinkEvent::Closed { channel, code, reason } => {
            (CLOSED, *channel, u32::from(code.0), reason.as_str(), &[][..])
        }
        LinkEvent::Writable(channel) => (WRITABLE, *channel, 0, "", &[][..]),
        LinkEvent::Ready => (READY, none, 0, "", &[][..]),
        LinkEvent::Registered(ServerId::Key(_)) | LinkEvent::GoAway { .. } => return None,
    };
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    let mut bytes = vec![kind];
    bytes.extend(channel.0.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(payload);
    Some(bytes)
}

/// Bytes before the text.
const HEADER: usize = 11;

/// Reads what [`encode_link_event`] has written; `None` for anything else.
#[must_use]
pub fn decode_link_event(mut bytes: Bytes) -> Option<LinkEvent> {
    let [kind, c0, c1, c2, c3, n0, n1, n2, n3, l0, l1] = *bytes.first_chunk::<HEADER>()?;
    let channel = ChannelId(u32::from_be_bytes([c0, c1, c2, c3]));
    let number = u32::from_be_bytes([n0, n1, n2, n3]);
    let end = HEADER + usize::from(u16::from_be_bytes([l0, l1]));
    let text = String::from_utf8_lossy(bytes.get(HEADER..end)?).into_owned();
    let payload = bytes.split_off(end);
    Some(match kind {
        READY => LinkEvent::Ready,
        REGISTERED => LinkEvent::Registered(ServerId::Number(number)),
        INCOMING | INCOMING_PLAIN => {
            let kind = if kind == INCOMING { ChannelKind::Session } else { ChannelKind::Plain };
            LinkEvent::Incoming { channel, port: number as u16, kind, address: text, payload }
        }
        SERVER_KEY => LinkEvent::ServerKey { channel, key: PublicKey(payload[..].try_into().ok()?) },
        ACCEPTED => LinkEvent::Accepted { channel, payload },
        DATA => LinkEvent::Data { channel, payload },
        CLOSED => LinkEvent::Closed { channel, code: CloseCode(number as u16), reason: text },
        WRITABLE => LinkEvent::Writable(channel),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = LinkEvent> {
        let payload = || proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let channel = || any::<u32>().prop_map(ChannelId);
        prop_oneof![
            Just(LinkEvent::Ready),
            any::<u32>().prop_map(|number| LinkEvent::Registered(ServerId::Number(number))),
            (channel(), any::<u16>(), any::<bool>(), any::<String>(), payload()).prop_map(
                |(channel, port, plain, address, payload)| {
                    let kind = if plain { ChannelKind::Plain } else { ChannelKind::Session };
                    LinkEvent::Incoming { channel, port, kind, address, payload }
                }
            ),
            (channel(), any::<[u8; 32]>())
                .prop_map(|(channel, key)| LinkEvent::ServerKey { channel, key: PublicKey(key) }),
            (channel(), payload()).prop_map(|(channel, payload)| LinkEvent::Accepted { channel, payload }),
            (channel(), payload()).prop_map(|(channel, payload)| LinkEvent::Data { channel, payload }),
            (channel(), any::<u16>(), any::<String>()).prop_map(|(channel, code, reason)| {
                LinkEvent::Closed { channel, code: CloseCode(code), reason }
            }),
            channel().prop_map(LinkEvent::Writable),
        ]
    }

    proptest! {
        #[test]
        fn an_event_is_the_same_on_the_other_side(event in events()) {
            prop_assert_eq!(decode_link_event(encode_link_event(&event).unwrap().into()), Some(event));
        }

        #[test]
        fn other_bytes_are_refused_or_read_but_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_link_event(bytes.into());
        }
    }

    #[test]
    fn a_command_is_found_by_its_number() {
        for number in 0..14 {
            assert_eq!(LinkCommand::numbered(number).unwrap() as u8, number);
        }
        assert_eq!(LinkCommand::numbered(14), None);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let reason = "ü".repeat(40_000);
        let closed = |reason| LinkEvent::Closed { channel: ChannelId(1), code: CloseCode(1000), reason };
        let decoded = decode_link_event(encode_link_event(&closed(reason)).unwrap().into());
        assert_eq!(decoded, Some(closed("ü".repeat(32_767))));
    }

    #[test]
    fn the_form_is_the_documented_one() {
        let event = LinkEvent::Data { channel: ChannelId(258), payload: Bytes::from_static(b"abc") };
        assert_eq!(encode_link_event(&event).unwrap(), b"\x06\0\0\x01\x02\0\0\0\0\0\0abc");
    }
}
