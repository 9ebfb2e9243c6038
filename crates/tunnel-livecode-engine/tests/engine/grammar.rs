//! Commands with JavaScript that is made up from a grammar, as an attacker would: whatever they do, the engine answers, keeps to its
//! memory, and runs the next call.

use crate::support::{Rig, privileged, program_with, unlimited};
use proptest::prelude::*;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tunnel_livecode_engine::{Limits, Program};

/// Makes texts of numbers: each is a choice, and without any left the first way is taken.
struct Writer<'a> {
    choices: std::slice::Iter<'a, u8>,
    depth: u32,
}

impl Writer<'_> {
    fn pick<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        let choice = usize::from(self.choices.next().copied().unwrap_or_default());
        texts[choice % texts.len()]
    }

    fn value(&mut self) -> String {
        self.depth += 1;
        let kind = if self.depth > 6 { 0 } else { self.choices.next().copied().unwrap_or_default() % 14 };
        let text = match kind {
            0 => self
                .pick(&[
                    "1",
                    "null",
                    "undefined",
                    "'x'",
                    "-0",
                    "1e9",
                    "2n ** 64n",
                    "Symbol.iterator",
                    "this",
                    "global",
                ])
                .to_owned(),
            1 => format!("[{}, {}]", self.value(), self.value()),
            2 => format!(
                "({{ {}: {}, get y() {{ {} }} }})",
                self.pick(&["x", "toString", "toJSON", "then", "name", "__proto__"]),
                self.value(),
                self.statement()
            ),
            3 => format!(
                "({} {} {})",
                self.value(),
                self.pick(&["+", "*", "in", "instanceof", "==", "**", "&&", "??"]),
                self.value()
            ),
            4 => format!("(function f(a, ...b) {{ {} }})", self.statement()),
            5 => format!("(async () => {{ {} }})()", self.statement()),
            6 => format!("({})?.({}, {})", self.value(), self.value(), self.value()),
            7 => format!("({})?.[{}]", self.value(), self.value()),
            8 => format!(
                "new Proxy({{}}, {{ {}: {} }})",
                self.pick(&["get", "has", "ownKeys", "getPrototypeOf", "set"]),
                self.value()
            ),
            9 => format!(
                "new {}({})",
                self.pick(&[
                    "Array",
                    "Map",
                    "Error",
                    "Uint8Array",
                    "RegExp",
                    "Function",
                    "Promise",
                    "WeakRef",
                    "Date"
                ]),
                self.value()
            ),
            10 => format!(
                "{}({})",
                self.pick(&[
                    "String",
                    "JSON.stringify",
                    "structuredClone",
                    "Object.freeze",
                    "Reflect.ownKeys",
                    "eval",
                    "Array.from",
                    "encodeURI"
                ]),
                self.value()
            ),
            11 => format!(
                "`${{{}}}`.{}",
                self.value(),
                self.pick(&[
                    "repeat(99)",
                    "split('')",
                    "normalize()",
                    "padEnd(9999)",
                    "replace(/(.*)*$/, '$1$1')"
                ])
            ),
            12 => format!(
                "this.{}({})",
                self.pick(&["send", "close", "on", "emit", "once", "off", "prove", "terminate"]),
                self.value()
            ),
            _ => format!("serve({}, {})", self.pick(&["80", "81", "-1", "'x'"]), self.value()),
        };
        self.depth -= 1;
        text
    }

    fn statement(&mut self) -> String {
        self.depth += 1;
        let kind = if self.depth > 6 { 0 } else { self.choices.next().copied().unwrap_or_default() % 12 };
        let text = match kind {
            0 => format!("return {}", self.value()),
            1 => format!("{}; {}", self.statement(), self.statement()),
            2 => format!("throw {}", self.value()),
            3 => format!(
                "try {{ {} }} catch {{ {} }} finally {{ {} }}",
                self.statement(),
                self.statement(),
                self.value()
            ),
            4 => {
                format!("for (let i = 0; i < {}; i++) {{ {} }}", self.pick(&["3", "99", "1e9"]), self.value())
            }
            5 => format!(
                "{}.prototype.{} = {}",
                self.pick(&["Object", "Array", "Function", "Promise", "Map", "String", "RegExp"]),
                self.pick(&["toString", "then", "get", "exec", "call", "length", "constructor"]),
                self.value()
            ),
            6 => format!("setTimeout({}, {})", self.value(), self.pick(&["0", "1", "50", "NaN"])),
            7 => format!("console.{}({})", self.pick(&["log", "error"]), self.value()),
            8 => format!(
                "global.{} = {}",
                self.pick(&["kept", "JSON", "Reflect", "console", "String", "undefined"]),
                self.value()
            ),
            9 => format!("delete global.{}", self.pick(&["kept", "Promise", "Object", "Symbol", "serve"])),
            10 => format!("Promise.resolve({}).then({})", self.value(), self.value()),
            _ => format!("await_ = {}", self.value()),
        };
        self.depth -= 1;
        text
    }
}

fn program() -> Option<Arc<Program>> {
    static PROGRAM: OnceLock<Option<Arc<Program>>> = OnceLock::new();
    PROGRAM.get_or_init(|| program_with(Limits::default().with_call_time(Duration::from_millis(10)))).clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_injected_the_next_call_answers(
        commands in prop::collection::vec((0..4_u8, prop::collection::vec(any::<u8>(), 0..60)), 1..12),
    ) {
        let Some(program) = program() else { return Ok(()) };
        let mut rig = Rig::with(&program, unlimited());
        let (good, mut evil) = (rig.open(), rig.open());
        for (kind, choices) in commands {
            let mut writer = Writer { choices: choices.iter(), depth: 0 };
            let text = match kind {
                0 => {
                    let body = format!("function (a, req) {{ {} }}", writer.statement());
                    privileged("add instruction", &json!({ "instructionToAdd": writer.pick(&["a", "b", "initialize"]), "body": body }))
                }
                1 => privileged("eval", &json!({ "body": writer.value() })),
                2 => json!({ "instruction": writer.pick(&["a", "b", "initialize"]), "parameters": [choices], "answer": 7 }).to_string(),
                _ => privileged(writer.pick(&["instructions", "globals", "roll back", "source", "checkpoint", "restore", "remove"]),
                    &json!({ "name": writer.pick(&["a", "b"]), "version": 1, "path": ["kept"], "label": "x" })),
            };
            rig.text(evil, &text);
            if rig.closed.iter().any(|(link, ..)| *link == evil) {
                rig.close(evil);
                evil = rig.open();
            }
        }
        rig.pass(Duration::from_millis(200));
        prop_assert!(rig.engine.stats().memory <= 2 * Limits::default().heap as usize);
        // Code that shares a realm may break what other code uses. The dispatcher needs none of it.
        rig.texts(good);
        let told = rig.add(good, "good", "function (x) { return x }");
        if told.len() == 2 {
            rig.texts(good);
            prop_assert_eq!(rig.invoke(good, "good", r#"["still here"]"#), ["server: still here"]);
        } else {
            // All its memory is used: then the operator's roll-back is what is left.
            prop_assert!(told[2].contains("memory") || told[2].contains("stopped"), "{:?}", told);
        }
    }
}
