//! `cargo xtask hostile`: attacks at full strength.

use anyhow::Result;

use crate::process::run;
use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, livecode, relay, setup};

/// Attacks the relay's program, then a server in a tab.
pub(crate) fn hostile(workspace: &Workspace) -> Result<()> {
    let module = livecode::build_if_possible(workspace)?;
    let mut siege = workspace.cargo();
    siege.args(["test", "--release", "-p", "tunnel-relay", "--test", "siege"]);
    livecode::turn_on(&mut siege, "", module.as_ref());
    run(siege.args(["--", "--nocapture"]).env("TUNNEL_RELAY_SIEGE", "full"))?;
    setup::setup(workspace, &Needs::for_tests(&workspace.config.test.browsers))?;
    build::build(workspace, build::Form::Release)?;
    relay::build(workspace, true)?;
    run(workspace
        .cargo()
        .args([
            "test",
            "-p",
            "tunnel-e2e",
            "--test",
            "e2e",
            "hostile::",
            "--",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("TUNNEL_HOSTILE", "full")
        .env("TUNNEL_RELAY_BINARY", workspace.binary("release", "tunnel-relay")?))
}
