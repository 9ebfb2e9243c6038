//! Modules for the pages of `www/`: code from npm, bundled by esbuild, and sources that the pages show.
//!
//! They are made into a folder beside the package, from where pages import them: `../pkg/bundles/codemirror.js`. npm does not pack them,
//! and nothing that is minified is committed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{read, write};
use crate::process::run;
use crate::workspace::Workspace;

/// Folder of the entry points and of the `package.json` with the versions of what they import, relative to the workspace.
pub(crate) const SOURCES: &str = "bundles";

/// The entry points. Each becomes a module of the same name; code that several import becomes a chunk that they share.
const ENTRIES: [&str; 3] = ["codemirror.js", "pad.js", "terminal.js"];

/// Instructions for relays that run programs. The page `live/` shows them, and adds them to its relay.
const LIVECODE: &str = "examples/livecode";

/// The place of the tunnel's six instructions.
const TUNNEL: &str = "crates/tunnel-protocol/src/livecode/instructions";

/// The six in the order in which a configurer adds them: `create_server_credential` is added as `create server credential`.
const INSTRUCTIONS: [&str; 6] = [
    "initialize",
    "create_server_credential",
    "install_server",
    "connect_to_server",
    "forward_to_client",
    "forward_to_server",
];

/// Makes `bundles/` in the package's folder.
pub(super) fn make(workspace: &Workspace, package: &Path) -> Result<()> {
    let folder = package.join("bundles");
    let mut command = workspace.command("esbuild");
    command
        .args(ENTRIES.map(|entry| format!("{SOURCES}/{entry}")))
        .args(["--bundle", "--splitting", "--minify", "--format=esm", "--target=es2022", "--charset=ascii"])
        .args(["--chunk-names=shared-[hash]", "--log-level=warning"])
        .arg(format!("--outdir={}", folder.display()));
    run(&mut command)?;
    write(
        &folder.join("LICENSES.txt"),
        licences(&workspace.root.join(SOURCES).join("node_modules"))?.as_bytes(),
    )?;
    let livecode = folder.join("livecode");
    fs::create_dir_all(&livecode).with_context(|| format!("cannot make {}", livecode.display()))?;
    write(&livecode.join("tunnel.js"), tunnel(workspace)?.as_bytes())?;
    let examples = workspace.root.join(LIVECODE);
    for entry in fs::read_dir(&examples).with_context(|| format!("cannot read {}", examples.display()))? {
        let path = entry?.path();
        if let (Some("js"), Some(name)) = (path.extension().and_then(|it| it.to_str()), path.file_name()) {
            fs::copy(&path, livecode.join(name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// A module with the tunnel's six, in the form of the ones in `examples/livecode/`.
fn tunnel(workspace: &Workspace) -> Result<String> {
    let mut text = String::from("export const title = \"The tunnel's six\";\nexport default {\n");
    for name in INSTRUCTIONS {
        let source = read(&workspace.root.join(TUNNEL).join(format!("{name}.js")))?;
        let source = String::from_utf8(source).with_context(|| format!("{name}.js is not UTF-8"))?;
        text += &format!("{:?}: {},\n", name.replace('_', " "), source.trim_end());
    }
    Ok(text + "};\n")
}

/// The licences of all packages below a `node_modules`, for those who serve the bundles to others.
fn licences(folder: &Path) -> Result<String> {
    let mut found = Vec::new();
    collect(folder, &mut found)?;
    found.sort();
    if found.is_empty() {
        bail!("there are no npm packages in {}: run `cargo xtask setup`", folder.display());
    }
    Ok(found.into_iter().map(|(name, licence)| format!("{name}\n\n{licence}\n\n")).collect())
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('@') {
            collect(&path, found)?;
        } else if path.join("package.json").is_file() {
            let licence = ["LICENSE", "LICENSE.md", "LICENCE", "license"].iter();
            let licence = licence.map(|file| path.join(file)).find(|file| file.is_file());
            let licence = licence.with_context(|| format!("{} has no licence", path.display()))?;
            let text = String::from_utf8_lossy(&read(&licence)?).trim().to_owned();
            found.push((name, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tunnels_instructions_become_functions_under_their_names() {
        let workspace = Workspace::find().expect("this is a checkout");
        let text = tunnel(&workspace).expect("the sources are there");
        assert_eq!(text.matches(": function ").count(), INSTRUCTIONS.len(), "{text}");
        assert!(text.contains("\"create server credential\": function createServerCredential() {"), "{text}");
        let sources = fs::read_dir(workspace.root.join(TUNNEL)).expect("a folder");
        assert_eq!(sources.count(), INSTRUCTIONS.len(), "a source that the module lacks");
    }
}
