//! The messages of the bus between relays. The byte layouts are normative in `docs/PROTOCOL.md`, section 1.12.

use crate::codec::{DecodeError, Reader, put_str8, put_u16, put_u64};
use crate::node::ClusterSecret;
use crate::server_id::PublicKey;
use bytes::{BufMut, Bytes, BytesMut};
use hmac::Mac;

/// The number of keys in one CLAIM or NEWER.
pub(crate) const MAX_CLAIMS: usize = 1_000;

/// Length of the keyed hash at a message's end, in bytes.
const TAG: usize = 16;

const VERSION: u8 = 1;
const FIND: u8 = 0x01;
const ROLL: u8 = 0x02;
const CLAIM: u8 = 0x03;
const BEAT: u8 = 0x04;
const BYE: u8 = 0x05;
const FOUND: u8 = 0x11;
const NO: u8 = 0x12;
const NEWER: u8 = 0x13;

/// The receivers of a message.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// All relays: questions about a key.
    Find,
    /// All relays: claims and signs of life.
    Claim,
    /// One relay, by the incarnation in its messages: answers.
    Node(u64),
}

/// A message and its sender.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Envelope {
    /// The sender's name.
    pub(crate) node: String,
    /// A random number that the sender's process drew when it started.
    pub(crate) incarnation: u64,
    /// Microseconds since the sender's process started.
    pub(crate) sent: u64,
    pub(crate) message: Message,
}

/// The worth of a relay's no.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Word {
    /// It can't tell.
    Unsure,
    /// It does not have the server.
    Sure,
    /// And it has been on the bus for so long that it knows of every relay that was lost lately.
    Senior,
}

/// One thing that a relay says to others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    /// The owner of a key should answer, nobody else.
    Find { key: PublicKey },
    /// Every relay should answer.
    Roll { key: PublicKey, roll: u64 },
    /// The sender has these keys, each since the proof at its epoch. Fresh: the proofs were made just now.
    Claim { is_fresh: bool, claims: Vec<(PublicKey, u64)> },
    /// A sign of life. `asks`: who receives it should answer with one. An answer names the time at which the question was sent, 0
    /// otherwise.
    Beat { address: String, asks: bool, answers: u64 },
    /// The sender ends.
    Bye,
    /// The sender has the key.
    Found { key: PublicKey },
    /// The sender does not have the key that a ROLL is about, or can't tell.
    No { roll: u64, word: Word },
    /// The sender has a newer claim of each of these keys than the receiver's, which was fresh or not.
    Newer { is_fresh: bool, claims: Vec<(PublicKey, u64)> },
}

impl Envelope {
    /// Writes the message for its receivers.
    pub(crate) fn encode(&self, subject: Subject, secret: &ClusterSecret) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        out.put_u8(match &self.message {
            Message::Find { .. } => FIND,
            Message::Roll { .. } => ROLL,
            Message::Claim { .. } => CLAIM,
            Message::Beat { .. } => BEAT,
            Message::Bye => BYE,
            Message::Found { .. } => FOUND,
            Message::No { .. } => NO,
            Message::Newer { .. } => NEWER,
        });
        put_str8(&mut out, &self.node);
        put_u64(&mut out, self.incarnation);
        put_u64(&mut out, self.sent);
        match &self.message {
            Message::Find { key } | Message::Found { key } => out.put_slice(&key.0),
            Message::Roll { key, roll } => {
                out.put_slice(&key.0);
                put_u64(&mut out, *roll);
            }
            Message::Claim { is_fresh, claims } | Message::Newer { is_fresh, claims } => {
                out.put_u8(u8::from(*is_fresh));
                put_u16(&mut out, u16::try_from(claims.len()).unwrap_or(u16::MAX));
                for (key, epoch) in claims.iter().take(MAX_CLAIMS) {
                    out.put_slice(&key.0);
                    put_u64(&mut out, *epoch);
                }
            }
            Message::Beat { address, asks, answers } => {
                put_str8(&mut out, address);
                out.put_u8(u8::from(*asks));
                put_u64(&mut out, *answers);
            }
            Message::Bye => {}
            Message::No { roll, word } => {
                put_u64(&mut out, *roll);
                out.put_u8(*word as u8);
            }
        }
        let tag = mac(&out, subject, secret).finalize().into_bytes();
        out.put_slice(&tag[..TAG]);
        out.freeze()
    }

    /// Reads a message that came for these receivers; `None`: it is not from a relay of this cluster, or malformed.
    pub(crate) fn decode(message: &Bytes, subject: Subject, secret: &ClusterSecret) -> Option<Self> {
        let body = message.len().checked_sub(TAG)?;
        mac(&message[..body], subject, secret).verify_truncated_left(&message[body..]).ok()?;
        Self::read(message.slice(..body)).ok()
    }

    fn read(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let version = reader.u8("version");
        reader.require(version == VERSION, "version");
        let kind = reader.u8("type");
        let (node, incarnation, sent) = (reader.str8("node"), reader.u64("incarnation"), reader.u64("sent"));
        let message = match kind {
            FIND => Message::Find { key: key(&mut reader) },
            FOUND => Message::Found { key: key(&mut reader) },
            ROLL => Message::Roll { key: key(&mut reader), roll: reader.u64("roll") },
            CLAIM => Message::Claim { is_fresh: flag(&mut reader), claims: claims(&mut reader) },
            NEWER => Message::Newer { is_fresh: flag(&mut reader), claims: claims(&mut reader) },
            BEAT => Message::Beat {
                address: reader.str8("address"),
                asks: flag(&mut reader),
                answers: reader.u64("answers"),
            },
            BYE => Message::Bye,
            NO => Message::No { roll: reader.u64("roll"), word: word(&mut reader) },
            unknown => return Err(DecodeError::UnknownType(unknown)),
        };
        reader.end()?;
        Ok(Self { node, incarnation, sent, message })
    }
}

/// The hash covers the receivers, so that an answer to one relay is none to another.
fn mac(body: &[u8], subject: Subject, secret: &ClusterSecret) -> hmac::Hmac<sha2::Sha256> {
    let mut mac = secret.mac(b"tunnel.bus.v1");
    let (kind, number) = match subject {
        Subject::Find => (1, 0),
        Subject::Claim => (2, 0),
        Subject::Node(incarnation) => (3, incarnation),
    };
    mac.update(&[kind]);
    mac.update(&number.to_be_bytes());
    mac.update(body);
    mac
}

fn key(reader: &mut Reader) -> PublicKey {
    PublicKey(reader.array("key"))
}

fn flag(reader: &mut Reader) -> bool {
    let flag = reader.u8("flag");
    reader.require(flag <= 1, "flag");
    flag == 1
}

fn word(reader: &mut Reader) -> Word {
    match reader.u8("word") {
        0 => Word::Unsure,
        1 => Word::Sure,
        word => {
            reader.require(word == 2, "word");
            Word::Senior
        }
    }
}

fn claims(reader: &mut Reader) -> Vec<(PublicKey, u64)> {
    let count = usize::from(reader.u16("count"));
    reader.require(count <= MAX_CLAIMS && count * 40 <= reader.remaining(), "count");
    if reader.check().is_err() {
        return Vec::new();
    }
    (0..count).map(|_| (key(reader), reader.u64("epoch"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(byte: u8) -> ClusterSecret {
        ClusterSecret::new(&[byte; 32]).expect("long enough")
    }

    fn table() -> Vec<(Message, Subject, &'static str)> {
        let key = PublicKey([0x11; 32]);
        let claims = vec![(key, 5)];
        const KEY: &str = "1111111111111111111111111111111111111111111111111111111111111111";
        assert_eq!(KEY.len(), 64);
        vec![
            (Message::Find { key }, Subject::Find, "01 01 01 61 0000000000000007 0000000000000009 KEY"),
            (
                Message::Roll { key, roll: 3 },
                Subject::Find,
                "01 02 01 61 0000000000000007 0000000000000009 KEY 0000000000000003",
            ),
            (
                Message::Claim { is_fresh: true, claims: claims.clone() },
                Subject::Claim,
                "01 03 01 61 0000000000000007 0000000000000009 01 0001 KEY 0000000000000005",
            ),
            (
                Message::Beat { address: "h:1".into(), asks: true, answers: 0 },
                Subject::Claim,
                "01 04 01 61 0000000000000007 0000000000000009 03 683a31 01 0000000000000000",
            ),
            (
                Message::Beat { address: "h:1".into(), asks: false, answers: 8 },
                Subject::Node(2),
                "01 04 01 61 0000000000000007 0000000000000009 03 683a31 00 0000000000000008",
            ),
            (Message::Bye, Subject::Claim, "01 05 01 61 0000000000000007 0000000000000009"),
            (Message::Found { key }, Subject::Node(2), "01 11 01 61 0000000000000007 0000000000000009 KEY"),
            (
                Message::No { roll: 3, word: Word::Senior },
                Subject::Node(2),
                "01 12 01 61 0000000000000007 0000000000000009 0000000000000003 02",
            ),
            (
                Message::Newer { is_fresh: false, claims },
                Subject::Node(2),
                "01 13 01 61 0000000000000007 0000000000000009 00 0001 KEY 0000000000000005",
            ),
        ]
    }

    fn envelope(message: Message) -> Envelope {
        Envelope { node: "a".into(), incarnation: 7, sent: 9, message }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let hex = hex.replace("KEY", &"11".repeat(32));
        let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn every_message_of_the_bus_has_its_bytes_and_is_in_the_protocol_document() {
        let normal = |text: &str| text.split_whitespace().collect::<String>();
        let document = normal(include_str!("../../../../docs/PROTOCOL.md"));
        for (message, subject, hex) in table() {
            let encoded = envelope(message.clone()).encode(subject, &secret(1));
            assert_eq!(&encoded[..encoded.len() - TAG], bytes(hex), "{message:?}");
            assert_eq!(Envelope::decode(&encoded, subject, &secret(1)), Some(envelope(message)));
            assert!(document.contains(&normal(hex)), "missing: {hex}");
        }
    }

    #[test]
    fn a_message_without_the_secret_for_others_or_changed_anywhere_is_none() {
        for (message, subject, _) in table() {
            let encoded = envelope(message).encode(subject, &secret(1));
            assert_eq!(Envelope::decode(&encoded, subject, &secret(2)), None, "another secret");
            assert_eq!(Envelope::decode(&encoded, Subject::Node(3), &secret(1)), None, "for others");
            for at in 0..encoded.len() {
                let mut changed = encoded.to_vec();
                changed[at] ^= 1;
                assert_eq!(Envelope::decode(&changed.into(), subject, &secret(1)), None, "byte {at}");
                assert_eq!(Envelope::decode(&encoded.slice(..at), subject, &secret(1)), None, "cut to {at}");
            }
        }
    }

    #[test]
    fn more_keys_than_fit_and_other_versions_are_refused() {
        for hex in [
            "02 05 01 61 0000000000000007 0000000000000009",
            "01 06 01 61 0000000000000007 0000000000000009",
            "01 05 01 61 0000000000000007 0000000000000009 00",
            "01 03 01 61 0000000000000007 0000000000000009 01 ffff",
            "01 03 01 61 0000000000000007 0000000000000009 02 0000",
        ] {
            assert!(Envelope::read(bytes(hex).into()).is_err(), "{hex}");
        }
        let claims = vec![(PublicKey([1; 32]), 1); MAX_CLAIMS + 1];
        let encoded = envelope(Message::Claim { is_fresh: true, claims }).encode(Subject::Claim, &secret(1));
        assert_eq!(Envelope::decode(&encoded, Subject::Claim, &secret(1)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(message: Vec<u8>, kind in 0..0x14_u8, body: Vec<u8>) {
            let message = Bytes::from(message);
            prop_assert_eq!(Envelope::decode(&message, Subject::Find, &secret(1)), None);
            let mut read = bytes("01 00 01 61 0000000000000007 0000000000000009");
            read[1] = kind;
            read.extend(body);
            if let Ok(envelope) = Envelope::read(read.clone().into()) {
                let encoded = envelope.encode(Subject::Claim, &secret(1));
                prop_assert_eq!(&encoded[..encoded.len() - TAG], &read[..]);
            }
        }
    }
}
