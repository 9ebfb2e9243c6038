//! The part of a command that the sandbox gets: never the credential, which would stay in the memory's garbage and so in images.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Largest number of an answer: JavaScript has all integers up to it.
const MAX_ANSWER: u64 = (1 << 53) - 1;

/// The members of a command that an instruction may see.
#[derive(Debug, Default)]
pub(crate) struct Members<'a> {
    /// In JSON, as the peer wrote them.
    pub(crate) parameters: Option<&'a RawValue>,
    /// The number by which the peer tells this command's answer from others'.
    pub(crate) answer: Option<u64>,
}

impl<'a> Members<'a> {
    /// Reads a command's text; of a member that comes twice, the last one counts, as in JavaScript.
    pub(crate) fn read(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// One of the parameters by its name.
    pub(crate) fn named<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let parameters: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(self.parameters?.get()).ok()?;
        T::deserialize(parameters.get(name)?).ok()
    }

    /// The text for the sandbox. `about` is JSON.
    pub(crate) fn for_sandbox(&self, name: &str, about: &str) -> String {
        let parameters = self.parameters.map_or("null", RawValue::get);
        let name = serde_json::Value::from(name);
        let answer = serde_json::Value::from(self.answer);
        format!(r#"{{"about":{about},"name":{name},"parameters":{parameters},"answer":{answer}}}"#)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "parameters" => members.parameters = Some(map.next_value()?),
                        "answer" => {
                            let number = map.next_value::<serde_json::Value>()?.as_u64();
                            members.answer = number.filter(|number| *number <= MAX_ANSWER);
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(members)
            }
        }

        deserializer.deserialize_any(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_gets_the_parameters_as_they_were_written_and_no_credential() {
        let text = r#"{"instruction":"x","parameters":[1],"credential":"secret","parameters":[1e400,"\u0000"],"answer":7}"#;
        let members = Members::read(text);
        assert_eq!(members.answer, Some(7));
        assert_eq!(
            members.for_sandbox("a\"b", "{}"),
            r#"{"about":{},"name":"a\"b","parameters":[1e400,"\u0000"],"answer":7}"#
        );
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["1", "[]", "\"x\"", "null"] {
            assert!(Members::read(text).parameters.is_none(), "{text}");
        }
    }
}
