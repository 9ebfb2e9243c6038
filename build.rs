//! Joins the JavaScript modules into the one that the glue imports.
//!
//! wasm-bindgen copies each module that Rust names and nothing that those import, so all would have to be named and
//! loaded one by one: more requests for a page, and more at a time than the server of wasm-bindgen-test-runner can take
//! (tiny_http's pool counts a thread as free until it has woken up, so that one connection of a burst may wait for ever).

use std::path::Path;
use std::{env, error, fs};

/// What each imports stands before it.
const MODULES: [&str; 5] = ["common", "identity", "livecode", "sockets", "server"];

fn main() -> Result<(), Box<dyn error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("js");
    let mut joined = String::from("// Made by build.rs of the modules beside it.\n");
    for name in MODULES {
        let path = folder.join(name).with_extension("js");
        println!("cargo::rerun-if-changed={}", path.display());
        let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        joined += &format!("\n// ==== {name}.js\n\n");
        joined += &without_imports(&source);
    }
    let path = folder.join("tunnel.js");
    println!("cargo::rerun-if-changed={}", path.display());
    // Left alone when nothing changed: what depends on it is then not compiled again.
    if fs::read_to_string(&path).is_ok_and(|there| there == joined) {
        return Ok(());
    }
    fs::write(&path, joined).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The modules share one scope, so what one imports of another is there.
fn without_imports(source: &str) -> String {
    let mut kept = String::new();
    let mut in_import = false;
    for line in source.lines() {
        in_import |= line.starts_with("import ");
        if !in_import {
            kept += line;
            kept.push('\n');
        }
        in_import &= !line.contains(" from '");
    }
    kept
}
