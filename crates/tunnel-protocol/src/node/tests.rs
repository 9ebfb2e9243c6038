use super::*;
use crate::server_id::PublicKey;
use proptest::prelude::*;

fn table() -> Vec<(NodeFrame, &'static str)> {
    let (ones, twos) = ([0x11; 32], [0x22; 32]);
    vec![
        (
            NodeFrame::Challenge { max_frame: 60_000, challenge: ones, node: "b".into() },
            "91 00000000 0000ea60 1111111111111111111111111111111111111111111111111111111111111111 01 62",
        ),
        (
            NodeFrame::Proof { challenge: twos, proof: ones, node: "a".into() },
            "92 00000000 2222222222222222222222222222222222222222222222222222222222222222 \
             1111111111111111111111111111111111111111111111111111111111111111 01 61",
        ),
        (
            NodeFrame::Proven { proof: twos },
            "93 00000000 2222222222222222222222222222222222222222222222222222222222222222",
        ),
        (
            NodeFrame::Forward {
                channel: ChannelId(7),
                server_id: ServerId::Key(PublicKey(ones)),
                port: 1_337,
                kind: ChannelKind::Session,
                address: "192.0.2.1:9".into(),
                payload: Bytes::from_static(&[1, 2, 3]),
            },
            "90 00000007 38 6365697263656972636569726365697263656972636569726365697263656972636569726365697263656972636569726365697a776f7962 \
             0539 00 0b 3139322e302e322e313a39 010203",
        ),
        (NodeFrame::Bus { is_well: true }, "10 00000000 01"),
    ]
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn every_frame_between_relays_has_its_bytes_and_is_in_the_protocol_document() {
    let normal = |text: &str| text.split_whitespace().collect::<String>();
    let document = normal(include_str!("../../../../docs/PROTOCOL.md"));
    for (frame, hex) in table() {
        assert_eq!(frame.encode(), bytes(hex), "{frame:?}");
        assert_eq!(NodeFrame::decode(&bytes(hex)), Ok(Some(frame.clone())), "{hex}");
        assert!(document.contains(&normal(hex)), "{} is missing: {hex}", frame.name());
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_an_error_or_has_a_shorter_payload() {
    for (frame, hex) in table() {
        let whole = bytes(hex);
        for len in 1..whole.len() {
            match NodeFrame::decode(&whole.slice(..len)) {
                Err(DecodeError::Truncated { .. }) | Ok(Some(NodeFrame::Forward { .. })) => {}
                other => panic!("{} cut to {len} bytes: {other:?}", frame.name()),
            }
        }
    }
}

#[test]
fn the_frames_of_pages_are_none_of_these_and_a_page_takes_none_of_these() {
    for kind in 0..=255_u8 {
        let known = table().iter().any(|(frame, _)| frame.encode()[0] == kind);
        let message = Bytes::from(vec![kind, 0, 0, 0, 0, 1]);
        assert_eq!(NodeFrame::decode(&message) != Ok(None), known, "{kind:#04x}");
    }
    for (frame, hex) in table() {
        let decoded = crate::Frame::decode(bytes(hex));
        let is_critical = frame.encode()[0] & 0x80 != 0;
        let expected = if is_critical { Err(DecodeError::UnknownType(frame.encode()[0])) } else { Ok(None) };
        assert_eq!(decoded, expected, "{}", frame.name());
    }
}

#[test]
fn only_forward_is_about_a_channel() {
    for (frame, hex) in table() {
        let mut message = bytes(hex).to_vec();
        let other = if matches!(frame, NodeFrame::Forward { .. }) { 0 } else { 7 };
        crate::frame::restamp(&mut message, ChannelId(other));
        let decoded = NodeFrame::decode(&message.into());
        assert_eq!(decoded, Err(DecodeError::InvalidValue { field: "channel" }), "{}", frame.name());
    }
    assert_eq!(
        NodeFrame::decode(&bytes("10 00000000 02")),
        Err(DecodeError::InvalidValue { field: "is_well" })
    );
}

fn secret(byte: u8) -> ClusterSecret {
    ClusterSecret::new(&[byte; 32]).expect("long enough")
}

#[test]
fn a_proof_is_worth_nothing_in_the_other_role_for_other_names_other_challenges_or_another_secret() {
    let facts =
        NodeLinkFacts { entry: "a", entry_challenge: &[1; 32], owner: "bc", owner_challenge: &[2; 32] };
    let proof = secret(1).prove(NodeRole::Entry, &facts);
    assert!(secret(1).verify(NodeRole::Entry, &facts, &proof));
    assert!(!secret(2).verify(NodeRole::Entry, &facts, &proof), "another secret");
    assert!(!secret(1).verify(NodeRole::Owner, &facts, &proof), "handed back");
    for other in [
        NodeLinkFacts { entry: "x", ..facts },
        NodeLinkFacts { owner: "x", ..facts },
        NodeLinkFacts { owner: "b", entry: "ca", ..facts },
        NodeLinkFacts { entry: "bc", owner: "a", ..facts },
        NodeLinkFacts { entry_challenge: &[3; 32], ..facts },
        NodeLinkFacts { owner_challenge: &[3; 32], ..facts },
        NodeLinkFacts { entry_challenge: &[2; 32], owner_challenge: &[1; 32], ..facts },
    ] {
        assert!(!secret(1).verify(NodeRole::Entry, &other, &proof), "{other:?}");
    }
}

#[test]
fn a_secret_is_long_and_is_not_printed() {
    assert!(ClusterSecret::new(&[b'x'; MIN_CLUSTER_SECRET - 1]).is_none());
    let secret = ClusterSecret::new(b"correct horse battery staple correct horse").expect("long enough");
    assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
}

proptest! {
    #[test]
    fn every_frame_between_relays_reads_back(
        (channel, port, kind) in (1..=u32::MAX, any::<u16>(), any::<u8>()),
        (key, challenge, proof) in any::<([u8; 32], [u8; 32], [u8; 32])>(),
        text in any::<String>().prop_filter("fits", |text| text.len() <= 255),
        payload in any::<Vec<u8>>(),
        (max_frame, is_well) in any::<(u32, bool)>(),
    ) {
        let kind = match kind {
            0 => ChannelKind::Session,
            1 => ChannelKind::Plain,
            kind => ChannelKind::Unknown(kind),
        };
        for frame in [
            NodeFrame::Challenge { max_frame, challenge, node: text.clone() },
            NodeFrame::Proof { challenge, proof, node: text.clone() },
            NodeFrame::Proven { proof },
            NodeFrame::Forward {
                channel: ChannelId(channel),
                server_id: ServerId::Key(PublicKey(key)),
                port,
                kind,
                address: text,
                payload: payload.into(),
            },
            NodeFrame::Bus { is_well },
        ] {
            prop_assert_eq!(NodeFrame::decode(&frame.encode()), Ok(Some(frame)));
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(kind in 0x8e_u8..0x96, channel: u32, body: Vec<u8>, message: Vec<u8>) {
        let _ = NodeFrame::decode(&message.into());
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(body);
        if let Ok(Some(frame)) = NodeFrame::decode(&frame.into()) {
            prop_assert_eq!(NodeFrame::decode(&frame.encode()), Ok(Some(frame)));
        }
    }
}
