//! The cipher against the published vector and against another implementation; on WebAssembly with its SIMD.

#![allow(clippy::unwrap_used)] // tests

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce};
use tunnel_cipher::{Cipher, TAG_LEN};

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

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(len).collect()
    }
}

fn agrees(choices: &mut Choices, len: usize, associated_len: usize) {
    let key: [u8; 32] = choices.bytes(32).try_into().unwrap();
    let nonce = choices.next();
    let (associated, plaintext) = (choices.bytes(associated_len), choices.bytes(len));
    let mut nonce_bytes = Nonce::default();
    nonce_bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    let mut expected = plaintext.clone();
    let expected_tag = ChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(&nonce_bytes, &associated, expected.as_mut_slice().into())
        .unwrap();

    let cipher = Cipher::new(key.into());
    let mut data = plaintext.clone();
    let tag = cipher.seal(nonce, &associated, &mut data);
    assert!(data == expected, "{len} bytes, {associated_len} associated");
    assert_eq!(tag, <[u8; TAG_LEN]>::from(expected_tag), "{len} bytes, {associated_len} associated");

    let mut forged = tag;
    forged[len % TAG_LEN] ^= 1 << (len % 8);
    assert!(!cipher.open(nonce, &associated, &mut data, &forged));
    assert!(!cipher.open(nonce ^ 1, &associated, &mut data, &tag));
    assert!(!cipher.open(nonce, &[&associated, b"x".as_slice()].concat(), &mut data, &tag));
    assert!(data == expected, "what does not open stays as it was");
    assert!(cipher.open(nonce, &associated, &mut data, &tag));
    assert!(data == plaintext, "{len} bytes, {associated_len} associated");
}

#[test]
fn every_length_up_to_1100_agrees_with_another_implementation() {
    let mut choices = Choices(1);
    for len in 0..=1100 {
        agrees(&mut choices, len, len % 67);
    }
}

#[test]
fn random_lengths_up_to_a_whole_record_agree_with_another_implementation() {
    let mut choices = Choices(2);
    agrees(&mut choices, 65_519, 0);
    for _ in 0..100 {
        let (len, associated_len) = (choices.next() as usize % 65_520, choices.next() as usize % 300);
        agrees(&mut choices, len, associated_len);
    }
}

/// RFC 8439, appendix A.5: its nonce begins with four zeros, as Noise's do.
const CIPHERTEXT: &str = "\
    64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0\
    bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855\
    9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9\
    9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
    0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
    305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_vector_of_rfc_8439_opens_and_seals() {
    let key: [u8; 32] =
        hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0").try_into().unwrap();
    let nonce = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
    let associated = hex("f33388860000000000004e91");
    let tag = hex("eead9d67890cbb22392336fea1851f38").try_into().unwrap();
    let cipher = Cipher::new(key.into());
    let mut data = hex(CIPHERTEXT);
    assert!(cipher.open(nonce, &associated, &mut data, &tag));
    assert!(data.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
    assert_eq!(cipher.seal(nonce, &associated, &mut data), tag);
    assert_eq!(data, hex(CIPHERTEXT));
}
