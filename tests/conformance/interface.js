// WebSockets 3.1, "The WebSocket interface": what WebIDL makes of its declaration.

import { described, end, isTrue, same, thrown } from './harness.js'

const ATTRIBUTES = ['url', 'readyState', 'bufferedAmount', 'extensions', 'protocol']
const SETTABLE = ['onopen', 'onerror', 'onclose', 'onmessage', 'binaryType']
const METHODS = ['send', 'close']
const CONSTANTS = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 }

// Not open, and not to be: for looking at it.
const still = async ({ WebSocket, url }, look) => {
  const socket = new WebSocket(url('/absorb'))
  try {
    return await look(socket)
  } finally {
    await end(socket)
  }
}

export const cases = {
  'the interface object': ({ WebSocket, name }) => {
    same(typeof WebSocket, 'function')
    isTrue(Object.getPrototypeOf(WebSocket) === EventTarget)
    same(WebSocket.name, name)
    same([described(WebSocket, 'length'), WebSocket.length], [{ writable: false, enumerable: false, configurable: true, value: 'number', get: 'undefined', set: 'undefined' }, 1])
    const { value, ...flags } = Object.getOwnPropertyDescriptor(WebSocket, 'name')
    same(flags, { writable: false, enumerable: false, configurable: true })
    const { value: prototype, ...fixed } = Object.getOwnPropertyDescriptor(WebSocket, 'prototype')
    same(fixed, { writable: false, enumerable: false, configurable: false })
    isTrue(prototype === WebSocket.prototype)
  },

  'the prototype object': ({ WebSocket, name }) => {
    const { prototype } = WebSocket
    isTrue(Object.getPrototypeOf(prototype) === EventTarget.prototype)
    const tag = { value: name, writable: false, enumerable: false, configurable: true }
    same(Object.getOwnPropertyDescriptor(prototype, Symbol.toStringTag), tag)
    const { value, ...flags } = Object.getOwnPropertyDescriptor(prototype, 'constructor')
    isTrue(value === WebSocket)
    same(flags, { writable: true, enumerable: false, configurable: true })
    same(Object.prototype.toString.call(prototype), `[object ${name}]`)
  },

  'constants are on both, enumerable and fixed': ({ WebSocket }) => {
    for (const holder of [WebSocket, WebSocket.prototype]) {
      for (const [name, value] of Object.entries(CONSTANTS)) {
        const fixed = { value, writable: false, enumerable: true, configurable: false }
        same(Object.getOwnPropertyDescriptor(holder, name), fixed, name)
        same(thrown(() => { holder[name] = 7 }), 'TypeError', name)
      }
    }
  },

  'attributes are accessors of the prototype': ({ WebSocket }) =>
    [...ATTRIBUTES, ...SETTABLE].map(name => {
      const accessor = described(WebSocket.prototype, name)
      same(accessor, {
        enumerable: true, configurable: true, value: 'undefined',
        get: [`get ${name}`, 0, false],
        set: SETTABLE.includes(name) ? [`set ${name}`, 1, false] : 'undefined',
      }, name)
    }),

  'operations are methods of the prototype': ({ WebSocket }) => {
    const lengths = { send: 1, close: 0 }
    for (const name of METHODS) {
      const method = { writable: true, enumerable: true, configurable: true, value: [name, lengths[name], false], get: 'undefined', set: 'undefined' }
      same(described(WebSocket.prototype, name), method, name)
      same(thrown(() => new WebSocket.prototype[name]()), 'TypeError', name)
    }
  },

  'members are enumerated': ({ WebSocket }) => {
    const seen = new Set()
    for (const key in WebSocket.prototype) seen.add(key)
    same([...ATTRIBUTES, ...SETTABLE, ...METHODS, ...Object.keys(CONSTANTS)].filter(key => !seen.has(key)), [])
  },

  'an instance has nothing of its own': async subject => still(subject, socket => {
    same(Reflect.ownKeys(socket), [])
    isTrue(socket instanceof subject.WebSocket)
    isTrue(socket instanceof EventTarget)
    same(String(socket), `[object ${subject.name}]`)
    isTrue(Object.isExtensible(socket))
    same(Object.values(CONSTANTS), Object.keys(CONSTANTS).map(name => socket[name]))
  }),

  'the class cannot be called': ({ WebSocket, url }) => {
    same(thrown(() => WebSocket(url('/absorb'))), 'TypeError')
    same(thrown(() => Reflect.apply(WebSocket, Object.create(WebSocket.prototype), [url('/absorb')])), 'TypeError')
  },

  'the class can be extended': async ({ WebSocket, url }) => {
    class Chatty extends WebSocket {
      get url() { return `my ${super.url}` }
      send(data) { super.send(`${data}!`) }
    }
    const socket = new Chatty(url('/echo'))
    isTrue(Object.getPrototypeOf(socket) === Chatty.prototype)
    same(socket.url, `my ${url('/echo')}`)
    const answer = await new Promise(resolve => {
      socket.onopen = () => socket.send('hello')
      socket.onmessage = ({ data }) => resolve(data)
    })
    same(answer, 'hello!')
    await end(socket)
    const other = Reflect.construct(WebSocket, [url('/absorb')], Chatty)
    isTrue(other instanceof Chatty)
    await end(other)
  },

  'members refuse other objects': ({ WebSocket }) => {
    const { prototype } = WebSocket
    const others = [prototype, Object.create(prototype), new EventTarget(), {}, 5, null, undefined]
    for (const other of others) {
      for (const name of [...ATTRIBUTES, ...SETTABLE]) {
        const { get, set } = Object.getOwnPropertyDescriptor(prototype, name)
        same(thrown(() => get.call(other)), 'TypeError', `get ${name} of ${typeof other}`)
        if (set) same(thrown(() => set.call(other, null)), 'TypeError', `set ${name} of ${typeof other}`)
      }
      same(thrown(() => prototype.send.call(other, '')), 'TypeError', 'send')
      same(thrown(() => prototype.close.call(other)), 'TypeError', 'close')
    }
    same(thrown(() => prototype.send.call({}, { toString: () => { throw new RangeError() } })), 'TypeError', 'before arguments')
    same(thrown(() => prototype.close.call({}, 1)), 'TypeError', 'before arguments')
  },

  'members refuse a proxy': subject => still(subject, socket => {
    const proxy = new Proxy(socket, {})
    same(thrown(() => proxy.readyState), 'TypeError')
    same(thrown(() => proxy.close()), 'TypeError')
  }),

  'attributes without a setter cannot be set': subject => still(subject, socket => {
    for (const name of ATTRIBUTES) same(thrown(() => { socket[name] = 1 }), 'TypeError', name)
  }),

  'a socket cannot be cloned': subject => still(subject, socket => {
    same(thrown(() => structuredClone(socket)), 'DOMException DataCloneError')
  }),
}
