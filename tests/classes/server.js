// A server, its ports and its clients.

import { next, same, thrown } from '/conformance/harness.js'

export const cases = {
  'a server hands out its sockets in every way': async ({ server, connect }) => {
    const order = []
    const listener = server.listen([1, { first: 10, last: 19 }], socket => {
      order.push(['handler', socket.port, socket.readyState])
      socket.onopen = () => order.push(['open', socket.port])
    })
    for (const ports of [1, [10], { first: 5, last: 10 }, [2, 2]]) {
      same(thrown(() => server.listen(ports)), 'TunnelError', JSON.stringify(ports))
    }
    for (const ports of [-1, 65536, 'x', { first: 2, last: 1 }, null]) {
      same(thrown(() => server.listen(ports)), 'TypeError', JSON.stringify(ports))
    }
    await connect(15).opened
    while (order.length < 2) await new Promise(resolve => setTimeout(resolve))
    same(order, [['handler', 15, 1], ['open', 15]])
    same(server.clients.size, 1)
    listener.close()

    // Nobody listens, but somebody is interested in connections: all ports are served.
    const waiting = connect(99)
    const connection = next(server, 'connection')
    const { socket, port } = await connection
    same([socket.port, port], [99, 99])
    await waiting.opened

    // A socket that waits to be accepted keeps its messages, also when the server has heard that its client is gone.
    server.listen(7)
    const early = connect(7)
    await early.opened
    early.send('one')
    early.send('two')
    early.close(4000)
    await next(early, 'close')
    const silent = connect(7)
    await silent.opened
    silent.close()
    await silent.closed
    await connect(7).opened
    const accepted = await server.accept()
    const heard = []
    accepted.onmessage = ({ data }) => heard.push(data)
    await next(accepted, 'close')
    same(heard, ['one', 'two'])

    const sockets = []
    const iterating = (async () => { for await (const socket of server) sockets.push(socket.port) })()
    await connect(7).opened
    while (sockets.length < 2) await new Promise(resolve => setTimeout(resolve))
    const closes = [...server.clients].map(client => next(client, 'close'))
    await server.close()
    await iterating
    for (const { code, wasClean } of await Promise.all(closes)) same([code, wasClean], [1001, true])
    same([sockets, server.readyState, server.clients.size], [[7, 7], 3, 0])
  },

  'a named server keeps its ID': async ({ PeerToPeerWebSocket, ForwardingServerWebSocket, relay }) => {
    const options = { identity: `test ${Math.random()}` }
    const ids = []
    for (let n = 0; n < 2; n++) {
      const named = await ForwardingServerWebSocket.newThrough(relay, options)
      named.listen(1, socket => socket.send(socket.remoteId))
      const socket = PeerToPeerWebSocket.toPort(1, named.serverId, relay, { identity: `${options.identity} client` })
      ids.push([named.serverId, (await next(socket, 'message')).data])
      same(named.identity.name, options.identity)
      await named.close()
    }
    same(ids[0], ids[1])
    same(new Set(ids[0]).size, 2)
  },

  'a server chooses who comes in and with which subprotocol': async ({ PeerToPeerWebSocket, ForwardingServerWebSocket, server, relay }) => {
    const reported = []
    const report = event => { reported.push(event.message); event.preventDefault() }
    addEventListener('error', report)
    const offers = []
    const accept = async offer => offers.push(offer) && offer.path === '/friend'
    const choose = (offered, { path }) => (path === '/friend' ? offered.at(-1) : undefined)
    server.listen([0, 65535], () => {}, { accept, protocols: choose })
    server.listen(1, () => {}, { protocols: () => 'not offered' })
    server.listen(2, () => {}, { accept: () => { throw new Error('accept fails') } })
    server.listen(3, () => {}, { protocols: async () => { throw new Error('protocols fail') } })
    server.listen(4, () => {})

    const result = async (port, path, protocols) => {
      const socket = new PeerToPeerWebSocket(`${server.url}/${port}${path}`, protocols)
      const opened = await socket.opened.catch(error => error.code)
      socket.close()
      return opened.protocol ?? opened
    }
    const results = [
      await result(0, '/friend', ['a', 'b']),
      await result(65535, '/stranger', ['a', 'b']),
      await result(1, '', 'a'),
      await result(2, ''),
      await result(3, '', 'a'),
      await result(4, '', ['tunnel.stream.v1', 'a']),
      await result(4, '', 'tunnel.stream.v1'),
    ]
    removeEventListener('error', report)
    same(results, ['b', 'refused', 'refused', 'internal', 'internal', 'a', 'refused'])
    same(offers.map(({ port, path, protocols, plain }) => [port, path, protocols, plain]), [
      [0, '/friend', ['a', 'b'], false],
      [65535, '/stranger', ['a', 'b'], false],
    ])
    for (const { channel, remoteAddress, remoteId } of offers) {
      same([typeof channel, typeof remoteAddress, remoteId.length], ['number', 'string', 56])
    }
    same(reported.map(message => message.replace(/.*: /, '')), ['accept fails', 'protocols fail'])
    same(thrown(() => server.listen(9, () => {}, { accept: 'everybody' })), 'TypeError')
    same(thrown(() => server.listen(9, () => {}, { protocols: ['a', 'a'] })), 'DOMException SyntaxError')
    same(thrown(() => server.listen(9, () => {}, { protocols: 'a b' })), 'DOMException SyntaxError')
    same(await ForwardingServerWebSocket.newThrough(relay, { protocols: '' }).catch(error => error.name), 'SyntaxError')

    const polyglot = await ForwardingServerWebSocket.newThrough(relay, { protocols: ['b', 'c'] })
    polyglot.listen(1)
    polyglot.listen(2, { protocols: 'd' })
    const of = port => new PeerToPeerWebSocket(`${polyglot.url}/${port}`, ['a', 'd', 'c']).opened
    same([(await of(1)).protocol, (await of(2)).protocol], ['c', 'd'])
    await polyglot.close()
  },

  'a listener gives its ports back and leaves its sockets': async ({ server, connect }) => {
    const listener = server.listen([5, { first: 7, last: 9 }], socket => { socket.onmessage = ({ data }) => socket.send(data) })
    same(listener.ports, [{ first: 5, last: 5 }, { first: 7, last: 9 }])
    listener.ports[0].first = 4
    same(listener.ports[0], { first: 5, last: 5 })
    const socket = connect(8)
    await socket.opened
    listener.close()
    listener.close()
    same((await connect(8).opened.catch(error => error)).code, 'port-closed')
    socket.send('still here')
    same((await next(socket, 'message')).data, 'still here')
    same(thrown(() => new listener.constructor()), 'TypeError')

    // The handler and the listeners of `connection` both see a socket; other ports stay closed.
    const seen = []
    const again = server.listen(8, socket => seen.push(['handler', socket.port]))
    server.onconnection = ({ socket, port }) => seen.push(['onconnection', socket.port === port])
    await connect(8).opened
    while (seen.length < 2) await new Promise(resolve => setTimeout(resolve))
    same(seen, [['handler', 8], ['onconnection', true]])
    same((await connect(5).opened.catch(error => error)).code, 'port-closed')

    // Nothing is claimed any more: whoever listens to `connection` serves all ports, until it stops listening.
    again.close()
    await connect(5).opened
    server.onconnection = null
    same((await connect(5).opened.catch(error => error)).code, 'port-closed')
  },

  'clients are the open sockets and a closed server takes no more': async ({ PeerToPeerWebSocket, server, connect }) => {
    const { clients } = server
    server.listen(1, socket => same(clients.has(socket), true))
    const sockets = [connect(1), connect(1), connect(1)]
    await Promise.all(sockets.map(({ opened }) => opened))
    while (clients.size < 3) await new Promise(resolve => setTimeout(resolve))
    same([server.clients === clients, [...clients].map(({ readyState }) => readyState)], [true, [1, 1, 1]])
    const [first] = clients
    same(PeerToPeerWebSocket.throughChannel(`${first.channel}`, server) === first, true)
    first.close()
    await next(first, 'close')
    same([clients.has(first), clients.size], [false, 2])
    same(thrown(() => PeerToPeerWebSocket.throughChannel(first.channel, server)), 'TunnelError')

    const waiting = server.accept().catch(error => error.code)
    const events = []
    server.onclose = ({ type, code, wasClean }) => events.push([type, code, wasClean])
    server.onerror = ({ type }) => events.push([type])
    const ended = next(server, 'close')
    const closed = [server.close(), server.close()]
    same([server.readyState, thrown(() => server.listen(2))], [2, 'DOMException InvalidStateError'])
    await Promise.all([...closed, ended])
    same([server.readyState, clients.size, await waiting], [3, 0, 'closed'])
    same(events.map(([type, , wasClean]) => [type, wasClean]), [['close', true]])
    same(await server.accept().catch(error => error.code), 'closed')
    for await (const socket of server) throw new Error(`a socket of a closed server: ${socket.port}`)
    const options = { absentTimeout: 100 }
    same((await connect(1, options).opened.catch(error => error)).code, 'server-not-found')
  },
}
