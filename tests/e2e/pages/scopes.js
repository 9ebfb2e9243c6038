// The scopes of a page that sockets can be in: each a function that has a command obeyed there.

import { obey } from './scope.js'

const SCRIPT = '/e2e/scope.js'
const WASM = '/pkg/tunnel_wasm_bg.wasm'

const ask = (target, message) => new Promise((resolve, reject) => {
  const { port1, port2 } = new MessageChannel()
  port1.onmessage = ({ data: { value, error } }) => (error ? reject(new Error(error)) : resolve(value))
  target.onerror = event => reject(new Error(`the worker failed: ${event.message}`))
  target.postMessage(message, [port2])
})

// `init` is given what there is: nothing, a compiled module, a URL.
const STARTERS = {
  Window: async () => obey,
  DedicatedWorker: async () => {
    const worker = new Worker(SCRIPT, { type: 'module' })
    const wasm = await WebAssembly.compileStreaming(fetch(WASM))
    return message => ask(worker, { ...message, wasm })
  },
  SharedWorker: async () => {
    const { port } = new SharedWorker(SCRIPT, { type: 'module' })
    return message => ask(port, { ...message, wasm: WASM })
  },
  ServiceWorker: async () => {
    const registration = await navigator.serviceWorker.register(SCRIPT, { type: 'module' })
    const worker = registration.installing ?? registration.waiting ?? registration.active
    while (worker.state !== 'activated') {
      await new Promise(resolve => worker.addEventListener('statechange', resolve, { once: true }))
    }
    return message => ask(worker, { ...message, wasm: new URL(WASM, location.href).href })
  },
}

const started = {}

/** Returns what a command answers in a kind of scope. */
export const inScope = async (kind, message) => (await (started[kind] ??= STARTERS[kind]()))(message)

export const kinds = Object.keys(STARTERS)
