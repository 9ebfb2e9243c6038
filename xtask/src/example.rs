//! The example of a page in Rust.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::process::run;
use crate::workspace::Workspace;

/// Its folder, which is a workspace of its own, with a lock file of its own: an application is outside of this repository.
const FOLDER: &str = "examples/yew";
/// Name of its WebAssembly module.
const NAME: &str = "yew_chat";

/// Builds it into `pkg/` in its folder, as `wasm-pack build --target web` does.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join(FOLDER);
    let target = workspace.target()?.join("examples");
    let triple = &workspace.config.build.rust_target;
    run(workspace
        .cargo()
        .current_dir(&folder)
        .args(["build", "--release", "--target", triple])
        .env("CARGO_TARGET_DIR", &target)
        // An application has none of this repository's flags, which .cargo/config.toml would set here.
        .env("CARGO_ENCODED_RUSTFLAGS", ""))?;
    Bindgen::new()
        .input_path(target.join(triple).join("release").join(NAME).with_extension("wasm"))
        .out_name(NAME)
        .web(true)?
        // The JavaScript says where the module is.
        .omit_default_module_path(false)
        .generate(folder.join("pkg"))
        .with_context(|| format!("wasm-bindgen can't make the JavaScript of {FOLDER}"))
}
