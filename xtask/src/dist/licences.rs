//! The packages that a program is compiled from, and their licences: `dist/program.rs` calls [`compiled_in`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::program::Program;
use crate::livecode;
use crate::process::output;
use crate::workspace::Workspace;

/// The packages that a binary is made of.
pub(super) struct Packages {
    /// Of the program itself.
    pub(super) version: String,
    /// True if something is compiled by a C compiler.
    pub(super) needs_c: bool,
    /// The licences of all that comes from elsewhere.
    pub(super) licences: String,
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

/// All packages of the binary, and of the livecoding engine's module if that is in it, as their Cargo.lock have them.
pub(super) fn compiled_in(workspace: &Workspace, program: &Program, triple: &str) -> Result<Packages> {
    let Program { package, title, has_livecoding, features, .. } = program;
    let engine = has_livecoding.then_some(livecode::FEATURE);
    let features: Vec<_> =
        features.iter().copied().chain(engine).map(|name| format!("{package}/{name}")).collect();
    let mut arguments = vec!["--filter-platform", triple];
    for feature in &features {
        arguments.extend(["--features", feature]);
    }
    let of_program = closure(workspace, package, &arguments)?;
    let mut foreign = of_program.packages;
    if *has_livecoding {
        let manifest = workspace.root.join(livecode::MANIFEST);
        let manifest = manifest.to_str().context("the folder's name is not UTF-8")?;
        let target = &workspace.config.build.rust_target;
        let arguments = ["--filter-platform", target, "--manifest-path", manifest];
        foreign.extend(closure(workspace, livecode::PACKAGE, &arguments)?.packages);
    }
    foreign.retain(|package| package.source.is_some());
    foreign.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    foreign.dedup_by(|one, other| one.id == other.id);
    Ok(Packages {
        version: of_program.version,
        needs_c: of_program.needs_c,
        licences: licences(title, &foreign)?,
    })
}

/// A package and all that is compiled into it.
struct Closure {
    version: String,
    packages: Vec<Package>,
    /// True if something is compiled by a C compiler.
    needs_c: bool,
}

/// Finds them by `cargo metadata` with these arguments.
fn closure(workspace: &Workspace, name: &str, arguments: &[&str]) -> Result<Closure> {
    let mut command = workspace.cargo();
    let printed = output(command.args(["metadata", "--format-version=1", "--locked"]).args(arguments))?;
    let metadata: Metadata = serde_json::from_str(&printed).context("cargo metadata is not understood")?;
    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|package| (&*package.id, package)).collect();
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
    let first = metadata.packages.iter().find(|package| package.name == name).context("no such package")?;
    let version = first.version.clone();

    let (mut found, mut left, mut needs_c) = (BTreeSet::new(), vec![&*first.id], false);
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
    let found: BTreeSet<String> = found.into_iter().map(str::to_owned).collect();
    let packages = metadata.packages.into_iter().filter(|package| found.contains(&package.id)).collect();
    Ok(Closure { version, packages, needs_c })
}

/// Folders of packages with C code of others in them, which has a licence of its own: QuickJS-NG, and what it needs of a C library.
const VENDORED: [&str; 2] = ["quickjs", "vendor/wasi-libc"];

/// The owners of the code in the binary, and its licences: texts that many share are there once.
fn licences(title: &str, packages: &[Package]) -> Result<String> {
    let mut page = format!(
        "{title} is compiled from the packages below and Rust's standard library (MIT OR Apache-2.0).\n\n"
    );
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
        let vendored = VENDORED.map(|name| folder.join(name)).into_iter().filter(|folder| folder.is_dir());
        for folder in [folder.to_owned()].into_iter().chain(vendored) {
            for text in licence_texts(&folder)? {
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

/// The licences that lie in a folder.
fn licence_texts(folder: &Path) -> Result<Vec<String>> {
    const TITLES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
    let mut texts = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let file = file?;
        let title = file.file_name().to_string_lossy().to_uppercase();
        if file.file_type()?.is_file() && TITLES.iter().any(|word| title.starts_with(word)) {
            let text =
                fs::read(file.path()).with_context(|| format!("cannot read {}", file.path().display()))?;
            texts.push(String::from_utf8_lossy(&text).replace("\r\n", "\n").trim().to_owned());
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::super::{relay, tunnel};
    use super::*;

    #[test]
    fn the_licences_are_also_those_of_the_engine_for_injected_instructions() {
        let workspace = Workspace::find().unwrap();
        let packages = compiled_in(&workspace, &relay::PROGRAM, "x86_64-unknown-linux-musl").unwrap();
        for name in ["\nwasmi ", "\nrquickjs-sys ", "\ntokio ", "\nasync-nats "] {
            assert!(packages.licences.contains(name), "{name}");
        }
        assert!(packages.licences.contains("Fabrice Bellard"), "QuickJS's own licence");
        assert!(!packages.licences.contains("\nlibfuzzer-sys "));
    }

    #[test]
    fn a_program_without_the_engine_has_no_licences_of_it() {
        let workspace = Workspace::find().unwrap();
        let packages = compiled_in(&workspace, &tunnel::PROGRAM, "x86_64-unknown-linux-musl").unwrap();
        assert!(
            packages.licences.starts_with("The command tunnel is compiled from"),
            "{}",
            packages.licences
        );
        assert!(packages.licences.contains("\nrustls ") && !packages.licences.contains("\nwasmi "));
    }
}
