//! The livecode dialect, alone and with peers that speak the other one.

mod mixed;

use super::*;
use crate::livecode::{Packet, Parameter};

const CREDENTIAL: &str = "configurer";

fn livecode() -> Net {
    let secret = [0x5e; 32];
    let livecode = Some(LivecodeConfig::new(CREDENTIAL, secret));
    Net::new(Config { livecode, ..config() })
}

impl Net {
    fn texter(&mut self) -> LinkId {
        let link = self.open(Dialect::Livecode);
        assert_eq!(self.texts(link), [""; 0]);
        link
    }

    fn text(&mut self, link: LinkId, text: &str) -> Vec<String> {
        self.router.handle_text(link, text, self.now);
        self.texts(link)
    }

    fn texts(&mut self, link: LinkId) -> Vec<String> {
        let text = |transmit| match transmit {
            Transmit::Text(text) => text,
            Transmit::Binary(frame) => panic!("a frame for a livecode link: {frame:?}"),
        };
        std::iter::from_fn(|| self.router.poll_transmit(link)).map(text).collect()
    }

    /// The texts that an instruction sent, without the relay's lines around them.
    fn invoke(&mut self, link: LinkId, name: &str, parameters: &[Parameter<'_>]) -> Vec<String> {
        let mut parser = crate::livecode::LivecodeClient::new();
        parser.invoke(name, parameters);
        let command = parser.poll_transmit().expect("a command");
        let texts = self.text(link, &command);
        let lines = [
            format!("server: received command '{name}'"),
            format!("server: evaluating added instruction '{name}'"),
        ];
        assert_eq!(texts[..2], lines);
        assert!(texts.iter().any(|text| text.starts_with("server: ") && !lines.contains(text)), "{texts:?}");
        texts.into_iter().filter(|text| !text.starts_with("server: ")).collect()
    }

    /// A livecode server with its ID and credential.
    fn text_server(&mut self) -> (LinkId, u32, String) {
        let link = self.texter();
        let sent = self.invoke(link, "create server credential", &[]);
        let (id, credential) = sent[0].split_once(' ').expect("an ID and a credential");
        let id = id.parse().expect("a number");
        assert_eq!(self.install(link, id, credential), ["1"]);
        (link, id, credential.to_owned())
    }

    fn install(&mut self, link: LinkId, id: u32, credential: &str) -> Vec<String> {
        self.invoke(link, "install server", &[Parameter::Number(id), Parameter::Text(credential)])
    }

    fn connect_to(&mut self, link: LinkId, id: u32, port: u32) -> Vec<String> {
        self.invoke(link, "connect to server", &[Parameter::Number(id), Parameter::Number(port)])
    }

    fn send_server(&mut self, link: LinkId, id: u32, data: &str) -> Vec<String> {
        self.invoke(link, "forward to server", &[Parameter::Number(id), Parameter::Text(data)])
    }

    fn send_client(&mut self, link: LinkId, channel: u32, data: &str) -> Vec<String> {
        self.invoke(link, "forward to client", &[Parameter::Number(channel), Parameter::Text(data)])
    }
}

#[test]
fn the_dialect_is_off_unless_the_operator_turns_it_on() {
    let mut net = Net::new(config());
    let link = net.open(Dialect::Livecode);
    assert_eq!(net.closes(), [(link, CloseCode::POLICY)]);
    assert_eq!(net.text(link, r#"{"instruction":"initialize"}"#), [""; 0]);
}

#[test]
fn a_client_and_a_server_talk() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.texter();
    assert_eq!(id, 1);
    assert_eq!(net.connect_to(client, id, 1337), ["1"]);
    assert_eq!(net.texts(server), ["connected:atPort:for: 2 1337 192.0.2.2:1000"]);
    assert_eq!(net.send_server(client, id, "hello  there"), ["1"]);
    assert_eq!(net.texts(server), ["from:data: 2 hello  there"]);
    assert_eq!(net.send_client(server, 2, "hello yourself"), ["1"]);
    assert_eq!(net.texts(client), ["from:data: 1 hello yourself"]);
    for link in [client, server] {
        net.hang_up(link);
    }
    net.assert_empty();
}

#[test]
fn an_answer_has_the_lines_of_the_original() {
    let mut net = livecode();
    let link = net.texter();
    for (command, answer) in [
        ("null", vec!["server: rejected malformed commandnull"]),
        ("{", vec!["server: rejected malformed command{"]),
        (
            r#"{"instruction":"initialize","parameters":[" "]}"#,
            vec![
                "server: received command 'initialize'",
                "server: evaluating added instruction 'initialize'",
                "server: initialized",
            ],
        ),
        (
            r#"{"instruction":"install server","parameters":[1,"wrong"]}"#,
            vec![
                "server: received command 'install server'",
                "server: evaluating added instruction 'install server'",
                "0",
                "server: 0",
            ],
        ),
        (
            r#"{"instruction":"format disk"}"#,
            vec!["server: received command 'format disk'", "server: rejected command 'format disk'"],
        ),
    ] {
        assert_eq!(net.text(link, command), answer, "{command}");
    }
}

#[test]
fn a_binary_message_is_answered_as_what_it_is_taken_for() {
    let mut net = livecode();
    let link = net.texter();
    net.send(link, hello());
    let texts = net.texts(link);
    assert!(texts[0].starts_with("server: rejected malformed command"), "{texts:?}");
    net.send_bytes(link, br#"{"instruction":"initialize"}"#);
    assert_eq!(net.texts(link).len(), 3);
}

#[test]
fn a_configurer_may_add_what_is_built_in_and_nothing_else() {
    let mut net = livecode();
    let link = net.texter();
    let command = |instruction: &str, added: &str, credential: &str| {
        format!(
            r#"{{"instruction":"{instruction}","credential":"{credential}",
                 "parameters":{{"instructionToAdd":"{added}","body":"process.exit()","package":"ws"}}}}"#
        )
    };
    for (instruction, added, credential, answer) in [
        ("add instruction", "initialize", CREDENTIAL, "adding instruction 'initialize'"),
        ("add instruction", "forward to client", CREDENTIAL, "adding instruction 'forward to client'"),
        ("add instruction", "initialize", "wrong", "rejected command 'add instruction'"),
        ("add instruction", "initialize", "", "rejected command 'add instruction'"),
        ("add instruction", "evil", CREDENTIAL, "rejected command 'add instruction'"),
        ("eval", "", CREDENTIAL, "rejected command 'eval'"),
        ("require", "", CREDENTIAL, "rejected command 'require'"),
        ("modules", "", CREDENTIAL, "rejected command 'modules'"),
    ] {
        let texts = net.text(link, &command(instruction, added, credential));
        let expected = [format!("server: received command '{instruction}'"), format!("server: {answer}")];
        assert_eq!(texts, expected, "{credential}");
    }
}

#[test]
fn credentials_are_for_one_server_id_and_not_to_be_guessed() {
    let mut net = livecode();
    let link = net.texter();
    let first = net.invoke(link, "create server credential", &[]);
    let second = net.invoke(link, "create server credential", &[]);
    let (id, credential) = first[0].split_once(' ').expect("two words");
    let (other, other_credential) = second[0].split_once(' ').expect("two words");
    assert_eq!((id, other), ("1", "2"));
    assert_ne!(credential, other_credential);
    assert!(credential.len() == 64 && credential.bytes().all(|digit| digit.is_ascii_hexdigit()));
    for (id, credential, answer) in [
        (1, other_credential, "0"),
        (3, credential, "0"),
        (1, "", "0"),
        (1, &credential[..63], "0"),
        (1, credential, "1"),
        (1, credential, "1"),
    ] {
        assert_eq!(net.install(link, id, credential), [answer], "{id} {credential}");
    }
}

#[test]
fn a_link_may_be_several_servers_up_to_a_bound() {
    let mut net = livecode();
    let link = net.texter();
    for number in 1..=257 {
        let sent = net.invoke(link, "create server credential", &[]);
        let (_, credential) = sent[0].split_once(' ').expect("two words");
        let answer = if number <= 256 { "1" } else { "0" };
        assert_eq!(net.install(link, number, credential), [answer]);
    }
    assert_eq!(net.router.stats().registrations, 256);
    net.hang_up(link);
    net.assert_empty();
}

#[test]
fn an_installation_obeys_the_number_of_servers() {
    let livecode = Some(LivecodeConfig::new(CREDENTIAL, [0x5e; 32]));
    let mut net =
        Net::new(Config { livecode, max_registrations: 3, max_registrations_per_address: 2, ..config() });
    let mut last = (net.texter(), 0, String::new());
    for (own_link, answer) in [(false, "1"), (false, "1"), (false, "0"), (true, "1"), (true, "0")] {
        let link = if own_link { net.texter() } else { last.0 };
        let sent = net.invoke(link, "create server credential", &[]);
        let (id, credential) = sent[0].split_once(' ').expect("two words");
        let id = id.parse().expect("a number");
        assert_eq!(net.install(link, id, credential), [answer], "server {id}");
        if answer == "1" {
            last = (link, id, credential.to_owned());
        }
    }
    let (_, id, credential) = last;
    let link = net.texter();
    assert_eq!(net.install(link, id, &credential), ["1"], "who takes a number over needs no room");
    assert_eq!(net.router.stats().registrations, 3);
}

#[test]
fn credentials_are_guessed_a_few_times_and_then_not_looked_at() {
    let mut net = livecode();
    let (link, other) = (net.texter(), net.texter());
    let add = |net: &mut Net, link, credential: &str| {
        let text = format!(
            r#"{{"instruction":"add instruction","credential":"{credential}","parameters":{{"instructionToAdd":"initialize"}}}}"#
        );
        net.text(link, &text)[1] == "server: adding instruction 'initialize'"
    };
    for guess in 0..10 {
        assert!(add(&mut net, link, CREDENTIAL), "wrong ones before: {guess}");
        assert!(!add(&mut net, link, "wrong"));
    }
    assert!(!add(&mut net, link, CREDENTIAL), "after ten wrong ones");
    assert!(add(&mut net, other, CREDENTIAL), "from another address");
    net.advance(Duration::from_secs(11));
    assert!(add(&mut net, link, CREDENTIAL), "after a while");
    assert!(!add(&mut net, link, &"x".repeat(100_000)), "too long to be compared");
}

#[test]
fn servers_credentials_are_not_guessed_without_end() {
    let mut net = livecode();
    let (link, id, credential) = net.text_server();
    for _ in 0..2_048 {
        assert_eq!(net.install(link, id, "wrong"), ["0"]);
    }
    assert_eq!(net.install(link, id, &credential), ["0"], "after that many wrong ones");
    net.advance(Duration::from_secs(1));
    assert_eq!(net.install(link, id, &credential), ["1"]);
}

#[test]
fn random_texts_leave_nothing_in_the_books() {
    for seed in 0..60_u64 {
        let mut net = livecode();
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut dice = |below: u64| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            (number >> 24) % below
        };
        let mut servers: Vec<(u32, String)> = Vec::new();
        let mut links = vec![net.texter(), net.texter(), net.server(1), net.link()];
        for step in 0..200 {
            let at = dice(links.len() as u64) as usize;
            let link = links[at];
            let is_text = net.router.speaks_livecode(link);
            let id = 1 + dice(4) as u32;
            match dice(12) {
                0 | 1 if is_text => {
                    net.router.handle_text(link, r#"{"instruction":"create server credential"}"#, net.now);
                    let known = servers.len() as u32 + 1;
                    let config = net.router.config.livecode.as_ref().expect("it is on");
                    servers.push((known, config.server_credential(known)));
                }
                2 | 3 if is_text && !servers.is_empty() => {
                    let (id, credential) = &servers[dice(servers.len() as u64) as usize];
                    let text =
                        format!(r#"{{"instruction":"install server","parameters":[{id},"{credential}"]}}"#);
                    net.router.handle_text(link, &text, net.now);
                }
                4 | 5 if is_text => {
                    let to = if dice(3) == 0 { format!("\"{}\"", server_id(1)) } else { id.to_string() };
                    let text = format!(r#"{{"instruction":"connect to server","parameters":[{to},7]}}"#);
                    net.router.handle_text(link, &text, net.now);
                }
                6 | 7 if is_text => {
                    let data = "x".repeat(dice(100_000) as usize);
                    let name = if dice(2) == 0 { "forward to client" } else { "forward to server" };
                    let channel = 2 * dice(6);
                    let text = format!(r#"{{"instruction":"{name}","parameters":[{channel},"{data}"]}}"#);
                    net.router.handle_text(link, &text, net.now);
                }
                0..=3 => {
                    let next = 1 + 2 * step as u32;
                    let server = if dice(2) == 0 { ServerId::Number(id) } else { server_id(dice(3) as u8) };
                    let payload = Bytes::from(vec![7; dice(1_000) as usize]);
                    let channel = ChannelId(next);
                    let kind = ChannelKind::Plain;
                    net.send(link, Frame::Connect { channel, server_id: server, port: 7, kind, payload });
                }
                8 => {
                    net.hang_up(link);
                    let new = if dice(2) == 0 { net.open(Dialect::Livecode) } else { net.link() };
                    links[at] = new;
                }
                9 => net.advance(Duration::from_millis(dice(3_000))),
                _ => {
                    for _ in 0..dice(8) {
                        let _maybe_nothing = net.router.poll_transmit(link);
                    }
                }
            }
            net.router.assert_consistent(&format!("seed {seed}, step {step}"));
        }
        links.into_iter().for_each(|link| net.hang_up(link));
        net.assert_empty();
    }
}

#[test]
fn the_newest_installation_takes_over_one_server_only() {
    let mut net = livecode();
    let (old, id, credential) = net.text_server();
    let sent = net.invoke(old, "create server credential", &[]);
    let (second, second_credential) = sent[0].split_once(' ').expect("two words");
    let second: u32 = second.parse().expect("a number");
    net.install(old, second, second_credential);
    let (client, other) = (net.texter(), net.texter());
    net.connect_to(client, id, 1);
    net.connect_to(other, second, 1);

    let new = net.texter();
    assert_eq!(net.install(new, id, &credential), ["1"]);
    net.texts(old);
    assert_eq!(net.closes(), []);
    assert_eq!(net.send_client(old, 2, "late"), ["0"]);
    assert_eq!(net.send_client(old, 4, "still mine"), ["1"]);
    assert_eq!(net.texts(other), ["from:data: 2 still mine"]);
    assert_eq!(net.send_server(client, id, "late"), ["0"]);
    net.hang_up(old);
    assert_eq!(net.router.stats().registrations, 1);
    assert_eq!(net.connect_to(client, id, 1), ["1"]);
    assert_eq!(net.texts(new).len(), 1);
}

#[test]
fn what_cannot_be_done_is_answered_with_0() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.texter();
    assert_eq!(net.connect_to(client, 99, 1), ["0"]);
    assert_eq!(net.connect_to(client, id, 65_536), ["0"]);
    assert_eq!(net.send_server(client, id, "not connected"), ["0"]);
    assert_eq!(net.send_client(server, 2, "nobody"), ["0"]);
    assert_eq!(net.connect_to(client, id, 1), ["1"]);
    net.texts(server);
    assert_eq!(net.send_server(client, id + 1, "another server"), ["0"]);
    assert_eq!(net.send_client(client, 1, "its own channel"), ["0"]);
    assert_eq!(net.send_client(server, 4, "nobody"), ["0"]);
    let stranger = net.texter();
    assert_eq!(net.send_client(stranger, 2, "spoofed"), ["0"]);
    assert_eq!(net.closes(), []);
}

#[test]
fn a_client_that_connects_again_leaves_its_earlier_channel() {
    let mut net = livecode();
    let (server, id, _) = net.text_server();
    let client = net.texter();
    net.connect_to(client, id, 1);
    net.texts(server);
    net.connect_to(client, id, 2);
    assert_eq!(net.texts(server), ["connected:atPort:for: 4 2 192.0.2.2:1000"]);
    assert_eq!(net.send_client(server, 2, "old"), ["0"]);
    assert_eq!(net.send_client(server, 4, "new"), ["1"]);
    net.texts(client);
    assert_eq!(net.connect_to(client, 99, 1), ["0"]);
    assert_eq!(net.send_server(client, id, "a failed attempt changes nothing"), ["1"]);
    assert_eq!(net.router.stats().channel_ends, 2);
}

#[test]
fn the_end_of_a_channel_is_told_to_sessions_only() {
    for has_session in [false, true] {
        let mut net = livecode();
        let (server, id, _) = net.text_server();
        let (first, second) = (net.texter(), net.texter());
        let data = if has_session { Packet::Who.encode() } else { "plain".to_owned() };
        for client in [first, second] {
            net.connect_to(client, id, 1);
            net.send_server(client, id, &data);
        }
        net.texts(server);
        net.hang_up(first);
        let code = CloseCode::PEER_GONE;
        let told = net.texts(server);
        net.hang_up(server);
        let told: Vec<_> = [told, net.texts(second)].concat();
        if has_session {
            let packet = |text: &str, from| Packet::decode(text.strip_prefix(from).expect(from));
            assert_eq!(told.len(), 2);
            for (text, from) in told.iter().zip(["from:data: 2 ", "from:data: 1 "]) {
                assert!(
                    matches!(packet(text, from), Some(Ok(Packet::End { code: c, .. })) if c == code),
                    "{text}"
                );
            }
        } else {
            assert_eq!(told, [""; 0]);
        }
        assert_eq!(net.router.stats().channel_ends, 0);
    }
}

#[test]
fn answers_that_nobody_reads_end_the_link() {
    let mut net = livecode();
    let link = net.texter();
    for _ in 0..10_000 {
        net.router.handle_text(link, r#"{"instruction":"initialize"}"#, net.now);
    }
    assert_eq!(net.closes(), [], "10,000 are not too many");
    for _ in 0..10_000 {
        net.router.handle_text(link, r#"{"instruction":"initialize"}"#, net.now);
    }
    assert_eq!(net.closes(), [(link, CloseCode::POLICY)]);
    assert_eq!(net.router.stats().buffered, 0);
}

#[test]
fn a_silent_livecode_link_ends_but_a_pong_keeps_it() {
    let mut net = livecode();
    let link = net.texter();
    net.advance(Duration::from_secs(59));
    net.router.handle_alive(link, net.now);
    net.advance(Duration::from_secs(59));
    assert_eq!((net.texts(link), net.closes()), (vec![], vec![]));
    net.advance(Duration::from_secs(1));
    assert_eq!(net.closes(), [(link, CloseCode::TIMEOUT)]);
}

#[test]
fn a_draining_relay_takes_no_servers_and_clients() {
    let mut net = livecode();
    let (server, id, credential) = net.text_server();
    let (client, other) = (net.texter(), net.texter());
    net.connect_to(client, id, 1);
    net.router.drain(Duration::from_secs(5), net.now);
    assert_eq!(net.send_server(client, id, "still served"), ["1"]);
    assert_eq!(net.connect_to(other, id, 1), ["0"]);
    assert_eq!(net.install(other, id, &credential), ["0"]);
    net.advance(Duration::from_secs(5));
    let mut closes = net.closes();
    closes.sort();
    let expected = [server, client, other].map(|link| (link, CloseCode::DRAINING));
    assert_eq!(closes, expected);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let mut net = livecode();
    net.texter();
    let debug = format!("{:?}", net.router);
    for secret in [CREDENTIAL, "94, 94, 94", "1, 1, 1, 1"] {
        assert!(!debug.contains(secret), "{secret}: {debug}");
    }
}
