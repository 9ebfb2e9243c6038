//! Calls of the module that catch its traps.
//!
//! This changes wasm-bindgen's JavaScript, which has no hook for it:
//! - `__wbg_set_wasm`, by which its other targets take exports from outside, comes without `__wbg_reset_state`. Finalizers of handles
//!   of a module that has trapped would free memory of the next one.
//! - It handles aborts itself where panics unwind. That takes a standard library that is compiled for it, by unstable Rust.
//! - Calls could be caught in `js/`, which makes most of them. But tasks and promises call closures of wasm-bindgen-futures, and
//!   stale closures throw in there, so that the page would see errors of promises that it does not know.
//!
//! The places where it takes a module's exports have to be there exactly once, so that another version of wasm-bindgen fails the build
//! instead of losing the guard.

use anyhow::{Context, Result, ensure};

/// Changes of wasm-bindgen's JavaScript: the exports of the first instance, and of one that follows it, go through
/// `guard`, and closures of an instance that has trapped do nothing.
const CHANGES: [(&str, &str); 2] = [
    ("wasm = instance.exports;", "wasm = guard(instance.exports);"),
    ("wasm = wasmInstance.exports;", "wasm = guard(wasmInstance.exports);"),
];
const CLOSURE: (&str, &str) =
    ("throw new Error('Cannot invoke closure from previous WASM instance');", "return undefined;");

/// wasm-bindgen's JavaScript, in which all calls go through `guard` of the file `source`, a path in the crate.
pub(super) fn guard(glue: &str, source: &str) -> Result<String> {
    let mut texts = glue.split(['\'', '"']);
    let path = texts.find(|text| text.starts_with("./snippets/") && text.ends_with(source));
    let path = path.with_context(|| format!("the glue does not import {source}"))?;
    let mut guarded = format!("import {{ guard }} from '{path}';\n{glue}");
    for (from, to) in CHANGES {
        ensure!(guarded.matches(from).count() == 1, "the glue does not say once: {from}");
        guarded = guarded.replace(from, to);
    }
    Ok(guarded.replace(CLOSURE.0, CLOSURE.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_calls_go_through_the_guard() {
        let glue = "export { a } from './snippets/x/js/page.js';\nwasm = instance.exports;\nwasm = wasmInstance.exports;\n";
        let expected = "import { guard } from './snippets/x/js/page.js';\n\
             export { a } from './snippets/x/js/page.js';\nwasm = guard(instance.exports);\n\
             wasm = guard(wasmInstance.exports);\n";
        assert_eq!(guard(glue, "/js/page.js").expect("it is glue"), expected);
        assert!(guard("wasm = instance.exports;", "/js/page.js").is_err());
    }
}
