//! Waits that a page's surroundings make endless elsewhere: each of them ends, and says why.

use serde_json::json;
use tunnel_e2e::on_stage;

#[test]
fn a_relay_that_the_pages_security_policy_forbids_is_unreachable_and_the_error_names_the_policy() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const { serverId } = await ForwardingServerWebSocket.newThrough(relay)
            const policy = document.createElement('meta')
            policy.httpEquiv = 'Content-Security-Policy'
            policy.content = `connect-src 'self' data:`
            document.head.append(policy)
            const far = 'ws://127.0.0.2:9'
            const told = ({ code, message }) => [code, message.includes('Content Security Policy')]
            const failed = promise => promise.then(() => 'nothing', told)
            const server = await failed(ForwardingServerWebSocket.newThrough(far))
            const socket = PeerToPeerWebSocket.toPort(1, serverId, far)
            return [server, await failed(socket.opened)]";
        let told = json!(["relay-unreachable", true]);
        assert_eq!(tab.run(script).await?, json!([told, told]));
        Ok(())
    });
}

#[test]
fn a_relays_url_without_a_scheme_is_a_syntax_error_that_says_so() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const results = []
            for (const url of ['', '127.0.0.1:8087', 'relay.example']) {
              results.push(await ForwardingServerWebSocket.newThrough(url).catch(({ name, message }) => [name, message.includes('has no scheme')]))
            }
            const own = await ForwardingServerWebSocket.newThrough('/')
            results.push(own.relayUrl === relay.replace(/\\/*$/, '/'))
            await own.close()
            return results";
        let refused = json!(["SyntaxError", true]);
        assert_eq!(tab.run(script).await?, json!([refused, refused, refused, true]));
        Ok(())
    });
}

#[test]
fn a_signal_ends_the_wait_for_an_identity_and_for_a_database_that_does_not_answer() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const aborted = async (act, before) => {
              const controller = new AbortController()
              const result = act(controller.signal).then(() => 'nothing', ({ name }) => name)
              await before
              controller.abort()
              return result
            }
            const task = () => new Promise(resolve => setTimeout(resolve, 50))
            const host = (identity, signal) => ForwardingServerWebSocket.newThrough(relay, { identity, signal })
            const { serverId } = await ForwardingServerWebSocket.newThrough(relay)
            const results = []
            let release
            await new Promise(held => navigator.locks.request('tunnel-wasm identities held', () => { held(); return new Promise(resolve => { release = resolve }) }))
            results.push(await aborted(signal => host('held', signal), task()))
            release()
            const { open } = IDBFactory.prototype
            IDBFactory.prototype.open = () => ({})
            results.push(await aborted(signal => host('mute', signal), task()))
            results.push(await aborted(signal => {
              const socket = PeerToPeerWebSocket.toPort(1, serverId, relay, { identity: 'silent', signal })
              return socket.opened
            }, task()))
            IDBFactory.prototype.open = open
            const { request } = LockManager.prototype
            LockManager.prototype.request = async () => { throw new DOMException('denied', 'SecurityError') }
            results.push(await host('denied').catch(({ code }) => code))
            LockManager.prototype.request = request
            return results";
        assert_eq!(tab.run(script).await?, json!(["AbortError", "AbortError", "AbortError", "no-identity"]));
        Ok(())
    });
}

#[test]
fn the_same_identity_twice_in_a_page_waits_for_the_first_server_or_says_so() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const host = () => ForwardingServerWebSocket.newThrough(relay, { identity: 'name' })
            const first = await host()
            const ended = []
            first.onclose = ({ code }) => ended.push(code)
            const second = await host().catch(({ code }) => code)
            const before = [second, first.readyState, ...ended]
            // React's strict mode mounts, unmounts and mounts again.
            const [, third] = await Promise.all([first.close(), host()])
            const results = [before, third.serverId === first.serverId, ended]
            await third.close()
            return results";
        assert_eq!(tab.run(script).await?, json!([["identity-in-use", 1], true, [1000]]));
        Ok(())
    });
}

#[test]
fn a_hidden_page_probes_its_links_when_the_network_is_back_and_not_when_it_is_shown_or_hidden() {
    on_stage(async |stage| {
        let tab = stage.tab("both").await?;
        let script = "
            const server = await ForwardingServerWebSocket.newThrough(relay)
            const { send } = WebSocket.prototype
            let sent
            WebSocket.prototype.send = function (data) { sent++; return send.call(this, data) }
            Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })
            const task = () => new Promise(resolve => setTimeout(resolve))
            const after = async (target, type) => {
              sent = 0
              target.dispatchEvent(new Event(type))
              await task()
              await task()
              return sent
            }
            const results = [await after(document, 'visibilitychange'), await after(window, 'online')]
            delete document.hidden
            WebSocket.prototype.send = send
            await server.close()
            return results";
        assert_eq!(tab.run(script).await?, json!([0, 1]));
        Ok(())
    });
}
