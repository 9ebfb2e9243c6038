//! Reading and writing the fields that frames, session frames and handshake payloads share.
//!
//! All integers are big-endian. A reader never panics: it hands out parts of its input.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes from the network did not have the form that the protocol gives them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended within a field.
    #[error("the input ends within field {field}")]
    Truncated {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// There are bytes behind the last field.
    #[error("{len} bytes follow the last field")]
    TrailingBytes {
        /// Their number.
        len: usize,
    },
    /// A field's value is none of those allowed.
    #[error("field {field} has a value that is not allowed")]
    InvalidValue {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// A text field is not UTF-8.
    #[error("field {field} is not valid UTF-8")]
    InvalidUtf8 {
        /// The field's name in `docs/PROTOCOL.md`.
        field: &'static str,
    },
    /// The critical bit of the type is set and the type is unknown.
    #[error("unknown critical type {0:#04x}")]
    UnknownType(u8),
}

/// Takes fields off the front of the input.
///
/// Errors are sticky: after the first, every field reads as zero or as an empty text, and [`check`](Self::check) and
/// [`end`](Self::end) report it. That is less code than an answer to each field's error.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
    error: Option<DecodeError>,
}

impl Reader {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: Bytes) -> Self {
        Self { rest: input, error: None }
    }

    /// Bytes not yet read; none after an error.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> u8 {
        self.number(1, field) as u8
    }

    /// Two bytes.
    pub fn u16(&mut self, field: &'static str) -> u16 {
        self.number(2, field) as u16
    }

    /// Four bytes.
    pub fn u32(&mut self, field: &'static str) -> u32 {
        self.number(4, field) as u32
    }

    /// Eight bytes.
    pub fn u64(&mut self, field: &'static str) -> u64 {
        self.number(8, field)
    }

    fn number(&mut self, len: usize, field: &'static str) -> u64 {
        let Some(bytes) = self.rest.get(..len) else {
            self.fail(DecodeError::Truncated { field });
            return 0;
        };
        let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        self.rest.advance(len);
        number
    }

    /// A fixed number of bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> [u8; N] {
        let Some(&array) = self.rest.first_chunk() else {
            self.fail(DecodeError::Truncated { field });
            return [0; N];
        };
        self.rest.advance(N);
        array
    }

    /// The next `len` bytes, shared with the input.
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Bytes {
        if self.rest.len() < len {
            self.fail(DecodeError::Truncated { field });
            return Bytes::new();
        }
        self.rest.split_to(len)
    }

    /// A text whose length in bytes is in the `u8` before it.
    pub fn str8(&mut self, field: &'static str) -> String {
        let len = self.u8(field);
        self.str(len.into(), field)
    }

    /// A text whose length in bytes is in the `u16` before it, at most `max`.
    pub fn str16(&mut self, max: usize, field: &'static str) -> String {
        let len = usize::from(self.u16(field));
        self.require(len <= max, field);
        self.str(len, field)
    }

    /// A text of so many bytes.
    pub(crate) fn str(&mut self, len: usize, field: &'static str) -> String {
        let bytes = self.bytes(len, field);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.fail(DecodeError::InvalidUtf8 { field });
                String::new()
            }
        }
    }

    /// All that is left.
    #[must_use]
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Notes that the field has a value that is not allowed, unless it is `allowed`.
    pub fn require(&mut self, allowed: bool, field: &'static str) {
        if !allowed {
            self.fail(DecodeError::InvalidValue { field });
        }
    }

    /// Notes an error, which hides those that follow, and reads nothing more.
    pub fn fail(&mut self, error: DecodeError) {
        self.error.get_or_insert(error);
        self.rest = Bytes::new();
    }

    /// Checks that nothing was wrong so far.
    pub fn check(&self) -> Result<(), DecodeError> {
        self.error.map_or(Ok(()), Err)
    }

    /// Checks that nothing was wrong and nothing is left.
    pub fn end(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => self.check(),
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
    let len = varint_len(value);
    let mark = u64::from(len.trailing_zeros()) << (8 * len - 2);
    put_number(out, value.min(MAX_VARINT) | mark, len);
}

pub(crate) fn put_u16(out: &mut BytesMut, number: u16) {
    put_number(out, number.into(), 2);
}

pub(crate) fn put_u32(out: &mut BytesMut, number: u32) {
    put_number(out, number.into(), 4);
}

pub(crate) fn put_u64(out: &mut BytesMut, number: u64) {
    put_number(out, number, 8);
}

/// Appends the last `len` bytes of a number.
///
/// Never inlined: WebAssembly has no instruction that turns bytes around, and each copy would be 60 bytes.
#[inline(never)]
fn put_number(out: &mut BytesMut, number: u64, len: usize) {
    out.put_slice(&number.to_be_bytes()[8 - len..]);
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
            assert_eq!(peek_varint(&out), Some((value, hex.len())));
        }
    }

    proptest! {
        #[test]
        fn a_varint_reads_back_and_has_the_length_told(value in 0..=MAX_VARINT) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            prop_assert_eq!(peek_varint(&out), Some((value, out.len())));
        }
    }
}
