//! `cargo xtask dist`: makes what is given to people, archives and their sums in `dist/`.

mod create;
mod deb;
mod licences;
mod npm;
mod npx;
mod oci;
mod program;
mod relay;
mod tunnel;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{output, run};
use crate::report::Report;
use crate::size::grouped;
use crate::workspace::Workspace;

/// Folder of the archives, relative to the workspace.
const FOLDER: &str = "dist";
/// File of their SHA-256 sums, as `sha256sum --check` takes it.
const SUMS: &str = "SHA256SUMS";

/// One of the things that are given to people.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The relay: one static binary, as an archive, npm packages, a Debian package and a container image
    Relay,
    /// The command `tunnel`: one static binary, as an archive, npm packages and a Debian package
    Tunnel,
    /// The browser library, as npm takes it
    Npm,
    /// `npm create tunnel-wasm`, which makes projects
    Create,
}

impl Part {
    const ALL: [Self; 4] = [Self::Relay, Self::Tunnel, Self::Npm, Self::Create];

    /// Makes its archives in `folder`. Whatever is compiled goes below `target`: a fresh one gives a build from scratch.
    fn make(self, workspace: &Workspace, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
        match self {
            Self::Relay => program::make(workspace, &relay::PROGRAM, target, folder),
            Self::Tunnel => program::make(workspace, &tunnel::PROGRAM, target, folder),
            Self::Npm => npm::make(workspace, target, folder),
            Self::Create => create::make(workspace, target, folder),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Tunnel => "command tunnel",
            Self::Npm => "npm package",
            Self::Create => "npm create",
        }
    }
}

/// Makes the archives of all parts, or of some, and prints their sizes and sums.
///
/// Each form of the relay and of the command is installed and run. With `verify` everything is built a second time, from scratch, and has to
/// have the same sums.
pub(crate) fn dist(workspace: &Workspace, parts: &[Part], verify: bool) -> Result<()> {
    let parts = if parts.is_empty() { &Part::ALL[..] } else { parts };
    let mut report = Report::new();
    let folder = workspace.root.join(FOLDER);
    empty(&folder)?;
    let mut archives = Vec::new();
    for part in parts {
        let target = workspace.target()?;
        archives.extend(report.step(part.name(), || part.make(workspace, &target, &folder))?);
    }
    let sums = sums(workspace, &folder, &archives)?;
    fs::write(folder.join(SUMS), &sums).with_context(|| format!("cannot write {FOLDER}/{SUMS}"))?;
    if parts.contains(&Part::Relay) {
        report
            .step("relay, installed and run", || program::try_out(workspace, &relay::PROGRAM, &archives))?;
    }
    if parts.contains(&Part::Tunnel) {
        report.step("command tunnel, installed and run", || {
            // The relay that it is tried with.
            crate::relay::build(workspace, false)?;
            program::try_out(workspace, &tunnel::PROGRAM, &archives)
        })?;
    }
    if verify {
        let again = workspace.target()?.join("dist-again");
        empty(&again)?;
        let mut archives = Vec::new();
        for part in parts {
            let name = format!("{}, again from scratch", part.name());
            archives.extend(report.step(&name, || part.make(workspace, &again, &again))?);
        }
        if self::sums(workspace, &again, &archives)? != sums {
            bail!("the second build has other bytes: compare {} with {FOLDER}", again.display());
        }
        fs::remove_dir_all(&again).with_context(|| format!("cannot remove {}", again.display()))?;
        println!("\nBuilt twice, with the same bytes.");
    }
    println!();
    for archive in &archives {
        let length =
            fs::metadata(archive).with_context(|| format!("cannot read {}", archive.display()))?.len();
        println!("  {:>10} bytes  {}", grouped(usize::try_from(length)?), archive.display());
    }
    print!("\n{sums}");
    report.finish();
    Ok(())
}

/// Packs the debug builds of the relay and of the command in all forms, installs each and runs it; nothing goes to `dist/`.
pub(crate) fn try_packers(workspace: &Workspace) -> Result<()> {
    crate::relay::build(workspace, false)?;
    run(workspace.cargo().args(["build", "-p", tunnel::PROGRAM.package]))?;
    program::try_debug_build(workspace, &relay::PROGRAM)?;
    program::try_debug_build(workspace, &tunnel::PROGRAM)
}

/// Packs what `npm create tunnel-wasm` needs, with the debug build of the relay. Returns the folder of the files.
///
/// Package and relay must have been built.
pub(crate) fn npm_packages(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target()?;
    let folder = target.join("npm-packages");
    empty(&folder)?;
    npm::pack(workspace, &workspace.package(), &folder)?;
    create::make(workspace, &target, &folder)?;
    program::pack_debug_build_for_npm(workspace, &relay::PROGRAM, &folder)?;
    Ok(folder)
}

/// Makes a folder, or empties it.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// SHA-256 sums of files in a folder, one line each.
fn sums(workspace: &Workspace, folder: &Path, files: &[PathBuf]) -> Result<String> {
    let names = files.iter().map(|file| file.strip_prefix(folder)).collect::<Result<Vec<_>, _>>()?;
    output(workspace.command("sha256sum").current_dir(folder).args(names))
}

/// Packs `folder/name` into `folder/name.tar.gz` and removes it.
pub(crate) fn pack(workspace: &Workspace, folder: &Path, name: &str) -> Result<PathBuf> {
    let archive = tar(workspace, folder, &[name], &folder.join(format!("{name}.tar")))?;
    run(workspace.command("gzip").args(["--no-name", "--best", "--force"]).arg(&archive))?;
    let files = folder.join(name);
    fs::remove_dir_all(&files).with_context(|| format!("cannot remove {}", files.display()))?;
    Ok(archive.with_added_extension("gz"))
}

/// Makes `archive` of files and folders in `folder`.
///
/// The bytes depend on the files' names, contents and executable bits only: neither on their owner nor on the time,
/// which is that of the last commit.
fn tar(workspace: &Workspace, folder: &Path, names: &[&str], archive: &Path) -> Result<PathBuf> {
    run(workspace
        .command("tar")
        .current_dir(folder)
        .args(["--create", "--sort=name", "--format=ustar", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u+rw,go+r-w,a+X", &format!("--mtime=@{}", last_commit(workspace)?)])
        .arg("--file")
        .arg(archive)
        .args(names))?;
    Ok(archive.to_owned())
}

/// The time of the last commit, which archives have, in seconds since 1970.
fn last_commit(workspace: &Workspace) -> Result<String> {
    let time = output(workspace.command("git").args(["log", "-1", "--format=%ct"]))
        .context("archives have the time of the last commit")?;
    Ok(time.trim().to_owned())
}
