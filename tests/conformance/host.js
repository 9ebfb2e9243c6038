// The other side for ours: the same behaviours, behind a server in a page or a worker.

import { behave, chooseProtocol, decide } from './behaviours.js'

/** The URL that paths are appended to. */
export const host = async (ForwardingServerWebSocket, relay) => {
  const server = await ForwardingServerWebSocket.newThrough(relay)
  server.listen(1, socket => behave(socket, socket.path), {
    accept: ({ path }) => {
      const decision = decide(path)
      return decision === 'hold' ? new Promise(() => {}) : decision === 'open'
    },
    protocols: (offered, { path }) => chooseProtocol(new URL(path, 'ws://server/').searchParams, offered),
  })
  return `${server.url}/1`
}
