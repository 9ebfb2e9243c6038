//! The livecoding engine: a WebAssembly module that the relay has inside.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;
use crate::setup;
use crate::workspace::Workspace;

/// Cargo feature of the relay that needs the module.
pub(crate) const FEATURE: &str = "livecode";

/// The package that the module is built from, and its manifest.
pub(crate) const PACKAGE: &str = "tunnel-livecode-guest";
pub(crate) const MANIFEST: &str = "crates/tunnel-livecode-guest/Cargo.toml";

/// The place where the relay's build script finds it.
pub(crate) const VARIABLE: &str = "TUNNEL_LIVECODE_GUEST";

/// Builds the module, `livecode/guest.wasm` in the target folder.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = &workspace.config.build.rust_target;
    setup::rust_std(workspace, target)?;
    setup::clang(workspace)?;
    let folder = workspace.target()?.join("livecode");
    let mut command = workspace.cargo();
    command.args(["build", "--release", "--locked", "--target", target, "--manifest-path"]);
    command.arg(workspace.root.join(MANIFEST));
    command.arg("--target-dir").arg(&folder);
    // Not those of `.cargo/config.toml`: the interpreter knows no SIMD.
    command.env("CARGO_ENCODED_RUSTFLAGS", workspace.remap_flags()?.join("\u{1f}"));
    run(&mut command)?;
    let built = folder.join(target).join("release/tunnel_livecode_guest.wasm");
    let module = folder.join("guest.wasm");
    // A file that is the same stays: what includes it is not built again.
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if fs::read(&module).ok().as_ref() != Some(&bytes) {
        fs::write(&module, &bytes).with_context(|| format!("cannot write {}", module.display()))?;
    }
    Ok(module)
}

/// The module, or, where no C compiler for it is and can be had, a word about that.
pub(crate) fn build_if_possible(workspace: &Workspace) -> Result<Option<PathBuf>> {
    match setup::clang(workspace) {
        Ok(()) => build(workspace).map(Some),
        Err(error) => {
            println!("\nTHE RELAY IS BUILT WITHOUT LIVECODING: {error:#}\n");
            Ok(None)
        }
    }
}

/// Turns the relay's feature on in a command of cargo's, if there is a module. `package` is `tunnel-relay/` in commands for the workspace.
pub(crate) fn turn_on<'a>(
    command: &'a mut Command,
    package: &str,
    module: Option<&PathBuf>,
) -> &'a mut Command {
    if let Some(module) = module {
        command.args(["--features", &format!("{package}{FEATURE}")]).env(VARIABLE, module);
    }
    command
}
