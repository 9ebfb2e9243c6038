//! Tests of `examples/livecode/` and of the tunnel's six: each as it stands there, with peers that leave, give bad parameters, and flood.

use crate::support::Rig;
use serde_json::{Value, json};
use std::time::Duration;
use tunnel_protocol::livecode::Instruction;
use tunnel_protocol::router::LinkId;

const CHAT: &str = include_str!("../../../../examples/livecode/chat.js");
const COUNTER: &str = include_str!("../../../../examples/livecode/counter.js");
const LOBBY: &str = include_str!("../../../../examples/livecode/lobby.js");
const STORE: &str = include_str!("../../../../examples/livecode/store.js");

const SECOND: Duration = Duration::from_secs(1);

/// A server ID: 56 times the same letter.
fn id(letter: &str) -> String {
    letter.repeat(56)
}

/// A rig to which a configurer has added a module's instructions, and the configurer's link.
fn with(module: &str) -> Option<(Rig, LinkId)> {
    let mut rig = Rig::new()?;
    let link = rig.open();
    for (name, source) in sources(&mut rig, link, module) {
        let added = rig.add(link, &name, &source);
        assert_eq!(added.last(), Some(&format!("server: adding instruction '{name}'")), "{added:?}");
    }
    Some((rig, link))
}

/// Names and sources of a module's instructions, as JavaScript has them.
fn sources(rig: &mut Rig, link: LinkId, module: &str) -> Vec<(String, String)> {
    let body = module.replace("export default", "const instructions =").replace("export const", "const");
    let list = "JSON.stringify(Object.entries(instructions).map(([name, it]) => [name, String(it)]))";
    let texts = rig.eval(link, &format!("{{ {body}\nws.send({list}) }}"));
    serde_json::from_str(texts.last().expect("the list")).unwrap_or_else(|_| panic!("{texts:?}"))
}

/// Calls an instruction; returns the texts that the caller got, and the line at the end: what was returned, or thrown.
fn call(rig: &mut Rig, link: LinkId, name: &str, parameters: &Value) -> (Vec<Value>, String) {
    let mut texts = rig.invoke(link, name, &parameters.to_string());
    let last = texts.pop().expect("an answer");
    let returned =
        last.strip_prefix("server: ").unwrap_or_else(|| panic!("{last:?} is no answer")).to_owned();
    (texts.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect(), returned)
}

/// Parses the value that a call returned, which must be JSON.
fn returned(rig: &mut Rig, link: LinkId, name: &str, parameters: &Value) -> Value {
    let (_, returned) = call(rig, link, name, parameters);
    serde_json::from_str(&returned).unwrap_or_else(|_| panic!("'{name}' returned {returned}"))
}

/// The error of a call, which must throw.
fn refused(rig: &mut Rig, link: LinkId, name: &str, parameters: &Value) -> String {
    let (_, answer) = call(rig, link, name, parameters);
    assert!(answer.contains("Error: "), "'{name}' with {parameters} returned {answer}");
    answer
}

/// Returns the texts that a peer was sent since it was last asked.
fn heard(rig: &mut Rig, link: LinkId) -> Vec<Value> {
    rig.texts(link).iter().map(|text| serde_json::from_str(text).expect("JSON")).collect()
}

/// Calls that none of a module's instructions may take; each throws, and what was there stays.
fn bad_parameters() -> Vec<Value> {
    let texts = [json!(""), json!(" x"), json!("x".repeat(10_000)), json!(null), json!(-1), json!(1.5)];
    let others = [json!({}), json!([[]]), json!({ "toString": 1 }), json!(true)];
    let alone = texts.iter().chain(&others).map(|it| json!([it]));
    let twice = texts.iter().chain(&others).map(|it| json!([it, it, it]));
    alone.chain(twice).chain([json!([]), json!(null)]).collect()
}

#[test]
fn people_in_a_chat_room_hear_who_comes_speaks_and_goes() {
    let Some((mut rig, ana)) = with(CHAT) else { return };
    let bo = rig.open();
    let first = returned(&mut rig, ana, "join room", &json!(["tea", "Ana"]));
    assert_eq!(first, json!({ "room": "tea", "people": ["Ana"], "recent": [] }));
    assert_eq!(
        call(&mut rig, ana, "say", &json!(["anybody?"])).0,
        [json!({ "from": "Ana", "text": "anybody?" })]
    );
    let second = returned(&mut rig, bo, "join room", &json!(["tea", "Bo"]));
    let recent = json!([{ "from": "Ana", "text": "anybody?" }]);
    assert_eq!(second, json!({ "room": "tea", "people": ["Ana", "Bo"], "recent": recent }));
    assert_eq!(heard(&mut rig, ana), [json!({ "joined": "Bo", "people": ["Ana", "Bo"] })]);
    let (to_bo, count) = call(&mut rig, bo, "say", &json!(["me"]));
    assert_eq!((to_bo, count.as_str()), (vec![json!({ "from": "Bo", "text": "me" })], "2"));
    assert_eq!(heard(&mut rig, ana), [json!({ "from": "Bo", "text": "me" })]);
    rig.close(bo);
    assert_eq!(heard(&mut rig, ana), [json!({ "left": "Bo", "people": ["Ana"] })]);
}

#[test]
fn a_name_in_a_chat_room_is_one_persons_until_they_go_and_a_person_is_in_one_room() {
    let Some((mut rig, ana)) = with(CHAT) else { return };
    let other = rig.open();
    returned(&mut rig, ana, "join room", &json!(["tea", "Ana"]));
    let error = refused(&mut rig, other, "join room", &json!(["tea", "Ana"]));
    assert!(error.contains("called Ana already"), "{error}");
    returned(&mut rig, ana, "join room", &json!(["coffee", "Ana"]));
    returned(&mut rig, other, "join room", &json!(["tea", "Ana"]));
    assert!(heard(&mut rig, ana).is_empty(), "who is in another room hears nothing of this one");
    call(&mut rig, other, "leave room", &json!([]));
    refused(&mut rig, other, "say", &json!(["am I here?"]));
    // The same again by the same person is a new seat, not a second one.
    pass_quickly(&mut rig);
    let again = returned(&mut rig, ana, "join room", &json!(["coffee", "Ana"]));
    assert_eq!(again["people"], json!(["Ana"]));
    let rooms = rig.eval(ana, "ws.send(String(chat.rooms.size))");
    assert_eq!(rooms.last().map(String::as_str), Some("1"), "rooms without people are gone");
}

/// Lets the sandbox's own clock, which is the machine's, go on by as much as floods are counted for.
fn pass_quickly(rig: &mut Rig) {
    let link = rig.open();
    rig.eval(link, "Date.now = ((now, ahead) => () => now() + ahead)(Date.now, 10_000)");
}

#[test]
fn a_flood_in_a_chat_room_is_refused_also_when_its_author_leaves_and_joins_again() {
    let Some((mut rig, ana)) = with(CHAT) else { return };
    let flooder = rig.open();
    returned(&mut rig, ana, "join room", &json!(["tea", "Ana"]));
    // A clock that stands still: the test is not about the machine's speed.
    rig.eval(ana, "Date.now = (now => () => now)(Date.now())");
    let mut said = 0;
    for n in 0..40 {
        let (name, parameters) = match n % 4 {
            0 => ("join room", json!(["tea", "flood"])),
            3 => ("leave room", json!([])),
            _ => ("say", json!(["spam"])),
        };
        said += usize::from(!call(&mut rig, flooder, name, &parameters).1.contains("Error"));
    }
    let messages = heard(&mut rig, ana);
    let spam = messages.iter().filter(|message| message["text"] == "spam").count();
    assert!((1..=10).contains(&spam), "{spam} of {said} calls reached the room");
    assert!(refused(&mut rig, flooder, "join room", &json!(["tea", "flood"])).contains("too fast"));
    assert_eq!(call(&mut rig, ana, "say", &json!(["still here"])).1, "1", "others are not held up");
}

#[test]
fn bad_parameters_of_the_chat_room_are_refused_and_change_nothing() {
    let Some((mut rig, ana)) = with(CHAT) else { return };
    returned(&mut rig, ana, "join room", &json!(["tea", "Ana"]));
    let other = rig.open();
    for parameters in bad_parameters() {
        refused(&mut rig, other, "join room", &parameters);
        refused(&mut rig, other, "say", &parameters);
    }
    for parameters in bad_parameters() {
        // A text of one space before another letter is no name, but something to say.
        if parameters[0] != json!(" x") {
            refused(&mut rig, ana, "say", &parameters);
        }
    }
    assert!(heard(&mut rig, ana).is_empty());
}

#[test]
fn a_lobby_lists_games_until_their_hosts_go() {
    let Some((mut rig, host)) = with(LOBBY) else { return };
    let (player, early) = (rig.open(), rig.open());
    assert!(refused(&mut rig, early, "follow games", &json!([])).contains("'open lobby'"));
    call(&mut rig, host, "open lobby", &json!([]));
    assert_eq!(returned(&mut rig, player, "follow games", &json!([])), json!({ "games": [] }));
    let server = rig.prove(host, 1);
    let number = returned(&mut rig, host, "host game", &json!(["Sparks", server, 4]));
    rig.pass(SECOND);
    let game = json!({ "id": number, "game": "Sparks", "serverId": server, "seats": 4 });
    assert_eq!(heard(&mut rig, player), [json!({ "games": [game] })]);
    // Changes in a row are told once.
    for seats in 2..8 {
        assert_eq!(returned(&mut rig, host, "host game", &json!(["Sparks", server, seats])), number);
    }
    rig.pass(SECOND);
    let told = heard(&mut rig, player);
    assert_eq!((told.len(), &told[0]["games"][0]["seats"]), (1, &json!(7)));
    rig.close(host);
    rig.pass(SECOND);
    assert_eq!(heard(&mut rig, player), [json!({ "games": [] })]);
}

#[test]
fn strangers_who_want_the_same_game_are_brought_together_and_who_left_is_not_waited_for() {
    let Some((mut rig, configurer)) = with(LOBBY) else { return };
    call(&mut rig, configurer, "open lobby", &json!([]));
    let links = [rig.open(), rig.open(), rig.open(), rig.open()];
    let servers: Vec<_> = (1..).zip(links).map(|(secret, link)| rig.prove(link, secret)).collect();
    let [gone, one, two, other] = links;
    let find = |server: usize, size: u32| json!(["Sparks", servers[server], size]);
    assert_eq!(returned(&mut rig, gone, "find match", &find(0, 2)), 1);
    rig.close(gone);
    assert_eq!(returned(&mut rig, one, "find match", &find(1, 2)), 1, "the place of the one who left");
    // Asking again is not a second player.
    assert_eq!(returned(&mut rig, one, "find match", &find(1, 2)), 1);
    assert_eq!(returned(&mut rig, other, "find match", &find(3, 3)), 1, "another number of players");
    let (told, size) = call(&mut rig, two, "find match", &find(2, 2));
    let match_of =
        |you: u32| json!({ "match": told[0]["match"], "host": servers[1], "you": you, "players": 2 });
    assert_eq!((told.clone(), size.as_str()), (vec![match_of(1)], "2"));
    assert_eq!(heard(&mut rig, one), [match_of(0)]);
    assert!(heard(&mut rig, other).is_empty());
    assert_eq!(returned(&mut rig, two, "find match", &find(2, 2)), 1, "a match that is complete is over");
    call(&mut rig, two, "leave lobby", &json!([]));
    assert_eq!(returned(&mut rig, one, "find match", &find(1, 2)), 1);
}

#[test]
fn a_lobby_refuses_bad_parameters_and_more_games_than_it_can_show() {
    let Some((mut rig, host)) = with(LOBBY) else { return };
    call(&mut rig, host, "open lobby", &json!([]));
    for parameters in bad_parameters() {
        for name in ["host game", "find match"] {
            refused(&mut rig, host, name, &parameters);
        }
    }
    let server = rig.prove(host, 1);
    for bad in [json!(["Sparks", "short", 2]), json!(["Sparks", id("A"), 2]), json!(["Sparks", server, 9])] {
        refused(&mut rig, host, "host game", &bad);
    }
    for _ in 0..200 {
        let link = rig.open();
        let server = rig.prove(link, 2);
        returned(&mut rig, link, "host game", &json!(["Sparks", server, 2]));
    }
    assert!(refused(&mut rig, host, "host game", &json!(["Sparks", server, 2])).contains("200 games"));
}

#[test]
fn a_lobby_lists_nobodys_server_but_the_callers() {
    let Some((mut rig, configurer)) = with(LOBBY) else { return };
    call(&mut rig, configurer, "open lobby", &json!([]));
    let (host, thief) = (rig.open(), rig.open());
    let server = rig.prove(host, 1);
    returned(&mut rig, host, "host game", &json!(["Sparks", server, 2]));
    rig.prove(thief, 2);
    for name in ["host game", "find match"] {
        let error = refused(&mut rig, thief, name, &json!(["Sparks", server, 2]));
        assert!(error.contains("the server is theirs"), "{error}");
        refused(&mut rig, configurer, name, &json!(["Sparks", id("a"), 2]));
    }
    let listed = returned(&mut rig, configurer, "follow games", &json!([]));
    assert_eq!(listed["games"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_shared_counter_loses_no_change_and_tells_its_followers_seldom() {
    let Some((mut rig, one)) = with(COUNTER) else { return };
    let (two, follower) = (rig.open(), rig.open());
    assert_eq!(returned(&mut rig, follower, "follow count", &json!([])), 0);
    for n in 1..=50 {
        assert_eq!(returned(&mut rig, one, "count", &json!([2])), 2 * n - (n - 1));
        assert_eq!(returned(&mut rig, two, "count", &json!([-1])), n);
    }
    rig.pass(SECOND);
    let told = heard(&mut rig, follower);
    assert_eq!(told, [json!({ "count": 50 })], "time stood still: one of 100 changes is told");
    for parameters in bad_parameters().into_iter().filter(|it| it[0] != json!(-1)) {
        refused(&mut rig, one, "count", &parameters);
    }
    refused(&mut rig, one, "count", &json!([1001]));
    assert_eq!(returned(&mut rig, one, "count", &json!([0])), 50);
    rig.close(follower);
    let left = rig.eval(one, "ws.send(String(counter.followers.size))");
    assert_eq!(left.last().map(String::as_str), Some("0"));
}

#[test]
fn watchers_of_a_store_hear_of_keys_that_begin_as_they_asked() {
    let Some((mut rig, writer)) = with(STORE) else { return };
    let watcher = rig.open();
    returned(&mut rig, writer, "put value", &json!(["game/level", { "map": 3 }]));
    returned(&mut rig, writer, "put value", &json!(["other", 1]));
    let found = returned(&mut rig, watcher, "watch values", &json!(["game/"]));
    assert_eq!(found, json!({ "game/level": { "map": 3 } }));
    assert_eq!(returned(&mut rig, writer, "put value", &json!(["game/level", "new"])), 3);
    returned(&mut rig, writer, "put value", &json!(["other", 2]));
    returned(&mut rig, writer, "put value", &json!(["game/level", null]));
    let told = heard(&mut rig, watcher);
    assert_eq!(
        told,
        [
            json!({ "key": "game/level", "value": "new", "version": 3 }),
            json!({ "key": "game/level", "value": null, "version": 5 }),
        ]
    );
    let gone = returned(&mut rig, watcher, "get value", &json!(["game/level"]));
    assert_eq!(gone, json!({ "value": null, "version": 0 }));
    rig.close(watcher);
    let left = rig.eval(writer, "ws.send(String(store.watchers.size))");
    assert_eq!(left.last().map(String::as_str), Some("0"));
}

#[test]
fn of_two_who_change_the_same_version_of_a_value_one_is_refused() {
    let Some((mut rig, one)) = with(STORE) else { return };
    let two = rig.open();
    assert_eq!(
        returned(&mut rig, one, "put value", &json!(["k", "one", 0])),
        1,
        "a key that is not there yet"
    );
    assert_eq!(returned(&mut rig, two, "put value", &json!(["k", "two", 1])), 2);
    let error = refused(&mut rig, one, "put value", &json!(["k", "late", 1]));
    assert!(error.contains("has the version 2, and not 1"), "{error}");
    assert_eq!(returned(&mut rig, one, "get value", &json!(["k"])), json!({ "value": "two", "version": 2 }));
}

#[test]
fn a_store_takes_no_more_than_it_can_keep_and_what_is_deleted_makes_room() {
    let Some((mut rig, one)) = with(STORE) else { return };
    for parameters in bad_parameters().into_iter().filter(|it| it[0] != json!(" x")) {
        refused(&mut rig, one, "put value", &parameters);
    }
    refused(&mut rig, one, "put value", &json!(["k", "x".repeat(4095)]));
    let large = "x".repeat(4_000);
    let mut count = 0;
    while !call(&mut rig, one, "put value", &json!([format!("key {count}"), large])).1.contains("Error") {
        count += 1;
    }
    assert!((120..=125).contains(&count), "{count} values of 4,000 characters");
    refused(&mut rig, one, "put value", &json!(["one more", large]));
    returned(&mut rig, one, "put value", &json!(["key 0", null]));
    returned(&mut rig, one, "put value", &json!(["one more", large]));
}

/// A rig in whose sandbox the tunnel's six are, with a line in front: the relay has them built in as they are.
fn with_tunnel() -> Option<(Rig, LinkId)> {
    let mut rig = Rig::new()?;
    let link = rig.open();
    for it in Instruction::ALL {
        rig.add(link, it.name(), &format!("// in the sandbox\n{}", it.source()));
    }
    assert_eq!(rig.invoke(link, "initialize", r#"[" "]"#), ["server: initialized"]);
    Some((rig, link))
}

/// Makes a link a server; returns its number and credential.
fn serve(rig: &mut Rig, link: LinkId) -> (String, String) {
    let made = rig.invoke(link, "create server credential", "[]");
    let (number, credential) = made[0].split_once(' ').expect("a number and a credential");
    let parameters = json!([number, credential]).to_string();
    assert_eq!(rig.invoke(link, "install server", &parameters), ["1", "server: 1"]);
    (number.to_owned(), credential.to_owned())
}

#[test]
fn the_tunnels_six_carry_words_both_ways_while_one_of_them_is_changed() {
    let Some((mut rig, configurer)) = with_tunnel() else { return };
    let (server, client, stranger) = (rig.open(), rig.open(), rig.open());
    let (number, _) = serve(&mut rig, server);
    assert_eq!(rig.invoke(client, "connect to server", &json!([number, 80]).to_string()), ["1", "server: 1"]);
    assert_eq!(rig.texts(server), ["connected:atPort:for: 1 80 192.0.2.7"]);
    let forward = |rig: &mut Rig, link, text: &str| {
        rig.invoke(link, "forward to client", &json!(["1", text]).to_string())[0].clone()
    };
    assert_eq!(rig.invoke(client, "forward to server", &json!([number, "a b"]).to_string())[0], "1");
    assert_eq!(rig.texts(server), ["from:data: 1 a b"]);
    assert_eq!(forward(&mut rig, server, "hello"), "1");
    assert_eq!(rig.texts(client), ["from:data: 1 hello"]);
    assert_eq!(forward(&mut rig, stranger, "forged"), "0");
    assert!(rig.texts(client).is_empty());

    let shouting =
        Instruction::ForwardToClient.source().replace("server.id, data", "server.id, data.toUpperCase()");
    rig.add(configurer, "forward to client", &shouting);
    forward(&mut rig, server, "hello");
    rig.manage(configurer, "roll back", &json!({ "name": "forward to client", "version": 1 }));
    forward(&mut rig, server, "hello");
    assert_eq!(rig.texts(client), ["from:data: 1 HELLO", "from:data: 1 hello"]);
}

#[test]
fn the_tunnels_six_tell_of_peers_that_leave_and_take_a_server_back_by_its_credential() {
    let Some((mut rig, _)) = with_tunnel() else { return };
    let (server, client) = (rig.open(), rig.open());
    let (number, credential) = serve(&mut rig, server);
    let connect = json!([number, 80]).to_string();
    rig.invoke(client, "connect to server", &connect);
    // Only an encrypted session has a word for the end: its packets begin so.
    rig.invoke(client, "forward to server", &json!([number, "tunnel.v1:AA"]).to_string());
    rig.close(server);
    assert_eq!(rig.texts(client), [format!("from:data: {number} tunnel.v1:BQ5/")]);
    assert_eq!(rig.invoke(client, "connect to server", &connect)[0], "0");
    let again = rig.open();
    let guess = json!([number, "guessed"]).to_string();
    assert_eq!(rig.invoke(again, "install server", &guess)[0], "0");
    assert_eq!(rig.invoke(again, "install server", &json!([number, credential]).to_string())[0], "1");
    assert_eq!(rig.invoke(client, "connect to server", &connect)[0], "1");
}

#[test]
fn the_tunnels_six_answer_bad_parameters_with_0_and_one_link_is_256_servers_at_most() {
    let Some((mut rig, _)) = with_tunnel() else { return };
    let link = rig.open();
    for parameters in bad_parameters() {
        for name in ["install server", "connect to server", "forward to client", "forward to server"] {
            let answer = rig.invoke(link, name, &parameters.to_string());
            assert_eq!(answer, ["0", "server: 0"], "'{name}' with {parameters}");
        }
    }
    for _ in 0..256 {
        serve(&mut rig, link);
    }
    let made = rig.invoke(link, "create server credential", "[]");
    let (number, credential) = made[0].split_once(' ').expect("a number and a credential");
    assert_eq!(rig.invoke(link, "install server", &json!([number, credential]).to_string())[0], "0");
}
