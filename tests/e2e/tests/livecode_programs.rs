//! A relay of ours that pages reprogram while it runs: injected instructions, in its sandbox.

use crate::livecode::{CREDENTIAL, tab};
use anyhow::Result;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tunnel_e2e::{Liar, Lie, Relay, Stage, Tab, livecode_server, on_stage};
use tunnel_protocol::livecode::Instruction;

#[test]
fn two_tabs_exchange_through_injected_instructions_while_one_is_redefined_and_rolled_back() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let configurer = tab(stage, "configurer", &relay.url, None).await?;
        let answers = configurer
            .run_with(
                json!(CREDENTIAL),
                "globalThis.live = await NodeJSLivecodingClient.configureServerAt(node, given)
                 await live.addInstruction('join', function (name) { (global.tabs ??= new Map()).set(name, this); return tabs.size })
                 await live.addInstruction('tell', function (name, text) { tabs.get(name).send(text); return text.length })
                 return [live.capabilities.version, (await live.invoke('join', 'configurer')).value]",
            )
            .await?;
        assert_eq!(answers, json!([1, 1]));
        let other = tab(stage, "other", &relay.url, None).await?;
        let joined = other
            .run(
                "globalThis.live = await NodeJSLivecodingClient.connectTo(node)
                 globalThis.heard = []
                 live.onmessage = ({ data }) => heard.push(data)
                 return [live.capabilities, (await live.invoke('join', 'other')).returned]",
            )
            .await?;
        assert_eq!(joined, json!([null, "2"]));
        let told = configurer
            .run(
                "await live.invoke('tell', 'other', 'one')
                 await live.addInstruction('tell', function (name, text) { tabs.get(name).send(text.toUpperCase()); return text.length })
                 await live.invoke('tell', 'other', 'two')
                 const version = await live.rollBack('tell', 1)
                 return [version, (await live.invoke('tell', 'other', 'three')).value, (await live.source('tell', 2)).source.includes('toUpperCase')]",
            )
            .await?;
        assert_eq!(told, json!([3, 5, true]));
        let heard = other
            .run("while (heard.length < 3) await new Promise(done => setTimeout(done, 10)); return heard")
            .await?;
        assert_eq!(heard, json!(["one", "TWO", "three"]));
        Ok(())
    });
}

#[test]
fn errors_of_instructions_are_told_with_their_place() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let tab = tab(stage, "a", &relay.url, None).await?;
        let told = tab
            .run_with(
                json!(CREDENTIAL),
                "const live = await NodeJSLivecodingClient.configureServerAt(node, given)
                 const code = promise => promise.then(() => 'done', error => [error.name, error.code, error.cause.at.line])
                 const lines = live.logs()
                 const first = lines.next()
                 const source = await code(live.addInstruction('bad', 'function () {\\n return 1 +\\n}'))
                 await live.addInstruction('oops', 'function () {\\n console.log(`here`)\\n throw new RangeError(`no`)\\n}')
                 const threw = await code(live.invoke('oops'))
                 await live.checkpoint('before')
                 const value = await live.evaluate('global.n = 6 * 7')
                 const names = (await live.inspect()).map(({ name }) => name)
                 await live.restore('before')
                 const gone = await live.evaluate('typeof n')
                 const entry = (await first).value
                 await lines.return()
                 return [source, threw, value, names.includes('n'), gone, typeof entry.text, (await live.instructions()).length]",
            )
            .await?;
        assert_eq!(
            told,
            json!([
                ["TunnelError", "source", 3],
                ["TunnelError", "instruction-threw", 3],
                "42",
                true,
                "undefined",
                "string",
                1
            ])
        );
        Ok(())
    });
}

/// A lobby as the examples have it, opened by a configurer whose tab is closed then.
async fn with_the_lobby(stage: &Stage, url: &str) -> Result<()> {
    let configurer = tab(stage, "configurer", url, None).await?;
    let lobby = include_str!("../../../examples/livecode/lobby.js");
    let script = "const url = URL.createObjectURL(new Blob([given.lobby], { type: 'text/javascript' }))
                  const { default: lobby } = await import(url)
                  const live = await NodeJSLivecodingClient.configureServerAt(node, given.credential)
                  for (const [name, source] of Object.entries(lobby)) await live.addInstruction(name, source)
                  await live.invoke('open lobby')";
    configurer.run_with(json!({ "lobby": lobby, "credential": CREDENTIAL }), script).await?;
    configurer.close().await
}

/// The script of a tab that hosts the game `given.game` under the identity `given.identity`, if there is one.
const HOST_GAME: &str = "globalThis.server = await ForwardingServerWebSocket.newThrough(node, given.identity ? { identity: given.identity } : {})
     server.listen(1, socket => socket.send(`this is ${given.game}`))
     globalThis.live = await NodeJSLivecodingClient.connectTo(node)
     const proven = await live.prove(server)
     const { returned } = await live.invoke('host game', given.game, server.serverId, 2)
     return [server.serverId, proven, returned]";

#[test]
fn a_lobby_lists_servers_of_those_only_who_have_proven_that_they_are_theirs() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        with_the_lobby(stage, &relay.url).await?;
        let player = tab(stage, "player", &relay.url, None).await?;
        let games = "globalThis.games = JSON.parse((await live.invoke('follow games')).returned).games
                     return games.map(({ game, serverId }) => [game, serverId])";
        let connect = "globalThis.live = await NodeJSLivecodingClient.connectTo(node)";
        player.run(connect).await?;
        // One server's key is in WebCrypto, and never leaves it; the other one's is the page's.
        let (one, two) =
            (tab(stage, "one", &relay.url, None).await?, tab(stage, "two", &relay.url, None).await?);
        let mut ids = Vec::new();
        for (tab, game, identity) in [(&one, "Sparks", json!("host")), (&two, "Stones", Value::Null)] {
            let given = json!({ "game": game, "identity": identity });
            let hosted = tab.run_with(given, HOST_GAME).await?;
            assert_eq!(
                (&hosted[0], hosted[2].as_str()),
                (&hosted[1], Some((ids.len() + 1).to_string().as_str()))
            );
            ids.push(hosted[0].clone());
        }
        let thief = tab(stage, "thief", &relay.url, None).await?;
        thief.run(connect).await?;
        let told = thief
            .run_with(
                ids[0].clone(),
                "const server = await ForwardingServerWebSocket.newThrough(node)
                 const before = (await live.invoke('host game', 'Sparks', given, 2)).returned
                 await live.prove(server)
                 const after = (await live.invoke('host game', 'Sparks', given, 2)).returned
                 const failed = promise => promise.then(() => 'done', error => error.name)
                 const others = [await failed(live.prove({})), await failed(live.prove())]
                 await server.close()
                 return [before, after, ...others, await failed(live.prove(server))]",
            )
            .await?;
        for refused in [&told[0], &told[1]] {
            assert!(refused.as_str().is_some_and(|it| it.contains("the server is theirs")), "{told}");
        }
        assert_eq!(
            told.as_array().map(|it| &it[2..]),
            Some(&[json!("TypeError"), json!("TypeError"), json!("InvalidStateError")][..])
        );
        assert_eq!(player.run(games).await?, json!([["Sparks", ids[0]], ["Stones", ids[1]]]));
        let heard = "const socket = PeerToPeerWebSocket.toPort(1, games[0].serverId, node)
                     return (await next(socket, 'message')).data";
        assert_eq!(player.run(heard).await?, json!("this is Sparks"));
        // A host that goes takes its game along.
        player.run("globalThis.changed = next(live, 'message')").await?;
        one.close().await?;
        let left =
            player.run("return JSON.parse((await changed).data).games.map(({ game }) => game)").await?;
        assert_eq!(left, json!(["Stones"]));
        Ok(())
    });
}

#[test]
fn a_page_is_told_why_a_proof_of_its_server_is_not_taken() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let liar = Liar::start(relay.address()?)?;
        liar.tell(Lie::RewritesHost);
        let (_node, of_2017) = livecode_server(CREDENTIAL)?;
        let page = tab(stage, "page", &relay.url, None).await?;
        let told = page
            .run_with(
                json!([liar.url(), of_2017, CREDENTIAL]),
                "const [rewritten, of2017, credential] = given
                 const failed = promise => promise.then(() => ['done'], ({ code, message }) => [code, message])
                 const server = await ForwardingServerWebSocket.newThrough(node)
                 await NodeJSTunnelingClient.configureServerAt(of2017, credential)
                 const numbered = await ForwardingServerWebSocket.newThrough(of2017, { livecode: true })
                 const at = async (url, server) => failed((await NodeJSLivecodingClient.connectTo(url)).prove(server))
                 return [await at(rewritten, server), await at(of2017, server), await at(node, numbered), await at(node, server)]",
            )
            .await?;
        let expected = [
            ("bad-credential", liar.url()),
            ("unsupported", "prove".to_owned()),
            ("bad-server-id", "livecode: true".to_owned()),
        ];
        for (index, (code, words)) in expected.iter().enumerate() {
            assert_eq!(told[index][0], json!(code), "{told}");
            assert!(told[index][1].as_str().is_some_and(|it| it.contains(words)), "{words} is not in {told}");
        }
        assert_eq!(
            told[3],
            json!(["done"]),
            "the same server, where its relay is reached under its own name"
        );
        Ok(())
    });
}

/// The code of a section of the guide, as a tab of the tests runs it.
fn guide(heading: &str, relay: &str) -> Vec<String> {
    let text = include_str!("../../../docs/guide/livecoding.md");
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).expect("the section");
    let is_code = |line: &&str| !line.starts_with("import ") && *line != "await init()";
    let code = |block: &str| {
        let lines: Vec<_> = block.split("\n```").next().unwrap_or_default().lines().filter(is_code).collect();
        lines
            .join("\n")
            .replace("wss://relay.example", relay)
            .replace("prompt('credential') ?? ''", &format!("'{CREDENTIAL}'"))
    };
    section.split("```js\n").skip(1).map(code).collect()
}

#[test]
fn a_room_of_the_guide_is_there_while_no_tab_is_and_two_tabs_join_it() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let [open, join] = &guide("A room", &relay.url)[..] else { panic!("two samples") };
        let configurer = tab(stage, "configurer", &relay.url, None).await?;
        let id = configurer.run(&format!("{open}\nreturn roomId")).await?;
        configurer.close().await?;
        let join =
            join.replace("location.hash.slice(1)", "given").replace("console.log(data)", "heard.push(data)");
        let join = format!("globalThis.heard = []\n{join}\nglobalThis.socket = socket");
        let wait = "while (heard.length < given) await new Promise(done => setTimeout(done, 10))
                    return [heard, socket.encrypted, socket.verified]";
        let (one, two) =
            (tab(stage, "one", &relay.url, None).await?, tab(stage, "two", &relay.url, None).await?);
        one.run_with(id.clone(), &join).await?;
        assert_eq!(one.run_with(json!(1), wait).await?, json!([["hello, room"], true, true]));
        two.run_with(id, &join).await?;
        assert_eq!(two.run_with(json!(1), wait).await?, json!([["hello, room"], true, true]));
        assert_eq!(one.run_with(json!(2), wait).await?[0], json!(["hello, room", "hello, room"]));
        Ok(())
    });
}

#[test]
fn the_lobby_of_the_guide_lists_who_has_proven_a_server() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let [add, host, read] = &guide("A lobby", &relay.url)[..] else { panic!("three samples") };
        let configurer = tab(stage, "configurer", &relay.url, None).await?;
        configurer.run(add).await?;
        let ana = tab(stage, "Ana", &relay.url, None).await?;
        ana.run(host).await?;
        let reader = tab(stage, "reader", &relay.url, None).await?;
        let read = read.replace("console.log(", "heard.push(");
        let script = format!(
            "globalThis.heard = []\n{read}
             while (heard.length < 1) await new Promise(done => setTimeout(done, 10))
             return [heard, (await peer.invoke('list me', 'x'.repeat(56), 'Eve')).returned]"
        );
        let told = reader.run(&script).await?;
        assert_eq!(told[0], json!(["Ana says welcome"]));
        assert!(told[1].as_str().is_some_and(|it| it.contains("prove first")), "{told}");
        Ok(())
    });
}

/// A relay that runs programs; `None`, with a word about it, if it was built without.
fn relay_with_programs(options: &[&str]) -> Result<Option<Relay>> {
    let programs =
        ["--livecode-credential", CREDENTIAL, "--livecode-programs", "on", "--livecode-share", "100"];
    match Relay::start(&[&programs, options].concat()) {
        Err(error) if error.to_string().contains("built without livecoding") => {
            eprintln!("skipped: the relay is built without livecoding; run `cargo xtask livecode`");
            Ok(None)
        }
        relay => relay.map(Some),
    }
}

/// The tunnel's six instructions with a comment, which makes them foreign: the relay runs them in its sandbox, none by itself.
fn foreign_six() -> Vec<[String; 2]> {
    let named =
        |it: Instruction| [it.name().to_owned(), format!("{}\n// as a page has it", it.source().trim_end())];
    Instruction::ALL.into_iter().map(named).collect()
}

/// Has a new tab add them, and begin.
async fn with_the_six<'a>(stage: &'a Stage, url: &str) -> Result<Tab<'a>> {
    let configurer = tab(stage, "configurer", url, None).await?;
    configurer
        .run_with(
            json!({ "credential": CREDENTIAL, "six": foreign_six() }),
            "globalThis.live = await NodeJSLivecodingClient.configureServerAt(node, given.credential)
             for (const [name, source] of given.six) await live.addInstruction(name, source)
             await live.invoke('initialize')",
        )
        .await?;
    Ok(configurer)
}

/// The script of a tab that becomes the server `seat` (made anew if there is none), and keeps what it hears in `heard`.
const SERVE: &str = "globalThis.live = await NodeJSTunnelingClient.connectTo(node)
     globalThis.seat = given ?? await live.createServerCredential()
     await live.installServer(seat.serverId, seat.credential)
     globalThis.heard = []
     live.ondata = ({ from, data }) => { heard.push(data); live.forwardToClient(from, `you said ${data}`) }
     return seat.serverId";

/// The script of a tab that connects to the server `given`.
const CONNECT: &str = "globalThis.live = await NodeJSTunnelingClient.connectTo(node)
     globalThis.server = given
     await live.connectToServer(given, 80)";

/// Says something through the injected instructions; what comes back.
async fn say(client: &Tab<'_>, text: &str) -> Result<Value> {
    let script = "const answer = next(live, 'data')
                  await live.forwardToServer(server, given)
                  return (await answer).data";
    client.run_with(json!(text), script).await
}

#[test]
fn two_tabs_talk_through_six_injected_instructions_while_one_changes_and_the_relay_starts_again() {
    on_stage(async |stage| {
        let folder = tempfile::tempdir()?;
        let state = folder.path().display().to_string();
        let options = ["--livecode-state", &state, "--drain-timeout", "200ms"];
        let Some(mut relay) = relay_with_programs(&options)? else { return Ok(()) };
        let configurer = with_the_six(stage, &relay.url).await?;
        let server = tab(stage, "server", &relay.url, None).await?;
        let client = tab(stage, "client", &relay.url, None).await?;
        let id = server.run_with(Value::Null, SERVE).await?;
        client.run_with(id.clone(), CONNECT).await?;
        assert_eq!(say(&client, "hello").await?, json!("you said hello"));

        configurer
            .run(
                "const { source } = await live.source('forward to client')
                 const louder = source.replace('channel.server.id, data)', 'channel.server.id, `${data}`.toUpperCase())')
                 await live.addInstruction('forward to client', louder)",
            )
            .await?;
        assert_eq!(say(&client, "hello again").await?, json!("YOU SAID HELLO AGAIN"));
        let version = configurer.run("return live.rollBack('forward to client', 1)").await?;
        assert_eq!(version, json!(3));
        assert_eq!(say(&client, "as before").await?, json!("you said as before"));

        let ended = "globalThis.ended = next(live, 'close')";
        for tab in [&server, &client] {
            tab.run(ended).await?;
        }
        relay.terminate()?;
        for tab in [&server, &client] {
            tab.run("await ended").await?;
        }
        relay.restart()?;
        // The relay's table of servers is in the image, and so the server's credential is still right.
        let again = server.run("return seat").await?;
        assert_eq!(server.run_with(again, SERVE).await?, id);
        client.run_with(id, CONNECT).await?;
        assert_eq!(say(&client, "you are back").await?, json!("you said you are back"));
        Ok(())
    });
}

#[test]
fn encrypted_sockets_run_through_injected_instructions() {
    on_stage(async |stage| {
        let Some(relay) = relay_with_programs(&[])? else { return Ok(()) };
        let configurer = with_the_six(stage, &relay.url).await?;
        // Without it, pages and our relay would agree on `tunnel.v1`.
        let liar = Liar::start(relay.address()?)?;
        liar.tell(Lie::Livecode);
        let url = liar.url();
        let server = tab(stage, "server", &url, None).await?;
        let client = tab(stage, "client", &url, None).await?;
        let id = server
            .run(
                "globalThis.server = await ForwardingServerWebSocket.newThrough(node, { livecode: true })
                 server.listen(1337, socket => { socket.onmessage = ({ data }) => socket.send(`you said ${data}`) })
                 return server.serverId",
            )
            .await?;
        let told = client
            .run_with(
                id,
                "const socket = await opened(PeerToPeerWebSocket.toPort(1337, given, node, { livecode: true }))
                 socket.send('between us two')
                 return [(await next(socket, 'message')).data, socket.encrypted]",
            )
            .await?;
        assert_eq!(told, json!(["you said between us two", true]));
        assert!(!liar.has_seen("between us two"));
        let calls = configurer
            .run("return (await live.instructions()).find(it => it.name === 'forward to client').calls")
            .await?;
        assert!(calls.as_u64() > Some(0), "{calls}");
        Ok(())
    });
}

/// The six of the article, which are no part of this repository.
fn published_six() -> Result<Option<Value>> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spikes/livecode");
    let folder = std::env::var_os("TUNNEL_LIVECODE_MATERIAL").map_or(default, PathBuf::from);
    let path = folder.join("article-instructions.json");
    if !path.is_file() {
        eprintln!("skipped: there is no {} (TUNNEL_LIVECODE_MATERIAL)", path.display());
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&std::fs::read_to_string(path)?)?))
}

#[test]
fn two_tabs_talk_through_the_six_instructions_of_the_article() {
    on_stage(async |stage| {
        let (Some(six), Some(relay)) = (published_six()?, relay_with_programs(&[])?) else { return Ok(()) };
        let configurer = tab(stage, "configurer", &relay.url, None).await?;
        configurer
            .run_with(
                json!({ "credential": CREDENTIAL, "six": six }),
                "globalThis.live = await NodeJSLivecodingClient.configureServerAt(node, given.credential)
                 for (const [name, source] of given.six) await live.addInstruction(name, source)
                 await live.invoke('initialize')",
            )
            .await?;
        // As the pages of then had it: the platform's WebSocket, and texts. Their delimiter is another one than ours.
        let script = "const socket = new WebSocket(node)
                      globalThis.heard = []
                      socket.onmessage = ({ data }) => heard.push(data)
                      await next(socket, 'open')
                      globalThis.hear = async last => {
                        while (heard.at(-1) !== last) await new Promise(done => setTimeout(done, 10))
                        return heard.splice(0)
                      }
                      globalThis.say = (instruction, ...parameters) => socket.send(JSON.stringify({ instruction, parameters }))";
        let server = tab(stage, "server", &relay.url, None).await?;
        let client = tab(stage, "client", &relay.url, None).await?;
        server.run(script).await?;
        client.run(script).await?;
        server
            .run(
                "say('create server credential')
                 const [, , sent] = await hear('server: created server credential')
                 const [id, credential] = sent.split(' ').map(Number)
                 say('install server', id, credential)
                 await hear('server: installed server')",
            )
            .await?;
        let told =
            client.run("say('connect to server', 0, 1337); return hear('server: connected client')").await?;
        assert_eq!(
            told,
            json!([
                "server: received command 'connect to server'",
                "server: evaluating added instruction 'connect to server'",
                "1",
                "server: connected client"
            ])
        );
        client
            .run("say('forward to server', 0, 'hello, server'); await hear('server: sent data to server')")
            .await?;
        let told = server.run("return hear('from:data: 0|hello, server')").await?;
        assert_eq!(told, json!(["connected:atPort:for: 0|1337|127.0.0.1", "from:data: 0|hello, server"]));
        server
            .run("say('forward to client', 0, 'hello, client'); await hear('server: sent data to client')")
            .await?;
        assert_eq!(
            client.run("return hear('from:data: 0|hello, client')").await?,
            json!(["from:data: 0|hello, client"])
        );
        Ok(())
    });
}
