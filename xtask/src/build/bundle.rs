//! The JavaScript of the package, by esbuild: each module in three forms, all of them ASCII.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Build, Form, MAIN, Module, Script, read, write};
use crate::process::run;

/// Has Chromium compile all functions while the module loads, instead of each when a page's first connection calls it.
const COMPILE_ALL: &str = "//# allFunctionsCalledOnLoad";

/// Makes one module of the entry point and what it imports: one request for a page.
pub(super) fn bundle(build: &Build<'_>, module: &Module, stamp: &str) -> Result<()> {
    let mut command = esbuild(build, module, stamp);
    command
        .arg(build.workspace.root.join(module.entry_source))
        .args(["--format=esm", "--sourcemap"])
        .arg(format!("--outfile={}", build.package.join(module.entry()).display()));
    run(&mut command)
}

/// Makes the same JavaScript with the WebAssembly module inside: for Node and for bundlers that don't copy what lies beside
/// a module, and once more for `require`.
pub(super) fn inline(build: &Build<'_>, module: &Module, stamp: &str) -> Result<()> {
    let wasm = read(&build.package.join(module.wasm()))?;
    let entry = build.workspace.root.join(module.entry_source);
    let source = format!(
        "export * from {entry:?}\nimport init from {entry:?}\nimport {{ decode }} from {decoder:?}\n\
         const bytes = () => decode(\"{text}\", {length})\n\
         export default given => init(given ?? {{ module_or_path: bytes() }})\n",
        entry = entry.display().to_string(),
        decoder = build.workspace.root.join("js/inline.js").display().to_string(),
        text = encode(&wasm).replace('\\', r"\\"),
        length = wasm.len(),
    );
    let path = build.glue_folder(module).join("inline.js");
    write(&path, source.as_bytes())?;
    let forms = [
        ("--format=esm", module.inline(), Module::inline as fn(&Module) -> String),
        ("--format=cjs", module.common(), Module::common),
    ];
    for (format, file, file_of) in forms {
        let file = build.package.join(file);
        let mut command = esbuild(build, module, stamp);
        // Nothing is beside this module, and bundlers would look. Where `require` is all there is, so is it for what is loaded later.
        command
            .arg(&path)
            .args([format, "--define:import.meta.url=undefined"])
            .arg(format!("--supported:dynamic-import={}", format == "--format=esm"))
            .arg(format!("--outfile={}", file.display()));
        run(&mut command)?;
        if let Some(later) = module.loads_later {
            let text = String::from_utf8(read(&file)?).context("esbuild makes ASCII")?;
            let text = text.replace(&format!("./{}", later.entry()), &format!("./{}", file_of(later)));
            write(&file, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Makes a module of a script, twice: beside each form of the main module.
pub(super) fn script(build: &Build<'_>, script: &Script) -> Result<()> {
    let path = build.package.join(script.entry());
    let mut command = bundler(build);
    command
        .arg(build.workspace.root.join(script.source))
        .arg("--format=esm")
        .arg(format!("--external:./{}", MAIN.entry()))
        .arg(format!("--outfile={}", path.display()));
    if build.form == Form::Release {
        command.arg("--minify");
    }
    run(&mut command)?;
    let text = String::from_utf8(read(&path)?).context("esbuild makes ASCII")?;
    let inline = text.replace(&format!("./{}", MAIN.entry()), &format!("./{}", MAIN.inline()));
    write(&build.package.join(script.inline()), inline.as_bytes())
}

fn bundler(build: &Build<'_>) -> Command {
    let mut command = build.workspace.command("esbuild");
    command.args(["--bundle", "--target=es2022", "--charset=ascii", "--log-level=warning"]);
    command
}

fn esbuild(build: &Build<'_>, module: &Module, stamp: &str) -> Command {
    let mut command = bundler(build);
    // The glue names an imported module once for each block of functions in it.
    command.arg("--log-override:duplicate-object-key=silent");
    command.arg(format!("--alias:glue={}", build.glue_folder(module).join(module.entry()).display()));
    command.arg(format!("--define:BUILD=\"{stamp}\""));
    if let Some(later) = module.loads_later {
        command.arg(format!("--external:./{}", later.entry()));
    }
    if build.form == Form::Release {
        command.arg("--minify").arg(format!("--banner:js={COMPILE_ALL}"));
    }
    command
}

/// First character, and number of characters that stand for a byte each. Neither the quote nor a control character is
/// among them.
const FIRST: u8 = b'#';
const COUNT: u8 = 88;

/// A text of ASCII for bytes: those below 88 become one character, the others a `{` or `|`, which says how often 88 was
/// taken away, and a character. Compression still sees bytes: base64 would come to a third more.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if let Some(times) = (byte / COUNT).checked_sub(1) {
            text.push(char::from(FIRST + COUNT + times));
        }
        text.push(char::from(FIRST + byte % COUNT));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_printable_ascii_without_quotes() {
        let text = encode(&(0..=255).collect::<Vec<_>>());
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{text}");
        assert_eq!(encode(&[0, 87, 88, 175, 176, 255]), "#z{#{z|#|r");
    }
}
