//! Projects that `npm create tunnel-wasm` makes.

use anyhow::Result;

use crate::process::run;
use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, dist, relay, setup};

/// Packs the npm packages, makes a project of each template with them, builds and runs it, and opens its two tabs.
pub(crate) fn create(workspace: &Workspace) -> Result<()> {
    setup::setup(workspace, &Needs::for_tests(&workspace.config.test.browsers))?;
    build::build(workspace, build::Form::Release)?;
    relay::build(workspace, false)?;
    let packages = dist::npm_packages(workspace)?;
    run(workspace
        .cargo()
        .args(["test", "-p", "tunnel-e2e", "--test", "e2e", "create::", "--", "--include-ignored"])
        .env("TUNNEL_PACKAGES", packages)
        .env("TUNNEL_RELAY_BINARY", workspace.binary("debug", "tunnel-relay")?))
}
