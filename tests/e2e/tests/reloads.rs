//! Hosts that are reloaded, and guests that redial them.

use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tunnel_e2e::on_stage;
use tunnel_e2e::on_stage_within;

/// Hosts under an identity, with all that was heard before a reload.
const HOST: &str = "
    await library
    globalThis.relay = given
    const server = globalThis.server = await ForwardingServerWebSocket.newThrough(relay, { identity: 'reloads' })
    const state = globalThis.state = server.parked ?? { loads: 0, heard: [] }
    state.loads++
    server.parked = state
    server.listen(1, socket => {
      socket.onmessage = ({ data }) => {
        state.heard.push(data)
        socket.send(data)
      }
    })
    return [server.serverId, state.loads]";

#[test]
fn guests_of_a_host_that_is_reloaded_twenty_times_under_traffic_miss_nothing_that_they_cannot_name() {
    on_stage_within(Duration::from_secs(180), async |stage| {
        let host = stage.tab("host").await?;
        let guest = stage.tab("guest").await?;
        let relay = json!(stage.relay()?.url);
        let id = host.run_with(relay.clone(), HOST).await?[0].clone();
        let script = "
            const socket = PeerToPeerWebSocket.toPort(1, given, relay, { redial: true })
            const guest = globalThis.guest = { socket, sent: 0, reopened: 0, echoes: 0, named: [], ends: [] }
            const say = () => socket.send(String(guest.sent++))
            socket.onmessage = () => { guest.echoes++; if (!guest.isDone) say() }
            socket.onreopened = () => {
              guest.reopened++
              socket.send('hello')
              for (const message of socket.unacknowledged()) {
                guest.named.push(message)
                socket.send(message)
              }
              say()
            }
            socket.onclose = ({ code, reason }) => guest.ends.push(code, reason)
            await socket.opened
            for (let i = 0; i < 20; i++) say()";
        guest.run_with(id.clone(), script).await?;
        for load in 1..=20 {
            let echoes = guest.run("return guest.echoes").await?;
            guest.until("traffic", &format!("guest.ends.length || guest.echoes > {echoes} + 50")).await?;
            host.reload().await?;
            let again = host.run_with(relay.clone(), HOST).await?;
            assert_eq!(again, json!([id, load + 1]), "the same server, with what it parked");
            guest.until("a new session", &format!("guest.ends.length || guest.reopened >= {load}")).await?;
            assert_eq!(guest.run("return guest.ends").await?, json!([]));
        }
        guest.run("guest.isDone = true; guest.socket.send('end')").await?;
        host.until("the last message", "state.heard.includes('end')").await?;

        let heard = host.run("return state.heard").await?;
        let sent = guest.run("return guest.sent").await?.as_u64().unwrap_or_default();
        let named = guest.run("return guest.named").await?;
        let texts = |list: &serde_json::Value| -> Vec<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        let (heard, named) = (texts(&heard), texts(&named).into_iter().collect::<BTreeSet<_>>());
        let distinct: BTreeSet<_> = heard.iter().collect();
        for number in 0..sent {
            assert!(distinct.contains(&number.to_string()), "{number} of {sent} is missing");
        }
        let mut seen = BTreeSet::new();
        for text in heard.iter().filter(|text| *text != "hello") {
            assert!(seen.insert(text) || named.contains(text), "{text} came twice, and was never named");
        }
        Ok(())
    });
}

#[test]
fn what_is_sent_while_a_socket_redials_waits_behind_what_reopened_listeners_send() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const heard = []
            const host = async () => {
              const server = await ForwardingServerWebSocket.newThrough(relay, { identity: 'again' })
              server.listen(1, socket => { socket.onmessage = ({ data }) => heard.push(data) })
              return server
            }
            const first = await host()
            const socket = await opened(PeerToPeerWebSocket.toPort(1, first.serverId, relay, { redial: true }))
            const lost = next(socket, 'reconnecting')
            await first.close()
            await lost
            socket.send('one')
            socket.send('two')
            const waiting = [socket.readyState, socket.bufferedAmount, socket.getStats().state]
            socket.onreopened = () => socket.send('hello')
            const second = await host()
            await next(socket, 'reopened')
            socket.send('three')
            socket.close()
            const { code, wasClean } = await next(socket, 'close')
            await second.close()
            return [waiting, heard, code, wasClean, socket.unacknowledged()]";
        let expected = json!([[1, 6, "interrupted"], ["hello", "one", "two", "three"], 1005, true, []]);
        assert_eq!(tab.run(script).await?, expected);
        Ok(())
    });
}

#[test]
fn a_socket_that_ends_while_it_redials_names_what_was_not_sent() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const results = []
            const lose = async options => {
              const server = await ForwardingServerWebSocket.newThrough(relay)
              server.listen(1, () => {})
              const socket = await opened(PeerToPeerWebSocket.toPort(1, server.serverId, relay, { redial: true, ...options }))
              const lost = next(socket, 'reconnecting')
              await server.close()
              await lost
              socket.send('text')
              socket.send(new Uint8Array([1, 2]))
              return socket
            }
            const end = async socket => {
              const { code, wasClean } = await next(socket, 'close')
              const error = await socket.closed.catch(error => error)
              const [text, bytes] = socket.unacknowledged()
              results.push([code, wasClean, error.code, text, [...bytes], socket.unacknowledged()])
            }
            const closed = await lose({})
            closed.close()
            await end(closed)
            await end(await lose({ absentTimeout: 200 }))
            try { PeerToPeerWebSocket.toPort(1, 'a'.repeat(56), relay, { redial: true, resumeTimeout: 0 }) } catch ({ name }) { results.push(name) }
            return results";
        let named = |code: u16, name: &str| json!([code, false, name, "text", [1, 2], []]);
        let results = tab.run(script).await?;
        assert_eq!(results[0], named(1006, "aborted"));
        assert_eq!(results[1], named(3701, "server-not-found"));
        Ok(())
    });
}

#[test]
fn what_a_server_parks_is_kept_for_its_identity_and_no_longer_than_its_clients_wait() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const host = (identity, absentTimeout) => ForwardingServerWebSocket.newThrough(relay, { identity, absentTimeout })
            const parked = async (identity, absentTimeout) => {
              const server = await host(identity, absentTimeout)
              const { parked } = server
              await server.close()
              return parked ?? null
            }
            const results = []
            const first = await host('one')
            first.parked = { score: 7 }
            await first.close()
            results.push(await parked('two'), await parked('one'))
            const second = await host('one', 0)
            results.push(second.parked ?? null)
            const thrown = value => { try { second.parked = value } catch ({ name }) { return name } }
            const ring = {}
            ring.ring = ring
            results.push(thrown(ring), thrown('x'.repeat(20_000_000)))
            await second.close()
            const nameless = await ForwardingServerWebSocket.newThrough(relay)
            try { nameless.parked = 1 } catch ({ code }) { results.push(code, nameless.parked ?? null) }
            return results";
        let expected =
            json!([null, { "score": 7 }, null, "TypeError", "QuotaExceededError", "no-identity", null]);
        assert_eq!(tab.run(script).await?, expected);
        Ok(())
    });
}
