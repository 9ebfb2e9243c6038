//! Texts from parts, for what a page downloads: the standard library's formatting would be 1 KB of it.

/// What can be told in words.
pub trait ToText {
    /// Appends the words.
    fn write_text(&self, text: &mut String);

    /// The words.
    fn to_text(&self) -> String {
        let mut text = String::new();
        self.write_text(&mut text);
        text
    }
}

/// One text of parts that each are [`ToText`].
macro_rules! text {
    ($($part:expr),+ $(,)?) => {{
        let mut text = String::new();
        $crate::text::append!(&mut text, $($part),+);
        text
    }};
}
pub(crate) use text;

/// Appends parts to a text.
macro_rules! append {
    ($text:expr, $($part:expr),+ $(,)?) => {{
        $($crate::text::ToText::write_text(&$part, $text);)+
    }};
}
pub(crate) use append;

/// `Display` as the same words.
macro_rules! display_as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::text::ToText::to_text(self))
            }
        }
    )+};
}
pub(crate) use display_as_text;

impl<T: ToText + ?Sized> ToText for &T {
    fn write_text(&self, text: &mut String) {
        (**self).write_text(text);
    }
}

impl ToText for str {
    fn write_text(&self, text: &mut String) {
        text.push_str(self);
    }
}

impl ToText for String {
    fn write_text(&self, text: &mut String) {
        text.push_str(self);
    }
}

/// In decimal.
impl ToText for u64 {
    fn write_text(&self, text: &mut String) {
        if *self >= 10 {
            (*self / 10).write_text(text);
        }
        text.push(char::from(b'0' + (*self % 10) as u8));
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl ToText for $number {
            fn write_text(&self, text: &mut String) {
                (*self as u64).write_text(text);
            }
        }
    )+};
}

numbers!(u8, u16, u32, usize);

/// A byte in two hexadecimal digits.
pub(crate) struct Hex(pub(crate) u8);

impl ToText for Hex {
    fn write_text(&self, text: &mut String) {
        for digit in [self.0 >> 4, self.0 & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

/// The text that the bytes are in UTF-8, as far as they are: what is none becomes U+FFFD, as in
/// `String::from_utf8_lossy`, which is three times the code.
pub(crate) fn lossy(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    loop {
        let (valid, end) = match std::str::from_utf8(bytes) {
            Ok(rest) => (rest, None),
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                let skipped = error.error_len().unwrap_or(rest.len());
                (std::str::from_utf8(valid).unwrap_or_default(), Some(&rest[skipped..]))
            }
        };
        text.push_str(valid);
        let Some(rest) = end else { return text };
        text.push(char::REPLACEMENT_CHARACTER);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_what_format_makes_of_them(number: u64, short: u16, words: String) {
            prop_assert_eq!(
                text!["a ", number, &words, short, "."],
                format!("a {number}{words}{short}.")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_no_utf_8_is_replaced_as_the_standard_library_does(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<Vec<u8>>(),
                    any::<String>().prop_map(String::into_bytes),
                    // The beginnings of longer characters.
                    (any::<char>(), 0_usize..4).prop_map(|(letter, len)| {
                        letter.to_string().into_bytes().into_iter().take(len).collect()
                    }),
                ],
                0..8,
            )
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(lossy(&bytes), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn numbers_have_no_zeros_in_front_and_all_of_their_digits() {
        for (number, expected) in
            [(0_u64, "0"), (9, "9"), (10, "10"), (1_000, "1000"), (u64::MAX, "18446744073709551615")]
        {
            assert_eq!(number.to_text(), expected);
        }
    }
}
