//! A router and an engine together, without sockets: time stands still until a command is waited for.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

pub mod tab;

use bytes::BytesMut;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tunnel_livecode_engine::{Engine, Limits, Next, Program, SERVICE_URL, Settings, Wire};
use tunnel_protocol::identity::StaticKey;
use tunnel_protocol::router::{Config, Dialect, Event, LinkId, LivecodeConfig, Peer, Router, Said, Transmit};
use tunnel_protocol::{CloseCode, Instant, ServerId, registration};

pub const CREDENTIAL: &str = "CREDENTIAL";

/// The URL under which peers reach the relay.
pub const URL: &str = "ws://relay.example/room";

/// The module, or `None`, with a word about it, where it is not built.
pub fn program() -> Option<Arc<Program>> {
    static PROGRAM: OnceLock<Option<Arc<Program>>> = OnceLock::new();
    PROGRAM.get_or_init(|| program_with(Limits::default())).clone()
}

pub fn program_with(limits: Limits) -> Option<Arc<Program>> {
    let wasm = wasm()?;
    Some(Program::new(&wasm, limits).expect("the module is one for the engine"))
}

pub fn wasm() -> Option<Vec<u8>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/livecode/guest.wasm");
    let named = std::env::var_os("TUNNEL_LIVECODE_GUEST").map(PathBuf::from);
    match std::fs::read(named.as_ref().unwrap_or(&default)) {
        Ok(wasm) => Some(wasm),
        Err(error) => {
            assert!(named.is_none(), "TUNNEL_LIVECODE_GUEST: {error}");
            eprintln!("skipped: the livecoding engine is not built; run `cargo xtask livecode`");
            None
        }
    }
}

/// A file of the recordings, which are not a part of this repository.
pub fn material(name: &str) -> Option<serde_json::Value> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spikes/livecode");
    let folder = std::env::var_os("TUNNEL_LIVECODE_MATERIAL").map_or(default, PathBuf::from);
    match std::fs::read_to_string(folder.join(name)) {
        Ok(text) => Some(serde_json::from_str(&text).expect("JSON")),
        Err(_) => {
            eprintln!("skipped: there is no {name} in {} (TUNNEL_LIVECODE_MATERIAL)", folder.display());
            None
        }
    }
}

pub struct Rig {
    pub router: Router,
    pub engine: Engine,
    pub now: Instant,
    /// Closes that the router asked for.
    pub closed: Vec<(LinkId, CloseCode, String)>,
    /// The link of the engine's own server.
    pub wire: Option<LinkId>,
    /// The number of tabs that there were, and of all links.
    pub tabs: u8,
    links: u64,
}

/// Without limits by shares: the tests about turns have their own.
pub fn unlimited() -> Settings {
    Settings { share: 1.0, ..Settings::default() }
}

impl Rig {
    pub fn new() -> Option<Self> {
        Some(Self::with(&program()?, unlimited()))
    }

    pub fn with(program: &Arc<Program>, settings: Settings) -> Self {
        let engine = Engine::new(program, settings, Instant::ORIGIN).expect("an engine");
        Self::of(engine)
    }

    pub fn of(engine: Engine) -> Self {
        let livecode = Some(LivecodeConfig::new(CREDENTIAL, [7; 32]));
        let config = Config { livecode, livecode_programs: true, ..Config::default() };
        Self {
            router: Router::new(config),
            engine,
            now: Instant::ORIGIN,
            closed: Vec::new(),
            wire: None,
            tabs: 0,
            links: 0,
        }
    }

    pub fn open(&mut self) -> LinkId {
        self.open_from("192.0.2.7")
    }

    pub fn open_from(&mut self, address: &str) -> LinkId {
        let peer = Peer {
            dialect: Dialect::Livecode,
            address: address.to_owned(),
            url: URL.to_owned(),
            challenge: self.challenge(),
        };
        self.router.open_link(Arc::new(peer), self.now)
    }

    /// A key of a link alone.
    fn challenge(&mut self) -> StaticKey {
        self.links += 1;
        let mut secret = [3; 32];
        secret[..8].copy_from_slice(&self.links.to_be_bytes());
        StaticKey::from_secret(secret)
    }

    pub fn open_tunnel(&mut self, url: &str, address: &str) -> LinkId {
        let peer = Peer {
            dialect: Dialect::Tunnel,
            address: address.to_owned(),
            url: url.to_owned(),
            challenge: self.challenge(),
        };
        self.router.open_link(Arc::new(peer), self.now)
    }

    pub fn close(&mut self, link: LinkId) {
        self.router.handle_link_closed(link, self.now);
        self.pump();
    }

    /// Sends a text, waits until it is answered, and returns what the peer was sent.
    pub fn text(&mut self, link: LinkId, text: &str) -> Vec<String> {
        self.send(link, text);
        self.answered(link);
        self.texts(link)
    }

    pub fn send(&mut self, link: LinkId, text: &str) {
        self.router.handle_text(link, text, self.now);
        self.pump();
    }

    /// Lets time pass until the link's command is answered.
    pub fn answered(&mut self, link: LinkId) {
        while self.router.is_busy(link) {
            match self.step() {
                Next::Now => {}
                Next::At(at) => self.now = self.now.max(at),
                Next::Idle => panic!("a command is left, and nothing to do"),
            }
        }
    }

    /// Runs what is due now.
    pub fn pump(&mut self) {
        while self.step() == Next::Now {}
    }

    /// Lets time pass, with what is due meanwhile.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            match self.step() {
                Next::Now => {}
                Next::At(at) if at <= end => self.now = self.now.max(at),
                Next::At(_) | Next::Idle => break,
            }
        }
        self.now = end;
        self.pump();
    }

    /// Has the engine do one thing.
    pub fn step(&mut self) -> Next {
        self.events();
        let next = self.engine.work(self.now);
        while let Some(said) = self.engine.poll_said() {
            self.said(said);
        }
        let has_moved = self.wires();
        self.events();
        if has_moved { Next::Now } else { next }
    }

    /// Carries messages between the router and the engine's own server; whether there were some.
    fn wires(&mut self) -> bool {
        let mut has_moved = false;
        while let Some(wire) = self.engine.poll_wire(self.now) {
            has_moved = true;
            match wire {
                Wire::Dial => {
                    self.wire = Some(self.open_tunnel(SERVICE_URL, "livecode"));
                    self.engine.wire_opened(self.now);
                }
                Wire::Send(message) => {
                    if let Some(link) = self.wire {
                        self.router.handle_message(link, BytesMut::from(&message[..]), self.now);
                    }
                }
                Wire::HangUp => {
                    if let Some(link) = self.wire.take() {
                        self.router.handle_link_closed(link, self.now);
                    }
                }
            }
        }
        while let Some(Transmit::Binary(message)) = self.wire.and_then(|link| self.router.poll_transmit(link))
        {
            has_moved = true;
            self.engine.wire_message(message, self.now);
        }
        has_moved
    }

    fn said(&mut self, said: Said) {
        self.router.handle_said(said);
    }

    fn events(&mut self) {
        while let Some(event) = self.router.poll_event() {
            match event {
                Event::Instruct(instruct) => self.engine.instruct(*instruct, self.now),
                Event::Left(link) => self.engine.link_left(link),
                Event::Close { link, code, reason } => self.closed.push((link, code, reason)),
                _ => {}
            }
        }
    }

    /// The texts that are queued for a peer.
    pub fn texts(&mut self, link: LinkId) -> Vec<String> {
        let text = |transmit| match transmit {
            Transmit::Text(text) => text,
            Transmit::Binary(frame) => panic!("a frame for a livecode link: {frame:?}"),
        };
        std::iter::from_fn(|| self.router.poll_transmit(link)).map(text).collect()
    }

    /// Has a peer prove that it holds a server's key; the server's ID.
    pub fn prove(&mut self, link: LinkId, secret: u8) -> String {
        let texts = self.text(link, r#"{"instruction":"prove"}"#);
        let challenge = texts[1].strip_prefix("server: challenge ").expect("a challenge");
        let challenge = challenge.parse::<ServerId>().expect("a key");
        let key = StaticKey::from_secret([secret; 32]);
        let proof = registration::prove(&key, challenge.key().expect("a key"), URL).expect("a proof");
        let proof: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        let server = ServerId::Key(key.public()).to_string();
        let parameters = serde_json::json!({ "server": server, "proof": proof });
        let command = serde_json::json!({ "instruction": "prove", "parameters": parameters });
        assert_eq!(self.text(link, &command.to_string()).pop(), Some(format!("server: proven {server}")));
        server
    }

    pub fn add(&mut self, link: LinkId, name: &str, body: &str) -> Vec<String> {
        self.text(
            link,
            &privileged("add instruction", &serde_json::json!({ "instructionToAdd": name, "body": body })),
        )
    }

    pub fn eval(&mut self, link: LinkId, body: &str) -> Vec<String> {
        self.text(link, &privileged("eval", &serde_json::json!({ "body": body })))
    }

    pub fn manage(&mut self, link: LinkId, name: &str, parameters: &serde_json::Value) -> serde_json::Value {
        let texts = self.text(link, &privileged(name, parameters));
        let line = texts.last().and_then(|text| text.strip_prefix("server: ")).unwrap_or_default().to_owned();
        serde_json::from_str(&line).unwrap_or(serde_json::Value::String(line))
    }

    /// The answer to an instruction's call, without the first two lines.
    pub fn invoke(&mut self, link: LinkId, name: &str, parameters: &str) -> Vec<String> {
        let name_json = serde_json::Value::from(name);
        let texts = self.text(link, &format!(r#"{{"instruction":{name_json},"parameters":{parameters}}}"#));
        assert_eq!(
            texts[..2],
            [
                format!("server: received command '{name}'"),
                format!("server: evaluating added instruction '{name}'")
            ],
            "{texts:?}"
        );
        texts[2..].to_vec()
    }
}

pub fn privileged(name: &str, parameters: &serde_json::Value) -> String {
    serde_json::json!({ "instruction": name, "parameters": parameters, "credential": CREDENTIAL }).to_string()
}
