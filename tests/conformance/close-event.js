// WebSockets 3.4, "The CloseEvent interface": the one that the sockets fire.

import { next, open, same, isTrue } from './harness.js'

export const cases = {
  'what a socket fires is the platform\'s own': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const closed = next(socket, 'close')
    socket.close(3000, 'x')
    const event = await closed
    isTrue(event.constructor === CloseEvent && event instanceof Event)
    same(Object.prototype.toString.call(event), '[object CloseEvent]')
    same([event.type, event.code, event.reason, event.wasClean], ['close', 3000, 'x', true])
    same([event.bubbles, event.cancelable, event.composed], [false, false, false])
    isTrue(event.target === socket)
  },

  'its fields are read only': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const closed = next(socket, 'close')
    socket.close()
    const event = await closed
    for (const name of ['code', 'reason', 'wasClean']) {
      same(Object.getOwnPropertyDescriptor(CloseEvent.prototype, name).set, undefined, name)
      same(Object.hasOwn(event, name), false, name)
    }
  },

  'it can be dispatched by anybody': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const closed = next(socket, 'close')
    socket.dispatchEvent(new CloseEvent('close', { code: 4000, reason: 'mine', wasClean: true }))
    same([(await closed).reason, socket.readyState], ['mine', 1])
    const really = next(socket, 'close')
    socket.close()
    same((await really).code, 1005)
  },
}
