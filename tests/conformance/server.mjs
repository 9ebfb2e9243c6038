// The other side for the platform's WebSocket, which proves the tests.

import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { behave, chooseProtocol, decide } from './behaviours.js'

const queryOf = request => new URL(request.url, 'ws://server/').searchParams
const http = createServer()
const sockets = new WebSocketServer({
  noServer: true,
  handleProtocols: (offered, request) => chooseProtocol(queryOf(request), [...offered]) ?? false,
})

http.on('upgrade', (request, stream, head) => {
  const decision = decide(new URL(request.url, 'ws://server/').pathname)
  if (decision === 'hold') return stream.on('error', () => {})
  if (decision === 'refuse') return stream.end('HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n')
  sockets.handleUpgrade(request, stream, head, socket => behave(socket, request.url))
})

http.listen(0, '127.0.0.1', () => console.log(`listening on ws://127.0.0.1:${http.address().port}`))
