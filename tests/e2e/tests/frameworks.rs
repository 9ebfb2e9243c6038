//! The package in projects of large frameworks, whose installation takes long: `cargo xtask frameworks` runs these.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tunnel_e2e::{Program, Relay, Stage, in_tests, on_stage_within, package};

/// Time for two installations and builds on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// A command of Next.js in the project; Turbopack follows links within `root`.
fn next(project: &Path, root: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(in_tests("node_modules/.bin/node")?);
    command.arg(project.join("node_modules/next/dist/bin/next")).args(arguments).current_dir(project);
    command.envs([("NEXT_TELEMETRY_DISABLED", "1"), ("NO_COLOR", "1"), ("ROOT", root)]);
    Ok(command)
}

/// Runs a command to its end; returns what it has printed.
fn run(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(said)
}

/// Installs a package in the project: a folder as a link to it, a file as its content.
fn install(project: &Path, package: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--offline", "--no-audit", "--no-fund"])
        .arg(package)
        .current_dir(project);
    run(npm).map(drop)
}

/// The page is rendered by the server, without an error, and talks to itself in a tab.
async fn page_talks(stage: &Stage, project: &Path, root: &str) -> Result<()> {
    run(next(project, root, &["build"])?)?;
    let start = ["start", "--hostname", "127.0.0.1", "--port", "0"];
    let (_next, page) = Program::start(next(project, root, &start)?, "Local:")?;
    let relay = Relay::start(&[])?;
    let tab = stage.tab_at("page", &format!("{page}/?relay={}", relay.url)).await?;
    tab.until("an answer", "document.body.textContent.includes('you said hello')").await?;
    let rendered = "return [
        await fetch('/').then(answer => answer.text()).then(text => text.includes('<h1>PeerToPeerWebSocket</h1><p>nothing</p>')),
        await fetch('/edge').then(answer => answer.text()),
      ]";
    assert_eq!(tab.run(rendered).await?, json!([true, "at the edge, too: PeerToPeerWebSocket"]));
    Ok(())
}

#[test]
#[ignore = "installs 340 MB: cargo xtask frameworks"]
fn next_js_renders_builds_and_serves_a_page_with_the_package_from_a_tarball_and_from_a_link() {
    on_stage_within(LIMIT, async |stage| {
        let project = in_tests("frameworks/next")?;
        let folder = tempfile::tempdir()?;
        let mut pack = Command::new("npm");
        pack.args(["pack", "--silent", "--pack-destination"]).args([folder.path(), &package()?]);
        let tarball = folder.path().join(run(pack)?.trim());
        install(&project, &tarball)?;
        page_talks(stage, &project, "").await.context("from a tarball")?;

        install(&project, &package()?)?;
        page_talks(stage, &project, "../../..").await.context("from a link")
    });
}
