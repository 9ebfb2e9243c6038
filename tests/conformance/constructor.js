// WebSockets 3.1, "The new WebSocket(url, protocols) constructor steps", and the conversions before them.

import { end, next, open, same, thrown } from './harness.js'

// Constructs a socket: returns the exception's name, or the url attribute.
const attempt = ({ WebSocket }, ...given) => {
  let shown = ''
  const name = thrown(() => {
    const socket = new WebSocket(...given)
    shown = socket.url
    socket.close()
  })
  return name === 'nothing' ? shown : name
}

const WRONG = 'DOMException SyntaxError'

export const cases = {
  'one argument is required': ({ WebSocket }) => {
    same(thrown(() => new WebSocket()), 'TypeError')
  },

  'a URL that does not parse is a SyntaxError': subject => {
    const wrong = ['http://', 'ws://', 'ws://host:65536/', 'ws://host:x/', 'ws://[::1/', 'ws://%/', 'http://x:-1/']
    for (const url of wrong) same(attempt(subject, url), WRONG, url)
  },

  'a scheme that is none of four is a SyntaxError': subject => {
    const wrong = ['ftp://x/', 'file:///x', 'about:blank', 'mailto:a@b', 'data:,', 'javascript:0', 'wsx://x/', 'blob:http://x/', 'ws+unix:x']
    for (const url of wrong) same(attempt(subject, url), WRONG, url)
  },

  'a fragment is a SyntaxError, an empty one too': subject => {
    for (const end of ['#', '#x', '?a#b', '#?']) same(attempt(subject, subject.url('/absorb') + end), WRONG, end)
    for (const url of ['ws://x/#', 'http://x/#y', 'wss://x/#']) same(attempt(subject, url), WRONG, url)
  },

  'http and https become ws and wss': subject => {
    const url = subject.url('/absorb')
    same(attempt(subject, url.replace('ws', 'http')), url)
    same(attempt(subject, url.replace('ws', 'HTTP')), url)
    same(attempt(subject, url.replace('ws', 'WS')), url)
    same(attempt(subject, url.replace('ws', 'https')), url.replace('ws', 'wss'))
    same(attempt(subject, url.replace('ws', 'wss')), url.replace('ws', 'wss'))
  },

  'the url attribute is the serialised URL': subject => {
    const base = subject.url('')
    const given = {
      '/absorb/ü': '/absorb/%C3%BC',
      '/absorb/\ud800': '/absorb/%EF%BF%BD',
      '/absorb/a b': '/absorb/a%20b',
      '/absorb/x/../y/./z': '/absorb/y/z',
      '/absorb?a=ö&b="': '/absorb?a=%C3%B6&b=%22',
      '/absorb?': '/absorb?',
      '/ab\tso\nrb': '/absorb',
      '/absorb%20%7e': '/absorb%20%7e',
      '/absorb//x': '/absorb//x',
      '/absorb/': '/absorb/',
    }
    for (const [path, shown] of Object.entries(given)) same(attempt(subject, base + path), base + shown, path)
    same(attempt(subject, `  ${base}/absorb\n`), `${base}/absorb`)
    const named = base.replace('127.0.0.1', 'LOCALHOST')
    same(attempt(subject, `${named}/absorb`), `${named.toLowerCase()}/absorb`)
    const secret = base.replace('ws://', 'ws://user:pass@')
    same(attempt(subject, `${secret}/absorb`), `${secret}/absorb`)
  },

  'a URL is relative to where the script is': subject => {
    const { host, pathname } = new URL(subject.url('/absorb'))
    const here = new URL(pathname, globalThis.document?.baseURI ?? location.href)
    here.protocol = 'ws:'
    same(attempt(subject, pathname), here.href)
    same(attempt(subject, `//${host}${pathname}`), subject.url('/absorb'))
  },

  'the URL is made a string': subject => {
    const url = subject.url('/absorb')
    same(attempt(subject, new URL(url)), url)
    same(attempt(subject, [url]), url)
    let calls = 0
    same(attempt(subject, { toString: () => { calls++; return url } }), url)
    same(calls, 1)
    same(attempt(subject, Symbol('x')), 'TypeError')
    same(attempt(subject, { toString: () => { throw new RangeError() } }), 'RangeError')
    same(attempt(subject, Object.create(null)), 'TypeError')
  },

  'arguments are converted in order, before any check': subject => {
    const order = []
    const say = (word, value) => ({ toString: () => { order.push(word); return value } })
    same(attempt(subject, say('url', 'ftp://x'), [say('first', 'a'), say('second', 'a')]), WRONG)
    same(order, ['url', 'first', 'second'])
    same(attempt(subject, 'ftp://x', Symbol('x')), 'TypeError')
    same(attempt(subject, 'ftp://x', [Symbol('x')]), 'TypeError')
    same(attempt(subject, Symbol('x'), { toString: () => { throw new RangeError() } }), 'TypeError')
  },

  'subprotocols are tokens': subject => {
    const url = subject.url('/absorb')
    const wrong = []
    for (let code = 0; code < 256; code++) {
      const character = String.fromCharCode(code)
      const name = attempt(subject, url, character)
      if (name === WRONG) wrong.push(code)
      else same(name, url, `character ${code}`)
    }
    const allowed = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    same(wrong.length, 256 - allowed.length)
    for (const protocol of ['', 'a b', 'a,b', 'ü', '\ud800', 'a/b', 'a\0', ['a', ''], [['a', 'b']]]) {
      same(attempt(subject, url, protocol), WRONG, protocol)
    }
    return wrong
  },

  'subprotocols are named once': subject => {
    const url = subject.url('/absorb')
    same(attempt(subject, url, ['a', 'b', 'a']), WRONG)
    same(attempt(subject, url, ['a', 'A']), url)
  },

  'subprotocols are a string or a sequence': subject => {
    const url = subject.url('/absorb')
    const fine = [undefined, null, 'a', [], ['a'], new Set(['a', 'b']), [null, undefined], [['a']], 5, true, new String('ab'),
      (function * () { yield 'x' })(), Object.assign(() => {}, { toString: () => 'a' }),
      { [Symbol.iterator]: undefined, toString: () => 'a' }]
    for (const [index, protocols] of fine.entries()) same(attempt(subject, url, protocols), url, `number ${index}`)
    for (const protocols of [{}, { length: 1, 0: 'a' }, new String('aa'), () => {}]) {
      same(attempt(subject, url, protocols), WRONG, typeof protocols)
    }
    for (const iterator of [0, 5, 'x', {}, () => 5]) {
      const protocols = { [Symbol.iterator]: iterator, toString: () => 'a' }
      same(attempt(subject, url, protocols), 'TypeError', typeof iterator)
    }
    const failing = { * [Symbol.iterator]() { yield 'a'; throw new RangeError() } }
    same(attempt(subject, url, failing), 'RangeError')
  },

  'an iterator method that is null makes no sequence': subject => {
    const url = subject.url('/absorb')
    same(attempt(subject, url, { [Symbol.iterator]: null, toString: () => 'a' }), url)
  },

  'the iterator is asked for once': subject => {
    let asked = 0
    const protocols = { get [Symbol.iterator]() { asked++; return Array.prototype[Symbol.iterator] }, length: 1, 0: 'a' }
    same(attempt(subject, subject.url('/absorb'), protocols), subject.url('/absorb'))
    same(asked, 1)
  },

  'more arguments are nobody\'s business': subject => {
    same(attempt(subject, subject.url('/absorb'), [], Symbol('x')), subject.url('/absorb'))
  },

  'it returns at once, connecting': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb'))
    same(socket.readyState, 0)
    await next(socket, 'open')
    same(socket.readyState, 1)
    await end(socket)
  },

  'the server chooses a subprotocol': async ({ WebSocket, url }) => {
    const chosen = async (path, protocols) => {
      const socket = await open(WebSocket, url(path), protocols)
      await end(socket)
      return socket.protocol
    }
    same(await chosen('/absorb', ['b', 'a']), 'b')
    same(await chosen('/absorb?protocol=a', ['b', 'a']), 'a')
    same(await chosen('/absorb', 'one'), 'one')
    same(await chosen('/absorb'), '')
    same(await chosen('/absorb', []), '')
  },

  'a server that chooses none of several subprotocols fails the connection': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/absorb?protocol='), ['a', 'b'])
    const events = []
    socket.onopen = socket.onerror = ({ type }) => events.push([type, socket.readyState, socket.protocol])
    const { code, wasClean } = await next(socket, 'close')
    same([events, code, wasClean], [[['error', 3, '']], 1006, false])
  },
}
