//! Handshakes and records against two other implementations of Noise, in both roles.
//!
//! `TUNNEL_CASES` sets how many handshakes with each (10,000 if unset), `TUNNEL_SEED` a number to start from.
mod oracle;

use clatter::NqHandshake;
use clatter::crypto::cipher::ChaChaPoly;
use clatter::crypto::dh::X25519;
use clatter::crypto::hash::Sha256;
use oracle::{Handshake, Start, Transport as _};
use std::sync::atomic::{AtomicU64, Ordering};
use tunnel_protocol::handshake::{Initiator, REKEY_INTERVAL, Responder, Transport};
use tunnel_protocol::identity::StaticKey;

type Clatter = NqHandshake<X25519, ChaChaPoly, Sha256>;

/// SplitMix64: good enough to choose cases, and the same on every run.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn key(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.next() as u8)
    }

    /// Mostly short, and sometimes as long as it may be.
    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let most = if self.next().is_multiple_of(500) { max } else { max.min(300) };
        let len = self.next() as usize % (most + 1);
        let first = self.next();
        (0..len).map(|at| (first >> (at % 57)) as u8).collect()
    }
}

/// One handshake between us and the other implementation, and records in both directions.
fn handshake_with<H: Handshake>(
    choices: &mut Choices,
    we_start: bool,
    keys: &[StaticKeyPair],
) -> (Transport, H::Transport) {
    let prologue = choices.bytes(1000);
    let [ours, theirs] = [(); 2].map(|()| &keys[choices.next() as usize % keys.len()]);
    let (our_ephemeral, their_ephemeral) = (choices.key(), choices.key());
    let payloads = [choices.bytes(65_535 - 96), choices.bytes(65_535 - 48)];
    let remote = (!we_start).then(|| ours.key.public().0);
    let mut other = H::start(&Start {
        prologue: &prologue,
        key: &theirs.secret,
        ephemeral: &their_ephemeral,
        remote: remote.as_ref(),
    });

    let transport = if we_start {
        let mut initiator = Initiator::new(&prologue, theirs.key.public(), our_ephemeral);
        let message = initiator.write_message(&ours.key, &payloads[0]).unwrap();
        assert_eq!(other.read(&message), payloads[0]);
        assert_eq!(other.remote(), ours.key.public().0);
        let message = other.write(&payloads[1]);
        let (payload, transport) = initiator.read_message(&ours.key, &message).unwrap();
        assert_eq!(payload, payloads[1]);
        transport
    } else {
        let message = other.write(&payloads[0]);
        let (responder, who, payload) = Responder::read_message(&prologue, &ours.key, &message).unwrap();
        assert_eq!(who, theirs.key.public());
        assert_eq!(payload, payloads[0]);
        let (message, transport) = responder.write_message(our_ephemeral, &payloads[1]).unwrap();
        assert_eq!(other.read(&message), payloads[1]);
        transport
    };
    let (other, hash) = other.finish();
    assert_eq!(transport.handshake_hash(), &hash);
    (transport, other)
}

/// A static key together with its secret half, which [`StaticKey`] does not give out.
struct StaticKeyPair {
    secret: [u8; 32],
    key: StaticKey,
}

fn exchange_records<T: oracle::Transport>(choices: &mut Choices, ours: &mut Transport, theirs: &mut T) {
    for _ in 0..choices.next() % 8 {
        let text = choices.bytes(65_535 - 16);
        if choices.next().is_multiple_of(2) {
            let record = ours.seal(&text).unwrap();
            assert_eq!(theirs.open(&record).unwrap(), text);
        } else {
            let mut record = theirs.seal(&text);
            if choices.next().is_multiple_of(4) {
                let at = choices.next() as usize % record.len();
                record[at] ^= 1;
                assert!(ours.open(record.as_slice()).is_err());
                record[at] ^= 1;
            }
            assert_eq!(ours.open(record.as_slice()).unwrap(), text);
        }
    }
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Names the case that failed, so that it can be run alone.
struct Case(u64, &'static str);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with {}: run with TUNNEL_SEED={} TUNNEL_CASES=1", self.1, self.0);
        }
    }
}

fn many_handshakes_with<H: Handshake>() {
    let first = number_from_environment("TUNNEL_SEED", 0);
    let end = first + number_from_environment("TUNNEL_CASES", 10_000);
    // A fixed set of static keys: making one costs as much as using one.
    let mut choices = Choices(1 << 63);
    let keys: Vec<_> = (0..32)
        .map(|_| choices.key())
        .map(|secret| StaticKeyPair { secret, key: StaticKey::from_secret(secret) })
        .collect();
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let _case = Case(seed, H::NAME);
                    let mut choices = Choices(seed);
                    let (mut ours, mut theirs) =
                        handshake_with::<H>(&mut choices, seed.is_multiple_of(2), &keys);
                    exchange_records(&mut choices, &mut ours, &mut theirs);
                }
            });
        }
    });
}

#[test]
fn handshakes_and_records_agree_with_snow() {
    many_handshakes_with::<snow::HandshakeState>();
}

#[test]
fn handshakes_and_records_agree_with_clatter() {
    many_handshakes_with::<Clatter>();
}

/// Records in both directions across two changes of keys, which the other implementation makes when told to.
fn keys_change_with<H: Handshake>() {
    let secret = [5; 32];
    let keys = [StaticKeyPair { secret, key: StaticKey::from_secret(secret) }];
    let (mut ours, mut theirs) = handshake_with::<H>(&mut Choices(7), true, &keys);
    for count in 0..2 * REKEY_INTERVAL + 3 {
        if count > 0 && count.is_multiple_of(REKEY_INTERVAL) {
            theirs.rekey_sender();
            theirs.rekey_receiver();
        }
        let text = count.to_be_bytes();
        assert_eq!(theirs.open(&ours.seal(&text).unwrap()).unwrap(), text, "record {count}");
        assert_eq!(ours.open(theirs.seal(&text).as_slice()).unwrap(), text.as_slice(), "record {count}");
    }
}

#[test]
fn each_direction_changes_its_key_after_65536_records_as_snow_does_when_told() {
    keys_change_with::<snow::HandshakeState>();
}

#[test]
fn each_direction_changes_its_key_after_65536_records_as_clatter_does_when_told() {
    keys_change_with::<Clatter>();
}

#[test]
fn the_directions_count_their_records_separately() {
    let secret = [5; 32];
    let keys = [StaticKeyPair { secret, key: StaticKey::from_secret(secret) }];
    let (mut ours, mut theirs) = handshake_with::<snow::HandshakeState>(&mut Choices(7), false, &keys);
    for _ in 0..REKEY_INTERVAL {
        theirs.open(&ours.seal(b"").unwrap()).unwrap();
    }
    assert_eq!(ours.open(theirs.seal(b"the first one back").as_slice()).unwrap(), "the first one back");
    let record = ours.seal(b"under the next key").unwrap();
    assert_eq!(theirs.open(&record), None, "the other implementation has not changed its key yet");
    theirs.rekey_receiver();
    assert_eq!(theirs.open(&record).unwrap(), b"under the next key");
}
