//! The relay's modules: layers without circles, a line about each, and no file that is too long to read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

const MAX_LINES: usize = 600;

/// All files of the crate, relative to its source folder, and their texts.
fn files() -> BTreeMap<PathBuf, String> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![PathBuf::from(SOURCE)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(SOURCE).unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 30, "{SOURCE} has more files than {}", files.len());
    files
}

/// The module of the crate's root to which a file belongs.
fn module(file: &Path) -> String {
    file.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules of the crate's root that a text names after `crate::`, tests at its end and comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    let text = lines.collect::<Vec<_>>().join(" ").replace("pub(in crate", "");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap(),
        };
        for name in names.split(',') {
            found.insert(match name.trim() {
                // The root names these again.
                "Config" | "Mount" | "Secret" => "config".to_owned(),
                "Relay" | "ReloadError" => "server".to_owned(),
                name => name.split("::").next().unwrap().to_owned(),
            });
        }
    }
    found
}

#[test]
fn no_module_imports_itself_by_way_of_others() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files() {
        let module = module(&file);
        if !["lib", "main"].contains(&&*module) && !file.ends_with("tests.rs") {
            let mut imports = imports(&text);
            imports.remove(&module);
            graph.entry(module).or_default().extend(imports);
        }
    }
    assert!(graph["server"].contains("http"), "imports are found");
    let modules: BTreeSet<_> = graph.keys().cloned().collect();
    for imports in graph.values_mut() {
        imports.retain(|import| modules.contains(import));
    }
    // Take away modules that import none of those that are left, until no such module is left.
    while let Some(lowest) =
        graph.iter().find(|(_, imports)| imports.is_empty()).map(|(name, _)| name.clone())
    {
        graph.remove(&lowest);
        for imports in graph.values_mut() {
            imports.remove(&lowest);
        }
    }
    assert!(graph.is_empty(), "these modules import in circles, or import one that does: {graph:#?}");
}

#[test]
fn every_module_says_what_it_holds_and_is_short_enough_to_read() {
    for (file, text) in files() {
        assert!(
            text.starts_with("//! ") || file.ends_with("tests.rs"),
            "{} has no module doc",
            file.display()
        );
        assert!(text.lines().count() <= MAX_LINES, "{} is longer than {MAX_LINES} lines", file.display());
    }
}
