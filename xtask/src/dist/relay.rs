//! The relay as one static binary, and all forms in which it is given away: `dist` calls [`make`], then [`try_out`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{deb, npx, oci, pack};
use crate::process::{output, run};
use crate::relay::Relay;
use crate::setup;
use crate::size::grouped;
use crate::workspace::Workspace;

/// The package, and its binary.
const PACKAGE: &str = "tunnel-relay";

/// Cargo profile of what is given away.
const PROFILE: &str = "dist";

/// Files that belong to it besides the binary.
const FILES: [&str; 13] = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "CHANGELOG.md",
    "docs/OPERATING.md",
    "deploy/tunnel-relay.service",
    "deploy/tunnel-relay.toml",
    "deploy/grafana.json",
    "deploy/alerts.yml",
    "deploy/alerts.test.yml",
    "deploy/nginx.conf",
    "deploy/haproxy.cfg",
    "deploy/apache.conf",
    "deploy/Caddyfile",
];

/// Licences of what is compiled in.
const THIRD_PARTY: &str = "THIRD-PARTY.txt";

/// Makes `tunnel-relay-VERSION-TARGET.tar.gz` in `folder`.
pub(super) fn make(workspace: &Workspace, target: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    // musl is what can be linked statically with name resolution and all.
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    setup::rust_std(workspace, &triple)?;
    let packages = compiled_in(workspace, &triple)?;
    if packages.needs_c {
        setup::musl_gcc(workspace)?;
    }
    let binary = build(workspace, &triple, target)?;
    check_static(&binary)?;

    let name = format!("{PACKAGE}-{}-{triple}", packages.version);
    let files = folder.join(&name);
    fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    copy(&binary, &files)?;
    for file in FILES {
        copy(&workspace.root.join(file), &files)?;
    }
    fs::write(files.join(THIRD_PARTY), packages.licences).context("cannot write the licences")?;
    let length = fs::metadata(&binary).context("the binary is gone")?.len();
    println!("  {} bytes: {PACKAGE} for {triple}, static and stripped", grouped(usize::try_from(length)?));
    let mut archives = other_forms(workspace, &Built { version: &packages.version, files: &files }, folder)?;
    archives.insert(0, pack(workspace, folder, &name)?);
    Ok(archives)
}

/// The relay, built, with the files that belong to it.
pub(super) struct Built<'a> {
    pub(super) version: &'a str,
    /// The folder with the binary, licences, and what operators copy.
    pub(super) files: &'a Path,
}

/// This machine's architecture, as Debian and containers call it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Makes the packages for those who install by npm or by Debian's package manager, or who run containers.
fn other_forms(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut archives = npx::make(workspace, built, folder)?;
    archives.extend(deb::make(workspace, built, folder)?);
    archives.push(oci::make(workspace, built, folder)?);
    Ok(archives)
}

/// Installs each form, but the archive, in a folder of its own, and runs it.
pub(super) fn try_out(workspace: &Workspace, archives: &[PathBuf]) -> Result<()> {
    let ending = |with: &str| -> Vec<PathBuf> {
        let named = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(PACKAGE) && name.ends_with(with)
        };
        archives.iter().filter(named).cloned().collect()
    };
    let tries = workspace.target()?.join("dist-tries");
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = tries.join(name);
        super::empty(&folder)?;
        Ok(folder)
    };
    npx::try_out(workspace, &ending(".tgz"), &folder("npm")?)?;
    for archive in ending(".deb") {
        deb::try_out(workspace, &archive, &folder("deb")?)?;
    }
    for archive in ending("-oci.tar") {
        oci::try_out(workspace, &archive, &folder("oci")?)?;
    }
    fs::remove_dir_all(&tries).with_context(|| format!("cannot remove {}", tries.display()))
}

/// Packs the debug build of the relay in all forms, installs each and runs it.
///
/// It takes seconds, where the static build takes minutes: this is for those who change the packers, and for `test`.
pub(super) fn try_debug_build(workspace: &Workspace) -> Result<()> {
    crate::relay::build(workspace, false)?;
    let folder = workspace.target()?.join("dist-debug");
    super::empty(&folder)?;
    let files = folder.join("files");
    fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    for file in FILES {
        copy(&workspace.root.join(file), &files)?;
    }
    fs::write(files.join(THIRD_PARTY), "nobody's\n").context("cannot write the licences")?;
    // Without what debuggers want, it is packed in a fraction of the time.
    let binary = workspace.binary("debug", PACKAGE)?;
    run(workspace.command("strip").arg("-o").arg(files.join(PACKAGE)).arg(binary))?;
    let built = Built { version: env!("CARGO_PKG_VERSION"), files: &files };
    let archives = other_forms(workspace, &built, &folder)?;
    try_out(workspace, &archives)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Fails unless an installed relay prints this version, serves, is ready, and ends when it is told to.
///
/// `command` makes the command line up to the relay's own arguments.
pub(super) fn try_program(command: impl Fn() -> Command) -> Result<()> {
    let printed = output(command().arg("--version"))?;
    let expected = format!("{PACKAGE} {}", env!("CARGO_PKG_VERSION"));
    ensure!(printed.trim() == expected, "the installed relay printed {printed:?}, not {expected:?}");
    let mut serve = command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log", "warn"]);
    let relay = Relay::launch(serve)?;
    relay.check_ready()?;
    relay.end()
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a file has a name")?;
    fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// Compiles it so that no path of this machine is in it: the same bytes wherever it is built with the same Rust.
fn build(workspace: &Workspace, triple: &str, target: &Path) -> Result<PathBuf> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(workspace.remap_flags()?);
    let mut command = workspace.cargo();
    command.args(["build", "--locked", "--package", PACKAGE, "--profile", PROFILE, "--target", triple]);
    command.arg("--target-dir").arg(target);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // C compilers put it where the source asks for date and time, as the allocator's does.
    command.env("SOURCE_DATE_EPOCH", "0");
    run(&mut command)?;
    Ok(target.join(triple).join(PROFILE).join(PACKAGE))
}

/// Fails if the binary needs a loader, and so libraries of the machine that it runs on.
fn check_static(binary: &Path) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    match has_interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => bail!("{} is not static: it names a loader", binary.display()),
        None => bail!("{} is no ELF file of 64 bits, little endian", binary.display()),
    }
}

/// Returns whether an ELF file names a program that loads it; `None` if it is none of 64 bits, little endian.
pub(super) fn has_interpreter(elf: &[u8]) -> Option<bool> {
    /// Type of the program header that names it.
    const PT_INTERP: u32 = 3;
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte)))
    };
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (headers, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds =
        (0..count).map(|index| number(headers.checked_add(size * index)?, 4)).collect::<Option<Vec<_>>>()?;
    Some(kinds.contains(&(PT_INTERP as usize)))
}

/// The packages that the binary is made of.
struct Packages {
    /// Of the relay itself.
    version: String,
    /// True if something is compiled by a C compiler.
    needs_c: bool,
    /// The licences of all that comes from elsewhere.
    licences: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for what is compiled in.
    kind: Option<String>,
}

impl Package {
    /// Runs in the compiler only.
    fn is_macro(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    }
}

/// All packages of the binary, as Cargo.lock has them.
fn compiled_in(workspace: &Workspace, triple: &str) -> Result<Packages> {
    let printed = output(workspace.cargo().args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        triple,
    ]))?;
    let metadata: Metadata = serde_json::from_str(&printed).context("cargo metadata is not understood")?;
    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|package| (&*package.id, package)).collect();
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
    let relay =
        metadata.packages.iter().find(|package| package.name == PACKAGE).context("no such package")?;

    let (mut found, mut left, mut needs_c) = (BTreeSet::new(), vec![&*relay.id], false);
    while let Some(id) = left.pop() {
        if packages.get(id).is_none_or(|package| package.is_macro()) || !found.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        for dependency in &node.deps {
            let is_of = |wanted| dependency.dep_kinds.iter().any(|kind| kind.kind.as_deref() == wanted);
            if is_of(None) {
                left.push(&dependency.pkg);
            }
            needs_c |= is_of(Some("build")) && packages.get(&*dependency.pkg).is_some_and(|p| p.name == "cc");
        }
    }
    let mut foreign: Vec<_> = found.iter().filter_map(|id| packages.get(id)).copied().collect();
    foreign.retain(|package| package.source.is_some());
    foreign.sort_by_key(|package| (&package.name, &package.version));
    Ok(Packages { version: relay.version.clone(), needs_c, licences: licences(&foreign)? })
}

/// The owners of the code in the binary, and its licences: texts that many share are there once.
fn licences(packages: &[&Package]) -> Result<String> {
    let mut page =
        "The relay is compiled from the packages below and Rust's standard library (MIT OR Apache-2.0).\n\n"
            .to_owned();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Package { name, version, license, repository, manifest_path, .. } in packages {
        let (license, repository) = (license.as_deref(), repository.as_deref());
        writeln!(
            page,
            "{name} {version}: {}, {}",
            license.unwrap_or("see below"),
            repository.unwrap_or("-")
        )?;
        let folder = manifest_path.parent().context("a manifest is in a folder")?;
        for file in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let file = file?;
            let title = file.file_name().to_string_lossy().to_uppercase();
            if file.file_type()?.is_file()
                && ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"]
                    .iter()
                    .any(|word| title.starts_with(word))
            {
                let text = fs::read(file.path())
                    .with_context(|| format!("cannot read {}", file.path().display()))?;
                let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").trim().to_owned();
                texts.entry(text).or_default().push(format!("{name} {version}"));
            }
        }
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, owners)| (owners, text)).collect();
    texts.sort();
    for (mut owners, text) in texts {
        owners.dedup();
        write!(page, "\n{}\n{}\n\n{text}\n", "=".repeat(80), owners.join(", "))?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_names_its_loader_is_told_from_a_static_one() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 2);
        (elf[64], elf[120]) = (6, 1);
        assert_eq!(has_interpreter(&elf), Some(false));
        elf[120] = 3;
        assert_eq!(has_interpreter(&elf), Some(true));
        elf.truncate(120);
        assert_eq!(has_interpreter(&elf), None);
        assert_eq!(has_interpreter(b"#!/bin/sh"), None);
    }
}
