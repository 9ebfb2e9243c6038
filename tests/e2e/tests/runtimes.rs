//! The package where there is a global `WebSocket` and no browser.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tunnel_e2e::{Program, Relay, in_tests, package};

/// How long a process may live on. The link to a relay stays for seconds, in case that it is needed again.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the script to its end.
fn echoes(runtime: PathBuf, arguments: &[&str]) -> Result<String> {
    let relay = Relay::start(&[])?;
    let mut command = Command::new(runtime);
    command.args(arguments).arg(in_tests("node/echo.mjs")?).arg(package()?).arg(&relay.url);
    let (program, said) = Program::start(command, "echoed by ")?;
    let ended = program.ended(LIMIT)?;
    ensure!(ended.success(), "{ended} after {said}");
    Ok(said)
}

/// What npm has installed for the tests, or the machine's own.
fn runtime(name: &str) -> Option<PathBuf> {
    let ours = in_tests(&format!("node_modules/.bin/{name}")).ok().filter(|path| path.is_file());
    let path = env::var_os("PATH").unwrap_or_default();
    ours.or_else(|| env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file()))
}

#[test]
fn node_hosts_and_connects_and_ends_by_itself() {
    let node = runtime("node").context("no Node.js: run `cargo xtask setup`").unwrap();
    let said = echoes(node, &[]).unwrap();
    assert!(said.starts_with("Node.js "), "{said}");
}

#[test]
fn deno_and_bun_do_so_where_they_are_installed() {
    for (name, arguments) in [("deno", &["run", "--allow-all"][..]), ("bun", &[])] {
        match runtime(name) {
            Some(path) => println!("{}", echoes(path, arguments).unwrap()),
            None => println!("{name} is not installed"),
        }
    }
}
