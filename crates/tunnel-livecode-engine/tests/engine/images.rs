//! Images: everything there is of a namespace, kept and brought back.

use crate::support::{Rig, program, program_with, unlimited};
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;
use tunnel_livecode_engine::{Engine, Image, ImageError, Limits, Sandbox};
use tunnel_protocol::Instant;

#[test]
fn an_image_goes_on_with_the_same_closures_and_its_links_are_closed() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(
        link,
        "next",
        "function () { global.next ??= (() => { let n = 0; return () => ++n })(); this.once('close', () => global.left = (global.left || 0) + 1); return next() }",
    );
    rig.add(link, "left", "function () { return global.left }");
    assert_eq!(rig.invoke(link, "next", "[]"), ["server: 1"]);
    let bytes = rig.engine.image().to_bytes();

    let program = program().expect("it was there");
    let image = Image::from_bytes(&bytes).expect("an image");
    let engine = Engine::from_image(&program, unlimited(), &image, Instant::ORIGIN).expect("an engine");
    let mut rig = Rig::of(engine);
    let link = rig.open();
    assert_eq!(rig.invoke(link, "left", "[]"), ["server: 1"]);
    assert_eq!(rig.invoke(link, "next", "[]"), ["server: 2"]);
    assert_eq!(rig.engine.sources().len(), 2);
}

#[test]
fn timers_of_an_image_start_anew() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.eval(link, "setTimeout(() => { global.fired = true }, 500)");
    let image = rig.engine.image();
    let engine = Engine::from_image(&program().expect("it was there"), unlimited(), &image, Instant::ORIGIN);
    let mut rig = Rig::of(engine.expect("an engine"));
    let link = rig.open();
    rig.add(link, "fired", "function () { return typeof fired }");
    assert_eq!(rig.invoke(link, "fired", "[]"), ["server: undefined"]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.invoke(link, "fired", "[]"), ["server: boolean"]);
}

#[test]
fn a_tampered_image_is_refused() {
    let Some(program) = program() else { return };
    let bytes = Sandbox::new(&program).expect("a sandbox").image().to_bytes();
    assert!(Image::from_bytes(&bytes).is_ok());
    for len in [0, 1, 8, 40, 75, 76] {
        assert_eq!(Image::from_bytes(&bytes[..len]).err(), Some(ImageError::NoImage), "{len}");
    }
    assert_eq!(Image::from_bytes(&bytes[..bytes.len() - 1]).err(), Some(ImageError::Damaged));
    for at in [8, 20, 41, 72, 75, 100, bytes.len() / 2, bytes.len() - 1] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert_eq!(Image::from_bytes(&flipped).err(), Some(ImageError::Damaged), "{at}");
    }
}

#[test]
fn an_image_of_another_module_is_refused() {
    let (Some(mine), Some(mut wasm)) = (program(), crate::support::wasm()) else { return };
    // A section of no meaning makes it another module.
    wasm.extend_from_slice(b"\0\x03\x01xy");
    let other = tunnel_livecode_engine::Program::new(&wasm, Limits::default()).expect("a module");
    let image = Sandbox::new(&other).expect("a sandbox").image();
    assert_eq!(Sandbox::from_image(&mine, &image).err(), Some(ImageError::OtherProgram));
}

#[test]
fn an_image_that_is_too_large_is_refused() {
    let (Some(large), Some(small)) = (program(), program_with(Limits { heap: 1 << 20, ..Limits::default() }))
    else {
        return;
    };
    let mut rig = Rig::with(&large, unlimited());
    let link = rig.open();
    rig.eval(link, "global.kept = new Uint8Array(4 << 20)");
    assert_eq!(Sandbox::from_image(&small, &rig.engine.image()).err(), Some(ImageError::TooLarge));
}

#[test]
fn random_numbers_differ_after_each_return_to_an_image() {
    let Some(mut rig) = Rig::new() else { return };
    let link = rig.open();
    rig.add(link, "random", "function () { return Math.random() + ' ' + crypto.randomUUID() }");
    rig.manage(link, "checkpoint", &json!({ "label": "a" }));
    let first = rig.invoke(link, "random", "[]");
    rig.manage(link, "restore", &json!({ "label": "a" }));
    assert_ne!(rig.invoke(link, "random", "[]"), first);
}

#[test]
fn a_link_that_closed_before_a_return_is_closed_once() {
    let Some(mut rig) = Rig::new() else { return };
    let (link, other) = (rig.open(), rig.open());
    rig.add(
        link,
        "join",
        "function () { const to = this; global.who = to; this.on('close', () => { first.send('left') }) }",
    );
    rig.add(link, "first", "function () { global.first = this }");
    rig.invoke(link, "first", "[]");
    rig.invoke(other, "join", "[]");
    rig.manage(link, "checkpoint", &json!({ "label": "a" }));
    rig.close(other);
    assert_eq!(rig.texts(link), ["left"]);
    let texts = rig.text(link, &crate::support::privileged("restore", &json!({ "label": "a" })));
    assert_eq!(texts.iter().filter(|text| *text == "left").count(), 1, "{texts:?}");
    rig.pass(Duration::from_secs(5));
    assert!(rig.texts(link).is_empty());
}

#[test]
fn sources_alone_are_added_again() {
    let Some(program) = program() else { return };
    let sources = [("a".to_owned(), "() => 'a'".to_owned()), ("b".to_owned(), "() => }".to_owned())];
    let engine = Engine::from_sources(&program, unlimited(), &sources, Instant::ORIGIN).expect("an engine");
    let mut rig = Rig::of(engine);
    let link = rig.open();
    assert_eq!(rig.invoke(link, "a", "[]"), ["server: a"]);
}

#[test]
fn the_tunnels_six_stay_in_the_sandbox_when_only_their_sources_are_left() {
    let Some(program) = program() else { return };
    let sources = [("initialize".to_owned(), "() => 'mine'".to_owned())];
    let engine = Engine::from_sources(&program, unlimited(), &sources, Instant::ORIGIN).expect("an engine");
    let mut rig = Rig::of(engine);
    rig.pump();
    let link = rig.open();
    assert_eq!(rig.invoke(link, "initialize", "[]"), ["server: mine"]);
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Close(usize),
    Join(usize),
    Stop(usize),
    Flood(usize),
    Pass,
    Tick(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Open),
        3 => any::<usize>().prop_map(Step::Close),
        6 => any::<usize>().prop_map(Step::Join),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => any::<usize>().prop_map(Step::Flood),
        2 => Just(Step::Pass),
        1 => any::<usize>().prop_map(Step::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Instructions keep a list of the links that joined and did not close. It never has one that is closed.
    #[test]
    fn instructions_know_of_open_links_only(steps in prop::collection::vec(step(), 1..24)) {
        let Some(mut rig) = Rig::new() else { return Ok(()) };
        let root = rig.open();
        rig.eval(root, "global.open = new Set()");
        rig.add(root, "join", "function () { open.add(this); this.once('close', () => open.delete(this)); return open.size }");
        rig.add(root, "stop", "function () { for (;;); }");
        rig.add(root, "flood", "function () { open.clear(); for (;;) console.log(1) }");
        rig.add(root, "tick", "function () { setTimeout(() => { global.ticked = 1 }, 5) }");
        rig.add(root, "count", "function () { return [...open].filter(it => it.readyState !== 1).length + ' of ' + open.size }");
        let mut links = Vec::new();
        for step in steps {
            let pick = |links: &Vec<_>, index: usize| (!links.is_empty()).then(|| index % links.len());
            let name = match step { Step::Join(_) => "join", Step::Stop(_) => "stop", Step::Flood(_) => "flood", _ => "tick" };
            match step {
                Step::Open => links.push(rig.open()),
                Step::Close(index) => if let Some(index) = pick(&links, index) {
                    let link = links.swap_remove(index);
                    rig.close(link);
                },
                Step::Join(index) | Step::Stop(index) | Step::Flood(index) | Step::Tick(index) => {
                    if let Some(index) = pick(&links, index) {
                        rig.text(links[index], &format!(r#"{{"instruction":"{name}"}}"#));
                    }
                }
                Step::Pass => rig.pass(Duration::from_millis(1_200)),
            }
        }
        rig.pass(Duration::from_secs(30));
        rig.texts(root);
        let told = rig.invoke(root, "count", "[]");
        let (closed, all) = told[0].strip_prefix("server: ").and_then(|text| text.split_once(" of ")).expect("counts");
        prop_assert_eq!(closed, "0");
        prop_assert!(all.parse::<usize>().expect("a number") <= links.len());
    }
}
