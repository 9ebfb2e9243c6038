//! Injected instructions, with an engine that is a script.

use super::*;
use crate::livecode::Instruction;
use sha2::{Digest, Sha256};

const CREDENTIAL: &str = "configurer";

/// A router with an engine that answers when it is told to.
struct Scripted {
    net: Net,
    instructs: Vec<Instruct>,
    answered: Vec<LinkId>,
    left: Vec<LinkId>,
    closed: Vec<(LinkId, CloseCode)>,
}

impl Scripted {
    fn new() -> Self {
        let livecode = Some(LivecodeConfig::new(CREDENTIAL, [0x5e; 32]));
        let net = Net::new(Config { livecode, livecode_programs: true, ..config() });
        Self { net, instructs: Vec::new(), answered: Vec::new(), left: Vec::new(), closed: Vec::new() }
    }

    fn open(&mut self) -> LinkId {
        self.net.open(Dialect::Livecode)
    }

    fn send(&mut self, link: LinkId, text: &str) {
        self.net.router.handle_text(link, text, self.net.now);
        self.events();
    }

    fn add(&mut self, link: LinkId, name: &str, body: &str) {
        let (name, body) = (serde_json::json!(name), serde_json::json!(body));
        self.send(link, &format!(
            r#"{{"instruction":"add instruction","parameters":{{"instructionToAdd":{name},"body":{body}}},"credential":"{CREDENTIAL}"}}"#
        ));
    }

    fn say(&mut self, said: Said) {
        self.net.router.handle_said(said);
        self.events();
    }

    fn done(&mut self, link: LinkId) {
        self.say(Said::Done { link });
    }

    fn events(&mut self) {
        while let Some(event) = self.net.router.poll_event() {
            match event {
                Event::Instruct(instruct) => self.instructs.push(*instruct),
                Event::Answered(link) => self.answered.push(link),
                Event::Left(link) => self.left.push(link),
                Event::Close { link, code, .. } => self.closed.push((link, code)),
                _ => {}
            }
        }
    }

    fn texts(&mut self, link: LinkId) -> Vec<String> {
        let text = |transmit| match transmit {
            Transmit::Text(text) => text,
            Transmit::Binary(frame) => panic!("a frame for a livecode link: {frame:?}"),
        };
        std::iter::from_fn(|| self.net.router.poll_transmit(link)).map(text).collect()
    }
}

#[test]
fn a_command_that_is_not_the_routers_goes_to_the_engine_and_its_answer_to_the_peer() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    let text = r#"{"instruction":"say","parameters":["x"]}"#;
    scripted.send(link, text);
    assert_eq!(scripted.texts(link), ["server: received command 'say'"]);
    let instruct = scripted.instructs.pop().expect("a command");
    assert_eq!((instruct.link, instruct.kind, instruct.text.as_str()), (link, InstructKind::Run, text));
    assert!(scripted.net.router.is_busy(link));
    scripted.say(Said::Text { link, text: "hello".to_owned() });
    scripted.done(link);
    assert_eq!(scripted.texts(link), ["hello"]);
    assert_eq!(scripted.answered, [link]);
    assert!(!scripted.net.router.is_busy(link));
}

#[test]
fn others_are_answered_while_a_command_is_with_the_engine() {
    let mut scripted = Scripted::new();
    let (slow, other) = (scripted.open(), scripted.open());
    scripted.send(slow, r#"{"instruction":"slow"}"#);
    scripted.send(other, r#"{"instruction":"quick"}"#);
    scripted.done(other);
    scripted.send(other, r#"{"instruction":"initialize"}"#);
    assert_eq!(
        scripted.texts(other),
        [
            "server: received command 'quick'",
            "server: received command 'initialize'",
            "server: evaluating added instruction 'initialize'",
            "server: initialized"
        ]
    );
    assert!(scripted.net.router.is_busy(slow));
}

#[test]
fn a_command_before_the_last_one_is_answered_ends_the_link() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    scripted.send(link, r#"{"instruction":"slow"}"#);
    scripted.send(link, r#"{"instruction":"slow"}"#);
    assert_eq!(scripted.closed, [(link, CloseCode::POLICY)]);
}

#[test]
fn the_engine_is_told_once_when_a_link_leaves_during_its_call() {
    let mut scripted = Scripted::new();
    let (link, quiet) = (scripted.open(), scripted.open());
    scripted.send(link, r#"{"instruction":"slow"}"#);
    scripted.net.hang_up(link);
    scripted.net.hang_up(quiet);
    scripted.events();
    assert_eq!(scripted.left, [link]);
    for said in [
        Said::Text { link, text: "late".to_owned() },
        Said::Close { link, code: CloseCode::NORMAL, reason: String::new() },
        Said::Done { link },
    ] {
        scripted.say(said);
    }
    assert!(scripted.answered.is_empty() && scripted.closed.is_empty());
    scripted.net.assert_empty();
}

#[test]
fn commands_that_wait_for_the_engine_are_bounded_in_all() {
    let mut scripted = Scripted::new();
    let text = format!(r#"{{"instruction":"say","parameters":["{}"]}}"#, "x".repeat(1 << 19));
    let links: Vec<_> = (0..40).map(|_| scripted.open()).collect();
    links.iter().for_each(|link| scripted.send(*link, &text));
    assert_eq!(scripted.instructs.len(), 31);
    assert!(scripted.texts(links[31])[1].starts_with("server: Error: too many commands"));
    scripted.done(links[0]);
    scripted.net.hang_up(links[1]);
    for link in &links[31..34] {
        scripted.send(*link, &text);
    }
    assert_eq!(scripted.instructs.len(), 33);
}

#[test]
fn the_tunnels_instructions_are_answered_by_number_too() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    scripted.send(link, r#"{"instruction":"initialize","answer":9}"#);
    let texts = scripted.texts(link);
    let last = r#"server: answered 9 {"returned":"initialized","printed":"initialized","ms":0}"#;
    assert_eq!(texts.last().map(String::as_str), Some(last));
}

#[test]
fn an_instruction_closes_a_link_after_what_it_sent() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    scripted.send(link, r#"{"instruction":"bye"}"#);
    scripted.texts(link);
    scripted.say(Said::Text { link, text: "bye".to_owned() });
    // 1006 is for what was never said.
    scripted.say(Said::Close { link, code: CloseCode(1006), reason: "é".repeat(100) });
    assert_eq!(scripted.texts(link), ["bye"]);
    assert_eq!(scripted.closed, [(link, CloseCode::NORMAL)]);
}

#[test]
fn the_tunnels_own_sources_stay_built_in_until_another_is_injected() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    for instruction in Instruction::ALL {
        scripted.add(link, instruction.name(), instruction.source());
        assert_eq!(scripted.texts(link)[1], format!("server: adding instruction '{}'", instruction.name()));
    }
    assert!(scripted.instructs.is_empty());

    scripted.add(link, "initialize", "function () { return 'mine' }");
    assert_eq!(
        scripted.instructs.pop().map(|it| it.kind),
        Some(InstructKind::Add { name: "initialize".to_owned() })
    );
    scripted.say(Said::Tunnel { namespace: String::new(), is_injected: true });
    scripted.done(link);
    for instruction in Instruction::ALL {
        scripted.send(link, &format!(r#"{{"instruction":"{}"}}"#, instruction.name()));
        assert_eq!(scripted.instructs.pop().map(|it| it.kind), Some(InstructKind::Run));
        scripted.done(link);
    }
    scripted.add(link, "initialize", Instruction::Initialize.source());
    assert_eq!(scripted.instructs.len(), 1, "the sets do not mix");
    scripted.say(Said::Tunnel { namespace: String::new(), is_injected: false });
    scripted.done(link);
    scripted.texts(link);
    scripted.send(link, r#"{"instruction":"initialize"}"#);
    assert_eq!(scripted.texts(link).last().map(String::as_str), Some("server: initialized"));
}

#[test]
fn privileged_commands_come_to_the_engine_with_the_credential_only() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    let names =
        crate::livecode::PRIVILEGED.into_iter().chain(["eval", "require", "modules", "add instruction"]);
    for name in names.take(9) {
        scripted.send(link, &format!(r#"{{"instruction":"{name}","credential":"wrong"}}"#));
        assert_eq!(scripted.texts(link)[1], format!("server: rejected command '{name}'"));
        scripted.send(link, &format!(r#"{{"instruction":"{name}","credential":"{CREDENTIAL}"}}"#));
        let kind = scripted.instructs.pop().map(|it| it.kind);
        assert!(kind.is_some_and(|kind| kind != InstructKind::Run), "{name}");
        scripted.done(link);
        scripted.texts(link);
    }
}

#[test]
fn commands_beyond_the_queue_wait_until_the_engine_has_fewer() {
    let mut scripted = Scripted::new();
    scripted.net.router.configure(Config { livecode_queue: 2, ..scripted.net.router.config.clone() });
    let links: Vec<_> = (0..4).map(|_| scripted.open()).collect();
    let read = |name: &str| ReadCommand::read(format!(r#"{{"instruction":"{name}"}}"#));
    for link in &links[..2] {
        assert!(!scripted.net.router.must_wait(*link, &read("slow")));
        scripted.send(*link, r#"{"instruction":"slow"}"#);
    }
    for link in &links[2..] {
        assert!(scripted.net.router.must_wait(*link, &read("slow")));
        assert!(!scripted.net.router.must_wait(*link, &read("initialize")), "it is the router's own");
    }
    // Of those that wait, one is told for each command that is over; one that has gone has no turn.
    scripted.done(links[0]);
    assert_eq!(scripted.answered, [links[2], links[0]]);
    assert!(!scripted.net.router.must_wait(links[2], &read("slow")));
    scripted.send(links[2], r#"{"instruction":"slow"}"#);
    scripted.net.hang_up(links[3]);
    scripted.net.hang_up(links[1]);
    scripted.events();
    assert_eq!(scripted.answered, [links[2], links[0]]);
    assert!(!scripted.net.router.must_wait(links[0], &read("slow")));
}

#[test]
fn a_place_that_a_rejected_command_has_waited_for_goes_to_the_next() {
    let mut scripted = Scripted::new();
    scripted.net.router.configure(Config { livecode_queue: 1, ..scripted.net.router.config.clone() });
    let [first, wrong, last] = [scripted.open(), scripted.open(), scripted.open()];
    scripted.send(first, r#"{"instruction":"slow"}"#);
    let eval = r#"{"instruction":"eval","credential":"wrong"}"#;
    for (link, text) in [(wrong, eval), (last, r#"{"instruction":"slow"}"#)] {
        assert!(scripted.net.router.must_wait(link, &ReadCommand::read(text.to_owned())));
    }
    scripted.done(first);
    assert_eq!(scripted.answered, [wrong, first]);
    scripted.send(wrong, eval);
    assert_eq!(scripted.answered, [wrong, first, last]);
    // It gave its place on once.
    scripted.send(wrong, eval);
    assert_eq!(scripted.answered.len(), 3);
}

#[test]
fn a_command_that_waits_keeps_its_place_when_the_engine_says_done_of_a_link_of_which_it_has_none() {
    let mut scripted = Scripted::new();
    scripted.net.router.configure(Config { livecode_queue: 1, ..scripted.net.router.config.clone() });
    let [first, next] = [scripted.open(), scripted.open()];
    scripted.send(first, r#"{"instruction":"slow"}"#);
    assert!(scripted.net.router.must_wait(next, &ReadCommand::read(r#"{"instruction":"slow"}"#.to_owned())));

    scripted.done(next);
    scripted.done(first);

    assert_eq!(scripted.answered, [next, first]);
}

#[test]
fn links_have_their_turns_in_the_order_in_which_their_commands_came() {
    let mut scripted = Scripted::new();
    scripted.net.router.configure(Config { livecode_queue: 1, ..scripted.net.router.config.clone() });
    let links = [scripted.open(), scripted.open(), scripted.open()];
    let read = || ReadCommand::read(r#"{"instruction":"slow"}"#.to_owned());
    // Each asks again at once; none of them is passed over.
    let mut turns = Vec::new();

    scripted.send(links[0], r#"{"instruction":"slow"}"#);
    links[1..].iter().for_each(|link| assert!(scripted.net.router.must_wait(*link, &read())));
    let mut at_work = links[0];
    for _ in 0..6 {
        turns.push(at_work);
        scripted.answered.clear();
        scripted.done(at_work);
        let next = scripted.answered[0];
        scripted.send(next, r#"{"instruction":"slow"}"#);
        assert!(scripted.net.router.must_wait(at_work, &read()));
        at_work = next;
    }
    assert_eq!(turns, [links, links].concat());
}

/// A router with the namespace `tea` beside the one without a name.
fn with_namespaces() -> Scripted {
    let mut scripted = Scripted::new();
    let tea = ("tea".to_owned(), Sha256::digest("the credential of tea").into());
    let livecode = LivecodeConfig::new(CREDENTIAL, [0x5e; 32]);
    let livecode = Some(LivecodeConfig { namespaces: [tea].into(), ..livecode });
    scripted.net = Net::new(Config { livecode, livecode_programs: true, ..config() });
    scripted
}

#[test]
fn a_namespace_has_a_credential_of_its_own() {
    let mut scripted = with_namespaces();
    let (tea, root) = (scripted.net.open_at("wss://relay.example/~tea"), scripted.open());
    let nowhere = scripted.net.open_at("wss://relay.example/~coffee/");
    scripted.events();
    assert_eq!(scripted.closed, [(nowhere, CloseCode::POLICY)]);
    for (link, right, wrong) in
        [(root, CREDENTIAL, "the credential of tea"), (tea, "the credential of tea", CREDENTIAL)]
    {
        for (credential, expected) in [(wrong, 0), (right, 1)] {
            scripted.send(link, &format!(r#"{{"instruction":"hello","credential":"{credential}"}}"#));
            let namespaces: Vec<_> =
                scripted.instructs.drain(..).map(|it| it.peer.namespace().to_owned()).collect();
            assert_eq!(namespaces.len(), expected, "{credential}");
        }
        scripted.done(link);
    }
}

#[test]
fn commands_of_namespaces_go_to_their_engines_and_no_numbers_of_theirs_to_others() {
    let mut scripted = with_namespaces();
    let url = "wss://relay.example/~tea?x=/~no";
    let (one, two) = (scripted.net.open_at(url), scripted.net.open_at(url));
    let other = scripted.open();
    scripted.send(one, r#"{"instruction":"x"}"#);
    assert_eq!(scripted.instructs.pop().map(|it| it.peer.namespace().to_owned()).as_deref(), Some("tea"));
    scripted.done(one);

    // The engine of one takes the tunnel's names over there, and nowhere else.
    scripted.send(one, r#"{"instruction":"create server credential"}"#);
    let texts = scripted.texts(one);
    let (id, credential) = texts[texts.len() - 2].split_once(' ').expect("an ID");
    scripted.send(one, &format!(r#"{{"instruction":"install server","parameters":[{id},"{credential}"]}}"#));
    for (link, answer) in [(other, "0"), (two, "1")] {
        scripted.texts(link);
        scripted.send(link, &format!(r#"{{"instruction":"connect to server","parameters":[{id},80]}}"#));
        assert_eq!(scripted.texts(link)[2], answer);
    }
    scripted.say(Said::Tunnel { namespace: "tea".to_owned(), is_injected: true });
    scripted.send(two, r#"{"instruction":"initialize"}"#);
    assert_eq!(scripted.instructs.pop().map(|it| it.kind), Some(InstructKind::Run));
    scripted.send(other, r#"{"instruction":"initialize"}"#);
    assert!(scripted.instructs.is_empty());
}

#[test]
fn a_proof_goes_to_the_engine_without_a_credential() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    scripted.send(link, r#"{"instruction":"prove"}"#);
    assert_eq!(scripted.instructs.pop().map(|it| it.kind), Some(InstructKind::Prove));
}

#[test]
fn without_an_engine_nothing_is_passed_on() {
    let mut scripted = Scripted::new();
    scripted.net.router.configure(Config { livecode_programs: false, ..scripted.net.router.config.clone() });
    let link = scripted.open();
    for name in ["anything", "hello", "eval"] {
        scripted.send(link, &format!(r#"{{"instruction":"{name}","credential":"{CREDENTIAL}"}}"#));
        assert_eq!(scripted.texts(link)[1], format!("server: rejected command '{name}'"));
    }
    assert!(scripted.instructs.is_empty());
}

#[test]
fn draining_ends_links_whose_command_is_with_the_engine() {
    let mut scripted = Scripted::new();
    let link = scripted.open();
    scripted.send(link, r#"{"instruction":"slow"}"#);
    scripted.net.router.drain(Duration::from_secs(1), scripted.net.now);
    scripted.net.advance(Duration::from_secs(2));
    scripted.events();
    assert_eq!(scripted.closed, [(link, CloseCode::DRAINING)]);
    assert_eq!(scripted.left, [link]);
}
