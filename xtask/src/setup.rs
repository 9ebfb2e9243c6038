//! `cargo xtask setup`: installs what is missing, and only that, through package registries.

use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::build::bundles;
use crate::config::Browser;
use crate::nats;
use crate::process::{output, run};
use crate::report::Seconds;
use crate::workspace::Workspace;

/// Things that a command needs beyond Rust.
#[derive(Debug)]
pub(crate) struct Needs<'a> {
    browsers: &'a [Browser],
    /// Runners of the browser tests, and npm packages that the tests use.
    test_tools: bool,
}

impl<'a> Needs<'a> {
    /// Building the package and the bundles of the pages: compiler target, wasm-opt, esbuild, npm packages.
    pub(crate) fn for_build() -> Self {
        Self { browsers: &[], test_tools: false }
    }

    /// The above, browsers with their drivers, and the npm packages that the tests use.
    pub(crate) fn for_tests(browsers: &'a [Browser]) -> Self {
        Self { browsers, test_tools: true }
    }
}

/// Target folder of the tools that come from the Rust registry, shared so that they share their dependencies.
const BUILDS: &str = "tools-build";

/// The result of a step.
enum Outcome {
    Present,
    Installed,
}

/// Makes sure that everything needed is there; one line for each thing. Quick when all is.
pub(crate) fn setup(workspace: &Workspace, needs: &Needs<'_>) -> Result<()> {
    let tools = &workspace.config.tools;
    check_lock(workspace)?;
    rust_std(workspace, &workspace.config.build.rust_target)?;
    step("Node.js with npm", || debian(workspace, &["node", "npm"], &["nodejs", "npm"]))?;
    let wasm_opt = has_version(workspace, "wasm-opt", tools.binaryen.split('.').next().unwrap_or_default());
    step(&format!("wasm-opt of binaryen {}", tools.binaryen), || {
        // The machine's own says `wasm-opt version 132`, with more after it in some builds.
        if wasm_opt { Ok(Outcome::Present) } else { npm_tool(workspace, "binaryen", &tools.binaryen) }
    })?;
    step(&format!("esbuild {}", tools.esbuild), || npm_tool(workspace, "esbuild", &tools.esbuild))?;
    step("npm packages of the pages", || npm_packages(workspace, bundles::SOURCES))?;
    for browser in needs.browsers {
        match browser {
            Browser::Chromium => step("Chromium with chromedriver", || {
                debian(workspace, &["chromium", "chromedriver"], &["chromium", "chromium-driver"])
            })?,
            Browser::Firefox => {
                step("Firefox", || debian(workspace, &["firefox"], &["firefox-esr"]))?;
                step(&format!("geckodriver {}", tools.geckodriver), || {
                    cargo_tool(workspace, "geckodriver", "geckodriver", &tools.geckodriver)
                })?;
                drop_builds(workspace)?;
            }
            Browser::WebKit => step("WebKitGTK with WebKitWebDriver and Xvfb", || {
                debian(workspace, &["WebKitWebDriver", "Xvfb"], &["webkit2gtk-driver", "xvfb"])
            })?,
        }
    }
    if needs.test_tools {
        step(&format!("wasm-bindgen-test-runner {}", tools.wasm_bindgen), || {
            cargo_tool(workspace, "wasm-bindgen-test-runner", "wasm-bindgen-cli", &tools.wasm_bindgen)
        })?;
        step(&format!("wasm-pack {}", tools.wasm_pack), || {
            cargo_tool(workspace, "wasm-pack", "wasm-pack", &tools.wasm_pack)
        })?;
        drop_builds(workspace)?;
    }
    if needs.test_tools {
        optional(workspace)?;
        if let Err(error) = clang(workspace) {
            println!("  the livecoding engine cannot be built: {error:#}");
        }
        old_libraries(workspace)?;
        nats_server(workspace)?;
    }
    if needs.test_tools && workspace.root.join("tests/package.json").is_file() {
        step("npm packages of the tests", || npm_packages(workspace, "tests"))?;
        documents(workspace)?;
        step("runtimes of others from npm", || npm_packages(workspace, "tests/runtimes"))?;
    }
    Ok(())
}

/// Makes sure that what makes pages of the documents is there.
pub(crate) fn documents(workspace: &Workspace) -> Result<()> {
    step("npm packages of the documents", || npm_packages(workspace, "docs"))
}

/// Makes sure that the server is there that carries the bus between relays.
pub(crate) fn nats_server(workspace: &Workspace) -> Result<()> {
    step(&format!("nats-server {}", workspace.config.tools.nats_server), || {
        let installed = nats::install(workspace, announce)?;
        Ok(if installed { Outcome::Installed } else { Outcome::Present })
    })
}

/// Makes sure that a framework is there, in the folder of a test's project.
pub(crate) fn framework(workspace: &Workspace, name: &str, folder: &str) -> Result<()> {
    step(name, || npm_packages(workspace, folder))
}

/// Prints what is looked for, and how it was found.
fn step(name: &str, run: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    let started = Instant::now();
    let outcome = run().with_context(|| format!("setting up {name} failed"))?;
    let outcome = match outcome {
        Outcome::Present => "is there",
        Outcome::Installed => "installed",
    };
    println!("  {name}: {outcome}, {}", Seconds(started.elapsed()));
    Ok(())
}

fn announce(what: &str) {
    println!("  {what} …");
}

/// The test runner reads what the crate `wasm-bindgen` of the same version has put into the wasm, and no other.
fn check_lock(workspace: &Workspace) -> Result<()> {
    let path = workspace.root.join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let locked = locked_version(&text, "wasm-bindgen")
        .with_context(|| format!("{} is not understood", path.display()))?
        .with_context(|| format!("{} has no wasm-bindgen: run `cargo update --workspace`", path.display()))?;
    let wanted = &workspace.config.tools.wasm_bindgen;
    if locked != *wanted {
        bail!(
            "Cargo.lock has wasm-bindgen {locked}, wasm-pack.toml has {wanted}: they must be the same. Write {locked} \
             into tools.wasm-bindgen of wasm-pack.toml, or run `cargo update -p wasm-bindgen --precise {wanted}`"
        );
    }
    Ok(())
}

/// Version of a package in the text of a `Cargo.lock`.
fn locked_version(lock: &str, name: &str) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let lock: Lock = toml::from_str(lock)?;
    Ok(lock.package.into_iter().find(|package| package.name == name).map(|package| package.version))
}

/// Makes sure that Rust's standard library is there for a target.
pub(crate) fn rust_std(workspace: &Workspace, target: &str) -> Result<()> {
    step(target, || rust_target(workspace, target))
}

/// Makes sure that C can be compiled for WebAssembly.
pub(crate) fn clang(workspace: &Workspace) -> Result<()> {
    step("clang, for the livecoding engine", || debian(workspace, &["clang"], &["clang"]))
}

/// Makes sure that C can be compiled for static programs.
pub(crate) fn musl_gcc(workspace: &Workspace) -> Result<()> {
    step("musl-gcc", || debian(workspace, &["musl-gcc"], &["musl-tools"]))
}

fn rust_target(workspace: &Workspace, target: &str) -> Result<Outcome> {
    let folder = output(workspace.command("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(Outcome::Present);
    }
    rustup(workspace, &["target", "add", target])
}

fn rustup(workspace: &Workspace, arguments: &[&str]) -> Result<Outcome> {
    let (what, name) = (arguments[0], arguments[arguments.len() - 1]);
    if workspace.locate("rustup").is_none() {
        bail!(
            "there is no rustup to install it: install the {what} {name} the way Rust itself was installed"
        );
    }
    announce(&format!("adding the {what} {name}"));
    run(workspace.command("rustup").args(arguments))?;
    Ok(Outcome::Installed)
}

/// A program from the Rust registry in exactly this version: ours, or the machine's.
fn cargo_tool(workspace: &Workspace, program: &str, package: &str, version: &str) -> Result<Outcome> {
    if has_version(workspace, program, version) {
        return Ok(Outcome::Present);
    }
    announce(&format!("building {package} {version}, which takes minutes"));
    let mut command = workspace.cargo();
    command.args(["install", package, "--version", version, "--force", "--root"]).arg(&workspace.tools);
    command.arg("--target-dir").arg(workspace.tools.join(BUILDS));
    // They run for seconds and take minutes to build: half of that is what the optimiser does.
    command.envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_LTO", "off")]);
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    // Without --locked: the lock file inside the package may name what the registry in use does not have yet.
    run(&mut command)?;
    if !has_version(workspace, program, version) {
        bail!("{} holds no {program} {version} after its installation", workspace.tools.display());
    }
    Ok(Outcome::Installed)
}

/// Removes what building the tools has left behind: 700 MB that nothing needs.
fn drop_builds(workspace: &Workspace) -> Result<()> {
    let builds = workspace.tools.join(BUILDS);
    if !builds.is_dir() {
        return Ok(());
    }
    fs::remove_dir_all(&builds).with_context(|| format!("cannot remove {}", builds.display()))
}

/// Returns whether the program that our commands would run says that it is this version.
fn has_version(workspace: &Workspace, program: &str, version: &str) -> bool {
    workspace.locate(program).is_some()
        && output(workspace.command(program).arg("--version"))
            .is_ok_and(|printed| printed.split_whitespace().any(|word| word == version))
}

/// A program that comes as an npm package, in the tools' folder.
fn npm_tool(workspace: &Workspace, name: &str, version: &str) -> Result<Outcome> {
    let manifest = workspace.tools.join("node_modules").join(name).join("package.json");
    let present = fs::read_to_string(manifest)
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .is_some_and(|manifest| manifest["version"] == version);
    if present {
        return Ok(Outcome::Present);
    }
    announce(&format!("installing {name} {version} from npm"));
    fs::create_dir_all(&workspace.tools)
        .with_context(|| format!("cannot make the folder {}", workspace.tools.display()))?;
    let package = format!("{name}@{version}");
    run(workspace
        .command("npm")
        .args(["install", "--no-audit", "--no-fund", "--save-exact", &package, "--prefix"])
        .arg(&workspace.tools))?;
    Ok(Outcome::Installed)
}

/// `npm ci` in a folder, again when the lock file has changed since.
fn npm_packages(workspace: &Workspace, folder: &str) -> Result<Outcome> {
    let packages = workspace.root.join(folder);
    let lock = fs::read(packages.join("package-lock.json")).with_context(|| {
        format!("{folder}/package-lock.json is missing: run `npm install --prefix {folder}`")
    })?;
    let stamp = packages.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(Outcome::Present);
    }
    announce(&format!("npm ci in {folder}/"));
    run(workspace.command("npm").args(["ci", "--no-audit", "--no-fund", "--prefix"]).arg(&packages))?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Outcome::Installed)
}

/// Programs that come as Debian packages; elsewhere, or without root, says what to install.
fn debian(workspace: &Workspace, programs: &[&str], packages: &[&str]) -> Result<Outcome> {
    let missing =
        || programs.iter().filter(|program| workspace.locate(program).is_none()).copied().collect::<Vec<_>>();
    let absent = missing();
    if absent.is_empty() {
        return Ok(Outcome::Present);
    }
    let (absent, packages) = (absent.join(", "), packages.join(" "));
    if workspace.locate("apt-get").is_none() {
        bail!(
            "not on PATH: {absent}. Install it with the package manager of this machine (Debian: {packages})"
        );
    }
    if !is_root(workspace) {
        bail!("not on PATH: {absent}. Run `sudo apt-get install {packages}`, then this command again");
    }
    announce(&format!("apt-get install {packages}"));
    apt_install(workspace, &packages)?;
    let absent = missing();
    if !absent.is_empty() {
        bail!("still not on PATH after apt-get install {packages}: {}", absent.join(", "));
    }
    Ok(Outcome::Installed)
}

/// Programs by which the recipes in `deploy/`, the relay's certificates (pebble), its container image (skopeo), and the command
/// `tunnel` (sshd and socat) are tried, with Debian's packages of them.
const OPTIONAL: [(&str, &str); 10] = [
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("caddy", "caddy"),
    ("apache2", "apache2-bin"),
    ("promtool", "prometheus"),
    ("systemd-analyze", "systemd"),
    ("pebble", "pebble"),
    ("skopeo", "skopeo"),
    ("sshd", "openssh-server"),
    ("socat", "socat"),
];

/// Installs what is [optional](OPTIONAL). Where it may not be installed, the tests do without it, and say so.
fn optional(workspace: &Workspace) -> Result<()> {
    const NAME: &str = "proxies, promtool, systemd-analyze, pebble, skopeo, sshd and socat";
    let found = |program: &str| {
        // Those for administrators are not on everybody's PATH.
        workspace.locate(program).is_some() || Path::new("/usr/sbin").join(program).is_file()
    };
    let missing: Vec<_> =
        OPTIONAL.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return step(NAME, || Ok(Outcome::Present));
    }
    let packages = missing.join(" ");
    if workspace.locate("apt-get").is_none() || !is_root(workspace) {
        println!(
            "  not here: {packages}. What they are for is not tried; on Debian, `sudo apt-get install {packages}` helps"
        );
        return Ok(());
    }
    step(NAME, || {
        announce(&format!("apt-get install {packages}"));
        without_services(|| apt_install(workspace, &packages))?;
        Ok(Outcome::Installed)
    })
}

/// Libraries of old pages that npm does not have in their form for browsers.
fn old_libraries(workspace: &Workspace) -> Result<()> {
    step("Prototype.js and MooTools", || {
        let is_there = ["prototype/prototype.js", "mootools/mootools.js"]
            .iter()
            .all(|file| Path::new("/usr/share/javascript").join(file).is_file());
        if is_there {
            return Ok(Outcome::Present);
        }
        let packages = "libjs-prototype libjs-mootools";
        if workspace.locate("apt-get").is_none() || !is_root(workspace) {
            bail!(
                "their files are not in /usr/share/javascript: on Debian, `sudo apt-get install {packages}` helps"
            );
        }
        announce(&format!("apt-get install {packages}"));
        apt_install(workspace, packages)?;
        Ok(Outcome::Installed)
    })
}

/// Installs without starting what Debian would start: the tests run the programs themselves, on ports of their own.
fn without_services(install: impl FnOnce() -> Result<()>) -> Result<()> {
    let policy = Path::new("/usr/sbin/policy-rc.d");
    if policy.exists() {
        return install();
    }
    fs::write(policy, "#!/bin/sh\nexit 101\n")
        .with_context(|| format!("cannot write {}", policy.display()))?;
    let result = make_executable(policy).and_then(|()| install());
    fs::remove_file(policy).with_context(|| format!("cannot remove {}", policy.display()))?;
    result
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(path, executable).with_context(|| format!("cannot make {} a program", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}

fn apt_install(workspace: &Workspace, packages: &str) -> Result<()> {
    let apt = |arguments: &[&str]| {
        run(workspace.command("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages.split(' '));
    apt(&arguments)
}

/// Returns whether this user may do everything.
pub(crate) fn is_root(workspace: &Workspace) -> bool {
    output(workspace.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_found_by_its_whole_name() {
        let lock = "version = 4\n[[package]]\nname = \"wasm-bindgen-shared\"\nversion = \"1.0.0\"\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\ndependencies = [\"cfg-if\"]\n";
        assert_eq!(locked_version(lock, "wasm-bindgen").unwrap().as_deref(), Some("0.2.130"));
        assert_eq!(locked_version(lock, "bindgen").unwrap(), None);
        assert!(locked_version("<<<<<<<", "bindgen").is_err());
    }
}
