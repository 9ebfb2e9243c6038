//! Base64 (RFC 4648, section 4) without padding, in its one canonical form.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// In `VALUES`: a byte that is no digit.
const NONE: u8 = 0xff;

/// The value of each byte as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The number of digits `len` bytes become.
pub(super) const fn encoded_len(len: usize) -> usize {
    len / 3 * 4 + [0, 2, 3][len % 3]
}

/// Appends `bytes` as digits.
pub(super) fn encode(bytes: impl IntoIterator<Item = u8>, out: &mut String) {
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in bytes {
        bits = bits << 8 | u32::from(byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            out.push(digit(bits >> count));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        out.push(digit(bits << (6 - count)));
    }
}

fn digit(bits: u32) -> char {
    char::from(ALPHABET[(bits & 63) as usize])
}

/// The bytes that `digits` stand for; `None` if they are not what [`encode`] makes of any bytes.
pub(super) fn decode(digits: &str) -> Option<Vec<u8>> {
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let mut bits = 0_u32;
    let mut count = 0;
    for digit in digits.bytes() {
        let value = VALUES[usize::from(digit)];
        if value == NONE {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_the_rfc_hold_without_their_padding() {
        for (bytes, digits) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut encoded = String::new();
            encode(bytes.bytes(), &mut encoded);
            assert_eq!(encoded, digits);
            assert_eq!(decode(digits).as_deref(), Some(bytes.as_bytes()));
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for digits in ["Z", "Zh", "Zm9", "Zg==", "Zm9v ", "Zm-v", "Zm_v", "Zmüv", "Zm9vY"] {
            assert_eq!(decode(digits), None, "{digits:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_read_back_from_their_digits(bytes: Vec<u8>) {
            let mut digits = String::new();
            encode(bytes.iter().copied(), &mut digits);
            prop_assert_eq!(digits.len(), encoded_len(bytes.len()));
            prop_assert_eq!(decode(&digits), Some(bytes));
        }

        #[test]
        fn digits_that_decode_are_the_ones_that_encode_makes(digits in "[A-Za-z0-9+/=]{0,40}") {
            if let Some(bytes) = decode(&digits) {
                let mut again = String::new();
                encode(bytes, &mut again);
                prop_assert_eq!(again, digits);
            }
        }
    }
}
