//! Memory that is kept, and memory that is freed: an open socket lives without being referenced, a closed one does not.

use std::env;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Stage, Tab, on_stage, on_stage_within};

/// The number of sockets that are opened and closed; `TUNNEL_SOCKETS=10000` takes minutes.
const SOCKETS: u64 = 600;

/// The bytes that a tab may have more after the second half of the sockets than after the first.
const GROWTH: u64 = 1024 * 1024;

/// A server tab that greets, and echoes.
async fn server(stage: &Stage) -> Result<(Tab<'_>, Value)> {
    let tab = stage.tab("server").await?;
    let script = "globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
                  server.listen(1, socket => { socket.onmessage = event => socket.send(event.data) })
                  return server.serverId";
    let id = tab.run(script).await?;
    Ok((tab, id))
}

/// Collects until none is left. What a task looks at is kept until its end.
const COLLECT: &str = "
  const rest = () => new Promise(resolve => setTimeout(resolve, 20))
  const left = refs => refs.filter(socket => socket.deref()).length
  const collect = async refs => {
    for (let n = 0; n < 100; n++) {
      await rest()
      gc()
      await rest()
      if (!left(refs)) break
    }
    return left(refs)
  };";

#[test]
fn the_warm_up_of_an_idle_page_dials_nobody_and_lets_go_of_all_it_had() {
    on_stage(async |stage| {
        let tab = stage.tab("idle").await?;
        // A frame, since the tab has loaded the package already. The promise of a lock resolves when it is released.
        let dialled = tab
            .run(
                "const frame = document.body.appendChild(document.createElement('iframe'))
                 return frame.contentWindow.eval(`(async () => {
                   const dialled = []
                   WebSocket = class extends WebSocket {
                     constructor(...args) {
                       super(...args)
                       dialled.push(args[0])
                     }
                   }
                   const { request } = LockManager.prototype
                   const released = new Promise(resolve => {
                     LockManager.prototype.request = function (...args) {
                       const lock = request.apply(this, args)
                       resolve(lock)
                       return lock
                     }
                   })
                   const { default: init } = await import('/pkg/tunnel_wasm.js')
                   await init()
                   await released
                   return dialled
                 })()`)",
            )
            .await?;
        assert_eq!(dialled, json!([]));
        Ok(())
    });
}

#[test]
fn the_warm_up_can_be_turned_off() {
    on_stage(async |stage| {
        let tab = stage.tab("idle").await?;
        let requests = tab
            .run(
                "const frame = document.body.appendChild(document.createElement('iframe'))
                 return frame.contentWindow.eval(`(async () => {
                   let idle
                   requestIdleCallback = task => { idle = task }
                   let requests = 0
                   LockManager.prototype.request = () => { requests++; return Promise.resolve() }
                   const { default: init } = await import('/pkg/tunnel_wasm.js')
                   await init({ warmUp: false })
                   idle()
                   // The library's posts come before what is posted behind them.
                   await new Promise(resolve => {
                     const { port1, port2 } = new MessageChannel()
                     port1.onmessage = resolve
                     port2.postMessage(null)
                   })
                   return requests
                 })()`)",
            )
            .await?;
        assert_eq!(requests, json!(0));
        Ok(())
    });
}

#[test]
fn a_page_that_is_left_during_its_warm_up_has_nothing_rejected() {
    on_stage(async |stage| {
        let tab = stage.tab("idle").await?;
        // Until it has ended, by which the page's lock is released.
        let rejected = tab
            .run(
                "const frame = document.body.appendChild(document.createElement('iframe'))
                 return frame.contentWindow.eval(`(async () => {
                   const rejected = []
                   addEventListener('unhandledrejection', ({ reason }) => rejected.push(String(reason)))
                   let idle
                   requestIdleCallback = task => { idle = task }
                   const { default: init } = await import('/pkg/tunnel_wasm.js')
                   await init()
                   const { request } = LockManager.prototype
                   const released = new Promise(resolve => {
                     LockManager.prototype.request = function (...args) {
                       const lock = request.apply(this, args)
                       resolve(lock)
                       return lock
                     }
                   })
                   idle()
                   dispatchEvent(new PageTransitionEvent('pagehide'))
                   await released
                   await new Promise(resolve => setTimeout(resolve))
                   return rejected
                 })()`)",
            )
            .await?;
        assert_eq!(rejected, json!([]));
        Ok(())
    });
}

#[test]
fn an_open_socket_that_nobody_references_goes_on_and_a_closed_one_is_freed() {
    on_stage(async |stage| {
        let (server, id) = server(stage).await?;
        let client = stage.tab("client").await?;
        let open = "
            globalThis.heard = []
            globalThis.socketsLeft = []
            for (let n = 0; n < 50; n++) {
              const socket = await opened(PeerToPeerWebSocket.toPort(1, given, relay))
              socket.onmessage = ({ data }) => { heard.push(data); if (heard.length === 50) heardAll() }
              socketsLeft.push(new WeakRef(socket))
            }
            globalThis.all = new Promise(resolve => { globalThis.heardAll = resolve })";
        client.run_with(id, open).await?;
        let alive =
            "for (let n = 0; n < 5; n++) { gc(); await new Promise(resolve => setTimeout(resolve, 10)) }
                     return socketsLeft.filter(socket => socket.deref()).length";
        assert_eq!(client.run(alive).await?, json!(50), "they are open and have listeners");
        server.run("for (const client of server.clients) client.send('still there?')").await?;
        assert_eq!(client.run("await all; return heard.length").await?, json!(50));

        server.run("globalThis.ended = [...server.clients].map(client => new WeakRef(client))").await?;
        server.run("for (const client of server.clients) client.close()").await?;
        let freed = client.run(&format!("{COLLECT} return collect(socketsLeft)")).await?;
        // The page's first socket stays with what was set up for it: one, however many follow.
        assert!(freed.as_u64().is_some_and(|left| left <= 1), "{freed} are left of 50 in the client");
        let freed = server.run(&format!("{COLLECT} return collect(ended)")).await?;
        assert!(freed.as_u64().is_some_and(|left| left <= 1), "{freed} are left of 50 in the server");
        Ok(())
    });
}

#[test]
fn a_client_that_goes_while_accept_decides_leaves_no_socket_behind() {
    on_stage(async |stage| {
        let server = stage.tab("server").await?;
        let script = "
            globalThis.decisions = []
            globalThis.sockets = []
            observe({ began: (kind, socket) => kind === 'socket' && sockets.push(new WeakRef(socket)) })
            globalThis.server = await ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => {}, { accept: () => new Promise(decide => decisions.push(decide)) })
            return server.serverId";
        let id = server.run(script).await?;
        let client = stage.tab("client").await?;
        client
            .run_with(id.clone(), "globalThis.socket = PeerToPeerWebSocket.toPort(1, given, relay)")
            .await?;
        server.until("it is asked", "decisions.length === 1").await?;
        client.run("socket.close()").await?;
        server.until("the server has heard of it", "server.getStats().clientsWaiting === 0").await?;
        server.run("decisions[0](true)").await?;
        // Another one comes in behind it, so that the first answer has been dealt with.
        client.run_with(id, "globalThis.socket = PeerToPeerWebSocket.toPort(1, given, relay)").await?;
        server.until("it is asked again", "decisions.length === 2").await?;
        server.run("decisions[1](true)").await?;
        client.run("await socket.opened").await?;
        assert_eq!(server.run("return sockets.length").await?, json!(1), "sockets of clients that were in");
        client.run("socket.close()").await?;
        server.until("it has ended", "server.clients.size === 0").await?;
        let left = server.run(&format!("{COLLECT} return collect(sockets)")).await?;
        // The page's first socket stays with what was set up for it.
        assert!(left.as_u64().is_some_and(|left| left <= 1), "{left} are left");
        Ok(())
    });
}

#[test]
fn many_sockets_one_after_the_other_leave_nothing_behind() {
    let sockets = env::var("TUNNEL_SOCKETS").ok().and_then(|count| count.parse().ok()).unwrap_or(SOCKETS);
    let limit = Duration::from_millis(100 * sockets).max(Duration::from_secs(240));
    on_stage_within(2 * limit, async |stage| {
        let (server, id) = server(stage).await?;
        let client = stage.tab("client").await?;
        let script = "
            const talk = async n => {
              const socket = await opened(PeerToPeerWebSocket.toPort(1, given.id, relay))
              socket.send(`${n}`)
              const { data } = await next(socket, 'message')
              if (data !== `${n}`) throw new Error(data)
              socket.close()
              await next(socket, 'close')
            }
            for (let n = 0; n < given.count; n += 25) {
              await Promise.all(Array.from({ length: 25 }, (_, more) => talk(n + more)))
              if (n % 500 === 0) gc()
            }";
        let mut before = [0; 4];
        let mut after = [0; 4];
        for memory in [&mut before, &mut after] {
            client.run_within(limit, json!({ "id": id, "count": sockets / 2 }), script).await?;
            *memory = memory_of(&client, &server).await?;
        }
        eprintln!(
            "{sockets} sockets: heap and wasm of client and server, in bytes, after half of them and in the end: \
             {before:?} {after:?}"
        );
        for (before, after) in before.into_iter().zip(after) {
            assert!(after <= before + GROWTH, "{before} bytes became {after}");
        }
        Ok(())
    });
}

/// Bytes of the heap and of the wasm memory of both.
async fn memory_of(client: &Tab<'_>, server: &Tab<'_>) -> Result<[u64; 4]> {
    let wasm = async |tab: &Tab<'_>| {
        tab.run("return wasmMemory.buffer.byteLength").await.map(|bytes| bytes.as_u64().unwrap_or_default())
    };
    Ok([client.heap().await?, wasm(client).await?, server.heap().await?, wasm(server).await?])
}
