//! A trap of the WebAssembly module: everything of the page's ends with an event, and another module goes on.

use anyhow::ensure;
use serde_json::json;
use tunnel_e2e::on_stage;

/// Takes all the memory that the module may have, and more: it can't go on then.
const TRAP: &str = "
    for (let pages = 65536; pages >= 1; pages >>= 1) {
      try {
        for (;;) wasmMemory.grow(pages)
      } catch {}
    }
    const data = new Uint8Array(1 << 20)
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
