//! docs/SECURITY.md promises tests for each attack. This looks whether the tests that it names exist.

#![allow(clippy::unwrap_used, reason = "a test that unwraps None has failed, as it should")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = include_str!("../../docs/SECURITY.md");

/// Heading of the column with the tests, which is the last one.
const COLUMN: &str = "test";

#[test]
fn every_row_of_the_security_document_names_tests_and_all_of_them_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["crates", "src", "tests", "xtask"] {
        collect(&root.join(folder), &mut files);
    }
    let functions: BTreeSet<_> = files.iter().flat_map(|path| functions(path)).collect();
    let (mut problems, mut rows) = (Vec::new(), 0);
    for cell in cells(DOCUMENT) {
        rows += 1;
        let names: Vec<_> = between(&cell, '*').collect();
        if names.is_empty() {
            problems.push(format!("no test is named, as in *the name of a function*: {cell}"));
        }
        for name in names.into_iter().filter(|name| !exists(&functions, name)) {
            problems.push(format!("no function is called *{name}*"));
        }
        for file in between(&cell, '`').filter(|name| name.ends_with(".rs")) {
            if !files.iter().any(|path| path.ends_with(file)) {
                problems.push(format!("there is no file `{file}`"));
            }
        }
    }
    assert!(problems.is_empty(), "docs/SECURITY.md:\n{}", problems.join("\n"));
    assert!(rows > 40, "{rows} rows were found: has the document another form now?");
}

/// The last cells of the rows of all tables whose last column has tests.
fn cells(document: &str) -> Vec<String> {
    let (mut found, mut has_tests) = (Vec::new(), false);
    for line in document.lines() {
        let Some(row) = line.strip_prefix('|') else {
            has_tests = false;
            continue;
        };
        let cell = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap().trim().to_owned();
        if cell == COLUMN {
            has_tests = true;
        } else if has_tests && !cell.starts_with("---") {
            found.push(cell);
        }
    }
    found
}

/// The texts between pairs of a character.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// Returns whether a function has this name, written with spaces; `…` stands for what is left out at an end.
fn exists(functions: &BTreeSet<String>, name: &str) -> bool {
    let wanted = name.trim_matches('…').trim().replace(' ', "_");
    functions.iter().any(|function| match (name.starts_with('…'), name.ends_with('…')) {
        (false, false) => *function == wanted,
        (false, true) => function.starts_with(&wanted),
        (true, false) => function.ends_with(&wanted),
        (true, true) => function.contains(&wanted),
    })
}

/// Names of the functions in a file.
fn functions(path: &Path) -> Vec<String> {
    let source = fs::read_to_string(path).unwrap();
    let names = source.lines().filter_map(|line| Some(line.split_once("fn ")?.1));
    let is_end = |character: char| !character.is_ascii_alphanumeric() && character != '_';
    names.map(|name| name.split(is_end).next().unwrap().to_owned()).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
