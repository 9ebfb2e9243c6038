//! The build stamp: JavaScript and WebAssembly of one build carry the same, and `init` refuses a pair that does not.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Build, MODULES, read, write};

/// Name of the custom section with the stamp; `js/init.js` reads it.
const SECTION: &str = "tunnel-build";

/// Number of custom sections in WebAssembly.
const CUSTOM: u8 = 0;

/// The stamp of all that has been made so far: the version, and a hash that differs when any of the code does.
pub(super) fn of_package(build: &Build<'_>) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for module in MODULES {
        hasher.write(&read(&build.package.join(module.wasm()))?);
        hasher.write(&read(&build.workspace.root.join(module.entry_source))?);
        let mut sources = Vec::new();
        collect_javascript(&build.glue_folder(module), &mut sources)?;
        for source in sources {
            hasher.write(&read(&source)?);
        }
    }
    hasher.write(include_bytes!("../../../js/init.js"));
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()))
}

/// All JavaScript files in the folder and below it, in order.
pub(crate) fn collect_javascript(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect_javascript(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "js") {
            files.push(path);
        }
    }
    Ok(())
}

/// Puts the stamp into a WebAssembly file.
pub(super) fn put(wasm: &Path, stamp: &str) -> Result<()> {
    let mut module = read(wasm)?;
    append(&mut module, stamp);
    write(wasm, &module)
}

/// Appends the section: its number and length, then name and content. All lengths are below 128, so one byte each.
fn append(module: &mut Vec<u8>, stamp: &str) {
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX).min(0x7f);
    module.extend([CUSTOM, 1 + length(SECTION) + length(stamp), length(SECTION)]);
    module.extend(SECTION.as_bytes());
    module.extend(stamp.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_a_custom_section_behind_the_others() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        append(&mut module, "1.2.3-ab");
        assert_eq!(module, b"\0asm\x01\0\0\0\0\x15\x0ctunnel-build1.2.3-ab");
    }
}
