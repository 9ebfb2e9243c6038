//! The browser library as an npm package, for `cargo xtask dist`.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::build::{Form, PACKAGE, build_into};
use crate::process::output;
use crate::setup::{Needs, setup};
use crate::workspace::Workspace;

/// Makes `tunnel-wasm-VERSION.tgz` in `folder`: npm gives all files one time and one owner.
pub(super) fn make(workspace: &Workspace, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    setup(workspace, &Needs::for_build())?;
    let package = target.join("npm-package");
    build_into(workspace, target, &package, Form::Release)?;
    Ok(vec![pack(workspace, &package, folder)?])
}

/// Packs a package that has been built.
pub(super) fn pack(workspace: &Workspace, package: &Path, folder: &Path) -> Result<PathBuf> {
    let arguments = ["pack", "--silent", "--ignore-scripts", "--pack-destination"];
    let name = output(workspace.command("npm").args(arguments).arg(folder).arg(package))?;
    let archive = folder.join(name.trim());
    ensure!(archive.is_file() && name.starts_with(PACKAGE), "npm pack printed {name:?}, which is no archive");
    Ok(archive)
}
