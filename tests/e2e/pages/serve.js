// HTTP through tunnels: `cases(serveModule, library, relay)` returns functions by the sentence that each shows. A server and
// its askers are in one page here: what several tabs add is in tests/serve.rs.

const same = (actual, expected, what) => {
  const [a, b] = [actual, expected].map(value => JSON.stringify(value))
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`)
}

const next = (target, type) => new Promise(resolve => target.addEventListener(type, resolve, { once: true }))

const rejected = promise => promise.then(() => { throw new Error('it did not fail') }, error => error)

/** A stream that gives out what it is told to, and says when it is cancelled. */
function source() {
  let controller
  const cancelled = {}
  cancelled.promise = new Promise(resolve => { cancelled.resolve = resolve })
  const stream = new ReadableStream({ start: given => { controller = given }, cancel: cancelled.resolve })
  return { stream, cancelled: cancelled.promise, put: bytes => controller.enqueue(bytes), end: () => controller.close(), fail: error => controller.error(error) }
}

const bytesOf = text => new TextEncoder().encode(text)

/** `length` bytes in which a lost or repeated piece would show. */
const pattern = (length, from = 0) => Uint8Array.from({ length }, (_, index) => (from + index) * 31 + ((from + index) >> 8))

export function cases({ serve, fetchThrough, ServedResponse }, { ForwardingServerWebSocket, PeerToPeerWebSocket }, relay) {
  let server
  let port = 0

  /** Serves on a port of its own; returns that port's URL. */
  const serving = async (handler, options) => {
    server ??= await ForwardingServerWebSocket.newThrough(relay)
    serve(server, ++port, handler, options)
    return `${server.url}/${port}`
  }

  /** A socket that speaks the subprotocol by hand, and what it receives. */
  const raw = async url => {
    const socket = new PeerToPeerWebSocket(url, ['tunnel.http.v1'])
    await socket.opened
    const reader = socket.readable.getReader()
    return { socket, read: async () => (await reader.read()).value }
  }

  const closeOf = async socket => {
    const { code } = await next(socket, 'close')
    return code
  }

  return {
    async 'a handler gets the request as it was sent, and its response arrives as it was given'() {
      let seen
      const url = await serving(async (request, { remoteId, verified, encrypted }) => {
        seen = {
          method: request.method,
          path: new URL(request.url).pathname + new URL(request.url).search,
          headers: [...request.headers],
          body: await request.text(),
          peer: [remoteId.length, verified, encrypted],
        }
        return new Response('made', { status: 201, headers: { 'x-answer': 'yes' } })
      })
      const response = await fetchThrough(`${url}/a/b?c=%C3%BC`, { method: 'post', body: 'grüße', headers: { 'X-Asked': '1' } })
      same(seen, {
        method: 'POST',
        path: '/a/b?c=%C3%BC',
        headers: [['content-type', 'text/plain;charset=UTF-8'], ['x-asked', '1']],
        body: 'grüße',
        peer: [56, true, true],
      }, 'the request')
      same([response.status, response.ok, response.headers.get('x-answer'), await response.text()], [201, true, 'yes', 'made'], 'the response')
    },

    async 'cookies, Host and Origin pass both ways, and two Set-Cookie stay two'() {
      let seen
      const url = await serving(request => {
        seen = ['cookie', 'host', 'origin'].map(name => request.headers.get(name))
        return new ServedResponse(null, { headers: [['set-cookie', 'a=1; Path=/'], ['set-cookie', 'b=2']] })
      })
      const response = await fetchThrough(`${url}/`, { headers: { cookie: 'c=3', host: 'h.example', origin: 'https://o.example' } })
      same(seen, ['c=3', 'h.example', 'https://o.example'], 'what the handler saw')
      same(response.headers.getSetCookie(), ['a=1; Path=/', 'b=2'], 'what the asker saw')
    },

    async 'forms, JSON, bytes and copies of a request are read as from a Request'() {
      const url = await serving(async request => {
        const copy = request.clone()
        const type = request.headers.get('content-type')
        if (type.startsWith('multipart/')) return new Response([...(await request.formData())].join(';'))
        if (type === 'application/json') return Response.json({ is: await request.json(), again: await copy.text() })
        return new Response(`${(await request.bytes()).length} ${request.bodyUsed} ${copy.bodyUsed}`)
      })
      const form = new FormData()
      form.append('name', 'value')
      same(await (await fetchThrough(`${url}/`, { method: 'POST', body: form })).text(), 'name,value', 'a form')
      const headers = { 'content-type': 'application/json' }
      same(await (await fetchThrough(`${url}/`, { method: 'POST', body: '[1]', headers })).json(), { is: [1], again: '[1]' }, 'JSON')
      const bytes = { method: 'POST', body: pattern(100_000), headers: { 'content-type': 'application/octet-stream' } }
      same(await (await fetchThrough(`${url}/`, bytes)).text(), '100000 true false', 'bytes')
    },

    async 'megabytes stream both ways, and the sender waits for a reader that stops'() {
      const whole = 24 * 1024 * 1024
      let given = 0
      const url = await serving(async request => {
        let taken = 0
        for await (const piece of request.body) {
          const expected = pattern(piece.length, taken)
          if (!piece.every((byte, index) => byte === expected[index])) return new Response('wrong', { status: 400 })
          taken += piece.length
        }
        const pull = controller => {
          if (given === whole) return controller.close()
          controller.enqueue(pattern(131_072, given))
          given += 131_072
        }
        return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }), { headers: { 'x-taken': `${taken}` } })
      })
      const response = await fetchThrough(`${url}/`, { method: 'PUT', body: pattern(3_000_001) })
      same([response.status, response.headers.get('x-taken')], [200, '3000001'], 'the upload')
      // Nobody reads: what is given out stops growing far below the whole.
      for (let before = -1; before !== given; ) {
        before = given
        await new Promise(resolve => setTimeout(resolve, 300))
      }
      if (given > whole / 4) throw new Error(`${given} bytes were given out to a reader that has stopped`)
      let length = 0
      for await (const piece of response.body) length += piece.length
      same(length, whole, 'bytes of the download')
    },

    async 'an aborted request aborts its signal at the server, and the asker hears the reason'() {
      const { promise: asked, resolve: isAsked } = Promise.withResolvers()
      const url = await serving(request => {
        isAsked(request)
        return new Promise(() => {})
      })
      const controller = new AbortController()
      const failure = rejected(fetchThrough(`${url}/`, { signal: controller.signal }))
      const request = await asked
      controller.abort(new Error('changed my mind'))
      same((await failure).message, 'changed my mind', 'the error')
      if (!request.signal.aborted) await next(request.signal, 'abort')
    },

    async 'a response that nobody reads any more cancels its source, also while that has nothing to send'() {
      const events = source()
      const url = await serving(() => new Response(events.stream))
      const response = await fetchThrough(`${url}/events`)
      events.put(bytesOf('one'))
      const reader = response.body.getReader()
      same(new TextDecoder().decode((await reader.read()).value), 'one', 'the first event')
      await reader.cancel()
      await events.cancelled
    },

    async 'a body that fails behind its head is never a complete one'() {
      const failing = source()
      const url = await serving(() => new Response(failing.stream))
      const response = await fetchThrough(`${url}/`)
      failing.put(bytesOf('half'))
      const reader = response.body.getReader()
      await reader.read()
      failing.fail(new Error('an error of the test'))
      const error = await rejected(reader.read())
      same(error.name, 'TunnelError', 'the error')
    },

    async 'handlers that throw, return no Response, or return an impossible one give a status that says so'() {
      const used = new Response('x')
      await used.text()
      const answers = { throws: () => { throw new Error('an error of the test') }, nothing: () => undefined, error: () => Response.error(), used: () => used }
      const url = await serving(request => answers[new URL(request.url).pathname.slice(1)]())
      const statuses = []
      for (const path of Object.keys(answers)) statuses.push((await fetchThrough(`${url}/${path}`)).status)
      same(statuses, [500, 500, 502, 500], 'the statuses')
    },

    async 'HEAD, 204 and 304 have no body, and the socket is used again'() {
      const url = await serving(({ method, url }) => {
        if (method === 'HEAD') return new Response('a body', { headers: { 'content-length': '6' } })
        return url.endsWith('/304') ? new Response(null, { status: 304 }) : new Response(null, { status: 204 })
      })
      const head = await fetchThrough(`${url}/`, { method: 'HEAD' })
      same([head.status, head.headers.get('content-length'), head.body], [200, '6', null], 'HEAD')
      for (const status of [204, 304]) {
        const response = await fetchThrough(`${url}/${status}`)
        same([response.status, response.body], [status, null], `${status}`)
      }
      same([...server.clients].filter(client => client.port === port).length, 1, 'sockets')
    },

    async 'a server that answers before it has read the body goes on with the next request'() {
      const url = await serving(() => new Response('early'))
      const answers = []
      for (let n = 0; n < 3; n++) {
        const response = await fetchThrough(`${url}/`, { method: 'POST', body: pattern(200_000) })
        answers.push(await response.text())
      }
      same(answers, ['early', 'early', 'early'], 'the answers')
      const large = await fetchThrough(`${url}/`, { method: 'POST', body: pattern(4_000_000) })
      same(await large.text(), 'early', 'the answer to a body that is too long to be thrown away')
      same(await (await fetchThrough(`${url}/`)).text(), 'early', 'the answer on another socket')
    },

    async 'redirections are followed as fetch follows them, and never to another server'() {
      const seen = []
      const url = await serving(async request => {
        const { pathname } = new URL(request.url)
        seen.push(`${request.method} ${pathname} ${await request.text()}`)
        const to = { '/post': 303, '/keep': 307 }[pathname]
        if (to) return new Response(null, { status: to, headers: { location: 'end?x' } })
        if (pathname === '/away') return new Response(null, { status: 302, headers: { location: 'https://other.example/' } })
        if (pathname === '/loop') return new Response(null, { status: 302, headers: { location: '/loop' } })
        return new Response('end')
      })
      const post = { method: 'POST', body: 'b' }
      same(await (await fetchThrough(`${url}/post`, post)).text(), 'end', 'after 303')
      same(await (await fetchThrough(`${url}/keep`, post)).text(), 'end', 'after 307')
      same(seen, ['POST /post b', 'GET /end ', 'POST /keep b', 'POST /end b'], 'the requests')
      same((await fetchThrough(`${url}/post`, { ...post, redirect: 'manual' })).status, 303, 'a manual one')
      const problems = []
      for (const [path, init] of [['away', {}], ['loop', {}], ['post', { ...post, redirect: 'error' }]]) {
        problems.push((await rejected(fetchThrough(`${url}/${path}`, init))).name)
      }
      same(problems, ['TypeError', 'TypeError', 'TypeError'], 'the errors')
    },

    async 'a bad frame costs its sender the socket, and never reaches the handler'() {
      let calls = 0
      const url = await serving(async request => {
        await request.arrayBuffer().catch(() => {})
        calls++
        return new Response('ok')
      })
      const head = change => JSON.stringify({ method: 'GET', url: '/', headers: [], body: false, ...change })
      const bad = [
        'no JSON', '[]', 'null', '"text"', new Uint8Array(3), head({ method: 'G T' }), head({ method: 7 }), head({ url: 'x' }), head({ url: '/ü' }),
        head({ url: '/a b' }), head({ url: `/${'a'.repeat(9000)}` }), head({ headers: {} }), head({ headers: [['a']] }), head({ headers: [['a', 1]] }),
        head({ headers: [['a b', 'c']] }), head({ headers: [['a', 'b\r\nc: d']] }), head({ headers: Array(101).fill(['a', 'b']) }), head({ body: 'yes' }),
        `{"method":"GET","url":"/","headers":[],"body":false${' '.repeat(40_000)}}`,
      ]
      for (const frame of bad) {
        const { socket } = await raw(url)
        const closed = closeOf(socket)
        socket.send(frame)
        same(await closed, 4400, `the close code after ${typeof frame === 'string' ? frame.slice(0, 60) : 'bytes'}`)
      }
      same(calls, 0, 'calls of the handler')
      for (const piece of ['text', new Uint8Array(0)]) {
        const { socket } = await raw(url)
        const closed = closeOf(socket)
        socket.send(head({ method: 'PUT', body: true }))
        socket.send(piece)
        same(await closed, 4400, `the close code after a body of ${typeof piece}`)
      }
      const { socket } = await raw(url)
      const closed = closeOf(socket)
      socket.send(head({ method: 'PUT', body: true }))
      socket.send(new Uint8Array(65_537))
      same(await closed, 1009, 'the close code after a piece that is too long')
      same(await (await fetchThrough(`${url}/`)).text(), 'ok', 'the next request')
    },

    async 'methods that a Request cannot have are answered by 405'() {
      const url = await serving(() => new Response('ok'))
      for (const method of ['CONNECT', 'TRACE', 'track']) {
        const { socket, read } = await raw(url)
        socket.send(JSON.stringify({ method, url: '/', headers: [], body: false }))
        same(JSON.parse(await read()).status, 405, method)
        socket.close()
      }
    },

    async 'a server with bad frames fails its asker, who closes with 4400'() {
      server ??= await ForwardingServerWebSocket.newThrough(relay)
      const bad = ['no JSON', '{"status":99,"headers":[],"body":false}', '{"status":204,"headers":[],"body":true}', '{"status":200,"headers":7,"body":false}', new Uint8Array(2)]
      const codes = []
      server.listen(++port, async socket => {
        socket.addEventListener('close', ({ code }) => codes.push(code))
        const [frame] = bad
        socket.onmessage = () => socket.send(frame)
      }, { protocols: ['tunnel.http.v1'] })
      const names = []
      while (bad.length) {
        const [client] = [rejected(fetchThrough(`${server.url}/${port}/`))]
        names.push((await client).constructor.name.length > 0)
        while (codes.length < names.length) await new Promise(resolve => setTimeout(resolve))
        bad.shift()
      }
      same(codes, [4400, 4400, 4400, 4400, 4400], 'the close codes')
    },

    async 'one address gets half of the exchanges, and 503 beyond'() {
      const waiting = []
      const url = await serving(() => new Promise(resolve => waiting.push(resolve)), { maxExchanges: 4 })
      const asked = [1, 2].map(() => fetchThrough(`${url}/`))
      while (waiting.length < 2) await new Promise(resolve => setTimeout(resolve))
      const refused = await fetchThrough(`${url}/`)
      same([refused.status, refused.headers.get('retry-after')], [503, '1'], 'the third')
      for (const resolve of waiting.splice(0)) resolve(new Response('ok'))
      await Promise.all(asked)
      const later = fetchThrough(`${url}/`)
      while (!waiting.length) await new Promise(resolve => setTimeout(resolve))
      waiting[0](new Response('ok'))
      same((await later).status, 200, 'one that came later')
    },

    async 'a handler that takes too long is told so, and its asker gets 504'() {
      let signal
      const url = await serving(request => {
        signal = request.signal
        return new Promise(() => {})
      }, { answerWithin: 50 })
      same((await fetchThrough(`${url}/`)).status, 504, 'the status')
      same([signal.aborted, signal.reason.name], [true, 'TimeoutError'], 'the signal')
    },

    async 'an asker that stops in the middle of its body is cut off'() {
      const url = await serving(async request => new Response(await request.text()), { answerWithin: 100 })
      const { socket } = await raw(url)
      const closed = closeOf(socket)
      socket.send(JSON.stringify({ method: 'PUT', url: '/', headers: [], body: true }))
      socket.send(bytesOf('half'))
      const code = await closed
      if (code !== 4408) {
        // The handler's time ran out first: it was answered.
        throw new Error(`closed with ${code}`)
      }
    },

    async 'more than six requests at a time wait for a socket, and all are answered'() {
      const url = await serving(async request => new Response(new URL(request.url).pathname))
      const paths = Array.from({ length: 40 }, (_, n) => `/${n}`)
      const answers = await Promise.all(paths.map(async path => (await fetchThrough(`${url}${path}`)).text()))
      same(answers, paths, 'the answers')
      const sockets = [...server.clients].filter(client => client.port === port).length
      if (sockets > 6) throw new Error(`${sockets} sockets`)
    },

    async 'an asker who waits for a socket can give up'() {
      const url = await serving(() => new Promise(() => {}))
      const all = new AbortController()
      const stuck = Array.from({ length: 6 }, () => rejected(fetchThrough(`${url}/`, { signal: all.signal })))
      const own = new AbortController()
      const waiting = rejected(fetchThrough(`${url}/`, { signal: own.signal }))
      own.abort()
      same((await waiting).name, 'AbortError', 'the error')
      all.abort()
      await Promise.all(stuck)
    },

    async 'sockets of other subprotocols go to onsocket, or are refused'() {
      const url = await serving(() => new Response('http'), { onsocket: socket => socket.send(`hello ${socket.protocol}`) })
      const socket = new PeerToPeerWebSocket(url, ['chat'])
      same((await next(socket, 'message')).data, 'hello chat', 'the first message')
      socket.close()
      same(await (await fetchThrough(`${url}/`)).text(), 'http', 'a request')
      const strict = await serving(() => new Response('http'))
      const refused = new PeerToPeerWebSocket(strict, ['chat'])
      same((await rejected(refused.opened)).code, 'refused', 'without onsocket')
    },

    async 'URLs that name no server, or two, are a SyntaxError, and closed ports say so'() {
      const url = await serving(() => new Response('ok'))
      const names = []
      for (const bad of ['https://relay.example/', `${url}/${url.split('/').slice(-2).join('/')}/x`]) {
        names.push((await rejected(fetchThrough(bad))).name)
      }
      same(names, ['SyntaxError', 'SyntaxError'], 'the errors')
      same((await rejected(fetchThrough(`${server.url}/65535/`))).code, 'port-closed', 'a closed port')
      same((await rejected(fetchThrough(`${url}/`, { body: 'x' }))).name, 'TypeError', 'a GET with a body')
    },
  }
}
