//! Bad use gets the platform's exception where the standard has one, else a `TunnelError` that says what to do.

use anyhow::Result;
use serde_json::{Value, json};
use tunnel_e2e::{Tab, https_server, on_stage};

/// Returns what an action throws or rejects with: `Name` or `Name code`, and the message.
const HELPERS: &str = "
  const shown = error => [error.code && typeof error.code === 'string' ? `${error.name} ${error.code}` : error.name, error.message]
  const failure = async action => { try { await action(); return ['nothing'] } catch (error) { return shown(error) } }
  const names = async actions => {
    const result = {}
    for (const [what, action] of Object.entries(actions)) result[what] = (await failure(action))[0]
    return result
  }
  const all = (names, value) => Object.fromEntries(names.map(name => [name, value]));";

async fn run(tab: &Tab<'_>, given: Value, script: &str) -> Result<Value> {
    tab.run_with(given, &format!("{HELPERS}\n{script}")).await
}

#[test]
fn every_class_says_before_init_that_it_has_to_be_awaited() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        // Another address makes it another module, which nobody has initialised.
        let script = "
            const id = 'a'.repeat(56)
            const { PeerToPeerWebSocket, ForwardingServerWebSocket, ForwardingClientWebSocket, NodeJSTunnelingClient }
              = await load('/pkg/tunnel_wasm.js?another')
            return Promise.all([
              () => new PeerToPeerWebSocket(`${relay}/${id}/1`),
              () => PeerToPeerWebSocket.toPort(1, id, relay),
              () => ForwardingServerWebSocket.newThrough(relay),
              () => ForwardingClientWebSocket.toPort(1, id, relay),
              () => NodeJSTunnelingClient.configureServerAt(relay, 'x'),
            ].map(failure))";
        let failures = run(&tab, Value::Null, script).await?;
        assert_eq!(failures.as_array().map(Vec::len), Some(5));
        for failure in failures.as_array().into_iter().flatten() {
            assert_eq!(failure[0], json!("TunnelError not-initialised"), "{failure}");
            assert!(failure[1].as_str().is_some_and(|text| text.contains("await init()")), "{failure}");
        }
        Ok(())
    });
}

#[test]
fn wrong_types_and_ports_are_type_errors_and_wrong_urls_syntax_errors() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            const id = server.serverId
            const to = (port, options) => PeerToPeerWebSocket.toPort(port, id, relay, options)
            const ports = [-1, 65536, 1.5, NaN, Infinity, 'x', '', ' ', null, undefined, {}, true, 1n, Symbol('x')]
            const actions = {}
            for (const [index, port] of ports.entries()) {
              actions[`client's port ${index}`] = () => to(port)
              actions[`server's port ${index}`] = () => server.listen(port, () => {})
            }
            Object.assign(actions, {
              'two arguments of three': () => PeerToPeerWebSocket.toPort(1, id),
              'no argument': () => server.listen(),
              'an empty range': () => server.listen({ first: 2, last: 1 }),
              'half a range': () => server.listen({ first: 2 }),
              'a handler that is none': () => server.listen(1, 5),
              'a predicate that is none': () => server.listen(1, () => {}, { accept: 5 }),
              'a time that is none': () => to(1, { resumeTimeout: 'soon' }),
              'a negative time': () => to(1, { absentTimeout: -1 }),
              'a signal that is none': () => to(1, { signal: {} }),
              'a server\\'s signal that is none': () => ForwardingServerWebSocket.newThrough(relay, { signal: 5 }),
              'a name that is none': () => to(1, { identity: Symbol('x') }),
              'the server\\'s constructor': () => new ForwardingServerWebSocket(),
              'no server': () => PeerToPeerWebSocket.throughChannel(1, {}),
            })
            const wrong = await names(actions)
            const urls = {}
            for (const url of ['ftp://x/', 'http://', `${relay}#x`, 'about:blank']) {
              urls[`client ${url}`] = () => PeerToPeerWebSocket.toPort(1, id, url)
              urls[`server ${url}`] = () => ForwardingServerWebSocket.newThrough(url)
              urls[`livecode ${url}`] = () => NodeJSTunnelingClient.configureServerAt(url, 'x')
            }
            urls['a subprotocol'] = () => to(1, { protocols: 'a b' })
            urls['a list of them'] = () => server.listen(1, () => {}, { protocols: ['a', 'a'] })
            const syntax = await names(urls)
            const ok = await names({ 'a digit string': () => to('80').close(), 'no options': () => to(1, null).close() })
            await server.close()
            return [
              Object.entries(wrong).filter(([, name]) => name !== 'TypeError'),
              Object.entries(syntax).filter(([, name]) => name !== 'SyntaxError'),
              Object.entries(ok).filter(([, name]) => name !== 'nothing'),
              [server.listen, server.accept].length, server.clients.size,
            ]";
        assert_eq!(run(&tab, Value::Null, script).await?, json!([[], [], [], 2, 0]));
        Ok(())
    });
}

#[test]
fn a_typo_in_a_server_id_is_told_before_any_traffic() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let relay = stage.relay()?;
        let before = relay.said();
        let script = "
            const WebSocket = globalThis.WebSocket
            let dialled = 0
            globalThis.WebSocket = class extends WebSocket { constructor(...given) { dialled++; super(...given) } }
            // A server ID made in the page: its checksum is right.
            const server = await ForwardingServerWebSocket.newThrough(relay)
            const { serverId } = server
            dialled = 0
            const wrong = []
            for (let at = 0; at < serverId.length; at++) {
              const letter = serverId[at] === 'a' ? 'b' : 'a'
              const typo = serverId.slice(0, at) + letter + serverId.slice(at + 1)
              wrong.push(await failure(() => PeerToPeerWebSocket.toPort(1, typo, relay)))
              wrong.push(await failure(() => new PeerToPeerWebSocket(`${relay}/${typo}/1`)))
            }
            for (const id of ['', 'x', serverId.slice(1), `${serverId}a`, undefined, null]) {
              wrong.push(await failure(() => PeerToPeerWebSocket.toPort(1, id, relay)))
              wrong.push(await failure(() => new PeerToPeerWebSocket(`${relay}/${id}/1`)))
            }
            await new Promise(resolve => setTimeout(resolve))
            await server.close()
            return [wrong, dialled]";
        let result = run(&tab, Value::Null, script).await?;
        assert_eq!(result[1], json!(0), "nothing was dialled");
        let wrong = result[0].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(wrong.len(), 2 * (56 + 6));
        for pair in wrong.chunks(2) {
            assert_eq!(pair[0][0], json!("TunnelError bad-server-id"), "{pair:?}");
            assert!(
                pair[0][1].as_str().is_some_and(|text| text.contains("is not a server ID: ")),
                "{pair:?}"
            );
            assert_eq!(pair[1][0], json!("SyntaxError"), "{pair:?}");
        }
        assert!(!relay.said()[before.len()..].contains("ERROR"));
        Ok(())
    });
}

#[test]
fn what_comes_too_early_too_late_or_twice_says_what_to_do() {
    on_stage(async |stage| {
        let tab = stage.tab("a").await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            const listener = server.listen([5, { first: 10, last: 19 }], () => {})
            const socket = PeerToPeerWebSocket.toPort(5, server.serverId, relay)
            const early = await failure(() => socket.send('x'))
            await socket.opened
            const results = {
              early: early[0],
              twice: await failure(() => server.listen({ first: 0, last: 5 }, () => {})),
              unsendable: (await failure(() => socket.send(Symbol('x'))))[0],
              channel: await failure(() => PeerToPeerWebSocket.throughChannel(77, server)),
            }
            listener.close()
            results.again = await failure(() => server.listen(5, () => {}))
            await server.close()
            results.late = (await failure(() => server.listen(6, () => {})))[0]
            results.accept = (await failure(() => server.accept()))[0]
            results.send = (await failure(() => socket.send('x')))[0]
            return results";
        let results = run(&tab, Value::Null, script).await?;
        let message = "port 5 is taken: close its Listener first";
        assert_eq!(results["twice"], json!(["TunnelError port-taken", message]));
        assert_eq!(results["again"], json!(["nothing"]));
        assert_eq!(results["early"], json!("InvalidStateError"));
        assert_eq!(results["unsendable"], json!("TypeError"));
        assert_eq!(results["channel"][0], json!("TunnelError no-such-channel"));
        assert_eq!(results["late"], json!("InvalidStateError"));
        assert_eq!(results["accept"], json!("TunnelError closed"));
        assert_eq!(results["send"], json!("nothing"), "as the platform does it");
        Ok(())
    });
}

#[test]
fn mixed_content_is_what_the_platform_makes_of_it() {
    on_stage(async |stage| {
        let (_program, url) = https_server()?;
        let tab = stage.tab_at("secure", &format!("{url}/e2e/tab.html")).await?;
        let relay = json!(stage.relay()?.url);
        let script = "
            await library
            const far = 'ws://relay.invalid/'
            const id = (await ForwardingServerWebSocket.newThrough(given)).serverId
            const native = await failure(() => new WebSocket(far))
            const ours = [
              await failure(() => PeerToPeerWebSocket.toPort(1, id, far)),
              await failure(() => new PeerToPeerWebSocket(`${far}${id}/1`)),
              await failure(() => ForwardingServerWebSocket.newThrough(far)),
            ]
            return [native[0], ...ours.map(([name]) => name)]";
        let names = run(&tab, relay, script).await?;
        // A relay on this machine is no mixed content: the server above was registered through one.
        assert_eq!(names, json!(["SecurityError", "SecurityError", "SecurityError", "SecurityError"]));
        Ok(())
    });
}
