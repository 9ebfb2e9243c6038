//! Measures sandboxes: `cargo run --release -p tunnel-livecode-engine --example measure -- target/livecode/guest.wasm`.

use serde_json::json;
use std::sync::Arc;
use std::time::Instant as Clock;
use tunnel_livecode_engine::{Engine, Image, Limits, Op, Program, Sandbox, Settings};
use tunnel_protocol::Instant;
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::{Config, Dialect, Event, LinkId, LivecodeConfig, Peer, Router, Transmit};

/// Namespaces whose memory is measured together.
const NAMESPACES: usize = 32;

const CREDENTIAL: &str = "the credential of the measurement";

/// The median and the 95th percentile of some runs.
fn times(runs: usize, mut run: impl FnMut()) -> String {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Clock::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    format!("{:.1?} (p95 {:.1?})", times[runs / 2], times[runs * 95 / 100])
}

/// Memory of the process's own, in bytes; 0 where the system does not tell.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or_default() << 10
}

/// A router and an engine, as a relay has them, and one peer of theirs.
struct Rig {
    router: Router,
    engine: Engine,
    start: Clock,
    peer: LinkId,
}

impl Rig {
    fn new(program: &Arc<Program>) -> Self {
        let livecode = Some(LivecodeConfig::new(CREDENTIAL, [7; 32]));
        let mut router = Router::new(Config { livecode, livecode_programs: true, ..Config::default() });
        let settings = Settings { share: 1.0, ..Settings::default() };
        let engine = Engine::new(program, settings, Instant::ORIGIN).expect("an engine");
        let peer = Peer {
            dialect: Dialect::Livecode,
            address: "192.0.2.1".to_owned(),
            url: "ws://relay.example/".to_owned(),
            challenge: StaticKey::from_secret([3; 32]),
        };
        let peer = router.open_link(peer, Instant::ORIGIN);
        Self { router, engine, start: Clock::now(), peer }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Has a command carried out; the texts that the peer gets.
    fn say(&mut self, command: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let now = self.now();
        self.router.handle_text(self.peer, command, now);
        loop {
            while let Some(event) = self.router.poll_event() {
                if let Event::Instruct(instruct) = event {
                    let now = self.now();
                    self.engine.instruct(*instruct, now);
                }
            }
            while let Some(Transmit::Text(text)) = self.router.poll_transmit(self.peer) {
                texts.push(text);
            }
            if !self.router.is_busy(self.peer) {
                return texts;
            }
            let now = self.now();
            self.engine.work(now);
            while let Some(said) = self.engine.poll_said() {
                self.router.handle_said(said);
            }
        }
    }

    fn add(&mut self, name: &str, body: &str) {
        let parameters = json!({ "instructionToAdd": name, "body": body });
        let command =
            json!({ "instruction": "add instruction", "parameters": parameters, "credential": CREDENTIAL });
        let told = self.say(&command.to_string());
        assert_eq!(told.last(), Some(&format!("server: adding instruction '{name}'")), "{told:?}");
    }

    fn invoke(&mut self, name: &str, parameters: &serde_json::Value) -> Vec<String> {
        self.say(&json!({ "instruction": name, "parameters": parameters }).to_string())
    }

    /// The times of a text of 64 B from the peer to itself: it is a server, and its own client.
    fn forward(&mut self) -> String {
        self.invoke("initialize", &json!([" "]));
        let told = self.invoke("create server credential", &json!([]));
        let (id, credential) = told[2].split_once(' ').expect("an ID and its credential");
        let id = id.parse::<u32>().expect("a number");
        self.invoke("install server", &json!([id, credential]));
        self.invoke("connect to server", &json!([id, 80]));
        let command =
            json!({ "instruction": "forward to server", "parameters": [id, "x".repeat(64)] }).to_string();
        let first = self.say(&command);
        let has_arrived = |text: &String| text.starts_with("from:data:") && text.ends_with(&"x".repeat(64));
        assert!(first.iter().any(has_arrived), "{first:?}");
        times(1001, || drop(self.say(&command)))
    }
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "target/livecode/guest.wasm".to_owned());
    let wasm = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let start = Clock::now();
    let program = Program::new(&wasm, Limits::default()).expect("the module is one for the engine");
    println!("module of {} KiB, once a process: {:.1?}", wasm.len() >> 10, start.elapsed());
    println!("new sandbox: {}", times(101, || drop(Sandbox::new(&program))));

    let mut sandbox = Sandbox::new(&program).expect("a sandbox");
    println!("its memory: {} KiB, of which the heap {} KiB", sandbox.size() >> 10, sandbox.heap() >> 10);
    let before = memory();
    let settings = || Settings { share: 1.0, ..Settings::default() };
    let engines: Vec<_> = (0..NAMESPACES)
        .map(|_| Engine::new(&program, settings(), Instant::ORIGIN).expect("an engine"))
        .collect();
    println!("a namespace, of {NAMESPACES}: {} KiB", (memory().saturating_sub(before) / NAMESPACES) >> 10);
    drop(engines);

    let about = json!({ "address": "192.0.2.1", "url": "/", "headers": {} });
    for (name, body) in [
        ("echo", "function (text) { this.send(text); return 1 }"),
        ("nothing", "function () {}"),
        ("loop", "function () { for (let i = 0; i < 10000; i++); }"),
    ] {
        let parameters = json!({ "instructionToAdd": name, "body": body });
        sandbox.call(Op::Add, 0, json!({ "parameters": parameters }).to_string());
    }
    for (what, name, parameter) in [
        ("a call that does nothing", "nothing", String::new()),
        ("echo of 64 B", "echo", "x".repeat(64)),
        ("echo of 64 KiB", "echo", "x".repeat(1 << 16)),
        ("10,000 turns of a loop", "loop", String::new()),
    ] {
        let text =
            json!({ "name": name, "about": about, "parameters": [parameter], "answer": null }).to_string();
        println!("{what}: {}", times(1001, || drop(sandbox.call(Op::Run, 1, &text))));
    }

    println!("with the router, command to answer:");
    let mut rig = Rig::new(&program);
    rig.add("echo", "function (text) { this.send(text); return 1 }");
    let echo = json!({ "instruction": "echo", "parameters": ["x".repeat(64)] }).to_string();
    println!("  echo of 64 B: {}", times(1001, || drop(rig.say(&echo))));
    println!("  'forward to server' of 64 B, built in: {}", Rig::new(&program).forward());
    let mut rig = Rig::new(&program);
    for instruction in Instruction::ALL {
        rig.add(instruction.name(), &format!("{}\n// injected", instruction.source().trim_end()));
    }
    println!("  'forward to server' of 64 B, injected: {}", rig.forward());

    let image = sandbox.image();
    println!("checkpoint: {}", times(101, || drop(sandbox.image())));
    println!("back to it: {}", times(101, || sandbox.bring_back(&image).expect("its own image")));
    let bytes = image.to_bytes();
    println!(
        "image: {} KiB, read and checked in {}; a sandbox of it in {}",
        bytes.len() >> 10,
        times(101, || drop(Image::from_bytes(&bytes))),
        times(101, || drop(Sandbox::from_image(&program, &image)))
    );
}
