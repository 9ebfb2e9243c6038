//! `cargo xtask site`: the whole site as static files in `site/`, for any host; and the documents as pages, for others.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::run;
use crate::setup::{self, Needs};
use crate::workspace::Workspace;
use crate::{build, dist};

/// Folder of the site, relative to the workspace.
const FOLDER: &str = "site";

/// Folder of the documents, and of the npm project that makes pages of them.
const DOCUMENTS: &str = "docs";

/// Makes the folder: pages and package as the demo serves them, documents with the reference of the Rust crate.
pub(crate) fn site(workspace: &Workspace) -> Result<()> {
    setup::setup(workspace, &Needs::for_build())?;
    build::build(workspace, build::Form::Release)?;
    let folder = workspace.root.join(FOLDER);
    dist::empty(&folder)?;
    run(workspace.cargo().args([
        "doc",
        "--quiet",
        "--no-deps",
        "-p",
        "tunnel-wasm",
        "-p",
        "tunnel-protocol",
    ]))?;
    let documents = pages(workspace, true)?;
    let copy = |from: PathBuf, to: PathBuf| {
        run(workspace.command("cp").args(["--recursive", "--no-target-directory"]).arg(from).arg(to))
    };
    copy(workspace.target()?.join("doc"), documents.join("rust"))?;
    copy(workspace.root.join("www"), folder.join("."))?;
    copy(workspace.package(), folder.join("pkg"))?;
    println!("\n  The site is in {}: serve it under / of any host.", folder.display());
    Ok(())
}

/// Makes pages of the documents and of the package's types, which has been built, and checks their links.
pub(crate) fn documents(workspace: &Workspace) -> Result<PathBuf> {
    pages(workspace, false)
}

/// The same; with `rust` they link to the reference of the Rust crate, which is then to be put beside them.
fn pages(workspace: &Workspace, rust: bool) -> Result<PathBuf> {
    setup::documents(workspace)?;
    let project = workspace.root.join(DOCUMENTS);
    let api = project.join("api");
    dist::empty(&api)?;
    let node = |program: &str, arguments: &[&str]| {
        let mut command = workspace.command("node");
        command.current_dir(&project).arg(program).args(arguments);
        if rust {
            command.env("TUNNEL_DOCS_RUST", "rust");
        }
        run(&mut command)
    };
    node("node_modules/typedoc/bin/typedoc", &["--logLevel", "Warn"])?;
    node("node_modules/vitepress/bin/vitepress.js", &["build", "."])?;
    let pages = workspace.root.join(FOLDER).join(DOCUMENTS);
    node("check.mjs", &[&pages.to_string_lossy()])?;
    Ok(pages)
}

/// Folder of the documents' pages, relative to the workspace.
pub(crate) fn documents_folder() -> String {
    format!("{FOLDER}/{DOCUMENTS}")
}
