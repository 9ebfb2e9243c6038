//! The handshake against the published vectors of its pattern, and against what an attacker does to it.
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use tunnel_protocol::handshake::{
    HandshakeError, Initiator, MAX_MESSAGE, MESSAGE_1_OVERHEAD, MESSAGE_2_OVERHEAD, OVERHEAD, OpenError,
    Responder, SealError, Transport,
};
use tunnel_protocol::identity::{DhError, StaticKey};
use tunnel_protocol::server_id::PublicKey;

const PROLOGUE: &[u8] = b"prologue";

fn client() -> StaticKey {
    StaticKey::from_secret([1; 32])
}

fn server() -> StaticKey {
    StaticKey::from_secret([2; 32])
}

fn initiator() -> Initiator {
    Initiator::new(PROLOGUE, server().public(), [3; 32])
}

/// A finished handshake: the client's side and the server's.
fn transports() -> (Transport, Transport) {
    let mut initiator = initiator();
    let message = initiator.write_message(&client(), b"one").unwrap();
    let (responder, _, _) = Responder::read_message(PROLOGUE, &server(), &message).unwrap();
    let (message, at_server) = responder.write_message([4; 32], b"two").unwrap();
    let (_, at_client) = initiator.read_message(&client(), &message).unwrap();
    (at_client, at_server)
}

/// Every variant of `message` that differs from it in one bit.
fn single_bit_flips(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..message.len() * 8).map(move |bit| {
        let mut flipped = message.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_published_vectors_come_out_byte_for_byte() {
    let vectors = include_str!("../vectors/noise_ik.txt");
    let mut count = 0;
    for vector in vectors.split("\nvector\n").skip(1) {
        let lines = vector.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name != "#");
        let (mut fields, mut messages) = (HashMap::new(), Vec::new());
        let mut payload = Vec::new();
        for (name, value) in lines {
            match name {
                "payload" => payload = hex(value),
                "message" => messages.push((std::mem::take(&mut payload), hex(value))),
                _ => assert!(fields.insert(name, hex(value)).is_none(), "{name} comes twice"),
            }
        }
        let key = |name| <[u8; 32]>::try_from(fields[name].as_slice()).unwrap();
        let (prologue, server) = (&fields["prologue"], StaticKey::from_secret(key("responder_static")));
        let client = StaticKey::from_secret(key("initiator_static"));
        assert_eq!(server.public().0, key("responder_public"));

        let mut initiator = Initiator::new(prologue, server.public(), key("initiator_ephemeral"));
        assert_eq!(initiator.write_message(&client, &messages[0].0).unwrap(), messages[0].1);
        let (responder, who, payload) = Responder::read_message(prologue, &server, &messages[0].1).unwrap();
        assert_eq!((who, payload.as_ref()), (client.public(), messages[0].0.as_slice()));
        let (message, mut at_server) =
            responder.write_message(key("responder_ephemeral"), &messages[1].0).unwrap();
        assert_eq!(message, messages[1].1);
        let (payload, mut at_client) = initiator.read_message(&client, &message).unwrap();
        assert_eq!(payload, messages[1].0);

        for pair in messages[2..].chunks(2) {
            let [to_server, to_client] = pair else { panic!("records come in pairs") };
            assert_eq!(at_client.seal(&to_server.0).unwrap(), to_server.1);
            assert_eq!(at_server.open(to_server.1.as_slice()).unwrap(), to_server.0);
            assert_eq!(at_server.seal(&to_client.0).unwrap(), to_client.1);
            assert_eq!(at_client.open(to_client.1.as_slice()).unwrap(), to_client.0);
        }
        if let Some(hash) = fields.get("handshake_hash") {
            assert_eq!(at_client.handshake_hash().as_slice(), hash);
        }
        assert_eq!(at_client.handshake_hash(), at_server.handshake_hash());
        count += 1;
    }
    assert_eq!(count, 2, "the file holds two vectors");
}

#[test]
fn a_message_1_with_any_bit_flipped_is_refused() {
    let message = initiator().write_message(&client(), b"payload").unwrap();
    assert_eq!(message.len(), 7 + MESSAGE_1_OVERHEAD);
    for flipped in single_bit_flips(&message) {
        // X25519 ignores the highest bit of a public key (RFC 7748), but the hash does not.
        assert_eq!(
            Responder::read_message(PROLOGUE, &server(), &flipped).unwrap_err(),
            HandshakeError::Decrypt
        );
    }
    Responder::read_message(PROLOGUE, &server(), &message).unwrap();
}

#[test]
fn a_message_2_with_any_bit_flipped_is_refused_and_the_right_one_still_read() {
    let mut initiator = initiator();
    let message = initiator.write_message(&client(), b"").unwrap();
    let (responder, ..) = Responder::read_message(PROLOGUE, &server(), &message).unwrap();
    let (message, _) = responder.write_message([4; 32], b"payload").unwrap();
    assert_eq!(message.len(), 7 + MESSAGE_2_OVERHEAD);
    for flipped in single_bit_flips(&message) {
        assert_eq!(initiator.read_message(&client(), &flipped).unwrap_err(), HandshakeError::Decrypt);
    }
    let (payload, _) = initiator.read_message(&client(), &message).unwrap();
    assert_eq!(payload, "payload");
}

#[test]
fn a_record_with_any_bit_flipped_is_refused_and_the_right_one_still_opened() {
    let (mut at_client, mut at_server) = transports();
    for text in ["first", "second"] {
        let record = at_client.seal(text.as_bytes()).unwrap();
        assert_eq!(record.len(), text.len() + OVERHEAD);
        for flipped in single_bit_flips(&record) {
            assert_eq!(at_server.open(flipped.as_slice()), Err(OpenError::Decrypt));
        }
        assert_eq!(at_server.open(record).unwrap(), text);
    }
}

#[test]
fn repeated_reordered_reflected_and_cut_records_are_refused() {
    let (mut at_client, mut at_server) = transports();
    let [first, second] = ["first", "second"].map(|text| at_client.seal(text.as_bytes()).unwrap());

    assert_eq!(at_server.open(second.clone()), Err(OpenError::Decrypt), "reordered");
    assert_eq!(at_client.open(first.clone()), Err(OpenError::Decrypt), "reflected");
    assert_eq!(at_server.open(first.slice(..20)), Err(OpenError::Decrypt), "cut");
    assert_eq!(at_server.open(first.slice(..15)), Err(OpenError::Truncated { len: 15 }), "cut");
    assert_eq!(at_server.open(Bytes::new()), Err(OpenError::Truncated { len: 0 }), "empty");
    assert_eq!(at_server.open(first.clone()).unwrap(), "first");
    assert_eq!(at_server.open(first), Err(OpenError::Decrypt), "repeated");
    assert_eq!(at_server.open(second).unwrap(), "second");
}

#[test]
fn another_prologue_and_another_static_key_are_refused() {
    let message = initiator().write_message(&client(), b"").unwrap();
    for (prologue, key) in [
        (b"Prologue".as_slice(), server()),
        (b"", server()),
        (b"prologue ", server()),
        (PROLOGUE, client()),
        (PROLOGUE, StaticKey::from_secret([9; 32])),
    ] {
        let error = Responder::read_message(prologue, &key, &message).unwrap_err();
        assert_eq!(error, HandshakeError::Decrypt);
    }
}

#[test]
fn a_responder_without_the_static_key_cannot_answer() {
    let mut initiator = initiator();
    let message = initiator.write_message(&client(), b"").unwrap();
    let impostor = StaticKey::from_secret([9; 32]);
    let mut to_impostor = Initiator::new(PROLOGUE, impostor.public(), [3; 32]);
    let to_impostor = to_impostor.write_message(&client(), b"").unwrap();
    assert_eq!(message[..32], to_impostor[..32], "the same ephemeral key");
    let (responder, ..) = Responder::read_message(PROLOGUE, &impostor, &to_impostor).unwrap();
    let (answer, _) = responder.write_message([4; 32], b"").unwrap();
    assert_eq!(initiator.read_message(&client(), &answer).unwrap_err(), HandshakeError::Decrypt);
}

#[test]
fn messages_of_impossible_length_are_refused() {
    let message = initiator().write_message(&client(), b"").unwrap();
    for len in 0..message.len() {
        assert_eq!(
            Responder::read_message(PROLOGUE, &server(), &message[..len]).unwrap_err(),
            HandshakeError::Truncated { len, min: MESSAGE_1_OVERHEAD }
        );
    }
    let long = vec![0; MAX_MESSAGE + 1];
    let too_long = HandshakeError::TooLong { len: long.len() };
    assert_eq!(Responder::read_message(PROLOGUE, &server(), &long).unwrap_err(), too_long);

    let mut initiator = initiator();
    let most = MAX_MESSAGE - MESSAGE_1_OVERHEAD;
    assert_eq!(initiator.write_message(&client(), &long[..most + 1]).unwrap_err(), too_long);
    let message = initiator.write_message(&client(), &long[..most]).unwrap();
    let (responder, _, payload) = Responder::read_message(PROLOGUE, &server(), &message).unwrap();
    assert_eq!(payload.len(), most);
    let (message, _) = responder.write_message([4; 32], b"").unwrap();
    for len in 0..message.len() {
        assert_eq!(
            initiator.read_message(&client(), &message[..len]).unwrap_err(),
            HandshakeError::Truncated { len, min: MESSAGE_2_OVERHEAD }
        );
    }
    assert_eq!(initiator.read_message(&client(), &long).unwrap_err(), too_long);
    initiator.read_message(&client(), &message).unwrap();
}

#[test]
fn records_may_have_up_to_65535_bytes() {
    let (mut at_client, mut at_server) = transports();
    let long = vec![7; MAX_MESSAGE + 1];
    let too_long = SealError::TooLong { len: long.len() };
    assert_eq!(at_client.seal(&long[..MAX_MESSAGE - OVERHEAD + 1]), Err(too_long));
    let record = at_client.seal(&long[..MAX_MESSAGE - OVERHEAD]).unwrap();
    assert_eq!(record.len(), MAX_MESSAGE);
    assert_eq!(at_server.open(long.as_slice()), Err(OpenError::TooLong { len: long.len() }));
    assert_eq!(at_server.open(record).unwrap().len(), MAX_MESSAGE - OVERHEAD);
}

#[test]
fn an_initiator_writes_once_and_reads_once() {
    let mut initiator = initiator();
    assert_eq!(initiator.read_message(&client(), &[0; 64]).unwrap_err(), HandshakeError::OutOfOrder);
    let message = initiator.write_message(&client(), b"").unwrap();
    assert_eq!(initiator.write_message(&client(), b"").unwrap_err(), HandshakeError::OutOfOrder);
    let (responder, ..) = Responder::read_message(PROLOGUE, &server(), &message).unwrap();
    let (message, _) = responder.write_message([4; 32], b"").unwrap();
    initiator.read_message(&client(), &message).unwrap();
    assert_eq!(initiator.read_message(&client(), &message).unwrap_err(), HandshakeError::OutOfOrder);
}

#[test]
fn sealing_in_place_leaves_the_bytes_before_alone_and_does_not_move_the_buffer() {
    let (mut at_client, mut at_server) = transports();
    let (mut copied, _) = transports();
    let mut buffer = BytesMut::with_capacity(5 + 7 + OVERHEAD);
    buffer.put_slice(b"12345payload");
    let at = buffer.as_ptr();
    at_client.seal_in_place(&mut buffer, 5).unwrap();
    assert_eq!(buffer.as_ptr(), at);
    assert_eq!(buffer[..5], *b"12345");
    assert_eq!(buffer[5..], copied.seal(b"payload").unwrap());

    let record = buffer.freeze().slice(5..);
    let opened = at_server.open(record).unwrap();
    assert_eq!(opened, "payload");
    assert_eq!(opened.as_ptr(), at.wrapping_add(5), "opened in place");

    // A prefix longer than the buffer leaves an empty plaintext.
    let mut buffer = BytesMut::from("123".as_bytes());
    at_client.seal_in_place(&mut buffer, 9).unwrap();
    assert_eq!(buffer[..3], *b"123");
    assert_eq!(at_server.open(&buffer[3..]).unwrap(), "");
}

/// The points whose multiple by any clamped scalar is zero: orders 1, 2, 4 and 8 on the curve and its twist, in
/// every form that 32 bytes have for them.
fn low_order_points() -> Vec<PublicKey> {
    let canonical = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // Not reduced: p and p + 1.
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut points: Vec<_> = canonical.iter().map(|point| hex(point).try_into().unwrap()).collect();
    // The highest bit is ignored.
    points.extend(points.clone().into_iter().map(|mut point: [u8; 32]| {
        point[31] |= 0x80;
        point
    }));
    points.into_iter().map(PublicKey).collect()
}

#[test]
fn points_of_low_order_are_refused_everywhere() {
    let low_order = HandshakeError::Dh(DhError::LowOrder);
    for point in low_order_points() {
        assert_eq!(client().diffie_hellman(&point).unwrap_err(), DhError::LowOrder, "{point:?}");

        let mut to_nobody = Initiator::new(PROLOGUE, point, [3; 32]);
        assert_eq!(to_nobody.write_message(&client(), b"").unwrap_err(), low_order, "as the responder's key");

        let mut initiator = initiator();
        let message = initiator.write_message(&client(), b"").unwrap();
        let mut forged = message.to_vec();
        forged[..32].copy_from_slice(&point.0);
        let error = Responder::read_message(PROLOGUE, &server(), &forged).unwrap_err();
        assert_eq!(error, low_order, "as the initiator's ephemeral key");

        let message = message_1_of(point);
        let error = Responder::read_message(PROLOGUE, &server(), &message).unwrap_err();
        assert_eq!(error, low_order, "as the initiator's static key");

        let mut message = vec![0; MESSAGE_2_OVERHEAD];
        message[..32].copy_from_slice(&point.0);
        let error = initiator.read_message(&client(), &message).unwrap_err();
        assert_eq!(error, low_order, "as the responder's ephemeral key");
    }
}

/// A message 1 of someone who claims a static key of low order, and so knows every shared secret with it.
fn message_1_of(point: PublicKey) -> Bytes {
    let mut external = StaticKey::external(point);
    // Anything but zero, so that it gets written.
    external.answer(server().public(), [1; 32]);
    initiator().write_message(&external, b"").unwrap()
}

#[test]
fn an_external_key_asks_and_then_gives_the_same_bytes_as_its_secret() {
    let (mut client, mut server) = (client(), server());
    let (client_secret, server_secret) = (client.clone(), server.clone());
    (client, server) = (StaticKey::external(client.public()), StaticKey::external(server.public()));
    let answer = |key: &mut StaticKey, secret: &StaticKey, error: HandshakeError, expected: PublicKey| {
        assert_eq!(error, HandshakeError::Dh(DhError::Pending(expected)));
        key.answer(expected, *secret.diffie_hellman(&expected).unwrap().as_bytes());
    };

    let mut expected = initiator();
    let expected_1 = expected.write_message(&client_secret, b"one").unwrap();
    let mut initiator = initiator();
    let error = initiator.write_message(&client, b"one").unwrap_err();
    answer(&mut client, &client_secret, error, server.public());
    let message = initiator.write_message(&client, b"one").unwrap();
    assert_eq!(message, expected_1);

    let initiator_ephemeral = PublicKey(message[..32].try_into().unwrap());
    for expected in [initiator_ephemeral, client.public()] {
        let error = Responder::read_message(PROLOGUE, &server, &message).unwrap_err();
        answer(&mut server, &server_secret, error, expected);
    }
    let (responder, who, payload) = Responder::read_message(PROLOGUE, &server, &message).unwrap();
    assert_eq!((who, payload), (client.public(), "one".into()));
    let (message, mut at_server) = responder.write_message([4; 32], b"two").unwrap();

    let error = initiator.read_message(&client, &message).unwrap_err();
    answer(&mut client, &client_secret, error, PublicKey(message[..32].try_into().unwrap()));
    let (payload, mut at_client) = initiator.read_message(&client, &message).unwrap();
    assert_eq!(payload, "two");
    assert_eq!(at_server.open(at_client.seal(b"record").unwrap()).unwrap(), "record");
    let (_, expected) = expected.read_message(&client_secret, &message).unwrap();
    assert_eq!(at_client.handshake_hash(), expected.handshake_hash());
}

#[test]
fn debug_output_holds_no_secret() {
    let (at_client, _) = transports();
    let secret = format!("{:?}", [1_u8; 32]);
    for text in [format!("{:?}", client()), format!("{:?}", initiator()), format!("{at_client:?}")] {
        assert!(!text.contains("1, 1, 1") && !text.contains(&secret), "{text}");
    }
}
