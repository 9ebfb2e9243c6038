//! The instructions that a configurer injects, run by a real livecoding server: the Node.js fixture.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;
use tungstenite::{Message, WebSocket};
use tunnel_protocol::livecode::{
    Answer, CallId, Instruction, Line, LivecodeClient, LivecodeEvent, Notification, Packet, Parameter,
};
use tunnel_protocol::{CloseCode, ServerId};

const CREDENTIAL: &str = "secret of the fixture";

/// The time that an answer may take before a test fails: far more than it needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A livecoding server of its own for each test.
struct Fixture {
    process: Child,
    address: String,
}

impl Fixture {
    fn start() -> Self {
        static INSTALLED: Once = Once::new();
        let tests = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests"));
        INSTALLED.call_once(|| {
            if !tests.join("node_modules/ws/package.json").exists() {
                let status = Command::new("npm")
                    .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
                    .current_dir(&tests)
                    .status()
                    .expect("npm is needed to install the fixture's WebSocket library");
                assert!(status.success(), "npm ci failed in {}", tests.display());
            }
        });
        let mut process = Command::new("node")
            .args(["livecode-fixture/server.mjs", "--port", "0", "--credential", CREDENTIAL])
            .current_dir(&tests)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is needed to run the fixture");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ws://").expect(&line).to_owned();
        Self { process, address }
    }

    /// A fixture with the six instructions in it.
    fn configured() -> Self {
        let fixture = Self::start();
        fixture.configure();
        fixture
    }

    fn configure(&self) {
        let mut configurer = self.peer();
        for instruction in Instruction::ALL {
            let answer = configurer
                .call(|it| it.add_instruction(instruction.name(), instruction.source(), CREDENTIAL));
            assert!(matches!(answer, Answer::Returned { .. }), "{instruction:?}: {answer:?}");
            if instruction == Instruction::Initialize {
                configurer.call(|it| it.invoke(instruction.name(), &[Parameter::Text(" ")]));
            }
        }
    }

    fn peer(&self) -> Peer {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://{}/", self.address), stream).unwrap();
        Peer { socket, client: LivecodeClient::new(), events: VecDeque::new() }
    }

    /// A server and a client of it that is connected on a port.
    fn pair(&self, port: u16) -> Pair {
        let mut server = self.peer();
        let (id, credential) = server.credential();
        assert!(server.call(|it| it.install_server(id, &credential)).is_one());
        let mut client = self.peer();
        assert!(client.call(|it| it.connect_to_server(id, port)).is_one());
        let event = server.event();
        let LivecodeEvent::Connected { channel, port: at, address } = event else {
            panic!("not a connection: {event:?}");
        };
        assert_eq!((at, address.as_str()), (port, "127.0.0.1"));
        Pair { server, client, id, credential, channel }
    }

    fn has_exited(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // It may have exited by itself, as some tests want.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

struct Pair {
    server: Peer,
    client: Peer,
    id: u32,
    credential: String,
    channel: u32,
}

/// One WebSocket to the fixture.
struct Peer {
    socket: WebSocket<TcpStream>,
    client: LivecodeClient,
    events: VecDeque<LivecodeEvent>,
}

impl Peer {
    /// Gives a command and waits for its answer.
    fn call(&mut self, command: impl FnOnce(&mut LivecodeClient) -> CallId) -> Answer {
        let expected = command(&mut self.client);
        while let Some(text) = self.client.poll_transmit() {
            self.socket.send(text.into()).unwrap();
        }
        loop {
            self.receive();
            while let Some(event) = self.client.poll_event() {
                match event {
                    LivecodeEvent::Answered { call, answer } if call == expected => return answer,
                    event => self.events.push_back(event),
                }
            }
        }
    }

    /// Waits for what comes unasked.
    fn event(&mut self) -> LivecodeEvent {
        loop {
            self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
            match self.events.pop_front() {
                Some(event) => return event,
                None => self.receive(),
            }
        }
    }

    fn data(&mut self) -> (u32, String) {
        match self.event() {
            LivecodeEvent::Data { from: ServerId::Number(from), data } => (from, data),
            event => panic!("not data: {event:?}"),
        }
    }

    fn receive(&mut self) {
        if let Message::Text(text) = self.socket.read().unwrap() {
            self.client.handle_text(&text).unwrap();
        }
    }

    fn credential(&mut self) -> (u32, String) {
        let Answer::Returned { sent, .. } = self.call(LivecodeClient::create_server_credential) else {
            panic!("no credential");
        };
        let (id, credential) = Line::parse_server_credential(&sent[0]).unwrap();
        (id, credential.to_owned())
    }

    /// Closes the WebSocket and waits until the relay has closed it too.
    fn leave(mut self) {
        self.socket.close(None).unwrap();
        while self.socket.read().is_ok() {}
    }
}

#[test]
fn a_server_and_a_client_talk_through_the_injected_instructions() {
    let fixture = Fixture::configured();
    let Pair { mut server, mut client, id, channel, .. } = fixture.pair(1337);

    assert!(client.call(|it| it.forward_to_server(id, "from the client: \"ü\" \n")).is_one());
    assert_eq!(server.data(), (channel, "from the client: \"ü\" \n".to_owned()));
    assert!(server.call(|it| it.forward_to_client(channel, "")).is_one());
    assert_eq!(client.data(), (id, String::new()));
    let long = "0123456789".repeat(100_000);
    assert!(server.call(|it| it.forward_to_client(channel, &long)).is_one());
    assert_eq!(client.data(), (id, long));
}

#[test]
fn credentials_are_long_and_never_the_same() {
    let fixture = Fixture::configured();
    let mut peer = fixture.peer();
    let (first, second) = (peer.credential(), peer.credential());

    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1);
    for (_, credential) in [&first, &second] {
        assert_eq!(credential.len(), 64, "{credential}");
        assert!(credential.bytes().all(|digit| digit.is_ascii_hexdigit()), "{credential}");
    }
    assert!(!peer.call(|it| it.install_server(first.0, &second.1)).is_one(), "of another server");
    assert!(!peer.call(|it| it.install_server(99, &first.1)).is_one(), "of no server");
    assert!(!peer.call(|it| it.connect_to_server(first.0, 80)).is_one(), "nobody is installed");
    assert!(peer.call(|it| it.install_server(first.0, &first.1)).is_one());
}

#[test]
fn a_client_that_leaves_frees_its_channel() {
    let fixture = Fixture::configured();
    let Pair { mut server, client, channel, id, .. } = fixture.pair(80);

    client.leave();

    assert!(!server.call(|it| it.forward_to_client(channel, "are you there?")).is_one());
    let mut next = fixture.peer();
    assert!(next.call(|it| it.connect_to_server(id, 80)).is_one());
    let LivecodeEvent::Connected { channel: another, .. } = server.event() else {
        panic!("not a connection");
    };
    assert_ne!(another, channel, "channels are never reused");
}

#[test]
fn a_server_that_leaves_frees_its_slot_and_may_take_it_again() {
    let fixture = Fixture::configured();
    let Pair { server, mut client, id, credential, .. } = fixture.pair(80);

    server.leave();

    assert!(!client.call(|it| it.forward_to_server(id, "are you there?")).is_one());
    assert!(!client.call(|it| it.connect_to_server(id, 80)).is_one());
    let mut again = fixture.peer();
    assert!(!again.call(|it| it.install_server(id, "guess")).is_one());
    assert!(again.call(|it| it.install_server(id, &credential)).is_one());
    assert!(!client.call(|it| it.forward_to_server(id, "the old channel")).is_one());
    assert!(client.call(|it| it.connect_to_server(id, 80)).is_one());
    assert!(matches!(again.event(), LivecodeEvent::Connected { port: 80, .. }));
}

#[test]
fn peers_of_a_session_are_told_that_the_other_side_is_gone() {
    let fixture = Fixture::configured();
    let gone = Packet::End { code: CloseCode::PEER_GONE, reason: String::new() }.encode();
    let who = Packet::Who.encode();

    let Pair { mut server, mut client, id, channel, .. } = fixture.pair(80);
    assert!(client.call(|it| it.forward_to_server(id, &who)).is_one());
    assert_eq!(server.data(), (channel, who.clone()));
    client.leave();
    assert_eq!(server.data(), (channel, gone.clone()));

    let Pair { server, mut client, id, .. } = fixture.pair(80);
    assert!(client.call(|it| it.forward_to_server(id, &who)).is_one());
    server.leave();
    assert_eq!(client.data(), (id, gone));
}

#[test]
fn a_channel_belongs_to_its_two_peers() {
    let fixture = Fixture::configured();
    let Pair { mut server, mut client, id, channel, .. } = fixture.pair(80);
    let mut stranger = fixture.peer();

    assert!(!stranger.call(|it| it.forward_to_client(channel, "injected")).is_one());
    assert!(!stranger.call(|it| it.forward_to_server(id, "injected")).is_one());
    assert!(!client.call(|it| it.forward_to_client(channel, "injected")).is_one());
    assert!(!client.call(|it| it.forward_to_server(id + 1, "elsewhere")).is_one());

    assert!(client.call(|it| it.forward_to_server(id, "mine")).is_one());
    assert_eq!(server.data(), (channel, "mine".to_owned()), "and nothing before it");
}

#[test]
fn the_newest_holder_of_the_credential_is_the_server() {
    let fixture = Fixture::configured();
    let Pair { server: mut old, mut client, id, credential, channel } = fixture.pair(80);
    let mut new = fixture.peer();

    assert!(new.call(|it| it.install_server(id, &credential)).is_one());

    assert!(!old.call(|it| it.forward_to_client(channel, "x")).is_one());
    assert!(
        !client.call(|it| it.forward_to_server(id, "x")).is_one(),
        "the new one does not know the channel"
    );
    assert!(client.call(|it| it.connect_to_server(id, 81)).is_one());
    assert!(matches!(new.event(), LivecodeEvent::Connected { port: 81, .. }));
}

#[test]
fn a_second_configurer_disturbs_nobody() {
    let fixture = Fixture::configured();
    let Pair { mut server, mut client, id, channel, .. } = fixture.pair(80);

    fixture.configure();
    let mut configurer = fixture.peer();
    configurer.call(|it| it.invoke("initialize", &[Parameter::Text("||")]));

    assert!(client.call(|it| it.forward_to_server(id, "still here")).is_one());
    assert_eq!(server.data(), (channel, "still here".to_owned()));
    let other = fixture.pair(81);
    assert_ne!(other.id, id);
}

#[test]
fn careless_parameters_are_answered_with_0_and_end_nothing() {
    let mut fixture = Fixture::configured();
    let mut peer = fixture.peer();
    let odd = ["null", "{\"toString\":1}", "[]", "true", "-1", "1e99", "\"__proto__\"", "\"\""];
    for instruction in &Instruction::ALL[2..] {
        let answer = peer.call(|it| it.invoke(instruction.name(), &[]));
        assert!(!answer.is_one(), "{instruction:?}: {answer:?}");
        for json in odd {
            let parameters = [Parameter::Json(json), Parameter::Json(json), Parameter::Json(json)];
            let answer = peer.call(|it| it.invoke(instruction.name(), &parameters));
            let Answer::Returned { sent, .. } = answer else {
                panic!("{instruction:?}: {answer:?}");
            };
            assert_eq!(sent, ["0"], "{instruction:?}: {json}");
        }
    }
    let (id, credential) = peer.credential();
    assert!(peer.call(|it| it.install_server(id, &credential)).is_one());
    for port in ["65536", "-1", "1.5", "\"01\"", "\"80 \"", "null"] {
        let parameters = [Parameter::Number(id), Parameter::Json(port)];
        assert!(!peer.call(|it| it.invoke("connect to server", &parameters)).is_one(), "{port}");
    }
    assert!(!fixture.has_exited());
}

#[test]
fn what_kills_the_original_does_not_kill_it_once_configured() {
    let mut fixture = Fixture::configured();
    let Pair { mut server, mut client, channel, id, .. } = fixture.pair(80);

    // An error within a socket: a frame that no client may send.
    let mut broken = fixture.peer();
    std::io::Write::write_all(broken.socket.get_mut(), &[0xff; 16]).unwrap();
    while broken.socket.read().is_ok() {}
    // A reset: a connection dropped with data unread.
    client.socket.send("null".into()).unwrap();
    client.socket.send("{\"instruction\":\"initialize\",\"parameters\":7}".into()).unwrap();
    assert!(server.call(|it| it.forward_to_client(channel, "never read")).is_one());
    drop(client);

    let mut next = fixture.peer();
    next.socket.send("null".into()).unwrap();
    assert!(next.call(|it| it.connect_to_server(id, 80)).is_one());
    while server.call(|it| it.forward_to_client(channel, "x")).is_one() {}
    assert!(!fixture.has_exited());
}

#[test]
fn privileged_commands_take_the_credential() {
    let fixture = Fixture::start();
    let mut peer = fixture.peer();

    assert_eq!(peer.call(|it| it.add_instruction("x", "() => 1", "guess")), Answer::Rejected);
    assert_eq!(peer.call(|it| it.eval("1", "guess")), Answer::Rejected);
    assert_eq!(peer.call(|it| it.modules("guess")), Answer::Rejected);
    assert_eq!(peer.call(|it| it.invoke("x", &[])), Answer::Rejected);

    let sent = |answer| match answer {
        Answer::Returned { sent, .. } => sent,
        answer => panic!("{answer:?}"),
    };
    assert_eq!(sent(peer.call(|it| it.eval("ws.send('a'); ws.send('b')", CREDENTIAL))), ["a", "b"]);
    let modules = sent(peer.call(|it| it.modules(CREDENTIAL)));
    assert!(modules[0].starts_with('['), "{modules:?}");
    peer.call(|it| it.require("ws", "ws.send('required')", CREDENTIAL));
    assert_eq!(peer.event(), LivecodeEvent::Text("required".to_owned()));
    peer.call(|it| it.add_instruction("x", "function (a) { this.send(a); return a + 1 }", CREDENTIAL));
    assert_eq!(
        peer.call(|it| it.invoke("x", &[Parameter::Text("1")])),
        Answer::Returned { sent: vec!["1".to_owned()], returned: "11".to_owned() }
    );
}

#[test]
fn the_fixture_is_as_careless_as_the_original() {
    let mut fixture = Fixture::start();

    // It accepts any subprotocol, and answers a binary HELLO with the words that give the dialect away.
    let stream = TcpStream::connect(&fixture.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let uri = format!("ws://{}/", fixture.address).parse().unwrap();
    let request = tungstenite::ClientRequestBuilder::new(uri).with_sub_protocol("tunnel.v1");
    let (mut socket, response) = tungstenite::client(request, stream).unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "tunnel.v1");
    socket.send(Message::binary(vec![1, 0, 0, 0, 0, 1])).unwrap();
    let answer = socket.read().unwrap();
    let answer = answer.to_text().unwrap();
    assert!(matches!(Line::parse(answer), Some(Line::Malformed(_))), "{answer}");
    assert!(!Notification::is_one(answer));

    // It does not survive `null`.
    socket.send("null".into()).unwrap();
    while socket.read().is_ok() {}
    fixture.process.wait().unwrap();
    assert!(fixture.has_exited());
}
