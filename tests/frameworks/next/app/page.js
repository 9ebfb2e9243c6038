import { PeerToPeerWebSocket } from 'tunnel-wasm'
import Tunnel from './tunnel'

// It is rendered at each request.
export const dynamic = 'force-dynamic'

export default function Page() {
  return (
    <main>
      <h1>{PeerToPeerWebSocket.name}</h1>
      <Tunnel />
    </main>
  )
}
