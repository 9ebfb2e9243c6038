// Runs all cases, in a page or a worker: what the classes do beyond the platform's, and both ends of a socket in one page.

import { run } from '/conformance/harness.js'
import * as classes from './class.js'
import * as servers from './server.js'
import * as sockets from './socket.js'
import * as streams from './streams.js'

const FILES = { 'class.js': classes, 'server.js': servers, 'socket.js': sockets, 'streams.js': streams }

/** Milliseconds for each: longer than anything here takes on a busy machine. */
const LIMIT = 20_000

/** Gives a case a server of its own, and what connects to its ports. */
const withServer = (check, scope) => async () => {
  const { ForwardingServerWebSocket, PeerToPeerWebSocket, relay } = scope
  const server = await ForwardingServerWebSocket.newThrough(relay)
  const connect = (port, options) => PeerToPeerWebSocket.toPort(port, server.serverId, relay, options)
  try {
    await check({ ...scope, server, connect })
  } finally {
    await server.close()
  }
}

/** The number of cases, and how some failed. */
export const runAll = async (library, relay) => {
  const scope = { ...library, relay }
  const bound = ({ cases }) =>
    Object.fromEntries(Object.entries(cases).map(([what, check]) => [what, withServer(check, scope)]))
  const files = Object.fromEntries(Object.entries(FILES).map(([file, module]) => [file, { cases: bound(module) }]))
  const results = Object.entries(await run(files, undefined, LIMIT))
  const failed = results.filter(([, { error }]) => error)
  return { count: results.length, problems: failed.map(([what, { error, stack }]) => `${what}: ${error}\n${stack}`) }
}
