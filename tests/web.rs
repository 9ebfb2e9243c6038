//! The classes in a browser, with a relay at `TUNNEL_RELAY_URL`; in a window or a kind of worker, as
//! `WASM_BINDGEN_USE_BROWSER`, `WASM_BINDGEN_USE_DEDICATED_WORKER` and so on choose.
//!
//! Both ends of a socket are in the same page here; `tests/e2e` has them in different tabs.

#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use js_sys::{Function, Object, Promise, Reflect};
use std::time::Duration;
use tunnel_wasm::{ForwardingServerWebSocket, PeerToPeerWebSocket};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;
use web_sys::MessageEvent;

const RELAY: &str = match option_env!("TUNNEL_RELAY_URL") {
    Some(url) => url,
    None => "ws://127.0.0.1:8087",
};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[wasm_bindgen(inline_js = r"
const failed = (what, why) => new Error(`${what}: ${why}`)

export const within = (milliseconds, what, promise) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(failed(what, `nothing within ${milliseconds} ms`)), milliseconds)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export const nextEvent = (target, type) =>
  new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

const same = (actual, expected, what = '') => {
  const [a, b] = [actual, expected].map(value => JSON.stringify(value))
  if (a !== b) throw failed(what || 'differs', `${a} instead of ${b}`)
}

const thrown = action => {
  try {
    action()
    return 'nothing'
  } catch (error) {
    return error.name
  }
}

const AsyncFunction = (async () => {}).constructor

export const script = (body, scope) => {
  const { PeerToPeerWebSocket, server, relay } = scope
  const connect = (port, options) => PeerToPeerWebSocket.toPort(port, server.serverId, relay, options)
  const names = { ...scope, connect, nextEvent, same, thrown }
  return new AsyncFunction(...Object.keys(names), body)(...Object.values(names))
}
")]
extern "C" {
    #[wasm_bindgen(js_name = within)]
    fn within_promise(milliseconds: f64, what: &str, promise: &Promise) -> Promise;
    #[wasm_bindgen(js_name = nextEvent)]
    fn next_event_promise(target: &JsValue, event_type: &str) -> Promise;
    /// Calls an async function with this body and, in its scope, these names and those above.
    fn script(body: &str, scope: &JsValue) -> Promise;
}

/// Waits for a promise; a panic names what did not come in time, or why it was rejected.
async fn within(limit: Duration, what: &str, promise: &Promise) -> JsValue {
    let result = JsFuture::from(within_promise(limit.as_secs_f64() * 1000.0, what, promise)).await;
    result.unwrap_or_else(|error| panic!("{what}: {}", describe(&error)))
}

fn describe(error: &JsValue) -> String {
    let stack = Reflect::get(error, &"stack".into()).ok().and_then(|stack| stack.as_string());
    let text = error.dyn_ref::<Object>().map(|error| String::from(error.to_string()));
    [text, stack].into_iter().flatten().collect::<Vec<_>>().join("\n")
}

async fn next_event<T: JsCast>(target: &JsValue, event_type: &str) -> T {
    within(LIMIT, event_type, &next_event_promise(target, event_type)).await.unchecked_into()
}

async fn new_server() -> ForwardingServerWebSocket {
    // wasm-bindgen-test does not run `start`.
    tunnel_wasm::start();
    let server = ForwardingServerWebSocket::new_through(RELAY, &JsValue::UNDEFINED);
    within(LIMIT, "a server", &server).await.unchecked_into()
}

/// Runs JavaScript that has the classes, `relay`, a `server` of its own and `connect(port, options)` in its scope.
async fn run(what: &str, body: &str) {
    let server = new_server().await;
    let class = |object: &JsValue| Reflect::get(object, &"constructor".into()).unwrap();
    let probe = PeerToPeerWebSocket::to_port(0, &server.server_id(), RELAY, &JsValue::UNDEFINED).unwrap();
    let scope = Object::new();
    for (name, value) in [
        ("PeerToPeerWebSocket", &class(&probe)),
        ("ForwardingServerWebSocket", &class(&server)),
        ("server", &server),
        ("relay", &RELAY.into()),
    ] {
        Reflect::set(&scope, &name.into(), value).unwrap();
    }
    probe.close();
    within(LIMIT, what, &script(body, &scope)).await;
    within(LIMIT, "closing the server", &server.close()).await;
}

#[wasm_bindgen_test]
async fn a_message_is_echoed() {
    let server = new_server().await;
    let echo = Function::new_with_args("socket", "socket.onmessage = ({ data }) => socket.send(data)");
    server.listen(7, &echo).unwrap();
    let socket = PeerToPeerWebSocket::to_port(7, &server.server_id(), RELAY, &JsValue::UNDEFINED).unwrap();
    next_event::<JsValue>(&socket, "open").await;

    socket.send(&"hello".into()).unwrap();

    assert_eq!(next_event::<MessageEvent>(&socket, "message").await.data(), "hello");
    within(LIMIT, "closing the server", &server.close()).await;
}

#[wasm_bindgen_test]
async fn the_class_is_described_as_the_platforms_is() {
    let body = r"
        const describe = (holder, key) => {
          const { value, get, set, ...rest } = Object.getOwnPropertyDescriptor(holder, key) ?? {}
          const of = member => typeof member === 'function' && [member.name, member.length]
          return { ...rest, value: of(value) || (typeof value === 'number' && value), get: of(get), set: of(set) }
        }
        const compare = (theirs, ours, name) => {
          for (const key of Reflect.ownKeys(theirs)) {
            if (key === 'constructor' || key === 'name' || key === 'prototype' || key === Symbol.toStringTag) continue
            same(describe(ours, key), describe(theirs, key), `${name}.${String(key)}`)
          }
        }
        compare(WebSocket, PeerToPeerWebSocket, 'WebSocket')
        compare(WebSocket.prototype, PeerToPeerWebSocket.prototype, 'WebSocket.prototype')
        same(Object.getPrototypeOf(PeerToPeerWebSocket.prototype) === EventTarget.prototype, true)
        same(PeerToPeerWebSocket.name, 'PeerToPeerWebSocket')
        const socket = connect(1)
        same(String(socket), '[object PeerToPeerWebSocket]')
        same(Object.keys(socket), [])
        same(socket instanceof EventTarget, true)
        for (const key of Object.keys(PeerToPeerWebSocket.prototype)) {
          const { get, value } = Object.getOwnPropertyDescriptor(PeerToPeerWebSocket.prototype, key)
          if (get) same(thrown(() => get.call(new EventTarget())), 'TypeError', key)
          if (typeof value === 'function') same(thrown(() => value.call(new EventTarget())), 'TypeError', key)
        }
        same(thrown(() => PeerToPeerWebSocket('ws://localhost/')), 'TypeError')";
    run("the class", body).await;
}

#[wasm_bindgen_test]
async fn handlers_are_attributes_as_the_platforms_are() {
    let body = r"
        const log = []
        for (const socket of [connect(1), new WebSocket(relay)]) {
          const calls = []
          same(socket.onopen, null)
          socket.onopen = 5
          same(socket.onopen, null)
          const object = { handleEvent: () => calls.push('object') }
          socket.onopen = object
          same(socket.onopen === object, true)
          socket.addEventListener('open', () => calls.push('listener'))
          socket.onopen = function (event) { calls.push(['handler', this === socket, event.target === socket]) }
          socket.dispatchEvent(new Event('open'))
          socket.onopen = null
          socket.dispatchEvent(new Event('open'))
          socket.onopen = () => calls.push('last')
          socket.dispatchEvent(new Event('open'))
          socket.close()
          log.push(calls)
        }
        same(log[0], log[1])";
    run("handlers", body).await;
}

#[wasm_bindgen_test]
async fn arguments_are_checked_as_the_platforms_are() {
    let body = r"
        const closes = [[999], [1001], [2999], [5000], [65536 + 1000], [NaN], [-1], [1000.4], ['3000'], [null],
          [1000, 'x'.repeat(124)], [1000, 'ü'.repeat(62)], [1001, 'x'.repeat(124)],
          [undefined], [{ valueOf: () => 4000 }], [Symbol()]]
        const sends = [[], ['x'], [null], [Symbol()], [{}], [new Blob([])]]
        const urls = [[], ['http://'], ['http://x/#'], ['ftp://x/'], ['ws://x/#y']]
        const protocols = ['', 'a b', ['a', 'a'], ['a', 'A'], 'ü', ['a,b'], null, [], ['a', 'b'], 'a', {}, 5, [['a']]]
        const problems = (open, Class) => [
          closes.map(given => { const socket = open(); const name = thrown(() => socket.close(...given)); socket.close(); return name }),
          sends.map(given => { const socket = open(); const name = thrown(() => socket.send(...given)); socket.close(); return name }),
          urls.map(given => thrown(() => new Class(...given))),
          protocols.map(given => thrown(() => { const socket = open(given); socket.close() })),
        ]
        const ours = `${relay}/${server.serverId}/1`
        const expected = problems(protocols => new WebSocket(relay, protocols), WebSocket)
        const actual = problems(protocols => new PeerToPeerWebSocket(ours, protocols), PeerToPeerWebSocket)
        for (const [index, kind] of ['close', 'send', 'url', 'protocols'].entries()) same(actual[index], expected[index], kind)
        for (const port of [-1, 65536, 1.5, 'x', undefined]) same(thrown(() => connect(port)), 'TypeError', port)
        const typo = server.serverId.replace(/^./, letter => (letter === 'a' ? 'b' : 'a'))
        same(thrown(() => PeerToPeerWebSocket.toPort(1, typo, relay)), 'TunnelError')
        same(thrown(() => new PeerToPeerWebSocket(`${relay}/${typo}/1`)), 'SyntaxError')
        same(thrown(() => new PeerToPeerWebSocket(`${relay}/${server.serverId}/65536`)), 'SyntaxError')";
    run("arguments", body).await;
}

#[wasm_bindgen_test]
async fn the_constructor_takes_a_tunnel_url_with_a_path() {
    let body = r"
        const offers = []
        server.listen(9, socket => socket.send(socket.path), { accept: offer => offers.push(offer) })
        const url = `${server.url.replace(/^ws/, 'http')}/9/chat/room?name=x`
        const socket = new PeerToPeerWebSocket(url)
        same(socket.url, `${server.url}/9/chat/room?name=x`)
        same([socket.readyState, socket.protocol, socket.extensions, socket.bufferedAmount, socket.binaryType], [0, '', '', 0, 'blob'])
        const { data, origin } = await nextEvent(socket, 'message')
        same([data, origin], ['/chat/room?name=x', new URL(relay).origin])
        same([offers[0].port, offers[0].path, offers[0].plain], [9, '/chat/room?name=x', false])
        same([socket.port, socket.serverId, socket.remoteId, socket.encrypted], [9, server.serverId, server.serverId, true])
        const [peer] = server.clients
        same([peer.port, peer.serverId, peer.remoteId, typeof peer.remoteAddress], [9, server.serverId, offers[0].remoteId, 'string'])
        same(PeerToPeerWebSocket.throughChannel(peer.channel, server) === peer, true)";
    run("a tunnel URL", body).await;
}

#[wasm_bindgen_test]
async fn buffered_amount_rises_at_once_and_falls_between_tasks() {
    let body = r"
        server.listen(1, () => {})
        const socket = connect(1)
        await socket.opened
        socket.send('grün')
        same(socket.bufferedAmount, 5)
        socket.send(new Uint8Array(100_000))
        socket.send(new Blob(['abc']))
        same(socket.bufferedAmount, 100_008)
        for (let turn = 0; turn < 100; turn++) await null
        same(socket.bufferedAmount, 100_008)
        while (socket.bufferedAmount > 0) await new Promise(resolve => setTimeout(resolve))
        socket.close()
        socket.send('late')
        await nextEvent(socket, 'close')
        same(socket.bufferedAmount, 4)";
    run("bufferedAmount", body).await;
}

#[wasm_bindgen_test]
async fn messages_keep_their_order_around_blobs_and_their_content() {
    let body = r"
        const heard = []
        const all = new Promise(resolve => {
          server.listen(1, socket => {
            socket.binaryType = 'arraybuffer'
            socket.onmessage = ({ data }) => heard.push(typeof data === 'string' ? data : [...new Uint8Array(data)])
            socket.onclose = resolve
          })
        })
        const socket = connect(1)
        await socket.opened
        const bytes = new Uint8Array([1, 2, 3, 4])
        socket.send('first')
        socket.send(new Blob([bytes]))
        socket.send(bytes)
        bytes.fill(9)
        socket.send(new DataView(bytes.buffer, 1, 2))
        socket.send(new Uint16Array(0))
        socket.send('')
        socket.send('\ud800 alone')
        socket.send({ toString: () => 'object' })
        socket.close(3000)
        const event = await all
        same([event.code, event.reason, event.wasClean], [3000, '', true])
        same(heard, ['first', [1, 2, 3, 4], [1, 2, 3, 4], [9, 9], [], '', '\ufffd alone', 'object'])";
    run("order", body).await;
}

#[wasm_bindgen_test]
async fn microtasks_run_between_events() {
    let body = r"
        server.listen(1, socket => { for (let n = 0; n < 100; n++) socket.send(`${n}`) })
        const socket = connect(1)
        await socket.opened
        const heard = []
        // Each message has its own promise: one that came in the same turn as another would be missed.
        for (let n = 0; n < 100; n++) heard.push((await nextEvent(socket, 'message')).data)
        same(heard, Array.from({ length: 100 }, (_, n) => `${n}`))";
    run("one event at a time", body).await;
}

#[wasm_bindgen_test]
async fn a_throwing_listener_is_reported_and_stops_nothing() {
    let body = r"
        const reported = []
        const report = event => { reported.push(event.message); event.preventDefault() }
        addEventListener('error', report)
        server.listen(1, socket => { socket.send('one'); socket.send('two'); throw new Error('from the handler') })
        const socket = connect(1)
        const heard = []
        socket.onmessage = () => { throw new Error('from the listener') }
        socket.addEventListener('message', ({ data }) => heard.push(data))
        while (heard.length < 2) await nextEvent(socket, 'message')
        removeEventListener('error', report)
        same(heard, ['one', 'two'])
        same(reported.filter(message => message.includes('from the listener')).length, 2)
        same(reported.filter(message => message.includes('from the handler')).length, 1)";
    run("a throwing listener", body).await;
}

#[wasm_bindgen_test]
async fn what_does_not_open_fires_error_and_close_with_the_reason() {
    let body = r"
        server.listen(5, () => {}, { accept: () => false })
        for (const [port, code] of [[4, 'port-closed'], [5, 'refused']]) {
          const socket = connect(port)
          const events = []
          socket.onopen = socket.onmessage = socket.onerror = ({ type }) => events.push([type, socket.readyState])
          const { code: closeCode, reason, wasClean } = await nextEvent(socket, 'close')
          same([closeCode, wasClean, events], [1006, false, [['error', 3]]])
          same(reason.startsWith(`${code}: `) && reason.includes(`port ${port}`), true, reason)
          const errors = await Promise.all([socket.opened, socket.closed].map(promise => promise.catch(error => error)))
          same(errors.map(error => [error.name, error.code, error.closeCode]), [['TunnelError', code, 1006], ['TunnelError', code, 1006]])
        }
        const gone = connect(4)
        gone.close()
        same(gone.readyState, 2)
        const { code } = await nextEvent(gone, 'close')
        same([code, gone.readyState], [1006, 3])";
    run("what does not open", body).await;
}

#[wasm_bindgen_test]
async fn a_signal_ends_the_attempt_to_connect() {
    let body = r"
        server.listen(5, () => {}, { accept: () => new Promise(() => {}) })
        const abort = new AbortController()
        const socket = connect(5, { signal: abort.signal })
        setTimeout(() => abort.abort(new Error('changed my mind')))
        same(await socket.opened.catch(error => error.message), 'changed my mind')
        same((await nextEvent(socket, 'close')).code, 1006)
        const early = connect(5, { signal: AbortSignal.abort(new Error('never wanted')) })
        same(await early.opened.catch(error => error.message), 'never wanted')
        const through = options => ForwardingServerWebSocket.newThrough(relay, options).catch(error => error.message)
        same(await through({ signal: AbortSignal.abort(new Error('not at all')) }), 'not at all')";
    run("signals", body).await;
}

#[wasm_bindgen_test]
async fn a_subprotocol_is_agreed_on() {
    let body = r"
        server.listen(1, () => {})
        server.listen(2, () => {}, { protocols: ['b', 'c'] })
        server.listen(3, () => {}, { protocols: async offered => offered.at(-1) })
        const chosen = async (port, protocols) => {
          const socket = connect(port, { protocols })
          const opened = await socket.opened.catch(error => error.code)
          socket.close()
          return opened.protocol ?? opened
        }
        const given = [[1], [1, 'a'], [2, ['a', 'c', 'b']], [2, ['a']], [2], [3, ['a', 'b']]]
        const results = await Promise.all(given.map(([port, protocols]) => chosen(port, protocols)))
        same(results, ['', 'a', 'c', 'refused', '', 'b'])";
    run("subprotocols", body).await;
}

#[wasm_bindgen_test]
async fn a_page_that_is_connected_holds_a_lock_so_that_it_is_not_frozen() {
    let body = r"
        const held = async () => (await navigator.locks.query()).held.filter(({ name }) => name === 'tunnel-wasm').length
        while (!(await held())) await new Promise(resolve => setTimeout(resolve))
        await ForwardingServerWebSocket.newThrough(relay)
        same(await held(), 1)";
    run("a lock", body).await;
}

#[wasm_bindgen_test]
async fn a_server_hands_out_its_sockets_in_every_way() {
    let body = r"
        const order = []
        const listener = server.listen([1, { first: 10, last: 19 }], socket => {
          order.push(['handler', socket.port, socket.readyState])
          socket.onopen = () => order.push(['open', socket.port])
        })
        for (const ports of [1, [10], { first: 5, last: 10 }, [2, 2]]) {
          same(thrown(() => server.listen(ports)), 'TunnelError', JSON.stringify(ports))
        }
        for (const ports of [-1, 65536, 'x', { first: 2, last: 1 }, null]) {
          same(thrown(() => server.listen(ports)), 'TypeError', JSON.stringify(ports))
        }
        await connect(15).opened
        while (order.length < 2) await new Promise(resolve => setTimeout(resolve))
        same(order, [['handler', 15, 1], ['open', 15]])
        same(server.clients.size, 1)
        listener.close()

        // Nobody listens, but somebody is interested in connections: all ports are served.
        const waiting = connect(99)
        const connection = nextEvent(server, 'connection')
        const { socket, port } = await connection
        same([socket.port, port], [99, 99])
        await waiting.opened

        // A socket that waits to be accepted keeps its messages, also when the server has heard that its client is gone.
        server.listen(7)
        const early = connect(7)
        await early.opened
        early.send('one')
        early.send('two')
        early.close(4000)
        await nextEvent(early, 'close')
        const silent = connect(7)
        await silent.opened
        silent.close()
        await silent.closed
        await connect(7).opened
        const accepted = await server.accept()
        const heard = []
        accepted.onmessage = ({ data }) => heard.push(data)
        await nextEvent(accepted, 'close')
        same(heard, ['one', 'two'])

        const sockets = []
        const iterating = (async () => { for await (const socket of server) sockets.push(socket.port) })()
        await connect(7).opened
        while (sockets.length < 2) await new Promise(resolve => setTimeout(resolve))
        const closes = [...server.clients].map(client => nextEvent(client, 'close'))
        await server.close()
        await iterating
        for (const { code, wasClean } of await Promise.all(closes)) same([code, wasClean], [1001, true])
        same([sockets, server.readyState, server.clients.size], [[7, 7], 3, 0])";
    run("a server", body).await;
}

#[wasm_bindgen_test]
async fn a_reader_that_stops_stops_the_sender() {
    let body = r"
        const [size, count] = [64 * 1024, 64]
        const accepted = new Promise(resolve => server.listen(1, resolve))
        const socket = connect(1)
        const { writable } = await socket.opened
        const peer = await accepted
        const reader = peer.readable.getReader()
        peer.onmessage = () => { throw new Error('a message event beside the stream') }
        const writer = writable.getWriter()
        let written = 0
        const writing = (async () => {
          for (let n = 0; n < count; n++) { await writer.write(new Uint8Array(size).fill(n)); written++ }
          await writer.close()
        })()
        // Until nothing moves any more.
        for (let before = -1; before !== written; ) { before = written; await new Promise(resolve => setTimeout(resolve, 300)) }
        same(written < count, true, 'all was written although nobody read')
        let read = 0
        for (;;) {
          const { done, value } = await reader.read()
          if (done) break
          same([value.length, value[0], value.at(-1)], [size, read, read])
          read++
        }
        await writing
        same(read, count)
        // As Chromium's WebSocketStream does.
        same(await socket.closed, { closeCode: 1005, reason: '' })";
    run("backpressure", body).await;
}

#[wasm_bindgen_test]
async fn messages_are_iterated_until_the_end() {
    let body = r"
        server.listen(1, socket => { for (const word of ['a', 'b', 'c']) socket.send(word); socket.close() })
        const socket = connect(1)
        const heard = []
        for await (const data of socket) { heard.push(data); if (data === 'a') break }
        for await (const data of socket) heard.push(data)
        same(heard, ['a', 'b', 'c'])";
    run("iteration", body).await;
}

#[wasm_bindgen_test]
async fn a_named_server_keeps_its_id() {
    let body = r"
        const options = { identity: `test ${Math.random()}` }
        const ids = []
        for (let n = 0; n < 2; n++) {
          const named = await ForwardingServerWebSocket.newThrough(relay, options)
          named.listen(1, socket => socket.send(socket.remoteId))
          const socket = PeerToPeerWebSocket.toPort(1, named.serverId, relay, { identity: `${options.identity} client` })
          ids.push([named.serverId, (await nextEvent(socket, 'message')).data])
          same(named.identity.name, options.identity)
          await named.close()
        }
        same(ids[0], ids[1])
        same(new Set(ids[0]).size, 2)";
    run("a named server", body).await;
}

#[wasm_bindgen_test]
async fn a_server_chooses_who_comes_in_and_with_which_subprotocol() {
    let body = r"
        const reported = []
        const report = event => { reported.push(event.message); event.preventDefault() }
        addEventListener('error', report)
        const offers = []
        // Not the one of `run`, which dials port 0 too.
        const accept = async offer => offer.path !== '/' && offers.push(offer) && offer.path === '/friend'
        const choose = (offered, { path }) => (path === '/friend' ? offered.at(-1) : undefined)
        server.listen([0, 65535], () => {}, { accept, protocols: choose })
        server.listen(1, () => {}, { protocols: () => 'not offered' })
        server.listen(2, () => {}, { accept: () => { throw new Error('accept fails') } })
        server.listen(3, () => {}, { protocols: async () => { throw new Error('protocols fail') } })

        const result = async (port, path, protocols) => {
          const socket = new PeerToPeerWebSocket(`${server.url}/${port}${path}`, protocols)
          const opened = await socket.opened.catch(error => error.code)
          socket.close()
          return opened.protocol ?? opened
        }
        const results = [
          await result(0, '/friend', ['a', 'b']),
          await result(65535, '/stranger', ['a', 'b']),
          await result(1, '', 'a'),
          await result(2, ''),
          await result(3, '', 'a'),
        ]
        removeEventListener('error', report)
        same(results, ['b', 'refused', 'refused', 'refused', 'refused'])
        same(offers.map(({ port, path, protocols, plain }) => [port, path, protocols, plain]), [
          [0, '/friend', ['a', 'b'], false],
          [65535, '/stranger', ['a', 'b'], false],
        ])
        for (const { channel, remoteAddress, remoteId } of offers) {
          same([typeof channel, typeof remoteAddress, remoteId.length], ['number', 'string', 56])
        }
        same(reported.map(message => message.replace(/.*: /, '')), ['accept fails', 'protocols fail'])
        same(thrown(() => server.listen(9, () => {}, { accept: 'everybody' })), 'TypeError')
        same(thrown(() => server.listen(9, () => {}, { protocols: ['a', 'a'] })), 'SyntaxError')
        same(thrown(() => server.listen(9, () => {}, { protocols: 'a b' })), 'SyntaxError')
        same(await ForwardingServerWebSocket.newThrough(relay, { protocols: '' }).catch(error => error.name), 'SyntaxError')

        const polyglot = await ForwardingServerWebSocket.newThrough(relay, { protocols: ['b', 'c'] })
        polyglot.listen(1)
        polyglot.listen(2, { protocols: 'd' })
        const of = port => new PeerToPeerWebSocket(`${polyglot.url}/${port}`, ['a', 'd', 'c']).opened
        same([(await of(1)).protocol, (await of(2)).protocol], ['c', 'd'])
        await polyglot.close()";
    run("choosing", body).await;
}

#[wasm_bindgen_test]
async fn a_listener_gives_its_ports_back_and_leaves_its_sockets() {
    let body = r"
        const listener = server.listen([5, { first: 7, last: 9 }], socket => { socket.onmessage = ({ data }) => socket.send(data) })
        same(listener.ports, [{ first: 5, last: 5 }, { first: 7, last: 9 }])
        listener.ports[0].first = 4
        same(listener.ports[0], { first: 5, last: 5 })
        const socket = connect(8)
        await socket.opened
        listener.close()
        listener.close()
        same((await connect(8).opened.catch(error => error)).code, 'port-closed')
        socket.send('still here')
        same((await nextEvent(socket, 'message')).data, 'still here')
        same(thrown(() => new listener.constructor()), 'TypeError')

        // The handler and the listeners of `connection` both see a socket; other ports stay closed.
        const seen = []
        const again = server.listen(8, socket => seen.push(['handler', socket.port]))
        server.onconnection = ({ socket, port }) => seen.push(['onconnection', socket.port === port])
        await connect(8).opened
        while (seen.length < 2) await new Promise(resolve => setTimeout(resolve))
        same(seen, [['handler', 8], ['onconnection', true]])
        same((await connect(5).opened.catch(error => error)).code, 'port-closed')

        // Nothing is claimed any more: whoever listens to `connection` serves all ports, until it stops listening.
        again.close()
        await connect(5).opened
        server.onconnection = null
        same((await connect(5).opened.catch(error => error)).code, 'port-closed')";
    run("a listener", body).await;
}

#[wasm_bindgen_test]
async fn clients_are_the_open_sockets_and_a_closed_server_takes_no_more() {
    let body = r"
        const { clients } = server
        server.listen(1, socket => same(clients.has(socket), true))
        const sockets = [connect(1), connect(1), connect(1)]
        await Promise.all(sockets.map(({ opened }) => opened))
        while (clients.size < 3) await new Promise(resolve => setTimeout(resolve))
        same([server.clients === clients, [...clients].map(({ readyState }) => readyState)], [true, [1, 1, 1]])
        const [first] = clients
        same(PeerToPeerWebSocket.throughChannel(`${first.channel}`, server) === first, true)
        first.close()
        await nextEvent(first, 'close')
        same([clients.has(first), clients.size], [false, 2])
        same(thrown(() => PeerToPeerWebSocket.throughChannel(first.channel, server)), 'TunnelError')

        const waiting = server.accept().catch(error => error.code)
        const events = []
        server.onclose = ({ type, code, wasClean }) => events.push([type, code, wasClean])
        server.onerror = ({ type }) => events.push([type])
        const ended = nextEvent(server, 'close')
        const closed = [server.close(), server.close()]
        same([server.readyState, thrown(() => server.listen(2))], [2, 'InvalidStateError'])
        await Promise.all([...closed, ended])
        same([server.readyState, clients.size, await waiting], [3, 0, 'closed'])
        same(events.map(([type, , wasClean]) => [type, wasClean]), [['close', true]])
        same(await server.accept().catch(error => error.code), 'closed')
        for await (const socket of server) throw new Error(`a socket of a closed server: ${socket.port}`)
        const options = { absentTimeout: 100 }
        same((await connect(1, options).opened.catch(error => error)).code, 'server-not-found')";
    run("clients", body).await;
}
