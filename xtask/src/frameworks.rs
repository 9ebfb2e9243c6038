//! Projects of large frameworks with the package in them.

use anyhow::Result;

use crate::process::run;
use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, relay, setup};

/// Installs the frameworks, builds the package, and opens each project in a tab.
pub(crate) fn frameworks(workspace: &Workspace) -> Result<()> {
    setup::setup(workspace, &Needs::for_tests(&workspace.config.test.browsers))?;
    setup::framework(workspace, "Next.js", "tests/frameworks/next")?;
    build::build(workspace, build::Form::Release)?;
    relay::build(workspace, false)?;
    run(workspace
        .cargo()
        .args(["test", "-p", "tunnel-e2e", "--test", "e2e", "frameworks::", "--", "--ignored"])
        .env("TUNNEL_RELAY_BINARY", workspace.binary("debug", "tunnel-relay")?))
}
