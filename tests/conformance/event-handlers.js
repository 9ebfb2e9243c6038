// HTML 8.1.8.1, "Event handlers": onopen, onmessage, onerror and onclose.

import { end, isTrue, next, open, same } from './harness.js'

const withSocket = async ({ WebSocket, url }, check) => {
  const socket = new WebSocket(url('/echo'))
  const result = await check(socket)
  await end(socket)
  return result
}

const NAMES = ['onopen', 'onmessage', 'onerror', 'onclose']

export const cases = {
  'they are null, and null again for what is no object': subject => withSocket(subject, socket => {
    for (const name of NAMES) {
      same(socket[name], null)
      const handler = () => {}
      socket[name] = handler
      isTrue(socket[name] === handler, name)
      for (const value of [5, 'x', true, Symbol('x'), 1n, undefined, null]) {
        socket[name] = handler
        socket[name] = value
        same(socket[name], null, `${name} = ${String(value)}`)
      }
    }
  }),

  'objects are kept, and not called': subject => withSocket(subject, socket => {
    let called = false
    const object = { handleEvent: () => { called = true } }
    socket.onopen = object
    isTrue(socket.onopen === object)
    socket.dispatchEvent(new Event('open'))
    same(called, false)
    socket.onopen = null
  }),

  'they are called on the socket with the event only': subject => withSocket(subject, socket => {
    const calls = []
    for (const name of NAMES) {
      const type = name.slice(2)
      socket[name] = function (...given) { calls.push([type, this === socket, given.length, given[0].type]) }
      socket.dispatchEvent(new Event(type))
      socket[name] = null
    }
    same(calls, NAMES.map(name => [name.slice(2), true, 1, name.slice(2)]))
  }),

  'they keep their place among the listeners until they are null': subject => withSocket(subject, socket => {
    const calls = []
    const fire = () => { socket.dispatchEvent(new Event('message')); return calls.splice(0) }
    socket.onmessage = null
    socket.addEventListener('message', () => calls.push('a'))
    socket.onmessage = () => calls.push('one')
    socket.addEventListener('message', () => calls.push('b'))
    same(fire(), ['a', 'one', 'b'])
    socket.onmessage = () => calls.push('two')
    same(fire(), ['a', 'two', 'b'])
    socket.onmessage = {}
    same(fire(), ['a', 'b'])
    socket.onmessage = () => calls.push('three')
    same(fire(), ['a', 'three', 'b'])
    socket.onmessage = 5
    same(fire(), ['a', 'b'])
    socket.onmessage = () => calls.push('four')
    same(fire(), ['a', 'b', 'four'])
  }),

  'changes while an event is fired': subject => withSocket(subject, socket => {
    const calls = []
    const fire = () => { socket.dispatchEvent(new Event('message')); return calls.splice(0) }
    let change
    socket.addEventListener('message', () => change())
    change = () => { socket.onmessage = () => calls.push('new') }
    same(fire(), [])
    change = () => { socket.onmessage = () => calls.push('newer') }
    same(fire(), ['newer'])
    change = () => { socket.onmessage = null }
    same(fire(), [])
  }),

  'false cancels what can be cancelled': subject => withSocket(subject, socket => {
    const results = [false, true, undefined, null, 0, ''].map(value => {
      socket.onopen = () => value
      return socket.dispatchEvent(new Event('open', { cancelable: true }))
    })
    same(results, [false, true, true, true, true, true])
    socket.onerror = () => true
    same(socket.dispatchEvent(new Event('error', { cancelable: true })), true)
    socket.onerror = () => false
    same(socket.dispatchEvent(new Event('error', { cancelable: true })), false)
    socket.onopen = socket.onerror = null
  }),

  'removing listeners does not touch them': subject => withSocket(subject, socket => {
    let calls = 0
    const handler = () => calls++
    socket.onmessage = handler
    socket.removeEventListener('message', handler)
    socket.addEventListener('message', handler)
    socket.dispatchEvent(new Event('message'))
    same(calls, 2)
  }),

  'they do not call what a subclass makes of addEventListener': async ({ WebSocket, url }) => {
    let calls = 0
    class Mine extends WebSocket {
      addEventListener(...given) { calls++; super.addEventListener(...given) }
      removeEventListener(...given) { calls++; super.removeEventListener(...given) }
    }
    const socket = new Mine(url('/absorb'))
    socket.onopen = () => {}
    socket.onopen = null
    same(calls, 0)
    await end(socket)
  },

  'a handler that throws is reported and stops nothing': async ({ WebSocket, url }) => {
    const reported = []
    const report = event => { reported.push(event.error?.message); event.preventDefault() }
    globalThis.addEventListener('error', report)
    const socket = await open(WebSocket, url('/echo'))
    socket.onmessage = () => { throw new Error('on purpose') }
    const heard = next(socket, 'message')
    socket.send('x')
    await heard
    globalThis.removeEventListener('error', report)
    same(reported, ['on purpose'])
    await end(socket)
  },

  'all four hear what happens': async ({ WebSocket, url }) => {
    const calls = []
    const socket = new WebSocket(url('/count?n=1'))
    for (const name of NAMES) socket[name] = ({ type }) => calls.push(type)
    await next(socket, 'message')
    await end(socket)
    const refused = new WebSocket(url('/refuse'))
    for (const name of NAMES) refused[name] = ({ type }) => calls.push(type)
    await next(refused, 'close')
    same(calls, ['open', 'message', 'close', 'error', 'close'])
  },
}
