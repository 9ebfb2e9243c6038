// Messages, events and ends of sockets.

import { next, same, thrown } from '/conformance/harness.js'

export const cases = {
  'bufferedAmount rises at once and falls between tasks': async ({ server, connect }) => {
    server.listen(1, () => {})
    const socket = connect(1)
    await socket.opened
    socket.send('grün')
    same(socket.bufferedAmount, 5)
    socket.send(new Uint8Array(100_000))
    socket.send(new Blob(['abc']))
    same(socket.bufferedAmount, 100_008)
    for (let turn = 0; turn < 100; turn++) await null
    same(socket.bufferedAmount, 100_008)
    while (socket.bufferedAmount > 0) await new Promise(resolve => setTimeout(resolve))
    socket.close()
    socket.send('late')
    await next(socket, 'close')
    same(socket.bufferedAmount, 4)
  },

  'messages keep their order around blobs and their content': async ({ server, connect }) => {
    const heard = []
    const all = new Promise(resolve => {
      server.listen(1, socket => {
        socket.binaryType = 'arraybuffer'
        socket.onmessage = ({ data }) => heard.push(typeof data === 'string' ? data : [...new Uint8Array(data)])
        socket.onclose = resolve
      })
    })
    const socket = connect(1)
    await socket.opened
    const bytes = new Uint8Array([1, 2, 3, 4])
    socket.send('first')
    socket.send(new Blob([bytes]))
    socket.send(bytes)
    bytes.fill(9)
    socket.send(new DataView(bytes.buffer, 1, 2))
    socket.send(new Uint16Array(0))
    socket.send('')
    socket.send('\ud800 alone')
    socket.send({ toString: () => 'object' })
    socket.close(3000)
    const event = await all
    same([event.code, event.reason, event.wasClean], [3000, '', true])
    same(heard, ['first', [1, 2, 3, 4], [1, 2, 3, 4], [9, 9], [], '', '\ufffd alone', 'object'])
  },

  'messages of any length keep their bytes when others follow': async ({ server, connect }) => {
    const lengths = [65536, 65536, 65535, 65536, 65537, 65536, 10, 65536, 131072, 65536, 65536]
    const kept = []
    const all = new Promise(resolve => {
      server.listen(1, socket => {
        socket.binaryType = 'arraybuffer'
        socket.onmessage = ({ data }) => kept.push(data) === lengths.length && resolve()
      })
    })
    const socket = connect(1)
    await socket.opened
    lengths.forEach((length, index) => socket.send(new Uint8Array(length).fill(index + 1)))
    await all
    same(kept.map(data => data.byteLength), lengths)
    same(kept.map((data, index) => new Uint8Array(data).findIndex(byte => byte !== index + 1)), lengths.map(() => -1))
    same(new Set(kept).size, lengths.length)
  },

  'a page says what it wants in the WebSocket\'s handshake': async ({ PeerToPeerWebSocket, server, relay }) => {
    // The library took the platform's class when it was loaded: its prototype tells what goes through.
    const { send } = WebSocket.prototype
    const said = new Map()
    WebSocket.prototype.send = function (data) {
      said.set(this, (said.get(this) ?? 0) + 1)
      send.call(this, data)
    }
    const binaryType = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'binaryType')
    const opened = []
    Object.defineProperty(WebSocket.prototype, 'binaryType', {
      configurable: true,
      get: binaryType.get,
      set(value) {
        opened.push(this)
        binaryType.set.call(this, value)
      },
    })
    try {
      server.listen(1, () => {})
      const socket = PeerToPeerWebSocket.toPort(1, server.serverId, `${relay}/?early`)
      let found
      socket.onopen = () => (found = opened.map(one => ({ said: said.get(one) ?? 0, protocol: one.protocol })))
      await socket.opened
      same(found, [{ said: 0, protocol: 'tunnel.v1.early' }])
      socket.close()
    } finally {
      WebSocket.prototype.send = send
      Object.defineProperty(WebSocket.prototype, 'binaryType', binaryType)
    }
  },

  'microtasks run between events': async ({ server, connect }) => {
    server.listen(1, socket => { for (let n = 0; n < 100; n++) socket.send(`${n}`) })
    const socket = connect(1)
    await socket.opened
    const heard = []
    // Each message has its own promise: one that came in the same turn as another would be missed.
    for (let n = 0; n < 100; n++) heard.push((await next(socket, 'message')).data)
    same(heard, Array.from({ length: 100 }, (_, n) => `${n}`))
  },

  'a throwing listener is reported and stops nothing': async ({ server, connect }) => {
    const reported = []
    const report = event => { reported.push(event.message); event.preventDefault() }
    addEventListener('error', report)
    server.listen(1, socket => { socket.send('one'); socket.send('two'); throw new Error('from the handler') })
    const socket = connect(1)
    const heard = []
    socket.onmessage = () => { throw new Error('from the listener') }
    socket.addEventListener('message', ({ data }) => heard.push(data))
    while (heard.length < 2) await next(socket, 'message')
    removeEventListener('error', report)
    same(heard, ['one', 'two'])
    same(reported.filter(message => message.includes('from the listener')).length, 2)
    same(reported.filter(message => message.includes('from the handler')).length, 1)
  },

  'what does not open fires error and close with the reason': async ({ server, connect }) => {
    server.listen(5, () => {}, { accept: () => false })
    for (const [port, code, number] of [[4, 'port-closed', 3702], [5, 'refused', 3703]]) {
      const socket = connect(port)
      const events = []
      socket.onopen = socket.onmessage = socket.onerror = ({ type }) => events.push([type, socket.readyState])
      const { code: closeCode, reason, wasClean } = await next(socket, 'close')
      same([closeCode, wasClean, events], [1006, false, [['error', 3]]])
      same(reason.startsWith(`${code}: `) && reason.includes(`port ${port}`), true, reason)
      const errors = await Promise.all([socket.opened, socket.closed].map(promise => promise.catch(error => error)))
      same(errors.map(error => [error.name, error.code, error.closeCode]), [['TunnelError', code, number], ['TunnelError', code, number]])
    }
    const gone = connect(4)
    gone.close()
    same(gone.readyState, 2)
    const { code } = await next(gone, 'close')
    same([code, gone.readyState], [1006, 3])
  },

  'a signal ends the attempt to connect': async ({ ForwardingServerWebSocket, server, relay, connect }) => {
    server.listen(5, () => {}, { accept: () => new Promise(() => {}) })
    const abort = new AbortController()
    const socket = connect(5, { signal: abort.signal })
    setTimeout(() => abort.abort(new Error('changed my mind')))
    same(await socket.opened.catch(error => error.message), 'changed my mind')
    same((await next(socket, 'close')).code, 1006)
    const early = connect(5, { signal: AbortSignal.abort(new Error('never wanted')) })
    same(await early.opened.catch(error => error.message), 'never wanted')
    const through = options => ForwardingServerWebSocket.newThrough(relay, options).catch(error => error.message)
    same(await through({ signal: AbortSignal.abort(new Error('not at all')) }), 'not at all')
  },

  'a subprotocol is agreed on': async ({ server, connect }) => {
    server.listen(1, () => {})
    server.listen(2, () => {}, { protocols: ['b', 'c'] })
    server.listen(3, () => {}, { protocols: async offered => offered.at(-1) })
    const chosen = async (port, protocols) => {
      const socket = connect(port, { protocols })
      const opened = await socket.opened.catch(error => error.code)
      socket.close()
      return opened.protocol ?? opened
    }
    const given = [[1], [1, 'a'], [2, ['a', 'c', 'b']], [2, ['a']], [2], [3, ['a', 'b']]]
    const results = await Promise.all(given.map(([port, protocols]) => chosen(port, protocols)))
    same(results, ['', 'a', 'c', 'refused', 'refused', 'b'])
  },

  'a page that is connected holds a lock so that it is not frozen': async ({ ForwardingServerWebSocket, relay }) => {
    // Locks are the origin's: the page of a worker may hold one, too.
    const mine = await navigator.locks.request('mine', async () =>
      (await navigator.locks.query()).held.find(({ name }) => name === 'mine').clientId)
    const isOurs = ({ name, clientId }) => name === 'tunnel-wasm' && clientId === mine
    const held = async () => (await navigator.locks.query()).held.filter(isOurs).length
    while (!(await held())) await new Promise(resolve => setTimeout(resolve))
    await ForwardingServerWebSocket.newThrough(relay)
    same(await held(), 1)
  },
}
