// Node.js before 22 has no WebSocket: the package can be imported, and says what is missing when it connects.

import init, { PeerToPeerWebSocket } from 'tunnel-wasm'
import { same } from './talk.mjs'

same(typeof WebSocket, 'undefined', 'the class of this Node.js')
await init()
const socket = PeerToPeerWebSocket.toPort(1, 'lorxezk3bwxpja4nwcffbwd7cok6z3qs6rmubsw6fiwcb3xjbfrolbyb', process.argv[2])
const error = await socket.opened.catch(error => error)
same([error.code, error.message.includes('set globalThis.WebSocket')], ['relay-unreachable', true], error.message)
console.log('imported')
