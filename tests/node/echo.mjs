// Hosts a server, connects to it and to one elsewhere, in a runtime that is no browser: the same package, given bytes.
// Usage: echo.mjs PACKAGE RELAY

import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [packageFolder, relay] = process.argv.slice(2)
const { default: init, ForwardingServerWebSocket, PeerToPeerWebSocket, TunnelError }
  = await import(pathToFileURL(`${packageFolder}/tunnel_wasm.js`).href)

const same = (actual, expected, what) => {
  const [a, b] = [actual, expected].map(value => JSON.stringify(value))
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`)
}
const next = (target, type) => new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

await init({ module_or_path: readFileSync(`${packageFolder}/tunnel_wasm_bg.wasm`) })

const server = await ForwardingServerWebSocket.newThrough(relay)
server.listen(7, socket => {
  socket.binaryType = 'arraybuffer'
  socket.onmessage = ({ data }) => socket.send(data)
}, { protocols: 'echo' })

const socket = new PeerToPeerWebSocket(`${server.url}/7/path`, ['other', 'echo'])
socket.binaryType = 'arraybuffer'
await next(socket, 'open')
same([socket.readyState, socket.protocol, socket.encrypted], [1, 'echo', true], 'an open socket')

socket.send('grüße 🚇')
same((await next(socket, 'message')).data, 'grüße 🚇', 'a text')

const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => index * 31)
socket.send(bytes)
const echoed = new Uint8Array((await next(socket, 'message')).data)
same([echoed.length, echoed.every((byte, index) => byte === bytes[index])], [bytes.length, true], 'a megabyte')

socket.send(new Blob(['blob']))
same(new TextDecoder().decode((await next(socket, 'message')).data), 'blob', 'a Blob')

const [peer] = server.clients
for (let n = 0; n < 100; n++) peer.send(`${n}`)
// Each has a task of its own: who listens for one at a time misses none.
for (let n = 0; n < 100; n++) same((await next(socket, 'message')).data, `${n}`, 'one message of many')

const ends = [next(socket, 'close'), next(peer, 'close')]
socket.close(3000, 'enough')
for (const { type, code, reason, wasClean } of await Promise.all(ends)) {
  same([type, code, reason, wasClean], ['close', 3000, 'enough', true], 'a close')
}

const refused = PeerToPeerWebSocket.toPort(8, server.serverId, relay)
const error = await refused.opened.catch(error => error)
same([error instanceof TunnelError, error.code], [true, 'port-closed'], 'a closed port')

const named = await ForwardingServerWebSocket.newThrough(relay, { identity: 'name' }).catch(({ code }) => code)
same(named, 'no-identity', 'a name where nothing is kept')

await server.close()
const { bun, deno, node } = process.versions
console.log(`echoed by ${bun ? 'Bun' : deno ? 'Deno' : 'Node.js'} ${bun ?? deno ?? node}`)
// Nothing holds a process of Node.js back. In Deno a port that listens does.
if (deno) process.exit()
