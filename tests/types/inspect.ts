// All of the inspector, as TypeScript sees it. It is compiled, never run.

import 'tunnel-wasm/inspect'
import { getLinks, observe, type ForwardingServerWebSocket, type LinkStats, type Observer, type ServerStats } from 'tunnel-wasm'
import { hide, remove, report, show, type InspectedEvent, type InspectedSocket, type InspectorReport } from 'tunnel-wasm/inspect'

show()
hide()
remove()
const made: InspectorReport = report()
const socket: InspectedSocket | undefined = made.sockets[0]
const event: InspectedEvent | undefined = made.timeline[0]
console.log(socket?.stats?.roundTripTime, socket?.side, event?.what, event?.bytes, made.links[0]?.channels)

const links: LinkStats[] = getLinks()
console.log(links[0]?.id, links[0]?.roundTripTime, links[0]?.dialect)
declare const server: ForwardingServerWebSocket
const stats: ServerStats = server.getStats()
console.log(stats.clients, stats.link?.bytesSent, stats.ports[0]?.first)
// @ts-expect-error: counters are read only
stats.clients = 1

const observer: Observer = {
  began: (kind, target, id) => console.log(kind, target, id),
  message: (socket, direction, data) => console.log(socket.port, direction, data),
  dial: (url, protocols, Native) => new Native(url, protocols),
}
observe(observer)
observe(null)
