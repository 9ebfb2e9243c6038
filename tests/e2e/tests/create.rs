//! `npm create tunnel-wasm`: what it says to bad input, and, by `cargo xtask create`, the projects that it makes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tunnel_e2e::{Program, Relay, Stage, Tab, in_tests, on_stage};

/// Runs it from the repository in a folder, and returns what it printed.
fn create(folder: &Path, arguments: &[&str]) -> Result<Output> {
    let script = in_tests("../create/create.js")?;
    let mut command = Command::new("node");
    // No registry answers at port 9, and nothing is in the cache.
    command.env("npm_config_registry", "http://127.0.0.1:9/").env("npm_config_fetch_retries", "0");
    command.env("npm_config_cache", folder.join("cache")).env_remove("NODE_OPTIONS");
    command.arg(script).args(arguments).current_dir(folder).output().context("cannot start node")
}

/// Runs it, which has to fail, and returns what it says.
fn refused(folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = create(folder, arguments)?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success(), "it made a project of {arguments:?}");
    // npm may have said more before.
    let ours = said.rfind("\nerror: ").map_or(&*said, |at| &said[at + 1..]);
    ensure!(ours.starts_with("error: ") && !ours.contains("    at "), "{said}");
    Ok(ours.to_owned())
}

#[test]
fn a_project_is_refused_in_one_line_that_says_what_to_do() -> Result<()> {
    let folder = TempDir::new()?;
    fs::create_dir(folder.path().join("used"))?;
    fs::write(folder.path().join("used/notes.txt"), "mine")?;
    fs::write(folder.path().join("file"), "mine")?;
    for (arguments, words) in [
        (&["used"][..], "is not empty, and nothing in it is overwritten"),
        (&["file"], "is a file"),
        (&["file/below"], "is a file, or below one"),
        (&["My App"], "\"My App\" can't be the name of an npm package"),
        (&["../.hidden"], "\".hidden\" can't be the name"),
        (&["app", "--template", "vue"], "there is no template \"vue\": take plain, vite, react"),
        (&["app", "--template", "toString"], "there is no template"),
        (&["app", "--tempalte", "vite"], "Unknown option '--tempalte'"),
        (&["app", "other"], "one folder, not 2: app, other"),
        (&[], "name the folder of the project"),
        (&["app", "--from", "nowhere"], "--from nowhere: it can't be read"),
        (&["app", "--from", "used"], "there is no tunnel-wasm-0.1.0.tgz in it; `cargo xtask dist` makes it"),
    ] {
        let said = refused(folder.path(), arguments)?;
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(!folder.path().join("app").exists(), "{arguments:?} left a folder");
    }
    assert_eq!(fs::read_to_string(folder.path().join("used/notes.txt"))?, "mine");
    assert_eq!(fs::read_dir(folder.path().join("used"))?.count(), 1);
    Ok(())
}

#[test]
fn without_a_network_the_project_is_made_and_the_next_step_named() -> Result<()> {
    let folder = TempDir::new()?;
    let said = refused(folder.path(), &["app", "--template", "plain"])?;
    let words = "npm install failed: it says above why. The project is in ";
    assert!(said.contains(words) && said.contains("with a network, run `npm install` there"), "{said}");
    assert!(folder.path().join("app/package.json").is_file());
    Ok(())
}

#[test]
fn a_project_without_an_installation_asks_for_packages_of_its_own_version() -> Result<()> {
    let folder = TempDir::new()?;
    let output = create(folder.path(), &["app", "-t", "react", "--no-install"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains("cd app\n  npm install\n  npm run dev"), "{said}");
    let project = folder.path().join("app");
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(project.join("package.json"))?)?;
    assert_eq!(manifest["name"], "app");
    assert_eq!(manifest["dependencies"]["tunnel-wasm"], concat!("^", env!("CARGO_PKG_VERSION")));
    assert_eq!(manifest["devDependencies"]["tunnel-relay"], concat!("^", env!("CARGO_PKG_VERSION")));
    assert!(project.join(".gitignore").is_file() && !project.join("gitignore").exists());
    assert!(project.join("src/App.tsx").is_file() && project.join("dev/start.js").is_file());
    Ok(())
}

/// The server of `npm run dev`, and the relay that it has started: they end together, when they are told to.
struct Dev(Program);

impl Drop for Dev {
    fn drop(&mut self) {
        // Not by SIGKILL, which would leave the relay.
        if let Err(error) = self.0.terminate() {
            eprintln!("npm run dev: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// A command in the project, which runs in the Node.js of the machine.
fn command(program: &str, project: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(project).envs([("NO_COLOR", "1"), ("BROWSER", "none")]);
    // The relay takes all that begins so for settings of its own.
    command.env_remove("TUNNEL_RELAY_BINARY");
    command
}

/// Makes a project from the packed files, as people do.
fn project(template: &str) -> Result<PathBuf> {
    let packages = env::var_os("TUNNEL_PACKAGES").context("`cargo xtask create` packs what this needs")?;
    let (packages, parent) =
        (PathBuf::from(packages), Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("create-{template}")));
    if parent.exists() {
        fs::remove_dir_all(&parent)?;
    }
    fs::create_dir_all(&parent)?;
    let packed = packages.join(concat!("create-tunnel-wasm-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let mut npm = command("npm", &parent);
    npm.args(["exec", "--yes", "--prefer-offline", "--package"]).arg(packed);
    npm.args(["--", "create-tunnel-wasm", "app", "--template", template, "--from"]).arg(&packages);
    run(npm.env("npm_config_prefer_offline", "true"))?;
    Ok(parent.join("app"))
}

/// Sends a message as people do.
async fn say(tab: &Tab<'_>, text: &str) -> Result<()> {
    tab.until("it may send", "!document.querySelector('#form button').disabled").await?;
    tab.type_into("#text", &format!("{text}\u{e007}")).await
}

async fn hears(tab: &Tab<'_>, line: &str) -> Result<()> {
    let lines = "[...document.querySelectorAll('#lines li')].map(line => line.textContent)";
    tab.until(line, &format!("{lines}.some(line => line.endsWith({line:?}))")).await?;
    Ok(())
}

/// Both say something, which both hear.
async fn two_tabs_talk(host: &Tab<'_>, guest: &Tab<'_>) -> Result<()> {
    guest.until("it is in", "/^Connected/.test(document.querySelector('#state').textContent)").await?;
    say(guest, "hello from the guest").await?;
    say(host, "hello from the host").await?;
    for tab in [host, guest] {
        hears(tab, ": hello from the guest").await?;
        hears(tab, "host: hello from the host").await?;
    }
    Ok(())
}

/// Opens the two tabs of `npm run dev`; then reloads the one that serves.
async fn runs(stage: &Stage, project: &Path) -> Result<()> {
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(project.join("package.json"))?)?;
    assert_eq!(manifest["scripts"]["dev"], "node dev/start.js");
    // The program of `npm run dev`, by itself: a signal to npm does not reach what its shell has started.
    let mut start = command("node", project);
    start.arg("dev/start.js");
    let (program, page) = Program::start(start, "this tab serves: ")?;
    let _dev = Dev(program);
    // The guest comes first: it waits for a tab that serves.
    let guest = stage.tab_at("guest", &format!("{page}?guest")).await?;
    let host = stage.tab_at("host", &page).await?;
    two_tabs_talk(&host, &guest).await?;
    host.reload().await?;
    let again = "document.querySelector('#state').textContent === 'Connected again.'";
    guest.until("it is back after the reload", again).await?;
    say(&guest, "still here").await?;
    hears(&host, "still here").await
}

/// Builds the page, serves it by a relay, and opens the link that it shows.
async fn builds(stage: &Stage, project: &Path) -> Result<()> {
    run(command("npm", project).args(["run", "build"]).env("VITE_RELAY", "/"))?;
    let relay = Relay::serving(&["--www", &project.join("dist").display().to_string()])?;
    let host = stage.tab_at("built host", &relay.page("/")).await?;
    let link = host.until("a link", "document.querySelector('#link[href]:not([hidden])')?.href").await?;
    let guest = stage.tab_at("built guest", link.as_str().context("a link is text")?).await?;
    two_tabs_talk(&host, &guest).await
}

#[test]
#[ignore = "installs packages from npm: cargo xtask create"]
fn a_plain_project_runs() {
    on_stage(async |stage| runs(stage, &project("plain")?).await);
}

#[test]
#[ignore = "installs packages from npm: cargo xtask create"]
fn a_project_with_vite_runs_and_is_built() {
    on_stage(async |stage| {
        let project = project("vite")?;
        runs(stage, &project).await?;
        builds(stage, &project).await
    });
}

#[test]
#[ignore = "installs packages from npm: cargo xtask create"]
fn a_project_with_react_runs_and_is_built() {
    on_stage(async |stage| {
        let project = project("react")?;
        runs(stage, &project).await?;
        builds(stage, &project).await
    });
}
