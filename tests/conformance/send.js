// WebSockets 3.1, "The send(data) method steps", for each type of its union.

import { end, next, open, same, messages, thrown } from './harness.js'

// Returns what comes back of each message.
const echoes = async ({ WebSocket, url }, all) => {
  const socket = await open(WebSocket, url('/echo'))
  const heard = messages(socket, all.length)
  for (const data of all) same(socket.send(data), undefined)
  const result = await heard
  await end(socket)
  return result
}

const logged = async ({ WebSocket, url }, act) => {
  const name = `${Math.random()}`
  const socket = await open(WebSocket, url(`/log?name=${name}`))
  const closed = next(socket, 'close')
  await act(socket)
  await closed
  const reader = new WebSocket(url(`/read?name=${name}`))
  const { data } = await next(reader, 'message')
  await end(reader)
  return JSON.parse(data)
}

const shared = () => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer

export const cases = {
  'one argument is required': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    same(thrown(() => socket.send()), 'TypeError')
    await next(socket, 'open')
    same(thrown(() => socket.send()), 'TypeError')
    await end(socket)
    same(thrown(() => socket.send()), 'TypeError')
  },

  'before the connection opens it throws, after conversions': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    for (const data of ['x', '', null, new Blob([]), new ArrayBuffer(1), new Uint8Array(1)]) {
      same(thrown(() => socket.send(data)), 'DOMException InvalidStateError')
    }
    same(thrown(() => socket.send(Symbol('x'))), 'TypeError')
    same(thrown(() => socket.send({ toString: () => { throw new RangeError() } })), 'RangeError')
    same(socket.bufferedAmount, 0)
    await end(socket)
  },

  'strings': async subject => {
    const texts = ['hello', '', 'grüße 🚇', '\0', '\u{10ffff}', 'x'.repeat(70_000), '﻿bom']
    same(await echoes(subject, texts), texts.map(text => ['text', text]))
  },

  'lone surrogates are replaced': async subject => {
    const given = ['\ud800', 'a\udc00b', '\ud83d\ud83d\ude87', '\udc00\ud800']
    same(await echoes(subject, given), ['\ufffd', 'a\ufffdb', '\ufffd🚇', '\ufffd\ufffd'].map(text => ['text', text]))
  },

  'other values become strings': async subject => {
    const given = [null, undefined, 5, -0, true, 10n, {}, [1, [2, 3]], { toString: () => 'mine' }, new URLSearchParams('a=b'), new Date(NaN), new String('s')]
    const shown = ['null', 'undefined', '5', '0', 'true', '10', '[object Object]', '1,2,3', 'mine', 'a=b', 'Invalid Date', 's']
    same(await echoes(subject, given), shown.map(text => ['text', text]))
  },

  'what pretends to be a buffer or a Blob becomes a string': async subject => {
    const given = [{ [Symbol.toStringTag]: 'ArrayBuffer' }, { [Symbol.toStringTag]: 'Blob' }, Object.create(Blob.prototype), Object.create(ArrayBuffer.prototype)]
    same(await echoes(subject, given), ['ArrayBuffer', 'Blob', 'Blob', 'ArrayBuffer'].map(tag => ['text', `[object ${tag}]`]))
  },

  'what cannot be a string throws': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    same(thrown(() => socket.send(Symbol('x'))), 'TypeError')
    same(thrown(() => socket.send(Object.create(null))), 'TypeError')
    same(thrown(() => socket.send({ toString: () => { throw new RangeError() } })), 'RangeError')
    same(socket.bufferedAmount, 0)
    await end(socket)
    same(thrown(() => socket.send(Symbol('x'))), 'TypeError')
  },

  'buffers and views of them': async subject => {
    const { buffer } = new Uint8Array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
    const classes = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, Float32Array, Float64Array, BigInt64Array, BigUint64Array]
    const all = Array.from(new Uint8Array(buffer))
    const views = classes.map(View => new View(buffer, 8, 8 / View.BYTES_PER_ELEMENT))
    const heard = await echoes(subject, [buffer, ...views, new DataView(buffer), new DataView(buffer, 3, 2), new DataView(buffer, 16), buffer.slice(4, 5), new ArrayBuffer(0)])
    same(heard, [all, ...classes.map(() => all.slice(8)), all, [3, 4], [], [4], []].map(bytes => ['ArrayBuffer', ...bytes]))
  },

  'Blobs and Files': async subject => {
    const given = [new Blob(['abc']), new Blob([]), new File(['f'], 'name'), new Blob(['xyz', new Uint8Array([0, 255])], { type: 'text/plain' }).slice(1, 4)]
    same(await echoes(subject, given), [[97, 98, 99], [], [102], [121, 122, 0]].map(bytes => ['ArrayBuffer', ...bytes]))
  },

  'objects of another realm': async subject => {
    // Workers have no other realms at hand.
    if (!globalThis.document) return
    const frame = document.body.appendChild(document.createElement('iframe'))
    const { Uint8Array, DataView, Blob } = frame.contentWindow
    const bytes = new Uint8Array([1, 2])
    same(await echoes(subject, [bytes, bytes.buffer, new DataView(bytes.buffer, 1), new Blob(['a'])]), [[1, 2], [1, 2], [2], [97]].map(item => ['ArrayBuffer', ...item]))
    frame.remove()
  },

  'detached buffers are empty': async subject => {
    const detached = () => {
      const buffer = new ArrayBuffer(8)
      const view = new Uint8Array(buffer, 2)
      const data = new DataView(buffer, 1)
      structuredClone(buffer, { transfer: [buffer] })
      return [buffer, view, data]
    }
    same(await echoes(subject, detached()), [['ArrayBuffer'], ['ArrayBuffer'], ['ArrayBuffer']])
  },

  'shared memory': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const memory = shared()
    const results = [new Uint8Array(memory), new DataView(memory), memory].map(data => thrown(() => socket.send(data)))
    await end(socket)
    return results
  },

  'resizable buffers': async ({ WebSocket, url }) => {
    const buffer = new ArrayBuffer(2, { maxByteLength: 8 })
    if (!buffer.resizable) return
    const socket = await open(WebSocket, url('/absorb'))
    const results = [buffer, new Uint8Array(buffer), new DataView(buffer)].map(data => thrown(() => socket.send(data)))
    await end(socket)
    return results
  },

  'bytes are copied at once': async subject => {
    const bytes = new Uint8Array([1, 2, 3])
    const log = await logged(subject, socket => {
      socket.send(bytes)
      bytes.fill(4)
      socket.send(new Blob([bytes]))
      socket.send(bytes)
      bytes.fill(5)
      socket.send(bytes.buffer)
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] })
      socket.close()
    })
    same(log.heard, [[1, 2, 3], [4, 4, 4], [4, 4, 4], [5, 5, 5]])
  },

  'what was sent comes before the end': async subject => {
    for (const last of ['last', new Uint8Array(1), new Uint8Array(100_000)]) {
      const log = await logged(subject, socket => {
        for (let n = 0; n < 20; n++) socket.send(`${n}`)
        socket.send(last)
        socket.close(1000)
      })
      same([log.heard.length, log.heard[20].length, log.code], [21, last.length, 1000])
    }
  },

  'Blobs keep their place among messages, and come before the end': async subject => {
    const log = await logged(subject, socket => {
      socket.send('first')
      socket.send(new Blob(['a'.repeat(100_000)]))
      socket.send('second')
      socket.send(new Blob(['b']))
      socket.send(new Uint8Array([1]))
      socket.close(3000, 'done')
      socket.send('never')
    })
    const [first, blob, ...rest] = log.heard
    same([first, blob.length, rest], ['first', 100_000, ['second', [98], [1]]])
    same([log.code, log.reason], [3000, 'done'])
  },

  'what is sent after the end goes nowhere': async subject => {
    const log = await logged(subject, socket => {
      socket.close()
      for (const data of ['x', new Uint8Array(1), new Blob(['y'])]) same(socket.send(data), undefined)
    })
    same(log.heard, [])
  },

  'a message of 1 MiB': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    const sent = new Uint8Array(1 << 20).map((_, index) => index * 7)
    socket.send(sent)
    same(socket.bufferedAmount, 1 << 20)
    const got = new Uint8Array((await next(socket, 'message')).data)
    same([got.length, got.every((byte, index) => byte === sent[index])], [1 << 20, true])
    await end(socket)
  },
}
