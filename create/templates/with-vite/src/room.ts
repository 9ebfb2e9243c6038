import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from 'tunnel-wasm'

/** The view of a room. */
export interface View {
  line(text: string): void
  state(text: string): void
  link(url: string): void
}

/** A room that this tab serves, or has joined. */
export interface Room {
  say(text: string): void
  close(): void
}

// `npm run dev` starts a relay and says here where; for the built page, .env.production does.
const relay: string = import.meta.env.VITE_RELAY

/** The port of the room: any number that both sides know. */
const PORT = 1

/** This tab serves a room: what one says goes to all. Under an identity, it has the same link after a reload. */
async function serveRoom(view: View, signal?: AbortSignal): Promise<Room> {
  const server = await ForwardingServerWebSocket.newThrough(relay, { identity: 'room', signal })
  const tell = (text: string) => {
    view.line(text)
    for (const client of server.clients) client.send(text)
  }
  server.listen(PORT, socket => {
    tell(`guest ${socket.channel} is here`)
    socket.onmessage = ({ data }) => tell(`guest ${socket.channel}: ${data}`)
    socket.onclose = () => tell(`guest ${socket.channel} has left`)
  })
  view.state('This tab serves. Open the link in another one, or on another machine.')
  view.link(`${location.origin}${location.pathname}#${server.serverId}`)

  // For the tab that `npm run dev` opens without a link: see latestRoom.
  const rooms = new BroadcastChannel('rooms')
  rooms.onmessage = ({ data }) => {
    if (data === 'which?') rooms.postMessage(server.serverId)
  }
  rooms.postMessage(server.serverId)
  return {
    say: text => tell(`host: ${text}`),
    close() {
      rooms.close()
      void server.close()
    },
  }
}

/** This tab joins a room. The socket survives a lost network, and with `redial` a reload of the tab that serves. */
async function joinRoom(serverId: string, view: View): Promise<Room> {
  const socket = PeerToPeerWebSocket.toPort(PORT, serverId, relay, { redial: true })
  socket.onmessage = ({ data }) => view.line(data)
  socket.onreconnecting = () => view.state('Reconnecting: what you send waits.')
  socket.onreconnected = socket.onreopened = () => view.state('Connected again.')
  socket.onclose = ({ reason }) => view.state(`The connection has ended. ${reason}`)
  view.state('Connecting …')
  await socket.opened
  view.state('Connected.')
  return { say: text => socket.send(text), close: () => socket.close() }
}

/** The ID of the room that another tab of this browser serves: whoever has a link does not need this. */
function latestRoom(): Promise<string> {
  const rooms = new BroadcastChannel('rooms')
  return new Promise(resolve => {
    rooms.onmessage = ({ data }) => {
      if (data === 'which?') return
      rooms.close()
      resolve(data)
    }
    rooms.postMessage('which?')
  })
}

/** Joins the room whose ID is behind the # of the address; without one, serves a room. The signal gives up. */
export async function openRoom(view: View, signal?: AbortSignal): Promise<Room> {
  await init()
  signal?.throwIfAborted()
  const isGuest = new URLSearchParams(location.search).has('guest')
  if (!isGuest && !location.hash) return serveRoom(view, signal)
  if (!location.hash) view.state('Waiting for a tab that serves …')
  return joinRoom(location.hash.slice(1) || (await latestRoom()), view)
}
