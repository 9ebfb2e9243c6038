import { PeerToPeerWebSocket } from 'tunnel-wasm'

export const runtime = 'edge'

export const GET = () => new Response(`at the edge, too: ${PeerToPeerWebSocket.name}`)
