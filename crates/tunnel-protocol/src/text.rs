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

    #[test]
    fn numbers_have_no_zeros_in_front_and_all_of_their_digits() {
        for (number, expected) in
            [(0_u64, "0"), (9, "9"), (10, "10"), (1_000, "1000"), (u64::MAX, "18446744073709551615")]
        {
            assert_eq!(number.to_text(), expected);
        }
    }
}
