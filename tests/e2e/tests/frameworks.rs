//! The package in projects of large frameworks, whose installation takes long: `cargo xtask frameworks` runs these.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tunnel_e2e::{Program, Relay, in_tests, on_stage, package};

/// A command of a project's own program, in the project.
fn command(project: &PathBuf, program: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(in_tests("node_modules/.bin/node")?);
    command.arg(project.join("node_modules").join(program)).args(arguments).current_dir(project);
    command.envs([("NEXT_TELEMETRY_DISABLED", "1"), ("NO_COLOR", "1")]);
    Ok(command)
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
#[ignore = "installs 340 MB: cargo xtask frameworks"]
fn next_js_renders_builds_and_serves_a_page_with_the_package() {
    on_stage(async |stage| {
        let project = in_tests("frameworks/next")?;
        // Not as a link, which Turbopack does not follow out of the project.
        let install = ["install", "--install-links", "--no-save", "--offline", "--no-audit", "--no-fund"];
        let mut npm = Command::new("npm");
        npm.args(install).arg(package()?).current_dir(&project);
        run(npm)?;
        run(command(&project, "next/dist/bin/next", &["build"])?)?;
        let start = ["start", "--hostname", "127.0.0.1", "--port", "0"];
        let (_next, page) = Program::start(command(&project, "next/dist/bin/next", &start)?, "Local:")?;
        let relay = Relay::start(&[])?;
        let tab = stage.tab_at("both", &format!("{page}/?relay={}", relay.url)).await?;
        tab.until("an answer", "document.body.textContent.includes('you said hello')").await?;
        Ok(())
    });
}
