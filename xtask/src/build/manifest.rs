//! The package's `package.json`, which `build` writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{LIVECODE, MAIN, MODULES, Module, PACKAGE, SCRIPTS};
use crate::workspace::Workspace;

const KEYWORDS: [&str; 9] = [
    "websocket",
    "websocket-server",
    "webassembly",
    "wasm",
    "tunnel",
    "peer-to-peer",
    "end-to-end-encryption",
    "noise-protocol",
    "browser",
];

/// webpack and its kin copy the wasm that a module names, whatever made the module. esbuild doesn't, nor does Vite's
/// development server, which bundles packages with another tool; neither can be told from the others by a condition.
fn exports(types: &str, entry: &str, inline: &str) -> Value {
    let [types, entry, inline] = [types, entry, inline].map(|file| format!("./{file}"));
    json!({ "types": types, "webpack": entry, "module": inline, "node": inline, "default": entry })
}

/// `require` comes first, for its types. Jest has nothing else unless it is told to.
fn module_exports(module: &Module) -> Value {
    let [types, entry, inline, common] =
        [module.common_types(), module.entry(), module.inline(), module.common()]
            .map(|file| format!("./{file}"));
    let mut exports = Map::new();
    let require = json!({ "types": types, "webpack": entry, "module": inline, "default": common });
    exports.insert("require".into(), require);
    if let Value::Object(others) = self::exports(&module.types(), &module.entry(), &module.inline()) {
        exports.extend(others);
    }
    exports.into()
}

fn inline_exports(types: &str, inline: &str) -> Value {
    json!({ "types": format!("./{types}"), "default": format!("./{inline}") })
}

/// The entry points of the package, by name.
fn entry_points() -> Value {
    let mut points = Map::new();
    for (name, module) in [(".", &MAIN), ("./livecode", &LIVECODE)] {
        points.insert(name.to_owned(), module_exports(module));
        points.insert(format!("{name}/inline"), inline_exports(&module.types(), &module.inline()));
    }
    for script in SCRIPTS {
        let (name, types, inline) = (format!("./{}", script.name), script.types(), script.inline());
        points.insert(format!("{name}/inline"), inline_exports(&types, &inline));
        points.insert(name, exports(&types, &script.entry(), &inline));
    }
    for module in MODULES {
        let wasm = format!("./{}", module.wasm());
        points.insert(wasm.clone(), wasm.into());
    }
    points.insert("./package.json".into(), "./package.json".into());
    points.into()
}

/// The part of the root's `Cargo.toml` that the package's manifest takes over.
#[derive(Deserialize)]
struct Cargo {
    package: CargoPackage,
    workspace: CargoWorkspace,
}

#[derive(Deserialize)]
struct CargoPackage {
    description: String,
}

#[derive(Deserialize)]
struct CargoWorkspace {
    package: Shared,
}

#[derive(Deserialize)]
struct Shared {
    version: String,
    license: String,
    repository: String,
}

/// Files of the workspace that the package has, too.
const FILES: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// Writes the manifest, and puts the files beside it that a package has.
pub(super) fn complete(workspace: &Workspace, package: &Path) -> Result<()> {
    for file in FILES {
        fs::copy(workspace.root.join(file), package.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let path = workspace.root.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let cargo: Cargo =
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let Shared { version, license, repository } = cargo.workspace.package;
    let mut manifest = Map::new();
    manifest.insert("name".into(), PACKAGE.into());
    manifest.insert("description".into(), cargo.package.description.into());
    manifest.insert("version".into(), version.into());
    manifest.insert("license".into(), license.into());
    manifest.insert("type".into(), "module".into());
    manifest.insert("main".into(), format!("./{}", MAIN.entry()).into());
    manifest.insert("module".into(), format!("./{}", MAIN.inline()).into());
    manifest.insert("types".into(), format!("./{}", MAIN.types()).into());
    manifest.insert("exports".into(), entry_points());
    // The modules describe their classes when they are evaluated, so they are taken whole or not at all. The inspector shows
    // itself when it is imported, whoever needs nothing of it.
    manifest.insert("sideEffects".into(), json!(["./inspect.js", "./inspect_inline.js"]));
    manifest.insert(
        "files".into(),
        json!(["*.wasm", "*.js", "*.cjs", "*.js.map", "*.d.ts", "*.d.cts", "LICENSE-*"]),
    );
    manifest.insert("keywords".into(), json!(KEYWORDS));
    manifest.insert("repository".into(), json!({ "type": "git", "url": format!("git+{repository}.git") }));
    manifest.insert("homepage".into(), format!("{repository}#readme").into());
    manifest.insert("bugs".into(), format!("{repository}/issues").into());
    // No `engines`: it is a package for pages, and npm would warn whoever bundles it with an older Node.js.
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    let path = package.join("package.json");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
