// The look of the classes, and the arguments that their methods take.

import { next, same, thrown } from '/conformance/harness.js'

export const cases = {
  'a message is echoed': async ({ server, connect }) => {
    server.listen(7, socket => { socket.onmessage = ({ data }) => socket.send(data) })
    const socket = connect(7)
    await next(socket, 'open')
    socket.send('hello')
    same((await next(socket, 'message')).data, 'hello')
  },

  'the class is described as the platform\'s is': async ({ PeerToPeerWebSocket, connect }) => {
    const describe = (holder, key) => {
      const { value, get, set, ...rest } = Object.getOwnPropertyDescriptor(holder, key) ?? {}
      const of = member => typeof member === 'function' && [member.name, member.length]
      return { ...rest, value: of(value) || (typeof value === 'number' && value), get: of(get), set: of(set) }
    }
    const compare = (theirs, ours, name) => {
      for (const key of Reflect.ownKeys(theirs)) {
        if (key === 'constructor' || key === 'name' || key === 'prototype' || key === Symbol.toStringTag) continue
        same(describe(ours, key), describe(theirs, key), `${name}.${String(key)}`)
      }
    }
    compare(WebSocket, PeerToPeerWebSocket, 'WebSocket')
    compare(WebSocket.prototype, PeerToPeerWebSocket.prototype, 'WebSocket.prototype')
    same(Object.getPrototypeOf(PeerToPeerWebSocket.prototype) === EventTarget.prototype, true)
    same(PeerToPeerWebSocket.name, 'PeerToPeerWebSocket')
    const socket = connect(1)
    same(String(socket), '[object PeerToPeerWebSocket]')
    same(Object.keys(socket), [])
    same(socket instanceof EventTarget, true)
    for (const key of Object.keys(PeerToPeerWebSocket.prototype)) {
      const { get, value } = Object.getOwnPropertyDescriptor(PeerToPeerWebSocket.prototype, key)
      if (get) same(thrown(() => get.call(new EventTarget())), 'TypeError', key)
      if (typeof value === 'function') same(thrown(() => value.call(new EventTarget())), 'TypeError', key)
    }
    same(thrown(() => PeerToPeerWebSocket('ws://localhost/')), 'TypeError')
  },

  'handlers are attributes as the platform\'s are': async ({ relay, connect }) => {
    const log = []
    for (const socket of [connect(1), new WebSocket(relay)]) {
      const calls = []
      same(socket.onopen, null)
      socket.onopen = 5
      same(socket.onopen, null)
      const object = { handleEvent: () => calls.push('object') }
      socket.onopen = object
      same(socket.onopen === object, true)
      socket.addEventListener('open', () => calls.push('listener'))
      socket.onopen = function (event) { calls.push(['handler', this === socket, event.target === socket]) }
      socket.dispatchEvent(new Event('open'))
      socket.onopen = null
      socket.dispatchEvent(new Event('open'))
      socket.onopen = () => calls.push('last')
      socket.dispatchEvent(new Event('open'))
      socket.close()
      log.push(calls)
    }
    same(log[0], log[1])
  },

  'arguments are checked as the platform\'s are': async ({ PeerToPeerWebSocket, server, relay, connect }) => {
    const closes = [[999], [1001], [2999], [5000], [65536 + 1000], [NaN], [-1], [1000.4], ['3000'], [null],
      [1000, 'x'.repeat(124)], [1000, 'ü'.repeat(62)], [1001, 'x'.repeat(124)],
      [undefined], [{ valueOf: () => 4000 }], [Symbol()]]
    const sends = [[], ['x'], [null], [Symbol()], [{}], [new Blob([])]]
    const urls = [[], ['http://'], ['http://x/#'], ['ftp://x/'], ['ws://x/#y']]
    const protocols = ['', 'a b', ['a', 'a'], ['a', 'A'], 'ü', ['a,b'], null, [], ['a', 'b'], 'a', {}, 5, [['a']]]
    const problems = (open, Class) => [
      closes.map(given => { const socket = open(); const name = thrown(() => socket.close(...given)); socket.close(); return name }),
      sends.map(given => { const socket = open(); const name = thrown(() => socket.send(...given)); socket.close(); return name }),
      urls.map(given => thrown(() => new Class(...given))),
      protocols.map(given => thrown(() => { const socket = open(given); socket.close() })),
    ]
    const ours = `${relay}/${server.serverId}/1`
    const expected = problems(protocols => new WebSocket(relay, protocols), WebSocket)
    const actual = problems(protocols => new PeerToPeerWebSocket(ours, protocols), PeerToPeerWebSocket)
    for (const [index, kind] of ['close', 'send', 'url', 'protocols'].entries()) same(actual[index], expected[index], kind)
    for (const port of [-1, 65536, 1.5, 'x', undefined]) same(thrown(() => connect(port)), 'TypeError', port)
    const typo = server.serverId.replace(/^./, letter => (letter === 'a' ? 'b' : 'a'))
    same(thrown(() => PeerToPeerWebSocket.toPort(1, typo, relay)), 'TunnelError')
    same(thrown(() => new PeerToPeerWebSocket(`${relay}/${typo}/1`)), 'DOMException SyntaxError')
    same(thrown(() => new PeerToPeerWebSocket(`${relay}/${server.serverId}/65536`)), 'DOMException SyntaxError')
  },

  'the constructor takes a tunnel URL with a path': async ({ PeerToPeerWebSocket, server, relay }) => {
    const offers = []
    server.listen(9, socket => socket.send(socket.path), { accept: offer => offers.push(offer) })
    const url = `${server.url.replace(/^ws/, 'http')}/9/chat/room?name=x`
    const socket = new PeerToPeerWebSocket(url)
    same(socket.url, `${server.url}/9/chat/room?name=x`)
    same([socket.readyState, socket.protocol, socket.extensions, socket.bufferedAmount, socket.binaryType], [0, '', '', 0, 'blob'])
    const { data, origin } = await next(socket, 'message')
    same([data, origin], ['/chat/room?name=x', new URL(relay).origin])
    same([offers[0].port, offers[0].path, offers[0].plain], [9, '/chat/room?name=x', false])
    same([socket.port, socket.serverId, socket.remoteId, socket.encrypted], [9, server.serverId, server.serverId, true])
    same([socket.verified, offers[0].verified, [...server.clients][0].verified], [true, false, true])
    const [peer] = server.clients
    same([peer.port, peer.serverId, peer.remoteId, typeof peer.remoteAddress], [9, server.serverId, offers[0].remoteId, 'string'])
    same(PeerToPeerWebSocket.throughChannel(peer.channel, server) === peer, true)
  },
}
