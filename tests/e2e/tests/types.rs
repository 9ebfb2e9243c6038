//! The package's TypeScript declarations, and the samples of README.md and docs/guide, in a strict compiler.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

#[test]
fn the_declarations_and_the_samples_of_the_readme_compile() -> Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("types");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../types.mjs");
    let output = Command::new("node").arg(&script).arg(&folder).output().context("cannot start node")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}:\n{said}", script.display());
    Ok(())
}
