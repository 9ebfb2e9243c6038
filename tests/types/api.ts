// All of the API, as TypeScript sees it. It is compiled, never run.

import init, {
  ForwardingClientWebSocket,
  ForwardingServerWebSocket,
  ForwardingWebSocket,
  initSync,
  NodeJSLivecodingClient,
  NodeJSTunnelingClient,
  PeerToPeerWebSocket,
  TunnelError,
  type ConnectionEvent,
  type ConnectionOffer,
  type ForwardedConnectionEvent,
  type ForwardedDataEvent,
  type ForwardingServerWebSocketEventMap,
  type LivecodeAnswer,
  type LivecodeOptions,
  type Listener,
  type ListenOptions,
  type NodeJSLivecodingClientEventMap,
  type PeerToPeerWebSocketEventMap,
  type Ports,
  type ProtocolChoice,
  type ServerOptions,
  type SocketCloseInfo,
  type SocketConnection,
  type SocketOptions,
  type SocketStats,
  type TunnelErrorCode,
} from 'tunnel-wasm'

/** Fails to compile unless both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : never
const same = <A, B>(_: Same<A, B>) => {}

// ---- Whatever takes the platform's class takes ours.

const Socket: typeof WebSocket = PeerToPeerWebSocket
const asPlatforms: WebSocket = new PeerToPeerWebSocket('wss://relay.example/server/1', ['chat'])
const target: EventTarget = new Socket('wss://relay.example/server/1')
globalThis.WebSocket = PeerToPeerWebSocket
function library(options: { WebSocket: typeof WebSocket; socket: WebSocket }) {
  options.socket.onmessage = function (event) {
    this.send(event.data)
  }
}
library({ WebSocket: PeerToPeerWebSocket, socket: asPlatforms })
target.dispatchEvent(new Event('open'))
// No member of the platform's is missing, and none has a type of its own.
const everyMember: Record<keyof WebSocket, unknown> = asPlatforms as PeerToPeerWebSocket
same<keyof WebSocket, Extract<keyof PeerToPeerWebSocket, keyof WebSocket>>(true)
everyMember satisfies object

// ---- init

await init()
await init({ module_or_path: new URL('tunnel_wasm_bg.wasm', location.href) })
await init({ module_or_path: fetch('tunnel_wasm_bg.wasm') })
await init({ module_or_path: new Uint8Array(8) })
initSync({ module: new Uint8Array(8) })

// ---- PeerToPeerWebSocket

const options: SocketOptions = {
  protocols: ['chat', 'superchat'],
  identity: 'me',
  resumeTimeout: 300_000,
  absentTimeout: 15_000,
  signal: AbortSignal.timeout(1000),
  token: 'secret',
  livecode: true,
  allowPlain: true,
}
const socket = PeerToPeerWebSocket.toPort(1337, 'a'.repeat(56), new URL('wss://relay.example'), options)
PeerToPeerWebSocket.toPort(0, 7, 'ws://localhost:8087', { protocols: 'chat' })
new PeerToPeerWebSocket('ws://localhost:8087/7/0', ['chat'], { livecode: true, token: 'secret' })
// @ts-expect-error: the second argument has them
new PeerToPeerWebSocket('ws://localhost:8087/7/0', [], { protocols: 'chat' })
// @ts-expect-error: a port is a number
PeerToPeerWebSocket.toPort('1337', 'id', 'ws://localhost')
// @ts-expect-error: no such option
PeerToPeerWebSocket.toPort(1, 'id', 'ws://localhost', { protocol: 'chat' })
// @ts-expect-error: a number is no message
socket.send(5)
// @ts-expect-error: read-only
socket.readyState = 3
// @ts-expect-error: read-only
PeerToPeerWebSocket.OPEN = 2

same<0 | 1 | 2 | 3, typeof PeerToPeerWebSocket.CONNECTING | typeof PeerToPeerWebSocket.OPEN | typeof socket.CLOSING | typeof socket.CLOSED>(true)
same<typeof socket.CONNECTING | typeof socket.OPEN, 0 | 1>(true)
same<typeof PeerToPeerWebSocket.CLOSING | typeof PeerToPeerWebSocket.CLOSED, 2 | 3>(true)
const texts: string[] = [socket.url, socket.extensions, socket.protocol, socket.serverId, socket.path]
const numbers: number[] = [socket.readyState, socket.bufferedAmount, socket.port]
const peer: (string | null)[] = [socket.remoteAddress, socket.remoteId]
const channel: number | null = socket.channel
const encrypted: boolean = socket.encrypted && socket.verified
socket.binaryType = 'arraybuffer'
for (const message of ['text', new Blob(), new ArrayBuffer(1), new Uint8Array(1), new DataView(new ArrayBuffer(1))]) {
  socket.send(message)
}
socket.close()
socket.close(4000)
socket.close(4000, 'enough')

socket.onopen = event => same<typeof event, Event>(true)
socket.onmessage = ({ data, origin }) => [data, origin]
socket.onerror = event => same<typeof event, Event>(true)
socket.onclose = ({ code, reason, wasClean }) => [code, reason, wasClean]
socket.onreconnecting = socket.onreconnected = event => event.type
socket.onopen = null
socket.addEventListener('close', event => same<typeof event, CloseEvent>(true), { once: true })
socket.addEventListener('reconnecting', event => same<typeof event, Event>(true))
socket.addEventListener('anything', event => event.type)
socket.removeEventListener('close', () => {})
const socketEvents: Record<keyof PeerToPeerWebSocketEventMap, true> = {
  open: true,
  message: true,
  error: true,
  close: true,
  reconnecting: true,
  reconnected: true,
  reopened: true,
}

const { readable, writable, protocol, extensions }: SocketConnection = await socket.opened
const { closeCode, reason }: SocketCloseInfo = await socket.closed
await readable.pipeTo(new WritableStream<string | Uint8Array>())
const writer = socket.writable.getWriter()
await writer.write('text')
await writer.write(new Blob())
await writer.write(new Uint8Array(1))
const { value } = await socket.readable.getReader().read()
same<typeof value, string | Uint8Array | undefined>(true)
same<typeof writable, typeof socket.writable>(true)
for await (const data of socket) void data

const stats: SocketStats = socket.getStats()
const counters: number[] = [
  stats.bytesSent,
  stats.bytesReceived,
  stats.messagesSent,
  stats.messagesReceived,
  stats.bytesRetransmitted,
  stats.bytesUnacknowledged,
  stats.reconnects,
  stats.roundTripTime ?? 0,
]
const state: 'alive' | 'waiting' | 'interrupted' | 'ended' = stats.state
const path: 'relay' = stats.path
void [counters, state, path]

// ---- ForwardingServerWebSocket

const choose: ProtocolChoice = (offered, { port }) => offered.find(name => name === `chat${port}`)
const serverOptions: ServerOptions = {
  identity: 'server',
  token: 'secret',
  signal: AbortSignal.timeout(1000),
  protocols: choose,
  livecode: false,
  allowPlain: false,
}
const server = await ForwardingServerWebSocket.newThrough('wss://relay.example', serverOptions)
// @ts-expect-error: servers are made by newThrough
new ForwardingServerWebSocket()
const serverTexts: string[] = [server.serverId, server.url, server.relayUrl]
const identity: { readonly name: string; readonly protected: boolean } | null = server.identity
const serverState: number = server.readyState
same<typeof ForwardingServerWebSocket.OPEN, 1>(true)

const allPorts: Ports = [80, { first: 6000, last: 6009 }, [443]]
const listenOptions: ListenOptions = {
  protocols: new Set(['chat']),
  accept: async ({ channel, port, remoteAddress, remoteId, verified, protocols, path, plain }: ConnectionOffer) => {
    void [channel, remoteId, verified, protocols, path, plain]
    return port !== 0 && remoteAddress !== '192.0.2.1'
  },
}
const listener: Listener = server.listen(
  allPorts,
  client => {
    client.onmessage = ({ data }) => client.send(data)
  },
  listenOptions,
)
const [range] = listener.ports
if (range) same<typeof range, { first: number; last: number }>(true)
listener.close()
server.listen(80)
server.listen(81, { accept: () => true })
// @ts-expect-error: a port is a number
server.listen('80')
const accepted: PeerToPeerWebSocket = await server.accept()
for await (const client of server) same<typeof client, PeerToPeerWebSocket>(true)
for (const client of server.clients) client.close(1000)
// @ts-expect-error: the library adds and removes
server.clients.clear()
const isThere: boolean = server.clients.has(accepted)
const sameSocket: PeerToPeerWebSocket = PeerToPeerWebSocket.throughChannel(accepted.channel ?? 0, server)
server.onconnection = ({ socket, port }: ConnectionEvent) => socket.send(`port ${port}`)
server.onopen = server.onerror = server.onreconnecting = server.onreconnected = event => event.type
server.onclose = ({ code }) => code
server.addEventListener('connection', event => same<typeof event, ConnectionEvent>(true))
const serverEvents: Record<keyof ForwardingServerWebSocketEventMap, true> = {
  open: true,
  connection: true,
  close: true,
  error: true,
  reconnecting: true,
  reconnected: true,
}
await server.close()

// ---- Errors

try {
  await socket.opened
} catch (error) {
  if (error instanceof TunnelError) {
    const told: [string, string, unknown] = [error.code, error.message, error.cause]
    const ended: [number | undefined, string | undefined] = [error.closeCode, error.reason]
    void [told, ended]
  }
}
same<TunnelError['code'], TunnelErrorCode>(true)
const advice: Partial<Record<TunnelErrorCode, string>> = { 'server-not-found': 'ask for the link', closed: 'done' }
// @ts-expect-error There is no such code.
const misspelt: TunnelErrorCode = 'server-notfound'
const ofOurs: Error = new TunnelError('nothing works', { code: 'overflow', cause: new Error() })

// ---- Hosts that reload, tokens that expire

const redialling = PeerToPeerWebSocket.toPort(80, 'a'.repeat(56), 'wss://relay.example', {
  redial: true,
  token: async () => (await fetch('/relay-token')).text(),
})
redialling.onreopened = function (event) {
  this.send(event.type)
}
redialling.addEventListener('reopened', ({ type }) => type)
for (const message of redialling.unacknowledged()) {
  same<typeof message, string | Uint8Array>(true)
  redialling.send(message)
}
const reloaded = await ForwardingServerWebSocket.newThrough('/', { identity: 'game', absentTimeout: 5000, token: Promise.resolve('secret') })
reloaded.parked = { ...reloaded.parked, moves: 1 }

// ---- The livecode dialect

const livecodeOptions: LivecodeOptions = { signal: AbortSignal.timeout(1000) }
const livecoding: NodeJSLivecodingClient = await NodeJSLivecodingClient.configureServerAt('ws://localhost', 'credential')
const added: LivecodeAnswer = await livecoding.addInstruction('double', (n: number) => 2 * n)
await livecoding.addInstruction('triple', 'n => 3 * n')
const { sent, returned } = await livecoding.invoke('double', 21)
same<typeof sent, string[]>(true)
same<typeof returned, string>(true)
await livecoding.eval('1')
await livecoding.require('ws', 'ws => ws')
const modules: string[] = await livecoding.modules()
livecoding.onlog = ({ data, line }) => [data, line]
livecoding.onmessage = ({ data }) => data.length
livecoding.onclose = ({ code }) => code
livecoding.addEventListener('log', event => same<typeof event, NodeJSLivecodingClientEventMap['log']>(true))
const livecodingIs: [string, number] = [livecoding.url, livecoding.readyState]
await livecoding.closeConfigurator()

const tunneling = await NodeJSTunnelingClient.configureServerAt('ws://localhost', 'credential', livecodeOptions)
await NodeJSTunnelingClient.connectTo(new URL('ws://localhost'))
const asLivecoding: NodeJSLivecodingClient = tunneling
const { serverId, credential } = await tunneling.createServerCredential()
await tunneling.installServer(serverId, credential)
await tunneling.connectToServer(serverId, 80)
await tunneling.forwardToClient(1, 'data')
await tunneling.forwardToServer(serverId, 'data')
tunneling.onconnected = ({ channel, port, address }: ForwardedConnectionEvent) => [channel, port, address]
tunneling.ondata = ({ data, from }: ForwardedDataEvent) => [data, from]
tunneling.addEventListener('data', ({ from }) => from)

const forwarding = ForwardingClientWebSocket.toPort(80, serverId, 'ws://localhost', livecodeOptions)
const asForwarding: ForwardingWebSocket[] = [forwarding, server]
forwarding.send('text')
// @ts-expect-error: texts only
forwarding.send(new Uint8Array(1))
forwarding.onmessage = ({ data }) => data.length
forwarding.onerror = ({ error }) => error
forwarding.onopen = forwarding.onclose = null
const forwardingIs: [string, number, string, number, number] = [
  forwarding.url,
  forwarding.port,
  forwarding.serverId,
  forwarding.readyState,
  forwarding.bufferedAmount,
]
forwarding.close()

void [texts, numbers, peer, channel, encrypted, socketEvents, protocol, extensions, closeCode, reason, serverTexts]
void [identity, serverState, isThere, sameSocket, serverEvents, ofOurs, added, modules, livecodingIs, asLivecoding]
void [asForwarding, forwardingIs]
