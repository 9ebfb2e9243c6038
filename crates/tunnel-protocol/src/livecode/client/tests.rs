//! A livecoding client against a relay that the tests play.

use super::*;
use crate::server_id::PublicKey;
use proptest::prelude::*;

fn feed(client: &mut LivecodeClient, texts: &[&str]) -> Vec<LivecodeEvent> {
    for text in texts {
        client.handle_text(text).expect("small answers");
    }
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn answered(call: CallId, sent: &[&str], returned: &str) -> LivecodeEvent {
    let sent = sent.iter().map(|&text| text.to_owned()).collect();
    LivecodeEvent::Answered { call, answer: Answer::Returned { sent, returned: returned.to_owned() } }
}

#[test]
fn an_invocation_is_answered_with_what_it_sent_and_returned() {
    let mut client = LivecodeClient::new();
    let call = client.create_server_credential();
    assert_eq!(
        client.poll_transmit().as_deref(),
        Some(r#"{"instruction":"create server credential","parameters":[]}"#)
    );
    assert_eq!(client.unanswered(), 1);

    let events = feed(
        &mut client,
        &[
            "server: received command 'create server credential'",
            "server: evaluating added instruction 'create server credential'",
            "0 a1b2",
            "server: undefined",
        ],
    );

    assert_eq!(events, [answered(call, &["0 a1b2"], "undefined")]);
    assert_eq!(client.unanswered(), 0);
}

#[test]
fn servers_of_our_relay_may_be_known_by_their_keys() {
    let mut client = LivecodeClient::new();
    let server = ServerId::Key(PublicKey([7; 32]));
    client.connect_to_server(server, 80);
    assert_eq!(
        client.poll_transmit(),
        Some(format!(r#"{{"instruction":"connect to server","parameters":["{server}",80]}}"#))
    );
    let events = feed(&mut client, &[&format!("from:data: {server} hello world")]);
    assert_eq!(events, [LivecodeEvent::Data { from: server, data: "hello world".to_owned() }]);
}

#[test]
fn notifications_may_come_within_an_answer() {
    let mut client = LivecodeClient::new();
    let call = client.forward_to_client(2, "hello");

    let events = feed(
        &mut client,
        &[
            "connected:atPort:for: 2 1337 ::1",
            "server: received command 'forward to client'",
            "from:data: 2 a  b",
            "server: evaluating added instruction 'forward to client'",
            "from:data: 2 ",
            "1",
            "from:data: 2 server: 1",
            "server: 1",
            "from:data: 2 after",
        ],
    );

    let data = |data: &str| LivecodeEvent::Data { from: 2.into(), data: data.to_owned() };
    assert_eq!(
        events,
        [
            LivecodeEvent::Connected { channel: 2, port: 1337, address: "::1".to_owned() },
            data("a  b"),
            data(""),
            data("server: 1"),
            answered(call, &["1"], "1"),
            data("after"),
        ]
    );
}

#[test]
fn answers_belong_to_commands_in_order() {
    let mut client = LivecodeClient::new();
    let unknown = client.invoke("nothing", &[]);
    let added = client.add_instruction("nothing", "() => 'rejected command'", "secret");
    let known = client.invoke("nothing", &[]);
    let modules = client.modules("secret");
    let refused = client.modules("guess");
    let required = client.require("ws", "", "secret");

    let events = feed(
        &mut client,
        &[
            "server: received command 'nothing'",
            "server: rejected command 'nothing'",
            "server: received command 'add instruction'",
            "server: adding instruction 'nothing'",
            "server: received command 'nothing'",
            "server: evaluating added instruction 'nothing'",
            "server: rejected command 'nothing'",
            "server: received command 'modules'",
            "server: enumerating modules",
            "[\"ws\"]",
            "server: received command 'modules'",
            "server: rejected command 'modules'",
            "server: received command 'require'",
            "server: received require for ws",
        ],
    );

    let rejected = |call| LivecodeEvent::Answered { call, answer: Answer::Rejected };
    assert_eq!(
        events,
        [
            rejected(unknown),
            answered(added, &[], "adding instruction 'nothing'"),
            answered(known, &[], "rejected command 'nothing'"),
            answered(modules, &["[\"ws\"]"], "enumerating modules"),
            rejected(refused),
            answered(required, &[], "received require for ws"),
        ]
    );
}

#[test]
fn what_evaluated_source_sends_is_in_its_answer() {
    let mut client = LivecodeClient::new();
    let call = client.eval("ws.send('v20')", "secret");
    let next = client.invoke("x", &[]);
    assert_eq!(std::iter::from_fn(|| client.poll_transmit()).count(), 3, "eval, fence and x");

    let events = feed(
        &mut client,
        &[
            "server: received command 'eval'",
            "server: evaluting code",
            "v20",
            "server: said by the source",
            "server: received command 'end of evaluation'",
            "server: rejected command 'end of evaluation'",
            "server: received command 'x'",
            "server: rejected command 'x'",
        ],
    );

    assert_eq!(
        events,
        [
            answered(call, &["v20"], "evaluting code"),
            LivecodeEvent::Answered { call: next, answer: Answer::Rejected },
        ]
    );
    assert_eq!(client.unanswered(), 0);
}

#[test]
fn a_rejected_evaluation_leaves_the_order_intact() {
    let mut client = LivecodeClient::new();
    let call = client.eval("1", "guess");

    let events = feed(
        &mut client,
        &[
            "server: received command 'eval'",
            "server: rejected command 'eval'",
            "server: received command 'end of evaluation'",
            "server: rejected command 'end of evaluation'",
        ],
    );

    assert_eq!(events, [LivecodeEvent::Answered { call, answer: Answer::Rejected }]);
    assert_eq!(client.unanswered(), 0);
}

#[test]
fn a_command_that_the_relay_cannot_read_is_answered_too() {
    let mut client = LivecodeClient::new();
    let call = client.invoke("x", &[Parameter::Json("oops")]);
    let events = feed(&mut client, &["server: rejected malformed command{\"instruction\"…"]);
    assert_eq!(events, [LivecodeEvent::Answered { call, answer: Answer::Malformed }]);
}

#[test]
fn what_belongs_to_nothing_is_handed_on_as_text() {
    let mut client = LivecodeClient::with_log();
    let events = feed(&mut client, &["hello", "server: hello", "from:data: x y"]);
    assert_eq!(
        events,
        [
            LivecodeEvent::Text("hello".to_owned()),
            LivecodeEvent::Log("server: hello".to_owned()),
            LivecodeEvent::Text("from:data: x y".to_owned()),
        ]
    );
}

#[test]
fn another_configurers_delimiter_is_taken_over() {
    let mut client = LivecodeClient::new();
    let events = feed(&mut client, &["connected:atPort:for: 1||80||::1", "from:data: 1||a||b c"]);
    assert_eq!(
        events,
        [
            LivecodeEvent::Connected { channel: 1, port: 80, address: "::1".to_owned() },
            LivecodeEvent::Data { from: 1.into(), data: "a||b c".to_owned() },
        ]
    );
}

#[test]
fn an_instruction_that_sends_without_end_is_an_error() {
    let mut client = LivecodeClient::new();
    client.invoke("x", &[]);
    feed(&mut client, &["server: received command 'x'", "server: evaluating added instruction 'x'"]);
    let text = "a".repeat(1 << 20);
    for _ in 0..3 {
        assert_eq!(client.handle_text(&text), Ok(()));
    }
    assert_eq!(client.handle_text(&text), Err(LivecodeError::Overflow));
}

#[test]
fn one_is_yes_and_all_else_is_no() {
    let answer = |sent: &[&str]| Answer::Returned {
        sent: sent.iter().map(|&text| text.to_owned()).collect(),
        returned: "1".to_owned(),
    };
    assert!(answer(&["1"]).is_one());
    for no in [answer(&[]), answer(&["0"]), answer(&["1", "0"]), Answer::Rejected, Answer::Malformed] {
        assert!(!no.is_one(), "{no:?}");
    }
}

proptest! {
    #[test]
    fn every_invocation_is_answered_with_its_own_texts(
        calls in proptest::collection::vec(
            (proptest::collection::vec("[a-z0-9 ]{0,8}", 0..3), "[a-z']{0,8}"), 0..8),
        noise in proptest::collection::vec(any::<bool>(), 0..64),
    ) {
        let mut client = LivecodeClient::new();
        let mut noise = noise.into_iter();
        let mut expected = Vec::new();
        let mut texts = Vec::new();
        for (index, (sent, returned)) in calls.iter().enumerate() {
            let call = client.invoke("x", &[Parameter::Number(index as u32)]);
            let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
            texts.push(Line::Received("x").to_string());
            texts.push(Line::Evaluating("x").to_string());
            texts.extend(sent.iter().map(|&text| text.to_owned()));
            texts.push(Line::Returned(returned).to_string());
            expected.push(answered(call, &sent, returned));
        }
        let mut events = Vec::new();
        for text in texts {
            if noise.next() == Some(true) {
                events.extend(feed(&mut client, &["from:data: 3 server: 1"]));
            }
            events.extend(feed(&mut client, &[&text]));
        }
        events.retain(|event| !matches!(event, LivecodeEvent::Data { from: ServerId::Number(3), .. }));
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn any_texts_are_taken_without_harm(
        texts in proptest::collection::vec("(server: |from:data: )?(received command '|[0-9 ]*)\\PC{0,9}", 0..20),
    ) {
        let mut client = LivecodeClient::with_log();
        client.eval("1", "secret");
        client.modules("secret");
        client.install_server(1, "secret");
        client.connect_to_server(1, 80);
        client.forward_to_server(1, "x");
        for text in texts {
            let _ = client.handle_text(&text);
        }
    }
}

#[test]
fn answers_are_numbered_if_that_is_wanted_and_the_line_belongs_to_no_command() {
    let mut client = LivecodeClient::with_log();
    client.manage("source", r#"{"name":"x"}"#, "secret");
    client.number_answers();
    let call = client.invoke("x", &[]);
    client.eval("1", "secret");
    let texts: Vec<_> = std::iter::from_fn(|| client.poll_transmit()).collect();
    assert_eq!(texts[0], r#"{"instruction":"source","parameters":{"name":"x"},"credential":"secret"}"#);
    assert_eq!(texts[1], r#"{"instruction":"x","parameters":[],"answer":1}"#);
    assert!(texts[2].ends_with(r#","answer":2}"#), "{}", texts[2]);
    assert!(!texts[3].contains("answer"), "{}", texts[3]);
    let events = feed(
        &mut client,
        &[
            "server: received command 'source'",
            r#"server: {"source":"1"}"#,
            "server: received command 'x'",
            "server: evaluating added instruction 'x'",
            "server: 7",
            r#"server: answered 1 {"returned":7}"#,
        ],
    );
    assert!(events.contains(&answered(call, &[], "7")), "{events:?}");
}
