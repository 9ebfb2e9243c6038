// The package in Node.js beside a library that changes what it stands on: `beside.mjs LIBRARY RELAY`.

import { same, talk } from './talk.mjs'

const [name, relay] = process.argv.slice(2)

const LIBRARIES = {
  async ws() {
    globalThis.WebSocket = (await import('ws')).WebSocket
  },
  async 'zone.js'() {
    await import('zone.js')
  },
  /** Its WebSocket calls handlers behind listeners, and has classes of events of its own. */
  async 'happy-dom'() {
    const { Window } = await import('happy-dom')
    const window = new Window({ url: 'http://localhost/' })
    const names = ['WebSocket', 'Event', 'EventTarget', 'MessageEvent', 'CloseEvent', 'Blob', 'document', 'location']
    for (const name of names) globalThis[name] = window[name]
    // It works on as long as its window is open.
    return () => window.happyDOM.close()
  },
  /** It stands between the page and the server, and reports the first subprotocol offered as the one that was chosen. */
  async msw() {
    const { ws } = await import('msw')
    const { setupServer } = await import('msw/node')
    const seen = []
    const connected = ws.link('ws://*').addEventListener('connection', ({ client, server }) => {
      server.connect()
      for (const side of [client, server]) side.addEventListener('message', ({ data }) => seen.push([data, copyOf(data)]))
    })
    const mock = setupServer(connected)
    mock.listen({ onUnhandledRequest: 'bypass' })
    return () => {
      mock.close()
      same(seen.length > 100, true, 'messages that MSW sees')
      for (const [data, copy] of seen) same(Buffer.compare(Buffer.from(data), copy), 0, 'what MSW has kept, compared with a copy')
    }
  },
  /** As in a test that loads the package behind vitest's `useFakeTimers()`. Without `nextTick` Node.js itself stands still. */
  async 'a clock that stands still'() {
    const { install } = await import('@sinonjs/fake-timers')
    install({ toNotFake: ['nextTick', 'queueMicrotask'] })
    const begun = performance.now()
    return () => same(performance.now(), begun, 'the time')
  },
  async 'Object.prototype'() {
    Object.assign(Object.prototype, { extend() {}, depth: 1, open() {}, close() {} })
  },
}
const copyOf = data => Buffer.from(typeof data === 'string' ? data : new Uint8Array(data))

const done = await LIBRARIES[name]()
const library = await import('tunnel-wasm')
await library.default()
await talk(library, relay)
await done?.()
console.log(`talked beside ${name}`)
