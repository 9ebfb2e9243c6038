//! `cargo xtask size`: the sizes of what a page has to load.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::build::{LIVECODE, MAIN, stamp};
use crate::process::output;
use crate::workspace::Workspace;

/// The document that says how large the package is.
const DOCUMENT: &str = "docs/SIZE.md";

/// The part by which its figures may be wrong: they are rounded, and small changes of the code need not change them.
const TOLERANCE: f64 = 0.02;

/// Prints the sizes; fails over the budget, and where the document says something else.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let (sizes, budget) = (print(workspace)?, workspace.config.size.brotli_bytes);
    if sizes.needed > budget {
        bail!(
            "{} bytes are {} over the budget (size.brotli-bytes in wasm-pack.toml)",
            grouped(sizes.needed),
            grouped(sizes.needed - budget)
        );
    }
    let document = fs::read_to_string(workspace.root.join(DOCUMENT))
        .with_context(|| format!("cannot read {DOCUMENT}"))?;
    let wrong = wrong_figures(&document, &sizes)?;
    if !wrong.is_empty() {
        bail!("{DOCUMENT} is out of date: {}", wrong.join("; "));
    }
    Ok(())
}

/// The measured sizes, in bytes.
#[derive(Debug, Default)]
struct Sizes {
    /// Each file after brotli, by its name in the package.
    files: BTreeMap<String, usize>,
    /// All that `init` and a session need, after brotli.
    needed: usize,
    /// The same as it is.
    uncompressed: usize,
}

/// The figures of the document that are not those that were measured. A row of its table is about the files that it names, or about all that
/// is needed if it names none.
fn wrong_figures(document: &str, sizes: &Sizes) -> Result<Vec<String>> {
    let number =
        |text: &str| -> Option<usize> { text.trim_matches(['*', ' ']).replace(',', "").parse().ok() };
    let mut figures = Vec::new();
    for row in document.lines().filter_map(|line| line.strip_prefix('|')) {
        let Some((what, said)) = row.trim_end_matches('|').rsplit_once('|') else { continue };
        let Some(said) = number(said) else { continue };
        let named = what.split('`').skip(1).step_by(2).filter_map(|name| sizes.files.get(name));
        let found = named.copied().reduce(|sum, size| sum + size).unwrap_or(sizes.needed);
        figures.push((what.trim().to_owned(), said, found));
    }
    ensure!(figures.len() > 1, "{DOCUMENT} has no table of sizes");
    let sentence = "A server that does not compress sends ";
    let said = document.split(sentence).nth(1).and_then(|rest| number(rest.split(' ').next()?));
    let said = said.with_context(|| format!("{DOCUMENT} does not say: {sentence}N bytes"))?;
    figures.push((sentence.to_owned(), said, sizes.uncompressed));
    let is_wrong = |said: usize, found: usize| said.abs_diff(found) as f64 > TOLERANCE * found as f64;
    Ok(figures
        .into_iter()
        .filter(|(_, said, found)| is_wrong(*said, *found))
        .map(|(what, said, found)| format!("{} for {what:?}, measured {}", grouped(said), grouped(found)))
        .collect())
}

/// Prints and returns size and compressed size of wasm and JavaScript in the package.
fn print(workspace: &Workspace) -> Result<Sizes> {
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
    stamp::collect_javascript(&package, &mut files)?;
    let needed = [MAIN.wasm(), MAIN.entry()];
    let mut sizes = Sizes::default();
    for file in &files {
        let length =
            fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len() as usize;
        let compressed = brotli(workspace, file)?;
        let name = file.strip_prefix(&package).unwrap_or(file);
        println!("  {:>9} bytes, {:>7} brotli  {}", grouped(length), grouped(compressed), name.display());
        if needed.iter().any(|needed| name.as_os_str() == needed.as_str()) {
            sizes.needed += compressed;
            sizes.uncompressed += length;
        }
        sizes.files.insert(name.display().to_string(), compressed);
    }
    let budget = workspace.config.size.brotli_bytes;
    println!(
        "  {:>9} bytes, {:>7} brotli  {} together, all that `init` and a session need; budget {}",
        grouped(sizes.uncompressed),
        grouped(sizes.needed),
        needed.join(" and "),
        grouped(budget)
    );
    Ok(sizes)
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
    fn figures_of_the_document_that_are_wrong_by_more_than_rounding_are_found() {
        let document = |module: &str, together: &str, plain: &str| {
            format!(
                "| | bytes |\n|---|---|\n| `a.wasm` | {module} |\n| later: `b.wasm`, `b.js` | 3,000 |\n\
                 | **together, for `init`** | **{together}** |\n\nA server that does not compress sends {plain} bytes.\n"
            )
        };
        let files = [("a.wasm", 98_290), ("b.wasm", 2000), ("b.js", 1000)];
        let files = files.map(|(name, size)| (name.to_owned(), size)).into();
        let sizes = Sizes { files, needed: 116_000, uncompressed: 324_000 };
        let wrong = |module, together, plain| {
            wrong_figures(&document(module, together, plain), &sizes).expect("it is a table")
        };
        assert_eq!(wrong("98,300", "116,000", "324,000"), Vec::<String>::new());
        assert_eq!(wrong("96,000", "116,000", "324,000").len(), 1);
        assert_eq!(wrong("98,300", "119,000", "324,000").len(), 1);
        assert_eq!(wrong("98,300", "116,000", "315,000").len(), 1);
        assert!(wrong_figures("nothing", &sizes).is_err());
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            ["7", "999", "1,000", "60,000", "1,234,567"],
            [7, 999, 1000, 60000, 1_234_567].map(grouped)[..]
        );
    }
}
