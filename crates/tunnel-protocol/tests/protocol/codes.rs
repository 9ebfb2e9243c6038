//! There is one table of codes, names and remedies: documents and types say the same.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tunnel_protocol::CloseCode;
use tunnel_protocol::close::{Again, Described, LIBRARY_ERRORS};

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
fn the_page_of_errors_has_every_code_with_its_meaning_and_remedy_and_every_event() {
    let mut page = "# Errors\n\n\
        This page is made of the table in `crates/tunnel-protocol/src/close.rs` and of the types. `TunnelError.code` has the name, `closeCode` the\n\
        number, `message` what is known of this case. For what a page shows instead, see [troubleshooting.md](troubleshooting.md).\n\n\
        - `event.code` is the code of the `close` event of a socket that was open, or of a server. A socket that could not be opened has 1006 there,\n  \
        as the platform's, and a reason that begins with the name; `await socket.closed` throws the `TunnelError` with the real `closeCode`.\n\
        - *Again?* is about another attempt: *yes* is likely to work at once, *later* when something elsewhere has changed, so wait longer each time,\n  \
        *no* ends in the same way until you change what is said on the right.\n\
        - A socket or server that fires `reconnecting` has no error yet, and nothing has to be done: it tries again by itself, a socket for\n  \
        `resumeTimeout`.\n\n\
        | name | `closeCode` | `event.code` | again? | what has happened | what to do |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for Described { code, name, meaning, remedy, again } in rows() {
        let number = |code: &CloseCode| code.0.to_string();
        // The platform's class has no code for an end that an application did not wait for.
        let seen = code.map(|code| if code == CloseCode::ABORTED { CloseCode::ABNORMAL } else { code });
        let [code, seen] = [code, &seen].map(|code| code.as_ref().map(number).unwrap_or_default());
        let again = match again {
            Again::Yes => "yes",
            Again::Later => "later",
            Again::No => "no",
        };
        writeln!(page, "| `{name}` | {code} | {seen} | {again} | {} | {remedy} |", meaning.trim()).unwrap();
    }
    page += "\n## Events\n\n\
        A `close` event has `code`, `reason` and `wasClean`; no other event says more than its type, but for `message` and `connection`.\n\
        Order: `error` comes before the `close` that says why; nothing comes behind `close`.\n\n\
        | of | event | is a | when |\n|---|---|---|---|\n";
    let types = read("js/sockets.d.ts");
    for (class, name) in [
        ("export class PeerToPeerWebSocket ", "a socket"),
        ("export class ForwardingServerWebSocket ", "a server"),
    ] {
        let body = types.split(class).nth(1).unwrap().split("\n}\n").next().unwrap();
        let handlers = body.lines().zip(body.lines().skip(1)).filter(|(_, line)| line.starts_with("  on"));
        let before = page.len();
        for (comment, line) in handlers {
            let event = line.trim().strip_prefix("on").unwrap().split(':').next().unwrap();
            let kind = line.split("event: ").nth(1).unwrap().split(')').next().unwrap();
            let when = comment.trim().trim_start_matches("/**").trim_end_matches("*/").trim();
            writeln!(page, "| {name} | `{event}` | `{kind}` | {when} |").unwrap();
        }
        assert!(page.len() > before, "there are events of {name}");
    }
    check("docs/errors.md", &page);
}

#[test]
fn the_events_that_have_handlers_are_those_of_the_types() {
    let types = read("js/sockets.d.ts");
    for (script, class) in [
        ("js/sockets.js", "export class PeerToPeerWebSocket "),
        ("js/server.js", "export class ForwardingServerWebSocket "),
    ] {
        let script = read(script);
        let list = script.split("defineEventHandlers(").last().unwrap().split(']').next().unwrap();
        let made: BTreeSet<_> =
            list.split('[').nth(1).unwrap().split(", ").map(|name| name.trim_matches('\'')).collect();
        let body = types.split(class).nth(1).unwrap().split("\n}\n").next().unwrap();
        let typed: BTreeSet<_> =
            body.lines().filter_map(|line| line.strip_prefix("  on")?.split(':').next()).collect();
        assert_eq!(made, typed, "{class}");
    }
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
