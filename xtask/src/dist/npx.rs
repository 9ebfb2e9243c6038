//! A program as npm packages: `dist/program.rs` calls [`make`], then [`try_out`].
//!
//! The package that has the program's name is a launcher in JavaScript, which `npx` runs. It depends on one package for each platform, optionally: npm installs the
//! one whose `os` and `cpu` fit. This machine makes its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::program::{Built, Program, THIRD_PARTY};
use crate::process::output;
use crate::workspace::Workspace;

/// The launcher, in which `PACKAGE` stands for the package, and `BINARY` for the program.
const LAUNCHER: &str = include_str!("npx.js");

/// This platform as Node.js calls it.
fn platform() -> (&'static str, &'static str) {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, cpu)
}

/// Makes `PACKAGE-VERSION.tgz` and `PACKAGE-PLATFORM-VERSION.tgz` in `folder`.
pub(super) fn make(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let (os, cpu) = platform();
    let Built { program: Program { package, binary, about, readme, .. }, version, .. } = *built;
    let for_platform = format!("{package}-{os}-{cpu}");
    let (license, repository) = (env!("CARGO_PKG_LICENSE"), env!("CARGO_PKG_REPOSITORY"));
    let script = format!("{binary}.js");
    let launcher = json!({
        "name": package, "version": version, "description": about, "license": license, "repository": repository,
        "bin": { *binary: script },
        "engines": { "node": ">=18" },
        // Only packages that are made: somebody else could publish others under their names.
        "optionalDependencies": { &*for_platform: version },
    });
    let program = json!({
        "name": for_platform, "version": version, "description": format!("{about}, for {os} on {cpu}"),
        "license": license, "repository": repository, "os": [os], "cpu": [cpu],
    });
    let licences = ["LICENSE-APACHE", "LICENSE-MIT"];
    let mut archives = Vec::new();
    for (name, manifest, copied) in [
        (*package, launcher, &licences[..]),
        (&*for_platform, program, &[*binary, THIRD_PARTY, licences[0], licences[1]]),
    ] {
        let source = folder.join("npm").join(name);
        fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
        let write = |file: &str, text: &str| {
            fs::write(source.join(file), text).with_context(|| format!("cannot write {name}/{file}"))
        };
        write("package.json", &format!("{manifest:#}\n"))?;
        write("README.md", readme)?;
        if name == *package {
            write(&script, &LAUNCHER.replace("PACKAGE", package).replace("BINARY", binary))?;
        }
        for file in copied {
            fs::copy(built.files.join(file), source.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let arguments = ["pack", "--silent", "--ignore-scripts", "--pack-destination"];
        let printed = output(workspace.command("npm").args(arguments).arg(folder).arg(&source))?;
        let archive = folder.join(printed.trim());
        ensure!(archive.is_file(), "npm pack printed {printed:?}, which is no archive");
        archives.push(archive);
    }
    fs::remove_dir_all(folder.join("npm")).context("cannot remove what was packed")?;
    Ok(archives)
}

/// Installs the packages in an empty project, without the network, and runs the program by `npx` and by the launcher itself.
pub(super) fn try_out(
    workspace: &Workspace,
    program: &Program,
    archives: &[PathBuf],
    folder: &Path,
) -> Result<()> {
    fs::write(folder.join("package.json"), "{\"private\": true}\n").context("cannot write a project")?;
    let install = ["install", "--offline", "--no-audit", "--no-fund", "--silent"];
    output(workspace.command("npm").args(install).args(archives).current_dir(folder))?;
    let Program { package, binary, .. } = program;
    let by_npx = ["--offline", package, "--version"];
    let printed = output(workspace.command("npx").args(by_npx).current_dir(folder))?;
    ensure!(printed.starts_with(&format!("{binary} ")), "npx {package} --version printed {printed:?}");
    // Signals go to the launcher, which has to hand them on.
    let launcher = folder.join("node_modules/.bin").join(binary);
    program.try_installed(workspace, || workspace.command(&launcher.to_string_lossy()))
}
