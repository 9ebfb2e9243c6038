//! `npm create tunnel-wasm` as an npm package, for `cargo xtask dist`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::output;
use crate::workspace::Workspace;

/// Folder of the package, and its name.
const SOURCE: &str = "create";
const NAME: &str = "create-tunnel-wasm";

/// Makes `create-tunnel-wasm-VERSION.tgz` in `folder`.
pub(super) fn make(workspace: &Workspace, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let source = workspace.root.join(SOURCE);
    let manifest = fs::read_to_string(source.join("package.json")).context("cannot read its package.json")?;
    let manifest: Value = serde_json::from_str(&manifest).context("its package.json is not understood")?;
    // It asks for packages of its own version.
    let version = env!("CARGO_PKG_VERSION");
    ensure!(
        manifest["version"] == version,
        "{SOURCE}/package.json has version {}, Cargo.toml has {version}: they must be the same",
        manifest["version"]
    );
    let package = target.join("npm-create");
    super::empty(&package)?;
    for file in ["package.json", "README.md", "create.js", "templates"] {
        let copy = ["--recursive", "--no-dereference"];
        output(workspace.command("cp").args(copy).arg(source.join(file)).arg(&package))?;
    }
    for file in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(workspace.root.join(file), package.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let arguments = ["pack", "--silent", "--ignore-scripts", "--pack-destination"];
    let printed = output(workspace.command("npm").args(arguments).arg(folder).arg(&package))?;
    let archive = folder.join(printed.trim());
    ensure!(
        archive.is_file() && printed.starts_with(NAME),
        "npm pack printed {printed:?}, which is no archive"
    );
    Ok(vec![archive])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_all_templates_with_the_files_that_npm_likes_to_leave_out() {
        let workspace = Workspace::find().unwrap();
        let target = workspace.target().unwrap().join("npm-create-test");
        let folder = target.join("archives");
        super::super::empty(&folder).unwrap();
        let archives = make(&workspace, &target, &folder).unwrap();
        let files = output(workspace.command("tar").arg("-tzf").arg(&archives[0])).unwrap();
        for file in [
            "create.js",
            "LICENSE-MIT",
            "templates/common/gitignore",
            "templates/common/public/style.css",
            "templates/plain/public/room.js",
            "templates/with-vite/.env.production",
            "templates/vite/src/main.ts",
            "templates/react/src/App.tsx",
        ] {
            assert!(
                files.lines().any(|line| line == format!("package/{file}")),
                "{file} is not in:\n{files}"
            );
        }
        assert!(!files.contains("node_modules"), "{files}");
    }
}
