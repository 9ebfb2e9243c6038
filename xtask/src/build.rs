//! The npm package in `pkg/`.

mod glue;
mod manifest;
mod order;

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use anyhow::{Context, Result, bail};

use crate::process::{output, run};
use crate::wasm::custom_sections;
use crate::workspace::Workspace;

/// Name of the package.
pub(crate) const PACKAGE: &str = "tunnel-wasm";

/// A WebAssembly module of the package, with its JavaScript.
#[derive(Debug)]
pub(crate) struct Module {
    /// Folder of its crate, relative to the workspace.
    folder: &'static str,
    /// Name of its files, without what follows.
    name: &'static str,
    /// What it loads when it needs it.
    loads_later: Option<&'static Self>,
}

/// What a page loads.
pub(crate) static MAIN: Module = Module { folder: ".", name: "tunnel_wasm", loads_later: Some(&LIVECODE) };
/// What is loaded when a relay speaks the livecode dialect.
pub(crate) static LIVECODE: Module =
    Module { folder: "crates/tunnel-livecode", name: "tunnel_livecode", loads_later: None };

impl Module {
    /// File of the module.
    pub(crate) fn wasm(&self) -> String {
        format!("{}_bg.wasm", self.name)
    }

    /// File of its JavaScript.
    pub(crate) fn entry(&self) -> String {
        format!("{}.js", self.name)
    }

    /// File of the same JavaScript with the module inside.
    pub(crate) fn inline(&self) -> String {
        format!("{}_inline.js", self.name)
    }

    /// File of the types.
    pub(crate) fn types(&self) -> String {
        format!("{}.d.ts", self.name)
    }

    /// What the module calls the JavaScript that wasm-bindgen writes for it.
    fn glue(&self) -> String {
        format!("./{}_bg.js", self.name)
    }
}

/// Types of the functions that initialise a module.
const INIT_TYPES: &str = include_str!("../../js/init.d.ts");

/// What the compiler puts into its caller: less than for speed, and more than it would for size. 2 % of the module. And a
/// stack of 512 KiB, which is more than enough without recursion: data lie behind it, and their addresses are shorter numbers.
const SMALL: [&str; 4] = [
    "-Cllvm-args=-inline-threshold=28",
    "-Cllvm-args=-inlinehint-threshold=25",
    "-Clink-arg=-z",
    "-Clink-arg=stack-size=524288",
];

/// A panic traps, and neither what it would have said nor where it was is in the module.
const SILENT: [&str; 3] = ["-Zunstable-options", "-Cpanic=immediate-abort", "-Zlocation-detail=none"];

/// Joins short functions before LLVM sees them, in the last crate only: in what wasm-bindgen makes there LLVM leaves calls
/// whose arguments go through memory.
const JOINED: &str = r#"["-Zinline-mir=yes", "-Zinline-mir-threshold=30", "-Zinline-mir-hint-threshold=60"]"#;

/// Compiles the standard library with the module.
const REBUILD_STD: [&str; 2] = ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// Builds the package where the settings say.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    build_into(workspace, &workspace.target()?, &workspace.package())
}

/// Builds the package with wasm-pack, and adds what wasm-pack leaves out. Compiles below `target`.
pub(crate) fn build_into(workspace: &Workspace, target: &Path, package: &Path) -> Result<()> {
    if !workspace.rebuilds_std()? {
        println!(
            "The modules are a tenth larger than they could be: only Rust {}, with the component rust-src, is known to \
             compile its standard library with them.",
            workspace.config.build.rebuild_std
        );
    }
    // wasm-pack would optimise once more what it finds there of an earlier build.
    for module in [&MAIN, &LIVECODE] {
        let left = package.join(module.wasm());
        if left.exists() {
            fs::remove_file(&left).with_context(|| format!("cannot remove {}", left.display()))?;
        }
    }
    make(workspace, &MAIN, target, package)?;
    declare(package)?;
    manifest::complete(package)?;
    let livecode = target.join("livecode-package");
    make(workspace, &LIVECODE, target, &livecode)?;
    for file in [LIVECODE.wasm(), LIVECODE.entry(), LIVECODE.entry() + ".map", LIVECODE.inline()] {
        fs::copy(livecode.join(&file), package.join(&file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let types = package.join(LIVECODE.types());
    fs::write(&types, INIT_TYPES).with_context(|| format!("cannot write {}", types.display()))
}

/// Makes a module with its JavaScript in the folder `package`.
fn make(workspace: &Workspace, module: &Module, target: &Path, package: &Path) -> Result<()> {
    let settings = &workspace.config.build;
    let (kind, profile) = (&settings.target, &settings.profile);
    let mut flags = workspace.remap_flags()?;
    flags.extend(SMALL.map(str::to_owned));
    let rebuilds_std = workspace.rebuilds_std()?;
    if rebuilds_std {
        flags.extend(SILENT.map(str::to_owned));
    }
    let mut command = workspace.command("wasm-pack");
    command
        .args(["build", "--mode", "no-install", "--target", kind, "--profile", profile, "--out-dir"])
        .arg(package)
        // Added to the flags in .cargo/config.toml, where the environment would take their place.
        .args([module.folder, "--", "--no-default-features", "--config"])
        .arg(format!("target.{}.rustflags={flags:?}", settings.rust_target))
        .env("CARGO_TARGET_DIR", target);
    if rebuilds_std {
        let package = module.name.replace('_', "-");
        command
            .args(REBUILD_STD)
            .args(["-Zprofile-rustflags", "--config"])
            .arg(format!("profile.{profile}.package.{package}.rustflags={JOINED}"))
            .env("RUSTC_BOOTSTRAP", "1");
    }
    run(&mut command)?;
    let wasm = package.join(module.wasm());
    order::order(workspace, &wasm)?;
    check_wasm(workspace, &wasm)?;
    glue::shorten(module, package)?;
    bundle(workspace, module, package)?;
    inline(workspace, module, package)
}

/// Makes one minified module of the glue and what it imports: half the bytes, and one request for a page.
fn bundle(workspace: &Workspace, module: &Module, package: &Path) -> Result<()> {
    let entry = package.join(module.entry());
    run(esbuild(workspace, &entry)
        .arg("--sourcemap")
        .args(module.loads_later.map(|later| format!("--external:./{}", later.entry())))
        .arg(format!("--outfile={}", entry.display()))
        .arg("--allow-overwrite"))?;
    let snippets = package.join("snippets");
    match fs::remove_dir_all(&snippets) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", snippets.display()))
        }
        _ => Ok(()),
    }
}

/// Has Chromium compile all functions while the module loads, instead of each when a page's first connection calls it.
const COMPILE_ALL: &str = "//# allFunctionsCalledOnLoad";

fn esbuild(workspace: &Workspace, entry: &Path) -> Command {
    let mut command = workspace.command("esbuild");
    let options = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--log-level=warning"];
    command.arg(entry).args(options).arg(format!("--banner:js={COMPILE_ALL}"));
    // The glue names the imported module once for each block of functions in it.
    command.arg("--log-override:duplicate-object-key=silent");
    command
}

/// A byte of the wasm becomes the character so many places on. The most frequent ones are then printable ASCII, no quote
/// is among them, and compression still sees bytes: it comes to 2 % more than the wasm, where base64 comes to 32 %.
const SHIFT: u32 = 35;

/// Makes the JavaScript that has the module inside, for Node and for bundlers that don't copy what lies beside it.
fn inline(workspace: &Workspace, module: &Module, package: &Path) -> Result<()> {
    let wasm = package.join(module.wasm());
    let wasm = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let text = wasm.iter().filter_map(|&byte| char::from_u32(u32::from(byte) + SHIFT)).collect::<String>();
    let (name, inline) = (module.entry(), package.join(module.inline()));
    let entry = package.join("inline.js");
    let source = format!(
        r#"import init from "./{name}"
export * from "./{name}"
const wasm = "{}"
function bytes() {{
  const bytes = new Uint8Array(wasm.length)
  for (let i = 0; i < bytes.length; i++) bytes[i] = wasm.charCodeAt(i) - {SHIFT}
  return bytes
}}
export default given => init(given ?? {{ module_or_path: bytes() }})
"#,
        text.replace('\\', r"\\")
    );
    fs::write(&entry, source).with_context(|| format!("cannot write {}", entry.display()))?;
    run(esbuild(workspace, &entry)
        .arg("--charset=utf8")
        // Nothing is beside this module, and bundlers would look.
        .arg("--define:import.meta.url=undefined")
        .args(module.loads_later.map(|later| format!("--external:./{}", later.entry())))
        .arg(format!("--outfile={}", inline.display())))?;
    if let Some(later) = module.loads_later {
        let text =
            fs::read_to_string(&inline).with_context(|| format!("cannot read {}", inline.display()))?;
        let text = text.replace(&format!("./{}", later.entry()), &format!("./{}", later.inline()));
        fs::write(&inline, text).with_context(|| format!("cannot write {}", inline.display()))?;
    }
    fs::remove_file(&entry).with_context(|| format!("cannot remove {}", entry.display()))
}

/// wasm-bindgen declares what only the classes use, and not strictly, after our declarations: ours of `init` instead.
fn declare(package: &Path) -> Result<()> {
    let path = package.join(MAIN.types());
    let text = fs::read_to_string(&path).with_context(|| format!("wasm-pack made no {}", path.display()))?;
    let ours = text.find("\ndeclare class ").and_then(|at| text[..at].rfind("\n}\n"));
    let ours = ours.with_context(|| format!("{} has another order than it had", path.display()))?;
    let text = text[..ours].to_owned() + "\n}\n" + INIT_TYPES;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Without wasm-opt the names of all functions would be in the file, which doubles it: wasm-pack only mentions that.
/// With too new features allowed, wasm-opt makes what browsers don't take: Node's engine is that of Chromium.
fn check_wasm(workspace: &Workspace, path: &Path) -> Result<()> {
    const COMPILE: &str = "new WebAssembly.Module(require('fs').readFileSync(process.argv[1]))";
    let wasm = fs::read(path).with_context(|| format!("wasm-pack made no {}", path.display()))?;
    let sections = custom_sections(&wasm).with_context(|| format!("{} is not understood", path.display()))?;
    if sections.iter().any(|name| name == "name") {
        bail!(
            "{} still has its name section, so wasm-opt has not run: `cargo xtask setup` installs it",
            path.display()
        );
    }
    output(workspace.command("node").args(["-e", COMPILE]).arg(path))
        .with_context(|| format!("browsers would refuse {}", path.display()))?;
    Ok(())
}
