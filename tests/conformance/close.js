// WebSockets 3.1, "The close(code, reason) method steps", in each state; and the codes that follow (RFC 6455, 7.1).

import { end, next, open, same, task, thrown } from './harness.js'

const fieldsOf = ({ code, reason, wasClean }) => [code, reason, wasClean]

// Returns what both sides hear of a close.
const closedWith = async ({ WebSocket, url }, ...given) => {
  const name = `${Math.random()}`
  const socket = await open(WebSocket, url(`/log?name=${name}`))
  const closed = next(socket, 'close')
  socket.close(...given)
  const here = fieldsOf(await closed)
  const reader = new WebSocket(url(`/read?name=${name}`))
  const there = JSON.parse((await next(reader, 'message')).data)
  await end(reader)
  return [...here, there.code, there.reason]
}

const ACCESS = 'DOMException InvalidAccessError'
const SYNTAX = 'DOMException SyntaxError'

// A call on a socket of its own.
const tried = async ({ WebSocket, url }, ...given) => {
  const socket = new WebSocket(url('/absorb'))
  const name = thrown(() => same(socket.close(...given), undefined))
  same(socket.readyState, name === 'nothing' ? 2 : 0, 'readyState')
  await end(socket)
  return name
}

const allTried = async (subject, calls) => {
  const results = []
  for (const given of calls) results.push(await tried(subject, ...given))
  return results
}

export const cases = {
  'codes that pages may not use': async subject => {
    const codes = [0, 1, 999, 1001, 1005, 1006, 1015, 2999, 5000, 65535]
    same(await allTried(subject, codes.map(code => [code])), codes.map(() => ACCESS))
  },

  'codes that pages may use': async subject => {
    const codes = [1000, 3000, 3001, 4000, 4999]
    same(await allTried(subject, codes.map(code => [code])), codes.map(() => 'nothing'))
  },

  'codes are clamped': async subject => {
    for (const [code, name] of Object.entries({ 999.4: ACCESS, 1000.4: 'nothing', 2999.4: ACCESS, 4999.4: 'nothing' })) {
      same(await tried(subject, Number(code)), name, code)
    }
    const others = [NaN, Infinity, -Infinity, -1, -1000, 65536 + 1000, 2 ** 32 + 3000, null, '', 'x', {}, false, true, []]
    same(await allTried(subject, others.map(code => [code])), others.map(() => ACCESS))
  },

  'codes are made numbers': async subject => {
    let calls = 0
    const fine = ['3000', ' 4000 ', '0xBB8', [3000], { valueOf: () => { calls++; return 4000 } }, new Number(1000), '1e3', undefined]
    same(await allTried(subject, fine.map(code => [code])), fine.map(() => 'nothing'))
    same(calls, 1)
    for (const code of [Symbol('x'), 1000n, Object.create(null)]) same(await tried(subject, code), 'TypeError', typeof code)
    same(await tried(subject, { valueOf: () => { throw new RangeError() } }), 'RangeError')
  },

  'a reason has at most 123 bytes of UTF-8': async subject => {
    const results = await allTried(subject, [
      [1000, 'x'.repeat(123)], [1000, 'x'.repeat(124)], [1000, 'ü'.repeat(61)], [1000, 'ü'.repeat(62)],
      [1000, '\ud800'.repeat(41)], [1000, '\ud800'.repeat(42)], [1000, '🚇'.repeat(30)], [1000, '🚇'.repeat(31)],
    ])
    same(results, ['nothing', SYNTAX, 'nothing', SYNTAX, 'nothing', SYNTAX, 'nothing', SYNTAX])
  },

  'both are converted, then the code is checked, then the reason': async subject => {
    const order = []
    const code = { valueOf: () => { order.push('code'); return 1001 } }
    const reason = { toString: () => { order.push('reason'); return 'x'.repeat(124) } }
    same(await tried(subject, code, reason), ACCESS)
    same(order, ['code', 'reason'])
    same(await tried(subject, 999, Symbol('x')), 'TypeError')
    same(await tried(subject, 999, { toString: () => { throw new RangeError() } }), 'RangeError')
    same(await tried(subject, Symbol('x'), { toString: () => { throw new RangeError() } }), 'TypeError')
  },

  'the checks hold in every state': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const check = () => {
      same(thrown(() => socket.close(999)), ACCESS)
      same(thrown(() => socket.close(1000, 'x'.repeat(124))), SYNTAX)
      same(thrown(() => socket.close(Symbol('x'))), 'TypeError')
    }
    check()
    same(socket.readyState, 1)
    const closed = next(socket, 'close')
    socket.close()
    check()
    await closed
    check()
  },

  'while connecting: an error, and 1006': async ({ WebSocket, url }) => {
    for (const given of [[], [1000], [3000, 'why']]) {
      const socket = new WebSocket(url('/hold'))
      const events = []
      for (const type of ['open', 'error', 'message', 'close']) socket.addEventListener(type, () => events.push([type, socket.readyState]))
      const closed = next(socket, 'close')
      socket.close(...given)
      same([socket.readyState, events], [2, []])
      const { code, wasClean } = await closed
      same([code, wasClean, events], [1006, false, [['error', 3], ['close', 3]]])
    }
  },

  'right after the constructor': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/count?n=3'))
    const events = []
    for (const type of ['open', 'error', 'message']) socket.addEventListener(type, () => events.push(type))
    socket.close()
    same((await next(socket, 'close')).code, 1006)
    same(events, ['error'])
  },

  'no code: 1005 on both sides': async subject => {
    same(await closedWith(subject), [1005, '', true, 1005, ''])
    same(await closedWith(subject, undefined), [1005, '', true, 1005, ''])
    same(await closedWith(subject, undefined, undefined), [1005, '', true, 1005, ''])
  },

  'a code, and a reason': async subject => {
    same(await closedWith(subject, 1000), [1000, '', true, 1000, ''])
    same(await closedWith(subject, 1000, ''), [1000, '', true, 1000, ''])
    same(await closedWith(subject, 3000, 'grün'), [3000, 'grün', true, 3000, 'grün'])
    same(await closedWith(subject, 4999, null), [4999, 'null', true, 4999, 'null'])
    same(await closedWith(subject, 4000, 'x'.repeat(123)), [4000, 'x'.repeat(123), true, 4000, 'x'.repeat(123)])
  },

  'lone surrogates in a reason are replaced': async subject => {
    same(await closedWith(subject, 3000, 'a\ud800'), [3000, 'a\ufffd', true, 3000, 'a\ufffd'])
  },

  'the first close counts': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    const closed = next(socket, 'close')
    socket.close(3001, 'one')
    socket.close(3002, 'two')
    same(socket.readyState, 2)
    same(fieldsOf(await closed), [3001, 'one', true])
    socket.close(3003)
    await task()
    same(socket.readyState, 3)
  },

  'the server closes': async ({ WebSocket, url }) => {
    for (const [given, expected] of [[[], [1005, '', true]], [[1000], [1000, '', true]], [[4321, 'bye'], [4321, 'bye', true]]]) {
      const socket = await open(WebSocket, url('/obey'))
      const events = []
      for (const type of ['error', 'close']) socket.addEventListener(type, () => events.push([type, socket.readyState]))
      const closed = next(socket, 'close')
      socket.send(JSON.stringify({ close: given }))
      same(fieldsOf(await closed), expected)
      same(events, [['close', 3]])
    }
  },

  'the server\'s last messages come before its close': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/obey'))
    const events = []
    socket.onmessage = ({ data }) => events.push(data)
    const closed = next(socket, 'close')
    socket.send(JSON.stringify({ send: ['a', 'b', 'c'], close: [3000] }))
    await closed
    same(events, ['a', 'b', 'c'])
  },

  'no message event after close()': async ({ WebSocket, url }) => {
    const socket = new WebSocket(url('/count?n=100'))
    let heard = 0
    socket.onmessage = () => {
      heard++
      socket.close()
    }
    await next(socket, 'close')
    same(heard, 1)
  },

  'close from the open, message, error and close events': async ({ WebSocket, url }) => {
    for (const type of ['open', 'message', 'close']) {
      const socket = new WebSocket(url('/count?n=1'))
      socket.addEventListener(type, () => socket.close(4000))
      if (type === 'close') socket.onmessage = () => socket.close(4000)
      same(fieldsOf(await next(socket, 'close')), [4000, '', true], type)
    }
    const socket = new WebSocket(url('/refuse'))
    socket.onerror = () => socket.close(4000)
    same((await next(socket, 'close')).code, 1006)
  },

  'nothing is fired before close() returns': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/absorb'))
    let fired = false
    socket.onclose = () => { fired = true }
    socket.close()
    for (let turn = 0; turn < 10; turn++) await null
    same([fired, socket.readyState], [false, 2])
    await next(socket, 'close')
  },

  'both sides at once': async ({ WebSocket, url }) => {
    const socket = await open(WebSocket, url('/obey'))
    const closed = next(socket, 'close')
    socket.send(JSON.stringify({ close: [3001] }))
    socket.close(3002)
    const { code, wasClean } = await closed
    same([[3001, 3002].includes(code), wasClean], [true, true])
  },

  'codes are rounded, ties to even': async subject => {
    const rounded = { 999.5: 'nothing', 999.6: 'nothing', 1000.5: 'nothing', 1000.6: ACCESS, 2999.5: 'nothing', 4999.5: ACCESS }
    for (const [code, name] of Object.entries(rounded)) same(await tried(subject, Number(code)), name, code)
  },

  'a reason without a code goes with 1000': async subject => {
    same(await closedWith(subject, undefined, 'why'), [1000, 'why', true, 1000, 'why'])
    same(await closedWith(subject, undefined, ''), [1005, '', true, 1005, ''])
    same(await tried(subject, undefined, 'x'.repeat(124)), SYNTAX)
  },
}
