//! Messages that come before anybody listens wait for the first who does; and an application that fails ends its client.

use serde_json::json;
use tunnel_e2e::on_stage;

/// A client that sends three messages as soon as it is open, and what its server does before it listens.
const SERVERS: &str = "
  const later = () => new Promise(resolve => setTimeout(resolve, 100))
  const hear = socket => { const heard = []; socket.onmessage = ({ data }) => heard.push(data); return heard }
  const send = async (port, leaves) => {
    const socket = await opened(PeerToPeerWebSocket.toPort(port, server.serverId, relay))
    for (const text of ['one', 'two', 'three']) socket.send(text)
    if (leaves) socket.close()
    return socket
  }
  const settle = async heard => { while (heard.length < 3) await later(); return heard }
  const server = await ForwardingServerWebSocket.newThrough(relay)";

#[test]
fn messages_to_a_server_wait_until_its_application_listens() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            const results = {{}}
            const handle = (port, handler) => new Promise(resolve => server.listen(port, async socket => {{
              await later()
              resolve(handler(socket))
            }}))
            const whole = [
              handle(1, hear), handle(2, socket => {{ const heard = []; socket.addEventListener('message', ({{ data }}) => heard.push(data)); return heard }}),
              handle(3, async socket => {{ const heard = []; for await (const text of socket) if (heard.push(text) === 3) return heard }}),
              handle(4, async socket => {{
                const heard = [], reader = socket.readable.getReader()
                while (heard.length < 3) heard.push((await reader.read()).value)
                return heard
              }}),
            ]
            for (const port of [1, 2, 3, 4]) await send(port, port % 2)
            results.handlers = await Promise.all(whole.map(async heard => settle(await heard)))
            server.listen([5, 6])
            // Its client leaves, which is told behind the messages.
            await send(5, true)
            const accepted = await server.accept()
            await later()
            const ended = next(accepted, 'close')
            results.accepted = await settle(hear(accepted))
            results.close = [(await ended).code, accepted.readyState]
            await send(6)
            for await (const socket of server) {{
              await later()
              results.iterated = await settle(hear(socket))
              break
            }}
            await server.close()
            return results"
        );
        let results = tab.run(&script).await?;
        let all = json!(["one", "two", "three"]);
        assert_eq!(results["handlers"], json!([all, all, all, all]));
        assert_eq!((&results["accepted"], &results["iterated"]), (&all, &all));
        assert_eq!(results["close"], json!([1005, 3]));
        Ok(())
    });
}

#[test]
fn a_client_that_listens_before_it_awaits_opened_hears_all_and_one_that_listens_late_is_warned() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            const said = []
            console.warn = text => said.push(text)
            server.listen(1, socket => {{ for (const text of ['one', 'two', 'three']) socket.send(text) }})
            server.listen(2, socket => {{ socket.send('one'); socket.onmessage = () => socket.send('two') }})
            const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            const heard = []
            socket.addEventListener('message', event => heard.push(event.data))
            await socket.opened
            while (heard.length < 3) await next(socket, 'message')
            // A listener may ignore what a message says.
            const counting = PeerToPeerWebSocket.toPort(2, server.serverId, relay)
            let count = 0
            counting.addEventListener('message', () => count++)
            await next(counting, 'message')
            counting.send('more')
            await next(counting, 'message')
            const silent = said.length
            // At a client's socket it is the platform's rule, and the console says what to do.
            const late = await opened(PeerToPeerWebSocket.toPort(2, server.serverId, relay))
            while (!late.getStats().messagesReceived) await later()
            await later()
            const heardLate = []
            late.onmessage = event => heardLate.push(event.data)
            late.send('more')
            while (heardLate.length < 1) await next(late, 'message')
            await server.close()
            return [heard, silent, said, count, heardLate]"
        );
        let results = tab.run(&script).await?;
        assert_eq!(results[0], json!(["one", "two", "three"]));
        assert_eq!(results[1], json!(0), "nothing was lost");
        let said = results[2].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(said.len(), 1, "once: {said:?}");
        assert!(
            said[0].as_str().is_some_and(|text| text.contains("`socket.readable`, which waits")),
            "{said:?}"
        );
        Ok(())
    });
}

#[test]
fn a_listener_that_reads_a_message_after_an_await_has_heard_it_and_nobody_is_warned() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            const said = []
            console.warn = text => said.push(text)
            server.listen(1, socket => {{ socket.send('one'); socket.onmessage = () => socket.send('two') }})
            const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            const heard = []
            const first = new Promise(resolve => socket.addEventListener('message', async event => {{
              await later()
              resolve(heard.push(event.data))
            }}, {{ once: true }}))
            await first
            socket.onmessage = ({{ data }}) => heard.push(data)
            socket.send('more')
            while (heard.length < 2) await next(socket, 'message')
            await server.close()
            return [heard, said]"
        );
        assert_eq!(tab.run(&script).await?, json!([["one", "two"], []]));
        Ok(())
    });
}

#[test]
fn who_never_listens_slows_the_sender_down_and_holds_its_end_for_a_while_only() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            const opened = new Promise(resolve => {{ server.onconnection = ({{ socket }}) => resolve(socket) }})
            const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            await next(socket, 'open')
            for (let n = 0; n < 64; n++) socket.send(noise(65536))
            const peer = await opened
            const {{ bytesReceived }} = await new Promise(resolve => {{
              const look = before => setTimeout(() => {{
                const stats = peer.getStats()
                stats.bytesReceived && stats.bytesReceived === before ? resolve(stats) : look(stats.bytesReceived)
              }}, 200)
              look(0)
            }})
            const waiting = socket.bufferedAmount
            socket.abort()
            const {{ code, wasClean }} = await next(peer, 'close')
            return [bytesReceived, waiting, code, wasClean, server.clients.size]"
        );
        let results = tab.run(&script).await?;
        assert!(results[0].as_u64() < Some(2 << 20), "it holds no more than the window: {results}");
        assert!(results[1].as_u64() > Some(1 << 20), "the rest waits at the sender: {results}");
        assert_eq!(json!([results[2], results[3], results[4]]), json!([1006, false, 0]));
        Ok(())
    });
}

#[test]
fn a_server_whose_application_fails_reports_it_and_closes_with_1011() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "const later = () => new Promise(resolve => setTimeout(resolve, 100))
            const reported = []
            // Another address makes it another module, which takes this for the platform's.
            globalThis.reportError = error => reported.push(error.message)
            const { default: init, ...library } = await load('/pkg/tunnel_wasm.js?reporting')
            await init()
            const server = await library.ForwardingServerWebSocket.newThrough(relay)
            server.listen(1, () => { throw new Error('handler') })
            server.listen(2, async () => { await later(); throw new Error('promise') })
            server.listen(3, () => {}, { accept: () => { throw new Error('predicate') } })
            server.listen(4, () => {}, { protocols: async () => { throw new Error('chooser') } })
            const ends = []
            for (const port of [1, 2, 3, 4]) {
              const socket = PeerToPeerWebSocket.toPort(port, server.serverId, relay)
              const { code, reason } = await next(socket, 'close')
              const closed = await socket.closed.catch(error => error)
              ends.push([code, reason, closed.closeCode, closed.code ?? null])
            }
            const clients = server.clients.size
            await server.close()
            return [reported, ends, clients]";
        let results = tab.run(script).await?;
        assert_eq!(results[0], json!(["handler", "promise", "predicate", "chooser"]));
        let failed = json!([1011, "the server's application failed", 1011, null]);
        assert_eq!((&results[1][0], &results[1][1]), (&failed, &failed));
        for (end, port) in [(&results[1][2], 3), (&results[1][3], 4)] {
            assert_eq!(
                (&end[0], &end[2], &end[3]),
                (&json!(1006), &json!(1011), &json!("internal")),
                "{end}"
            );
            let told = format!("application failed to answer on port {port}");
            assert!(end[1].as_str().is_some_and(|reason| reason.contains(&told)), "{end}");
        }
        assert_eq!(results[2], json!(0), "nobody is left");
        Ok(())
    });
}

#[test]
fn a_socket_that_is_aborted_ends_at_once_with_1006_on_both_sides() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            const connect = async () => {{
              const waits = new Promise(resolve => {{ server.onconnection = ({{ socket }}) => resolve(socket) }})
              const socket = await opened(PeerToPeerWebSocket.toPort(1, server.serverId, relay))
              return [socket, await waits]
            }}
            const told = async (one, other, act) => {{
              const events = [one, other].map(socket => next(socket, 'close'))
              act(one)
              const state = one.readyState
              return [state, ...(await Promise.all(events)).map(({{ code, wasClean }}) => [code, wasClean])]
            }}
            const results = []
            for (const act of [socket => socket.abort(), socket => socket.terminate()]) {{
              const pair = await connect()
              results.push(await told(...pair, act))
              results.push(await told(...(await connect()).reverse(), act))
            }}
            const [socket, peer] = await connect()
            socket.abort('enough of it')
            results.push((await peer.closed.catch(error => [error.code, error.closeCode, error.message])))
            const early = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            early.abort('no need')
            results.push(await early.opened.catch(error => [error.code, error.closeCode, early.readyState]))
            await server.close()
            return results"
        );
        let results = tab.run(&script).await?;
        for result in results.as_array().into_iter().flatten().take(4) {
            assert_eq!(result, &json!([2, [1006, false], [1006, false]]));
        }
        assert_eq!(results[4], json!(["aborted", 3713, "enough of it"]));
        assert_eq!(results[5], json!(["aborted", 3713, 3]));
        Ok(())
    });
}

#[test]
fn a_server_that_closes_while_its_client_does_tells_1001_as_the_platforms_does() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = format!(
            "{SERVERS}
            server.listen(1, () => {{ server.close() }})
            const socket = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
            socket.onopen = () => socket.close()
            return (await next(socket, 'close')).code"
        );
        assert_eq!(tab.run(&script).await?, json!(1001));
        Ok(())
    });
}
