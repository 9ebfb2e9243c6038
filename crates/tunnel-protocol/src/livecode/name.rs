//! The name of a command, read from JSON as JavaScript makes a text of any value.

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The result of JavaScript's `String()` for any plain object.
pub(super) const OBJECT: &str = "[object Object]";

/// A JSON value as JavaScript's `String()` shows it, arrays included.
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Name, E> {
        Ok(Name(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Name, E> {
        Ok(Name(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Name, E> {
        Ok(Name(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Name, E> {
        Ok(Name(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Name, E> {
        Ok(Name(number.to_string()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Name, E> {
        Ok(Name("null".to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Name, A::Error> {
        let mut joined = String::new();
        let mut is_first = true;
        while let Some(element) = seq.next_element::<Option<Self::Value>>()? {
            if !std::mem::take(&mut is_first) {
                joined.push(',');
            }
            joined.push_str(element.as_ref().map_or("", |element| &element.0));
        }
        Ok(Name(joined))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Name, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Name(OBJECT.to_owned()))
    }
}
