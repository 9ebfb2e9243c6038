// All cases in a worker.

import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from '/pkg/tunnel_wasm.js'
import { runAll } from './run.js'

addEventListener('message', async ({ data: relay }) => {
  await init()
  postMessage(await runAll({ ForwardingServerWebSocket, PeerToPeerWebSocket }, relay))
})
