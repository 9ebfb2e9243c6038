// WebSockets 3.1: the attribute binaryType, and what it makes of messages (3.2).

import { end, isTrue, next, open, same, thrown } from './harness.js'

export const cases = {
  'it takes the two values, and ignores others': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    same(socket.binaryType, 'blob')
    socket.binaryType = 'arraybuffer'
    for (const value of ['Blob', 'ArrayBuffer', '', 'blob ', null, undefined, 5, {}, ['']]) {
      socket.binaryType = value
      same(socket.binaryType, 'arraybuffer', `${value}`)
    }
    socket.binaryType = ['blob']
    same(socket.binaryType, 'blob')
    socket.binaryType = { toString: () => 'arraybuffer' }
    same(socket.binaryType, 'arraybuffer')
    same(thrown(() => { socket.binaryType = Symbol('x') }), 'TypeError')
    same(thrown(() => { socket.binaryType = { toString: () => { throw new RangeError() } } }), 'RangeError')
    await end(socket)
    socket.binaryType = 'blob'
    same(socket.binaryType, 'blob')
  },

  'blob': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    socket.binaryType = 'blob'
    socket.send(new Uint8Array([1, 2, 3]))
    const { data } = await next(socket, 'message')
    isTrue(data instanceof Blob && !(data instanceof File))
    same([data.constructor === Blob, data.size, data.type, ...new Uint8Array(await data.arrayBuffer())], [true, 3, '', 1, 2, 3])
    await end(socket)
  },

  'arraybuffer': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    socket.send(new Uint8Array([1, 2, 3]))
    const { data } = await next(socket, 'message')
    same([data.constructor === ArrayBuffer, data.byteLength, ...new Uint8Array(data)], [true, 3, 1, 2, 3])
    isTrue(!data.resizable)
    structuredClone(data, { transfer: [data] })
    same(data.byteLength, 0)
    await end(socket)
  },

  'texts are strings in either': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    for (const type of ['blob', 'arraybuffer']) {
      socket.binaryType = type
      socket.send('text')
      same((await next(socket, 'message')).data, 'text')
    }
    await end(socket)
  },

  'empty messages have their kind': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    for (const [type, of] of [['blob', data => data instanceof Blob && data.size], ['arraybuffer', data => data.byteLength]]) {
      socket.binaryType = type
      socket.send(new ArrayBuffer(0))
      same(of((await next(socket, 'message')).data), 0)
    }
    await end(socket)
  },

  'what counts is its value when the event fires': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/bytes?n=6'))
    const kinds = []
    await new Promise(resolve => {
      socket.onmessage = ({ data }) => {
        kinds.push(data.constructor.name)
        socket.binaryType = kinds.length % 2 ? 'arraybuffer' : 'blob'
        if (kinds.length === 6) resolve()
      }
    })
    same(kinds, ['Blob', 'ArrayBuffer', 'Blob', 'ArrayBuffer', 'Blob', 'ArrayBuffer'])
    await end(socket)
  },
}
