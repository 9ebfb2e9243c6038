//! The package in other people's projects: those of `examples/`, each built as it says and opened in two tabs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tunnel_e2e::{Program, Relay, Stage, livecode_server, on_stage};

/// Folder of the root `Cargo.toml`.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A command that runs in a folder and finds the tools that the tests have from npm.
fn command(program: &str, folder: &Path) -> Result<Command> {
    let tools = root().join("tests/node_modules/.bin").canonicalize().context("run `cargo xtask setup`")?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&inherited)))?;
    let mut command = Command::new(program);
    command.current_dir(folder).env("PATH", path).env("NO_COLOR", "1");
    Ok(command)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Copies a project, without what its own commands have put there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if [OsStr::new("node_modules"), OsStr::new("dist")].contains(&entry.file_name().as_os_str()) {
            continue;
        }
        if path.is_dir() { copy(&path, &to)? } else { fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}

/// The examples' scripts.
const SCRIPTS: [&str; 5] =
    ["esbuild/main.js", "import-map/main.js", "module/main.js", "vite/main.js", "webpack/src/index.js"];

/// Has the examples allow the livecode dialect, so that their bundles load its module.
fn allow_livecode(folder: &Path) -> Result<()> {
    let changes = [
        ("newThrough(relay)", "newThrough(relay, { livecode: true })"),
        ("PeerToPeerWebSocket(`${url}/7`)", "PeerToPeerWebSocket(`${url}/7`, [], { livecode: true })"),
    ];
    for script in SCRIPTS.map(|script| folder.join(script)) {
        let mut text = fs::read_to_string(&script)?;
        for (from, to) in changes {
            ensure!(text.contains(from), "{} does not call {from}", script.display());
            text = text.replace(from, to);
        }
        fs::write(&script, text)?;
    }
    Ok(())
}

/// A folder with all examples in it and the package installed, in `how` npm is told to.
fn install(name: &str, how: &[&str]) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    copy(&root().join("examples"), &folder)?;
    allow_livecode(&folder)?;
    fs::write(folder.join("package.json"), r#"{ "private": true }"#)?;
    let package = root().join("pkg").canonicalize().context("run `cargo xtask build`")?;
    let quietly = ["install", "--offline", "--no-audit", "--no-fund", "--no-package-lock"];
    run(command("npm", &folder)?.args(quietly).args(how).arg(package))?;
    Ok(folder)
}

/// The package as from a registry: its files copied, those that its manifest lists.
fn installed() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = FOLDER
        .get_or_init(|| install("packaging", &["--install-links"]).map_err(|error| format!("{error:#}")));
    folder.as_deref().map_err(|error| anyhow!("{error}"))
}

/// Two tabs talk through a relay of ours, and two others through a livecoding server: for these the page loads more.
async fn two_tabs_talk(stage: &Stage, page: &str, relay: &Relay) -> Result<()> {
    talk_through(stage, page, &relay.url).await.context("through a relay")?;
    let (_node, url) = livecode_server(CREDENTIAL)?;
    let configurer = stage.tab("configurer").await?;
    let given = json!([url, CREDENTIAL]);
    configurer.run_with(given, "await NodeJSTunnelingClient.configureServerAt(...given)").await?;
    talk_through(stage, page, &url).await.context("through a livecoding server")
}

const CREDENTIAL: &str = "a secret of the test";

/// Opens the page and the link that it shows, in another tab, which has to get an answer from the first.
async fn talk_through(stage: &Stage, page: &str, relay: &str) -> Result<()> {
    let server = stage.tab_at("server", &format!("{page}?relay={relay}")).await?;
    let link = server.until("the server's link", "document.querySelector('a')?.href").await?;
    let client = stage.tab_at("client", link.as_str().context("a link is text")?).await?;
    client.until("an answer", "document.body.textContent.includes('you said hello')").await?;
    Ok(())
}

/// Builds an example, serves its folder `served`, and opens it; the bundle holds the wasm, or has it beside it.
fn builds_and_talks(example: &str, served: &str, wasm_beside: bool) {
    on_stage(async |stage| {
        let project = installed()?.join(example);
        run(command("npm", &project)?.args(["run", "build"]))?;
        let files = fs::read_dir(project.join("dist"))?.flatten().map(|entry| entry.path());
        let has_wasm = files.into_iter().any(|path| path.extension().is_some_and(|ending| ending == "wasm"));
        assert_eq!(has_wasm, wasm_beside, "whether there is a wasm file in dist/ of {example}");
        let relay = Relay::serving(&["--www", &project.join(served).display().to_string()])?;
        two_tabs_talk(stage, &relay.page("/"), &relay).await
    });
}

#[test]
fn vite_builds_the_package_without_configuration() {
    builds_and_talks("vite", "dist", false);
}

#[test]
fn webpack_builds_the_package_without_configuration() {
    builds_and_talks("webpack", ".", true);
}

#[test]
fn esbuild_builds_the_package_without_configuration() {
    builds_and_talks("esbuild", ".", false);
}

/// Opens an example as it is, beside the installed package.
fn talks_unbuilt(example: &str) {
    on_stage(async |stage| {
        let folder = installed()?;
        let packages = format!("/node_modules={}", folder.join("node_modules").display());
        let project = folder.join(example).display().to_string();
        let relay = Relay::serving(&["--www", &packages, "--www", &project])?;
        two_tabs_talk(stage, &relay.page("/"), &relay).await
    });
}

#[test]
fn a_module_script_loads_the_package() {
    talks_unbuilt("module");
}

#[test]
fn an_import_map_names_the_package() {
    talks_unbuilt("import-map");
}

/// Vite's development server bundles a package from a registry before it serves it, and leaves a linked one as it is.
fn vite_serves(folder: &Path) {
    on_stage(async |stage| {
        let mut vite = command("vite", &folder.join("vite"))?;
        vite.args(["--host", "127.0.0.1", "--port", "0"]);
        let (_vite, page) = Program::start(vite, "Local:")?;
        let relay = Relay::serving(&[])?;
        two_tabs_talk(stage, &page, &relay).await
    });
}

#[test]
fn vites_development_server_serves_the_package() {
    vite_serves(installed().unwrap());
}

#[test]
fn vites_development_server_serves_a_package_that_npm_has_linked() {
    vite_serves(&install("packaging-linked", &[]).unwrap());
}

/// A classic script takes the encoding of its page, which is windows-1252 where the page names none.
#[test]
fn the_inline_form_works_in_a_classic_script_of_a_page_that_names_no_charset() {
    on_stage(async |stage| {
        let package = root().join("pkg");
        for entry in fs::read_dir(&package)?.flatten().map(|entry| entry.path()) {
            if entry.extension().is_some_and(|ending| ending == "js") {
                assert!(fs::read(&entry)?.is_ascii(), "{}", entry.display());
            }
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-charset");
        fs::create_dir_all(&folder)?;
        let options = ["--bundle", "--format=iife", "--charset=utf8", "--global-name=tunnel"];
        let define = "--define:import.meta.url=undefined";
        run(command("esbuild", &folder)?.arg(package.join("tunnel_wasm_inline.js")).args(options).args([
            define,
            "--external:./tunnel_livecode_inline.js",
            "--outfile=script.js",
        ]))?;
        fs::write(
            folder.join("index.html"),
            "<!doctype html><title>t</title><script src=script.js></script>",
        )?;
        let relay = Relay::serving(&["--www", &folder.display().to_string()])?;
        let tab = stage.tab_at("a", &relay.page("/index.html")).await?;
        let echoed = tab
            .run_with(
                json!(relay.url),
                "await tunnel.default()
                 const server = await tunnel.ForwardingServerWebSocket.newThrough(given)
                 server.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
                 const socket = tunnel.PeerToPeerWebSocket.toPort(1, server.serverId, given)
                 socket.onopen = () => socket.send('hello')
                 return new Promise((resolve, reject) => {
                   socket.onmessage = ({ data }) => resolve(data)
                   socket.onclose = ({ reason }) => reject(new Error(reason))
                 })",
            )
            .await?;
        assert_eq!(echoed, json!("hello"));
        Ok(())
    });
}

#[test]
fn javascript_and_wasm_of_different_builds_are_refused_by_init() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let failures = tab
            .run(
                "const { default: init, initSync } = await import('/pkg/tunnel_wasm.js?another')
                 const ours = new Uint8Array(await (await fetch('/pkg/tunnel_wasm_bg.wasm')).arrayBuffer())
                 const [stamp] = WebAssembly.Module.customSections(new WebAssembly.Module(ours), 'tunnel-build')
                 const build = new TextDecoder().decode(stamp)
                 // The same code, as if another build had made it; the stamp is at the end.
                 const another = ours.slice()
                 another[another.length - 1] ^= 1
                 // A module without a stamp.
                 const bare = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)
                 const failures = []
                 for (const given of [another, bare]) {
                   const refused = ({ name, code, message }) => failures.push([name, code, message.split(build).length])
                   await init({ module_or_path: given }).catch(refused)
                   try { initSync({ module: given }) } catch (error) { refused(error) }
                 }
                 await init({ module_or_path: ours })
                 return failures",
            )
            .await?;
        let refused = json!(["TunnelError", "build-mismatch", 2]);
        assert_eq!(failures, json!([refused, refused, refused, refused]));
        Ok(())
    });
}

#[test]
fn the_examples_have_one_script() {
    let script = |path: &str| fs::read_to_string(root().join("examples").join(path)).unwrap();
    let vite = script("vite/main.js");
    assert_eq!(script("webpack/src/index.js"), vite);
    assert_eq!(script("esbuild/main.js"), vite);
    assert_eq!(script("import-map/main.js"), vite);
    assert_eq!(
        script("module/main.js").replace("./node_modules/tunnel-wasm/tunnel_wasm.js", "tunnel-wasm"),
        vite
    );
}
