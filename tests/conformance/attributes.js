// WebSockets 3.1: the attributes url, readyState, bufferedAmount, extensions and protocol, and their ways.

import { end, next, open, same, task } from './harness.js'

const look = ({ readyState, bufferedAmount, extensions, protocol, binaryType }) =>
  [readyState, bufferedAmount, extensions, protocol, binaryType]

export const cases = {
  'a new socket': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'), 'a')
    same(look(socket), [0, 0, '', '', 'blob'])
    same([socket.onopen, socket.onmessage, socket.onerror, socket.onclose], [null, null, null, null])
    await end(socket)
  },

  'an open socket, and what stays when it has ended': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'), 'a')
    same(look(socket), [1, 0, '', 'a', 'arraybuffer'])
    socket.close()
    same(look(socket), [2, 0, '', 'a', 'arraybuffer'])
    await next(socket, 'close')
    same([...look(socket), socket.url], [3, 0, '', 'a', 'arraybuffer', url('/absorb')])
  },

  'readyState changes with the events': async ({ WebSocket, url }) => {
    const seen = []
    const socket = new WebSocket(url('/count?n=1'))
    for (const type of ['open', 'message', 'close']) {
      socket.addEventListener(type, () => seen.push([type, socket.readyState]))
    }
    await next(socket, 'message')
    socket.close()
    seen.push(['closing', socket.readyState])
    await next(socket, 'close')
    same(seen, [['open', 1], ['message', 1], ['closing', 2], ['close', 3]])
  },

  'bufferedAmount counts UTF-8, bytes and Blobs at once': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const counts = []
    for (const data of ['grün', '🚇', '\ud800', '', new Uint8Array(1000), new Uint16Array(3), new ArrayBuffer(5), new Blob(['abc']), 'x']) {
      socket.send(data)
      counts.push(socket.bufferedAmount)
    }
    same(counts, [5, 9, 12, 12, 1012, 1018, 1023, 1026, 1027])
    await end(socket)
  },

  'bufferedAmount does not fall while a script runs': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    socket.send('x'.repeat(100))
    for (let turn = 0; turn < 1000; turn++) {
      await null
      same(socket.bufferedAmount, 100)
    }
    while (socket.bufferedAmount) await task()
    socket.send('y')
    same(socket.bufferedAmount, 1)
    while (socket.bufferedAmount) await task()
    await end(socket)
  },

  'bufferedAmount rises with what is sent too late, and stays': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    while (socket.bufferedAmount) await task()
    const closed = next(socket, 'close')
    socket.close()
    socket.send('late')
    same(socket.bufferedAmount, 4)
    await closed
    same(socket.bufferedAmount, 4)
    for (const data of ['ü', new Uint8Array(7), new Blob(['ab']), new ArrayBuffer(3)]) socket.send(data)
    same(socket.bufferedAmount, 18)
    await task()
    same(socket.bufferedAmount, 18)
  },

  'the server\'s messages do not count': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/count?n=5'))
    for (let n = 0; n < 5; n++) await next(socket, 'message')
    same(socket.bufferedAmount, 0)
    await end(socket)
  },
}
