//! The package in other people's runtimes, and beside their libraries: the real ones, from npm.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tunnel_e2e::{Program, Relay, in_tests, package};

/// The time that a process may live on when it has talked.
const LIMIT: Duration = Duration::from_secs(60);

/// Folder of the scripts, with the package installed among the others'.
fn folder() -> Result<&'static PathBuf> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let install = || {
        let folder = in_tests("runtimes")?;
        let installed = folder.join("node_modules/tunnel-wasm");
        ensure!(folder.join("node_modules/zone.js").is_dir(), "run `cargo xtask setup`");
        if installed.exists() {
            fs::remove_dir_all(&installed)?;
        }
        fs::create_dir(&installed)?;
        for file in fs::read_dir(package()?)? {
            let file = file?;
            // The folder is the site's, and no part of the package.
            if file.file_type()?.is_file() {
                fs::copy(file.path(), installed.join(file.file_name()))?;
            }
        }
        Ok::<_, anyhow::Error>(folder)
    };
    FOLDER
        .get_or_init(|| install().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

/// A program that npm has installed for the tests.
fn program(path: &str) -> Result<PathBuf> {
    in_tests(path).context("run `cargo xtask setup`")
}

fn node() -> Result<PathBuf> {
    program("node_modules/.bin/node")
}

/// Runs `arguments` in the folder with the relay's URL behind them until `said` is printed, and then to its end; returns what
/// followed that in its line, and all that was printed.
fn run(runtime: PathBuf, arguments: &[&str], said: &str) -> Result<(String, String)> {
    let relay = Relay::start(&[])?;
    let mut command = Command::new(runtime);
    command.args(arguments).arg(&relay.url).current_dir(folder()?);
    let (program, rest) = Program::start(command, said)?;
    let (ended, all) = program.ended(LIMIT)?;
    ensure!(ended.success(), "{ended} after {all}");
    Ok((rest, all))
}

/// Longest time for which a process may live on when it has closed its last socket and server, in milliseconds, by its own count. It is a tenth
/// of a second where nothing else runs; it was 5,000 and 10,000 when a timer held it.
const LIVES_ON: u32 = 4_000;

/// Both forms of the package: with the wasm inside, and with the wasm beside it.
fn talks(runtime: &str, arguments: &[&str], name: &str) {
    for form in ["inline", "beside"] {
        let arguments = [arguments, &["plain.mjs", form]].concat();
        let said = program(runtime).and_then(|runtime| run(runtime, &arguments, "talked in "));
        let (rest, all) = said.expect("it talks");
        assert!(rest.starts_with(name), "{rest}");
        let lived_on = all.split_once("it ended ").and_then(|(_, behind)| behind.split_once(" ms later"));
        let lived_on = lived_on.and_then(|(time, _)| time.parse::<u32>().ok()).expect("a time");
        assert!(lived_on < LIVES_ON, "{all}");
    }
}

#[test]
fn node_hosts_and_connects_and_ends_by_itself() {
    talks("node_modules/.bin/node", &[], "Node.js ");
}

#[test]
fn bun_hosts_and_connects_and_ends_by_itself() {
    talks("runtimes/node_modules/.bin/bun", &[], "Bun ");
}

#[test]
fn deno_hosts_and_connects_and_ends_by_itself() {
    talks("runtimes/node_modules/.bin/deno", &["run", "--allow-all", "--no-check"], "Deno ");
}

/// Beside a library nothing is lost, whatever it does to WebSockets, events and prototypes.
fn talks_beside(library: &str) {
    let said = node().and_then(|node| run(node, &["beside.mjs", library], "talked beside "));
    let (rest, _) = said.expect("it talks");
    assert_eq!(rest, library);
}

#[test]
fn nothing_is_lost_where_the_global_web_socket_is_that_of_ws() {
    talks_beside("ws");
}

#[test]
fn nothing_is_lost_where_zone_js_calls_the_listeners_of_an_event() {
    talks_beside("zone.js");
}

#[test]
fn nothing_is_lost_where_happy_dom_calls_handlers_behind_listeners() {
    talks_beside("happy-dom");
}

#[test]
fn a_socket_opens_through_msw_which_reports_another_subprotocol_and_keeps_what_it_sees() {
    talks_beside("msw");
}

#[test]
fn a_page_may_add_to_the_prototype_of_all_objects() {
    talks_beside("Object.prototype");
}

#[test]
fn a_clock_that_stands_still_since_before_the_package_was_loaded_stops_nothing() {
    talks_beside("a clock that stands still");
}

#[test]
fn node_20_imports_the_package_and_connects_with_the_web_socket_of_ws() {
    let node = || program("runtimes/node_modules/node-20/bin/node").unwrap();
    run(node(), &["no-websocket.mjs"], "imported").unwrap();
    run(node(), &["beside.mjs", "ws"], "talked beside ").unwrap();
}

#[test]
fn a_server_at_the_edge_that_renders_pages_imports_the_package() {
    run(node().unwrap(), &["edge.mjs"], "imported").unwrap();
}

/// Runs a test runner in its folder.
fn tests_pass(folder_name: &str, runner: &str, arguments: &[&str]) -> Result<()> {
    let relay = Relay::start(&[])?;
    let folder = folder()?;
    let mut command = Command::new(node()?);
    command
        .arg("--experimental-vm-modules")
        .arg(folder.join("node_modules").join(runner))
        .args(arguments)
        .current_dir(folder.join(folder_name))
        .envs([("RELAY", relay.url.as_str()), ("NO_COLOR", "1"), ("CI", "1")])
        .env("PATH", env::var_os("PATH").unwrap_or_default());
    let output = command.output().with_context(|| format!("cannot start {runner}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn jest_requires_and_imports_the_package_in_node_and_in_jsdom() {
    tests_pass("jest", "jest/bin/jest.js", &["--config", "jest.config.json"]).unwrap();
}

#[test]
fn vitest_imports_the_package_in_jsdom_and_in_happy_dom() {
    tests_pass("vitest", "vitest/vitest.mjs", &["run", "--root", "."]).unwrap();
}
