//! `cargo xtask test`: everything that has to be green.

use std::{fs, io};

use anyhow::{Context, Result};

use crate::config::{Browser, Mode};
use crate::process::run;
use crate::relay::Relay;
use crate::report::Report;
use crate::setup::Needs;
use crate::workspace::Workspace;
use crate::{build, crates, dist, example, lint, livecode, nats, relay, setup, site, size};

/// Runs all checks and tests; the first step that fails ends it.
pub(crate) fn test(workspace: &Workspace, browsers: &[Browser]) -> Result<()> {
    let mut report = Report::new();
    report.step("setup", || setup::setup(workspace, &Needs::for_tests(browsers)))?;
    lint::format(workspace, &mut report)?;
    lint::clippy(workspace, &mut report)?;
    lint::plain_package(workspace, &mut report)?;
    lint::fuzz_targets(workspace, &mut report)?;
    lint::dependencies(workspace, &mut report)?;
    report.step("native tests", || {
        // The multi-tab tests need the package: they come last.
        let module = livecode::build_if_possible(workspace)?;
        let mut command = workspace.cargo();
        command.args(["test", "--workspace", "--exclude", "tunnel-e2e", "--features"]);
        // The events of the core are there for tests; `plain_package` shows that the package has none.
        command.arg(format!("tunnel-relay/{},tunnel-simulation/tracing", relay::CLUSTER));
        command.envs(nats::program(workspace).map(|program| (nats::VARIABLE, program)));
        run(livecode::turn_on(&mut command, "tunnel-relay/", module.as_ref()))
    })?;
    report.step("relay without ACME", || {
        let config = ["test", "-p", "tunnel-relay", "--no-default-features", "--lib", "config::"];
        run(workspace.cargo().args(config))
    })?;
    report.step("cipher tests in WebAssembly", || cipher_tests(workspace))?;
    report.step("crates as a registry takes them", || crates::package(workspace))?;
    report.step("package", || {
        build::build(workspace, build::Form::Release)?;
        size::check(workspace)
    })?;
    report.step("documents as pages", || site::documents(workspace).map(drop))?;
    let relay = report.step("relay", || {
        relay::build(workspace, false)?;
        Relay::start(workspace, "debug", "info")
    })?;
    report.step("packages of relay and command", || dist::try_packers(workspace))?;
    for &browser in browsers {
        for &mode in &workspace.config.test.modes {
            let name = format!("browser tests, {browser:?}, {}", mode.name());
            let Some(option) = browser.wasm_pack_option() else { continue };
            report.step(&name, || browser_tests(workspace, option, mode, &relay))?;
        }
    }
    drop(relay);
    report.step("example in Rust", || example::build(workspace))?;
    empty_pictures(workspace)?;
    for &browser in browsers {
        let name = format!("multi-tab tests, {browser:?}");
        report.step(&name, || multi_tab_tests(workspace, browser))?;
    }
    report.finish();
    Ok(())
}

/// Builds the debug form of the package, and has a panic of it say what happened and where.
pub(crate) fn test_debug_form(workspace: &Workspace) -> Result<()> {
    let mut report = Report::new();
    report.step("setup", || setup::setup(workspace, &Needs::for_tests(&[Browser::Chromium])))?;
    report.step("debug form of the package", || build::build(workspace, build::Form::Debug))?;
    report.step("relay", || relay::build(workspace, false))?;
    report.step("multi-tab tests of the debug form", || {
        let mut command = workspace.cargo();
        command
            .args(["test", "-p", "tunnel-e2e", "--test", "e2e", "debug_form::", "--", "--ignored"])
            .env("TUNNEL_RELAY_BINARY", workspace.binary("debug", "tunnel-relay")?);
        run(&mut command)
    })?;
    report.finish();
    Ok(())
}

/// The cipher has an implementation of its own on WebAssembly: the same tests as natively, in Node.js.
fn cipher_tests(workspace: &Workspace) -> Result<()> {
    run(workspace
        .cargo()
        .args(["test", "-p", "tunnel-cipher", "--lib", "--test", "cipher", "--target"])
        .arg(&workspace.config.build.rust_target)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", "wasm-bindgen-test-runner"))
}

/// `tests/web` in a browser. The relay is one for all modes: its address is compiled into the tests.
fn browser_tests(workspace: &Workspace, option: &str, mode: Mode, relay: &Relay) -> Result<()> {
    run(workspace
        .command("wasm-pack")
        .args(["test", "--headless", option, "--mode", "no-install", "--", "--test", "web"])
        .env(mode.variable(), "1")
        .env("TUNNEL_RELAY_URL", &relay.url)
        .env("WASM_BINDGEN_TEST_TIMEOUT", workspace.config.test.timeout_seconds.to_string())
        .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", workspace.root.join("tests/webdriver.json")))
}

/// Multi-tab tests that are about the browser. The others use what only Chromium has, or are about the rest.
const IN_ALL_BROWSERS: [&str; 6] =
    ["classes::", "conformance::", "late_listeners::", "reloads::", "scopes::", "sockets::"];

/// Several tabs, driven from outside. They start their own relays and browsers, and leave pictures in `test-output/`.
fn multi_tab_tests(workspace: &Workspace, browser: Browser) -> Result<()> {
    let mut command = workspace.cargo();
    command
        .args(["test", "-p", "tunnel-e2e"])
        .env("TUNNEL_E2E_BROWSER", browser.name())
        .env("TUNNEL_COMMAND_BINARY", workspace.binary("debug", "tunnel")?)
        .env("TUNNEL_RELAY_BINARY", workspace.binary("debug", "tunnel-relay")?);
    if browser != Browser::Chromium {
        command.args(["--test", "e2e", "--"]).args(IN_ALL_BROWSERS);
    }
    run(&mut command)
}

fn empty_pictures(workspace: &Workspace) -> Result<()> {
    let pictures = workspace.root.join("test-output");
    match fs::remove_dir_all(&pictures) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", pictures.display()))
        }
        _ => Ok(()),
    }
}
