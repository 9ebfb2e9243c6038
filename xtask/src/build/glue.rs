//! The JavaScript that wasm-bindgen writes for a module.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Module;
use crate::wasm::{GIVER, Names, letters, rename};

/// Gives what the module and its glue call each other short names: they have hashes in them, which no compression
/// makes small, and the glue needs all names of our JavaScript for the few that the module imports directly.
pub(super) fn shorten(module: &Module, package: &Path) -> Result<()> {
    let (wasm, glue) = (package.join(module.wasm()), package.join(module.entry()));
    let bytes = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let text = fs::read_to_string(&glue).with_context(|| format!("cannot read {}", glue.display()))?;
    let text = trim(&text, &module.wasm())
        .with_context(|| format!("{} has another form than it had", glue.display()))?;
    let renamed =
        rename(&bytes, &module.glue()).with_context(|| format!("{} is not understood", wasm.display()))?;
    let text = text.replace(&format!("\"{}\": import0", module.glue()), &format!("{GIVER}: import0"));
    let text = rename_in_glue(&text, &renamed.imports, &renamed.exports)
        .with_context(|| format!("{} has another form than it had", glue.display()))?;
    fs::write(&wasm, renamed.wasm).with_context(|| format!("cannot write {}", wasm.display()))?;
    let text = match snippet(&text) {
        Some(ours) => {
            let ours = package.join(ours);
            let source =
                fs::read_to_string(&ours).with_context(|| format!("cannot read {}", ours.display()))?;
            let (text, source) = rename_methods(text, source)?;
            fs::write(&ours, source).with_context(|| format!("cannot write {}", ours.display()))?;
            text
        }
        None => text,
    };
    fs::write(&glue, text).with_context(|| format!("cannot write {}", glue.display()))
}

/// Initialisation, by what it is given.
const INIT: &str = include_str!("init.js");

/// Leaves out what nobody calls or all browsers have that can read the module, and initialises in fewer words.
fn trim(glue: &str, wasm: &str) -> Result<String> {
    let end = glue.find("\nlet wasmModule, wasmInstance, wasm;\n").context("it is not initialised")?;
    let mut text = glue[..end].to_owned();
    for (start, end) in [
        // The one instance that Rust makes is only asked for its class.
        ("    static __wrap(ptr) {\n", "\n    }\n"),
        ("const ConnectorFinalization = ", ";\n"),
        // What frees the first argument when the second is of the wrong type.
        ("        } catch (e) {\n            if (ptr", "\n        }\n"),
        ("    __destroy_into_raw() {\n", "\n    }\n"),
        ("    free() {\n", "\n    }\n"),
        ("if (Symbol.dispose) ", "\n"),
        ("(typeof FinalizationRegistry === 'undefined')\n", "    : "),
        ("    if (realloc === undefined) {\n", "\n    }\n"),
        ("if (!('encodeInto' in cachedTextEncoder)) {\n", "\n}\n"),
    ] {
        while let Some(at) = text.find(start) {
            let length = text[at..].find(end).with_context(|| format!("{start:?} does not end"))? + end.len();
            text.replace_range(at..at + length, "");
        }
    }
    for (long, short) in [
        ("Connector.__wrap(arg0)", "Connector.prototype"),
        ("        try {\n            ptr0 = ", "            ptr0 = "),
        (" * 1, ", ", "),
        (" / 1", ""),
    ] {
        text = text.replace(long, short);
    }
    Ok(without_conversions(&text) + "\n" + &INIT.replace("MODULE", wasm))
}

/// Has numbers and truth values passed on as they are: to call the module converts them, too.
fn without_conversions(glue: &str) -> String {
    let mut text = String::new();
    let mut converted = Vec::new();
    for line in glue.lines() {
        let conversion = line.strip_prefix("        const ").and_then(|line| line.strip_suffix(';'));
        if let Some(conversion) = conversion.and_then(|line| line.split_once(" = +")) {
            converted.push(conversion);
            continue;
        }
        let line = converted.iter().rev().fold(line.to_owned(), |line, (to, from)| line.replace(to, from));
        if line == "    }" {
            converted.clear();
        }
        text += &line;
        text.push('\n');
    }
    text
}

/// Renames in what wasm-bindgen writes: a property for each function that it gives the module, whole namespaces of our
/// JavaScript for what the module takes from there, and `wasm.name` for what it calls.
fn rename_in_glue(glue: &str, [given, taken]: &[Names; 2], exports: &Names) -> Result<String> {
    const GIVEN: &str = "    const import0 = {\n        __proto__: null,\n";
    let mut lines = Vec::new();
    let mut found = 0;
    for line in glue.lines() {
        let name = line.strip_prefix("        ").and_then(|line| line.split_once(": function("));
        if let Some((short, rest)) = name.and_then(|(name, rest)| Some((given.get(name)?, rest))) {
            found += 1;
            lines.push(format!("        {short}({rest}"));
        } else if !line.starts_with("import * as import") && !line.starts_with("        \"./snippets/") {
            lines.push(rename_calls(line, exports)?);
        }
    }
    if found != given.len() {
        bail!("the module imports {} functions from it, and it has {found} of them", given.len());
    }
    let mut text = lines.join("\n") + "\n";
    if !taken.is_empty() {
        let module = text.find("from './snippets/").and_then(|at| text[at..].lines().next());
        let module = module.context("nothing is imported from our JavaScript")?.to_owned();
        let names: Vec<_> = taken.keys().map(|name| format!("{name} as {name}_")).collect();
        let properties: String =
            taken.iter().map(|(name, short)| format!("        {short}: {name}_,\n")).collect();
        let at = text.find(GIVEN).context("no functions are given to the module")? + GIVEN.len();
        text.insert_str(at, &properties);
        text.insert_str(0, &format!("import {{ {} }} {module}\n", names.join(", ")));
    }
    Ok(text)
}

/// Where the JavaScript of ours is that the glue imports.
fn snippet(glue: &str) -> Option<&str> {
    glue.split_once(" from './")?.1.split('\'').next()
}

/// Renames the methods of the class `Connector`, which our JavaScript calls as `tunnel.name()` or `connector().name()`.
fn rename_methods(mut glue: String, mut ours: String) -> Result<(String, String)> {
    let methods = glue.lines().filter_map(|line| Some(line.strip_prefix("    static ")?.split_once('(')?.0));
    let methods: Vec<_> = methods.filter(|name| !name.starts_with('_')).map(str::to_owned).collect();
    for (index, name) in methods.iter().enumerate() {
        let short = letters(index);
        let called = ours.len();
        for caller in ["tunnel.", "connector()."] {
            ours = ours.replace(&format!("{caller}{name}("), &format!("{caller}{short}("));
        }
        if ours.len() == called {
            bail!("nobody calls the method {name}");
        }
        glue = glue.replace(&format!("    static {name}("), &format!("    static {short}("));
    }
    Ok((glue, ours))
}

/// Renames every `wasm.name` of a line.
fn rename_calls(line: &str, exports: &Names) -> Result<String> {
    const CALL: &str = "wasm.";
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_$".contains(character);
    let mut pieces = line.split(CALL);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let inside_a_word = text.ends_with(is_name) || text.ends_with('.');
        text.push_str(CALL);
        let end = piece.find(|character| !is_name(character)).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        let name = if inside_a_word {
            name
        } else {
            exports.get(name).with_context(|| format!("there is no {name}"))?
        };
        text.push_str(name);
        text.push_str(rest);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pairs: &[(&str, &str)]) -> Names {
        pairs.iter().map(|&(from, to)| (from.into(), to.into())).collect()
    }

    const GLUE: &str = "\
import { start } from './snippets/x/js/tunnel.js';
import * as import1 from \"./snippets/x/js/tunnel.js\"
function __wbg_get_imports() {
    const import0 = {
        __proto__: null,
        __wbg_now_0123: function(arg0) {
            return wasm.__wbindgen_malloc(arg0, wasm.memory);
        },
    };
    return {
        \"./tunnel_wasm_bg.js\": import0,
        \"./snippets/x/js/tunnel.js\": import1,
    };
}
";

    #[test]
    fn the_glue_gives_and_calls_by_the_short_names() {
        let imports = [names(&[("__wbg_now_0123", "a")]), names(&[("postTasks", "b")])];
        let exports = names(&[("__wbindgen_malloc", "c"), ("memory", "memory")]);
        let expected = "\
import { postTasks as postTasks_ } from './snippets/x/js/tunnel.js';
import { start } from './snippets/x/js/tunnel.js';
function __wbg_get_imports() {
    const import0 = {
        __proto__: null,
        b: postTasks_,
        a(arg0) {
            return wasm.c(arg0, wasm.memory);
        },
    };
    return {
        \"./tunnel_wasm_bg.js\": import0,
    };
}
";
        assert_eq!(rename_in_glue(GLUE, &imports, &exports).unwrap(), expected);
    }

    #[test]
    fn arguments_are_passed_on_as_they_are() {
        let glue = "    static f(a, b) {\n        const val1 = +a;\n        const val10 = +b;\n        g(val1, val10);\n    }\n";
        assert_eq!(without_conversions(glue), "    static f(a, b) {\n        g(a, b);\n    }\n");
    }

    #[test]
    fn methods_have_the_same_short_names_on_both_sides() {
        let glue = "class Connector {\n    static __wrap(ptr) {\n    }\n    static runTask() {\n    }\n}\n";
        let ours = "const run = () => tunnel.runTask();\nsocket.runTask();\n";
        let (glue, ours) = rename_methods(glue.into(), ours.into()).unwrap();
        assert_eq!(glue, "class Connector {\n    static __wrap(ptr) {\n    }\n    static a() {\n    }\n}\n");
        assert_eq!(ours, "const run = () => tunnel.a();\nsocket.runTask();\n");
        assert!(rename_methods("    static idle() {\n".into(), "idle()".into()).is_err());
    }

    #[test]
    fn glue_that_lacks_a_function_of_the_module_is_refused() {
        let exports = names(&[("__wbindgen_malloc", "c"), ("memory", "memory")]);
        let imports = [names(&[("__wbg_now_0123", "a"), ("__wbg_then_4567", "b")]), Names::new()];
        assert!(rename_in_glue(GLUE, &imports, &exports).is_err());
        let imports = [names(&[("__wbg_now_0123", "a")]), Names::new()];
        assert!(rename_in_glue(GLUE, &imports, &names(&[("memory", "memory")])).is_err());
    }
}
