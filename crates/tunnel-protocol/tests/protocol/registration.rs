//! Proofs of possession, true ones and forged ones.
use proptest::prelude::*;
use tunnel_protocol::identity::{DhError, StaticKey};
use tunnel_protocol::registration::{prove, verify};
use tunnel_protocol::server_id::PublicKey;

const URL: &str = "wss://relay.example:8443/";

fn server() -> StaticKey {
    StaticKey::from_secret([1; 32])
}

fn challenge() -> StaticKey {
    StaticKey::from_secret([2; 32])
}

/// Computed with Python's `hmac` and an X25519 of RFC 7748's pseudo-code.
const PROOF: &str = "4186d8594316de6fa39182fd6250d7bdf23cb734b89f7bc4b15f001422511857";

#[test]
fn the_proof_has_the_bytes_that_the_protocol_gives_it() {
    let proof = prove(&server(), &challenge().public(), URL).unwrap();
    let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, PROOF);
}

#[test]
fn a_proof_holds_for_its_challenge_key_and_url_only() {
    let key = server().public();
    let proof = prove(&server(), &challenge().public(), URL).unwrap();
    assert!(verify(&challenge(), &key, URL, &proof));

    let other = StaticKey::from_secret([3; 32]);
    assert!(!verify(&other, &key, URL, &proof), "another challenge");
    assert!(!verify(&challenge(), &other.public(), URL, &proof), "another key");
    for url in [
        "",
        "ws://relay.example:8443/",
        "wss://relay.example/",
        "wss://relay.example:8444/",
        "wss://relay.example:8443/other",
        "wss://relay.example:8443",
        "wss://evil.example:8443/",
    ] {
        assert!(!verify(&challenge(), &key, url, &proof), "{url}");
    }
    for bit in 0..256 {
        let mut forged = proof;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(&challenge(), &key, URL, &forged), "bit {bit}");
    }
}

#[test]
fn keys_and_challenges_of_low_order_are_refused() {
    // Anybody who claims this key knows the shared secret: 32 zeros, which would key the proof.
    for point in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
        assert_eq!(prove(&server(), &PublicKey(point), URL), Err(DhError::LowOrder));
        let mut claimed = StaticKey::external(PublicKey(point));
        claimed.answer(challenge().public(), [0; 32]);
        assert_eq!(prove(&claimed, &challenge().public(), URL), Err(DhError::LowOrder));
        assert!(!verify(&challenge(), &PublicKey(point), URL, &[0; 32]));
    }
}

#[test]
fn an_external_key_proves_after_its_answer() {
    let mut external = StaticKey::external(server().public());
    let theirs = challenge().public();
    assert_eq!(prove(&external, &theirs, URL), Err(DhError::Pending(theirs)));
    external.answer(theirs, *server().diffie_hellman(&theirs).unwrap().as_bytes());
    assert_eq!(prove(&external, &theirs, URL), prove(&server(), &theirs, URL));
    external.forget_answers();
    assert_eq!(prove(&external, &theirs, URL), Err(DhError::Pending(theirs)));
}

#[test]
fn an_external_key_forgets_the_oldest_of_more_than_64_answers() {
    let mut external = StaticKey::external(server().public());
    let theirs: Vec<_> = (0..65).map(|byte| PublicKey([byte; 32])).collect();
    for key in &theirs {
        external.answer(*key, [1; 32]);
        external.answer(*key, [2; 32]);
    }
    assert_eq!(external.diffie_hellman(&theirs[0]).unwrap_err(), DhError::Pending(theirs[0]));
    for key in &theirs[1..] {
        assert_eq!(external.diffie_hellman(key).unwrap().as_bytes(), &[2; 32], "the newer answer counts");
    }
}

proptest! {
    #[test]
    fn a_guess_is_no_proof(key: [u8; 32], url: String, guess: [u8; 32]) {
        prop_assert!(!verify(&challenge(), &PublicKey(key), &url, &guess));
    }
}
