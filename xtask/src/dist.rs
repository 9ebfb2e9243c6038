//! `cargo xtask dist`: makes what is given to people, archives and their sums in `dist/`.

mod deb;
mod npm;
mod npx;
mod oci;
mod relay;

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
    /// The browser library, as npm takes it
    Npm,
}

impl Part {
    const ALL: [Self; 2] = [Self::Relay, Self::Npm];

    /// Makes its archives in `folder`. Whatever is compiled goes below `target`: a fresh one gives a build from scratch.
    fn make(self, workspace: &Workspace, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
        match self {
            Self::Relay => relay::make(workspace, target, folder),
            Self::Npm => npm::make(workspace, target, folder),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Npm => "npm package",
        }
    }
}

/// Makes the archives of all parts, or of some, and prints their sizes and sums.
///
/// Each form of the relay is installed and run. With `verify` everything is built a second time, from scratch, and has to
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
        report.step("relay, installed and run", || relay::try_out(workspace, &archives))?;
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

/// Packs the debug build of the relay in all forms, installs each and runs it; nothing goes to `dist/`.
pub(crate) fn try_packers(workspace: &Workspace) -> Result<()> {
    relay::try_debug_build(workspace)
}

/// Makes a folder, or empties it.
fn empty(folder: &Path) -> Result<()> {
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
