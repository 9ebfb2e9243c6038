//! `cargo xtask build`: the npm package, by cargo, wasm-bindgen, wasm-opt and esbuild, in this order.

mod bundle;
pub(crate) mod bundles;
mod imports;
mod manifest;
pub(crate) mod stamp;
mod trap;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

use crate::process::{output, run};
use crate::workspace::Workspace;

/// Name of the package.
pub(crate) const PACKAGE: &str = "tunnel-wasm";

/// A WebAssembly module of the package, with its JavaScript.
#[derive(Debug)]
pub(crate) struct Module {
    /// Name of its crate.
    krate: &'static str,
    /// Name of its files, without the ending.
    name: &'static str,
    /// JavaScript that is the package's entry point for it, relative to the workspace.
    entry_source: &'static str,
    /// JavaScript of its crate whose `guard` all calls of it go through, to catch its traps.
    guard: &'static str,
    /// A module that this one imports only when it needs it.
    loads_later: Option<&'static Self>,
}

/// The module that every page loads.
pub(crate) static MAIN: Module = Module {
    krate: "tunnel-wasm",
    name: "tunnel_wasm",
    entry_source: "js/package.js",
    guard: "/js/page.js",
    loads_later: Some(&LIVECODE),
};
/// The module that is loaded when a relay speaks the livecode dialect.
pub(crate) static LIVECODE: Module = Module {
    krate: "tunnel-livecode",
    name: "tunnel_livecode",
    entry_source: "crates/tunnel-livecode/js/package.js",
    guard: "/js/clients.js",
    loads_later: None,
};

/// A part of the package that is JavaScript only, uses the main module's public API, and is an entry point of its own.
#[derive(Debug)]
pub(crate) struct Script {
    /// Name of its files, without the ending, and of its entry point.
    name: &'static str,
    /// Its JavaScript, relative to the workspace.
    source: &'static str,
    /// Its types.
    types: &'static str,
}

impl Script {
    /// File of its JavaScript, which imports the main module.
    fn entry(&self) -> String {
        format!("{}.js", self.name)
    }

    /// File of its JavaScript, which imports the main module's form with the WebAssembly module inside.
    fn inline(&self) -> String {
        format!("{}_inline.js", self.name)
    }

    /// File of the types.
    fn types(&self) -> String {
        format!("{}.d.ts", self.name)
    }
}

const SCRIPTS: [&Script; 2] = [
    &Script { name: "serve", source: "js/serve/index.js", types: include_str!("../../js/serve.d.ts") },
    &Script { name: "inspect", source: "js/inspect/index.js", types: include_str!("../../js/inspect.d.ts") },
];

const MODULES: [&Module; 2] = [&MAIN, &LIVECODE];

impl Module {
    /// File of the WebAssembly module.
    pub(crate) fn wasm(&self) -> String {
        format!("{}_bg.wasm", self.name)
    }

    /// File of its JavaScript.
    pub(crate) fn entry(&self) -> String {
        format!("{}.js", self.name)
    }

    /// File of the same JavaScript with the WebAssembly module inside.
    pub(crate) fn inline(&self) -> String {
        format!("{}_inline.js", self.name)
    }

    /// File of the same for `require`.
    pub(crate) fn common(&self) -> String {
        format!("{}.cjs", self.name)
    }

    /// File of the types.
    pub(crate) fn types(&self) -> String {
        format!("{}.d.ts", self.name)
    }

    /// File of the types for `require`.
    pub(crate) fn common_types(&self) -> String {
        format!("{}.d.cts", self.name)
    }
}

/// Types of the functions that initialise a module.
const INIT_TYPES: &str = include_str!("../../js/init.d.ts");

/// Types of everything else that the main module exports.
const CLASS_TYPES: [&str; 3] = [
    include_str!("../../js/sockets.d.ts"),
    include_str!("../../js/watching.d.ts"),
    include_str!("../../js/livecode.d.ts"),
];

/// One of the two forms of the package.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// For pages: optimised and minified.
    Release,
    /// For finding faults: functions have their names, and events and panics go to the console.
    Debug,
}

/// Builds the package in the folder that the settings name, and beside it the bundles of the pages.
pub(crate) fn build(workspace: &Workspace, form: Form) -> Result<()> {
    let package = match form {
        Form::Release => workspace.package(),
        Form::Debug => workspace.debug_package(),
    };
    build_into(workspace, &workspace.target()?, &package, form)?;
    bundles::make(workspace, &package)
}

/// Builds the package in the folder `package`, and compiles below `target`.
pub(crate) fn build_into(workspace: &Workspace, target: &Path, package: &Path, form: Form) -> Result<()> {
    // The package has the files that are named below, and no others.
    if package.exists() {
        fs::remove_dir_all(package).with_context(|| format!("cannot empty {}", package.display()))?;
    }
    fs::create_dir_all(package).with_context(|| format!("cannot make {}", package.display()))?;
    let build = Build { workspace, target, package, form };
    compile(&build)?;
    for module in MODULES {
        bind(&build, module)?;
        if form == Form::Release {
            optimise(&build, module)?;
        }
    }
    let stamp = stamp::of_package(&build)?;
    for module in MODULES {
        stamp::put(&build.package.join(module.wasm()), &stamp)?;
        check_wasm(workspace, &package.join(module.wasm()))?;
        bundle::bundle(&build, module, &stamp)?;
        bundle::inline(&build, module, &stamp)?;
    }
    for (module, types) in [(&MAIN, CLASS_TYPES.concat() + INIT_TYPES), (&LIVECODE, INIT_TYPES.to_owned())] {
        write(&package.join(module.types()), types.as_bytes())?;
        write(&package.join(module.common_types()), types.as_bytes())?;
    }
    for script in SCRIPTS {
        bundle::script(&build, script)?;
        write(&package.join(script.types()), script.types.as_bytes())?;
    }
    manifest::complete(workspace, package)
}

/// One run of the build.
struct Build<'a> {
    workspace: &'a Workspace,
    target: &'a Path,
    package: &'a Path,
    form: Form,
}

impl Build<'_> {
    fn profile(&self) -> &str {
        match self.form {
            Form::Release => &self.workspace.config.build.profile,
            Form::Debug => &self.workspace.config.build.debug_profile,
        }
    }

    /// Folder of what wasm-bindgen makes of a module.
    fn glue_folder(&self, module: &Module) -> PathBuf {
        self.target.join("package").join(module.name)
    }
}

/// Compiles both modules with cargo.
fn compile(build: &Build<'_>) -> Result<()> {
    let workspace = build.workspace;
    let target = &workspace.config.build.rust_target;
    let mut command = workspace.cargo();
    command.args(["build", "--profile", build.profile()]);
    command
        .args(selection(workspace, build.form))
        // Added to the flags in .cargo/config.toml, where the environment would take their place.
        .arg("--config")
        .arg(format!("target.{target}.rustflags={:?}", workspace.remap_flags()?))
        .env("CARGO_TARGET_DIR", build.target);
    run(&mut command)
}

/// Arguments of cargo that choose what is in the package: target, crates and features.
fn selection(workspace: &Workspace, form: Form) -> Vec<String> {
    let mut arguments = vec!["--target".to_owned(), workspace.config.build.rust_target.clone()];
    for module in MODULES {
        arguments.extend(["-p".to_owned(), module.krate.to_owned()]);
    }
    let feature = if form == Form::Debug { "debug" } else { "npm" };
    arguments.extend(["--features".to_owned(), format!("{}/{feature}", MAIN.krate)]);
    arguments
}

/// Has wasm-bindgen write the JavaScript between the module and ours, and the module in the form that this needs.
fn bind(build: &Build<'_>, module: &Module) -> Result<()> {
    let compiled = build.target.join(&build.workspace.config.build.rust_target).join(build.profile());
    let folder = build.glue_folder(module);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let is_debug = build.form == Form::Debug;
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(compiled.join(module.name).with_extension("wasm"))
        .out_name(module.name)
        .web(true)?
        .typescript(false)
        // After a trap, for `package.js`.
        .reset_state_function(true)
        // `js/init.js` says where the module is.
        .omit_default_module_path(true)
        // In the release form wasm-opt sorts the functions by their names, and drops those.
        .remove_name_section(false)
        .remove_producers_section(!is_debug);
    bindgen
        .generate(&folder)
        .with_context(|| format!("wasm-bindgen can't make the JavaScript of {}", module.name))?;
    let wasm = module.wasm();
    let path = folder.join(module.entry());
    let glue = String::from_utf8(read(&path)?).context("wasm-bindgen writes UTF-8")?;
    let imports = imports::of_wasm(build.workspace, &folder.join(&wasm))?;
    write(&path, trap::guard(&imports::name(&glue, &imports)?, module.guard)?.as_bytes())?;
    let moved = build.package.join(&wasm);
    fs::copy(folder.join(&wasm), &moved).with_context(|| format!("cannot write {}", moved.display()))?;
    Ok(())
}

fn optimise(build: &Build<'_>, module: &Module) -> Result<()> {
    let wasm = build.package.join(module.wasm());
    let options = &build.workspace.config.build.wasm_opt;
    run(build.workspace.command("wasm-opt").args(options).arg("-o").args([&wasm, &wasm]))
}

/// With too new features allowed, wasm-opt makes a module that browsers refuse: Node's engine is that of Chromium.
fn check_wasm(workspace: &Workspace, path: &Path) -> Result<()> {
    const COMPILE: &str = "new WebAssembly.Module(require('fs').readFileSync(process.argv[1]))";
    output(workspace.command("node").args(["-e", COMPILE]).arg(path))
        .with_context(|| format!("browsers would refuse {}", path.display()))?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_stands_on_the_crates_of_its_ecosystem() {
        let workspace = Workspace::find().expect("this is a checkout");
        let mut tree = workspace.cargo();
        tree.args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--depth",
            "1",
            "--prefix",
            "depth",
            "--no-dedupe",
        ]);
        tree.args(["--format", " {lib}"]).args(selection(&workspace, Form::Release));
        let tree = output(&mut tree).expect("cargo knows the dependencies");
        let direct = tree.lines().filter_map(|line| line.strip_prefix("1 ")).collect::<Vec<_>>();
        for krate in [
            "futures_channel",
            "gloo_timers",
            "js_sys",
            "serde_wasm_bindgen",
            "wasm_bindgen",
            "wasm_bindgen_futures",
            "web_sys",
        ] {
            assert!(direct.contains(&krate), "{krate} is not among {direct:?}");
        }
    }
}
