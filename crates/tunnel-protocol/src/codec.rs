//! Reading and writing the fields that frames, session frames and handshake payloads share.
//!
//! All integers are big-endian. A reader never panics and never allocates: it hands out parts of its input.

use crate::text::{Hex, ToText, append, display_as_text};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes from the network did not have the form that the protocol gives them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended within a field.
    Truncated {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// There are bytes behind the last field.
    TrailingBytes {
        /// How many bytes there are.
        len: usize,
    },
    /// A field's value is none of those allowed.
    InvalidValue {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// A text field is not UTF-8.
    InvalidUtf8 {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// The critical bit of the type is set and the type is unknown.
    UnknownType(u8),
}

impl ToText for DecodeError {
    fn write_text(&self, text: &mut String) {
        match self {
            Self::Truncated { field } => append!(text, "the input ends within field ", field),
            Self::TrailingBytes { len } => append!(text, len, " bytes follow the last field"),
            Self::InvalidValue { field } => {
                append!(text, "field ", field, " has a value that is not allowed")
            }
            Self::InvalidUtf8 { field } => append!(text, "field ", field, " is not valid UTF-8"),
            Self::UnknownType(kind) => append!(text, "unknown critical type 0x", Hex(*kind)),
        }
    }
}

display_as_text!(DecodeError);

/// Takes fields off the front of the input.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: Bytes) -> Self {
        Self { rest: input }
    }

    /// Bytes not yet read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| DecodeError::Truncated { field })
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| DecodeError::Truncated { field })
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| DecodeError::Truncated { field })
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.rest.try_get_u64().map_err(|_| DecodeError::Truncated { field })
    }

    /// A fixed number of bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        self.rest.try_copy_to_slice(&mut array).map_err(|_| DecodeError::Truncated { field })?;
        Ok(array)
    }

    /// The next `len` bytes, shared with the input.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if self.rest.len() < len {
            return Err(DecodeError::Truncated { field });
        }
        Ok(self.rest.split_to(len))
    }

    /// A text whose length in bytes is in the `u8` before it.
    pub fn str8(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let len = self.u8(field)?;
        self.str(len.into(), field)
    }

    /// A text whose length in bytes is in the `u16` before it, at most `max`.
    pub fn str16(&mut self, max: usize, field: &'static str) -> Result<String, DecodeError> {
        let len = usize::from(self.u16(field)?);
        if len > max {
            return Err(DecodeError::InvalidValue { field });
        }
        self.str(len, field)
    }

    fn str(&mut self, len: usize, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes(len, field)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| DecodeError::InvalidUtf8 { field })
    }

    /// A variable-length integer (RFC 9000, section 16): the first two bits tell the length.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, len) = peek_varint(&self.rest).ok_or(DecodeError::Truncated { field })?;
        self.rest.advance(len);
        Ok(value)
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            len => Err(DecodeError::TrailingBytes { len }),
        }
    }
}

/// Largest value of a variable-length integer.
pub const MAX_VARINT: u64 = (1 << 62) - 1;

/// Length of `value` as a variable-length integer, in bytes.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Reads a variable-length integer at the start of `input`: its value and its length in bytes, or `None` if `input`
/// ends within it.
#[must_use]
pub fn peek_varint(input: &[u8]) -> Option<(u64, usize)> {
    let len = 1 << (input.first()? >> 6);
    let bytes = input.get(..len)?;
    let value = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    Some((value & (MAX_VARINT >> (64 - 8 * len)), len))
}

/// Appends a variable-length integer; values over [`MAX_VARINT`] become that.
pub fn put_varint(out: &mut BytesMut, value: u64) {
    match varint_len(value) {
        1 => out.put_u8(value as u8),
        2 => out.put_u16(value as u16 | 0x4000),
        4 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value.min(MAX_VARINT) | 0xc000_0000_0000_0000),
    }
}

/// Appends a text behind its length in a `u8`, cut between characters to 255 bytes.
pub fn put_str8(out: &mut BytesMut, text: &str) {
    put_str(out, text, u8::MAX.into(), |out, len| out.put_u8(len as u8));
}

/// Appends a text behind its length in a `u16`, cut between characters to 65,535 bytes.
pub fn put_str16(out: &mut BytesMut, text: &str) {
    put_str(out, text, u16::MAX.into(), |out, len| out.put_u16(len as u16));
}

fn put_str(out: &mut BytesMut, text: &str, max: usize, put_len: impl Fn(&mut BytesMut, usize)) {
    let mut len = text.len().min(max);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    put_len(out, len);
    out.put_slice(&text.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_9000_encode_as_printed_there() {
        for (value, hex) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out, hex);
            assert_eq!(Reader::new(out.freeze()).varint("value"), Ok(value));
        }
    }

    proptest! {
        #[test]
        fn a_varint_reads_back_and_has_the_length_told(value in 0..=MAX_VARINT) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(out.freeze());
            prop_assert_eq!(reader.varint("value"), Ok(value));
            prop_assert_eq!(reader.remaining(), 0);
        }
    }
}
