import init, { ForwardingServerWebSocket, PeerToPeerWebSocket } from 'tunnel-wasm'

await init()
const parameters = new URLSearchParams(location.search)
const relay = parameters.get('relay') ?? 'ws://localhost:8087'
const url = parameters.get('server')

if (url) {
  const socket = new PeerToPeerWebSocket(`${url}/7`)
  socket.onopen = () => socket.send('hello')
  socket.onmessage = ({ data }) => document.body.append(data)
  socket.onclose = ({ reason }) => document.body.append(`closed: ${reason}`)
} else {
  const server = await ForwardingServerWebSocket.newThrough(relay)
  server.listen(7, socket => {
    socket.onmessage = ({ data }) => socket.send(`you said ${data}`)
  })
  const link = document.createElement('a')
  link.href = `?server=${encodeURIComponent(server.url)}`
  link.target = '_blank'
  link.textContent = 'Open this in another tab'
  document.body.append(link)
}
