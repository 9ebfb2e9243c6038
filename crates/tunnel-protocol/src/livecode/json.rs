//! Commands as JSON text, written by hand: a peer needs no parser, and a page no kilobytes for one.

/// A parameter of an instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parameter<'a> {
    /// A number.
    Number(u32),
    /// A text.
    Text(&'a str),
    /// A value that is JSON already; it is not checked.
    Json(&'a str),
}

/// A command that runs the added instruction of a name.
pub(super) fn invocation(name: &str, parameters: &[Parameter<'_>]) -> String {
    let mut out = start(name);
    out.push_str(",\"parameters\":[");
    for (index, parameter) in parameters.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        match parameter {
            Parameter::Number(number) => out.push_str(&number.to_string()),
            Parameter::Text(text) => put_string(&mut out, text),
            Parameter::Json(json) => out.push_str(json),
        }
    }
    out.push_str("]}");
    out
}

/// A privileged command with named parameters.
pub(super) fn privileged(name: &str, parameters: &[(&str, &str)], credential: &str) -> String {
    let mut out = start(name);
    out.push_str(",\"parameters\":{");
    for (index, (key, value)) in parameters.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_string(&mut out, key);
        out.push(':');
        put_string(&mut out, value);
    }
    out.push_str("},\"credential\":");
    put_string(&mut out, credential);
    out.push('}');
    out
}

/// A privileged command whose parameters are JSON already.
pub(super) fn privileged_json(name: &str, parameters: &str, credential: &str) -> String {
    let mut out = start(name);
    out.push_str(",\"parameters\":");
    out.push_str(parameters);
    out.push_str(",\"credential\":");
    put_string(&mut out, credential);
    out.push('}');
    out
}

fn start(name: &str) -> String {
    let mut out = String::from("{\"instruction\":");
    put_string(&mut out, name);
    out
}

/// Appends a JSON string (RFC 8259, section 7).
fn put_string(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        let byte = rest.as_bytes()[at];
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            _ => {
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_have_one_text() {
        assert_eq!(
            invocation("forward to client", &[Parameter::Number(7), Parameter::Text("a\n\"b\"\u{1}")]),
            r#"{"instruction":"forward to client","parameters":[7,"a\n\"b\"\u0001"]}"#
        );
        assert_eq!(
            invocation("x", &[Parameter::Json("[null]")]),
            r#"{"instruction":"x","parameters":[[null]]}"#
        );
        assert_eq!(invocation("initialize", &[]), r#"{"instruction":"initialize","parameters":[]}"#);
        assert_eq!(
            privileged("add instruction", &[("instructionToAdd", "x"), ("body", "() => 1")], "secret"),
            concat!(
                r#"{"instruction":"add instruction","parameters":{"instructionToAdd":"x","body":"() => 1"},"#,
                r#""credential":"secret"}"#
            )
        );
    }

    proptest! {
        #[test]
        fn strings_are_written_as_another_library_writes_them(text in "\\PC*|[\\x00-\\x7f]*|(?s:.*)") {
            let mut out = String::new();
            put_string(&mut out, &text);
            prop_assert_eq!(serde_json::to_string(&text).expect("strings have a JSON form"), out);
        }
    }
}
