//! Finds the livecoding engine's module, if the relay is to have it.

use std::path::PathBuf;

const VARIABLE: &str = "TUNNEL_LIVECODE_GUEST";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    if std::env::var_os("CARGO_FEATURE_LIVECODE").is_none() {
        return;
    }
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/livecode/guest.wasm");
    let module = std::env::var_os(VARIABLE).map_or(default, PathBuf::from);
    assert!(
        module.is_file(),
        "there is no {}: `cargo xtask livecode` builds it, or leave the feature `livecode` out",
        module.display()
    );
    println!("cargo::rerun-if-changed={}", module.display());
    println!("cargo::rustc-env={VARIABLE}={}", module.display());
}
