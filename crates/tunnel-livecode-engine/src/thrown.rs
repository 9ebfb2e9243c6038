//! Errors of instructions, as peers are told of them.

use serde_json::{Value, json};

/// Longest text of an error on the wire, in bytes.
const MAX_TEXT: usize = 2_048;

/// An error that was thrown, and its stack.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Thrown {
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) stack: String,
}

/// A place in a source: `name version:line:column`.
#[derive(Debug, Eq, PartialEq)]
struct Place<'a> {
    instruction: &'a str,
    version: u32,
    line: u32,
    column: u32,
}

impl Thrown {
    /// Reads what the dispatcher tells.
    pub(crate) fn read(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let member = |name| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { name: member("name"), message: member("message"), stack: member("stack") }
    }

    /// An error of the relay's own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { name: "Error".to_owned(), message: message.into(), stack: String::new() }
    }

    /// As a line: `TypeError: cannot read property 'here' of undefined (oops 3:2:3)`.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}: {}", self.name, self.message);
        if let Some(Place { instruction, version, line: at, column }) = place(&self.stack) {
            line.push_str(&format!(" ({instruction} {version}:{at}:{column})"));
        }
        shortened(line)
    }

    /// For those who read the answer by a machine.
    pub(crate) fn json(&self) -> Value {
        let at = place(&self.stack).map(|place| {
            json!({
                "instruction": place.instruction,
                "version": place.version,
                "line": place.line,
                "column": place.column,
            })
        });
        json!({
            "name": shortened(self.name.clone()),
            "message": shortened(self.message.clone()),
            "stack": shortened(self.stack.clone()),
            "at": at,
        })
    }
}

fn shortened(mut text: String) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.truncate(end);
    text
}

/// The first place in a stack that is in an injected source. Of the first line, the parenthesis before the source is taken off.
fn place(stack: &str) -> Option<Place<'_>> {
    let frames = stack.lines().filter_map(|frame| {
        let frame = frame.trim();
        let inside = frame.strip_suffix(')').and_then(|frame| frame.rsplit_once('('));
        let text = inside.map_or_else(|| frame.strip_prefix("at ").unwrap_or(frame), |(_, inside)| inside);
        let (rest, column) = text.rsplit_once(':')?;
        let (rest, line) = rest.rsplit_once(':')?;
        let (instruction, version) = rest.rsplit_once(' ').unwrap_or((rest, "0"));
        let (version, line, column): (u32, u32, u32) =
            (version.parse().ok()?, line.parse().ok()?, column.parse().ok()?);
        if instruction == "relay" && version == 0 {
            return None;
        }
        let column = if line == 1 && version > 0 { column.saturating_sub(1).max(1) } else { column };
        Some(Place { instruction, version, line, column })
    });
    frames.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_first_one_in_an_injected_source() {
        let stack = "    at inner (relay:10:2)\n    at f (my oops 3:2:3)\n    at g (other 1:9:9)\n";
        let expected = Place { instruction: "my oops", version: 3, line: 2, column: 3 };
        assert_eq!(place(stack), Some(expected));
        let syntax = "    at bad 1:1:27\n";
        let expected = Place { instruction: "bad", version: 1, line: 1, column: 26 };
        assert_eq!(place(syntax), Some(expected));
        assert_eq!(
            place("    at <eval> (eval:1:1)"),
            Some(Place { instruction: "eval", version: 0, line: 1, column: 1 })
        );
        for none in ["", "x", "at (native)", "(a:b:c)", "::::"] {
            assert_eq!(place(none), None, "{none}");
        }
    }

    #[test]
    fn a_long_error_is_cut() {
        let thrown = Thrown::new("ü".repeat(10_000));
        assert!(thrown.line().len() <= MAX_TEXT);
    }
}
