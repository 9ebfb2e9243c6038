//! The crates that applications depend on, as a registry takes them.

use anyhow::Result;

use crate::process::run;
use crate::workspace::Workspace;

/// Each of them behind those that it depends on.
const CRATES: [&str; 3] = ["tunnel-cipher", "tunnel-protocol", "tunnel-wasm"];

/// Packs the crates, and builds each for pages from its archive alone, with the archives of the others for a registry.
///
/// A file that lies outside of a crate's folder, or that its manifest does not include, fails here.
pub(crate) fn package(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["package", "--allow-dirty", "--target", &workspace.config.build.rust_target]);
    for name in CRATES {
        command.args(["-p", name]);
    }
    run(&mut command)
}
