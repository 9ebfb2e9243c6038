// The package by `require`.

const { default: init, ...library } = require('tunnel-wasm')

test('a server and its clients talk in Jest by require', async () => {
  await init()
  const server = await library.ForwardingServerWebSocket.newThrough(process.env.RELAY)
  server.listen(7, socket => {
    socket.onmessage = ({ data }) => socket.send(data)
  })
  const socket = new library.PeerToPeerWebSocket(server.url + '/7')
  await socket.opened
  socket.send('hello')
  await new Promise(resolve => {
    socket.onmessage = resolve
  })
  await server.close()
})
