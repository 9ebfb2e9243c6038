// All cases in a worker.

import init, { PeerToPeerWebSocket } from '/pkg/tunnel_wasm.js'
import { compare } from './run.js'

addEventListener('message', async ({ data: urls }) => {
  await init()
  postMessage(await compare(PeerToPeerWebSocket, urls))
})
