//! The example of a session in `docs/PROTOCOL.md`, section 2.6, computed anew.

use bytes::Bytes;
use std::fmt::Write as _;
use tunnel_protocol::handshake::{Initiator, Responder, Transport};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::session::{Epoch, Open, Opened, Position, SessionId};

/// Rows of the table: what it is, and its bytes.
fn documented() -> Vec<(String, Vec<u8>)> {
    let document = include_str!("../../../../docs/PROTOCOL.md");
    let section = document.split("### 2.6").nth(1).unwrap().split("\n##").next().unwrap();
    let rows =
        section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix("` |")?.split_once(" | `"));
    rows.map(|(name, hex)| (name.to_owned(), bytes(hex))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "{hex}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Seals so many records that nobody opens.
fn skip(sender: &mut Transport, receiver: &mut Transport, count: u32) {
    for _ in 0..count {
        let record = sender.seal(b"").unwrap();
        receiver.open(record).unwrap();
    }
}

#[test]
fn the_documented_session_comes_out_byte_for_byte() {
    let client = StaticKey::from_secret([0x01; 32]);
    let server = StaticKey::from_secret([0x02; 32]);
    let prologue = [b"tunnel.v1".as_slice(), &1337_u16.to_be_bytes()].concat();
    let open = Open {
        session_id: SessionId([0x55; 16]),
        epoch: Epoch(0x0102_0304_0506_0708),
        server_epoch: None,
        position: Position { received: 0, limit: 262_144 },
        protocols: vec!["chat".into()],
        path: "/room".into(),
        features: 0,
    };
    let opened = Opened::Accepted {
        epoch: Epoch(0x1112_1314_1516_1718),
        position: Position { received: 0, limit: 262_144 },
        protocol: "chat".into(),
        features: 0,
    };
    let mut initiator = Initiator::new(&prologue, server.public(), [0x03; 32]);
    let first = initiator.write_message(&client, &open.encode()).unwrap();
    let (responder, remote, payload) = Responder::read_message(&prologue, &server, &first).unwrap();
    assert_eq!((remote, Open::decode(payload).unwrap()), (client.public(), open.clone()));
    let (second, mut at_server) = responder.write_message([0x04; 32], &opened.encode()).unwrap();
    let (payload, mut at_client) = initiator.read_message(&client, &second).unwrap();
    assert_eq!(Opened::decode(payload).unwrap(), opened);

    // ACK of nothing with a limit; STREAM at 0 of the text message "hello".
    let up = bytes("02 0000000000000000 0000000000040000 01 0000000000000000 0007 01 05 68656c6c6f");
    let sealed_up = at_client.seal(&up).unwrap();
    assert_eq!(at_server.open(sealed_up.clone()).unwrap(), up);
    // ACK of the 7 bytes; STREAM at 0 of the binary message ff and a close with 1000, "bye".
    let down =
        bytes("02 0000000000000007 0000000000040005 01 0000000000000000 000a 02 01 ff 08 05 03e8 627965");
    let sealed_down = at_server.seal(&down).unwrap();
    assert_eq!(at_client.open(sealed_down.clone()).unwrap(), down);
    skip(&mut at_client, &mut at_server, 65_535);
    let rekeyed = at_client.seal(&up).unwrap();

    let computed: [(&str, &[u8]); 12] = [
        ("client's static public key", &client.public().0),
        ("server's static public key", &server.public().0),
        ("prologue", &prologue),
        ("OPEN", &open.encode()),
        ("message 1", &first),
        ("OPENED", &opened.encode()),
        ("message 2", &second),
        ("client's record 0, plaintext", &up),
        ("client's record 0", &sealed_up),
        ("server's record 0, plaintext", &down),
        ("server's record 0", &sealed_down),
        ("client's record 65,536, the same plaintext", &rekeyed),
    ];
    let mut table = String::new();
    for (name, bytes) in computed {
        let hex = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        writeln!(table, "| {name} | `{hex}` |").unwrap();
    }
    let documented = documented();
    let equal = documented.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).eq(computed);
    assert!(equal, "the document's table should be\n{table}");
}

#[test]
fn the_documented_records_open_and_nothing_else_does() {
    let of = |name: &str| {
        let found = documented().into_iter().find(|row| row.0 == name);
        found.unwrap_or_else(|| panic!("no row {name}")).1
    };
    let server = StaticKey::from_secret([0x02; 32]);
    let (prologue, first) = (of("prologue"), of("message 1"));
    let (responder, ..) = Responder::read_message(&prologue, &server, &first).unwrap();
    let (_, mut transport) = responder.write_message([0x04; 32], &of("OPENED")).unwrap();
    let record = of("client's record 0");
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(transport.open(flipped.as_slice()).is_err(), "bit {bit}");
    }
    assert_eq!(transport.open(record.as_slice()).unwrap(), Bytes::from(of("client's record 0, plaintext")));
}
