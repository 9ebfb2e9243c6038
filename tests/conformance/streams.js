// WebSocketStream as Chromium has it: what our class offers beside events. Where an engine has none, nobody proves these.

import { same } from './harness.js'

const { WebSocketStream } = globalThis

const streamOf = ({ WebSocket, url }, path, protocols = []) =>
  WebSocket === globalThis.WebSocket ? new WebSocketStream(url(path), { protocols }) : new WebSocket(url(path), protocols)

/** Returns what both sides hear when `act` has ended a stream. */
const ended = async (subject, act) => {
  const name = `${Math.random()}`
  const stream = streamOf(subject, `/log?name=${name}`)
  await act(await stream.opened)
  const { closeCode, reason } = await stream.closed
  const { readable } = await streamOf(subject, `/read?name=${name}`).opened
  const reader = readable.getReader()
  const there = JSON.parse((await reader.read()).value)
  await reader.cancel()
  return [closeCode, reason, there.heard, there.code, there.reason, there.wasClean]
}

const cases = {
  'what a stream is opened with': async subject => {
    const stream = streamOf(subject, '/absorb', ['a', 'b'])
    const opened = await stream.opened
    same(Object.keys(opened).sort(), ['extensions', 'protocol', 'readable', 'writable'])
    same([opened.readable instanceof ReadableStream, opened.writable instanceof WritableStream], [true, true])
    same(opened.protocol, 'a')
    same(await stream.opened === opened, true)
    await opened.writable.close()
    same(Object.keys(await stream.closed).sort(), ['closeCode', 'reason'])
  },

  'what is written comes back, as text and as bytes': async subject => {
    const stream = streamOf(subject, '/echo')
    const { readable, writable } = await stream.opened
    const [writer, reader] = [writable.getWriter(), readable.getReader()]
    const heard = []
    for (const chunk of ['grün', '', new Uint8Array([1, 2, 3]), new Uint8Array([4, 5]).buffer, 7, null]) {
      await writer.write(chunk)
      const { value } = await reader.read()
      // Chromium has an ArrayBuffer there, the drafts and we a Uint8Array.
      heard.push(typeof value === 'string' ? value : [...new Uint8Array(value)])
    }
    await writer.close()
    same((await reader.read()).done, true)
    return heard
  },

  'what cannot be written': async subject => {
    const stream = streamOf(subject, '/absorb')
    const writer = (await stream.opened).writable.getWriter()
    const failed = await writer.write(Symbol('x')).then(() => 'written', ({ name }) => name)
    same(failed, 'TypeError')
    same(await writer.write('x').then(() => 'written', ({ name }) => name), 'TypeError')
  },

  'closing the writable': async subject => {
    const ends = await ended(subject, async ({ writable }) => {
      const writer = writable.getWriter()
      writer.write('before')
      await writer.close()
    })
    same(ends, [1005, '', ['before'], 1005, '', true])
  },

  'aborting the writable': async subject =>
    ended(subject, async ({ writable }) => writable.abort(new Error('why')).catch(() => {})),

  'cancelling the readable': async subject => ended(subject, ({ readable }) => readable.cancel('why')),

  'the other side closes': async subject => {
    const results = []
    for (const close of [[], [1000], [4321, 'bye']]) {
      const stream = streamOf(subject, '/obey')
      const { readable, writable } = await stream.opened
      await writable.getWriter().write(JSON.stringify({ send: ['last'], close }))
      const reader = readable.getReader()
      const chunks = [await reader.read(), await reader.read()]
      const { closeCode, reason } = await stream.closed
      results.push([chunks, closeCode, reason])
    }
    return results
  },

  'close() with a code': async subject => {
    const stream = streamOf(subject, '/absorb')
    await stream.opened
    if (subject.WebSocket === globalThis.WebSocket) stream.close({ closeCode: 3000, reason: 'enough' })
    else stream.close(3000, 'enough')
    const { closeCode, reason } = await stream.closed
    same([closeCode, reason], [3000, 'enough'])
  },

  'a refused connection rejects both promises': async subject => {
    const stream = streamOf(subject, '/refuse')
    const settled = await Promise.allSettled([stream.opened, stream.closed])
    same(settled.map(({ status }) => status), ['rejected', 'rejected'])
  },
}

const proven = WebSocketStream ? cases : {}
export { proven as cases }
