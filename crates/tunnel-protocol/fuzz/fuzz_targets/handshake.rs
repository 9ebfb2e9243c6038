//! No bytes make the handshake or the records panic, and whatever differs from what the peer sent is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tunnel_protocol::handshake::{Initiator, Responder};
use tunnel_protocol::identity::StaticKey;

/// An attacker's changes to a message: bytes to flip in it from the start, and the number to cut off or append.
type Edit<'a> = (&'a [u8], i8);

static CLIENT: LazyLock<StaticKey> = LazyLock::new(|| StaticKey::from_secret([1; 32]));
static SERVER: LazyLock<StaticKey> = LazyLock::new(|| StaticKey::from_secret([2; 32]));

fn edited(message: &[u8], (flips, change): Edit<'_>) -> Vec<u8> {
    let mut message = message.to_vec();
    let len = message.len().saturating_add_signed(change.into());
    message.resize(len, 0);
    message.iter_mut().zip(flips).for_each(|(byte, flip)| *byte ^= flip);
    message
}

fuzz_target!(|input: (&[u8], Edit<'_>, Edit<'_>, Vec<Edit<'_>>)| {
    let (prologue, first, second, records) = input;
    // Not a message at all, most of the time.
    assert!(Responder::read_message(b"", &SERVER, prologue).is_err());

    let mut initiator = Initiator::new(prologue, SERVER.public(), [3; 32]);
    let message = initiator.write_message(&CLIENT, b"one").unwrap();
    let forged = edited(&message, first);
    let read = Responder::read_message(prologue, &SERVER, &forged);
    assert_eq!(read.is_ok(), forged == message);

    let (responder, who, payload) = Responder::read_message(prologue, &SERVER, &message).unwrap();
    assert_eq!((who, payload.as_ref()), (CLIENT.public(), b"one".as_slice()));
    let (message, mut at_server) = responder.write_message([4; 32], b"two").unwrap();
    let forged = edited(&message, second);
    let (payload, mut at_client) = match initiator.read_message(&CLIENT, &forged) {
        Ok(read) => {
            assert_eq!(forged, message);
            read
        }
        Err(_) => {
            assert_ne!(forged, message);
            initiator.read_message(&CLIENT, &message).unwrap()
        }
    };
    assert_eq!(payload, "two");

    for edit in records {
        let record = at_client.seal(edit.0).unwrap_or_default();
        let forged = edited(&record, edit);
        let opened = at_server.open(forged.as_slice());
        assert_eq!(opened.is_ok(), forged == record);
        if opened.is_err() {
            assert_eq!(at_server.open(record).unwrap(), edit.0);
        }
    }
});
