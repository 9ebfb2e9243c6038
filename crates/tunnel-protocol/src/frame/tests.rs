//! Each frame with its bytes, and frames that have to be refused.

use super::*;
use proptest::prelude::*;

/// One row for each frame, as in `docs/PROTOCOL.md`: changing a row is changing the protocol.
fn table() -> Vec<(Frame, &'static str)> {
    let key = PublicKey([0x11; 32]);
    let channel = ChannelId(7);
    vec![
        (
            Frame::Hello { min_version: 1, max_version: 2, features: 5, token: "key".into() },
            "81 00000000 0001 0002 00000005 0003 6b6579",
        ),
        (
            Frame::Welcome(Box::new(Welcome {
                version: 1,
                features: 0,
                max_frame: 60_000,
                max_channels: 1_024,
                channel_buffer: 1 << 20,
                idle_timeout: Duration::from_secs(60),
                challenge: key,
                address: "192.0.2.1:9".into(),
                node: "a".into(),
            })),
            "82 00000000 0001 00000000 0000ea60 00000400 00100000 0000ea60 \
             1111111111111111111111111111111111111111111111111111111111111111 \
             0b 3139322e302e322e313a39 01 61",
        ),
        (
            Frame::Register { key, proof: [0x22; 32], url: "ws://a/".into() },
            "83 00000000 \
             1111111111111111111111111111111111111111111111111111111111111111 \
             2222222222222222222222222222222222222222222222222222222222222222 \
             0007 77733a2f2f612f",
        ),
        (
            Frame::Registered { server_id: ServerId::Key(key) },
            "84 00000000 38 \
             63656972636569726365697263656972636569726365697263656972 \
             63656972636569726365697263656972636569726365697a776f7962",
        ),
        (
            Frame::Connect {
                channel,
                server_id: ServerId::Number(12),
                port: 1_337,
                kind: ChannelKind::Plain,
                payload: Bytes::from_static(&[1, 2, 3]),
            },
            "85 00000007 02 3132 0539 01 010203",
        ),
        (
            Frame::Incoming {
                channel: ChannelId(8),
                port: 1_337,
                kind: ChannelKind::Session,
                address: "192.0.2.1:9".into(),
                payload: Bytes::from_static(&[1, 2, 3]),
            },
            "86 00000008 0539 00 0b 3139322e302e322e313a39 010203",
        ),
        (
            Frame::Incoming {
                channel: ChannelId(8),
                port: 1_337,
                kind: ChannelKind::Unknown(2),
                address: "192.0.2.1:9".into(),
                payload: Bytes::new(),
            },
            "86 00000008 0539 02 0b 3139322e302e322e313a39",
        ),
        (Frame::Accept { channel, payload: Bytes::from_static(&[4, 5]) }, "87 00000007 0405"),
        (Frame::Data { channel, payload: Bytes::from_static(&[6]) }, "88 00000007 06"),
        (
            Frame::Close { channel, code: CloseCode::PEER_GONE, reason: "gone".into() },
            "89 00000007 0e7f 04 676f6e65",
        ),
        (
            Frame::Close { channel: ChannelId::LINK, code: CloseCode::ID_TAKEN_OVER, reason: String::new() },
            "89 00000000 0e74 00",
        ),
        (Frame::Pause { channel }, "8a 00000007"),
        (Frame::Resume { channel }, "8b 00000007"),
        (Frame::Ping { nonce: 0x0102_0304_0506_0708 }, "0c 00000000 0102030405060708"),
        (Frame::Pong { nonce: 0x0102_0304_0506_0708 }, "0d 00000000 0102030405060708"),
        (Frame::GoAway { deadline: Duration::from_secs(5) }, "0e 00000000 00001388"),
        (Frame::Error { code: CloseCode::PROTOCOL_ERROR, text: "no".into() }, "8f 00000000 03ea 02 6e6f"),
    ]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn every_frame_has_its_bytes() {
    for (frame, hex) in table() {
        assert_eq!(frame.encode(), bytes(hex), "{frame:?}");
        assert_eq!(Frame::decode(bytes(hex).into()), Ok(Some(frame)), "{hex}");
    }
}

#[test]
fn every_frame_is_in_the_table_and_in_the_protocol_document() {
    let document = include_str!("../../../../docs/PROTOCOL.md");
    let normal = |text: &str| text.split_whitespace().collect::<String>();
    let document = normal(document);
    let mut names: Vec<_> = table().iter().map(|(frame, _)| frame.name()).collect();
    names.dedup();
    assert_eq!(names.len(), 15);
    for (frame, hex) in table() {
        assert!(document.contains(&normal(hex)), "{} is missing: {hex}", frame.name());
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_an_error_or_has_a_shorter_payload() {
    for (frame, hex) in table() {
        let whole = Bytes::from(bytes(hex));
        for len in 0..whole.len() {
            match Frame::decode(whole.slice(..len)) {
                Err(DecodeError::Truncated { .. }) => {}
                Ok(Some(
                    Frame::Connect { .. }
                    | Frame::Incoming { .. }
                    | Frame::Accept { .. }
                    | Frame::Data { .. },
                )) => {}
                other => panic!("{} cut to {len} bytes: {other:?}", frame.name()),
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_field_are_an_error() {
    for (frame, hex) in table() {
        let mut longer = bytes(hex);
        longer.push(0);
        let decoded = Frame::decode(longer.into());
        match frame {
            Frame::Connect { .. } | Frame::Incoming { .. } | Frame::Accept { .. } | Frame::Data { .. } => {
                assert!(matches!(decoded, Ok(Some(_))), "{} ends with its payload", frame.name());
            }
            _ => assert_eq!(decoded, Err(DecodeError::TrailingBytes { len: 1 }), "{}", frame.name()),
        }
    }
}

#[test]
fn what_is_about_a_channel_names_one_and_what_is_about_the_link_names_none() {
    for (frame, hex) in table() {
        let mut message = bytes(hex);
        let other = if frame.channel() == ChannelId::LINK { ChannelId(7) } else { ChannelId::LINK };
        restamp(&mut message, other);
        let decoded = Frame::decode(message.into());
        if matches!(frame, Frame::Close { .. }) {
            assert!(decoded.is_ok(), "CLOSE may be about either");
        } else {
            assert_eq!(decoded, Err(DecodeError::InvalidValue { field: "channel" }), "{}", frame.name());
        }
    }
}

#[test]
fn values_that_are_not_allowed_are_named() {
    let rows = [
        ("81 00000000 0002 0001 00000000 0000", "max_version"),
        ("81 00000000 0001 0001 00000000 0401", "token"),
        (
            "82 00000000 0001 00000000 00001fff 00000400 00100000 0000ea60 \
             1111111111111111111111111111111111111111111111111111111111111111 00 00",
            "max_frame",
        ),
        ("84 00000000 01 78", "server_id"),
        ("85 00000007 00 0539 00", "server_id"),
    ];
    for (hex, field) in rows {
        assert_eq!(Frame::decode(bytes(hex).into()), Err(DecodeError::InvalidValue { field }), "{hex}");
    }
}

#[test]
fn a_text_that_is_not_utf_8_is_an_error() {
    let frame = bytes("89 00000007 03e8 01 ff");
    assert_eq!(Frame::decode(frame.into()), Err(DecodeError::InvalidUtf8 { field: "reason" }));
}

#[test]
fn unknown_types_are_skipped_unless_they_are_critical() {
    for kind in 0..=255_u8 {
        let known = table().iter().any(|(frame, _)| frame.encode()[0] == kind);
        let decoded = Frame::decode(Bytes::from(vec![kind, 0, 0, 0, 9, 1, 2, 3]));
        match (known, kind & 0x80 != 0) {
            (true, _) => {}
            (false, true) => assert_eq!(decoded, Err(DecodeError::UnknownType(kind))),
            (false, false) => assert_eq!(decoded, Ok(None)),
        }
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let long = "ü".repeat(200);
    let close = Frame::Close { channel: ChannelId(1), code: CloseCode::NORMAL, reason: long.clone() };
    let error = Frame::Error { code: CloseCode::NORMAL, text: long };
    for (frame, expected) in [(close, 61), (error, 127)] {
        let Ok(Some(Frame::Close { reason: text, .. } | Frame::Error { text, .. })) =
            Frame::decode(frame.encode())
        else {
            panic!("not read back");
        };
        assert_eq!(text, "ü".repeat(expected));
    }
}

#[test]
fn restamping_changes_the_channel_and_nothing_else() {
    let mut message = data(7).encode().to_vec();
    restamp(&mut message, ChannelId(0xdead_beef));
    assert_eq!(Frame::decode(message.into()), Ok(Some(data(0xdead_beef))));
    let mut too_short = [1, 2, 3, 4];
    restamp(&mut too_short, ChannelId(9));
    assert_eq!(too_short, [1, 2, 3, 4]);
}

#[test]
fn payloads_share_the_memory_of_the_message() {
    let message = data(7).encode();
    let Ok(Some(Frame::Data { payload, .. })) = Frame::decode(message.clone()) else { panic!("no DATA") };
    assert_eq!(payload.as_ptr(), message[HEADER_LEN..].as_ptr());
}

fn data(channel: u32) -> Frame {
    Frame::Data { channel: ChannelId(channel), payload: Bytes::from_static(b"payload") }
}

fn any_text(max: usize) -> impl Strategy<Value = String> {
    any::<String>().prop_filter("fits", move |text| text.len() <= max)
}

fn any_payload() -> impl Strategy<Value = Bytes> {
    any::<Vec<u8>>().prop_map(Bytes::from)
}

fn any_channel() -> impl Strategy<Value = ChannelId> {
    (1..=u32::MAX).prop_map(ChannelId)
}

fn any_key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn any_server_id() -> impl Strategy<Value = ServerId> {
    prop_oneof![any_key().prop_map(ServerId::Key), (0..1_000_000_000_u32).prop_map(ServerId::Number)]
}

fn any_kind() -> impl Strategy<Value = ChannelKind> {
    prop_oneof![
        Just(ChannelKind::Session),
        Just(ChannelKind::Plain),
        (2..=255_u8).prop_map(ChannelKind::Unknown)
    ]
}

fn any_millis() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()))
}

prop_compose! {
    fn any_welcome()(
        version: u16,
        features: u32,
        max_frame in MIN_MAX_FRAME..,
        max_channels: u32,
        channel_buffer: u32,
        idle_timeout in any_millis(),
        challenge in any_key(),
        address in any_text(255),
        node in any_text(255),
    ) -> Frame {
        Frame::Welcome(Box::new(Welcome {
            version, features, max_frame, max_channels, channel_buffer, idle_timeout, challenge, address, node,
        }))
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (any::<(u16, u16, u32)>(), any_text(MAX_TOKEN)).prop_map(|((a, b, features), token)| {
            Frame::Hello { min_version: a.min(b), max_version: a.max(b), features, token }
        }),
        any_welcome(),
        (any_key(), any::<[u8; 32]>(), any_text(MAX_URL)).prop_map(|(key, proof, url)| Frame::Register {
            key,
            proof,
            url
        }),
        any_server_id().prop_map(|server_id| Frame::Registered { server_id }),
        (any_channel(), any_server_id(), any::<u16>(), any_kind(), any_payload()).prop_map(
            |(channel, server_id, port, kind, payload)| {
                Frame::Connect { channel, server_id, port, kind, payload }
            }
        ),
        (any_channel(), any::<u16>(), any_kind(), any_text(255), any_payload()).prop_map(
            |(channel, port, kind, address, payload)| {
                Frame::Incoming { channel, port, kind, address, payload }
            }
        ),
        (any_channel(), any_payload()).prop_map(|(channel, payload)| Frame::Accept { channel, payload }),
        (any_channel(), any_payload()).prop_map(|(channel, payload)| Frame::Data { channel, payload }),
        (any::<(u32, u16)>(), any_text(123)).prop_map(|((channel, code), reason)| {
            Frame::Close { channel: ChannelId(channel), code: CloseCode(code), reason }
        }),
        any_channel().prop_map(|channel| Frame::Pause { channel }),
        any_channel().prop_map(|channel| Frame::Resume { channel }),
        any::<u64>().prop_map(|nonce| Frame::Ping { nonce }),
        any::<u64>().prop_map(|nonce| Frame::Pong { nonce }),
        any_millis().prop_map(|deadline| Frame::GoAway { deadline }),
        (any::<u16>(), any_text(255)).prop_map(|(code, text)| Frame::Error { code: CloseCode(code), text }),
    ]
}

proptest! {
    #[test]
    fn every_frame_reads_back(frame in any_frame()) {
        prop_assert_eq!(Frame::decode(frame.encode()), Ok(Some(frame)));
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(kind: u8, channel: u32, body: Vec<u8>, message: Vec<u8>) {
        let _ = Frame::decode(message.into());
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(body);
        if let Ok(Some(frame)) = Frame::decode(frame.into()) {
            prop_assert_eq!(Frame::decode(frame.encode()), Ok(Some(frame)));
        }
    }
}
