//! `cargo xtask demo`: builds the package and serves the demo page.

mod lan;

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, process, relay, setup, site};

/// Builds library and relay, prints the address and becomes the relay, which serves page and package.
///
/// With `for_network` it serves the local network too, on the port of `listen`.
pub(crate) fn demo(workspace: &Workspace, listen: SocketAddr, for_network: bool) -> Result<()> {
    let listen = free(if for_network { lan::address(listen)? } else { listen })?;
    println!("1 of 4: what the build needs");
    setup::setup(workspace, &Needs::for_build())?;
    println!("2 of 4: the package");
    build::build(workspace, build::Form::Release)?;
    println!("3 of 4: the documents");
    site::documents(workspace)?;
    println!("4 of 4: the relay");
    let runs_programs = relay::build_for_demo(workspace)?;

    let mut command = Command::new(workspace.binary("debug", "tunnel-relay")?);
    command.current_dir(&workspace.root).arg("serve");
    command.args(["--www", "www", "--www", &format!("/pkg={}", workspace.config.build.out_dir)]);
    command.args(["--www", &format!("/docs={}", site::documents_folder())]);
    if for_network {
        command.args(lan::settings(listen));
        println!("{}", lan::announcement(listen)?);
    } else {
        command.args(["--listen", &listen.to_string()]);
        println!("\n  Demo: http://{listen}/");
    }
    if !runs_programs {
        println!("  Live: off, because the relay is built without livecoding");
    } else if let Some(fragment) = let_pages_reprogram(&mut command, workspace, listen)? {
        println!("  Live: http://{listen}/live/{fragment}");
    } else {
        println!("  Live: off, because others than this machine reach {listen}");
    }
    println!(
        "  Open it: two pages talk at once. Behind Room, press Host, and open the link in another tab. Ctrl-C ends it.\n"
    );
    become_process(&mut command)
}

/// Fails unless the address is free; port 0 becomes a free one.
///
/// Called before the builds, which take longer than one likes to wait for this message.
fn free(listen: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind(listen).with_context(|| {
        format!(
            "cannot listen on {listen}: is a demo running already? `--listen {}` takes a free port",
            SocketAddr::new(listen.ip(), 0)
        )
    })?;
    listener.local_addr().context("cannot tell the port")
}

/// Has the relay run programs for whoever has a secret that is new each time, and returns the fragment of an address that has it. Only on this
/// machine: who reads the address runs code on the relay.
fn let_pages_reprogram(
    relay: &mut Command,
    workspace: &Workspace,
    listen: SocketAddr,
) -> Result<Option<String>> {
    if !listen.ip().is_loopback() {
        return Ok(None);
    }
    let credential = secret(workspace)?;
    // Not an argument, which other users of the machine could read.
    relay.args(["--livecode-programs", "on"]).env("TUNNEL_RELAY_LIVECODE_CREDENTIAL", &credential);
    Ok(Some(format!("#credential={credential}")))
}

/// A secret of 192 random bits.
pub(crate) fn secret(workspace: &Workspace) -> Result<String> {
    const DRAW: &str = "process.stdout.write(require('crypto').randomBytes(24).toString('base64url'))";
    process::output(workspace.command("node").args(["-e", DRAW]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_an_error_that_names_another_way() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = free(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is a demo running already? `--listen 127.0.0.1:0` takes"), "{error}");
        assert_ne!(free("127.0.0.1:0".parse().unwrap()).unwrap().port(), 0);
    }

    /// The relay's command, and the fragment that is printed.
    fn command(listen: &str) -> (String, Option<String>) {
        let workspace = Workspace::find().expect("this is a checkout");
        let mut relay = Command::new("relay");
        let listen = listen.parse().expect("an address");
        let fragment = let_pages_reprogram(&mut relay, &workspace, listen).expect("Node.js is there");
        (format!("{relay:?}"), fragment)
    }

    #[test]
    fn the_demo_can_be_reprogrammed_from_this_machine_only_and_by_a_secret_that_is_new_each_time() {
        for open in ["0.0.0.0:80", "192.0.2.7:80", "[::]:80"] {
            let (relay, fragment) = command(open);
            assert_eq!((relay.as_str(), fragment), ("\"relay\"", None), "{open}");
        }
        let ((one, fragment), (two, other)) = (command("127.0.0.1:80"), command("[::1]:80"));
        let credential =
            fragment.as_deref().and_then(|it| it.strip_prefix("#credential=")).expect("a secret");
        assert!(credential.len() >= 32 && fragment != other, "{one} {two}");
        assert!(one.ends_with("\"--livecode-programs\" \"on\""), "the secret is no argument: {one}");
    }
}
