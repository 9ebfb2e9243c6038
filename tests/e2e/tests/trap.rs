//! A trap of a WebAssembly module: all that the page has of it ends with an event, and another instance goes on.

use anyhow::{Result, ensure};
use serde_json::json;
use tunnel_e2e::{Relay, Stage, livecode_server, on_stage};

/// Takes all the memory that a module may have.
const FILL: &str = "
    globalThis.fill = memory => {
      for (let pages = 65536; pages >= 1; pages >>= 1) {
        try {
          for (;;) memory.grow(pages)
        } catch {}
      }
    }";

/// Sends more than there is memory for then, in messages that are too short for `send` to look for room before.
const TRAP: &str = "
    fill(wasmMemory)
    const data = new Uint8Array((1 << 20) - 1)
    for (let n = 0; n < 100; n++) socket.send(data)";

#[test]
fn all_that_a_page_has_ends_with_an_event_when_its_module_traps_and_init_makes_another() {
    on_stage(async |stage| {
        let (server, client) = (stage.tab("server").await?, stage.tab("client").await?);
        let host = "
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
            server.listen(2, () => {}, { accept: () => new Promise(() => {}) })
            globalThis.ends = []
            server.onerror = () => ends.push(['server error'])
            server.onclose = ({ code, wasClean }) => ends.push(['server close', code, wasClean])
            return server.serverId";
        let id = server.run(host).await?;
        client
            .run_with(
                id.clone(),
                "globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))",
            )
            .await?;
        let connect = "
            globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            socket.onclose = ({ code, wasClean }) => ends.push(['socket close', code, wasClean])
            const module = await WebAssembly.compileStreaming(fetch('/pkg/tunnel_wasm_bg.wasm'))
            const [stamp] = WebAssembly.Module.customSections(module, 'tunnel-build')
            const build = `of build ${new TextDecoder().decode(stamp)} has failed`
            socket.closed.catch(error => ends.push([error.name, error.code, error.message.includes(build)]))
            server.accept().catch(({ code }) => ends.push(['accept', code]))
            globalThis.connecting = PeerToPeerWebSocket.toPort(2, given, relay)
            connecting.opened.catch(({ code }) => ends.push(['not opened', code]))
            connecting.onclose = ({ code }) => ends.push(['connecting close', code])
            globalThis.served = [...server.clients][0]
            served.onclose = ({ code }) => ends.push(['served close', code])";
        server.run_with(id, connect).await?;
        server.run(FILL).await?;
        server.run(TRAP).await?;
        server.until("all have ended", "ends.length === 8").await?;
        let ends = server.run("return ends.map(end => end.join(' ')).sort()").await?;
        let expected = [
            "TunnelError internal true",
            "accept closed",
            "connecting close 1011",
            "not opened internal",
            "served close 1011",
            "server close 1011 false",
            "server error",
            "socket close 1011 false",
        ];
        ensure!(ends == json!(expected), "{ends}");
        let state =
            server.run("return [socket.readyState, server.readyState, socket.bufferedAmount > -1]").await?;
        ensure!(state == json!([3, 3, true]), "{state}");
        let early =
            server.run("try { PeerToPeerWebSocket.toPort(1, 'x', relay) } catch ({ code }) { return code }");
        ensure!(early.await? == json!("not-initialised"));

        let again = "
            const { default: init } = await import('/pkg/tunnel_wasm.js')
            await init()
            globalThis.another = await ForwardingServerWebSocket.newThrough(relay)
            another.listen(1, socket => { socket.onmessage = ({ data }) => socket.send(data) })
            return another.serverId";
        let id = server.run(again).await?;
        let echo = "
            const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
            const answer = next(socket, 'message')
            socket.send('there again')
            return (await answer).data";
        ensure!(client.run_with(id, echo).await? == json!("there again"));
        Ok(())
    });
}

/// Connects to a server of the livecode dialect in each way that there is; what ends is in `ends`.
const CONNECT_BY_NUMBER: &str = "
    globalThis.ends = []
    globalThis.note = (name, target) => target.addEventListener('close', ({ code }) => ends.push(`${name} ${code}`))
    globalThis.client = await NodeJSTunnelingClient.connectTo(relay)
    globalThis.forwarding = await opened(ForwardingClientWebSocket.toPort(2, given, relay))
    globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { livecode: true })
    globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay, { livecode: true }))
    Object.entries({ client, forwarding, server, socket }).forEach(([name, target]) => note(name, target))
    globalThis.echo = async socket => {
      const answer = next(socket, 'message')
      socket.send('there')
      return (await answer).data
    }
    return [await echo(socket), await echo(forwarding)]";

/// Makes new instances, and connects again.
const AGAIN: &str = "
    const { default: init } = await import('/pkg/tunnel_wasm.js')
    await init()
    globalThis.forwarding = await opened(ForwardingClientWebSocket.toPort(2, given, relay))
    globalThis.socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay, { livecode: true }))
    return [await echo(socket), await echo(forwarding)]";

const CREDENTIAL: &str = "a secret of the test";

#[test]
fn what_the_livecode_module_has_ends_with_an_event_when_that_traps_and_the_next_goes_on() {
    on_stage(async |stage| {
        let (_node, node) = livecode_server(CREDENTIAL)?;
        survive(stage, &node, true).await?;
        // Through a relay of ours, sockets of the main module do not need the other one.
        let relay = Relay::start(&["--livecode-credential", CREDENTIAL])?;
        survive(stage, &relay.url, false).await
    });
}

async fn survive(stage: &Stage, relay: &str, is_livecode: bool) -> Result<()> {
    let (server, tab) = (stage.tab("server").await?, stage.tab("both").await?);
    for tab in [&server, &tab] {
        tab.run_with(json!(relay), "globalThis.relay = given").await?;
    }
    let host = "
        globalThis.configurer = await NodeJSTunnelingClient.configureServerAt(relay, given)
        globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { livecode: true, allowPlain: true })
        server.listen({ first: 1, last: 2 }, socket => { socket.onmessage = ({ data }) => socket.send(data) })
        return server.serverId";
    let id = server.run_with(json!(CREDENTIAL), host).await?;
    let there = json!(["there", "there"]);
    ensure!(tab.run_with(id.clone(), CONNECT_BY_NUMBER).await? == there);
    tab.run(FILL).await?;

    // The main module: what the other one has goes on.
    tab.run(TRAP).await?;
    tab.until("what the main module had", "ends.length === 2").await?;
    let ends = tab.run("return ends.sort()").await?;
    ensure!(ends == json!(["server 1011", "socket 1011"]), "{ends}");
    ensure!(tab.run("return echo(forwarding)").await? == json!("there"));
    ensure!(tab.run_with(id.clone(), AGAIN).await? == there);

    // The other one, called by a client of its own. Where the main module needs it, that can't go on either.
    let trap = "
        ends.length = 0
        note('socket', socket)
        forwarding.onclose = ({ code, reason }) => ends.push(`forwarding ${code} ${reason.split(':')[0]}`)
        const { default: init } = await import('/pkg/tunnel_livecode.js')
        fill((await init()).memory)
        forwarding.send('x'.repeat(1 << 24))
        return client.invoke('anything').catch(({ name, code }) => `${name} ${code}`)";
    let call = tab.run(trap).await?;
    ensure!(call == json!("TunnelError closed"), "{call}");
    // Both sockets that forward, the earlier one, too.
    let mut expected = vec!["client 1011", "forwarding 1011", "forwarding 1011 internal"];
    if is_livecode {
        expected.push("socket 1011");
        tab.run("socket.send('x')").await?;
    } else {
        ensure!(tab.run("return echo(socket)").await? == json!("there"));
    }
    tab.until("their ends", &format!("ends.length === {}", expected.len())).await?;
    let ends = tab.run("return ends.sort()").await?;
    ensure!(ends == json!(expected), "{ends}");
    ensure!(tab.run_with(id, AGAIN).await? == there);
    Ok(())
}
