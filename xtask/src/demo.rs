//! `cargo xtask demo`: builds the package and serves the demo page.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, process, relay, setup};

/// Builds library and relay, prints the address and becomes the relay, which serves page and package.
pub(crate) fn demo(workspace: &Workspace, listen: SocketAddr) -> Result<()> {
    // Before the builds, which take longer than one likes to wait for this message.
    TcpListener::bind(listen).with_context(|| {
        format!(
            "cannot listen on {listen}: is a demo running already? `--listen 127.0.0.1:0` takes a free port"
        )
    })?;
    println!("1 of 3: what the build needs");
    setup::setup(workspace, &Needs::for_build())?;
    println!("2 of 3: the package");
    build::build(workspace, build::Form::Release)?;
    println!("3 of 3: the relay");
    relay::build_for_demo(workspace)?;

    let mut command = Command::new(workspace.binary("debug", "tunnel-relay")?);
    command.current_dir(&workspace.root).args(["serve", "--listen", &listen.to_string()]);
    command.args(["--www", "www", "--www", &format!("/pkg={}", workspace.config.build.out_dir)]);
    if listen.port() == 0 {
        println!("\n  Demo: at the address below, with http for ws");
    } else {
        println!("\n  Demo: http://{listen}/");
    }
    println!(
        "  Open it: two pages talk at once. Behind Room, press Host, and open the link in another tab. Ctrl-C ends it.\n"
    );
    become_process(&mut command)
}

/// Replaces this program, so that whoever ends it ends the relay.
#[cfg(unix)]
fn become_process(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start `{}`", process::shown(command)))
}

#[cfg(not(unix))]
fn become_process(command: &mut Command) -> Result<()> {
    process::run(command)
}
