// Hosts and connects in any kind of scope: the script of workers of each kind, and a module of a page. Each command
// comes as a message with a port, which the answer goes to.

import * as livecode from '/pkg/tunnel_livecode.js'
import init, { ForwardingServerWebSocket, PeerToPeerWebSocket, useLivecode } from '/pkg/tunnel_wasm.js'

let server

const COMMANDS = {
  // Hosts an echo server; says where.
  host: async ({ relay, identity, livecode }) => {
    server = await ForwardingServerWebSocket.newThrough(relay, { identity, livecode })
    server.listen(1, socket => {
      socket.onmessage = ({ data }) => socket.send(`${data} ${globalThis.constructor.name}`)
    })
    return `${server.url}/1`
  },
  // Says something to a server and returns what it answers.
  connect: async ({ url, text, livecode }) => {
    const socket = new PeerToPeerWebSocket(url, [], { livecode })
    const answer = await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(text)
      socket.onmessage = ({ data }) => resolve(data)
      socket.onclose = ({ code, reason }) => reject(new Error(`${code} ${reason}`))
    })
    const closed = new Promise(resolve => { socket.onclose = ({ code, wasClean }) => resolve([code, wasClean]) })
    socket.close(1000)
    return [answer, ...await closed]
  },
  close: () => server.close(),
  useLivecode: () => useLivecode(livecode),
}

export const obey = async ({ command, wasm, ...given }) => {
  await init({ module_or_path: wasm })
  return COMMANDS[command](given)
}

const answer = async ({ data, ports: [port] }) => {
  try {
    port.postMessage({ value: await obey(data) })
  } catch (error) {
    port.postMessage({ error: `${error}` })
  }
}

if (!globalThis.document) {
  // A service worker may be ended when it has answered, unless it says what it waits for.
  addEventListener('message', event => (event.waitUntil ? event.waitUntil(answer(event)) : answer(event)))
  addEventListener('connect', ({ ports: [port] }) => { port.onmessage = answer })
  addEventListener('install', () => skipWaiting())
}
