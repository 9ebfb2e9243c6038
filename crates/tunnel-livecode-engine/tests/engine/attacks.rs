//! Instructions that try to stop, to flood or to break the relay: each is stopped within its limits, and the next call answers.

use crate::support::{Rig, material, privileged, program, program_with, unlimited};
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tunnel_livecode_engine::{How, Limits, Op, OutKind, Program, Sandbox};
use tunnel_protocol::router::LinkId;

/// Longer than a slice of fuel takes without optimisation. Bytes are moved by one operation each, which is not cut into slices.
const SLICE: Duration = Duration::from_millis(60);

/// Attacks of our own: expressions that are functions.
const ATTACKS: [(&str, &str); 20] = [
    ("loop", "function () { for (;;); }"),
    ("loop that catches", "function () { for (;;) try { for (;;); } catch { } finally { continue } }"),
    ("recursion", "function f() { return f() + 1 }"),
    ("recursion by natives", "function () { const f = (x) => [1].map(f); return f() }"),
    (
        "recursion by proxies",
        "function () { let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return p.x }",
    ),
    ("recursion by getters", "function () { const o = { get x() { return this.x } }; return o.x }"),
    (
        "bound functions",
        "function () { let f = () => 1; for (let i = 0; i < 1e5; i++) f = f.bind(); return f() }",
    ),
    ("arrays", "function () { const all = []; for (;;) all.push(new Array(1000).fill(all)) }"),
    ("strings", "function () { let s = 'x'; for (;;) s += s }"),
    ("one large string", "function () { return 'ab'.repeat(1 << 28).length }"),
    ("typed arrays", "function () { const all = []; for (;;) all.push(new Uint8Array(1 << 16).fill(1)) }"),
    ("patterns", "function () { return /^(a|a)*$/.test('a'.repeat(60) + '!') }"),
    ("deep patterns", "function () { return new RegExp('(?:'.repeat(50000) + ')'.repeat(50000)) }"),
    ("integers", "function () { let n = 3n; for (let i = 0; i < 26; i++) n *= n; return String(n).length }"),
    ("sparse arrays", "function () { return Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1) }"),
    (
        "generators",
        "function () { const all = []; function* g() { for (;;) yield* g() } for (const x of g()) all.push(x) }",
    ),
    ("texts", "function () { for (;;) this.send('x'.repeat(10000)) }"),
    ("lines", "function () { for (;;) console.log('x') }"),
    ("timers", "function () { for (;;) setTimeout(() => {}, 1) }"),
    ("sources", "function () { return Function('return ' + '['.repeat(1e5) + ']'.repeat(1e5))() }"),
];

fn attacks() -> Vec<(String, String)> {
    let mut all: Vec<_> =
        ATTACKS.iter().map(|(name, body)| ((*name).to_owned(), (*body).to_owned())).collect();
    if let Some(recorded) = material("attacks.json") {
        let text = |it: &serde_json::Value| it.as_str().expect("a text").to_owned();
        all.extend(recorded.as_array().expect("a list").iter().map(|it| (text(&it[0]), text(&it[1]))));
    }
    all
}

/// Checks that the engine is as good as new.
fn check(rig: &mut Rig, link: LinkId, what: &str) {
    let stats = rig.engine.stats();
    assert!(stats.memory <= 2 * Limits::default().heap as usize, "{what}: {} bytes of memory", stats.memory);
    rig.texts(link);
    let texts = rig.text(link, r#"{"instruction":"echo","parameters":["still here"]}"#);
    let expected = [
        "server: received command 'echo'",
        "server: evaluating added instruction 'echo'",
        "server: still here",
    ];
    assert_eq!(texts, expected, "after {what}");
}

/// Short, for there are hundreds of attacks, and most use up what they have.
const CALL_TIME: Duration = Duration::from_millis(20);

fn limits() -> Limits {
    Limits::default().with_call_time(CALL_TIME)
}

fn quick_program() -> Option<Arc<Program>> {
    static PROGRAM: OnceLock<Option<Arc<Program>>> = OnceLock::new();
    PROGRAM.get_or_init(|| program_with(limits())).clone()
}

fn rig() -> Option<(Rig, LinkId, LinkId)> {
    let mut rig = Rig::with(&quick_program()?, unlimited());
    let (good, evil) = (rig.open(), rig.open());
    rig.add(good, "echo", "function (text) { return text }");
    Some((rig, good, evil))
}

#[test]
fn an_attack_in_an_instruction_is_stopped_and_the_next_call_answers() {
    let Some((mut rig, good, evil)) = rig() else { return };
    for (name, body) in attacks() {
        for _ in 0..2 {
            rig.add(evil, "attack", &body);
            let before = rig.engine.stats().spent;
            let texts = rig.text(evil, r#"{"instruction":"attack"}"#);
            assert!(texts.len() >= 2, "{name}: {texts:?}");
            let spent = rig.engine.stats().spent - before;
            // The soft limit, half of it until the hard one, a slice, and as much for what goes back.
            assert!(spent < 4 * limits().hard + 2 * SLICE, "{name}: {spent:?}");
            rig.texts(evil);
            check(&mut rig, good, &name);
        }
    }
}

#[test]
fn a_call_ends_within_its_hard_limit_and_one_slice() {
    let Some(program) = quick_program() else { return };
    for (name, body) in attacks() {
        let mut sandbox = Sandbox::new(&program).expect("a sandbox");
        let parameters = json!({ "instructionToAdd": "x", "body": body });
        sandbox.call(Op::Add, 0, json!({ "parameters": parameters }).to_string());
        let about = json!({ "address": "", "url": "/", "headers": {} });
        let command = json!({ "name": "x", "about": about, "parameters": [], "answer": null }).to_string();
        let called = sandbox.call(Op::Run, 1, &command);
        assert!(called.spent < limits().hard + SLICE, "{name}: {:?} {:?}", called.spent, called.how);
        assert!(sandbox.size() <= 2 * Limits::default().heap as usize, "{name}");
    }
}

#[test]
fn an_attack_when_it_is_evaluated_added_or_shown_is_stopped() {
    let Some((mut rig, good, evil)) = rig() else { return };
    for (name, body) in attacks() {
        for (where_, source) in [
            ("an evaluated source", format!("({body}).call(ws)")),
            ("a promise's job", format!("Promise.resolve().then(() => ({body}).call(ws))")),
            ("a timer", format!("setTimeout(() => ({body}).call(ws), 1)")),
        ] {
            rig.eval(evil, &source);
            rig.pass(Duration::from_millis(30));
            rig.texts(evil);
            check(&mut rig, good, &format!("{name} in {where_}"));
        }
        for (where_, source) in [
            ("the source that is added", format!("({body}).call({{ send() {{}} }})")),
            ("a result's toString", format!("function () {{ return {{ toString: {body} }} }}")),
            (
                "a getter of an error",
                format!(
                    "function () {{ const e = new Error(); Object.defineProperty(e, 'message', {{ get: {body} }}); throw e }}"
                ),
            ),
            (
                "a getter of a name",
                format!(
                    "function () {{ throw {{ get name() {{ return ({body}).call(this) }}, __proto__: Error.prototype }} }}"
                ),
            ),
            ("a result's toJSON", format!("function () {{ return {{ toJSON: {body} }} }}")),
        ] {
            rig.add(evil, "attack", &source);
            rig.text(evil, r#"{"instruction":"attack","answer":1}"#);
            rig.texts(evil);
            check(&mut rig, good, &format!("{name} in {where_}"));
        }
    }
}

#[test]
fn an_attack_when_its_link_closes_is_stopped() {
    let Some((mut rig, good, _)) = rig() else { return };
    for (name, body) in attacks() {
        let evil = rig.open();
        rig.add(evil, "attack", &format!("function () {{ this.on('close', {body}) }}"));
        rig.text(evil, r#"{"instruction":"attack"}"#);
        rig.close(evil);
        rig.pass(Duration::from_secs(2));
        check(&mut rig, good, &format!("{name} when a link closes"));
    }
}

#[test]
fn what_a_dropped_call_sent_is_not_sent_and_what_it_did_is_undone() {
    let Some(program) = program_with(Limits { output: 64 << 10, ..Limits::default() }) else { return };
    let mut rig = Rig::with(&program, unlimited());
    let (good, evil) = (rig.open(), rig.open());
    rig.add(good, "echo", "function (text) { return text }");
    rig.add(evil, "count", "function () { return global.n = (global.n || 0) + 1 }");
    rig.add(evil, "flood", "function () { global.n = 100; for (;;) this.send('x'.repeat(1 << 12)) }");
    rig.texts(good);
    assert_eq!(rig.invoke(evil, "count", "[]"), ["server: 1"]);
    rig.pass(Duration::from_secs(2));
    rig.text(good, r#"{"instruction":"echo","parameters":[1]}"#);
    let told = rig.invoke(evil, "flood", "[]");
    assert_eq!(told, ["server: Error: stopped (too much output); went back 0.0 s"]);
    assert_eq!(rig.texts(good), told, "configurers are told");
    assert_eq!(rig.invoke(evil, "count", "[]"), ["server: 2"]);
}

#[test]
fn what_an_interrupted_call_did_stays() {
    let Some((mut rig, _, evil)) = rig() else { return };
    rig.add(evil, "long", "function () {\n  global.done = 1\n  for (;;);\n}");
    let told = rig.invoke(evil, "long", "[]");
    assert!(told[0].starts_with("server: Error: stopped (out of time) (long 1:"), "{told:?}");
    rig.add(evil, "done", "function () { return done }");
    assert_eq!(rig.invoke(evil, "done", "[]"), ["server: 1"]);
}

#[test]
fn polluted_prototypes_change_no_other_instruction() {
    let Some((mut rig, good, evil)) = rig() else { return };
    let join = "function () { this.on('close', () => {}); return this.listenerCount('close') }";
    rig.add(good, "join", join);
    rig.add(
        evil,
        "pollute",
        "function () {
           const evil = () => { throw 'evil' };
           const { getOwnPropertyNames, defineProperty } = Object;
           const targets = [JSON, Reflect, Math, Object, Array, String, Promise];
           for (const type of [Object, String, Function, Map, WeakMap, RegExp, Promise, Error, Number, Array]) {
             targets.push(type.prototype);
           }
           for (let i = 0; i < targets.length; i++) {
             const names = getOwnPropertyNames(targets[i]);
             for (let k = 0; k < names.length; k++) try { targets[i][names[k]] = evil } catch {}
           }
           Array.prototype[Symbol.iterator] = evil;
           const names = ['name', 'about', 'parameters', 'answer', 'body', 'version', 'gone', 'once', 'toJSON', 'get', 'value', '0', '1'];
           for (let k = 0; k < names.length; k++) {
             defineProperty(Object.prototype, names[k], { __proto__: null, get: evil, set: evil, configurable: true });
           }
           const globals = ['String', 'Number', 'Object', 'Array', 'Promise', 'Error'];
           for (let k = 0; k < globals.length; k++) globalThis[globals[k]] = undefined;
           return 'polluted';
         }",
    );
    assert_eq!(rig.invoke(evil, "pollute", "[]"), ["server: polluted"]);
    assert_eq!(rig.invoke(good, "join", "[]"), ["server: 1"]);
    check(&mut rig, good, "pollution");
    rig.add(good, "new", "function (a, b) { return a + b }");
    assert_eq!(rig.invoke(good, "new", "[1,2]"), ["server: 3"]);
    let texts = rig.text(good, r#"{"instruction":"new","parameters":[1,2],"answer":4}"#);
    assert!(
        texts.last().is_some_and(|text| text.starts_with(r#"server: answered 4 {"returned":3,"#)),
        "{texts:?}"
    );
    let thrown = rig.add(good, "bad", "function () { return + }");
    assert!(thrown.last().is_some_and(|line| line.starts_with("server: SyntaxError")), "{thrown:?}");
    let list = rig.manage(good, "instructions", &json!({}));
    assert_eq!(list.as_array().map(Vec::len), Some(4), "{list}");
    rig.close(evil);
    check(&mut rig, good, "a close after pollution");
}

#[test]
fn a_link_cannot_be_forged() {
    let Some((mut rig, good, evil)) = rig() else { return };
    rig.invoke(good, "echo", "[1]");
    rig.add(
        evil,
        "forge",
        "function () {
           let tried = '';
           for (let id = 0; id < 10; id++) {
             const forged = new this.constructor(id, { address: 'x', url: '/', headers: {} });
             try { forged.send('forged'); tried += 'sent' } catch (error) { tried += '.' }
             forged.close(4000);
           }
           return tried;
         }",
    );
    rig.texts(good);
    assert_eq!(rig.invoke(evil, "forge", "[]"), ["server: .........."]);
    assert!(rig.texts(good).is_empty());
    assert!(rig.closed.is_empty());
}

#[test]
fn a_link_that_sends_bombs_leaves_others_their_turns() {
    let Some(program) = program() else { return };
    let settings = tunnel_livecode_engine::Settings { share: 0.2, ..unlimited() };
    let mut rig = Rig::with(&program, settings);
    let (good, evil) = (rig.open(), rig.open());
    rig.add(good, "echo", "function (text) { return text }");
    rig.add(evil, "bomb", "function () { for (;;); }");
    rig.pass(Duration::from_secs(20));
    let mut waits = Vec::new();
    for _ in 0..50 {
        if !rig.router.is_busy(evil) {
            rig.send(evil, r#"{"instruction":"bomb"}"#);
        }
        let sent = rig.now;
        rig.send(good, r#"{"instruction":"echo","parameters":["x"]}"#);
        rig.answered(good);
        waits.push(rig.now.saturating_since(sent));
        rig.texts(evil);
        assert_eq!(rig.texts(good).last().map(String::as_str), Some("server: x"));
        rig.pass(Duration::from_millis(20));
    }
    waits.sort();
    // The clock stands still while a call runs: what is measured is waiting for processor time that others have used up.
    assert_eq!(waits[25], Duration::ZERO, "{waits:?}");
    let bombs = rig.engine.stats().interrupted;
    assert!((1..=8).contains(&bombs), "{bombs} bombs in a second");
}

#[test]
fn the_module_imports_four_functions_and_nothing_starts_by_itself() {
    let Some(program) = program() else { return };
    let (mut imports, exports) = program.interface();
    imports.sort();
    assert_eq!(
        imports,
        ["env.__rquickjs_host_now_us", "livecode.emit", "livecode.interrupted", "livecode.random"]
    );
    let mut functions: Vec<_> = exports.iter().filter(|name| name.starts_with("livecode_")).collect();
    functions.sort();
    assert_eq!(
        functions,
        [
            "livecode_buffer",
            "livecode_call",
            "livecode_gc",
            "livecode_init",
            "livecode_memory",
            "livecode_version"
        ]
    );
    let others = exports.iter().filter(|name| !name.starts_with("livecode_"));
    assert_eq!(others.filter(|name| *name != "memory" && !name.starts_with("__")).count(), 0, "{exports:?}");
}

#[test]
fn a_module_that_wants_more_is_refused() {
    // (module (import "wasi" "fd_write" (func)))
    let wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x11\x01\x04wasi\x08fd_write\0\0";
    let error = Program::new(wasm, Limits::default()).err().expect("an error");
    assert!(error.to_string().contains("wasi.fd_write"), "{error}");
    let none = Program::new(b"\0asm\x01\0\0\0", Limits::default()).err().expect("an error");
    assert!(none.to_string().contains("livecode_buffer"), "{none}");
}

#[test]
fn sandboxes_share_nothing() {
    let Some(program) = program() else { return };
    let mut two: Vec<_> = (0..2).map(|_| Sandbox::new(&program).expect("a sandbox")).collect();
    let eval = |sandbox: &mut Sandbox, source: &str| {
        let about = json!({ "address": "", "url": "/", "headers": {} });
        let text = json!({ "about": about, "parameters": { "body": source }, "answer": 1 }).to_string();
        let called = sandbox.call(Op::Eval, 1, &text);
        assert_eq!(called.how, How::Well);
        called.out.into_iter().find(|out| out.kind == OutKind::Settled).map(|out| out.text)
    };
    eval(&mut two[0], "Object.prototype.evil = 1; global.mine = 2");
    assert_eq!(
        eval(&mut two[1], "typeof mine + typeof ({}).evil").as_deref(),
        Some(r#"1 {"returned":"undefinedundefined","printed":"undefinedundefined"}"#)
    );
}

#[test]
fn wrong_credentials_add_nothing() {
    let Some((mut rig, good, evil)) = rig() else { return };
    let text = privileged("add instruction", &json!({ "instructionToAdd": "echo", "body": "() => 'mine'" }));
    let told = rig.text(evil, &text.replace("CREDENTIAL", "guess"));
    assert_eq!(told[1], "server: rejected command 'add instruction'");
    check(&mut rig, good, "a wrong credential");
}
