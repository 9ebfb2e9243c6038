//! The relay as npm packages: `dist/relay.rs` calls [`make`], then [`try_out`].
//!
//! `tunnel-relay` is a launcher in JavaScript, which `npx` runs. It depends on one package for each platform, optionally: npm installs the
//! one whose `os` and `cpu` fit. This machine makes its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::relay::{Built, try_program};
use crate::process::output;
use crate::workspace::Workspace;

const LAUNCHER: &str = include_str!("npx.js");

const README: &str = "# tunnel-relay\n\n\
    `npx tunnel-relay serve` runs the relay of tunnel-wasm; `npx tunnel-relay --help` says what else there is.\n";

/// This platform as Node.js calls it.
fn platform() -> (&'static str, &'static str) {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, cpu)
}

/// Makes `tunnel-relay-VERSION.tgz` and `tunnel-relay-PLATFORM-VERSION.tgz` in `folder`.
pub(super) fn make(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let (os, cpu) = platform();
    let (version, for_platform) = (built.version, format!("tunnel-relay-{os}-{cpu}"));
    let about = "The relay of tunnel-wasm: forwards sealed records between web browsers";
    let (license, repository) = (env!("CARGO_PKG_LICENSE"), env!("CARGO_PKG_REPOSITORY"));
    let launcher = json!({
        "name": "tunnel-relay", "version": version, "description": about, "license": license, "repository": repository,
        "bin": { "tunnel-relay": "tunnel-relay.js" },
        "engines": { "node": ">=18" },
        // Only packages that are made: somebody else could publish others under their names.
        "optionalDependencies": { &*for_platform: version },
    });
    let binary = json!({
        "name": for_platform, "version": version, "description": format!("{about}, for {os} on {cpu}"),
        "license": license, "repository": repository, "os": [os], "cpu": [cpu],
    });
    let licences = ["LICENSE-APACHE", "LICENSE-MIT"];
    let mut archives = Vec::new();
    for (name, manifest, copied) in [
        ("tunnel-relay", launcher, &licences[..]),
        (&*for_platform, binary, &["tunnel-relay", "THIRD-PARTY.txt", licences[0], licences[1]]),
    ] {
        let package = folder.join("npm").join(name);
        fs::create_dir_all(&package).with_context(|| format!("cannot make {}", package.display()))?;
        let write = |file: &str, text: &str| {
            fs::write(package.join(file), text).with_context(|| format!("cannot write {name}/{file}"))
        };
        write("package.json", &format!("{manifest:#}\n"))?;
        write("README.md", README)?;
        if name == "tunnel-relay" {
            write("tunnel-relay.js", LAUNCHER)?;
        }
        for file in copied {
            fs::copy(built.files.join(file), package.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let arguments = ["pack", "--silent", "--ignore-scripts", "--pack-destination"];
        let printed = output(workspace.command("npm").args(arguments).arg(folder).arg(&package))?;
        let archive = folder.join(printed.trim());
        ensure!(archive.is_file(), "npm pack printed {printed:?}, which is no archive");
        archives.push(archive);
    }
    fs::remove_dir_all(folder.join("npm")).context("cannot remove what was packed")?;
    Ok(archives)
}

/// Installs the packages in an empty project, without the network, and runs the relay by `npx` and by the launcher itself.
pub(super) fn try_out(workspace: &Workspace, archives: &[PathBuf], folder: &Path) -> Result<()> {
    fs::write(folder.join("package.json"), "{\"private\": true}\n").context("cannot write a project")?;
    let install = ["install", "--offline", "--no-audit", "--no-fund", "--silent"];
    output(workspace.command("npm").args(install).args(archives).current_dir(folder))?;
    let by_npx = ["--offline", "tunnel-relay", "--version"];
    let printed = output(workspace.command("npx").args(by_npx).current_dir(folder))?;
    ensure!(printed.starts_with("tunnel-relay "), "npx tunnel-relay --version printed {printed:?}");
    // Signals go to the launcher, which has to hand them on.
    try_program(|| workspace.command(&folder.join("node_modules/.bin/tunnel-relay").to_string_lossy()))
}
