//! Servers whose key has a name, so that they keep their server ID: reloaded, crashed, duplicated.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tunnel_e2e::{Stage, Tab, on_stage};

/// Hosts an echo server under the name `shop` in a tab that has been loaded, or loaded again; returns its ID.
const HOST: &str = "
  await library
  globalThis.server = await ForwardingServerWebSocket.newThrough(given, { identity: 'shop' })
  server.listen(1, socket => { socket.onmessage = event => socket.send(event.data) })
  return server.serverId";

async fn host(tab: &Tab<'_>, stage: &Stage) -> Result<Value> {
    let relay = json!(stage.relay()?.url);
    tab.run_with(relay, HOST).await.context("the server does not come up")
}

/// Opens a tab with a client that says something, and hears it; records what happens then.
async fn client<'a>(stage: &'a Stage, name: &str, id: &Value) -> Result<Tab<'a>> {
    let tab = stage.tab(name).await?;
    let script = "
        globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
        socket.send('here')
        const { data } = await next(socket, 'message')
        globalThis.events = record(socket)
        for (const type of ['reconnecting', 'reconnected']) socket.addEventListener(type, () => events.push([type]))
        globalThis.ended = next(socket, 'close')
        return data";
    assert_eq!(tab.run_with(id.clone(), script).await?, json!("here"));
    Ok(tab)
}

#[test]
fn a_server_tab_that_is_reloaded_keeps_its_id_and_says_goodbye_to_its_clients() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = host(&server, stage).await?;
        let before = client(stage, "before", &id).await?;
        server.reload().await?;
        assert_eq!(host(&server, stage).await?, id);
        let events = before.run("await ended; return events").await?;
        assert_eq!(events, json!([["close", 1001, "the page was closed", true]]));
        client(stage, "after", &id).await?;
        Ok(())
    });
}

#[test]
fn clients_of_a_server_that_crashed_learn_from_its_next_tab_that_it_was_reloaded_and_what_is_uncertain() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = host(&server, stage).await?;
        let client = client(stage, "client", &id).await?;
        server.crash().await?;
        client.run("while (!events.length) await next(socket, 'reconnecting'); socket.send('lost')").await?;
        let another = stage.tab("another").await?;
        assert_eq!(host(&another, stage).await?, id);
        let events = client.run("await ended; return events").await?;
        assert_eq!(events[0], json!(["reconnecting"]), "{events}");
        let close = &events[1];
        assert_eq!(
            (&close[0], &close[1], &close[3]),
            (&json!("close"), &json!(3705), &json!(false)),
            "{events}"
        );
        let reason = close[2].as_str().unwrap_or_default();
        assert!(reason.contains("reloaded") && reason.contains("uncertain"), "{reason}");
        Ok(())
    });
}

#[test]
fn a_second_tab_with_the_same_identity_is_refused_until_the_first_lets_go() {
    on_stage(async |stage| {
        let first = stage.tab("first").await?;
        let second = stage.tab("second").await?;
        let id = host(&first, stage).await?;
        let client = client(stage, "client", &id).await?;

        let try_to_host = "
            try { return (await ForwardingServerWebSocket.newThrough(relay, { identity: 'shop' })).serverId }
            catch (error) { return [error.name, error.code, error.message.includes(`'shop'`)] }";
        let refused = second.run(try_to_host).await?;
        assert_eq!(refused, json!(["TunnelError", "identity-in-use", true]));
        let answer =
            client.run("socket.send('still here'); return (await next(socket, 'message')).data").await?;
        assert_eq!(answer, json!("still here"), "the first tab is as it was");

        first.run("await server.close()").await?;
        assert_eq!(host(&second, stage).await?, id, "closing the server lets the identity go");
        second.close().await?;
        assert_eq!(host(&first, stage).await?, id, "closing the tab does, too");
        Ok(())
    });
}

#[test]
fn where_nothing_locks_a_second_server_takes_the_id_over_and_the_first_is_told() {
    on_stage(async |stage| {
        let tab = stage.tab("servers").await?;
        let id = host(&tab, stage).await?;
        let told = "
            const first = server
            const events = []
            for (const type of ['error', 'reconnecting', 'close']) {
              first.addEventListener(type, ({ type, code, wasClean }) => events.push([type, code, wasClean]))
            }
            const ended = next(first, 'close')
            // As in an insecure context, and another module, which knows nothing of this one's servers.
            Object.defineProperty(navigator, 'locks', { value: undefined })
            const { default: init, ...library } = await load('/pkg/tunnel_wasm.js?second')
            await init()
            const second = await library.ForwardingServerWebSocket.newThrough(relay, { identity: 'shop' })
            await ended
            second.listen(1, socket => { socket.onmessage = event => socket.send(event.data) })
            return { id: second.serverId, events, states: [first.readyState, second.readyState] }";
        let told = tab.run(told).await?;
        assert_eq!(told["id"], id);
        assert_eq!(told["events"], json!([["error", null, null], ["close", 3700, false]]));
        assert_eq!(told["states"], json!([3, 1]));
        client(stage, "client", &id).await?;
        Ok(())
    });
}

#[test]
fn a_client_with_an_identity_is_the_same_to_the_server_after_a_reload() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let id = host(&server, stage).await?;
        let client = stage.tab("client").await?;
        let connect = "
            await library
            globalThis.socket = PeerToPeerWebSocket.toPort(1, given.id, given.relay, { identity: given.name })
            await opened(socket)";
        let who = "return (server.clients.size ? [...server.clients][0] : (await next(server, 'connection')).socket).remoteId";
        let relay = &stage.relay()?.url;
        let mut seen = Vec::new();
        for name in ["Ada", "Ada", "Eve"] {
            client.reload().await?;
            server.until("the client before has gone", "server.clients.size === 0").await?;
            client.run_with(json!({ "id": id, "relay": relay, "name": name }), connect).await?;
            seen.push(server.run(who).await?);
        }
        assert!(seen[0].is_string());
        assert_eq!(seen[0], seen[1]);
        assert_ne!(seen[0], seen[2]);
        Ok(())
    });
}
