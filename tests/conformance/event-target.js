// DOM 2.7, "Interface EventTarget", as a socket has it.

import { end, isTrue, next, open, same, thrown } from './harness.js'

const withSocket = async ({ WebSocket, url }, check) => {
  const socket = await open(WebSocket, url('/echo'))
  const result = await check(socket)
  await end(socket)
  return result
}

const say = async (socket, text) => {
  const heard = next(socket, 'message')
  socket.send(text)
  await heard
}

export const cases = {
  'listeners are called in order, each once': subject => withSocket(subject, async socket => {
    const calls = []
    const first = () => calls.push('first')
    socket.addEventListener('message', first)
    socket.addEventListener('message', () => calls.push('second'))
    socket.addEventListener('message', first)
    socket.addEventListener('message', first, { passive: true })
    socket.addEventListener('message', first, true)
    await say(socket, 'x')
    return calls
  }),

  'once, and a signal': subject => withSocket(subject, async socket => {
    const calls = []
    const { signal, ...rest } = { signal: AbortSignal.abort() }
    const abort = new AbortController()
    socket.addEventListener('message', () => calls.push('once'), { once: true })
    socket.addEventListener('message', () => calls.push('until aborted'), { signal: abort.signal })
    socket.addEventListener('message', () => calls.push('never'), { signal, ...rest })
    await say(socket, 'x')
    abort.abort()
    await say(socket, 'y')
    same(calls, ['once', 'until aborted'])
  }),

  'listeners can be removed, also while they are called': subject => withSocket(subject, async socket => {
    const calls = []
    const last = () => calls.push('last')
    const gone = () => calls.push('gone')
    socket.addEventListener('message', gone)
    socket.removeEventListener('message', gone, true)
    socket.addEventListener('message', () => {
      calls.push('remover')
      socket.removeEventListener('message', last)
      socket.addEventListener('message', () => calls.push('added late'), { once: true })
    }, { once: true })
    socket.addEventListener('message', last)
    await say(socket, 'x')
    socket.removeEventListener('message', gone)
    await say(socket, 'y')
    same(calls, ['gone', 'remover', 'added late'])
  }),

  'objects with handleEvent': subject => withSocket(subject, async socket => {
    const calls = []
    const object = { handleEvent(event) { calls.push(['first', this === object, event.target === socket]) } }
    socket.addEventListener('message', object)
    await say(socket, 'x')
    object.handleEvent = () => calls.push('looked up each time')
    await say(socket, 'y')
    same(calls, [['first', true, true], 'looked up each time'])
  }),

  'functions are called on the socket': subject => withSocket(subject, async socket => {
    let that
    socket.addEventListener('message', function (event) { that = [this === socket, event.currentTarget === socket] })
    await say(socket, 'x')
    same(that, [true, true])
  }),

  'null is no listener, and other values throw': subject => withSocket(subject, async socket => {
    same(thrown(() => socket.addEventListener('message', null)), 'nothing')
    same(thrown(() => socket.addEventListener('message', undefined)), 'nothing')
    same(thrown(() => socket.addEventListener('message', 5)), 'TypeError')
    same(thrown(() => socket.addEventListener('message')), 'TypeError')
    await say(socket, 'x')
  }),

  'a listener that throws is reported and stops nothing': subject => withSocket(subject, async socket => {
    const reported = []
    const report = event => {
      reported.push([event.message.includes('on purpose'), event.error?.message])
      event.preventDefault()
    }
    globalThis.addEventListener('error', report)
    const calls = []
    socket.addEventListener('message', () => { throw new Error('on purpose') }, { once: true })
    socket.addEventListener('message', ({ data }) => calls.push(data))
    await say(socket, 'x')
    await say(socket, 'y')
    globalThis.removeEventListener('error', report)
    same(calls, ['x', 'y'])
    same(reported, [[true, 'on purpose']])
  }),

  'stopImmediatePropagation stops the others': subject => withSocket(subject, async socket => {
    const calls = []
    socket.addEventListener('message', event => { calls.push('first'); event.stopImmediatePropagation() })
    socket.addEventListener('message', () => calls.push('second'))
    socket.onmessage = () => calls.push('attribute')
    const heard = next(socket, 'heard')
    socket.addEventListener('message', () => {}, true)
    socket.send('x')
    setTimeout(() => socket.dispatchEvent(new Event('heard')), 50)
    await heard
    same(calls.includes('second') || calls.includes('attribute'), false)
  }),

  'pages dispatch events of their own': subject => withSocket(subject, async socket => {
    const calls = []
    socket.addEventListener('mine', event => { calls.push(event.detail); event.preventDefault() })
    same(socket.dispatchEvent(new CustomEvent('mine', { detail: 5, cancelable: true })), false)
    same(socket.dispatchEvent(new CustomEvent('mine', { detail: 6 })), true)
    same(calls, [5, 6])
    same(thrown(() => socket.dispatchEvent({})), 'TypeError')
    const event = new Event('mine')
    socket.addEventListener('mine', () => {
      calls.push(thrown(() => socket.dispatchEvent(event)))
    }, { once: true })
    socket.dispatchEvent(event)
    same(calls.at(-1), 'DOMException InvalidStateError')
  }),

  'the methods are those of EventTarget': ({ WebSocket }) => {
    for (const name of ['addEventListener', 'removeEventListener', 'dispatchEvent']) {
      isTrue(WebSocket.prototype[name] === EventTarget.prototype[name], name)
    }
  },
}
