//! A relay that lies to tabs about who they are, whom they talk to and in which dialect.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Liar, Lie, Relay, Stage, Tab, on_stage};

/// The text that the relay must not see.
const CANARY: &str = "for us two only";

/// A relay that may lie, and an honest one behind it, which speaks both dialects.
fn liar() -> Result<(Relay, Liar)> {
    let relay = Relay::start(&["--livecode-credential", "a secret of the test"])?;
    let liar = Liar::start(relay.address()?)?;
    Ok((relay, liar))
}

/// Hosts a server that answers with what it is told and how sure it is of the client; returns its ID.
async fn host(tab: &Tab<'_>, options: Value) -> Result<Value> {
    let script = "
        globalThis.server = await ForwardingServerWebSocket.newThrough(relay, given)
        globalThis.ends = []
        for (const type of ['reconnecting', 'reconnected', 'error', 'close']) {
          server.addEventListener(type, ({ code, reason }) => ends.push([type, code ?? null, reason ?? null]))
        }
        server.listen(80, socket => { socket.onmessage = ({ data }) => socket.send(`${data} ${socket.verified}`) })
        return server.serverId";
    tab.run_with(options, script).await
}

/// Returns how `newThrough` fails.
async fn host_in_vain(tab: &Tab<'_>, options: Value) -> Result<Value> {
    let script = "
        const trial = ForwardingServerWebSocket.newThrough(relay, given)
        return trial.then(({ serverId }) => ['registered', serverId], ({ code, message }) => [code, message])";
    tab.run_with(options, script).await
}

/// A client that says the canary as soon as it can; what it hears and how it ends is recorded.
async fn connect(tab: &Tab<'_>, id: &Value) -> Result<()> {
    let script = "
        globalThis.socket = PeerToPeerWebSocket.toPort(80, given.id, relay)
        globalThis.events = record(socket)
        socket.addEventListener('open', () => socket.send(given.canary))
        const end = new Promise(resolve => socket.addEventListener('close', resolve))
        await Promise.race([next(socket, 'message'), end])";
    tab.run_with(json!({ "id": id, "canary": CANARY }), script).await?;
    Ok(())
}

/// The event of a client whose socket never opened begins with this code's name.
fn failed(events: &Value, name: &str) -> bool {
    let [error, close] = &events.as_array().map(Vec::as_slice).unwrap_or_default() else { return false };
    error == &json!(["error"])
        && close[1] == 1006
        && close[2].as_str().is_some_and(|text| text.starts_with(name))
}

/// Names of servers with and without a key that is kept.
fn identities() -> [Value; 2] {
    [json!({}), json!({ "identity": "shop" })]
}

#[test]
fn a_server_whose_relay_gives_it_the_id_of_another_does_not_come_up() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let attacker = stage.tab_through("attacker", &relay.url).await?;
        let other = host(&attacker, json!({})).await?;
        liar.tell(Lie::Registers(other.as_str().unwrap_or_default().parse()?));
        let victim = stage.tab_through("victim", &liar.url()).await?;
        for options in identities() {
            let end = host_in_vain(&victim, options).await?;
            assert_eq!(end[0], json!("protocol-error"), "{end}");
            assert!(end[1].as_str().is_some_and(|text| text.contains("not its own")), "{end}");
        }
        Ok(())
    });
}

#[test]
fn a_server_that_comes_back_to_a_relay_that_gives_it_the_id_of_another_ends_and_keeps_its_id() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let attacker = stage.tab_through("attacker", &relay.url).await?;
        let other = host(&attacker, json!({})).await?.as_str().unwrap_or_default().parse()?;
        let victim = stage.tab_through("victim", &liar.url()).await?;
        for options in identities() {
            liar.tell(Lie::None);
            let own = host(&victim, options).await?;
            liar.tell(Lie::Registers(other));
            liar.cut();
            let (code, ends) = ended(&victim, &own).await?;
            assert_eq!(code, json!(1002), "{ends}");
        }
        Ok(())
    });
}

/// Waits until the tab's server has ended; checks that it still has its ID, and returns the code and all its events.
async fn ended(tab: &Tab<'_>, id: &Value) -> Result<(Value, Value)> {
    tab.until("the server ends", "ends.at(-1)?.[0] === 'close'").await?;
    let end = tab.run("return [server.serverId, ends]").await?;
    assert_eq!(end[0], *id, "a server keeps its ID");
    let events = end[1].as_array().cloned().unwrap_or_default();
    let types: Vec<_> = events.iter().map(|event| event[0].as_str().unwrap_or_default()).collect();
    assert_eq!(types, ["reconnecting", "error", "close"], "{end}");
    Ok((events[2][1].clone(), end[1].clone()))
}

#[test]
fn a_server_whose_relay_answers_in_the_livecode_dialect_fails_with_an_error_that_names_the_option() {
    on_stage(async |stage| {
        let (_relay, liar) = liar()?;
        let victim = stage.tab_through("victim", &liar.url()).await?;
        liar.tell(Lie::Livecode);
        for options in identities() {
            let end = host_in_vain(&victim, options).await?;
            assert_eq!(end[0], json!("livecode-relay"), "{end}");
            assert!(end[1].as_str().is_some_and(|text| text.contains("{ livecode: true }")), "{end}");
        }
        // A page that asks for the dialect gets a number from the same relay.
        let asked = host_in_vain(&victim, json!({ "livecode": true })).await?;
        assert_eq!(asked, json!(["registered", "1"]));
        Ok(())
    });
}

#[test]
fn a_server_never_becomes_a_number_when_it_comes_back() {
    on_stage(async |stage| {
        let (_relay, liar) = liar()?;
        let victim = stage.tab_through("victim", &liar.url()).await?;
        for options in [json!({}), json!({ "identity": "shop" }), json!({ "livecode": true })] {
            liar.tell(Lie::None);
            let own = host(&victim, options).await?;
            assert_eq!(own.as_str().map(str::len), Some(56));
            liar.tell(Lie::Livecode);
            liar.cut();
            let (code, ends) = ended(&victim, &own).await?;
            assert_eq!(code, json!(3714), "{ends}");
            assert!(ends[2][2].as_str().is_some_and(|text| text.contains("livecode")), "{ends}");
        }
        Ok(())
    });
}

/// A server at the honest relay that a client reaches through the lying one.
async fn server_and_client<'a>(
    stage: &'a Stage,
    relay: &Relay,
    liar: &Liar,
) -> Result<(Value, Tab<'a>, Tab<'a>)> {
    let server = stage.tab_through("server", &relay.url).await?;
    let id = host(&server, json!({})).await?;
    let client = stage.tab_through("client", &liar.url()).await?;
    Ok((id, server, client))
}

#[test]
fn a_client_whose_relay_answers_in_the_livecode_dialect_never_opens_and_says_why() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let (id, _server, client) = server_and_client(stage, &relay, &liar).await?;
        liar.tell(Lie::Livecode);
        connect(&client, &id).await?;
        let end = client.run("await socket.closed.catch(() => {}); return [events, socket.verified]").await?;
        assert!(failed(&end[0], "livecode-relay: "), "{end}");
        assert!(end[0][1][2].as_str().is_some_and(|text| text.contains("{ livecode: true }")), "{end}");
        assert_eq!(end[1], json!(false));
        assert!(!liar.has_seen(CANARY));
        Ok(())
    });
}

#[test]
fn an_open_socket_ends_with_the_reason_when_its_relay_changes_to_the_livecode_dialect() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let (id, _server, client) = server_and_client(stage, &relay, &liar).await?;
        connect(&client, &id).await?;
        let opened = client.run("return [events, socket.verified, socket.remoteId]").await?;
        assert_eq!(opened, json!([[["open"], ["message", format!("{CANARY} true")]], true, id]));
        liar.tell(Lie::Livecode);
        liar.cut();
        let script = "const error = await socket.closed.catch(error => error)
                      return [error.code, error.closeCode, error.reason, socket.remoteId]";
        let end = client.run(script).await?;
        assert_eq!([&end[0], &end[1], &end[3]], [&json!("livecode-relay"), &json!(3714), &id], "{end}");
        assert!(end[2].as_str().is_some_and(|text| text.contains("{ livecode: true }")), "{end}");
        assert!(!liar.has_seen(CANARY));
        Ok(())
    });
}

#[test]
fn a_client_that_its_relay_sends_to_another_server_never_opens() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let (id, _server, client) = server_and_client(stage, &relay, &liar).await?;
        let attacker = stage.tab_through("attacker", &relay.url).await?;
        let other = host(&attacker, json!({})).await?;
        liar.tell(Lie::ConnectsTo(other.as_str().unwrap_or_default().parse()?));
        connect(&client, &id).await?;
        let end = client.run("await socket.closed.catch(() => {}); return [events, socket.verified]").await?;
        assert!(failed(&end[0], "handshake-failed: "), "{end}");
        assert_eq!(end[1], json!(false));
        assert!(!liar.has_seen(CANARY));
        assert_eq!(attacker.run("return server.clients.size").await?, json!(0));
        Ok(())
    });
}

#[test]
fn a_server_behind_a_proxy_that_rewrites_host_is_told_both_urls_and_the_setting() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let tab = stage.tab_through("server", &liar.url()).await?;
        liar.tell(Lie::RewritesHost);
        for options in identities() {
            let end = host_in_vain(&tab, options).await?;
            assert_eq!(end[0], json!("handshake-failed"), "{end}");
            let text = end[1].as_str().unwrap_or_default();
            for words in [
                format!("reached as {}/", relay.url),
                format!("dialled {}/", liar.url()),
                "`hosts`".to_owned(),
            ] {
                assert!(text.contains(&words), "{words} is not in: {text}");
            }
        }
        Ok(())
    });
}

#[test]
fn what_a_relay_says_too_much_ends_its_link_and_takes_no_memory_of_the_module() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let server = stage.tab_through("server", &relay.url).await?;
        let client = stage.tab_through("client", &liar.url()).await?;
        let id = host(&server, json!({})).await?;
        let connect = "
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(80, given, relay))
            globalThis.path = []
            for (const type of ['reconnecting', 'reconnected']) socket.addEventListener(type, () => path.push(type))
            return wasmMemory.buffer.byteLength";
        let before = client.run_with(id, connect).await?.as_u64().unwrap_or_default();
        for text in [false, true] {
            liar.tell(Lie::SaysMuch { text });
            client
                .run("path.length = 0; globalThis.answer = next(socket, 'message'); socket.send('there')")
                .await?;
            client.until("it leaves the relay", "path.includes('reconnecting')").await?;
            liar.tell(Lie::None);
            let answer = client.run("return (await answer).data").await?;
            assert_eq!(answer, json!("there true"), "nothing is lost");
            let after = client.run("return wasmMemory.buffer.byteLength").await?.as_u64().unwrap_or(u64::MAX);
            assert!(after < before + (4 << 20), "from {before} to {after} bytes of the module's memory");
        }
        Ok(())
    });
}

#[test]
fn a_url_that_could_be_read_in_two_ways_means_the_server_id_or_nothing() {
    on_stage(async |stage| {
        let (relay, liar) = liar()?;
        let (id, _server, client) = server_and_client(stage, &relay, &liar).await?;
        // A server that has the number 1, at the same relay.
        let attacker = stage.tab_through("attacker", &liar.url()).await?;
        liar.tell(Lie::Livecode);
        assert_eq!(host(&attacker, json!({ "livecode": true })).await?, json!("1"));
        liar.tell(Lie::None);
        let script = "
            const talk = async (url, options) => {
              const socket = new PeerToPeerWebSocket(url, [], options)
              socket.onopen = () => socket.send(given.canary)
              const { data } = await next(socket, 'message')
              const said = [data, socket.verified, socket.remoteId === given.id, socket.serverId === given.id, socket.port]
              socket.close()
              return String(said)
            }
            const said = []
            for (const base of ['1/1', '2026/11', '1/80/2/81', '?next=/1/80']) {
              for (const options of [undefined, { livecode: true }]) said.push(await talk(`${relay}/${base}/${given.id}/80`, options))
            }
            const refused = []
            for (const path of ['1/80', `${given.id}/80/${given.id}/80`, `${given.id}/80?x=/${given.id}/80`, given.id]) {
              try { refused.push(new PeerToPeerWebSocket(`${relay}/${path}`).url) } catch ({ name }) { refused.push(name) }
            }
            try { PeerToPeerWebSocket.toPort(80, '1', relay) } catch ({ code }) { refused.push(code) }
            return [[...new Set(said)], said.length, refused]";
        let said = client.run_with(json!({ "id": id, "canary": CANARY }), script).await?;
        let syntax = json!("SyntaxError");
        let refused = [&syntax, &syntax, &syntax, &syntax, &json!("bad-server-id")];
        assert_eq!(said, json!([[format!("{CANARY} true,true,true,true,80")], 8, refused]));
        assert!(!liar.has_seen(CANARY));
        Ok(())
    });
}

#[test]
fn a_servers_url_keeps_path_and_query_of_the_relays_url() {
    on_stage(async |stage| {
        let relay = stage.relay()?;
        let tab = stage.tab_through("a", &relay.url).await?;
        let script = "
            const dialled = []
            const { send } = WebSocket.prototype
            const known = new Set()
            WebSocket.prototype.send = function (data) {
              if (!known.has(this)) dialled.push(this.url)
              known.add(this)
              return send.call(this, data)
            }
            const results = []
            for (const base of ['', '/', '/base', '/base/', '/base//', '?key=1', '/base/?key=a/b&c=/']) {
              const url = new URL(`${relay}${base}`).href
              const server = await ForwardingServerWebSocket.newThrough(url)
              server.listen(80, socket => socket.send(socket.path))
              const socket = new PeerToPeerWebSocket(`${server.url}/80/room?name=me`)
              const { data } = await next(socket, 'message')
              const { path, url: ofServer } = [...server.clients][0]
              results.push([data, path, ofServer === socket.url, server.relayUrl === url, dialled.length > 0 && dialled.every(one => one === url)])
              await server.close()
              dialled.length = 0
            }
            WebSocket.prototype.send = send
            return results";
        let results = tab.run(script).await?;
        assert_eq!(results, json!(vec![json!(["/room?name=me", "/room?name=me", true, true, true]); 7]));
        Ok(())
    });
}
