//! `cargo xtask size`: the sizes of what a page has to load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::{LIVECODE, MAIN};
use crate::process::output;
use crate::workspace::Workspace;

/// Prints the sizes; fails over the budget.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let (total, budget) = (print(workspace)?, workspace.config.size.brotli_bytes);
    if total > budget {
        bail!(
            "{} bytes are {} over the budget (size.brotli-bytes in wasm-pack.toml)",
            grouped(total),
            grouped(total - budget)
        );
    }
    Ok(())
}

/// Prints size and compressed size of wasm and JavaScript in the package; returns what is loaded, in bytes.
fn print(workspace: &Workspace) -> Result<usize> {
    let package = workspace.package();
    let wasm = [&MAIN, &LIVECODE].map(|module| package.join(module.wasm()));
    if let Some(missing) = wasm.iter().find(|wasm| !wasm.is_file()) {
        bail!("there is no {}: run `cargo xtask build` first", missing.display());
    }
    let settings = &workspace.config.build;
    let compiled = workspace.target()?.join(&settings.rust_target).join(&settings.profile);
    if let Ok(metadata) = fs::metadata(compiled.join("tunnel_wasm.wasm")) {
        println!(
            "  {:>9} bytes from rustc, before wasm-bindgen and wasm-opt",
            grouped(metadata.len() as usize)
        );
    }

    let mut files = wasm.to_vec();
    collect(&package, &mut files)?;
    let needed = [MAIN.wasm(), MAIN.entry()];
    let mut total = (0, 0);
    for file in &files {
        let length =
            fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len() as usize;
        let compressed = brotli(workspace, file)?;
        let name = file.strip_prefix(&package).unwrap_or(file);
        println!("  {:>9} bytes, {:>7} brotli  {}", grouped(length), grouped(compressed), name.display());
        if needed.iter().any(|needed| name.as_os_str() == needed.as_str()) {
            total = (total.0 + length, total.1 + compressed);
        }
    }
    let budget = workspace.config.size.brotli_bytes;
    println!(
        "  {:>9} bytes, {:>7} brotli  {} together, all that `init` and a session need; budget {}",
        grouped(total.0),
        grouped(total.1),
        needed.join(" and "),
        grouped(budget)
    );
    Ok(total.1)
}

/// All JavaScript files in the folder and below it, in order.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "js") {
            files.push(path);
        }
    }
    Ok(())
}

/// Compressed length at the highest quality, by Node, which is here anyway for wasm-opt: a crate for it takes
/// longer to compile than all of xtask.
fn brotli(workspace: &Workspace, file: &Path) -> Result<usize> {
    const SCRIPT: &str =
        "console.log(require('zlib').brotliCompressSync(require('fs').readFileSync(process.argv[1])).length)";
    let printed = output(workspace.command("node").args(["-e", SCRIPT]).arg(file))?;
    printed.trim().parse().with_context(|| format!("node printed {printed:?} for a length"))
}

/// A number with a comma at the thousands.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            ["7", "999", "1,000", "60,000", "1,234,567"],
            [7, 999, 1000, 60000, 1_234_567].map(grouped)[..]
        );
    }
}
