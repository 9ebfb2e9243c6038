// Streams and iteration.

import { next, same, thrown } from '/conformance/harness.js'

export const cases = {
  'a reader that stops stops the sender': async ({ server, connect }) => {
    const [size, count] = [64 * 1024, 64]
    const accepted = new Promise(resolve => server.listen(1, resolve))
    const socket = connect(1)
    const { writable } = await socket.opened
    const peer = await accepted
    const reader = peer.readable.getReader()
    peer.onmessage = () => { throw new Error('a message event beside the stream') }
    const writer = writable.getWriter()
    let written = 0
    const writing = (async () => {
      for (let n = 0; n < count; n++) { await writer.write(new Uint8Array(size).fill(n)); written++ }
      await writer.close()
    })()
    // Until nothing moves any more.
    for (let before = -1; before !== written; ) { before = written; await new Promise(resolve => setTimeout(resolve, 300)) }
    same(written < count, true, 'all was written although nobody read')
    let read = 0
    for (;;) {
      const { done, value } = await reader.read()
      if (done) break
      same([value.length, value[0], value.at(-1)], [size, read, read])
      read++
    }
    await writing
    same(read, count)
    // As Chromium's WebSocketStream does.
    same(await socket.closed, { closeCode: 1005, reason: '' })
  },

  'messages are iterated until the end': async ({ server, connect }) => {
    server.listen(1, socket => { for (const word of ['a', 'b', 'c']) socket.send(word); socket.close() })
    const socket = connect(1)
    const heard = []
    for await (const data of socket) { heard.push(data); if (data === 'a') break }
    for await (const data of socket) heard.push(data)
    same(heard, ['a', 'b', 'c'])
  },
}
