//! Measures a sandbox: `cargo run --release -p tunnel-livecode-engine --example measure -- target/livecode/guest.wasm`.

use serde_json::json;
use std::time::{Duration, Instant};
use tunnel_livecode_engine::{Image, Limits, Op, Program, Sandbox};

/// The median of some runs.
fn median(runs: usize, mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "target/livecode/guest.wasm".to_owned());
    let wasm = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let start = Instant::now();
    let program = Program::new(&wasm, Limits::default()).expect("the module is one for the engine");
    println!("module, once a process: {:?}", start.elapsed());
    println!("new sandbox: {:?}", median(101, || drop(Sandbox::new(&program))));
    let mut sandbox = Sandbox::new(&program).expect("a sandbox");
    println!("memory: {} KiB, heap {} KiB", sandbox.size() >> 10, sandbox.heap() >> 10);
    let about = json!({ "address": "192.0.2.1", "url": "/", "headers": {} });
    for (name, body) in [
        ("echo", "function (text) { this.send(text); return 1 }"),
        ("loop", "function () { for (let i = 0; i < 10000; i++); }"),
    ] {
        let parameters = json!({ "instructionToAdd": name, "body": body });
        println!(
            "add: {:?}",
            median(1, || drop(sandbox.call(Op::Add, 0, &json!({ "parameters": parameters }).to_string())))
        );
    }
    for (what, name, parameter) in [
        ("echo of 64 B", "echo", "x".repeat(64)),
        ("echo of 64 KiB", "echo", "x".repeat(1 << 16)),
        ("10,000 turns of a loop", "loop", String::new()),
    ] {
        let text =
            json!({ "name": name, "about": about, "parameters": [parameter], "answer": null }).to_string();
        println!("{what}: {:?}", median(101, || drop(sandbox.call(Op::Run, 1, &text))));
    }
    let image = sandbox.image();
    println!("checkpoint: {:?}", median(101, || drop(sandbox.image())));
    println!("back to it: {:?}", median(101, || sandbox.bring_back(&image).expect("its own image")));
    let bytes = image.to_bytes();
    println!(
        "image: {} KiB, read and checked in {:?}",
        bytes.len() >> 10,
        median(11, || drop(Image::from_bytes(&bytes)))
    );
}
