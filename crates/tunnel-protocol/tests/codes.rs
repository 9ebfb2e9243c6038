//! There is one table of codes, names and remedies: documents and types say the same.
#![allow(clippy::unwrap_used)] // A file that can't be read is a failure.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tunnel_protocol::CloseCode;
use tunnel_protocol::close::{Described, LIBRARY_ERRORS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn rows() -> impl Iterator<Item = &'static Described> {
    CloseCode::TABLE.iter().chain(LIBRARY_ERRORS)
}

/// Compares a file with what it should be; `UPDATE_DOCS=1` writes it.
fn check(path: &str, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(path), expected).unwrap();
    }
    assert!(read(path) == expected, "{path} is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_page_of_errors_has_every_code_with_its_meaning_and_remedy() {
    let mut page = "# Errors\n\n\
        This page is made of the table in `crates/tunnel-protocol/src/close.rs`. `TunnelError.code` has the name, `closeCode` the number,\n\
        `message` what is known of this case. For what a page shows instead, see [troubleshooting.md](troubleshooting.md).\n\n\
        | name | code | what has happened | what to do |\n|---|---|---|---|\n"
        .to_owned();
    for Described { code, name, meaning, remedy } in rows() {
        let code = code.map(|code| code.0.to_string()).unwrap_or_default();
        writeln!(page, "| `{name}` | {code} | {} | {remedy} |", meaning.trim()).unwrap();
    }
    check("docs/errors.md", &page);
}

#[test]
fn the_type_of_codes_is_the_union_of_their_names() {
    let names: BTreeSet<_> = rows().map(|row| row.name).collect();
    let union: String = names.iter().map(|name| format!("  | '{name}'\n")).collect();
    let types = read("js/sockets.d.ts");
    let start = "export type TunnelErrorCode =\n";
    let (before, rest) = types.split_once(start).unwrap();
    let (_, after) = rest.split_once(";\n").unwrap();
    check("js/sockets.d.ts", &format!("{before}{start}{};\n{after}", union.trim_end()));
}

#[test]
fn the_protocol_document_has_every_close_code_with_its_name() {
    let document = read("docs/PROTOCOL.md");
    for Described { code, name, .. } in CloseCode::TABLE {
        let row = format!("| {} | `{name}` | ", code.unwrap().0);
        assert!(document.contains(&row), "no row begins with {row}");
    }
}

#[test]
fn the_codes_that_the_librarys_script_makes_up_are_in_the_table() {
    let mut scripts = String::new();
    // Some of the classes' errors are made in Rust.
    for folder in ["js", "crates/tunnel-livecode/js", "src/browser/classes"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "js" || extension == "rs") {
                scripts += &fs::read_to_string(path).unwrap();
            }
        }
    }
    let names: BTreeSet<_> = rows().map(|row| row.name).collect();
    for start in ["code: '", "fail('"] {
        for after in scripts.split(start).skip(1) {
            let name = after.split('\'').next().unwrap();
            assert!(names.contains(name), "{name} is not in the table");
        }
    }
    for Described { name, .. } in LIBRARY_ERRORS.iter().filter(|row| row.name != "rejected") {
        let is_made = [format!("'{name}'"), format!("\"{name}\"")].iter().any(|text| scripts.contains(text));
        assert!(is_made, "nothing has the code {name}");
    }
}
