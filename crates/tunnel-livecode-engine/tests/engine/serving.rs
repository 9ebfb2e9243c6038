//! A namespace as a server of tunnels: `serve(port, socket => …)`. Clients are endpoints, as pages have them.

use crate::support::tab::Tab;
use crate::support::{Rig, privileged, program, unlimited};
use serde_json::json;
use std::time::Duration;
use tunnel_livecode_engine::{Engine, Settings};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::LinkId;
use tunnel_protocol::{CloseCode, Instant, Message, ServerId};

const SECOND: Duration = Duration::from_secs(1);

/// Handlers that answer in capitals, and turn bytes around.
const ECHO: &str = "function () {
    return serve(80, socket => {
        socket.onmessage = ({ data }) => socket.send(typeof data === 'string' ? data.toUpperCase() : data.reverse())
    })
}";

fn settings() -> Settings {
    Settings { key: Some(StaticKey::from_secret([8; 32])), ..unlimited() }
}

/// A namespace that serves as `body` says, and a link that may add more.
fn serving(body: &str) -> Option<(Rig, LinkId, ServerId)> {
    let mut rig = Rig::with(&program()?, settings());
    let link = rig.open();
    rig.add(link, "open", body);
    let told = rig.invoke(link, "open", "[]");
    let id = told[0].strip_prefix("server: ").and_then(|id| id.parse().ok());
    let id = id.unwrap_or_else(|| panic!("no server ID: {told:?}"));
    assert_eq!(id, rig.engine.server_id());
    Some((rig, link, id))
}

#[test]
fn clients_talk_to_instructions_when_nobody_else_is_there() {
    let Some((mut rig, link, id)) = serving(ECHO) else { return };
    rig.close(link);
    let (mut one, mut two) = (Tab::connect(&mut rig, id, 80), Tab::connect(&mut rig, id, 80));
    for tab in [&mut one, &mut two] {
        tab.send("grüße");
        tab.send(Message::Binary(vec![1, 0, 255].into()));
        tab.send("x".repeat(100_000).as_str());
        let heard = tab.hear(&mut rig, 3);
        assert_eq!(heard[0], Message::Text("GRÜSSE".to_owned()));
        assert_eq!(heard[1], Message::Binary(vec![255, 0, 1].into()));
        assert_eq!(heard[2], Message::Text("X".repeat(100_000)));
    }
    assert_eq!(rig.engine.stats().clients, 2);
}

#[test]
fn instructions_know_who_their_clients_are() {
    let body = "function () {
        return serve(80, socket => socket.send([socket.port, socket.remoteId, socket._socket.remoteAddress, socket.prove(socket.remoteId)].join(' ')))
    }";
    let Some((mut rig, _, id)) = serving(body) else { return };
    let mut tab = Tab::connect(&mut rig, id, 80);
    let told = tab.hear(&mut rig, 1);
    assert_eq!(told, [Message::Text(format!("80 {} 192.0.2.9 true", tab.id()))]);
}

#[test]
fn a_port_takes_clients_only_while_an_instruction_listens() {
    let Some((mut rig, link, id)) = serving(ECHO) else { return };
    let mut wrong = Tab::connect(&mut rig, id, 81);
    assert_eq!(wrong.end(&mut rig).0, CloseCode::PORT_CLOSED);
    let mut tab = Tab::connect(&mut rig, id, 80);
    rig.eval(link, "serve(80, null)");
    let mut late = Tab::connect(&mut rig, id, 80);
    assert_eq!(late.end(&mut rig).0, CloseCode::PORT_CLOSED);
    tab.send("still open");
    assert_eq!(tab.hear(&mut rig, 1), [Message::Text("STILL OPEN".to_owned())]);
    for wrong in ["serve(65536, () => {})", "serve(-1, () => {})", "serve('x', () => {})", "serve(80)"] {
        let told = rig.eval(link, wrong);
        assert!(told.last().is_some_and(|line| line.contains("Error: ")), "{wrong}: {told:?}");
    }
}

#[test]
fn a_close_of_either_side_reaches_the_other() {
    let body = "function () {
        return serve(80, socket => {
            socket.on('message', text => socket.close(4001, text))
            socket.onclose = ({ code, reason }) => { global.closed = [code, reason, socket.readyState].join(' ') }
        })
    }";
    let Some((mut rig, link, id)) = serving(body) else { return };
    rig.add(link, "closed", "function () { return global.closed }");
    let mut tab = Tab::connect(&mut rig, id, 80);
    tab.send("enough");
    assert_eq!(tab.end(&mut rig), (CloseCode(4001), "enough".to_owned()));
    assert_eq!(rig.invoke(link, "closed", "[]"), ["server: 4001 enough 3"]);

    let mut tab = Tab::connect(&mut rig, id, 80);
    tab.close(&mut rig, CloseCode(4002), "bye");
    rig.pass(SECOND);
    assert_eq!(rig.invoke(link, "closed", "[]"), ["server: 4002 bye 3"]);
    assert_eq!(rig.engine.stats().clients, 0);
}

#[test]
fn what_a_dropped_call_sent_is_not_delivered_and_its_client_hears_of_it() {
    let body = "function () {
        return serve(80, socket => {
            socket.onmessage = ({ data }) => {
                socket.send(data)
                if (data === 'flood') socket.send('x'.repeat(5e6))
                if (data === 'loop') for (;;);
            }
        })
    }";
    let Some((mut rig, _, id)) = serving(body) else { return };
    let (mut evil, mut good) = (Tab::connect(&mut rig, id, 80), Tab::connect(&mut rig, id, 80));
    good.send("one");
    assert_eq!(good.hear(&mut rig, 1), [Message::Text("one".to_owned())]);
    rig.pass(2 * SECOND);
    evil.send("flood");
    let (code, reason) = evil.end(&mut rig);
    assert_eq!(code, CloseCode::INTERNAL);
    assert!(reason.starts_with("stopped ("), "{reason}");
    assert!(evil.heard.is_empty(), "{:?}", evil.heard);
    // An instruction that was interrupted at the soft limit keeps its changes.
    let mut slow = Tab::connect(&mut rig, id, 80);
    slow.send("loop");
    assert_eq!(slow.hear(&mut rig, 1), [Message::Text("loop".to_owned())]);
    good.send("two");
    assert_eq!(good.hear(&mut rig, 1), [Message::Text("two".to_owned())]);
}

#[test]
fn an_attack_in_what_a_client_brings_about_is_stopped_and_other_clients_go_on() {
    for attack in [
        "() => { for (;;); }",
        "function f() { return f() + 1 }",
        "() => { const all = []; for (;;) all.push(new Array(1000).fill(all)) }",
        "() => { const f = () => Promise.resolve().then(f); f() }",
    ] {
        let body = format!(
            "function () {{
                const attack = {attack}
                serve(81, attack)
                return serve(80, socket => {{
                    socket.onmessage = ({{ data }}) => {{ if (data === 'now') attack(); socket.send(data) }}
                    socket.on('close', code => {{ if (code === 4001) attack() }})
                }})
            }}"
        );
        let Some((mut rig, link, id)) = serving(&body) else { return };
        rig.add(link, "echo", "function (text) { return text }");
        let mut good = Tab::connect(&mut rig, id, 80);
        for place in ["a handler of sockets", "a message", "a close"] {
            // So that a checkpoint knows the client.
            good.say(&mut rig, "still here");
            assert_eq!(
                good.hear(&mut rig, 1),
                [Message::Text("still here".to_owned())],
                "{attack} before {place}"
            );
            rig.pass(2 * SECOND);
            let mut evil = Tab::connect(&mut rig, id, if place == "a handler of sockets" { 81 } else { 80 });
            match place {
                "a message" => evil.say(&mut rig, "now"),
                "a close" => evil.close(&mut rig, CloseCode(4001), ""),
                _ => {}
            }
            rig.pass(SECOND);
            // A configurer is told of what went back.
            rig.texts(link);
            assert_eq!(
                rig.invoke(link, "echo", "[1]").last().map(String::as_str),
                Some("server: 1"),
                "{attack} in {place}"
            );
        }
        good.say(&mut rig, "and now");
        assert_eq!(good.hear(&mut rig, 1), [Message::Text("and now".to_owned())], "after {attack}");
    }
}

#[test]
fn a_client_that_came_after_the_checkpoint_is_introduced_again() {
    let body = "function () {
        return serve(80, socket => {
            (global.all ??= new Set()).add(socket)
            socket.onmessage = ({ data }) => { for (const other of all) other.send(data + ' of ' + all.size) }
        })
    }";
    let Some((mut rig, link, id)) = serving(body) else { return };
    let mut one = Tab::connect(&mut rig, id, 80);
    rig.text(link, &privileged("checkpoint", &json!({ "label": "a" })));
    let mut two = Tab::connect(&mut rig, id, 80);
    two.say(&mut rig, "hello");
    assert_eq!(one.hear(&mut rig, 1), [Message::Text("hello of 2".to_owned())]);
    rig.text(link, &privileged("restore", &json!({ "label": "a" })));
    one.send("alone");
    assert_eq!(one.hear(&mut rig, 1), [Message::Text("alone of 1".to_owned())]);
    two.say(&mut rig, "again");
    assert_eq!(one.hear(&mut rig, 1), [Message::Text("again of 2".to_owned())]);
}

#[test]
fn a_server_has_its_id_again_after_the_relay_ends() {
    let Some((mut rig, _, id)) = serving(ECHO) else { return };
    let mut tab = Tab::connect(&mut rig, id, 80);
    tab.send("x");
    tab.hear(&mut rig, 1);
    let image = rig.engine.image();
    let program = program().expect("it was there");
    let engine = Engine::from_image(&program, settings(), &image, Instant::ORIGIN).expect("an engine");
    let mut rig = Rig::of(engine);
    rig.pass(SECOND);
    let mut tab = Tab::connect(&mut rig, id, 80);
    tab.send("go on");
    assert_eq!(tab.hear(&mut rig, 1), [Message::Text("GO ON".to_owned())]);
    assert_eq!(rig.engine.stats().clients, 1, "the one of before is closed");
}

#[test]
fn the_key_is_in_no_image() {
    let Some((rig, _, _)) = serving(ECHO) else { return };
    let image = rig.engine.image().to_bytes();
    assert!(!image.windows(32).any(|bytes| bytes == [8; 32]));
}

#[test]
fn more_clients_than_there_may_be_are_refused() {
    let Some(program) = program() else { return };
    let mut rig = Rig::with(&program, Settings { max_clients: 2, ..settings() });
    let link = rig.open();
    rig.add(link, "open", ECHO);
    rig.invoke(link, "open", "[]");
    let id = rig.engine.server_id();
    let mut tabs: Vec<_> = (0..2).map(|_| Tab::connect(&mut rig, id, 80)).collect();
    for tab in &mut tabs {
        tab.send("x");
        tab.hear(&mut rig, 1);
    }
    let mut third = Tab::connect(&mut rig, id, 80);
    assert_eq!(third.end(&mut rig).0, CloseCode::TRY_AGAIN_LATER);
}

#[test]
fn a_client_that_takes_nothing_is_closed_and_costs_a_bounded_memory() {
    let body = "function () {
        return serve(80, socket => { socket.onmessage = () => { for (let i = 0; i < 4; i++) socket.send('x'.repeat(100000)) } })
    }";
    let Some((mut rig, _, id)) = serving(body) else { return };
    let mut tab = Tab::connect(&mut rig, id, 80);
    tab.takes_nothing = true;
    for _ in 0..8 {
        tab.send("much");
    }
    let (code, reason) = tab.end(&mut rig);
    assert!(reason.contains("takes too little"), "{code} {reason}");
    assert_eq!(code, CloseCode::OVERFLOW);
}

#[test]
fn a_client_that_says_too_much_waits_until_instructions_have_taken_it() {
    let Some(program) = program() else { return };
    let mut rig = Rig::with(&program, Settings { share: 0.01, ..settings() });
    let link = rig.open();
    rig.add(link, "open", "function () { return serve(80, socket => { socket.onmessage = () => { let n = 0; for (let i = 0; i < 10000; i++) n += i } }) }");
    rig.invoke(link, "open", "[]");
    let id = rig.engine.server_id();
    let mut tab = Tab::connect(&mut rig, id, 80);
    for _ in 0..200 {
        tab.send("x".repeat(100_000).as_str());
    }
    rig.pass(SECOND);
    tab.pump(&mut rig);
    assert!(tab.unsent() > 10_000_000, "{} bytes are left", tab.unsent());
}
