//! The npm package in `pkg/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::process::{output, run};
use crate::wasm::{Names, custom_sections, rename};
use crate::workspace::Workspace;

/// Name of the package, and of its entry point without the ending.
pub(crate) const PACKAGE: &str = "tunnel-wasm";
/// File of the wasm module in the package.
pub(crate) const WASM: &str = "tunnel_wasm_bg.wasm";
/// Its types.
const TYPES: &str = "tunnel_wasm.d.ts";
/// Its JavaScript module.
const ENTRY: &str = "tunnel_wasm.js";
/// What the wasm module calls its JavaScript.
const GLUE: &str = "tunnel_wasm_bg.js";
/// The same module with the wasm inside it.
pub(crate) const INLINE: &str = "tunnel_wasm_inline.js";

/// What the compiler puts into its caller: less than for speed, and more than it would for size. 2 % of the module.
const SMALL: [&str; 1] = ["-Cllvm-args=-inline-threshold=25"];

/// A panic traps, and what it would have said is not in the module.
const SILENT: [&str; 2] = ["-Zunstable-options", "-Cpanic=immediate-abort"];

/// Compiles the standard library with the module.
const REBUILD_STD: [&str; 2] = ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// Builds the package where the settings say.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    build_into(workspace, &workspace.target()?, &workspace.package())
}

/// Builds the package with wasm-pack, and adds what wasm-pack leaves out. Compiles below `target`.
pub(crate) fn build_into(workspace: &Workspace, target: &Path, package: &Path) -> Result<()> {
    let settings = &workspace.config.build;
    let (kind, profile) = (&settings.target, &settings.profile);
    let mut flags = workspace.remap_flags()?;
    flags.extend(SMALL.map(str::to_owned));
    let rebuilds_std = workspace.rebuilds_std()?;
    if rebuilds_std {
        flags.extend(SILENT.map(str::to_owned));
    } else {
        println!(
            "The module is a tenth larger than it could be: only Rust {} is known to compile its standard library with it.",
            settings.rebuild_std
        );
    }
    let mut command = workspace.command("wasm-pack");
    command
        .args(["build", "--mode", "no-install", "--target", kind, "--profile", profile, "--out-dir"])
        .arg(package)
        // Added to the flags in .cargo/config.toml, where the environment would take their place.
        .args(["--", "--config"])
        .arg(format!("target.{}.rustflags={flags:?}", settings.rust_target))
        .env("CARGO_TARGET_DIR", target);
    if rebuilds_std {
        command.args(REBUILD_STD).env("RUSTC_BOOTSTRAP", "1");
    }
    run(&mut command)?;
    check_wasm(workspace, &package.join(WASM))?;
    shorten(package)?;
    bundle(workspace, package)?;
    inline(workspace, package)?;
    declare(package)?;
    complete_manifest(package)
}

/// Gives what the module and its glue call each other short names: they have hashes in them, which no compression
/// makes small, and the glue needs all names of our JavaScript for the few that the module imports directly.
fn shorten(package: &Path) -> Result<()> {
    let (wasm, glue) = (package.join(WASM), package.join(ENTRY));
    let bytes = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let text = fs::read_to_string(&glue).with_context(|| format!("cannot read {}", glue.display()))?;
    let renamed = rename(&bytes, &format!("./{GLUE}"))
        .with_context(|| format!("{} is not understood", wasm.display()))?;
    let text = rename_in_glue(&text, &renamed.imports, &renamed.exports)
        .with_context(|| format!("{} has another form than it had", glue.display()))?;
    fs::write(&wasm, renamed.wasm).with_context(|| format!("cannot write {}", wasm.display()))?;
    fs::write(&glue, text).with_context(|| format!("cannot write {}", glue.display()))
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
            lines.push(format!("        {short}: function({rest}"));
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

/// Makes one minified module of the glue and what it imports: half the bytes, and one request for a page.
fn bundle(workspace: &Workspace, package: &Path) -> Result<()> {
    let entry = package.join(ENTRY);
    run(esbuild(workspace, &entry)
        .arg("--sourcemap")
        .arg(format!("--outfile={}", entry.display()))
        .arg("--allow-overwrite"))?;
    let snippets = package.join("snippets");
    fs::remove_dir_all(&snippets).with_context(|| format!("cannot remove {}", snippets.display()))
}

/// Has Chromium compile all functions while the module loads, instead of each when a page's first connection calls it.
const COMPILE_ALL: &str = "//# allFunctionsCalledOnLoad";

fn esbuild(workspace: &Workspace, entry: &Path) -> Command {
    let mut command = workspace.command("esbuild");
    let options = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--log-level=warning"];
    command.arg(entry).args(options).arg(format!("--banner:js={COMPILE_ALL}"));
    // The glue names the imported module once for each block of functions in it.
    command.arg("--log-override:duplicate-object-key=silent");
    command
}

/// A byte of the wasm becomes the character so many places on. The most frequent ones are then printable ASCII, no quote
/// is among them, and compression still sees bytes: it comes to 2 % more than the wasm, where base64 comes to 32 %.
const SHIFT: u32 = 35;

/// Makes the module that has the wasm inside, for Node and for bundlers that don't copy what lies beside a module.
fn inline(workspace: &Workspace, package: &Path) -> Result<()> {
    let wasm = fs::read(package.join(WASM)).with_context(|| format!("wasm-pack made no {WASM}"))?;
    let text = wasm.iter().filter_map(|&byte| char::from_u32(u32::from(byte) + SHIFT)).collect::<String>();
    let entry = package.join("inline.js");
    let source = format!(
        r#"import init from "./{ENTRY}"
export * from "./{ENTRY}"
const wasm = "{}"
function bytes() {{
  const bytes = new Uint8Array(wasm.length)
  for (let i = 0; i < bytes.length; i++) bytes[i] = wasm.charCodeAt(i) - {SHIFT}
  return bytes
}}
export default given => init(given ?? {{ module_or_path: bytes() }})
"#,
        text.replace('\\', r"\\")
    );
    fs::write(&entry, source).with_context(|| format!("cannot write {}", entry.display()))?;
    run(esbuild(workspace, &entry)
        .arg("--charset=utf8")
        // Nothing is beside this module, and bundlers would look.
        .arg("--define:import.meta.url=undefined")
        .arg(format!("--outfile={}", package.join(INLINE).display())))?;
    fs::remove_file(&entry).with_context(|| format!("cannot remove {}", entry.display()))
}

/// wasm-bindgen declares what only the classes use, and not strictly, after our declarations: ours of `init` instead.
fn declare(package: &Path) -> Result<()> {
    let path = package.join(TYPES);
    let text = fs::read_to_string(&path).with_context(|| format!("wasm-pack made no {}", path.display()))?;
    let ours = text.find("\ndeclare class ").and_then(|at| text[..at].rfind("\n}\n"));
    let ours = ours.with_context(|| format!("{} has another order than it had", path.display()))?;
    let text = text[..ours].to_owned() + "\n}\n" + include_str!("../../js/init.d.ts");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Without wasm-opt the names of all functions would be in the file, which doubles it: wasm-pack only mentions that.
/// With too new features allowed, wasm-opt makes what browsers don't take: Node's engine is that of Chromium.
fn check_wasm(workspace: &Workspace, path: &Path) -> Result<()> {
    const COMPILE: &str = "new WebAssembly.Module(require('fs').readFileSync(process.argv[1]))";
    let wasm = fs::read(path).with_context(|| format!("wasm-pack made no {}", path.display()))?;
    let sections = custom_sections(&wasm).with_context(|| format!("{} is not understood", path.display()))?;
    if sections.iter().any(|name| name == "name") {
        bail!(
            "{} still has its name section, so wasm-opt has not run: `cargo xtask setup` installs it",
            path.display()
        );
    }
    output(workspace.command("node").args(["-e", COMPILE]).arg(path))
        .with_context(|| format!("browsers would refuse {}", path.display()))?;
    Ok(())
}

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

/// wasm-pack's `package.json` lists neither the exports nor all files.
fn complete_manifest(package: &Path) -> Result<()> {
    let path = package.join("package.json");
    let text = fs::read_to_string(&path).with_context(|| format!("wasm-pack made no {}", path.display()))?;
    let mut manifest: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let entry = format!("./{ENTRY}");
    let types = format!("./{TYPES}");
    manifest.insert("name".into(), PACKAGE.into());
    manifest.insert("type".into(), "module".into());
    manifest.insert("main".into(), entry.as_str().into());
    manifest.insert("module".into(), format!("./{INLINE}").into());
    manifest.insert("types".into(), types.as_str().into());
    // webpack and its kin copy the wasm that the module names, whatever made the module. esbuild doesn't, nor does Vite's
    // development server, which bundles packages with another tool; neither can be told from the others by a condition.
    let (inline, wasm) = (format!("./{INLINE}"), format!("./{WASM}"));
    manifest.insert(
        "exports".into(),
        json!({
            ".": {
                "types": types,
                "webpack": entry,
                "module": inline,
                "node": inline,
                "default": entry,
            },
            "./inline": { "types": types, "default": inline },
            wasm.as_str(): wasm,
            "./package.json": "./package.json",
        }),
    );
    // The modules describe their classes when they are evaluated, so they are taken whole or not at all.
    manifest.insert("sideEffects".into(), false.into());
    manifest.insert("files".into(), json!(["*.wasm", "*.js", "*.js.map", "*.d.ts", "LICENSE-*"]));
    manifest.insert("keywords".into(), json!(KEYWORDS));
    let repository = manifest.get("repository").and_then(|repository| repository["url"].as_str());
    let repository = repository.context("Cargo.toml names no repository")?.to_owned();
    manifest.insert("repository".into(), json!({ "type": "git", "url": format!("git+{repository}.git") }));
    manifest.insert("homepage".into(), format!("{repository}#readme").into());
    manifest.insert("bugs".into(), format!("{repository}/issues").into());
    // The first with a `WebSocket` of its own.
    manifest.insert("engines".into(), json!({ "node": ">=22" }));
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
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
        a: function(arg0) {
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
    fn glue_that_lacks_a_function_of_the_module_is_refused() {
        let exports = names(&[("__wbindgen_malloc", "c"), ("memory", "memory")]);
        let imports = [names(&[("__wbg_now_0123", "a"), ("__wbg_then_4567", "b")]), Names::new()];
        assert!(rename_in_glue(GLUE, &imports, &exports).is_err());
        let imports = [names(&[("__wbg_now_0123", "a")]), Names::new()];
        assert!(rename_in_glue(GLUE, &imports, &names(&[("memory", "memory")])).is_err());
    }
}
