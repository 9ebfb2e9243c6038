//! A program as one static binary, and all forms in which it is given away: `dist` calls [`make`], then [`try_out`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use super::licences::compiled_in;
use super::{deb, npx, oci, pack};
use crate::livecode;
use crate::process::{output, run};
use crate::setup;
use crate::size::grouped;
use crate::workspace::Workspace;

/// A program that is given away: `dist/relay.rs` and `dist/tunnel.rs` have one each.
pub(super) struct Program {
    /// The package in this workspace. Archives, and the packages for npm and Debian, have its name.
    pub(super) package: &'static str,
    /// The binary, which is the command.
    pub(super) binary: &'static str,
    /// A name at the beginning of a sentence.
    pub(super) title: &'static str,
    /// A line that says what it is, for npm.
    pub(super) about: &'static str,
    /// The README of the npm packages.
    pub(super) readme: &'static str,
    /// True if the livecoding engine is in it.
    pub(super) has_livecoding: bool,
    /// Cargo features that are turned on for it, besides that of the engine.
    pub(super) features: &'static [&'static str],
    /// Files of the workspace that belong to it, besides the licences and the list of changes.
    pub(super) files: &'static [&'static str],
    /// Shells, with the file of what completes the command in each.
    pub(super) completions: &'static [(&'static str, &'static str)],
    pub(super) debian: deb::Debian,
    /// True if there is a container image of it.
    pub(super) has_image: bool,
    /// Fails unless the installed program works. Called with what makes the command line up to the program's own arguments.
    pub(super) try_it: fn(&Workspace, &dyn Fn() -> Command) -> Result<()>,
}

/// Cargo profile of what is given away.
const PROFILE: &str = "dist";

/// Files that belong to every program.
pub(super) const COMMON: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md"];

/// Licences of what is compiled in.
pub(super) const THIRD_PARTY: &str = "THIRD-PARTY.txt";

/// Makes `PACKAGE-VERSION-TARGET.tar.gz` in `folder`, and the other forms.
pub(super) fn make(
    workspace: &Workspace,
    program: &Program,
    target: &Path,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    // musl is what can be linked statically with name resolution and all.
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    setup::rust_std(workspace, &triple)?;
    let module = program.has_livecoding.then(|| livecode::build(workspace)).transpose()?;
    let packages = compiled_in(workspace, program, &triple)?;
    if packages.needs_c {
        setup::musl_gcc(workspace)?;
    }
    let binary = build(workspace, program, &triple, target, module.as_ref())?;
    check_static(&binary)?;

    let name = format!("{}-{}-{triple}", program.package, packages.version);
    let files = folder.join(&name);
    fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    copy(&binary, &files)?;
    add_files(workspace, program, &files, &packages.licences)?;
    let length = usize::try_from(fs::metadata(&binary).context("the binary is gone")?.len())?;
    println!("  {} bytes: {} for {triple}, static and stripped", grouped(length), program.binary);
    let built = Built { program, version: &packages.version, files: &files };
    let mut archives = other_forms(workspace, &built, folder)?;
    archives.insert(0, pack(workspace, folder, &name)?);
    Ok(archives)
}

/// A program, built, with the files that belong to it.
pub(super) struct Built<'a> {
    pub(super) program: &'a Program,
    pub(super) version: &'a str,
    /// The folder with the binary, licences, and what people copy.
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

/// Puts all that belongs to a program beside its binary.
fn add_files(workspace: &Workspace, program: &Program, files: &Path, licences: &str) -> Result<()> {
    for file in COMMON.iter().chain(program.files) {
        copy(&workspace.root.join(file), files)?;
    }
    for (shell, file) in program.completions {
        let script = output(Command::new(files.join(program.binary)).args(["completions", shell]))?;
        fs::write(files.join(file), script).with_context(|| format!("cannot write {file}"))?;
    }
    fs::write(files.join(THIRD_PARTY), licences).context("cannot write the licences")
}

/// Makes the packages for those who install by npm or by Debian's package manager, or who run containers.
fn other_forms(workspace: &Workspace, built: &Built<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut archives = npx::make(workspace, built, folder)?;
    archives.extend(deb::make(workspace, built, folder)?);
    if built.program.has_image {
        archives.push(oci::make(workspace, built, folder)?);
    }
    Ok(archives)
}

/// Installs each form, but the archive, in a folder of its own, and runs it.
pub(super) fn try_out(workspace: &Workspace, program: &Program, archives: &[PathBuf]) -> Result<()> {
    let ending = |with: &str| -> Vec<PathBuf> {
        let named = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(program.package) && name.ends_with(with)
        };
        archives.iter().filter(named).cloned().collect()
    };
    let tries = workspace.target()?.join("dist-tries");
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = tries.join(name);
        super::empty(&folder)?;
        Ok(folder)
    };
    npx::try_out(workspace, program, &ending(".tgz"), &folder("npm")?)?;
    for archive in ending(".deb") {
        deb::try_out(workspace, program, &archive, &folder("deb")?)?;
    }
    for archive in ending("-oci.tar") {
        oci::try_out(workspace, program, &archive, &folder("oci")?)?;
    }
    fs::remove_dir_all(&tries).with_context(|| format!("cannot remove {}", tries.display()))
}

/// Packs the debug build of a program, which is there, in all forms, twice, and fails unless the bytes are the same; installs each
/// and runs it.
///
/// It takes seconds, where the static build takes minutes: this is for those who change the packers, and for `test`.
pub(super) fn try_debug_build(workspace: &Workspace, program: &Program) -> Result<()> {
    let folder = workspace.target()?.join("dist-debug");
    super::empty(&folder)?;
    let now = SystemTime::now();
    let later = now + Duration::from_secs(3_600);
    let (archives, sums) = pack_debug_build(workspace, program, &folder.join("once"), now)?;
    let (_, again) = pack_debug_build(workspace, program, &folder.join("again"), later)?;
    ensure!(sums == again, "files of another time make other archives:\n{sums}\n{again}");
    try_out(workspace, program, &archives)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Packs the debug build, from files that were changed at this time; the archives, and their sums.
fn pack_debug_build(
    workspace: &Workspace,
    program: &Program,
    folder: &Path,
    changed: SystemTime,
) -> Result<(Vec<PathBuf>, String)> {
    let files = debug_build(workspace, program, folder)?;
    for file in fs::read_dir(&files).with_context(|| format!("cannot list {}", files.display()))? {
        let file = file?.path();
        let opened = fs::File::options().write(true).open(&file);
        let dated = opened.and_then(|file| file.set_modified(changed));
        dated.with_context(|| format!("cannot date {}", file.display()))?;
    }
    let built = Built { program, version: env!("CARGO_PKG_VERSION"), files: &files };
    let archives = other_forms(workspace, &built, folder)?;
    let sums = super::sums(workspace, folder, &archives)?;
    Ok((archives, sums))
}

/// Packs the debug build, which is there, for npm.
pub(super) fn pack_debug_build_for_npm(
    workspace: &Workspace,
    program: &Program,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let files = debug_build(workspace, program, folder)?;
    let built = Built { program, version: env!("CARGO_PKG_VERSION"), files: &files };
    let archives = npx::make(workspace, &built, folder)?;
    fs::remove_dir_all(&files).with_context(|| format!("cannot remove {}", files.display()))?;
    Ok(archives)
}

/// Makes a folder in `folder` with the debug build and the files that belong to it.
fn debug_build(workspace: &Workspace, program: &Program, folder: &Path) -> Result<PathBuf> {
    let files = folder.join("files");
    fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    // Without what debuggers want, it is packed in a fraction of the time.
    let binary = workspace.binary("debug", program.binary)?;
    run(workspace.command("strip").arg("-o").arg(files.join(program.binary)).arg(binary))?;
    add_files(workspace, program, &files, "nobody's\n")?;
    Ok(files)
}

impl Program {
    /// Fails unless an installed program prints this version, and works.
    ///
    /// `command` makes the command line up to the program's own arguments.
    pub(super) fn try_installed(&self, workspace: &Workspace, command: impl Fn() -> Command) -> Result<()> {
        let printed = output(command().arg("--version"))?;
        let expected = format!("{} {}", self.binary, env!("CARGO_PKG_VERSION"));
        ensure!(printed.trim() == expected, "the installed program printed {printed:?}, not {expected:?}");
        (self.try_it)(workspace, &command)
    }
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().context("a file has a name")?;
    fs::copy(file, folder.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// Compiles it so that no path of this machine is in it: the same bytes wherever it is built with the same Rust.
fn build(
    workspace: &Workspace,
    program: &Program,
    triple: &str,
    target: &Path,
    module: Option<&PathBuf>,
) -> Result<PathBuf> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(workspace.remap_flags()?);
    let mut command = workspace.cargo();
    command.args([
        "build",
        "--locked",
        "--package",
        program.package,
        "--profile",
        PROFILE,
        "--target",
        triple,
    ]);
    for feature in program.features {
        command.args(["--features", feature]);
    }
    livecode::turn_on(&mut command, "", module);
    command.arg("--target-dir").arg(target);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // C compilers put it where the source asks for date and time, as the allocator's does.
    command.env("SOURCE_DATE_EPOCH", "0");
    run(&mut command)?;
    Ok(target.join(triple).join(PROFILE).join(program.binary))
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
