//! `cargo xtask soak`: a long transfer while the relay is killed and the network misbehaves.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::process::run;
use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, relay, setup};

/// Builds what is needed, and runs `tests/e2e/examples/soak.rs`.
pub(crate) fn soak(workspace: &Workspace, kills: u64, megabytes: u64, seed: Option<u64>) -> Result<()> {
    setup::setup(workspace, &Needs::for_tests(&workspace.config.test.browsers))?;
    build::build(workspace, build::Form::Release)?;
    relay::build(workspace, true)?;
    let seed = seed.map_or_else(fresh_seed, Ok)?;
    println!("\nsoak: {kills} kills, {megabytes} MiB each way, seed {seed}");
    run(workspace
        .cargo()
        .args(["run", "--quiet", "--package", "tunnel-e2e", "--example", "soak", "--"])
        .args([kills, megabytes, seed].map(|number| number.to_string()))
        .env("TUNNEL_RELAY_BINARY", workspace.binary("release", "tunnel-relay")?))
}

/// Short enough to be typed in again.
fn fresh_seed() -> Result<u64> {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set to before 1970")?;
    Ok(u64::from(age.subsec_nanos()) % 1_000_000)
}
