// What every runtime has to do: a server and its clients here talk to each other, and nothing is lost.

export function same(actual, expected, what) {
  const [a, b] = [actual, expected].map(value => JSON.stringify(value))
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`)
}
const next = (target, type) => new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

/** Calls back with each message, until there are so many. */
function messages(socket, count) {
  const heard = []
  return new Promise(resolve => {
    socket.onmessage = ({ data }) => heard.push(data) === count && resolve(heard)
  })
}
const FIVE = ['0', '1', '2', '3', '4']
const sendFive = socket => FIVE.forEach(text => socket.send(text))

export async function talk(library, relay) {
  await echo(library, relay)
  await listenLate(library, relay)
}

async function echo({ ForwardingServerWebSocket, PeerToPeerWebSocket, TunnelError }, relay) {
  const server = await ForwardingServerWebSocket.newThrough(relay)
  server.listen(7, socket => {
    socket.binaryType = 'arraybuffer'
    socket.onmessage = ({ data }) => socket.send(data)
  }, { protocols: 'echo' })

  const socket = new PeerToPeerWebSocket(`${server.url}/7/path`, ['other', 'echo'])
  socket.binaryType = 'arraybuffer'
  await next(socket, 'open')
  same([socket.readyState, socket.protocol, socket.encrypted], [1, 'echo', true], 'an open socket')

  socket.send('grüße 🚇')
  same((await next(socket, 'message')).data, 'grüße 🚇', 'a text')

  const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => index * 31)
  socket.send(bytes)
  const echoed = new Uint8Array((await next(socket, 'message')).data)
  same([echoed.length, echoed.every((byte, index) => byte === bytes[index])], [bytes.length, true], 'a megabyte')

  // Nothing can read one of jsdom's.
  if (Blob.prototype.arrayBuffer) {
    socket.send(new Blob(['blob']))
    same(new TextDecoder().decode((await next(socket, 'message')).data), 'blob', 'a Blob')
  }

  const [peer] = server.clients
  for (let n = 0; n < 100; n++) peer.send(`${n}`)
  // Each has a task of its own: who listens for one at a time misses none.
  for (let n = 0; n < 100; n++) same((await next(socket, 'message')).data, `${n}`, 'one message of many')

  const ends = [next(socket, 'close'), next(peer, 'close')]
  socket.close(3000, 'enough')
  for (const { type, code, reason, wasClean } of await Promise.all(ends)) {
    same([type, code, reason, wasClean], ['close', 3000, 'enough', true], 'a close')
  }

  const refused = PeerToPeerWebSocket.toPort(8, server.serverId, relay)
  const error = await refused.opened.catch(error => error)
  same([error instanceof TunnelError, error.code], [true, 'port-closed'], 'a closed port')
  await server.close()
}

async function listenLate({ ForwardingServerWebSocket, PeerToPeerWebSocket }, relay) {
  const server = await ForwardingServerWebSocket.newThrough(relay)
  const heard = (async () => {
    for await (const socket of server) return messages(socket, FIVE.length)
  })()
  const client = PeerToPeerWebSocket.toPort(1, server.serverId, relay)
  await client.opened
  sendFive(client)
  same(await heard, FIVE, 'what a server hears that waits for its clients')
  await server.close()

  const greeter = await ForwardingServerWebSocket.newThrough(relay)
  greeter.listen(1, sendFive)
  const guest = PeerToPeerWebSocket.toPort(1, greeter.serverId, relay)
  await guest.opened
  same(await messages(guest, FIVE.length), FIVE, 'what a client hears that listens when it is open')
  await greeter.close()
}
