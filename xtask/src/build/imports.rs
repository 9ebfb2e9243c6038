//! The module's imports of our JavaScript, name by name.
//!
//! wasm-bindgen imports whole modules, of which esbuild makes objects by copying what another object has *or inherits*: on a
//! page that has added something to `Object.prototype`, that throws.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::process::output;
use crate::workspace::Workspace;

/// The imports of a WebAssembly file: module and name each.
pub(super) fn of_wasm(workspace: &Workspace, wasm: &Path) -> Result<Vec<(String, String)>> {
    const LIST: &str = "const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]))
        console.log(JSON.stringify(WebAssembly.Module.imports(module).map(({ module, name }) => [module, name])))";
    let listed = output(workspace.command("node").args(["-e", LIST]).arg(wasm))
        .with_context(|| format!("cannot list the imports of {}", wasm.display()))?;
    serde_json::from_str(&listed).context("Node.js prints JSON")
}

/// wasm-bindgen's JavaScript, with the names in the place of whole modules.
pub(super) fn name(glue: &str, imports: &[(String, String)]) -> Result<String> {
    let mut modules = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (module, name) in imports.iter().filter(|(module, _)| module.starts_with("./snippets/")) {
        modules.entry(module).or_default().insert(name);
    }
    let mut named = String::new();
    for (index, (path, names)) in modules.iter().enumerate() {
        for name in names {
            writeln!(named, "import {{ {name} as imported_{index}_{name} }} from \"{path}\";")?;
        }
        write!(named, "const imported_{index} = {{ __proto__: null")?;
        for name in names {
            write!(named, ", {name}: imported_{index}_{name}")?;
        }
        named.push_str(" };\n");
    }
    let mut given = BTreeSet::new();
    for line in glue.lines() {
        let path = line.strip_prefix("import * as import").and_then(|rest| rest.split('"').nth(1));
        if path.is_some_and(|path| modules.contains_key(path)) {
            continue;
        }
        let entry = line.trim().strip_prefix('"').and_then(|entry| entry.split_once("\": import"));
        match entry.and_then(|(path, _)| modules.keys().position(|module| *module == path)) {
            Some(index) if given.insert(index) => {
                writeln!(named, "        {:?}: imported_{index},", modules.keys().nth(index).unwrap_or(&""))?;
            }
            Some(_) => {}
            None => {
                named.push_str(line);
                named.push('\n');
            }
        }
    }
    ensure!(given.len() == modules.len(), "the glue does not give the module all that it imports");
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_become_objects_of_what_is_imported_of_them() {
        let glue = "import { a } from './snippets/x/js/page.js';\nimport * as import1 from \"./snippets/x/js/page.js\"\n\
             import * as import2 from \"./snippets/x/js/page.js\"\n    return {\n        \"./m_bg.js\": import0,\n        \
             \"./snippets/x/js/page.js\": import1,\n        \"./snippets/x/js/page.js\": import2,\n    };\n";
        let expected = "import { b as imported_0_b } from \"./snippets/x/js/page.js\";\n\
             const imported_0 = { __proto__: null, b: imported_0_b };\n\
             import { a } from './snippets/x/js/page.js';\n    return {\n        \"./m_bg.js\": import0,\n        \
             \"./snippets/x/js/page.js\": imported_0,\n    };\n";
        let imports =
            [("./m_bg.js", "x"), ("./snippets/x/js/page.js", "b")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(name(glue, &imports).expect("it is glue"), expected);
        assert!(name("", &imports).is_err());
    }
}
