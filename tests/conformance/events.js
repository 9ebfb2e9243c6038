// WebSockets 3.2, "Feedback from the protocol": which events come, in which order, with what in them.

import { end, isTrue, next, open, same, task } from './harness.js'

const plain = event => [event.type, event.bubbles, event.cancelable, event.composed, event.defaultPrevented, event.eventPhase]

export const cases = {
  'open': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    let during
    socket.onopen = event => {
      during = [plain(event), event.currentTarget === socket, event.composedPath().length, event.composedPath()[0] === socket]
    }
    const event = await next(socket, 'open')
    await task()
    same(during, [['open', false, false, false, false, 2], true, 1, true])
    isTrue(event.constructor === Event && event.target === socket && event.srcElement === socket)
    same([plain(event).at(-1), event.currentTarget, typeof event.timeStamp], [0, null, 'number'])
    await end(socket)
  },

  'message': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    socket.send('x')
    const event = await next(socket, 'message')
    await task()
    isTrue(event.constructor === MessageEvent && event.target === socket)
    same(plain(event), ['message', false, false, false, false, 0])
    same([event.data, event.origin, event.lastEventId, event.source, event.ports], ['x', new URL(socket.url).origin, '', null, []])
    isTrue(Object.isFrozen(event.ports) && event.ports === event.ports)
    const names = []
    for (const name in event) names.push(name)
    isTrue(['data', 'origin', 'ports'].every(name => names.includes(name)))
    // That one is each event's own in Chromium, none of its own in Firefox.
    same(Object.keys(event).filter(name => name !== 'isTrusted'), [])
    const copy = new event.constructor(event.type, event)
    same([`${event}`, event instanceof MessageEvent, copy.data, copy.origin], ['[object MessageEvent]', true, 'x', event.origin])
    await end(socket)
  },

  'error': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/refuse'))
    const event = await next(socket, 'error')
    await task()
    isTrue(event.constructor === Event && event.target === socket)
    same([plain(event), socket.readyState], [['error', false, false, false, false, 0], 3])
  },

  'a connection that fails: error, then close with 1006': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/refuse'))
    const events = []
    for (const type of ['open', 'message', 'error', 'close']) socket.addEventListener(type, () => events.push([type, socket.readyState]))
    const { code, wasClean } = await next(socket, 'close')
    same([code, wasClean, events], [1006, false, [['error', 3], ['close', 3]]])
    await task()
    same(events.length, 2)
  },

  'an open connection that ends in order: no error': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/count?n=2'))
    const events = []
    for (const type of ['open', 'message', 'error', 'close']) socket.addEventListener(type, () => events.push(type))
    await next(socket, 'message')
    await next(socket, 'message')
    await end(socket)
    await task()
    same(events, ['open', 'message', 'message', 'close'])
  },

  'microtasks run between two events': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/count?n=200'))
    const order = []
    let pending = false
    const listener = ({ type, data }) => {
      isTrue(!pending, `${type} ${data} came before the microtask`)
      pending = true
      queueMicrotask(() => { pending = false })
      order.push(data ?? type)
    }
    socket.onopen = socket.onmessage = listener
    while (order.length < 201) await next(socket, 'message')
    same(order, ['open', ...Array.from({ length: 200 }, (_, n) => `${n}`)])
    await end(socket)
  },

  'who awaits open hears the first message': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/count?n=3'))
    await next(socket, 'open')
    const heard = []
    for (let n = 0; n < 3; n++) heard.push((await next(socket, 'message')).data)
    same(heard, ['0', '1', '2'])
    await end(socket)
  },

  'nothing is fired while the constructor\'s script runs': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    let fired = false
    socket.onopen = () => { fired = true }
    for (let turn = 0; turn < 100; turn++) await null
    same([fired, socket.readyState], [false, 0])
    await next(socket, 'open')
    await end(socket)
  },

  'sockets do not mix their events': async ({ WebSocket, url }) => {
    const sockets = await Promise.all([1, 2, 3].map(() => open(WebSocket, url('/echo'))))
    const answers = await Promise.all(sockets.map(async (socket, n) => {
      socket.send(`${n}`)
      return (await next(socket, 'message')).data
    }))
    same(answers, ['0', '1', '2'])
    await Promise.all(sockets.map(end))
  },

  'no events after close': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/echo'))
    socket.send('x')
    await end(socket)
    const events = []
    for (const type of ['open', 'message', 'error', 'close']) socket.addEventListener(type, () => events.push(type))
    socket.close()
    socket.send('y')
    for (let turn = 0; turn < 5; turn++) await task()
    same(events, [])
  },
}
