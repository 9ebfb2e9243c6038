//! Names of servers: self-certifying, or the small numbers of the livecode dialect.

use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// A public X25519 key (RFC 7748).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", ServerId::Key(*self))
    }
}

/// The name of a server.
///
/// A key's text form is one DNS label of 56 characters: base32 (RFC 4648, lower case, no padding) of the key (32
/// bytes), a checksum (2 bytes of SHA-256 over a context string, the key and the version) and the version (1 byte).
/// The holder of the private key is the server, whatever the relay says.
///
/// A number is a server of the livecode dialect; it promises nothing about who answers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServerId {
    /// The server that holds this key.
    Key(PublicKey),
    /// The server in this slot of a livecoding relay.
    Number(u32),
}

/// Version of the text form of keys.
const ID_VERSION: u8 = 1;
/// Characters of a key's text form.
pub(crate) const KEY_ID_LEN: usize = 56;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A text is no server ID; nothing was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseServerIdError {
    /// Neither 56 characters nor a small number.
    #[error(
        "a server ID has {KEY_ID_LEN} characters (or is a small number on a livecoding relay); this has {len}"
    )]
    Length {
        /// Its length in characters.
        len: usize,
    },
    /// A character that is not in the alphabet.
    #[error("character {at} of the server ID is not one of a-z and 2-7")]
    Character {
        /// Its position, from 1.
        at: usize,
    },
    /// The checksum does not fit: a typing or copying mistake.
    #[error("the server ID's checksum does not match: it was mistyped or cut off")]
    Checksum,
    /// A version that this library does not know.
    #[error("the server ID is of version {0}, which this library does not know")]
    Version(u8),
}

impl ServerId {
    /// The key, if the ID is one.
    #[must_use]
    pub const fn key(&self) -> Option<&PublicKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Number(_) => None,
        }
    }
}

impl From<u32> for ServerId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

fn checksum(key: &PublicKey) -> [u8; 2] {
    let mut hash = Sha256::new();
    hash.update(b"tunnel-wasm server id");
    hash.update(key.0);
    hash.update([ID_VERSION]);
    let hash = hash.finalize();
    [hash[0], hash[1]]
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self {
            Self::Key(key) => key,
            Self::Number(number) => return number.fmt(f),
        };
        let mut bytes = [0; 35];
        bytes[..32].copy_from_slice(&key.0);
        bytes[32..34].copy_from_slice(&checksum(key));
        bytes[34] = ID_VERSION;
        let mut text = String::with_capacity(KEY_ID_LEN);
        // Five bytes are eight characters, and 35 is a multiple of five.
        for group in bytes.chunks_exact(5) {
            let bits = group.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
            for shift in (0..40).step_by(5).rev() {
                let index = (bits >> shift) & 31;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
        f.pad(&text)
    }
}

impl FromStr for ServerId {
    type Err = ParseServerIdError;

    fn from_str(text: &str) -> Result<Self, ParseServerIdError> {
        if (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Nine digits fit into 32 bits.
            return Ok(Self::Number(
                text.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')),
            ));
        }
        if text.len() != KEY_ID_LEN {
            return Err(ParseServerIdError::Length { len: text.chars().count() });
        }
        let mut bytes = [0; 35];
        for (group, (out, characters)) in
            bytes.chunks_exact_mut(5).zip(text.as_bytes().chunks_exact(8)).enumerate()
        {
            let mut bits = 0_u64;
            for (index, character) in characters.iter().enumerate() {
                let value = match character.to_ascii_lowercase() {
                    letter @ b'a'..=b'z' => letter - b'a',
                    digit @ b'2'..=b'7' => digit - b'2' + 26,
                    _ => return Err(ParseServerIdError::Character { at: group * 8 + index + 1 }),
                };
                bits = bits << 5 | u64::from(value);
            }
            out.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        let key = PublicKey(key);
        if bytes[34] != ID_VERSION {
            return Err(ParseServerIdError::Version(bytes[34]));
        }
        if bytes[32..34] != checksum(&key) {
            return Err(ParseServerIdError::Checksum);
        }
        Ok(Self::Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_single_character_typo_is_refused() {
        let id = ServerId::Key(PublicKey([7; 32])).to_string();
        for at in 0..id.len() {
            for letter in ALPHABET {
                let mut typo = id.clone().into_bytes();
                if typo[at] == *letter {
                    continue;
                }
                typo[at] = *letter;
                let typo = String::from_utf8(typo).expect("ASCII");
                // Two bytes of checksum let one typo in 65,536 through; for this key none.
                assert!(typo.parse::<ServerId>().is_err(), "{typo}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_reason() {
        assert_eq!("".parse::<ServerId>(), Err(ParseServerIdError::Length { len: 0 }));
        assert_eq!("1234567890".parse::<ServerId>(), Err(ParseServerIdError::Length { len: 10 }));
        let id = ServerId::Key(PublicKey([7; 32])).to_string();
        assert_eq!(id.replacen('a', "1", 1).len(), 56);
        assert!(matches!(
            format!("!{}", &id[1..]).parse::<ServerId>(),
            Err(ParseServerIdError::Character { at: 1 })
        ));
        assert_eq!("ü".repeat(28).parse::<ServerId>(), Err(ParseServerIdError::Character { at: 1 }));
    }

    #[test]
    fn upper_case_is_accepted_because_dns_labels_have_no_case() {
        let id = ServerId::Key(PublicKey([7; 32]));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    }

    proptest! {
        #[test]
        fn the_text_form_is_56_characters_and_reads_back(key: [u8; 32]) {
            let id = ServerId::Key(PublicKey(key));
            let text = id.to_string();
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(text.parse(), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text: String) {
            let _ = text.parse::<ServerId>();
        }
    }
}
