//! A proof holds for its challenge, key and URL only, and nothing that a relay or a server says makes making or checking
//! one panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::registration::{prove, verify};
use tunnel_protocol::server_id::PublicKey;

fuzz_target!(|input: ([u8; 32], [u8; 32], [u8; 32], u8, &str, &str)| {
    let (challenge, key, made_up, flip, url, other) = input;
    let (challenge, server) = (StaticKey::from_secret(challenge), StaticKey::from_secret(key));
    // Keys and challenges that are any bytes, also those of low order.
    assert!(!verify(&challenge, &PublicKey(key), url, &made_up));
    let _ = prove(&server, &PublicKey(made_up), url);

    let proof = prove(&server, &challenge.public(), url).expect("the challenge is a key");
    assert!(verify(&challenge, &server.public(), url, &proof));
    assert_eq!(verify(&challenge, &server.public(), other, &proof), url == other);
    let mut flipped = proof;
    flipped[usize::from(flip / 8)] ^= 1 << (flip % 8);
    assert!(!verify(&challenge, &server.public(), url, &flipped));
});
