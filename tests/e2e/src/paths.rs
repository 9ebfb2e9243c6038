//! Programs and files that the tests need from outside, and how to get them.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Folder of the root `Cargo.toml`.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("this crate is not in tests/e2e")
}

/// A file or folder in `tests/`.
pub fn in_tests(name: &str) -> Result<PathBuf> {
    Ok(root()?.join("tests").join(name))
}

/// The npm package.
pub fn package() -> Result<PathBuf> {
    built("pkg", "cargo xtask build")
}

/// Its debug form.
pub fn debug_package() -> Result<PathBuf> {
    built("pkg-debug", "cargo xtask build --debug")
}

fn built(folder: &str, command: &str) -> Result<PathBuf> {
    let package = root()?.join(folder);
    if !package.join("tunnel_wasm.js").is_file() {
        bail!("there is no package in {}: run `{command}`", package.display());
    }
    Ok(package)
}

/// The relay: what `TUNNEL_RELAY_BINARY` names, or the one in the target folder of the tests.
pub(crate) fn relay() -> Result<PathBuf> {
    program("TUNNEL_RELAY_BINARY", "tunnel-relay", "tunnel-relay")
}

/// The command `tunnel`: what `TUNNEL_COMMAND_BINARY` names, or the one in the target folder of the tests.
pub fn command() -> Result<PathBuf> {
    program("TUNNEL_COMMAND_BINARY", "tunnel", "tunnel-cli")
}

fn program(variable: &str, name: &str, package: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Ok(named.into());
    }
    let this = env::current_exe().context("cannot tell where this program is")?;
    let program = this
        .ancestors()
        .nth(2)
        .context("this program is not in a target folder")?
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if !program.is_file() {
        bail!("there is no {}: run `cargo build -p {package}`", program.display());
    }
    Ok(program)
}

/// A file in `test-output/`, named after the test that runs.
pub(crate) fn output(name: &str) -> Result<PathBuf> {
    let folder = root()?.join("test-output");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.join(name))
}
