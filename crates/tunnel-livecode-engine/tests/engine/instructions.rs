//! Tests of the answers to injected instructions, and of their abilities.

use crate::support::{Rig, material, privileged};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_the_published_server_answered_is_answered_byte_for_byte() {
    let (Some(recorded), Some(mut rig)) = (material("published-2017-answers.json"), Rig::new()) else {
        return;
    };
    let link = rig.open();
    for (index, exchange) in recorded.as_array().expect("a list").iter().enumerate() {
        let message = exchange["message"].as_str().expect("a text");
        let mut expected: Vec<_> = exchange["answers"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|it| it.as_str().expect("a text"))
            .collect();
        let mut answers = rig.text(link, message);
        if expected.last() == Some(&"THE PROCESS ENDED") {
            expected.pop();
            answers.truncate(expected.len());
        }
        // Names are own ones: what every object inherits was run as an instruction in 2017.
        if ["toString", "constructor", "hasOwnProperty"]
            .iter()
            .any(|name| message.contains(&format!(r#"{{"instruction":"{name}""#)))
        {
            assert_eq!(
                answers.last().map(|line| line.starts_with("server: rejected")),
                Some(true),
                "{answers:?}"
            );
            continue;
        }
        // Adding it ended the process in 2017.
        if message == r#"{"instruction":"n"}"# {
            assert_eq!(answers.last().map(String::as_str), Some("server: 1"));
            continue;
        }
        // There is no Buffer.
        if message == r#"{"instruction":"s"}"# {
            assert_eq!(answers[2], "server: 1970-01-01T00:00:00.000Zundefined");
            continue;
        }
        assert_eq!(answers, expected, "message {index}: {message}");
    }
}

#[test]
fn an_instruction_is_run_with_its_link_and_its_parameters() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    let added = rig.add(link, "greet", "function (name, age) { this.send('hello ' + name); return age + 1 }");
    assert_eq!(added, ["server: received command 'add instruction'", "server: adding instruction 'greet'"]);
    assert_eq!(rig.invoke(link, "greet", r#"["Ana",41]"#), ["hello Ana", "server: 42"]);
    let other = rig.open();
    assert_eq!(rig.invoke(other, "greet", r#"["Bo",1]"#), ["hello Bo", "server: 2"]);
    assert!(rig.texts(link).is_empty());
}

#[test]
fn an_error_says_where_it_is_and_leaves_the_older_version() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "oops", "function () { return 1 }");
    let added = rig.add(link, "oops", "function () {\n  return 1 +\n}");
    assert_eq!(added.len(), 3, "{added:?}");
    assert!(
        added[2].starts_with("server: SyntaxError: ") && added[2].ends_with(" (oops 2:3:1)"),
        "{added:?}"
    );
    assert_eq!(rig.invoke(link, "oops", "[]"), ["server: 1"]);
    rig.add(link, "oops", "function () {\n  return undefined.here\n}");
    let thrown = rig.invoke(link, "oops", "[]");
    assert!(
        thrown[0].starts_with("server: TypeError: cannot read property 'here' of undefined (oops 2:2:"),
        "{thrown:?}"
    );
}

#[test]
fn an_answer_can_be_told_apart_by_its_number() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "sum", "function (a, b) { return { sum: a + b } }");
    rig.add(
        link,
        "later",
        "async function (t) { await new Promise(done => setTimeout(done, 50)); return t }",
    );
    rig.add(link, "never", "function () { return new Promise(() => {}) }");
    rig.add(link, "thrower", "function () { throw new RangeError('no') }");
    let answer = |texts: &[String]| {
        let line = texts
            .last()
            .expect("a line")
            .strip_prefix("server: answered 17 ")
            .expect("the answer")
            .to_owned();
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
    };
    let texts = rig.text(link, r#"{"instruction":"sum","parameters":[1,2],"answer":17}"#);
    assert_eq!(texts[2], "server: [object Object]");
    let value = answer(&texts);
    assert_eq!(value["returned"], json!({ "sum": 3 }));
    assert!(value["ms"].is_number(), "{value}");

    let texts = rig.text(link, r#"{"instruction":"later","parameters":["x"],"answer":17}"#);
    assert_eq!(texts.last().map(String::as_str), Some("server: [object Promise]"));
    rig.pass(SECOND);
    assert_eq!(answer(&rig.texts(link))["returned"], json!("x"));

    rig.text(link, r#"{"instruction":"never","answer":17}"#);
    rig.pass(6 * SECOND);
    assert_eq!(answer(&rig.texts(link))["threw"]["message"], "the promise was not settled within 5 s");

    let texts = rig.text(link, r#"{"instruction":"thrower","answer":17}"#);
    let threw = answer(&texts)["threw"].clone();
    assert_eq!((&threw["name"], &threw["message"]), (&json!("RangeError"), &json!("no")));
    assert_eq!(
        (&threw["at"]["instruction"], &threw["at"]["version"], &threw["at"]["line"]),
        (&json!("thrower"), &json!(1), &json!(1))
    );

    let texts = rig.text(link, r#"{"instruction":"unknown","answer":17}"#);
    assert_eq!(answer(&texts)["threw"]["message"], "there is no instruction of this name");
    let body = privileged("eval", &json!({ "body": "[1, 2]" })).replacen('{', r#"{"answer":17,"#, 1);
    assert_eq!(answer(&rig.text(link, &body))["printed"], "[1,2]");
}

#[test]
fn the_last_parameter_req_is_the_links_request_and_no_peers_own() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    let body =
        "function (a, req) { return [a, req.connection.remoteAddress, req.url, arguments.length].join() }";
    rig.add(link, "who", body);
    for (given, expected) in [
        (r#"["x"]"#, "x,192.0.2.7,/room,2"),
        ("[]", ",192.0.2.7,/room,2"),
        (r#"["x",{"connection":{"remoteAddress":"forged"}},3]"#, "x,192.0.2.7,/room,2"),
    ] {
        assert_eq!(rig.invoke(link, "who", given), [format!("server: {expected}")], "{given}");
    }
    rig.add(link, "arrow", "(req) => req.url");
    assert_eq!(rig.invoke(link, "arrow", "[]"), ["server: /room"]);
    rig.add(link, "none", "function (request) { return typeof request }");
    assert_eq!(rig.invoke(link, "none", "[]"), ["server: undefined"]);
}

#[test]
fn instructions_have_no_authority_but_to_answer() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    let absent = [
        "require",
        "process",
        "fetch",
        "XMLHttpRequest",
        "std",
        "os",
        "WebAssembly",
        "Worker",
        "Atomics",
        "SharedArrayBuffer",
        "Buffer",
        "navigator",
        "print",
        "gc",
        "Deno",
        "bjson",
    ];
    let list = absent.map(|name| format!("typeof {name}")).join(",");
    rig.add(link, "escape", &format!("function () {{ return [{list}].join() }}"));
    assert_eq!(
        rig.invoke(link, "escape", "[]"),
        [format!("server: {}", vec!["undefined"; absent.len()].join(","))]
    );
    rig.add(
        link,
        "import",
        "function () { import('fs').then(() => this.send('got it'), () => this.send('no')) }",
    );
    assert_eq!(rig.invoke(link, "import", "[]"), ["server: undefined", "no"]);
}

#[test]
fn what_the_platform_has_and_quickjs_has_not_is_there() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(
        link,
        "platform",
        "function () {
           const bytes = new TextEncoder().encode('aü⇄😀\\ud800');
           const copy = structuredClone({ a: [1, new Map([[1, new Set([2])]])], when: new Date(5) });
           const some = crypto.getRandomValues(new Uint8Array(64));
           return [bytes.join(' '), new TextDecoder().decode(bytes), new TextDecoder().decode(new Uint8Array([0xf0, 0x41, 0xff])),
             copy.a[1].get(1).has(2), +copy.when, new Set(some).size > 8, /^[0-9a-f-]{36}$/.test(crypto.randomUUID()),
             typeof performance.now()].join('|')
         }",
    );
    assert_eq!(
        rig.invoke(link, "platform", "[]"),
        [
            "server: 97 195 188 226 135 132 240 159 152 128 239 191 189|aü⇄😀\u{fffd}|\u{fffd}A\u{fffd}|true|5|true|true|number"
        ]
    );
}

#[test]
fn a_redefinition_takes_effect_between_calls_and_can_be_taken_back() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "say", "function () { return 'one' }");
    rig.eval(link, "global.kept = 1");
    rig.add(link, "say", "function () { return 'two' }");
    assert_eq!(rig.invoke(link, "say", "[]"), ["server: two"]);
    assert_eq!(
        rig.manage(link, "source", &json!({ "name": "say", "version": 1 }))["source"],
        "function () { return 'one' }"
    );
    assert_eq!(
        rig.manage(link, "roll back", &json!({ "name": "say", "version": 1 })),
        json!({ "version": 3 })
    );
    assert_eq!(rig.invoke(link, "say", "[]"), ["server: one"]);
    let list = rig.manage(link, "instructions", &json!({}));
    assert_eq!(
        (&list[0]["name"], &list[0]["version"], &list[0]["calls"]),
        (&json!("say"), &json!(3), &json!(2))
    );
    let names = rig.manage(link, "globals", &json!({ "path": [] }));
    assert!(
        names.as_array().expect("a list").iter().any(|it| it["name"] == "kept" && it["preview"] == "1"),
        "{names}"
    );
    rig.manage(link, "remove", &json!({ "name": "say" }));
    let texts = rig.text(link, r#"{"instruction":"say"}"#);
    assert_eq!(texts[1], "server: rejected command 'say'");
}

#[test]
fn what_was_added_outlives_a_call_that_is_dropped_right_behind_it() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "flood", "function () { for (;;) this.send('x'.repeat(1000)) }");
    rig.eval(link, "global.kept = 'kept'");
    rig.add(link, "tell", "function () { return kept }");
    let flooded = rig.invoke(link, "flood", "[]");
    assert!(flooded.iter().any(|line| line.contains("went back")), "{flooded:?}");
    assert_eq!(rig.invoke(link, "tell", "[]"), ["server: kept"]);
}

#[test]
fn a_labelled_checkpoint_brings_everything_back() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "next", "function () { return global.n = (global.n || 0) + 1 }");
    assert_eq!(rig.invoke(link, "next", "[]"), ["server: 1"]);
    rig.manage(link, "checkpoint", &json!({ "label": "party" }));
    assert_eq!(rig.invoke(link, "next", "[]"), ["server: 2"]);
    rig.manage(link, "restore", &json!({ "label": "party" }));
    assert_eq!(rig.invoke(link, "next", "[]"), ["server: 2"]);
    let none = rig.manage(link, "restore", &json!({ "label": "other" }));
    assert!(none.as_str().is_some_and(|text| text.contains("no checkpoint")), "{none}");
}

#[test]
fn privileged_commands_take_the_credential() {
    let Some(mut rig) = Rig::new() else { return };
    for name in tunnel_protocol::livecode::PRIVILEGED.into_iter().chain([
        "eval",
        "require",
        "modules",
        "add instruction",
    ]) {
        // Each from an address of its own: wrong credentials are counted by address.
        let link =
            rig.open_from(&format!("192.0.2.{}", name.len() * 8 + usize::from(name.as_bytes()[0]) % 8));
        let text = privileged(name, &json!({})).replace("CREDENTIAL", "guessed");
        assert_eq!(rig.text(link, &text)[1..], [format!("server: rejected command '{name}'")]);
    }
    let link = rig.open();
    assert_eq!(rig.text(link, &privileged("hello", &json!({})))[1], "server: hello livecode 1");
    let texts = rig.text(link, &privileged("require", &json!({ "package": "ws" })));
    assert_eq!(
        texts[1..],
        [
            "server: received require for ws",
            "server: Error: this relay installs no packages: bundle it and eval it"
        ]
    );
    assert_eq!(
        rig.text(link, &privileged("modules", &json!({})))[1..],
        ["server: enumerating modules", "[]"]
    );
}

#[test]
fn the_credential_does_not_reach_the_sandbox() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "x", "function () {}");
    rig.eval(link, "1");
    let image = rig.engine.image().to_bytes();
    let found = image
        .windows(crate::support::CREDENTIAL.len())
        .any(|bytes| bytes == crate::support::CREDENTIAL.as_bytes());
    assert!(!found);
}

#[test]
fn timers_run_and_a_watcher_hears_what_they_log() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.text(link, &privileged("watch", &json!({})));
    rig.add(link, "tick", "function () { let n = 0; const id = setInterval(() => { console.log('tick', ++n); if (n === 3) clearInterval(id) }, 1) }");
    rig.invoke(link, "tick", "[]");
    rig.pass(SECOND);
    let texts = rig.texts(link);
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(texts[2], r#"server: log {"level":"log","text":"tick 3"}"#);
}

#[test]
fn a_closed_link_is_told_to_those_who_listen() {
    let Some(mut rig) = Rig::new() else { return };
    let (link, other) = (rig.open(), rig.open());
    rig.add(link, "join", "function () { (global.all ??= []).push(this); this.on('close', () => all[0].send('left')); return all.indexOf(this) }");
    assert_eq!(rig.invoke(link, "join", "[]"), ["server: 0"]);
    assert_eq!(rig.invoke(other, "join", "[]"), ["server: 1"]);
    rig.close(other);
    assert_eq!(rig.texts(link), ["left"]);
    rig.add(link, "bye", "function () { this.send('bye'); this.close(4001, 'enough') }");
    let texts = rig.text(link, r#"{"instruction":"bye"}"#);
    assert_eq!(texts.last().map(String::as_str), Some("bye"));
    let (closed, code, reason) = rig.closed.pop().expect("a close");
    assert_eq!((closed, code.0, reason.as_str()), (link, 4001, "enough"));
}

#[test]
fn what_belongs_to_no_command_comes_between_answers() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.text(link, &privileged("watch", &json!({})));
    rig.add(link, "logs", "function () { console.log('in between'); this.send('sent'); return 'returned' }");
    let told = rig.invoke(link, "logs", "[]");
    assert_eq!(told, ["sent", "server: returned", r#"server: log {"level":"log","text":"in between"}"#]);
}

#[test]
fn a_watcher_hears_of_each_change_of_instructions_and_where_errors_are() {
    let Some(mut rig) = Rig::new() else { return };
    let (watcher, other) = (rig.open(), rig.open());
    rig.text(watcher, &privileged("watch", &json!({})));
    rig.add(other, "say", "function () {\n  return undefined.here\n}");
    rig.add(other, "say", "function () { return 1 +");
    rig.invoke(other, "say", "[]");
    rig.manage(other, "roll back", &json!({ "name": "say", "version": 1 }));
    rig.manage(other, "roll back", &json!({ "name": "say", "version": 9 }));
    rig.manage(other, "remove", &json!({ "name": "say" }));
    rig.manage(other, "checkpoint", &json!({ "label": "party" }));
    rig.manage(other, "restore", &json!({ "label": "party" }));
    let told = rig.texts(watcher);
    let entry = |text: &String| {
        let json = text.strip_prefix("server: log ").expect("an entry");
        serde_json::from_str::<serde_json::Value>(json).expect("JSON")
    };
    let entries: Vec<_> = told.iter().map(entry).collect();
    let of = |level: &str| entries.iter().filter(|entry| entry["level"] == level).collect::<Vec<_>>();
    let changes: Vec<_> =
        of("change").iter().map(|it| (it["instruction"].clone(), it["version"].clone())).collect();
    let (say, none) = (json!("say"), serde_json::Value::Null);
    let expected =
        [(say.clone(), json!(1)), (say.clone(), json!(2)), (say, none.clone()), (none.clone(), none)];
    assert_eq!(changes, expected, "{entries:?}");
    assert_eq!(of("error").len(), 3, "{entries:?}");
    let at = &of("error")[1]["at"];
    assert_eq!((&at["instruction"], &at["version"], &at["line"]), (&json!("say"), &json!(1), &json!(2)));
    let quota = rig.manage(other, "quota", &json!({}));
    assert_eq!(quota["checkpoints"], json!(["party"]));
}
